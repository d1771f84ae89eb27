//! SL: the life of a segment and its attaches through fork, exec, the end of processes, removal.

use crate::harness::{Outcome, PAGE, Statement, Target, now, statement};
use crate::kinds::set_sysctl;
use crate::memory::{mapping, mappings, peek, poke, writing_faults};
use crate::or_skip;
use crate::process::{
    Gate, child, exec_and_stay, same, shared_words, stay, undisturbed, wait_exec, wait_past,
};
use std::ffi::c_void;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::Ordering::Relaxed;
use sysv::Errno;
use sysv::abi::*;

pub const STATEMENTS: &[Statement] = &[
    statement("SL-1", fork_inherits),
    statement("SL-2", exec_detaches),
    statement("SL-3", end_detaches),
    statement("SL-4", removal_while_attached),
    statement("SL-5", marked_goes_at_last_detach),
    statement("SL-6", second_removal),
    statement("SL-7", outlives_creator),
    statement("SL-8", contents_persist),
    statement("SL-9", vfork),
    statement("SL-10", removal_unattached),
    statement("SL-11", fork_is_an_attach),
    statement("SL-12", rmid_forced),
];

fn fork_inherits(t: &Target) -> Outcome {
    let id = t.segment(PAGE);
    let bases = [
        t.shmat(id, 0).expect("shmat"),
        t.shmat(id, SHM_RDONLY).expect("shmat"),
        t.shmat(id, 0).expect("shmat"),
    ];
    poke(bases[0], 5);
    let (looked, go) = (Gate::new(), Gate::new());
    let heir = child(|| {
        for base in bases {
            assert_eq!(peek(base), 5);
        }
        assert!(writing_faults(bases[1]), "read-only stays read-only");
        poke(bases[2], 6);
        looked.open();
        go.wait();
        for base in bases {
            t.shmdt(base).expect("shmdt");
        }
        assert_eq!(t.attaches(id), 3);
    });
    looked.wait();
    assert_eq!(t.attaches(id), 6);
    assert_eq!(peek(bases[1]), 6);
    go.open();
    heir.join();
    assert_eq!(t.attaches(id), 3);
    Outcome::Pass
}

fn exec_detaches(t: &Target) -> Outcome {
    let id = t.segment(PAGE);
    let kept = t.shmat(id, 0).expect("shmat");
    undisturbed(|| {
        let marked = t.segment(PAGE);
        let attached = Gate::new();
        let process = child(|| {
            t.shmat(id, 0).expect("shmat");
            t.shmat(marked, SHM_RDONLY).expect("shmat");
            t.shm_remove(marked).expect("IPC_RMID");
            assert_eq!((t.attaches(id), t.attaches(marked)), (3, 1));
            attached.open();
            exec_and_stay();
        });
        attached.wait();
        wait_exec(process.pid());
        let status = t.shm_stat(id).expect("IPC_STAT");
        let found = (status.shm_nattch, status.shm_lpid);
        same("attaches and lpid", found, (1, process.pid()))?;
        same("marked", t.shm_stat(marked), Err(Errno::INVAL))?;
        process.kill();
        same("after its end", t.attaches(id), 1)
    });
    t.shmdt(kept).expect("shmdt");
    Outcome::Pass
}

/// A way to end, what does it, and the signal that the parent is told.
type End = (&'static str, fn(), Option<i32>);

fn kill_self() {
    // SAFETY: takes a number.
    unsafe { libc::raise(libc::SIGKILL) };
}

fn end_detaches(t: &Target) -> Outcome {
    let id = t.segment(PAGE);
    let kept = t.shmat(id, 0).expect("shmat");
    let ends: [End; 5] = [
        ("return", || (), None),
        // SAFETY: ends the process.
        ("exit", || unsafe { libc::exit(0) }, None),
        // SAFETY: ends the process.
        ("_exit", || unsafe { libc::_exit(0) }, None),
        ("abort", || std::process::abort(), Some(libc::SIGABRT)),
        ("SIGKILL", kill_self, Some(libc::SIGKILL)),
    ];
    for (name, end, signal) in ends {
        undisturbed(|| {
            let process = child(|| {
                t.shmat(id, 0).expect("shmat");
                t.shmat(id, SHM_RDONLY).expect("shmat");
                assert_eq!(t.attaches(id), 4);
                end();
            });
            let pid = process.pid();
            // At once, which is before anybody has reaped it.
            process.wait_zombie();
            let status = t.shm_stat(id).expect("IPC_STAT");
            assert_eq!(process.join_status().signal(), signal, "{name}");
            let found = (status.shm_nattch, status.shm_lpid);
            same(name, found, (1, pid))?;
            same(name, status.shm_dtime != 0, true)
        });
    }
    t.shmdt(kept).expect("shmdt");
    Outcome::Pass
}

fn removal_while_attached(t: &Target) -> Outcome {
    let key = t.key();
    let id = t.shmget(key, PAGE, IPC_CREAT | 0o640).expect("shmget");
    let base = t.shmat(id, 0).expect("shmat");
    poke(base, 3);
    assert_eq!(t.shm_stat(id).expect("IPC_STAT").shm_perm.mode, 0o640);
    t.shm_remove(id).expect("IPC_RMID");
    let status = t.shm_stat(id).expect("IPC_STAT");
    assert_eq!(status.shm_perm.mode, 0o640 | SHM_DEST);
    assert_eq!((status.shm_perm.__key, status.shm_nattch), (0, 1));
    assert_eq!(peek(base), 3);
    assert_eq!(t.shmget(key, 0, 0), Err(Errno::NOENT));
    let second = t
        .shmget(key, PAGE, IPC_CREAT | IPC_EXCL | 0o600)
        .expect("shmget");
    assert_ne!(id, second);
    let other = t.shmat(second, 0).expect("shmat");
    assert_eq!((peek(other), peek(base)), (0, 3));
    child(|| {
        assert_eq!(peek(base), 3);
        assert_eq!(t.attaches(id), 2);
        poke(base, 4);
    })
    .join();
    assert_eq!(peek(base), 4);
    t.wait_attaches(id, 1);
    Outcome::Pass
}

fn marked_goes_at_last_detach(t: &Target) -> Outcome {
    let id = t.segment(PAGE);
    let base = t.shmat(id, 0).expect("shmat");
    t.shm_remove(id).expect("IPC_RMID");
    t.shmdt(base).expect("shmdt");
    assert_eq!(t.shm_stat(id), Err(Errno::INVAL));

    undisturbed(|| {
        let id = t.segment(PAGE);
        let attached = Gate::new();
        let holder = child(|| {
            t.shmat(id, 0).expect("shmat");
            attached.open();
            stay();
        });
        attached.wait();
        t.shm_remove(id).expect("IPC_RMID");
        assert_eq!(t.attaches(id), 1);
        holder.kill();
        same("the status", t.shm_stat(id), Err(Errno::INVAL))?;
        same("attaching", t.shmat(id, 0), Err(Errno::INVAL))
    });
    Outcome::Pass
}

fn second_removal(t: &Target) -> Outcome {
    let id = t.segment(PAGE);
    let base = t.shmat(id, 0).expect("shmat");
    for _ in 0..3 {
        assert_eq!(t.shm_remove(id), Ok(()));
        assert_eq!(t.attaches(id), 1);
    }
    t.shmdt(base).expect("shmdt");
    assert_eq!(t.shm_remove(id), Err(Errno::INVAL));
    Outcome::Pass
}

fn outlives_creator(t: &Target) -> Outcome {
    let key = t.key();
    let creator = child(|| {
        let id = t.shmget(key, PAGE, IPC_CREAT | 0o600).expect("shmget");
        t.shmat(id, 0).expect("shmat");
    });
    let pid = creator.pid();
    creator.join();
    let id = t.shmget(key, 0, 0).expect("it is still there");
    t.wait_attaches(id, 0);
    let status = t.shm_stat(id).expect("IPC_STAT");
    assert_eq!((status.shm_cpid, status.shm_nattch), (pid, 0));
    let base = t.shmat(id, 0).expect("shmat");
    t.shmdt(base).expect("shmdt");
    let status = t.shm_stat(id).expect("IPC_STAT");
    assert_eq!((status.shm_cpid, status.shm_nattch), (pid, 0));
    t.shm_remove(id).expect("IPC_RMID");
    Outcome::Pass
}

fn contents_persist(t: &Target) -> Outcome {
    let id = t.segment(2 * PAGE);
    child(|| {
        let base = t.shmat(id, 0).expect("shmat");
        poke(base, 11);
        poke(base.wrapping_add(2 * PAGE - 1), 12);
    })
    .join();
    t.wait_attaches(id, 0);
    child(|| {
        let base = t.shmat(id, SHM_RDONLY).expect("shmat");
        assert_eq!(
            (peek(base), peek(base.wrapping_add(2 * PAGE - 1))),
            (11, 12)
        );
    })
    .join();
    Outcome::Pass
}

extern "C" fn end_at_once(_: *mut c_void) -> i32 {
    // SAFETY: ends the process, and nothing else of the parent's memory is used.
    unsafe { libc::_exit(0) };
}

fn vfork(t: &Target) -> Outcome {
    let id = t.segment(PAGE);
    let base = t.shmat(id, 0).expect("shmat");
    let before = t.shm_stat(id).expect("IPC_STAT");
    let mut stack = vec![0u128; 4096];
    let top = stack.as_mut_ptr_range().end.cast::<c_void>();
    // What vfork is: the parent waits while the child runs in its memory.
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: a stack of the child's own, and a function that only ends it.
    let pid = unsafe { libc::clone(end_at_once, top, flags, std::ptr::null_mut()) };
    assert!(pid > 0, "clone: {}", std::io::Error::last_os_error());
    assert_eq!(t.attaches(id), 1);
    let mut status = 0;
    // SAFETY: `status` is valid for writing.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert_eq!(t.shm_stat(id).expect("IPC_STAT"), before);
    poke(base, 1);
    t.shmdt(base).expect("shmdt");
    assert_eq!(t.attaches(id), 0);
    Outcome::Pass
}

fn removal_unattached(t: &Target) -> Outcome {
    let key = t.key();
    let id = t.shmget(key, PAGE, IPC_CREAT | 0o600).expect("shmget");
    assert_eq!(t.shm_remove(id), Ok(()));
    assert_eq!(t.shm_stat(id), Err(Errno::INVAL));
    assert_eq!(t.shmget(key, 0, 0), Err(Errno::NOENT));
    assert!(
        !mappings()
            .iter()
            .any(|mapping| mapping.path.starts_with("/SYSV"))
    );
    Outcome::Pass
}

fn fork_is_an_attach(t: &Target) -> Outcome {
    let id = t.segment(PAGE);
    let holder = Gate::new();
    let base = shared_words(1);
    let process = child(|| {
        let attach = t.shmat(id, 0).expect("shmat");
        assert!(mapping(attach).is_some());
        base[0].store(attach as i64, Relaxed);
        let attached = t.shm_stat(id).expect("IPC_STAT").shm_atime;
        // Another process is the last one before the fork.
        child(|| {
            let own = t.shmat(id, 0).expect("shmat");
            t.shmdt(own).expect("shmdt");
        })
        .join();
        wait_past(attached + 1);
        let before = now();
        let heir = child(|| stay());
        let after = now();
        let status = t.shm_stat(id).expect("IPC_STAT");
        assert_eq!(status.shm_nattch, 2);
        assert!(
            (before..=after).contains(&status.shm_atime),
            "{before} {after} {status:?}"
        );
        assert_eq!(
            status.shm_lpid,
            std::process::id() as i32,
            "not {}",
            heir.pid()
        );
        heir.kill();
        holder.open();
    });
    holder.wait();
    process.join();
    Outcome::Pass
}

fn rmid_forced(t: &Target) -> Outcome {
    let mine = t.segment(PAGE);
    or_skip!(set_sysctl(t, "shm_rmid_forced", "1"));
    assert!(t.shm_stat(mine).is_ok(), "its creator lives");
    // At the last detach.
    let id = t.segment(PAGE);
    let bases = [
        t.shmat(id, 0).expect("shmat"),
        t.shmat(id, 0).expect("shmat"),
    ];
    t.shmdt(bases[0]).expect("shmdt");
    assert_eq!(t.attaches(id), 1);
    t.shmdt(bases[1]).expect("shmdt");
    assert_eq!(t.shm_stat(id), Err(Errno::INVAL));
    // Never attached: at the end of the creator.
    let (made, end) = (Gate::new(), Gate::new());
    let creator = child(|| {
        made.send(i64::from(t.segment(PAGE)));
        end.wait();
    });
    let id = made.receive() as i32;
    assert!(t.shm_stat(id).is_ok());
    end.open();
    creator.join();
    assert_eq!(t.shm_stat(id), Err(Errno::INVAL));
    assert!(t.shm_stat(mine).is_ok());
    Outcome::Pass
}
