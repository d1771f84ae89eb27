//! A thousand consumers that sleep, each at a queue of its own: what that costs while nothing comes.
//!
//! One process holds the producers, the other the consumers, each in a thread that waits. The figure
//! is the processor time of the second, as a share of one processor.

use crate::transport::{
    About, Family, Job, Outcome, Role, Runner, Seat, Task, Topology, Waits, Way, Wire,
};
use anyhow::{Context, Result, anyhow};
use rustix::time::{ClockId, clock_gettime};
use std::thread;
use std::time::Duration;
use tombolo::Name;
use tombolo::queue::{Consumer, Options, Producer};
use tombolo::shmem::Waiting;

/// How many.
pub const SLEEPERS: usize = 1000;
/// Until all of them sleep.
const SETTLING: Duration = Duration::from_millis(1500);
/// How long they are looked at.
const LOOKING: Duration = Duration::from_secs(3);
/// They do nothing with it.
const STACK: usize = 64 * 1024;

/// The consumers.
#[derive(Clone, Copy, Debug)]
pub struct Idle;

fn names(base: &str) -> impl Iterator<Item = Result<Name>> {
    (0..SLEEPERS).map(move |n| Ok(format!("{base}-{n}").parse()?))
}

fn options() -> Options {
    Options {
        capacity: 4096,
        producers: 1,
        consumers: 1,
        ..Options::default()
    }
}

/// Seconds of processor time that this process has taken.
fn taken() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn consume(base: &str) -> Result<Job> {
    let open = |name: Result<Name>| Ok(Consumer::open_or_create(name?, &options())?);
    let consumers: Vec<Consumer> = names(base).map(open).collect::<Result<_>>()?;
    Ok(Box::new(move || {
        let sleep = |consumer: Consumer| {
            thread::Builder::new()
                .stack_size(STACK)
                .spawn(move || {
                    let mut consumer = consumer.waiting(Waiting::Park);
                    // Until the producers have left.
                    let end = consumer.recv(&mut Vec::new());
                    end.is_err_and(|error| error.is_closed())
                })
                .context("a thread")
        };
        let threads = consumers.into_iter().map(sleep);
        let threads: Vec<_> = threads.collect::<Result<_>>()?;
        thread::sleep(SETTLING);
        let before = taken();
        thread::sleep(LOOKING);
        let share = (taken() - before) / LOOKING.as_secs_f64();
        for thread in threads {
            let well = thread.join().map_err(|_| anyhow!("a sleeper panicked"))?;
            anyhow::ensure!(well, "a sleeper did not see the end");
        }
        Ok(Outcome {
            rate: Some(share),
            ..Outcome::default()
        })
    }))
}

fn produce(base: &str) -> Result<Job> {
    let open = |name: Result<Name>| Ok(Producer::open_or_create(name?, &options())?);
    let producers: Vec<Producer> = names(base).map(open).collect::<Result<_>>()?;
    Ok(Box::new(move || {
        thread::sleep(SETTLING + LOOKING + SETTLING);
        drop(producers);
        Ok(Outcome::default())
    }))
}

impl Runner for Idle {
    fn about(&self) -> About {
        About::new("queue, idle", Family::Tombolo, Waits::Block, Way::OneByOne)
    }

    fn refuses(&self, task: &Task) -> Option<String> {
        (task.topology != Topology::Stream).then(|| "nothing comes".to_owned())
    }

    fn wires(&self, _: &Task, unique: &str) -> Result<Vec<Wire>> {
        let base = unique.to_owned();
        Ok(vec![Wire::named(unique).cleanup(move || {
            for name in names(&base).flatten() {
                // Gone already, unless an end was killed.
                let _ = tombolo::queue::remove(name);
            }
        })])
    }

    fn open(&self, _: &Task, seat: &Seat) -> Result<Job> {
        let base = &seat.links.first().context("a name")?.name;
        match seat.role {
            Role::Sender(_) => produce(base),
            Role::Receiver(_) => consume(base),
        }
    }
}
