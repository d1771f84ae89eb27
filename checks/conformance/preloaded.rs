//! The target `preload`: a process that is loaded with `libtombolo_preload.so`, as `tombolo run`
//! starts it, on a name space of the trial's own.
//!
//! Its calls go through libc's symbols, and it reads what limits there are where a program reads
//! them: under `/proc/sys/kernel`.

use crate::harness::Switches;
use crate::user_space;
use std::convert::Infallible;
use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use userspace::Space;

/// The target's name.
pub const NAME: &str = "preload";
/// The environment variable that names the library.
pub const LIBRARY: &str = "CONFORMANCE_LIBRARY";
/// That by which the library finds its name space.
const SPACE: &str = "TOMBOLO_SPACE";

/// Makes the name space and starts this process's program again, with the library; when it comes here
/// again, it has entered.
pub fn enter() -> bool {
    if env::var_os(SPACE).is_none() {
        user_space::create();
        let error = again().expect_err("exec");
        panic!("cannot start again: {error}");
    }
    assert!(is_loaded(), "the library is not loaded");
    true
}

/// # Errors
/// Those of `exec`.
fn again() -> io::Result<Infallible> {
    let library = env::var_os(LIBRARY).expect("the trial names the library");
    let error = Command::new(env::current_exe()?)
        .args(env::args_os().skip(1))
        .env(SPACE, user_space::folder())
        .env("LD_PRELOAD", library)
        .exec();
    Err(error)
}

fn is_loaded() -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("the map of memory");
    let library = env::var(LIBRARY).expect("the trial names the library");
    // Another run of these tests may have put a newer copy in its place by now.
    let mut paths = maps.lines().map(|line| line.trim_end_matches(" (deleted)"));
    paths.any(|line| line.ends_with(&library))
}

/// The limits, read as programs read them, and set where only this suite does so.
pub const SWITCHES: Switches = Switches {
    read: |name| {
        let text = std::fs::read_to_string(Path::new("/proc/sys/kernel").join(name));
        text.map(|text| text.trim().to_owned())
            .map_err(|_| "a limit cannot be read here")
    },
    set: |name, value| {
        static OPEN: OnceLock<Space> = OnceLock::new();
        let open = || Space::open(&user_space::folder()).expect("the name space");
        user_space::set(OPEN.get_or_init(open), name, value)
    },
};
