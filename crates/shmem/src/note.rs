//! A note: a word that a process keeps for itself, and that a child which has it by a fork finds empty.
//!
//! Who does something again and again asks each time whether it is still the process that began it, and whether
//! that is [registered](crate::barrier). A note answers both at once: it is written by a registered process only,
//! and lies in the page that the kernel hands to children zeroed (see `presence`).
//!
//! Which of that page's words are taken is kept outside of it, so a child leaves alone what its parent's notes
//! have: they may be its own as well, by the fork.
//!
//! - `[NOTE_TAKEN]` Who takes a word sees what its last owner stored there, which is 0: released with its bit,
//!   acquired with it. Weaker, a note is not empty at first.

use crate::barrier::Registered;
use crate::presence;
use crate::sync::Ordering;
use std::sync::atomic::AtomicU64;

/// How many words there are for notes, in a page of 4096 bytes.
pub(crate) const NOTES: usize = 256;

/// A bit for each of them that is taken.
static TAKEN: [AtomicU64; NOTES / 64] = [const { AtomicU64::new(0) }; NOTES / 64];

/// What those have that took none.
static EMPTY: AtomicU64 = AtomicU64::new(0);

/// A word of this process alone, empty at first.
#[derive(Debug)]
pub struct Note {
    /// Stored to by the owner only, and not at all if it is [`EMPTY`].
    word: &'static AtomicU64,
    number: Option<usize>,
}

impl Note {
    /// One that stays empty.
    pub fn none() -> Self {
        Self {
            word: &EMPTY,
            number: None,
        }
    }

    /// One that can be written; `None` if this process has 256 of them already, or no memory.
    pub fn take() -> Option<Self> {
        let own = presence::own().ok()?;
        let number = (0..NOTES).find(|number| {
            let (word, bit) = place(*number);
            // [NOTE_TAKEN] acquire.
            word.fetch_or(bit, Ordering::Acquire) & bit == 0
        })?;
        Some(Self {
            word: &own.notes[number],
            number: Some(number),
        })
    }

    /// Whether it can be written.
    pub fn is_taken(&self) -> bool {
        self.number.is_some()
    }

    /// What this process wrote, which is registered then; `None` if it is empty. One load.
    #[inline(always)]
    pub fn read(&self) -> Option<(u64, Registered)> {
        // Relaxed: stored by this thread, or by one that handed this over.
        let word = self.word.load(Ordering::Relaxed);
        (word != 0).then(|| (word, Registered::known()))
    }

    /// Writes a word; 0 empties it.
    ///
    /// # Panics
    /// If it is [none](Self::none).
    pub fn write(&mut self, word: u64, _: Registered) {
        assert!(self.is_taken(), "a note that was not taken");
        // Relaxed: as in `read`.
        self.word.store(word, Ordering::Relaxed);
    }

    /// Empties it.
    pub fn clear(&mut self) {
        if self.is_taken() {
            // Relaxed: as in `read`.
            self.word.store(0, Ordering::Relaxed);
        }
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        self.clear();
        if let Some(number) = self.number {
            let (word, bit) = place(number);
            // [NOTE_TAKEN] release.
            word.fetch_and(!bit, Ordering::Release);
        }
    }
}

fn place(number: usize) -> (&'static AtomicU64, u64) {
    (&TAKEN[number / 64], 1 << (number % 64))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::{Mutex, MutexGuard};

    /// One test at a time: one of them takes all there are.
    fn alone() -> MutexGuard<'static, ()> {
        static TURN: Mutex<()> = Mutex::new(());
        TURN.lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    #[test]
    fn a_note_is_empty_until_it_is_written_and_after() {
        let _turn = alone();
        let none = Note::none();
        assert!(none.read().is_none() && !none.is_taken());
        let mut one = Note::take().unwrap();
        let other = Note::take().unwrap();
        let number = one.number;
        assert!(one.read().is_none());
        one.write(7, Registered::known());
        assert_eq!(one.read().unwrap().0, 7);
        assert!(other.read().is_none());
        one.clear();
        assert!(one.read().is_none());
        one.write(8, Registered::known());
        drop(one);
        let again = Note::take().unwrap();
        assert_eq!(again.number, number);
        assert!(again.read().is_none());
    }

    #[test]
    fn there_are_no_more_than_fit_and_those_given_back_are_taken_again() {
        let _turn = alone();
        let mut all: Vec<_> = std::iter::from_fn(Note::take).collect();
        assert_eq!(all.len(), NOTES);
        let mut numbers: Vec<_> = all.iter().filter_map(|note| note.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), all.len());
        all.truncate(1);
        assert!(Note::take().is_some());
    }

    #[test]
    #[should_panic(expected = "not taken")]
    fn none_is_not_written() {
        Note::none().write(1, Registered::known());
    }

    /// In a child the parent's notes are empty, and what it writes there the parent does not see.
    #[test]
    #[cfg(not(miri))]
    fn a_child_finds_nothing() {
        let _turn = alone();
        let mut note = Note::take().unwrap();
        note.write(7, Registered::known());
        // SAFETY: the child only looks at memory, stores to it, and exits.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            let found = note.read().is_some();
            note.write(8, Registered::known());
            // SAFETY: ends the child, without what the parent has to do at its end.
            unsafe { libc::_exit(i32::from(found)) };
        }
        let mut status = -1;
        // SAFETY: of a child of this process, into a word of this function.
        let waited = unsafe { libc::waitpid(child, &mut status, 0) };
        assert_eq!((waited, status), (child, 0));
        assert_eq!(note.read().unwrap().0, 7);
    }
}
