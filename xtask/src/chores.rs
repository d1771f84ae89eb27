//! Chores that run cargo with the right settings.

use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

fn cargo(root: &Path) -> Command {
    let mut command = Command::new(crate::cargo());
    command.current_dir(root);
    command
}

fn succeed(command: &mut Command, what: &str) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {what}"))?;
    if !status.success() {
        bail!("{what}: {status}");
    }
    Ok(())
}

/// Runs the models. They have a target folder of their own, because they are built with other
/// flags than everything else.
pub fn loom(root: &Path) -> Result<()> {
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    let mut command = cargo(root);
    command
        .args([
            "test",
            "--release",
            "--lib",
            "-p",
            "tombolo-shmem",
            "-p",
            "tombolo",
        ])
        .env("CARGO_TARGET_DIR", root.join("target/loom"))
        .env("RUSTFLAGS", format!("{flags} --cfg loom"));
    succeed(&mut command, "the loom models")
}

/// What works on memory of one process alone; Miri knows nothing of System V.
const MIRI: [(&str, &[&str]); 2] = [
    (
        "tombolo-shmem",
        &[
            "cells::", "header::", "layout::", "lock::", "part::", "region::", "wait::", "waiter::",
        ],
    ),
    (
        "tombolo",
        &[
            "lane::",
            "queue_layout::",
            "queue_tests::",
            "service_layout::",
            "service_tests::",
            "topic_layout::",
            "topic_tests::",
            "value_slots::",
        ],
    ),
];

/// Runs the unit tests on heap regions under Miri.
pub fn miri(root: &Path) -> Result<()> {
    let installed = cargo(root)
        .args(["miri", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !installed {
        bail!(
            "this toolchain has no Miri; it comes with the nightly one: \
             rustup toolchain install nightly --component miri,rust-src, \
             then cargo +nightly xtask miri"
        );
    }
    for (package, modules) in MIRI {
        let mut command = cargo(root);
        command
            .args(["miri", "test", "--lib", "-p", package, "--"])
            .args(modules)
            // Clocks and futexes.
            .env("MIRIFLAGS", "-Zmiri-disable-isolation");
        succeed(&mut command, &format!("Miri on {package}"))?;
    }
    Ok(())
}

/// Runs one of the tests of `checks`.
pub fn test(root: &Path, name: &str, long: bool) -> Result<()> {
    let mut command = cargo(root);
    command.args(["test", "-p", "checks", "--test", name]);
    if long {
        command.env("TOMBOLO_LONG", "1");
    }
    succeed(&mut command, &format!("the {name} tests"))
}
