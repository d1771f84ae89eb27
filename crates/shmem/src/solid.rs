//! Memory of this process that is there as long as the program runs, so that an address in it can't
//! be a bad one.
//!
//! | | from | to |
//! | --- | --- | --- |
//! | stack of the first thread | where the calling function stands | where the kernel put the program's arguments |
//! | the program's own segments | its first page | its last; for writing those that stay writable |
//! | heap | where the program break was at first | where it is now |
//!
//! That is where most programs keep what they pass to calls. Everything else (stacks of other
//! threads, mappings, libraries that may be closed) may be gone when it is looked at, and must be
//! asked for.
//!
//! **Limits.** A program that takes away its own text, data or heap by `munmap` or `mprotect`, and
//! passes an address there, is killed where the kernel would have said `EFAULT`. And nothing helps
//! one whose other thread gives memory back that a call is using.
//!
//! **Cost.** A few nanoseconds. The first question makes some system calls.

use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, getrlimit};
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Addresses, from the first to the one after the last.
struct Range {
    start: AtomicUsize,
    end: AtomicUsize,
}

impl Range {
    const fn none() -> Self {
        Self {
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
        }
    }

    // Relaxed, here and below: set once, and `LEARNT` orders it.
    fn set(&self, start: usize, end: usize) {
        self.start.store(start, Ordering::Relaxed);
        self.end.store(end, Ordering::Relaxed);
    }

    #[inline]
    fn has(&self, first: usize, end: usize) -> bool {
        first >= self.start.load(Ordering::Relaxed) && end <= self.end.load(Ordering::Relaxed)
    }
}

/// The first thread's stack: as far down as it may grow, up to the program's arguments.
static STACK: Range = Range::none();
/// The program's segments, for reading.
static PROGRAM: [Range; 6] = [const { Range::none() }; 6];
/// Its segment that stays writable.
static DATA: Range = Range::none();
/// Where the heap begins.
static HEAP: AtomicUsize = AtomicUsize::new(usize::MAX);

/// 0: not yet; 1: the ranges are there.
static LEARNT: AtomicU32 = AtomicU32::new(0);

/// No mapping lies in so many bytes below the stack's top, whatever its limit.
const MOST_STACK: u64 = 8 << 20;

/// Whether bytes can be read for certain.
#[inline]
pub fn can_read(address: usize, length: usize) -> bool {
    let Some(end) = address.checked_add(length) else {
        return false;
    };
    learn();
    is_on_stack(address, end)
        || PROGRAM.iter().any(|range| range.has(address, end))
        || is_on_heap(address, end)
}

/// Whether bytes can be written, and so read, for certain.
#[inline]
pub fn can_write(address: usize, length: usize) -> bool {
    let Some(end) = address.checked_add(length) else {
        return false;
    };
    learn();
    is_on_stack(address, end) || DATA.has(address, end) || is_on_heap(address, end)
}

#[inline(always)]
fn is_on_stack(first: usize, end: usize) -> bool {
    // Whatever stands above a local of this function, on the same stack, belongs to its callers.
    let local = 0u8;
    let here = (&raw const local).addr();
    STACK.has(here, here) && first >= here && STACK.has(first, end)
}

#[inline]
fn is_on_heap(first: usize, end: usize) -> bool {
    first >= HEAP.load(Ordering::Relaxed) && end <= program_break()
}

/// Where the heap ends now: the C library knows without asking.
fn program_break() -> usize {
    // SAFETY: a number that changes nothing.
    let now = unsafe { libc::sbrk(0) };
    if now.addr() == usize::MAX {
        0
    } else {
        now.addr()
    }
}

#[inline]
fn learn() {
    // Acquire: the ranges that were stored before it.
    if LEARNT.load(Ordering::Acquire) == 0 {
        find_out();
    }
}

#[cold]
fn find_out() {
    learn_stack();
    learn_program();
    if let Some(start) = first_break() {
        HEAP.store(start, Ordering::Relaxed);
    }
    // Release: as in `learn`. Two threads that do this at once store the same.
    LEARNT.store(1, Ordering::Release);
}

fn auxiliary(entry: libc::c_ulong) -> usize {
    // SAFETY: takes a number.
    let value = unsafe { libc::getauxval(entry) };
    value as usize
}

fn learn_stack() {
    // Sixteen bytes above everything that the program's functions put there.
    let top = auxiliary(libc::AT_RANDOM);
    let limit = getrlimit(Resource::Stack).current.unwrap_or(MOST_STACK);
    let most = limit.min(MOST_STACK) as usize;
    STACK.set(top.saturating_sub(most), top);
}

fn learn_program() {
    let headers = ptr::with_exposed_provenance::<libc::Elf64_Phdr>(auxiliary(libc::AT_PHDR));
    let count = auxiliary(libc::AT_PHNUM);
    if headers.is_null() || auxiliary(libc::AT_PHENT) != size_of::<libc::Elf64_Phdr>() {
        return;
    }
    // SAFETY: the kernel says that so many program headers stand there; nobody changes them.
    let headers = unsafe { std::slice::from_raw_parts(headers, count) };
    let find = |kind| headers.iter().find(|header| header.p_type == kind);
    let Some(own) = find(libc::PT_PHDR) else {
        return;
    };
    let moved = headers.as_ptr().addr().wrapping_sub(own.p_vaddr as usize);
    let page = rustix::param::page_size();
    let range = |header: &libc::Elf64_Phdr| {
        let start = moved.wrapping_add(header.p_vaddr as usize);
        let end = start.wrapping_add(header.p_memsz as usize);
        (start & !(page - 1), end.next_multiple_of(page))
    };
    let read_only = find(libc::PT_GNU_RELRO).map(range);
    let mut ranges = PROGRAM.iter();
    for header in headers
        .iter()
        .filter(|header| header.p_type == libc::PT_LOAD)
    {
        let (start, end) = range(header);
        if header.p_flags & libc::PF_R != 0
            && let Some(free) = ranges.next()
        {
            free.set(start, end);
        }
        if header.p_flags & libc::PF_W != 0 {
            // What the loader makes read-only when it is done stands at the beginning.
            let after = match read_only {
                Some((from, until)) if from >= start && until <= end => until,
                _ => start,
            };
            DATA.set(after, end);
        }
    }
}

/// Where the heap began: the 47th field of what the kernel says of this process.
fn first_break() -> Option<usize> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(c"/proc/self/stat", flags, Mode::empty()).ok()?;
    let mut text = [0u8; 2048];
    let length = rustix::io::read(&file, &mut text).ok()?;
    let text = str::from_utf8(&text[..length]).ok()?;
    // The second field may hold anything, and ends at the last bracket.
    let (_, rest) = text.rsplit_once(')')?;
    let start: usize = rest.split_whitespace().nth(44)?.parse().ok()?;
    (start != 0).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    static WORD: u64 = 7;
    static CHANGED: AtomicUsize = AtomicUsize::new(0);

    #[test]
    fn what_stays_is_known_and_nothing_else() {
        let (constant, data) = ((&raw const WORD).addr(), (&raw const CHANGED).addr());
        assert!(can_read(constant, 8) && !can_write(constant, 8));
        assert!(can_read(data, 8) && can_write(data, 8));
        for bad in [0, 8, usize::MAX - 3, 0xdead_0000_0000_0000] {
            assert!(!can_read(bad, 8) && !can_write(bad, 8));
        }
        let end = program_break();
        assert!(can_write(end - 8, 8) && !can_write(end - 8, 16));
        // The stack of a test is that of a thread, which may end.
        let local = 0u64;
        let here = (&raw const local).addr();
        assert!(!can_read(here, 8) || STACK.has(here, here));
    }

    #[test]
    fn the_ranges_are_where_the_kernel_says_that_memory_is() {
        learn();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let holds = |address: usize, writable: bool| {
            maps.lines().any(|line| {
                let (range, rest) = line.split_once(' ').unwrap();
                let (start, end) = range.split_once('-').unwrap();
                let number = |text| usize::from_str_radix(text, 16).unwrap();
                let access = rest.as_bytes()[1] == b'w' || !writable;
                (number(start)..number(end)).contains(&address) && access
            })
        };
        let page = rustix::param::page_size();
        let check = |range: &Range, writable| {
            let (start, end) = (
                range.start.load(Ordering::Relaxed),
                range.end.load(Ordering::Relaxed),
            );
            for address in (start..end).step_by(page) {
                assert!(holds(address, writable), "{address:x}");
            }
            end - start
        };
        assert!(
            PROGRAM
                .iter()
                .map(|range| check(range, false))
                .sum::<usize>()
                > 0
        );
        assert!(check(&DATA, true) > 0);
        assert!(holds(HEAP.load(Ordering::Relaxed), true));
        assert!(holds(STACK.end.load(Ordering::Relaxed) - 1, true));
    }
}
