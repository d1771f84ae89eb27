//! What crashes leave behind: telling it from what is in use, and taking it away.
//!
//! The next opener of a name takes away what is in its way, so nothing here is needed for a channel
//! to work. It is for names that nobody opens again. What decides is the same: the state word, the
//! count of attaches, and whether the channel may be discarded.

use crate::close::{Unused, end_if_unused};
use crate::directory;
use crate::header::{Header, Lifetime, State};
use crate::look::{give_up, settled};
use crate::name::is_name_key;
use crate::open::Expected;
use crate::region::View;
use sysv::{Errno, Segment, shm};

/// What a segment of ours is that nobody has attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Left: whoever made it died before it was a channel.
    Unfinished,
    /// Left: it was given up, and whoever did died before it removed the segment.
    Ended,
    /// Left: a channel that lives while it is used, which nobody uses.
    Unused,
    /// A channel that lives while it is used, with something in it that waits for somebody.
    Holds,
    /// A channel that stays until it is removed.
    Permanent,
    /// Somebody has it attached, or is making it.
    InUse,
    /// Not a channel, or one of another version.
    Unknown,
}

impl Verdict {
    /// Whether it is there to be taken away.
    pub fn is_left(self) -> bool {
        matches!(self, Self::Unfinished | Self::Ended | Self::Unused)
    }
}

/// Says what a segment is. Attaches it for reading, if nobody has it attached.
///
/// # Errors
/// Those of `shmat`: `EACCES` without read permission, `EINVAL` if it is gone.
pub fn judge(id: i32, kinds: &[Expected]) -> sysv::Result<Verdict> {
    let status = Segment::from_id(id).status_any()?;
    judged(&status, kinds).map(|(verdict, ..)| verdict)
}

type Judged = (Verdict, State, Option<Expected>);

fn judged(status: &shm::Status, kinds: &[Expected]) -> sysv::Result<Judged> {
    if status.attaches > 0 {
        return Ok((Verdict::InUse, State::Foreign, None));
    }
    let view = View::attach(status.id)?;
    let state = State::of(&view);
    let is_dead = |process: crate::presence::Identity| matches!(process.is_alive(), Ok(false));
    let verdict = match state {
        // By another key it may be any program's.
        State::New if is_name_key(status.perm.key) => Verdict::Unfinished,
        State::New | State::Foreign => Verdict::Unknown,
        State::Claimed(creator) if is_dead(creator) => Verdict::Unfinished,
        State::Leaving(leaver) if !is_dead(leaver) => Verdict::InUse,
        State::Claimed(_) => Verdict::InUse,
        State::Ended => Verdict::Ended,
        State::Ready | State::Leaving(_) => return Ok(of_channel(state, &view, kinds)),
    };
    Ok((verdict, state, None))
}

fn of_channel(state: State, view: &View, kinds: &[Expected]) -> Judged {
    let Ok(header) = Header::read(view) else {
        return (Verdict::Unknown, state, None);
    };
    if header.lifetime != Lifetime::WhileUsed {
        return (Verdict::Permanent, state, None);
    }
    let known = kinds
        .iter()
        .find(|known| known.kind as u32 == header.kind && known.layout_hash == header.layout_hash);
    match known {
        None => (Verdict::Unknown, state, None),
        Some(known) if (known.may_discard)(view) => (Verdict::Unused, state, Some(*known)),
        Some(_) => (Verdict::Holds, state, None),
    }
}

/// Takes away what is [left](Verdict::is_left), and says what the segment was; what somebody has
/// begun to use meanwhile is left alone, as all else.
///
/// # Errors
/// Those of [`judge`], and `EPERM` for who may not remove it.
pub fn reclaim(id: i32, kinds: &[Expected]) -> sysv::Result<Verdict> {
    let status = Segment::from_id(id).status_any()?;
    let (verdict, state, known) = judged(&status, kinds)?;
    match (verdict, known) {
        (Verdict::Unused, Some(known)) => {
            // The mark of one that died while it decided is taken back first.
            let view = View::attach(id)?;
            settled(id, &view);
            drop(view);
            Ok(
                match end_if_unused(id, status.perm.cuid, 0, known.may_discard) {
                    Unused::Ended if still_there(id) => return Err(Errno::PERM),
                    Unused::Ended => Verdict::Unused,
                    Unused::Used => Verdict::InUse,
                    Unused::Kept => Verdict::Holds,
                },
            )
        }
        (Verdict::Unfinished | Verdict::Ended, _) => {
            if !give_up(id, state)? {
                return Ok(Verdict::InUse);
            }
            directory::take_away(status.perm.cuid, id);
            Ok(verdict)
        }
        _ => Ok(verdict),
    }
}

fn still_there(id: i32) -> bool {
    matches!(Segment::from_id(id).status_any(), Ok(status) if !status.marked)
}
