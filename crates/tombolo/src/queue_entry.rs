//! Into the lanes of a `queue` and out again: what a consumer does to hold one, to keep it, to take it
//! over and to give it back. The protocol is told in `queue_taker`.

use crate::queue_hold::Hold;
use crate::queue_kept::Lane;
use crate::queue_layout::{lane, seat};
use crate::queue_taker::{Found, LOOK_AROUND, Taking, is_empty};
use crate::ring::WORD;
use shmem::sync::{AtomicU32, AtomicU64, Ordering};
use shmem::wait::{is_parked, layout as bell};
use shmem::{Region, barrier};

impl Taking {
    /// Into a lane that is kept, to hand out what lies before a position; false if it is kept no
    /// more.
    #[inline]
    pub(crate) fn go_in(&mut self, region: &Region, lane: usize, end: u64) -> bool {
        let mine = &self.lanes[lane];
        let is_in = mine.door.go_in(barrier::light, self.busy());
        if is_in {
            mine.hand_out(end);
        } else {
            self.go_out(region, lane);
        }
        is_in
    }

    /// Out of a lane that is kept, or was when this consumer went in.
    #[inline]
    pub(crate) fn go_out(&mut self, region: &Region, lane: usize) {
        if !self.lanes[lane].go_out(barrier::light, self.busy()) {
            self.go_out_slowly(region, lane);
        }
    }

    /// What is to be done now that this consumer is out.
    #[cold]
    pub(crate) fn go_out_slowly(&mut self, region: &Region, lane: usize) {
        let mine = &self.lanes[lane];
        let (progress, released) = (mine.progress, mine.released);
        if !mine.door.is_kept() {
            return self.give_up(region, lane);
        }
        if !self.is_time(region, lane, released, progress) {
            return;
        }
        // In again: only who holds the lane stores RELEASED.
        // Relaxed: ordered by the fence.
        self.busy().store(lane as u32 + 1, Ordering::Relaxed);
        // [QUEUE_KEEP]
        barrier::light();
        if self.lanes[lane].door.is_kept() {
            self.lanes[lane].released = progress;
            self.release(region, lane, progress);
        }
        // [QUEUE_TAKE] release.
        self.busy().store(0, Ordering::Release);
        // [QUEUE_KEEP]
        barrier::light();
        if !self.lanes[lane].door.is_kept() {
            self.give_up(region, lane);
        }
    }

    /// Frees a lane that is kept, or was, unless another has taken it.
    #[cold]
    pub(crate) fn give_up(&mut self, region: &Region, lane: usize) {
        self.end_run();
        self.lanes[lane].door.hold = Hold::default();
        (self.alone, self.look_around_in) = (false, LOOK_AROUND);
        let taker = self.taker(lane);
        // Relaxed: only the compare-exchange decides.
        let hold = Hold::from_word(taker.load(Ordering::Relaxed));
        if hold.seat() == Some(self.seat) {
            // [QUEUE_TAKE] release. Relaxed on failure: another has it.
            let freed = hold.freed().word();
            let _ =
                taker.compare_exchange(hold.word(), freed, Ordering::Release, Ordering::Relaxed);
        }
        self.ring(region, lane);
    }

    /// Gives all lanes back that it keeps.
    pub fn leave(&mut self, region: &Region) {
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].door.hold.is_kept() {
                self.give_up(region, lane);
            }
        }
    }

    pub(crate) fn take(
        &mut self,
        region: &Region,
        lane: usize,
        is_dead: &mut impl FnMut(u64) -> bool,
    ) -> Found {
        let taker = self.taker(lane);
        // Acquire: BUSY of who is named here is not older. Only the compare-exchange decides.
        let mut from = Hold::from_word(taker.load(Ordering::Acquire));
        // A lane that is mine by a lie, or by a taker that died after it unkept it, is free.
        let holder = from.seat().filter(|seat| *seat != self.seat);
        let dead = holder.is_some_and(|seat| self.is_gone(region, seat, is_dead));
        // Of the dead also an empty lane, for the room that it may have failed to give back.
        if !dead && is_empty(&self.shape, region, lane) {
            return None;
        }
        if let Some(seat) = holder.filter(|_| !dead) {
            from = self.take_from(region, lane, from, seat)?;
        }
        let hold = from.taken(self.seat, self.alone);
        // Relaxed: released with TAKER, so that who sees me there sees me busy.
        self.busy().store(lane as u32 + 1, Ordering::Relaxed);
        // [QUEUE_TAKE] acquire. Release: BUSY. Relaxed on failure: nothing is read then.
        let taken = taker.compare_exchange(
            from.word(),
            hold.word(),
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        if taken.is_err() {
            // Relaxed: nobody has looked for me there.
            self.busy().store(0, Ordering::Relaxed);
            return None;
        }
        self.begin(region, lane, hold, from.seat().is_some())
    }

    /// Whether the consumer in a seat is gone, or never was.
    fn is_gone(&self, region: &Region, seat: usize, is_dead: &mut impl FnMut(u64) -> bool) -> bool {
        let who = (seat < self.shape.seats()).then(|| self.shape.seat(seat).who(region));
        who.is_none_or(|who| who == 0 || is_dead(who))
    }

    /// Makes sure that a living consumer is not inside a lane, and won't go in unseen. Answers what
    /// TAKER must still be when it is taken.
    #[cold]
    fn take_from(&self, region: &Region, lane: usize, from: Hold, seat: usize) -> Option<Hold> {
        let taker = self.taker(lane);
        let busy = region.u32(self.shape.busy(seat));
        // Acquire: as below. A hint: who is inside and not a keeper frees TAKER on its way out.
        let inside = |busy: u32| busy == lane as u32 + 1;
        if !from.is_kept() {
            // Relaxed, both: if TAKER is the same still, its holder was not inside, or went out
            // without freeing it.
            let is_inside = inside(busy.load(Ordering::Relaxed));
            if is_inside || taker.load(Ordering::Relaxed) != from.word() {
                return None;
            }
        }
        let unkept = if from.is_kept() {
            // Relaxed: ordered by the fence.
            let unkept = from.unkept();
            taker
                .compare_exchange(
                    from.word(),
                    unkept.word(),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .ok()?;
            unkept
        } else {
            from
        };
        // [QUEUE_KEEP]
        if !barrier::heavy() {
            return None;
        }
        // [QUEUE_TAKE] acquire.
        (!inside(busy.load(Ordering::Acquire))).then_some(unkept)
    }

    /// The first receipt after the lane was taken.
    fn begin(&mut self, region: &Region, lane: usize, hold: Hold, taken_over: bool) -> Found {
        let Lane { door, ring, .. } = &self.lanes[lane];
        let words = &door.words;
        // Relaxed, all: only who holds the lane stores them.
        let load = |word| words.u64(word).load(Ordering::Relaxed);
        let progress = load(lane::PROGRESS) & !(WORD - 1);
        let before = load(lane::HAND);
        let in_hand = before.wrapping_sub(progress);
        // No more than a ring, and what was left out where it was begun again.
        let again = if in_hand <= 2 * self.shape.capacity() {
            before
        } else {
            progress
        };
        if taken_over {
            self.release(region, lane, progress);
        }
        let record = ring.record(region, progress);
        let Ok(Some(record)) = record else {
            self.free(lane, hold);
            self.ring(region, lane);
            return record.err().map(Err);
        };
        // Relaxed: as in `Lane::hand_out`.
        words
            .u64(lane::HAND)
            .store(record.end.max(again), Ordering::Relaxed);
        if hold.is_kept() {
            let released = load(lane::RELEASED);
            let mine = &mut self.lanes[lane];
            mine.door.hold = hold;
            mine.progress = progress;
            mine.released = released;
            mine.again = again;
        }
        self.hold(lane, record, again, hold);
        Some(Ok(()))
    }

    pub(crate) fn release(&self, region: &Region, lane: usize, end: u64) {
        let words = &self.lanes[lane].door.words;
        // [LANE_RELEASE] release.
        words.u64(lane::RELEASED).store(end, Ordering::Release);
        if is_parked(words.u32(lane::SPACE + bell::PARKED)) {
            self.shape.space(region, lane).ring_light(|| true);
        }
    }

    /// Frees a lane that is held and not kept, or not any more.
    pub(crate) fn free(&self, lane: usize, hold: Hold) {
        let taker = self.taker(lane);
        if hold.is_kept() {
            // [QUEUE_TAKE] release. It fails where it is unkept; then nobody is inside: free too.
            let freed = hold.freed().word();
            let order = (Ordering::Release, Ordering::Relaxed);
            if let Err(now) = taker.compare_exchange(hold.word(), freed, order.0, order.1) {
                let freed = Hold::from_word(now).freed().word();
                let _ = taker.compare_exchange(now, freed, order.0, order.1);
            }
        } else {
            // [QUEUE_TAKE] release. Nobody else changes it while I am busy.
            taker.store(hold.freed().word(), Ordering::Release);
        }
        // Release: who sees me out sees TAKER free.
        self.busy().store(0, Ordering::Release);
    }

    #[inline]
    pub(crate) fn taker(&self, lane: usize) -> &AtomicU64 {
        self.lanes[lane].door.words.u64(lane::TAKER)
    }

    #[inline]
    pub(crate) fn busy(&self) -> &AtomicU32 {
        self.seat_words.u32(seat::BUSY)
    }
}
