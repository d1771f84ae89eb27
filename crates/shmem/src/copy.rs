//! Copying between a process's own memory and a region.
//!
//! Most messages are short, and a call into the C library costs as much as the copy of one: up to
//! [`SHORT`] bytes are moved here.
//!
//! A message goes in by words (`copy_fresh`). It is built field by field right before it is sent, and a
//! processor hands what was just stored on to a load of the same width or less, but makes a wider one
//! wait until the stores have reached the cache, behind all that the message before still has to
//! store (measured: two thirds of a sender's time).

/// Longest copy that is made here, in bytes.
pub const SHORT: usize = 64;

/// Copies `length` bytes into a region.
///
/// # Safety
/// `from` is valid for reading and `to` for writing so many bytes, and they are apart.
#[cfg(not(loom))]
#[inline(always)]
pub(crate) unsafe fn copy_fresh(from: *const u8, to: *mut u8, length: usize) {
    let words = (length | to as usize).is_multiple_of(8);
    if !words || length > SHORT {
        // SAFETY: the caller's promise, as for all that follows.
        return unsafe { copy(from, to, length) };
    }
    if length > 32 {
        // SAFETY: as above, and there are more than four words.
        unsafe { ends::<Word, 4>(from, to, length) };
    } else if length > 16 {
        // SAFETY: as above, and there are more than two.
        unsafe { ends::<Word, 2>(from, to, length) };
    } else if length > 0 {
        // SAFETY: as above, and there is one.
        unsafe { ends::<Word, 1>(from, to, length) };
    }
}

/// Copies `length` bytes, out of a region above all.
///
/// # Safety
/// As [`copy_fresh`].
#[cfg(not(loom))]
#[inline(always)]
pub(crate) unsafe fn copy(from: *const u8, to: *mut u8, length: usize) {
    if length > SHORT {
        // SAFETY: the caller's promise, as for all that follows.
        unsafe { std::ptr::copy_nonoverlapping(from, to, length) };
    } else if length > 32 {
        // SAFETY: as above, and there are more than two pieces of 16 bytes.
        unsafe { ends::<u128, 2>(from, to, length) };
    } else if length > 16 {
        // SAFETY: as above, and there is more than one.
        unsafe { ends::<u128, 1>(from, to, length) };
    } else if length >= 8 {
        // SAFETY: as above, and there is one word.
        unsafe { ends::<u64, 1>(from, to, length) };
    } else {
        for at in 0..length {
            // SAFETY: inside both.
            unsafe { u8::copy(from.wrapping_add(at), to.wrapping_add(at)) };
        }
    }
}

/// The first `N` pieces and the last `N`, which may overlap.
///
/// # Safety
/// As [`copy_fresh`], and there are at least `N` pieces.
#[cfg(not(loom))]
#[inline(always)]
unsafe fn ends<T: Piece, const N: usize>(from: *const u8, to: *mut u8, length: usize) {
    let end = length - T::SIZE * N;
    for at in (0..N).map(|k| T::SIZE * k) {
        // SAFETY: the caller's promise.
        unsafe { T::copy(from.wrapping_add(at), to.wrapping_add(at)) };
    }
    for at in (0..N).map(|k| end + T::SIZE * k) {
        // SAFETY: the caller's promise.
        unsafe { T::copy(from.wrapping_add(at), to.wrapping_add(at)) };
    }
}

/// What is moved at a time.
#[cfg(not(loom))]
trait Piece {
    /// Bytes of one.
    const SIZE: usize;

    /// # Safety
    /// As [`copy_fresh`], for one.
    unsafe fn copy(from: *const u8, to: *mut u8);
}

/// Eight bytes that are stored on their own, at a multiple of eight.
#[cfg(not(loom))]
struct Word;

#[cfg(not(loom))]
impl Piece for Word {
    const SIZE: usize = 8;

    #[inline(always)]
    unsafe fn copy(from: *const u8, to: *mut u8) {
        // SAFETY: the caller's promise.
        let word = unsafe { from.cast::<u64>().read_unaligned() };
        // SAFETY: the caller's promise. Volatile, or the compiler would make wide loads of them.
        unsafe { to.cast::<u64>().write_volatile(word) };
    }
}

macro_rules! pieces {
    ($($number:ty)*) => {$(
        #[cfg(not(loom))]
        impl Piece for $number {
            const SIZE: usize = size_of::<$number>();

            #[inline(always)]
            unsafe fn copy(from: *const u8, to: *mut u8) {
                // SAFETY: the caller's promise.
                let piece = unsafe { from.cast::<$number>().read_unaligned() };
                // SAFETY: the caller's promise.
                unsafe { to.cast::<$number>().write_unaligned(piece) };
            }
        }
    )*};
}

pieces!(u8 u64 u128);

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_are_copied_and_no_others() {
        let from: Vec<u8> = (0..200).map(|byte| byte as u8 + 1).collect();
        for length in 0..=130 {
            for start in 0..9 {
                for copy in [copy_fresh, copy] {
                    let mut to = vec![0u64; 20];
                    let bytes: &mut [u8] = zerocopy::IntoBytes::as_mut_bytes(&mut *to);
                    // SAFETY: inside both.
                    let place = unsafe { bytes.as_mut_ptr().add(start) };
                    // SAFETY: `length` bytes behind the start of each are inside.
                    unsafe { copy(from[start..].as_ptr(), place, length) };
                    let expected = |at: usize| {
                        let inside = (start..start + length).contains(&at);
                        if inside { from[at] } else { 0 }
                    };
                    assert!((0..160).all(|at| bytes[at] == expected(at)), "{length}");
                }
            }
        }
    }
}
