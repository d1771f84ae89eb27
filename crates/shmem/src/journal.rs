//! Changes that happen whole or not at all, whoever is killed while he makes them.
//!
//! A transaction belongs to the holder of a lock. Before it changes a word of shared memory it
//! notes where the word is and what stood there; to commit is to forget the notes. Whoever
//! inherits the lock from a dead holder finds the notes and puts the old words back, last first.
//!
//! ```text
//!   set(a, 7):   notes[n] = (a, what is in a)    n = n + 1    a = 7
//!   commit:      n = 0
//! ```
//!
//! Bytes that nothing refers to yet (the text of a message, in a block just allocated) need no
//! note.
//!
//! - `[JOURNAL]` Everything a transaction stores, note, count and word, is a release store, so
//!   that they happen in this order. A process that is killed has made some first part of them,
//!   and who inherits the lock sees that part.
//!
//! **Crash.** Killed before the commit: nothing has happened. Killed after it: everything has.
//! Killed while putting back: whoever inherits next puts back the same words again, from the
//! last note on; the notes are forgotten only at the end.
//!
//! **A peer that lies** in the notes makes the next holder change words to what it could have
//! changed them to itself. Offsets outside the region are skipped.
//!
//! **Cost.** Three stores more for each word, no fence.

use crate::region::{Region, View};
use crate::sync::Ordering;
use sysv::{Errno, Result};

/// What stands where in a journal.
pub mod layout {
    crate::layout! {
        "journal", 16;
        COUNT: 8 @ 0, "the holder of the lock [JOURNAL]", "how many notes count; after a crash: what is to be put back";
        NOTES: 8 @ 8, "the holder of the lock [JOURNAL]", "the first note; each is an offset and the old word";
    }
}

const NOTE: usize = 16;

/// Bytes of a journal for so many notes.
pub const fn size(notes: usize) -> usize {
    layout::NOTES + notes * NOTE
}

/// Where a journal is, and how many notes it has room for.
#[derive(Clone, Copy, Debug)]
pub struct Journal {
    /// Bytes from the region's start, a multiple of eight.
    pub offset: usize,
    /// Notes.
    pub room: usize,
}

/// A transaction. Dropped without [`commit`](Self::commit), it puts everything back.
#[derive(Debug)]
pub struct Tx<'a> {
    region: &'a Region,
    journal: Journal,
    count: usize,
}

impl Journal {
    /// Begins a transaction. The caller holds the lock that guards the journal, and has
    /// [recovered](Self::recover) if it inherited the lock.
    #[inline]
    pub fn begin<'a>(&self, region: &'a Region) -> Tx<'a> {
        Tx {
            region,
            journal: *self,
            count: 0,
        }
    }

    /// Puts back what a dead holder had begun.
    pub fn recover(&self, region: &Region) {
        let noted = region.load_u64(self.offset + layout::COUNT, Ordering::Acquire);
        let count = usize::try_from(noted).unwrap_or(usize::MAX).min(self.room);
        drop(Tx {
            region,
            journal: *self,
            count,
        });
    }

    /// What stood in the word at an offset before the changes that are noted now: what recovering
    /// would put back. `None` if it is not noted. For who looks from outside.
    pub fn before(&self, view: &View, offset: usize) -> Option<u64> {
        let word = |at| {
            let mut bytes = [0; 8];
            view.copy_out(at, &mut bytes).ok()?;
            Some(u64::from_ne_bytes(bytes))
        };
        let count = usize::try_from(word(self.offset + layout::COUNT)?).ok()?;
        let notes = (0..count.min(self.room)).map(|note| self.offset + layout::NOTES + note * NOTE);
        // Of several notes of one word the first has what stood there at the beginning.
        let mut mine = notes.filter(|note| word(*note) == Some(offset as u64));
        mine.next().and_then(|note| word(note + 8))
    }
}

impl<'a> Tx<'a> {
    /// One that can change nothing, for who reads and holds no lock: it has no room for a note.
    #[inline]
    pub fn read_only(region: &'a Region) -> Self {
        let journal = Journal { offset: 0, room: 0 };
        journal.begin(region)
    }

    /// The region that it changes.
    pub fn region(&self) -> &'a Region {
        self.region
    }

    /// The word at an offset.
    ///
    /// # Errors
    /// `EUCLEAN` if there is none: a peer has written nonsense.
    #[inline]
    pub fn get(&self, offset: usize) -> Result<u64> {
        get(self.region, offset)
    }

    /// [`get`](Self::get) of a word that is used as an offset or a count.
    ///
    /// # Errors
    /// `EUCLEAN`, also if it is larger than the region.
    #[inline]
    pub fn get_at(&self, offset: usize) -> Result<usize> {
        match usize::try_from(self.get(offset)?) {
            Ok(value) if value <= self.region.len() => Ok(value),
            _ => Err(Errno::UCLEAN),
        }
    }

    /// Changes the word at an offset.
    ///
    /// # Errors
    /// `EUCLEAN` if there is none, `ENOMEM` if the journal is full.
    #[inline]
    pub fn set(&mut self, offset: usize, value: u64) -> Result<()> {
        let old = get(self.region, offset)?;
        if old == value {
            return Ok(());
        }
        if self.count == self.journal.room {
            return Err(Errno::NOMEM);
        }
        let note = self.journal.offset + layout::NOTES + self.count * NOTE;
        // [JOURNAL] release, each of the four.
        self.region
            .u64(note)
            .store(offset as u64, Ordering::Release);
        self.region.u64(note + 8).store(old, Ordering::Release);
        self.count += 1;
        self.region
            .u64(self.journal.offset + layout::COUNT)
            .store(self.count as u64, Ordering::Release);
        self.region.u64(offset).store(value, Ordering::Release);
        Ok(())
    }

    /// Adds to the word at an offset, wrapping.
    ///
    /// # Errors
    /// Those of [`set`](Self::set).
    #[inline]
    pub fn add(&mut self, offset: usize, amount: i64) -> Result<()> {
        let value = self.get(offset)?.wrapping_add_signed(amount);
        self.set(offset, value)
    }

    /// Makes the changes so far final. The transaction can go on with others.
    #[inline]
    pub fn commit(&mut self) {
        if self.count > 0 {
            self.count = 0;
            // [JOURNAL] release.
            self.region
                .u64(self.journal.offset + layout::COUNT)
                .store(0, Ordering::Release);
        }
    }

    fn roll_back(&mut self) {
        for note in (0..self.count).rev() {
            let at = self.journal.offset + layout::NOTES + note * NOTE;
            // Relaxed: the lock orders them, and they are this holder's or its dead predecessor's.
            let offset = self.region.load_u64(at, Ordering::Relaxed);
            let old = self.region.load_u64(at + 8, Ordering::Relaxed);
            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
            if is_word(self.region, offset) {
                // [JOURNAL] release.
                self.region.u64(offset).store(old, Ordering::Release);
            }
        }
        self.commit();
    }
}

impl Drop for Tx<'_> {
    fn drop(&mut self) {
        if self.count > 0 {
            self.roll_back();
        }
    }
}

#[inline]
fn is_word(region: &Region, offset: usize) -> bool {
    offset.is_multiple_of(8) && offset.checked_add(8).is_some_and(|end| end <= region.len())
}

/// The word at an offset of a region whose bytes a peer may have damaged.
///
/// # Errors
/// `EUCLEAN` if there is none.
#[inline]
pub fn get(region: &Region, offset: usize) -> Result<u64> {
    if !is_word(region, offset) {
        return Err(Errno::UCLEAN);
    }
    // Relaxed: the lock orders it, or it is a hint.
    Ok(region.load_u64(offset, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOURNAL: Journal = Journal { offset: 0, room: 3 };

    #[test]
    fn what_is_not_committed_has_not_happened() {
        let region = Region::heap(256);
        let mut tx = JOURNAL.begin(&region);
        tx.set(128, 1).unwrap();
        tx.commit();
        tx.set(128, 2).unwrap();
        tx.set(128, 3).unwrap();
        tx.set(136, 4).unwrap();
        assert_eq!(tx.set(144, 5), Err(Errno::NOMEM));
        assert_eq!(tx.get(128), Ok(3));
        drop(tx);
        assert_eq!((get(&region, 128), get(&region, 136)), (Ok(1), Ok(0)));
        let mut tx = Tx::read_only(&region);
        assert_eq!((tx.get(128), tx.set(128, 2)), (Ok(1), Err(Errno::NOMEM)));
    }

    #[test]
    fn the_next_holder_puts_back_what_the_dead_began() {
        let region = Region::heap(256);
        let mut tx = JOURNAL.begin(&region);
        tx.set(128, 1).unwrap();
        tx.set(128, 2).unwrap();
        std::mem::forget(tx);
        assert_eq!(get(&region, 128), Ok(2));
        assert_eq!(JOURNAL.before(&region, 128), Some(0));
        assert_eq!(JOURNAL.before(&region, 136), None);
        JOURNAL.recover(&region);
        assert_eq!(get(&region, 128), Ok(0));
        assert_eq!(get(&region, 0), Ok(0));
        assert_eq!(JOURNAL.before(&region, 128), None);
    }

    #[test]
    fn nonsense_in_the_notes_changes_nothing_else() {
        let region = Region::heap(256);
        region.u64(0).store(u64::MAX, Ordering::Relaxed);
        for (word, value) in [(8, 9), (24, u64::MAX), (40, 1 << 40)] {
            region.u64(word).store(value, Ordering::Relaxed);
        }
        JOURNAL.recover(&region);
        assert_eq!(get(&region, 0), Ok(0));
        assert_eq!(get(&region, 3), Err(Errno::UCLEAN));
        assert_eq!(get(&region, usize::MAX - 7), Err(Errno::UCLEAN));
    }
}
