//! What stands where in a `topic`.

#[cfg(not(loom))]
use crate::channel;
use crate::participant::{PARTICIPANT_SIZE, Place, layout as participant};
use crate::ring::{LINE, LONG, RingOf};
use crate::topic_policy::Policy;
#[cfg(not(loom))]
use shmem::header::Kind;
#[cfg(not(loom))]
use shmem::open::Expected;
#[cfg(not(loom))]
use shmem::region::OutOfBounds;
use shmem::region::{Region, View};
use shmem::sync::Ordering;
use shmem::wait::{BELL_SIZE, Bell};

/// The channel's own part of the segment, behind the header.
pub mod layout {
    use super::BELL_SIZE;

    shmem::layout! {
        "topic", 384;
        LANES: 4 @ 256, "the initialiser", "how many lanes there are, and so publishers, 1 to 1024";
        SEATS: 4 @ 260, "the initialiser", "how many subscribers there may be that can write, 1 to 1024";
        CAPACITY: 8 @ 264, "the initialiser", "bytes of each lane's ring, a power of two from 256";
        POLICY: 4 @ 272, "the initialiser", "slow subscribers are waited for 1, overrun 2";
        DATA: (BELL_SIZE) @ 320, "subscribers register, publishers ring", "rung when there is a new message, and when a publisher leaves";
        CAME: 8 @ 328, "each publisher once, when it has its lane [TOPIC_CAME]", "how many publishers there ever were";
        USED: 4 @ 336, "each publisher once, before it has its lane", "lanes from this one on never had a publisher; subscribers need not look there";
        SEATED: 4 @ 340, "each subscriber once, before it holds anything [TOPIC_HOLD]", "seats from this one on were never taken; publishers need not look there";
    }
}

/// One lane's own words; its ring stands apart.
pub mod lane {
    use super::{BELL_SIZE, PARTICIPANT_SIZE};

    shmem::layout! {
        "topic lane", 256;
        OWNER: (PARTICIPANT_SIZE) @ 0, "the publisher [TOPIC_OWNER]", "who publishes; a dead one's if it died instead of leaving";
        SPACE: (BELL_SIZE) @ 16, "the publisher registers, subscribers ring", "rung when there is more room, where slow subscribers are waited for";
        SENT: 8 @ 24, "the publisher", "how many messages were published, as far as a publisher that died has told: for who looks from outside";
        TAIL: 8 @ 32, "the publisher", "position behind the last of them";
        CLAIMED: 8 @ 64, "the publisher, before it writes beyond [TOPIC_TEAR] [TOPIC_HOLD]", "position up to which the publisher may write: what lies more than a ring before it may be gone; what a dead one claimed stays claimed";
        MARKS: 128 @ 128, "the publisher, after the record [TOPIC_MARK]", "sixteen words: positions of beginnings of records + 1, one of each sixteenth of the ring; 0 for none yet";
    }
}

/// One seat in the table of subscribers; a cursor for each lane follows.
pub mod seat {
    use super::PARTICIPANT_SIZE;

    shmem::layout! {
        "topic seat", 64;
        SUBSCRIBER: (PARTICIPANT_SIZE) @ 0, "a subscriber", "who subscribes";
        LOST: 8 @ 16, "the subscriber", "how many messages it has lost, for who looks from outside";
        STARTED: 8 @ 24, "the subscriber, when it comes", "how many messages there were before those that it wants, of all lanes together";
        RECEIVED: 8 @ 32, "the subscriber, when it moves cursors", "how many messages it has received since";
    }
}

/// What a subscriber holds in one lane.
pub mod cursor {
    shmem::layout! {
        "topic cursor", 8;
        CURSOR: 8 @ 0, "the subscriber [TOPIC_HOLD] [TOPIC_RELEASE]; 0 by whoever clears a seat that it took", "position of the next message that it wants + 1; 0: it holds nothing";
    }
}

/// What stands before each message.
pub mod record {
    shmem::layout! {
        "topic record, with its padding", 16;
        HEADER: 8 @ 0, "the publisher [LANE_PUBLISH]", "0: nothing yet; otherwise bit 63 and the bytes of the message; bit 62: padding up to the ring's end, where a message is then; bit 60: the message begins on the next line and not right behind NUMBER";
        NUMBER: 8 @ 8, "the publisher, before HEADER", "number of the message, from 0; right before the message, so at the end of the line where bit 60 is set";
    }
}

/// Hash over everything above.
pub const LAYOUT_HASH: u64 = shmem::header::layout_hash(&[
    &layout::LAYOUT,
    &lane::LAYOUT,
    &seat::LAYOUT,
    &cursor::LAYOUT,
    &record::LAYOUT,
    &participant::LAYOUT,
]);

/// Bytes before each message: the header word, and the message's number.
pub const HEADER: u64 = record::LAYOUT.size as u64;
/// A lane's ring.
pub type Ring = RingOf<HEADER>;

const FIRST_SEAT: usize = layout::LAYOUT.size;
/// Most lanes, and most seats.
pub const MOST: usize = 1024;
/// Smallest ring, in bytes.
pub const SMALLEST: u64 = 256;
/// How many marks a lane has room for.
const MARKS: u64 = 16;

/// The shape of a topic: private copies of what was checked at opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    lanes: usize,
    seats: usize,
    capacity: u64,
    policy: Policy,
}

impl Shape {
    /// A topic of `lanes` rings of at least `capacity` bytes, with `seats` for subscribers, and how
    /// long a segment must be for it. `None` if no segment can be.
    pub fn plan(
        lanes: usize,
        seats: usize,
        capacity: usize,
        policy: Policy,
    ) -> Option<(Self, usize)> {
        let capacity = (capacity as u64).checked_next_power_of_two()?;
        let shape = Self {
            lanes,
            seats,
            capacity: capacity.max(SMALLEST),
            policy,
        };
        Some((shape, shape.bytes()?))
    }

    /// Bytes of the segment, `None` if the numbers can't be.
    fn bytes(&self) -> Option<usize> {
        let Self {
            lanes,
            seats,
            capacity,
            ..
        } = *self;
        let counts = (1..=MOST).contains(&lanes) && (1..=MOST).contains(&seats);
        if !counts || capacity < SMALLEST {
            return None;
        }
        Ring::new(0, capacity)?;
        let rings = usize::try_from(capacity).ok()?.checked_mul(lanes)?;
        let length = self.first_ring().checked_add(rings)?;
        (length <= isize::MAX as usize).then_some(length)
    }

    /// Bytes of a seat with its cursors.
    #[inline]
    fn row(&self) -> usize {
        let cursors = self.lanes * cursor::LAYOUT.size;
        seat::LAYOUT.size + cursors.next_multiple_of(LINE as usize)
    }

    #[inline]
    fn first_lane(&self) -> usize {
        FIRST_SEAT + self.seats * self.row()
    }

    /// Where the first ring begins, and what is not messages ends.
    pub fn first_ring(&self) -> usize {
        self.first_lane() + self.lanes * lane::LAYOUT.size
    }

    /// How many lanes there are.
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// How many seats there are for subscribers.
    pub fn seats(&self) -> usize {
        self.seats
    }

    /// Bytes of each lane's ring.
    #[inline]
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// What is done about slow subscribers.
    #[inline]
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Longest message, in bytes: a quarter of a ring, so that while one is written at least one
    /// can be read.
    pub fn longest(&self) -> usize {
        let quarter = (self.capacity / 4) as usize;
        match quarter - HEADER as usize {
            // It has a line of its own, and its header one too.
            LONG.. => quarter - LINE as usize,
            short => short,
        }
    }

    /// Bytes of the part of a ring that has one mark, and that a publisher claims at a time.
    #[inline]
    pub fn step(&self) -> u64 {
        (self.capacity / MARKS).max(LINE)
    }

    /// How many marks are in use.
    #[inline]
    pub fn marks(&self) -> u64 {
        self.capacity / self.step()
    }

    /// Offset of a word of a lane, one of [`lane`]'s.
    #[inline]
    pub fn at(&self, lane: usize, word: usize) -> usize {
        self.first_lane() + lane * lane::LAYOUT.size + word
    }

    /// Offset of a mark of a lane, below [`marks`](Self::marks).
    #[inline]
    pub fn mark(&self, lane: usize, mark: u64) -> usize {
        self.at(lane, lane::MARKS) + mark as usize * 8
    }

    /// Offset of a seat.
    #[inline]
    pub fn seat_at(&self, seat: usize) -> usize {
        FIRST_SEAT + seat * self.row()
    }

    /// The seat of a subscriber.
    #[inline]
    pub fn seat(&self, seat: usize) -> Place {
        Place(self.seat_at(seat) + seat::SUBSCRIBER)
    }

    /// Offset of a subscriber's cursor in a lane.
    #[inline]
    pub fn cursor(&self, seat: usize, lane: usize) -> usize {
        self.seat_at(seat) + seat::LAYOUT.size + lane * cursor::LAYOUT.size
    }

    /// The place of a lane's publisher.
    #[inline]
    pub fn owner(&self, lane: usize) -> Place {
        Place(self.at(lane, lane::OWNER))
    }

    /// The ring of a lane.
    #[inline]
    pub fn ring(&self, lane: usize) -> Ring {
        let offset = self.first_ring() + lane * self.capacity as usize;
        Ring::new(offset, self.capacity).expect("a power of two, at a multiple of lines")
    }

    /// How many lanes may have messages: a peer may begin to use another before the answer is used.
    #[inline]
    pub fn used(&self, view: &View) -> usize {
        // Relaxed: who sees no publisher in a lane sees none of its messages; the bell orders it.
        (view.load_u32(layout::USED, Ordering::Relaxed) as usize).min(self.lanes)
    }

    /// The bell for who waits for messages.
    #[inline]
    pub fn data<'a>(&self, region: &'a Region) -> Bell<'a> {
        Bell::light(region, layout::DATA)
    }

    /// The bell for who waits for room in a lane.
    #[inline]
    pub fn space<'a>(&self, region: &'a Region, lane: usize) -> Bell<'a> {
        Bell::light(region, self.at(lane, lane::SPACE))
    }
}

#[cfg(not(loom))]
impl channel::Shape for Shape {
    const EXPECTED: Expected = Expected {
        kind: Kind::Topic,
        layout_hash: LAYOUT_HASH,
        may_discard: |_| true,
    };

    fn length(&self) -> Option<usize> {
        self.bytes()
    }

    fn format(&self, region: &Region) -> Result<(), OutOfBounds> {
        region.copy_in(layout::LANES, &(self.lanes as u32).to_ne_bytes())?;
        region.copy_in(layout::SEATS, &(self.seats as u32).to_ne_bytes())?;
        region.copy_in(layout::CAPACITY, &self.capacity.to_ne_bytes())?;
        region.copy_in(layout::POLICY, &(self.policy as u32).to_ne_bytes())
    }

    fn read(view: &View) -> Option<Self> {
        let word = |at| {
            let mut bytes = [0; 4];
            view.copy_out(at, &mut bytes).ok()?;
            Some(u32::from_ne_bytes(bytes))
        };
        let mut capacity = [0; 8];
        view.copy_out(layout::CAPACITY, &mut capacity).ok()?;
        let shape = Self {
            lanes: word(layout::LANES)? as usize,
            seats: word(layout::SEATS)? as usize,
            capacity: u64::from_ne_bytes(capacity),
            policy: Policy::from_number(word(layout::POLICY)?)?,
        };
        shape.bytes().map(|_| shape)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use channel::Shape as _;

    #[test]
    fn a_shape_is_read_as_it_was_written() {
        let shapes = [
            (1, 1, 0, Policy::Overrun),
            (3, 9, 300, Policy::WaitForSlowest),
            (64, 64, 4096, Policy::Overrun),
        ];
        for (lanes, seats, capacity, policy) in shapes {
            let (shape, length) = Shape::plan(lanes, seats, capacity, policy).unwrap();
            let region = Region::heap(length);
            shape.format(&region).unwrap();
            assert_eq!(Shape::open(&region), Some(shape));
            assert_eq!(Shape::open(&Region::heap(length - 1)), None);
            assert!(shape.cursor(seats - 1, lanes - 1) < shape.at(0, 0));
            assert!(shape.mark(0, shape.marks() - 1) < shape.at(1, 0));
            assert_eq!(
                shape.first_ring() as u64 + shape.capacity() * lanes as u64,
                length as u64
            );
        }
        assert_eq!(Shape::plan(0, 1, 256, Policy::Overrun), None);
        assert_eq!(Shape::plan(1, MOST + 1, 256, Policy::Overrun), None);
        assert_eq!(Shape::plan(1, 1, usize::MAX, Policy::Overrun), None);
    }

    #[test]
    fn the_longest_record_is_no_more_than_a_quarter_of_its_ring() {
        for capacity in (8..20).map(|power| 1 << power) {
            let (shape, _) = Shape::plan(1, 1, capacity, Policy::Overrun).unwrap();
            let size = |length| Ring::size(0, Ring::flags(length), length);
            let (longest, quarter) = (shape.longest(), shape.capacity() / 4);
            assert_eq!(size(longest), quarter, "{capacity}");
            assert!(size(longest + 1) > quarter, "{capacity}");
        }
    }

    #[test]
    fn a_hostile_shape_is_none() {
        let (shape, length) = Shape::plan(2, 2, 256, Policy::Overrun).unwrap();
        for (at, bytes) in [
            (layout::LANES, 4),
            (layout::SEATS, 4),
            (layout::CAPACITY, 8),
            (layout::POLICY, 4),
        ] {
            for word in [0, 511, 1 << 20, u64::MAX] {
                let region = Region::heap(length);
                shape.format(&region).unwrap();
                region.copy_in(at, &word.to_ne_bytes()[..bytes]).unwrap();
                assert_eq!(Shape::open(&region), None, "{word} at {at}");
            }
        }
    }
}
