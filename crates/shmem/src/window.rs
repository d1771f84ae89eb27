//! A window: a few words of a region that are used all the time, checked once.
//!
//! A word of a region is checked at each access. In a window it is the compiler that checks,
//! because offsets in it are constants, and so are its bytes. Who may only read has a window of a
//! [`View`].

#[cfg(not(loom))]
use crate::region::OutOfBounds;
use crate::region::{Region, View};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use std::fmt;
#[cfg(not(loom))]
use std::ptr::NonNull;

/// `BYTES` bytes of a region, or of a view.
///
/// # Invariants
/// `base` is aligned to eight bytes and valid for reads of `BYTES` bytes as long as `memory` lives; for
/// writes too, if that is a region.
pub struct Window<const BYTES: usize, M = Region> {
    memory: M,
    #[cfg(not(loom))]
    base: NonNull<u8>,
    #[cfg(loom)]
    offset: usize,
}

// SAFETY: the bytes are only reached through atomics, which any thread may use at any time.
#[cfg(not(loom))]
unsafe impl<const BYTES: usize, M: Send> Send for Window<BYTES, M> {}
// SAFETY: as for `Send`.
#[cfg(not(loom))]
unsafe impl<const BYTES: usize, M: Sync> Sync for Window<BYTES, M> {}

impl<const BYTES: usize, M: AsRef<View>> Window<BYTES, M> {
    /// Not for others: it relies on `as_ref` answering the same memory each time.
    fn checked(memory: M, offset: usize) -> Self {
        #[cfg(not(loom))]
        {
            let view = memory.as_ref();
            assert!(offset.is_multiple_of(8), "no window at offset {offset}");
            let inside: Result<(), OutOfBounds> = view.check(offset, BYTES);
            inside.expect("a window lies inside its region");
            // SAFETY: inside the view, as just checked.
            let base = unsafe { view.at(offset) };
            let base = NonNull::new(base).expect("an address inside a mapping");
            // INVARIANT: as just checked; a view is aligned, and a region is writable.
            Self { memory, base }
        }
        #[cfg(loom)]
        Self { memory, offset }
    }

    /// The words themselves, for who uses several of them: where they are is looked up once.
    #[inline(always)]
    pub fn words(&self) -> Words<'_, BYTES, M> {
        Words {
            memory: &self.memory,
            #[cfg(not(loom))]
            base: self.base,
            #[cfg(loom)]
            offset: self.offset,
        }
    }

    /// Loads the 32-bit word at `at` bytes of the window.
    ///
    /// # Panics
    /// As [`load_u64`](Self::load_u64).
    #[inline(always)]
    pub fn load_u32(&self, at: usize, ordering: Ordering) -> u32 {
        self.words().load_u32(at, ordering)
    }

    /// Loads the 64-bit word at `at` bytes of the window.
    ///
    /// # Panics
    /// If the word is not inside the window or not aligned; at compile time, nearly, because `at` is
    /// a constant.
    #[inline(always)]
    pub fn load_u64(&self, at: usize, ordering: Ordering) -> u64 {
        self.words().load_u64(at, ordering)
    }
}

impl<const BYTES: usize> Window<BYTES, View> {
    /// The window of a view, for who may only read.
    ///
    /// # Panics
    /// As [`new`](Window::new).
    pub fn of_view(view: &View, offset: usize) -> Self {
        Self::checked(view.clone(), offset)
    }
}

impl<const BYTES: usize> Window<BYTES> {
    /// The window from `offset` bytes on, a multiple of eight.
    ///
    /// # Panics
    /// If it is not inside the region, or not aligned. Offsets come from layouts and from numbers
    /// checked at opening, never from a peer.
    pub fn new(region: &Region, offset: usize) -> Self {
        Self::checked(region.clone(), offset)
    }

    /// The region that it is a window of.
    #[inline]
    pub fn region(&self) -> &Region {
        &self.memory
    }

    /// The 32-bit word at `at` bytes of the window.
    ///
    /// # Panics
    /// As [`u64`](Self::u64).
    #[inline(always)]
    pub fn u32(&self, at: usize) -> &AtomicU32 {
        self.words().u32(at)
    }

    /// The 64-bit word at `at` bytes of the window.
    ///
    /// # Panics
    /// As [`load_u64`](Self::load_u64).
    #[inline(always)]
    pub fn u64(&self, at: usize) -> &AtomicU64 {
        self.words().u64(at)
    }
}

/// The words of a [`Window`], or of another place that is as one.
///
/// # Invariants
/// As those of the window.
pub struct Words<'a, const BYTES: usize, M = Region> {
    #[cfg_attr(
        not(loom),
        expect(
            dead_code,
            reason = "borrowed, so that it lives as long as the words are used"
        )
    )]
    memory: &'a M,
    #[cfg(not(loom))]
    base: NonNull<u8>,
    #[cfg(loom)]
    offset: usize,
}

impl<const BYTES: usize, M> Clone for Words<'_, BYTES, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<const BYTES: usize, M> Copy for Words<'_, BYTES, M> {}

impl<'a, const BYTES: usize, M> Words<'a, BYTES, M> {
    /// Words that begin at `base`.
    ///
    /// # Safety
    /// The invariants of a [`Window`].
    #[cfg(not(loom))]
    #[inline(always)]
    pub(crate) unsafe fn at(memory: &'a M, base: NonNull<u8>) -> Self {
        // INVARIANT: the caller's promise.
        Self { memory, base }
    }

    /// Words that begin at `offset`.
    #[cfg(loom)]
    pub(crate) fn at(memory: &'a M, offset: usize) -> Self {
        Self { memory, offset }
    }

    /// Where they begin, valid as long as `'a`.
    #[cfg(not(loom))]
    #[inline(always)]
    pub(crate) fn base(self) -> NonNull<u8> {
        self.base
    }

    /// Where they begin.
    #[cfg(loom)]
    pub(crate) fn offset(self) -> usize {
        self.offset
    }

    /// What they are of.
    #[cfg(loom)]
    pub(crate) fn memory(self) -> &'a M {
        self.memory
    }
}

impl<'a, const BYTES: usize, M: AsRef<View>> Words<'a, BYTES, M> {
    /// As [`Window::load_u32`].
    ///
    /// # Panics
    /// As [`Window::load_u64`].
    #[inline(always)]
    pub fn load_u32(self, at: usize, ordering: Ordering) -> u32 {
        self.word_u32(at).load(ordering)
    }

    /// As [`Window::load_u64`].
    ///
    /// # Panics
    /// As [`Window::load_u64`].
    #[inline(always)]
    pub fn load_u64(self, at: usize, ordering: Ordering) -> u64 {
        self.word_u64(at).load(ordering)
    }

    /// A word, which is only loaded from unless the window is a region's.
    #[inline(always)]
    fn word_u32(self, at: usize) -> &'a AtomicU32 {
        assert!(at.is_multiple_of(4) && at + 4 <= BYTES);
        #[cfg(not(loom))]
        {
            // SAFETY: inside the window, as just checked.
            let word = unsafe { self.base.add(at) };
            // SAFETY: aligned and in bounds by the invariant; alive as long as the memory, which the
            // borrow keeps; only atomics reach words.
            unsafe { AtomicU32::from_ptr(word.as_ptr().cast()) }
        }
        #[cfg(loom)]
        self.memory.as_ref().memory().u32(self.offset + at)
    }

    /// As [`word_u32`](Self::word_u32).
    #[inline(always)]
    fn word_u64(self, at: usize) -> &'a AtomicU64 {
        assert!(at.is_multiple_of(8) && at + 8 <= BYTES);
        #[cfg(not(loom))]
        {
            // SAFETY: inside the window, as just checked.
            let word = unsafe { self.base.add(at) };
            // SAFETY: as in `word_u32`.
            unsafe { AtomicU64::from_ptr(word.as_ptr().cast()) }
        }
        #[cfg(loom)]
        self.memory.as_ref().memory().u64(self.offset + at)
    }
}

impl<'a, const BYTES: usize> Words<'a, BYTES> {
    /// As [`Window::u32`].
    ///
    /// # Panics
    /// As [`Window::load_u64`].
    #[inline(always)]
    pub fn u32(self, at: usize) -> &'a AtomicU32 {
        self.word_u32(at)
    }

    /// As [`Window::u64`].
    ///
    /// # Panics
    /// As [`Window::load_u64`].
    #[inline(always)]
    pub fn u64(self, at: usize) -> &'a AtomicU64 {
        self.word_u64(at)
    }
}

impl<const BYTES: usize, M: Clone> Clone for Window<BYTES, M> {
    fn clone(&self) -> Self {
        Self {
            memory: self.memory.clone(),
            #[cfg(not(loom))]
            base: self.base,
            #[cfg(loom)]
            offset: self.offset,
        }
    }
}

impl<const BYTES: usize, M> fmt::Debug for Window<BYTES, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window")
            .field("bytes", &BYTES)
            .finish_non_exhaustive()
    }
}

/// The words of a ring, by positions that count on and never wrap: checked once, because a position
/// masked is always inside.
///
/// # Invariants
/// `base` is aligned to eight bytes and valid for reads and writes of `mask + 1` bytes, a power of two
/// from eight, as long as `region` lives.
pub struct Circle {
    region: Region,
    #[cfg(not(loom))]
    base: NonNull<u8>,
    #[cfg(loom)]
    offset: usize,
    mask: u64,
}

// SAFETY: the bytes are only reached through atomics, which any thread may use at any time.
#[cfg(not(loom))]
unsafe impl Send for Circle {}
// SAFETY: as for `Send`.
#[cfg(not(loom))]
unsafe impl Sync for Circle {}

impl Circle {
    /// The ring of `capacity` bytes from `offset` bytes on, a multiple of eight.
    ///
    /// # Panics
    /// If it is not inside the region, not aligned, or its capacity no power of two from eight.
    /// Offsets come from layouts and from numbers checked at opening, never from a peer.
    pub fn new(region: &Region, offset: usize, capacity: u64) -> Self {
        let region = region.clone();
        assert!(capacity.is_power_of_two() && capacity >= 8);
        let mask = capacity - 1;
        #[cfg(not(loom))]
        {
            assert!(offset.is_multiple_of(8), "no ring at offset {offset}");
            let inside: Result<(), OutOfBounds> = region.check(offset, capacity as usize);
            inside.expect("a ring lies inside its region");
            // SAFETY: inside the region, as just checked.
            let base = unsafe { region.at(offset) };
            let base = NonNull::new(base).expect("an address inside a mapping");
            // INVARIANT: as just checked; the region is writable and aligned.
            Self { region, base, mask }
        }
        #[cfg(loom)]
        Self {
            region,
            offset,
            mask,
        }
    }

    /// The word in which the byte of a position is.
    #[inline(always)]
    pub fn word(&self, position: u64) -> &AtomicU64 {
        let at = (position & self.mask & !7) as usize;
        #[cfg(not(loom))]
        {
            // SAFETY: no more than `mask`.
            let word = unsafe { self.base.add(at) };
            // SAFETY: a multiple of eight in a ring that is one long, so the word is inside, and
            // aligned as the base is; alive as long as `self`; only atomics reach words.
            unsafe { AtomicU64::from_ptr(word.as_ptr().cast()) }
        }
        #[cfg(loom)]
        self.region.u64(self.offset + at)
    }

    /// How many bytes it has.
    #[inline(always)]
    pub(crate) fn capacity(&self) -> u64 {
        self.mask + 1
    }

    /// Bytes from that of a position to the ring's end.
    #[inline(always)]
    pub(crate) fn left_behind(&self, position: u64) -> u64 {
        self.capacity() - (position & self.mask)
    }

    /// Where it begins.
    #[cfg(not(loom))]
    #[inline(always)]
    pub(crate) fn start(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Copies bytes in from a position on, which must not go beyond the ring's end.
    #[cfg(loom)]
    pub(crate) fn copy_in(&self, position: u64, from: &[u8]) {
        let at = self.offset + (position & self.mask) as usize;
        self.region.copy_in(at, from).expect("inside the ring");
    }

    /// Copies bytes out from a position on, which must not go beyond the ring's end.
    #[cfg(loom)]
    pub(crate) fn copy_out(&self, position: u64, to: &mut [u8]) {
        let at = self.offset + (position & self.mask) as usize;
        self.region.copy_out(at, to).expect("inside the ring");
    }
}

impl Clone for Circle {
    fn clone(&self) -> Self {
        Self {
            region: self.region.clone(),
            ..*self
        }
    }
}

impl fmt::Debug for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Circle")
            .field("bytes", &(self.mask + 1))
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::Ordering;

    #[test]
    fn a_window_shows_the_region() {
        let region = Region::heap(64);
        let window = Window::<16>::new(&region, 8);
        window.u64(8).store(7, Ordering::Relaxed);
        assert_eq!(region.load_u64(16, Ordering::Relaxed), 7);
        assert_eq!(window.clone().u32(8).load(Ordering::Relaxed), 7);
    }

    #[test]
    fn a_ring_goes_round() {
        let region = Region::heap(64);
        let circle = Circle::new(&region, 16, 32);
        for (position, offset) in [(0, 16), (31, 40), (32, 16), (u64::MAX, 40)] {
            circle
                .clone()
                .word(position)
                .store(position, Ordering::Relaxed);
            assert_eq!(region.load_u64(offset, Ordering::Relaxed), position);
        }
    }

    #[test]
    #[should_panic(expected = "inside its region")]
    fn a_ring_does_not_hang_over_the_end() {
        Circle::new(&Region::heap(64), 40, 32);
    }

    #[test]
    #[should_panic(expected = "inside its region")]
    fn a_window_does_not_hang_over_the_end() {
        Window::<16>::new(&Region::heap(64), 56);
    }

    #[test]
    #[should_panic(expected = "BYTES")]
    fn a_word_does_not_hang_out_of_the_window() {
        Window::<16>::new(&Region::heap(64), 8).u64(16);
    }
}
