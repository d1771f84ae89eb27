//! Waiting for another process: a bell that costs nothing while nobody listens.
//!
//! The one who waits reads `rings`, sets `parked`, looks once more whether what it waits for is
//! there, and sleeps on `rings`. The one who publishes takes `parked` back and rings only if it
//! was set: no system call while nobody is parked.
//!
//! - `[BELL_PARK]` Both sides store and then load the other's word: the waiter `parked` and then
//!   the published state, the publisher its state and then `parked`. A full fence stands between
//!   on both sides, so at least one of them sees the other: weaker, both may miss, and the waiter
//!   sleeps through the publication. On a *light* bell the waiter forces the publisher's fence from
//!   outside, see `barrier`.
//! - `[BELL_RING]` `parked` is taken back *before* `rings` grows. The other way round, a waiter
//!   that registers between the two would read the grown `rings` and lose its registration.
//!
//! **One of many.** Where any of those who are parked can do what there is to do, [`Bell::ring_one`] wakes
//! one of them. That one then speaks for the others: see there.
//!
//! **Crash.** `parked` is a hint without an owner. Left by a waiter that died, it costs the next
//! publisher one system call, which clears it. A publisher that dies between taking `parked` and
//! waking leaves waiters asleep until their slice ends, so no sleep is longer than a slice.
//!
//! **A peer that lies** can ring for nothing or never ring. Neither wakes nor sleeps are believed:
//! the waiter looks at the state after each, and wakes at the end of each slice.
//!
//! **Read-only.** Who can't write can't register, but can sleep on `rings`. Such a waiter sleeps in
//! slices that grow from [`FIRST_SLICE`] to [`LAST_SLICE`], and wakes earlier if the bell is rung
//! for somebody else.

use crate::barrier;
use crate::region::{Region, View};
use crate::sync::{AtomicU32, Ordering, fence, spin_loop};
use std::time::{Duration, Instant};

/// Bytes of a bell in a layout.
pub const BELL_SIZE: usize = layout::LAYOUT.size;

/// What stands where in a bell.
pub mod layout {
    crate::layout! {
        "bell", 8;
        RINGS: 4 @ 0, "publishers, after they took PARKED back [BELL_RING]", "futex word; grows by one each time the bell is rung";
        PARKED: 4 @ 4, "waiters set it, publishers take it back [BELL_PARK]", "1 if somebody may be parked on RINGS; a dead waiter's is taken back by the next publisher";
    }
}

/// Longest sleep of a registered waiter.
pub const SLICE: Duration = Duration::from_millis(500);
/// First sleep of a waiter that can't register.
pub const FIRST_SLICE: Duration = Duration::from_micros(250);
/// Longest sleep of a waiter that can't register.
pub const LAST_SLICE: Duration = Duration::from_millis(16);

/// All who sleep.
const ALL: u32 = i32::MAX as u32;

/// How many times a waiter looks before it parks: a few microseconds.
const SPINS: u32 = 100;

/// When a waiter looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// While it spins: a look must cost next to nothing.
    Spinning,
    /// Before it sleeps, and so after each sleep: a look may make system calls.
    Parking,
}

/// How long a caller is ready to wait.
///
/// ```
/// use shmem::wait::Patience;
/// use std::time::Duration;
/// let patience = Patience::from(Duration::from_millis(50));
/// assert!(patience.left().unwrap() <= Duration::from_millis(50));
/// assert_eq!(Patience::FOREVER.left(), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    deadline: Option<Instant>,
}

impl Patience {
    /// As long as it takes.
    pub const FOREVER: Self = Self { deadline: None };

    /// Not at all.
    pub fn none() -> Self {
        Self {
            deadline: Some(Instant::now()),
        }
    }

    /// The time left, `None` if it has no end.
    pub fn left(&self) -> Option<Duration> {
        self.deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Whether no time is left.
    pub fn is_over(&self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }

    /// The time left, but no more than `slice`.
    pub fn slice(&self, slice: Duration) -> Duration {
        self.left().map_or(slice, |left| left.min(slice))
    }
}

impl From<Duration> for Patience {
    /// From now on. A duration beyond the clock's range is for ever.
    fn from(duration: Duration) -> Self {
        Self {
            deadline: Instant::now().checked_add(duration),
        }
    }
}

impl From<Option<Duration>> for Patience {
    /// `None` is for ever.
    fn from(duration: Option<Duration>) -> Self {
        duration.map_or(Self::FOREVER, Self::from)
    }
}

/// A bell at an offset of a region, for those who publish and those who register.
#[derive(Clone, Copy, Debug)]
pub struct Bell<'a> {
    region: &'a Region,
    offset: usize,
    /// Whether waiters carry the publishers' fence too: see `barrier`.
    light: bool,
}

impl<'a> Bell<'a> {
    /// The bell at `offset` bytes, a multiple of four.
    #[inline]
    pub fn new(region: &'a Region, offset: usize) -> Self {
        let light = false;
        Self {
            region,
            offset,
            light,
        }
    }

    /// A bell that may be rung by [`ring_light`](Self::ring_light). All who wait on it must know it
    /// as such.
    #[inline]
    pub fn light(region: &'a Region, offset: usize) -> Self {
        let light = true;
        Self {
            region,
            offset,
            light,
        }
    }

    /// Wakes whoever is parked. Call it after publishing.
    ///
    /// A full fence, and a system call only if somebody is parked.
    #[inline]
    pub fn ring(&self) {
        // [BELL_PARK] between the publication before and the look at `parked` after.
        fence(Ordering::SeqCst);
        self.ring_if_parked();
    }

    /// [`ring`](Self::ring) for a caller whose last access was a read-modify-write with `SeqCst`.
    /// On x86 that is a full fence already, whatever word it went to; the memory model does not
    /// say so, and elsewhere, and under loom, there is a fence of its own.
    #[inline]
    pub fn ring_after_exchange(&self) {
        // [BELL_PARK] as in `ring`.
        if cfg!(any(loom, not(target_arch = "x86_64"))) {
            fence(Ordering::SeqCst);
        }
        self.ring_if_parked();
    }

    /// [`ring`](Self::ring) for a [light](Self::light) bell: no fence once this process is
    /// [registered](crate::barrier::register). Rings only if `worth` agrees, which is asked only if
    /// somebody is parked.
    #[inline]
    pub fn ring_light(&self, worth: impl FnOnce() -> bool) {
        debug_assert!(self.light, "its waiters would not force the fence");
        // [BELL_PARK] as in `ring`.
        barrier::light();
        let parked = self.region.u32(self.offset + layout::PARKED);
        // Relaxed: ordered by the fence before.
        if parked.load(Ordering::Relaxed) != 0 && worth() {
            self.wake(ALL);
        }
    }

    /// [`ring_light`](Self::ring_light) that wakes one of those who sleep. That one must
    /// [arm](Self::arm) the bell again for the others when it has found what it waited for, and then look
    /// once more.
    #[inline]
    pub fn ring_one(&self, worth: impl FnOnce() -> bool) {
        debug_assert!(self.light, "its waiters would not force the fence");
        let parked = self.region.u32(self.offset + layout::PARKED);
        if is_parked(parked) && worth() {
            self.wake(1);
        }
    }

    /// Says that somebody is parked, for one who has been woken in the place of others.
    pub fn arm(&self) {
        self.register();
    }

    #[inline]
    fn ring_if_parked(&self) {
        let parked = self.region.u32(self.offset + layout::PARKED);
        // Relaxed: ordered by the fence before.
        if parked.load(Ordering::Relaxed) != 0 {
            self.wake(ALL);
        }
    }

    #[cold]
    fn wake(&self, most: u32) {
        // [BELL_RING] take the registration first.
        self.region
            .u32(self.offset + layout::PARKED)
            .swap(0, Ordering::SeqCst);
        self.region.u32(self.offset).fetch_add(1, Ordering::SeqCst);
        futex_wake(self.region, self.offset, most);
    }

    /// Waits until `ready` answers something, or patience ends.
    ///
    /// `ready` is asked again after each wake and at least every [`SLICE`], so it may also look
    /// whether waiting still makes sense.
    pub fn wait<T>(&self, patience: Patience, ready: impl FnMut(Moment) -> Option<T>) -> Option<T> {
        self.wait_in_slices(SLICE, patience, ready)
    }

    /// [`wait`](Self::wait) for something that must be noticed sooner than a [`SLICE`] although
    /// nobody rings: no sleep is longer than `slice`.
    pub fn wait_in_slices<T>(
        &self,
        slice: Duration,
        patience: Patience,
        mut ready: impl FnMut(Moment) -> Option<T>,
    ) -> Option<T> {
        if let found @ Some(_) = spin(&mut ready) {
            return found;
        }
        loop {
            let rings = self.register();
            if let found @ Some(_) = ready(Moment::Parking) {
                return found;
            }
            if patience.is_over() {
                return None;
            }
            futex_wait(self.region, self.offset, rings, patience.slice(slice));
        }
    }
}

impl Bell<'_> {
    /// Registers a waiter, and answers what it may sleep on if it finds nothing now.
    pub(crate) fn register(&self) -> u32 {
        // Acquire: whatever was published before this ring is seen by the look that follows.
        let rings = self.region.load_u32(self.offset, Ordering::Acquire);
        // Relaxed: ordered by the fence after.
        self.region
            .u32(self.offset + layout::PARKED)
            .store(1, Ordering::Relaxed);
        // [BELL_PARK] between registering and looking.
        if self.light {
            barrier::heavy();
        } else {
            fence(Ordering::SeqCst);
        }
        rings
    }

    /// Where it is.
    pub(crate) fn view(&self) -> &View {
        self.region
    }

    /// Offset of the word to sleep on.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }
}

/// Whether somebody may be parked on a light bell, of which this is the word PARKED: then the caller
/// rings it. To be called after publishing, as [`Bell::ring_light`] is.
#[inline]
pub fn is_parked(parked: &AtomicU32) -> bool {
    // [BELL_PARK] as in `ring_light`.
    barrier::light();
    // Relaxed: ordered by the fence before.
    parked.load(Ordering::Relaxed) != 0
}

/// Waits on the bell at `offset` without registering: see the module's *Read-only*.
pub fn wait_unregistered<T>(
    view: &View,
    offset: usize,
    patience: Patience,
    mut ready: impl FnMut(Moment) -> Option<T>,
) -> Option<T> {
    if let found @ Some(_) = spin(&mut ready) {
        return found;
    }
    let mut slice = FIRST_SLICE;
    loop {
        // Acquire: as in `Bell::wait`.
        let rings = view.load_u32(offset, Ordering::Acquire);
        if let found @ Some(_) = ready(Moment::Parking) {
            return found;
        }
        if patience.is_over() {
            return None;
        }
        #[cfg(not(loom))]
        futex_wait(view, offset, rings, patience.slice(slice));
        // This sleep ends without a ring.
        #[cfg(loom)]
        {
            let _ = rings;
            loom::thread::yield_now();
        }
        slice = (slice * 2).min(LAST_SLICE);
    }
}

/// Looks a few times before it costs anything.
fn spin<T>(ready: &mut impl FnMut(Moment) -> Option<T>) -> Option<T> {
    let spins = if cfg!(loom) { 1 } else { SPINS };
    for _ in 0..spins {
        if let found @ Some(_) = ready(Moment::Spinning) {
            return found;
        }
        spin_loop();
    }
    None
}

/// Sleeps while the word is `expected`, no longer than `slice`; signals may end it earlier.
#[cfg(not(loom))]
pub(crate) fn futex_wait(view: &View, offset: usize, expected: u32, slice: Duration) {
    use rustix::thread::futex;
    let slice = futex::Timespec {
        tv_sec: slice.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: slice.subsec_nanos().into(),
    };
    // Every way in which this can end (woken, changed, timed out, interrupted) makes the caller
    // look again; an error leaves it no worse off than a wake for nothing.
    let _ = futex::wait(
        view.word(offset),
        futex::Flags::empty(),
        expected,
        Some(&slice),
    );
}

#[cfg(not(loom))]
fn futex_wake(view: &View, offset: usize, most: u32) {
    use rustix::thread::futex;
    let _ = futex::wake(view.word(offset), futex::Flags::empty(), most);
}

#[cfg(loom)]
pub(crate) fn futex_wait(view: &View, offset: usize, expected: u32, _slice: Duration) {
    view.memory().futex_wait(offset, expected);
}

#[cfg(loom)]
fn futex_wake(view: &View, offset: usize, most: u32) {
    view.memory().futex_wake(offset, most);
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::thread;

    /// A published value reaches a waiter that parks at any moment, through two publications.
    #[test]
    fn nobody_sleeps_through_a_publication() {
        loom::model(|| {
            let region = Region::heap(16);
            let waiter = {
                let region = region.clone();
                thread::spawn(move || {
                    for n in 1..=2 {
                        Bell::new(&region, 0).wait(Patience::FOREVER, |_| {
                            (region.load_u32(8, Ordering::Acquire) >= n).then_some(())
                        });
                    }
                })
            };
            for n in 1..=2 {
                region.u32(8).store(n, Ordering::Release);
                Bell::new(&region, 0).ring();
            }
            waiter.join().unwrap();
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn patience_ends() {
        let region = Region::heap(16);
        let started = Instant::now();
        let patience = Patience::from(Duration::from_millis(20));
        assert_eq!(Bell::new(&region, 0).wait(patience, |_| None::<()>), None);
        assert!(started.elapsed() >= Duration::from_millis(20));
        let patience = Patience::from(Duration::from_millis(20));
        assert_eq!(
            wait_unregistered(&region, 0, patience, |_| None::<()>),
            None
        );
        assert!(started.elapsed() >= Duration::from_millis(40));
    }

    #[test]
    fn a_parked_thread_is_woken() {
        let region = Region::heap(16);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                Bell::new(&region, 0).wait(Patience::from(Duration::from_secs(10)), |_| {
                    (region.load_u32(8, Ordering::Acquire) == 1).then_some(())
                })
            });
            // Parked, or about to be: the fence protocol covers both.
            while region.load_u32(layout::PARKED, Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
            region.u32(8).store(1, Ordering::Release);
            Bell::new(&region, 0).ring();
            assert_eq!(waiter.join().unwrap(), Some(()));
        });
    }
}
