//! Where the examples are, built from this tree.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What a server or a client is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Rust,
    C,
}

impl Language {
    /// Those that can be built here.
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::Rust];
        if compiled().is_some() {
            all.push(Self::C);
        } else {
            eprintln!("skipped: the pairs with C, because there is no C compiler (cc) here");
        }
        all
    }

    /// The program called `server` or `client`.
    pub fn program(self, name: &str) -> PathBuf {
        match self {
            Self::Rust => example(name),
            Self::C => compiled()
                .expect("asked for only if it is there")
                .join(name),
        }
    }
}

/// Every server with every client.
pub fn pairs() -> Vec<(Language, Language)> {
    let all = Language::all();
    let each = |server| all.iter().map(move |client| (server, *client));
    all.iter().copied().flat_map(each).collect()
}

/// `target/PROFILE`, where this test lies in `deps`.
fn profile() -> PathBuf {
    let this = env::current_exe().expect("the path of this test");
    let profile = this.parent().and_then(Path::parent);
    profile.expect("a target directory").to_owned()
}

/// The example of that name in Rust, in the profile of this test.
///
/// `cargo test -p checks` does not build it by itself.
pub fn example(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let profile = profile();
        let mut build = Command::new(env!("CARGO"));
        build
            .args(["build", "--quiet", "--package", "tombolo", "--examples"])
            .arg("--manifest-path")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"))
            .arg("--target-dir")
            .arg(profile.parent().expect("a target directory"));
        if profile.file_name().is_some_and(|name| name == "release") {
            build.arg("--release");
        }
        assert!(
            build.status().expect("cargo runs").success(),
            "the examples do not build"
        );
        profile.join("examples")
    });
    folder.join(name)
}

/// The folder of the programs in C; `None` if there is no compiler.
fn compiled() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let build = || {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let folder = profile().join("examples-in-c");
        std::fs::create_dir_all(&folder).expect("a folder for the programs");
        for name in ["server", "client"] {
            // Under a name of its own and then renamed: another test may be running the present one.
            let fresh = folder.join(format!("{name}.{}", std::process::id()));
            let status = Command::new("cc")
                .args(["-Wall", "-Wextra", "-Werror", "-O2", "-o"])
                .arg(&fresh)
                .arg(sources.join(name).with_extension("c"))
                .status()
                .ok()?;
            assert!(status.success(), "{name}.c does not compile");
            std::fs::rename(&fresh, folder.join(name)).expect("it takes its place");
        }
        Some(folder)
    };
    BUILT.get_or_init(build).as_deref()
}
