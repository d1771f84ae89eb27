//! Who takes part in a `service`: coming, leaving, and noticing that the others are gone.
//!
//! # Protocol
//! - A client has one slot at least: OWNER is its identity. It takes one that is free or a dead
//!   client's, and makes it quiet (see `service_slot`) before it uses it.
//! - A server has a seat, which only serves for seeing who is there.
//!
//! - `[SERVICE_OWNER]` Who takes a slot sees what its client before had stored: released by the
//!   store of 0 to OWNER, acquired by the compare-exchange. Weaker, a number is used twice.
//! - `[SERVICE_GONE]` A client must not be told that nobody serves while a server hands over to the
//!   next. One that comes takes a seat and then counts up ATTENDED; a client loads ATTENDED, looks
//!   at all seats, and believes that nobody is there only if ATTENDED is the same then. If a server
//!   came before another left, then either the count came before the first load, and the seat is
//!   seen; or it came after, and if the client saw the other one's seat as left, it sees the count
//!   as well. All SeqCst: count and seats are compared in one order.
//!
//! # Crash
//! A dead client's slot is taken by the next who needs one; a dead server's seat likewise. What
//! either leaves in a slot is told in `service_slot`. A server that dies while it leaves may not
//! have rung; clients that sleep watch its process.

use crate::service_layout::{Shape, layout};
use crate::service_slot::Slot;
use shmem::Region;
use shmem::sync::Ordering;

/// Takes a slot for the client with the identity `me`; `None` if all have clients, or calls of dead
/// clients in hand.
pub fn take_slot(
    shape: &Shape,
    region: &Region,
    me: u64,
    mut is_dead: impl FnMut(u64) -> bool,
) -> Option<usize> {
    (0..shape.calls()).find(|slot| {
        // [SERVICE_OWNER] acquire.
        let taken = shape.owner(*slot).take(region, me, |from| {
            let wanted = from == 0 || is_dead(from);
            if wanted {
                // Before the slot is mine: servers look here for my requests.
                region
                    .u32(layout::USED)
                    .fetch_max(*slot as u32 + 1, Ordering::SeqCst);
            }
            wanted
        });
        if !taken {
            return false;
        }
        let (slot, of) = (*slot, *slot);
        let quiet = Slot {
            shape,
            region,
            slot,
        }
        .quieten(me, &mut is_dead);
        if !quiet {
            leave_slot(shape, region, of);
        }
        quiet
    })
}

/// Gives a slot back.
pub fn leave_slot(shape: &Shape, region: &Region, slot: usize) {
    // [SERVICE_OWNER] release.
    shape.owner(slot).leave(region);
}

/// Takes a seat for the server with the identity `me`; `None` if all are taken.
pub fn take_seat(
    shape: &Shape,
    region: &Region,
    me: u64,
    mut is_dead: impl FnMut(u64) -> bool,
) -> Option<usize> {
    let seat = (0..shape.servers()).find(|seat| {
        // [SERVICE_GONE] SeqCst.
        let wanted = |from| from == 0 || is_dead(from);
        shape.seat(*seat).take(region, me, wanted)
    })?;
    // [SERVICE_GONE] SeqCst, after the seat.
    region.u64(layout::ATTENDED).fetch_add(1, Ordering::SeqCst);
    Some(seat)
}

/// Gives a seat back; clients that sleep look who is left.
pub fn leave_seat(shape: &Shape, region: &Region, seat: usize) {
    // [SERVICE_GONE] SeqCst.
    shape.seat(seat).leave(region);
    for slot in 0..shape.used(region) {
        shape.answered(region, slot).ring_light(|| true);
    }
}

/// Whether there has been more than one server.
#[inline]
pub fn had_others(region: &Region) -> bool {
    // Relaxed: a server that this misses has not looked for requests yet.
    region.load_u64(layout::ATTENDED, Ordering::Relaxed) > 1
}

/// A server that is there: its identity, and where its pulse is. `None` if nobody serves.
///
/// `is_dead` says whether the one with an identity is dead.
pub fn somebody(
    shape: &Shape,
    region: &Region,
    mut is_dead: impl FnMut(u64) -> bool,
) -> Option<(u64, u32)> {
    // More servers than this do not come in one look; a liar may say so.
    let mut last = None;
    for _ in 0..100 {
        // [SERVICE_GONE] SeqCst: count, seats, count.
        let attended = region.load_u64(layout::ATTENDED, Ordering::SeqCst);
        if last == Some(attended) {
            break;
        }
        last = Some(attended);
        for seat in 0..shape.servers() {
            let place = shape.seat(seat);
            let pulse = place.pulse(region);
            let server = place.who(region);
            if server != 0 && !is_dead(server) {
                return Some((server, pulse));
            }
        }
    }
    None
}
