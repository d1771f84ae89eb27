//! `tombolo bench`: how fast the channels and the kernel's own ways are on this machine, beside what
//! the machine itself can do.
//!
//! The measuring is `bench`'s; this is its command line. The processes of a sample are this command
//! started again, with an argument that `bench::conduct` knows. They end with this one; what has a
//! name is removed by it, also on Ctrl-C.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use ::bench::interrupts::{self, Interrupted};
use ::bench::registry::{LENGTHS, runners};
use ::bench::run::{Options, Record, Step, run};
use ::bench::summary::{USUAL, slug};
use ::bench::transport::{About, Runner, Topology};
use ::bench::{place, plot, raw};
use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::Plan;
use crate::bench_table;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::value::{parse_size, size};
use crate::wait::parse_time;

/// Measure on this machine, in less than a minute: channels, pipe, FIFO, socket, the kernel's queues
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  tombolo bench
  tombolo bench --size 64 --svg speed.svg
  tombolo bench --transport queue,pipe,system-v-queue --size 8,64,1K,64K,1M
  tombolo bench --json

Two processes on two processors: a message there and an answer back, of which half is shown, and a
stream. Each message is checked, and a transport that loses one is not shown. The bare limit is a
ring in shared memory that does nothing but move bytes: no lengths, no checks, no sleeping. Numbers
with × are multiples of its figure, taken a moment before or after. Whatever else runs meanwhile
spoils the figures: samples that lost time to it are taken again.

A figure of fewer samples than it should be, or of disturbed ones only, is marked with *.")]
pub struct Args {
    /// Bytes of a message: 8, 64, 1K, 64K, 1M (several with commas)
    #[arg(long, value_name = "SIZE", value_delimiter = ',', value_parser = parse_size,
          default_values_t = [64, 1024, 65536])]
    size: Vec<u64>,
    /// What to measure, beside the bare limit (several with commas); a wrong name lists all
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    transport: Vec<String>,
    /// Take no sample again after so long: 10s, 1m
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "40s")]
    within: Duration,
    /// An array of objects, numbers as numbers, nothing rounded; those `not_measured` say why
    #[arg(long)]
    json: bool,
    /// Also draw a picture of the first size
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// What to measure.
pub struct Measuring {
    runners: Vec<Box<dyn Runner>>,
    lengths: Vec<usize>,
    within: Duration,
    json: bool,
    svg: Option<PathBuf>,
}

/// Samples of each figure, and how long one lasts.
const REPETITIONS: usize = 5;
const DURATION: Duration = Duration::from_millis(20);

impl Args {
    /// Knows all the names.
    pub fn plan(self) -> anyhow::Result<Measuring> {
        let mut lengths = Vec::new();
        for bytes in &self.size {
            let length = LENGTHS.iter().find(|length| **length as u64 == *bytes);
            let length = *length.ok_or_else(|| {
                let known = LENGTHS.map(|length| size(length as u64)).join(", ");
                let asked = size(*bytes);
                Failure::usage(format!(
                    "messages of {asked} bytes are not measured; choose from: {known}"
                ))
            })?;
            if !lengths.contains(&length) {
                lengths.push(length);
            }
        }
        Ok(Measuring {
            runners: chosen(&self.transport)?,
            lengths,
            within: self.within,
            json: self.json,
            svg: self.svg,
        })
    }
}

/// The bare rings, and the transports of these names; the usual ones without names.
fn chosen(names: &[String]) -> Result<Vec<Box<dyn Runner>>, Failure> {
    let all = runners();
    // Written as the table has it, or as the command line does.
    let wanted: Vec<String> = names.iter().map(|name| slug(name)).collect();
    for (name, wanted) in names.iter().zip(&wanted) {
        if !all
            .iter()
            .any(|runner| slug(&runner.about().name) == *wanted)
        {
            let known: Vec<_> = all
                .iter()
                .map(|runner| slug(&runner.about().name))
                .collect();
            return Err(Failure::usage(format!(
                "there is no transport `{name}`; choose from: {}",
                known.join(", ")
            )));
        }
    }
    let usual = |about: &About| wanted.is_empty() && USUAL.contains(&&*about.name);
    let kept = all.into_iter().filter(|runner| {
        let about = runner.about();
        about.is_ring() || usual(&about) || wanted.contains(&slug(&about.name))
    });
    Ok(kept.collect())
}

impl Plan for Measuring {
    fn run(self: Box<Self>, out: &mut Output) -> anyhow::Result<ExitCode> {
        let processors = two_processors()?;
        if let Some(file) = &self.svg {
            writable(file)?;
        }
        interrupts::hold()?;
        // Refused to most users; what has a name is removed as well.
        raw::leave_name_space();
        let record = match self.measure(processors) {
            Ok(record) => record,
            Err(error) => {
                if let Some(interrupted) = error.downcast_ref::<Interrupted>() {
                    interrupted.follow()?;
                }
                return Err(error);
            }
        };
        if record.samples.is_empty() {
            let mut reasons = record.skipped.iter().map(|skipped| &*skipped.reason);
            let reason = reasons.next_back().unwrap_or("no transport can do it");
            anyhow::bail!("nothing could be measured: {reason}");
        }
        if self.json {
            out.json(bench_table::objects(&record).into_iter())?;
        } else {
            bench_table::write(&record, out)?;
        }
        if let Some(file) = &self.svg {
            plot::picture(&record, self.lengths[0], |_| true, file)
                .with_context(|| format!("cannot draw {}", file.display()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Measuring {
    fn measure(&self, processors: [usize; 2]) -> anyhow::Result<Record> {
        let options = Options {
            topologies: vec![Topology::RoundTrip, Topology::Stream],
            lengths: self.lengths.clone(),
            repetitions: REPETITIONS,
            close_ones: REPETITIONS,
            duration: DURATION,
            patience: self.within,
            processors,
            only: Vec::new(),
        };
        let bar = bar();
        let record = run(&self.runners, &options, |step: &Step| {
            if step.wanted > 0 && bar.length().is_none() {
                bar.set_style(style(COUNTED));
                bar.set_length(step.wanted as u64);
            }
            bar.set_position(step.done as u64);
            bar.set_message(step.what.clone());
        });
        bar.finish_and_clear();
        record
    }
}

/// Whether a picture can be written there, found out before anything is measured; leaves all as it was.
fn writable(file: &Path) -> anyhow::Result<()> {
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        let text = format!("there is no folder {} for the picture", folder.display());
        return Err(Failure::new(Exit::Missing, text).into());
    }
    let is_new = !file.exists();
    let opened = OpenOptions::new().append(true).create(true).open(file);
    opened.with_context(|| format!("cannot write the picture to {}", file.display()))?;
    if is_new {
        // It is empty. Whoever made one of that name a moment ago has it overwritten in a minute anyway.
        let _ = fs::remove_file(file);
    }
    Ok(())
}

/// The first two processors that this process may use.
fn two_processors() -> anyhow::Result<[usize; 2]> {
    match place::processors()?.as_slice() {
        [first, second, ..] => Ok([*first, *second]),
        few => {
            let which = few
                .first()
                .map_or(String::new(), |only| format!(", which is number {only}"));
            anyhow::bail!(
                "bench needs two processors, and this process may run on one only{which}; \
                 start it where it may use two (see taskset(1))"
            )
        }
    }
}

/// The line of a run while it is not known yet how long it will be, and after.
const UNCOUNTED: &str = "{elapsed_precise} {msg}";
const COUNTED: &str = "{elapsed_precise} [{bar:30}] {pos}/{len} {msg}";

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

/// How far it is, if standard error is a terminal.
fn bar() -> ProgressBar {
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10))
        .with_style(style(UNCOUNTED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_always_measured_and_the_rest_by_name() {
        let names = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            let chosen = chosen(&names).unwrap();
            let abouts = chosen.iter().map(|runner| runner.about());
            let others = abouts.filter(|about| !about.is_ring());
            others.map(|about| about.name).collect::<Vec<_>>()
        };
        assert_eq!(
            names(&["pipe", "queue-parking"]),
            ["queue, parking", "pipe"]
        );
        assert_eq!(names(&["System V queue"]), ["System V queue"]);
        assert_eq!(names(&[]).len(), USUAL.len());
        assert!(chosen(&[]).unwrap().iter().any(|r| r.about().is_ring()));
    }

    #[test]
    fn whether_a_picture_can_be_written_is_found_out_without_a_trace() {
        let folder = std::env::temp_dir().join(format!("bench-svg-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let [absent, present] = ["absent.svg", "present.svg"].map(|name| folder.join(name));
        fs::write(&present, "as it was").unwrap();
        let tried = [&absent, &present, &folder].map(|file| writable(file).is_ok());
        let left = (absent.exists(), fs::read_to_string(&present).unwrap());
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(tried, [true, true, false]);
        assert_eq!(left, (false, "as it was".to_owned()));
    }

    #[test]
    fn the_progress_bar_is_sound() {
        let bar = bar();
        assert_eq!(bar.length(), None);
        bar.set_style(style(COUNTED));
        bar.set_length(7);
        assert_eq!(bar.length(), Some(7));
        bar.finish_and_clear();
    }
}
