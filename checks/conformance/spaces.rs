//! N: IPC name spaces.

use crate::harness::{Outcome, PAGE, Statement, Target, statement};
use crate::kinds::{KINDS, set_sysctl};
use crate::memory::{peek, poke, reading_faults};
use crate::or_skip;
use crate::process::{BOUND, Gate, child, keep_capabilities, stay, wait_until};
use std::fs;
use sysv::Errno;
use sysv::abi::*;

pub const STATEMENTS: &[Statement] = &[
    statement("N-1", separate),
    statement("N-2", attach_stays),
    statement("N-3", adjustments),
    statement("N-4", end),
    statement("N-5", privilege),
];

/// `unshare`: the errno, 0 for success.
fn unshare(flags: i32) -> i32 {
    // SAFETY: takes a number; the process has one thread.
    match unsafe { libc::unshare(flags) } {
        0 => 0,
        _ => std::io::Error::last_os_error()
            .raw_os_error()
            .expect("an errno"),
    }
}

fn separate(t: &Target) -> Outcome {
    or_skip!(t.needs_kernel());
    or_skip!(t.needs_own_name_space());
    let key = t.key();
    let ids = KINDS.map(|kind| {
        kind.create(t, 0o600);
        kind.get(t, key, IPC_CREAT | 0o600).expect("create")
    });
    child(|| {
        assert_eq!(unshare(libc::CLONE_NEWIPC), 0);
        for (kind, id) in KINDS.into_iter().zip(ids) {
            assert_eq!(kind.get(t, key, 0), Err(Errno::NOENT), "{kind:?}");
            kind.every_call_fails(t, id, Errno::INVAL);
            // Another object, with another id than the one outside.
            let own = kind
                .get(t, key, IPC_CREAT | IPC_EXCL | 0o640)
                .expect("create");
            assert_eq!(own, 0, "{kind:?}: the first id");
            assert_eq!(kind.highest_index(t), Ok(0), "{kind:?}");
            assert_eq!(kind.perm(t, own).expect("IPC_STAT").mode, 0o640, "{kind:?}");
        }
        let mut usage = shm_info::default();
        t.shmctl_with(0, SHM_INFO, &mut usage).expect("SHM_INFO");
        assert_eq!(usage.used_ids, 1);
        if set_sysctl(t, "shmmni", "1").is_ok() {
            assert_eq!(t.shmget(IPC_PRIVATE, PAGE, 0o600), Err(Errno::NOSPC));
        }
        for kind in KINDS {
            kind.remove(t, 0).expect("IPC_RMID");
        }
    })
    .join();
    for (kind, id) in KINDS.into_iter().zip(ids) {
        assert_eq!(kind.get(t, key, 0), Ok(id), "{kind:?}");
        assert_eq!(kind.perm(t, id).expect("IPC_STAT").mode, 0o600, "{kind:?}");
        assert_eq!(kind.highest_index(t), Ok(1), "{kind:?}");
    }
    let mut usage = shm_info::default();
    t.shmctl_with(0, SHM_INFO, &mut usage).expect("SHM_INFO");
    assert_eq!(usage.used_ids, 2);
    t.segment(PAGE);
    Outcome::Pass
}

fn attach_stays(t: &Target) -> Outcome {
    or_skip!(t.needs_kernel());
    or_skip!(t.needs_own_name_space());
    let id = t.segment(PAGE);
    let base = t.shmat(id, 0).expect("shmat");
    let (left, go, detached) = (Gate::new(), Gate::new(), Gate::new());
    let emigrant = child(|| {
        assert_eq!(unshare(libc::CLONE_NEWIPC), 0);
        assert_eq!(t.shm_stat(id), Err(Errno::INVAL));
        assert_eq!(t.shmat(id, 0), Err(Errno::INVAL));
        poke(base, 21);
        left.open();
        go.wait();
        assert_eq!(peek(base), 22);
        t.shmdt(base).expect("shmdt");
        assert!(reading_faults(base));
        assert_eq!(t.shmdt(base), Err(Errno::INVAL));
        detached.open();
    });
    left.wait();
    assert_eq!((peek(base), t.attaches(id)), (21, 2));
    poke(base, 22);
    go.open();
    detached.wait();
    assert_eq!(t.attaches(id), 1);
    emigrant.join();
    assert_eq!((peek(base), t.attaches(id)), (22, 1));
    Outcome::Pass
}

fn adjustments(t: &Target) -> Outcome {
    or_skip!(t.needs_kernel());
    or_skip!(t.needs_own_name_space());
    let id = t.set(2);
    t.sem_set_values(id, &[5, 5]).expect("SETALL");
    let (done, go, left) = (Gate::new(), Gate::new(), Gate::new());
    let emigrant = child(|| {
        t.semop(id, &[(0, 3, SEM_UNDO), (1, -2, SEM_UNDO)])
            .expect("semop");
        done.open();
        go.wait();
        assert_eq!(unshare(libc::CLONE_NEWIPC), 0);
        left.open();
        stay();
    });
    done.wait();
    assert_eq!(t.sem_values(id, 2), Ok(vec![8, 3]));
    go.open();
    left.wait();
    assert_eq!(t.sem_values(id, 2), Ok(vec![5, 5]));
    emigrant.kill();
    assert_eq!(t.sem_values(id, 2), Ok(vec![5, 5]), "once, not twice");
    Outcome::Pass
}

/// Makes this process root in a user name space of its own that may have one IPC name space.
fn one_name_space() -> Result<(), &'static str> {
    const REFUSED: &str = "no user name space with a limit of its own can be made here";
    // SAFETY: no arguments.
    let (uid, gid) = (unsafe { libc::geteuid() }, unsafe { libc::getegid() });
    if unshare(libc::CLONE_NEWUSER) != 0 {
        return Err(REFUSED);
    }
    let files = [
        ("/proc/self/setgroups", "deny".to_string()),
        ("/proc/self/uid_map", format!("0 {uid} 1")),
        ("/proc/self/gid_map", format!("0 {gid} 1")),
        ("/proc/sys/user/max_ipc_namespaces", "1".to_string()),
    ];
    files
        .into_iter()
        .try_for_each(|(file, text)| fs::write(file, text).map_err(|_| REFUSED))
}

fn end(t: &Target) -> Outcome {
    or_skip!(t.needs_kernel());
    or_skip!(t.needs_own_name_space());
    // From here on this is the test's own process: its user name space may hold one IPC name
    // space, and the kernel gives the place back when the objects of the first one are freed.
    or_skip!(one_name_space());
    let full = libc::ENOSPC;
    let made = Gate::new();
    let inhabitant = |body: fn(&Gate)| {
        let made = &made;
        child(move || {
            assert_eq!(unshare(libc::CLONE_NEWIPC), 0);
            for kind in KINDS {
                kind.create(t, 0o600);
            }
            let id = t.segment(PAGE);
            poke(t.shmat(id, 0).expect("shmat"), 1);
            body(made);
        })
    };
    let first = inhabitant(|made| {
        // The objects outlive their creator as long as anyone is left in the name space.
        let heir = child(|| stay());
        made.send(i64::from(heir.pid()));
        stay();
    });
    made.receive();
    let emigrate = || {
        let answer = Gate::new();
        child(|| answer.send(i64::from(unshare(libc::CLONE_NEWIPC)))).join();
        answer.receive() == 0
    };
    child(|| assert_eq!(unshare(libc::CLONE_NEWIPC), full)).join();
    // Killing the first kills its heir.
    first.kill();
    wait_until(BOUND, emigrate);
    Outcome::Pass
}

fn privilege(t: &Target) -> Outcome {
    or_skip!(t.needs_kernel());
    child(|| {
        keep_capabilities(&[]);
        assert_eq!(unshare(libc::CLONE_NEWIPC), libc::EPERM);
    })
    .join();
    or_skip!(t.needs_own_name_space());
    let flags = libc::CLONE_NEWIPC | libc::CLONE_SYSVSEM | libc::SIGCHLD;
    // SAFETY: without a stack it is a fork; the flags are refused.
    let answer = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    let errno = std::io::Error::last_os_error().raw_os_error();
    if answer == 0 {
        // SAFETY: ends the child that should not be.
        unsafe { libc::_exit(0) };
    }
    assert_eq!((answer, errno), (-1, Some(libc::EINVAL)));
    child(|| assert_eq!(unshare(libc::CLONE_NEWIPC), 0)).join();
    Outcome::Pass
}
