//! What each kind of channel tells to who looks from outside, see `inspect`.

use crate::inspect::{Begun, InspectError, Inspection, Participant, Read, Role};
use crate::inspect::{fetch, known, participant, word};
use crate::inspect_types::types;
use crate::mailbox_layout::{self, Part, seat as mailbox_seat};
use crate::mailbox_store;
use crate::queue_layout::{self, lane as queue_lane};
use crate::service_layout::{self, reply, request, slot};
use crate::service_slot::Extent;
use crate::topic_layout::{self, lane as topic_lane, seat as topic_seat};
use crate::value_keep;
use crate::value_slots;
use shmem::Region;
use shmem::header::{Header, Kind};
use shmem::lock::Lock;
use shmem::sync::Ordering;

pub(crate) fn queue(
    begun: &Begun<'_, queue_layout::Shape>,
    read: &mut Read<'_>,
) -> Result<Inspection, InspectError> {
    let Begun {
        header,
        head,
        shape,
    } = begun;
    let used = shape.used(head);
    // Seats are taken from the first on, so no more than came were ever touched.
    let came = word(head, queue_layout::layout::ATTENDED);
    let seats = shape
        .seats()
        .min(usize::try_from(came).unwrap_or(usize::MAX));
    let region = Region::heap(shape.first_ring());
    between(&region, read, shape.seat(0).0, shape.seat(seats).0)?;
    between(&region, read, shape.at(0, 0), shape.at(used, 0))?;
    let (mut total, mut waiting, mut bytes) = (0u64, 0u64, 0u64);
    let mut participants = Vec::new();
    for lane in 0..used {
        let at = |offset| word(&region, shape.at(lane, offset));
        let sent = at(queue_lane::SENT);
        // Who receives may be ahead of what a producer in the middle of a batch has told.
        let left = sent.saturating_sub(at(queue_lane::RECEIVED));
        let (tail, progress) = (at(queue_lane::TAIL), at(queue_lane::PROGRESS));
        let begun = at(queue_lane::BEGUN);
        let behind = if progress < begun {
            let before = at(queue_lane::LEFT).saturating_sub(progress);
            tail.saturating_sub(begun).saturating_add(before)
        } else {
            tail.saturating_sub(progress)
        };
        total = total.wrapping_add(sent);
        waiting = waiting.saturating_add(left);
        bytes = bytes.saturating_add(behind);
        let owner = participant(&region, Role::Producer, lane, shape.owner(lane));
        participants.extend(owner.map(|(_, owner)| Participant {
            messages: Some(sent),
            waiting: Some(left),
            ..owner
        }));
    }
    for seat in 0..seats {
        let consumer = participant(&region, Role::Consumer, seat, shape.seat(seat));
        participants.extend(consumer.map(|(_, consumer)| consumer));
    }
    Ok(Inspection {
        kind: Kind::Queue,
        header: header.clone(),
        capacity: shape.capacity(),
        total,
        waiting: Some(waiting),
        bytes: Some(bytes),
        types: None,
        policy: None,
        participants,
    })
}

pub(crate) fn topic(
    begun: &Begun<'_, topic_layout::Shape>,
    read: &mut Read<'_>,
) -> Result<Inspection, InspectError> {
    let Begun {
        header,
        head,
        shape,
    } = begun;
    let used = shape.used(head);
    // Relaxed: of a copy.
    let seated = head.load_u32(topic_layout::layout::SEATED, Ordering::Relaxed);
    let seats = shape.seats().min(seated as usize);
    let region = Region::heap(shape.first_ring());
    between(&region, read, shape.seat_at(0), shape.seat_at(seats))?;
    between(&region, read, shape.at(0, 0), shape.at(used, 0))?;
    let mut total = 0u64;
    let mut participants = Vec::new();
    for lane in 0..used {
        let sent = word(&region, shape.at(lane, topic_lane::SENT));
        total = total.wrapping_add(sent);
        let owner = participant(&region, Role::Publisher, lane, shape.owner(lane));
        participants.extend(owner.map(|(_, owner)| Participant {
            messages: Some(sent),
            ..owner
        }));
    }
    let (mut waiting, mut bytes) = (0, 0);
    for seat in 0..seats {
        let found = participant(&region, Role::Subscriber, seat, shape.seat(seat));
        let Some((_, subscriber)) = found else {
            continue;
        };
        let at = |offset| word(&region, shape.seat_at(seat) + offset);
        let (received, lost) = (at(topic_seat::RECEIVED), at(topic_seat::LOST));
        let done = at(topic_seat::STARTED)
            .wrapping_add(received)
            .wrapping_add(lost);
        let left = total.saturating_sub(done);
        let behind = (0..used).map(|lane| {
            let tail = word(&region, shape.at(lane, topic_lane::TAIL));
            // A cursor is a position + 1; 0 holds nothing.
            let cursor = word(&region, shape.cursor(seat, lane)).checked_sub(1);
            cursor.map_or(0, |cursor| tail.saturating_sub(cursor))
        });
        if subscriber.pid.is_some() {
            waiting = left.max(waiting);
            // No more than is still there.
            let all = shape.capacity().saturating_mul(used as u64);
            bytes = behind.fold(0, u64::saturating_add).min(all).max(bytes);
        }
        participants.push(Participant {
            messages: Some(received),
            waiting: Some(left),
            lost: Some(lost),
            ..subscriber
        });
    }
    Ok(Inspection {
        kind: Kind::Topic,
        header: header.clone(),
        capacity: shape.capacity(),
        total,
        waiting: Some(waiting),
        bytes: Some(bytes),
        types: None,
        policy: Some(shape.policy()),
        participants,
    })
}

pub(crate) fn service(
    begun: &Begun<'_, service_layout::Shape>,
    read: &mut Read<'_>,
) -> Result<Inspection, InspectError> {
    let Begun {
        header,
        head,
        shape,
    } = begun;
    let used = shape.used(head);
    // As for a queue.
    let came = word(head, service_layout::layout::ATTENDED);
    let seats = shape
        .servers()
        .min(usize::try_from(came).unwrap_or(usize::MAX));
    let region = Region::heap(shape.messages());
    between(&region, read, shape.seat(0).0, shape.seat(seats).0)?;
    between(&region, read, shape.at(0, 0), shape.at(used, 0))?;
    let (mut total, mut waiting, mut bytes) = (0u64, 0u64, 0u64);
    let mut participants = Vec::new();
    let mut takers = Vec::new();
    for at in 0..used {
        let mut asked = [0; request::LAYOUT.size];
        if !read(shape.request(at), &mut asked) {
            return Err(InspectError::Unreadable);
        }
        let number = u64::from_ne_bytes(part(&asked, request::NUMBER));
        let extent = Extent(u64::from_ne_bytes(part(&asked, request::EXTENT)));
        let mut answered = [0; 8];
        if !read(shape.reply(at) + reply::NUMBER, &mut answered) {
            return Err(InspectError::Unreadable);
        }
        let taken = word(&region, shape.at(at, slot::TAKEN));
        let taker = word(&region, shape.at(at, slot::TAKER));
        // Who has a slot whose last call is answered waits for the next one.
        let in_hand = taker != 0 && u64::from_ne_bytes(answered) != number;
        total = total.wrapping_add(number);
        let waits = number != taken;
        if waits {
            waiting += 1;
            bytes = bytes.saturating_add(extent.length() as u64);
        }
        if in_hand {
            takers.push(taker);
        }
        let owner = participant(&region, Role::Client, at, shape.owner(at));
        participants.extend(owner.map(|(_, owner)| Participant {
            messages: Some(number),
            waiting: Some((waits || in_hand).into()),
            ..owner
        }));
    }
    for seat in 0..seats {
        let server = participant(&region, Role::Server, seat, shape.seat(seat));
        participants.extend(server.map(|(who, server)| {
            let in_hand = takers.iter().filter(|taker| **taker == who).count();
            Participant {
                waiting: Some(in_hand as u64),
                ..server
            }
        }));
    }
    Ok(Inspection {
        kind: Kind::Service,
        header: header.clone(),
        capacity: shape.longest_request() as u64,
        total,
        waiting: Some(waiting),
        bytes: Some(bytes),
        types: None,
        policy: None,
        participants,
    })
}

pub(crate) fn mailbox(
    begun: &Begun<'_, mailbox_layout::Shape>,
    read: &mut Read<'_>,
) -> Result<Inspection, InspectError> {
    let Begun {
        header,
        head,
        shape,
    } = begun;
    let seated = shape.seated(head);
    let region = Region::heap(shape.blocks());
    between(&region, read, shape.at(0, 0), shape.at(seated, 0))?;
    let mut participants = Vec::new();
    for at in 0..seated {
        // Relaxed: of a copy.
        let part = region.load_u32(shape.at(at, mailbox_seat::ROLE), Ordering::Relaxed);
        let role = match part {
            part if part == Part::Poster as u32 => Role::Poster,
            _ => Role::Taker,
        };
        let in_hand = word(&region, shape.at(at, mailbox_seat::HELD)) != 0;
        let member = participant(&region, role, at, shape.seat(at));
        participants.extend(member.map(|(_, member)| Participant {
            messages: Some(word(&region, shape.at(at, mailbox_seat::DONE))),
            waiting: Some(in_hand.into()),
            ..member
        }));
    }
    let store = |field| word(head, mailbox_layout::layout::STORE + field);
    Ok(Inspection {
        kind: Kind::Mailbox,
        header: header.clone(),
        capacity: shape.capacity(),
        total: word(head, mailbox_layout::layout::POSTED),
        waiting: Some(store(mailbox_store::layout::COUNT)),
        bytes: Some(store(mailbox_store::layout::BYTES)),
        types: types(shape, read),
        policy: None,
        participants,
    })
}

pub(crate) fn value(header: Header, head: &Region) -> Inspection {
    let holder = Lock::new(head, value_slots::layout::LOCK).holder();
    let holder = value_keep::inside(head).unwrap_or(holder);
    let writer = (holder != 0).then(|| known(Role::Writer, 0, holder, false));
    Inspection {
        kind: Kind::Value,
        header,
        capacity: word(head, value_slots::layout::CAPACITY),
        total: word(head, value_slots::layout::LATEST),
        waiting: None,
        bytes: None,
        types: None,
        policy: None,
        participants: writer.into_iter().collect(),
    }
}

/// Fetches what lies from one offset up to another.
fn between(
    region: &Region,
    read: &mut Read<'_>,
    from: usize,
    to: usize,
) -> Result<(), InspectError> {
    if from == to {
        return Ok(());
    }
    fetch(region, read, from, to - from)
}

/// The bytes of a field.
fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&bytes[at..at + N]);
    part
}
