//! What it takes to wake one who sleeps: messages with so long a pause before each that the receiver sleeps by
//! then, whatever it does while it waits. From before a message is sent until it is received, by the processors'
//! clock, which is one for both.

use crate::clock;
use crate::conduct::{Taken, sample};
use crate::interrupts;
use crate::place::agree;
use crate::stats::Spread;
use crate::table::{multiple, time};
use crate::transport::{Runner, Task, Topology};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::time::Duration;

/// What the others are held against.
pub const FUTEX: &str = "bare futex, one slot";

/// Those that sleep, or do after a while.
const SLEEPERS: [&str; 12] = [
    FUTEX,
    "queue, parking",
    "queue",
    "topic",
    "mailbox, parking",
    "pipe",
    "FIFO",
    "Unix socket, stream",
    "System V queue",
    "POSIX queue",
    "System V semaphores, one slot",
    "eventfd, one slot",
];

/// Longer than anybody looks before it sleeps.
const PAUSE: Duration = Duration::from_micros(300);
const LENGTH: usize = 64;
/// Sleeps per message from which on a figure is that of waking.
const ASLEEP: f64 = 0.9;

/// A transport's wake-ups.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Woken {
    /// The transport.
    pub transport: String,
    /// Nanoseconds from before a message is sent until it is received, p50.
    pub nanoseconds: Spread,
    /// The same as a multiple of the bare futex's, taken a moment before at the same distance.
    pub to_futex: Option<Spread>,
}

/// Nanoseconds of a wake-up, half of them; `None` if the receiver slept before fewer messages than it should.
fn wake_up(taken: &Taken) -> Option<f64> {
    let (sender, receiver) = (taken.senders.first()?, taken.receivers.first()?);
    let messages = sender.stamps.len();
    let sleeps = receiver.sleeps as f64 / messages as f64;
    if receiver.stamps.len() != messages || sleeps < ASLEEP {
        return None;
    }
    let both = receiver.stamps.iter().zip(&sender.stamps);
    let mut ticks: Vec<u64> = both
        .map(|(there, here)| there.saturating_sub(*here))
        .collect();
    ticks.sort_unstable();
    let half = ticks.get(messages / 2)?;
    Some(clock::nanoseconds(*half))
}

/// Wakes all of them in turn, so many times.
///
/// # Errors
/// [`Interrupted`](interrupts::Interrupted) only.
pub fn woken(
    runners: &[Box<dyn Runner>],
    processors: [usize; 2],
    repetitions: usize,
    skipped: &mut Vec<String>,
) -> Result<Vec<Woken>> {
    let task = Task {
        pause: PAUSE,
        ..Task::pair(Topology::Stream, LENGTH, Duration::from_millis(60))
    };
    let named = SLEEPERS.map(|name| runners.iter().find(|runner| runner.about().name == name));
    let mut figures = SLEEPERS.map(|_| (Vec::new(), Vec::new()));
    for _ in 0..repetitions {
        let mut futex = None;
        for (runner, all) in named.iter().zip(&mut figures) {
            let Some(runner) = runner else { continue };
            let taken = sample(&***runner, &task, processors);
            interrupts::check()?;
            let taken = match taken {
                Ok(taken) => taken,
                Err(error) => {
                    let name = runner.about().name;
                    skipped.push(format!("waking through {name}: {error:#}"));
                    continue;
                }
            };
            let Some(nanoseconds) = wake_up(&taken) else {
                continue;
            };
            all.0.push(nanoseconds);
            let distance = taken.placement.distance();
            if runner.about().name == FUTEX {
                futex = Some((nanoseconds, distance));
            } else if let Some((least, at)) = futex
                && agree(at, distance)
            {
                all.1.push(nanoseconds / least);
            }
        }
    }
    let all = SLEEPERS.iter().zip(figures);
    let mut found = Vec::new();
    for (name, (nanoseconds, to_futex)) in all {
        let to_futex = Spread::of(to_futex);
        match Spread::of(nanoseconds) {
            // A goal without a figure would go unnoticed.
            None => skipped.push(format!(
                "waking through {name}: there is none, or it was awake"
            )),
            Some(nanoseconds) => {
                if to_futex.is_none() && *name != FUTEX {
                    skipped.push(format!("waking through {name} against {FUTEX}: no pair"));
                }
                found.push(Woken {
                    transport: (*name).to_owned(),
                    nanoseconds,
                    to_futex,
                });
            }
        }
    }
    Ok(found)
}

/// The section of the page.
pub fn section(found: &[Woken]) -> String {
    if found.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "\n## Waking\n\n\
         Messages of {LENGTH} B, {} µs apart, by when the receiver sleeps, adaptive or not: from before one is sent \
         until it is received. Medians of p50, smallest and largest.\n\n\
         | | wake-up | × the bare futex |\n| --- | ---: | ---: |\n",
        PAUSE.as_micros()
    );
    for woken in found {
        let Spread {
            min, median, max, ..
        } = woken.nanoseconds;
        let ratio = woken.to_futex.map_or_else(String::new, |ratio| {
            let [median, min, max] = [ratio.median, ratio.min, ratio.max].map(multiple);
            format!("{median} ({min}–{max})")
        });
        let [median, min, max] = [median, min, max].map(time);
        let _ = writeln!(
            text,
            "| {} | {median} ({min}–{max}) | {ratio} |",
            woken.transport
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::{Distance, Placement};
    use crate::transport::Outcome;

    #[test]
    fn a_wake_up_is_half_of_those_that_were() {
        let taken = |sleeps, received: &[u64]| Taken {
            senders: vec![Outcome {
                stamps: vec![100, 200, 300],
                ..Outcome::default()
            }],
            receivers: vec![Outcome {
                sleeps,
                stamps: received.to_vec(),
                ..Outcome::default()
            }],
            placement: Placement {
                before: Distance(30.0),
                after: Distance(30.0),
            },
        };
        let half = clock::nanoseconds(20);
        assert_eq!(wake_up(&taken(3, &[110, 290, 320])), Some(half));
        // One was lost, or awaited by one that was awake.
        assert_eq!(wake_up(&taken(3, &[110, 290])), None);
        assert_eq!(wake_up(&taken(2, &[110, 290, 320])), None);
    }

    #[test]
    fn all_are_transports_that_there_are() {
        let runners = crate::registry::runners();
        for name in SLEEPERS {
            assert!(
                runners.iter().any(|runner| runner.about().name == name),
                "{name}"
            );
        }
    }
}
