//! Regions: checked access to memory that other processes can change.
//!
//! A [`View`] reads; a [`Region`] reads and writes, and is a view. The difference is one of type,
//! because a store through a read-only attach kills the process.
//!
//! Whatever is read here is input: a peer may change it before the answer is used, so load a
//! value once, check it against numbers of your own, and use the copy.

#[cfg(not(loom))]
use crate::fetch;
#[cfg(not(loom))]
use crate::memory::Memory;
#[cfg(loom)]
use crate::memory_loom::Memory;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use std::fmt;
use std::ops::Deref;

/// A range that is not inside the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bytes {offset} to {} are not inside the region of {region} bytes", .offset.saturating_add(*.length))]
pub struct OutOfBounds {
    /// First byte asked for.
    pub offset: usize,
    /// How many bytes were asked for.
    pub length: usize,
    /// How many bytes the region has.
    pub region: usize,
}

/// Memory that this process reads and others may change at any moment.
///
/// Clones share the mapping; it goes with the last of them.
#[derive(Clone)]
pub struct View {
    memory: Memory,
}

/// Memory that this process reads and writes, as others may at any moment.
///
/// # Invariants
/// The memory is writable.
#[derive(Clone)]
pub struct Region(View);

impl View {
    /// Attaches a segment for reading only.
    ///
    /// # Errors
    /// Those of `shmat`: `EINVAL` if there is no such segment, `EACCES` without read permission.
    #[cfg(not(loom))]
    #[doc(alias = "shmat")]
    pub fn attach(id: i32) -> sysv::Result<Self> {
        Self::attach_in(sysv::Kernel, id)
    }

    /// The same by other calls than the kernel's.
    ///
    /// # Errors
    /// As [`attach`](Self::attach).
    #[cfg(not(loom))]
    pub fn attach_in<C>(calls: C, id: i32) -> sysv::Result<Self>
    where
        C: sysv::Calls + Copy + Send + 'static,
    {
        let attach = sysv::Segment::from_id_in(calls, id).attach_read_only()?;
        Ok(Self {
            memory: Memory::attach_read_only(attach),
        })
    }

    /// How many bytes there are.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "no region is empty")]
    pub fn len(&self) -> usize {
        self.memory.length()
    }

    /// Loads the 32-bit word at `offset` bytes.
    ///
    /// # Panics
    /// If the word is not inside the region or not aligned. Offsets come from layouts and from
    /// numbers checked at opening, never from a peer.
    #[inline]
    pub fn load_u32(&self, offset: usize, ordering: Ordering) -> u32 {
        self.memory.u32(offset).load(ordering)
    }

    /// Loads the 64-bit word at `offset` bytes.
    ///
    /// # Panics
    /// As [`load_u32`](Self::load_u32).
    #[inline]
    pub fn load_u64(&self, offset: usize, ordering: Ordering) -> u64 {
        self.memory.u64(offset).load(ordering)
    }

    /// Has the processor fetch the line around a byte, if there is one. Nothing else happens.
    #[inline(always)]
    pub fn expect_read(&self, offset: usize) {
        #[cfg(not(loom))]
        if offset < self.len() {
            // SAFETY: inside the view, as just checked.
            fetch::to_read(unsafe { self.memory.at(offset) });
        }
        #[cfg(loom)]
        let _ = offset;
    }

    /// The same for writing.
    #[inline]
    pub fn expect_write(&self, offset: usize) {
        #[cfg(not(loom))]
        if offset < self.len() {
            // SAFETY: inside the view, as just checked.
            fetch::to_write(unsafe { self.memory.at(offset) });
        }
        #[cfg(loom)]
        let _ = offset;
    }

    #[inline]
    pub(crate) fn check(&self, offset: usize, length: usize) -> Result<(), OutOfBounds> {
        match offset.checked_add(length) {
            Some(end) if end <= self.len() => Ok(()),
            _ => Err(OutOfBounds {
                offset,
                length,
                region: self.len(),
            }),
        }
    }

    /// Copies the bytes from `offset` on into `to`.
    ///
    /// A peer that writes them meanwhile leaves a mixture of old and new.
    ///
    /// # Errors
    /// If they are not all inside the region; nothing is copied then.
    #[inline]
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) -> Result<(), OutOfBounds> {
        self.check(offset, to.len())?;
        // SAFETY: as just checked.
        unsafe { self.copy_out_unchecked(offset, to) };
        Ok(())
    }

    /// [`copy_out`](Self::copy_out) for who has checked.
    ///
    /// # Safety
    /// The bytes are all inside the region.
    #[inline]
    pub(crate) unsafe fn copy_out_unchecked(&self, offset: usize, to: &mut [u8]) {
        // SAFETY: in bounds, by the caller's promise; `to` is exclusive memory of this process.
        unsafe { self.memory.read(offset, to.as_mut_ptr(), to.len()) };
    }

    /// Appends `length` bytes from `offset` on to `to`, without clearing its memory first.
    ///
    /// A peer that writes them meanwhile leaves a mixture of old and new.
    ///
    /// # Errors
    /// If they are not all inside the region; nothing is appended then.
    #[inline]
    pub fn append_to(
        &self,
        offset: usize,
        length: usize,
        to: &mut Vec<u8>,
    ) -> Result<(), OutOfBounds> {
        self.check(offset, length)?;
        // SAFETY: as just checked.
        unsafe { self.append_unchecked(offset, length, to) };
        Ok(())
    }

    /// [`append_to`](Self::append_to) for who has checked.
    ///
    /// # Safety
    /// The bytes are all inside the region.
    #[inline(always)]
    pub(crate) unsafe fn append_unchecked(&self, offset: usize, length: usize, to: &mut Vec<u8>) {
        to.reserve(length);
        // SAFETY: in bounds, by the caller's promise; `reserve` made room for `length` more bytes.
        unsafe {
            self.memory
                .read(offset, to.spare_capacity_mut().as_mut_ptr().cast(), length)
        };
        // SAFETY: there is room, and the bytes were just written.
        unsafe { to.set_len(to.len() + length) };
    }

    /// Where the byte at `offset` is.
    ///
    /// # Safety
    /// `offset` is no further than the length.
    #[cfg(not(loom))]
    pub(crate) unsafe fn at(&self, offset: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { self.memory.at(offset) }
    }

    /// The bytes as a slice.
    ///
    /// # Safety
    /// They are inside the view, and nobody writes them while the slice lives.
    #[cfg(not(loom))]
    #[inline]
    pub(crate) unsafe fn slice(&self, offset: usize, length: usize) -> &[u8] {
        // SAFETY: the caller's promise.
        let start = unsafe { self.memory.at(offset) };
        // SAFETY: valid for `length` bytes as long as the memory, which the borrow keeps; not
        // written, by the caller's promise.
        unsafe { std::slice::from_raw_parts(start, length) }
    }

    #[cfg(not(loom))]
    pub(crate) fn word(&self, offset: usize) -> &AtomicU32 {
        self.memory.u32(offset)
    }

    #[cfg(loom)]
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }
}

impl Region {
    /// Attaches a segment for reading and writing.
    ///
    /// # Errors
    /// Those of `shmat`: `EINVAL` if there is no such segment, `EACCES` without read and write
    /// permission.
    #[cfg(not(loom))]
    #[doc(alias = "shmat")]
    pub fn attach(id: i32) -> sysv::Result<Self> {
        Self::attach_in(sysv::Kernel, id)
    }

    /// The same by other calls than the kernel's.
    ///
    /// # Errors
    /// As [`attach`](Self::attach).
    #[cfg(not(loom))]
    pub fn attach_in<C>(calls: C, id: i32) -> sysv::Result<Self>
    where
        C: sysv::Calls + Copy + Send + 'static,
    {
        let attach = sysv::Segment::from_id_in(calls, id).attach()?;
        Ok(Self(View {
            memory: Memory::attach(attach),
        }))
    }

    /// A region over a mapping.
    #[cfg(not(loom))]
    pub(crate) fn of(memory: Memory) -> Self {
        Self(View { memory })
    }

    /// Has the kernel find memory for these bytes now, so that storing to them later can't fail.
    ///
    /// Memory of a file can run out when it is first touched, and the process is then killed by
    /// `SIGBUS`; asking first turns that into an error. Where the bytes are no file mapping there
    /// is nothing to do.
    ///
    /// # Errors
    /// `ENOMEM` if there is not enough; those of `madvise` otherwise.
    #[cfg(not(loom))]
    pub fn populate(&self, offset: usize, length: usize) -> sysv::Result<()> {
        use rustix::mm::{Advice, madvise};
        let in_bounds = self.0.check(offset, length);
        in_bounds.map_err(|_| sysv::Errno::NOMEM)?;
        let Some(base) = self.0.memory.mapped_at() else {
            return Ok(());
        };
        let page = rustix::param::page_size();
        let start = offset / page * page;
        let length = offset + length - start;
        let from = base.wrapping_add(start).cast();
        // SAFETY: the range is in this mapping, as just checked, and only becomes resident.
        match unsafe { madvise(from, length, Advice::LinuxPopulateWrite) } {
            Ok(()) => Ok(()),
            // A kernel before 5.14 does not know the advice.
            Err(sysv::Errno::INVAL) => Ok(()),
            Err(_) => Err(sysv::Errno::NOMEM),
        }
    }

    /// Zeroed memory of this process alone, for tests and models.
    ///
    /// ```
    /// let region = shmem::Region::heap(64);
    /// region.copy_in(3, b"hello").unwrap();
    /// let mut bytes = [0; 5];
    /// region.copy_out(3, &mut bytes).unwrap();
    /// assert_eq!(&bytes, b"hello");
    /// ```
    pub fn heap(length: usize) -> Self {
        Self(View {
            memory: Memory::heap(length),
        })
    }

    /// Zeroed memory of this process alone, between pages that nobody may touch: for fuzzing. An
    /// access behind its end is a fault, and so is one before it that misses its page.
    ///
    /// # Panics
    /// If the kernel has no memory.
    #[cfg(not(loom))]
    #[doc(hidden)]
    pub fn guarded(length: usize) -> Self {
        Self(View {
            memory: Memory::guarded(length),
        })
    }

    /// The same memory, for reading only.
    pub fn view(&self) -> View {
        self.0.clone()
    }

    /// The 32-bit word at `offset` bytes.
    ///
    /// # Panics
    /// As [`View::load_u32`].
    #[inline]
    pub fn u32(&self, offset: usize) -> &AtomicU32 {
        self.0.memory.u32(offset)
    }

    /// The 64-bit word at `offset` bytes.
    ///
    /// # Panics
    /// As [`View::load_u32`].
    #[inline]
    pub fn u64(&self, offset: usize) -> &AtomicU64 {
        self.0.memory.u64(offset)
    }

    /// Copies `from` to the bytes from `offset` on.
    ///
    /// # Errors
    /// If they are not all inside the region; nothing is copied then.
    #[inline]
    pub fn copy_in(&self, offset: usize, from: &[u8]) -> Result<(), OutOfBounds> {
        self.check(offset, from.len())?;
        // SAFETY: as just checked.
        unsafe { self.copy_in_unchecked(offset, from) };
        Ok(())
    }

    /// [`copy_in`](Self::copy_in) for who has checked.
    ///
    /// # Safety
    /// The bytes are all inside the region.
    #[inline(always)]
    pub(crate) unsafe fn copy_in_unchecked(&self, offset: usize, from: &[u8]) {
        // SAFETY: writable by the type's invariant, in bounds by the caller's promise; `from` is
        // memory of this process that nobody writes.
        unsafe { self.0.memory.write(offset, from.as_ptr(), from.len()) };
    }
}

impl Deref for Region {
    type Target = View;

    fn deref(&self) -> &View {
        &self.0
    }
}

impl AsRef<View> for Region {
    fn as_ref(&self) -> &View {
        self
    }
}

impl AsRef<View> for View {
    fn as_ref(&self) -> &View {
        self
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn copies_stop_at_the_end() {
        let region = Region::heap(16);
        assert!(region.copy_in(16, b"").is_ok());
        assert!(region.copy_in(8, &[7; 8]).is_ok());
        assert_eq!(
            region.copy_in(9, &[7; 8]).unwrap_err().to_string(),
            "bytes 9 to 17 are not inside the region of 16 bytes"
        );
        let mut out = [0; 4];
        assert!(region.copy_out(usize::MAX, &mut out).is_err());
        assert!(region.append_to(usize::MAX, 2, &mut Vec::new()).is_err());
        let mut grown = vec![1];
        region.append_to(6, 4, &mut grown).unwrap();
        assert_eq!(grown, [1, 0, 0, 7, 7]);
    }

    #[test]
    #[should_panic(expected = "no word at offset 12")]
    fn a_word_does_not_hang_over_the_end() {
        Region::heap(16).u64(12);
    }

    #[test]
    fn words_and_bytes_are_the_same_memory() {
        let region = Region::heap(16);
        region
            .u64(8)
            .store(u64::from_ne_bytes(*b"tombolo!"), Ordering::Relaxed);
        let mut bytes = [0; 6];
        region.view().copy_out(9, &mut bytes).unwrap();
        assert_eq!(&bytes, b"ombolo");
        assert_eq!(
            region.load_u32(8, Ordering::Relaxed),
            u32::from_ne_bytes(*b"tomb")
        );
    }
}
