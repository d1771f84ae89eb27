//! A: the binary interface, as the calls fill it and as a C compiler sees it.

use crate::harness::{Outcome, PAGE, Statement, Target, statement};
use crate::or_skip;
use crate::process::child;
use std::ffi::{CStr, c_int};
use std::fmt::Write;
use std::mem::{MaybeUninit, offset_of, size_of};
use std::process::Command;
use std::ptr;
use sysv::abi::*;
use sysv::{Errno, Result};

pub const STATEMENTS: &[Statement] = &[
    statement("A-1", sizes),
    statement("A-2", offsets_of_perm),
    statement("A-3", offsets_of_status),
    statement("A-4", symbols),
    statement("A-5", semop_is_semtimedop),
    statement("A-6", variadic_semctl),
];

/// Compiles a C program in the test's directory, and answers its path.
pub fn compile(
    name: &str,
    text: &str,
    options: &[&str],
) -> std::result::Result<String, &'static str> {
    let source = format!("{name}.c");
    std::fs::write(&source, text).expect("write");
    let output = Command::new("cc")
        .args(options)
        .args(["-o", name, &source])
        .output();
    let Ok(output) = output else {
        return Err("no C compiler here");
    };
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(std::fs::canonicalize(name)
        .expect("path")
        .to_string_lossy()
        .into_owned())
}

/// Compares numbers with what a C compiler makes of the same expressions, where there is one.
fn compare_with_c(expected: &[(&str, usize)]) -> std::result::Result<(), &'static str> {
    let mut text = String::from(
        "#define _GNU_SOURCE\n#include <sys/shm.h>\n#include <sys/msg.h>\n#include <sys/sem.h>\n\
         #include <stddef.h>\n#include <stdio.h>\nint main(void) {\n",
    );
    for (expression, _) in expected {
        writeln!(text, "printf(\"%zu\\n\", (size_t)({expression}));").expect("a string");
    }
    text.push_str("return 0; }\n");
    let program = compile("sizes", &text, &[])?;
    let output = Command::new(program).output().expect("the program");
    let numbers = String::from_utf8(output.stdout).expect("text");
    assert_eq!(numbers.lines().count(), expected.len());
    for (line, (expression, number)) in numbers.lines().zip(expected) {
        assert_eq!(line, number.to_string(), "{expression} in C");
    }
    Ok(())
}

/// How many bytes from the start of `buffer` a call writes: what it leaves is told apart from
/// what it writes by two different fillings.
fn written(mut call: impl FnMut(*mut u8) -> Result<i32>) -> usize {
    let mut end = 0;
    for filling in [0x55u8, 0xaa] {
        let mut buffer = [filling; 512];
        call(buffer.as_mut_ptr()).expect("the call");
        end = end.max(
            buffer
                .iter()
                .rposition(|&byte| byte != filling)
                .map_or(0, |at| at + 1),
        );
    }
    end
}

fn sizes(t: &Target) -> Outcome {
    let (segment, queue, set) = (t.segment(PAGE), t.queue(), t.set(1));
    // SAFETY: the buffer has room for every structure of shmctl.
    let shm = |command| written(|to| unsafe { t.calls.shmctl(segment, command, to.cast()) });
    // SAFETY: the buffer has room for every structure of msgctl.
    let msg = |command| written(|to| unsafe { t.calls.msgctl(queue, command, to.cast()) });
    // SAFETY: the buffer has room for every structure of semctl.
    let sem = |command| written(|to| unsafe { t.calls.semctl(set, 0, command, to as usize) });
    assert_eq!(shm(IPC_STAT), 112);
    assert_eq!(shm(IPC_INFO), 72);
    assert_eq!(shm(SHM_INFO), 48);
    assert_eq!(msg(IPC_STAT), 120);
    assert_eq!(msg(IPC_INFO), 32);
    assert_eq!(msg(MSG_INFO), 32);
    assert_eq!(sem(IPC_STAT), 104);
    assert_eq!(sem(IPC_INFO), 40);
    assert_eq!(sem(SEM_INFO), 40);
    // The second operation stands six bytes behind the first.
    let operations: [i16; 6] = [0, 3, 0, 0, 4, 0];
    assert_eq!(size_of::<sembuf>(), 6);
    // SAFETY: two operations of three 16-bit words each.
    unsafe { t.calls.semop(set, operations.as_ptr().cast(), 2) }.expect("semop");
    assert_eq!(t.sem_value(set, 0), Ok(7));
    or_skip!(compare_with_c(&[
        ("sizeof(struct ipc_perm)", 48),
        ("sizeof(struct shmid_ds)", 112),
        ("sizeof(struct msqid_ds)", 120),
        ("sizeof(struct semid_ds)", 104),
        ("sizeof(struct sembuf)", 6),
        ("sizeof(struct shminfo)", 72),
        ("sizeof(struct shm_info)", 48),
        ("sizeof(struct msginfo)", 32),
        ("sizeof(struct seminfo)", 40),
    ]));
    Outcome::Pass
}

/// A structure's words as the call left them in memory.
fn bytes_at<T: Copy>(structure: &T, offset: usize, length: usize) -> u64 {
    assert!(offset + length <= size_of::<T>());
    let mut word = [0u8; 8];
    let from = ptr::from_ref(structure).cast::<u8>().wrapping_add(offset);
    // SAFETY: inside the structure, which has no uninitialised padding.
    unsafe { ptr::copy_nonoverlapping(from, word.as_mut_ptr(), length) };
    u64::from_ne_bytes(word)
}

fn offsets_of_perm(t: &Target) -> Outcome {
    assert_eq!(offset_of!(ipc_perm, __key), 0);
    assert_eq!(offset_of!(ipc_perm, uid), 4);
    assert_eq!(offset_of!(ipc_perm, gid), 8);
    assert_eq!(offset_of!(ipc_perm, cuid), 12);
    assert_eq!(offset_of!(ipc_perm, cgid), 16);
    assert_eq!(offset_of!(ipc_perm, mode), 20);
    assert_eq!(offset_of!(ipc_perm, __seq), 24);
    let key = t.key();
    let id = t.msgget(key, IPC_CREAT | 0o640).expect("msgget");
    let status = t.msg_stat(id).expect("IPC_STAT");
    // SAFETY: no arguments.
    let (uid, gid) = (unsafe { libc::geteuid() }, unsafe { libc::getegid() });
    assert_eq!(bytes_at(&status, 0, 4), key as u64, "__key");
    assert_eq!(bytes_at(&status, 4, 4), u64::from(uid), "uid");
    assert_eq!(bytes_at(&status, 8, 4), u64::from(gid), "gid");
    assert_eq!(bytes_at(&status, 12, 4), u64::from(uid), "cuid");
    assert_eq!(bytes_at(&status, 16, 4), u64::from(gid), "cgid");
    assert_eq!(bytes_at(&status, 20, 4), 0o640, "mode");
    assert_eq!(
        bytes_at(&status, 24, 2),
        u64::from(status.msg_perm.__seq),
        "__seq"
    );
    t.msg_remove(id).expect("IPC_RMID");
    or_skip!(compare_with_c(&[
        ("offsetof(struct ipc_perm, __key)", 0),
        ("offsetof(struct ipc_perm, uid)", 4),
        ("offsetof(struct ipc_perm, gid)", 8),
        ("offsetof(struct ipc_perm, cuid)", 12),
        ("offsetof(struct ipc_perm, cgid)", 16),
        ("offsetof(struct ipc_perm, mode)", 20),
        ("sizeof(((struct ipc_perm *)0)->mode)", 4),
        ("offsetof(struct ipc_perm, __seq)", 24),
    ]));
    Outcome::Pass
}

fn offsets_of_status(t: &Target) -> Outcome {
    let pid = u64::from(std::process::id());
    let id = t.segment(0x1234);
    let bases = [
        t.shmat(id, 0).expect("shmat"),
        t.shmat(id, 0).expect("shmat"),
    ];
    let third = t.shmat(id, 0).expect("shmat");
    t.shmdt(third).expect("shmdt");
    let status = t.shm_stat(id).expect("IPC_STAT");
    assert_eq!(bytes_at(&status, 48, 8), 0x1234, "shm_segsz");
    assert_eq!(
        bytes_at(&status, 56, 8) as i64,
        status.shm_atime,
        "shm_atime"
    );
    assert_eq!(
        bytes_at(&status, 64, 8) as i64,
        status.shm_dtime,
        "shm_dtime"
    );
    assert_eq!(
        bytes_at(&status, 72, 8) as i64,
        status.shm_ctime,
        "shm_ctime"
    );
    assert!(status.shm_atime > 0 && status.shm_dtime > 0 && status.shm_ctime > 0);
    assert_eq!(bytes_at(&status, 80, 4), pid, "shm_cpid");
    assert_eq!(bytes_at(&status, 84, 4), pid, "shm_lpid");
    assert_eq!(bytes_at(&status, 88, 8), bases.len() as u64, "shm_nattch");

    let id = t.queue();
    for text in ["one", "three", "of them"] {
        t.msgsnd(id, 1, text.as_bytes(), 0).expect("msgsnd");
    }
    t.msgrcv(id, 3, 1, 0).expect("msgrcv");
    let status = t.msg_stat(id).expect("IPC_STAT");
    assert_eq!(
        bytes_at(&status, 48, 8) as i64,
        status.msg_stime,
        "msg_stime"
    );
    assert_eq!(
        bytes_at(&status, 56, 8) as i64,
        status.msg_rtime,
        "msg_rtime"
    );
    assert_eq!(
        bytes_at(&status, 64, 8) as i64,
        status.msg_ctime,
        "msg_ctime"
    );
    assert!(status.msg_stime > 0 && status.msg_rtime > 0 && status.msg_ctime > 0);
    assert_eq!(bytes_at(&status, 72, 8), 12, "__msg_cbytes");
    assert_eq!(bytes_at(&status, 80, 8), 2, "msg_qnum");
    assert_eq!(bytes_at(&status, 88, 8), status.msg_qbytes, "msg_qbytes");
    assert!(status.msg_qbytes >= 12);
    assert_eq!(bytes_at(&status, 96, 4), pid, "msg_lspid");
    assert_eq!(bytes_at(&status, 100, 4), pid, "msg_lrpid");
    t.msg_remove(id).expect("IPC_RMID");

    let id = t.set(7);
    t.semop(id, &[(0, 1, 0)]).expect("semop");
    let status = t.sem_stat(id).expect("IPC_STAT");
    assert_eq!(
        bytes_at(&status, 48, 8) as i64,
        status.sem_otime,
        "sem_otime"
    );
    assert_eq!(
        bytes_at(&status, 64, 8) as i64,
        status.sem_ctime,
        "sem_ctime"
    );
    assert!(status.sem_otime > 0 && status.sem_ctime > 0);
    assert_eq!(bytes_at(&status, 80, 8), 7, "sem_nsems");
    t.sem_remove(id).expect("IPC_RMID");
    or_skip!(compare_with_c(&[
        ("offsetof(struct shmid_ds, shm_segsz)", 48),
        ("offsetof(struct shmid_ds, shm_atime)", 56),
        ("offsetof(struct shmid_ds, shm_dtime)", 64),
        ("offsetof(struct shmid_ds, shm_ctime)", 72),
        ("offsetof(struct shmid_ds, shm_cpid)", 80),
        ("offsetof(struct shmid_ds, shm_lpid)", 84),
        ("offsetof(struct shmid_ds, shm_nattch)", 88),
        ("offsetof(struct msqid_ds, msg_stime)", 48),
        ("offsetof(struct msqid_ds, msg_rtime)", 56),
        ("offsetof(struct msqid_ds, msg_ctime)", 64),
        ("offsetof(struct msqid_ds, __msg_cbytes)", 72),
        ("offsetof(struct msqid_ds, msg_qnum)", 80),
        ("offsetof(struct msqid_ds, msg_qbytes)", 88),
        ("offsetof(struct msqid_ds, msg_lspid)", 96),
        ("offsetof(struct msqid_ds, msg_lrpid)", 100),
        ("offsetof(struct semid_ds, sem_otime)", 48),
        ("offsetof(struct semid_ds, sem_ctime)", 64),
        ("offsetof(struct semid_ds, sem_nsems)", 80),
    ]));
    Outcome::Pass
}

const SYMBOLS: [(&CStr, &CStr); 12] = [
    (c"ftok", c"GLIBC_2.2.5"),
    (c"msgctl", c"GLIBC_2.2.5"),
    (c"msgget", c"GLIBC_2.2.5"),
    (c"msgrcv", c"GLIBC_2.2.5"),
    (c"msgsnd", c"GLIBC_2.2.5"),
    (c"semctl", c"GLIBC_2.2.5"),
    (c"semget", c"GLIBC_2.2.5"),
    (c"semop", c"GLIBC_2.2.5"),
    (c"shmat", c"GLIBC_2.2.5"),
    (c"shmctl", c"GLIBC_2.2.5"),
    (c"shmdt", c"GLIBC_2.2.5"),
    (c"shmget", c"GLIBC_2.2.5"),
];

/// Why the statements about libc's own symbols say nothing about other targets.
const LIBC_ONLY: &str = "speaks of libc's symbols";

fn symbols(t: &Target) -> Outcome {
    if !t.uses_errno {
        return Outcome::Skip(LIBC_ONLY);
    }
    for (name, version) in SYMBOLS.into_iter().chain([(c"semtimedop", c"GLIBC_2.3.3")]) {
        // SAFETY: two strings that end in NUL.
        let at = unsafe { libc::dlvsym(libc::RTLD_DEFAULT, name.as_ptr(), version.as_ptr()) };
        assert!(!at.is_null(), "no {name:?} in {version:?}");
    }
    Outcome::Pass
}

fn semop_is_semtimedop(t: &Target) -> Outcome {
    if !t.uses_errno {
        return Outcome::Skip(LIBC_ONLY);
    }
    let id = t.set(1);
    let waiter = child(|| {
        // Ends with the set.
        assert_eq!(t.semop(id, &[(0, -1, 0)]), Err(Errno::IDRM));
    });
    waiter.wait_asleep();
    let call = std::fs::read_to_string(format!("/proc/{}/syscall", waiter.pid())).expect("call");
    let words: Vec<&str> = call.split_whitespace().collect();
    if t.is_kernel {
        assert_eq!(
            words[0],
            libc::SYS_semtimedop.to_string(),
            "the call it sleeps in"
        );
        assert_eq!(words[4], "0x0", "the timeout");
    }
    t.sem_remove(id).expect("IPC_RMID");
    waiter.join();
    // A library that defines only semtimedop does not see the calls of semop.
    let library = or_skip!(compile(
        "only_semtimedop",
        "#include <unistd.h>\nint semtimedop(void) { _exit(3); }\n",
        &["-shared", "-fPIC"],
    ));
    let program = or_skip!(compile(
        "calls_semop",
        "#include <sys/sem.h>\nint main(void) { struct sembuf b = {0, 1, 0};\n\
         return semop(-1, &b, 1) == -1 ? 0 : 1; }\n",
        &[],
    ));
    let status = Command::new(program)
        .env("LD_PRELOAD", library)
        .status()
        .expect("the program");
    assert_eq!(status.code(), Some(0), "3 is the library's semtimedop");
    Outcome::Pass
}

unsafe extern "C" {
    fn semctl(id: c_int, number: c_int, command: c_int, ...) -> c_int;
}

/// A program for `seccomp` that kills the process at `semctl`.
fn forbid_semctl() {
    let statement = |code: u32, jump_true: u8, jump_false: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt: jump_true,
        jf: jump_false,
        k,
    };
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            libc::SYS_semctl as u32,
        ),
        statement(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_KILL_PROCESS,
        ),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: takes numbers.
    let set = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(set, 0, "no_new_privs: {}", std::io::Error::last_os_error());
    let mode = libc::SECCOMP_MODE_FILTER as usize;
    // SAFETY: the program is valid for reading.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, ptr::from_ref(&program)) };
    assert_eq!(set, 0, "seccomp: {}", std::io::Error::last_os_error());
}

fn variadic_semctl(t: &Target) -> Outcome {
    let id = t.set(2);
    t.sem_set_values(id, &[3, 4]).expect("SETALL");
    let pid = std::process::id() as i32;
    let plain = [(GETVAL, 4), (GETPID, pid), (GETNCNT, 0), (GETZCNT, 0)];
    // The argument is not looked at.
    for (command, expected) in plain {
        assert_eq!(t.semctl(id, 1, command, -1), Ok(expected), "{command}");
    }
    if !t.uses_errno {
        t.semctl(id, 0, IPC_RMID, -1).expect("IPC_RMID");
        return Outcome::Pass;
    }
    for (command, expected) in plain {
        // SAFETY: these commands take no argument.
        assert_eq!(unsafe { semctl(id, 1, command) }, expected, "{command}");
    }
    child(|| {
        forbid_semctl();
        for command in [21, 99, -1, 100_000] {
            assert_eq!(t.semctl(id, 0, command, 0), Err(Errno::INVAL), "{command}");
        }
    })
    .join();
    let mut values = [0u16; 2];
    let mut status = MaybeUninit::<semid_ds>::zeroed();
    let mut limits = MaybeUninit::<seminfo>::zeroed();
    // SAFETY: the value itself.
    assert_eq!(unsafe { semctl(id, 0, SETVAL, 9 as c_int) }, 0);
    // SAFETY: room for two values.
    assert_eq!(unsafe { semctl(id, 0, GETALL, values.as_mut_ptr()) }, 0);
    assert_eq!(values, [9, 4]);
    // SAFETY: two values.
    assert_eq!(unsafe { semctl(id, 0, SETALL, values.as_ptr()) }, 0);
    // SAFETY: room for a semid_ds.
    assert_eq!(unsafe { semctl(id, 0, IPC_STAT, status.as_mut_ptr()) }, 0);
    // SAFETY: a semid_ds.
    assert_eq!(unsafe { semctl(id, 0, IPC_SET, status.as_mut_ptr()) }, 0);
    for command in [SEM_STAT, SEM_STAT_ANY] {
        let buffer = status.as_mut_ptr();
        // SAFETY: room for a semid_ds.
        assert_eq!(unsafe { semctl(id % IPCMNI, 0, command, buffer) }, id);
    }
    for command in [IPC_INFO, SEM_INFO] {
        // SAFETY: room for a seminfo.
        assert!(unsafe { semctl(0, 0, command, limits.as_mut_ptr()) } >= id % IPCMNI);
    }
    // SAFETY: IPC_RMID takes no argument.
    assert_eq!(unsafe { semctl(id, 0, IPC_RMID) }, 0);
    assert_eq!(t.sem_stat(id), Err(Errno::INVAL));
    Outcome::Pass
}
