//! The short way of a message: through the queue's lane, without the facility's lock.
//!
//! ```text
//!   msgsnd, msgrcv ──► gate open? ──► one side of the lane ──► done, or look until it changes
//!                        │ no, or something that only the store can do
//!                        ▼
//!                      facility's lock ──► close the gate: what is in the lane goes into the store
//!                                      ──► the call ──► nobody asleep? open it, for receivers
//!                                                       if nothing is in the store
//! ```
//!
//! The gates are open only while nobody sleeps on the queue, so who sends by the lane has nobody to
//! wake. What is in the store is older than what is in the lane: as long as there is anything, the gate
//! is open for senders only, and receivers take from the store, under the facility's lock, which then
//! is theirs alone. What the lane can't do goes the long way: a long text, a message from behind others,
//! the lowest type, sleeping, every `msgctl`; and so does a sender who finds the ring full and not
//! emptied, which makes room for the next few hundred messages.
//!
//! A queue gets its lane when it has seen [`WARM`] moves, since it takes memory.
//!
//! **Crash.** See [`tombolo::mailbox_lane`]. The gate is opened when everything else is final; who dies before
//! has left it closed, and the next call that goes the long way opens it.

use crate::caller::{self, Caller, READ, WRITE};
use crate::layout::{Facility, lane_at, queue};
use crate::msg::store;
use crate::space::{Inside, LOCK_PATIENCE, Space, now};
use crate::spin::Turn;
use crate::table;
use shmem::journal::Tx;
use shmem::sync::Ordering;
use shmem::{Bytes, Region};
use std::time::{Duration, Instant};
use sysv::abi::*;
use sysv::{Errno, Result};
use tombolo::mailbox_lane::{LINES, LONGEST, Lane, Mark, Record, SIZE, Sent, Side, Who, side};
use tombolo::mailbox_store::{Message, Place, Wanted};

const MSG: Facility = Facility::Msg;

/// Moves that a queue has seen that gets a lane.
const WARM: u64 = 8;
/// How many records are looked at for one that is wanted.
const GLANCE: usize = 8;
/// How often a sender looks whether a full ring has room, before it takes the long way.
const LOOKS_FOR_ROOM: u32 = 200;
/// How long who closes a gate spins for a holder of a side, and how long it sleeps then between looks.
const SPIN: Duration = Duration::from_micros(20);
const NAP: Duration = Duration::from_micros(200);

/// What came of the short way.
pub(crate) enum Quick<T> {
    Done(T),
    /// It has to be waited for.
    Wait(Watch),
    /// The ring is full, and the queue is not.
    Full(Watch),
    /// It has to go the long way.
    Closed,
}

/// Words that one who looks without a lock looks at, and what stood there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    words: [(usize, u64); 2],
}

impl Watch {
    #[inline]
    fn has_changed(&self, region: &Region) -> bool {
        // Relaxed: whoever sees a change looks again under a lock.
        let load = |at| region.load_u64(at, Ordering::Relaxed);
        self.words.iter().any(|&(at, seen)| load(at) != seen)
    }
}

/// Which side of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Sending,
    Receiving,
}

impl Space {
    /// The lane of the queue with an id, if there is memory for it.
    #[inline]
    fn lane(&self, id: i32) -> Option<(usize, Lane<'_>)> {
        let index = usize::try_from(id % IPCMNI).ok()?;
        let at = MSG.slot(index);
        // Relaxed: what is there stays.
        let there = self.region().load_u64(at + queue::LANE, Ordering::Relaxed) == 1;
        there.then(|| (at, Lane::new(self.region(), lane_at(index))))
    }

    /// Takes a side of the lane of the queue with an id, if its gate is open.
    #[inline]
    fn side(&self, me: u64, id: i32, end: End) -> Option<(usize, Lane<'_>, Side<'_>)> {
        let (at, lane) = self.lane(id)?;
        let side = match end {
            End::Sending => lane.senders(),
            End::Receiving => lane.receivers(),
        };
        let held = lane.take(side, me, self.several)?;
        (lane.gate(side) == id as u64 + 1).then_some((at, lane, held))
    }

    /// Sends by the lane.
    #[inline]
    pub(crate) fn send_by_lane(
        &self,
        me: u64,
        caller: &dyn Caller,
        id: i32,
        number: u64,
        text: &[u8],
    ) -> Result<Quick<()>> {
        if text.len() > LONGEST {
            return Ok(Quick::Closed);
        }
        let Some((at, lane, side)) = self.side(me, id, End::Sending) else {
            return Ok(Quick::Closed);
        };
        let tx = Tx::read_only(self.region());
        caller::allow(&tx, at, caller, WRITE, self.user_space)?;
        // What the store has becomes only less while the gate is open.
        let (_, in_store) = store(at).contents(&tx)?;
        let capacity = tx.get(at + queue::CAPACITY)?.saturating_sub(in_store);
        let who = Who::new(self.pid(), now());
        let watch = |head: Mark| Watch {
            words: [
                (lane.receivers() + side::MARK, head.0),
                moves(self.region(), at),
            ],
        };
        Ok(match side.send(capacity, number, text, who)? {
            Sent::Yes => Quick::Done(()),
            Sent::NoRoom(head) => Quick::Wait(watch(head)),
            Sent::Full(head) => Quick::Full(watch(head)),
        })
    }

    /// Receives by the lane, and answers the type.
    #[inline]
    pub(crate) fn receive_by_lane(
        &self,
        me: u64,
        caller: &dyn Caller,
        id: i32,
        wanted: Wanted,
        (size, flags): (usize, i32),
        deliver: &mut crate::msg::Deliver,
    ) -> Result<Quick<i64>> {
        let Some((at, lane, side)) = self.side(me, id, End::Receiving) else {
            return Ok(Quick::Closed);
        };
        let tx = Tx::read_only(self.region());
        caller::allow(&tx, at, caller, READ, self.user_space)?;
        let (head, mut tail) = side.ends();
        let mut place = head;
        for _ in 0..GLANCE {
            if place.is_at(tail) {
                tail = side.look_again();
            }
            if place.is_at(tail) {
                let tail = (lane.senders() + side::MARK, tail.0);
                let words = [tail, moves(self.region(), at)];
                return Ok(Quick::Wait(Watch { words }));
            }
            let record = lane.record(place, tail)?;
            if !wanted.suits(record.number) {
                place = record.behind;
                continue;
            }
            // The lowest type may stand behind.
            let is_lowest = !matches!(wanted, Wanted::UpTo(_)) || record.number == 1;
            if place != head || !is_lowest {
                break;
            }
            if record.length > size && flags & MSG_NOERROR == 0 {
                return Err(Errno::TOOBIG);
            }
            deliver(bytes(self.region(), &record, record.length.min(size))?);
            side.move_to(record.behind, Who::new(self.pid(), now()));
            return Ok(Quick::Done(record.number as i64));
        }
        Ok(Quick::Closed)
    }

    /// Looks a moment whether a full ring gets room; answers whether it does.
    pub(crate) fn look_for_room(&self, watch: &Watch) -> bool {
        let looks = if self.several { LOOKS_FOR_ROOM } else { 0 };
        (0..looks).any(|_| {
            std::hint::spin_loop();
            watch.has_changed(self.region())
        })
    }

    /// Looks until something has changed, or the turn is over.
    pub(crate) fn look_at(&self, turn: &mut Turn<'_>, watch: &Watch) {
        turn.look(|| watch.has_changed(self.region()));
    }

    /// What one who holds the facility's lock, and finds that he has to wait, looks at.
    pub(crate) fn watch(&self, index: usize, end: End) -> Watch {
        let at = MSG.slot(index);
        let moves = moves(self.region(), at);
        // Relaxed: what is there stays.
        if self.region().load_u64(at + queue::LANE, Ordering::Relaxed) != 1 {
            return Watch { words: [moves; 2] };
        }
        let lane = Lane::new(self.region(), lane_at(index));
        let other = match end {
            End::Sending => lane.receivers(),
            End::Receiving => lane.senders(),
        };
        let at = other + side::MARK;
        // Relaxed: whoever sees a change looks again under a lock.
        let mark = (at, self.region().load_u64(at, Ordering::Relaxed));
        Watch {
            words: [mark, moves],
        }
    }

    /// The queue with an id, all of it in the store, and its index. Makes everything before final.
    #[inline]
    pub(crate) fn queue(&self, inside: &mut Inside, id: i32) -> Result<usize> {
        let index = table::by_id(&inside.tx, MSG, id)?;
        self.close_lane(inside, index)?;
        Ok(index)
    }

    /// The message that is wanted, in the store. What stands there is older than what is in the lane,
    /// so only who does not find it, or wants the lowest type, has to have both in one place.
    pub(crate) fn find_oldest(
        &self,
        inside: &mut Inside,
        index: usize,
        wanted: Wanted,
    ) -> Result<Option<Place>> {
        let store = store(MSG.slot(index));
        if !matches!(wanted, Wanted::UpTo(_))
            && let Some(found) = store.find(&inside.tx, wanted)?
        {
            inside.queue = Some(index);
            return Ok(Some(found));
        }
        self.close_lane(inside, index)?;
        store.find(&inside.tx, wanted)
    }

    /// Closes the gates of the lane of the queue at an index, and notes that they can be opened at the end.
    /// Makes everything before final.
    pub(crate) fn close_lane(&self, inside: &mut Inside, index: usize) -> Result<()> {
        inside.queue = Some(index);
        if inside.tx.get(MSG.slot(index) + queue::LANE)? != 1 {
            return Ok(());
        }
        let lane = Lane::new(self.region(), lane_at(index));
        if lane.gate(lane.senders()) == 0 && lane.gate(lane.receivers()) == 0 {
            return Ok(());
        }
        inside.tx.commit();
        let senders = self.take_side(lane, lane.senders())?;
        let receivers = self.take_side(lane, lane.receivers())?;
        empty(&mut inside.tx, index, lane, &senders, &receivers)?;
        inside.tx.commit();
        Ok(())
    }

    /// Takes a side's lock, which somebody holds for a moment if he lives.
    fn take_side<'s>(&self, lane: Lane<'s>, side: usize) -> Result<Side<'s>> {
        let me = self.identity()?;
        let start = Instant::now();
        loop {
            if let Some(held) = lane.take(side, me, self.several) {
                return Ok(held);
            }
            let waited = start.elapsed();
            let holder = lane.holder(side);
            if waited > SPIN && holder != 0 && !self.image_lives(holder) {
                if let Some(held) = lane.take_from(side, holder, me) {
                    return Ok(held);
                }
                continue;
            }
            if waited > LOCK_PATIENCE {
                return Err(Errno::DEADLK);
            }
            if waited > SPIN {
                std::thread::sleep(NAP);
            }
        }
    }
}

/// The first bytes of a record's text.
fn bytes<'s>(region: &'s Region, record: &Record, length: usize) -> Result<Bytes<'s>> {
    Bytes::new(region, record.text, length).map_err(|_| Errno::UCLEAN)
}

/// How often the store of a queue was changed, and where that stands.
#[inline]
fn moves(region: &Region, at: usize) -> (usize, u64) {
    let at = at + queue::MOVES;
    // Relaxed: a hint.
    (at, region.load_u64(at, Ordering::Relaxed))
}

/// Moves everything from a lane into the store, and closes its gate.
fn empty(tx: &mut Tx, index: usize, lane: Lane, senders: &Side, receivers: &Side) -> Result<()> {
    let at = MSG.slot(index);
    let (tail, sent) = senders.state();
    let (head, received) = receivers.state();
    for (word, pid, time) in [
        (sent, queue::SENDER, queue::SENT),
        (received, queue::RECEIVER, queue::RECEIVED),
    ] {
        let who = Who(tx.get(word)?);
        if !who.is_nobody() {
            tx.set(at + pid, who.pid())?;
            tx.set(at + time, who.seconds())?;
            tx.set(word, 0)?;
        }
    }
    let (mut place, mut text) = (head, Vec::new());
    while !place.is_at(tail) {
        let record = lane.record(place, tail)?;
        text.clear();
        bytes(tx.region(), &record, record.length)?.append_to(&mut text);
        let message = Message::new(tx, &MSG.heap(), record.number, &text)?;
        store(at).append(tx, message)?;
        place = record.behind;
    }
    // Both ends are the same, so nobody was here since.
    let nobody = lane.receivers() + side::WHO + 8 * tail.parity();
    tx.set(nobody, 0)?;
    tx.set(lane.receivers() + side::MARK, tail.0)?;
    tx.set(lane.receivers() + side::SEEN, tail.0)?;
    for side in [lane.senders(), lane.receivers()] {
        tx.set(side + side::GATE, 0)?;
    }
    Ok(())
}

/// Which gates of a queue's lane can be opened when all that was done is final.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    index: usize,
    id: i32,
    /// Nothing is in the store, so that receivers find everything in the lane.
    for_receivers: bool,
}

impl Opening {
    /// Opens them. Under the facility's lock.
    pub(crate) fn open(self, region: &Region) {
        let lane = Lane::new(region, lane_at(self.index));
        lane.open(lane.senders(), self.id);
        if self.for_receivers {
            lane.open(lane.receivers(), self.id);
        }
    }
}

/// Which gates of the lane of the queue at an index can be opened, if any.
pub(crate) fn may_open(tx: &mut Tx, index: usize) -> Result<Option<Opening>> {
    let at = MSG.slot(index);
    let (count, _) = store(at).contents(tx)?;
    let is_quiet = tx.get(at + queue::RECEIVERS)? == 0 && tx.get(at + queue::SENDERS)? == 0;
    // There may be no more messages than bytes. So few that they would have to be counted: no lane.
    let most = count.saturating_add(LINES as u64);
    let is_large = tx.get(at + queue::CAPACITY)? >= most;
    if !is_quiet || !is_large || table::by_index(tx, MSG, index).is_err() {
        return Ok(None);
    }
    if tx.get(at + queue::LANE)? != 1 {
        if tx.get(at + queue::MOVES)? < WARM || tx.region().populate(lane_at(index), SIZE).is_err()
        {
            return Ok(None);
        }
        tx.set(at + queue::LANE, 1)?;
    }
    Ok(Some(Opening {
        index,
        id: table::id(tx, MSG, index)?,
        for_receivers: count == 0,
    }))
}
