//! Models and tests of a `service` on memory of one process.

use crate::service_layout::Shape;
use crate::service_slot::{Outcome, Slot};
use shmem::Region;

fn service(calls: usize, bytes: usize) -> (Shape, Region) {
    let (shape, length) = Shape::plan(calls, 2, bytes, bytes).unwrap();
    (shape, Region::heap(length))
}

fn at<'a>(shape: &'a Shape, region: &'a Region, slot: usize) -> Slot<'a> {
    Slot {
        shape,
        region,
        slot,
    }
}

fn ask(slot: &Slot<'_>, number: u64, request: &[u8]) {
    slot.region.copy_in(slot.room(), request).unwrap();
    slot.ask(number, 0, request.len());
}

fn reply(slot: &Slot<'_>, taken: &crate::service_slot::Taken, reply: &[u8]) {
    slot.region.copy_in(slot.reply_room(), reply).unwrap();
    slot.reply(taken, Outcome::Reply, 0, reply.len());
}

fn bytes(region: &Region, offset: usize, length: usize) -> Vec<u8> {
    let mut bytes = vec![];
    region.append_to(offset, length, &mut bytes).unwrap();
    bytes
}

#[cfg(loom)]
#[path = "service_models.rs"]
mod models;

#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::service_layout::{layout, reply as reply_words};
    use crate::service_members::{leave_seat, leave_slot, somebody, take_seat, take_slot};
    use crate::service_slot::{Extent, Fate, Taken};
    use shmem::sync::Ordering;
    use std::collections::HashMap;

    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    /// Bytes that depend on the call.
    fn message(call: u64, salt: u64, length: usize) -> Vec<u8> {
        let word = (call.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt).to_ne_bytes();
        word.iter().copied().cycle().take(length).collect()
    }

    /// What the model knows of a call.
    #[derive(Debug, PartialEq, Eq)]
    enum State {
        Asked,
        Taken,
        Replied,
    }

    struct Client {
        me: u64,
        /// Slot, number, and which call it is.
        line: Option<(usize, u64, u64)>,
        /// Slots with calls that it gave up.
        left: Vec<usize>,
    }

    struct Server {
        me: u64,
        held: Option<(Taken, u64)>,
    }

    /// Clients and servers that call, reply, give up and die, against a plain table of calls: each
    /// executed at most once, each reply for its own call, no slot lost.
    #[test]
    fn it_agrees_with_a_plain_table() {
        let (mut answered, mut died, mut back, mut crowded) = (0, 0, 0, 0);
        for (slots, longest) in [(3, 48), (5, 300), (8, 4096)] {
            let (shape, region) = service(slots, longest);
            let mut identity = 10;
            let mut name = || {
                identity += 1;
                identity
            };
            let mut clients: Vec<_> = (0..4)
                .map(|_| Client {
                    me: name(),
                    line: None,
                    left: vec![],
                })
                .collect();
            let mut servers: Vec<_> = (0..3)
                .map(|_| Server {
                    me: name(),
                    held: None,
                })
                .collect();
            let mut dead = vec![];
            let mut calls: HashMap<u64, State> = HashMap::new();
            // By slot: the call that was asked last.
            let mut asked = vec![0; slots];
            let mut next = 0u64;
            let mut state = slots as u64;
            for _ in 0..60_000 {
                let client = random(&mut state) as usize % clients.len();
                let server = random(&mut state) as usize % servers.len();
                let length = |call: u64| (call as usize * 37) % (longest + 1);
                let is_dead = |word: u64| dead.contains(&word);
                let client = &mut clients[client];
                let server = &mut servers[server];
                match (random(&mut state) % 20, client.line) {
                    (0..5, None) => {
                        let quiet = client.left.iter().position(|slot| {
                            at(&shape, &region, *slot).quieten(client.me, is_dead)
                        });
                        let slot = match quiet {
                            Some(left) => Some(client.left.swap_remove(left)),
                            None => take_slot(&shape, &region, client.me, is_dead),
                        };
                        let Some(slot) = slot else {
                            crowded += 1;
                            continue;
                        };
                        next += 1;
                        let number = at(&shape, &region, slot).last() + 1;
                        let request = message(next, 0, length(next));
                        ask(&at(&shape, &region, slot), number, &request);
                        asked[slot] = next;
                        calls.insert(next, State::Asked);
                        client.line = Some((slot, number, next));
                    }
                    (0..9, Some((slot, number, call))) => {
                        let slot = at(&shape, &region, slot);
                        match slot.fate(number, is_dead) {
                            Fate::Answered => {
                                let answer = slot.answer().unwrap();
                                let got = bytes(&region, answer.offset, answer.length);
                                assert_eq!(got, message(call, 1, length(call + 1)));
                                assert_eq!(calls[&call], State::Replied);
                                answered += 1;
                                client.left.push(slot.slot);
                                client.line = None;
                            }
                            Fate::Waits => assert_eq!(calls[&call], State::Asked),
                            Fate::InHand => assert_eq!(calls[&call], State::Taken),
                            Fate::Died => {
                                assert_eq!(calls[&call], State::Taken);
                                let fate = slot.take_back(client.me, number, is_dead);
                                assert_eq!(fate, Fate::Died);
                                died += 1;
                                client.left.push(slot.slot);
                                client.line = None;
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                    (9, Some((slot, number, call))) => {
                        // Its time is over.
                        let slot = at(&shape, &region, slot);
                        match slot.take_back(client.me, number, is_dead) {
                            Fate::TakenBack => {
                                assert_eq!(calls.remove(&call), Some(State::Asked));
                                back += 1;
                            }
                            Fate::InHand | Fate::Died => assert_eq!(calls[&call], State::Taken),
                            Fate::Answered => assert_eq!(calls[&call], State::Replied),
                            other => panic!("{other:?}"),
                        }
                        client.left.push(slot.slot);
                        client.line = None;
                    }
                    (10, _) if random(&mut state).is_multiple_of(8) => {
                        // It dies, and another comes.
                        dead.push(client.me);
                        client.me = name();
                        client.line = None;
                        client.left.clear();
                    }
                    (11, None) => {
                        for slot in client.left.drain(..) {
                            leave_slot(&shape, &region, slot);
                        }
                    }
                    (12..19, _) => match server.held.take() {
                        Some((taken, call)) => {
                            let slot = at(&shape, &region, taken.slot);
                            let request = bytes(&region, slot.room(), taken.extent.length());
                            assert_eq!(request, message(call, 0, length(call)), "untouched");
                            reply(&slot, &taken, &message(call, 1, length(call + 1)));
                            assert_eq!(calls.insert(call, State::Replied), Some(State::Taken));
                        }
                        None => {
                            let taken = (0..slots).find_map(|slot| {
                                at(&shape, &region, slot).take(server.me, 0, is_dead)
                            });
                            let Some(taken) = taken else { continue };
                            let call = asked[taken.slot];
                            assert_eq!(
                                calls.insert(call, State::Taken),
                                Some(State::Asked),
                                "executed once"
                            );
                            server.held = Some((taken, call));
                        }
                    },
                    (19, _) if random(&mut state).is_multiple_of(4) => {
                        dead.push(server.me);
                        server.me = name();
                        server.held = None;
                    }
                    _ => {}
                }
            }
            // All leave; every slot is to be had again.
            dead.extend(clients.iter().map(|client| client.me));
            dead.extend(servers.iter().map(|server| server.me));
            let me = name();
            for slot in 0..slots {
                let got = take_slot(&shape, &region, me, |word| dead.contains(&word));
                assert_eq!(got, Some(slot));
            }
            assert_eq!(take_slot(&shape, &region, me, |_| false), None);
        }
        assert!(
            answered > 5_000 && died > 100 && back > 100 && crowded > 10,
            "{answered} {died} {back} {crowded}"
        );
    }

    #[test]
    fn somebody_is_there_or_nobody() {
        let (shape, region) = service(1, 8);
        assert_eq!(somebody(&shape, &region, |_| false), None);
        let first = take_seat(&shape, &region, 1, |_| false).unwrap();
        let second = take_seat(&shape, &region, 2, |_| false).unwrap();
        assert_eq!(take_seat(&shape, &region, 3, |_| false), None);
        let who = |dead: u64| somebody(&shape, &region, |word| word == dead).map(|(who, _)| who);
        assert_eq!((who(0), who(1)), (Some(1), Some(2)));
        leave_seat(&shape, &region, first);
        assert_eq!((who(0), who(2)), (Some(2), None));
        leave_seat(&shape, &region, second);
        assert_eq!(who(0), None);
    }

    /// Every word of the control part and of the messages' headers, set to what no honest peer
    /// writes.
    #[test]
    fn hostile_words_are_errors_or_wrong_data() {
        let (shape, region) = service(2, 40);
        let length = region.len();
        let words = (layout::DOOR..shape.request(0))
            .step_by(4)
            .chain((0..2).flat_map(|slot| {
                let request = shape.request(slot);
                let reply = shape.reply(slot);
                (request..request + 24).chain(reply..reply + 24).step_by(4)
            }));
        let mut count = 0;
        for at_word in words.filter(|at| *at % 4 == 0) {
            for value in [0, 1, 2, 5, 41, 1 << 31, u32::MAX, u32::MAX - 1] {
                let region = Region::heap(length);
                for round in 0..6u64 {
                    if round >= 2 {
                        region.u32(at_word).store(value, Ordering::Relaxed);
                    }
                    let is_dead = |word: u64| word > 9;
                    let Some(got) = take_slot(&shape, &region, 3, is_dead) else {
                        continue;
                    };
                    let slot = at(&shape, &region, got);
                    let number = slot.last().wrapping_add(1);
                    ask(&slot, number, &[round as u8; 40]);
                    for me in [4, 5] {
                        if round == 3 {
                            region.u32(at_word).store(value, Ordering::Relaxed);
                        }
                        for slot in 0..shape.used(&region) {
                            let slot = at(&shape, &region, slot);
                            let Some(taken) = slot.take(me, 0, is_dead) else {
                                continue;
                            };
                            assert!(taken.extent.length() <= 40);
                            let request = bytes(&region, slot.room(), taken.extent.length());
                            reply(&slot, &taken, &request);
                        }
                    }
                    if slot.is_answered(number)
                        && let Ok(answer) = slot.answer()
                    {
                        assert!(answer.length <= 40);
                        bytes(&region, answer.offset, answer.length);
                    }
                    slot.fate(number, is_dead);
                    slot.take_back(3, number, is_dead);
                    slot.quieten(3, is_dead);
                    leave_slot(&shape, &region, got);
                    if let Some(seat) = take_seat(&shape, &region, 4, is_dead) {
                        somebody(&shape, &region, is_dead);
                        leave_seat(&shape, &region, seat);
                    }
                    count += 1;
                }
            }
        }
        assert!(count > 1000);
    }

    #[test]
    fn a_request_that_is_too_long_is_answered() {
        let (shape, region) = service(1, 8);
        let slot = at(&shape, &region, 0);
        slot.ask(1, 0, 9);
        assert_eq!(slot.take(7, 0, |_| false), None);
        assert!(slot.is_answered(1));
        assert_eq!(slot.answer().unwrap().outcome, Outcome::Damaged);
        assert!(slot.quieten(5, |_| false));
    }

    #[test]
    fn a_message_that_is_not_inside_its_room_is_damaged() {
        let (shape, region) = service(1, 256);
        let slot = at(&shape, &region, 0);
        let offsets = [(0, 256), (128, 128), (256, 0)].map(|inside| (inside, true));
        let beyond = [
            (0, 257),
            // The room ends with a pair of lines.
            (240, 129),
            (368, 1),
            (384, 0),
            (u32::MAX as usize, 1),
        ];
        let all = offsets.into_iter().chain(beyond.map(|it| (it, false)));
        for (number, ((offset, length), inside)) in (1..).zip(all) {
            slot.ask(number, offset, length);
            let taken = slot.take(7, 0, |_| false);
            assert_eq!(taken.is_some(), inside, "{length} at {offset}");
            let Some(taken) = taken else {
                assert_eq!(slot.answer().unwrap().outcome, Outcome::Damaged);
                continue;
            };
            assert_eq!(taken.extent, Extent::new(offset, length));
            slot.reply(&taken, Outcome::Failed, offset, length);
            let answer = slot.answer().unwrap();
            assert_eq!(answer.offset, slot.reply_room() + offset);
            assert_eq!((answer.outcome, answer.length), (Outcome::Failed, length));
            let lie = reply_words::LENGTH + shape.reply(0);
            // Relaxed: nobody else is there.
            region
                .u32(lie)
                .store(length as u32 + 257, Ordering::Relaxed);
            assert!(slot.answer().is_err());
            region.u32(lie).store(0, Ordering::Relaxed);
            let lie = reply_words::END + shape.reply(0);
            region.u32(lie).store(!0xff | 1, Ordering::Relaxed);
            assert!(slot.answer().is_err());
        }
    }
}
