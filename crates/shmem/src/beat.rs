//! The pulses of peers, as one who watches them has them: see `pulse` for what they are.
//!
//! A pulse is attached read-only and believed only if the kernel says that it was made by a process
//! of the same number and user as the presence of the peer, is closed to every writer, and names
//! that peer. So whoever writes the table in which it is named can name the true one or none that
//! is believed; in the latter case the peer is looked at in slices.
//!
//! One attach serves all handles of this process, and goes with the last that watches the peer.

use crate::presence::Identity;
use crate::pulse;
use crate::region::View;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};
use sysv::Segment;

/// What the kernel answers for users that have no number in this user name space.
const NOBODY: u32 = 65534;
/// After this time a process whose pulse has died is dead, if nobody can look at its threads.
const SURE: Duration = Duration::from_millis(50);
/// How soon one looks again whether a process is gone whose pulse has died.
const SOON: Duration = Duration::from_millis(1);

/// What a beat says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The process lives as long as the word is this.
    Beats(u32),
    /// Nothing: nobody keeps it. To be looked at again after this time.
    Silent(Duration),
    /// Its keeper died. To be looked at again after this time.
    Died(Duration),
}

/// A peer's pulse, attached.
#[derive(Debug)]
pub(crate) struct Beat {
    view: Arc<View>,
    /// What was seen last, and since when, if it was not beating.
    last: Option<(u32, Instant)>,
}

impl Beat {
    /// The pulse of a peer, by the words that stand in a table. `None` if there is none that can
    /// be believed.
    pub(crate) fn attach(identity: u64, word: u32) -> Option<Self> {
        let view = attach(identity, word)?;
        Some(Self { view, last: None })
    }

    /// What it says now. Who sees that it has ended wakes all others that sleep on it.
    pub(crate) fn look(&mut self) -> State {
        // Acquire: [PULSE_LINK].
        let beat = self.view.load_u32(pulse::BEAT, Ordering::Acquire);
        if !pulse::is_orphaned(beat) {
            self.last = None;
            return State::Beats(beat);
        }
        let since = match self.last {
            Some((last, since)) if last == beat => since,
            _ => {
                // The kernel has woken one.
                pulse::wake(self.word());
                let now = Instant::now();
                self.last = Some((beat, now));
                now
            }
        };
        let soon = since.elapsed().clamp(SOON, SURE);
        if pulse::has_died(beat) {
            State::Died(soon)
        } else {
            State::Silent(soon)
        }
    }

    /// Where it is read.
    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// The word to sleep on.
    pub(crate) fn word(&self) -> &AtomicU32 {
        self.view.word(pulse::BEAT)
    }

    /// Whether the process is dead, whose pulse has died although its presence is there, which the
    /// kernel takes away only after its memory. Costs a few system calls for each thread.
    pub(crate) fn is_dead(&self, process: Identity, since: Duration) -> bool {
        match process.pid().map(is_exiting) {
            // Gone in this moment, or we are in another name space now: the next look tells.
            None => false,
            Some(Some(exiting)) => exiting,
            Some(None) => since >= SURE,
        }
    }
}

/// Whether all threads of a process of this PID name space have begun to exit, and so will never
/// run a program again. `None` if that can't be seen.
fn is_exiting(pid: i32) -> Option<bool> {
    /// `PF_EXITING`, in the ninth field.
    const EXITING: u64 = 4;
    // The tree may belong to another PID name space, where the number means somebody else.
    let this = std::fs::read_link("/proc/self").ok()?;
    if pid <= 0 || this.to_str()?.parse() != Ok(std::process::id()) {
        return None;
    }
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let Ok(stat) = std::fs::read_to_string(thread.ok()?.path().join("stat")) else {
            // Gone in this moment.
            continue;
        };
        // Behind the name, which may hold anything.
        let (_, fields) = stat.rsplit_once(") ")?;
        let flags: u64 = fields.split(' ').nth(6)?.parse().ok()?;
        if flags & EXITING == 0 {
            return Some(false);
        }
    }
    Some(true)
}

/// Pulses of others that this process has attached, for all its handles: identity and pulse.
static ATTACHED: Mutex<BTreeMap<(u64, u32), Weak<View>>> = Mutex::new(BTreeMap::new());

/// Attaches a pulse, unless it is attached.
fn attach(identity: u64, word: u32) -> Option<Arc<View>> {
    let process = Identity::from_word(identity)?;
    if word & pulse::THERE == 0 {
        return None;
    }
    // Not to be waited for: a child that was forked meanwhile would wait for ever.
    let mut attached = ATTACHED.try_lock().ok();
    let known = attached.as_ref().and_then(|map| map.get(&(identity, word)));
    if let Some(view) = known.and_then(Weak::upgrade) {
        return Some(view);
    }
    let id = (word & !pulse::THERE) as i32;
    // Before: nothing else is ever attached on a peer's word. After: the id may have been given to
    // another in between; while it is attached it can't.
    let belongs = || belongs(process, id).then_some(());
    belongs()?;
    let view = Arc::new(View::attach(id).ok()?);
    belongs()?;
    // Acquire: with the pulse's mode, it is whole. [PULSE_LINK]
    if view.load_u64(pulse::IDENTITY, Ordering::Acquire) != identity {
        return None;
    }
    if let Some(map) = &mut attached {
        map.retain(|_, view| view.strong_count() != 0);
        map.insert((identity, word), Arc::downgrade(&view));
    }
    Some(view)
}

/// Whether the kernel says that the process made that pulse. Between PID name spaces, and for users
/// without a number here, it can't say.
fn belongs(process: Identity, id: i32) -> bool {
    let Some(presence) = process.status() else {
        return false;
    };
    let Ok(status) = Segment::from_id(id).status_any() else {
        return false;
    };
    pulse::is_pulse(&status)
        && status.perm.mode.bits() == pulse::MODE
        && status.perm.cuid == presence.perm.cuid
        && status.perm.cuid != NOBODY
        && status.creator_pid == presence.creator_pid
}
