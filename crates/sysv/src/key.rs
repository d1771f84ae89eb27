//! Keys: the numbers by which unrelated processes find the same object.

use crate::abi::{IPC_PRIVATE, key_t};
use crate::{Errno, Result};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// A System V key: any 32 bits, of which zero is [`PRIVATE`](Self::PRIVATE).
///
/// Segments, queues and sets have a key space each: one key may name one object of each kind.
///
/// # Examples
/// ```
/// use sysv::Key;
///
/// let key: Key = "0x7e0a0001".parse()?;
/// assert_eq!(key, Key::new(0x7e0a_0001));
/// assert_eq!(key.to_string(), "0x7e0a0001");
/// assert_eq!("private".parse(), Ok(Key::PRIVATE));
/// # Ok::<(), sysv::key::ParseKeyError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(key_t);

impl Key {
    /// The key that always makes a new object, which no key finds again.
    #[doc(alias = "IPC_PRIVATE")]
    pub const PRIVATE: Self = Self(IPC_PRIVATE);

    /// The key with this number.
    pub const fn new(raw: i32) -> Self {
        Self(raw)
    }

    /// The number of the key.
    pub const fn raw(self) -> i32 {
        self.0
    }

    /// Whether this is [`PRIVATE`](Self::PRIVATE). An object that has been removed and is still
    /// attached reports this key too.
    pub const fn is_private(self) -> bool {
        self.0 == IPC_PRIVATE
    }

    /// The key that the C library's `ftok` makes of a file and a project number.
    ///
    /// It is made of the low 16 bits of the inode number, the low 8 bits of the device number,
    /// and `project`: two files can share a key, and a file that is replaced changes its key. The
    /// result can be [`PRIVATE`](Self::PRIVATE) only for `project` 0.
    ///
    /// # Errors
    /// What `stat` of the file answers: [`Errno::NOENT`], [`Errno::ACCESS`], [`Errno::NOTDIR`] and
    /// so on.
    ///
    /// # Examples
    /// ```
    /// use std::path::Path;
    /// use sysv::Key;
    ///
    /// let key = Key::ftok(Path::new("/"), b'T')?;
    /// assert_eq!(key.raw() >> 24, i32::from(b'T'));
    /// # Ok::<(), sysv::Errno>(())
    /// ```
    pub fn ftok(path: &Path, project: u8) -> Result<Self> {
        let stat = rustix::fs::stat(path)?;
        Ok(Self::of_file(stat.st_ino, stat.st_dev, project))
    }

    /// The key that [`ftok`](Self::ftok) makes of a file with these numbers.
    pub const fn of_file(inode: u64, device: u64, project: u8) -> Self {
        let (inode, device) = ((inode & 0xffff) as u32, (device & 0xff) as u32);
        Self(((project as u32) << 24 | device << 16 | inode).cast_signed())
    }

    /// The key, or what a lookup of a key that can never be found answers.
    pub(crate) fn findable(self) -> Result<Self> {
        // The kernel would make an object: IPC_PRIVATE implies IPC_CREAT.
        if self.is_private() {
            Err(Errno::NOENT)
        } else {
            Ok(self)
        }
    }
}

impl From<key_t> for Key {
    fn from(raw: key_t) -> Self {
        Self(raw)
    }
}

/// Eight hexadecimal digits, as `ipcs` prints keys.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:08x}", self.0)
    }
}

/// A text that is no key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseKeyError {
    text: String,
}

impl fmt::Display for ParseKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "expected a key of 32 bits, in decimal, as 0x and hexadecimal digits, as 0 and octal \
             digits, or the word \"private\"; found {:?}",
            self.text
        )
    }
}

impl std::error::Error for ParseKeyError {}

/// Decimal (−2147483648 to 4294967295, the upper half meaning the same bits as the negative
/// numbers), hexadecimal after `0x`, octal after `0`, or `private`.
impl FromStr for Key {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> std::result::Result<Self, ParseKeyError> {
        parse(text).map(Self).ok_or_else(|| ParseKeyError {
            text: text.to_owned(),
        })
    }
}

fn parse(text: &str) -> Option<i32> {
    if text.eq_ignore_ascii_case("private") {
        return Some(IPC_PRIVATE);
    }
    let (digits, radix) = if let Some(digits) = strip_hex(text) {
        (digits, 16)
    } else if text.len() > 1 && text.starts_with('0') {
        (&text[1..], 8)
    } else if let Some(digits) = text.strip_prefix('-') {
        // Digits only: from_str_radix would take a second sign.
        let magnitude = all_digits(digits, 10)?;
        return i32::try_from(-magnitude).ok();
    } else {
        (text, 10)
    };
    let number = all_digits(digits, radix)?;
    u32::try_from(number).ok().map(u32::cast_signed)
}

fn strip_hex(text: &str) -> Option<&str> {
    text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))
}

fn all_digits(digits: &str, radix: u32) -> Option<i64> {
    if digits.chars().all(|c| c.is_digit(radix)) {
        i64::from_str_radix(digits, radix).ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_every_notation() {
        for (text, number) in [
            ("0", 0),
            ("1", 1),
            ("-1", -1),
            ("-2147483648", i32::MIN),
            ("2147483647", i32::MAX),
            ("4294967295", -1),
            ("0x10", 16),
            ("0Xffffffff", -1),
            ("0x0", 0),
            ("017", 15),
            ("00", 0),
            ("037777777777", -1),
            ("private", 0),
            ("PRIVATE", 0),
        ] {
            assert_eq!(text.parse(), Ok(Key::new(number)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_key() {
        for text in [
            "",
            "-",
            "--1",
            "-+1",
            "+1",
            "0x",
            "0x-1",
            "08",
            "0x100000000",
            "4294967296",
            "-2147483649",
            "99999999999999999999",
            "ten",
            "1 ",
            "-0x1",
        ] {
            let refusal = text.parse::<Key>().expect_err(text);
            assert!(
                refusal.to_string().contains(&format!("{text:?}")),
                "{refusal}"
            );
        }
    }

    #[test]
    fn display_parses_back() {
        for number in [0, 1, -1, i32::MIN, i32::MAX, 0x7e0a_0001] {
            let key = Key::new(number);
            assert_eq!(key.to_string().parse(), Ok(key));
        }
    }

    #[test]
    fn ftok_reports_what_stat_answers() {
        assert_eq!(Key::ftok(Path::new("/none/such"), 1), Err(Errno::NOENT));
        assert_eq!(Key::ftok(Path::new("/dev/null/x"), 1), Err(Errno::NOTDIR));
        assert_eq!(Key::ftok(Path::new("/a\0b"), 1), Err(Errno::INVAL));
    }
}
