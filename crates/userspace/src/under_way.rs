//! The traced call that a thread is in, so that it can be recorded before it goes to sleep.
//!
//! ```text
//!   begin ──► (falls asleep: record "asleep", once) ──► end: record "whole", or "awake"
//! ```
//!
//! Only a call that does sleep is recorded twice; one that is served at once, or by a moment's
//! looking, costs a thread-local store more. A signal handler's calls stand before those that it
//! has interrupted: who begins keeps what was there, and puts it back at the end.
//!
//! **Limits.** A call that is left by a jump is never seen to end.

use crate::trace::{Phase, Record, Writer};
use std::cell::Cell;

/// A call as far as it is known before it is over.
#[derive(Clone, Copy, Debug)]
pub struct UnderWay {
    /// Where it is recorded.
    pub writer: &'static Writer,
    /// The process that makes it.
    pub pid: u32,
    /// What is recorded if it goes to sleep.
    pub record: Record,
}

thread_local! {
    static CALL: Cell<Option<UnderWay>> = const { Cell::new(None) };
}

/// A traced call begins; answers the one that it interrupts.
pub fn begin(call: UnderWay) -> Option<UnderWay> {
    CALL.replace(Some(call))
}

/// It is over; answers whether it was recorded as asleep.
pub fn end(interrupted: Option<UnderWay>) -> bool {
    let call = CALL.replace(interrupted);
    call.is_some_and(|call| call.record.phase == Phase::Asleep)
}

/// The thread's call is about to sleep.
pub(crate) fn sleeps() {
    let Some(mut call) = CALL.get() else { return };
    if call.record.phase == Phase::Asleep {
        return;
    }
    call.record.phase = Phase::Asleep;
    CALL.set(Some(call));
    call.writer.record(call.pid, &call.record);
}
