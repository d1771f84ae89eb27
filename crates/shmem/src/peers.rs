//! The peers of one who waits: whose death must end its sleep, and who is dead.

use crate::presence::Identity;
use std::time::Duration;

/// How soon who waits notices the death of a peer that nothing wakes it for.
const SLICE: Duration = Duration::from_millis(50);

/// Who is watched while one sleeps, and who is dead.
#[derive(Debug)]
pub struct Peers {
    /// Identities and pulses.
    watched: Vec<(u64, u32)>,
    judge: fn(u64) -> bool,
}

impl Peers {
    pub(crate) fn new(judge: fn(u64) -> bool) -> Self {
        let watched = Vec::new();
        Self { watched, judge }
    }

    /// Names a peer whose death must end the sleep: its identity, and the pulse that stands beside
    /// it, as words from the segment. To be called from a look at [`Moment::Parking`]; the list
    /// is empty before each such look.
    ///
    /// [`Moment::Parking`]: crate::wait::Moment::Parking
    pub fn watch(&mut self, identity: u64, pulse: u32) {
        self.watched.push((identity, pulse));
    }

    /// Whether the process that a word from the segment names is dead; so is one that names none.
    /// A system call.
    pub fn is_dead(&mut self, identity: u64) -> bool {
        (self.judge)(identity)
    }

    pub(crate) fn clear(&mut self) {
        self.watched.clear();
    }

    /// How long a sleep may be.
    pub(crate) fn slice(&self) -> Duration {
        if self.watched.is_empty() {
            crate::wait::SLICE
        } else {
            SLICE
        }
    }
}

/// As presence has it. Who can't tell takes nobody for dead.
pub(crate) fn by_presence(identity: u64) -> bool {
    Identity::from_word(identity).is_none_or(|process| matches!(process.is_alive(), Ok(false)))
}
