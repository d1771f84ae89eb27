//! What stands where in a `queue`.

#[cfg(not(loom))]
use crate::channel;
use crate::lane::Marks;
use crate::participant::{PARTICIPANT_SIZE, Place, layout as participant};
#[cfg(not(loom))]
use crate::queue_taker::is_empty;
use crate::ring::Ring;
#[cfg(not(loom))]
use shmem::header::Kind;
#[cfg(not(loom))]
use shmem::open::Expected;
#[cfg(not(loom))]
use shmem::region::OutOfBounds;
use shmem::region::{Region, View};
use shmem::sync::{AtomicU32, Ordering};
use shmem::wait::{BELL_SIZE, Bell, layout as bell};

/// The channel's own part of the segment, behind the header.
pub mod layout {
    use super::BELL_SIZE;

    shmem::layout! {
        "queue", 384;
        LANES: 4 @ 256, "the initialiser", "how many lanes there are, and so producers, 1 to 1024";
        CONSUMERS: 4 @ 260, "the initialiser", "how many consumers there may be, 1 to 1024";
        CAPACITY: 8 @ 264, "the initialiser", "bytes of each lane's ring, a power of two from 256";
        DATA: (BELL_SIZE) @ 320, "consumers register, producers ring", "rung when there is a new message, when a long one is announced to one that would copy it out as it comes, when a lane is free again, and when a producer leaves";
        HUNG: 8 @ 328, "the last consumer to leave in good order [QUEUE_HUNG]", "what ATTENDED was then; nobody consumes while they are equal and not 0";
        ATTENDED: 8 @ 336, "each consumer once, when it has its seat [QUEUE_HUNG]", "how many consumers there ever were";
        PRODUCED: 8 @ 344, "each producer once, when it has its lane [QUEUE_CAME]", "how many producers there ever were";
        USED: 4 @ 352, "each producer once, before it has its lane", "lanes from this one on never had a producer; consumers need not look there";
    }
}

/// One lane's own words; its ring stands apart.
pub mod lane {
    use super::{BELL_SIZE, PARTICIPANT_SIZE};

    shmem::layout! {
        "queue lane", 256;
        OWNER: (PARTICIPANT_SIZE) @ 0, "the producer [QUEUE_OWNER]", "who produces; a dead one's if it died instead of leaving";
        SENT: 8 @ 16, "the producer", "how many messages were published, as far as a producer that died has told: for who looks from outside";
        TAIL: 8 @ 24, "the producer", "position behind the last of them";
        BEGUN: 8 @ 32, "the producer", "position at which it began the ring again last, 0 if it never did: for who looks from outside";
        LEFT: 8 @ 40, "the producer", "position that was its tail then: between the two there is no message";
        TAKER: 8 @ 64, "consumers [QUEUE_TAKE] [QUEUE_KEEP]", "who takes messages now, see `queue_hold`";
        PROGRESS: 8 @ 72, "who holds the lane [LANE_RELEASE]", "position up to which messages are finished";
        HAND: 8 @ 80, "who holds the lane, before it hands out", "position behind what was handed out last: what lies between PROGRESS and it, a dead holder may have seen";
        RECEIVED: 8 @ 88, "who holds the lane", "how many messages were finished: for who looks from outside";
        RELEASED: 8 @ 128, "who holds the lane [LANE_RELEASE]", "position up to which the producer may write again, PROGRESS or less: stored in quarters of the ring, and when the producer sleeps";
        SPACE: (BELL_SIZE) @ 136, "the producer registers, consumers ring", "rung when there is more room";
        AWAITED: 4 @ 144, "a consumer that goes to sleep, and that wakes", "1 if it would copy out a long message as it comes; means nothing if it is dead";
        START: 8 @ 192, "the producer [LANE_COMING]", "position of the first byte of the long message that it copies in, or copied in last; 0 if there is none";
        LENGTH: 8 @ 200, "the producer", "bytes of that message";
        WRITTEN: 8 @ 208, "the producer [LANE_COMING]", "position up to which it is written";
        OPENED: 8 @ 216, "each producer once, when it has the lane [LANE_OPENED]", "how many producers had the lane";
    }
}

/// What stands before each message.
pub mod record {
    shmem::layout! {
        "queue record, packed", 8;
        HEADER: 8 @ 0, "the producer [LANE_PUBLISH]", "0: nothing yet; otherwise bit 63 and the bytes of the message; bit 62: padding, up to a message; bit 60: the message begins on the next line and not right behind. The next record begins at the next multiple of eight bytes behind the message";
    }
}

/// One seat in the table of consumers.
pub mod seat {
    use super::PARTICIPANT_SIZE;

    shmem::layout! {
        "queue seat", 64;
        CONSUMER: (PARTICIPANT_SIZE) @ 0, "a consumer [QUEUE_HUNG]", "who consumes";
        BUSY: 4 @ 16, "the consumer [QUEUE_KEEP]", "number of the lane that it is inside, and 1; 0 if none; a dead one's until the seat is taken again";
    }
}

/// Hash over everything above.
pub const LAYOUT_HASH: u64 = shmem::header::layout_hash(&[
    &layout::LAYOUT,
    &lane::LAYOUT,
    &seat::LAYOUT,
    &record::LAYOUT,
    &participant::LAYOUT,
]);

const SEATS: usize = layout::LAYOUT.size;
const LINE: usize = 64;
/// Most lanes, and most seats.
pub const MOST: usize = 1024;
/// Smallest ring, in bytes.
pub const SMALLEST: u64 = 256;

/// The shape of a queue: private copies of what was checked at opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    lanes: usize,
    seats: usize,
    capacity: u64,
    /// Offsets of the first lane and the first ring.
    first_lane: usize,
    first_ring: usize,
}

impl Shape {
    fn new(lanes: usize, seats: usize, capacity: u64) -> Option<Self> {
        let counts = (1..=MOST).contains(&lanes) && (1..=MOST).contains(&seats);
        if !counts || capacity < SMALLEST {
            return None;
        }
        Ring::new(0, capacity)?;
        let first_lane = (SEATS + seats * seat::LAYOUT.size).next_multiple_of(LINE);
        let first_ring = first_lane + lanes * lane::LAYOUT.size;
        Some(Self {
            lanes,
            seats,
            capacity,
            first_lane,
            first_ring,
        })
    }

    /// A queue of `lanes` rings of at least `capacity` bytes, with `seats` for consumers, and how
    /// long a segment must be for it. `None` if no segment can be.
    pub fn plan(lanes: usize, seats: usize, capacity: usize) -> Option<(Self, usize)> {
        let capacity = (capacity as u64).checked_next_power_of_two()?.max(SMALLEST);
        let shape = Self::new(lanes, seats, capacity)?;
        Some((shape, shape.bytes()?))
    }

    /// Bytes of the segment, `None` if the numbers can't be.
    fn bytes(&self) -> Option<usize> {
        let rings = usize::try_from(self.capacity)
            .ok()?
            .checked_mul(self.lanes)?;
        let length = self.first_ring.checked_add(rings)?;
        (length <= isize::MAX as usize).then_some(length)
    }

    /// Where the first ring begins, and what is not messages ends.
    pub fn first_ring(&self) -> usize {
        self.first_ring
    }

    /// How many lanes there are.
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// How many seats there are for consumers.
    pub fn seats(&self) -> usize {
        self.seats
    }

    /// Bytes of each lane's ring.
    #[inline]
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Offset of a word of a lane, one of [`lane`]'s.
    #[inline]
    pub fn at(&self, lane: usize, word: usize) -> usize {
        self.first_lane + lane * lane::LAYOUT.size + word
    }

    /// The seat of a consumer.
    #[inline]
    pub fn seat(&self, seat: usize) -> Place {
        Place(SEATS + seat * seat::LAYOUT.size + seat::CONSUMER)
    }

    /// Offset of a seat's BUSY.
    #[inline]
    pub fn busy(&self, seat: usize) -> usize {
        SEATS + seat * seat::LAYOUT.size + seat::BUSY
    }

    /// The place of a lane's producer.
    #[inline]
    pub fn owner(&self, lane: usize) -> Place {
        Place(self.at(lane, lane::OWNER))
    }

    /// The ring of a lane.
    #[inline]
    pub fn ring(&self, lane: usize) -> Ring {
        let offset = self.first_ring + lane * self.capacity as usize;
        Ring::new(offset, self.capacity).expect("a power of two, at a multiple of lines")
    }

    /// Where a lane's consumers tell how far they are.
    pub fn marks(&self, lane: usize) -> Marks {
        Marks {
            released: self.at(lane, lane::RELEASED),
            finished: self.at(lane, lane::PROGRESS),
        }
    }

    /// How many lanes may have messages: a peer may begin to use another before the answer is used.
    #[inline]
    pub fn used(&self, view: &View) -> usize {
        // Relaxed: who sees no producer in a lane sees none of its messages; the bell orders it.
        (view.load_u32(layout::USED, Ordering::Relaxed) as usize).min(self.lanes)
    }

    /// The bell for who waits for messages.
    #[inline]
    pub fn data<'a>(&self, region: &'a Region) -> Bell<'a> {
        Bell::light(region, layout::DATA)
    }

    /// Whether somebody may be parked on that bell.
    #[inline]
    pub fn data_parked<'a>(&self, region: &'a Region) -> &'a AtomicU32 {
        region.u32(layout::DATA + bell::PARKED)
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
        kind: Kind::Queue,
        layout_hash: LAYOUT_HASH,
        may_discard: |view| {
            // Only lanes that had a producer: a look at the ring of another brings memory into being.
            let holds =
                |shape: Self| (0..shape.used(view)).any(|lane| !is_empty(&shape, view, lane));
            !channel::Shape::open(view).is_some_and(holds)
        },
    };

    fn length(&self) -> Option<usize> {
        self.bytes()
    }

    fn format(&self, region: &Region) -> Result<(), OutOfBounds> {
        region.copy_in(layout::LANES, &(self.lanes as u32).to_ne_bytes())?;
        region.copy_in(layout::CONSUMERS, &(self.seats as u32).to_ne_bytes())?;
        region.copy_in(layout::CAPACITY, &self.capacity.to_ne_bytes())
    }

    fn read(view: &View) -> Option<Self> {
        let count = |at| {
            let mut bytes = [0; 4];
            view.copy_out(at, &mut bytes).ok()?;
            usize::try_from(u32::from_ne_bytes(bytes)).ok()
        };
        let mut capacity = [0; 8];
        view.copy_out(layout::CAPACITY, &mut capacity).ok()?;
        let (lanes, seats) = (count(layout::LANES)?, count(layout::CONSUMERS)?);
        let capacity = u64::from_ne_bytes(capacity);
        let shape = Self::new(lanes, seats, capacity)?;
        shape.bytes().map(|_| shape)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use channel::Shape as _;

    #[test]
    fn a_shape_is_read_as_it_was_written() {
        for (lanes, seats, capacity) in [(1, 1, 0), (3, 9, 300), (64, 64, 4096)] {
            let (shape, length) = Shape::plan(lanes, seats, capacity).unwrap();
            let region = Region::heap(length);
            shape.format(&region).unwrap();
            assert_eq!(Shape::open(&region), Some(shape));
            assert_eq!(Shape::open(&Region::heap(length - 1)), None);
            let end = shape.ring(lanes - 1).longest() as u64 + shape.capacity() / 2;
            assert!(shape.first_ring as u64 + end <= length as u64);
        }
        assert_eq!(Shape::plan(0, 1, 256), None);
        assert_eq!(Shape::plan(1, MOST + 1, 256), None);
        assert_eq!(Shape::plan(1, 1, usize::MAX), None);
    }

    #[test]
    fn a_hostile_shape_is_none() {
        let (shape, length) = Shape::plan(2, 2, 256).unwrap();
        for (at, bytes) in [
            (layout::LANES, 4),
            (layout::CONSUMERS, 4),
            (layout::CAPACITY, 8),
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
