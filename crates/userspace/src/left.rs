//! Calls that were left by a jump.
//!
//! A signal handler that interrupts a sleeping call may never return to it: `siglongjmp` is the
//! classic way to a time-out. The call's block would stay in the lists, and what is handed to it
//! would be lost. So each thread notes which of its calls sleep (several, if handlers make calls)
//! and where on the stack; who sees a jump says where it leads, and the calls whose frames lie below
//! are forgotten.
//!
//! **Limits.** Who leaves a call otherwise (`swapcontext`, an exception) is not seen. Deeper than
//! [`DEEPEST`] nested calls are not noted.

use crate::layout::Facility;
use crate::msg_wait::Sleeper;
use crate::space::Space;
use std::cell::Cell;

/// Handlers within handlers that sleep in calls.
const DEEPEST: usize = 8;

/// A call that sleeps.
#[derive(Clone, Copy)]
struct Call {
    kind: Facility,
    node: usize,
    /// Of the process: a child that is forked in a handler has the note, but not the call.
    identity: u64,
    /// An address in its frame.
    frame: usize,
}

struct Asleep {
    count: Cell<usize>,
    calls: [Cell<Option<Call>>; DEEPEST],
}

thread_local! {
    static ASLEEP: Asleep = const {
        Asleep {
            count: Cell::new(0),
            calls: [const { Cell::new(None) }; DEEPEST],
        }
    };
}

/// A call sleeps until this is dropped.
pub(crate) struct Noted(());

/// Notes that a call of this thread sleeps.
pub(crate) fn note(kind: Facility, node: usize, identity: u64) -> Noted {
    let here = 0u8;
    let call = Call {
        kind,
        node,
        identity,
        frame: (&raw const here).addr(),
    };
    ASLEEP.with(|asleep| {
        let count = asleep.count.get();
        if let Some(place) = asleep.calls.get(count) {
            place.set(Some(call));
        }
        asleep.count.set(count + 1);
    });
    Noted(())
}

impl Drop for Noted {
    fn drop(&mut self) {
        ASLEEP.with(|asleep| asleep.count.set(asleep.count.get().saturating_sub(1)));
    }
}

impl Space {
    /// Whether calls of this thread sleep: in a handler that has interrupted them.
    pub fn is_asleep_here(&self) -> bool {
        ASLEEP.with(|asleep| asleep.count.get() > 0)
    }

    /// To be called before a jump to a frame at that address: forgets the calls of this thread that
    /// it leaves, which are those below.
    pub fn leave_calls_below(&self, frame: usize) {
        ASLEEP.with(|asleep| {
            while let Some(last) = asleep.count.get().checked_sub(1) {
                let Some(place) = asleep.calls.get(last) else {
                    asleep.count.set(last);
                    continue;
                };
                match place.get() {
                    Some(call) if call.frame >= frame => return,
                    call => {
                        asleep.count.set(last);
                        if let Some(call) = call {
                            self.forget(call);
                        }
                    }
                }
            }
        });
    }

    fn forget(&self, call: Call) {
        if call.identity != self.mine.load() {
            return;
        }
        // What fails here is found when the process has ended.
        let Ok(mut inside) = self.enter(call.kind) else {
            return;
        };
        let tx = &mut inside.tx;
        let done = match call.kind {
            Facility::Msg => Sleeper::get_up(tx, call.node),
            Facility::Sem => crate::sem::get_up(tx, call.node),
            Facility::Shm => Ok(()),
        };
        if done.is_ok() {
            inside.finish();
        }
    }
}
