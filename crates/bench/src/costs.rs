//! What single operations cost in one process: opening, putting, getting, copying.

use crate::clock;
use crate::growth::{Chart, Point};
use crate::stats::Spread;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use sysv::{Key, Mode, Segment};
use tombolo::queue::{self, Consumer, Producer};
use tombolo::shmem::Region;
use tombolo::shmem::header::Lifetime;
use tombolo::value::{self, Reader, Writer};
use tombolo::{Name, service, topic};

/// The price of an operation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cost {
    /// The operation.
    pub what: String,
    /// Bytes of the message, if there is one.
    pub length: Option<usize>,
    /// Nanoseconds.
    pub nanoseconds: Spread,
    /// Nanoseconds of copying the same bytes within this process, taken in turn.
    pub copy: Option<Spread>,
}

/// What begins the name of what is no channel, and has no goal: the kernel's share of opening one.
pub const BARE: &str = "bare segment";

/// Repetitions of everything.
const TIMES: usize = 15;

/// Nanoseconds of one of `count` operations. Each in a function of its own: what stands around it takes no
/// registers from it. So what it needs is moved into it.
#[inline(never)]
fn time(count: u32, mut operation: impl FnMut() -> Result<()>) -> Result<f64> {
    let start = clock::now();
    for _ in 0..count {
        operation()?;
    }
    Ok(clock::nanoseconds(clock::now().wrapping_sub(start)) / f64::from(count))
}

fn name(what: &str) -> Result<Name> {
    Ok(format!("bench-{}-{what}", std::process::id()).parse()?)
}

fn spread(figures: Vec<f64>) -> Spread {
    Spread::of(figures).expect("there are repetitions")
}

/// Measures all of it.
///
/// # Errors
/// If a channel can't be made.
pub fn costs() -> Result<Vec<Cost>> {
    let mut all = openings("")?;
    all.extend(crowded(|| openings(", in a process with 8 threads"))?);
    for length in crate::registry::LENGTHS {
        all.extend(value_costs(length)?);
    }
    Ok(all)
}

/// Does something while this process has other threads, which sleep.
fn crowded<T>(what: impl FnOnce() -> Result<T>) -> Result<T> {
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel::<()>();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..8 {
            let receiver = Arc::clone(&receiver);
            scope.spawn(move || receiver.lock().map(|receiver| receiver.recv()).is_ok());
        }
        let result = what();
        // They end.
        drop(sender);
        result
    })
}

/// Creating, opening from the other side, and closing both.
fn openings(around: &str) -> Result<Vec<Cost>> {
    let mut all = Vec::new();
    let mut put = |what: &str, operation: &mut dyn FnMut() -> Result<()>| -> Result<()> {
        let figures = (0..TIMES).map(|_| time(20, &mut *operation));
        all.push(Cost {
            what: format!("{what}: create, open and close{around}"),
            length: None,
            nanoseconds: spread(figures.collect::<Result<_>>()?),
            copy: None,
        });
        Ok(())
    };
    let at = name("opening")?;
    let consumer = Consumer::open_or_create(at.clone(), &queue::Options::default())?;
    let length = Segment::from_id(consumer.id()).status()?.size;
    drop(consumer);
    put(BARE, &mut || bare_segment(length as usize))?;
    put("value", &mut || {
        let options = value::Options {
            lifetime: Lifetime::WhileUsed,
            ..value::Options::default()
        };
        let writer = Writer::open_or_create(at.clone(), &options)?;
        drop((Reader::open(at.clone())?, writer));
        Ok(())
    })?;
    put("queue", &mut || {
        let consumer = Consumer::open_or_create(at.clone(), &queue::Options::default())?;
        drop((Producer::open(at.clone())?, consumer));
        Ok(())
    })?;
    put("topic", &mut || {
        let options = topic::Options::default();
        let publisher = topic::Publisher::open_or_create(at.clone(), &options)?;
        let subscriber = topic::Subscriber::open(at.clone(), topic::Start::Now)?;
        drop((subscriber, publisher));
        Ok(())
    })?;
    put("service", &mut || {
        let server = service::Server::open_or_create(at.clone(), &service::Options::default())?;
        drop((service::Client::open(at.clone())?, server));
        Ok(())
    })?;
    Ok(all)
}

/// The least that two ends of a channel of so many bytes can ask of the kernel: a segment that each attaches
/// and writes to, detaches, and that goes.
fn bare_segment(length: usize) -> Result<()> {
    let segment = Segment::create(Key::PRIVATE, length, Mode::from_bits_truncate(0o600))?;
    let attach = || {
        let region = Region::attach(segment.id())?;
        // Where a queue has its state and its participants, where its lanes and where its first message.
        for page in 0..3 {
            region.u64(page * PAGE).store(1, Ordering::Relaxed);
        }
        sysv::Result::Ok(region)
    };
    let both = attach().and_then(|one| Ok((one, attach()?)));
    segment.remove()?;
    drop(both?);
    Ok(())
}

/// Bytes of a page: within it, places differ.
const PAGE: usize = 4096;

/// Putting, and getting what was got before, each beside copying the bytes to where it puts them: to a
/// place, and to the end of an empty vector.
///
/// Where the bytes lie within their pages decides what a copy takes, of 1 KiB from 5 to 8 ns, so they lie
/// elsewhere each time.
fn value_costs(length: usize) -> Result<Vec<Cost>> {
    let at = name("value")?;
    let options = value::Options {
        capacity: length,
        lifetime: Lifetime::WhileUsed,
        ..value::Options::default()
    };
    let mut writer = Writer::open_or_create(at.clone(), &options)?;
    let mut reader = Reader::open(at)?;
    let count = (20_000_000 / length.max(2000)) as u32;
    let source = vec![1; length + PAGE];
    let mut place = vec![0; length + PAGE];
    // Vectors begin elsewhere as long as those before are still there.
    let mut vectors = Vec::new();
    let (mut puts, mut gets) = (Vec::new(), Vec::new());
    let (mut copies, mut vector_copies) = (Vec::new(), Vec::new());
    // After so many it needs no lock any more.
    for _ in 0..12_000 {
        writer.put(&[])?;
    }
    for turn in 0..TIMES {
        let (from, to) = (turn * 272 % PAGE, turn * 1104 % PAGE);
        let message = &source[from..from + length];
        let place = &mut place[to..to + length];
        let (mut got, mut copied) = (Vec::with_capacity(length), Vec::with_capacity(length));
        // Which maps the pages.
        place.copy_from_slice(message);
        copied.extend_from_slice(message);
        writer.put(message)?;
        reader.get_into(&mut got)?;
        copies.push(time(count, move || {
            black_box(&mut *place).copy_from_slice(black_box(message));
            Ok(())
        })?);
        let (writer, reader) = (&mut writer, &mut reader);
        puts.push(time(count, move || {
            writer.put(black_box(message))?;
            Ok(())
        })?);
        let (into, copy) = (&mut got, &mut copied);
        vector_copies.push(time(count, move || {
            let copied = black_box(&mut *copy);
            copied.clear();
            copied.extend_from_slice(black_box(message));
            Ok(())
        })?);
        gets.push(time(count, move || {
            reader.get_into(black_box(&mut *into))?;
            Ok(())
        })?);
        vectors.push((got, copied));
    }
    let cost = |what: &str, figures, copies| Cost {
        what: what.to_owned(),
        length: Some(length),
        nanoseconds: spread(figures),
        copy: Some(spread(copies)),
    };
    Ok(vec![
        cost("value: put", puts, copies),
        cost("value: get, unchanged", gets, vector_copies),
    ])
}

/// Costs by the number of channels there are, and of messages in a queue.
///
/// # Errors
/// If a channel can't be made.
pub fn by_number(quick: bool) -> Result<Vec<Chart>> {
    let chart = |name: &str, title: &str, x: &str, y: &str, points| Chart {
        name: name.to_owned(),
        title: title.to_owned(),
        x: x.to_owned(),
        y: y.to_owned(),
        points,
        skipped: Vec::new(),
    };
    let (opening, memory) = channels(quick)?;
    Ok(vec![
        chart(
            "channels",
            "Opening one more channel, by the number of those there are",
            "channels",
            "nanoseconds to create and open",
            opening,
        ),
        chart(
            "memory",
            "Memory of a channel through which one message of 64 B went",
            "channels",
            "bytes that the kernel provides",
            memory,
        ),
        chart(
            "backlog",
            "A message of 64 B, by how many are sent before the first is received",
            "messages in the queue",
            "nanoseconds to send and receive",
            backlog(quick)?,
        ),
    ])
}

fn channels(quick: bool) -> Result<(Vec<Point>, Vec<Point>)> {
    let (mut opening, mut memory) = (Vec::new(), Vec::new());
    let mut open = Vec::new();
    let most = if quick { 100 } else { 1000 };
    for n in [1, 10, 100, 1000] {
        if n > most {
            break;
        }
        let mut times = Vec::new();
        while open.len() < n {
            let at = name(&format!("channel-{}", open.len()))?;
            let start = clock::now();
            let consumer = Consumer::open_or_create(at.clone(), &queue::Options::default())?;
            let producer = Producer::open(at)?;
            times.push(clock::nanoseconds(clock::now().wrapping_sub(start)));
            open.push((consumer, producer));
        }
        // The newest are those that saw so many others.
        let newest = times.len().saturating_sub(n.div_ceil(2));
        let point = |y| Point {
            series: "queue".to_owned(),
            x: n as u64,
            y,
            to_first: None,
        };
        opening.push(point(spread(times.split_off(newest))));
        let mut bytes = Vec::new();
        for (consumer, producer) in open.iter_mut().take(50) {
            producer.send(&[1; 64])?;
            consumer.recv(&mut Vec::new())?;
            bytes.push(resident(producer.id())?);
        }
        memory.push(point(spread(bytes)));
    }
    Ok((opening, memory))
}

/// Bytes of a segment that the kernel provides.
fn resident(id: i32) -> Result<f64> {
    let segments = sysv::procfs::segments()?;
    let found = segments.iter().find(|segment| segment.status.id == id);
    Ok(found.map_or(0.0, |segment| segment.resident as f64))
}

fn backlog(quick: bool) -> Result<Vec<Point>> {
    let mut points = Vec::new();
    let numbers: &[u64] = if quick {
        &[1, 100, 10_000]
    } else {
        &[1, 10, 100, 1000, 10_000, 100_000]
    };
    for count in numbers {
        let at = name("backlog")?;
        let options = queue::Options {
            capacity: (*count as usize * 256).max(1 << 16),
            producers: 1,
            consumers: 1,
            ..queue::Options::default()
        };
        let mut consumer = Consumer::open_or_create(at.clone(), &options)?;
        let mut producer = Producer::open(at)?;
        let mut message = Vec::with_capacity(64);
        let mut figures = Vec::new();
        // The first round maps the pages.
        for round in 0..=TIMES {
            let start = clock::now();
            for _ in 0..*count {
                producer.send(&[1; 64])?;
            }
            for _ in 0..*count {
                consumer.recv(&mut message)?;
            }
            let ticks = clock::now().wrapping_sub(start);
            if round > 0 {
                figures.push(clock::nanoseconds(ticks) / *count as f64);
            }
        }
        points.push(Point {
            series: "queue".to_owned(),
            x: *count,
            y: spread(figures),
            to_first: None,
        });
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_costs_something() {
        let all = costs().unwrap();
        assert!(all.len() >= 10 + 2 * crate::registry::LENGTHS.len());
        for cost in all {
            assert!(cost.nanoseconds.min > 0.0, "{cost:?}");
        }
        for chart in by_number(true).unwrap() {
            assert!(chart.points.len() >= 2, "{chart:?}");
            for point in chart.points {
                assert!(point.y.min > 0.0, "{}: {point:?}", chart.name);
            }
        }
    }
}
