//! `mlockall`: everything that the program has mapped, but not the name space, whose file is larger
//! than any memory and would be brought in page by page.
//!
//! What it maps later follows the kernel's rules, segments apart: attaching brings none of their
//! pages in.

use crate::errno::or_minus_one;
use crate::home::space;
use std::ffi::c_int;
use sysv::syscall;

const KNOWN: c_int = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;

/// As glibc's.
#[unsafe(no_mangle)]
pub extern "C" fn mlockall(flags: c_int) -> c_int {
    or_minus_one(|| {
        let Some(space) = space().filter(|_| flags & !KNOWN == 0 && flags & libc::MCL_CURRENT != 0)
        else {
            return lock(flags);
        };
        space.arena().lock_others(flags & libc::MCL_ONFAULT != 0)?;
        if flags & libc::MCL_FUTURE == 0 {
            return Ok(0);
        }
        lock(flags & !libc::MCL_CURRENT)
    })
}

fn lock(flags: c_int) -> sysv::Result<c_int> {
    const MLOCKALL: usize = 151;
    // SAFETY: takes a number; bytes stay what they are.
    unsafe { syscall(MLOCKALL, [flags as usize, 0, 0, 0, 0, 0]) }.map(|_| 0)
}
