//! Memory that a caller names by an address, which may be bad: copied by the kernel, so that a
//! bad address is an error and no fault.
//!
//! **Cost.** A system call each, about 0.2 µs.

use crate::direct::{PROCESS_VM_READV, PROCESS_VM_WRITEV, syscall};
use rustix::process::getpid;
use sysv::{Errno, Result};

#[repr(C)]
struct Range {
    base: usize,
    length: usize,
}

/// Copies bytes from an address.
///
/// # Errors
/// `EFAULT` if not all of them can be read.
pub fn read(address: usize, to: &mut [u8]) -> Result<()> {
    if to.is_empty() {
        return Ok(());
    }
    let length = to.len();
    let local = Range {
        base: to.as_mut_ptr() as usize,
        length,
    };
    let remote = Range {
        base: address,
        length,
    };
    // SAFETY: `local` is memory for `length` bytes; `remote` is the kernel's to check.
    let got = unsafe { copy(PROCESS_VM_READV, &local, &remote) };
    whole(got, length)
}

/// Copies bytes to an address.
///
/// # Errors
/// `EFAULT` if not all of them can be written; some may have been.
///
/// # Safety
/// The range is the caller's to write, or no memory of the process's.
pub unsafe fn write(address: usize, from: &[u8]) -> Result<()> {
    if from.is_empty() {
        return Ok(());
    }
    let length = from.len();
    let local = Range {
        base: from.as_ptr() as usize,
        length,
    };
    let remote = Range {
        base: address,
        length,
    };
    // SAFETY: `local` is valid for reading; `remote` is the caller's promise or the kernel's to
    // refuse.
    let got = unsafe { copy(PROCESS_VM_WRITEV, &local, &remote) };
    whole(got, length)
}

/// One of the two calls, within this process.
///
/// # Safety
/// As for the call: its ranges are valid for what it does.
unsafe fn copy(number: usize, local: &Range, remote: &Range) -> Result<usize> {
    let pid = getpid().as_raw_nonzero().get() as usize;
    let (local, remote) = (&raw const *local as usize, &raw const *remote as usize);
    // SAFETY: one range on each side, which are valid by the caller's promise.
    unsafe { syscall(number, [pid, local, 1, remote, 1, 0]) }
}

fn whole(got: Result<usize>, length: usize) -> Result<()> {
    match got {
        Ok(count) if count == length => Ok(()),
        // Part of it, or an address that is none.
        Ok(_) | Err(Errno::FAULT | Errno::INVAL) => Err(Errno::FAULT),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_addresses_are_errors() {
        let text = *b"text";
        let mut copy = [0; 4];
        read(text.as_ptr() as usize, &mut copy).unwrap();
        assert_eq!(copy, text);
        for bad in [0, 8, 0xdead_0000_0000_0000, usize::MAX - 2] {
            assert_eq!(read(bad, &mut copy), Err(Errno::FAULT));
            // SAFETY: no memory of this process.
            assert_eq!(unsafe { write(bad, &text) }, Err(Errno::FAULT));
        }
    }
}
