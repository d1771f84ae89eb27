//! A part of a view whose place is found out while running: words, and bytes behind them, checked once.

use crate::region::View;
use crate::sync::{AtomicU64, Ordering};

/// `WORDS` bytes of words in a view, and what is behind them.
///
/// # Invariants
/// `offset` is a multiple of eight, and from there on `WORDS` and `room` bytes more are inside the view.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a, const WORDS: usize> {
    view: &'a View,
    offset: usize,
    room: usize,
}

impl View {
    /// The words from `offset` bytes on, and what is behind them; `None` if they are not inside the view
    /// or not aligned.
    #[inline(always)]
    pub fn part<const WORDS: usize>(&self, offset: usize) -> Option<Part<'_, WORDS>> {
        let is_inside = offset.is_multiple_of(8) && self.check(offset, WORDS).is_ok();
        // INVARIANT: as just checked; so there is no overflow.
        is_inside.then(|| Part {
            view: self,
            offset,
            room: self.len() - offset - WORDS,
        })
    }
}

impl<const WORDS: usize> Part<'_, WORDS> {
    /// Loads the 64-bit word at `at` bytes.
    ///
    /// # Panics
    /// If it is not one of the words, or not aligned; at compile time, nearly, because `at` is a constant.
    #[inline(always)]
    pub fn load_u64(self, at: usize, ordering: Ordering) -> u64 {
        assert!(at.is_multiple_of(8) && at + 8 <= WORDS);
        self.word(at).load(ordering)
    }

    #[inline(always)]
    fn word(&self, at: usize) -> &AtomicU64 {
        #[cfg(not(loom))]
        {
            // SAFETY: inside the view by the invariant, for `at` is less than `WORDS`.
            let word = unsafe { self.view.at(self.offset + at) };
            // SAFETY: aligned and in bounds by the invariant; alive as long as the view; only atomics
            // reach words. It is only loaded from, as a view may be.
            unsafe { AtomicU64::from_ptr(word.cast()) }
        }
        #[cfg(loom)]
        self.view.memory().u64(self.offset + at)
    }

    /// Appends the `length` bytes behind the words to `to`, as [`View::append_to`] does; false, and
    /// nothing is appended, if they are not all inside the view.
    #[inline(always)]
    pub fn append_behind(self, length: usize, to: &mut Vec<u8>) -> bool {
        let fits = length <= self.room;
        if fits {
            // SAFETY: inside the view by the invariant.
            unsafe { self.view.append_unchecked(self.offset + WORDS, length, to) };
        }
        fits
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::Region;
    use crate::sync::Ordering;

    #[test]
    fn a_part_is_inside() {
        let region = Region::heap(64);
        region.u64(24).store(7, Ordering::Relaxed);
        region.copy_in(32, b"behind").unwrap();
        let part = region.part::<16>(16).unwrap();
        assert_eq!(part.load_u64(8, Ordering::Relaxed), 7);
        let mut bytes = vec![];
        assert!(part.append_behind(6, &mut bytes));
        assert_eq!(bytes, b"behind");
        let none = &mut vec![];
        assert!(!part.append_behind(33, none) && !part.append_behind(usize::MAX, none));
        assert!(!region.part::<16>(48).unwrap().append_behind(1, none));
        assert!(none.is_empty() && part.append_behind(32, none));
        for bad in [17, 20, 49, 56, 64, usize::MAX - 7, usize::MAX - 15] {
            assert!(region.part::<16>(bad).is_none(), "{bad}");
        }
    }

    #[test]
    #[should_panic(expected = "WORDS")]
    fn a_word_does_not_hang_out_of_the_part() {
        let region = Region::heap(64);
        region
            .part::<16>(0)
            .unwrap()
            .load_u64(16, Ordering::Relaxed);
    }
}
