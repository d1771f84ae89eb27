//! Which name space this process is in.
//!
//! It is opened by a constructor, because later the program may have no path to it any more, no
//! right, or no free descriptor; or by a call that another library's constructor makes before.

use preload::{InSpace, Traced, forks};
use std::ffi::{CStr, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use sysv::{Calls, Errno, Kernel, Result, syscall};
use userspace::Space;
use userspace::trace::Writer;

/// The environment variable that names the folder of the name space.
const VARIABLE: &[u8] = b"TOMBOLO_SPACE=";
/// The one that names the file in which calls are recorded, if they are.
const TRACE: &[u8] = b"TOMBOLO_TRACE=";

/// Where this process's System V objects are.
enum Home {
    /// In the kernel: no name space is asked for.
    Kernel,
    /// In a name space.
    Space(&'static Space),
    /// In a name space, and every call is recorded.
    Traced(Traced<'static, InSpace<'static>>),
    /// Nowhere: the name space can't be opened.
    Closed(Errno),
}

static HOME: OnceLock<Home> = OnceLock::new();

#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

extern "C" fn start() {
    crate::next::find_all();
    crate::by_number::start();
    home();
}

fn home() -> &'static Home {
    HOME.get_or_init(find)
}

/// Makes a call where this process's objects are.
pub fn serve<T>(call: impl FnOnce(&dyn Calls) -> Result<T>) -> Result<T> {
    match home() {
        Home::Kernel => call(&Kernel),
        Home::Space(space) => call(&InSpace(space)),
        Home::Traced(calls) => call(calls),
        Home::Closed(error) => {
            complain(*error);
            Err(*error)
        }
    }
}

/// Says once why the calls of this process fail.
#[cold]
fn complain(error: Errno) {
    static SAID: AtomicBool = AtomicBool::new(false);
    // Relaxed: it stands for itself.
    if SAID.swap(true, Ordering::Relaxed) {
        return;
    }
    let folder = path(VARIABLE).unwrap_or(Path::new("?"));
    say(&format!(
        "this program's System V calls fail: its name space cannot be opened: {}: {error}; is it \
         still there, and may this user open it?",
        folder.display()
    ));
}

/// Writes a line to the standard error stream.
pub fn say(text: &str) {
    const WRITE: usize = 1;
    let line = format!("tombolo: {text}\n");
    // SAFETY: the bytes are valid for reading.
    let _ = unsafe { syscall(WRITE, [2, line.as_ptr() as usize, line.len(), 0, 0, 0]) };
}

fn find() -> Home {
    let Some(folder) = path(VARIABLE) else {
        return Home::Kernel;
    };
    match Space::open(folder).and_then(|space| space.stay().map(|()| space)) {
        Ok(space) => {
            let space: &Space = Box::leak(Box::new(space));
            forks::watch(space);
            // Without the file nobody prints any more.
            match path(TRACE).map(Writer::open) {
                Some(Ok(writer)) => {
                    Home::Traced(Traced::new(InSpace(space), Box::leak(Box::new(writer))))
                }
                _ => Home::Space(space),
            }
        }
        Err(error) => Home::Closed(error),
    }
}

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// The value of a variable, if it is set. The bytes are the environment's own.
fn path(variable: &[u8]) -> Option<&'static Path> {
    // SAFETY: libc has set it before any constructor, and no other thread runs yet that could
    // change it.
    let mut at = unsafe { environ };
    if at.is_null() {
        return None;
    }
    loop {
        // SAFETY: the array ends with a null pointer, where we stop.
        let entry = unsafe { *at };
        if entry.is_null() {
            return None;
        }
        // SAFETY: entries are strings that end in NUL.
        let entry = unsafe { CStr::from_ptr(entry) };
        if let Some(value) = entry.to_bytes().strip_prefix(variable) {
            return Some(Path::new(OsStr::from_bytes(value)));
        }
        // SAFETY: not past the null pointer.
        at = unsafe { at.add(1) };
    }
}
