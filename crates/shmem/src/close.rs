//! Ending a channel: by removing it, by replacing it, or by being the last to leave.

use crate::directory;
use crate::header::{self, ENDED, Lifetime, READY};
use crate::open::Opened;
use crate::region::Region;
use sysv::Segment;

/// Removes a channel: its name is free, and whoever has it open learns of it.
///
/// # Errors
/// `EPERM` for who neither owns nor created it, `EINVAL` if it is gone already.
pub fn remove(opened: &Opened<Region>) -> sysv::Result<()> {
    Segment::from_id(opened.id).remove()?;
    header::advance(&opened.memory, READY, ENDED);
    directory::take_away(opened.creator_uid, opened.id);
    Ok(())
}

/// [`remove`] for who can't or need not be told that it failed.
pub(crate) fn end(old: &Opened<Region>) {
    // First the word: who sees the name gone must not find this one still ready.
    header::advance(&old.memory, READY, ENDED);
    let _ = remove(old);
}

/// Removes a channel that lives while it is used, if nobody uses it but the caller with `mine`
/// attaches. Answers false if somebody does.
///
/// Says `ENDED` first and counts the attaches after: who attached before the count is seen by it,
/// who attaches later sees `ENDED` and starts over.
pub(crate) fn end_if_unused<M>(opened: &Opened<M>, mine: u64) -> bool {
    let Ok(region) = Region::attach(opened.id) else {
        return true;
    };
    if !header::advance(&region, READY, ENDED) {
        return true;
    }
    if matches!(Segment::from_id(opened.id).status_any(), Ok(status) if status.attaches > mine + 1)
    {
        header::advance(&region, ENDED, READY);
        return false;
    }
    let _ = Segment::from_id(opened.id).remove();
    directory::take_away(opened.creator_uid, opened.id);
    true
}

/// Leaves a channel; the last to leave removes one that lives while it is used.
pub fn leave(opened: Opened<Region>) {
    let Opened {
        memory,
        id,
        header,
        creator_uid,
    } = opened;
    drop(memory);
    if header.lifetime != Lifetime::WhileUsed {
        return;
    }
    // Two that leave at once may each see the other and stay their hand; whoever is last to let
    // go sees nobody.
    while matches!(Segment::from_id(id).status_any(), Ok(status) if status.attaches == 0 && !status.marked)
    {
        let rest = Opened {
            memory: (),
            id,
            header: header.clone(),
            creator_uid,
        };
        if end_if_unused(&rest, 0) {
            break;
        }
    }
}
