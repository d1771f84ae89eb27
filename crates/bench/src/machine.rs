//! Where a run took place.

use serde::{Deserialize, Serialize};
use std::fs::read_to_string;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// What figures depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor, as the kernel calls it.
    pub processor: String,
    /// How many of them this process may use.
    pub processors: usize,
    /// Whether it is a virtual machine, as far as the processor tells.
    pub is_virtual: bool,
    /// The kernel's name and release.
    pub kernel: String,
    /// The commit that was measured, with `+` if there were changes; empty if unknown.
    pub commit: String,
    /// Seconds since 1970.
    pub time: u64,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let cpuinfo = read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_once(':'));
            value.map_or("", |(_, value)| value.trim()).to_owned()
        };
        let kernel = rustix::system::uname();
        let kernel = [kernel.sysname(), kernel.release()].map(|part| part.to_string_lossy());
        let time = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            processor: field("model name"),
            processors: crate::place::processors().map_or(0, |all| all.len()),
            is_virtual: field("flags").split(' ').any(|flag| flag == "hypervisor"),
            kernel: kernel.join(" "),
            commit: commit().unwrap_or_default(),
            time: time.map_or(0, |time| time.as_secs()),
        }
    }
}

/// The commit of the source that this was built from, if it still lies there.
fn commit() -> Option<String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .current_dir(here)
            .args(arguments)
            .output();
        let output = output.ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=10", "HEAD"])?;
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(if changed { commit + "+" } else { commit })
}
