//! One peer and those who watch it: what it tells of itself, and when they learn of its death.

use checks::process::{BOUND, Child, child, shared_words, wait_until};
use shmem::presence::{self, Identity};
use shmem::wait::{BELL_SIZE, Bell, Moment, Patience};
use shmem::{Region, Waiter, pulse};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use sysv::{Key, Mode, Segment};

/// Within this time of a death who waits must have learnt of it.
pub const WITHIN: Duration = Duration::from_millis(100);

const IDENTITY: usize = 0;
const PULSE: usize = 1;
const FIRST: usize = 2;

/// Shared by a peer, its watchers, and the test.
pub struct Board {
    bell: Region,
    words: &'static [AtomicI64],
}

/// Monotonic time in nanoseconds, the same in all processes; never 0.
pub fn now() -> i64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is valid for writing.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec + 1
}

impl Board {
    /// A board for so many watchers.
    pub fn new(watchers: usize) -> Self {
        let segment = Segment::create(Key::PRIVATE, BELL_SIZE, Mode::from_bits_truncate(0o666));
        let segment = segment.expect("a segment");
        let bell = Region::attach(segment.id());
        segment.remove().expect("remove");
        Self {
            bell: bell.expect("attach"),
            words: shared_words(FIRST + watchers),
        }
    }

    /// Tells who the calling process is.
    pub fn tell(&self) {
        let me = presence::mine().expect("presence");
        self.words[PULSE].store(pulse::mine().into(), Ordering::SeqCst);
        self.words[IDENTITY].store(me.word() as i64, Ordering::SeqCst);
    }

    /// Tells another pulse.
    pub fn tell_pulse(&self, pulse: u32) {
        self.words[PULSE].store(pulse.into(), Ordering::SeqCst);
    }

    /// Forgets the peer and what watchers saw.
    pub fn wipe(&self) {
        for word in self.words {
            word.store(0, Ordering::SeqCst);
        }
    }

    /// Forks a peer that tells who it is, and then does something.
    pub fn peer(&self, body: impl FnOnce()) -> Child {
        let process = child(|| {
            self.tell();
            body();
        });
        self.told();
        process
    }

    /// Waits until the peer has told who it is.
    pub fn told(&self) -> Identity {
        wait_until(BOUND, || self.identity() != 0);
        Identity::from_word(self.identity()).expect("an identity")
    }

    fn identity(&self) -> u64 {
        self.words[IDENTITY].load(Ordering::SeqCst) as u64
    }

    /// The peer's pulse; 0 if it has none.
    pub fn pulse(&self) -> u32 {
        self.words[PULSE].load(Ordering::SeqCst) as u32
    }

    /// Waits until the peer is dead; false if patience ends before.
    pub fn watch(&self, waiter: &mut Waiter, patience: Patience) -> bool {
        let (identity, pulse) = (self.identity(), self.pulse());
        let dead = waiter.wait(Bell::new(&self.bell, 0), patience, |moment, peers| {
            if moment == Moment::Spinning {
                return None;
            }
            peers.watch(identity, pulse);
            peers.is_dead(identity).then_some(())
        });
        dead.is_some()
    }

    /// Forks a watcher that tells when it learns that the peer is dead.
    pub fn watcher(&self, number: usize) -> Child {
        child(|| self.watch_and_tell(number))
    }

    /// What a watcher does.
    pub fn watch_and_tell(&self, number: usize) {
        assert!(self.watch(&mut Waiter::new(), Patience::FOREVER));
        self.words[FIRST + number].store(now(), Ordering::SeqCst);
    }

    /// When a watcher learnt of the death, if it has.
    pub fn learnt(&self, number: usize) -> Option<i64> {
        let time = self.words[FIRST + number].load(Ordering::SeqCst);
        (time != 0).then_some(time)
    }

    /// Waits until all watchers have learnt of a death that began at `start`, and answers how long
    /// each took, the shortest first.
    #[track_caller]
    pub fn took(&self, start: i64) -> Vec<Duration> {
        let watchers = 0..self.words.len() - FIRST;
        let mut took: Vec<Duration> = watchers
            .map(|number| {
                wait_until(BOUND, || self.learnt(number).is_some());
                let time = self.learnt(number).expect("it has learnt");
                Duration::from_nanos(time.saturating_sub(start).max(0) as u64)
            })
            .collect();
        took.sort();
        took
    }
}

/// Times of many rounds.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Adds those of one round, none of which may be longer than [`WITHIN`].
    #[track_caller]
    pub fn add(&mut self, times: Vec<Duration>) {
        let slowest = times.last().copied().unwrap_or_default();
        assert!(slowest < WITHIN, "learnt after {slowest:?}");
        self.0.extend(times);
    }

    /// Half of them are shorter, all but one in a hundred are, and the longest.
    pub fn text(mut self) -> String {
        self.0.sort();
        let at = |share: usize| self.0[(self.0.len() - 1) * share / 100];
        let (half, most, longest) = (at(50), at(99), at(100));
        format!("learnt after {half:?} (median), {most:?} (99 %), {longest:?} (slowest)")
    }
}
