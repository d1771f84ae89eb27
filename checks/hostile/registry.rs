//! The registry of a name space in user space, each word that is in use set to each value that may
//! hurt. Every call on it ends, with an answer or an error.

use checks::process::child;
use checks::suite::{Case, Outcome, case, is_long};
use checks::user_space::{Folder, enter, space};
use preload::InSpace;
use shmem::sync::Ordering;
use std::ptr;
use std::time::{Duration, Instant};
use sysv::Calls;
use sysv::abi::*;
use tombolo::mailbox_lane;
use userspace::Facility;
use userspace::layout::{facility, lane_at, process_at};

pub const CASES: &[Case] = &[
    case("registry::shm", || every(Facility::Shm)),
    case("registry::msg", || every(Facility::Msg)),
    case("registry::msg_lane", lane),
    case("registry::sem", || every(Facility::Sem)),
];

/// Whoever holds a lock that a liar has named waits for twenty seconds; nothing else waits long.
const BOUND: Duration = Duration::from_secs(10);

fn calls() -> InSpace<'static> {
    InSpace(space())
}

/// Objects of a kind, with something in them.
fn fill(kind: Facility) {
    let calls = calls();
    for key in 1..=3 {
        match kind {
            Facility::Shm => {
                let id = calls.shmget(key, 5000, IPC_CREAT | 0o600).expect("shmget");
                // SAFETY: no address, so nothing is replaced.
                unsafe { calls.shmat(id, ptr::null(), 0) }.expect("shmat");
            }
            Facility::Msg => {
                let id = calls.msgget(key, IPC_CREAT | 0o600).expect("msgget");
                for message_type in [1i64, 2, 1, 5, 5, 9] {
                    let message = [message_type, 7];
                    // SAFETY: a type and eight bytes.
                    let sent = unsafe { calls.msgsnd(id, message.as_ptr().cast(), 8, 0) };
                    sent.expect("msgsnd");
                }
            }
            Facility::Sem => {
                let id = calls.semget(key, 6, IPC_CREAT | 0o600).expect("semget");
                operate(id, 1, SEM_UNDO).expect("semop");
            }
        }
    }
}

fn operate(id: i32, amount: i16, flags: i16) -> sysv::Result<()> {
    let operation = sembuf {
        sem_num: 1,
        sem_op: amount,
        sem_flg: flags | IPC_NOWAIT as i16,
    };
    // SAFETY: one operation.
    unsafe { calls().semop(id, &raw const operation, 1) }
}

/// Every call there is; how many ended with an error.
fn use_all(kind: Facility) -> u32 {
    let calls = calls();
    let mut errors = 0;
    let mut note = |failed: bool| errors += u32::from(failed);
    let mut room = [0u64; 1100];
    let to = room.as_mut_ptr();
    for (key, id) in [(1, 0), (2, 1), (3, 2), (0, 3), (4, 4)] {
        match kind {
            Facility::Shm => {
                note(calls.shmget(key, 100, IPC_CREAT | 0o600).is_err());
                for command in [SHM_STAT_ANY, IPC_STAT, SHM_INFO, IPC_INFO] {
                    // SAFETY: room for any structure.
                    note(unsafe { calls.shmctl(id, command, to.cast()) }.is_err());
                }
                // SAFETY: no address, so nothing is replaced.
                let base = unsafe { calls.shmat(id, ptr::null(), SHM_RDONLY) };
                note(base.is_err());
                if let Ok(base) = base {
                    // SAFETY: nothing in it is used.
                    note(unsafe { calls.shmdt(base) }.is_err());
                }
                // SAFETY: no buffer.
                note(unsafe { calls.shmctl(id, IPC_RMID, ptr::null_mut()) }.is_err());
            }
            Facility::Msg => {
                note(calls.msgget(key, IPC_CREAT | 0o600).is_err());
                for command in [MSG_STAT_ANY, IPC_STAT, MSG_INFO, IPC_INFO] {
                    // SAFETY: room for any structure.
                    note(unsafe { calls.msgctl(id, command, to.cast()) }.is_err());
                }
                let message = [6i64, 1];
                let flags = IPC_NOWAIT;
                // SAFETY: a type and eight bytes.
                note(unsafe { calls.msgsnd(id, message.as_ptr().cast(), 8, flags) }.is_err());
                for (wanted, flags) in
                    [(1, flags), (5, flags | MSG_EXCEPT), (-6, flags), (0, flags)]
                {
                    // SAFETY: room for a type and 8,192 bytes.
                    let got = unsafe { calls.msgrcv(id, to.cast(), 8192, wanted, flags) };
                    note(got.is_err());
                }
                let copy = flags | MSG_COPY;
                // SAFETY: as above.
                note(unsafe { calls.msgrcv(id, to.cast(), 8192, 1, copy) }.is_err());
                // SAFETY: no buffer.
                note(unsafe { calls.msgctl(id, IPC_RMID, ptr::null_mut()) }.is_err());
            }
            Facility::Sem => {
                note(calls.semget(key, 2, IPC_CREAT | 0o600).is_err());
                for command in [SEM_STAT_ANY, IPC_STAT, SEM_INFO, IPC_INFO] {
                    // SAFETY: room for any structure.
                    note(unsafe { calls.semctl(id, 0, command, to as usize) }.is_err());
                }
                for command in [GETVAL, GETPID, GETNCNT, GETZCNT, SETVAL] {
                    // SAFETY: commands that take a number or nothing.
                    note(unsafe { calls.semctl(id, 1, command, 2) }.is_err());
                }
                note(operate(id, -1, SEM_UNDO).is_err());
                note(operate(id, 0, 0).is_err());
                // SAFETY: no buffer.
                note(unsafe { calls.semctl(id, 0, IPC_RMID, 0) }.is_err());
            }
        }
    }
    errors
}

fn word(offset: usize) -> u64 {
    space().arena().region().load_u64(offset, Ordering::Relaxed)
}

fn set_word(offset: usize, value: u64) {
    space()
        .arena()
        .region()
        .u64(offset)
        .store(value, Ordering::Relaxed);
}

/// The words of a kind that are not zero, which is to say in use, and some of the others.
fn words(kind: Facility) -> Vec<usize> {
    let parts = [
        (kind.at(), 16_384),
        (process_at(0), 256),
        (kind.slot(0), 4 * 256),
        (kind.heap().start, 2048),
        (kind.journal().offset, 64),
    ];
    let all = parts
        .into_iter()
        .flat_map(|(start, length)| (start..start + length).step_by(8));
    // The lock is another matter: a peer that says he holds it and lives is believed for a while.
    let lock = kind.at() + facility::LOCK..kind.at() + facility::LOCK + 16;
    let spare = |offset: usize| offset.is_multiple_of(512);
    all.filter(|offset| !lock.contains(offset) && (word(*offset) != 0 || spare(*offset)))
        .collect()
}

/// What comes of all calls in a process of its own.
fn errors(kind: Facility, lie: &str) -> i64 {
    let answers = checks::process::shared_words(1);
    let begun = Instant::now();
    let user = child(|| answers[0].store(use_all(kind).into(), Ordering::Relaxed));
    let status = user.join_status();
    assert!(status.success(), "{lie}: {status}");
    let took = begun.elapsed();
    assert!(took < BOUND, "{lie} took {took:?}");
    answers[0].load(Ordering::Relaxed)
}

fn every(kind: Facility) -> Outcome {
    let folder = Folder::new();
    enter(&folder);
    fill(kind);
    let saved: Vec<(usize, u64)> = all_words(kind)
        .map(|offset| (offset, word(offset)))
        .collect();
    let region = space().arena().region().len() as u64;
    let block = kind.heap().start as u64 + 16;
    let values = [
        0,
        1,
        2,
        7,
        8,
        0xffff,
        8191,
        8192,
        32_768,
        block,
        block + 8,
        block + 4,
        region - 8,
        region,
        1 << 42,
        i64::MAX as u64,
        1 << 63,
        u64::MAX,
    ];
    let restore = || {
        for &(offset, value) in &saved {
            set_word(offset, value);
        }
    };
    // Some calls are refused anyway.
    let usual = errors(kind, "no lie");
    restore();
    let (mut tried, mut failed) = (0, 0);
    for offset in words(kind) {
        for value in values {
            if !is_long() && (offset / 8).wrapping_add(value as usize) % 3 != 0 {
                continue;
            }
            set_word(offset, value);
            tried += 1;
            failed += u32::from(errors(kind, &format!("{offset:#x} = {value:#x}")) != usual);
            restore();
        }
    }
    assert!(failed > 20, "{failed} of {tried}");
    Outcome::Pass(format!("{tried} lies, {failed} noticed"))
}

/// The words of an open lane: three queues that have been through their lanes, and lies in the first.
fn lane() -> Outcome {
    let folder = Folder::new();
    enter(&folder);
    fill(Facility::Msg);
    for id in 0..3 {
        let mut room = [0i64; 8];
        let to = room.as_mut_ptr();
        for _ in 0..6 {
            // SAFETY: room for a type and 56 bytes.
            let got = unsafe { calls().msgrcv(id, to.cast(), 56, 0, IPC_NOWAIT) };
            got.expect("msgrcv");
        }
        for _ in 0..3 {
            // SAFETY: a type and 56 bytes.
            let sent = unsafe { calls().msgsnd(id, to.cast_const().cast(), 56, IPC_NOWAIT) };
            sent.expect("msgsnd");
        }
    }
    let gate = mailbox_lane::side::GATE;
    let parts = [
        (lane_at(0), mailbox_lane::layout::LAYOUT.size + 512),
        (Facility::Msg.slot(0), 256),
    ];
    let places: Vec<usize> = parts
        .into_iter()
        .flat_map(|(start, length)| (start..start + length).step_by(8))
        .collect();
    assert_eq!(word(lane_at(0) + gate), 1, "the lane is not open");
    let all = || all_words(Facility::Msg).chain(lane_words());
    let saved: Vec<(usize, u64)> = all().map(|offset| (offset, word(offset))).collect();
    let restore = || {
        for &(offset, value) in &saved {
            set_word(offset, value);
        }
    };
    let usual = errors(Facility::Msg, "no lie");
    restore();
    let (mut tried, mut failed) = (0, 0);
    for offset in places {
        for value in LIES {
            set_word(offset, value);
            tried += 1;
            let lie = format!("{offset:#x} = {value:#x}");
            failed += u32::from(errors(Facility::Msg, &lie) != usual);
            restore();
        }
    }
    assert!(failed > 20, "{failed} of {tried}");
    Outcome::Pass(format!("{tried} lies, {failed} noticed"))
}

/// Values that no word of a lane has, or another one.
const LIES: [u64; 9] = [
    0,
    1,
    2,
    3,
    1 << 10,
    1 << 20,
    1 << 40,
    i64::MAX as u64,
    u64::MAX,
];

/// The words of the lanes that calls change here.
fn lane_words() -> impl Iterator<Item = usize> {
    (0..4).flat_map(|index| (lane_at(index)..lane_at(index) + 4096).step_by(8))
}

/// All words that calls of a kind change here.
fn all_words(kind: Facility) -> impl Iterator<Item = usize> {
    [
        (kind.at(), 16_384),
        (process_at(0), 8 * 128),
        (kind.slot(0), 12 * 256),
        (kind.heap().start, 8192),
        (kind.journal().offset, 16),
    ]
    .into_iter()
    .flat_map(|(start, length)| (start..start + length).step_by(8))
}
