//! Channels that live while they are used: the last one out removes them.

use crate::scene::{name, numbered, options};
use checks::process::{Child, child, shared_words};
use checks::space::{assert_nothing_left, left};
use checks::suite::{Case, Outcome, case, quick_or_long};
use shmem::Region;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use sysv::Segment;
use tombolo::value::{self, Options, Reader, Writer};
use tombolo::{Lifetime, Reason, queue};

pub const CASES: &[Case] = &[
    case("lifetime::leave_together", leave_together),
    case("lifetime::come_and_go", come_and_go),
    case("lifetime::reclaimed", reclaimed),
    case("lifetime::half_removed", half_removed),
    case("lifetime::refused", refused),
];

const PROCESSES: usize = 8;

fn while_used() -> Options {
    Options {
        lifetime: Lifetime::WhileUsed,
        ..options()
    }
}

/// Waits until all processes are here, for the `round`-th time.
fn meet(counter: &AtomicI64, round: i64) {
    counter.fetch_add(1, Ordering::SeqCst);
    let start = Instant::now();
    while counter.load(Ordering::SeqCst) < (round + 1) * PROCESSES as i64 {
        std::thread::yield_now();
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "the others do not come"
        );
    }
}

fn leave_together() -> Outcome {
    let rounds = quick_or_long(200, 5000);
    let meetings = shared_words(4);
    let ids = shared_words(PROCESSES);
    let processes: Vec<Child> = (0..PROCESSES)
        .map(|i| {
            child(move || {
                for round in 0..rounds {
                    let mut writer = Writer::open_or_create(name(), &while_used()).expect("open");
                    ids[i].store(writer.id().into(), Ordering::SeqCst);
                    writer.put(&numbered(round as u64)).expect("put");
                    meet(&meetings[0], round);
                    let mine = i64::from(writer.id());
                    assert!(
                        ids.iter().all(|id| id.load(Ordering::SeqCst) == mine),
                        "one channel"
                    );
                    meet(&meetings[1], round);
                    drop(writer);
                    meet(&meetings[2], round);
                    // Nobody opens it again before everybody has looked.
                    if i == 0 {
                        let left = left();
                        assert!(left.segments.is_empty(), "round {round}: {left:?}");
                    }
                    meet(&meetings[3], round);
                }
            })
        })
        .collect();
    processes.into_iter().for_each(Child::join);
    assert_nothing_left("left together");
    Outcome::Pass(format!("{rounds} rounds of {PROCESSES} processes"))
}

/// Opening and leaving as it comes: nothing is lost while somebody is there, nothing is left
/// when nobody is.
fn come_and_go() -> Outcome {
    let rounds = quick_or_long(1000, 50_000);
    let processes: Vec<Child> = (0..PROCESSES as u64)
        .map(|i| {
            child(move || {
                for round in 0..rounds {
                    let mut writer = Writer::open_or_create(name(), &while_used()).expect("open");
                    writer.put(&numbered(round)).expect("put");
                    let mut reader = Reader::open(name()).expect("it is there while I am");
                    assert_eq!(reader.id(), writer.id(), "there is one channel");
                    reader.get().expect("get").expect("a message");
                    if (round + i) % 7 == 0 {
                        std::thread::yield_now();
                    }
                    if (round + i) % 2 == 0 {
                        drop(writer);
                        reader.get().expect("get").expect("a message");
                    }
                }
            })
        })
        .collect();
    processes.into_iter().for_each(Child::join);
    assert_nothing_left("come and gone");
    Outcome::Pass(format!("{rounds} rounds of {PROCESSES} processes"))
}

/// Who finds that a channel is none of its kind's shape leaves it as it is, though nobody uses it.
fn refused() -> Outcome {
    let word = &shared_words(1)[0];
    child(|| {
        let options = queue::Options::default();
        let consumer = queue::Consumer::open_or_create(name(), &options).expect("open");
        word.store(consumer.id().into(), Ordering::SeqCst);
        // It dies with the channel open.
        std::mem::forget(consumer);
    })
    .join();
    let id = word.load(Ordering::SeqCst) as i32;
    // No queue has so little room.
    let mut fields = tombolo::LAYOUTS
        .iter()
        .filter(|all| all.name == "queue")
        .flat_map(|all| all.fields);
    let capacity = fields
        .find(|field| field.name == "CAPACITY")
        .expect("a field");
    let region = Region::attach(id).expect("attach");
    region.u64(capacity.offset).store(1, Ordering::Relaxed);
    drop(region);
    let error = queue::Producer::open(name()).expect_err("no shape");
    assert!(
        matches!(error.reason(), Reason::Shape(of) if *of == id),
        "{error}"
    );
    Segment::from_id(id).remove().expect("it is still there");
    // The next one takes its entry out of the directory along.
    drop(queue::Consumer::open_or_create(name(), &queue::Options::default()).expect("anew"));
    assert_nothing_left("refused");
    Outcome::Pass("it is still there".into())
}

fn reclaimed() -> Outcome {
    let word = &shared_words(1)[0];
    let owner = child(|| {
        let mut writer = Writer::open_or_create(name(), &while_used()).expect("open");
        writer.put(&numbered(1)).expect("put");
        word.store(i64::from(writer.id()), Ordering::SeqCst);
        checks::process::stay();
    });
    checks::process::wait_until(checks::process::BOUND, || word.load(Ordering::SeqCst) != 0);
    owner.kill();
    assert_eq!(left().segments.len(), 1, "a death leaves it");
    let writer = Writer::open_or_create(name(), &while_used()).expect("open");
    assert_ne!(
        i64::from(writer.id()),
        word.load(Ordering::SeqCst),
        "a new one"
    );
    let mut reader = Reader::open(name()).expect("open");
    assert!(
        reader.get().expect("get").is_none(),
        "what the dead put is gone"
    );
    drop((writer, reader));
    assert_nothing_left("reclaimed");
    Outcome::Pass(String::new())
}

/// A remover is killed between the kernel's removal and the directory's, while somebody has the
/// segment attached: what is removed next takes the entry along.
fn half_removed() -> Outcome {
    let held = Writer::open_or_create(name(), &options()).expect("open");
    Segment::from_id(held.id()).remove().expect("removed");
    let next = Writer::open_or_create(name(), &options()).expect("open");
    assert_ne!(held.id(), next.id(), "a new one");
    value::remove(name()).expect("remove");
    assert_eq!(
        left().queues.len(),
        0,
        "the directory is gone: {:?}",
        left()
    );
    drop((held, next));
    assert_nothing_left("half removed");
    Outcome::Pass(String::new())
}
