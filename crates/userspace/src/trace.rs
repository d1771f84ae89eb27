//! A ring of records in a mapped file: what calls the processes of a name space make.
//!
//! Every process writes, one reads. Tickets number the records; a ticket's slot is its rest by the
//! number of slots, its *lap* how often the ring was gone round before it.
//!
//! ```text
//!   header │ slot 0 │ slot 1 │ …                slot: word │ record
//!    head: next ticket to read ──┐       ┌── tail: next ticket to write
//! ```
//!
//! | a slot's word | means | becomes |
//! | --- | --- | --- |
//! | lap, 0, free | whoever has the lap's ticket may have it | claimed, by compare-exchange |
//! | lap, pid, claimed | that process writes the record | written, by its owner; free, if that has died |
//! | lap, pid, written | the record is whole | free for the next lap, by the reader |
//!
//! **Ordering.** `[TRACE_PUBLISH]`: a writer stores the word *written* (release) after the record;
//! the reader loads the word (acquire) before it: else it would read a record in part.
//! `[TRACE_FREE]`: the reader stores the word *free* (release) after it has read the record; a
//! writer claims it (acquire) before it writes: else the record could change while it is read.
//!
//! **Crash.** A writer that is killed between claiming and writing leaves a claimed slot; the
//! reader asks whether the process runs, and skips the slot if it does not. If the reader is killed
//! or stopped, the ring fills up.
//!
//! **A call that sleeps** is recorded twice: when it first goes to sleep, and when it is over (see
//! [`under_way`](crate::under_way)).
//!
//! **Who writes** shares a lock on a byte of the file by a mapping, as who uses a name space does,
//! and so do the children that it forks: the reader knows when nobody is left ([`is_written`]).
//!
//! **A full ring.** A writer waits, in slices of a millisecond, as long as the reader goes on. If
//! it has not moved for a second, it is taken for stopped: from then until it moves records are
//! counted as lost, and nobody waits. If it has died, nothing is recorded any more.
//!
//! **Cost.** A compare-exchange on the slot and one on the tail, both shared by all writers; no
//! system call unless the ring is full.
//!
//! **A peer that lies** can write nonsense into records: the reader takes every number for nothing
//! but a number.

use shmem::anchor::{LockFile, Process};
use shmem::arena::Arena;
use shmem::layout::Layout;
use shmem::sync::Ordering;
use shmem::{Region, sleep};
use std::path::Path;
use std::time::{Duration, Instant};
use sysv::{Errno, Result};

const MAGIC_WORD: u64 = u64::from_le_bytes(*b"traces\x02\x01");

/// The beginning of the file.
mod header {
    shmem::layout! {
        "trace", 320;
        MAGIC: 8 @ 0, "its maker", "0x01 0x02 and the letters of traces";
        HEAD: 8 @ 64, "the reader", "next ticket to read; the lower half is a futex word";
        TAIL: 8 @ 128, "writers, by compare-exchange", "next ticket to write";
        LOST: 8 @ 192, "writers", "records that were not written";
        STUCK: 8 @ 200, "writers", "head at which they gave up waiting, plus one";
        CLOSED: 8 @ 208, "the reader; who finds it dead", "1: nothing is recorded any more";
        READER: 8 @ 256, "its maker", "process id of the reader";
        BIRTH: 8 @ 264, "its maker", "what tells it from a later one with its pid; 0: unknown";
    }
}

/// A slot.
mod slot {
    shmem::layout! {
        "trace slot", 192;
        WORD: 8 @ 0, "its claimer; the reader", "[TRACE_PUBLISH], [TRACE_FREE] lap, process id, and 0: free, 1: claimed, 2: written";
        RECORD: 176 @ 8, "its claimer", "the record";
    }
}

/// Both tables, for the page.
pub const LAYOUTS: [&Layout; 2] = [&header::LAYOUT, &slot::LAYOUT];

const SLOTS: usize = 1 << 14;
const HEAD_LENGTH: usize = (header::LAYOUT.size + SLOTS * slot::LAYOUT.size).next_multiple_of(4096);
/// The arena wants some; nothing is there.
const PAGES: usize = 4096;
/// The byte that everybody locks who writes: beyond the end of the file.
const WRITERS_BYTE: u64 = 1 << 60;
/// How long the reader may stand still before nobody waits for it.
const STILL: Duration = Duration::from_secs(1);
const SLICE: Duration = Duration::from_millis(1);

/// One of the twelve calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "they are called as the calls are")]
pub enum Call {
    Shmget,
    Shmat,
    Shmdt,
    Shmctl,
    Msgget,
    Msgsnd,
    Msgrcv,
    Msgctl,
    Semget,
    Semop,
    Semtimedop,
    Semctl,
}

impl Call {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Shmget,
        Self::Shmat,
        Self::Shmdt,
        Self::Shmctl,
        Self::Msgget,
        Self::Msgsnd,
        Self::Msgrcv,
        Self::Msgctl,
        Self::Semget,
        Self::Semop,
        Self::Semtimedop,
        Self::Semctl,
    ];

    /// Its name in C.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shmget => "shmget",
            Self::Shmat => "shmat",
            Self::Shmdt => "shmdt",
            Self::Shmctl => "shmctl",
            Self::Msgget => "msgget",
            Self::Msgsnd => "msgsnd",
            Self::Msgrcv => "msgrcv",
            Self::Msgctl => "msgctl",
            Self::Semget => "semget",
            Self::Semop => "semop",
            Self::Semtimedop => "semtimedop",
            Self::Semctl => "semctl",
        }
    }
}

/// Bytes of what a call was given or has got by an address.
pub const DETAIL: usize = 88;

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is over, and has not slept.
    Whole,
    /// It goes to sleep: nothing is known yet of its result, and its time is that until now.
    Asleep,
    /// It is over, and was recorded as asleep before.
    Awake,
}

impl Phase {
    const ALL: [Self; 3] = [Self::Whole, Self::Asleep, Self::Awake];
}

/// A call that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which.
    pub call: Call,
    /// How far it has come.
    pub phase: Phase,
    /// The thread that made it.
    pub thread: u32,
    /// How often the thread slept in it.
    pub waits: u32,
    /// How long it took, nanoseconds.
    pub nanoseconds: u64,
    /// The answer; or minus the error's number.
    pub result: i64,
    /// As they were given, in C's order.
    pub arguments: [u64; 5],
    /// For `msgsnd` and `msgrcv` the message's type, for `semop` the first operations, for
    /// `semtimedop` the time-out before them; as C has them.
    pub detail: [u8; DETAIL],
}

const BYTES: usize = 4 * 3 + 4 + 8 * 2 + 8 * 5 + DETAIL;
const _: () = assert!(BYTES <= slot::LAYOUT.size - slot::RECORD);

impl Record {
    fn to_bytes(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        let mut at = 0;
        let mut put = |part: &[u8]| {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        };
        put(&(self.call as u32).to_le_bytes());
        put(&self.thread.to_le_bytes());
        put(&self.waits.to_le_bytes());
        put(&(self.phase as u32).to_le_bytes());
        put(&self.nanoseconds.to_le_bytes());
        put(&self.result.to_le_bytes());
        for argument in self.arguments {
            put(&argument.to_le_bytes());
        }
        put(&self.detail);
        bytes
    }

    /// `None` for what no writer of ours has written.
    fn from_bytes(bytes: &[u8; BYTES]) -> Option<Self> {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap_or_default());
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap_or_default());
        let mut detail = [0; DETAIL];
        detail.copy_from_slice(&bytes[BYTES - DETAIL..]);
        Some(Self {
            call: *Call::ALL.get(word(0) as usize)?,
            thread: word(4),
            waits: word(8),
            phase: *Phase::ALL.get(word(12) as usize)?,
            nanoseconds: long(16),
            result: long(24).cast_signed(),
            arguments: [0, 1, 2, 3, 4].map(|number| long(32 + 8 * number)),
            detail,
        })
    }
}

/// A slot's word.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Word(u64);

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    Claimed,
    Written,
}

impl Word {
    const PID_SHIFT: u32 = 2;
    const LAP_SHIFT: u32 = 26;

    /// Zero for the first lap, as the file is.
    fn free(lap: u64) -> Self {
        Self(lap << Self::LAP_SHIFT)
    }

    fn claimed(lap: u64, pid: u32) -> Self {
        let pid = u64::from(pid) & ((1 << (Self::LAP_SHIFT - Self::PID_SHIFT)) - 1);
        Self(Self::free(lap).0 | pid << Self::PID_SHIFT | 1)
    }

    fn written(self) -> Self {
        Self(self.0 & !3 | 2)
    }

    fn lap(self) -> u64 {
        self.0 >> Self::LAP_SHIFT
    }

    fn pid(self) -> i32 {
        (self.0 >> Self::PID_SHIFT) as i32 & ((1 << (Self::LAP_SHIFT - Self::PID_SHIFT)) - 1)
    }

    fn state(self) -> State {
        match self.0 & 3 {
            0 => State::Free,
            1 => State::Claimed,
            _ => State::Written,
        }
    }
}

/// Where the slot of a ticket is, and the ticket's lap.
fn slot_of(ticket: u64) -> (usize, u64) {
    let at = header::LAYOUT.size + (ticket as usize % SLOTS) * slot::LAYOUT.size;
    (at, ticket / SLOTS as u64)
}

/// The side of those who make calls.
#[derive(Debug)]
pub struct Writer {
    arena: Arena,
}

impl Writer {
    /// Maps the file of a trace, and counts this process and every child that it forks among those
    /// who write it, until it ends or calls `exec`.
    ///
    /// # Errors
    /// Those of `open` and `mmap`; `EUCLEAN` if it is no trace.
    pub fn open(path: &Path) -> Result<Self> {
        let arena = Arena::open(path, HEAD_LENGTH, PAGES)?;
        let magic = arena.region().load_u64(header::MAGIC, Ordering::Relaxed);
        if magic != MAGIC_WORD {
            return Err(Errno::UCLEAN);
        }
        arena.file().hold(WRITERS_BYTE)?.share_with_children();
        Ok(Self { arena })
    }

    fn region(&self) -> &Region {
        self.arena.region()
    }

    /// Records a call of the process `pid`.
    pub fn record(&self, pid: u32, record: &Record) {
        let region = self.region();
        // Relaxed: at worst one record more is written.
        if region.load_u64(header::CLOSED, Ordering::Relaxed) != 0 {
            return;
        }
        let Some((at, word)) = self.claim(pid) else {
            // Relaxed: a count.
            region.u64(header::LOST).fetch_add(1, Ordering::Relaxed);
            return;
        };
        let written = region.copy_in(at + slot::RECORD, &record.to_bytes());
        debug_assert!(written.is_ok(), "slots are in the region");
        // [TRACE_PUBLISH] release: after the record. It fails if we were taken for dead, as a
        // process of another PID name space may be: relaxed, for nothing follows from it.
        let published = region.u64(at + slot::WORD).compare_exchange(
            word.0,
            word.written().0,
            Ordering::Release,
            Ordering::Relaxed,
        );
        if published.is_err() {
            // Relaxed: a count.
            region.u64(header::LOST).fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Claims the next slot. `None` if the ring is full and nobody reads.
    fn claim(&self, pid: u32) -> Option<(usize, Word)> {
        let region = self.region();
        let tail = region.u64(header::TAIL);
        let mut waiting = None;
        loop {
            // Relaxed: a hint; the slot's word decides.
            let ticket = tail.load(Ordering::Relaxed);
            let (at, lap) = slot_of(ticket);
            let word = region.u64(at + slot::WORD);
            // Relaxed: what counts is the compare-exchange.
            let seen = Word(word.load(Ordering::Relaxed));
            if seen == Word::free(lap) {
                let mine = Word::claimed(lap, pid);
                // [TRACE_FREE] acquire: before the record is written. Relaxed on failure: again.
                let claim =
                    word.compare_exchange(seen.0, mine.0, Ordering::Acquire, Ordering::Relaxed);
                if claim.is_ok() {
                    advance(region, ticket);
                    return Some((at, mine));
                }
            } else if seen.lap() == lap {
                // Claimed by one who has not come to moving the tail.
                advance(region, ticket);
            } else if seen.lap() < lap && !self.wait(&mut waiting) {
                return None;
            }
        }
    }

    /// Waits a moment for the reader. False if it is not worth it any longer.
    fn wait(&self, waiting: &mut Option<(Instant, u64)>) -> bool {
        let region = self.region();
        // Relaxed here and below: numbers that stand for themselves.
        let head = region.load_u64(header::HEAD, Ordering::Relaxed);
        if region.load_u64(header::STUCK, Ordering::Relaxed) == head + 1 {
            return false;
        }
        let (since, seen) = *waiting.get_or_insert_with(|| (Instant::now(), head));
        if seen != head {
            *waiting = Some((Instant::now(), head));
        } else if since.elapsed() > STILL {
            region.u64(header::STUCK).store(head + 1, Ordering::Relaxed);
            let reader = Process {
                pid: region.load_u64(header::READER, Ordering::Relaxed) as i32,
                birth: region.load_u64(header::BIRTH, Ordering::Relaxed),
            };
            if !reader.is_running() {
                region.u64(header::CLOSED).store(1, Ordering::Relaxed);
            }
            return false;
        }
        // A signal is no reason to give up.
        let _ = sleep::sleep(region, header::HEAD, head as u32, SLICE);
        true
    }
}

/// Moves the tail beyond a ticket that is claimed, unless somebody has.
fn advance(region: &Region, ticket: u64) {
    // Relaxed: a hint, see `claim`.
    let _ = region.u64(header::TAIL).compare_exchange(
        ticket,
        ticket + 1,
        Ordering::Relaxed,
        Ordering::Relaxed,
    );
}

/// Whether a process has the trace at a path open for writing. Where it can't be told none has.
pub fn is_written(path: &Path) -> bool {
    LockFile::new(path).is_ok_and(|file| file.is_held(WRITERS_BYTE).unwrap_or(false))
}

/// What the reader finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A call.
    Record(Record),
    /// A call of a process that was killed while it recorded it.
    Torn(i32),
}

/// The side of who prints.
#[derive(Debug)]
pub struct Reader {
    arena: Arena,
    head: u64,
}

impl Reader {
    /// Makes a trace at a path that has nothing.
    ///
    /// # Errors
    /// Those of `open`, `ftruncate` and `mmap`.
    pub fn create(path: &Path, mode: u32) -> Result<Self> {
        let arena = Arena::create(path, mode, HEAD_LENGTH, PAGES)?;
        let this = Process::this();
        let set = |offset: usize, value: u64| {
            // Relaxed: nobody knows the file yet.
            arena.region().u64(offset).store(value, Ordering::Relaxed);
        };
        set(header::READER, this.pid as u64);
        set(header::BIRTH, this.birth);
        set(header::MAGIC, MAGIC_WORD);
        Ok(Self { arena, head: 0 })
    }

    /// The next call, if one is there.
    pub fn take(&mut self) -> Option<Found> {
        let region = self.arena.region();
        let (at, lap) = slot_of(self.head);
        let word = region.u64(at + slot::WORD);
        // [TRACE_PUBLISH] acquire: before the record is read.
        let seen = Word(word.load(Ordering::Acquire));
        if seen.lap() != lap {
            return None;
        }
        let found = match seen.state() {
            State::Free => return None,
            State::Claimed => {
                let owner = Process {
                    pid: seen.pid(),
                    birth: 0,
                };
                // It may have come to writing it before it ended.
                if owner.is_running() || word.load(Ordering::Acquire) != seen.0 {
                    return None;
                }
                Found::Torn(seen.pid())
            }
            State::Written => {
                let mut bytes = [0; BYTES];
                let read = region.copy_out(at + slot::RECORD, &mut bytes);
                match Record::from_bytes(&bytes) {
                    Some(record) if read.is_ok() => Found::Record(record),
                    _ => Found::Torn(seen.pid()),
                }
            }
        };
        // [TRACE_FREE] release: after the record was read.
        word.store(Word::free(lap + 1).0, Ordering::Release);
        self.head += 1;
        // Relaxed: writers look whether it moves.
        region.u64(header::HEAD).store(self.head, Ordering::Relaxed);
        Some(found)
    }

    /// How many records were not written, because nobody read.
    pub fn lost(&self) -> u64 {
        // Relaxed: a count.
        self.arena
            .region()
            .load_u64(header::LOST, Ordering::Relaxed)
    }

    /// From here on nothing is recorded.
    pub fn close(&self) {
        // Relaxed: at worst one record more is written.
        self.arena
            .region()
            .u64(header::CLOSED)
            .store(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
