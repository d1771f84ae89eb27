//! One thread that wakes the tasks of a process: what a sleep is to a thread, an entry here is to a
//! task.
//!
//! # Picture
//! ```text
//!   task ── ticket ──► entry: words and what they were, time, waker ─┐
//!   task ── ticket ──► entry ────────────────────────────────────────┤
//!                                                                    ▼
//!            the plan: up to 127 of the words, and CONTROL ── futex_waitv ── the thread
//! ```
//!
//! # Protocol
//! A task that found nothing registers with its bell, looks once more (see `wait`), and leaves an
//! entry: the bell's RINGS and the pulses of those it watches, each with the value it had before
//! that look. The thread takes the entry out and wakes the task when one of the words has changed,
//! or when its time is over. Who publishes knows nothing of tasks: its side is the same as for
//! a sleeping thread.
//!
//! - `[REACTOR_PLAN]` Entries and plan are behind one lock. The thread makes its plan while it has
//!   the lock, and reads CONTROL; who leaves an entry that the plan does not cover changes CONTROL
//!   while it has the lock, and wakes. So the thread either sees the entry when it plans, or finds
//!   CONTROL changed when it is about to sleep. An entry is *covered*, and costs no system call, if
//!   the plan has its words with the same values and ends no later than the entry's time: the
//!   kernel compares the values when the sleep begins, and wakes after.
//!
//! The plan keeps the words of tasks that were just woken, with the values they have now: most
//! tasks come back for the next message, and are covered then. Such words are known by address
//! alone, because their memory may go; the kernel, which is the only one that reads them, then
//! says so, and the next plan is without them.
//!
//! The memory that an entry refers to is let go under the lock, so once a ticket is withdrawn the
//! thread has nothing of the channel any more: a channel counts its attaches when it is left.
//!
//! # Fork
//! A child has no such thread. The page that tells of the reactor is zero there (see `presence`), so
//! it makes one of its own when it needs one; what it inherited it leaves alone.
//!
//! # Cost and limits
//! No thread before the first task waits. With nobody waiting it sleeps without an end. Otherwise
//! each wake-up of the thread looks at all entries: some ten nanoseconds for each. The kernel waits
//! for 128 words; if tasks wait for more, those whose bells rang last are in the plan, and the others
//! are looked at in slices that grow from [`FIRST`] to [`LAST`]. So they are if the kernel does not
//! know `futex_waitv` (before 5.16), or somebody forbids it.

use crate::peers::{self, MOST};
use crate::presence;
use crate::pulse;
use crate::region::View;
use crate::signals::Blocked;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

/// First and longest time between two looks at the words that are not in the plan.
const FIRST: Duration = Duration::from_millis(1);
const LAST: Duration = Duration::from_millis(100);
/// Times that are further away than this are rounded up to a multiple of [`TICK`], so that many
/// tasks look again at once, and not the thread at all of them for each.
const FAR: Duration = Duration::from_millis(400);
const TICK: Duration = Duration::from_millis(250);
/// A sleep without an end.
const ENDLESS: Duration = Duration::from_secs(86400);

/// A word that a task waits for to change.
#[derive(Debug)]
pub(crate) struct Word {
    pub(crate) view: View,
    pub(crate) offset: usize,
    pub(crate) expected: u32,
    pub(crate) is_pulse: bool,
}

/// What a task waits for. Its first word is the bell's.
#[derive(Debug)]
struct Entry {
    words: Vec<Word>,
    due: Instant,
    waker: Waker,
}

/// When a task's bell rang last, as a number that grows, and the number of the entry.
type Key = (u64, u64);

/// The tasks of a process that wait, and the thread that wakes them.
#[derive(Debug)]
pub(crate) struct Reactor {
    /// Changes when the plan is no longer good. [REACTOR_PLAN]
    control: AtomicU32,
    epoch: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    has_thread: bool,
    /// The last number that was given out.
    last: u64,
    entries: BTreeMap<Key, Entry>,
    plan: Plan,
}

/// What the thread sleeps on, or will when it has the lock next.
#[derive(Debug, Default)]
struct Plan {
    /// The thread sleeps by it, or is about to. If not, it makes another before it sleeps.
    in_force: bool,
    /// Addresses and values, in the order of the addresses.
    words: Vec<(usize, u32)>,
    /// Not all words are in it: none of an entry whose bell rang before this.
    coldest: u64,
    /// Until when.
    until: Option<Instant>,
    /// How long it was until the others were looked at.
    slice: Duration,
}

/// A word for the next plan.
struct Candidate {
    address: usize,
    value: u32,
    heat: u64,
}

/// One handle's place in the reactor: at most one entry, which goes with it.
#[derive(Debug, Default)]
pub(crate) struct Ticket {
    place: Option<(&'static Reactor, Key)>,
    heat: u64,
    rings: u32,
}

impl Ticket {
    /// Whether a task has asked to be woken by it.
    pub(crate) fn is_out(&self) -> bool {
        self.place.is_some()
    }

    /// Whether its entry is still good: nothing has changed, and nobody was woken. Then it wakes
    /// this task.
    pub(crate) fn is_good(&self, waker: &Waker) -> bool {
        let Some((reactor, key)) = self.place else {
            return false;
        };
        let mut state = reactor.lock();
        let Some(entry) = state.entries.get_mut(&key) else {
            return false;
        };
        if entry.words.iter().any(|word| word.value() != word.expected) {
            return false;
        }
        if !entry.waker.will_wake(waker) {
            let old = std::mem::replace(&mut entry.waker, waker.clone());
            drop(state);
            // Not under the lock: with it may go a task, and that task's ticket.
            drop(old);
        }
        true
    }

    /// Has a task woken when one of the words changes, the first of which is the bell's, or after
    /// `slice`.
    pub(crate) fn arm(&mut self, words: Vec<Word>, slice: Duration, waker: &Waker) {
        let Some(reactor) = Reactor::here() else {
            // Better a task that looks all the time than one that sleeps for ever.
            waker.wake_by_ref();
            return;
        };
        let rings = words.first().map_or(0, |bell| bell.expected);
        let entry = Entry {
            words,
            due: reactor.due(slice),
            waker: waker.clone(),
        };
        self.withdraw();
        let mut state = reactor.lock();
        state.last += 1;
        if self.heat == 0 || self.rings != rings {
            self.heat = state.last;
        }
        self.rings = rings;
        let key = (self.heat, state.last);
        self.place = Some((reactor, key));
        let is_covered = state.plan.covers(&entry, self.heat);
        state.entries.insert(key, entry);
        if !is_covered {
            // [REACTOR_PLAN] under the lock.
            state.plan.in_force = false;
            reactor.control.fetch_add(1, Ordering::Relaxed);
        }
        let has_thread = std::mem::replace(&mut state.has_thread, true);
        drop(state);
        if !has_thread {
            reactor.start();
        } else if !is_covered {
            pulse::wake(&reactor.control);
        }
    }

    /// Has nobody woken any more. Answers whether a task had asked for that.
    pub(crate) fn withdraw(&mut self) -> bool {
        let Some((reactor, key)) = self.place.take() else {
            return false;
        };
        let state = if reactor.is_here() {
            Some(reactor.lock())
        } else {
            // A child, which has a copy of it all. If the thread had the lock at the fork, nobody
            // will give it back, and the entry's memory stays attached.
            reactor.state.try_lock().ok()
        };
        let entry = state.and_then(|mut state| state.entries.remove(&key));
        // Not under the lock: with the waker may go a task, and that task's ticket.
        drop(entry);
        true
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.withdraw();
    }
}

impl Word {
    fn value(&self) -> u32 {
        // Acquire: as in `Bell::register`.
        self.view.load_u32(self.offset, Ordering::Acquire)
    }

    fn address(&self) -> usize {
        self.view.word(self.offset).as_ptr().expose_provenance()
    }
}

impl Plan {
    /// Whether the thread will wake in time for an entry without being told of it.
    fn covers(&self, entry: &Entry, heat: u64) -> bool {
        let has = |word: &Word| {
            let at = self
                .words
                .binary_search_by_key(&word.address(), |(address, _)| *address);
            at.is_ok_and(|at| self.words[at].1 == word.expected)
        };
        !self.in_force
            || self.until.is_some_and(|until| until <= entry.due)
                && (heat < self.coldest || entry.words.iter().all(has))
    }
}

impl Reactor {
    /// This process's, if it has one.
    fn here_if_any() -> Option<&'static Self> {
        // Acquire: it is whole.
        let here = presence::own_if_any()?.reactor.load(Ordering::Acquire);
        // SAFETY: null, or what `here` leaked and published; a child by fork, where that memory is
        // a copy, reads null.
        unsafe { here.as_ref() }
    }

    /// This process's. `None` if there is no memory for it.
    fn here() -> Option<&'static Self> {
        if let here @ Some(_) = Self::here_if_any() {
            return here;
        }
        let new = Box::into_raw(Box::new(Self {
            control: AtomicU32::new(0),
            epoch: Instant::now(),
            state: Mutex::default(),
        }));
        let word = &presence::own().ok()?.reactor;
        // Release: it is whole. Relaxed: nothing is read.
        let won = word.compare_exchange(ptr::null_mut(), new, Ordering::Release, Ordering::Relaxed);
        if won.is_err() {
            // SAFETY: made above, and published to nobody.
            drop(unsafe { Box::from_raw(new) });
        }
        Self::here_if_any()
    }

    /// Whether it is this process's, and not what a child inherited.
    fn is_here(&self) -> bool {
        Self::here_if_any().is_some_and(|here| ptr::eq(here, self))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it has the lock, but for want of memory.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When a time is over that begins now.
    fn due(&self, slice: Duration) -> Instant {
        let due = Instant::now() + slice;
        if slice < FAR {
            return due;
        }
        let ticks = due.duration_since(self.epoch).as_nanos() / TICK.as_nanos() + 1;
        self.epoch + TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    #[cold]
    fn start(&'static self) {
        // It takes no signals: it inherits what is blocked here.
        let blocked = Blocked::new();
        let thread = std::thread::Builder::new().name("tombolo-reactor".to_owned());
        let started = thread.spawn(move || self.run());
        drop(blocked);
        if started.is_err() {
            // Better tasks that look all the time than tasks that sleep for ever.
            let mut state = self.lock();
            state.has_thread = false;
            let entries = std::mem::take(&mut state.entries);
            drop(state);
            entries.into_values().for_each(|entry| entry.waker.wake());
        }
    }

    fn run(&self) {
        let mut wakers = Vec::new();
        let mut over = None;
        loop {
            pulse::keep();
            let is_over = over.is_some_and(|over| Instant::now() >= over);
            let (words, control, slice) = self.plan(is_over, &mut wakers);
            over = Instant::now().checked_add(slice);
            for waker in wakers.drain(..) {
                // A task's executor that panics must not take the others' reactor with it.
                let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
            }
            self.sleep(&words, control, slice);
        }
    }

    /// Takes out the wakers of those to be woken, and plans the next sleep: words, what CONTROL
    /// was, how long. `is_over` says that the last sleep came to its end.
    fn plan(&self, is_over: bool, wakers: &mut Vec<Waker>) -> (Vec<(usize, u32)>, u32, Duration) {
        let now = Instant::now();
        let mut state = self.lock();
        let State { entries, plan, .. } = &mut *state;
        if is_over
            && plan.in_force
            && let Some(until) = quiet_until(entries, now)
        {
            // The same again: that is what many who are idle cost.
            plan.slice = (plan.slice * 2).clamp(FIRST, LAST);
            let until = if plan.coldest == 0 {
                until
            } else {
                until.min(now + plan.slice)
            };
            plan.until = Some(until);
            // [REACTOR_PLAN] as below.
            let control = self.control.load(Ordering::Relaxed);
            return (plan.words.clone(), control, until - now);
        }
        let mut candidates: Vec<Candidate> = Vec::new();
        let mut ripe = Vec::new();
        let mut until = None;
        let mut missed = false;
        for (key, entry) in &*entries {
            let mut is_ripe = entry.due <= now;
            let start = candidates.len();
            for word in &entry.words {
                let (address, value) = (word.address(), word.value());
                candidates.push(Candidate {
                    address,
                    value,
                    heat: key.0,
                });
                if value == word.expected {
                    continue;
                }
                is_ripe = true;
                missed |= plan
                    .words
                    .binary_search_by_key(&address, |(at, _)| *at)
                    .is_err();
                if word.is_pulse {
                    // Of those who sleep on a pulse the kernel wakes one, who must wake the others.
                    pulse::wake(word.view.word(word.offset));
                } else {
                    // The task will come back.
                    candidates[start].heat = u64::MAX;
                }
            }
            if is_ripe {
                ripe.push(*key);
            } else {
                until = Some(until.map_or(entry.due, |until: Instant| until.min(entry.due)));
            }
        }
        for key in ripe {
            // The memory is let go here, under the lock.
            wakers.extend(entries.remove(&key).map(|entry| entry.waker));
        }
        let is_settled = choose(&mut candidates, &mut plan.coldest);
        if plan.coldest != 0 {
            plan.slice = if missed {
                FIRST
            } else {
                (plan.slice * 2).clamp(FIRST, LAST)
            };
            let soon = now + plan.slice;
            until = Some(until.map_or(soon, |until| until.min(soon)));
        }
        if !is_settled {
            until = Some(now);
        }
        plan.words = candidates
            .iter()
            .map(|word| (word.address, word.value))
            .collect();
        plan.until = until;
        plan.in_force = true;
        // [REACTOR_PLAN] under the lock.
        let control = self.control.load(Ordering::Relaxed);
        let slice = until.map_or(ENDLESS, |until| until.saturating_duration_since(now));
        (plan.words.clone(), control, slice)
    }

    fn sleep(&self, words: &[(usize, u32)], control: u32, slice: Duration) {
        if slice.is_zero() {
            return;
        }
        let mut waits = vec![peers::wait(&self.control, control)];
        waits.extend(words.iter().map(|(address, value)| {
            peers::wait_at(ptr::with_exposed_provenance_mut(*address), *value)
        }));
        // If the kernel can't, the next plan has no words.
        if peers::is_refused() {
            peers::wait_for_one(&self.control, control, slice);
        } else {
            peers::wait_for_any(&waits, slice);
        }
    }
}

/// When the first entry's time is over, if there is one; `None` if one's is, or if one of their
/// words has changed.
fn quiet_until(entries: &BTreeMap<Key, Entry>, now: Instant) -> Option<Instant> {
    let is_quiet = |entry: &Entry| {
        let mut words = entry.words.iter();
        entry.due > now && words.all(|word| word.value() == word.expected)
    };
    let mut first = None;
    for entry in entries.values() {
        if !is_quiet(entry) {
            return None;
        }
        first = Some(first.map_or(entry.due, |first: Instant| first.min(entry.due)));
    }
    first
}

/// Leaves each word once, and not more than the kernel can wait for: those of the bells that rang
/// last. In the order of the addresses. Answers false if a word has changed while it was looked at,
/// so that one entry waits for another value of it than the next.
fn choose(candidates: &mut Vec<Candidate>, coldest: &mut u64) -> bool {
    let mut is_settled = true;
    candidates.sort_unstable_by_key(|word| word.address);
    candidates.dedup_by(|word, kept| {
        let is_same = word.address == kept.address;
        if is_same {
            kept.heat = kept.heat.max(word.heat);
            is_settled &= kept.value == word.value;
        }
        is_same
    });
    let most = if peers::is_refused() { 0 } else { MOST };
    *coldest = 0;
    if candidates.len() > most {
        candidates.sort_unstable_by_key(|word| std::cmp::Reverse(word.heat));
        // If nothing is planned for, all are looked at in slices.
        *coldest = match candidates.get(most) {
            Some(word) if most > 0 => word.heat.saturating_add(1),
            _ => u64::MAX,
        };
        candidates.truncate(most);
        candidates.sort_unstable_by_key(|word| word.address);
    }
    is_settled
}
