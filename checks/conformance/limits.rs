//! L: the limits of a name space.

use crate::harness::{Outcome, PAGE, Statement, Target, statement};
use crate::kinds::{KINDS, Kind, set_sysctl, sysctl};
use crate::memory::peek;
use crate::or_skip;
use crate::process::child;
use sysv::Errno;
use sysv::abi::*;

pub const STATEMENTS: &[Statement] = &[
    statement("L-1", msgmni),
    statement("L-2", msgmnb),
    statement("L-3", msgmax),
    statement("L-4", shmmni),
    statement("L-5", shmmax),
    statement("L-6", shmall),
    statement("L-7", sem_limits),
    statement("L-8", semopm),
    statement("L-9", lowering),
    statement("L-10", defaults),
    statement("L-11", none_per_process),
];

/// Fills the table of a kind up to `limit`, sees the next one refused, and sees a removal make
/// room.
fn fills(t: &Target, kind: Kind, limit: usize) {
    let key = t.key();
    let ids: Vec<i32> = (0..limit).map(|_| kind.create(t, 0o600)).collect();
    assert_eq!(
        kind.get(t, IPC_PRIVATE, 0o600),
        Err(Errno::NOSPC),
        "{kind:?}"
    );
    assert_eq!(
        kind.get(t, key, IPC_CREAT | 0o600),
        Err(Errno::NOSPC),
        "{kind:?}"
    );
    assert_eq!(kind.get(t, key, 0), Err(Errno::NOENT), "{kind:?}");
    kind.remove(t, ids[limit / 2]).expect("IPC_RMID");
    let id = kind.get(t, key, IPC_CREAT | 0o600).expect("there is room");
    assert_eq!(
        kind.get(t, IPC_PRIVATE, 0o600),
        Err(Errno::NOSPC),
        "{kind:?}"
    );
    assert_eq!(
        kind.get(t, key, IPC_CREAT | 0o600),
        Ok(id),
        "found, not created"
    );
    kind.remove(t, id).expect("IPC_RMID");
}

fn msgmni(t: &Target) -> Outcome {
    or_skip!(set_sysctl(t, "msgmni", "5"));
    fills(t, Kind::Queue, 5);
    Outcome::Pass
}

fn msgmnb(t: &Target) -> Outcome {
    let qbytes = |id| t.msg_stat(id).expect("IPC_STAT").msg_qbytes;
    let earlier = t.queue();
    let before = qbytes(earlier);
    or_skip!(set_sysctl(t, "msgmnb", "4321"));
    let later = t.queue();
    assert_eq!((qbytes(earlier), qbytes(later)), (before, 4321));
    t.msgsnd(later, 1, &[0; 4321], IPC_NOWAIT).expect("msgsnd");
    assert_eq!(t.msgsnd(later, 1, &[0], IPC_NOWAIT), Err(Errno::AGAIN));
    Outcome::Pass
}

fn msgmax(t: &Target) -> Outcome {
    let id = t.queue();
    t.msgsnd(id, 1, &[0; 1001], IPC_NOWAIT).expect("msgsnd");
    or_skip!(set_sysctl(t, "msgmax", "1000"));
    assert_eq!(t.msgsnd(id, 1, &[0; 1001], IPC_NOWAIT), Err(Errno::INVAL));
    t.msgsnd(id, 1, &[0; 1000], IPC_NOWAIT).expect("msgsnd");
    // What is there already may be longer.
    assert_eq!(
        t.msgrcv(id, 2000, 0, IPC_NOWAIT).expect("msgrcv").1.len(),
        1001
    );
    Outcome::Pass
}

fn shmmni(t: &Target) -> Outcome {
    or_skip!(set_sysctl(t, "shmmni", "6"));
    fills(t, Kind::Segment, 6);
    Outcome::Pass
}

fn shmmax(t: &Target) -> Outcome {
    or_skip!(set_sysctl(t, "shmmax", "9000"));
    let key = t.key();
    assert_eq!(t.shmget(key, 9001, IPC_CREAT | 0o600), Err(Errno::INVAL));
    let id = t.shmget(key, 9000, IPC_CREAT | 0o600).expect("shmget");
    or_skip!(set_sysctl(t, "shmmax", "100"));
    assert_eq!(t.shmget(key, 9000, 0), Ok(id), "looking up is not creating");
    assert_eq!(t.shmget(IPC_PRIVATE, 101, 0o600), Err(Errno::INVAL));
    Outcome::Pass
}

fn shmall(t: &Target) -> Outcome {
    or_skip!(set_sysctl(t, "shmall", "10"));
    let get = |pages: usize| t.shmget(IPC_PRIVATE, pages * PAGE, 0o600);
    // The sum may reach the limit, and begun pages count whole.
    let six = get(6).expect("shmget");
    assert_eq!(get(5), Err(Errno::NOSPC));
    let three = t
        .shmget(IPC_PRIVATE, 3 * PAGE - 100, 0o600)
        .expect("shmget");
    assert_eq!(get(2), Err(Errno::NOSPC));
    t.shm_remove(three).expect("IPC_RMID");
    get(3).expect("there is room again");
    t.shm_remove(six).expect("IPC_RMID");
    assert_eq!(get(11), Err(Errno::NOSPC));
    get(6).expect("there is room again");
    Outcome::Pass
}

/// Sets the four fields of `sem`: SEMMSL, SEMMNS, SEMOPM, SEMMNI.
fn set_sem(t: &Target, fields: [u32; 4]) -> Result<(), &'static str> {
    set_sysctl(t, "sem", &fields.map(|field| field.to_string()).join(" "))
}

fn sem_limits(t: &Target) -> Outcome {
    let get = |count| t.semget(IPC_PRIVATE, count, 0o600);
    or_skip!(set_sem(t, [7, 1000, 500, 100]));
    assert_eq!(get(8), Err(Errno::INVAL), "SEMMSL");
    let id = get(7).expect("semget");
    t.sem_remove(id).expect("IPC_RMID");
    or_skip!(set_sem(t, [100, 20, 500, 100]));
    assert_eq!(get(21), Err(Errno::NOSPC), "SEMMNS");
    let id = get(15).expect("semget");
    assert_eq!(get(6), Err(Errno::NOSPC), "SEMMNS");
    let rest = get(5).expect("exactly the rest");
    t.sem_remove(id).expect("IPC_RMID");
    t.sem_remove(rest).expect("IPC_RMID");
    or_skip!(set_sem(t, [100, 1000, 500, 4]));
    fills(t, Kind::Set, 4);
    Outcome::Pass
}

fn semopm(t: &Target) -> Outcome {
    let id = t.set(1);
    or_skip!(set_sem(t, [100, 1000, 9, 100]));
    assert_eq!(t.semop(id, &[(0, 1, 0); 10]), Err(Errno::TOOBIG));
    let timeout = timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    assert_eq!(
        t.semtimedop(id, &[(0, 1, 0); 10], &timeout),
        Err(Errno::TOOBIG)
    );
    assert_eq!(t.sem_value(id, 0), Ok(0));
    t.semop(id, &[(0, 1, 0); 9]).expect("semop");
    assert_eq!(t.sem_value(id, 0), Ok(9));
    or_skip!(set_sem(t, [100, 1000, 10, 100]));
    t.semop(id, &[(0, 1, 0); 10])
        .expect("effective immediately");
    Outcome::Pass
}

fn lowering(t: &Target) -> Outcome {
    let ids: Vec<(Kind, i32)> = KINDS
        .into_iter()
        .flat_map(|kind| (0..4).map(move |_| (kind, kind.create(t, 0o600))))
        .collect();
    let (queue, set) = (t.queue(), t.set(30));
    t.msgsnd(queue, 1, &[7; 5000], IPC_NOWAIT).expect("msgsnd");
    or_skip!(set_sysctl(t, "shmmni", "2"));
    or_skip!(set_sysctl(t, "shmmax", "100"));
    or_skip!(set_sysctl(t, "shmall", "1"));
    or_skip!(set_sysctl(t, "msgmni", "2"));
    or_skip!(set_sysctl(t, "msgmnb", "100"));
    or_skip!(set_sysctl(t, "msgmax", "50"));
    or_skip!(set_sem(t, [10, 20, 5, 2]));
    for kind in KINDS {
        assert_eq!(
            kind.get(t, IPC_PRIVATE, 0o600).map(drop),
            match kind {
                Kind::Segment => Err(Errno::INVAL),
                Kind::Queue | Kind::Set => Err(Errno::NOSPC),
            }
        );
    }
    for (kind, id) in ids {
        kind.read(t, id).expect("reading");
        if kind != Kind::Queue {
            kind.write(t, id).expect("writing");
        }
    }
    assert_eq!(t.msg_stat(queue).expect("IPC_STAT").msg_qbytes, 16384);
    assert_eq!(t.msgrcv(queue, 5000, 1, IPC_NOWAIT), Ok((1, vec![7; 5000])));
    t.semop(set, &[(29, 1, 0)]).expect("semop");
    assert_eq!(t.sem_values(set, 30).expect("GETALL")[29], 1);
    Outcome::Pass
}

fn defaults(t: &Target) -> Outcome {
    or_skip!(t.needs_own_name_space());
    let mut shm = shminfo::default();
    t.shmctl_with(0, IPC_INFO, &mut shm).expect("IPC_INFO");
    let huge = u64::MAX - (1 << 24);
    assert_eq!((shm.shmmni, shm.shmmax, shm.shmall), (4096, huge, huge));
    let mut msg = msginfo::default();
    t.msgctl_with(0, IPC_INFO, &mut msg).expect("IPC_INFO");
    assert_eq!((msg.msgmni, msg.msgmax, msg.msgmnb), (32000, 8192, 16384));
    let mut sem = seminfo::default();
    t.semctl_with(0, 0, IPC_INFO, &mut sem).expect("IPC_INFO");
    assert_eq!(
        (sem.semmsl, sem.semmns, sem.semopm),
        (32000, 1_024_000_000, 500)
    );
    assert_eq!((sem.semmni, sem.semvmx), (32000, 32767));
    for (name, value) in [
        ("shmmni", "4096".to_string()),
        ("shmmax", huge.to_string()),
        ("shmall", huge.to_string()),
        ("msgmni", "32000".to_string()),
        ("msgmax", "8192".to_string()),
        ("msgmnb", "16384".to_string()),
        ("sem", "32000\t1024000000\t500\t32000".to_string()),
    ] {
        assert_eq!(or_skip!(sysctl(t, name)), value, "{name}");
    }
    Outcome::Pass
}

fn none_per_process(t: &Target) -> Outcome {
    let segment = t.segment(PAGE);
    let sets: Vec<i32> = (0..200).map(|_| t.set(100)).collect();
    child(|| {
        // The kernel's limit is the number of mappings, 65,530 by default.
        for _ in 0..20_000 {
            t.shmat(segment, SHM_RDONLY).expect("shmat");
        }
        assert_eq!(t.attaches(segment), 20_000);
        for &set in &sets {
            let all: Vec<(u16, i16, i16)> = (0..100).map(|number| (number, 1, SEM_UNDO)).collect();
            t.semop(set, &all).expect("semop");
        }
    })
    .join();
    t.wait_attaches(segment, 0);
    for set in sets {
        assert_eq!(t.sem_values(set, 100), Ok(vec![0; 100]));
        t.sem_remove(set).expect("IPC_RMID");
    }
    let base = t.shmat(segment, 0).expect("shmat");
    assert_eq!(peek(base), 0);
    Outcome::Pass
}
