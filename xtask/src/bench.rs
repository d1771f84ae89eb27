//! Measuring, and writing down what came of it.

use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Measures, and writes the page and its pictures.
pub fn run(root: &Path, quick: bool, no_rivals: bool, from: Option<PathBuf>) -> Result<()> {
    let folder = root.join("target/bench");
    fs::create_dir_all(&folder).context("can't make target/bench")?;
    let file = match from {
        Some(file) => file,
        None => {
            let file = folder.join("record.json");
            measure(root, quick, no_rivals, &file)?;
            file
        }
    };
    let text = fs::read(&file).with_context(|| format!("can't read {}", file.display()))?;
    let record: bench::run::Record = serde_json::from_slice(&text)
        .with_context(|| format!("{} holds no record of a run", file.display()))?;
    let docs = if quick { folder } else { root.join("docs") };
    let page = docs.join("performance.md");
    bench::report::write(&record, &page, &docs.join("img"))?;
    println!("written: {}", page.display());
    if !quick {
        let readme = root.join("README.md");
        bench::readme::write(&record, &readme)?;
        println!("written: {}", readme.display());
    }
    Ok(())
}

/// Says what other projects need and this machine lacks, before anything is compiled.
fn needs() -> Result<()> {
    let runs = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let boost = "/usr/include/boost/interprocess/ipc/message_queue.hpp";
    let zeromq =
        runs("pkg-config", &["--exists", "libzmq"]) || Path::new("/usr/include/zmq.h").exists();
    let missing: Vec<&str> = [
        ("g++", runs("c++", &["--version"])),
        ("libboost-dev", Path::new(boost).exists()),
        ("libzmq3-dev", zeromq),
    ]
    .into_iter()
    .filter_map(|(package, there)| (!there).then_some(package))
    .collect();
    if !missing.is_empty() {
        bail!(
            "other projects need what is missing here: apt-get install {}; \
             or leave them out: cargo xtask bench --no-rivals",
            missing.join(" ")
        );
    }
    Ok(())
}

fn measure(root: &Path, quick: bool, no_rivals: bool, file: &Path) -> Result<()> {
    if !no_rivals {
        needs()?;
    }
    let mut command = Command::new(crate::cargo());
    command.current_dir(root);
    if no_rivals {
        command.args(["bench", "-p", "checks", "--bench", "transports", "--"]);
    } else {
        command.args([
            "run",
            "--release",
            "--manifest-path",
            "rivals/Cargo.toml",
            "--",
        ]);
    }
    command.arg("--growth").arg("--json").arg(file);
    if quick {
        command.arg("--quick");
    }
    let status = command.status().context("can't run cargo")?;
    if !status.success() {
        bail!("measuring: {status}; to leave other projects out: cargo xtask bench --no-rivals");
    }
    Ok(())
}
