//! Messages that show whether they are whole: their number, their length, and a digest over all.

use shmem::layout::{FNV_START, fnv};

/// Bytes of the shortest message.
pub const SHORTEST: usize = 24;

/// Message `number` of `length` bytes, at least [`SHORTEST`]: each byte depends on the number.
pub fn message(number: u64, length: usize) -> Vec<u8> {
    let length = length.max(SHORTEST);
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&(length as u64).to_le_bytes());
    let mut word = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while bytes.len() + 8 < length {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        let left = length - 8 - bytes.len();
        bytes.extend_from_slice(&word.to_le_bytes()[..left.min(8)]);
    }
    bytes.extend_from_slice(&fnv(FNV_START, &bytes).to_le_bytes());
    bytes
}

/// The number of a message, or why it is not whole.
pub fn check(bytes: &[u8]) -> Result<u64, String> {
    let word = |at: usize| {
        let word = bytes.get(at..at + 8).and_then(|word| word.try_into().ok());
        word.map(u64::from_le_bytes)
            .ok_or_else(|| format!("a message of {} bytes", bytes.len()))
    };
    let (number, length) = (word(0)?, word(8)?);
    let end = bytes.len().checked_sub(8).ok_or("too short")?;
    if length != bytes.len() as u64 {
        return Err(format!(
            "message {number} of {length} bytes has {}",
            bytes.len()
        ));
    }
    if word(end)? != fnv(FNV_START, &bytes[..end]) {
        return Err(format!("message {number} of {length} bytes is torn"));
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_message_is_seen() {
        let whole = message(7, 200);
        assert_eq!((whole.len(), check(&whole)), (200, Ok(7)));
        assert_eq!(check(&message(1, 0)), Ok(1));
        let other = message(8, 200);
        for cut in 1..200 {
            let torn = [&whole[..cut], &other[cut..]].concat();
            assert!(
                torn == whole || torn == other || check(&torn).is_err(),
                "cut at {cut}"
            );
        }
        assert!(check(b"").is_err());
    }
}
