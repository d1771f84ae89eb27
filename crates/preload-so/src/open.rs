//! `open` and `fopen`: the kernel's files about System V objects show those of the name space.
//!
//! `ipcs` and `lsipc` read `/proc/sysvipc/*` and `/proc/sys/kernel/{shmmax,msgmax,sem,…}`, and
//! should see what the program's own calls see. Whoever opens one of them gets a file in memory with
//! its text. Limits can't be written this way: no library hears of a `write`.
//!
//! The next library is asked first, and its answer is replaced: then a path that is no string has
//! been refused by the kernel before we look at it. Relative paths are taken from the folder that
//! they begin in, and `.`, `..` and `//` as what they mean.
//!
//! **Limits.** Who opens by number (`syscall(SYS_openat, …)`), and who reads by another path to the
//! same files (a second mount of `proc`, a symbolic link of his own), sees the kernel's.

use crate::errno;
use crate::home::{say, space};
use crate::next;
use libc::AT_FDCWD;
use preload::files::{self, File};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::io::Write;
use std::mem::transmute;
use sysv::{Errno, Result, syscall};

const WRITE: usize = 1;
const CLOSE: usize = 3;
const LSEEK: usize = 8;
const FCNTL: usize = 72;
const READLINK: usize = 89;
const MEMFD_CREATE: usize = 319;

type Open = unsafe extern "C-unwind" fn(*const c_char, c_int, c_uint) -> c_int;
type OpenAt = unsafe extern "C-unwind" fn(c_int, *const c_char, c_int, c_uint) -> c_int;
type Fopen = unsafe extern "C-unwind" fn(*const c_char, *const c_char) -> *mut libc::FILE;

/// Exports the functions that answer a descriptor. Their last argument is there if the flags say so;
/// a register more does no harm.
macro_rules! export {
    ($($name:ident: $type:ident($($before:ident: $what:ty)?) from $folder:expr;)*) => {
        $(
            /// # Safety
            /// As for libc's: `path` is a string, or no address of the caller's.
            #[unsafe(no_mangle)]
            unsafe extern "C-unwind" fn $name(
                $($before: $what,)? path: *const c_char, flags: c_int, mode: c_uint,
            ) -> c_int {
                let next = next::$name.address();
                if next.is_null() {
                    return errno::fail(Errno::NOSYS);
                }
                // SAFETY: the function of that name has that type.
                let next = unsafe { transmute::<*mut c_void, $type>(next) };
                // SAFETY: the caller's promise.
                let answer = unsafe { next($($before,)? path, flags, mode) };
                // SAFETY: the kernel has seen it.
                unsafe { instead(answer, ($folder, path), flags) }
            }
        )*
    };
}

export! {
    open: Open() from AT_FDCWD;
    open64: Open() from AT_FDCWD;
    __open_2: Open() from AT_FDCWD;
    __open64_2: Open() from AT_FDCWD;
    openat: OpenAt(folder: c_int) from folder;
    openat64: OpenAt(folder: c_int) from folder;
    __openat_2: OpenAt(folder: c_int) from folder;
    __openat64_2: OpenAt(folder: c_int) from folder;
}

/// What stands for the answer to an `open`.
///
/// # Safety
/// `path` is what that answer was given for.
unsafe fn instead(answer: c_int, (folder, path): (c_int, *const c_char), flags: c_int) -> c_int {
    if answer == -1 && errno::get() == libc::EFAULT {
        return answer;
    }
    // SAFETY: the kernel has found a string there.
    let Some((path, file)) = (unsafe { shown(folder, path) }) else {
        return answer;
    };
    if answer >= 0 {
        close(answer);
    }
    substitute(path, file, flags)
}

/// A descriptor of what is shown, or −1.
fn substitute(path: &CStr, file: File, flags: c_int) -> c_int {
    errno::or_minus_one(|| {
        if flags & (libc::O_WRONLY | libc::O_RDWR) != 0 {
            return Err(refuse(path));
        }
        contents(path, file, flags & libc::O_CLOEXEC != 0)
    })
}

/// The file that is shown in place of that at a path.
///
/// # Safety
/// `path` is a string.
unsafe fn shown<'p>(folder: c_int, path: *const c_char) -> Option<(&'p CStr, File)> {
    // SAFETY: the caller's promise.
    let path = unsafe { CStr::from_ptr(path) };
    if !files::may_be(path.to_bytes()) {
        return None;
    }
    space()?;
    let mut base = [0; files::LONGEST];
    let base = if path.to_bytes().starts_with(b"/") {
        &[]
    } else {
        path_of(folder, &mut base)?
    };
    let file = files::within(base, path.to_bytes())?;
    Some((path, file))
}

/// The path of a folder that is open, or of the one this process is in.
fn path_of(folder: c_int, text: &mut [u8]) -> Option<&[u8]> {
    let mut link = [0u8; 32];
    let written = match folder {
        AT_FDCWD => write!(&mut link[..], "/proc/self/cwd"),
        _ => write!(&mut link[..], "/proc/self/fd/{folder}"),
    };
    written.ok()?;
    let target = [
        link.as_ptr() as usize,
        text.as_mut_ptr() as usize,
        text.len(),
    ];
    // SAFETY: a string that ends in NUL, and what is valid for writing.
    let length = unsafe { syscall(READLINK, [target[0], target[1], target[2], 0, 0, 0]) };
    text.get(..length.ok()?)
}

/// A descriptor of a file that holds the text.
fn contents(path: &CStr, file: File, close_on_exec: bool) -> Result<c_int> {
    const CLOEXEC: usize = 1;
    const ALLOW_SEALING: usize = 2;
    const ADD_SEALS: usize = 1033;
    const SEAL_SHRINK_GROW_WRITE: usize = 2 | 4 | 8;
    let text = match space() {
        Some(space) => file.text(space)?,
        None => return Err(Errno::NOENT),
    };
    let flags = ALLOW_SEALING | if close_on_exec { CLOEXEC } else { 0 };
    // SAFETY: a string, which the kernel copies.
    let got = unsafe { syscall(MEMFD_CREATE, [path.as_ptr() as usize, flags, 0, 0, 0, 0]) }?;
    // SAFETY: valid for reading.
    let written = unsafe { syscall(WRITE, [got, text.as_ptr() as usize, text.len(), 0, 0, 0]) };
    if written != Ok(text.len()) {
        close(got as c_int);
        return Err(written.err().unwrap_or(Errno::NOMEM));
    }
    // SAFETY: numbers only.
    let _ = unsafe { syscall(LSEEK, [got, 0, 0, 0, 0, 0]) };
    // Who could write it would think that it had changed something.
    let seals = [got, ADD_SEALS, SEAL_SHRINK_GROW_WRITE, 0, 0, 0];
    // SAFETY: numbers only.
    let _ = unsafe { syscall(FCNTL, seals) };
    Ok(got as c_int)
}

fn close(descriptor: c_int) {
    // SAFETY: just made, and known to nobody.
    let _ = unsafe { syscall(CLOSE, [descriptor as usize, 0, 0, 0, 0, 0]) };
}

/// What is to be written is refused: as on a file system that is mounted read-only.
fn refuse(path: &CStr) -> Errno {
    say(&[
        path.to_bytes(),
        b" cannot be written inside a name space, whose limits are chosen when it is made: \
          tombolo run --limits",
    ]);
    Errno::ROFS
}

macro_rules! export_fopen {
    ($($name:ident)*) => {
        $(
            /// # Safety
            /// As for libc's: two strings; `path` may be no address of the caller's.
            #[unsafe(no_mangle)]
            unsafe extern "C-unwind" fn $name(
                path: *const c_char, mode: *const c_char,
            ) -> *mut libc::FILE {
                let next = next::$name.address();
                if next.is_null() {
                    errno::set(libc::ENOSYS);
                    return std::ptr::null_mut();
                }
                // SAFETY: the function of that name has that type.
                let next = unsafe { transmute::<*mut c_void, Fopen>(next) };
                // SAFETY: the caller's promise.
                let answer = unsafe { next(path, mode) };
                // SAFETY: the caller's promise; the kernel has seen the path.
                unsafe { stream_instead(answer, path, mode) }
            }
        )*
    };
}

export_fopen! { fopen fopen64 }

/// What stands for the answer to an `fopen`.
///
/// # Safety
/// Both are what that answer was given for.
unsafe fn stream_instead(
    answer: *mut libc::FILE,
    path: *const c_char,
    mode: *const c_char,
) -> *mut libc::FILE {
    // EINVAL: of a mode that is none, before the path was looked at.
    if answer.is_null() && matches!(errno::get(), libc::EFAULT | libc::EINVAL) {
        return answer;
    }
    // SAFETY: the kernel has found a string there.
    let Some((path, file)) = (unsafe { shown(AT_FDCWD, path) }) else {
        return answer;
    };
    if !answer.is_null() {
        // SAFETY: just opened, and known to nobody.
        unsafe { libc::fclose(answer) };
    }
    // SAFETY: the caller's promise.
    let letters = unsafe { CStr::from_ptr(mode) }.to_bytes();
    let writes = letters.first() != Some(&b'r') || letters.contains(&b'+');
    let mut flags = if writes { libc::O_RDWR } else { libc::O_RDONLY };
    if letters.contains(&b'e') {
        flags |= libc::O_CLOEXEC;
    }
    let descriptor = substitute(path, file, flags);
    if descriptor < 0 {
        return std::ptr::null_mut();
    }
    // SAFETY: a new descriptor, and a mode that `fopen` was given.
    let stream = unsafe { libc::fdopen(descriptor, mode) };
    if stream.is_null() {
        close(descriptor);
    }
    stream
}
