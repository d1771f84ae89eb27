//! The ring, by one process: its laps, its writers, its dead.

use super::*;
use std::path::PathBuf;

struct Trace(PathBuf);

impl Trace {
    fn new(name: &str) -> (Self, Reader, Writer) {
        let name = format!("trace-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_file(&path);
        let reader = Reader::create(&path, 0o600).unwrap();
        let writer = Writer::open(&path).unwrap();
        (Self(path), reader, writer)
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn record(number: u64) -> Record {
    Record {
        call: Call::ALL[number as usize % 12],
        phase: Phase::ALL[number as usize % 3],
        thread: 7,
        waits: 1,
        nanoseconds: number,
        result: -(number as i64),
        arguments: [number, 1, u64::MAX, 3, 4],
        detail: [number as u8; DETAIL],
    }
}

fn me() -> u32 {
    std::process::id()
}

#[test]
fn what_is_recorded_is_read_in_order_over_many_laps() {
    let (_file, mut reader, writer) = Trace::new("laps");
    let mut next = 0;
    for number in 0..3 * SLOTS as u64 + 5 {
        writer.record(me(), &record(number));
        if number % 1000 == 999 {
            while let Some(found) = reader.take() {
                assert_eq!(found, Found::Record(record(next)));
                next += 1;
            }
        }
    }
    while let Some(found) = reader.take() {
        assert_eq!(found, Found::Record(record(next)));
        next += 1;
    }
    assert_eq!((next, reader.lost()), (3 * SLOTS as u64 + 5, 0));
}

#[test]
fn many_writers_lose_nothing_while_somebody_reads() {
    let (_file, mut reader, writer) = Trace::new("many");
    const EACH: u64 = 30_000;
    std::thread::scope(|scope| {
        for thread in 0..3u32 {
            let writer = &writer;
            scope.spawn(move || {
                for number in 0..EACH {
                    let record = Record {
                        thread,
                        ..record(number)
                    };
                    writer.record(me(), &record);
                }
            });
        }
        let mut next = [0; 3];
        while next != [EACH; 3] {
            match reader.take() {
                Some(Found::Record(found)) => {
                    let thread = found.thread;
                    let number = &mut next[thread as usize];
                    assert_eq!(
                        found,
                        Record {
                            thread,
                            ..record(*number)
                        }
                    );
                    *number += 1;
                }
                Some(torn) => panic!("{torn:?}"),
                None => std::thread::yield_now(),
            }
        }
    });
    assert_eq!(reader.lost(), 0);
}

#[test]
fn a_reader_that_stands_still_costs_a_second_once() {
    let (_file, mut reader, writer) = Trace::new("still");
    let start = Instant::now();
    for number in 0..SLOTS as u64 + 1000 {
        writer.record(me(), &record(number));
    }
    assert!(start.elapsed() >= STILL);
    assert_eq!(reader.lost(), 1000);
    assert_eq!(reader.take(), Some(Found::Record(record(0))));
    // It moves: there is room again.
    writer.record(me(), &record(5));
    assert_eq!(reader.lost(), 1000);
    reader.close();
    writer.record(me(), &record(6));
    assert_eq!(reader.lost(), 1000);
}

#[test]
fn a_claim_of_the_dead_is_skipped_and_one_of_the_living_waited_for() {
    let (_file, mut reader, writer) = Trace::new("dead");
    // A process that has ended and was reaped.
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    writer.claim(child.id()).unwrap();
    let (at, mine) = writer.claim(me()).unwrap();
    writer.record(me(), &record(1));
    assert_eq!(reader.take(), Some(Found::Torn(child.id() as i32)));
    assert_eq!(reader.take(), None);
    let region = writer.region();
    region
        .copy_in(at + slot::RECORD, &record(9).to_bytes())
        .unwrap();
    region.u64(at).store(mine.written().0, Ordering::Release);
    assert_eq!(reader.take(), Some(Found::Record(record(9))));
    assert_eq!(reader.take(), Some(Found::Record(record(1))));
    assert_eq!(reader.take(), None);
}

#[test]
fn it_is_known_whether_anybody_writes() {
    let (file, _reader, _writer) = Trace::new("used");
    // The writer's own lock goes with this process, so the question is one of another file.
    assert!(is_written(&file.0));
    let other = file.0.with_extension("other");
    let _ = std::fs::remove_file(&other);
    let reader = Reader::create(&other, 0o600).unwrap();
    let used = is_written(&other);
    std::fs::remove_file(&other).unwrap();
    assert!(!used);
    drop(reader);
    assert!(!is_written(&other), "nor where nothing is");
}

#[test]
fn only_a_call_that_sleeps_is_recorded_before_and_once() {
    use crate::under_way::{self, UnderWay};
    let (_file, mut reader, writer) = Trace::new("asleep");
    let writer: &'static Writer = Box::leak(Box::new(writer));
    let call = |number| UnderWay {
        writer,
        pid: me(),
        record: Record {
            phase: Phase::Whole,
            ..record(number)
        },
    };
    let outer = under_way::begin(call(1));
    assert!(outer.is_none());
    under_way::sleeps();
    under_way::sleeps();
    // A handler's call, which does not sleep.
    let interrupted = under_way::begin(call(2));
    assert!(!under_way::end(interrupted));
    under_way::sleeps();
    assert!(under_way::end(outer));
    under_way::sleeps();
    let Some(Found::Record(found)) = reader.take() else {
        panic!("it slept");
    };
    assert_eq!((found.nanoseconds, found.phase), (1, Phase::Asleep));
    assert_eq!(reader.take(), None);
}

#[test]
fn nonsense_is_told_from_records() {
    let (file, mut reader, writer) = Trace::new("nonsense");
    let (at, mine) = writer.claim(me()).unwrap();
    writer
        .region()
        .copy_in(at + slot::RECORD, &[0xff; BYTES])
        .unwrap();
    writer
        .region()
        .u64(at)
        .store(mine.written().0, Ordering::Release);
    assert_eq!(reader.take(), Some(Found::Torn(me() as i32)));
    std::fs::write(&file.0, "short").unwrap();
    assert_eq!(Writer::open(&file.0).err(), Some(Errno::UCLEAN));
}
