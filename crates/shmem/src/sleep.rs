//! Sleeping on a word until somebody changes it, and saying how the sleep ended.
//!
//! Unlike a bell, which many may hear, such a word belongs to one sleeper: whoever changes it
//! knows that there is somebody to be woken. And the sleeper is told if a signal handler has run,
//! because the calls of System V end then.
//!
//! The kernel tells only of a handler that ended the sleep itself, and no call sleeps on a word and
//! takes signals in one step. A handler that runs just before the sleep, or just after its time was
//! over (which is long on a busy machine, where who is woken has to wait for a processor), would go
//! unnoticed. So signals are taken for exactly the sleep, and a *canary* stands meanwhile where the
//! kernel puts what a handler returns to: right below the stack's red zone.
//!
//! **Limits.** A handler that runs on a stack of its own (`SA_ONSTACK`) leaves the canary alone: it
//! is noticed when it ends the sleep, as the kernel says. A handler that runs just before the sleep
//! is noticed when the slice is over.

use crate::direct::{FUTEX, RT_SIGPROCMASK};
use crate::region::Region;
use crate::signals::Blocked;
use crate::sync::AtomicU32;
use rustix::thread::futex;
use std::arch::asm;
use std::mem::offset_of;
use std::time::Duration;
use sysv::{Errno, Result};

/// Sleeps while the 32-bit word is `expected`, no longer than `slice`. May also end for no reason.
///
/// # Errors
/// `EINTR` if a signal handler has run.
pub fn sleep(region: &Region, offset: usize, expected: u32, slice: Duration) -> Result<()> {
    let slice = futex::Timespec {
        tv_sec: slice.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: slice.subsec_nanos().into(),
    };
    // Always with a time-out: a wait without one would be restarted after a handler that was
    // installed with SA_RESTART.
    let flags = futex::Flags::empty();
    match futex::wait(region.word(offset), flags, expected, Some(&slice)) {
        Err(Errno::INTR) => Err(Errno::INTR),
        // Woken, changed already, or time is up: the caller looks.
        _ => Ok(()),
    }
}

/// [`sleep`], taking the signals that were taken before they were blocked; they are blocked again
/// when this returns. No handler goes unnoticed that runs in between on the thread's stack.
///
/// # Errors
/// `EINTR` if a signal handler has run, or is about to.
pub fn sleep_taking_signals(
    region: &Region,
    offset: usize,
    expected: u32,
    slice: Duration,
    blocked: &Blocked,
) -> Result<()> {
    let Some(mask) = blocked.before() else {
        return sleep(region, offset, expected, slice);
    };
    if blocked.is_handler_due() {
        return Err(Errno::INTR);
    }
    take_signals(region, offset, expected, slice, mask)
}

/// Sleeps with a mask, between two moments in which all signals are blocked.
fn take_signals(
    region: &Region,
    offset: usize,
    expected: u32,
    slice: Duration,
    mask: u64,
) -> Result<()> {
    let time = [
        slice.as_secs().min(i64::MAX as u64),
        slice.subsec_nanos().into(),
    ];
    let mut step = Step {
        mask,
        all: !0,
        word: region.word(offset),
        time: &time,
        expected: expected.into(),
        answer: 0,
        changed: 0,
    };
    take_signals_and_sleep(&mut step);
    let interrupted = Errno::INTR.raw_os_error() as i64;
    if step.changed != 0 || step.answer == -interrupted {
        return Err(Errno::INTR);
    }
    Ok(())
}

/// What the three system calls are given, and what came of them.
#[repr(C)]
struct Step<'a> {
    mask: u64,
    all: u64,
    word: &'a AtomicU32,
    time: &'a [u64; 2],
    expected: u64,
    answer: i64,
    /// Not 0: the canary has changed.
    changed: u64,
}

/// Unblocks signals, sleeps, and blocks them again, with nothing in between but looking after the
/// canary.
#[inline(never)]
fn take_signals_and_sleep(step: &mut Step) {
    const CANARY: u64 = 0x7e57_c0de_5eed_1e55;
    // SAFETY: the sixteen words below the red zone belong to nobody: whatever stands there a signal
    // may overwrite. The system calls read and write the fields of `step`, and what it refers to,
    // and change rax, rcx and r11 beside; the rest is declared.
    unsafe {
        asm!(
            "lea r13, [rsp - 256]",
            "mov r14d, 16",
            "2:",
            "mov [r13], {canary}",
            "add r13, 8",
            "dec r14d",
            "jnz 2b",
            "mov eax, {sigprocmask}", // SIG_SETMASK, the old mask
            "mov edi, 2",
            "lea rsi, [r12 + {mask}]",
            "xor edx, edx",
            "mov r10d, 8",
            "syscall",
            "mov eax, {futex}", // FUTEX_WAIT, shared, relative
            "mov rdi, [r12 + {word}]",
            "xor esi, esi",
            "mov rdx, [r12 + {expected}]",
            "mov r10, [r12 + {time}]",
            "xor r8d, r8d",
            "xor r9d, r9d",
            "syscall",
            "mov [r12 + {answer}], rax",
            "mov eax, {sigprocmask}", // SIG_BLOCK, all
            "xor edi, edi",
            "lea rsi, [r12 + {all}]",
            "xor edx, edx",
            "mov r10d, 8",
            "syscall",
            "lea r13, [rsp - 256]",
            "mov r14d, 16",
            "3:",
            "mov rax, [r13]",
            "xor rax, {canary}",
            "or [r12 + {changed}], rax",
            "add r13, 8",
            "dec r14d",
            "jnz 3b",
            canary = in(reg) CANARY,
            sigprocmask = const RT_SIGPROCMASK,
            futex = const FUTEX,
            mask = const offset_of!(Step, mask),
            all = const offset_of!(Step, all),
            word = const offset_of!(Step, word),
            time = const offset_of!(Step, time),
            expected = const offset_of!(Step, expected),
            answer = const offset_of!(Step, answer),
            changed = const offset_of!(Step, changed),
            in("r12") step,
            out("r13") _, out("r14") _,
            out("rax") _, out("rcx") _, out("r11") _,
            out("rdi") _, out("rsi") _, out("rdx") _,
            out("r10") _, out("r8") _, out("r9") _,
        );
    }
}

/// Whether somebody sleeps on a word that is `expected`, without waking him: then he lives. The
/// answer no means nothing: he may be about to sleep, or have been woken by a signal.
///
/// A system call, which would have a sleeper wait for the very word that he waits for, and answers
/// how many there are.
pub fn has_sleeper(region: &Region, offset: usize, expected: u32) -> bool {
    let fits = offset.checked_add(4).is_some_and(|end| end <= region.len());
    if !fits || !offset.is_multiple_of(4) {
        return false;
    }
    let word = region.word(offset);
    let flags = futex::Flags::empty();
    futex::cmp_requeue(word, flags, 0, 1, word, expected).is_ok_and(|moved| moved > 0)
}

/// Wakes the sleeper on a word, and answers whether somebody slept there: then he lives. Call it
/// after changing the word. Nobody sleeps where no word can be.
pub fn wake(region: &Region, offset: usize) -> bool {
    let fits = offset.checked_add(4).is_some_and(|end| end <= region.len());
    if !fits || !offset.is_multiple_of(4) {
        return false;
    }
    futex::wake(region.word(offset), futex::Flags::empty(), 1).is_ok_and(|woken| woken > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Ordering;
    use std::sync::atomic::AtomicU64;
    use std::time::Instant;

    static HANDLED: AtomicU64 = AtomicU64::new(0);

    extern "C" fn count(_: i32) {
        HANDLED.fetch_add(1, Ordering::SeqCst);
    }

    /// Signals arrive at any moment of short sleeps, so before them and when their time is over
    /// too; each is told of, and nothing else is.
    #[test]
    fn no_handler_goes_unnoticed() {
        // SAFETY: every bit pattern is a sigaction.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = count as *const () as usize;
        // SAFETY: `action` is valid for reading; the handler only counts.
        let set = unsafe { libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut()) };
        assert_eq!(set, 0);
        let region = Region::heap(64);
        region.u32(8).store(1, Ordering::Relaxed);
        // SAFETY: no arguments.
        let sleeper = unsafe { libc::pthread_self() };
        let blocked = Blocked::new();
        let mask = blocked.before().unwrap();
        let mut told = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..2_000u64 {
                    // SAFETY: the thread lives, it waits for the signals.
                    unsafe { libc::pthread_kill(sleeper, libc::SIGUSR2) };
                    while HANDLED.load(Ordering::SeqCst) <= number {
                        std::thread::yield_now();
                    }
                }
            });
            let mut before = HANDLED.load(Ordering::SeqCst);
            while before < 2_000 {
                let slept = take_signals(&region, 8, 1, Duration::from_micros(50), mask);
                let now = HANDLED.load(Ordering::SeqCst);
                assert_eq!(slept == Err(Errno::INTR), now > before);
                told += now - before;
                before = now;
            }
        });
        assert_eq!(told, 2_000);
    }

    #[test]
    fn a_sleeper_is_seen_and_not_woken() {
        let region = Region::heap(64);
        region.u32(8).store(1, Ordering::Relaxed);
        assert!(!has_sleeper(&region, 8, 1));
        assert!(!has_sleeper(&region, 64, 1) && !has_sleeper(&region, 6, 1));
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                while region.load_u32(8, Ordering::Acquire) == 1 {
                    sleep(&region, 8, 1, Duration::from_secs(20)).unwrap();
                }
            });
            let start = Instant::now();
            while !has_sleeper(&region, 8, 1) {
                assert!(start.elapsed() < Duration::from_secs(10), "nobody sleeps");
                std::thread::yield_now();
            }
            assert!(has_sleeper(&region, 8, 1) && !has_sleeper(&region, 8, 2));
            assert!(!sleeper.is_finished());
            region.u32(8).store(2, Ordering::Release);
            assert!(wake(&region, 8));
            sleeper.join().unwrap();
            assert!(!wake(&region, 8));
        });
        assert!(!has_sleeper(&region, 8, 2));
    }
}
