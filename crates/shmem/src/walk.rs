//! A walk along a ring: one record behind the other, each some words and the bytes right behind them.
//!
//! How far one may go is checked when a stretch begins. From then on each record costs one comparison,
//! and where it stands is an addition: no position is masked, and nothing is looked up.

#[cfg(not(loom))]
use crate::memory;
use crate::sync::{AtomicU64, Ordering};
use crate::window::Circle;

/// Bytes of a word.
const WORD: u64 = 8;

/// How long a record is, and the message in it: `HEAD` bytes of whole words, and no more than `MOST` bytes.
///
/// # Invariants
/// `size` is a multiple of eight, from `HEAD + length` on, and `length` no more than `MOST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent<const HEAD: u64, const MOST: usize> {
    size: u64,
    length: usize,
}

impl<const HEAD: u64, const MOST: usize> Extent<HEAD, MOST> {
    /// Of no record: it fits nowhere.
    pub const NONE: Self = Self {
        size: 1 << 62,
        length: 0,
    };

    /// Of the record of a message of `length` bytes, where records begin at multiples of `unit` bytes;
    /// `None` if that is more than `MOST`.
    #[inline(always)]
    pub fn of(length: usize, unit: u64) -> Option<Self> {
        const { assert!(HEAD.is_multiple_of(WORD) && HEAD >= WORD && HEAD <= 64 && MOST <= 1 << 48) };
        let fits = length <= MOST && unit.is_power_of_two() && (WORD..=1 << 48).contains(&unit);
        // INVARIANT: rounded up to a multiple of eight, and no overflow.
        fits.then(|| Self {
            size: (HEAD + length as u64 + unit - 1) & !(unit - 1),
            length,
        })
    }

    /// Bytes of the record.
    #[inline(always)]
    pub fn size(self) -> u64 {
        self.size
    }

    /// Bytes of the message.
    #[inline(always)]
    pub fn length(self) -> usize {
        self.length
    }
}

/// Where one is in a ring, and how far one may go without looking.
///
/// # Invariants
/// `position` is a multiple of eight and no more than `end`, and the ring does not end between them. The
/// byte of each position between them stands at `lap + position`.
#[derive(Clone, Debug)]
pub struct Walk {
    circle: Circle,
    position: u64,
    end: u64,
    #[cfg(not(loom))]
    lap: Lap,
}

/// Where the byte of position 0 would stand, if this lap had begun there.
#[cfg(not(loom))]
#[derive(Clone, Copy, Debug)]
struct Lap(*mut u8);

// SAFETY: an address and no more; what may be done with it is told in `Walk`.
#[cfg(not(loom))]
unsafe impl Send for Lap {}
// SAFETY: as for `Send`.
#[cfg(not(loom))]
unsafe impl Sync for Lap {}

impl Walk {
    /// At position 0 of a ring; a stretch of nothing.
    pub fn new(circle: Circle) -> Self {
        // INVARIANT: nothing is between them.
        Self {
            #[cfg(not(loom))]
            lap: Lap(circle.start()),
            circle,
            position: 0,
            end: 0,
        }
    }

    /// The words of the ring.
    #[inline(always)]
    pub fn circle(&self) -> &Circle {
        &self.circle
    }

    /// Where one is.
    #[inline(always)]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Goes to a position, rounded down to a multiple of eight. A stretch of nothing begins there.
    #[inline(always)]
    pub fn go_to(&mut self, position: u64) {
        // INVARIANT: nothing is between them.
        self.position = position & !(WORD - 1);
        self.end = self.position;
    }

    /// Begins a stretch here, of so many bytes, or up to the ring's end.
    #[inline]
    pub fn begin(&mut self, most: u64) {
        let left = self.circle.left_behind(self.position);
        #[cfg(not(loom))]
        {
            let at = self.circle.capacity() - left;
            let here = self.circle.start().wrapping_add(at as usize);
            self.lap = Lap(here.wrapping_sub(self.position as usize));
        }
        // INVARIANT: no further than the ring's end; `lap` as just computed.
        self.end = self.position.saturating_add(most.min(left));
    }

    /// The record of that extent here, if it is all inside the stretch.
    #[inline(always)]
    pub fn ahead<const HEAD: u64, const MOST: usize>(
        &mut self,
        extent: Extent<HEAD, MOST>,
    ) -> Option<Ahead<'_, HEAD, MOST>> {
        // INVARIANT: as just checked.
        (extent.size <= self.end - self.position).then_some(Ahead { walk: self, extent })
    }

    /// Whether the record of that extent is all inside the stretch, and the word behind it.
    #[inline(always)]
    fn has_room<const HEAD: u64, const MOST: usize>(&self, extent: Extent<HEAD, MOST>) -> bool {
        // No overflow: an extent is too short for that.
        extent.size + WORD <= self.end - self.position
    }

    /// Whether there is room for a message of so many bytes: see [`write`](Self::write).
    #[inline(always)]
    pub fn has_room_for<const HEAD: u64, const MOST: usize>(
        &self,
        length: usize,
        unit: u64,
    ) -> bool {
        let extent = Extent::<HEAD, MOST>::of(length, unit);
        extent.is_some_and(|extent| self.has_room(extent))
    }

    /// Writes a message where it stands in a record here, if that is all inside the stretch, and the word
    /// behind it: its extent is as [`Extent::of`] has it. That word, where the next record begins, is zero
    /// then. What stands before the message is for the caller.
    ///
    /// It is written from its end on, so that what stands on the record's first line is stored in a row. A
    /// reader looks at that line all the time, and takes it away whenever another line is to be waited for in
    /// between (measured with processors far apart, records of two lines: 64 B one way 200 to 210 ns instead of
    /// 240 to 500, a stream nearly twice as fast).
    #[inline(always)]
    pub fn write<const HEAD: u64, const MOST: usize>(
        &mut self,
        message: &[u8],
        unit: u64,
    ) -> Option<Ahead<'_, HEAD, MOST>> {
        let extent = Extent::<HEAD, MOST>::of(message.len(), unit)?;
        if !self.has_room(extent) {
            return None;
        }
        // SAFETY: inside the stretch, as just checked, and a multiple of eight.
        let next = unsafe { self.word(extent.size) };
        // Relaxed: whoever publishes the record publishes this too.
        next.store(0, Ordering::Relaxed);
        self.fill(message, unit)
    }

    /// The same without the word behind it, which need not be inside the stretch and stays as it is.
    #[inline(always)]
    pub fn fill<const HEAD: u64, const MOST: usize>(
        &mut self,
        message: &[u8],
        unit: u64,
    ) -> Option<Ahead<'_, HEAD, MOST>> {
        let ahead = self.ahead(Extent::of(message.len(), unit)?)?;
        #[cfg(not(loom))]
        {
            let to = ahead.walk.at(HEAD);
            // SAFETY: inside the record, which is inside a region that is writable; `message` is memory
            // of this process that nobody writes.
            unsafe { memory::write(to, message.as_ptr(), message.len()) };
        }
        #[cfg(loom)]
        {
            let walk = &*ahead.walk;
            walk.circle.copy_in(walk.position + HEAD, message);
        }
        Some(ahead)
    }

    /// The word at so many bytes from here.
    ///
    /// # Safety
    /// A multiple of eight, and inside the stretch.
    #[inline(always)]
    unsafe fn word(&self, offset: u64) -> &AtomicU64 {
        #[cfg(not(loom))]
        {
            // SAFETY: in the ring, by the invariant and the caller's promise, and aligned, as the ring
            // begins at a multiple of eight; alive as long as `self`; only atomics reach words.
            unsafe { AtomicU64::from_ptr(self.at(offset).cast()) }
        }
        #[cfg(loom)]
        self.circle.word(self.position + offset)
    }

    #[cfg(not(loom))]
    #[inline(always)]
    fn at(&self, offset: u64) -> *mut u8 {
        self.lap.0.wrapping_add((self.position + offset) as usize)
    }
}

/// A record inside the stretch, where one is.
///
/// # Invariants
/// All of it is inside.
#[derive(Debug)]
pub struct Ahead<'a, const HEAD: u64, const MOST: usize> {
    walk: &'a mut Walk,
    extent: Extent<HEAD, MOST>,
}

impl<'a, const HEAD: u64, const MOST: usize> Ahead<'a, HEAD, MOST> {
    /// The word at so many bytes of it, one of its head.
    ///
    /// # Panics
    /// If it is none; at compile time, nearly, because `at` is a constant.
    #[inline(always)]
    pub fn word(&self, at: u64) -> &AtomicU64 {
        assert!(at.is_multiple_of(WORD) && at < HEAD);
        // SAFETY: a word of the record, by the invariant.
        unsafe { self.walk.word(at) }
    }

    /// Makes its message what a buffer has, later, all checks made now: `None` if that has no room for it.
    #[inline(always)]
    pub fn replacing<'b>(self, to: &'b mut Vec<u8>) -> Option<Replacing<'a, 'b, HEAD, MOST>> {
        let length = self.extent.length;
        // INVARIANT: as just checked, and inside the record.
        (length <= to.capacity()).then(|| Replacing {
            #[cfg(not(loom))]
            from: self.walk.at(HEAD),
            #[cfg(not(loom))]
            place: to.as_mut_ptr(),
            length,
            end: self.walk.position + self.extent.size,
            ahead: self,
            to,
        })
    }

    /// Goes behind it; answers where that is.
    #[inline(always)]
    pub fn pass(self) -> u64 {
        // INVARIANT: it is inside the stretch.
        self.walk.position += self.extent.size;
        self.walk.position
    }
}

/// A message that is still to be copied into a buffer, instead of what that has.
///
/// What it takes is kept here, and not only where it comes from: that would be loaded again behind each
/// fence.
///
/// # Invariants
/// From `from` on there are `length` bytes, `MOST` at most, all inside the record, which ends at `end`; `place`
/// is where the buffer has room for as many.
#[derive(Debug)]
pub struct Replacing<'a, 'b, const HEAD: u64, const MOST: usize> {
    ahead: Ahead<'a, HEAD, MOST>,
    to: &'b mut Vec<u8>,
    #[cfg(not(loom))]
    from: *const u8,
    #[cfg(not(loom))]
    place: *mut u8,
    length: usize,
    end: u64,
}

impl<'a, const HEAD: u64, const MOST: usize> Replacing<'a, '_, HEAD, MOST> {
    /// Its record.
    #[inline(always)]
    pub fn ahead(&self) -> &Ahead<'a, HEAD, MOST> {
        &self.ahead
    }

    /// Copies it. A peer that writes meanwhile leaves a mixture.
    #[cfg(loom)]
    pub fn replace(&mut self) {
        let walk = &*self.ahead.walk;
        self.to.resize(self.length, 0);
        walk.circle.copy_out(walk.position + HEAD, self.to);
    }

    /// Copies it. A peer that writes meanwhile leaves a mixture.
    #[cfg(not(loom))]
    #[inline(always)]
    pub fn replace(&mut self) {
        // SAFETY: by the invariant. The way of longer ones is not even compiled.
        unsafe { std::hint::assert_unchecked(self.length <= MOST) };
        // SAFETY: inside the record, and there is room, by the invariants; the buffer is memory of this
        // process, and exclusively borrowed.
        unsafe { memory::read(self.from, self.place, self.length) };
        // SAFETY: there is room, and the bytes were just written.
        unsafe { self.to.set_len(self.length) };
    }

    /// Goes behind the record; answers where that is.
    #[inline(always)]
    pub fn pass(self) -> u64 {
        // INVARIANT: the record is inside the stretch.
        self.ahead.walk.position = self.end;
        self.end
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::region::Region;

    fn walk(position: u64) -> Walk {
        let region = Region::heap(8 + 64);
        let mut walk = Walk::new(Circle::new(&region, 8, 64));
        walk.go_to(position);
        walk
    }

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        for position in [0, 8, 64, 1 << 40, u64::MAX - 63] {
            let extent = Extent::<8, 64>::of(11, 8).unwrap();
            assert_eq!((extent.size(), extent.length()), (24, 11));
            let mut walk = walk(position);
            walk.begin(100);
            assert!(walk.write::<8, 10>(b"hello there", 8).is_none());
            assert!(walk.has_room_for::<8, 64>(11, 8));
            let next = walk.circle().word(position.wrapping_add(24));
            next.store(9, Ordering::Relaxed);
            let written = walk.write::<8, 64>(b"hello there", 8).unwrap();
            written.word(0).store(7, Ordering::Relaxed);
            assert_eq!(written.pass(), position + 24);
            let next = walk.circle().word(position + 24);
            assert_eq!(next.load(Ordering::Relaxed), 0);
            assert!(walk.ahead(Extent::<8, 64>::NONE).is_none());
            assert!(!walk.has_room(Extent::<8, 64>::NONE));
            walk.go_to(position);
            assert!(walk.ahead(extent).is_none());
            walk.begin(24);
            assert!(!walk.has_room_for::<8, 64>(11, 8));
            let ahead = walk.ahead(extent).unwrap();
            assert_eq!(ahead.word(0).load(Ordering::Relaxed), 7);
            assert!(ahead.replacing(&mut Vec::with_capacity(10)).is_none());
            let mut to = b"something else".to_vec();
            let mut message = walk.ahead(extent).unwrap().replacing(&mut to).unwrap();
            message.replace();
            assert_eq!(message.ahead().word(0).load(Ordering::Relaxed), 7);
            let end = message.pass();
            assert_eq!((end, walk.position()), (position + 24, end));
            assert_eq!(to, b"hello there");
            assert!(walk.ahead(Extent::<8, 0>::of(0, 8).unwrap()).is_none());
        }
    }

    #[test]
    fn what_is_filled_in_leaves_the_word_behind_it() {
        let mut walk = walk(0);
        // Room for the record, and none for the word behind it.
        walk.begin(24);
        assert!(walk.write::<8, 64>(b"hello there", 8).is_none());
        let next = |walk: &Walk| walk.circle().word(24).load(Ordering::Relaxed);
        walk.circle().word(24).store(9, Ordering::Relaxed);
        assert!(walk.fill::<8, 10>(b"hello there", 8).is_none());
        let filled = walk.fill::<8, 64>(b"hello there", 8).unwrap();
        assert_eq!((filled.pass(), next(&walk)), (24, 9));
        assert!(walk.fill::<8, 64>(b"", 8).is_none());
        walk.go_to(0);
        walk.begin(24);
        let extent = Extent::<8, 64>::of(11, 8).unwrap();
        let mut to = Vec::with_capacity(11);
        walk.ahead(extent)
            .unwrap()
            .replacing(&mut to)
            .unwrap()
            .replace();
        assert_eq!(to, b"hello there");
    }

    #[test]
    fn a_stretch_ends_with_the_ring() {
        let extent = Extent::<8, 8>::of(8, 8).unwrap();
        for (position, records) in [
            (0, 4),
            (40, 1),
            (64 + 48, 1),
            (63, 0),
            (1 << 63, 4),
            (u64::MAX, 0),
        ] {
            let mut walk = walk(position);
            walk.begin(u64::MAX);
            let mut count = 0;
            while let Some(ahead) = walk.ahead(extent) {
                ahead.pass();
                count += 1;
            }
            assert_eq!(count, records, "{position}");
        }
        assert_eq!(Extent::<8, 8>::of(9, 8), None);
        assert_eq!(Extent::<8, 8>::of(usize::MAX, 8), None);
    }
}
