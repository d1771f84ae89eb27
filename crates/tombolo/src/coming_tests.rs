//! Messages that are copied out as they come: models of the two orderings, and what peers can lie about.

use super::*;
use crate::lane::{Filling, Marks};
use crate::ring::Header;

/// A lane's words, and its ring behind them.
const CAPACITY: u64 = if cfg!(loom) { 256 } else { 1 << 20 };
const RING: usize = lane::LAYOUT.size;
const MARKS: Marks = Marks {
    released: lane::RELEASED,
    finished: lane::PROGRESS,
};

struct Scene {
    region: Region,
    words: Words,
    ring: Ring,
}

impl Scene {
    fn new(region: &Region) -> Self {
        Self {
            region: region.clone(),
            words: Window::new(region, 0),
            ring: Ring::new(RING, CAPACITY).unwrap(),
        }
    }

    /// Announces a message of the length of this one, of which so much is written.
    fn write(&self, message: &[u8], written: usize) -> (Tail, Claim) {
        let mut tail = Tail::open(self.ring, &self.region, MARKS).unwrap();
        let claim = tail
            .claim(&self.region, message.len(), Filling::Copied)
            .unwrap();
        announce(&self.words, &tail, claim);
        copy_in(&self.region, &self.words, &tail, claim, &message[..written]);
        (tail, claim)
    }

    fn send(&self, message: &[u8]) {
        let (mut tail, claim) = self.write(message, message.len());
        tail.publish(claim);
    }

    fn published(&self) -> Option<Record> {
        match self.ring.header(&self.region, 0).unwrap() {
            Header::Message(record) => Some(record),
            _ => None,
        }
    }

    fn follow(&self, coming: &mut Coming, to: &mut Vec<u8>) {
        let is_published = || self.published().is_some();
        let Self {
            region,
            words,
            ring,
        } = self;
        coming.follow(region, words, ring, to, Patience::FOREVER, is_published);
    }

    fn complete(&self, coming: Coming, record: Record, to: &mut Vec<u8>) {
        coming.complete(&self.region, &self.words, &self.ring, record, to);
    }
}

#[cfg(loom)]
mod models {
    use super::*;
    use loom::thread;

    /// One thread does `produce`; the other receives the message, which must be this one, as it comes.
    fn arrives(expected: &'static [u8], produce: fn(&Scene)) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(move || {
            let region = Region::heap(RING + CAPACITY as usize);
            let scene = Scene::new(&region);
            open(&scene.words);
            let producer = thread::spawn(move || produce(&Scene::new(&region)));
            let then = Announced::now(&scene.words);
            let (mut to, mut coming) = (Vec::new(), None);
            let record = loop {
                if let Some(record) = scene.published() {
                    break record;
                }
                if coming.is_none() {
                    coming = then.since(&scene.words, &scene.ring);
                }
                if let Some(coming) = &mut coming {
                    scene.follow(coming, &mut to);
                }
                thread::yield_now();
            };
            match coming {
                Some(coming) => scene.complete(coming, record, &mut to),
                None => scene
                    .region
                    .append_to(record.offset, record.length, &mut to)
                    .unwrap(),
            }
            assert_eq!(to, expected);
            producer.join().unwrap();
        });
    }

    /// [LANE_COMING].
    #[test]
    fn what_comes_is_the_message() {
        arrives(&[7; 24], |scene| scene.send(&[7; 24]));
    }

    /// [LANE_OPENED]: the first producer dies in the middle of its message.
    #[test]
    fn what_a_dead_producer_began_is_no_part_of_another_message() {
        arrives(&[9; 24], |scene| {
            drop(scene.write(&[7; 24], 8));
            open(&scene.words);
            scene.send(&[9; 24]);
        });
    }
}

#[cfg(not(loom))]
mod plain {
    use super::*;

    fn scene() -> Scene {
        Scene::new(&Region::heap(RING + CAPACITY as usize))
    }

    fn message(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn what_is_written_is_copied_out_before_it_is_published() {
        let scene = scene();
        let message = message(3 * PIECE);
        let written = PIECE + 100;
        let then = Announced::now(&scene.words);
        assert!(then.since(&scene.words, &scene.ring).is_none());
        let (mut tail, claim) = scene.write(&message, written);
        let mut coming = then.since(&scene.words, &scene.ring).unwrap();
        let mut to = Vec::new();
        // It comes no further, and this is given up.
        scene.follow(&mut coming, &mut to);
        assert_eq!(to, message[..written]);
        // Nor is it waited for byte by byte, or longer than patience lasts.
        let word = scene.words.u64(lane::WRITTEN);
        word.store(word.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        scene.follow(&mut coming, &mut to);
        assert_eq!(to.len(), written);
        word.store(coming.start + 3 * PIECE as u64, Ordering::Relaxed);
        let Scene {
            region,
            words,
            ring,
        } = &scene;
        coming.follow(
            region,
            words,
            ring,
            &mut to,
            Patience::from(std::time::Duration::ZERO),
            || false,
        );
        assert_eq!(to.len(), written);
        copy_in(&scene.region, &scene.words, &tail, claim, &message);
        scene.follow(&mut coming, &mut to);
        assert_eq!(to, message);
        tail.publish(claim);
        scene.complete(coming, scene.published().unwrap(), &mut to);
        assert_eq!(to, message);
        // What was announced before is not followed.
        let now = Announced::now(&scene.words);
        assert!(now.since(&scene.words, &scene.ring).is_none());
    }

    #[test]
    fn what_a_dead_producer_began_is_no_part_of_another_message() {
        let scene = scene();
        let (first, second) = (vec![1; 2 * PIECE], vec![2; 2 * PIECE]);
        let then = Announced::now(&scene.words);
        drop(scene.write(&first, PIECE));
        let mut coming = then.since(&scene.words, &scene.ring).unwrap();
        let mut to = Vec::new();
        scene.follow(&mut coming, &mut to);
        assert_eq!(to, first[..PIECE]);
        open(&scene.words);
        scene.send(&second);
        scene.complete(coming, scene.published().unwrap(), &mut to);
        assert_eq!(to, second);
    }

    #[test]
    fn what_came_is_dropped_if_another_message_was_taken() {
        let scene = scene();
        let then = Announced::now(&scene.words);
        let (mut tail, claim) = scene.write(&[1; 2 * PIECE], 2 * PIECE);
        let mut coming = then.since(&scene.words, &scene.ring).unwrap();
        let mut to = Vec::new();
        scene.follow(&mut coming, &mut to);
        tail.publish(claim.part(10));
        scene.complete(coming, scene.published().unwrap(), &mut to);
        assert_eq!(to, [1; 10]);
    }

    #[test]
    fn who_follows_in_vain_does_it_less_often() {
        let mut pursuit = Pursuit::default();
        let mut until_due = || {
            let waits = (0..).take_while(|_| !pursuit.is_due()).count();
            pursuit.was(false);
            waits
        };
        let waits: Vec<_> = (0..8).map(|_| until_due()).collect();
        assert_eq!(waits, [0, 1, 3, 7, 15, 31, 63, 63]);
        pursuit.was(true);
        assert!(pursuit.is_due() && pursuit.is_due());
    }

    #[test]
    fn lies_stay_inside() {
        let scene = Scene::new(&Region::guarded(RING + CAPACITY as usize));
        let then = Announced::now(&scene.words);
        let lies = [
            0,
            1,
            8,
            CAPACITY / 2,
            CAPACITY - 1,
            CAPACITY,
            1 << 40,
            u64::MAX,
        ];
        for start in lies {
            for length in lies {
                for written in [start, start.wrapping_add(length), u64::MAX] {
                    let store = |word, value| {
                        scene.words.u64(word).store(value, Ordering::Relaxed);
                    };
                    store(lane::START, start);
                    store(lane::LENGTH, length);
                    store(lane::WRITTEN, written);
                    let Some(mut coming) = then.since(&scene.words, &scene.ring) else {
                        continue;
                    };
                    let mut to = Vec::new();
                    scene.follow(&mut coming, &mut to);
                    assert!(to.len() as u64 <= length.min(CAPACITY / 2));
                    // Whatever it was, the message that is taken is right.
                    let record = Record {
                        offset: RING + 64,
                        length: 100,
                        end: 164,
                    };
                    scene.complete(coming, record, &mut to);
                    assert_eq!(to, [0; 100]);
                }
            }
        }
    }
}
