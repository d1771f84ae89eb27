//! The subscriber's end of a topic's lane: finding where to begin, taking records, and noticing
//! that the publisher has lapped it. The protocol is told in `topic_tail`.
//!
//! Everything here needs to read only.
//!
//! # Hostile bytes
//! Positions are masked to lines and into the ring, walks end after a ring, tries are counted: a
//! lie yields wrong messages of that lane, wrong counts, or damage.

use crate::ring::{Damaged, Header, LINE, Record};
use crate::topic_layout::{Ring, Shape, lane};
use crate::topic_policy::{Policy, Start};
use shmem::View;
use shmem::sync::{Ordering, fence};

/// How many times who is being overtaken starts over, before it tries again at its next look.
const TRIES: u64 = if cfg!(loom) { 2 } else { 16 };
/// Most marks.
const MARKS: usize = 16;

/// A place in a lane: where a record begins, or will, and its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// Position of the record.
    pub position: u64,
    /// Its number among the messages of the lane, from 0.
    pub number: u64,
}

/// Where a lane ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Where the next message will be.
    pub tail: Point,
    /// Position of the last one that was walked over, if there was any.
    pub last: Option<u64>,
    /// The newest mark.
    pub marked: Option<u64>,
}

/// What a subscriber finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing yet.
    Nothing,
    /// What it wants next may be gone.
    Lapped,
    /// A record, which counts only when [`Head::verify`] says so after its use.
    Record(Record),
}

/// Why a record does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It may have been written over.
    Lapped,
    /// It is not what a publisher writes.
    Damaged,
}

/// A subscriber's end of a lane.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    shape: Shape,
    ring: Ring,
    lane: usize,
    /// Offset of the lane's CLAIMED.
    claimed: usize,
    /// Whether the publisher may lap it at all: who is waited for can't be, by [TOPIC_HOLD].
    may_be_lapped: bool,
    /// What it wants next is known to be gone.
    lapped: bool,
    /// What it wants next.
    next: Point,
}

impl Head {
    /// The end of a lane that begins at `start`, as far as that is still there. The publisher may
    /// lap it before the answer is used, above all if `attempt` is small.
    ///
    /// # Errors
    /// [`Unfit::Lapped`] is worth another attempt.
    pub fn seek(
        shape: Shape,
        view: &View,
        lane: usize,
        start: Start,
        attempt: u64,
    ) -> Result<Self, Unfit> {
        let next = seek(&shape, view, lane, start, attempt)?;
        let ring = shape.ring(lane);
        Ok(Self {
            shape,
            ring,
            lane,
            claimed: shape.at(lane, lane::CLAIMED),
            may_be_lapped: shape.policy() == Policy::Overrun,
            lapped: false,
            next,
        })
    }

    /// What it wants next.
    #[inline]
    pub fn point(&self) -> Point {
        self.next
    }

    /// Appends the next message to a buffer and goes behind it, if a whole and sound one is there,
    /// and answers its number. Everything else is for [`next`](Self::next) and
    /// [`verify`](Self::verify) to tell apart; what the buffer holds then is nonsense.
    #[inline(always)]
    pub fn recv(&mut self, view: &View, to: &mut Vec<u8>) -> Option<u64> {
        if self.lapped {
            return None;
        }
        let Ok(Header::Message(record)) = self.ring.header(view, self.next.position) else {
            return None;
        };
        let fits = view.append_to(record.offset, record.length, to);
        // The ring lies inside the region, and a record inside the ring.
        debug_assert!(fits.is_ok(), "{fits:?}");
        self.verify(view, &record).ok()?;
        let number = self.next.number;
        self.pass(&record);
        Some(number)
    }

    /// Whether something is at the next position. A publisher may write over it before the answer is
    /// used.
    #[inline(always)]
    pub fn has_next(&self, view: &View) -> bool {
        // Relaxed: who takes it looks again.
        view.load_u64(self.ring.at(self.next.position), Ordering::Relaxed) != 0
    }

    /// The next record. A publisher may write over it before the answer is used.
    #[inline]
    pub fn next(&self, view: &View) -> Result<Next, Damaged> {
        if self.lapped {
            return Ok(Next::Lapped);
        }
        match self.ring.record(view, self.next.position) {
            Ok(Some(record)) => Ok(Next::Record(record)),
            _ if self.is_lapped(view) => Ok(Next::Lapped),
            Ok(None) => Ok(Next::Nothing),
            Err(damaged) => Err(damaged),
        }
    }

    /// Says whether all that was read of the record, since [`next`](Self::next) answered it, is of
    /// the message that is next.
    #[inline(always)]
    pub fn verify(&self, view: &View, record: &Record) -> Result<(), Unfit> {
        let number = number_of(view, record);
        if self.is_lapped(view) {
            Err(Unfit::Lapped)
        } else if number != self.next.number {
            Err(Unfit::Damaged)
        } else {
            Ok(())
        }
    }

    /// Goes on behind a record that was found.
    #[inline]
    pub fn pass(&mut self, record: &Record) {
        // Word by word: it is loaded so.
        self.next.position = record.end;
        self.next.number = self.next.number.wrapping_add(1);
    }

    /// Goes to a point where others have taken it.
    pub fn go_to(&mut self, point: Point) {
        self.next = point;
    }

    /// Takes note that [`verify`](Self::verify) found it lapped.
    pub fn lap(&mut self) {
        self.lapped = true;
    }

    /// Goes on, after having been lapped, with the oldest message that will stay for a while, and
    /// answers how many were lost; `None` if the publisher is faster again.
    #[cold]
    pub fn resume(&mut self, view: &View) -> Option<u64> {
        for attempt in 0..TRIES {
            let margin = self.shape.capacity() / 4 + attempt * self.shape.step();
            let found = oldest(&self.shape, view, self.lane, margin);
            if let Some(found) = found {
                // A lie is no gain.
                let lost = found.number.saturating_sub(self.next.number);
                (self.next, self.lapped) = (found, false);
                return Some(lost);
            }
        }
        None
    }

    /// Whether nothing is next, as far as one can tell without taking it.
    pub fn is_empty(&self, view: &View) -> bool {
        matches!(self.next(view), Ok(Next::Nothing))
    }

    /// Whether the publisher may have written over what is next, whatever the policy.
    #[inline]
    pub fn is_beyond_reach(&self, view: &View) -> bool {
        is_gone(
            view,
            self.claimed,
            self.next.position,
            self.shape.capacity(),
        )
    }

    #[inline]
    fn is_lapped(&self, view: &View) -> bool {
        self.may_be_lapped && self.is_beyond_reach(view)
    }
}

/// The number of a record's message.
#[inline]
fn number_of(view: &View, record: &Record) -> u64 {
    // Relaxed: acquired with the header.
    view.load_u64(record.offset - 8, Ordering::Relaxed)
}

/// Whether what was read at a position, and behind it in the same record, may be from later.
fn is_lapped(shape: &Shape, view: &View, lane: usize, position: u64) -> bool {
    let claimed = shape.at(lane, lane::CLAIMED);
    is_gone(view, claimed, position, shape.capacity())
}

/// The same, where CLAIMED is at an offset.
#[inline(always)]
fn is_gone(view: &View, claimed: usize, position: u64, capacity: u64) -> bool {
    // [TOPIC_TEAR] acquire: what was read before the claim.
    fence(Ordering::Acquire);
    // [TOPIC_MARK] acquire.
    let claimed = view.load_u64(claimed, Ordering::Acquire);
    is_beyond(claimed, position, capacity)
}

/// Whether a publisher that claimed up to a position may have written over another one.
#[inline(always)]
pub fn is_beyond(claimed: u64, position: u64, capacity: u64) -> bool {
    claimed.wrapping_sub(position) > capacity
}

/// Positions of the marks that lie within a ring and `margin` of the claim, as it is now.
fn marks(shape: &Shape, view: &View, lane: usize, margin: u64) -> ([u64; MARKS], usize) {
    let (_, found, count) = claim_and_marks(shape, view, lane, margin);
    (found, count)
}

/// [`marks`], and the claim.
fn claim_and_marks(
    shape: &Shape,
    view: &View,
    lane: usize,
    margin: u64,
) -> (u64, [u64; MARKS], usize) {
    // [TOPIC_MARK] acquire.
    let claimed = view.load_u64(shape.at(lane, lane::CLAIMED), Ordering::Acquire);
    let (mut found, mut count) = ([0; MARKS], 0);
    for mark in 0..shape.marks().min(MARKS as u64) {
        // [TOPIC_MARK] acquire.
        let word = view.load_u64(shape.mark(lane, mark), Ordering::Acquire);
        let Some(position) = word.checked_sub(1) else {
            continue;
        };
        let position = position & !(LINE - 1);
        if claimed.wrapping_sub(position) <= shape.capacity().saturating_sub(margin) {
            found[count] = position;
            count += 1;
        }
    }
    found[..count].sort_unstable();
    (claimed, found, count)
}

/// Walks along the records from a position on, to the tail or to the first whose number is at
/// least `until`; also answers the position of the last record that it passed. What it walked over
/// is nonsense if the publisher has lapped `from` meanwhile; damage that is none for this reason is
/// not to be tried again, because a walk may be as long as the ring.
fn walk(
    shape: &Shape,
    view: &View,
    lane: usize,
    from: u64,
    until: Option<u64>,
) -> Result<(Point, Option<u64>), Unfit> {
    let found = walk_over(shape, view, lane, from, until);
    if is_lapped(shape, view, lane, from) {
        Err(Unfit::Lapped)
    } else {
        found.ok_or(Unfit::Damaged)
    }
}

fn walk_over(
    shape: &Shape,
    view: &View,
    lane: usize,
    from: u64,
    until: Option<u64>,
) -> Option<(Point, Option<u64>)> {
    let ring = shape.ring(lane);
    let (mut position, mut number, mut last) = (from, 0, None);
    // No more than a ring full of lines, whatever a hostile peer writes meanwhile.
    for _ in 0..=shape.capacity() / LINE {
        match ring.header(view, position).ok()? {
            Header::Nothing => return Some((Point { position, number }, last)),
            Header::Padding { end } => position = end,
            Header::Message(record) => {
                let this = number_of(view, &record);
                if until.is_some_and(|until| this >= until) {
                    let number = this;
                    return Some((Point { position, number }, last));
                }
                (number, last, position) = (this.wrapping_add(1), Some(position), record.end);
            }
        }
    }
    None
}

/// Where a lane ends.
///
/// # Errors
/// [`Unfit::Lapped`] if its publisher is faster, again and again.
pub fn end_of(shape: &Shape, view: &View, lane: usize) -> Result<End, Unfit> {
    for _ in 0..TRIES {
        let (claimed, marks, count) = claim_and_marks(shape, view, lane, 0);
        if claimed == 0 {
            // Nobody has written anything. To look there would have the kernel find memory for it.
            return Ok(End {
                tail: Point::default(),
                last: None,
                marked: None,
            });
        }
        let marked = marks[..count].last().copied();
        // A lane without marks has no more than one record.
        let from = marked.unwrap_or(0);
        // Not with wrapping: a peer's mark near the greatest number would be as if right before the first position.
        if claimed
            .checked_sub(from)
            .is_none_or(|behind| behind > shape.capacity())
        {
            continue;
        }
        match walk(shape, view, lane, from, None) {
            Ok((tail, last)) if marked.is_none() || last.is_some() => {
                return Ok(End { tail, last, marked });
            }
            Ok(_) | Err(Unfit::Lapped) => {}
            Err(Unfit::Damaged) => return Err(Unfit::Damaged),
        }
    }
    Err(Unfit::Lapped)
}

/// The oldest record with a mark that lies within a ring less `margin` of the claim, or the newest
/// one with a mark; `None` if there is none, or the publisher is faster.
fn oldest(shape: &Shape, view: &View, lane: usize, margin: u64) -> Option<Point> {
    let (safe, count) = marks(shape, view, lane, margin);
    let position = match safe[..count].first() {
        Some(position) => *position,
        None => {
            let (all, count) = marks(shape, view, lane, 0);
            *all[..count].last()?
        }
    };
    point_at(shape, view, lane, position)
}

/// The record at a mark.
fn point_at(shape: &Shape, view: &View, lane: usize, position: u64) -> Option<Point> {
    let Ok(Header::Message(record)) = shape.ring(lane).header(view, position) else {
        return None;
    };
    let number = number_of(view, &record);
    (!is_lapped(shape, view, lane, position)).then_some(Point { position, number })
}

fn seek(
    shape: &Shape,
    view: &View,
    lane: usize,
    start: Start,
    attempt: u64,
) -> Result<Point, Unfit> {
    let tail = end_of(shape, view, lane)?.tail;
    let until = match start {
        Start::Now => return Ok(tail),
        Start::Last(count) => tail.number.saturating_sub(count),
        Start::Oldest => 0,
    };
    if until == tail.number {
        return Ok(tail);
    }
    // The newest mark at or before it, or the oldest that there is.
    let (marks, count) = marks(shape, view, lane, attempt * shape.step());
    let points = marks[..count].iter();
    let mut points = points.filter_map(|position| point_at(shape, view, lane, *position));
    let mut from = match points.next() {
        Some(first) => first,
        // All in the first step of a new lane, or nothing stays.
        None if tail.number > 0 && tail.position <= shape.step() => Point::default(),
        None => return Ok(tail),
    };
    for point in points {
        if point.number <= until {
            from = point;
        }
    }
    let (found, _) = walk(shape, view, lane, from.position, Some(until))?;
    Ok(found)
}
