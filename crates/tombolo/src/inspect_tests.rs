//! Tests of `inspect` on memory of one process.

use crate::channel::{Channel, Shape};
use crate::inspect::{InspectError, Inspection, Participant, Role, inspect};
use crate::mailbox::{Poster, Taker, Wanted};
use crate::mailbox_layout;
use crate::queue_layout::{self, lane};
use crate::service_layout::{self, reply, request, slot};
use crate::topic_layout;
use crate::topic_members::{hold, take_lane, take_seat};
use crate::topic_policy::{Policy, Start};
use crate::topic_tail::Tail;
use crate::value_slots::Slots;
use shmem::Region;
use shmem::header::{self, Header, Kind, Lifetime};
use shmem::sync::Ordering;
use shmem::wait::Patience;

/// A process that nobody finds alive.
const DEAD: u64 = 0x7fff_ffff << 32 | 0x2b;

fn header(kind: Kind, layout_hash: u64, length: usize) -> Header {
    Header {
        kind: kind as u32,
        layout_hash,
        length: length as u64,
        generation: 1,
        lifetime: Lifetime::WhileUsed,
        creator_uid: 1,
        creator_pid: 2,
        creator: 3,
        created: 4,
        name: "jobs".into(),
    }
}

fn made<S: Shape>(shape: &S) -> Region {
    let length = shape.length().unwrap();
    let region = Region::heap(length);
    let expected = S::EXPECTED;
    header(expected.kind, expected.layout_hash, length)
        .write(&region)
        .unwrap();
    shape.format(&region).unwrap();
    store(&region, header::STATE, header::READY);
    region
}

fn store(region: &Region, offset: usize, value: u64) {
    region.u64(offset).store(value, Ordering::Relaxed);
}

fn look(region: &Region) -> Result<Inspection, InspectError> {
    inspect(region.len() as u64, &mut |offset, to| {
        let end = offset.checked_add(to.len());
        assert!(end.is_some_and(|end| end <= region.len()), "outside");
        region.copy_out(offset, to).is_ok()
    })
}

#[test]
fn a_queue_tells_what_waits_in_its_lanes() {
    let (shape, _) = queue_layout::Shape::plan(3, 4, 4096).unwrap();
    let region = made(&shape);
    assert_eq!(look(&region).unwrap().waiting, Some(0));
    region
        .u32(queue_layout::layout::USED)
        .store(2, Ordering::Relaxed);
    for (at, words) in [(0, [10, 7, 640, 448]), (1, [3, 4, 64, 128])] {
        let offsets = [lane::SENT, lane::RECEIVED, lane::TAIL, lane::PROGRESS];
        for (offset, word) in offsets.into_iter().zip(words) {
            store(&region, shape.at(at, offset), word);
        }
    }
    store(&region, shape.owner(1).0, DEAD);
    store(&region, shape.seat(0).0, DEAD);
    store(&region, queue_layout::layout::ATTENDED, 9);
    let seen = look(&region).unwrap();
    assert_eq!((seen.kind, seen.total), (Kind::Queue, 13));
    // The second lane's consumer is ahead of what its producer has told.
    assert_eq!((seen.waiting, seen.bytes), (Some(3), Some(192)));
    let roles: Vec<_> = seen.participants.iter().map(|p| (p.role, p.pid)).collect();
    assert_eq!(roles, [(Role::Producer, None), (Role::Consumer, None)]);
    assert_eq!(seen.participants[0].messages, Some(3));
    // What was left out where a ring was begun again does not wait.
    let tail = 4096 + 640;
    for (progress, bytes) in [(448, 640 + 552), (1000, 640), (4096, 640), (4200, 536)] {
        let words = [tail, progress, 1000, 4096];
        let offsets = [lane::TAIL, lane::PROGRESS, lane::LEFT, lane::BEGUN];
        for (offset, word) in offsets.into_iter().zip(words) {
            store(&region, shape.at(0, offset), word);
        }
        assert_eq!(look(&region).unwrap().bytes, Some(bytes));
    }
}

#[test]
fn a_topic_tells_how_far_the_slowest_is_behind() {
    let (shape, _) = topic_layout::Shape::plan(2, 2, 4096, Policy::WaitForSlowest).unwrap();
    let region = made(&shape);
    let me = shmem::presence::mine().unwrap().word();
    let mut tails: Vec<_> = (0..2)
        .map(|_| {
            let lane = take_lane(&shape, &region, me, |_| false).unwrap();
            Tail::open(shape, &region, lane).unwrap()
        })
        .collect();
    let mut send = |at: usize| {
        tails[at].send(&region, b"hello").unwrap();
        tails[at].tell();
    };
    send(0);
    send(1);
    let seat = take_seat(&shape, &region, me, |_| false).unwrap();
    for lane in 0..2 {
        hold(&shape, &region, seat, lane, Start::Now, 10).unwrap();
    }
    let at = shape.seat_at(seat);
    store(&region, at + topic_layout::seat::STARTED, 2);
    (0..5).for_each(|_| send(0));
    store(&region, at + topic_layout::seat::RECEIVED, 1);
    store(&region, at + topic_layout::seat::LOST, 1);
    let seen = look(&region).unwrap();
    assert_eq!((seen.total, seen.waiting), (7, Some(3)));
    assert_eq!(seen.bytes, Some(5 * 64), "as far as its cursors say");
    let subscriber = &seen.participants[2];
    assert_eq!(subscriber.pid, Some(std::process::id() as i32));
    let told = (subscriber.messages, subscriber.waiting, subscriber.lost);
    assert_eq!(told, (Some(1), Some(3), Some(1)));
}

#[test]
fn a_service_tells_which_calls_wait_and_who_has_them() {
    let (shape, _) = service_layout::Shape::plan(3, 2, 100, 100).unwrap();
    let region = made(&shape);
    region
        .u32(service_layout::layout::USED)
        .store(3, Ordering::Relaxed);
    store(&region, service_layout::layout::ATTENDED, 1);
    store(&region, shape.seat(0).0, DEAD);
    for (at, number, taken) in [(0, 5, 5), (1, 7, 6)] {
        store(&region, shape.owner(at).0, DEAD);
        store(&region, shape.request(at) + request::NUMBER, number);
        store(&region, shape.request(at) + request::EXTENT, 128 << 32 | 30);
        store(&region, shape.at(at, slot::TAKEN), taken);
    }
    store(&region, shape.at(0, slot::TAKER), DEAD);
    // In the third one a server waits: its last call is answered.
    store(&region, shape.owner(2).0, DEAD);
    store(&region, shape.request(2) + request::NUMBER, 4);
    store(&region, shape.reply(2) + reply::NUMBER, 4);
    store(&region, shape.at(2, slot::TAKEN), 4);
    store(&region, shape.at(2, slot::TAKER), DEAD);
    let seen = look(&region).unwrap();
    assert_eq!((seen.total, seen.waiting), (16, Some(1)));
    assert_eq!(seen.bytes, Some(30));
    let waiting: Vec<_> = seen.participants.iter().map(|p| p.waiting).collect();
    assert_eq!(
        waiting,
        [Some(1), Some(1), Some(0), Some(1)],
        "three clients, a server"
    );
}

#[test]
fn a_mailbox_tells_what_waits_and_who_has_what_in_hand() {
    let (shape, _) = mailbox_layout::Shape::plan(1000, 8, 4).unwrap();
    let region = made(&shape);
    let channel = || Channel::<mailbox_layout::Shape>::on(&region).unwrap();
    let mut poster = Poster::of(channel()).unwrap();
    let mut taker = Taker::of(channel()).unwrap();
    for length in [10, 20, 30] {
        poster.post(1, &vec![0; length]).unwrap();
    }
    let in_hand = taker.receive(Wanted::Any, Patience::none()).unwrap();
    let seen = look(&region).unwrap();
    assert_eq!((seen.kind, seen.capacity), (Kind::Mailbox, 1000));
    let told = (seen.total, seen.waiting, seen.bytes);
    assert_eq!(told, (3, Some(2), Some(50)));
    let me = Some(std::process::id() as i32);
    let told = |p: &Participant| (p.role, p.pid, p.messages, p.waiting);
    let told: Vec<_> = seen.participants.iter().map(told).collect();
    assert_eq!(told[0], (Role::Poster, me, Some(3), Some(0)));
    assert_eq!(told[1..], [(Role::Taker, me, Some(0), Some(1))]);
    assert_eq!(seen.types, Some(vec![(1, 2)]));
    drop(in_hand);
    assert_eq!(look(&region).unwrap().participants[1].messages, Some(1));
}

#[test]
fn a_mailbox_tells_what_waits_of_each_type() {
    let (shape, _) = mailbox_layout::Shape::plan(100_000, 20_000, 4).unwrap();
    let region = made(&shape);
    let channel = || Channel::<mailbox_layout::Shape>::on(&region).unwrap();
    let mut poster = Poster::of(channel()).unwrap();
    let mut taker = Taker::of(channel()).unwrap();
    let types = || look(&region).unwrap().types;
    assert_eq!(types(), Some(vec![]));
    let largest = i64::MAX as u64;
    let mut expected = std::collections::BTreeMap::new();
    for kind in [3, 1, largest, 3, 3, 1 << 40, 1, 3, 2] {
        poster.post(kind, b"x").unwrap();
        *expected.entry(kind).or_default() += 1;
    }
    let listed = |all: &std::collections::BTreeMap<u64, u64>| {
        let all = all.iter().map(|(kind, count)| (*kind, *count));
        Some(all.collect::<Vec<_>>())
    };
    assert_eq!(types(), listed(&expected));
    let mut message = vec![];
    for kind in [3, 1, 2] {
        taker.take(Wanted::Type(kind), &mut message).unwrap();
        *expected.get_mut(&kind).unwrap() -= 1;
    }
    expected.retain(|_, count| *count > 0);
    assert_eq!(types(), listed(&expected));
    // While somebody is at it, and when there are too many, nothing is told.
    let holder = mailbox_layout::layout::LOCK;
    store(&region, holder, DEAD);
    assert_eq!(types(), None);
    store(&region, holder, 0);
    while taker.try_take(Wanted::Any, &mut message).unwrap().is_some() {}
    assert_eq!(types(), Some(vec![]));
    (0..9000).for_each(|_| poster.post(5, b"").unwrap());
    assert_eq!(types(), None);
    for _ in 0..2000 {
        taker.take(Wanted::Any, &mut message).unwrap();
    }
    assert_eq!(types(), Some(vec![(5, 7000)]));
    // A link that leads outside, and one in a circle.
    let root = mailbox_layout::layout::STORE + crate::mailbox_store::layout::TYPES;
    for link in [8, u64::MAX - 7, u64::MAX - 6, (shape.end() - 8) as u64] {
        store(&region, root, link);
        assert_eq!(types(), None, "{link}");
    }
}

#[test]
fn a_value_tells_who_is_writing() {
    let (slots, length) = Slots::plan(100).unwrap();
    let region = Region::heap(length);
    header(Kind::Value, crate::value_slots::LAYOUT_HASH, length)
        .write(&region)
        .unwrap();
    slots.format(&region).unwrap();
    crate::value_slots::put_next(&slots, &region, b"hello").unwrap();
    assert_eq!(look(&region), Err(InspectError::Unready));
    store(&region, header::STATE, header::READY);
    let seen = look(&region).unwrap();
    assert_eq!((seen.total, seen.capacity, seen.waiting), (1, 100, None));
    assert!(seen.participants.is_empty());
    store(&region, crate::value_slots::layout::LOCK, DEAD);
    assert_eq!(look(&region).unwrap().participants[0].role, Role::Writer);
    // One that keeps the value, from the last seat.
    store(&region, crate::value_slots::layout::LOCK, 0);
    let seat = crate::value_slots::layout::LAYOUT.size - crate::value_slots::keeper::LAYOUT.size;
    let kept = 1 << 16 | (seat - crate::value_slots::layout::SEATS + 1) as u64;
    store(&region, crate::value_slots::layout::KEEP, kept);
    store(&region, seat + crate::value_slots::keeper::WHO, DEAD);
    assert!(look(&region).unwrap().participants.is_empty());
    let inside = seat + crate::value_slots::keeper::INSIDE;
    store(&region, inside, 1);
    assert!(look(&region).unwrap().participants.is_empty());
    store(&region, inside, 2);
    assert_eq!(look(&region).unwrap().participants[0].role, Role::Writer);
}

#[test]
fn hostile_bytes_are_numbers_or_errors() {
    let queue = made(&queue_layout::Shape::plan(3, 4, 4096).unwrap().0);
    let policy = Policy::Overrun;
    let topic = made(&topic_layout::Shape::plan(3, 4, 4096, policy).unwrap().0);
    let service = made(&service_layout::Shape::plan(3, 2, 100, 100).unwrap().0);
    let mut state = 88_172_645_463_325_252u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut seen = 0;
    for region in [queue, topic, service] {
        for _ in 0..3000 {
            let offset = 256 + random() as usize % (region.len().min(2048) - 256);
            let old = region.load_u64(offset & !7, Ordering::Relaxed);
            let new = match random() % 3 {
                0 => u64::MAX,
                1 => random() % 5,
                _ => random(),
            };
            store(&region, offset & !7, new);
            seen += u32::from(look(&region).is_ok());
            if random().is_multiple_of(2) {
                store(&region, offset & !7, old);
            }
        }
        // The shape may be spoilt for good by now.
        let header = [header::LAYOUT_HASH, header::LENGTH, header::STATE];
        for at in header {
            let old = region.load_u64(at, Ordering::Relaxed);
            store(&region, at, 7);
            assert!(look(&region).is_err());
            store(&region, at, old);
        }
    }
    assert!(seen > 100, "{seen}");
    assert_eq!(look(&Region::heap(100)), Err(InspectError::Foreign));
    let denied = inspect(1 << 40, &mut |_, _| false);
    assert_eq!(denied, Err(InspectError::Unreadable));
}
