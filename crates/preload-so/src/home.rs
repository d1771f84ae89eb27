//! Which name space this process is in.
//!
//! It is opened by a constructor, because later the program may have no path to it any more, no
//! right, or no free descriptor; or by a call that another library's constructor makes before.

use crate::environment::Kept;
use preload::{InSpace, Traced, credentials, forks, signals};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use sysv::{Calls, Errno, Kernel, Result, syscall};
use userspace::Space;
use userspace::trace::Writer;

/// Where this process's System V objects are.
enum Home {
    /// In the kernel: no name space is asked for.
    Kernel,
    /// In a name space, asked by calls that may be recorded.
    Space(&'static Space, &'static (dyn Calls + Sync), Kept),
    /// Nowhere: the name space can't be opened.
    Closed(Errno, Kept),
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

fn find() -> Home {
    let Some(kept) = Kept::of_this_process() else {
        return Home::Kernel;
    };
    let folder = Path::new(OsStr::from_bytes(kept.folder()));
    match Space::open(folder).and_then(|space| space.stay().map(|()| space)) {
        Ok(space) => {
            let space = Box::leak(Box::new(space));
            forks::watch(space);
            credentials::watch();
            signals::watch();
            let calls = calls(space, &kept);
            Home::Space(space, calls, kept)
        }
        Err(error) => Home::Closed(error, kept),
    }
}

/// The calls on the name space, recorded if that is asked for.
fn calls(space: &'static Space, kept: &Kept) -> &'static (dyn Calls + Sync) {
    let trace = kept.trace_file().map(OsStr::from_bytes);
    // Without the file nobody prints any more.
    match trace.map(|file| Writer::open(Path::new(file))) {
        Some(Ok(writer)) => {
            let writer = Box::leak(Box::new(writer));
            Box::leak(Box::new(Traced::new(InSpace(space), writer)))
        }
        _ => Box::leak(Box::new(InSpace(space))),
    }
}

/// Makes a call where this process's objects are.
pub fn serve<T>(call: impl FnOnce(&dyn Calls) -> Result<T>) -> Result<T> {
    match home() {
        Home::Kernel => call(&Kernel),
        Home::Space(_, calls, _) => call(*calls),
        Home::Closed(error, kept) => {
            complain(*error, kept);
            Err(*error)
        }
    }
}

/// The name space, if there is one and it is open.
pub fn space() -> Option<&'static Space> {
    match home() {
        Home::Space(space, ..) => Some(space),
        Home::Kernel | Home::Closed(..) => None,
    }
}

/// What is kept of the environment, if a name space was asked for, be it open or not.
pub fn kept() -> Option<&'static Kept> {
    match home() {
        Home::Kernel => None,
        Home::Space(.., kept) | Home::Closed(_, kept) => Some(kept),
    }
}

/// Says once why the calls of this process fail.
#[cold]
fn complain(error: Errno, kept: &Kept) {
    static SAID: AtomicBool = AtomicBool::new(false);
    // Relaxed: it stands for itself.
    if !SAID.swap(true, Ordering::Relaxed) {
        say(&[
            b"this program's System V calls fail, because its name space cannot be opened: ",
            kept.folder(),
            b": ",
            error.to_string().as_bytes(),
            b"; is it still there, and may this user open it?",
        ]);
    }
}

/// Writes a line to the standard error stream. Takes no memory from the heap: it is also used
/// between `vfork` and `exec`.
pub fn say(parts: &[&[u8]]) {
    const WRITE: usize = 1;
    let mut line = [0u8; 1024];
    let mut end = 0;
    let mut add = |part: &[u8]| {
        // Cut short, it is a line all the same.
        let length = part.len().min(line.len() - 1 - end);
        line[end..end + length].copy_from_slice(&part[..length]);
        end += length;
    };
    add(b"tombolo: ");
    for part in parts {
        add(part);
    }
    line[end] = b'\n';
    // SAFETY: valid for reading.
    let _ = unsafe { syscall(WRITE, [2, line.as_ptr() as usize, end + 1, 0, 0, 0]) };
}
