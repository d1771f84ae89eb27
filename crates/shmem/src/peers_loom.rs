//! [`Peers`] for loom: nobody has a pulse, and the model says who is dead.

use crate::presence::Identity;
use crate::region::View;
use crate::wait::futex_wait;
use std::time::Duration;

/// Who is dead.
#[derive(Debug)]
pub struct Peers {
    judge: fn(u64) -> bool,
}

impl Peers {
    pub(crate) fn new(judge: fn(u64) -> bool) -> Self {
        Self { judge }
    }

    /// In a model nobody is killed.
    pub fn watch(&mut self, _identity: u64, _pulse: u32) {}

    /// What the model says.
    pub fn is_dead(&mut self, identity: u64) -> bool {
        (self.judge)(identity)
    }

    pub(crate) fn clear(&mut self) {}

    pub(crate) fn begin(&mut self) {}

    pub(crate) fn sleep(&mut self, view: &View, offset: usize, expected: u32, most: Duration) {
        futex_wait(view, offset, expected, most);
    }
}

/// As presence has it.
pub(crate) fn by_presence(identity: u64) -> bool {
    Identity::from_word(identity).is_none_or(|process| matches!(process.is_alive(), Ok(false)))
}
