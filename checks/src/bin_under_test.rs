//! Where the `tombolo` command and the library to be loaded are that the checks run.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs};

/// The `tombolo` command as it is built from this tree, in this profile.
///
/// `cargo test -p checks` does not build it by itself: no package may depend on another's binary.
///
/// # Panics
/// If it does not build.
pub fn tombolo() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build(&["tombolo-cli", "--bin", "tombolo"], "tombolo"))
}

/// `libtombolo_preload.so`, likewise.
///
/// # Panics
/// If it does not build.
pub fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build(&["tombolo-preload-so"], "libtombolo_preload.so"))
}

fn build(package: &[&str], file: &str) -> PathBuf {
    // target/PROFILE/deps/this-test: what is built goes to target/PROFILE.
    let this = env::current_exe().expect("the path of this test");
    let profile = this
        .parent()
        .and_then(Path::parent)
        .expect("a target directory");
    let mut build = Command::new(env!("CARGO"));
    build
        .args(["build", "--quiet", "--package"])
        .args(package)
        .arg("--manifest-path")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"))
        .arg("--target-dir")
        .arg(profile.parent().expect("a target directory"));
    if profile.file_name().is_some_and(|name| name == "release") {
        build.arg("--release");
    }
    let built = build.status().expect("cargo runs");
    assert!(built.success(), "{file} does not build");
    reachable(&profile.join(file))
}

/// Copies a program to where it will be run.
///
/// Another process does it. What is open for writing anywhere can't be run, and a child that another thread of
/// this process makes has all that is open here, until it runs something else.
///
/// # Panics
/// If it can't be copied.
pub fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("--").args([from, to]).status();
    let copied = copied.expect("cp runs");
    assert!(copied.success(), "{} can't be copied", from.display());
}

/// A copy where every user can run it: a home directory, where the tree may lie, is closed to
/// others. It replaces the copy of an earlier run.
fn reachable(built: &Path) -> PathBuf {
    let uid = fs::metadata("/proc/self").expect("/proc is mounted").uid();
    let profile = built.parent().expect("a folder");
    let name = format!("tombolo-under-test-{uid}-{:x}", place(profile));
    let dir = env::temp_dir().join(name);
    fs::create_dir_all(&dir).expect("a directory for the binary");
    let file = built.file_name().expect("the name of a file");
    let path = dir.join(file);
    // Under a name of its own and then renamed: another test may be running the present one.
    let fresh = dir.join(format!("{}.{}", file.display(), std::process::id()));
    copy(built, &fresh);
    for path in [&dir, &fresh] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("both are ours");
    }
    fs::rename(&fresh, &path).expect("the copy takes its place");
    path
}

/// A number for a path: two trees must not share a copy.
fn place(path: &Path) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}
