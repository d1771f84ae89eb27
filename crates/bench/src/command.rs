//! The command line of a bench program: what to run, and where to write it.

use crate::behaviour::behaviour;
use crate::costs::costs;
use crate::growth::growth;
use crate::interrupts::{self, Interrupted};
use crate::place::processors;
use crate::raw;
use crate::registry::LENGTHS;
use crate::run::{Options, Record, Skipped, Step, run};
use crate::table;
use crate::transport::{Runner, Topology};
use anyhow::{Context, Result, ensure};
use clap::Parser;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Measure ways between two processes beside what the machine can do
#[derive(Debug, Parser)]
pub struct Command {
    /// Short samples, few repetitions: to see that it works, not to publish
    #[arg(long)]
    pub quick: bool,
    /// Write the record to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Measure only transports whose name contains this (again for more), and the bare rings
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Measure messages of this many bytes only (again for more)
    #[arg(long, value_name = "BYTES")]
    pub size: Vec<usize>,
    /// Measure only streams, or only round trips
    #[arg(long, value_name = "stream|round-trip")]
    pub shape: Option<String>,
    /// Measure also what becomes of it when there is more of something, and single operations
    #[arg(long)]
    pub growth: bool,
    /// Of that, only how rates grow with this: producers, consumers, subscribers, capacity (again for
    /// more); or "calls", the system calls and what sleeps
    #[arg(long, value_name = "NAME", requires = "growth")]
    pub chart: Vec<String>,
    /// Run on these two processors
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub processors: Vec<usize>,
    /// Milliseconds of a sample
    #[arg(long, value_name = "MS")]
    pub duration: Option<u64>,
    /// Pairs for each figure
    #[arg(long, value_name = "N")]
    pub repetitions: Option<usize>,
    /// Begin no further round of samples after so many minutes
    #[arg(long, value_name = "MINUTES", default_value_t = 10.0)]
    pub patience: f64,
    /// `cargo bench` says so
    #[arg(long, hide = true)]
    pub bench: bool,
    #[arg(skip)]
    absent: Vec<Skipped>,
}

impl Command {
    /// Names a transport that is not there, and why.
    pub fn absent(&mut self, transport: &str, reason: &str) {
        self.absent.push(Skipped {
            transport: transport.to_owned(),
            task: "all".to_owned(),
            reason: reason.to_owned(),
        });
    }

    /// Does what was asked for and prints the table.
    pub fn run(&self, runners: &[Box<dyn Runner>]) -> ExitCode {
        match self.try_run(runners) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                if let Some(interrupted) = error.downcast_ref::<Interrupted>() {
                    let _ = interrupted.follow();
                }
                eprintln!("bench: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    fn try_run(&self, runners: &[Box<dyn Runner>]) -> Result<()> {
        let options = self.options()?;
        interrupts::hold()?;
        // Refused to most users; the wires clean up behind themselves.
        raw::leave_name_space();
        if let Some(load) = load().filter(|load| *load > 0.5) {
            eprintln!("bench: other programs run here (load {load:.1}): the figures say little");
        }
        let terminal = std::io::stderr().is_terminal();
        let progress = |step: &Step| {
            if terminal && step.wanted > 0 {
                let (what, done, wanted) = (&step.what, step.done, step.wanted);
                eprint!("\r\x1b[K{what}; {done} of {wanted} pairs");
            } else if terminal {
                eprint!("\r\x1b[K{}", step.what);
            }
        };
        let mut record = run(runners, &options, progress)?;
        if self.growth {
            let (on, all) = (options.processors, self.chart.is_empty());
            record.growth = growth(runners, on, &self.chart, self.quick, progress)?;
            if all {
                progress(&Step::of("single operations"));
                record.costs = costs()?;
            }
            if all || self.chart.iter().any(|name| name == "calls") {
                record.behaviour = behaviour(runners, on, self.quick, progress)?;
            }
        }
        if terminal {
            eprint!("\r\x1b[K");
        }
        record.skipped.extend(self.absent.iter().cloned());
        print!("{}", table::text(&record));
        if let Some(path) = &self.json {
            write(&record, path)?;
        }
        Ok(())
    }

    fn options(&self) -> Result<Options> {
        let able = processors()?;
        let [first, second] = match self.processors.as_slice() {
            [] => [able[0], able[1 % able.len()]],
            [a, b] => [*a, *b],
            _ => anyhow::bail!("two processors are needed: --processors A,B"),
        };
        ensure!(
            first != second,
            "two processors are needed, and this process may use only number {first}"
        );
        let topologies = match self.shape.as_deref() {
            None => vec![Topology::RoundTrip, Topology::Stream],
            Some("stream") => vec![Topology::Stream],
            Some("round-trip") => vec![Topology::RoundTrip],
            Some(other) => anyhow::bail!("no shape {other}; there are stream and round-trip"),
        };
        let wrong = self.size.iter().find(|size| !LENGTHS.contains(size));
        ensure!(
            wrong.is_none(),
            "messages of {} bytes are not measured; there are {LENGTHS:?}",
            wrong.copied().unwrap_or_default()
        );
        let lengths = match self.size.as_slice() {
            [] => LENGTHS.to_vec(),
            some => some.to_vec(),
        };
        let duration = self.duration.unwrap_or(if self.quick { 10 } else { 40 });
        let repetitions = self.repetitions.unwrap_or(if self.quick { 1 } else { 9 });
        Ok(Options {
            topologies,
            lengths,
            repetitions,
            close_ones: if self.quick {
                repetitions
            } else {
                3 * repetitions
            },
            duration: Duration::from_millis(duration),
            patience: Duration::try_from_secs_f64(self.patience * 60.0)
                .context("--patience is a number of minutes")?,
            processors: [first, second],
            only: self.only.clone(),
        })
    }
}

/// How many threads ran or wanted to, on average over the last minute.
fn load() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').next()?.parse().ok()
}

fn write(record: &Record, path: &PathBuf) -> Result<()> {
    let text = serde_json::to_string_pretty(record)?;
    std::fs::write(path, text + "\n").with_context(|| format!("can't write {}", path.display()))
}
