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
//! from two: a put of 1 KiB took 9.4 ns, from places of all kinds in turn, and takes 7.3.
//! Bytes from elsewhere than they were before are elsewhere in the cell, so their [`Extent`] says where.

use crate::copy::{self, SHORT};
use crate::layout::fnv;
#[cfg(not(loom))]
use crate::memory;
use crate::region::{Region, View};
use crate::window::Words;
use std::fmt;
#[cfg(not(loom))]
use std::ptr::NonNull;

/// A cache line. What does not stand right behind the words begins on the second one of a cell.
const LINE: usize = 64;

/// So many bytes stand right behind the words.
const NEAR: usize = 256;

/// Most cells in a row.
const MOST: usize = 8;

/// Bytes of a cell with room for so many behind `words` bytes of words: whole lines. `None` if no
/// memory has so many.
pub const fn stride(words: usize, room: usize) -> Option<usize> {
    // The line with the words, and the longest skew.
    let before = if room <= NEAR { words } else { 2 * LINE - 1 };
    match room.checked_add(before) {
        Some(all) if all as u64 <= Extent::LENGTH => all.checked_next_multiple_of(LINE),
        _ => None,
    }
}

/// Mixes into a hash how cells with `words` bytes of words are laid out.
pub const fn layout_hash(seed: u64, words: usize) -> u64 {
    let mut hash = seed;
    let rooms = [
        NEAR,
        NEAR + 1,
        NEAR + LINE,
        NEAR + LINE + 1,
        NEAR + LINE + 2,
    ];
    let mut i = 0;
    while i < rooms.len() {
        let stride = stride(words, rooms[i]).expect("a short one");
        hash = fnv(hash, &(stride as u64).to_le_bytes());
        i += 1;
    }
    let numbers = [NEAR as u64, LINE as u64, Extent::SKEW as u64];
    let mut i = 0;
    while i < numbers.len() {
        hash = fnv(hash, &numbers[i].to_le_bytes());
        i += 1;
    }
    hash
}

/// How many bytes are in a cell, and where: a word that stands in memory with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent(pub u64);

impl Extent {
    /// From which bit on the skew stands.
    const SKEW: u32 = u64::BITS - LINE.trailing_zeros();
    /// The bits below it: the length.
    const LENGTH: u64 = (1 << Self::SKEW) - 1;

    /// Of bytes that are few, and stand right behind the words.
    #[inline(always)]
    fn near(length: usize) -> Self {
        Self(length as u64)
    }

    /// Of others, which lie as those do that they are copied from.
    #[inline(always)]
    fn far(bytes: &[u8]) -> Self {
        // Addresses are others in each run, and a model's runs are to be alike.
        let address = if cfg!(loom) { 0 } else { bytes.as_ptr().addr() };
        Self(((address % LINE) as u64) << Self::SKEW | bytes.len() as u64)
    }

    /// How many bytes there are.
    #[inline(always)]
    pub fn length(self) -> u64 {
        self.0 & Self::LENGTH
    }

    /// Where they begin in a cell with `words` bytes of words: with a length that there is room for, no further
    /// than that they end with the cell, as [`stride`] has it.
    #[inline(always)]
    fn place(self, words: usize) -> usize {
        if self.length() <= NEAR as u64 {
            words
        } else {
            // The skew is less than a line.
            LINE + (self.0 >> Self::SKEW) as usize
        }
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
    /// No more than that, and than [`SHORT`].
    short: usize,
    /// Whether that many are moved 32 at once.
    #[cfg_attr(
        loom,
        expect(dead_code, reason = "bytes of a model are moved one by one")
    )]
    wide: bool,
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
    /// Where the first begins. On a line, or what is far from its words is not skewed as it is meant to be.
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
            short: room.min(SHORT),
            wide: copy::is_wide(),
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

    /// The same for a few bytes, with which less is to be asked; `None` if they are more than [`SHORT`] as well.
    #[inline(always)]
    pub fn fit_short<'a>(&'a self, bytes: &'a [u8]) -> Option<Fitting<'a, WORDS, true>> {
        // INVARIANT: as just checked: `short` is no more than `room`, and than `SHORT`.
        (bytes.len() <= self.short).then_some(Fitting { cells: self, bytes })
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

    /// Makes the bytes of an extent what `to` has, without clearing its memory first; false, and that stays as it
    /// is, if there is not room for so many in a cell. The extent may be any, of a peer's choice.
    ///
    /// A peer that writes them meanwhile leaves a mixture of old and new.
    #[inline(always)]
    pub fn replace(&self, extent: Extent, to: &mut Vec<u8>) -> bool {
        let length = extent.length();
        if length > self.room as u64 {
            return false;
        }
        let length = length as usize;
        // `reserve` counts from the length, which the caller may just have stored: its load would wait for that.
        if to.capacity() < length {
            to.clear();
            to.reserve(length);
        }
        let room = to.as_mut_ptr();
        let place = extent.place(WORDS);
        #[cfg(not(loom))]
        {
            // SAFETY: inside the cell, by the invariant: with this length it is no further than `stride` has it.
            let from = unsafe { self.words.base().add(place) };
            // SAFETY: from there on the cell has so many bytes, as it has room for them, and `to` has room, after
            // `reserve` if need be; that is exclusive memory of this process.
            unsafe { memory::read(from.as_ptr(), room, length) };
        }
        #[cfg(loom)]
        {
            let from = self.words.offset() + place;
            let memory = self.words.memory().as_ref().memory();
            // SAFETY: there is room for `length` bytes, after `reserve` if need be.
            unsafe { memory.read(from, room, length) };
        }
        // SAFETY: there is room, and the bytes were just written.
        unsafe { to.set_len(length) };
        true
    }
}

/// Bytes that any of the cells has room for; if `FEW`, no more than [`SHORT`].
///
/// # Invariants
/// They are no more than that.
#[derive(Clone, Copy, Debug)]
pub struct Fitting<'a, const WORDS: usize, const FEW: bool = false> {
    cells: &'a Cells<WORDS>,
    bytes: &'a [u8],
}

impl<'a, const WORDS: usize, const FEW: bool> Fitting<'a, WORDS, FEW> {
    /// Copies them into the cell of a number, after something that the caller has to do there with their
    /// extent.
    #[inline(always)]
    pub fn copy_to(self, number: u64, before: impl FnOnce(Words<'a, WORDS>, Extent)) {
        const { assert!(SHORT <= NEAR) };
        let words = self.cells.cell(number).words;
        // Apart, so that few bytes don't wait for their place: a put of 8 takes 1.8 ns instead of 1.9.
        if FEW || self.bytes.len() <= NEAR {
            let extent = Extent::near(self.bytes.len());
            before(words, extent);
            self.write(words, WORDS);
        } else {
            let extent = Extent::far(self.bytes);
            before(words, extent);
            self.write(words, extent.place(WORDS));
        }
    }

    /// `words` are a cell's, and `place` is that of their extent.
    #[inline(always)]
    fn write(self, words: Words<'a, WORDS>, place: usize) {
        #[cfg(not(loom))]
        {
            let (from, length) = (self.bytes.as_ptr(), self.bytes.len());
            // SAFETY: inside the cell: with their length, which it has room for by the invariant, it is no further
            // than `stride` has it.
            let to = unsafe { words.base().add(place) }.as_ptr();
            if FEW {
                // SAFETY: as below, they are no more by the invariant, and `wide` is what the copy answered.
                unsafe { memory::write_short(to, from, length, self.cells.wide) };
            } else {
                // SAFETY: from there on the cell has so many bytes, and is writable; they are memory of this
                // process that nobody writes.
                unsafe { memory::write(to, from, length) };
            }
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

    /// Between forbidden pages, where there are such.
    fn fuzzing_region(length: usize) -> Region {
        if cfg!(miri) {
            Region::heap(length)
        } else {
            Region::guarded(length)
        }
    }

    #[test]
    fn what_is_put_into_a_cell_is_found_there() {
        let region = Region::heap(16 + 4 * STRIDE);
        let cells: Cells<16> = Cells::new(&region, ROW);
        let shown: Cells<16, View> = Cells::of_view(&region, ROW);
        let mut memory = vec![0; 300 + LINE];
        for number in [0, 3, 5, u64::MAX - 1] {
            let at = ROW.offset + (number % 4) as usize * STRIDE;
            for (length, from) in [0, 1, 33, 64, 65, 256, 257, 300]
                .into_iter()
                .flat_map(|length| (0..LINE).map(move |from| (length, from)))
            {
                let bytes = &mut memory[from..from + length];
                bytes.fill(number as u8 ^ length as u8 ^ from as u8);
                let skew = bytes.as_ptr() as usize % LINE;
                let mut extent = Extent(0);
                let mut note = |words: Words<'_, 16>, of| {
                    words.u64(8).store(number, Ordering::Relaxed);
                    extent = of;
                };
                match cells.fit_short(bytes) {
                    Some(few) if from % 2 == 0 => few.copy_to(number, &mut note),
                    few => {
                        assert_eq!(few.is_some(), length <= SHORT);
                        cells.fit(bytes).unwrap().copy_to(number, &mut note);
                    }
                }
                assert_eq!(region.load_u64(at + 8, Ordering::Relaxed), number);
                let cell = shown.cell(number);
                for mut found in [vec![], vec![1], vec![2; length + 1]] {
                    assert!(cell.replace(extent, &mut found));
                    assert_eq!(found, *bytes);
                    let start = if length <= 256 { 16 } else { 64 + skew };
                    region.copy_out(at + start, &mut found).unwrap();
                    assert_eq!(found, *bytes);
                }
                assert_eq!(cell.words().load_u64(8, Ordering::Relaxed), number);
            }
        }
        assert!(cells.fit(&[0; 301]).is_none() && cells.fit(&[]).is_some());
        let row = Row { room: 48, ..ROW };
        let small: Cells<16> = Cells::new(&region, row);
        assert!(small.fit_short(&[0; 49]).is_none() && small.fit_short(&[0; 48]).is_some());
    }

    #[test]
    fn an_extent_that_is_none_is_refused_and_no_other_goes_beyond_its_cell() {
        // As long as its cells, with nothing behind them, and the longest ends with its cell.
        let region = fuzzing_region(4 * STRIDE);
        let row = Row {
            offset: 0,
            room: 321,
            ..ROW
        };
        let shown: Cells<16, View> = Cells::of_view(&region, row);
        let skew = |skew: u64, length| Extent(skew << Extent::SKEW | length);
        let mut found = vec![1];
        for number in 0..4 {
            let cell = shown.cell(number);
            for long in [
                Extent(322),
                Extent(1 << 40),
                Extent(Extent::LENGTH),
                Extent(u64::MAX),
                skew(1, 322),
                skew(63, 322),
            ] {
                assert!(!cell.replace(long, &mut found) && found == [1], "{long:?}");
            }
            for length in [0, 256, 257, 321] {
                assert!(cell.replace(skew(63, length), &mut found));
                assert_eq!(found.len() as u64, length);
                found = vec![1];
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
        assert_eq!(stride(16, Extent::LENGTH as usize - 126), None);
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
