//! A process to which the kernel's System V calls are refused, as in a sandbox or on a kernel that is
//! built without them.

use std::io::Error;
use std::ptr;
use sysv::abi::IPC_PRIVATE;
use sysv::{Calls, Errno, Kernel};

/// The numbers of the calls.
const CALLS: [i64; 12] = [
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmdt,
    libc::SYS_shmctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
];

/// From here on the calls end with `ENOSYS`, in this process and in its children.
///
/// # Panics
/// If the kernel has no `seccomp`.
pub fn refuse() {
    let statement = |code: u32, jump_true: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt: jump_true,
        jf: 0,
        k,
    };
    let refused = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let mut filter = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
    for (at, call) in CALLS.iter().enumerate() {
        // Over the rest of them and over what allows.
        let jump = (CALLS.len() - at) as u8;
        let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        filter.push(statement(equal, jump, *call as u32));
    }
    let answer = libc::BPF_RET | libc::BPF_K;
    filter.push(statement(answer, 0, libc::SECCOMP_RET_ALLOW));
    filter.push(statement(answer, 0, refused));
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    let load = || {
        let mode = libc::SECCOMP_MODE_FILTER as usize;
        // SAFETY: the program is valid for reading.
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, ptr::from_ref(&program)) }
    };
    if load() != 0 {
        // Without privilege it takes a promise to get none.
        // SAFETY: takes numbers.
        unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        assert_eq!(load(), 0, "seccomp: {}", Error::last_os_error());
    }
    assert_eq!(Kernel.semget(IPC_PRIVATE, 1, 0), Err(Errno::NOSYS));
}
