//! A lane against a plain queue, its models, and hostile words.

use super::*;

/// Bytes of the region that has a lane and nothing else.
const WHOLE: usize = RING + (LINES + MOST - 1) * LINE;
/// Holds more than any ring.
const MUCH: u64 = 1 << 20;

fn send(lane: &Lane, me: u64, number: u64, text: &[u8]) -> Option<Result<Sent>> {
    let side = lane.take(lane.senders(), me, false)?;
    Some(side.send(MUCH, number, text, Who::new(me as i32, number)))
}

/// Takes the first message, if there is one and nobody holds the side.
fn receive(lane: &Lane, me: u64) -> Option<Result<(u64, Vec<u8>)>> {
    let side = lane.take(lane.receivers(), me, false)?;
    let (head, mut tail) = side.ends();
    if head.is_at(tail) {
        tail = side.look_again();
    }
    if head.is_at(tail) {
        return None;
    }
    Some(lane.record(head, tail).map(|record| {
        let mut text = vec![0; record.length];
        lane.region.copy_out(record.text, &mut text).unwrap();
        side.move_to(record.behind, Who::new(me as i32, record.number));
        (record.number, text)
    }))
}

#[cfg(loom)]
mod models {
    use super::*;
    use loom::thread;

    fn until<T>(mut try_it: impl FnMut() -> Option<T>) -> T {
        for _ in 0..100 {
            if let Some(done) = try_it() {
                return done;
            }
            thread::yield_now();
        }
        panic!("it has no end");
    }

    /// [SIDE_TAIL] and [SIDE_HEAD]: the ring gone round, messages of two lines.
    #[test]
    fn messages_arrive_whole_and_in_order() {
        loom::model(|| {
            let region = Region::heap(WHOLE);
            let text = |number: u64| [number as u8; 56];
            let sender = {
                let region = region.clone();
                thread::spawn(move || {
                    let lane = Lane::new(&region, 0);
                    for number in 1..=3 {
                        until(|| match send(&lane, 1, number, &text(number)) {
                            Some(Ok(Sent::Yes)) => Some(()),
                            _ => None,
                        });
                    }
                })
            };
            let lane = Lane::new(&region, 0);
            for number in 1..=3 {
                let got = until(|| receive(&lane, 2)).unwrap();
                assert_eq!(got, (number, text(number).to_vec()));
            }
            sender.join().unwrap();
        });
    }

    /// [SIDE_LOCK]: two senders, and nothing is lost.
    #[test]
    fn who_sends_builds_on_the_last_sender() {
        loom::model(|| {
            let region = Region::heap(WHOLE);
            let senders: Vec<_> = (1..=2)
                .map(|me| {
                    let region = region.clone();
                    thread::spawn(move || {
                        let lane = Lane::new(&region, 0);
                        until(|| send(&lane, me, me, &[me as u8; 8])).unwrap();
                    })
                })
                .collect();
            for sender in senders {
                sender.join().unwrap();
            }
            let lane = Lane::new(&region, 0);
            let mut all: Vec<_> = (0..2)
                .map(|_| receive(&lane, 3).unwrap().unwrap())
                .collect();
            all.sort_unstable();
            assert_eq!(all, [(1, vec![1; 8]), (2, vec![2; 8])]);
        });
    }

    /// [SIDE_GATE]: who finds it open sees what was done before; who closes it with both locks sees
    /// all that went through.
    #[test]
    fn a_gate_divides_before_from_after() {
        loom::model(|| {
            // Behind the lane, a word that the lock of the whole guards.
            let region = Region::heap(WHOLE + 8);
            let sender = {
                let region = region.clone();
                thread::spawn(move || {
                    let lane = Lane::new(&region, 0);
                    let side = until(|| lane.take(lane.senders(), 1, false));
                    if lane.gate(lane.senders()) == 0 {
                        return false;
                    }
                    assert_eq!(region.load_u64(WHOLE, Ordering::Relaxed), 7);
                    side.send(MUCH, 1, &[5; 8], Who::new(1, 1)) == Ok(Sent::Yes)
                })
            };
            let lane = Lane::new(&region, 0);
            region.u64(WHOLE).store(7, Ordering::Relaxed);
            lane.open(lane.senders(), 0);
            let senders = until(|| lane.take(lane.senders(), 2, false));
            let receivers = until(|| lane.take(lane.receivers(), 2, false));
            for side in [lane.senders(), lane.receivers()] {
                region.u64(side + side::GATE).store(0, Ordering::Release);
            }
            let found = !senders.state().0.is_at(receivers.state().0);
            drop((senders, receivers));
            region.u64(WHOLE).store(8, Ordering::Relaxed);
            assert_eq!(sender.join().unwrap(), found);
        });
    }
}

#[cfg(not(loom))]
mod plain {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn a_lane_is_a_queue_however_often_it_goes_round() {
        let region = Region::heap(WHOLE);
        let lane = Lane::new(&region, 0);
        // Marks that are about to begin again.
        let begin = Mark(!0 << 32 | u64::from(Mark::LINE_BITS - 700) << 1);
        for side in [lane.senders(), lane.receivers()] {
            for word in [side::MARK, side::SEEN] {
                region.u64(side + word).store(begin.0, Ordering::Relaxed);
            }
        }
        let mut plain = VecDeque::new();
        let mut dice = 88_172_645_463_325_252u64;
        let (mut full, mut empty) = (0, 0);
        for round in 1..40_000u64 {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            // Long stretches in which more is sent than taken, and the other way round.
            let sends = dice % 8 < if round / 1000 % 2 == 0 { 5 } else { 3 };
            if sends {
                let length = (dice >> 8) as usize % (LONGEST + 1);
                let text = vec![round as u8; length];
                match send(&lane, 5, round, &text).unwrap().unwrap() {
                    Sent::Yes => plain.push_back((round, text)),
                    Sent::Full(_) => full += 1,
                    Sent::NoRoom(_) => panic!("there is room"),
                }
            } else {
                let got = receive(&lane, 6).map(Result::unwrap);
                empty += u32::from(got.is_none());
                assert_eq!(got, plain.pop_front());
            }
            let used: usize = plain.iter().map(|(_, text)| lines(text.len())).sum();
            let bytes: usize = plain.iter().map(|(_, text)| text.len()).sum();
            let tail = lane.mark(lane.senders(), Ordering::Relaxed);
            let head = lane.mark(lane.receivers(), Ordering::Relaxed);
            assert_eq!(tail.lines_since(head), used);
            assert_eq!(tail.bytes_since(head), bytes as u64);
        }
        assert!(full > 10 && empty > 10, "{full} {empty}");
    }

    #[test]
    fn what_a_queue_may_hold_counts_bytes_of_text() {
        let region = Region::heap(WHOLE);
        let lane = Lane::new(&region, 0);
        let send = |length: usize| {
            let side = lane.take(lane.senders(), 5, false).unwrap();
            side.send(100, 1, &vec![0; length], Who::new(1, 1)).unwrap()
        };
        assert_eq!(send(60), Sent::Yes);
        assert!(matches!(send(41), Sent::NoRoom(_)));
        assert_eq!(send(40), Sent::Yes);
        assert_eq!(send(0), Sent::Yes);
        assert!(matches!(send(1), Sent::NoRoom(_)));
        receive(&lane, 6).unwrap().unwrap();
        assert_eq!(send(60), Sent::Yes);
    }

    #[test]
    fn the_last_one_here_is_known_as_soon_as_the_mark_has_moved() {
        let region = Region::heap(WHOLE);
        let lane = Lane::new(&region, 0);
        let last = || {
            let side = lane.take(lane.senders(), 9, false).unwrap();
            Who(region.load_u64(side.state().1, Ordering::Relaxed))
        };
        assert!(last().is_nobody());
        for me in 1..5 {
            send(&lane, me, 70 + me, b"text").unwrap().unwrap();
            assert_eq!((last().pid(), last().seconds()), (me, 70 + me));
        }
        let who = Who::new(4_194_304, 1 << 33);
        assert_eq!((who.pid(), who.seconds()), (4_194_304, 1 << 33));
    }

    #[test]
    fn a_side_that_is_held_is_taken_over_from_that_holder_only() {
        let region = Region::heap(WHOLE);
        let lane = Lane::new(&region, 0);
        std::mem::forget(lane.take(lane.senders(), 7, false).unwrap());
        assert_eq!(lane.holder(lane.senders()), 7);
        assert!(lane.take(lane.senders(), 8, true).is_none());
        assert!(lane.take_from(lane.senders(), 6, 8).is_none());
        // The other side is free.
        assert!(lane.take(lane.receivers(), 8, false).is_some());
        drop(lane.take_from(lane.senders(), 7, 8).unwrap());
        assert_eq!(lane.holder(lane.senders()), 0);
    }

    #[test]
    fn nonsense_is_an_error() {
        let lengths = [LONGEST as u64 + 1, 200, 1 << 40, u64::MAX];
        for length in lengths {
            let region = Region::heap(WHOLE);
            let lane = Lane::new(&region, 0);
            send(&lane, 5, 1, b"text").unwrap().unwrap();
            region
                .u64(RING + record::LENGTH)
                .store(length, Ordering::Relaxed);
            assert_eq!(receive(&lane, 6), Some(Err(Errno::UCLEAN)), "{length}");
        }
        // Marks that lie: nothing is read that is not there.
        for mark in [2, 1 << 20, u64::MAX, 1 << 31] {
            let region = Region::heap(WHOLE);
            let lane = Lane::new(&region, 0);
            region
                .u64(lane.senders() + side::MARK)
                .store(mark, Ordering::Relaxed);
            for _ in 0..3 {
                let _ = receive(&lane, 6);
                let _ = send(&lane, 5, 1, &[1; LONGEST]);
            }
        }
    }
}
