//! Keys of files: the C library's numbers.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use sysv::{Errno, Key};

/// What the C library makes of it.
fn libcs(path: &Path, project: i32) -> i32 {
    let path = CString::new(path.as_os_str().as_bytes()).expect("no zero");
    // SAFETY: a C string.
    unsafe { libc::ftok(path.as_ptr(), project) }
}

#[test]
fn ftok_answers_as_libc_does() {
    let own = std::env::current_exe().expect("own path");
    for path in [
        &own,
        Path::new("/"),
        Path::new("/proc/self/exe"),
        Path::new("/dev/null"),
    ] {
        for project in [0, 1, b'T', 127, 128, 255] {
            let key = Key::ftok(path, project).expect("stat");
            assert_eq!(
                key.raw(),
                libcs(path, i32::from(project)),
                "{path:?} {project}"
            );
        }
    }
}

#[test]
fn every_name_of_a_file_gives_its_key() {
    let own = std::env::current_exe().expect("own path");
    let link = Key::ftok(Path::new("/proc/self/exe"), 1);
    assert_eq!(link, Key::ftok(&own, 1));
    let missing = own.join("missing");
    assert_eq!(Key::ftok(&missing, 1), Err(Errno::NOTDIR));
    assert_eq!(libcs(&missing, 1), -1);
}
