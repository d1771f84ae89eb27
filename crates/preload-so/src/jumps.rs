//! `longjmp` out of a blocked call.
//!
//! A handler that interrupts a blocked `msgrcv` may leave it by `siglongjmp`: the classic way to a
//! time-out. The call has left word of what it waits for, and what would be handed to it would be
//! lost. So who jumps takes back the word of the calls that he leaves: those whose frames lie below
//! the place to which he jumps.

use crate::home::space;
use crate::next;
use std::arch::{asm, naked_asm};
use std::ffi::{c_int, c_void};

/// Where a jump leads: the stack pointer in a `jmp_buf`, which glibc keeps in the seventh word,
/// turned, and mixed with a word of the thread's.
///
/// # Safety
/// A `jmp_buf` that was filled.
unsafe fn destination(place: *const u64) -> usize {
    const STACK_POINTER: usize = 6;
    // SAFETY: in the `jmp_buf`, here and in the next.
    let at = unsafe { place.add(STACK_POINTER) };
    // SAFETY: as above.
    let mixed = unsafe { at.read() };
    let guard: u64;
    // SAFETY: reads the word that glibc keeps there in every thread.
    unsafe { asm!("mov {}, fs:[0x30]", out(reg) guard, options(nostack, readonly)) };
    (mixed.rotate_right(17) ^ guard) as usize
}

/// # Safety
/// As for [`destination`].
unsafe extern "C" fn before(place: *const u64) {
    if let Some(space) = space()
        && space.is_asleep_here()
    {
        // SAFETY: the caller's promise.
        space.leave_calls_below(unsafe { destination(place) });
    }
}

/// Exports the jumps. They go on by a jump, with the stack as it was.
macro_rules! export {
    ($($name:ident goes on at $next:ident;)*) => {
        $(
            extern "C" fn $next() -> *mut c_void {
                next::$name.address()
            }

            /// # Safety
            /// As for libc's.
            #[unsafe(no_mangle)]
            #[unsafe(naked)]
            unsafe extern "C" fn $name(place: *const u64, value: c_int) {
                naked_asm!(
                    "push rdi",
                    "push rsi",
                    // For the alignment of the stack.
                    "push rax",
                    "call {before}",
                    "call {next}",
                    "pop rcx",
                    "pop rsi",
                    "pop rdi",
                    "jmp rax",
                    before = sym before,
                    next = sym $next,
                )
            }
        )*
    };
}

export! {
    longjmp goes on at next_longjmp;
    _longjmp goes on at next_plain_longjmp;
    siglongjmp goes on at next_siglongjmp;
    __longjmp_chk goes on at next_checked_longjmp;
}
