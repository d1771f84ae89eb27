//! Where a region's bytes are, and the one place where bytes of a region are touched.
//!
//! A word is reached through an atomic; bulk bytes through [`Memory::read`] and
//! [`Memory::write`]. Those two use plain instructions: a peer may write the same bytes at the
//! same moment, and what comes out is then some mixture that the caller's protocol recognises
//! and throws away. Under Miri, which would call that a data race, they go by relaxed words.
//!
//! # Invariants
//! - `base` is aligned to eight bytes and valid for reads of `length` bytes as long as `owner`
//!   lives; for writes too, unless it is a read-only attach.
//! - No reference to the bytes themselves is ever made, only to atomic words.

use crate::guarded::Guarded;
use crate::sync::{AtomicU32, AtomicU64};
use std::any::Any;
use std::sync::Arc;
use sysv::{Attach, AttachReadOnly, Calls};

/// What keeps the bytes where they are.
enum Owner {
    /// An attach, by whatever calls.
    Attach(#[expect(dead_code, reason = "held for its drop, which detaches")] Box<dyn Any + Send>),
    /// A file mapping; whoever is handed it keeps it for as long as the process lives.
    Mapping,
    Heap {
        words: *mut [u64],
    },
    Guarded(#[expect(dead_code, reason = "held for its drop, which unmaps")] Guarded),
}

// SAFETY: an attach, a mapping or a heap block is only held here and released; any thread may do so.
unsafe impl Send for Owner {}
// SAFETY: a shared owner offers nothing at all.
unsafe impl Sync for Owner {}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Owner::Heap { words } = *self {
            // SAFETY: `words` came from `Box::into_raw` in `heap`, and this is the only owner.
            drop(unsafe { Box::from_raw(words) });
        }
    }
}

/// Bytes that others can change.
#[derive(Clone)]
pub(crate) struct Memory {
    base: *mut u8,
    length: usize,
    _owner: Arc<Owner>,
}

// SAFETY: the bytes are only reached through atomics and the two copies, which any thread may
// use at any time.
unsafe impl Send for Memory {}
// SAFETY: as for `Send`.
unsafe impl Sync for Memory {}

impl Memory {
    pub(crate) fn attach<C: Calls + Copy + Send + 'static>(attach: Attach<C>) -> Self {
        let (base, length) = (attach.as_ptr(), attach.len());
        // INVARIANT: the kernel maps whole pages, read and write, until the attach is dropped.
        Self {
            base,
            length,
            _owner: Arc::new(Owner::Attach(Box::new(attach))),
        }
    }

    pub(crate) fn attach_read_only<C>(attach: AttachReadOnly<C>) -> Self
    where
        C: Calls + Copy + Send + 'static,
    {
        let (base, length) = (attach.as_ptr().cast_mut(), attach.len());
        // INVARIANT: the kernel maps whole pages, for reading, until the attach is dropped.
        Self {
            base,
            length,
            _owner: Arc::new(Owner::Attach(Box::new(attach))),
        }
    }

    /// A shared mapping that is never unmapped.
    ///
    /// # Safety
    /// `base` is the start of a mapping of `length` bytes, readable and writable, of a file that
    /// is at least as long; nobody unmaps it or changes its protection, and no references to its
    /// bytes exist.
    pub(crate) unsafe fn mapping(base: *mut u8, length: usize) -> Self {
        // INVARIANT: the caller's promise; a page is aligned to more than eight bytes.
        Self {
            base,
            length,
            _owner: Arc::new(Owner::Mapping),
        }
    }

    /// Whether the bytes are a file mapping, and where.
    pub(crate) fn mapped_at(&self) -> Option<*mut u8> {
        matches!(*self._owner, Owner::Mapping).then_some(self.base)
    }

    /// Zeroed memory of this process, for tests.
    pub(crate) fn heap(length: usize) -> Self {
        let words = Box::into_raw(vec![0u64; length.div_ceil(8)].into_boxed_slice());
        // INVARIANT: at least `length` bytes, aligned as `u64`, freed when the owner drops.
        Self {
            base: words.cast::<u8>(),
            length,
            _owner: Arc::new(Owner::Heap { words }),
        }
    }

    /// Zeroed memory of this process between forbidden pages, for fuzzing.
    pub(crate) fn guarded(length: usize) -> Self {
        let (guarded, base) = Guarded::new(length);
        // INVARIANT: zeroed, aligned, unmapped when the owner drops.
        Self {
            base,
            length,
            _owner: Arc::new(Owner::Guarded(guarded)),
        }
    }

    #[inline]
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    #[inline]
    pub(crate) fn u32(&self, offset: usize) -> &AtomicU32 {
        // One comparison for both: rotated, what is not a multiple of four is huge.
        assert!(
            offset.rotate_right(2) < self.length / 4,
            "no word at offset {offset}"
        );
        // SAFETY: inside the mapping, as just checked.
        let word = unsafe { self.base.add(offset) };
        // SAFETY: aligned and in bounds, as just checked; alive as long as `self`; only atomics
        // reach words. Read-only mappings are only loaded from, because `View` offers no more.
        unsafe { AtomicU32::from_ptr(word.cast()) }
    }

    #[inline]
    pub(crate) fn u64(&self, offset: usize) -> &AtomicU64 {
        // One comparison for both: rotated, what is not a multiple of eight is huge.
        assert!(
            offset.rotate_right(3) < self.length / 8,
            "no word at offset {offset}"
        );
        // SAFETY: inside the mapping, as just checked.
        let word = unsafe { self.base.add(offset) };
        // SAFETY: as in `u32`.
        unsafe { AtomicU64::from_ptr(word.cast()) }
    }

    /// Where the byte at `offset` is.
    ///
    /// # Safety
    /// `offset` is no further than the length.
    #[inline]
    pub(crate) unsafe fn at(&self, offset: usize) -> *mut u8 {
        // SAFETY: inside the mapping or one past it, as the caller promises.
        unsafe { self.base.add(offset) }
    }

    /// Copies bytes out.
    ///
    /// # Safety
    /// `offset + length` is no further than this memory's length, and `to` is valid for writing
    /// `length` bytes, none of them in this memory.
    #[inline]
    pub(crate) unsafe fn read(&self, offset: usize, to: *mut u8, length: usize) {
        // SAFETY: the caller's promise.
        let from = unsafe { self.at(offset) };
        // SAFETY: the caller's promise.
        unsafe { read(from, to, length) };
    }

    /// Copies bytes in.
    ///
    /// # Safety
    /// This memory is writable, `offset + length` is no further than its length, and `from` is
    /// valid for reading `length` bytes, none of them in this memory.
    #[inline]
    pub(crate) unsafe fn write(&self, offset: usize, from: *const u8, length: usize) {
        // SAFETY: the caller's promise.
        let to = unsafe { self.at(offset) };
        // SAFETY: the caller's promise.
        unsafe { write(to, from, length) };
    }
}

/// Copies bytes from an address in some memory.
///
/// # Safety
/// From there on that memory has `length` bytes, and `to` is valid for writing as many, none of them in
/// that memory.
#[inline]
pub(crate) unsafe fn read(from: *const u8, to: *mut u8, length: usize) {
    // SAFETY: both sides are valid for `length` bytes and apart, by the caller's promise. A
    // peer that writes meanwhile changes which bytes are copied, not how many or where to.
    #[cfg(not(miri))]
    unsafe {
        crate::copy::copy(from, to, length);
    }
    #[cfg(miri)]
    for i in 0..length {
        let address = from as usize + i;
        let shift = (address % 8) * 8;
        // SAFETY: the aligned word around a byte of this memory, whose block is whole words.
        let word = unsafe { AtomicU64::from_ptr(from.add(i).sub(address % 8).cast_mut().cast()) };
        let byte = (word.load(crate::sync::Ordering::Relaxed) >> shift) as u8;
        // SAFETY: the caller's promise about `to`.
        unsafe { to.add(i).write(byte) };
    }
}

/// Copies bytes to an address in some memory.
///
/// # Safety
/// From there on that memory is writable for `length` bytes, and `from` is valid for reading as many,
/// none of them in that memory.
#[inline]
pub(crate) unsafe fn write(to: *mut u8, from: *const u8, length: usize) {
    // SAFETY: both sides are valid for `length` bytes and apart, by the caller's promise. A
    // peer that reads meanwhile gets a mixture, which its protocol must recognise.
    #[cfg(not(miri))]
    unsafe {
        crate::copy::copy(from, to, length);
    }
    #[cfg(miri)]
    for i in 0..length {
        let address = to as usize + i;
        let shift = (address % 8) * 8;
        // SAFETY: the aligned word around a byte of this memory, whose block is whole words.
        let word = unsafe { AtomicU64::from_ptr(to.add(i).sub(address % 8).cast()) };
        // SAFETY: the caller's promise about `from`.
        let byte = u64::from(unsafe { from.add(i).read() }) << shift;
        let mask = !(0xff << shift);
        let _ = word.fetch_update(
            crate::sync::Ordering::Relaxed,
            crate::sync::Ordering::Relaxed,
            |old| Some(old & mask | byte),
        );
    }
}

/// The same for no more than [`SHORT`](crate::copy::SHORT) bytes.
///
/// # Safety
/// As [`write`], there are no more, and `wide` is what [`is_wide`](crate::copy::is_wide) answers.
#[inline(always)]
pub(crate) unsafe fn write_short(to: *mut u8, from: *const u8, length: usize, wide: bool) {
    // SAFETY: as in `write`, and the caller's promise.
    #[cfg(not(miri))]
    unsafe {
        crate::copy::short(from, to, length, wide);
    }
    #[cfg(miri)]
    // SAFETY: the caller's promise.
    unsafe {
        let _ = wide;
        write(to, from, length);
    }
}
