//! Models of a `topic` in loom, on rings of four records.
//!
//! One label is beyond them: [TOPIC_RELEASE] weakened shows only where a load is answered by a store
//! that comes later, and loom executes loads in their order.

use crate::topic_head::Head;
use crate::topic_members::{Ended, ended, free_seat, hold, leave_lane, leave_seat};
use crate::topic_members::{move_cursor, take_lane, take_seat};
use crate::topic_policy::{Policy, Start};
use crate::topic_reader::{Got, Reader, topic};
use crate::topic_run::Run;
use crate::topic_tail::Tail;
use loom::thread;
use shmem::sync::Ordering;
use shmem::wait::Patience;

fn bounded(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// A message that says its number twice, in words of their own.
fn message(number: u64) -> Vec<u8> {
    number.to_ne_bytes().repeat(2)
}

/// [TOPIC_TEAR], [TOPIC_MARK], [LANE_PUBLISH]: a subscriber is lapped, in the middle of a
/// message too, and gets whole messages and exact counts.
fn overrun(preemptions: usize, before: u64, during: u64, start: Start) {
    bounded(preemptions, move || {
        let (shape, region) = topic(1, 1, 256, Policy::Overrun);
        let mut tail = Tail::open(shape, &region, 0).unwrap();
        for number in 0..before {
            tail.send(&region, &message(number)).unwrap();
        }
        let head = Head::seek(shape, &region, 0, start, 0).unwrap();
        let mut expected = head.point().number;
        let mut reader = Reader::new(head);
        let publisher = {
            let region = region.clone();
            thread::spawn(move || {
                for number in before..before + during {
                    tail.send(&region, &message(number)).unwrap();
                }
            })
        };
        let mut see = |got: Got| match got {
            Got::Message(number, lost, bytes) => {
                assert_eq!(bytes, message(number));
                assert_eq!(number, expected + lost);
                expected = number + 1;
                true
            }
            Got::Nothing => false,
            Got::Damaged => panic!("nothing is damaged here"),
        };
        for _ in 0..2 {
            see(reader.recv(&region));
        }
        publisher.join().unwrap();
        while see(reader.recv(&region)) {}
        assert_eq!(
            expected,
            before + during,
            "the rest, or told that it is lost"
        );
    });
}

#[test]
fn a_lapped_subscriber_gets_whole_messages_and_exact_counts() {
    overrun(2, 0, 5, Start::Now);
}

#[test]
fn a_subscriber_is_lapped_while_it_copies() {
    overrun(3, 3, 3, Start::Last(1));
}

/// The same for a subscriber in a run, which has received `from` of the messages before.
fn overrun_in_a_run(preemptions: usize, from: u64, before: u64, during: u64) {
    bounded(preemptions, move || {
        let (shape, region) = topic(1, 1, 256, Policy::Overrun);
        let mut tail = Tail::open(shape, &region, 0).unwrap();
        let mut reader = Reader::new(Head::seek(shape, &region, 0, Start::Now, 0).unwrap());
        for number in 0..before {
            tail.send(&region, &message(number)).unwrap();
            if number < from {
                let got = Got::Message(number, 0, message(number));
                assert_eq!(reader.recv(&region), got);
            }
        }
        let publisher = {
            let region = region.clone();
            thread::spawn(move || {
                for number in before..before + during {
                    tail.send(&region, &message(number)).unwrap();
                }
            })
        };
        let mut run = Run::none(&shape, &region, 0);
        let extent = Run::extent(16).unwrap();
        run.begin(reader.head.point(), extent, u64::MAX, 2);
        let (mut expected, mut bytes) = (from, Vec::with_capacity(16));
        while let Some(number) = run.recv(&mut bytes, || true) {
            assert_eq!((number, &bytes), (expected, &message(expected)));
            expected += 1;
        }
        let (point, taken) = run.end().unwrap();
        assert_eq!((point.number, taken), (expected, expected - from));
        reader.head.go_to(point);
        publisher.join().unwrap();
        while let Got::Message(number, lost, bytes) = reader.recv(&region) {
            assert_eq!((number, &bytes), (expected + lost, &message(number)));
            expected = number + 1;
        }
        assert_eq!(expected, before + during);
    });
}

#[test]
fn a_subscriber_in_a_run_is_lapped_while_it_copies() {
    overrun_in_a_run(3, 1, 3, 3);
}

#[test]
fn a_subscriber_in_a_run_gets_what_comes() {
    overrun_in_a_run(2, 1, 1, 3);
}

/// [TOPIC_MARK] and [TOPIC_TEAR] for who comes while messages are published.
#[test]
fn a_latecomer_begins_at_a_record() {
    bounded(2, || {
        let (shape, region) = topic(1, 1, 256, Policy::Overrun);
        let mut tail = Tail::open(shape, &region, 0).unwrap();
        for number in 0..3 {
            tail.send(&region, &message(number)).unwrap();
        }
        let publisher = {
            let region = region.clone();
            thread::spawn(move || {
                for number in 3..6 {
                    tail.send(&region, &message(number)).unwrap();
                }
            })
        };
        if let Ok(head) = Head::seek(shape, &region, 0, Start::Last(2), 0) {
            let first = head.point().number;
            assert!((1..=6).contains(&first), "{first}");
            let mut reader = Reader::new(head);
            if let Got::Message(number, lost, bytes) = reader.recv(&region) {
                assert_eq!((number, bytes), (first + lost, message(number)));
            }
        }
        publisher.join().unwrap();
        let head = Head::seek(shape, &region, 0, Start::Last(1), 0).unwrap();
        assert_eq!(head.point().number, 5);
    });
}

/// [TOPIC_HOLD] and [TOPIC_RELEASE]: who subscribes while messages are published misses none
/// from where it starts, round the ring; [TOPIC_OWNER], [TOPIC_CAME] and [BELL_PARK]: it sleeps
/// through nothing and gets the end.
fn waited_for(before: u64, during: u64, start: Start) {
    bounded(2, move || {
        let (shape, region) = topic(1, 1, 256, Policy::WaitForSlowest);
        let publisher = {
            let region = region.clone();
            let lane = take_lane(&shape, &region, 5, |_| false).unwrap();
            let mut tail = Tail::open(shape, &region, lane).unwrap();
            for number in 0..before {
                tail.send(&region, &message(number)).unwrap();
            }
            thread::spawn(move || {
                for number in before..before + during {
                    let message = message(number);
                    let send = |_| tail.send(&region, &message).ok();
                    shape.space(&region, lane).wait(Patience::FOREVER, send);
                    shape.data(&region).ring_light(|| true);
                }
                leave_lane(&shape, &region, lane);
            })
        };
        let seat = take_seat(&shape, &region, 7, |_| false).unwrap();
        if let Ok(head) = hold(&shape, &region, seat, 0, start, 2) {
            let mut expected = head.point().number;
            let mut reader = Reader::new(head);
            let last = loop {
                let found =
                    shape
                        .data(&region)
                        .wait(Patience::FOREVER, |_| match reader.recv(&region) {
                            Got::Nothing => {
                                let empty = |_| reader.head.is_empty(&region);
                                ended(&shape, &region, |_| false, empty).map(Err)
                            }
                            got => Some(Ok(got)),
                        });
                match found.unwrap() {
                    Ok(got) => {
                        assert_eq!(got, Got::Message(expected, 0, message(expected)));
                        expected += 1;
                        move_cursor(&shape, &region, seat, 0, &reader.head);
                        shape.space(&region, 0).ring_light(|| true);
                    }
                    Err(end) => break end,
                }
            };
            assert_eq!((last, expected), (Ended::Closed, before + during));
        }
        leave_seat(&shape, &region, seat);
        publisher.join().unwrap();
    });
}

#[test]
fn who_is_waited_for_misses_nothing_from_where_it_starts() {
    waited_for(0, 3, Start::Now);
}

#[test]
fn who_comes_when_the_ring_is_full_holds_what_it_starts_with() {
    waited_for(3, 2, Start::Oldest);
}

/// [TOPIC_CAME] and [TOPIC_OWNER]: whoever looks for the end while the first publisher comes and goes
/// does not take it for one that has left before its message was published.
#[test]
fn the_first_publisher_is_no_end() {
    loom::model(|| {
        let (shape, region) = topic(1, 1, 256, Policy::Overrun);
        let head = Head::seek(shape, &region, 0, Start::Oldest, 0).unwrap();
        let publisher = {
            let region = region.clone();
            thread::spawn(move || {
                let lane = take_lane(&shape, &region, 5, |_| false).unwrap();
                let mut tail = Tail::open(shape, &region, lane).unwrap();
                tail.send(&region, &message(0)).unwrap();
                leave_lane(&shape, &region, lane);
            })
        };
        let end = || ended(&shape, &region, |_| false, |_| head.is_empty(&region));
        assert_eq!(end(), None, "a message is missing");
        publisher.join().unwrap();
        assert_eq!(end(), None, "it was not received");
    });
}

/// A publisher frees the seat of the dead while somebody takes it: what that one holds stays.
#[test]
fn a_seat_of_the_dead_is_freed_or_taken() {
    loom::model(|| {
        let (shape, region) = topic(1, 1, 256, Policy::WaitForSlowest);
        assert_eq!(take_seat(&shape, &region, 9, |_| false), Some(0));
        hold(&shape, &region, 0, 0, Start::Now, 1).unwrap();
        let publisher = {
            let region = region.clone();
            thread::spawn(move || free_seat(&shape, &region, 0, 5, |word| word == 9))
        };
        let taken = take_seat(&shape, &region, 7, |word| word == 9);
        if taken.is_some() {
            hold(&shape, &region, 0, 0, Start::Now, 1).unwrap();
        }
        let freed = publisher.join().unwrap();
        assert!(freed || taken.is_some());
        let cursor = region.load_u64(shape.cursor(0, 0), Ordering::Relaxed);
        let who = shape.seat(0).who(&region);
        let expected = if taken.is_some() { (1, 7) } else { (0, 0) };
        assert_eq!((cursor, who), expected);
    });
}
