//! What a `topic` does about slow subscribers, and where a subscriber starts.

/// What a topic does about subscribers that are slower than its publishers. Fixed at creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum Policy {
    /// Publishing waits for the slowest subscriber that is alive: nobody loses anything. Whoever
    /// subscribes needs to write, and can hold the publishers up.
    WaitForSlowest = 1,
    /// Publishing never waits. A subscriber that was lapped is told how many messages it lost, and
    /// goes on with whole ones. Reading is enough to subscribe.
    #[default]
    Overrun = 2,
}

impl Policy {
    /// The policy with that number.
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        [Self::WaitForSlowest, Self::Overrun]
            .into_iter()
            .find(|policy| *policy as u32 == number)
    }
}

/// Where a subscriber starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With what is published from now on.
    #[default]
    Now,
    /// With the last so many messages of each publisher's lane, as far as they are still there.
    /// Publishers that left hand their lane to the next, with its history.
    Last(u64),
    /// With the oldest messages that are still there.
    Oldest,
}
