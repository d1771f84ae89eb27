//! Who takes part in a `topic`: coming, leaving, and noticing that the others are gone.
//!
//! # Protocol
//! - A publisher has a lane: OWNER is its identity. It takes one from a dead publisher if there is
//!   any, so that what that one left open is closed by its successor; otherwise the first free one.
//! - A subscriber that may write has a seat, with a cursor for each lane. Where slow subscribers
//!   are waited for, the cursors hold messages: see [TOPIC_HOLD] in `topic_tail`. Where they are
//!   overrun, a seat only shows who is there, and is done without if all are taken.
//!
//! - `[TOPIC_OWNER]` Who sees a lane as left sees all messages in it: released by the store of 0 to
//!   OWNER, acquired by who looks for the end. Weaker, the end is announced while messages come.
//! - `[TOPIC_CAME]` Who sees that there was a publisher sees that it has, or had, its lane: released
//!   by counting up CAME, acquired by who looks for the end. Weaker, the lane still looks free and
//!   the end is announced when the first publisher comes.
//!
//! # Crash
//! A publisher that dies leaves its identity in OWNER: subscribers that have received everything
//! learn that it died, until another publisher takes the lane over. A subscriber that dies leaves
//! its identity in its seat, and its cursors hold messages until a publisher that needs the room
//! takes the seat in its place, clears the cursors and leaves it again; or until another subscriber
//! takes it, which clears them first too. Who dies in the middle of that leaves the seat to be
//! cleared as it was.

use crate::topic_head::{Head, Unfit};
use crate::topic_layout::{Shape, layout};
use crate::topic_policy::{Policy, Start};
use shmem::sync::{Ordering, fence};
use shmem::{Region, View};

/// How the publishers went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All left.
    Closed,
    /// One died, at least, and nobody took its place.
    Died,
}

/// Takes a lane for the publisher with the identity `me`; `None` if all are taken.
pub fn take_lane(
    shape: &Shape,
    region: &Region,
    me: u64,
    mut is_dead: impl FnMut(u64) -> bool,
) -> Option<usize> {
    let mut take = |lane, wanted: fn(u64, &mut dyn FnMut(u64) -> bool) -> bool| {
        // [TOPIC_OWNER] acquire: the lane as its last publisher left it.
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
    let lanes = || 0..shape.lanes();
    let lane = lanes().find(|lane| take(*lane, dead));
    let lane = lane.or_else(|| lanes().find(|lane| take(*lane, free)))?;
    // [TOPIC_CAME] release. A publisher that dies before this has published nothing.
    region.u64(layout::CAME).fetch_add(1, Ordering::Release);
    Some(lane)
}

/// Gives a lane back, all of whose messages are published.
pub fn leave_lane(shape: &Shape, region: &Region, lane: usize) {
    // [TOPIC_OWNER] release.
    shape.owner(lane).leave(region);
    shape.data(region).ring();
}

/// How the publishers went, if none is left that could publish more and `is_empty` says so of each
/// lane; `None` if not, or if there never was one.
pub fn ended(
    shape: &Shape,
    view: &View,
    mut is_dead: impl FnMut(u64) -> bool,
    is_empty: impl Fn(usize) -> bool,
) -> Option<Ended> {
    // [TOPIC_CAME] acquire.
    let mut ever = view.load_u64(layout::CAME, Ordering::Acquire) != 0;
    let mut end = Ended::Closed;
    for lane in 0..shape.lanes() {
        // [TOPIC_OWNER] acquire.
        let owner = shape.owner(lane).who(view);
        if owner == 0 {
            continue;
        }
        if !is_dead(owner) {
            return None;
        }
        (ever, end) = (true, Ended::Died);
    }
    (ever && (0..shape.lanes()).all(is_empty)).then_some(end)
}

/// Takes a seat for the subscriber with the identity `me`; `None` if all are taken. It holds
/// nothing yet.
pub fn take_seat(
    shape: &Shape,
    region: &Region,
    me: u64,
    mut is_dead: impl FnMut(u64) -> bool,
) -> Option<usize> {
    let seat = (0..shape.seats()).find(|seat| {
        let wanted = |from| from == 0 || is_dead(from);
        shape.seat(*seat).take(region, me, wanted)
    })?;
    clear(shape, region, seat);
    // Relaxed: before the cursors; [TOPIC_HOLD] orders it as it does them.
    region
        .u32(layout::SEATED)
        .fetch_max(seat as u32 + 1, Ordering::Relaxed);
    Some(seat)
}

/// Gives a seat back with all that it holds.
pub fn leave_seat(shape: &Shape, region: &Region, seat: usize) {
    clear(shape, region, seat);
    shape.seat(seat).leave(region);
    ring_space(shape, region);
}

/// Frees what a seat holds whose subscriber is gone; false if it is somebody's.
pub fn free_seat(
    shape: &Shape,
    region: &Region,
    seat: usize,
    me: u64,
    mut is_dead: impl FnMut(u64) -> bool,
) -> bool {
    let wanted = |from| from == 0 || is_dead(from);
    let taken = shape.seat(seat).take(region, me, wanted);
    if taken {
        leave_seat(shape, region, seat);
    }
    taken
}

fn clear(shape: &Shape, region: &Region, seat: usize) {
    for lane in 0..shape.lanes() {
        // [TOPIC_RELEASE] release.
        region
            .u64(shape.cursor(seat, lane))
            .store(0, Ordering::Release);
    }
}

/// Wakes all publishers that wait for room.
fn ring_space(shape: &Shape, region: &Region) {
    if shape.policy() == Policy::WaitForSlowest {
        for lane in 0..shape.used(region) {
            shape.space(region, lane).ring();
        }
    }
}

/// Where a subscriber that is waited for begins in a lane: what it wants next is held by its seat.
///
/// # Errors
/// [`Unfit::Lapped`] if the publisher was faster, again and again.
pub fn hold(
    shape: &Shape,
    region: &Region,
    seat: usize,
    lane: usize,
    start: Start,
    attempts: u64,
) -> Result<Head, Unfit> {
    attempt(attempts, |attempt| {
        let head = Head::seek(*shape, region, lane, start, attempt)?;
        move_cursor(shape, region, seat, lane, &head);
        if attempt > 0 {
            // The publisher may have gone to sleep over what it held before.
            shape.space(region, lane).ring_light(|| true);
        }
        // [TOPIC_HOLD] between the cursor before and the claim after.
        fence(Ordering::SeqCst);
        if head.is_beyond_reach(region) {
            return Err(Unfit::Lapped);
        }
        Ok(head)
    })
}

/// Tries again while the publisher is faster.
///
/// # Errors
/// The last attempt's.
pub fn attempt<T>(
    attempts: u64,
    mut seek: impl FnMut(u64) -> Result<T, Unfit>,
) -> Result<T, Unfit> {
    for attempt in 1..attempts {
        match seek(attempt - 1) {
            Err(Unfit::Lapped) => {}
            found => return found,
        }
    }
    seek(attempts - 1)
}

/// Stores how far a subscriber is in a lane.
#[inline]
pub fn move_cursor(shape: &Shape, region: &Region, seat: usize, lane: usize, head: &Head) {
    // [TOPIC_RELEASE] release.
    region
        .u64(shape.cursor(seat, lane))
        .store(head.point().position.wrapping_add(1), Ordering::Release);
}
