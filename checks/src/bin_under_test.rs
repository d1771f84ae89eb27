//! Where the `tombolo` command is that the checks run.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs};

static BUILT: OnceLock<PathBuf> = OnceLock::new();

/// The `tombolo` command as it is built from this tree, in this profile.
///
/// `cargo test -p checks` does not build it by itself: no package may depend on another's binary.
///
/// # Panics
/// If it does not build.
pub fn tombolo() -> &'static Path {
    BUILT.get_or_init(|| {
        // target/PROFILE/deps/this-test: the binary goes to target/PROFILE.
        let this = env::current_exe().expect("the path of this test");
        let profile = this
            .parent()
            .and_then(Path::parent)
            .expect("a target directory");
        let mut build = Command::new(env!("CARGO"));
        build
            .args([
                "build",
                "--quiet",
                "--package",
                "tombolo-cli",
                "--bin",
                "tombolo",
            ])
            .arg("--manifest-path")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"))
            .arg("--target-dir")
            .arg(profile.parent().expect("a target directory"));
        if profile.file_name().is_some_and(|name| name == "release") {
            build.arg("--release");
        }
        let built = build.status().expect("cargo runs");
        assert!(built.success(), "the tombolo command does not build");
        reachable(&profile.join("tombolo"))
    })
}

/// A copy where every user can run it: a home directory, where the tree may lie, is closed to
/// others. It replaces the copy of an earlier run.
fn reachable(built: &Path) -> PathBuf {
    let uid = fs::metadata("/proc/self").expect("/proc is mounted").uid();
    let name = format!("tombolo-under-test-{uid}-{:x}", place(built));
    let dir = env::temp_dir().join(name);
    fs::create_dir_all(&dir).expect("a directory for the binary");
    let copy = dir.join("tombolo");
    // Under a name of its own and then renamed: another test may be running the present one.
    let fresh = dir.join(format!("tombolo.{}", std::process::id()));
    fs::copy(built, &fresh).expect("the binary was built");
    for path in [&dir, &fresh] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("both are ours");
    }
    fs::rename(&fresh, &copy).expect("the copy takes its place");
    copy
}

/// A number for a path: two trees must not share a copy.
fn place(path: &Path) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}
