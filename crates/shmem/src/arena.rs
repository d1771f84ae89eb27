//! A sparse file, mapped once, from which everything else comes without a descriptor.
//!
//! ```text
//!   file      head: words and blocks that the library uses     pages: what is handed out
//!             ├──────────── writable mapping, for good ────────────────────────────────┤
//!                                                            ├─ read-only mapping ─────┤
//! ```
//!
//! Part of a shared mapping can be mapped again, elsewhere, by `mremap` with an old size of 0. So
//! a process that has no descriptor left, or no path to the file any more, still maps new objects.
//! What is to be read-only is mapped from the second mapping, which was made through a read-only
//! descriptor: then not even `mprotect` makes it writable.
//!
//! Nothing of the file takes memory before it is touched; [`Arena::clear`] gives memory back.
//!
//! **Limits.** Both mappings count against `RLIMIT_AS`. Where the file's file system is full, a
//! process that touches a page for the first time is killed by `SIGBUS`, as with any file.

use crate::anchor::LockFile;
use crate::direct::{MINCORE, syscall};
use crate::maps;
use crate::memory::Memory;
use crate::region::Region;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::mm::{
    Advice, MapFlags, MlockFlags, MprotectFlags, MremapFlags, ProtFlags, mmap_anonymous,
};
use std::ffi::c_void;
use std::path::Path;
use std::ptr;
use sysv::{Errno, Result};

/// A mapped file.
#[derive(Debug)]
pub struct Arena {
    region: Region,
    file: LockFile,
    /// Device and inode as `/proc/self/maps` has them.
    known_as: (u64, u64),
    writable: *mut u8,
    read_only: *mut u8,
    head: usize,
    pages: usize,
}

// SAFETY: the addresses are those of mappings that stay for good and belong to the process.
unsafe impl Send for Arena {}
// SAFETY: as for `Send`; the bytes are reached through the region alone.
unsafe impl Sync for Arena {}

/// How pages are mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// For writing too.
    pub write: bool,
    /// As code.
    pub execute: bool,
}

/// A mapping of pages of the arena, beside the two of the arena itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// First address.
    pub start: usize,
    /// Bytes.
    pub length: usize,
    /// First byte of the file's pages.
    pub offset: usize,
}

impl Arena {
    /// Makes a file of `head` and `pages` bytes, both multiples of a page, at a path that has
    /// none.
    ///
    /// # Errors
    /// Those of `open`, `ftruncate` and `mmap`.
    pub fn create(path: &Path, mode: u32, head: usize, pages: usize) -> Result<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode);
        let file = rustix::fs::open(path, flags, mode)?;
        // Whatever the umask says.
        rustix::fs::fchmod(&file, mode)?;
        let length = head.checked_add(pages).ok_or(Errno::INVAL)?;
        rustix::fs::ftruncate(&file, length as u64)?;
        Self::map(path, &file, head, pages)
    }

    /// Opens a file of `head` and `pages` bytes.
    ///
    /// # Errors
    /// Those of `open` and `mmap`; `EUCLEAN` if the file has another length.
    pub fn open(path: &Path, head: usize, pages: usize) -> Result<Self> {
        let file = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let length = rustix::fs::fstat(&file)?.st_size;
        if usize::try_from(length).ok() != head.checked_add(pages) {
            return Err(Errno::UCLEAN);
        }
        Self::map(path, &file, head, pages)
    }

    fn map(path: &Path, file: &OwnedFd, head: usize, pages: usize) -> Result<Self> {
        let lock_file = LockFile::new(path)?;
        let reader = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let both = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let writable = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                head + pages,
                both,
                MapFlags::SHARED,
                file,
                0,
            )
        }?;
        // SAFETY: as above.
        let read_only = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                pages,
                ProtFlags::READ,
                MapFlags::SHARED,
                &reader,
                head as u64,
            )
        }?;
        for (start, length) in [(writable, head + pages), (read_only, pages)] {
            // SAFETY: it changes only what is written when a process dumps its memory: not all of
            // the file, which is larger than any disk.
            unsafe { rustix::mm::madvise(start, length, Advice::LinuxDontDump) }?;
        }
        // SAFETY: just mapped, as long as the file or shorter; nothing in this type unmaps it.
        let memory = unsafe { Memory::mapping(writable.cast(), head) };
        Ok(Self {
            region: Region::of(memory),
            file: lock_file,
            known_as: known_as(writable as usize),
            writable: writable.cast(),
            read_only: read_only.cast(),
            head,
            pages,
        })
    }

    /// Notes that the file has another path now.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn moved_to(&mut self, path: &Path) -> Result<()> {
        self.file = LockFile::new(path)?;
        Ok(())
    }

    /// The words and blocks at the file's beginning.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The file, for locks on its bytes.
    pub fn file(&self) -> &LockFile {
        &self.file
    }

    /// How many bytes of pages there are.
    pub fn pages(&self) -> usize {
        self.pages
    }

    fn check(&self, offset: usize, length: usize) -> Result<()> {
        let page = rustix::param::page_size();
        let aligned = offset.is_multiple_of(page) && length.is_multiple_of(page) && length > 0;
        match offset.checked_add(length) {
            Some(end) if end <= self.pages && aligned => Ok(()),
            _ => Err(Errno::UCLEAN),
        }
    }

    fn page(&self, offset: usize) -> *mut c_void {
        self.writable.wrapping_add(self.head + offset).cast()
    }

    /// Makes pages zero and gives their memory back.
    ///
    /// # Errors
    /// Those of `madvise`; `EUCLEAN` if there are no such pages.
    pub fn clear(&self, offset: usize, length: usize) -> Result<()> {
        self.check(offset, length)?;
        // SAFETY: the range is in the mapping, as just checked; its bytes become zero, as if a
        // peer had written them.
        unsafe { rustix::mm::madvise(self.page(offset), length, Advice::LinuxRemove) }
    }

    /// How many bytes of a range take memory. Takes a descriptor for a moment; where there is none to
    /// be had, a look at each page, which for a range of terabytes takes a minute.
    ///
    /// # Errors
    /// Those of `mincore`; `EUCLEAN` if there are no such pages.
    pub fn resident(&self, offset: usize, length: usize) -> Result<usize> {
        self.check(offset, length)?;
        let place = self.head + offset;
        self.file
            .filled(place as u64..(place + length) as u64)
            .map(|bytes| bytes as usize)
            .or_else(|_| self.looked_at(offset, length))
    }

    fn looked_at(&self, offset: usize, length: usize) -> Result<usize> {
        let page = rustix::param::page_size();
        let mut marks = [0u8; 4096];
        let (mut at, end, mut count) = (offset, offset + length, 0);
        while at < end {
            let step = (end - at).min(marks.len() * page);
            let (from, to) = (self.page(at) as usize, marks.as_mut_ptr() as usize);
            // SAFETY: one byte of `marks` for each page of the range.
            unsafe { syscall(MINCORE, [from, step, to, 0, 0, 0]) }?;
            let looked = &marks[..step / page];
            count += looked.iter().filter(|mark| **mark & 1 == 1).count();
            at += step;
        }
        Ok(count * page)
    }

    /// Maps pages where nothing is: at an address, or where the kernel chooses.
    ///
    /// # Errors
    /// `EINVAL` if something is at the address, `ENOMEM` if there is no room, `EACCES` if they may
    /// not be executed (the file system says so); `EUCLEAN` if there are no such pages.
    pub fn attach(
        &self,
        offset: usize,
        length: usize,
        address: Option<usize>,
        access: Access,
    ) -> Result<usize> {
        self.check(offset, length)?;
        let Some(address) = address else {
            let from = self.source(offset, access);
            // SAFETY: an old size of 0 maps the pages once more and leaves the old mapping alone;
            // the kernel chooses a free address.
            let base = unsafe { rustix::mm::mremap(from, 0, length, MremapFlags::MAYMOVE) }?;
            return finish(base, length, access);
        };
        // Taken first, so that nothing else can come to be there meanwhile.
        let flags = MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE | MapFlags::NORESERVE;
        let wanted = ptr::with_exposed_provenance_mut(address);
        // SAFETY: it replaces nothing.
        let reserved = unsafe { mmap_anonymous(wanted, length, ProtFlags::empty(), flags) };
        match reserved {
            Ok(base) if base == wanted => {}
            Ok(elsewhere) => {
                // A kernel that does not know the flag.
                // SAFETY: just mapped, and used by nobody.
                let _ = unsafe { rustix::mm::munmap(elsewhere, length) };
                return Err(Errno::INVAL);
            }
            Err(Errno::EXIST) => return Err(Errno::INVAL),
            Err(error) => return Err(error),
        }
        // SAFETY: only the reservation is replaced.
        let attached = unsafe { self.attach_over(offset, length, address, access) };
        if attached.is_err() {
            // SAFETY: the reservation, which nobody uses.
            let _ = unsafe { rustix::mm::munmap(wanted, length) };
        }
        attached
    }

    /// Maps pages at an address, in place of whatever is there.
    ///
    /// # Errors
    /// As [`attach`](Self::attach).
    ///
    /// # Safety
    /// Nothing that lives in the range is used afterwards.
    pub unsafe fn attach_over(
        &self,
        offset: usize,
        length: usize,
        address: usize,
        access: Access,
    ) -> Result<usize> {
        self.check(offset, length)?;
        let from = self.source(offset, access);
        let to = ptr::with_exposed_provenance_mut(address);
        let how = MremapFlags::MAYMOVE;
        // SAFETY: an old size of 0 leaves the old mapping alone; what is replaced is the caller's.
        let base = unsafe { rustix::mm::mremap_fixed(from, 0, length, how, to) }?;
        finish(base, length, access)
    }

    fn source(&self, offset: usize, access: Access) -> *mut c_void {
        if access.write {
            self.page(offset)
        } else {
            self.read_only.wrapping_add(offset).cast()
        }
    }

    /// Whether an address is in one of the two mappings of the arena itself.
    fn is_own(&self, address: usize) -> bool {
        let within = |base: *mut u8, length| {
            let start = base as usize;
            (start..start + length).contains(&address)
        };
        within(self.writable, self.head + self.pages) || within(self.read_only, self.pages)
    }

    /// Locks all that is mapped now but the arena itself into memory, as `mlockall` would: that
    /// would take memory for every page that the file could have. `on_fault`: pages as they are
    /// touched, and none at once.
    ///
    /// # Errors
    /// `EPERM` if this process may lock nothing, those of reading `/proc/self/maps`. What can't be
    /// locked, a mapping without access or more than the limit allows, is passed over.
    pub fn lock_others(&self, on_fault: bool) -> Result<()> {
        let mut permitted = Ok(());
        maps::for_each(|line| {
            if self.is_own(line.start) {
                return;
            }
            let start = ptr::with_exposed_provenance_mut(line.start);
            let length = line.end - line.start;
            let how = if on_fault {
                MlockFlags::ONFAULT
            } else {
                MlockFlags::empty()
            };
            // SAFETY: a mapping of this process, whose bytes stay what they are.
            let locked = unsafe { rustix::mm::mlock_with(start, length, how) };
            if locked == Err(Errno::PERM) {
                permitted = locked;
            }
        })?;
        permitted
    }

    /// Whether a mapping of these pages, and of no others, begins at an address. False also where
    /// the kernel can't be asked for single mappings.
    pub fn is_mapped(&self, mapped: &Mapped) -> bool {
        let expected = maps::Line {
            start: mapped.start,
            end: mapped.start.saturating_add(mapped.length),
            offset: self.head.saturating_add(mapped.offset),
            file: self.known_as,
        };
        !self.is_own(mapped.start) && maps::at(mapped.start) == Ok(Some(expected))
    }

    /// The mappings of pages in this process, by address, as the kernel has them.
    ///
    /// # Errors
    /// Those of opening and reading `/proc/self/maps`.
    pub fn mappings(&self) -> Result<Vec<Mapped>> {
        let mut found = Vec::new();
        maps::for_each_shared(|line| {
            if line.file == self.known_as && !self.is_own(line.start) {
                found.extend(line.offset.checked_sub(self.head).map(|offset| Mapped {
                    start: line.start,
                    length: line.end - line.start,
                    offset,
                }));
            }
        })?;
        Ok(found)
    }
}

/// Device and inode of what is mapped at an address; what nothing else has where the map can't be
/// read.
fn known_as(address: usize) -> (u64, u64) {
    let mut file = (u64::MAX, u64::MAX);
    let _ = maps::for_each_shared(|line| {
        if line.start == address {
            file = line.file;
        }
    });
    file
}

/// Unmaps addresses.
///
/// # Errors
/// Those of `munmap`.
///
/// # Safety
/// Nothing that lives in the range is used afterwards.
pub unsafe fn detach(start: usize, length: usize) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe { rustix::mm::munmap(ptr::with_exposed_provenance_mut(start), length) }
}

/// Has a new mapping dumped with the process's memory, as the arena is not, and makes it executable
/// if that is wanted.
fn finish(base: *mut c_void, length: usize, access: Access) -> Result<usize> {
    // SAFETY: as for the arena's own mappings.
    let _ = unsafe { rustix::mm::madvise(base, length, Advice::LinuxDoDump) };
    if access.execute {
        let mut protection = MprotectFlags::READ | MprotectFlags::EXEC;
        if access.write {
            protection |= MprotectFlags::WRITE;
        }
        // SAFETY: the mapping is new, and nobody uses it.
        if let Err(error) = unsafe { rustix::mm::mprotect(base, length, protection) } {
            // SAFETY: as above.
            let _ = unsafe { rustix::mm::munmap(base, length) };
            return Err(error);
        }
    }
    Ok(base.expose_provenance())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Ordering;
    use std::sync::Mutex;

    const PAGE: usize = 4096;
    const BOTH: Access = Access {
        write: true,
        execute: false,
    };

    fn byte(address: usize) -> u8 {
        // SAFETY: the tests name mapped addresses.
        unsafe { ptr::with_exposed_provenance::<u8>(address).read_volatile() }
    }

    /// Held by who locks all memory of this process, other arenas' too, and by who has one, whose pages can't be
    /// given back then.
    static LOCKING: Mutex<()> = Mutex::new(());

    #[test]
    fn what_takes_memory_is_counted_both_ways() {
        let _alone = LOCKING.lock();
        let path = Path::new("/dev/shm").join(format!("arena-filled-{}", std::process::id()));
        let arena = Arena::create(&path, 0o600, 4 * PAGE, 1 << 42).unwrap();
        let base = arena.attach(PAGE, 7 * PAGE, None, BOTH).unwrap();
        for page in [0, 1, 5] {
            // SAFETY: in the attach.
            unsafe { ptr::with_exposed_provenance_mut::<u8>(base + page * PAGE).write_volatile(7) };
        }
        let counts = [
            (0, 16, 3),
            (0, 1, 0),
            (1, 1, 1),
            (2, 1, 1),
            (3, 3, 0),
            (2, 7, 2),
        ];
        for (from, pages, filled) in counts {
            let (from, length) = (from * PAGE, pages * PAGE);
            let counted = (arena.resident(from, length), arena.looked_at(from, length));
            assert_eq!(counted, (Ok(filled * PAGE), Ok(filled * PAGE)), "{from}");
        }
        // A look at each page would take a minute.
        assert_eq!(arena.resident(0, 1 << 42), Ok(3 * PAGE));
        std::fs::remove_file(&path).unwrap();
    }

    /// The words of `/proc/self/smaps` about a mapping, after `VmFlags:`.
    fn flags(address: usize) -> String {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let from = maps.find(&format!("{address:x}-")).expect("a mapping");
        let flags = maps[from..]
            .lines()
            .find(|line| line.starts_with("VmFlags:"));
        flags.expect("its flags").to_owned() + " "
    }

    #[test]
    fn locking_everything_takes_no_memory_for_the_arena() {
        let _alone = LOCKING.lock();
        let path = Path::new("/dev/shm").join(format!("arena-locked-{}", std::process::id()));
        let arena = Arena::create(&path, 0o600, 4 * PAGE, 1 << 40).unwrap();
        std::fs::remove_file(&path).unwrap();
        let base = arena.attach(16 * PAGE, PAGE, None, BOTH).unwrap();
        let length = 1 << 20;
        let how = MapFlags::PRIVATE | MapFlags::NORESERVE;
        let both = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: it replaces nothing.
        let other = unsafe { mmap_anonymous(ptr::null_mut(), length, both, how) }.unwrap();
        match arena.lock_others(true) {
            Err(Errno::PERM) => return,
            locked => locked.unwrap(),
        }
        for (address, expected) in [
            (other as usize, true),
            (base, true),
            (arena.writable as usize, false),
            (arena.read_only as usize, false),
        ] {
            assert_eq!(
                flags(address).contains(" lo "),
                expected,
                "{}",
                flags(address)
            );
        }
        assert_eq!(arena.resident(0, 1 << 26), Ok(0));
        // SAFETY: takes no memory; what is locked stays where it is.
        unsafe { rustix::mm::munlock(other, length) }.unwrap();
        // Nor is it written when a process dies of a fault.
        assert!(flags(arena.writable as usize).contains(" dd "));
        assert!(flags(arena.read_only as usize).contains(" dd "));
        assert!(!flags(base).contains(" dd "));
    }

    #[test]
    fn pages_are_mapped_again_without_a_descriptor() {
        let _alone = LOCKING.lock();
        let path = Path::new("/dev/shm").join(format!("arena-{}", std::process::id()));
        let arena = Arena::create(&path, 0o600, 4 * PAGE, 1 << 40).unwrap();
        std::fs::remove_file(&path).unwrap();
        arena.region().u64(8).store(1, Ordering::Relaxed);
        let length = 3 * PAGE;
        let base = arena.attach(16 * PAGE, length, None, BOTH).unwrap();
        let read = Access {
            write: false,
            ..BOTH
        };
        let second = arena.attach(16 * PAGE, length, None, read).unwrap();
        // SAFETY: in the attach.
        unsafe { ptr::with_exposed_provenance_mut::<u8>(base + PAGE).write_volatile(7) };
        assert_eq!(byte(second + PAGE), 7);
        assert_eq!(arena.resident(16 * PAGE, length), Ok(PAGE));
        assert_eq!(arena.looked_at(16 * PAGE, length), Ok(PAGE));
        let protection = MprotectFlags::READ | MprotectFlags::WRITE;
        let at = ptr::with_exposed_provenance_mut(second);
        // SAFETY: the attach is the test's own.
        let allowed = unsafe { rustix::mm::mprotect(at, PAGE, protection) };
        assert_eq!(allowed, Err(Errno::ACCESS));

        let taken = arena.attach(0, PAGE, Some(base + PAGE), BOTH);
        assert_eq!(taken, Err(Errno::INVAL));
        let mut mapped = arena.mappings().unwrap();
        mapped.sort_by_key(|mapped| mapped.start);
        let mut expected = [base, second].map(|start| Mapped {
            start,
            length,
            offset: 16 * PAGE,
        });
        expected.sort_by_key(|mapped| mapped.start);
        assert_eq!(mapped, expected);
        // Where single mappings can be asked for.
        if maps::at(base) != Err(Errno::NOTTY) {
            let [whole, longer, other] =
                [(0, 0), (0, PAGE), (PAGE, 0)].map(|(offset, more)| Mapped {
                    start: base,
                    length: length + more,
                    offset: 16 * PAGE + offset,
                });
            assert!(arena.is_mapped(&whole));
            assert!(!arena.is_mapped(&longer) && !arena.is_mapped(&other));
        }

        // SAFETY: nothing in it is used again.
        unsafe { detach(base, length) }.unwrap();
        // Another test of this process may be given the place first.
        let found = (0..100).find_map(|_| {
            let free = arena.attach(0, length, None, BOTH).unwrap();
            // SAFETY: nothing in it is used.
            unsafe { detach(free, length) }.unwrap();
            let attached = arena.attach(0, PAGE, Some(free + PAGE), BOTH);
            (attached != Err(Errno::INVAL)).then_some((attached, free + PAGE))
        });
        assert!(matches!(found, Some((Ok(at), wanted)) if at == wanted));
        arena.clear(16 * PAGE, length).unwrap();
        assert_eq!(arena.resident(16 * PAGE, length), Ok(0));
        assert_eq!(byte(second + PAGE), 0);
        assert_eq!(arena.clear(1 << 40, PAGE), Err(Errno::UCLEAN));
        assert_eq!(arena.attach(1, PAGE, None, BOTH), Err(Errno::UCLEAN));
    }
}
