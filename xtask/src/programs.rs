//! Installs the real programs that the tests run, as far as that is possible, and runs them.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `cargo xtask programs` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// Only install what is missing
    #[arg(long, conflicts_with = "no_install")]
    install: bool,
    /// Install nothing: what is missing skips its test
    #[arg(long)]
    no_install: bool,
    /// Leave a Debian package out, such as a server that is not to be on this machine
    #[arg(long, value_name = "PACKAGE")]
    without: Vec<String>,
}

/// Installs and runs.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    let installed = options.no_install || install(root, options)?;
    if options.install {
        if !installed {
            bail!("not everything could be installed; the tests of the rest can be run");
        }
        return Ok(());
    }
    crate::chores::test(root, "programs", false)
}

/// Answers whether everything is there now. A test that can't be played says so itself, so that
/// nothing here is fatal but a test binary that does not build.
fn install(root: &Path, options: &Options) -> Result<bool> {
    let mut packages = Vec::new();
    let mut modules = Vec::new();
    for line in missing(root)?.lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["apt", package] if !options.without.iter().any(|without| without == package) => {
                packages.push(package.to_owned());
            }
            ["pip", folder, package] => {
                modules.push((PathBuf::from(folder), package.to_owned()));
            }
            _ => {}
        }
    }
    let mut all = packages.is_empty() || attempt(&packages.join(" "), || debian(&packages));
    // After the packages, of which one makes Python's environments.
    for (folder, package) in modules {
        all &= attempt(&package, || python(&folder, &package));
    }
    Ok(all)
}

fn attempt(what: &str, install: impl FnOnce() -> Result<()>) -> bool {
    let installed = install();
    if let Err(error) = &installed {
        eprintln!("programs: without {what}: {error:#}");
    }
    installed.is_ok()
}

/// What the tests miss: `apt PACKAGE` or `pip FOLDER PACKAGE`, a line each.
fn missing(root: &Path) -> Result<String> {
    let mut command = Command::new(crate::cargo());
    command.current_dir(root);
    command.args([
        "test",
        "--quiet",
        "-p",
        "checks",
        "--test",
        "programs",
        "--",
        "--missing",
    ]);
    let asked = command.stderr(std::process::Stdio::inherit()).output();
    let asked = asked.context("cannot run cargo")?;
    if !asked.status.success() {
        bail!("the programs tests do not build");
    }
    String::from_utf8(asked.stdout).context("what is missing is no text")
}

fn debian(packages: &[String]) -> Result<()> {
    let user = Command::new("id")
        .arg("-u")
        .output()
        .context("cannot run id")?;
    if user.stdout.trim_ascii() != b"0" {
        bail!(
            "only root installs packages: sudo apt-get install {}",
            packages.join(" ")
        );
    }
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .args(["-qq", "-o", "DPkg::Lock::Timeout=120"])
            .args(arguments);
        succeed(command.env("DEBIAN_FRONTEND", "noninteractive"))
    };
    apt(&["update"])?;
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(packages.iter().map(String::as_str));
    apt(&arguments)
}

/// Into a virtual environment of the tests' own.
fn python(folder: &Path, package: &str) -> Result<()> {
    let pip = || {
        let mut pip = Command::new(folder.join("bin/python"));
        pip.args(["-m", "pip", "--quiet"]);
        pip
    };
    // One of a Python that has been upgraded since does not run any more.
    if !pip()
        .arg("--version")
        .output()
        .is_ok_and(|ran| ran.status.success())
    {
        let mut venv = Command::new("python3");
        succeed(venv.args(["-m", "venv", "--clear"]).arg(folder))?;
    }
    succeed(pip().args(["install", package]))
}

fn succeed(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .with_context(|| format!("cannot run {name}"))?;
    if !status.success() {
        bail!("{name}: {status}");
    }
    Ok(())
}
