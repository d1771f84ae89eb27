//! Cells: places of one size in a row, each some words and room for bytes; checked once.
//!
//! ```text
//! offset                  + LINE + skew                    + stride
//! │ words │ up to NEAR    │ more bytes than that           │ words │ …      one, two, four or eight of them
//! ```
//!
//! Cells go by numbers that count on, round and round, and what fits into one fits into each. Where each begins
//! is looked up: to multiply took a fifth of all that it took to put 64 bytes.
//!
//! Few bytes stand right behind the words, so that they take few lines: 64 bytes on a line of their own took
//! 17 ns longer to another process. More of them begin on the next line, as far behind its beginning as they do
//! in the memory that they come from: the *skew*. Whole lines are moved then, none of which is put together
//! from two: of 1 KiB from where allocators begin, a sixteenth behind a line, a put takes 6.5 ns instead of 9.4.
//! Bytes from elsewhere than they were before are elsewhere in the cell, so their [extent](Fitting::copy_to) says
//! where.

#[cfg(not(loom))]
use crate::memory;
use crate::region::{Region, View};
use crate::window::Words;
use std::fmt;
#[cfg(not(loom))]
use std::ptr::NonNull;

/// Where more bytes begin than stand behind the words, counted from these.
const LINE: usize = 64;

/// So many bytes stand right behind the words.
const NEAR: usize = 256;

/// Most cells in a row.
const MOST: usize = 8;

/// How many bytes there are, and their skew: the lower bits of an extent, and what is above.
const SKEW: u32 = u64::BITS - LINE.trailing_zeros();
const LENGTH: u64 = (1 << SKEW) - 1;

/// Bytes of a cell with room for so many behind `words` bytes of words: whole lines. `None` if no
/// memory has so many.
pub const fn stride(words: usize, room: usize) -> Option<usize> {
    let before = if room <= NEAR { words } else { 2 * LINE - 1 };
    match room.checked_add(before) {
        Some(all) if all as u64 <= LENGTH => all.checked_next_multiple_of(LINE),
        _ => None,
    }
}

/// Cells of `WORDS` bytes of words each, in a region or a view.
///
/// # Invariants
/// Each of `begins` is aligned to eight bytes, and from there on as many bytes as [`stride`] says for `room` are
/// valid for reads as long as `memory` lives; for writes too, if that is a region.
pub struct Cells<const WORDS: usize, M = Region> {
    memory: M,
    /// Where the cells of the numbers that end with 0 to 7 begin.
    #[cfg(not(loom))]
    begins: [NonNull<u8>; MOST],
    #[cfg(loom)]
    begins: [usize; MOST],
    room: usize,
}

// SAFETY: words are only reached through atomics and bytes by copies, which any thread may use at any
// time.
#[cfg(not(loom))]
unsafe impl<const WORDS: usize, M: Send> Send for Cells<WORDS, M> {}
// SAFETY: as for `Send`.
#[cfg(not(loom))]
unsafe impl<const WORDS: usize, M: Sync> Sync for Cells<WORDS, M> {}

/// How cells stand: numbers checked at opening, never a peer's.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Where the first begins.
    pub offset: usize,
    /// How many there are.
    pub count: usize,
    /// Bytes besides the words that each has room for.
    pub room: usize,
}

impl<const WORDS: usize, M: AsRef<View>> Cells<WORDS, M> {
    /// Not for others: it relies on `as_ref` answering the same memory each time.
    fn checked(memory: M, row: Row) -> Self {
        let Row {
            offset,
            count,
            room,
        } = row;
        const { assert!(WORDS.is_multiple_of(8) && WORDS <= LINE) };
        let stride = stride(WORDS, room).expect("a length");
        assert!(
            offset.is_multiple_of(8) && count.is_power_of_two() && count <= MOST,
            "no {count} cells at offset {offset}"
        );
        let all = stride.checked_mul(count).expect("a length");
        memory
            .as_ref()
            .check(offset, all)
            .expect("cells lie inside their region");
        let begins = std::array::from_fn(|last| offset + last % count * stride);
        #[cfg(not(loom))]
        let begins = begins.map(|at| {
            // SAFETY: inside the view, as just checked.
            let cell = unsafe { memory.as_ref().at(at) };
            NonNull::new(cell).expect("an address inside a mapping")
        });
        // INVARIANT: as just checked; a view is aligned, and a region is writable.
        Self {
            memory,
            begins,
            room,
        }
    }

    /// The cell of a number.
    #[inline(always)]
    pub fn cell(&self, number: u64) -> Cell<'_, WORDS, M> {
        let cell = self.begins[number as usize % MOST];
        #[cfg(not(loom))]
        // SAFETY: aligned, and as many bytes of words as a cell begins with.
        let words = unsafe { Words::at(&self.memory, cell) };
        #[cfg(loom)]
        let words = Words::at(&self.memory, cell);
        // INVARIANT: as the row's.
        Cell {
            words,
            room: self.room,
        }
    }
}

impl<const WORDS: usize> Cells<WORDS, View> {
    /// Cells of a view, for who may only read.
    ///
    /// # Panics
    /// As [`new`](Cells::new).
    pub fn of_view(view: &View, row: Row) -> Self {
        Self::checked(view.clone(), row)
    }
}

impl<const WORDS: usize> Cells<WORDS> {
    /// Cells of a region.
    ///
    /// # Panics
    /// If they are not inside the region, not aligned, or not one, two, four or eight.
    pub fn new(region: &Region, row: Row) -> Self {
        Self::checked(region.clone(), row)
    }

    /// Bytes for one of the cells; `None` if they are more than it has room for.
    #[inline(always)]
    pub fn fit<'a>(&'a self, bytes: &'a [u8]) -> Option<Fitting<'a, WORDS>> {
        // INVARIANT: as just checked.
        (bytes.len() <= self.room).then_some(Fitting { cells: self, bytes })
    }
}

/// One of the cells.
///
/// # Invariants
/// `words` are where it begins, and behind them it has as many bytes as [`stride`] says for `room`.
pub struct Cell<'a, const WORDS: usize, M = Region> {
    words: Words<'a, WORDS, M>,
    room: usize,
}

impl<'a, const WORDS: usize, M: AsRef<View>> Cell<'a, WORDS, M> {
    /// Its words.
    #[inline(always)]
    pub fn words(&self) -> Words<'a, WORDS, M> {
        self.words
    }

    /// Appends the bytes of such an [extent](Fitting::copy_to) to `to`, without clearing its memory first;
    /// false, and nothing is appended, if there is not room for so many in a cell. Any extent may come from
    /// a peer.
    ///
    /// A peer that writes them meanwhile leaves a mixture of old and new.
    #[inline(always)]
    pub fn append_to(&self, extent: u64, to: &mut Vec<u8>) -> bool {
        let length = extent & LENGTH;
        if length > self.room as u64 {
            return false;
        }
        let length = length as usize;
        to.reserve(length);
        let room = to.spare_capacity_mut().as_mut_ptr().cast();
        let place = if length <= NEAR {
            WORDS
        } else {
            LINE + (extent >> SKEW) as usize
        };
        #[cfg(not(loom))]
        {
            // SAFETY: where bytes of that extent begin in a cell.
            let from = unsafe { self.words.base().add(place) };
            // SAFETY: a cell has room for them, as just checked, and so has `to`, after `reserve`; that is
            // exclusive memory of this process.
            unsafe { memory::read(from.as_ptr(), room, length) };
        }
        #[cfg(loom)]
        {
            let from = self.words.offset() + place;
            let memory = self.words.memory().as_ref().memory();
            // SAFETY: there is room for `length` bytes, after `reserve`.
            unsafe { memory.read(from, room, length) };
        }
        // SAFETY: there is room, and the bytes were just written.
        unsafe { to.set_len(to.len() + length) };
        true
    }
}

/// Bytes that any of the cells has room for.
///
/// # Invariants
/// They are no more than that.
#[derive(Clone, Copy, Debug)]
pub struct Fitting<'a, const WORDS: usize> {
    cells: &'a Cells<WORDS>,
    bytes: &'a [u8],
}

impl<'a, const WORDS: usize> Fitting<'a, WORDS> {
    /// Copies them into the cell of a number, after something that the caller has to do there. It is handed
    /// their *extent*: how many there are, in the lower 58 bits, and in those above, how far behind the
    /// beginning of a line they begin in the cell, if they are more than 256.
    #[inline(always)]
    pub fn copy_to(self, number: u64, before: impl FnOnce(Words<'a, WORDS>, u64)) {
        let words = self.cells.cell(number).words;
        let length = self.bytes.len() as u64;
        // Apart, so that few bytes don't wait for their place.
        if self.bytes.len() <= NEAR {
            before(words, length);
            self.write(words, WORDS);
        } else {
            let skew = self.skew();
            before(words, (skew as u64) << SKEW | length);
            self.write(words, LINE + skew);
        }
    }

    #[inline(always)]
    fn skew(self) -> usize {
        // Addresses are others in each run, and a model's runs are to be alike.
        let address = if cfg!(loom) {
            0
        } else {
            self.bytes.as_ptr() as usize
        };
        address % LINE
    }

    /// `place`: where bytes of this extent begin.
    #[inline(always)]
    fn write(self, words: Words<'a, WORDS>, place: usize) {
        #[cfg(not(loom))]
        {
            // SAFETY: inside the cell.
            let to = unsafe { words.base().add(place) };
            // SAFETY: the cell has room for them, by the invariant, and is writable; they are memory of
            // this process that nobody writes.
            unsafe { memory::write(to.as_ptr(), self.bytes.as_ptr(), self.bytes.len()) };
        }
        #[cfg(loom)]
        {
            let to = words.offset() + place;
            let memory = self.cells.memory.memory();
            // SAFETY: as many as there are.
            unsafe { memory.write(to, self.bytes.as_ptr(), self.bytes.len()) };
        }
    }
}

impl<const WORDS: usize, M> fmt::Debug for Cells<WORDS, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cells")
            .field("room", &self.room)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::Ordering;

    const ROW: Row = Row {
        offset: 16,
        count: 4,
        room: 300,
    };
    const STRIDE: usize = 448;

    #[test]
    fn what_is_put_into_a_cell_is_found_there() {
        let region = Region::heap(16 + 4 * STRIDE);
        let cells: Cells<16> = Cells::new(&region, ROW);
        let shown: Cells<16, View> = Cells::of_view(&region, ROW);
        let mut memory = vec![0; 300 + LINE];
        for number in [0, 3, 5, u64::MAX - 1] {
            let at = ROW.offset + (number % 4) as usize * STRIDE;
            for (length, from) in [0, 1, 64, 256, 257, 300]
                .into_iter()
                .flat_map(|length| (0..LINE).map(move |from| (length, from)))
            {
                let bytes = &mut memory[from..from + length];
                bytes.fill(number as u8 ^ length as u8 ^ from as u8);
                let skew = bytes.as_ptr() as usize % LINE;
                let mut extent = 0;
                let fitting = cells.fit(bytes).unwrap();
                fitting.copy_to(number, |words, of| {
                    words.u64(8).store(number, Ordering::Relaxed);
                    extent = of;
                });
                assert_eq!(region.load_u64(at + 8, Ordering::Relaxed), number);
                let mut found = vec![1];
                let cell = shown.cell(number);
                assert!(cell.append_to(extent, &mut found));
                assert_eq!(found[1..], *bytes);
                let start = if length <= 256 { 16 } else { 64 + skew };
                region.copy_out(at + start, &mut found[1..]).unwrap();
                assert_eq!(found[1..], *bytes);
                assert_eq!(cell.words().load_u64(8, Ordering::Relaxed), number);
            }
        }
        assert!(cells.fit(&[0; 301]).is_none() && cells.fit(&[]).is_some());
    }

    #[test]
    fn an_extent_that_is_none_is_refused_and_no_other_goes_beyond_its_cell() {
        // As long as its cells, with nothing behind them.
        let region = Region::guarded(4 * STRIDE);
        let shown: Cells<16, View> = Cells::of_view(&region, Row { offset: 0, ..ROW });
        let mut found = vec![1];
        for number in 0..4 {
            let cell = shown.cell(number);
            for long in [301, 1 << 40, LENGTH, u64::MAX, 1 << SKEW | 301] {
                assert!(
                    !cell.append_to(long, &mut found) && found == [1],
                    "{long:x}"
                );
            }
            for length in [0, 256, 257, 300] {
                assert!(cell.append_to(63 << SKEW | length, &mut found));
                assert_eq!(found.len() as u64, 1 + length);
                found.truncate(1);
            }
        }
    }

    #[test]
    fn a_cell_is_whole_lines() {
        for (room, lines) in [
            (0, 1),
            (48, 1),
            (49, 2),
            (112, 2),
            (256, 5),
            (257, 6),
            (321, 7),
        ] {
            assert_eq!(stride(16, room), Some(lines * LINE), "{room}");
        }
        assert_eq!(stride(16, LENGTH as usize - 126), None);
        assert_eq!(stride(16, usize::MAX), None);
        assert_eq!(stride(16, usize::MAX - 65), None);
    }

    #[test]
    fn cells_that_are_none_are_refused() {
        let region = Region::heap(16 + 4 * STRIDE);
        let row = |offset, count, room| Row {
            offset,
            count,
            room,
        };
        for bad in [
            row(24, 4, 300),
            row(12, 4, 300),
            row(16, 3, 300),
            row(16, 8, 300),
            row(16, 16, 0),
            row(16, 4, 322),
            row(16, 4, usize::MAX),
            row(16, 1 << 60, 300),
        ] {
            let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                Cells::<16>::new(&region, bad);
            }));
            assert!(made.is_err(), "{bad:?}");
        }
    }
}
