//! `syscall()`: who makes System V calls by number is served too.
//!
//! Every other number is passed on with all registers and the stack as they came: a child of
//! `syscall(SYS_vfork)` returns on its parent's stack, and another preload may serve numbers of its
//! own.

use crate::calls;
use crate::environment::Strings;
use crate::exec;
use crate::next;
use preload::{credentials, signals};
use std::arch::naked_asm;
use std::ffi::{c_int, c_long, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

/// Numbers below this one are looked up.
const END: usize = 384;

/// One bit for each number that is served, or that has to be heard of.
static SERVED: [u64; END / 64] = {
    let numbers = [
        libc::SYS_shmget,
        libc::SYS_shmat,
        libc::SYS_shmctl,
        libc::SYS_shmdt,
        libc::SYS_semget,
        libc::SYS_semop,
        libc::SYS_semctl,
        libc::SYS_semtimedop,
        libc::SYS_msgget,
        libc::SYS_msgsnd,
        libc::SYS_msgrcv,
        libc::SYS_msgctl,
        libc::SYS_setuid,
        libc::SYS_setgid,
        libc::SYS_setreuid,
        libc::SYS_setregid,
        libc::SYS_setresuid,
        libc::SYS_setresgid,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_rt_sigaction,
        libc::SYS_execve,
        libc::SYS_execveat,
    ];
    let mut bits = [0; END / 64];
    let mut at = 0;
    while at < numbers.len() {
        let number = numbers[at] as usize;
        bits[number / 64] |= 1 << (number % 64);
        at += 1;
    }
    bits
};

/// Where the other numbers go: straight to the kernel until the next `syscall` has been found.
static PASS: AtomicPtr<c_void> = AtomicPtr::new(straight as *mut c_void);

/// Has other numbers passed to the next library that has the name.
pub fn start() {
    let next = next::syscall.address();
    if !next.is_null() {
        // Relaxed: an address of code, which has been there since before it was found.
        PASS.store(next, Ordering::Relaxed);
    }
}

/// As glibc's.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn syscall(number: c_long) -> c_long {
    naked_asm!(
        "cmp rdi, {end}",
        "jae 2f",
        "lea r10, [rip + {served}]",
        "bt [r10], rdi",
        "jc {serve}",
        "2:",
        "mov r10, [rip + {pass}]",
        "jmp r10",
        end = const END,
        served = sym SERVED,
        serve = sym serve,
        pass = sym PASS,
    )
}

/// Makes a call as glibc's `syscall` does.
#[unsafe(naked)]
unsafe extern "C" fn straight(number: c_long) -> c_long {
    naked_asm!(
        "mov rax, rdi",
        "mov rdi, rsi",
        "mov rsi, rdx",
        "mov rdx, rcx",
        "mov r10, r8",
        "mov r8, r9",
        "mov r9, [rsp + 8]",
        "syscall",
        "cmp rax, -4095",
        "jae 2f",
        "ret",
        "2:",
        "mov rdi, rax",
        "jmp {failed}",
        failed = sym failed,
    )
}

/// Makes one of the calls that are only heard of; none has more than five arguments.
///
/// # Safety
/// As for the call.
unsafe fn pass(number: c_long, [a, b, c, d, e]: [usize; 5]) -> c_long {
    type Next = unsafe extern "C" fn(c_long, usize, usize, usize, usize, usize) -> c_long;
    // Relaxed: as in `start`.
    let next = PASS.load(Ordering::Relaxed);
    // SAFETY: the address of a `syscall`, which takes as many arguments as the number needs.
    let next = unsafe { std::mem::transmute::<*mut c_void, Next>(next) };
    // SAFETY: the caller's promise.
    unsafe { next(number, a, b, c, d, e) }
}

extern "C" fn failed(answer: c_long) -> c_long {
    crate::errno::set(-answer as c_int);
    -1
}

/// The calls that are served, with arguments as words, of which each call takes what it needs.
///
/// # Safety
/// As for the call.
unsafe extern "C" fn serve(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
) -> c_long {
    let int = |word: usize| word as c_int;
    let at = std::ptr::with_exposed_provenance_mut::<c_void>;
    match number {
        libc::SYS_shmget => calls::shmget(int(a), b, int(c)).into(),
        libc::SYS_shmat => {
            // SAFETY: the caller's promise, for this and all the others.
            let base = unsafe { calls::shmat(int(a), at(b), int(c)) };
            base.expose_provenance() as c_long
        }
        // SAFETY: as above.
        libc::SYS_shmdt => unsafe { calls::shmdt(at(a)) }.into(),
        // SAFETY: as above.
        libc::SYS_shmctl => unsafe { calls::shmctl(int(a), int(b), at(c).cast()) }.into(),
        libc::SYS_msgget => calls::msgget(int(a), int(b)).into(),
        // SAFETY: as above.
        libc::SYS_msgsnd => unsafe { calls::msgsnd_by_number(int(a), at(b), c, int(d)) }.into(),
        libc::SYS_msgrcv => {
            // SAFETY: as above.
            let length = unsafe { calls::msgrcv_by_number(int(a), at(b), c, d as i64, int(e)) };
            length as c_long
        }
        // SAFETY: as above.
        libc::SYS_msgctl => unsafe { calls::msgctl(int(a), int(b), at(c).cast()) }.into(),
        libc::SYS_semget => calls::semget(int(a), int(b), int(c)).into(),
        // SAFETY: as above.
        libc::SYS_semop => unsafe { calls::semop(int(a), at(b).cast(), c) }.into(),
        libc::SYS_semtimedop => {
            // SAFETY: as above.
            let done = unsafe { calls::semtimedop(int(a), at(b).cast(), c, at(d).cast()) };
            done.into()
        }
        // SAFETY: as above.
        libc::SYS_semctl => unsafe { calls::semctl(int(a), int(b), int(c), d) }.into(),
        libc::SYS_execve => {
            let exec = |environment: Strings| {
                // SAFETY: as above.
                unsafe { pass(number, [a, b, environment.expose_provenance(), 0, 0]) }
            };
            // SAFETY: as above.
            unsafe { exec::execve_by(at(a).cast(), at(c).cast(), exec) }
        }
        libc::SYS_execveat => {
            let exec = |environment: Strings| {
                // SAFETY: as above.
                unsafe { pass(number, [a, b, c, environment.expose_provenance(), e]) }
            };
            // SAFETY: as above.
            unsafe { exec::execveat_by((int(a), int(e)), at(b).cast(), at(d).cast(), exec) }
        }
        _ => {
            if number == libc::SYS_rt_sigaction && b != 0 {
                signals::handled(int(a));
            }
            // SAFETY: as above.
            let answer = unsafe { pass(number, [a, b, c, d, 0]) };
            match number {
                libc::SYS_rt_sigaction => {}
                libc::SYS_unshare | libc::SYS_setns => credentials::changed(),
                // By number they change the calling thread alone.
                _ => credentials::differ(),
            }
            answer
        }
    }
}
