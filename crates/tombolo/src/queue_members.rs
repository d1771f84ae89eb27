//! Who takes part in a `queue`: coming, leaving, and noticing that the others are gone.
//!
//! # Protocol
//! - A producer has a lane: OWNER is its identity. It takes one from a dead producer if there is
//!   any, so that what that one left open is closed by its successor; otherwise a free one.
//! - A consumer has a seat, by which it is known while it holds lanes.
//!
//! - `[QUEUE_OWNER]` Who sees a lane as left sees all messages in it: released by the store of 0 to
//!   OWNER, acquired by who looks for the end. Weaker, the end is announced while messages wait.
//! - `[QUEUE_CAME]` Who sees that there was a producer sees that it has, or had, its lane: released
//!   by counting up PRODUCED, acquired by who looks for the end. Weaker, the lane still looks free
//!   and the end is announced when the first producer comes.
//! - `[QUEUE_HUNG]` The last consumer to leave must not hang up over one that is just coming. The
//!   one that comes takes a seat and then counts up ATTENDED; the one that leaves gives its seat
//!   back, loads ATTENDED, looks at all seats, and stores what it loaded to HUNG if they are free.
//!   If the count came before the load, the seat was taken before the look, and is seen. If it came
//!   after, ATTENDED and HUNG differ. All SeqCst: the two words and the seats are compared in one
//!   order. Weaker, producers are told that nobody listens while somebody does.
//!
//! # Crash
//! A producer that dies leaves its identity in OWNER: consumers that drained everything learn that
//! it died, until another producer takes the lane over. A consumer that dies leaves its identity in
//! its seat, for the next one to take. One that dies while it leaves, or comes, leaves HUNG as it
//! was; then producers find out when they run out of room.

use crate::participant::Place;
use crate::queue_layout::{Shape, layout};
use crate::queue_taker::{is_empty, settle};
use shmem::Peers;
use shmem::sync::Ordering;
use shmem::{Region, Window};

/// How the producers went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All closed.
    Closed,
    /// One died, at least, and nobody took its place.
    Died,
}

/// Takes a lane for the producer with the identity `me`; `None` if all are taken.
pub fn take_lane(
    shape: &Shape,
    region: &Region,
    me: u64,
    mut is_dead: impl FnMut(u64) -> bool,
) -> Option<usize> {
    let mut take = |lane, wanted: fn(u64, &mut dyn FnMut(u64) -> bool) -> bool| {
        // [QUEUE_OWNER] acquire: the lane as its last producer left it.
        shape.owner(lane).take(region, me, |from| {
            let wanted = wanted(from, &mut is_dead);
            if wanted {
                // Before the lane is mine: who sees my messages looks here.
                region
                    .u32(layout::USED)
                    .fetch_max(lane as u32 + 1, Ordering::SeqCst);
            }
            wanted
        })
    };
    let dead = |from, is_dead: &mut dyn FnMut(u64) -> bool| from != 0 && is_dead(from);
    let free = |from, _: &mut dyn FnMut(u64) -> bool| from == 0;
    let lane = (0..shape.used(region)).find(|lane| take(*lane, dead));
    let lane = lane.or_else(|| (0..shape.lanes()).find(|lane| take(*lane, free)))?;
    // [QUEUE_CAME] release. A producer that dies before this has sent nothing.
    region.u64(layout::PRODUCED).fetch_add(1, Ordering::Release);
    Some(lane)
}

/// Gives a lane back, all of whose messages are published.
pub fn leave_lane(shape: &Shape, region: &Region, lane: usize) {
    // [QUEUE_OWNER] release.
    shape.owner(lane).leave(region);
    shape.data(region).ring();
}

/// Whether all messages are finished and no producer is left that could send more; `None` if not,
/// or if there never was one.
pub fn end(shape: &Shape, region: &Region, mut is_dead: impl FnMut(u64) -> bool) -> Option<End> {
    // [QUEUE_CAME] acquire.
    let mut ever = region.load_u64(layout::PRODUCED, Ordering::Acquire) != 0;
    let mut end = End::Closed;
    // Counted before the producer was, and before it had the lane.
    for lane in 0..shape.used(region) {
        // [QUEUE_OWNER] acquire.
        let owner = shape.owner(lane).who(region);
        if owner == 0 {
            continue;
        }
        if !is_dead(owner) {
            return None;
        }
        (ever, end) = (true, End::Died);
    }
    (ever && (0..shape.used(region)).all(|lane| is_empty(shape, region, lane))).then_some(end)
}

/// How many producers had come when all were gone and one had died instead of leaving, with nothing
/// left of it; `None` if that is not so. A consumer that comes now does not miss those.
pub fn buried(shape: &Shape, region: &Region, is_dead: impl FnMut(u64) -> bool) -> Option<u64> {
    // [QUEUE_CAME] acquire. Who comes after this load is counted beyond it.
    let came = region.load_u64(layout::PRODUCED, Ordering::Acquire);
    (end(shape, region, is_dead) == Some(End::Died)).then_some(came)
}

/// Takes a seat for the consumer with the identity `me`; `None` if all are taken.
pub fn take_seat(
    shape: &Shape,
    region: &Region,
    me: u64,
    mut is_dead: impl FnMut(u64) -> bool,
) -> Option<usize> {
    let seat = (0..shape.seats()).find(|seat| {
        // [QUEUE_HUNG] SeqCst.
        let wanted = |from| from == 0 || is_dead(from);
        shape.seat(*seat).take(region, me, wanted)
    })?;
    settle(shape, region, seat);
    // [QUEUE_HUNG] SeqCst, after the seat.
    region.u64(layout::ATTENDED).fetch_add(1, Ordering::SeqCst);
    Some(seat)
}

/// Gives a seat back; if it was the last, producers are told.
pub fn leave_seat(shape: &Shape, region: &Region, seat: usize, is_dead: impl FnMut(u64) -> bool) {
    // [QUEUE_HUNG] SeqCst: seat, count, seats.
    shape.seat(seat).leave(region);
    let attended = region.load_u64(layout::ATTENDED, Ordering::SeqCst);
    if !is_attended(shape, region, is_dead) {
        // The greatest: of two who leave one after the other the first may store last.
        region
            .u64(layout::HUNG)
            .fetch_max(attended, Ordering::SeqCst);
        for lane in 0..shape.used(region) {
            shape.space(region, lane).ring();
        }
    }
}

fn is_attended(shape: &Shape, region: &Region, mut is_dead: impl FnMut(u64) -> bool) -> bool {
    (0..shape.seats()).any(|seat| {
        // [QUEUE_HUNG] SeqCst.
        let consumer = shape.seat(seat).who(region);
        consumer != 0 && !is_dead(consumer)
    })
}

/// How many consumers had come and gone when nobody was there to consume; 0 if somebody is. A
/// producer that begins now does not miss those.
pub fn missed(shape: &Shape, region: &Region, is_dead: impl FnMut(u64) -> bool) -> u64 {
    // Acquire: as in `is_hung`. Who comes after this load is counted beyond it.
    let attended = region.load_u64(layout::ATTENDED, Ordering::Acquire);
    if is_attended(shape, region, is_dead) {
        0
    } else {
        attended
    }
}

/// Whether the last consumer has left in good order, since all of the first `missed` had gone. One
/// or two loads.
#[inline]
pub fn is_hung(control: &Window<{ layout::LAYOUT.size }>, missed: u64) -> bool {
    // [QUEUE_HUNG] acquire, so that the count is not older.
    let hung = control.u64(layout::HUNG).load(Ordering::Acquire);
    if hung == missed || hung == 0 {
        return false;
    }
    // Relaxed: an old count tells of a consumer a moment later, as if it had come later.
    hung == control.u64(layout::ATTENDED).load(Ordering::Relaxed)
}

/// Whether there were consumers beyond the first `missed`, and all of them are gone, in good order
/// or not.
pub fn is_deserted(
    shape: &Shape,
    region: &Region,
    missed: u64,
    is_dead: impl FnMut(u64) -> bool,
) -> bool {
    // Acquire: as in `is_hung`.
    let came = region.load_u64(layout::ATTENDED, Ordering::Acquire) != missed;
    came && !is_attended(shape, region, is_dead)
}

/// How many other consumers one watches while it sleeps.
const NEXT: usize = 16;

/// Watches those whose death a consumer must notice while it sleeps: one living producer, because
/// the end comes when none is left, and who wakes over its death looks for another; and the next
/// few consumers in the table, which may die with a lane in hand.
pub fn watch_the_others(shape: &Shape, region: &Region, mine: usize, peers: &mut Peers) {
    watch_one(
        (0..shape.used(region)).map(|lane| shape.owner(lane)),
        region,
        peers,
    );
    let others = (mine + 1..shape.seats()).chain(0..mine);
    let places = others.map(|seat| shape.seat(seat));
    for place in places.filter(|place| place.who(region) != 0).take(NEXT) {
        peers.watch(place.who(region), place.pulse(region));
    }
}

/// Watches one living consumer: a producer must learn when none is left.
pub fn watch_consumers(shape: &Shape, region: &Region, peers: &mut Peers) {
    watch_one(
        (0..shape.seats()).map(|seat| shape.seat(seat)),
        region,
        peers,
    );
}

fn watch_one(mut places: impl Iterator<Item = Place>, region: &Region, peers: &mut Peers) {
    let living = places.find(|place| {
        let who = place.who(region);
        who != 0 && !peers.is_dead(who)
    });
    if let Some(place) = living {
        peers.watch(place.who(region), place.pulse(region));
    }
}
