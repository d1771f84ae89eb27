//! What stands where in a `service`.

#[cfg(not(loom))]
use crate::channel;
use crate::participant::{PARTICIPANT_SIZE, Place, layout as participant};
#[cfg(not(loom))]
use shmem::header::Kind;
use shmem::layout::fnv;
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
        "service", 384;
        CALLS: 4 @ 256, "the initialiser", "how many slots for calls there are, 1 to 4096";
        SERVERS: 4 @ 260, "the initialiser", "how many servers there may be, 1 to 1024";
        REQUEST: 4 @ 264, "the initialiser", "longest request, in bytes";
        REPLY: 4 @ 268, "the initialiser", "longest reply, in bytes";
        DOOR: (BELL_SIZE) @ 320, "servers register, clients ring", "rung when there is a new request, and when one can be taken again";
        ATTENDED: 8 @ 328, "each server once, when it has its seat [SERVICE_GONE]", "how many servers there ever were";
        USED: 4 @ 336, "each client, before it has a slot", "slots from this one on never had a client; servers need not look there";
    }
}

/// One slot's own words; its messages stand apart.
pub mod slot {
    use super::{BELL_SIZE, PARTICIPANT_SIZE};

    shmem::layout! {
        "service slot", 128;
        OWNER: (PARTICIPANT_SIZE) @ 0, "the client", "who calls; a dead one's if it died instead of leaving";
        ANSWERED: (BELL_SIZE) @ 16, "the client registers, servers ring", "rung when there is a reply, and when a server leaves";
        TAKER: 8 @ 64, "a server, or the client that takes its call back, by compare-exchange from 0 or from a dead one; 0 by itself when it is done [SERVICE_TAKE]", "identity of the process that has the slot's call in hand, or waits for the next one; 0 if there is none";
        TAKEN: 8 @ 72, "the taker [SERVICE_TAKEN]", "number of the last call that was taken, by a server or back";
        PULSE: 4 @ 80, "a server, when it has taken", "where the pulse of the taker's process is, 0 if it has none";
    }
}

/// What stands before a request.
pub mod request {
    shmem::layout! {
        "service request", 16;
        NUMBER: 8 @ 0, "the client, last [SERVICE_ASK]", "number of the slot's last call; numbers of a slot never repeat";
        EXTENT: 8 @ 8, "the client", "low half: bytes of the request; high half: where in the room behind these words it begins, in bytes";
    }
}

/// What stands before a reply.
pub mod reply {
    shmem::layout! {
        "service reply", 16;
        NUMBER: 8 @ 0, "the taker, last [SERVICE_ANSWER]", "number of the call that this is the reply to";
        LENGTH: 4 @ 8, "the taker", "bytes of the reply";
        END: 4 @ 12, "the taker", "low byte: a reply 1, an error 2, none: let go 3, the request was damaged 4; above: where in the room behind these words the reply begins, in units of 128 bytes";
    }
}

/// One seat in the table of servers.
pub mod seat {
    use super::PARTICIPANT_SIZE;

    shmem::layout! {
        "service seat", 64;
        SERVER: (PARTICIPANT_SIZE) @ 0, "a server", "who serves";
    }
}

/// Hash over everything above, and over how long rooms are.
pub const LAYOUT_HASH: u64 = {
    let mut hash = shmem::header::layout_hash(&[
        &layout::LAYOUT,
        &slot::LAYOUT,
        &request::LAYOUT,
        &reply::LAYOUT,
        &seat::LAYOUT,
        &participant::LAYOUT,
    ]);
    hash = fnv(hash, &(PAIR as u64).to_le_bytes());
    let lengths = [GOES_ROUND - 1, GOES_ROUND, GOES_ROUND + 1, ROUND, ROUND + 1];
    let mut i = 0;
    while i < lengths.len() {
        hash = fnv(hash, &(room_length(lengths[i]) as u64).to_le_bytes());
        i += 1;
    }
    hash
};

const SEATS: usize = layout::LAYOUT.size;
/// Two cache lines: processors fetch them in pairs.
pub(crate) const PAIR: usize = 128;
/// Most slots for calls.
pub const MOST_CALLS: usize = 4096;
/// Most servers.
pub const MOST_SERVERS: usize = 1024;
/// Longest message, in bytes.
pub const LONGEST: usize = 1 << 30;

/// Shortest message that goes round, in bytes: what is shorter stays in one place. One of 1 KiB gained nothing.
const GOES_ROUND: usize = 4096;
/// How much memory they go round in, in bytes, if it is not more for two. The kernel provides what is used, and
/// this is once or twice what a processor keeps in its second-level cache.
pub(crate) const ROUND: usize = 1 << 20;

/// Bytes of the room for messages of up to `longest` bytes: for two of the longest (measured:
/// 1 MiB there and back in 26 µs one way instead of 29), unless those are longer than what was measured.
const fn room_length(longest: usize) -> usize {
    if longest < GOES_ROUND || longest > ROUND {
        longest
    } else {
        2 * longest.next_multiple_of(PAIR)
    }
}

/// Where in a room a message begins that is written in place, a multiple of [`PAIR`]: each call another
/// place than the one before, if there is room for several messages of this length. What was written last
/// is in the cache of the processor that has read it, and to take it away from there is dear.
#[inline]
fn place(room: usize, number: u64, length: usize) -> usize {
    if !(GOES_ROUND..=ROUND).contains(&length) {
        return 0;
    }
    let stride = length.next_multiple_of(PAIR);
    let round = room.min(ROUND.max(2 * stride));
    let places = (round / stride).max(1);
    (number % places as u64) as usize * stride
}

/// Whether a message is inside a room.
#[inline]
fn is_inside(offset: usize, length: usize, room: usize) -> bool {
    offset <= room && length <= room - offset
}

/// The shape of a service: private copies of what was checked at opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    calls: usize,
    servers: usize,
    request: usize,
    reply: usize,
    // Follow from the others: where slots and messages begin, how far a reply is behind its request,
    // and a slot's messages behind those of the one before.
    slots: usize,
    messages: usize,
    request_room: usize,
    both_rooms: usize,
}

impl Shape {
    /// A service with so many slots for calls and seats for servers, for requests and replies of
    /// so many bytes, and how long a segment must be for it. `None` if no segment can be.
    pub fn plan(
        calls: usize,
        servers: usize,
        request: usize,
        reply: usize,
    ) -> Option<(Self, usize)> {
        let shape = Self::shaped(calls, servers, request, reply)?;
        Some((shape, shape.bytes()?))
    }

    /// `None` if the numbers can't be.
    fn shaped(calls: usize, servers: usize, request: usize, reply: usize) -> Option<Self> {
        let counts = (1..=MOST_CALLS).contains(&calls) && (1..=MOST_SERVERS).contains(&servers);
        if !counts || request > LONGEST || reply > LONGEST {
            return None;
        }
        let slots = (SEATS + servers * seat::LAYOUT.size).next_multiple_of(PAIR);
        let request_room = (request::LAYOUT.size + room_length(request)).next_multiple_of(PAIR);
        let reply_room = (reply::LAYOUT.size + room_length(reply)).next_multiple_of(PAIR);
        Some(Self {
            calls,
            servers,
            request,
            reply,
            slots,
            messages: slots + calls * slot::LAYOUT.size,
            request_room,
            both_rooms: request_room.checked_add(reply_room)?,
        })
    }

    /// Bytes of the segment, `None` if it would be too long.
    fn bytes(&self) -> Option<usize> {
        let messages = self.both_rooms.checked_mul(self.calls)?;
        let length = messages.checked_add(self.messages)?;
        (length <= isize::MAX as usize).then_some(length)
    }

    /// Where the messages of the first slot begin.
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// How many slots for calls there are.
    pub fn calls(&self) -> usize {
        self.calls
    }

    /// How many servers there may be.
    pub fn servers(&self) -> usize {
        self.servers
    }

    /// Longest request, in bytes.
    #[inline]
    pub fn longest_request(&self) -> usize {
        self.request
    }

    /// Longest reply, in bytes.
    #[inline]
    pub fn longest_reply(&self) -> usize {
        self.reply
    }

    /// The seat of a server.
    #[inline]
    pub fn seat(&self, seat: usize) -> Place {
        Place(SEATS + seat * seat::LAYOUT.size + seat::SERVER)
    }

    /// Offset of a word of a slot, one of [`slot`]'s.
    #[inline]
    pub fn at(&self, slot: usize, word: usize) -> usize {
        self.slots + slot * slot::LAYOUT.size + word
    }

    /// The place of a slot's client.
    #[inline]
    pub fn owner(&self, slot: usize) -> Place {
        Place(self.at(slot, slot::OWNER))
    }

    /// Offset of a slot's request, its header first.
    #[inline]
    pub fn request(&self, slot: usize) -> usize {
        self.messages + slot * self.both_rooms
    }

    /// Offset of a slot's reply, its header first.
    #[inline]
    pub fn reply(&self, slot: usize) -> usize {
        self.request(slot) + self.request_room
    }

    #[inline]
    fn room_for_requests(&self) -> usize {
        self.request_room - request::LAYOUT.size
    }

    #[inline]
    fn room_for_replies(&self) -> usize {
        self.both_rooms - self.request_room - reply::LAYOUT.size
    }

    /// Whether a request of `length` bytes may begin at `offset` in its room. Both may come from a peer.
    #[inline]
    pub fn holds_request(&self, offset: usize, length: usize) -> bool {
        length <= self.request && is_inside(offset, length, self.room_for_requests())
    }

    /// Whether a reply of `length` bytes may begin at `offset` in its room. Both may come from a peer.
    #[inline]
    pub fn holds_reply(&self, offset: usize, length: usize) -> bool {
        length <= self.reply && is_inside(offset, length, self.room_for_replies())
    }

    /// Where in the room for requests one of `length` bytes begins that is written in place, in bytes.
    #[inline]
    pub fn request_place(&self, number: u64, length: usize) -> usize {
        place(self.room_for_requests(), number, length)
    }

    /// Where in the room for replies one of `length` bytes begins that is written in place, in bytes.
    #[inline]
    pub fn reply_place(&self, number: u64, length: usize) -> usize {
        place(self.room_for_replies(), number, length)
    }

    /// How many slots may have calls: a peer may begin to use another before the answer is used.
    #[inline]
    pub fn used(&self, view: &View) -> usize {
        // Relaxed: who sees no client in a slot sees none of its requests; the bell orders it.
        (view.load_u32(layout::USED, Ordering::Relaxed) as usize).min(self.calls)
    }

    /// The bell for servers that wait for requests.
    #[inline]
    pub fn door<'a>(&self, region: &'a Region) -> Bell<'a> {
        Bell::light(region, layout::DOOR)
    }

    /// The bell for the client that waits for the reply in a slot.
    #[inline]
    pub fn answered<'a>(&self, region: &'a Region, slot: usize) -> Bell<'a> {
        Bell::light(region, self.at(slot, slot::ANSWERED))
    }
}

#[cfg(not(loom))]
impl channel::Shape for Shape {
    const EXPECTED: Expected = Expected {
        kind: Kind::Service,
        layout_hash: LAYOUT_HASH,
        // Who has gone waits for no reply.
        may_discard: |_| true,
    };

    fn length(&self) -> Option<usize> {
        self.bytes()
    }

    fn format(&self, region: &Region) -> Result<(), OutOfBounds> {
        for (at, number) in [
            (layout::CALLS, self.calls),
            (layout::SERVERS, self.servers),
            (layout::REQUEST, self.request),
            (layout::REPLY, self.reply),
        ] {
            region.copy_in(at, &(number as u32).to_ne_bytes())?;
        }
        Ok(())
    }

    fn read(view: &View) -> Option<Self> {
        let number = |at| {
            let mut bytes = [0; 4];
            view.copy_out(at, &mut bytes).ok()?;
            usize::try_from(u32::from_ne_bytes(bytes)).ok()
        };
        let (shape, _) = Self::plan(
            number(layout::CALLS)?,
            number(layout::SERVERS)?,
            number(layout::REQUEST)?,
            number(layout::REPLY)?,
        )?;
        Some(shape)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use channel::Shape as _;

    #[test]
    fn a_shape_is_read_as_it_was_written() {
        for (calls, servers, request, reply) in
            [(1, 1, 0, 0), (3, 9, 300, 48), (256, 64, 4096, 112)]
        {
            let (shape, length) = Shape::plan(calls, servers, request, reply).unwrap();
            let region = Region::heap(length);
            shape.format(&region).unwrap();
            assert_eq!(Shape::open(&region), Some(shape));
            assert_eq!(Shape::open(&Region::heap(length - 1)), None);
            let last = shape.reply(calls - 1);
            assert!(last + reply::LAYOUT.size + shape.longest_reply() <= length);
            assert!(shape.request(0) >= shape.at(calls - 1, slot::LAYOUT.size));
            assert!(shape.reply(0) - shape.request(0) >= request::LAYOUT.size + request);
        }
        assert_eq!(Shape::plan(0, 1, 0, 0), None);
        assert_eq!(Shape::plan(1, MOST_SERVERS + 1, 0, 0), None);
        assert_eq!(Shape::plan(1, 1, usize::MAX, 0), None);
    }

    #[test]
    fn long_messages_go_round_inside_their_room() {
        let longest = 5000 + 50;
        let (shape, _) = Shape::plan(1, 1, longest, 4095).unwrap();
        let places = |length| [0, 1, 2, 3, u64::MAX].map(|it| shape.request_place(it, length));
        // Room for two of the longest, rounded up to pairs of lines; the end of the pair in which the words
        // are is part of it.
        assert_eq!(places(longest), [0, 5120, 0, 5120, 5120]);
        assert_eq!(places(GOES_ROUND), [0, 4096, 0, 4096, 4096]);
        assert_eq!(places(GOES_ROUND - 1), [0; 5]);
        assert_eq!(places(0), [0; 5]);
        for (number, length) in (0..).zip(0..=longest) {
            let place = shape.request_place(number, length);
            assert!(place.is_multiple_of(PAIR) && shape.holds_request(place, length));
        }
        assert_eq!(shape.reply_place(1, 4095), 0);
        let (shape, _) = Shape::plan(1, 1, ROUND, ROUND + 1).unwrap();
        // As many as ROUND has, and two of those of which it has one.
        assert_eq!(shape.request_place(255, 4096), 255 * 4096);
        assert_eq!(shape.request_place(256, 4096), 0);
        assert_eq!(shape.request_place(1, ROUND), ROUND);
        assert_eq!(shape.reply_place(1, ROUND), 0);
        let (shape, _) = Shape::plan(1, 1, 0, LONGEST).unwrap();
        for length in [ROUND + 1, LONGEST / 2, LONGEST] {
            assert_eq!(shape.reply_place(1, length), 0);
        }
        assert_eq!(shape.reply_place(1, ROUND), ROUND);
        assert_eq!(shape.request_place(1, 0), 0);
    }

    #[test]
    fn no_message_is_taken_for_one_that_is_not_in_its_room() {
        for longest in [0, 100, 5000, ROUND, ROUND + 1] {
            let (shape, length) = Shape::plan(1, 1, longest, longest).unwrap();
            let requests = shape.reply(0) - shape.request(0) - request::LAYOUT.size;
            let replies = length - shape.reply(0) - reply::LAYOUT.size;
            let (request, reply) = (Shape::holds_request, Shape::holds_reply);
            for (holds, room) in [(request as fn(&_, _, _) -> _, requests), (reply, replies)] {
                let last = room - longest;
                assert!(holds(&shape, 0, longest) && holds(&shape, last, longest));
                assert!(holds(&shape, room, 0));
                for (offset, length) in [
                    (0, longest + 1),
                    (last + 1, longest),
                    (room + 1, 0),
                    (u32::MAX as usize, longest),
                    (0, u32::MAX as usize),
                    (usize::MAX, usize::MAX),
                ] {
                    assert!(!holds(&shape, offset, length), "{length} at {offset}");
                }
            }
        }
    }

    #[test]
    fn a_hostile_shape_is_none() {
        let (shape, length) = Shape::plan(2, 2, 100, 100).unwrap();
        for at in [
            layout::CALLS,
            layout::SERVERS,
            layout::REQUEST,
            layout::REPLY,
        ] {
            for word in [4097u32, 1 << 20, u32::MAX] {
                let region = Region::heap(length);
                shape.format(&region).unwrap();
                region.copy_in(at, &word.to_ne_bytes()).unwrap();
                assert_eq!(Shape::open(&region), None, "{word} at {at}");
            }
        }
    }
}
