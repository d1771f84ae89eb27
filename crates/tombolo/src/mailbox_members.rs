//! Who takes part in a `mailbox`: coming, leaving, and burying the dead.
//!
//! # Protocol
//! A poster or taker has a seat, which it takes and gives back under the lock: MEMBER is its
//! identity. So who looks under the lock sees all who have come and have not left, with all that
//! they have posted.
//!
//! # Crash
//! A member that dies leaves its identity in its seat, and maybe a block in its hand. Whoever finds
//! it *buries* it, under the lock: a taker's message goes back to the front of the mailbox, marked;
//! what a poster was writing is given back; and the seat is free. Who comes buries all; who waits
//! watches those that have something in hand, and buries them when they die.

use crate::channel::Channel;
use crate::mailbox_inside::{Fault, Inside, Wants};
use crate::mailbox_layout::{Part, Shape, layout, seat};
use crate::mailbox_store::Message;
use crate::participant::layout as participant;
use shmem::Peers;
use shmem::sync::Ordering;
use shmem::wait::Patience;
use sysv::Errno;

/// What came of the wish to have a seat.
pub(crate) enum Joined {
    /// This seat.
    At(usize),
    /// All are taken.
    Crowded,
}

/// Takes a seat.
pub(crate) fn join(
    channel: &Channel<Shape>,
    part: Part,
    patience: Patience,
    mut is_dead: impl FnMut(u64) -> bool,
) -> Result<Joined, Fault> {
    let mut inside = Inside::enter(channel, || patience)?;
    let (shape, region) = (inside.shape(), inside.region());
    for at in 0..shape.seated(region) {
        let who = shape.seat(at).who(region);
        if who != 0 && is_dead(who) || who == 0 && inside.in_hand(at)?.is_some() {
            bury(&mut inside, at)?;
        }
    }
    let free = (0..shape.members()).find(|at| {
        let seat = shape.seat(*at);
        let is_mine = seat.who(region) == 0 && matches!(inside.in_hand(*at), Ok(None));
        if is_mine {
            // Relaxed, all: ordered by the lock. The part first: who dies here is one.
            let role = region.u32(shape.at(*at, seat::ROLE));
            role.store(part as u32, Ordering::Relaxed);
            let done = region.u64(shape.at(*at, seat::DONE));
            done.store(0, Ordering::Relaxed);
            region
                .u32(layout::SEATED)
                .fetch_max(*at as u32 + 1, Ordering::Relaxed);
            stop_waiting(shape, region, *at);
        }
        is_mine && seat.take(region, channel.me, |from| from == 0)
    });
    let Some(at) = free else {
        // The dead are buried all the same.
        inside.finish();
        return Ok(Joined::Crowded);
    };
    if part == Part::Poster {
        inside.tx.add(layout::POSTERS, 1)?;
    }
    inside.finish();
    Ok(Joined::At(at))
}

/// Gives a seat back, and what its member has in hand. Without the lock, if somebody keeps that:
/// then what is in hand is found by whoever comes next.
pub(crate) fn leave(channel: &Channel<Shape>, at: usize, part: Part, patience: Patience) {
    let (shape, region) = (&channel.shape, channel.region());
    stop_waiting(shape, region, at);
    let left = Inside::enter(channel, || patience).and_then(|mut inside| {
        put_away(&mut inside, at)?;
        shape.seat(at).leave(region);
        if part == Part::Poster {
            wake_all_takers(&mut inside);
        }
        inside.finish();
        Ok(())
    });
    if left.is_err() {
        shape.seat(at).leave(region);
    }
}

/// Who waits for a message may wait for nobody now.
fn wake_all_takers(inside: &mut Inside<'_>) {
    inside.wake(|wants| matches!(wants, Wants::Message(_)));
}

/// Puts away what the member of a seat has in hand: back to the mailbox, or back to the heap. False
/// if there is no room for that now; then nothing was changed since the last commit.
fn put_away(inside: &mut Inside<'_>, at: usize) -> Result<bool, Fault> {
    let Some(held) = inside.in_hand(at)? else {
        return Ok(true);
    };
    let role = inside.shape().at(at, seat::ROLE);
    // Relaxed: ordered by the lock.
    let role = inside.region().load_u32(role, Ordering::Relaxed);
    if role != Part::Poster as u32 {
        return give_back(inside, at, held);
    }
    throw_away(inside, at, held)?;
    Ok(true)
}

/// Gives back the block of a message that was being written.
pub(crate) fn throw_away(inside: &mut Inside<'_>, at: usize, draft: Message) -> Result<(), Fault> {
    let store = inside.store();
    let (_, length) = draft.describe(&inside.tx, &store.heap)?;
    draft.free(&mut inside.tx, &store.heap)?;
    inside.set_in_hand(at, None)?;
    inside.reserve(length, false)?;
    inside.has_gone()
}

/// Puts a message back that was taken and not finished. False if there is no memory for what lists
/// it: then nothing was changed since the last commit.
pub(crate) fn give_back(inside: &mut Inside<'_>, at: usize, taken: Message) -> Result<bool, Fault> {
    let store = inside.store();
    let (number, _) = taken.describe(&inside.tx, &store.heap)?;
    match store.put_back(&mut inside.tx, taken) {
        Err(Errno::NOMEM) => {
            inside.undo();
            return Ok(false);
        }
        put => put?,
    }
    inside.set_in_hand(at, None)?;
    inside.has_come(number);
    Ok(true)
}

/// Frees the seat of a dead member, unless there is no room for what it had in hand. Final when it
/// returns.
fn bury(inside: &mut Inside<'_>, at: usize) -> Result<bool, Fault> {
    let (shape, region) = (inside.shape(), inside.region());
    inside.tx.commit();
    if !put_away(inside, at)? {
        return Ok(false);
    }
    let who = shape.at(at, seat::MEMBER) + participant::WHO;
    // Relaxed: ordered by the lock.
    let role = region.load_u32(shape.at(at, seat::ROLE), Ordering::Relaxed);
    if role == Part::Poster as u32 && inside.tx.get(who)? != 0 {
        inside.tx.add(layout::DIED, 1)?;
        wake_all_takers(inside);
    }
    inside.tx.set(who, 0)?;
    inside.tx.commit();
    stop_waiting(shape, region, at);
    Ok(true)
}

/// Buries the dead of those who have something in hand, and watches the others. Answers whether
/// there were any.
pub(crate) fn settle(inside: &mut Inside<'_>, peers: &mut Peers) -> Result<bool, Fault> {
    let (shape, region) = (inside.shape(), inside.region());
    let mut any = false;
    for at in inside.holders() {
        let place = shape.seat(at);
        let who = place.who(region);
        if who == 0 || peers.is_dead(who) {
            any |= bury(inside, at)?;
        } else {
            peers.watch(who, place.pulse(region));
        }
    }
    Ok(any)
}

/// Whether there were posters and none is left. Buries those that died, and watches one that lives:
/// who wakes over its death looks for another.
///
/// `mourned` says how many deaths of posters are no news.
pub(crate) fn end(inside: &mut Inside<'_>, mourned: u64, peers: &mut Peers) -> Result<(), Fault> {
    let (shape, region) = (inside.shape(), inside.region());
    for at in 0..shape.seated(region) {
        let place = shape.seat(at);
        // Relaxed: ordered by the lock.
        let role = region.load_u32(shape.at(at, seat::ROLE), Ordering::Relaxed);
        let who = place.who(region);
        if who == 0 || role != Part::Poster as u32 {
            continue;
        }
        if !peers.is_dead(who) {
            peers.watch(who, place.pulse(region));
            return Ok(());
        }
        bury(inside, at)?;
    }
    if inside.tx.get(layout::POSTERS)? == 0 {
        return Ok(());
    }
    let died = died(inside)? != mourned;
    Err(Fault::Deserted { died })
}

/// How many posters have died.
pub(crate) fn died(inside: &Inside<'_>) -> Result<u64, Fault> {
    Ok(inside.tx.get(layout::DIED)?)
}

/// Says what the member of a seat waits for. Under the lock.
pub(crate) fn wait_for(inside: &Inside<'_>, at: usize, wants: Wants) {
    let (shape, region) = (inside.shape(), inside.region());
    shape.waits(region).wait_for(at, wants.words());
    shape.seat(at).set_asleep(region, true);
}

/// Says that the member of a seat waits no more. Without the lock, too.
pub(crate) fn stop_waiting(shape: &Shape, region: &shmem::Region, at: usize) {
    shape.waits(region).stop(at);
    shape.seat(at).set_asleep(region, false);
}
