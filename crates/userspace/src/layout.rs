//! What stands where in the registry.
//!
//! ```text
//!   header │ shm │ msg │ sem │ processes │ journals │ slots │ lanes │ heaps │ pages of segments
//! ```
//!
//! The file is sparse: only what was touched takes memory.

use shmem::journal::{self, Journal};
use shmem::layout::{FNV_START, Layout};
use tombolo::mailbox_lane;

/// What `MAGIC` holds.
pub const MAGIC_WORD: u64 = u64::from_le_bytes(*b"tombolo\x01");

/// The beginning of the file.
pub mod header {
    shmem::layout! {
        "name space", 4096;
        MAGIC: 8 @ 0, "its maker, before the file has its name", "0x01 and the letters of tombolo";
        HASH: 8 @ 8, "its maker", "hash over the layouts";
        USER_SPACE: 8 @ 16, "its maker", "inode of the maker's user name space, in which privilege counts; 0: unknown";
        PROCESSES_END: 8 @ 24, "who claims a slot", "slots of processes that were ever in use";
        SHMMAX: 8 @ 64, "who sets limits", "largest segment, bytes";
        SHMALL: 8 @ 72, "who sets limits", "pages in all segments";
        SHMMNI: 8 @ 80, "who sets limits", "segments";
        MSGMAX: 8 @ 88, "who sets limits", "largest message, bytes";
        MSGMNB: 8 @ 96, "who sets limits", "bytes in a new queue";
        MSGMNI: 8 @ 104, "who sets limits", "queues";
        SEMMSL: 8 @ 112, "who sets limits", "semaphores in a set";
        SEMMNS: 8 @ 120, "who sets limits", "semaphores in all sets";
        SEMOPM: 8 @ 128, "who sets limits", "operations in a semop";
        SEMMNI: 8 @ 136, "who sets limits", "sets";
        FORCED: 8 @ 144, "who sets limits", "1: segments go at their last detach, or with their creator if they have no attach";
    }
}

/// One of the three kinds of object: its lock, its table of ids, its heap.
pub mod facility {
    use shmem::heap;
    use shmem::lock::LOCK_SIZE;

    shmem::layout! {
        "facility", 16384;
        LOCK: (LOCK_SIZE) @ 0, "who makes a call of this kind", "guards all that follows, and the slots, heap and lists of this kind";
        IN_USE: 8 @ 64, "the lock's holder, by journal", "objects that exist";
        SEQUENCE: 8 @ 72, "the lock's holder, by journal", "sequence number of new objects";
        LAST: 8 @ 80, "the lock's holder, by journal", "index of the newest object, plus one";
        HIGHEST: 8 @ 88, "the lock's holder, by journal", "highest index in use, plus one";
        TOTAL: 8 @ 96, "the lock's holder, by journal", "pages of all segments, or semaphores of all sets, or messages of all queues";
        BYTES: 8 @ 104, "the lock's holder, by journal", "bytes of all messages";
        NEXT_PAGE: 8 @ 112, "the lock's holder, by journal", "where to look first for free pages, bytes from the first page";
        NEXT_ID: 8 @ 120, "who sets limits; the lock's holder", "id that the next object is to have, plus one; 0: none";
        DYING: 8 @ 128, "the lock's holder, by journal", "first removed object whose pages or messages are being given back: its index, plus one; 0: none";
        HEAP: (heap::HEADER) @ 1024, "the lock's holder, by journal", "attaches, messages and waiters, or semaphores, adjustments and waiters";
        BUCKETS: 8192 @ 8192, "the lock's holder, by journal", "1,024 lists of objects by key: first index, plus one";
    }
    /// How many lists by key there are.
    pub const BUCKET_COUNT: usize = 1024;
}

/// A process that takes part.
pub mod process {
    shmem::layout! {
        "process", 128;
        IDENTITY: 8 @ 0, "who claims the slot, from 0, by compare-exchange; who settles it, to 0", "generation, whether a lock tells that it lives, index";
        PID: 8 @ 8, "the process", "its process id; 0: not born yet";
        BIRTH: 8 @ 16, "the process", "what tells it from a later one with its pid; 0: unknown";
        GENERATION: 8 @ 24, "who settles it", "of the last identity in this slot";
        ATTACHES: 16 @ 32, "the holder of shm's lock, by journal", "its attaches: first and last";
        UNDOS: 16 @ 48, "the holder of sem's lock, by journal", "its adjustments: first and last";
        SENDERS: 16 @ 64, "the holder of msg's lock, by journal", "its calls that sleep on queues: first and last";
        SLEEPERS: 16 @ 80, "the holder of sem's lock, by journal", "its calls that sleep on sets: first and last";
    }
}

/// What the slots of the three kinds begin with.
pub mod slot {
    shmem::layout! {
        "slot", 256;
        STATE: 8 @ 0, "the lock's holder, by journal", "0: free, 1: an object, 2: removed, and its pages or messages are being given back";
        KEY: 8 @ 8, "the lock's holder, by journal", "key; 0: found by id only";
        SEQUENCE: 8 @ 16, "the lock's holder, by journal", "sequence number in the id";
        OWNER: 8 @ 24, "the lock's holder, by journal", "uid, and gid in the upper half";
        CREATOR: 8 @ 32, "the lock's holder, by journal", "uid, and gid in the upper half";
        MODE: 8 @ 40, "the lock's holder, by journal", "permission and status bits";
        NEXT: 8 @ 48, "the lock's holder, by journal", "next index in the list by key, or of those being given back, plus one";
        CHANGED: 8 @ 56, "the lock's holder, by journal", "seconds since the epoch";
    }
}

/// What the slot of a segment goes on with.
pub mod segment {
    shmem::layout! {
        "segment", 256;
        SIZE: 8 @ 64, "shm's lock, by journal", "bytes, as asked for";
        OFFSET: 8 @ 72, "shm's lock, by journal", "bytes from the first page";
        ATTACHED: 8 @ 80, "shm's lock, by journal", "time of the last attach";
        DETACHED: 8 @ 88, "shm's lock, by journal", "time of the last detach";
        CREATOR_PID: 8 @ 96, "shm's lock, by journal", "who made it";
        LAST_PID: 8 @ 104, "shm's lock, by journal", "who attached or detached last";
        COUNT: 8 @ 112, "shm's lock, by journal", "attaches";
        ATTACHES: 16 @ 120, "shm's lock, by journal", "its attaches: first and last";
        CREATOR_BIRTH: 8 @ 136, "shm's lock, by journal", "what tells its creator from a later process with that pid";
    }
}

/// What the slot of a queue goes on with.
pub mod queue {
    shmem::layout! {
        "queue", 256;
        SENT: 8 @ 64, "msg's lock, by journal", "time of the last msgsnd";
        RECEIVED: 8 @ 72, "msg's lock, by journal", "time of the last msgrcv";
        SENDER: 8 @ 80, "msg's lock, by journal", "who sent last";
        RECEIVER: 8 @ 88, "msg's lock, by journal", "who received last";
        CAPACITY: 8 @ 96, "msg's lock, by journal", "bytes it may hold";
        STORE: 40 @ 104, "msg's lock, by journal", "the messages: a store of messages";
        RECEIVERS: 16 @ 144, "msg's lock, by journal", "calls that wait for a message: first and last";
        SENDERS: 16 @ 160, "msg's lock, by journal", "calls that wait for room: first and last";
        MOVES: 8 @ 176, "msg's lock", "how often a message was put in or taken out: a hint for who looks without the lock";
        LANE: 8 @ 192, "msg's lock, by journal", "1: the kernel has found memory for its lane";
    }
}

/// What the slot of a set goes on with.
pub mod set {
    shmem::layout! {
        "set", 256;
        COUNT: 8 @ 64, "who makes it, by journal", "semaphores";
        OPERATED: 8 @ 72, "sem's lock, by journal", "time of the last semop";
        VALUES: 8 @ 80, "who makes it, by journal", "the semaphores' block: for each its value, and in the upper half who changed it last";
        UNDOS: 16 @ 88, "sem's lock, by journal", "adjustments: first and last";
        SLEEPERS: 16 @ 104, "sem's lock, by journal", "calls that wait: first and last";
    }
}

/// The adjustments that a process has for a set: a block.
pub mod undo {
    shmem::layout! {
        "undo", 48;
        PROCESS: 8 @ 0, "sem's lock, by journal", "index of the process";
        SET: 8 @ 8, "sem's lock, by journal", "index of the set";
        OF_SET: 16 @ 16, "sem's lock, by journal", "next and previous of the set";
        OF_PROCESS: 16 @ 32, "sem's lock, by journal", "next and previous of the process";
    }
}

/// What a call that sleeps on a set goes on with; its operations follow, a word each.
pub mod operating {
    shmem::layout! {
        "sleeper on a set", 88;
        COUNT: 8 @ 64, "its owner, by journal", "operations";
        BLOCKING: 8 @ 72, "who tries it, by journal", "the first operation that can't be done";
        ALTERS: 8 @ 80, "its owner, by journal", "1: an operation is no test for zero";
    }
}

/// A call that sleeps: a block.
pub mod sleeper {
    shmem::layout! {
        "sleeper", 64;
        STATE: 8 @ 0, "who serves it, by journal; then woken", "1: waits, 2: served, 3: failed, 4: is to look again. The lower half is a futex word";
        PROCESS: 8 @ 8, "its owner, by journal", "index of the process";
        OF_OBJECT: 16 @ 16, "the lock's holder, by journal", "next and previous of the object, while it waits";
        OF_PROCESS: 16 @ 32, "the lock's holder, by journal", "next and previous of the process";
        OBJECT: 8 @ 48, "its owner, by journal", "index of the object";
        RESULT: 8 @ 56, "who serves it, by journal", "the error, if it failed";
    }
}

/// What a call that sleeps on a queue goes on with.
pub mod waiting {
    shmem::layout! {
        "sleeper on a queue", 112;
        SENDS: 8 @ 64, "its owner, by journal", "1: waits for room, 0: for a message";
        WANTED: 8 @ 72, "its owner, by journal", "0: any, 1: a type, 2: up to a type, 3: any but a type";
        NUMBER: 8 @ 80, "its owner, by journal", "the type";
        ROOM: 8 @ 88, "its owner, by journal", "the longest text it takes";
        MESSAGE: 8 @ 96, "who serves it, by journal", "the message that it got, or is to send";
        CHECK: 8 @ 104, "who changes the queue, by journal", "1: permission may have changed";
    }
}

/// An attach: a block in shm's heap.
pub mod attach {
    shmem::layout! {
        "attach", 64;
        PROCESS: 8 @ 0, "shm's lock, by journal", "index of the process";
        SEGMENT: 8 @ 8, "shm's lock, by journal", "index of the segment";
        ADDRESS: 8 @ 16, "shm's lock, by journal", "where it is mapped";
        LENGTH: 8 @ 24, "shm's lock, by journal", "bytes, whole pages";
        OF_SEGMENT: 16 @ 32, "shm's lock, by journal", "next and previous of the segment";
        OF_PROCESS: 16 @ 48, "shm's lock, by journal", "next and previous of the process";
    }
}

/// Every table, for the hash and the page.
pub const LAYOUTS: &[&Layout] = &[
    &header::LAYOUT,
    &facility::LAYOUT,
    &process::LAYOUT,
    &slot::LAYOUT,
    &segment::LAYOUT,
    &attach::LAYOUT,
    &queue::LAYOUT,
    &sleeper::LAYOUT,
    &waiting::LAYOUT,
    &set::LAYOUT,
    &undo::LAYOUT,
    &operating::LAYOUT,
];

/// The hash over the tables: a program of another layout finds another.
pub const HASH: u64 = {
    let mut hash = FNV_START;
    let mut i = 0;
    while i < LAYOUTS.len() {
        hash = LAYOUTS[i].hash(hash);
        i += 1;
    }
    i = 0;
    while i < tombolo::STORE_LAYOUTS.len() {
        hash = tombolo::STORE_LAYOUTS[i].hash(hash);
        i += 1;
    }
    hash
};

/// How many processes can take part at once.
pub const PROCESSES: usize = 8192;
/// How many objects of a kind there can be: as many as an id can number.
pub const SLOTS: usize = sysv::abi::IPCMNI as usize;
/// Changes that one call can make.
const NOTES: usize = 1 << 18;

const FACILITIES_AT: usize = header::LAYOUT.size;
const PROCESSES_AT: usize = FACILITIES_AT + 3 * facility::LAYOUT.size;
const JOURNALS_AT: usize = PROCESSES_AT + PROCESSES * process::LAYOUT.size;
const JOURNAL: usize = journal::size(NOTES).next_multiple_of(4096);
const SLOTS_AT: usize = JOURNALS_AT + 3 * JOURNAL;
const TABLE: usize = SLOTS * slot::LAYOUT.size;
const LANES_AT: usize = (SLOTS_AT + 3 * TABLE).next_multiple_of(4096);
const HEAPS_AT: usize = LANES_AT + SLOTS * mailbox_lane::SIZE;
const GIB: usize = 1 << 30;
/// Bytes of the heaps of shm, msg and sem.
const HEAPS: [usize; 3] = [4 * GIB, 256 * GIB, 16 * GIB];

/// Bytes before the first page of a segment.
pub const HEAD: usize = HEAPS_AT + HEAPS[0] + HEAPS[1] + HEAPS[2];
/// Bytes of pages of segments.
pub const PAGES: usize = 4096 * GIB;

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Facility {
    /// Shared memory.
    Shm,
    /// Message queues.
    Msg,
    /// Semaphores.
    Sem,
}

impl Facility {
    /// Where its block stands.
    pub const fn at(self) -> usize {
        FACILITIES_AT + self as usize * facility::LAYOUT.size
    }

    /// Its journal.
    pub const fn journal(self) -> Journal {
        Journal {
            offset: JOURNALS_AT + self as usize * JOURNAL,
            room: NOTES,
        }
    }

    /// Where the slot of an index stands.
    pub const fn slot(self, index: usize) -> usize {
        SLOTS_AT + self as usize * TABLE + index * slot::LAYOUT.size
    }

    /// Its heap.
    pub const fn heap(self) -> shmem::heap::Heap {
        let mut start = HEAPS_AT;
        let mut before = 0;
        while before < self as usize {
            start += HEAPS[before];
            before += 1;
        }
        shmem::heap::Heap {
            header: self.at() + facility::HEAP,
            start,
            end: start + HEAPS[self as usize],
        }
    }
}

/// Where the slot of a process stands.
pub const fn process_at(index: usize) -> usize {
    PROCESSES_AT + index * process::LAYOUT.size
}

/// Where the lane of the queue at an index stands.
pub const fn lane_at(index: usize) -> usize {
    LANES_AT + index * mailbox_lane::SIZE
}
