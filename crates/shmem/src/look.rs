//! One scan of a name's keys: what is ready, what is being made, what is free.

use crate::close::end;
use crate::directory;
use crate::error::Reason;
use crate::header::{self, ENDED, Header, Lifetime, READY, State};
use crate::open::{Address, Creation, Opened, attach_live, is_gone};
use crate::presence::Identity;
use crate::region::{Region, View};
use std::time::{Duration, Instant};
use sysv::{Errno, Key, Segment, shm};

/// A look that takes no longer than this is quick: no channel grows so fast that it goes round all
/// keys in this time, each time a new segment with the message copied into it.
const QUICK: Duration = Duration::from_micros(100);
/// How many looks are taken for two quick ones in a row, on a machine that is busy or slow.
const LOOKS_MAX: usize = 64;

/// One key of the window that has a segment of the right creator.
pub(crate) struct Slot {
    pub(crate) key: Key,
    pub(crate) id: i32,
    pub(crate) state: State,
    status: shm::Status,
    found: Option<Found>,
}

/// What a look attaches for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    /// Reading and writing, where that is allowed.
    Write,
}

/// A channel that is ready.
#[derive(Clone)]
pub(crate) struct Found {
    pub(crate) opened: Opened<View>,
    /// The same memory, if it was attached for writing.
    writable: Option<Region>,
}

impl Found {
    /// The same for reading and writing; `None` if it went meanwhile.
    pub(crate) fn upgrade(&self) -> Result<Option<Opened<Region>>, Reason> {
        let Opened {
            id,
            header,
            creator_uid,
            ..
        } = &self.opened;
        let memory = match &self.writable {
            Some(memory) => memory.clone(),
            // That says why not.
            None => match attach_live(*id, Region::attach)? {
                Some(memory) => memory,
                None => return Ok(None),
            },
        };
        // Looked at after attaching: who ends a channel counts attaches after saying so.
        Ok((State::of(&memory) == State::Ready).then(|| Opened {
            memory,
            id: *id,
            header: header.clone(),
            creator_uid: *creator_uid,
        }))
    }
}

impl Slot {
    /// Whether it lies there new but is not as it should be.
    fn is_unsuited(&self, creation: &Creation) -> bool {
        self.state == State::New
            && (self.status.size != creation.length as u64
                || self.status.perm.mode != creation.mode)
    }
}

/// The state of a segment, which is ready again if it was being decided whether it goes when the
/// one who decides died.
pub(crate) fn settled(id: i32, view: &View) -> State {
    let state = State::of(view);
    let State::Leaving(leaver) = state else {
        return state;
    };
    if !matches!(leaver.is_alive(), Ok(false)) {
        return state;
    }
    if let Ok(region) = Region::attach(id) {
        header::advance(&region, header::leaving(leaver), READY);
    }
    match State::of(view) {
        // For who may only read it is as good as ready.
        State::Leaving(other) if other == leaver => State::Ready,
        state => state,
    }
}

/// Removes a segment that was new, claimed by somebody dead, or ended when it was looked at; says
/// whether it was still so.
///
/// Its word is changed first. Since the look a creator may have made it ready, and have exited as
/// well, which is why it seems dead.
pub(crate) fn give_up(id: i32, state: State) -> sysv::Result<bool> {
    let as_it_was = match state {
        State::New => Some(0),
        State::Claimed(creator) => Some(creator.word()),
        _ => None,
    };
    if let Some(word) = as_it_was {
        match Region::attach(id) {
            Ok(region) if header::advance(&region, word, ENDED) => {}
            Err(error @ Errno::ACCESS) => return Err(error),
            _ => return Ok(false),
        }
    }
    match Segment::from_id(id).remove() {
        Err(error @ Errno::PERM) => Err(error),
        removed => Ok(removed.is_ok()),
    }
}

/// One scan of a window.
pub(crate) struct Look {
    slots: Vec<Slot>,
    free: Vec<Key>,
    /// Segments of other users or names, and those of mine that are no channels.
    taken: Vec<shm::Status>,
    refused: Option<shm::Status>,
    damaged: Option<Reason>,
}

impl Look {
    pub(crate) fn at(address: &Address, access: Access) -> Result<Self, Reason> {
        Self::beside(address, access, None)
    }

    /// What there is but the segment with that id, which the caller knows: that costs no attach.
    fn beside(address: &Address, access: Access, mine: Option<i32>) -> Result<Self, Reason> {
        let mut look = Self {
            slots: vec![],
            free: vec![],
            taken: vec![],
            refused: None,
            damaged: None,
        };
        if let Address::Id(id) = address {
            look.see(address, access, Key::PRIVATE, *id)?;
        }
        for key in address.keys() {
            match Segment::open(key) {
                Ok(segment) if mine == Some(segment.id()) => {}
                Ok(segment) => look.see(address, access, key, segment.id())?,
                Err(Errno::NOENT) => look.free.push(key),
                Err(error) => return Err(Reason::Call("shmget", error)),
            }
        }
        Ok(look)
    }

    /// Looks until something is ready, or two quick looks in a row found that there is not.
    ///
    /// A look goes through the keys one by one, in the direction in which a channel that grows moves
    /// through them, and faster: so it meets the channel, before or after the move. But a channel
    /// at the last key moves to the first, behind a look's back; the second look meets it there.
    pub(crate) fn steadily(address: &Address, access: Access) -> Result<Self, Reason> {
        Self::steadily_beside(address, access, None)
    }

    /// The same for who has a segment there that is not ready.
    pub(crate) fn steadily_beside(
        address: &Address,
        access: Access,
        mine: Option<i32>,
    ) -> Result<Self, Reason> {
        let mut quick = 0;
        let mut looks = 0;
        loop {
            let began = Instant::now();
            let look = Self::beside(address, access, mine)?;
            quick = if began.elapsed() <= QUICK {
                quick + 1
            } else {
                0
            };
            looks += 1;
            if look.ready_slot().is_some() || quick == 2 || looks == LOOKS_MAX {
                return Ok(look);
            }
        }
    }

    fn see(&mut self, address: &Address, access: Access, key: Key, id: i32) -> Result<(), Reason> {
        let status = match Segment::from_id(id).status_any() {
            Ok(status) => status,
            // Removed meanwhile, or just being removed.
            Err(Errno::INVAL | Errno::IDRM) => return Ok(()),
            Err(error) => return Err(Reason::Call("shmctl", error)),
        };
        let stranger = matches!(address, Address::Name(name) if status.perm.cuid != name.uid());
        if stranger || status.size < header::SIZE as u64 {
            self.taken.push(status);
            return Ok(());
        }
        // For who may not write as for who need not.
        let writable = (access == Access::Write).then(|| Region::attach(id).ok());
        let writable = writable.flatten();
        let view = match &writable {
            Some(region) => Ok(region.view()),
            None => View::attach(id),
        };
        let view = match view {
            Ok(view) => view,
            Err(Errno::ACCESS) => {
                self.refused = Some(status);
                return Ok(());
            }
            // Removed meanwhile.
            Err(Errno::INVAL | Errno::IDRM) => return Ok(()),
            Err(error) => return Err(Reason::Call("shmat", error)),
        };
        // An anonymous channel is marked from the start; it is reached by id only.
        if !matches!(address, Address::Id(_)) && is_gone(id) {
            return Ok(());
        }
        let state = settled(id, &view);
        let mut slot = Slot {
            key,
            id,
            state,
            found: None,
            status,
        };
        match state {
            State::Foreign => {
                self.taken.push(slot.status);
                return Ok(());
            }
            State::New | State::Claimed(_) | State::Leaving(_) | State::Ended => {}
            State::Ready => match Header::read(&view) {
                Ok(header) => {
                    let other =
                        matches!(address, Address::Name(name) if header.name != name.text());
                    if other {
                        self.taken.push(slot.status);
                        return Ok(());
                    }
                    let creator_uid = slot.status.perm.cuid;
                    let opened = Opened {
                        memory: view,
                        id,
                        header,
                        creator_uid,
                    };
                    slot.found = Some(Found { opened, writable });
                }
                Err(bad) => {
                    self.damaged = Some(Reason::Damaged(id, bad));
                    self.taken.push(slot.status);
                    return Ok(());
                }
            },
        }
        self.slots.push(slot);
        Ok(())
    }

    fn ready_slot(&self) -> Option<&Slot> {
        let ready = self.slots.iter().filter(|slot| slot.found.is_some());
        ready.max_by_key(|slot| {
            let found = slot.found.as_ref();
            found.map(|found| found.opened.header.generation)
        })
    }

    pub(crate) fn ready(&self) -> Option<Found> {
        self.ready_slot().and_then(|slot| slot.found.clone())
    }

    /// Whether what is ready is a channel that everyone who used it left by dying.
    pub(crate) fn is_left_over(&self) -> bool {
        self.ready_slot().is_some_and(|slot| {
            let found = slot.found.as_ref();
            let lifetime = found.map(|found| found.opened.header.lifetime);
            lifetime == Some(Lifetime::WhileUsed) && slot.status.attaches == 0
        })
    }

    /// Somebody alive who initialises one of the segments chosen, or decides whether it goes.
    pub(crate) fn claimed(
        &self,
        choose: impl Fn(&Slot) -> bool,
    ) -> Result<Option<Identity>, Reason> {
        for slot in self.slots.iter().filter(|slot| choose(slot)) {
            if let State::Claimed(creator) | State::Leaving(creator) = slot.state
                && creator.is_alive().map_err(Reason::presence)?
            {
                return Ok(Some(creator));
            }
        }
        Ok(None)
    }

    fn is_abandoned(slot: &Slot) -> bool {
        match slot.state {
            State::Claimed(creator) => matches!(creator.is_alive(), Ok(false)),
            State::Ended => true,
            _ => false,
        }
    }

    /// Removes what dead creators and removers left, and says how many segments that was.
    ///
    /// In a name's window that is also what lies there new: a creator that lives starts over.
    pub(crate) fn sweep(&self, address: &Address) -> usize {
        let named = matches!(address, Address::Name(_));
        let left = |slot: &&Slot| Self::is_abandoned(slot) || named && slot.state == State::New;
        let slots = self.slots.iter().filter(left);
        let removed = slots.filter(|slot| give_up(slot.id, slot.state) == Ok(true));
        removed
            .inspect(|slot| directory::take_away(slot.status.perm.cuid, slot.id))
            .count()
    }

    /// Removes what is in the way of a new segment: what the dead left, and what lies there new
    /// but is not as it should be. Answers what it may not remove.
    ///
    /// By key, what lies there new may be any program's and stays.
    pub(crate) fn clear(&self, address: &Address, creation: &Creation) -> Vec<i32> {
        let in_the_way = |slot: &&Slot| Self::is_abandoned(slot) || slot.is_unsuited(creation);
        let foreign =
            |slot: &Slot| slot.state == State::New && !matches!(address, Address::Name(_));
        let slots = self.slots.iter().filter(in_the_way);
        slots
            .filter(|slot| foreign(slot) || give_up(slot.id, slot.state).is_err())
            .map(|slot| slot.id)
            .collect()
    }

    /// Ends the generations before the one that is ready: whoever made that died before it could.
    pub(crate) fn end_older(&self) {
        let found = || self.slots.iter().filter_map(|slot| slot.found.as_ref());
        let generation = |found: &Found| found.opened.header.generation;
        let Some(newest) = found().map(generation).max() else {
            return;
        };
        for old in found().filter(|found| generation(found) < newest) {
            if let Ok(Some(old)) = old.upgrade() {
                end(&old);
            }
        }
    }

    /// The lowest key at which there is nothing, or something new; for the next generation of a
    /// channel the next one behind it, and the lowest when there is none (see `steadily`).
    pub(crate) fn free_key(&self, address: &Address, creation: &Creation) -> Option<Key> {
        let now = self.ready_slot().and_then(|slot| address.rank(slot.key));
        let new = self
            .slots
            .iter()
            .filter(|slot| slot.state == State::New && !slot.is_unsuited(creation))
            .map(|slot| slot.key);
        new.chain(self.free.iter().copied()).min_by_key(|key| {
            let rank = address.rank(*key);
            (rank < now, rank)
        })
    }

    pub(crate) fn others(&self) -> Vec<i32> {
        self.taken.iter().map(|status| status.id).collect()
    }

    /// Whether nothing but what `stuck` names has a key of the window.
    pub(crate) fn is_full(&self, stuck: &[i32]) -> bool {
        self.slots.iter().all(|slot| stuck.contains(&slot.id))
    }

    /// Why a segment that may be the one can't be looked at.
    pub(crate) fn refusal(&self) -> Option<Reason> {
        self.refused.map(Reason::Denied)
    }

    /// Why nothing was found.
    pub(crate) fn why_not(&self) -> Reason {
        match (&self.refused, &self.damaged) {
            (Some(status), _) => Reason::Denied(*status),
            (_, Some(reason)) => reason.clone(),
            _ if !self.taken.is_empty() && self.free.is_empty() => {
                Reason::NotAChannel(self.others())
            }
            _ => Reason::NotFound,
        }
    }
}
