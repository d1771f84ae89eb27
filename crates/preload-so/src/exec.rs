//! The `exec` family: children stay in the name space, and who can't be served is named.
//!
//! - A program that can't be served (statically linked, set-uid, …) is said to be so on the standard
//!   error stream as it is started, because afterwards nobody of ours is there to say it.
//! - `TOMBOLO_SPACE` and `LD_PRELOAD` are put back where an environment was built without them: see
//!   [`crate::environment`].
//!
//! libc's `execv`, `execl` and their like reach the kernel by an internal call, so each name has to
//! be served; all of them go on to the next `execve`, which other preloads may serve. So is
//! `syscall(SYS_execve, …)`. `system` and `popen` start a shell by an internal call as well: see
//! [`crate::shell`]. What `wordexp` runs, and who enters the kernel by an instruction of his own, is
//! not seen.
//!
//! Between `vfork` and `exec` memory is the parent's: nothing here takes any from the heap.

use crate::environment::{Strings, own};
use crate::errno;
use crate::home::{kept, say};
use crate::next;
use preload::program::{self, Unserved};
use std::arch::naked_asm;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::transmute;
use std::os::fd::{AsFd, BorrowedFd};
use sysv::{Errno, syscall};

type Execve = unsafe extern "C" fn(*const c_char, Strings, Strings) -> c_int;
type Fexecve = unsafe extern "C" fn(c_int, Strings, Strings) -> c_int;
type Execveat = unsafe extern "C" fn(c_int, *const c_char, Strings, Strings, c_int) -> c_int;
type Spawn = unsafe extern "C" fn(
    *mut libc::pid_t,
    *const c_char,
    *const c_void,
    *const c_void,
    Strings,
    Strings,
) -> c_int;

/// The function behind one of ours, of the type that it has.
macro_rules! next {
    ($name:ident: $type:ty) => {{
        let next = next::$name.address();
        if next.is_null() {
            return errno::fail(Errno::NOSYS);
        }
        // SAFETY: the function of that name has that type.
        unsafe { transmute::<*mut c_void, $type>(next) }
    }};
}

/// Calls `then` with what the environment is to be.
///
/// # Safety
/// `environment` is null or an array of strings.
unsafe fn with_ours<R>(environment: Strings, then: impl FnOnce(Strings) -> R) -> R {
    match kept() {
        // SAFETY: the caller's promise.
        Some(kept) => unsafe { kept.complete(environment, then) },
        None => then(environment),
    }
}

/// Says so if a program can't be served.
fn report(name: &CStr, folder: BorrowedFd<'_>, path: &CStr) {
    if let Some(file) = program::open(folder, path) {
        report_open(name, file.as_fd());
    }
}

fn report_open(name: &CStr, file: BorrowedFd<'_>) {
    if let Some(why) = program::unserved(file) {
        complain(name, why);
    }
}

#[cold]
fn complain(name: &CStr, why: Unserved) {
    say(&[
        name.to_bytes(),
        b" ",
        why.reason().as_bytes(),
        b": its System V calls go to the kernel",
    ]);
}

/// The string at an address, if there is something to be said about programs at all.
///
/// # Safety
/// It is a string, or no address of the caller's.
unsafe fn reported<'s>(path: *const c_char) -> Option<&'s CStr> {
    const ACCESS: usize = 21;
    kept()?;
    // SAFETY: the kernel checks the path.
    if unsafe { syscall(ACCESS, [path as usize, 0, 0, 0, 0, 0]) } == Err(Errno::FAULT) {
        return None;
    }
    // SAFETY: the caller's promise.
    Some(unsafe { CStr::from_ptr(path) })
}

/// Looks at the program that `PATH` leads to.
///
/// # Safety
/// As for [`reported`].
unsafe fn report_searched(file: *const c_char) {
    // SAFETY: the caller's promise.
    let Some(file) = (unsafe { reported(file) }) else {
        return;
    };
    if file.to_bytes().contains(&b'/') {
        return report(file, program::HERE, file);
    }
    // SAFETY: a string that ends in NUL.
    let path = unsafe { libc::getenv(c"PATH".as_ptr()) };
    let path = if path.is_null() {
        &b"/bin:/usr/bin"[..]
    } else {
        // SAFETY: an entry of the environment.
        unsafe { CStr::from_ptr(path) }.to_bytes()
    };
    for folder in path.split(|byte| *byte == b':') {
        let mut whole = [0u8; 4096];
        let separator = if folder.is_empty() { &b""[..] } else { b"/" };
        let mut end = 0;
        for part in [folder, separator, file.to_bytes_with_nul()] {
            let Some(to) = whole.get_mut(end..end + part.len()) else {
                return;
            };
            to.copy_from_slice(part);
            end += part.len();
        }
        let Ok(path) = CStr::from_bytes_until_nul(&whole) else {
            return;
        };
        if program::is_executable(path) {
            return report(file, program::HERE, path);
        }
    }
}

/// # Safety
/// Of this and those that follow: as for libc's.
#[unsafe(no_mangle)]
unsafe extern "C" fn execve(path: *const c_char, argv: Strings, envp: Strings) -> c_int {
    let next = next!(execve: Execve);
    let exec = |envp| {
        // SAFETY: the caller's promise.
        unsafe { next(path, argv, envp) }
    };
    // SAFETY: the caller's promise.
    unsafe { execve_by(path, envp, exec) }
}

/// `execve` by a way that is given.
///
/// # Safety
/// See `execve`.
pub unsafe fn execve_by<R>(
    path: *const c_char,
    envp: Strings,
    exec: impl FnOnce(Strings) -> R,
) -> R {
    // SAFETY: the caller's promise.
    if let Some(path) = unsafe { reported(path) } {
        report(path, program::HERE, path);
    }
    // SAFETY: the caller's promise.
    unsafe { with_ours(envp, exec) }
}

/// # Safety
/// See `execve`.
#[unsafe(no_mangle)]
unsafe extern "C" fn execv(path: *const c_char, argv: Strings) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { execve(path, argv, own()) }
}

/// # Safety
/// See `execve`.
#[unsafe(no_mangle)]
unsafe extern "C" fn execvpe(file: *const c_char, argv: Strings, envp: Strings) -> c_int {
    let next = next!(execvpe: Execve);
    // SAFETY: the caller's promise.
    unsafe { report_searched(file) };
    let exec = |envp| {
        // SAFETY: the caller's promise.
        unsafe { next(file, argv, envp) }
    };
    // SAFETY: the caller's promise.
    unsafe { with_ours(envp, exec) }
}

/// # Safety
/// See `execve`.
#[unsafe(no_mangle)]
unsafe extern "C" fn execvp(file: *const c_char, argv: Strings) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { execvpe(file, argv, own()) }
}

/// # Safety
/// See `execve`.
#[unsafe(no_mangle)]
unsafe extern "C" fn fexecve(descriptor: c_int, argv: Strings, envp: Strings) -> c_int {
    let next = next!(fexecve: Fexecve);
    if descriptor >= 0 && kept().is_some() {
        // SAFETY: used for the look only; if it is closed, looking fails.
        let file = unsafe { BorrowedFd::borrow_raw(descriptor) };
        report_open(c"a program that was opened before", file);
    }
    let exec = |envp| {
        // SAFETY: the caller's promise.
        unsafe { next(descriptor, argv, envp) }
    };
    // SAFETY: the caller's promise.
    unsafe { with_ours(envp, exec) }
}

/// # Safety
/// See `execve`.
#[unsafe(no_mangle)]
unsafe extern "C" fn execveat(
    folder: c_int,
    path: *const c_char,
    argv: Strings,
    envp: Strings,
    flags: c_int,
) -> c_int {
    let next = next!(execveat: Execveat);
    let exec = |envp| {
        // SAFETY: the caller's promise.
        unsafe { next(folder, path, argv, envp, flags) }
    };
    // SAFETY: the caller's promise.
    unsafe { execveat_by((folder, flags), path, envp, exec) }
}

/// `execveat` by a way that is given.
///
/// # Safety
/// See `execve`.
pub unsafe fn execveat_by<R>(
    (folder, flags): (c_int, c_int),
    path: *const c_char,
    envp: Strings,
    exec: impl FnOnce(Strings) -> R,
) -> R {
    // SAFETY: the caller's promise.
    if let Some(path) = unsafe { reported(path) }
        && (folder >= 0 || folder == libc::AT_FDCWD)
    {
        // SAFETY: used for the look only; if it is closed, looking fails.
        let folder = unsafe { BorrowedFd::borrow_raw(folder) };
        if path.is_empty() && flags & libc::AT_EMPTY_PATH != 0 {
            report_open(c"a program that was opened before", folder);
        } else {
            report(path, folder, path);
        }
    }
    // SAFETY: the caller's promise.
    unsafe { with_ours(envp, exec) }
}

/// Exports a function whose arguments after the first are a list, to be served by one that takes
/// them as an array. C-variadic functions can't be written in Rust; but pushed onto the stack, the
/// arguments in registers lie right before those that are there already.
macro_rules! export_list {
    ($($name:ident by $listed:ident;)*) => {
        $(
            /// # Safety
            /// See `execve`.
            #[unsafe(no_mangle)]
            #[unsafe(naked)]
            unsafe extern "C" fn $name() -> c_int {
                naked_asm!(
                    "pop rax",
                    "push r9",
                    "push r8",
                    "push rcx",
                    "push rdx",
                    "push rsi",
                    "mov rsi, rsp",
                    // The return address, which also aligns the stack.
                    "push rax",
                    "call {listed}",
                    "pop rcx",
                    "add rsp, 40",
                    "push rcx",
                    "ret",
                    listed = sym $listed,
                )
            }
        )*
    };
}

export_list! {
    execl by execv;
    execlp by execvp;
    execle by execle_listed;
}

/// # Safety
/// See `execve`; behind the null pointer that ends the list stands the environment.
unsafe extern "C" fn execle_listed(path: *const c_char, argv: Strings) -> c_int {
    let mut end = argv;
    loop {
        // SAFETY: not past the null pointer.
        let argument = unsafe { *end };
        // SAFETY: the null pointer is followed by the environment.
        end = unsafe { end.add(1) };
        if argument.is_null() {
            break;
        }
    }
    // SAFETY: as above.
    let envp = unsafe { *end };
    // SAFETY: the caller's promise.
    unsafe { execve(path, argv, envp.cast()) }
}

/// # Safety
/// See `execve`.
#[unsafe(no_mangle)]
unsafe extern "C" fn posix_spawn(
    pid: *mut libc::pid_t,
    path: *const c_char,
    actions: *const c_void,
    attributes: *const c_void,
    argv: Strings,
    envp: Strings,
) -> c_int {
    let next = next!(posix_spawn: Spawn);
    // SAFETY: the caller's promise.
    if let Some(path) = unsafe { reported(path) } {
        report(path, program::HERE, path);
    }
    let spawn = |envp| {
        // SAFETY: the caller's promise.
        unsafe { next(pid, path, actions, attributes, argv, envp) }
    };
    // SAFETY: the caller's promise.
    unsafe { with_ours(envp, spawn) }
}

/// # Safety
/// See `execve`.
#[unsafe(no_mangle)]
unsafe extern "C" fn posix_spawnp(
    pid: *mut libc::pid_t,
    file: *const c_char,
    actions: *const c_void,
    attributes: *const c_void,
    argv: Strings,
    envp: Strings,
) -> c_int {
    let next = next!(posix_spawnp: Spawn);
    // SAFETY: the caller's promise.
    unsafe { report_searched(file) };
    let spawn = |envp| {
        // SAFETY: the caller's promise.
        unsafe { next(pid, file, actions, attributes, argv, envp) }
    };
    // SAFETY: the caller's promise.
    unsafe { with_ours(envp, spawn) }
}
