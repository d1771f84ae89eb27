//! Who has a segment attached, from the memory maps of the processes.
//!
//! An attach stands in `/proc/PID/maps` as `/SYSV` and the key in eight hexadecimal digits, with
//! the segment's id as its inode number (statement SA-21 of `docs/semantics.md`).

use crate::Key;
use std::path::Path;
use std::{fs, io};

/// A segment's memory in a process, as it was when the process was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mapping {
    /// The segment's id.
    pub segment: i32,
    /// The key that the segment was made with; the name keeps it after removal.
    pub key: Key,
    /// The process.
    pub pid: i32,
    /// Its command, as `ps -o comm` shows it: at most 15 bytes, and what is no UTF-8 replaced.
    pub command: String,
    /// Its effective user.
    pub uid: u32,
    /// Where the attach starts.
    pub address: u64,
    /// Bytes from there on: whole pages.
    pub length: u64,
    /// Whether the process cannot write there.
    pub read_only: bool,
    /// Whether the process can execute there.
    pub executable: bool,
    /// Whether the process lives in our IPC name space. If not, this can be another segment that
    /// has the same id there; or the process has left after it attached.
    pub same_name_space: bool,
}

/// All attaches that can be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attaches {
    /// By process, in the order of their pids, and by address.
    pub mappings: Vec<Mapping>,
    /// Processes whose maps the caller may not read: they can have attaches as well.
    pub unreadable: Vec<i32>,
}

/// Who has this segment attached.
///
/// Compare the number of mappings with the segment's count of attaches: the difference is in
/// `unreadable` processes, in other PID name spaces, or came and went meanwhile. Processes that
/// share their memory (`vfork`) show one attach twice.
///
/// # Errors
/// What reading the directory `/proc` answers. A process that ends meanwhile is no error.
///
/// # Examples
/// ```
/// use sysv::{Key, Mode, Segment};
///
/// let segment = Segment::create(Key::PRIVATE, 1, Mode::default())?;
/// let attach = segment.attach();
/// segment.remove()?;
/// let attach = attach?;
/// let seen = sysv::procfs::attached(segment.id())?;
/// assert_eq!(seen.mappings[0].pid, std::process::id().cast_signed());
/// assert_eq!(seen.mappings[0].address, attach.as_ptr().addr() as u64);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn attached(segment: i32) -> io::Result<Attaches> {
    let mut all = attaches()?;
    all.mappings.retain(|mapping| mapping.segment == segment);
    Ok(all)
}

/// Who has any segment attached, in one walk over all processes.
///
/// # Errors
/// As [`attached`].
pub fn attaches() -> io::Result<Attaches> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        if let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) {
            pids.push(pid);
        }
    }
    pids.sort_unstable();
    let ours = name_space(Path::new("/proc/thread-self"));
    let mut all = Attaches::default();
    for pid in pids {
        let process = Path::new("/proc").join(pid.to_string());
        match fs::read(process.join("maps")) {
            Ok(maps) => add(&mut all.mappings, pid, &process, &maps, ours.as_deref()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                if !is_kernel_thread(&process) {
                    all.unreadable.push(pid);
                }
            }
            // The process has ended: ENOENT or ESRCH.
            Err(_) => {}
        }
    }
    Ok(all)
}

/// Adds what a process has attached.
fn add(all: &mut Vec<Mapping>, pid: i32, process: &Path, maps: &[u8], ours: Option<&Path>) {
    let ranges = ranges(maps);
    if ranges.is_empty() {
        return;
    }
    let comm = fs::read(process.join("comm")).unwrap_or_default();
    let comm = comm.strip_suffix(b"\n").unwrap_or(&comm);
    let command = String::from_utf8_lossy(comm).into_owned();
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    let Some(uid) = effective_user(&status) else {
        return; // It has ended since, and its attaches with it.
    };
    let same_name_space = ours.is_some() && name_space(process).as_deref() == ours;
    all.extend(ranges.into_iter().map(|range| Mapping {
        segment: range.segment,
        key: range.key,
        pid,
        command: command.clone(),
        uid,
        address: range.start,
        length: range.end - range.start,
        read_only: range.read_only,
        executable: range.executable,
        same_name_space,
    }));
}

fn name_space(process: &Path) -> Option<std::path::PathBuf> {
    fs::read_link(process.join("ns/ipc")).ok()
}

/// The second number behind `Uid:`.
fn effective_user(status: &str) -> Option<u32> {
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))?
        .split_ascii_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

/// Kernel threads have no memory of their own, but unprivileged readers are refused all the same.
fn is_kernel_thread(process: &Path) -> bool {
    const PF_KTHREAD: u64 = 0x0020_0000;
    let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
    // The command stands in parentheses and can hold any; the flags are the seventh field behind.
    stat.rsplit_once(')')
        .and_then(|(_, fields)| fields.split_ascii_whitespace().nth(6)?.parse::<u64>().ok())
        .is_some_and(|flags| flags & PF_KTHREAD != 0)
}

/// A stretch of a segment in a process's memory.
#[derive(Debug, PartialEq, Eq)]
struct Range {
    segment: i32,
    key: Key,
    start: u64,
    end: u64,
    offset: u64,
    read_only: bool,
    executable: bool,
}

/// The attaches in the text of `/proc/PID/maps`.
///
/// Where a process has changed the protection of a part, an attach stands on several lines: they
/// count as one.
fn ranges(maps: &[u8]) -> Vec<Range> {
    let mut all: Vec<Range> = Vec::new();
    for line in maps.split(|&byte| byte == b'\n') {
        let Some(range) = std::str::from_utf8(line).ok().and_then(range) else {
            continue;
        };
        match all.last_mut() {
            Some(last)
                if last.segment == range.segment
                    && last.end == range.start
                    && range.offset != 0
                    && last.offset + (last.end - last.start) == range.offset =>
            {
                last.end = range.end;
                last.read_only &= range.read_only;
                last.executable |= range.executable;
            }
            _ => all.push(range),
        }
    }
    all
}

/// `start-end rwxs offset major:minor inode    /SYSV00000000 (deleted)`
fn range(line: &str) -> Option<Range> {
    // A file in the root directory can have such a name, but no file system on a device with
    // major number 0 that is visible has this one: the kernel's own mount has no place in a tree.
    let (fields, name) = line.split_once('/')?;
    let key = name.strip_prefix("SYSV")?.strip_suffix(" (deleted)")?;
    if key.len() != 8 {
        return None;
    }
    let key = u32::from_str_radix(key, 16).ok()?.cast_signed();
    let mut fields = fields.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let protection = fields.next()?;
    let offset = u64::from_str_radix(fields.next()?, 16).ok()?;
    let (major, _) = fields.next()?.split_once(':')?;
    if u32::from_str_radix(major, 16).ok()? != 0 {
        return None;
    }
    Some(Range {
        segment: fields.next()?.parse().ok()?,
        key: Key::new(key),
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        offset,
        read_only: !protection.contains('w'),
        executable: protection.contains('x'),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_attaches_among_other_mappings() {
        let maps = b"\
00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus-daemon
7f0000000000-7f0000001000 rw-s 00000000 00:01 32768      /SYSV7e0a0001 (deleted)
7f0000001000-7f0000003000 r--s 00000000 00:01 32768      /SYSV7e0a0001 (deleted)
7f0000003000-7f0000004000 rw-s 00000000 08:02 32768      /SYSV7e0a0001 (deleted)
7f0000004000-7f0000005000 rw-s 00000000 00:01 32768      /SYSV7e0a0001
7f0000005000-7f0000006000 rw-s 00000000 00:01 32768      /tmp/SYSV7e0a0001 (deleted)
7f0000006000-7f0000007000 rwxs 00000000 00:0f 0          /SYSVffffffff (deleted)
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0          [stack]
";
        let found: Vec<_> = ranges(maps)
            .into_iter()
            .map(|r| {
                let flags = (r.read_only, r.executable);
                (r.segment, r.key.raw(), r.start, r.end - r.start, flags)
            })
            .collect();
        assert_eq!(
            found,
            [
                (32768, 0x7e0a_0001, 0x7f00_0000_0000, 0x1000, (false, false)),
                (32768, 0x7e0a_0001, 0x7f00_0000_1000, 0x2000, (true, false)),
                (0, -1, 0x7f00_0000_6000, 0x1000, (false, true)),
            ]
        );
    }

    #[test]
    fn a_split_attach_is_one() {
        let maps = b"\
7f0000000000-7f0000001000 r--s 00000000 00:01 5      /SYSV00000000 (deleted)
7f0000001000-7f0000002000 rw-s 00001000 00:01 5      /SYSV00000000 (deleted)
7f0000002000-7f0000003000 r--s 00002000 00:01 5      /SYSV00000000 (deleted)
7f0000003000-7f0000004000 r--s 00000000 00:01 5      /SYSV00000000 (deleted)
";
        let found = ranges(maps);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0].end - found[0].start, 0x3000);
        assert!(!found[0].read_only && found[1].read_only);
    }

    #[test]
    fn the_effective_user_counts() {
        let status = "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n";
        assert_eq!(effective_user(status), Some(2));
        assert_eq!(effective_user(""), None);
    }
}
