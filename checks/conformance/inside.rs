//! X: demands on an implementation that lives in the calling process, where they concern its
//! descriptors, credentials, memory and names. Those about processes are in `survive`.

use crate::abi::compile;
use crate::caller::needs_capability;
use crate::harness::{BAD, Outcome, PAGE, Statement, Target, last_error, statement};
use crate::kinds::{KINDS, Kind, msgctl_bad, semctl_bad, shmctl_bad};
use crate::memory::{map, peek, poke, protect, unmap};
use crate::or_skip;
use crate::perms::expect;
use crate::process::{
    CAP_IPC_OWNER, as_user, become_user, can_switch_users, child, keep_capabilities, on_signal,
};
use std::ffi::CStr;
use std::fs;
use std::process::Command;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};
use sysv::abi::*;
use sysv::{Errno, Result};

pub const STATEMENTS: &[Statement] = &[
    statement("X-1", descriptors_closed),
    statement("X-2", descriptor_numbers),
    statement("X-3", chroot),
    statement("X-4", descriptors_full),
    statement("X-8", bad_pointers),
    statement("X-9", inside_handlers),
    statement("X-10", other_doors),
    statement("X-11", wrapped_calls),
    statement("X-12", between_users),
];

/// Uses each of the twelve calls once, on new objects, and removes them.
#[track_caller]
pub fn exercise(t: &Target) {
    let key = t.key();
    let id = t.shmget(key, 2 * PAGE, IPC_CREAT | 0o600).expect("shmget");
    let base = t.shmat(id, 0).expect("shmat");
    poke(base.wrapping_add(PAGE), 7);
    assert_eq!(peek(base.wrapping_add(PAGE)), 7);
    // A fork by another thread may count it once more.
    assert!(t.attaches(id) >= 1);
    t.shmdt(base).expect("shmdt");
    t.shm_remove(id).expect("IPC_RMID");
    let id = t.msgget(key, IPC_CREAT | 0o600).expect("msgget");
    t.msgsnd(id, 3, b"text", 0).expect("msgsnd");
    assert_eq!(t.msgrcv(id, 8, 3, 0), Ok((3, b"text".to_vec())));
    t.msg_remove(id).expect("IPC_RMID");
    let id = t.semget(key, 2, IPC_CREAT | 0o600).expect("semget");
    t.semop(id, &[(1, 2, 0), (0, 1, SEM_UNDO)]).expect("semop");
    let timeout = timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    t.semtimedop(id, &[(1, -1, 0)], &timeout)
        .expect("semtimedop");
    assert_eq!(t.sem_values(id, 2), Ok(vec![1, 1]));
    t.sem_remove(id).expect("IPC_RMID");
}

/// The numbers of the open descriptors.
fn descriptors() -> Vec<i32> {
    let directory = fs::read_dir("/proc/self/fd").expect("fd");
    let number = |entry: fs::DirEntry| entry.file_name().to_string_lossy().parse::<i32>().ok();
    let mut all: Vec<i32> = directory.flatten().filter_map(number).collect();
    all.sort_unstable();
    // The highest one is that of the reading itself.
    all.pop();
    all
}

/// The number that the next descriptor gets.
fn next_descriptor() -> i32 {
    // SAFETY: takes a number.
    let next = unsafe { libc::dup(0) };
    assert!(next > 2, "dup: {}", std::io::Error::last_os_error());
    // SAFETY: the descriptor is new and used by nobody.
    unsafe { libc::close(next) };
    next
}

fn descriptors_closed(t: &Target) -> Outcome {
    let id = t.segment(PAGE);
    let set = t.set(1);
    let base = t.shmat(id, 0).expect("shmat");
    t.semop(set, &[(0, 1, SEM_UNDO)]).expect("semop");
    poke(base, 9);
    // SAFETY: nothing in this process uses a descriptor above 2 any more.
    assert_eq!(unsafe { libc::close_range(3, u32::MAX, 0) }, 0);
    assert_eq!(descriptors(), [0, 1, 2]);
    assert_eq!((peek(base), t.attaches(id)), (9, 1));
    exercise(t);
    child(|| {
        // SAFETY: as above.
        unsafe { libc::close_range(3, u32::MAX, 0) };
        assert_eq!((peek(base), t.attaches(id)), (9, 2));
        exercise(t);
        t.shmdt(base).expect("shmdt");
    })
    .join();
    t.shmdt(base).expect("shmdt");
    assert_eq!((t.attaches(id), t.sem_value(set, 0)), (0, Ok(1)));
    t.sem_remove(set).expect("IPC_RMID");
    exercise(t);
    Outcome::Pass
}

fn descriptor_numbers(t: &Target) -> Outcome {
    let (before, next) = (descriptors(), next_descriptor());
    exercise(t);
    let id = t.segment(PAGE);
    let base = t.shmat(id, 0).expect("shmat");
    let set = t.set(1);
    t.semop(set, &[(0, 1, SEM_UNDO)]).expect("semop");
    assert_eq!(next_descriptor(), next, "while something is attached");
    assert_eq!(descriptors(), before);
    t.shmdt(base).expect("shmdt");
    t.sem_remove(set).expect("IPC_RMID");
    assert_eq!((descriptors(), next_descriptor()), (before, next));
    Outcome::Pass
}

fn chroot(t: &Target) -> Outcome {
    let key = t.key();
    let id = t.shmget(key, PAGE, IPC_CREAT | 0o666).expect("shmget");
    let kept = t.shmat(id, 0).expect("shmat");
    poke(kept, 5);
    fs::create_dir("cell").expect("mkdir");
    let (refused, switch) = (77, can_switch_users());
    let prisoner = child(|| {
        // SAFETY: a string that ends in NUL.
        if unsafe { libc::chroot(c"cell".as_ptr()) } != 0 {
            // SAFETY: ends the process.
            unsafe { libc::_exit(refused) };
        }
        std::env::set_current_dir("/").expect("chdir");
        if switch {
            become_user(61_001, 62_001, &[]);
        } else {
            keep_capabilities(&[]);
        }
        assert_eq!(peek(kept), 5);
        assert_eq!(t.shmget(key, 0, 0o666), Ok(id));
        let base = t.shmat(id, 0).expect("shmat");
        poke(base, 6);
        assert_eq!(t.attaches(id), 3);
        exercise(t);
        t.shmdt(kept).expect("shmdt");
        t.shmdt(base).expect("shmdt");
    });
    let status = prisoner.join_status();
    if status.code() == Some(refused) {
        return Outcome::Skip("chroot is not allowed here");
    }
    assert!(status.success(), "the prisoner ended with {status}");
    assert_eq!((peek(kept), t.attaches(id)), (6, 1));
    t.shm_remove(id).expect("IPC_RMID");
    Outcome::Pass
}

fn descriptors_full(t: &Target) -> Outcome {
    let limit = libc::rlimit {
        rlim_cur: 40,
        rlim_max: 40,
    };
    // SAFETY: `limit` is valid for reading.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    let fill = || {
        // SAFETY: takes a number.
        while unsafe { libc::dup(0) } >= 0 {}
        assert_eq!(last_error(), Errno::MFILE);
    };
    fill();
    exercise(t);
    fill();
    let id = t.segment(PAGE);
    let base = t.shmat(id, 0).expect("shmat");
    child(|| {
        assert_eq!(t.attaches(id), 2);
        exercise(t);
    })
    .join();
    t.shmdt(base).expect("shmdt");
    t.wait_attaches(id, 0);
    Outcome::Pass
}

fn bad_pointers(t: &Target) -> Outcome {
    let (segment, queue, set) = (t.segment(PAGE), t.queue(), t.set(2));
    let hidden = map(1);
    assert_eq!(protect(hidden, 1, libc::PROT_NONE), 0);
    let gone = map(1);
    unmap(gone, 1);
    let kernel = 0xffff_8000_0000_0000;
    for address in [
        0,
        8,
        BAD,
        hidden as usize,
        gone as usize,
        kernel,
        usize::MAX - 7,
    ] {
        let at = ptr::without_provenance_mut::<u8>(address);
        let bad = Errno::FAULT;
        for command in [IPC_STAT, IPC_SET, IPC_INFO, SHM_INFO] {
            assert_eq!(
                shmctl_bad(t, segment, command, address),
                Err(bad),
                "{command} {at:p}"
            );
        }
        for command in [IPC_STAT, IPC_SET, IPC_INFO, MSG_INFO] {
            assert_eq!(
                msgctl_bad(t, queue, command, address),
                Err(bad),
                "{command} {at:p}"
            );
        }
        for command in [IPC_STAT, IPC_SET, GETALL, SETALL, IPC_INFO, SEM_INFO] {
            assert_eq!(
                semctl_bad(t, set, command, address),
                Err(bad),
                "{command} {at:p}"
            );
        }
        // SAFETY: the address is not this process's.
        let sent = unsafe { t.calls.msgsnd(queue, at.cast(), 4, IPC_NOWAIT) };
        assert_eq!(sent, Err(bad), "msgsnd {at:p}");
        t.msgsnd(queue, 1, b"text", IPC_NOWAIT).expect("msgsnd");
        // SAFETY: the address is not this process's.
        let received = unsafe { t.calls.msgrcv(queue, at.cast(), 4, 0, IPC_NOWAIT) };
        assert_eq!(received, Err(bad), "msgrcv {at:p}");
        // SAFETY: the address is not this process's.
        let operated = unsafe { t.calls.semop(set, at.cast(), 2) };
        assert_eq!(operated, Err(bad), "semop {at:p}");
        // SAFETY: the address is not this process's.
        let timed = unsafe { t.calls.semtimedop(set, at.cast(), 2, ptr::null()) };
        assert_eq!(timed, Err(bad), "semtimedop {at:p}");
        if address != 0 {
            let one = sembuf {
                sem_num: 0,
                sem_op: 1,
                sem_flg: 0,
            };
            // SAFETY: the timeout's address is not this process's.
            let timed = unsafe { t.calls.semtimedop(set, &one, 1, at.cast()) };
            assert_eq!(timed, Err(bad), "semtimedop's timeout {at:p}");
        }
        // No lock is held: others, and this process, go on with the same objects.
        child(|| use_them(t, segment, queue, set)).join();
        use_them(t, segment, queue, set);
    }
    assert_eq!(t.sem_values(set, 2), Ok(vec![0, 0]));
    Outcome::Pass
}

fn use_them(t: &Target, segment: i32, queue: i32, set: i32) {
    let base = t.shmat(segment, 0).expect("shmat");
    t.wait_attaches(segment, 1);
    t.shmdt(base).expect("shmdt");
    t.msgsnd(queue, 5, b"x", IPC_NOWAIT).expect("msgsnd");
    assert_eq!(t.msgrcv(queue, 4, 5, IPC_NOWAIT), Ok((5, b"x".to_vec())));
    t.semop(set, &[(0, 1, 0), (0, -1, 0)]).expect("semop");
}

/// What handlers use; set before the signal is sent.
static TARGET: AtomicPtr<Target> = AtomicPtr::new(ptr::null_mut());

fn target() -> &'static Target {
    // SAFETY: set by the only thread to a target that outlives the process's last signal.
    unsafe { &*TARGET.load(Relaxed) }
}

extern "C" fn use_calls(_: i32) {
    exercise(target());
}

extern "C" fn use_calls_and_never_return(_: i32) {
    let t = target();
    exercise(t);
    let id = t.queue();
    t.msgsnd(id, 1, b"later", 0).expect("msgsnd");
    assert_eq!(t.msgrcv(id, 8, 0, 0), Ok((1, b"later".to_vec())));
    // SAFETY: ends the process.
    unsafe { libc::_exit(0) };
}

/// Leaves a blocked `msgrcv` and a blocked `semop` by siglongjmp, then uses the calls.
const LONG_JUMP: &str = r#"
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/time.h>
static sigjmp_buf out;
static void handler(int s) { (void)s; siglongjmp(out, 1); }
#define CHECK(c) do { if (!(c)) { q = -1; exit(__LINE__ % 200 + 1); } } while (0)
int main(void) {
    static int q, s;
    struct { long type; char text[8]; } m = {1, "x"};
    struct sembuf take = {0, -1, 0}, give = {0, 2, 0};
    struct itimerval soon = {{0, 0}, {0, 20000}};
    q = msgget(IPC_PRIVATE, 0600);
    s = semget(IPC_PRIVATE, 1, 0600);
    CHECK(q >= 0 && s >= 0);
    signal(SIGALRM, handler);
    if (sigsetjmp(out, 1) == 0) {
        CHECK(setitimer(ITIMER_REAL, &soon, 0) == 0);
        msgrcv(q, &m, 8, 0, 0);
        CHECK(0);
    }
    CHECK(msgsnd(q, &m, 2, 0) == 0 && msgrcv(q, &m, 8, 0, IPC_NOWAIT) == 2);
    if (sigsetjmp(out, 1) == 0) {
        CHECK(setitimer(ITIMER_REAL, &soon, 0) == 0);
        semop(s, &take, 1);
        CHECK(0);
    }
    CHECK(semctl(s, 0, GETNCNT) == 0);
    CHECK(semop(s, &give, 1) == 0 && semop(s, &take, 1) == 0 && semctl(s, 0, GETVAL) == 1);
    CHECK(msgctl(q, IPC_RMID, 0) == 0 && semctl(s, 0, IPC_RMID) == 0);
    return 0;
}
"#;

fn inside_handlers(t: &Target) -> Outcome {
    TARGET.store(ptr::from_ref(t).cast_mut(), Relaxed);
    let (empty, full, set) = (t.queue(), t.queue(), t.set(1));
    while t.msgsnd(full, 1, &[0; 4096], IPC_NOWAIT).is_ok() {}
    let blocked: [&dyn Fn() -> Result<()>; 4] = [
        &|| t.msgrcv(empty, 8, 0, 0).map(drop),
        &|| t.msgsnd(full, 1, &[0; 4096], 0),
        &|| t.semop(set, &[(0, -1, 0)]),
        &|| {
            t.semtimedop(
                set,
                &[(0, -1, 0)],
                &timespec {
                    tv_sec: 60,
                    tv_nsec: 0,
                },
            )
        },
    ];
    for (number, call) in blocked.into_iter().enumerate() {
        for handler in [use_calls as extern "C" fn(i32), use_calls_and_never_return] {
            let sleeper = child(|| {
                on_signal(libc::SIGUSR1, libc::SA_RESTART, handler);
                assert_eq!(call(), Err(Errno::INTR), "call {number}");
                exercise(t);
            });
            sleeper.wait_asleep();
            sleeper.signal(libc::SIGUSR1);
            sleeper.join();
            assert_eq!(t.semctl(set, 0, GETNCNT, 0), Ok(0), "call {number}");
        }
    }
    for id in [empty, full] {
        t.msg_remove(id).expect("IPC_RMID");
    }
    t.sem_remove(set).expect("IPC_RMID");
    // Rust has no siglongjmp; a C program speaks to libc's symbols only.
    if t.uses_errno {
        let program = or_skip!(compile("jump", LONG_JUMP, &[]));
        let status = Command::new(program).status().expect("the program");
        assert!(
            status.success(),
            "{status}: the line in LONG_JUMP, minus one"
        );
    }
    Outcome::Pass
}

fn other_doors(t: &Target) -> Outcome {
    if !t.is_kernel && !t.uses_errno {
        return Outcome::Skip("nothing stands in for libc's names here");
    }
    let key = t.key();
    let segment = t.shmget(key, PAGE, IPC_CREAT | 0o600).expect("shmget");
    let queue = t.msgget(key, IPC_CREAT | 0o600).expect("msgget");
    let set = t.semget(key, 1, IPC_CREAT | 0o600).expect("semget");
    // SAFETY: numbers only.
    let by_number = unsafe { libc::syscall(libc::SYS_shmget, key, 0usize, 0) };
    assert_eq!(by_number, i64::from(segment));
    // SAFETY: numbers only.
    let by_number = unsafe { libc::syscall(libc::SYS_msgget, key, 0) };
    assert_eq!(by_number, i64::from(queue));
    // SAFETY: numbers only.
    let by_number = unsafe { libc::syscall(libc::SYS_semget, key, 0, 0) };
    assert_eq!(by_number, i64::from(set));
    // SAFETY: a null address lets the kernel choose a free one.
    let base = unsafe { libc::syscall(libc::SYS_shmat, segment, 0usize, 0) };
    assert!(base > 0);
    let base = ptr::with_exposed_provenance_mut::<u8>(base as usize);
    let own = t.shmat(segment, 0).expect("shmat");
    poke(own, 3);
    assert_eq!((peek(base), t.attaches(segment)), (3, 2));
    t.shmdt(base)
        .expect("detaching what the other door attached");
    // SAFETY: the test's own attach.
    assert_eq!(unsafe { libc::syscall(libc::SYS_shmdt, own) }, 0);
    assert_eq!(t.attaches(segment), 0);
    let add = sembuf {
        sem_num: 0,
        sem_op: 4,
        sem_flg: 0,
    };
    // SAFETY: one operation.
    let done = unsafe { libc::syscall(libc::SYS_semop, set, &raw const add, 1usize) };
    assert_eq!(done, 0);
    assert_eq!(t.sem_value(set, 0), Ok(4));
    t.msgsnd(queue, 6, b"text", 0).expect("msgsnd");
    let mut room = [0u64; 4];
    let message = room.as_mut_ptr();
    // SAFETY: room for a long and 8 bytes.
    let length = unsafe { libc::syscall(libc::SYS_msgrcv, queue, message, 8usize, 0i64, 0) };
    assert_eq!((length, room[0]), (4, 6));

    // What a module opened with RTLD_DEEPBIND is bound to: libc's own names before anybody's.
    let flags = libc::RTLD_NOW | libc::RTLD_DEEPBIND;
    // SAFETY: a string that ends in NUL; libc is loaded already, so no constructor runs.
    let library = unsafe { libc::dlopen(c"libc.so.6".as_ptr(), flags) };
    if library.is_null() {
        return Outcome::Skip("no shared libc here to open with RTLD_DEEPBIND");
    }
    let find = |name: &CStr| {
        // SAFETY: an open library and a string that ends in NUL.
        let at = unsafe { libc::dlsym(library, name.as_ptr()) };
        assert!(!at.is_null(), "{name:?}");
        at
    };
    type Msgget = unsafe extern "C" fn(i32, i32) -> i32;
    let msgget = find(c"msgget");
    // SAFETY: the type of the C function.
    let msgget = unsafe { std::mem::transmute::<*mut libc::c_void, Msgget>(msgget) };
    // SAFETY: numbers only.
    assert_eq!(unsafe { msgget(key, 0) }, queue);
    type Shmget = unsafe extern "C" fn(i32, usize, i32) -> i32;
    let shmget = find(c"shmget");
    // SAFETY: the type of the C function.
    let shmget = unsafe { std::mem::transmute::<*mut libc::c_void, Shmget>(shmget) };
    // SAFETY: numbers only.
    assert_eq!(unsafe { shmget(key, 0, 0) }, segment);
    t.shm_remove(segment).expect("IPC_RMID");
    t.msg_remove(queue).expect("IPC_RMID");
    t.sem_remove(set).expect("IPC_RMID");
    Outcome::Pass
}

fn wrapped_calls(_: &Target) -> Outcome {
    Outcome::Skip("is tested with two preloads, by checks/preload")
}

fn between_users(t: &Target) -> Outcome {
    if !can_switch_users() {
        return Outcome::Skip("needs root, to switch to other users");
    }
    // To look at what the others have left.
    or_skip!(needs_capability(CAP_IPC_OWNER));
    let (owner, group) = (61_001, 62_001);
    let users = [(owner, 62_009, 6), (61_002, group, 3), (61_003, 62_009, 0)];
    for kind in KINDS {
        for (shift, bits) in [6, 3, 0]
            .into_iter()
            .flat_map(|shift| (0..8).map(move |b| (shift, b)))
        {
            // One class may do what the other two may not.
            let others = 7 & !bits;
            let mode = (others * 0o111) & !(7 << shift) | bits << shift;
            let id = kind.create(t, 0o600);
            prepare(t, kind, id);
            kind.give(t, id, owner, group, mode as u32);
            for (uid, gid, shift) in users {
                let class = mode >> shift;
                let allowed = (class & 4 != 0, class & 2 != 0);
                let contents_before = contents(t, kind, id);
                let before = state(t, kind, id);
                or_skip!(as_user(uid, gid, &[], || {
                    expect(t, kind, id, allowed);
                    if uid != owner {
                        assert_eq!(kind.remove(t, id), Err(Errno::PERM), "{kind:?} {mode:o}");
                    }
                }));
                if class & 6 == 0 {
                    assert_eq!(state(t, kind, id), before, "{kind:?} {mode:o}: touched");
                }
                if class & 2 == 0 {
                    let after = contents(t, kind, id);
                    assert_eq!(after, contents_before, "{kind:?} {mode:o}: damaged");
                }
            }
            kind.remove(t, id).expect("IPC_RMID");
        }
    }
    // What one may write the other reads.
    let id = t.shmget(IPC_PRIVATE, PAGE, 0o600).expect("shmget");
    Kind::Segment.give(t, id, owner, group, 0o640);
    or_skip!(as_user(owner, 62_009, &[], || poke(
        t.shmat(id, 0).expect("shmat"),
        77
    )));
    or_skip!(as_user(61_002, group, &[], || {
        assert_eq!(peek(t.shmat(id, SHM_RDONLY).expect("shmat")), 77);
        assert_eq!(t.shmat(id, 0), Err(Errno::ACCESS));
    }));
    Outcome::Pass
}

/// Gives an object something to be damaged.
fn prepare(t: &Target, kind: Kind, id: i32) {
    match kind {
        Kind::Segment => {
            let base = t.shmat(id, 0).expect("shmat");
            poke(base, 42);
            t.shmdt(base).expect("shmdt");
        }
        Kind::Queue => t.msgsnd(id, 9, b"for others", 0).expect("msgsnd"),
        Kind::Set => t.sem_set_value(id, 0, 42).expect("SETVAL"),
    }
}

/// The status structure of an object.
fn state(t: &Target, kind: Kind, id: i32) -> String {
    match kind {
        Kind::Segment => format!("{:?}", t.shm_stat(id)),
        Kind::Queue => format!("{:?}", t.msg_stat(id)),
        Kind::Set => format!("{:?}", t.sem_stat(id)),
    }
}

/// What an object holds.
fn contents(t: &Target, kind: Kind, id: i32) -> u64 {
    match kind {
        Kind::Segment => {
            let base = t.shmat(id, SHM_RDONLY).expect("shmat");
            let byte = peek(base);
            t.shmdt(base).expect("shmdt");
            u64::from(byte)
        }
        Kind::Queue => t.msg_stat(id).expect("IPC_STAT").__msg_cbytes,
        Kind::Set => t.sem_value(id, 0).expect("GETVAL") as u64,
    }
}
