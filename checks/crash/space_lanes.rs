//! Calls that go through a queue's lane, or open or close it, for `space_steps`.

use crate::space_steps::{Plan, begin, queue, receive, remove, send};
use checks::user_space;
use shmem::sync::Ordering;
use sysv::abi::*;
use tombolo::mailbox_lane;
use userspace::Facility;
use userspace::layout::lane_at;

/// A queue whose lane is open, and has messages of these types.
fn open_queue(messages: &[i64]) -> i32 {
    let id = queue(&[]);
    for _ in 0..8 {
        send(id, 1, 40, IPC_NOWAIT);
        receive(id, 0, IPC_NOWAIT).expect("msgrcv");
    }
    let gate = lane_at(0) + mailbox_lane::layout::SENDERS + mailbox_lane::side::GATE;
    let region = user_space::space().arena().region();
    assert_ne!(region.load_u64(gate, Ordering::Relaxed), 0, "it is closed");
    for message_type in messages {
        send(id, *message_type, 40, IPC_NOWAIT);
    }
    id
}

pub fn msgsnd_by_lane() -> Plan {
    let id = open_queue(&[1, 2]);
    Plan::new(begin, move || send(id, 3, 100, 0))
}

pub fn msgrcv_by_lane() -> Plan {
    let id = open_queue(&[1, 2, 1]);
    Plan::new(begin, move || {
        receive(id, 1, 0).expect("msgrcv");
    })
}

/// What stands behind others is found only in the store.
pub fn msgrcv_closes_lane() -> Plan {
    let id = open_queue(&[1, 2]);
    Plan::new(begin, move || {
        receive(id, 2, 0).expect("msgrcv");
    })
}

/// When the store's last message is taken, the lane is opened.
pub fn msgrcv_opens_lane() -> Plan {
    let id = open_queue(&[1, 2]);
    receive(id, 2, 0).expect("msgrcv");
    Plan::new(begin, move || {
        receive(id, 0, 0).expect("msgrcv");
    })
}

/// A queue whose store has a message of type 2, and whose lane is open for a newer one, of type 5.
fn behind_store() -> i32 {
    let id = open_queue(&[2, 3]);
    // From behind the first one, so both go into the store.
    receive(id, 3, 0).expect("msgrcv");
    send(id, 5, 40, IPC_NOWAIT);
    id
}

pub fn msgsnd_behind_store() -> Plan {
    let id = behind_store();
    Plan::new(begin, move || send(id, 6, 100, 0))
}

/// The store's last message is taken while the lane has one.
pub fn msgrcv_before_lane() -> Plan {
    let id = behind_store();
    Plan::new(begin, move || {
        assert_eq!(receive(id, 0, 0).map(|got| got.0), Ok(2));
    })
}

pub fn msg_remove_with_lane() -> Plan {
    let id = open_queue(&[1]);
    Plan::new(begin, move || remove(Facility::Msg, id))
}
