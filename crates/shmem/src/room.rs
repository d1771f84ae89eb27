//! A room: some words of a region and the bytes behind them, checked once and used often.
//!
//! A [`Window`](crate::Window) stands where it is and has words only. A room may be moved to another place
//! of its region, by who goes from message to message, and what is behind its words may be copied.

use crate::copy::SHORT;
#[cfg(not(loom))]
use crate::memory;
use crate::region::Region;
use crate::sync::{AtomicU32, AtomicU64};
use std::fmt;
#[cfg(not(loom))]
use std::ptr::NonNull;

/// What keeps a region: the region, or who has borrowed it.
pub trait Keep: sealed::Keep {}

mod sealed {
    use crate::region::Region;

    /// The region is always the same, and lives as long as this does.
    pub trait Keep {
        fn region(&self) -> &Region;
    }

    impl Keep for Region {
        #[inline(always)]
        fn region(&self) -> &Region {
            self
        }
    }

    impl Keep for &Region {
        #[inline(always)]
        fn region(&self) -> &Region {
            self
        }
    }
}

impl Keep for Region {}
impl Keep for &Region {}

/// `WORDS` bytes of words in a region, and what is behind them.
///
/// # Invariants
/// `base` is aligned to eight bytes and valid for reads and writes of `WORDS + behind` bytes as long as
/// `kept` lives.
pub struct Room<R, const WORDS: usize> {
    kept: R,
    #[cfg(not(loom))]
    base: NonNull<u8>,
    offset: usize,
    behind: usize,
}

// SAFETY: the bytes are only reached through atomics and copies, which any thread may use at any time.
#[cfg(not(loom))]
unsafe impl<R: Send, const WORDS: usize> Send for Room<R, WORDS> {}
// SAFETY: as for `Send`.
#[cfg(not(loom))]
unsafe impl<R: Sync, const WORDS: usize> Sync for Room<R, WORDS> {}

impl<R: Keep, const WORDS: usize> Room<R, WORDS> {
    /// The words from `offset` bytes on, a multiple of eight, and `behind` bytes behind them.
    ///
    /// # Panics
    /// If they are not inside the region, or not aligned. Offsets come from layouts and from numbers
    /// checked at opening, never from a peer.
    #[inline]
    pub fn new(kept: R, offset: usize, behind: usize) -> Self {
        // INVARIANT: as just checked; the region is writable and aligned.
        Self {
            #[cfg(not(loom))]
            base: Self::place(&kept, offset, behind),
            offset,
            kept,
            behind,
        }
    }

    /// Goes to another place of the region, with as many bytes behind its words.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    #[inline]
    pub fn go_to(&mut self, offset: usize) {
        // INVARIANT: as just checked.
        #[cfg(not(loom))]
        {
            self.base = Self::place(&self.kept, offset, self.behind);
        }
        self.offset = offset;
    }

    #[cfg(not(loom))]
    #[inline]
    fn place(kept: &R, offset: usize, behind: usize) -> NonNull<u8> {
        let region = kept.region();
        let end = WORDS.checked_add(behind);
        let fits = end.is_some_and(|length| region.check(offset, length).is_ok());
        assert!(
            offset.is_multiple_of(8) && fits,
            "no room at offset {offset}"
        );
        // SAFETY: inside the region, as just checked.
        let base = unsafe { region.at(offset) };
        NonNull::new(base).expect("an address inside a mapping")
    }

    /// The same room, borrowed.
    #[inline(always)]
    pub fn borrow(&self) -> Room<&Region, WORDS> {
        // INVARIANT: the region is the same.
        Room {
            kept: self.kept.region(),
            #[cfg(not(loom))]
            base: self.base,
            offset: self.offset,
            behind: self.behind,
        }
    }

    /// The region that it is in.
    #[inline]
    pub fn region(&self) -> &Region {
        self.kept.region()
    }

    /// Where its words begin in the region, in bytes.
    #[inline]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Bytes behind the words.
    #[inline(always)]
    pub fn behind(&self) -> usize {
        self.behind
    }

    /// The 32-bit word at `at` bytes.
    ///
    /// # Panics
    /// If it is not one of the words, or not aligned; at compile time, nearly, because `at` is a constant.
    #[inline(always)]
    pub fn u32(&self, at: usize) -> &AtomicU32 {
        assert!(at.is_multiple_of(4) && at + 4 <= WORDS);
        #[cfg(not(loom))]
        {
            // SAFETY: inside by the invariant, for `at` is less than `WORDS`.
            let word = unsafe { self.base.add(at) };
            // SAFETY: aligned and in bounds by the invariant; alive as long as `self`; only atomics
            // reach words.
            unsafe { AtomicU32::from_ptr(word.as_ptr().cast()) }
        }
        #[cfg(loom)]
        self.region().u32(self.offset + at)
    }

    /// The 64-bit word at `at` bytes.
    ///
    /// # Panics
    /// As [`u32`](Self::u32).
    #[inline(always)]
    pub fn u64(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at + 8 <= WORDS);
        #[cfg(not(loom))]
        {
            // SAFETY: inside by the invariant, for `at` is less than `WORDS`.
            let word = unsafe { self.base.add(at) };
            // SAFETY: as in `u32`.
            unsafe { AtomicU64::from_ptr(word.as_ptr().cast()) }
        }
        #[cfg(loom)]
        self.region().u64(self.offset + at)
    }

    /// Copies bytes to what is behind the words, from the `at`th on; false, and nothing is copied, if they
    /// are not all inside.
    #[inline(always)]
    pub fn copy_in(&self, at: usize, from: &[u8]) -> bool {
        let fits = self.has(at, from.len());
        if fits {
            #[cfg(not(loom))]
            {
                let to = self.address(at);
                if from.len() <= SHORT {
                    // SAFETY: inside, as just checked, of a region that is writable; `from` is memory of
                    // this process that nobody writes.
                    unsafe { memory::write(to, from.as_ptr(), from.len()) };
                } else {
                    // SAFETY: the same.
                    unsafe { write_long(to, from) };
                }
            }
            #[cfg(loom)]
            self.region()
                .copy_in(self.offset + WORDS + at, from)
                .expect("it is inside");
        }
        fits
    }

    /// Copies bytes behind the words out, from the `at`th on; false, and nothing is copied, if they are
    /// not all inside. A peer that writes meanwhile leaves a mixture.
    #[inline]
    pub fn copy_out(&self, at: usize, to: &mut [u8]) -> bool {
        let fits = self.has(at, to.len());
        if fits {
            #[cfg(not(loom))]
            // SAFETY: inside, as just checked; `to` is memory of this process.
            unsafe {
                memory::read(self.address(at), to.as_mut_ptr(), to.len());
            };
            #[cfg(loom)]
            self.region()
                .copy_out(self.offset + WORDS + at, to)
                .expect("it is inside");
        }
        fits
    }

    /// Appends the `length` bytes behind the words to a buffer; false, and nothing is appended, if they
    /// are not all inside. A peer that writes meanwhile leaves a mixture.
    #[inline(always)]
    pub fn append(&self, length: usize, to: &mut Vec<u8>) -> bool {
        let fits = length <= self.behind;
        if fits {
            #[cfg(not(loom))]
            {
                let from = self.address(0);
                let before = to.len();
                if length <= SHORT && length <= to.capacity() - before {
                    let place = to.spare_capacity_mut().as_mut_ptr().cast();
                    // SAFETY: inside, as just checked, and there is room.
                    unsafe { memory::read(from, place, length) };
                    // SAFETY: there is room, and the bytes were just written.
                    unsafe { to.set_len(before + length) };
                } else {
                    // SAFETY: inside, as just checked.
                    unsafe { append_long(from, length, to) };
                }
            }
            #[cfg(loom)]
            self.region()
                .append_to(self.offset + WORDS, length, to)
                .expect("it is inside");
        }
        fits
    }

    #[inline(always)]
    fn has(&self, at: usize, length: usize) -> bool {
        length <= self.behind && at <= self.behind - length
    }

    /// Where the `at`th byte behind the words is, which is one of them or the one after.
    #[cfg(not(loom))]
    #[inline(always)]
    fn address(&self, at: usize) -> *mut u8 {
        self.base.as_ptr().wrapping_add(WORDS + at)
    }
}

/// Copies a long message in.
///
/// # Safety
/// As [`memory::write`].
#[cfg(not(loom))]
#[inline(never)]
unsafe fn write_long(to: *mut u8, from: &[u8]) {
    // SAFETY: the caller's promise.
    unsafe { memory::write(to, from.as_ptr(), from.len()) };
}

/// Appends a long message, or one for which there is no room yet.
///
/// # Safety
/// From `from` on `length` bytes of some memory can be read, none of which are of this process's own.
#[cfg(not(loom))]
#[inline(never)]
unsafe fn append_long(from: *const u8, length: usize, to: &mut Vec<u8>) {
    to.reserve(length);
    let place = to.spare_capacity_mut().as_mut_ptr().cast();
    // SAFETY: the caller's promise; `reserve` made room for `length` more bytes.
    unsafe { memory::read(from, place, length) };
    // SAFETY: there is room, and the bytes were just written.
    unsafe { to.set_len(to.len() + length) };
}

impl<R, const WORDS: usize> fmt::Debug for Room<R, WORDS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room")
            .field("words", &WORDS)
            .field("behind", &self.behind)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::Ordering;

    #[test]
    fn what_is_behind_the_words_is_inside() {
        let region = Region::heap(256);
        for length in [0, 1, 63, 64, 65, 100] {
            let bytes: Vec<u8> = (0..length as u8).map(|byte| byte + 1).collect();
            let mut room = Room::<_, 16>::new(&region, 0, length);
            room.go_to(24);
            room.u64(8).store(7, Ordering::Relaxed);
            assert_eq!(region.load_u64(32, Ordering::Relaxed), 7);
            assert!(room.copy_in(0, &bytes) && !room.copy_in(1, &bytes));
            let mut out = vec![0; length];
            assert!(region.copy_out(40, &mut out).is_ok() && out == bytes);
            assert!(room.copy_out(0, &mut out) && !room.copy_out(usize::MAX, &mut out));
            assert!(!room.copy_out(0, &mut vec![0; length + 1]) && out == bytes);
            for mut to in [vec![], Vec::with_capacity(200)] {
                assert!(room.append(length, &mut to) && room.append(length, &mut to));
                assert!(!room.append(length + 1, &mut to) && !room.append(usize::MAX, &mut to));
                assert_eq!(to, [&*bytes, &*bytes].concat());
            }
            // Up to the region's very end.
            room.go_to((256 - 16 - length) & !7);
        }
    }

    #[test]
    fn a_room_outside_is_refused() {
        for (offset, behind) in [
            (4, 0),
            (56, 0),
            (48, 1),
            (0, 49),
            (usize::MAX - 7, 0),
            (0, usize::MAX),
        ] {
            let made = std::panic::catch_unwind(|| {
                Room::<_, 16>::new(Region::heap(64), offset, behind).behind()
            });
            assert!(made.is_err(), "{offset} {behind}");
        }
        assert_eq!(Room::<_, 16>::new(Region::heap(64), 48, 0).behind(), 0);
    }
}
