//! Fuzzing: the bodies of `tombolo::fuzzing` with one seed after the other, for as long as asked.

use anyhow::{Context, Result, bail};
use clap::Args;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// The channels that have a body.
const CHANNELS: [&str; 5] = ["mailbox", "queue", "service", "topic", "value"];

/// What is to be fuzzed.
#[derive(Args)]
pub struct Options {
    /// Channels: mailbox, queue, service, topic, value; all if none is named
    #[arg(value_parser = CHANNELS)]
    channels: Vec<String>,
    /// How long, in minutes, for all of them together [default: 5]
    #[arg(long)]
    minutes: Option<f64>,
    /// Begin with this seed; without --minutes, try only this one
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the bodies, and says which seed failed.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    let named: Vec<&str> = options.channels.iter().map(String::as_str).collect();
    let channels = if named.is_empty() { &CHANNELS } else { &*named };
    let alone = options.seed.is_some() && options.minutes.is_none();
    let seconds = (options.minutes.unwrap_or(5.0) * 60.0 / channels.len() as f64).ceil();
    let first = match options.seed {
        Some(seed) => seed,
        // Not the same ones each time.
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() << 20,
    };
    let tried = root.join("target/fuzz-tried");
    for channel in channels {
        println!("{channel}: from seed {first}");
        let mut command = Command::new(crate::cargo());
        let test = format!("fuzzing::tests::{channel}");
        command
            .current_dir(root)
            .args(["test", "--quiet", "-p", "tombolo", "--lib", "--"])
            .args([&test, "--exact", "--nocapture"])
            .env("TOMBOLO_FUZZ_SEED", first.to_string())
            .env("TOMBOLO_FUZZ_TRIED", &tried);
        if !alone {
            command.env("TOMBOLO_FUZZ_SECONDS", seconds.to_string());
        }
        let status = command.status().context("cannot run cargo test")?;
        if !status.success() {
            let seed = std::fs::read_to_string(&tried).unwrap_or_default();
            let seed = seed.trim();
            bail!("{channel}: {status}; again with: cargo xtask fuzz {channel} --seed {seed}");
        }
    }
    Ok(())
}
