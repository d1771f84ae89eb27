//! The word that says who takes messages from a lane of a `queue`, or who keeps a `value`.
//!
//! ```text
//! 63                          17  16   15                0
//! ┌─────────────────────────────┬──────┬─────────────────┐
//! │ turn: grows with each change│ kept │ seat + 1        │
//! └─────────────────────────────┴──────┴─────────────────┘
//! ```
//!
//! | seat + 1 | kept | the lane |
//! | --- | --- | --- |
//! | 0 | 0 | is free |
//! | 0 | 1 | counts as free: nobody writes it |
//! | s | 0 | is held by the consumer in seat s while it is busy there |
//! | s | 1 | is kept by that one: it may go in and out without a compare-exchange |
//!
//! The turn makes each word one of its kind, so a compare-exchange from a word that somebody saw
//! long ago fails, whoever has held the lane meanwhile.
//!
//! In a `value` seats are named by how far behind the first they begin, in bytes. Only the holder of the lock
//! changes the word there, and a keeper that is not kept any more has yet to be waited for.

/// A value of TAKER.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hold(u64);

const SEAT: u64 = 0xffff;
const KEPT: u64 = 1 << 16;
const TURN: u64 = 1 << 17;

impl Hold {
    /// What stands in the segment, whatever it is.
    pub fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// What to store.
    pub fn word(self) -> u64 {
        self.0
    }

    /// Who holds the lane; `None` if it is free. A peer's lie may name a seat that there is not.
    pub fn seat(self) -> Option<usize> {
        (self.0 & SEAT).checked_sub(1).map(|seat| seat as usize)
    }

    /// Whether who holds the lane keeps it.
    pub fn is_kept(self) -> bool {
        self.0 & KEPT != 0
    }

    fn next(self, low: u64) -> Self {
        Self((self.0 & !(SEAT | KEPT)).wrapping_add(TURN) | low)
    }

    /// The lane taken by the consumer in `seat`.
    pub fn taken(self, seat: usize, kept: bool) -> Self {
        self.next((seat as u64 + 1) & SEAT | if kept { KEPT } else { 0 })
    }

    /// The same, held only while its holder is busy there.
    pub fn unkept(self) -> Self {
        self.next(self.0 & SEAT)
    }

    /// The lane given back.
    pub fn freed(self) -> Self {
        self.next(0)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn no_word_comes_back() {
        let free = Hold::default();
        let mine = free.taken(1023, true);
        assert_eq!((free.seat(), mine.seat()), (None, Some(1023)));
        assert!(mine.is_kept() && !mine.unkept().is_kept());
        assert_eq!(mine.unkept().seat(), Some(1023));
        assert_eq!(mine.freed().seat(), None);
        let words = [
            free,
            mine,
            mine.unkept(),
            mine.freed(),
            mine.freed().freed(),
        ];
        for (at, word) in words.iter().enumerate() {
            assert!(
                words[..at]
                    .iter()
                    .all(|other| other.0 >> 17 <= word.0 >> 17)
            );
            assert!(!words[..at].contains(word));
        }
        assert_eq!(Hold(u64::MAX).freed().seat(), None);
    }
}
