//! What `/proc` says: all objects of the IPC name space, as text, and who has a segment attached.
//!
//! Reading changes nothing: no pid, time or count of any object moves. Any user may read the
//! tables; they show the name space of the reader.
//!
//! The `*_STAT_ANY` calls ([`shm::list`], [`msg::list`](crate::msg::list), [`sem::list`]) answer
//! the same, field by field, but for what only one of the two knows: the tables alone have a
//! segment's pages in memory and swap, the calls alone a queue's capacity.

use crate::{Key, Mode, Perm, sem, shm};
use std::fs::File;
use std::io::{self, Read};

pub use crate::mappings::{Attaches, Mapping, attached, attaches};

/// A line of `/proc/sysvipc/shm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Segment {
    /// What the calls say too.
    pub status: shm::Status,
    /// Bytes in memory.
    pub resident: u64,
    /// Bytes in swap.
    pub swapped: u64,
}

/// A line of `/proc/sysvipc/msg`: [`msg::Status`](crate::msg::Status) but for the capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Queue {
    /// The id.
    pub id: i32,
    /// Owner, creator, mode and key.
    pub perm: Perm,
    /// Bytes of text that are queued.
    pub bytes: u64,
    /// Messages that are queued.
    pub messages: u64,
    /// Pid of who sent last.
    pub last_send_pid: i32,
    /// Pid of who received last.
    pub last_receive_pid: i32,
    /// Time of the last send, seconds since the epoch; 0 for never.
    pub sent: i64,
    /// Time of the last receipt, seconds since the epoch; 0 for never.
    pub received: i64,
    /// Time of creation or of the last change, seconds since the epoch.
    pub changed: i64,
}

/// All segments, from `/proc/sysvipc/shm`, lowest index first.
///
/// # Errors
/// What reading answers; [`io::ErrorKind::InvalidData`] for a line of another form.
///
/// # Examples
/// ```
/// for segment in sysv::procfs::segments()? {
///     println!("{}: {} bytes in memory", segment.status.id, segment.resident);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn segments() -> io::Result<Vec<Segment>> {
    table("/proc/sysvipc/shm", segment)
}

/// All queues, from `/proc/sysvipc/msg`, lowest index first.
///
/// # Errors
/// As [`segments`].
pub fn queues() -> io::Result<Vec<Queue>> {
    table("/proc/sysvipc/msg", queue)
}

/// All semaphore sets, from `/proc/sysvipc/sem`, lowest index first.
///
/// # Errors
/// As [`segments`].
pub fn sets() -> io::Result<Vec<sem::Status>> {
    table("/proc/sysvipc/sem", set)
}

// key shmid perms size cpid lpid nattch uid gid cuid cgid atime dtime ctime rss swap
fn segment(line: &mut Fields<'_>) -> Option<Segment> {
    let (key, id, mode) = (line.int()?, line.int()?, line.octal()?);
    let (size, creator_pid, last_pid) = (line.number()?, line.int()?, line.int()?);
    let attaches = line.number()?;
    let perm = line.perm(key, id, mode)?;
    Some(Segment {
        status: shm::Status {
            id,
            perm,
            size,
            creator_pid,
            last_pid,
            attaches,
            attached: line.time()?,
            detached: line.time()?,
            changed: line.time()?,
            marked: mode & crate::abi::SHM_DEST != 0,
            locked: mode & crate::abi::SHM_LOCKED != 0,
        },
        resident: line.number()?,
        swapped: line.number()?,
    })
}

// key msqid perms cbytes qnum lspid lrpid uid gid cuid cgid stime rtime ctime
fn queue(line: &mut Fields<'_>) -> Option<Queue> {
    let (key, id, mode) = (line.int()?, line.int()?, line.octal()?);
    let (bytes, messages) = (line.number()?, line.number()?);
    let (last_send_pid, last_receive_pid) = (line.int()?, line.int()?);
    Some(Queue {
        id,
        perm: line.perm(key, id, mode)?,
        bytes,
        messages,
        last_send_pid,
        last_receive_pid,
        sent: line.time()?,
        received: line.time()?,
        changed: line.time()?,
    })
}

// key semid perms nsems uid gid cuid cgid otime ctime
fn set(line: &mut Fields<'_>) -> Option<sem::Status> {
    let (key, id, mode) = (line.int()?, line.int()?, line.octal()?);
    let count = line.number()?;
    Some(sem::Status {
        id,
        perm: line.perm(key, id, mode)?,
        count,
        operated: line.time()?,
        changed: line.time()?,
    })
}

fn table<T>(path: &str, row: fn(&mut Fields<'_>) -> Option<T>) -> io::Result<Vec<T>> {
    // The kernel answers a page at a time and gives the file no length.
    let mut text = Vec::with_capacity(1 << 16);
    File::open(path)?.read_to_end(&mut text)?;
    rows(&text, row).map_err(|line| {
        let line = String::from_utf8_lossy(line);
        let text = format!("expected the numbers of an object in {path}, found {line:?}");
        io::Error::new(io::ErrorKind::InvalidData, text)
    })
}

/// The rows below the headline, or the line that is no row.
fn rows<T>(text: &[u8], row: fn(&mut Fields<'_>) -> Option<T>) -> Result<Vec<T>, &[u8]> {
    text.split(|&byte| byte == b'\n')
        .skip(1)
        .filter(|line| !line.is_empty())
        .map(|line| row(&mut Fields(line)).ok_or(line))
        .collect()
}

/// The rest of a line of numbers.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn word(&mut self) -> Option<&'a [u8]> {
        let rest = self.0.trim_ascii_start();
        let end = rest
            .iter()
            .position(u8::is_ascii_whitespace)
            .unwrap_or(rest.len());
        let (word, rest) = rest.split_at(end);
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }

    fn number(&mut self) -> Option<u64> {
        digits(self.word()?, 10)
    }

    fn octal(&mut self) -> Option<u32> {
        digits(self.word()?, 8)?.try_into().ok()
    }

    fn time(&mut self) -> Option<i64> {
        let word = self.word()?;
        // Times are printed as unsigned numbers.
        digits(word, 10).map(u64::cast_signed)
    }

    fn int(&mut self) -> Option<i32> {
        let word = self.word()?;
        match word.strip_prefix(b"-") {
            Some(magnitude) => 0i64.checked_sub_unsigned(digits(magnitude, 10)?),
            None => digits(word, 10)?.try_into().ok(),
        }?
        .try_into()
        .ok()
    }

    fn perm(&mut self, key: i32, id: i32, mode: u32) -> Option<Perm> {
        let mut user = || u32::try_from(self.number()?).ok();
        Some(Perm {
            key: Key::new(key),
            uid: user()?,
            gid: user()?,
            cuid: user()?,
            cgid: user()?,
            mode: Mode::from_bits_truncate(mode),
            sequence: (id / crate::abi::IPCMNI).try_into().ok()?,
        })
    }
}

fn digits(word: &[u8], base: u64) -> Option<u64> {
    if word.is_empty() {
        return None;
    }
    word.iter().try_fold(0u64, |number, &byte| {
        let digit = u64::from(byte.wrapping_sub(b'0'));
        if digit < base {
            number.checked_mul(base)?.checked_add(digit)
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"       key      shmid perms\n";

    #[test]
    fn reads_extreme_numbers() {
        let text = [
            HEAD,
            b"-2147483648 2147483647  3777  18446744073692774399 4194304     0 \
              18446744073709551615 4294967295     0     1     2 1700000000          0 \
              1700000001                  4096                     0\n",
        ]
        .concat();
        let all = rows(&text, segment).expect("a row");
        let [row] = all[..] else {
            panic!("{} rows", all.len())
        };
        let status = row.status;
        assert_eq!(status.perm.key, Key::new(i32::MIN));
        assert_eq!(status.id, i32::MAX);
        assert_eq!(status.perm.sequence, u16::MAX);
        assert_eq!(status.perm.mode.bits(), 0o777);
        assert!(status.marked && status.locked);
        assert_eq!(status.size, 18_446_744_073_692_774_399);
        assert_eq!(status.attaches, u64::MAX);
        assert_eq!(status.perm.uid, u32::MAX);
        assert_eq!((status.attached, status.detached), (1_700_000_000, 0));
        assert_eq!((row.resident, row.swapped), (4096, 0));
    }

    #[test]
    fn an_empty_table_has_no_rows() {
        assert_eq!(rows(HEAD, set), Ok(vec![]));
        assert_eq!(rows(b"", set), Ok(vec![]));
    }

    #[test]
    fn refuses_the_line_that_is_no_row() {
        for line in [
            &b"1 2 600"[..],
            b"1 2 800 1 0 0 0 0 0 0",
            b"x 2 600 1 0 0 0 0 0 0",
            b"1 2147483648 600 1 0 0 0 0 0 0",
            b"1 2 600 99999999999999999999 0 0 0 0 0 0",
            b"1 -2 600 1 4294967296 0 0 0 0 0",
            b"- 2 600 1 0 0 0 0 0 0",
        ] {
            let text = [HEAD, b"1 2 600 1 0 0 0 0 0 0\n", line, b"\n"].concat();
            assert_eq!(rows(&text, set), Err(line));
        }
    }
}
