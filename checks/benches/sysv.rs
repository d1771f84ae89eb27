//! System V in user space beside the kernel's own calls, in one run: `cargo bench -p checks --bench
//! sysv -- --help`.
//!
//! Each line is one thing that programs do, done by the same code through the kernel's calls and
//! through those on a name space in user space, turn and turn about; what is reported is the median
//! time of each, and the median of the ratios of neighbours. Every message is checked word by word
//! while time is taken. The two processes are pinned, to two processors or to one.

use bench::place;
use checks::process::{Child, child};
use checks::user_space::{self, Folder};
use clap::Parser;
use preload::InSpace;
use std::process::ExitCode;
use std::ptr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use sysv::abi::*;
use sysv::{Calls, Kernel};

/// Measures the calls in user space beside the kernel's.
#[derive(Parser)]
struct Options {
    /// Only the lines whose name contains this
    filter: Option<String>,
    /// Fewer and shorter samples
    #[arg(long)]
    quick: bool,
    /// Samples of each, by each
    #[arg(long, default_value_t = 15)]
    samples: usize,
    /// Print the table as Markdown
    #[arg(long)]
    markdown: bool,
    /// Only through this: kernel or userspace
    #[arg(long)]
    only: Option<String>,
    /// What cargo passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// Who answers, as all bodies see it.
type Answers = &'static dyn Calls;

/// One thing that is measured: does it so many times, and answers how long that took.
struct Line {
    name: &'static str,
    count: u64,
    /// What the issue asks for, as a ratio.
    goal: f64,
    body: fn(Answers, u64) -> Duration,
}

const LINES: &[Line] = &[
    Line {
        name: "msgsnd and msgrcv of 64 B, a stream to another process",
        count: 60_000,
        goal: 5.0,
        body: |calls, count| stream::<8>(calls, count),
    },
    Line {
        name: "msgsnd and msgrcv of 1 KiB, a stream to another process",
        count: 20_000,
        goal: 1.0,
        body: |calls, count| stream::<128>(calls, count),
    },
    Line {
        name: "there and back, 64 B, two processors",
        count: 2_000,
        goal: 50.0,
        body: |calls, count| ping_pong::<8>(calls, count, 1),
    },
    Line {
        name: "there and back, 64 B, one processor for both",
        count: 6_000,
        goal: 1.0,
        body: |calls, count| ping_pong::<8>(calls, count, 0),
    },
    Line {
        name: "there and back, 64 B, the other one asleep",
        count: 100,
        goal: 1.0,
        body: asleep,
    },
    Line {
        name: "msgsnd and msgrcv of 64 B, one process",
        count: 40_000,
        goal: 2.5,
        body: to_oneself,
    },
    Line {
        name: "msgrcv by type, 10,000 others queued",
        count: 1_000,
        goal: 20.0,
        body: by_type,
    },
    Line {
        name: "semop, uncontended",
        count: 100_000,
        goal: 2.5,
        body: |calls, count| operate(calls, count, 0),
    },
    Line {
        name: "semop with SEM_UNDO, uncontended",
        count: 100_000,
        goal: 2.5,
        body: |calls, count| operate(calls, count, SEM_UNDO),
    },
    Line {
        name: "semop, a lock that two processes fight for",
        count: 40_000,
        goal: 1.0,
        body: fight,
    },
    Line {
        name: "as fakeroot: semop, 1 KiB there and back, semop",
        count: 2_000,
        goal: 4.0,
        body: as_fakeroot,
    },
];

fn main() -> ExitCode {
    let options = Options::parse();
    let folder = Folder::new();
    // This program installs no handlers and changes no credentials: the preloaded library sees that
    // of a program.
    preload::signals::watch();
    preload::credentials::watch();
    static IN_SPACE: OnceLock<InSpace<'static>> = OnceLock::new();
    let space = user_space::enter(&folder);
    let ours: Answers = IN_SPACE.get_or_init(|| InSpace(space));
    pin(0);
    let mut lines = Vec::new();
    for line in LINES {
        if !matches(&options, line) {
            continue;
        }
        lines.push(measure(&options, line, ours));
    }
    print!("{}", table(&lines, options.markdown));
    ExitCode::SUCCESS
}

fn matches(options: &Options, line: &Line) -> bool {
    let filter = options.filter.as_deref().unwrap_or_default();
    line.name.contains(filter)
}

/// What came of a line: nanoseconds for each.
struct Measured {
    name: &'static str,
    goal: f64,
    kernel: f64,
    ours: f64,
    ratio: f64,
}

fn measure(options: &Options, line: &Line, ours: Answers) -> Measured {
    let (samples, count) = if options.quick {
        (5, line.count / 4)
    } else {
        (options.samples, line.count)
    };
    let only = options.only.as_deref();
    let sample = |name, calls: Answers| match only {
        Some(only) if only != name => f64::NAN,
        _ => (line.body)(calls, count).as_nanos() as f64 / count as f64,
    };
    let mut pairs = Vec::new();
    // The first one warms up.
    for round in 0..=samples {
        let pair = if round % 2 == 0 {
            let kernel = sample("kernel", &Kernel);
            (kernel, sample("userspace", ours))
        } else {
            let ours = sample("userspace", ours);
            (sample("kernel", &Kernel), ours)
        };
        if round > 0 {
            pairs.push(pair);
        }
    }
    Measured {
        name: line.name,
        goal: line.goal,
        kernel: median(pairs.iter().map(|pair| pair.0)),
        ours: median(pairs.iter().map(|pair| pair.1)),
        ratio: median(pairs.iter().map(|pair| pair.0 / pair.1)),
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn table(lines: &[Measured], markdown: bool) -> String {
    let mut text = String::new();
    let longest = lines.iter().map(|line| line.name.len()).max().unwrap_or(0);
    if markdown {
        text += "| what | kernel, ns | user space, ns | ratio | asked for |\n";
        text += "| --- | ---: | ---: | ---: | ---: |\n";
    }
    for line in lines {
        let (name, goal) = (line.name, line.goal);
        let (kernel, ours, ratio) = (line.kernel, line.ours, line.ratio);
        text += &if markdown {
            format!("| {name} | {kernel:.0} | {ours:.0} | {ratio:.1} | {goal} |\n")
        } else {
            format!("{name:longest$} {kernel:>9.0} ns {ours:>9.0} ns {ratio:>7.1} of {goal}\n")
        };
    }
    text
}

/// Pins this process to the first or the second of the processors that it may use; where there is only one, to that.
fn pin(place: usize) {
    // Children ask too, who may use only what their parent was pinned to.
    static ALL: OnceLock<Vec<usize>> = OnceLock::new();
    let all = ALL.get_or_init(|| place::processors().expect("processors"));
    let processor = all[place.min(all.len() - 1)];
    place::pin(&[processor]).expect("a processor of this process");
}

/// A message as C programs have it: `WORDS` words, all of which say which message it is.
#[repr(C)]
struct Message<const WORDS: usize> {
    message_type: i64,
    words: [u64; WORDS],
}

impl<const WORDS: usize> Message<WORDS> {
    const LENGTH: usize = 8 * WORDS;

    fn new() -> Self {
        Self {
            message_type: 1,
            words: [0; WORDS],
        }
    }

    fn send(&mut self, calls: Answers, queue: i32, message_type: i64, number: u64) {
        self.message_type = message_type;
        self.words = std::array::from_fn(|place| number ^ (place as u64) << 56);
        // SAFETY: a type and so many bytes.
        let sent = unsafe { calls.msgsnd(queue, (&raw const *self).cast(), Self::LENGTH, 0) };
        sent.expect("msgsnd");
    }

    /// Receives the next message of a type, and checks that it is the one with that number.
    fn receive(&mut self, calls: Answers, queue: i32, message_type: i64, number: u64) {
        let to = (&raw mut *self).cast();
        // SAFETY: room for a type and so many bytes.
        let got = unsafe { calls.msgrcv(queue, to, Self::LENGTH, message_type, 0) };
        assert_eq!(got, Ok(Self::LENGTH));
        let whole: [u64; WORDS] = std::array::from_fn(|place| number ^ (place as u64) << 56);
        assert!(self.words == whole, "message {number} is another");
    }
}

/// A queue, removed at the end.
struct Queue(Answers, i32);

impl Queue {
    fn new(calls: Answers) -> Self {
        Self(calls, calls.msgget(IPC_PRIVATE, 0o600).expect("msgget"))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: IPC_RMID takes no buffer.
        let _ = unsafe { self.0.msgctl(self.1, IPC_RMID, ptr::null_mut()) };
    }
}

/// A set of one semaphore, removed at the end.
struct Set(Answers, i32);

impl Set {
    fn new(calls: Answers, value: usize) -> Self {
        let id = calls.semget(IPC_PRIVATE, 1, 0o600).expect("semget");
        // SAFETY: a number.
        unsafe { calls.semctl(id, 0, SETVAL, value) }.expect("SETVAL");
        Self(calls, id)
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        // SAFETY: IPC_RMID takes no argument.
        let _ = unsafe { self.0.semctl(self.1, 0, IPC_RMID, 0) };
    }
}

fn semop(calls: Answers, id: i32, amount: i16, flags: i16) {
    let operation = sembuf {
        sem_num: 0,
        sem_op: amount,
        sem_flg: flags,
    };
    // SAFETY: one operation.
    unsafe { calls.semop(id, &raw const operation, 1) }.expect("semop");
}

/// The other process, at a place.
fn other(place: usize, body: impl FnOnce()) -> Child {
    child(move || {
        pin(place);
        body();
    })
}

fn stream<const WORDS: usize>(calls: Answers, count: u64) -> Duration {
    let queue = Queue::new(calls);
    let id = queue.1;
    let receiver = other(1, || {
        let mut message = Message::<WORDS>::new();
        message.send(calls, id, 2, 0);
        for number in 0..count {
            message.receive(calls, id, 1, number);
        }
        message.send(calls, id, 2, count);
    });
    let mut message = Message::<WORDS>::new();
    message.receive(calls, id, 2, 0);
    let start = Instant::now();
    for number in 0..count {
        message.send(calls, id, 1, number);
    }
    message.receive(calls, id, 2, count);
    let took = start.elapsed();
    receiver.join();
    took
}

/// Answers each message of type 1 by one of type 2.
fn echo<const WORDS: usize>(calls: Answers, id: i32, count: u64) {
    let mut message = Message::<WORDS>::new();
    message.send(calls, id, 2, u64::MAX);
    for number in 0..count {
        message.receive(calls, id, 1, number);
        message.send(calls, id, 2, number);
    }
}

fn ping_pong<const WORDS: usize>(calls: Answers, count: u64, place: usize) -> Duration {
    let queue = Queue::new(calls);
    let id = queue.1;
    let server = other(place, || echo::<WORDS>(calls, id, count));
    let mut message = Message::<WORDS>::new();
    message.receive(calls, id, 2, u64::MAX);
    let start = Instant::now();
    for number in 0..count {
        message.send(calls, id, 1, number);
        message.receive(calls, id, 2, number);
    }
    let took = start.elapsed();
    server.join();
    took
}

fn asleep(calls: Answers, count: u64) -> Duration {
    let queue = Queue::new(calls);
    let id = queue.1;
    let server = other(1, || echo::<8>(calls, id, count));
    let mut message = Message::<8>::new();
    message.receive(calls, id, 2, u64::MAX);
    let mut took = Duration::ZERO;
    for number in 0..count {
        // Longer than anybody spins.
        let pause = Instant::now();
        while pause.elapsed() < Duration::from_micros(300) {
            std::hint::spin_loop();
        }
        let start = Instant::now();
        message.send(calls, id, 1, number);
        message.receive(calls, id, 2, number);
        took += start.elapsed();
    }
    server.join();
    took
}

fn to_oneself(calls: Answers, count: u64) -> Duration {
    let queue = Queue::new(calls);
    let mut message = Message::<8>::new();
    let start = Instant::now();
    for number in 0..count {
        message.send(calls, queue.1, 1, number);
        message.receive(calls, queue.1, 0, number);
    }
    start.elapsed()
}

fn by_type(calls: Answers, count: u64) -> Duration {
    let queue = Queue::new(calls);
    let other = [7u64, 0];
    let send = |message: &[u64; 2]| {
        let from = message.as_ptr().cast();
        // SAFETY: a type and a byte.
        unsafe { calls.msgsnd(queue.1, from, 1, 0) }.expect("msgsnd");
    };
    for _ in 0..10_000 {
        send(&other);
    }
    let start = Instant::now();
    for number in 0..count {
        send(&[9, number & 0xff]);
        let mut got = [0u64; 2];
        let to = got.as_mut_ptr().cast();
        // SAFETY: room for a type and eight bytes.
        let length = unsafe { calls.msgrcv(queue.1, to, 8, 9, 0) };
        assert_eq!((length, got[0], got[1]), (Ok(1), 9, number & 0xff));
    }
    start.elapsed()
}

fn operate(calls: Answers, count: u64, flags: i16) -> Duration {
    let set = Set::new(calls, 5);
    let start = Instant::now();
    for number in 0..count {
        let amount = if number % 2 == 0 { -1 } else { 1 };
        semop(calls, set.1, amount, flags);
    }
    let took = start.elapsed();
    // SAFETY: no argument.
    assert_eq!(unsafe { calls.semctl(set.1, 0, GETVAL, 0) }, Ok(5));
    took
}

/// Two processes take a lock in turn with what the other does; each time is one taking and giving.
fn fight(calls: Answers, count: u64) -> Duration {
    let set = Set::new(calls, 1);
    let id = set.1;
    let queue = Queue::new(calls);
    let ready = queue.1;
    let lock = move || {
        for _ in 0..count / 2 {
            semop(calls, id, -1, 0);
            semop(calls, id, 1, 0);
        }
    };
    let rival = other(1, || {
        Message::<8>::new().send(calls, ready, 1, 0);
        lock();
        Message::<8>::new().send(calls, ready, 2, 0);
    });
    let mut message = Message::<8>::new();
    message.receive(calls, ready, 1, 0);
    let start = Instant::now();
    lock();
    message.receive(calls, ready, 2, 0);
    let took = start.elapsed();
    rival.join();
    took
}

fn as_fakeroot(calls: Answers, count: u64) -> Duration {
    let (set, queue) = (Set::new(calls, 1), Queue::new(calls));
    let id = queue.1;
    let server = other(1, || echo::<128>(calls, id, count));
    let mut message = Message::<128>::new();
    message.receive(calls, id, 2, u64::MAX);
    let start = Instant::now();
    for number in 0..count {
        semop(calls, set.1, -1, SEM_UNDO);
        message.send(calls, id, 1, number);
        message.receive(calls, id, 2, number);
        semop(calls, set.1, 1, SEM_UNDO);
    }
    let took = start.elapsed();
    server.join();
    took
}
