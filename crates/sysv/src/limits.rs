//! The kernel's limits of the IPC name space: read from `/proc/sys/kernel`, and set there.

use crate::{Calls, Kernel, msg, sem, shm};
use std::path::PathBuf;
use std::{fmt, fs, io};

/// One limit. Each belongs to the IPC name space, holds at once, and leaves objects that exist
/// alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Largest segment, bytes.
    Shmmax,
    /// Most segments.
    Shmmni,
    /// Most pages, of 4096 bytes, in all segments together.
    Shmall,
    /// Whether segments go at their last detach even if nobody removes them: 0 or 1.
    ShmRmidForced,
    /// Longest message, bytes.
    Msgmax,
    /// Bytes that a new queue may hold.
    Msgmnb,
    /// Most queues.
    Msgmni,
    /// Most semaphores in a set.
    Semmsl,
    /// Most semaphores in all sets together.
    Semmns,
    /// Most operations in a `semop`.
    Semopm,
    /// Most sets.
    Semmni,
}

impl Limit {
    /// All of them, by kind.
    pub const ALL: [Self; 11] = [
        Self::Shmmax,
        Self::Shmmni,
        Self::Shmall,
        Self::ShmRmidForced,
        Self::Msgmax,
        Self::Msgmnb,
        Self::Msgmni,
        Self::Semmsl,
        Self::Semmns,
        Self::Semopm,
        Self::Semmni,
    ];

    /// Its name in lower case: `shmmax`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shmmax => "shmmax",
            Self::Shmmni => "shmmni",
            Self::Shmall => "shmall",
            Self::ShmRmidForced => "shm_rmid_forced",
            Self::Msgmax => "msgmax",
            Self::Msgmnb => "msgmnb",
            Self::Msgmni => "msgmni",
            Self::Semmsl => "semmsl",
            Self::Semmns => "semmns",
            Self::Semopm => "semopm",
            Self::Semmni => "semmni",
        }
    }

    /// The file that holds it.
    pub fn path(self) -> PathBuf {
        let file = if self.column().is_some() {
            "sem"
        } else {
            self.name()
        };
        PathBuf::from("/proc/sys/kernel").join(file)
    }

    /// Which of the four numbers in its file it is, if it shares one.
    const fn column(self) -> Option<usize> {
        match self {
            Self::Semmsl => Some(0),
            Self::Semmns => Some(1),
            Self::Semopm => Some(2),
            Self::Semmni => Some(3),
            _ => None,
        }
    }

    /// Reads it from its file.
    ///
    /// # Errors
    /// What reading the file answers; [`io::ErrorKind::InvalidData`] if it holds no number.
    pub fn read(self) -> io::Result<u64> {
        let text = fs::read_to_string(self.path())?;
        text.split_ascii_whitespace()
            .nth(self.column().unwrap_or(0))
            .and_then(|field| field.parse().ok())
            .ok_or_else(|| {
                let path = self.path();
                let text = format!("expected numbers in {}, found {text:?}", path.display());
                io::Error::new(io::ErrorKind::InvalidData, text)
            })
    }

    /// Sets it, and looks whether the kernel took it.
    ///
    /// The four limits of semaphores share a file: of two that set them at once, one may undo
    /// what the other did.
    ///
    /// # Errors
    /// [`SetError`] says what the kernel answered: most often that the caller has no right to, or
    /// that the number is out of range.
    pub fn set(self, value: u64) -> Result<(), SetError> {
        let attempt = || {
            let text = match self.column() {
                None => value.to_string(),
                Some(column) => {
                    let now = fs::read_to_string(self.path())?;
                    let mut fields: Vec<String> =
                        now.split_ascii_whitespace().map(str::to_owned).collect();
                    if let Some(field) = fields.get_mut(column) {
                        *field = value.to_string();
                    }
                    fields.join(" ")
                }
            };
            fs::write(self.path(), text)?;
            let now = self.read()?;
            if now == value {
                Ok(())
            } else {
                let text = format!("the kernel took it for {now}");
                Err(io::Error::new(io::ErrorKind::InvalidInput, text))
            }
        };
        attempt().map_err(|cause| SetError {
            limit: self,
            value,
            cause,
        })
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A limit that could not be set.
#[derive(Debug)]
pub struct SetError {
    limit: Limit,
    value: u64,
    cause: io::Error,
}

impl SetError {
    /// Whether the caller lacks the right: root, or the owner of the IPC name space's user name
    /// space, may set limits.
    pub fn is_permission(&self) -> bool {
        matches!(
            self.cause.kind(),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
        )
    }

    /// The limit.
    pub fn limit(&self) -> Limit {
        self.limit
    }
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            limit,
            value,
            cause,
        } = self;
        let path = limit.path();
        let path = path.display();
        write!(f, "cannot set {limit} to {value} in {path}: {cause}; ")?;
        if self.is_permission() {
            f.write_str("only root may")
        } else {
            f.write_str("choose a number that the kernel takes there")
        }
    }
}

impl std::error::Error for SetError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// All limits, as they were when they were read.
///
/// # Examples
/// ```
/// let limits = sysv::Limits::read()?;
/// println!("a message may have {} bytes", limits.msgmax);
/// assert_eq!(limits.get(sysv::Limit::Msgmax), Some(limits.msgmax));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest segment, bytes.
    pub shmmax: u64,
    /// Most segments.
    pub shmmni: u64,
    /// Most pages, of 4096 bytes, in all segments together.
    pub shmall: u64,
    /// Whether segments go at their last detach even if nobody removes them; `None` where only
    /// the calls could be asked, which do not say.
    pub shm_rmid_forced: Option<bool>,
    /// Longest message, bytes.
    pub msgmax: u64,
    /// Bytes that a new queue may hold.
    pub msgmnb: u64,
    /// Most queues.
    pub msgmni: u64,
    /// Most semaphores in a set.
    pub semmsl: u64,
    /// Most semaphores in all sets together.
    pub semmns: u64,
    /// Most operations in a `semop`.
    pub semopm: u64,
    /// Most sets.
    pub semmni: u64,
}

impl Limits {
    /// Reads the limits from `/proc/sys/kernel`, or by [`by_calls`](Self::by_calls) where that is
    /// not there.
    ///
    /// # Errors
    /// What the calls answer, if neither way works.
    pub fn read() -> io::Result<Self> {
        match Self::from_proc() {
            Ok(limits) => Ok(limits),
            Err(_) => Ok(Self::by_calls(Kernel)?),
        }
    }

    fn from_proc() -> io::Result<Self> {
        Ok(Self {
            shmmax: Limit::Shmmax.read()?,
            shmmni: Limit::Shmmni.read()?,
            shmall: Limit::Shmall.read()?,
            shm_rmid_forced: Some(Limit::ShmRmidForced.read()? != 0),
            msgmax: Limit::Msgmax.read()?,
            msgmnb: Limit::Msgmnb.read()?,
            msgmni: Limit::Msgmni.read()?,
            semmsl: Limit::Semmsl.read()?,
            semmns: Limit::Semmns.read()?,
            semopm: Limit::Semopm.read()?,
            semmni: Limit::Semmni.read()?,
        })
    }

    /// Asks the three `IPC_INFO` commands.
    ///
    /// # Errors
    /// None from the kernel.
    #[doc(alias = "IPC_INFO")]
    pub fn by_calls(calls: impl Calls) -> crate::Result<Self> {
        let count = |n: i32| u64::try_from(n).map_err(|_| crate::Errno::OVERFLOW);
        let shm = shm::limits(&calls)?;
        let msg = msg::limits(&calls)?;
        let sem = sem::limits(&calls)?;
        Ok(Self {
            shmmax: shm.shmmax,
            shmmni: shm.shmmni,
            shmall: shm.shmall,
            shm_rmid_forced: None,
            msgmax: count(msg.msgmax)?,
            msgmnb: count(msg.msgmnb)?,
            msgmni: count(msg.msgmni)?,
            semmsl: count(sem.semmsl)?,
            semmns: count(sem.semmns)?,
            semopm: count(sem.semopm)?,
            semmni: count(sem.semmni)?,
        })
    }

    /// One of them.
    pub fn get(&self, limit: Limit) -> Option<u64> {
        match limit {
            Limit::Shmmax => Some(self.shmmax),
            Limit::Shmmni => Some(self.shmmni),
            Limit::Shmall => Some(self.shmall),
            Limit::ShmRmidForced => self.shm_rmid_forced.map(u64::from),
            Limit::Msgmax => Some(self.msgmax),
            Limit::Msgmnb => Some(self.msgmnb),
            Limit::Msgmni => Some(self.msgmni),
            Limit::Semmsl => Some(self.semmsl),
            Limit::Semmns => Some(self.semmns),
            Limit::Semopm => Some(self.semopm),
            Limit::Semmni => Some(self.semmni),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_agree() {
        let mut read = Limits::from_proc().expect("/proc/sys/kernel");
        assert!(read.shm_rmid_forced.is_some());
        read.shm_rmid_forced = None;
        assert_eq!(Limits::by_calls(Kernel), Ok(read));
    }

    #[test]
    fn an_error_says_what_and_where() {
        let error = SetError {
            limit: Limit::Semopm,
            value: 5,
            cause: io::Error::from(io::ErrorKind::PermissionDenied),
        };
        assert!(error.is_permission());
        assert_eq!(
            error.to_string(),
            "cannot set semopm to 5 in /proc/sys/kernel/sem: permission denied; only root may"
        );
    }
}
