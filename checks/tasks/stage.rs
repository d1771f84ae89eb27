//! What stands around the tasks: runtimes, names, threads, time.

use std::future::Future;
use std::time::Duration;
use tombolo::Name;
use tombolo::queue::{Consumer, Options, Producer};

/// Runs a future on tokio, in this thread, for a bounded time.
#[track_caller]
pub fn on_tokio<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(bounded(future))
}

/// Runs a future on tokio with some threads, for a bounded time.
#[track_caller]
pub fn on_threads<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(bounded(future))
}

async fn bounded<T>(future: impl Future<Output = T>) -> T {
    let timed = tokio::time::timeout(Duration::from_secs(120), future);
    timed.await.expect("an end in time")
}

pub fn name(number: usize) -> Name {
    Name::mine(&format!("task-{number}")).expect("a name")
}

/// Small queues, of which there may be many.
pub fn options() -> Options {
    Options {
        capacity: 4096,
        producers: 4,
        consumers: 8,
        ..Options::default()
    }
}

pub fn producer(number: usize) -> Producer {
    Producer::open_or_create(name(number), &options()).expect("a producer")
}

pub fn consumer(number: usize) -> Consumer {
    Consumer::open_or_create(name(number), &options()).expect("a consumer")
}

/// How many threads of this process are the reactor's.
pub fn reactors() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("/proc");
    let name = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("comm"));
    let names = tasks.filter_map(|entry| name(entry.ok()?).ok());
    names
        .filter(|name| name.trim() == "tombolo-reactor")
        .count()
}

/// Time that this process was on a processor.
pub fn run_time() -> Duration {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// Half of the figures are below the first, 99 of 100 below the second.
pub fn median_and_tail(mut figures: Vec<Duration>) -> (Duration, Duration) {
    figures.sort_unstable();
    (
        figures[figures.len() / 2],
        figures[figures.len() * 99 / 100],
    )
}

/// The time of a clock that all processes share.
pub fn monotonic() -> Duration {
    clock(libc::CLOCK_MONOTONIC)
}

fn clock(clock: libc::clockid_t) -> Duration {
    // SAFETY: every bit pattern is a timespec.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: `time` is valid for writing.
    let got = unsafe { libc::clock_gettime(clock, &mut time) };
    assert_eq!(got, 0, "clock_gettime");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
