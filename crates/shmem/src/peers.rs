//! The peers of one who waits: whose death must end its sleep, and who is dead.
//!
//! **The pulse wakes, presence decides.** One who waits sleeps on its bell and on the pulses of all
//! peers that it watches (`futex_waitv`), so that the kernel wakes it when one dies. Then, and
//! after each slice of sleep, it asks who is dead:
//!
//! | presence | pulse | |
//! | --- | --- | --- |
//! | gone | | dead |
//! | there | none | alive |
//! | asked every 2 s only | beats | alive |
//! | there | died | the kernel frees its memory, which takes 60 ms for each GiB, or a single thread died in an odd way. Dead if all threads of the process are on their way out, by `/proc`. Where its number means nothing (another PID name space): dead after 50 ms |
//!
//! # How long a sleep is
//! | peers watched | longest sleep |
//! | --- | --- |
//! | none | 500 ms |
//! | all have pulses | 100 ms, 400 ms, 1.6 s, and then 2 s: nothing should come to light by that. Shorter at first, because a wake-up may be lost: the kernel wakes one sleeper, and that one may be killed in the same moment |
//! | one has no pulse, or more than 127 have, or the kernel can't wait for several words | 50 ms |
//! | one's pulse has ended and it is not dead | as long ago as that was, 1 to 50 ms |
//!
//! # Cost
//! Nothing while nobody sleeps. A sleep takes one system call, as on a bell alone; watching a peer
//! for the first time four.

use crate::beat::{Beat, State};
use crate::mourning;
use crate::presence::{self, Identity};
use crate::pulse;
use crate::reactor::Word;
use crate::region::View;
use crate::wait::futex_wait;
use rustix::io::Errno;
use rustix::thread::{ClockId, futex};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How soon who waits notices the death of a peer that nothing wakes it for.
const SLICE: Duration = Duration::from_millis(50);
/// First and longest sleep of one who will be woken.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);
/// The kernel waits for as many words at a time, of which one is the bell's.
pub(crate) const MOST: usize = 128 - 1;
/// A peer that was not watched in so many looks is forgotten, and its pulse detached.
const FORGET: u32 = 64;

/// The kernel knows no `futex_waitv`, or somebody forbids it.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// Who is watched while one sleeps, and who is dead.
#[derive(Debug)]
pub struct Peers {
    known: Vec<Peer>,
    /// Where in `known` the next peer probably is: they come in the same order each time.
    next: usize,
    /// Sleeps of this wait.
    slept: u32,
    /// When presence was last asked about those whose pulses beat; and whether it is asked now.
    asked: Option<Instant>,
    asks: bool,
    judge: fn(u64) -> bool,
}

#[derive(Debug)]
struct Peer {
    identity: u64,
    pulse: u32,
    beat: Option<Beat>,
    /// Looks since it was watched.
    idle: u32,
}

impl Peers {
    pub(crate) fn new(judge: fn(u64) -> bool) -> Self {
        Self {
            known: Vec::new(),
            next: 0,
            slept: 0,
            asked: None,
            asks: true,
            judge,
        }
    }

    /// Names a peer whose death must end the sleep: its identity, and the pulse that stands beside
    /// it, as words from the segment. To be called from a look at [`Moment::Parking`]; the list
    /// is empty before each such look.
    ///
    /// [`Moment::Parking`]: crate::wait::Moment::Parking
    pub fn watch(&mut self, identity: u64, pulse: u32) {
        if presence::is_mine(identity) {
            return;
        }
        let is = |peer: &Peer| peer.identity == identity && peer.pulse == pulse;
        let at = match self.known.get(self.next) {
            Some(peer) if is(peer) => self.next,
            _ => self.known.iter().position(is).unwrap_or_else(|| {
                self.known.push(Peer {
                    identity,
                    pulse,
                    beat: Beat::attach(identity, pulse),
                    idle: 0,
                });
                self.known.len() - 1
            }),
        };
        self.known[at].idle = 0;
        self.next = at + 1;
    }

    /// Whether the process that a word from the segment names is dead; so is one that names none.
    /// A system call, unless it is watched and has a pulse.
    pub fn is_dead(&mut self, identity: u64) -> bool {
        let asks = self.asks;
        let mut beats = self
            .known
            .iter_mut()
            .filter(|peer| peer.identity == identity);
        let mut beat = beats.find_map(|peer| peer.beat.as_mut());
        let state = beat.as_mut().map(|beat| beat.look());
        if !asks && matches!(state, Some(State::Beats(_))) {
            return false;
        }
        let dead = (self.judge)(identity)
            || match (Identity::from_word(identity), beat, state) {
                (Some(process), Some(beat), Some(State::Died(since))) => {
                    beat.is_dead(process, since)
                }
                _ => false,
            };
        if dead {
            mourning::begin(identity);
        }
        dead
    }

    /// Begins a look: nobody is watched.
    pub(crate) fn clear(&mut self) {
        self.next = 0;
        self.known.iter_mut().for_each(|peer| peer.idle += 1);
        self.known.retain(|peer| peer.idle < FORGET);
        let now = Instant::now();
        self.asks = self
            .asked
            .is_none_or(|asked| now.duration_since(asked) >= LONGEST);
        if self.asks {
            self.asked = Some(now);
        }
    }

    /// Begins a wait.
    pub(crate) fn begin(&mut self) {
        self.slept = 0;
    }

    /// Sleeps of this wait so far.
    pub(crate) fn slept(&self) -> u32 {
        self.slept
    }

    /// How long a sleep that begins now may be, and whether nobody is watched. Calls `each` with
    /// the pulses that should end it, and what they are now; false says that there is no room for
    /// that one.
    fn slice(&mut self, mut each: impl FnMut(&Beat, u32) -> bool) -> (Duration, bool) {
        let mut slice = LONGEST.min(FIRST * (1 << (2 * self.slept.min(3))));
        self.slept += 1;
        let mut alone = true;
        for peer in self.known.iter_mut().filter(|peer| peer.idle == 0) {
            alone = false;
            let state = peer.beat.as_mut().map_or(State::Silent(SLICE), Beat::look);
            match (state, &peer.beat) {
                (State::Beats(word), Some(beat)) if each(beat, word) => {}
                (State::Died(time) | State::Silent(time), _) => slice = slice.min(time),
                _ => slice = slice.min(SLICE),
            }
        }
        (slice, alone)
    }

    /// Appends the words that should end the wait of a task: the pulses of those who are watched.
    /// Answers after which time it should look again.
    pub(crate) fn arm(&mut self, words: &mut Vec<Word>) -> Duration {
        let (slice, alone) = self.slice(|beat, expected| {
            words.push(Word {
                view: beat.view().clone(),
                offset: pulse::BEAT,
                expected,
                is_pulse: true,
            });
            true
        });
        if alone { LONGEST } else { slice }
    }

    /// Sleeps while the word at `offset` is `expected` and all who are watched live, not longer
    /// than `most`.
    pub(crate) fn sleep(&mut self, view: &View, offset: usize, expected: u32, most: Duration) {
        let mut waits = vec![wait(view.word(offset), expected)];
        let (mut slice, alone) = self.slice(|beat, word| {
            let fits = waits.len() <= MOST;
            if fits {
                waits.push(wait(beat.word(), word));
            }
            fits
        });
        if alone {
            slice = crate::wait::SLICE;
        }
        let slept = match waits.len() {
            1 => false,
            _ => !is_refused() && wait_for_any(&waits, slice.min(most)),
        };
        if !slept {
            if waits.len() > 1 {
                slice = slice.min(SLICE);
            }
            futex_wait(view, offset, expected, slice.min(most));
        }
        // Of those who sleep on a pulse the kernel wakes one, who must wake the others.
        for peer in self.known.iter_mut().filter(|peer| peer.idle == 0) {
            if let Some(beat) = &mut peer.beat {
                beat.look();
            }
        }
    }
}

/// One of the words to sleep on.
pub(crate) fn wait(word: &AtomicU32, expected: u32) -> futex::Wait {
    wait_at(word.as_ptr(), expected)
}

/// [`wait`], by its address, which only the kernel will follow.
pub(crate) fn wait_at(word: *mut u32, expected: u32) -> futex::Wait {
    let mut wait = futex::Wait::new();
    wait.uaddr = futex::WaitPtr::new(word.cast());
    wait.val = expected.into();
    wait.flags = futex::WaitFlags::SIZE_U32;
    wait
}

/// Sleeps; false if the kernel can't.
pub(crate) fn wait_for_any(waits: &[futex::Wait], slice: Duration) -> bool {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    let nanoseconds = now.tv_nsec + i64::from(slice.subsec_nanos());
    let until = futex::Timespec {
        tv_sec: now.tv_sec + slice.as_secs() as i64 + nanoseconds / 1_000_000_000,
        tv_nsec: nanoseconds % 1_000_000_000,
    };
    let flags = futex::WaitvFlags::empty();
    let answer = futex::waitv(waits, flags, Some(&until), ClockId::Monotonic);
    if matches!(answer, Err(Errno::NOSYS | Errno::PERM | Errno::INVAL)) {
        // Relaxed: a hint.
        REFUSED.store(true, Ordering::Relaxed);
        return false;
    }
    // Every other way in which it can end makes the caller look again.
    true
}

/// Sleeps on one word.
pub(crate) fn wait_for_one(word: &AtomicU32, expected: u32, slice: Duration) {
    let slice = futex::Timespec {
        tv_sec: slice.as_secs() as i64,
        tv_nsec: slice.subsec_nanos().into(),
    };
    // Every way in which it can end makes the caller look again.
    let _ = futex::wait(word, futex::Flags::empty(), expected, Some(&slice));
}

/// Whether the kernel has said that it can't wait for several words.
pub(crate) fn is_refused() -> bool {
    // Relaxed: a hint.
    REFUSED.load(Ordering::Relaxed)
}

/// As presence has it. Who can't tell takes nobody for dead.
pub(crate) fn by_presence(identity: u64) -> bool {
    Identity::from_word(identity).is_none_or(|process| matches!(process.is_alive(), Ok(false)))
}
