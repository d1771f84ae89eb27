//! What posters and takers of a `mailbox` have in common: a seat, and how they wait.

use crate::channel::Channel;
use crate::mailbox_inside::{Fault, Inside, Wants};
use crate::mailbox_layout::{Part, Shape, layout, seat};
use crate::mailbox_members::{Joined, join, leave, settle, stop_waiting, wait_for};
use crate::queue::{Watch, is_dead};
use shmem::sync::Ordering;
use shmem::wait::{Moment, Patience};
use shmem::{OpenError, Peers, Reason, Wait, Waiter};
use std::time::Duration;

/// How long one waits for a lock whose holder lives: long enough for a holder that was stopped for
/// a moment, and an end for one that a lying peer names.
const LONGEST: Duration = Duration::from_secs(20);
/// The same for who does not want to wait: a holder may have lost its processor.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// A seat in a mailbox, and how its member waits.
#[derive(Debug)]
pub(crate) struct Member {
    part: Part,
    pub(crate) seat: usize,
    pub(crate) waiter: Waiter,
    watch: Watch,
    /// How long it waits for the lock where it should not wait.
    grace: Duration,
    /// Whether it has said that it waits.
    waits: bool,
    done: u64,
    // Behind all that uses the memory: see `Leaving`.
    pub(crate) channel: Channel<Shape>,
}

impl Member {
    /// Takes a seat. `grace` is how long it waits for the lock where it should not wait.
    pub(crate) fn of(
        channel: Channel<Shape>,
        part: Part,
        grace: Duration,
    ) -> Result<Self, OpenError> {
        let joined = match join(&channel, part, grace.into(), is_dead) {
            Ok(joined) => joined,
            Err(Fault::Busy(pid)) => return Err(channel.error(Reason::Locked(pid))),
            Err(_) => return Err(channel.error(Reason::Shape(channel.opened.id))),
        };
        let Joined::At(seat) = joined else {
            let (what, limit) = ("members", channel.shape.members());
            return Err(channel.error(Reason::Crowded { what, limit }));
        };
        Ok(Self {
            part,
            seat,
            waiter: Waiter::new(),
            watch: Watch::default(),
            grace,
            waits: false,
            done: 0,
            channel,
        })
    }

    /// Inside the lock, for who does not want to wait.
    pub(crate) fn enter(&self) -> Result<Inside<'_>, Fault> {
        Inside::enter(&self.channel, || self.grace.into())
    }

    /// What `look` finds under the lock, once or until it finds something, as `wait` says; `None` if
    /// it does not. `wants` is what is waited for; `idle` is asked when there is nothing, before a
    /// sleep.
    #[inline]
    pub(crate) fn until<T>(
        &mut self,
        wait: Wait<'_>,
        wants: Wants,
        mut look: impl FnMut(&mut Inside<'_>) -> Result<Option<T>, Fault>,
        idle: impl FnMut(&mut Inside<'_>, &mut Peers) -> Result<(), Fault>,
    ) -> Result<Option<T>, Fault> {
        if self.channel.has_ended() {
            return Err(Fault::Removed);
        }
        match Inside::enter(&self.channel, || lock_patience(wait, self.grace)) {
            Ok(mut inside) => {
                if let Some(found) = look(&mut inside)? {
                    inside.finish();
                    return Ok(Some(found));
                }
            }
            Err(busy) => return unless_over(wait, busy),
        }
        self.until_slowly(wait, wants, look, idle)
    }

    #[cold]
    fn until_slowly<T>(
        &mut self,
        wait: Wait<'_>,
        wants: Wants,
        mut look: impl FnMut(&mut Inside<'_>) -> Result<Option<T>, Fault>,
        mut idle: impl FnMut(&mut Inside<'_>, &mut Peers) -> Result<(), Fault>,
    ) -> Result<Option<T>, Fault> {
        let Self {
            seat,
            waiter,
            watch,
            grace,
            waits,
            channel,
            ..
        } = self;
        let (shape, region, seat, grace) = (&channel.shape, channel.region(), *seat, *grace);
        let counter = match wants {
            Wants::Message(_) => layout::POSTED,
            Wants::Room(_) => layout::TAKEN,
        };
        // Relaxed: a hint, which spares those who spin the lock; before a sleep one looks anyhow.
        let count = || region.load_u64(counter, Ordering::Relaxed);
        let mut seen = None;
        let mut once = |moment, peers: &mut Peers| -> Result<Option<T>, Fault> {
            let parking = moment == Moment::Parking;
            if !parking && seen == Some(count()) {
                return Ok(None);
            }
            if channel.has_ended() || parking && watch.is_due() && channel.is_gone() {
                return Err(Fault::Removed);
            }
            let mut inside = match Inside::enter(channel, || lock_patience(wait, grace)) {
                Ok(inside) => inside,
                Err(busy) => return unless_over(wait, busy),
            };
            let mut found = look(&mut inside)?;
            if found.is_none() && parking && settle(&mut inside, peers)? {
                found = look(&mut inside)?;
            }
            if found.is_none() {
                seen = Some(count());
                if parking {
                    idle(&mut inside, peers)?;
                    if wait.is_waiting() {
                        wait_for(&inside, seat, wants);
                        *waits = true;
                    }
                }
            }
            inside.finish();
            Ok(found)
        };
        let bell = shape.bell(region, seat);
        let found = waiter.find(bell, wait, |moment, peers| once(moment, peers).transpose());
        if *waits && (found.is_some() || !wait.is_task()) {
            *waits = false;
            stop_waiting(shape, region, seat);
        }
        found.transpose()
    }

    /// One message more was posted or taken.
    #[inline]
    pub(crate) fn has_done_one(&mut self) {
        self.done = self.done.wrapping_add(1);
        let done = self.channel.shape.at(self.seat, seat::DONE);
        // Relaxed: for who looks from outside.
        self.channel
            .region()
            .u64(done)
            .store(self.done, Ordering::Relaxed);
    }

    /// Says that no task waits any more.
    #[cfg(feature = "async")]
    pub(crate) fn withdraw(&mut self) {
        if self.waiter.withdraw() && self.channel.is_mine() && std::mem::take(&mut self.waits) {
            stop_waiting(&self.channel.shape, self.channel.region(), self.seat);
        }
    }
}

/// How long the lock is waited for.
#[inline]
fn lock_patience(wait: Wait<'_>, grace: Duration) -> Patience {
    match wait {
        Wait::While(patience) => patience.slice(LONGEST).into(),
        Wait::Not | Wait::Wake(_) => grace.into(),
    }
}

/// Nothing, if there was no time for the lock, otherwise an error.
fn unless_over<T>(wait: Wait<'_>, busy: Fault) -> Result<Option<T>, Fault> {
    match wait {
        Wait::While(patience) if patience.is_over() => Ok(None),
        _ => Err(busy),
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // In a child that has it by a fork the seat is still the parent's.
        if self.channel.is_mine() {
            leave(&self.channel, self.seat, self.part, self.grace.into());
        }
    }
}
