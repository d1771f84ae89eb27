//! One process killed after each change that one of its calls makes in a name space in user space.
//!
//! Afterwards the call has happened or it has not, and what the process had is settled: what can
//! be seen is what a process leaves that is killed just before the call, or just after it. And
//! those who are left go on at once.

use crate::space_lanes;
use checks::process::{Child, child};
use checks::seen;
use checks::space::Prompt;
use checks::step::{Change, Grain, Stepped};
use checks::suite::{Case, Outcome, case, is_long};
use checks::user_space::{self, Folder, enter};
use preload::InSpace;
use std::collections::BTreeSet;
use std::ptr;
use sysv::abi::*;
use sysv::{Calls, Errno};
use userspace::Facility;
use userspace::layout::{lane_at, process_at};

pub const CASES: &[Case] = &[
    case("space::first_call", || {
        every(&Op::new(Facility::Shm, first_call))
    }),
    case("space::shmget", || every(&Op::new(Facility::Shm, shmget))),
    case("space::shmat", || every(&Op::new(Facility::Shm, shmat))),
    case("space::shmdt", || every(&Op::new(Facility::Shm, shmdt))),
    case("space::shmdt_last", || {
        every(&Op::new(Facility::Shm, shmdt_last))
    }),
    case("space::shm_remove", || {
        every(&Op::new(Facility::Shm, shm_remove))
    }),
    case("space::fork", || every(&Op::new(Facility::Shm, fork))),
    case("space::msgget", || every(&Op::new(Facility::Msg, msgget))),
    case("space::msgsnd", || every(&Op::new(Facility::Msg, msgsnd))),
    case("space::msgsnd_to_sleeper", || {
        every(&Op::new(Facility::Msg, msgsnd_to_sleeper))
    }),
    case("space::msgrcv", || every(&Op::new(Facility::Msg, msgrcv))),
    case("space::msgrcv_for_sender", || {
        every(&Op::new(Facility::Msg, msgrcv_for_sender))
    }),
    case("space::msg_remove", || {
        every(&Op::new(Facility::Msg, msg_remove))
    }),
    case("space::msgsnd_by_lane", || {
        every(&Op::new(Facility::Msg, space_lanes::msgsnd_by_lane))
    }),
    case("space::msgrcv_by_lane", || {
        every(&Op::new(Facility::Msg, space_lanes::msgrcv_by_lane))
    }),
    case("space::msgrcv_closes_lane", || {
        every(&Op::new(Facility::Msg, space_lanes::msgrcv_closes_lane))
    }),
    case("space::msgrcv_opens_lane", || {
        every(&Op::new(Facility::Msg, space_lanes::msgrcv_opens_lane))
    }),
    case("space::msgsnd_behind_store", || {
        every(&Op::new(Facility::Msg, space_lanes::msgsnd_behind_store))
    }),
    case("space::msgrcv_before_lane", || {
        every(&Op::new(Facility::Msg, space_lanes::msgrcv_before_lane))
    }),
    case("space::msg_remove_with_lane", || {
        every(&Op::new(Facility::Msg, space_lanes::msg_remove_with_lane))
    }),
    case("space::semget", || every(&Op::new(Facility::Sem, semget))),
    case("space::semop", || every(&Op::new(Facility::Sem, semop))),
    case("space::semop_undo", || {
        every(&Op::new(Facility::Sem, semop_undo))
    }),
    case("space::semop_for_sleeper", || {
        every(&Op::new(Facility::Sem, semop_for_sleeper))
    }),
    case("space::sem_set_all", || {
        every(&Op::new(Facility::Sem, sem_set_all))
    }),
    case("space::sem_remove", || {
        every(&Op::new(Facility::Sem, sem_remove))
    }),
];

/// What is killed: what its process does before, what it does, and who sleeps meanwhile.
pub struct Plan {
    before: Box<dyn Fn()>,
    act: Box<dyn Fn()>,
    sleeper: Option<Box<dyn Fn()>>,
    /// What the one who sleeps is woken by, if the victim has not come to it.
    release: Box<dyn Fn()>,
}

impl Plan {
    pub fn new(before: impl Fn() + 'static, act: impl Fn() + 'static) -> Self {
        Self {
            before: Box::new(before),
            act: Box::new(act),
            sleeper: None,
            release: Box::new(|| ()),
        }
    }

    fn with_sleeper(mut self, sleeper: impl Fn() + 'static, release: impl Fn() + 'static) -> Self {
        self.sleeper = Some(Box::new(sleeper));
        self.release = Box::new(release);
        self
    }
}

struct Op {
    kind: Facility,
    plan: fn() -> Plan,
}

impl Op {
    fn new(kind: Facility, plan: fn() -> Plan) -> Self {
        Self { kind, plan }
    }
}

fn calls() -> InSpace<'static> {
    InSpace(user_space::space())
}

/// The parts of the registry in which calls of a kind leave traces.
fn parts(kind: Facility) -> Vec<(usize, usize)> {
    let mut parts = vec![
        (kind.at(), 16_384),
        (kind.journal().offset, 4096),
        (process_at(0), 16 * 128),
        (kind.slot(0), 16 * 256),
        (kind.heap().start, 8192),
    ];
    if kind == Facility::Msg {
        parts.push((lane_at(0), 4096));
    }
    parts
}

/// What can be seen, with names for pids: who is neither of the two is the victim or its child.
fn look(sleeper: Option<i32>) -> String {
    let me = std::process::id() as i32;
    let name = |pid: i32| match pid {
        0 => "nobody".into(),
        pid if Some(pid) == sleeper => "sleeper".into(),
        pid if pid == me => "me".into(),
        _ => "victim".to_string(),
    };
    seen::look(&calls(), &name).text
}

/// Runs a plan up to and including its `changes`th change, kills, and answers what can be seen,
/// or `None` in its place if it ended before; and removes everything.
fn round(op: &Op, changes: Option<u64>, prompt: &mut Prompt) -> (String, bool) {
    let plan = (op.plan)();
    let sleeper = plan.sleeper.as_ref().map(|body| {
        let sleeper = child(body);
        sleeper.wait_asleep();
        sleeper
    });
    let stepped = Stepped::new(&plan.before, |()| {
        (plan.act)();
        loop {
            // SAFETY: no arguments.
            unsafe { libc::pause() };
        }
    });
    let mut stepped = stepped.expect("the stepper");
    let victim = stepped.pid();
    let mut ended = false;
    match changes {
        Some(changes) => {
            stepped.watch_file("registry", &parts(op.kind));
            for _ in 0..changes {
                ended |= !advance(&mut stepped);
                if ended {
                    break;
                }
            }
        }
        None => {
            stepped.release();
            checks::process::wait_until(checks::process::BOUND, || in_pause(victim));
        }
    }
    stepped.kill();
    // Whoever sleeps is served, by the victim or now.
    let text = prompt.time("looking", || look(sleeper.as_ref().map(Child::pid)));
    prompt.time("going on", || go_on(op.kind));
    if let Some(sleeper) = sleeper {
        (plan.release)();
        join(sleeper);
    }
    clear();
    (text, ended)
}

fn join(sleeper: Child) {
    sleeper.join();
}

/// Whether a process has come to the end of what it does.
fn in_pause(pid: i32) -> bool {
    let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    call.split(' ').next() == Some(&libc::SYS_pause.to_string())
}

/// To the next change; false if there is none any more.
fn advance(stepped: &mut Stepped) -> bool {
    loop {
        match stepped.step(Grain::Instruction) {
            Some(Change::Bytes | Change::Call(_)) => return true,
            Some(Change::Ended(_)) => return false,
            None if stepped.is_about_to_call(libc::SYS_pause) => return false,
            None => {}
        }
    }
}

/// What those who are left must be able to do.
fn go_on(kind: Facility) {
    let calls = calls();
    match kind {
        Facility::Shm => {
            let id = calls.shmget(IPC_PRIVATE, 9000, 0o600).expect("shmget");
            // SAFETY: no address, so nothing is replaced.
            let base = unsafe { calls.shmat(id, ptr::null(), 0) }.expect("shmat");
            // SAFETY: the attach is new and zero.
            assert_eq!(unsafe { base.cast::<u64>().read_volatile() }, 0);
            // SAFETY: nothing in it is used again.
            unsafe { calls.shmdt(base) }.expect("shmdt");
            remove(kind, id);
        }
        Facility::Msg => {
            let id = calls.msgget(IPC_PRIVATE, 0o600).expect("msgget");
            send(id, 4, 300, IPC_NOWAIT);
            assert_eq!(receive(id, 0, IPC_NOWAIT), Ok((4, 300)));
            remove(kind, id);
        }
        Facility::Sem => {
            let id = calls.semget(IPC_PRIVATE, 5, 0o600).expect("semget");
            operate(id, &[(4, 2, SEM_UNDO), (0, 0, 0)]).expect("semop");
            operate(id, &[(4, -2, SEM_UNDO)]).expect("semop");
            remove(kind, id);
        }
    }
}

pub fn remove(kind: Facility, id: i32) {
    let calls = calls();
    let removed = match kind {
        // SAFETY: IPC_RMID takes no buffer, here and in the next two.
        Facility::Shm => unsafe { calls.shmctl(id, IPC_RMID, ptr::null_mut()) },
        // SAFETY: as above.
        Facility::Msg => unsafe { calls.msgctl(id, IPC_RMID, ptr::null_mut()) },
        // SAFETY: as above.
        Facility::Sem => unsafe { calls.semctl(id, 0, IPC_RMID, 0) },
    };
    assert!(matches!(removed, Ok(0) | Err(Errno::INVAL)), "{removed:?}");
}

/// The id of the object at an index.
fn at_index(kind: Facility, index: i32) -> sysv::Result<i32> {
    let calls = calls();
    match kind {
        Facility::Shm => {
            let mut status = shmid_ds::default();
            // SAFETY: a status to fill.
            unsafe { calls.shmctl(index, SHM_STAT_ANY, &raw mut status) }
        }
        Facility::Msg => {
            let mut status = msqid_ds::default();
            // SAFETY: a status to fill.
            unsafe { calls.msgctl(index, MSG_STAT_ANY, &raw mut status) }
        }
        Facility::Sem => {
            let mut status = semid_ds::default();
            let at = (&raw mut status).expose_provenance();
            // SAFETY: a status to fill.
            unsafe { calls.semctl(index, 0, SEM_STAT_ANY, at) }
        }
    }
}

/// Removes everything, and has the next round find the tables as the last one did.
fn clear() {
    for kind in [Facility::Shm, Facility::Msg, Facility::Sem] {
        for index in 0..64 {
            let id = at_index(kind, index);
            if let Ok(id) = id {
                remove(kind, id);
            }
        }
        // The same ids in each round.
        user_space::space().set_next_id(kind, Some(0));
    }
}

/// Kills after each change, and compares with what a process leaves that has not begun, and one
/// that has come to the end.
fn every(op: &Op) -> Outcome {
    if let Err(reason) = Stepped::new(|| (), |()| ()) {
        return Outcome::Skip(reason);
    }
    let folder = Folder::new();
    enter(&folder);
    let mut prompt = Prompt::default();
    clear();
    let (not_begun, _) = round(op, Some(0), &mut prompt);
    let (completed, _) = round(op, None, &mut prompt);
    let mut outcomes = BTreeSet::new();
    let mut changes = 1;
    loop {
        let (found, ended) = round(op, Some(changes), &mut prompt);
        let happened = found == completed;
        assert!(
            happened || found == not_begun,
            "after change {changes}:\n{found}\nnot begun:\n{not_begun}\ncompleted:\n{completed}"
        );
        outcomes.insert(happened);
        if ended {
            assert!(happened, "it has come to the end");
            break;
        }
        assert!(changes < 5000, "it has no end");
        // Notes and words of one transaction are many of a kind.
        changes += if is_long() || changes < 20 { 1 } else { 5 };
    }
    Outcome::Pass(format!(
        "{changes} changes, {} outcomes, slowest {:?}",
        outcomes.len(),
        prompt.slowest
    ))
}

fn operate(id: i32, list: &[(u16, i16, i16)]) -> sysv::Result<()> {
    let list: Vec<sembuf> = list
        .iter()
        .map(|&(sem_num, sem_op, sem_flg)| sembuf {
            sem_num,
            sem_op,
            sem_flg,
        })
        .collect();
    // SAFETY: a slice is valid for reading its elements.
    unsafe { calls().semop(id, list.as_ptr(), list.len()) }
}

pub fn send(id: i32, message_type: i64, length: usize, flags: i32) {
    let mut message = message_type.to_ne_bytes().to_vec();
    message.resize(8 + length, 7);
    // SAFETY: a type and as many bytes.
    unsafe { calls().msgsnd(id, message.as_ptr().cast(), length, flags) }.expect("msgsnd");
}

pub fn receive(id: i32, wanted: i64, flags: i32) -> sysv::Result<(i64, usize)> {
    let mut room = [0i64; 1100];
    let to = room.as_mut_ptr().cast();
    // SAFETY: room for a type and 8192 bytes.
    let length = unsafe { calls().msgrcv(id, to, 8192, wanted, flags) }?;
    Ok((room[0], length))
}

fn segment() -> i32 {
    calls().shmget(IPC_PRIVATE, 5000, 0o600).expect("shmget")
}

fn attach(id: i32) -> *const std::ffi::c_void {
    // SAFETY: no address, so nothing is replaced.
    unsafe { calls().shmat(id, ptr::null(), 0) }.expect("shmat")
}

fn detach(base: *const std::ffi::c_void) {
    // SAFETY: nothing in it is used again.
    unsafe { calls().shmdt(base) }.expect("shmdt");
}

/// So that the process has an identity before.
pub fn begin() {
    let found = at_index(Facility::Shm, 0);
    assert!(matches!(found, Ok(_) | Err(Errno::INVAL)), "{found:?}");
}

fn first_call() -> Plan {
    Plan::new(
        || (),
        || assert_eq!(calls().shmget(77, 0, 0), Err(Errno::NOENT)),
    )
}

fn shmget() -> Plan {
    Plan::new(begin, || {
        let flags = IPC_CREAT | 0o600;
        assert_eq!(calls().shmget(5, 5000, flags).map(|id| id % IPCMNI), Ok(0));
    })
}

fn shmat() -> Plan {
    let id = segment();
    Plan::new(begin, move || {
        attach(id);
    })
}

fn shmdt() -> Plan {
    let id = segment();
    static BASE: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    use std::sync::atomic::Ordering::Relaxed;
    Plan::new(
        move || {
            BASE.store(attach(id).addr(), Relaxed);
            attach(id);
        },
        || detach(ptr::with_exposed_provenance(BASE.load(Relaxed))),
    )
}

fn shmdt_last() -> Plan {
    let id = segment();
    static BASE: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    use std::sync::atomic::Ordering::Relaxed;
    Plan::new(
        move || {
            BASE.store(attach(id).addr(), Relaxed);
            remove(Facility::Shm, id);
        },
        || detach(ptr::with_exposed_provenance(BASE.load(Relaxed))),
    )
}

fn shm_remove() -> Plan {
    let id = segment();
    Plan::new(begin, move || remove(Facility::Shm, id))
}

fn fork() -> Plan {
    let id = segment();
    Plan::new(
        move || {
            attach(id);
        },
        || {
            child(|| ()).join();
        },
    )
}

fn msgget() -> Plan {
    Plan::new(begin, || {
        assert_eq!(
            calls().msgget(5, IPC_CREAT | 0o600).map(|id| id % IPCMNI),
            Ok(0)
        );
    })
}

pub fn queue(messages: &[i64]) -> i32 {
    let id = calls().msgget(IPC_PRIVATE, 0o600).expect("msgget");
    for message_type in messages {
        send(id, *message_type, 40, IPC_NOWAIT);
    }
    id
}

fn msgsnd() -> Plan {
    let id = queue(&[1, 2, 1]);
    Plan::new(begin, move || send(id, 3, 100, 0))
}

fn msgsnd_to_sleeper() -> Plan {
    let id = queue(&[1]);
    Plan::new(begin, move || send(id, 9, 100, 0)).with_sleeper(
        move || assert_eq!(receive(id, 9, 0).map(|got| got.0), Ok(9)),
        move || send(id, 9, 100, 0),
    )
}

fn msgrcv() -> Plan {
    let id = queue(&[1, 2, 1]);
    Plan::new(begin, move || {
        receive(id, 2, 0).expect("msgrcv");
    })
}

fn msgrcv_for_sender() -> Plan {
    let id = queue(&[1, 2]);
    let mut status = msqid_ds {
        msg_perm: ipc_perm {
            mode: 0o600,
            ..ipc_perm::default()
        },
        msg_qbytes: 100,
        ..msqid_ds::default()
    };
    // SAFETY: a status to read.
    unsafe { calls().msgctl(id, IPC_SET, &raw mut status) }.expect("IPC_SET");
    Plan::new(begin, move || {
        receive(id, 1, 0).expect("msgrcv");
    })
    .with_sleeper(
        move || send(id, 8, 50, 0),
        move || while receive(id, 0, IPC_NOWAIT).is_ok() {},
    )
}

fn msg_remove() -> Plan {
    let id = queue(&[1, 2, 1, 3]);
    Plan::new(begin, move || remove(Facility::Msg, id))
}

fn set(values: &[u16]) -> i32 {
    let id = calls().semget(IPC_PRIVATE, values.len() as i32, 0o600);
    let id = id.expect("semget");
    // SAFETY: as many values as the set has.
    unsafe { calls().semctl(id, 0, SETALL, values.as_ptr() as usize) }.expect("SETALL");
    id
}

fn semget() -> Plan {
    Plan::new(begin, || {
        assert_eq!(
            calls()
                .semget(5, 6, IPC_CREAT | 0o600)
                .map(|id| id % IPCMNI),
            Ok(0)
        );
    })
}

fn semop() -> Plan {
    let id = set(&[1, 2, 3]);
    Plan::new(begin, move || {
        operate(id, &[(0, -1, 0), (1, 4, 0), (2, -3, 0), (2, 0, 0)]).expect("semop");
    })
}

fn semop_undo() -> Plan {
    let id = set(&[1, 2, 3]);
    Plan::new(begin, move || {
        operate(id, &[(0, -1, SEM_UNDO), (1, 4, 0)]).expect("semop");
    })
}

fn semop_for_sleeper() -> Plan {
    let id = set(&[0, 0]);
    Plan::new(begin, move || operate(id, &[(0, 1, 0)]).expect("semop")).with_sleeper(
        move || operate(id, &[(0, -1, 0), (1, 1, 0)]).expect("semop"),
        move || operate(id, &[(0, 1, 0)]).expect("semop"),
    )
}

fn sem_set_all() -> Plan {
    let id = set(&[1, 2, 3]);
    Plan::new(begin, move || {
        let values = [7u16, 8, 9];
        // SAFETY: as many values as the set has.
        unsafe { calls().semctl(id, 0, SETALL, values.as_ptr() as usize) }.expect("SETALL");
    })
}

fn sem_remove() -> Plan {
    let id = set(&[1, 2, 3]);
    Plan::new(begin, move || remove(Facility::Sem, id))
}
