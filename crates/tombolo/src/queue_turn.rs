//! Which lane of a `queue` is next, and whose turn it is of the producers that are kept waiting.
//!
//! A consumer goes round the lanes and stays at each for a quota of messages. That alone does badly
//! where producers send more than it can receive, and worse the more they are: every lane is full,
//! every producer sleeps and is woken for a part of its lane only, perhaps in the consumer's place, and
//! every message lies in memory that no processor has touched lately.
//!
//! So producers that *wait*, parked until there is room, take turns. The lane whose turn it is is
//! served like those that do not wait; the others that wait are passed over, as long as there is
//! anything else. Its producer is woken when half of the lane is free, and from then on it writes and the
//! consumer reads what is still in the cache. The turn ends after [`TURN`] quotas, or when the lane is
//! empty, and goes to the next that waits. The one that had it is left alone until the next turn ends or
//! it waits again: otherwise two would be awake for one consumer.
//!
//! **Fairness.** Who does not wait is served in each round, after a quota of each of the others that are.
//! Who waits, after a turn of each of the others that wait; each of those had as much.
//!
//! **Crash, hostile bytes.** Whether a producer waits is a hint: what a dead one left makes its lane
//! wait for its turn, and so does a lie. When a consumer finds nothing elsewhere, it looks everywhere.
//!
//! **Cost.** One load for each lane that waits, once in a quota. Measured on two threads of one core,
//! all against one producer, 64 bytes: 8 producers 0.5 without turns and 0.9 with them, 64 producers
//! 0.17 and 0.7. A turn is several times what a lane holds: what was written
//! before it, while others had theirs, comes from memory. With turns an eighth as long, and lanes of a megabyte, 64
//! producers had 0.6. Its price is that of 64 who all send more than can be received each waits a quarter of a
//! second for its turn.

use crate::queue_layout::lane;
use crate::queue_taker::{Taking, is_empty};
use shmem::Region;
use shmem::sync::Ordering;
use shmem::wait::layout as bell;

/// How many quotas a turn has: about four milliseconds of short messages. Fewer where many turns are tested.
const TURN: u32 = if cfg!(loom) {
    1
} else if cfg!(test) {
    256
} else {
    2048
};

/// Whose turn it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    lane: usize,
    /// Whose it was before; the same if that one is not to be left alone.
    before: usize,
    /// Quotas that are left of it.
    left: u32,
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            lane: 0,
            before: 0,
            left: TURN,
        }
    }
}

impl Turn {
    /// Begins another lane's turn.
    pub(crate) fn pass_to(&mut self, lane: usize) {
        *self = Self {
            lane,
            before: self.lane,
            left: TURN,
        };
    }

    /// All lanes that are used, from the one behind it on.
    pub(crate) fn others(&self, used: usize) -> impl Iterator<Item = usize> + use<> {
        let next = (self.lane + 1).min(used);
        (next..used).chain(0..next)
    }
}

impl Taking {
    /// Whether the producer of a lane sleeps until there is room.
    #[inline]
    pub(crate) fn is_parked(&self, lane: usize) -> bool {
        let parked = self.lanes[lane].door.words.u32(lane::SPACE + bell::PARKED);
        // Relaxed: a hint.
        parked.load(Ordering::Relaxed) != 0
    }

    /// Whether a lane is to be passed over while there is anything else.
    #[inline]
    pub(crate) fn is_not_its_turn(&self, lane: usize) -> bool {
        lane != self.turn.lane && (lane == self.turn.before || self.is_parked(lane))
    }

    /// A quota has run out: passes the turn on to the next that waits, if it is over.
    pub(crate) fn count_turn(&mut self, region: &Region, used: usize) {
        self.turn.left = self.turn.left.saturating_sub(1);
        if self.turn.left > 0 && !is_empty(&self.shape, region, self.turn.lane) {
            return;
        }
        let mut others = self.turn.others(used);
        let next = others.find(|lane| self.is_parked(*lane));
        self.turn.pass_to(next.unwrap_or(self.turn.lane));
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::lane::Tail;
    use crate::queue_layout::Shape;
    use crate::queue_members::{take_lane, take_seat};
    use loom::thread;
    use shmem::wait::Patience;

    /// [BELL_PARK] of a lane that is passed over: its producer, which is woken for half a lane only,
    /// and a consumer that sleeps get all through. It is the other lane's turn, which is empty.
    #[test]
    fn nobody_is_passed_over_for_ever() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let (shape, length) = Shape::plan(2, 1, 256).unwrap();
            let region = Region::heap(length);
            let seat = take_seat(&shape, &region, 7, |_| false).unwrap();
            let mut taking = Taking::new(shape, &region, seat);
            let send = |tail: &mut Tail, region: &Region| tail.send(region, &[1; 8]).ok();
            let mut tails = [0, 3].map(|count| {
                let lane = take_lane(&shape, &region, 5, |_| false).unwrap();
                let marks = shape.marks(lane);
                let mut tail = Tail::open(shape.ring(lane), &region, marks).unwrap();
                (0..count).for_each(|_| send(&mut tail, &region).unwrap());
                tail
            });
            let other = {
                let region = region.clone();
                thread::spawn(move || {
                    let [_, full] = &mut tails;
                    let space = shape.space(&region, 1);
                    space.wait(Patience::FOREVER, |_| send(full, &region));
                    shape.data(&region).ring_light(|| true);
                })
            };
            // Mostly it has parked by now.
            thread::yield_now();
            for _ in 0..4 {
                let find = |_| taking.find(&region, |_| false);
                let found = shape.data(&region).wait(Patience::FOREVER, find);
                found.unwrap().unwrap();
                taking.finish(&region);
            }
            other.join().unwrap();
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::lane::Tail;
    use crate::queue_layout::{Shape, layout};
    use crate::queue_members::take_seat;
    use crate::queue_taker::QUOTA;

    const LANES: usize = 5;

    /// Producers that fill their lanes again and again, as far as they are not parked.
    struct Crowd {
        shape: Shape,
        region: Region,
        tails: Vec<Tail>,
        taking: Taking,
    }

    impl Crowd {
        fn new(capacity: usize) -> Self {
            let (shape, length) = Shape::plan(LANES, 1, capacity).unwrap();
            let region = Region::heap(length);
            let used = region.u32(layout::USED);
            used.store(LANES as u32, Ordering::Relaxed);
            let tail = |lane| Tail::open(shape.ring(lane), &region, shape.marks(lane)).unwrap();
            let tails = (0..LANES).map(tail).collect();
            let seat = take_seat(&shape, &region, 1, |_| false).unwrap();
            let mut taking = Taking::new(shape, &region, seat);
            taking.set_alone(true);
            Self {
                shape,
                region,
                tails,
                taking,
            }
        }

        fn parked(&self, lane: usize) -> &shmem::sync::AtomicU32 {
            let at = self.shape.at(lane, lane::SPACE) + bell::PARKED;
            self.region.u32(at)
        }

        /// One that is not parked sends until its lane is full, and parks. Answers how many it sent.
        fn fill(&mut self, lane: usize) -> u32 {
            let mut sent = 0;
            if self.parked(lane).load(Ordering::Relaxed) == 0 {
                while self.tails[lane].send(&self.region, &[7; 40]).is_ok() {
                    sent += 1;
                }
                self.parked(lane).store(1, Ordering::Relaxed);
            }
            sent
        }

        /// Of which lane the next message is.
        fn recv(&mut self) -> Option<usize> {
            self.taking.find(&self.region, |_| false)?.unwrap();
            let lane = self.taking.held().lane;
            self.taking.finish(&self.region);
            Some(lane)
        }
    }

    /// All send more than can be received: each has long turns, and as many messages as the others.
    #[test]
    fn who_waits_has_its_turn() {
        let mut crowd = Crowd::new(1 << 16);
        let (mut got, mut wakes, mut turns) = ([0u32; LANES], 0, 0);
        let mut last = 0;
        const ROUNDS: u32 = 10;
        for _ in 0..ROUNDS * LANES as u32 * TURN * QUOTA {
            for lane in 0..LANES {
                wakes += u32::from(crowd.fill(lane) > 0);
            }
            let lane = crowd.recv().unwrap();
            got[lane] += 1;
            turns += u32::from(lane != last);
            last = lane;
        }
        for got in got {
            let turns = f64::from(got) / f64::from(TURN * QUOTA);
            assert!((turns - f64::from(ROUNDS)).abs() < 2.0, "{turns}");
        }
        // A few more, for the one that had its turn fills its lane once more.
        assert!(turns < ROUNDS * LANES as u32 * 3, "{turns}");
        // Each for half of a lane.
        let half = (crowd.shape.capacity() / 2 / 64) as u32;
        let received: u32 = got.iter().sum();
        assert!(wakes < received / half + turns, "{wakes}");
    }

    /// Two lanes are always full, two get a message now and then, of which the producer does not wait.
    #[test]
    fn who_does_not_wait_is_not_kept_waiting() {
        let mut crowd = Crowd::new(1 << 14);
        for round in 0..1000 {
            for light in [1, 3] {
                crowd.tails[light].send(&crowd.region, &[1]).unwrap();
            }
            let mut owed = [1, 3].to_vec();
            for _ in 0..3 * QUOTA + round % 7 {
                crowd.fill(0);
                crowd.fill(4);
                let lane = crowd.recv().unwrap();
                owed.retain(|light| *light != lane);
            }
            assert_eq!(owed, [], "in round {round}");
        }
    }

    /// What a dead producer, or one that waited no longer, left as parked; and a lie.
    #[test]
    fn nothing_is_left_where_nobody_waits() {
        let mut crowd = Crowd::new(1 << 14);
        for lane in 0..LANES {
            crowd.tails[lane].send(&crowd.region, &[1]).unwrap();
            crowd.parked(lane).store(1, Ordering::Relaxed);
        }
        let mut got: Vec<_> = (0..LANES).map(|_| crowd.recv().unwrap()).collect();
        got.sort_unstable();
        assert_eq!(got, [0, 1, 2, 3, 4]);
        assert_eq!(crowd.recv(), None);
    }
}
