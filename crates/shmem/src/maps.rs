//! The mappings of this process, as `/proc/self/maps` has them.

use rustix::fs::{Mode, OFlags};
use std::io::BufRead;
use sysv::{Errno, Result};

/// What is needed of a line of `/proc/self/maps`.
pub struct Line {
    pub start: usize,
    pub end: usize,
    /// In the file.
    pub offset: usize,
    /// Device, as two numbers in one, and inode.
    pub file: (u64, u64),
}

/// Looks at every mapping.
///
/// # Errors
/// Those of opening and reading the file.
pub fn for_each(mut what: impl FnMut(Line)) -> Result<()> {
    for_each_line(|line| {
        if let Some(line) = Line::parse(line) {
            what(line);
        }
    })
}

/// Looks at the shared mappings, which are few.
///
/// # Errors
/// Those of opening and reading the file.
pub fn for_each_shared(mut what: impl FnMut(Line)) -> Result<()> {
    for_each_line(|line| {
        let space = line.iter().position(|byte| *byte == b' ');
        let shared = space.and_then(|space| line.get(space + 4)) == Some(&b's');
        if let Some(line) = shared.then(|| Line::parse(line)).flatten() {
            what(line);
        }
    })
}

/// Reads line by line, without memory from the heap: the program break is not to move because a
/// segment is looked at.
fn for_each_line(mut what: impl FnMut(&[u8])) -> Result<()> {
    let path = c"/proc/self/maps";
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut buffer = [0u8; 8192];
    let mut filled = 0;
    loop {
        let got = match rustix::io::read(&file, &mut buffer[filled..]) {
            Ok(0) => return Ok(()),
            Ok(got) => got,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error),
        };
        filled += got;
        let mut begun = 0;
        loop {
            let mut rest = &buffer[begun..filled];
            let length = rest.skip_until(b'\n').unwrap_or(0);
            let Some((b'\n', line)) = buffer[begun..begun + length].split_last() else {
                break;
            };
            what(line);
            begun += length;
        }
        if begun == 0 && filled == buffer.len() {
            // A line longer than any path.
            return Err(Errno::NAMETOOLONG);
        }
        buffer.copy_within(begun..filled, 0);
        filled -= begun;
    }
}

impl Line {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut words = line
            .split(|byte| *byte == b' ')
            .filter(|word| !word.is_empty());
        let range = words.next()?;
        let dash = range.iter().position(|byte| *byte == b'-')?;
        let _protection = words.next()?;
        let offset = hex(words.next()?)?;
        let device = words.next()?;
        let colon = device.iter().position(|byte| *byte == b':')?;
        let device = hex(&device[..colon])? << 32 | hex(&device[colon + 1..])?;
        let inode = str::from_utf8(words.next()?).ok()?.parse().ok()?;
        Some(Self {
            start: hex(&range[..dash])?,
            end: hex(&range[dash + 1..])?,
            offset,
            file: (device as u64, inode),
        })
    }
}

fn hex(digits: &[u8]) -> Option<usize> {
    usize::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}
