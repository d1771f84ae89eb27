//! Permissions: whose an object is, and what its mode lets others do.

use crate::abi::ipc_perm;
use crate::{Errno, Key, Result};
use std::fmt;
use std::str::FromStr;

/// The nine permission bits of an object: read, write and execute for owner, group and others.
///
/// For a semaphore set, write means alter. Execute matters for `SHM_EXEC` attaches only. The
/// default is `600`: the owner reads and writes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mode(u16);

impl Mode {
    const BITS: u16 = 0o777;

    /// The mode with these bits, or nothing if there are bits above the nine.
    ///
    /// ```
    /// assert_eq!(sysv::Mode::new(0o640).map(|mode| mode.to_string()).as_deref(), Some("640"));
    /// assert_eq!(sysv::Mode::new(0o1640), None);
    /// ```
    pub const fn new(bits: u32) -> Option<Self> {
        if bits & !(Self::BITS as u32) == 0 {
            Some(Self(bits as u16))
        } else {
            None
        }
    }

    /// The mode of the nine lowest bits, whatever stands above them.
    pub const fn from_bits_truncate(bits: u32) -> Self {
        Self(bits as u16 & Self::BITS)
    }

    /// The nine bits.
    pub const fn bits(self) -> u32 {
        self.0 as u32
    }

    /// The mode as `ls -l` writes it: `rw-r-----`.
    pub fn symbolic(self) -> String {
        let letter = |bit: u32, letter| {
            if self.bits() >> bit & 1 == 1 {
                letter
            } else {
                '-'
            }
        };
        (0..9)
            .rev()
            .map(|bit| letter(bit, ['x', 'w', 'r'][bit as usize % 3]))
            .collect()
    }
}

impl Default for Mode {
    fn default() -> Self {
        Self(0o600)
    }
}

/// Three octal digits.
impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03o}", self.0)
    }
}

impl fmt::Debug for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mode(0o{:03o})", self.0)
    }
}

/// A text that is no mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseModeError {
    text: String,
}

impl fmt::Display for ParseModeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "expected an octal mode from 000 to 777, such as 640; found {:?}",
            self.text
        )
    }
}

impl std::error::Error for ParseModeError {}

/// Octal digits, with or without leading zeros or `0o`.
impl FromStr for Mode {
    type Err = ParseModeError;

    fn from_str(text: &str) -> std::result::Result<Self, ParseModeError> {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        let octal = digits.bytes().all(|b| b.is_ascii_digit());
        u32::from_str_radix(digits, 8)
            .ok()
            .filter(|_| octal)
            .and_then(Self::new)
            .ok_or_else(|| ParseModeError {
                text: text.to_owned(),
            })
    }
}

/// Owner, creator, mode and key of an object, as they were when they were read.
///
/// The owner and the creator, and whoever has `CAP_SYS_ADMIN`, may change owner, group and mode
/// or remove the object. Exactly one class of the mode applies to a caller: owner for these two,
/// else group, else others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Perm {
    /// The key; [`Key::PRIVATE`] also after removal of what is still attached.
    pub key: Key,
    /// Owner's user.
    pub uid: u32,
    /// Owner's group.
    pub gid: u32,
    /// Creator's user.
    pub cuid: u32,
    /// Creator's group.
    pub cgid: u32,
    /// The nine permission bits.
    pub mode: Mode,
    /// How often the slot in the kernel's table has been used: the id is this × 32768 + index.
    pub sequence: u16,
}

impl From<ipc_perm> for Perm {
    fn from(perm: ipc_perm) -> Self {
        Self {
            key: Key::new(perm.__key),
            uid: perm.uid,
            gid: perm.gid,
            cuid: perm.cuid,
            cgid: perm.cgid,
            mode: Mode::from_bits_truncate(perm.mode),
            sequence: perm.__seq,
        }
    }
}

/// What `IPC_SET` is to change of owner, group and mode; what is `None` stays.
///
/// ```
/// use sysv::{Change, Key, Mode, Segment};
///
/// let segment = Segment::create(Key::PRIVATE, 1, Mode::default())?;
/// let changed = segment.set(&Change { mode: Mode::new(0o640), ..Change::default() });
/// let status = segment.status();
/// segment.remove()?;
/// assert_eq!(changed, Ok(()));
/// assert_eq!(status?.perm.mode.bits(), 0o640);
/// # Ok::<(), sysv::Errno>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The owner's new user.
    pub uid: Option<u32>,
    /// The owner's new group.
    pub gid: Option<u32>,
    /// The new mode.
    pub mode: Option<Mode>,
}

impl Change {
    /// The structure for `IPC_SET`. `current` is asked only if something is to stay.
    pub(crate) fn apply(&self, current: impl FnOnce() -> Result<ipc_perm>) -> Result<ipc_perm> {
        // The kernel takes −1 for "no user" and answers EINVAL.
        if self.uid == Some(u32::MAX) || self.gid == Some(u32::MAX) {
            return Err(Errno::INVAL);
        }
        let (uid, gid, mode) = match (self.uid, self.gid, self.mode) {
            (Some(uid), Some(gid), Some(mode)) => (uid, gid, mode),
            _ => {
                let now = current()?;
                (
                    self.uid.unwrap_or(now.uid),
                    self.gid.unwrap_or(now.gid),
                    self.mode.unwrap_or(Mode::from_bits_truncate(now.mode)),
                )
            }
        };
        Ok(ipc_perm {
            uid,
            gid,
            mode: mode.bits(),
            ..ipc_perm::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_in_three_notations() {
        let mode = Mode::from_bits_truncate(0o3751);
        assert_eq!(mode.bits(), 0o751);
        assert_eq!(mode.symbolic(), "rwxr-x--x");
        assert_eq!(mode.to_string(), "751");
        assert_eq!(Mode::from_bits_truncate(0o4).to_string(), "004");
        assert_eq!(Mode::default().symbolic(), "rw-------");
        for text in ["751", "0751", "0o751", "00751"] {
            assert_eq!(text.parse(), Ok(mode), "{text}");
        }
        for text in ["", "0o", "8", "1000", "rw", "+7", "-7", "0x1"] {
            assert!(text.parse::<Mode>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_full_change_asks_nothing() {
        let change = Change {
            uid: Some(1),
            gid: Some(2),
            mode: Mode::new(0o644),
        };
        let perm = change.apply(|| panic!("asked")).expect("complete");
        assert_eq!((perm.uid, perm.gid, perm.mode), (1, 2, 0o644));
    }

    #[test]
    fn what_is_not_named_stays_and_status_bits_go() {
        let now = ipc_perm {
            uid: 7,
            gid: 8,
            mode: 0o3640,
            ..ipc_perm::default()
        };
        let perm = Change::default().apply(|| Ok(now)).expect("stays");
        assert_eq!((perm.uid, perm.gid, perm.mode), (7, 8, 0o640));
        let nobody = Change {
            uid: Some(u32::MAX),
            ..Change::default()
        };
        assert_eq!(nobody.apply(|| Ok(now)), Err(Errno::INVAL));
    }
}
