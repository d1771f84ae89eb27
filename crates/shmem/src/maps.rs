//! The mappings of this process, as `/proc/self/maps` has them.
//!
//! Since Linux 6.11 the file can be asked for one mapping after another (`PROCMAP_QUERY`), which
//! spares the kernel to write out the path of each, and us to read it: three quarters of the time of
//! a program that does nothing but attach and detach. Where it can't be asked, its text is read.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::ioctl::{Updater, ioctl};
use std::io::BufRead;
use sysv::{Errno, Result};

/// What is needed of a line of `/proc/self/maps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    let file = open()?;
    if ask(file.as_fd(), 0, &mut what)? {
        return Ok(());
    }
    for_each_line(file.as_fd(), |line| {
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
    let file = open()?;
    if ask(file.as_fd(), query::SHARED, &mut what)? {
        return Ok(());
    }
    for_each_line(file.as_fd(), |line| {
        let space = line.iter().position(|byte| *byte == b' ');
        let shared = space.and_then(|space| line.get(space + 4)) == Some(&b's');
        if let Some(line) = shared.then(|| Line::parse(line)).flatten() {
            what(line);
        }
    })
}

/// The mapping in which an address is, if there is one and the file can be asked for it.
///
/// # Errors
/// Those of opening the file; `ENOTTY` if it can't be asked.
pub fn at(address: usize) -> Result<Option<Line>> {
    match ask_once(open()?.as_fd(), 0, address) {
        Ok(line) => Ok(Some(line)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn open() -> Result<OwnedFd> {
    let path = c"/proc/self/maps";
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// `struct procmap_query` of `linux/fs.h`.
#[repr(C)]
#[derive(Default)]
struct Query {
    size: u64,
    flags: u64,
    address: u64,
    start: u64,
    end: u64,
    vma_flags: u64,
    page_size: u64,
    offset: u64,
    inode: u64,
    device_major: u32,
    device_minor: u32,
    name_size: u32,
    build_id_size: u32,
    name: u64,
    build_id: u64,
}

mod query {
    /// Shared mappings only.
    pub const SHARED: u64 = 0x08;
    /// That of the address, or the first above it.
    pub const OR_NEXT: u64 = 0x10;
    /// `_IOWR('f', 17, struct procmap_query)`.
    pub const OPCODE: u32 = 0xc068_6611;
}

const _: () = assert!(size_of::<Query>() == 0x68);

/// Asks for every mapping that the flags choose. False if the file can't be asked.
fn ask(file: BorrowedFd<'_>, flags: u64, what: &mut impl FnMut(Line)) -> Result<bool> {
    let mut address = 0;
    loop {
        match ask_once(file, flags | query::OR_NEXT, address) {
            Ok(line) => {
                what(line);
                address = line.end;
            }
            Err(Errno::NOENT) => return Ok(true),
            // Nothing was told yet, so that the text can be read in its place.
            Err(_) if address == 0 => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

fn ask_once(file: BorrowedFd<'_>, flags: u64, address: usize) -> Result<Line> {
    let mut query = Query {
        size: size_of::<Query>() as u64,
        flags,
        address: address as u64,
        ..Query::default()
    };
    loop {
        // SAFETY: the number belongs to that structure, of which the kernel is told the size, and no
        // name and no build id are asked for.
        let request = unsafe { Updater::<{ query::OPCODE }, Query>::new(&mut query) };
        // SAFETY: as above; it changes nothing but the structure.
        match unsafe { ioctl(file, request) } {
            Ok(()) => break,
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Line {
        start: query.start as usize,
        end: query.end as usize,
        offset: query.offset as usize,
        file: (
            u64::from(query.device_major) << 32 | u64::from(query.device_minor),
            query.inode,
        ),
    })
}

/// Reads line by line, without memory from the heap: the program break is not to move because a
/// segment is looked at.
fn for_each_line(file: BorrowedFd<'_>, mut what: impl FnMut(&[u8])) -> Result<()> {
    let mut buffer = [0u8; 8192];
    let mut filled = 0;
    loop {
        let got = match rustix::io::read(file, &mut buffer[filled..]) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Arena;

    /// Of a file that no other test maps.
    fn of(file: (u64, u64), all: &[Line]) -> Vec<Line> {
        let own = all.iter().filter(|line| line.file == file);
        own.copied().collect()
    }

    #[test]
    fn what_is_asked_for_is_what_the_text_says() {
        // Not everywhere else the two agree about the device (overlayfs).
        let path = std::path::Path::new("/dev/shm").join(format!("maps-{}", std::process::id()));
        let _arena = Arena::create(&path, 0o600, 8192, 4096).unwrap();
        let about = rustix::fs::stat(&path).unwrap();
        let device = u64::from(rustix::fs::major(about.st_dev)) << 32
            | u64::from(rustix::fs::minor(about.st_dev));
        let file = (device, about.st_ino);
        std::fs::remove_file(&path).unwrap();
        let mut text = Vec::new();
        let maps = open().unwrap();
        for_each_line(maps.as_fd(), |line| text.extend(Line::parse(line))).unwrap();
        let expected = of(file, &text);
        assert!(!expected.is_empty());
        let (mut every, mut shared) = (Vec::new(), Vec::new());
        for_each(|line| every.push(line)).unwrap();
        for_each_shared(|line| shared.push(line)).unwrap();
        for all in [every, shared] {
            assert_eq!(of(file, &all), expected);
            let order = all.is_sorted_by(|a, b| a.end <= b.start);
            assert!(order, "each once, in order");
        }
        // One by one.
        let first = expected[0];
        for address in [first.start, first.end - 1] {
            assert_eq!(at(address), Ok(Some(first)));
        }
        assert_eq!(at(0), Ok(None));
        // What no file of processes is can't be asked.
        let null = std::fs::File::open("/dev/null").unwrap();
        let mut told = 0;
        assert_eq!(ask(null.as_fd(), 0, &mut |_| told += 1), Ok(false));
        assert_eq!(told, 0);
    }
}
