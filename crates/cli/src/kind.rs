//! The three kinds of System V objects.

use std::fmt;

/// A kind of object, named on the command line as `ipcs` and the system calls name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Shared memory segments
    Shm,
    /// Message queues
    Msg,
    /// Semaphore sets
    Sem,
}

impl Kind {
    /// Every kind, in the order in which they are listed.
    pub const ALL: [Self; 3] = [Self::Shm, Self::Msg, Self::Sem];

    /// The word of the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Shm => "shm",
            Self::Msg => "msg",
            Self::Sem => "sem",
        }
    }

    /// What an object of this kind is called in a sentence.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Shm => "segment",
            Self::Msg => "message queue",
            Self::Sem => "semaphore set",
        }
    }

    /// The heading above a list of them.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Shm => "Shared memory segments",
            Self::Msg => "Message queues",
            Self::Sem => "Semaphore sets",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.noun())
    }
}
