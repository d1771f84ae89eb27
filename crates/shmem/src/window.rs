//! A window: a few words of a region that are used all the time, checked once.
//!
//! A word of a region is checked at each access. In a window it is the compiler that checks,
//! because offsets in it are constants, and so are its bytes.

#[cfg(not(loom))]
use crate::region::OutOfBounds;
use crate::region::Region;
use crate::sync::{AtomicU32, AtomicU64};
use std::fmt;
#[cfg(not(loom))]
use std::ptr::NonNull;

/// `BYTES` bytes of a region.
///
/// # Invariants
/// `base` is aligned to eight bytes and valid for reads and writes of `BYTES` bytes as long as
/// `region` lives.
pub struct Window<const BYTES: usize> {
    region: Region,
    #[cfg(not(loom))]
    base: NonNull<u8>,
    #[cfg(loom)]
    offset: usize,
}

// SAFETY: the bytes are only reached through atomics, which any thread may use at any time.
#[cfg(not(loom))]
unsafe impl<const BYTES: usize> Send for Window<BYTES> {}
// SAFETY: as for `Send`.
#[cfg(not(loom))]
unsafe impl<const BYTES: usize> Sync for Window<BYTES> {}

impl<const BYTES: usize> Window<BYTES> {
    /// The window from `offset` bytes on, a multiple of eight.
    ///
    /// # Panics
    /// If it is not inside the region, or not aligned. Offsets come from layouts and from numbers
    /// checked at opening, never from a peer.
    pub fn new(region: &Region, offset: usize) -> Self {
        let region = region.clone();
        #[cfg(not(loom))]
        {
            assert!(offset.is_multiple_of(8), "no window at offset {offset}");
            let inside: Result<(), OutOfBounds> = region.check(offset, BYTES);
            inside.expect("a window lies inside its region");
            // SAFETY: inside the region, as just checked.
            let base = unsafe { region.at(offset) };
            let base = NonNull::new(base).expect("an address inside a mapping");
            // INVARIANT: as just checked; the region is writable and aligned.
            Self { region, base }
        }
        #[cfg(loom)]
        Self { region, offset }
    }

    /// The region that it is a window of.
    #[inline]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The 32-bit word at `at` bytes of the window.
    ///
    /// # Panics
    /// If the word is not inside the window or not aligned; at compile time, nearly, because `at` is
    /// a constant.
    #[inline(always)]
    pub fn u32(&self, at: usize) -> &AtomicU32 {
        assert!(at.is_multiple_of(4) && at + 4 <= BYTES);
        #[cfg(not(loom))]
        {
            // SAFETY: inside the window, as just checked.
            let word = unsafe { self.base.add(at) };
            // SAFETY: aligned and in bounds by the invariant; alive as long as `self`; only atomics
            // reach words.
            unsafe { AtomicU32::from_ptr(word.as_ptr().cast()) }
        }
        #[cfg(loom)]
        self.region.u32(self.offset + at)
    }

    /// The 64-bit word at `at` bytes of the window.
    ///
    /// # Panics
    /// As [`u32`](Self::u32).
    #[inline(always)]
    pub fn u64(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at + 8 <= BYTES);
        #[cfg(not(loom))]
        {
            // SAFETY: inside the window, as just checked.
            let word = unsafe { self.base.add(at) };
            // SAFETY: as in `u32`.
            unsafe { AtomicU64::from_ptr(word.as_ptr().cast()) }
        }
        #[cfg(loom)]
        self.region.u64(self.offset + at)
    }
}

impl<const BYTES: usize> Clone for Window<BYTES> {
    fn clone(&self) -> Self {
        Self {
            region: self.region.clone(),
            #[cfg(not(loom))]
            base: self.base,
            #[cfg(loom)]
            offset: self.offset,
        }
    }
}

impl<const BYTES: usize> fmt::Debug for Window<BYTES> {
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
