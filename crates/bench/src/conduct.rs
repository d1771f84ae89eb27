//! One sample: processes are started, find their wires, are probed, run, are probed again, and
//! tell what they saw.
//!
//! ```text
//! conductor          sender            receiver
//!     │  spec            │                 │       the program starts itself again,
//!     ├─────────────────►├────────────────►│       each pinned to a processor
//!     │◄──── ready ──────┤◄─── ready ──────┤
//!     ├──── probe ──────►├────────────────►│       ping-pong
//!     ├──── run ────────►├═══ messages ═══►│
//!     │◄──── outcome ────┤◄─── outcome ────┤
//!     ├──── probe ──────►├────────────────►│       ping-pong
//!     ├──── quit ───────►├────────────────►│
//! ```
//!
//! The conductor sleeps meanwhile. A process that fails, dies or does not answer in time ends the
//! sample, and all its processes; they also end with the conductor.

use crate::calls;
use crate::clock;
use crate::interrupts;
use crate::place::{self, Distance, PROBE, Placement, pin};
use crate::raw::{self, Map};
use crate::registry;
use crate::transport::{Outcome, Role, Runner, Seat, Task, Wire};
use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io::{BufRead, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The argument by which the program knows that it is an end of a sample.
const ROLE: &str = "--bench-role";
/// What a line begins with that is meant for the conductor; libraries print others.
const MARK: &str = "@bench ";
/// What an end is told with the number of the other process whose absence is to be counted with the calls.
const COUNT: &str = "count ";
/// No answer may take longer than this,
const PATIENCE: Duration = Duration::from_secs(30);
/// or, that of who runs, than ten times the time that is taken and this.
const HANGING: Duration = Duration::from_secs(10);

#[derive(Debug, Serialize, Deserialize)]
struct Spec {
    runner: String,
    task: Task,
    seat: Seat,
    pinned: Vec<usize>,
    probe: i32,
    /// Nanoseconds of a tick: measuring it takes longer than starting.
    tick: f64,
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Ready,
    Probed(Distance),
    Done(Outcome),
    Failed(String),
}

/// Plays the end that this process was started for, and ends it; returns if the process is none.
/// Call it first in `main`, with the runners that the samples will name.
pub fn play_role(runners: &[Box<dyn Runner>]) {
    let mut arguments = std::env::args();
    if arguments.nth(1).as_deref() != Some(ROLE) {
        return;
    }
    let code = match play(runners) {
        Ok(()) => 0,
        Err(error) => {
            say(&Answer::Failed(format!("{error:#}")));
            1
        }
    };
    std::process::exit(code);
}

fn play(runners: &[Box<dyn Runner>]) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let mut lines = std::io::stdin().lock().lines();
    let mut hear = || lines.next().transpose().map(Option::unwrap_or_default);
    let spec: Spec = serde_json::from_str(&hear()?).context("the part to play")?;
    pin(&spec.pinned)?;
    clock::take_tick(spec.tick);
    let map = Map::new(&raw::inherited(spec.probe)?)?;
    let others = registry::others();
    let runner = runners
        .iter()
        .chain(&others)
        .find(|runner| runner.about().name == spec.runner)
        .with_context(|| format!("no transport {}", spec.runner))?;
    let mut job = Some(runner.open(&spec.task, &spec.seat)?);
    say(&Answer::Ready);
    loop {
        let line = hear()?;
        match line.as_str() {
            _ if line.starts_with(COUNT) => calls::count(line[COUNT.len()..].parse()?)?,
            "probe" => {
                let first = matches!(spec.seat.role, Role::Sender(_));
                say(&Answer::Probed(place::probe(&map, first)));
            }
            "run" => {
                let job = job.take().context("asked to run twice")?;
                say(&Answer::Done(job()?));
            }
            _ => return Ok(()),
        }
    }
}

fn say(answer: &Answer) {
    let text = serde_json::to_string(answer).expect("answers are plain");
    // A conductor that is gone needs no answer.
    let _ = writeln!(std::io::stdout(), "{MARK}{text}");
}

/// A process of a sample.
struct End {
    process: Child,
    input: ChildStdin,
    output: ChildStdout,
    /// What it said and was not heard yet.
    heard: Vec<u8>,
    answers: VecDeque<Answer>,
}

impl End {
    fn start(spec: &Spec) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(ROLE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("can't start this program again")?;
        let input = process.stdin.take().expect("piped");
        let output = process.stdout.take().expect("piped");
        let mut end = Self {
            process,
            input,
            output,
            heard: Vec::new(),
            answers: VecDeque::new(),
        };
        end.tell(&serde_json::to_string(spec)?)?;
        Ok(end)
    }

    fn tell(&mut self, line: &str) -> Result<()> {
        writeln!(self.input, "{line}").context("an end has died")
    }

    /// Reads what is there.
    fn hear(&mut self) -> Result<()> {
        let mut bytes = [0; 4096];
        let count = self.output.read(&mut bytes)?;
        ensure!(count > 0, "an end has died");
        self.heard.extend_from_slice(&bytes[..count]);
        while let Some(length) = self.heard.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.heard.drain(..=length).collect();
            let line = String::from_utf8_lossy(&line);
            if let Some(text) = line.trim_end().strip_prefix(MARK) {
                self.answers.push_back(serde_json::from_str(text)?);
            }
        }
        Ok(())
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // It has ended, or something went wrong.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One answer of each end.
fn answers(ends: &mut [&mut End], timeout: Duration) -> Result<Vec<Answer>> {
    let over = Instant::now() + timeout;
    while ends.iter().any(|end| end.answers.is_empty()) {
        for end in ends.iter() {
            if let Some(Answer::Failed(error)) = end.answers.front() {
                bail!("{error}");
            }
        }
        let left = over.saturating_duration_since(Instant::now());
        ensure!(!left.is_zero(), "no answer within {timeout:?}");
        let mut waiting: Vec<_> = ends
            .iter_mut()
            .filter(|end| end.answers.is_empty())
            .collect();
        let mut polled: Vec<_> = waiting
            .iter()
            .map(|end| PollFd::new(&end.output, PollFlags::IN))
            .collect();
        let left = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: left.subsec_nanos().into(),
        };
        let signals = interrupts::source();
        polled.extend(signals.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        poll(&mut polled, Some(&left))?;
        let ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        interrupts::check()?;
        for (end, _) in waiting.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            end.hear()?;
        }
    }
    let answers = ends.iter_mut().filter_map(|end| end.answers.pop_front());
    let answers = answers.map(|answer| match answer {
        Answer::Failed(error) => Err(anyhow!("{error}")),
        answer => Ok(answer),
    });
    answers.collect()
}

/// What a sample brought.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Taken {
    /// How far apart its processes were.
    pub placement: Placement,
    /// What the senders say.
    pub senders: Vec<Outcome>,
    /// What the receivers say.
    pub receivers: Vec<Outcome>,
}

/// A name that no other wire has.
fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("bench-{}-{count}", std::process::id())
}

/// Takes a sample. Pairs are pinned to the two processors; of a crowd, only as many as there are.
///
/// # Errors
/// What went wrong in any of its processes, messages that were lost included.
pub fn sample(runner: &dyn Runner, task: &Task, processors: [usize; 2]) -> Result<Taken> {
    take(runner, task, processors, false)
}

/// Takes a sample of a pair whose processes count their system calls.
///
/// # Errors
/// As [`sample`], and if they can't.
pub fn sample_counted(runner: &dyn Runner, task: &Task, processors: [usize; 2]) -> Result<Taken> {
    take(runner, task, processors, true)
}

fn take(runner: &dyn Runner, task: &Task, processors: [usize; 2], counted: bool) -> Result<Taken> {
    let task = &Task {
        broadcast: runner.broadcasts(),
        ..task.clone()
    };
    let wires = runner.wires(task, &unique())?;
    let probe = Wire::default().hand_on(raw::memory(PROBE)?)?;
    let start = |role| {
        let pinned = match role {
            Role::Sender(0) => vec![processors[0]],
            Role::Receiver(0) => vec![processors[1]],
            _ => processors.to_vec(),
        };
        End::start(&Spec {
            runner: runner.about().name,
            task: task.clone(),
            seat: Seat {
                role,
                links: wires.iter().map(|wire| wire.link.clone()).collect(),
                processors,
            },
            pinned,
            probe: probe.link.descriptors[0],
            tick: clock::tick(),
        })
    };
    let senders = (0..task.producers).map(Role::Sender);
    let receivers = (0..task.consumers).map(Role::Receiver);
    // Receivers first: what is sent to nobody may be lost.
    let mut ends = receivers
        .chain(senders)
        .map(start)
        .collect::<Result<Vec<_>>>()?;
    let mut all: Vec<_> = ends.iter_mut().collect();
    answers(&mut all, PATIENCE)?;
    let before = probe_pair(&mut all, task)?;
    if counted {
        // Of a pair, each waits for the other.
        let processes: Vec<_> = all.iter().map(|end| end.process.id()).collect();
        for (end, other) in all.iter_mut().zip(processes.iter().rev()) {
            end.tell(&format!("{COUNT}{other}"))?;
        }
    }
    for end in &mut all {
        end.tell("run")?;
    }
    let done = answers(&mut all, HANGING + task.duration * 10)?;
    let outcomes = done.into_iter().map(|answer| match answer {
        Answer::Done(outcome) => Ok(outcome),
        other => bail!("{other:?} is no outcome"),
    });
    let mut receivers = outcomes.collect::<Result<Vec<_>>>()?;
    let after = probe_pair(&mut all, task)?;
    for end in &mut all {
        end.tell("quit")?;
    }
    for end in &mut ends {
        // Ends that were told to quit do; what they own may take a moment to go.
        end.process.wait()?;
    }
    let senders = receivers.split_off(task.consumers);
    if task.broadcast {
        for receiver in &receivers {
            compare(&senders, std::slice::from_ref(receiver))?;
        }
    } else {
        compare(&senders, &receivers)?;
    }
    let placement = Placement { before, after };
    Ok(Taken {
        placement,
        senders,
        receivers,
    })
}

/// The first sender and the first receiver play ping-pong.
fn probe_pair(ends: &mut [&mut End], task: &Task) -> Result<Distance> {
    let (receivers, senders) = ends.split_at_mut(task.consumers);
    let mut pair = [&mut *receivers[0], &mut *senders[0]];
    for end in &mut pair {
        end.tell("probe")?;
    }
    match answers(&mut pair, PATIENCE)?.as_slice() {
        [_, Answer::Probed(distance)] => Ok(*distance),
        other => bail!("{other:?} is no distance"),
    }
}

/// Whether everything that was sent was received. A service counts on one side what it counts on
/// the other, so both hold for round trips too.
fn compare(senders: &[Outcome], receivers: &[Outcome]) -> Result<()> {
    let total = |ends: &[Outcome]| {
        let count: u64 = ends.iter().map(|end| end.messages).sum();
        let sum = ends.iter().fold(0u64, |sum, end| sum.wrapping_add(end.sum));
        (count, sum)
    };
    let (sent, received) = (total(senders), total(receivers));
    ensure!(
        sent == received,
        "{} messages were sent and {} received, with the sums {:#x} and {:#x}",
        sent.0,
        received.0,
        sent.1,
        received.1
    );
    Ok(())
}
