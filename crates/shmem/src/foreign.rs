//! Memory that a caller names by an address, which may be bad: a bad address is an error and no
//! fault.
//!
//! What is [`solid`] is copied as it is. Of other memory the kernel is asked, a
//! system call for each page, whether it can be read or written; more than a few pages, and what
//! looks bad, the kernel copies itself.
//!
//! **Limits.** A thread that takes memory away just between the question and the copy, while
//! another one passes it to a call, has the process killed where the kernel would have said
//! `EFAULT`.
//!
//! **Cost.** Some nanoseconds; a system call of 0.1 µs for each page that is not solid.

use crate::direct::{PROCESS_VM_READV, PROCESS_VM_WRITEV, RT_SIGPROCMASK, syscall};
use crate::solid;
use rustix::process::getpid;
use std::ptr;
use sysv::{Errno, Result};

#[repr(C)]
struct Range {
    base: usize,
    length: usize,
}

/// The smallest page there is: what can be read at one address of it can be read at all.
const PAGE: usize = 4096;
/// How many bytes the kernel looks at to answer a question.
const LOOK: usize = 8;
/// So many questions take about as long as having the kernel copy.
const QUESTIONS: usize = 3;

/// What the kernel is asked of memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Read,
    Write,
}

/// Copies bytes from an address.
///
/// # Errors
/// `EFAULT` if not all of them can be read.
#[inline]
pub fn read(address: usize, to: &mut [u8]) -> Result<()> {
    if to.is_empty() {
        return Ok(());
    }
    if solid::can_read(address, to.len()) || is_good(address, to.len(), Asked::Read) {
        let from = ptr::with_exposed_provenance::<u8>(address);
        // SAFETY: the source can be read, as was just found out; a thread of the program that
        // writes it meanwhile changes which bytes are copied. The copy is memory of ours.
        unsafe { from.copy_to(to.as_mut_ptr(), to.len()) };
        return Ok(());
    }
    have_read(address, to)
}

/// Copies bytes to an address.
///
/// # Errors
/// `EFAULT` if not all of them can be written; some may have been.
///
/// # Safety
/// The range is the caller's to write, or no memory of the process's.
#[inline]
pub unsafe fn write(address: usize, from: &[u8]) -> Result<()> {
    if from.is_empty() {
        return Ok(());
    }
    if solid::can_write(address, from.len()) || is_good(address, from.len(), Asked::Write) {
        let to = ptr::with_exposed_provenance_mut::<u8>(address);
        // SAFETY: the range can be written, as was just found out, and may be by the caller's
        // promise.
        unsafe { from.as_ptr().copy_to(to, from.len()) };
        return Ok(());
    }
    // SAFETY: the caller's promise.
    unsafe { have_written(address, from) }
}

/// Whether a range can be read or written, as far as a few questions tell. What is asked for writing
/// is changed by the question.
fn is_good(address: usize, length: usize, what: Asked) -> bool {
    let end = match address.checked_add(length) {
        // No address at all is another question; the last page is the kernel's.
        Some(end) if address != 0 && end <= usize::MAX - PAGE => end,
        _ => return false,
    };
    let first = address / PAGE;
    if (end - 1) / PAGE - first >= QUESTIONS {
        return false;
    }
    (first..=(end - 1) / PAGE).all(|page| {
        let start = address.max(page * PAGE);
        let stop = end.min((page + 1) * PAGE);
        // Nothing beside the range may be written; reading it must not decide.
        let fits = what == Asked::Read || stop - start >= LOOK;
        let start = start.min(page * PAGE + PAGE - LOOK);
        fits && answers(start, what)
    })
}

/// Whether eight bytes can be read or written, of which the latter changes them.
fn answers(address: usize, what: Asked) -> bool {
    // No operation on a signal mask has this number: the kernel looks at the new mask, and then
    // refuses. Without a new mask it writes the present one and changes nothing.
    const NO_OPERATION: usize = 77;
    let arguments = match what {
        Asked::Read => [NO_OPERATION, address, 0, LOOK, 0, 0],
        Asked::Write => [NO_OPERATION, 0, address, LOOK, 0, 0],
    };
    // SAFETY: the kernel checks the address; it writes only where the caller is about to.
    let answer = unsafe { syscall(RT_SIGPROCMASK, arguments) };
    match what {
        Asked::Read => answer == Err(Errno::INVAL),
        Asked::Write => answer.is_ok(),
    }
}

/// Has the kernel copy bytes from an address.
#[cold]
fn have_read(address: usize, to: &mut [u8]) -> Result<()> {
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

/// Has the kernel copy bytes to an address.
///
/// # Safety
/// As for [`write`].
#[cold]
unsafe fn have_written(address: usize, from: &[u8]) -> Result<()> {
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
    use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};

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
            // SAFETY: as above.
            let long = unsafe { write(bad, &[0; 100]) };
            assert_eq!(long, Err(Errno::FAULT));
        }
    }

    /// Pages of which the last one can't be touched, and the one before only be read.
    fn pages() -> usize {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new private mapping at an address of the kernel's choice replaces nothing.
        let base = unsafe {
            rustix::mm::mmap_anonymous(ptr::null_mut(), 8 * PAGE, access, MapFlags::PRIVATE)
        };
        let base = base.unwrap();
        for (page, access) in [(6, MprotectFlags::READ), (7, MprotectFlags::empty())] {
            let at = base.wrapping_byte_add(page * PAGE);
            // SAFETY: pages of the mapping just made, to which nothing refers.
            unsafe { rustix::mm::mprotect(at, PAGE, access) }.unwrap();
        }
        base.expose_provenance()
    }

    #[test]
    fn a_range_is_good_up_to_its_last_byte() {
        let base = pages();
        let bytes: Vec<u8> = (0..5 * PAGE).map(|at| at as u8).collect();
        let mut copy = vec![0; 5 * PAGE];
        for length in [1, 2, 6, 7, 8, 9, 72, PAGE, PAGE + 3, 2 * PAGE, 5 * PAGE] {
            for over in [0, 1, 5, 8] {
                let (at, from) = (base + 6 * PAGE - length + over, &bytes[..length]);
                // SAFETY: memory of the mapping that nothing else refers to.
                let written = unsafe { write(at, from) };
                let expected = if over == 0 { Ok(()) } else { Err(Errno::FAULT) };
                assert_eq!(written, expected, "{length} {over}");
                let at = base + 7 * PAGE - length + over;
                assert_eq!(read(at, &mut copy[..length]), expected, "{length} {over}");
                if over == 0 {
                    read(base + 6 * PAGE - length, &mut copy[..length]).unwrap();
                    assert_eq!(&copy[..length], from);
                }
            }
        }
    }
}
