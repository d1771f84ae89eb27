//! Looking at memory from outside Rust's rules: attaches, mappings, faults.

use crate::harness::PAGE;
use crate::process::child;
use std::os::unix::process::ExitStatusExt;
use std::ptr;

/// Reads a byte of a mapping.
pub fn peek(address: *const u8) -> u8 {
    // SAFETY: the tests name mapped addresses; where they do not, the process that reads is made
    // to die of it.
    unsafe { address.read_volatile() }
}

/// Writes a byte of a mapping.
pub fn poke(address: *mut u8, value: u8) {
    // SAFETY: the tests name addresses in attaches and mappings of their own, to which no
    // references exist; where they do not, the process that writes is made to die of it.
    unsafe { address.write_volatile(value) };
}

/// Whether reading at `address` kills the process that does it with SIGSEGV.
pub fn reading_faults(address: *const u8) -> bool {
    let reader = child(|| {
        peek(address);
    });
    reader.join_status().signal() == Some(libc::SIGSEGV)
}

/// Whether writing at `address` kills the process that does it with SIGSEGV.
pub fn writing_faults(address: *mut u8) -> bool {
    let writer = child(|| poke(address, 1));
    writer.join_status().signal() == Some(libc::SIGSEGV)
}

/// Maps `pages` private pages of zero bytes.
pub fn map(pages: usize) -> *mut u8 {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping where there is none.
    let base = unsafe { libc::mmap(ptr::null_mut(), pages * PAGE, protection, flags, -1, 0) };
    assert_ne!(
        base,
        libc::MAP_FAILED,
        "mmap: {}",
        std::io::Error::last_os_error()
    );
    base.cast()
}

/// Unmaps pages of an attach or of [`map`].
pub fn unmap(base: *mut u8, pages: usize) {
    // SAFETY: the tests name mappings of their own, to which no references exist.
    let done = unsafe { libc::munmap(base.cast(), pages * PAGE) };
    assert_eq!(done, 0, "munmap: {}", std::io::Error::last_os_error());
}

/// `mprotect` of pages of an attach or of [`map`]: the errno, 0 for success.
pub fn protect(base: *mut u8, pages: usize, protection: i32) -> i32 {
    // SAFETY: the tests name mappings of their own, to which no references exist.
    match unsafe { libc::mprotect(base.cast(), pages * PAGE, protection) } {
        0 => 0,
        _ => std::io::Error::last_os_error()
            .raw_os_error()
            .expect("an errno"),
    }
}

/// The address of a range of free pages with free pages on both sides; it stays free as long as
/// the process maps nothing.
pub fn free_range(pages: usize) -> *mut u8 {
    let base = map(pages + 32);
    unmap(base, pages + 32);
    base.wrapping_add(16 * PAGE)
}

/// A line of `/proc/self/maps`.
#[derive(Debug)]
pub struct Mapping {
    /// The first address.
    pub start: usize,
    /// The address after the last.
    pub end: usize,
    /// Such as `rw-s`.
    pub permissions: String,
    /// The inode number.
    pub inode: u64,
    /// The path, or what stands in its place.
    pub path: String,
}

/// The mapping that holds `address`.
pub fn mapping(address: *const u8) -> Option<Mapping> {
    mappings()
        .into_iter()
        .find(|m| (m.start..m.end).contains(&(address as usize)))
}

/// All mappings of this process.
pub fn mappings() -> Vec<Mapping> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
    maps.lines().map(parse).collect()
}

fn parse(line: &str) -> Mapping {
    let mut rest = line;
    let mut field = || {
        let trimmed = rest.trim_start();
        let end = trimmed.find(' ').unwrap_or(trimmed.len());
        let (word, tail) = trimmed.split_at(end);
        rest = tail;
        word
    };
    let (start, end) = field().split_once('-').expect("a range");
    let permissions = field().to_string();
    field();
    field();
    let inode = field().parse().expect("an inode number");
    let address = |text| usize::from_str_radix(text, 16).expect("an address");
    Mapping {
        start: address(start),
        end: address(end),
        permissions,
        inode,
        path: rest.trim_start().to_string(),
    }
}
