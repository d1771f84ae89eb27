//! Ending a channel: by removing it, by replacing it, or by being the last to leave.

use crate::directory;
use crate::header::{self, ENDED, Lifetime, READY, State};
use crate::mourning;
use crate::name::is_name_key;
use crate::name::my_uid;
use crate::open::{Expected, Opened};
use crate::presence;
use crate::region::{Region, View};
use sysv::Segment;

/// Removes a channel: its name is free, and whoever has it open learns of it.
///
/// # Errors
/// `EPERM` for who neither owns nor created it, `EINVAL` if it is gone already.
pub fn remove(opened: &Opened<Region>) -> sysv::Result<()> {
    let segment = Segment::from_id(opened.id);
    let perm = segment.status_any()?.perm;
    // First the word: killed in between, a remover leaves a segment that its users know to be
    // ended and the next creator takes away. The other way round they would go on with one that
    // nobody can find. Where the kernel might refuse the removal, that must come first.
    if [perm.uid, perm.cuid].contains(&my_uid()) {
        header::advance(&opened.memory, READY, ENDED);
    }
    segment.remove()?;
    header::advance(&opened.memory, READY, ENDED);
    directory::take_away(opened.creator_uid, opened.id);
    Ok(())
}

/// Removes a segment, whatever is in it; if it is a channel, whoever has it open learns of it and
/// it leaves the directory.
///
/// # Errors
/// `EPERM` for who neither owns nor created it, `EINVAL` if it is gone already.
pub fn remove_segment(id: i32) -> sysv::Result<()> {
    let segment = Segment::from_id(id);
    let perm = segment.status_any().ok().map(|status| status.perm);
    // An attach makes the removal wait for it, and could be refused where the removal is not. Who
    // has a channel open that has no name learns of its removal at the end of a slice.
    let named = perm.filter(|perm| is_name_key(perm.key));
    let region = named.and_then(|_| Region::attach(id).ok());
    segment.remove()?;
    if let Some(region) = region.filter(|region| State::of(region) == State::Ready) {
        header::advance(&region, READY, ENDED);
    }
    if let Some(perm) = perm {
        directory::take_away(perm.cuid, id);
    }
    Ok(())
}

/// [`remove`] for who goes on with a newer one, and need not be told that it failed.
pub fn end(old: &Opened<Region>) {
    // First the word: who sees the name gone must not find this one still ready.
    header::advance(&old.memory, READY, ENDED);
    let _ = remove(old);
}

/// What became of a channel that was to end if nobody uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unused {
    /// It is gone, or somebody else sees to it.
    Ended,
    /// Somebody uses it.
    Used,
    /// Something in it still waits for somebody.
    Kept,
}

/// Removes a channel that lives while it is used, if nobody uses it but the caller with `mine`
/// attaches, and if it may be discarded.
///
/// Marks it first and counts the attaches after: who attached before the count is seen by it, who
/// attaches later sees the mark and waits until it is decided. Killed in between, this process
/// leaves the mark of a dead one, and the channel counts as ready again.
pub(crate) fn end_if_unused(
    id: i32,
    creator_uid: u32,
    mine: u64,
    may_discard: fn(&View) -> bool,
) -> Unused {
    match Region::attach(id) {
        Ok(region) => end_attached(&region, id, creator_uid, mine + 1, may_discard),
        Err(_) => Unused::Ended,
    }
}

/// The same for who has it attached: that is one of `mine`.
fn end_attached(
    region: &Region,
    id: i32,
    creator_uid: u32,
    mine: u64,
    may_discard: fn(&View) -> bool,
) -> Unused {
    let Ok(me) = presence::mine() else {
        return Unused::Ended;
    };
    let mark = header::leaving(me);
    if !may_discard(region) {
        return Unused::Kept;
    }
    if !header::advance(region, READY, mark) {
        return Unused::Ended;
    }
    let segment = Segment::from_id(id);
    let used = matches!(segment.status_any(), Ok(status) if status.attaches > mine);
    // Again: somebody may have come, left something and gone before the mark.
    let kept = !used && !may_discard(region);
    if used || kept {
        header::advance(region, mark, READY);
        return if used { Unused::Used } else { Unused::Kept };
    }
    header::advance(region, mark, ENDED);
    let _ = segment.remove();
    directory::take_away(creator_uid, id);
    Unused::Ended
}

/// The last to leave a channel that lives while it is used removes it.
///
/// Declare it *behind* the memory in a structure: fields are dropped in their order, and what this has of the
/// memory is to be the last.
#[derive(Debug)]
pub struct Leaving {
    lifetime: Lifetime,
    id: i32,
    creator_uid: u32,
    may_discard: fn(&View) -> bool,
    /// Of who may write: to remove the channel without attaching it once more.
    memory: Option<Region>,
}

impl Leaving {
    /// For the user of an opened channel.
    pub fn new<M>(opened: &Opened<M>, expected: &Expected) -> Self {
        let Opened {
            id, creator_uid, ..
        } = *opened;
        Self {
            lifetime: opened.header.lifetime,
            id,
            creator_uid,
            may_discard: expected.may_discard,
            memory: None,
        }
    }

    /// For one who may write to it.
    pub fn of_writable(opened: &Opened<Region>, expected: &Expected) -> Self {
        Self {
            memory: Some(opened.memory.clone()),
            ..Self::new(opened, expected)
        }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if self.lifetime != Lifetime::WhileUsed {
            return;
        }
        let segment = Segment::from_id(self.id);
        let mine = u64::from(self.memory.is_some());
        let is_alone = |mine| matches!(segment.status_any(), Ok(status) if status.attaches == mine && !status.marked);
        mourning::wait(|| matches!(segment.status_any(), Ok(status) if status.attaches != mine));
        if let Some(memory) = self.memory.take()
            && is_alone(mine)
        {
            let (uid, may_discard) = (self.creator_uid, self.may_discard);
            if end_attached(&memory, self.id, uid, mine, may_discard) != Unused::Used {
                return;
            }
        }
        // Two that leave at once may each see the other and stay their hand; whoever is last to
        // let go sees nobody.
        while is_alone(0) {
            match end_if_unused(self.id, self.creator_uid, 0, self.may_discard) {
                Unused::Ended | Unused::Kept => break,
                Unused::Used => {}
            }
        }
    }
}
