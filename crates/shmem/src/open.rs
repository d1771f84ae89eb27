//! Finding and creating the segment behind a name, whoever else does the same or dies meanwhile.
//!
//! A name has a window of keys (see `name`). To **find** it, the whole window is scanned: the
//! segment that answers is ready, was created by the name's user as the kernel recorded it, and
//! bears the name in its header. Of two generations of one channel the later answers.
//!
//! To **create** it, when the scan finds nothing:
//!
//! 1. Wait for anybody alive who is initialising a segment of the window: it may be this name.
//! 2. Make a segment at the lowest free key, or take one that lies there new (all zero, as a
//!    creator leaves it that dies at once).
//! 3. Claim it: compare-exchange the state word from zero to my identity. One wins.
//! 4. Write the header and let the channel format its part.
//! 5. **Look again.** If a segment of this name is ready, or somebody alive claims a lower key,
//!    give mine up and start over. If somebody alive claims a higher key, wait until it has
//!    decided.
//! 6. Store `READY`.
//!
//! Two creators of one name can't both get to 6. Each claims (3) before it looks (5), so at least
//! one of them sees the other: the one with the higher key, if it sees the other, gives up; if it
//! does not, its look came before the other's claim, and the other waits for it and finds it
//! ready. Waiting goes from lower to higher keys only, so somebody always goes on.
//!
//! **Crash.** Before 3, a new segment is left, which the next creator takes. Before 6, one that is
//! claimed by a dead process, which the next creator removes. After an opener attaches it looks
//! whether the segment was marked for destruction in between, and starts over if so. Of two
//! generations that are both ready the earlier is what a process left that died while the channel
//! moved: whoever opens the channel for writing ends it, so that those who have it open follow.

use crate::close::{end, end_if_unused};
use crate::directory;
pub use crate::error::OpenError;
use crate::error::Reason;
use crate::header::{self, ENDED, Header, Kind, Lifetime, READY, State};
use crate::look::{Access, Look, Slot};
use crate::name::{Name, my_uid};
use crate::presence::{self, Identity};
use crate::region::{OutOfBounds, Region, View};
use crate::wait::Patience;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use sysv::{Errno, Key, Mode, Segment, shm};

/// How a channel is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// By name: only the named user's segment answers.
    Name(Name),
    /// By key, whoever made it.
    Key(Key),
    /// By id, whoever made it.
    Id(i32),
}

impl Address {
    pub(crate) fn keys(&self) -> Vec<Key> {
        match self {
            Self::Name(name) => name.keys().collect(),
            Self::Key(key) => vec![*key],
            Self::Id(_) => Vec::new(),
        }
    }
}

impl Address {
    /// Where in the window a key stands; the lowest goes first.
    pub(crate) fn rank(&self, key: Key) -> Option<usize> {
        self.keys().iter().position(|k| *k == key)
    }
}

impl From<Name> for Address {
    fn from(name: Name) -> Self {
        Self::Name(name)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "'{name}'"),
            Self::Key(key) => write!(f, "key {key}"),
            Self::Id(id) => write!(f, "id {id}"),
        }
    }
}

/// What a channel expects of its segments.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// Which channel.
    pub kind: Kind,
    /// Hash of its layout, see [`header::layout_hash`].
    pub layout_hash: u64,
    /// Whether one that lives while it is used, and is not used any more, may go: not if something
    /// in it still waits for somebody.
    pub may_discard: fn(&View) -> bool,
}

/// What a new segment is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Creation {
    /// Bytes, header included.
    pub length: usize,
    /// Permissions.
    pub mode: Mode,
    /// How long it lives.
    pub lifetime: Lifetime,
    /// User and group that are to own it, if they are not the creator's.
    pub owner: Option<(u32, u32)>,
}

/// A segment that is a channel, attached.
#[derive(Clone, Debug)]
pub struct Opened<M> {
    /// Its memory: a [`Region`], or a [`View`] for readers.
    pub memory: M,
    /// Its id.
    pub id: i32,
    /// Its header, copied when it was opened.
    pub header: Header,
    /// Who created it, as the kernel recorded it.
    pub creator_uid: u32,
}

/// Formats the channel's own part of a new segment, which is all zero.
pub type Format<'a> = &'a dyn Fn(&Region) -> Result<(), OutOfBounds>;

/// Opens a channel for reading only.
///
/// # Errors
/// See [`Reason`].
pub fn open_read_only(address: &Address, expected: &Expected) -> Result<Opened<View>, OpenError> {
    let found = find(address)?;
    found
        .check(expected)
        .map_err(|reason| OpenError::new(address, reason))?;
    Ok(found)
}

/// Finds a channel of whatever kind, for reading only.
///
/// # Errors
/// See [`Reason`].
pub fn find(address: &Address) -> Result<Opened<View>, OpenError> {
    let at = |reason| OpenError::new(address, reason);
    let look = Look::steadily(address, Access::Read).map_err(at)?;
    let found = look.ready().ok_or_else(|| at(look.why_not()))?;
    Ok(found.opened)
}

/// Opens a channel for reading and writing.
///
/// # Errors
/// See [`Reason`].
pub fn open(address: &Address, expected: &Expected) -> Result<Opened<Region>, OpenError> {
    let at = |reason| OpenError::new(address, reason);
    loop {
        let look = Look::steadily(address, Access::Write).map_err(at)?;
        let found = look.ready().ok_or_else(|| at(look.why_not()))?;
        found.opened.check(expected).map_err(at)?;
        look.end_older();
        if let Some(opened) = found.upgrade().map_err(at)? {
            return Ok(opened);
        }
    }
}

/// Removes what dead creators and removers left at an address, and says whether there was any.
///
/// # Errors
/// See [`Reason`].
pub fn sweep(address: &Address) -> Result<bool, OpenError> {
    let at = |reason| OpenError::new(address, reason);
    let look = Look::at(address, Access::Read).map_err(at)?;
    Ok(look.sweep(address) > 0)
}

/// Opens a channel for reading only, waiting until there is one.
///
/// There is nothing to sleep on before a name exists: it looks in growing slices, up to 10 ms.
///
/// # Errors
/// See [`Reason`]; `NotFound` when patience ends.
pub fn wait_read_only(
    address: &Address,
    expected: &Expected,
    patience: Patience,
) -> Result<Opened<View>, OpenError> {
    let mut pause = Pause::new(patience);
    loop {
        match open_read_only(address, expected) {
            Err(error) if error.is_not_found() && pause.sleep() => {}
            result => return result,
        }
    }
}

/// [`wait_read_only`] for reading and writing.
///
/// # Errors
/// See [`Reason`]; `NotFound` when patience ends.
pub fn wait(
    address: &Address,
    expected: &Expected,
    patience: Patience,
) -> Result<Opened<Region>, OpenError> {
    let mut pause = Pause::new(patience);
    loop {
        match open(address, expected) {
            Err(error) if error.is_not_found() && pause.sleep() => {}
            result => return result,
        }
    }
}

/// Opens a channel for reading and writing, creating it if there is none.
///
/// # Errors
/// See [`Reason`].
pub fn open_or_create(
    address: &Address,
    expected: &Expected,
    creation: &Creation,
    format: Format<'_>,
) -> Result<Opened<Region>, OpenError> {
    let at = |reason| OpenError::new(address, reason);
    // Bounded, so that a creator that was stopped does not hold up everyone for ever.
    let mut pause = Pause::new(Patience::from(Duration::from_secs(10)));
    loop {
        let look = Look::at(address, Access::Write).map_err(at)?;
        if let Some(found) = look.ready() {
            let opened = &found.opened;
            opened.check(expected).map_err(at)?;
            if !look.is_left_over() || !(expected.may_discard)(&opened.memory) {
                look.end_older();
                match found.upgrade().map_err(at)? {
                    Some(opened) => return Ok(opened),
                    None => continue,
                }
            }
            drop(look);
            end_if_unused(opened.id, opened.creator_uid, 1, expected.may_discard);
            continue;
        }
        if let Some(reason) = look.refusal() {
            return Err(at(reason));
        }
        if let Some(creator) = look.claimed(|_| true).map_err(at)? {
            if !pause.sleep() {
                return Err(at(Reason::Unfinished(creator)));
            }
            continue;
        }
        if let Some(opened) = create(address, &look, expected, creation, 1, format).map_err(at)? {
            return Ok(opened);
        }
        if !pause.sleep() {
            return Err(at(Reason::Contended));
        }
    }
}

/// Makes a channel without a name or key, which peers reach by its id, and which the kernel frees
/// with its last user.
///
/// # Errors
/// See [`Reason`].
pub fn create_anonymous(
    expected: &Expected,
    creation: &Creation,
    format: Format<'_>,
) -> Result<Opened<Region>, OpenError> {
    let make = || {
        let me = presence::mine().map_err(Reason::presence)?;
        let segment = shm::Options::new(creation.length)
            .mode(creation.mode)
            .create(Key::PRIVATE)
            .map_err(|error| Reason::create(creation.length, error))?;
        let region = Region::attach(segment.id());
        // Before anything can go wrong, so that nothing is left behind.
        segment
            .remove()
            .map_err(|error| Reason::Call("shmctl", error))?;
        let memory = region.map_err(|error| Reason::Call("shmat", error))?;
        let header = new_header(expected, creation, me, 1, String::new());
        let fits = header.write(&memory).and_then(|()| format(&memory));
        fits.map_err(|bounds| Reason::TooSmall(bounds.region))?;
        header::advance(&memory, 0, READY);
        Ok(Opened {
            memory,
            id: segment.id(),
            header,
            creator_uid: my_uid(),
        })
    };
    make().map_err(|reason| OpenError::new(&Address::Key(Key::PRIVATE), reason))
}

fn new_header(
    expected: &Expected,
    creation: &Creation,
    me: Identity,
    generation: u32,
    name: String,
) -> Header {
    Header {
        kind: expected.kind as u32,
        layout_hash: expected.layout_hash,
        length: creation.length as u64,
        generation,
        lifetime: creation.lifetime,
        creator_uid: my_uid(),
        creator_pid: std::process::id(),
        creator: me.word(),
        created: now(),
        name,
    }
}

/// Creates the next generation of a named channel, which takes the place of `old`.
///
/// The caller holds whatever lock keeps other writers from `old`. `fill` writes the channel's own
/// part. When this returns, `old` is ended, and whoever has it open will look for the new one.
///
/// # Errors
/// See [`Reason`]; `NoRoomToGrow` if the address is not a name.
pub fn replace(
    address: &Address,
    old: &Opened<Region>,
    expected: &Expected,
    creation: &Creation,
    fill: Format<'_>,
) -> Result<Opened<Region>, OpenError> {
    let at = |reason| OpenError::new(address, reason);
    if !matches!(address, Address::Name(_)) {
        return Err(at(Reason::NoRoomToGrow));
    }
    let mut pause = Pause::new(Patience::from(Duration::from_secs(10)));
    loop {
        let look = Look::at(address, Access::Write).map_err(at)?;
        if let Some(newer) = look
            .ready()
            .filter(|r| r.opened.header.generation > old.header.generation)
        {
            // Somebody got this far and died before ending `old`.
            end(old);
            match newer.upgrade().map_err(at)? {
                Some(newer) => return Ok(newer),
                None => continue,
            }
        }
        let generation = old.header.generation.wrapping_add(1);
        if let Some(new) =
            create(address, &look, expected, creation, generation, fill).map_err(at)?
        {
            end(old);
            return Ok(new);
        }
        if !pause.sleep() {
            return Err(at(Reason::NoRoomToGrow));
        }
    }
}

/// Steps 2 to 6. `None`: start over.
fn create(
    address: &Address,
    look: &Look,
    expected: &Expected,
    creation: &Creation,
    generation: u32,
    format: Format<'_>,
) -> Result<Option<Opened<Region>>, Reason> {
    let name = match address {
        Address::Name(name) if !name.is_mine() => return Err(Reason::NotMine(name.uid())),
        Address::Name(name) => name.text().to_owned(),
        Address::Key(Key::PRIVATE) => return Err(Reason::Private),
        Address::Key(_) => String::new(),
        Address::Id(_) => return Err(Reason::NotFound),
    };
    let me = presence::mine().map_err(Reason::presence)?;
    let stuck = look.clear(address, creation);
    let Some(key) = look.free_key(address, creation) else {
        // What was in the way is gone, or somebody else was faster.
        if !look.is_full(&stuck) {
            return Ok(None);
        }
        return Err(Reason::WindowFull([look.others(), stuck].concat()));
    };
    // Without IPC_EXCL: what lies there new may be taken by anyone, and the claim decides.
    let segment = match shm::Options::new(creation.length)
        .mode(creation.mode)
        .open_or_create(key)
    {
        Ok(segment) => segment,
        // A smaller one appeared there, or one of somebody who lets nobody in.
        Err(Errno::INVAL) if creation.length as u64 <= max_length() => return Ok(None),
        Err(Errno::ACCESS) => return Ok(None),
        Err(error) => return Err(Reason::create(creation.length, error)),
    };
    let Some(region) = attach_live(segment.id(), Region::attach)? else {
        return Ok(None);
    };
    // Between the look and now a stranger may have made one at this key, to be written into.
    let stranger = |status: shm::Status| status.perm.cuid != my_uid();
    if segment.status_any().map_or(true, stranger) && matches!(address, Address::Name(_)) {
        return Ok(None);
    }
    if region.len() != creation.length || !header::claim(&region, State::New, me) {
        return Ok(None);
    }
    // From here on nobody touches the segment while this process lives.
    let claimed = Claimed {
        region: &region,
        segment,
        me,
    };
    if is_gone(segment.id()) {
        return Ok(None);
    }
    let header = new_header(expected, creation, me, generation, name.clone());
    let fits = header.write(&region).and_then(|()| format(&region));
    fits.map_err(|bounds| Reason::TooSmall(bounds.region))?;
    if let Some((uid, gid)) = creation.owner {
        let change = sysv::Change {
            uid: Some(uid),
            gid: Some(gid),
            mode: None,
        };
        segment
            .set(&change)
            .map_err(|error| Reason::Call("shmctl", error))?;
    }
    if !claimed.decide(address, key, generation)? {
        return Ok(None);
    }
    // For listings only: a full directory does not stop anybody.
    let _ = directory::add(&directory::Entry {
        id: segment.id(),
        kind: expected.kind,
        name,
    });
    Ok(claimed.ready().then_some(Opened {
        memory: region.clone(),
        id: segment.id(),
        header,
        creator_uid: my_uid(),
    }))
}

/// A segment that this process initialises; given up unless it becomes ready.
struct Claimed<'a> {
    region: &'a Region,
    segment: Segment,
    me: Identity,
}

impl Claimed<'_> {
    /// Step 5: whether mine is the one.
    fn decide(&self, address: &Address, key: Key, generation: u32) -> Result<bool, Reason> {
        let rank = |key: Key| address.rank(key);
        let mut pause = Pause::new(Patience::from(Duration::from_secs(10)));
        loop {
            let mine = Some(self.segment.id());
            let look = Look::steadily_beside(address, Access::Read, mine)?;
            if look
                .ready()
                .is_some_and(|ready| ready.opened.header.generation >= generation)
            {
                return Ok(false);
            }
            let lower = |slot: &Slot| rank(slot.key) < rank(key);
            if look.claimed(lower)?.is_some() {
                return Ok(false);
            }
            if look.claimed(|_| true)?.is_none() {
                return Ok(!is_gone(self.segment.id()));
            }
            if !pause.sleep() {
                return Ok(false);
            }
        }
    }

    /// Step 6.
    fn ready(self) -> bool {
        // [HEADER_READY] release.
        header::advance(self.region, self.me.word(), READY)
    }
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        if header::advance(self.region, self.me.word(), ENDED) {
            let _ = self.segment.remove();
        }
    }
}

impl Opened<View> {
    /// Whether it is what the caller wants.
    fn check(&self, expected: &Expected) -> Result<(), Reason> {
        if self.header.kind != expected.kind as u32 {
            return Err(Reason::Kind {
                found: self.header.kind,
                expected: expected.kind,
            });
        }
        if self.header.layout_hash != expected.layout_hash {
            return Err(Reason::Layout(self.id));
        }
        Ok(())
    }
}

impl<M> Opened<M> {
    /// Whether the segment was removed, so that nobody can find it any more.
    pub fn is_gone(&self) -> bool {
        is_gone(self.id)
    }
}

/// Attaches; `None` if the segment is gone.
pub(crate) fn attach_live<M>(
    id: i32,
    attach: fn(i32) -> sysv::Result<M>,
) -> Result<Option<M>, Reason> {
    match attach(id) {
        Ok(memory) => Ok(Some(memory)),
        Err(Errno::INVAL | Errno::IDRM) => Ok(None),
        Err(Errno::ACCESS) => match Segment::from_id(id).status_any() {
            Ok(status) => Err(Reason::Denied(status)),
            Err(_) => Ok(None),
        },
        Err(error) => Err(Reason::Call("shmat", error)),
    }
}

pub(crate) fn is_gone(id: i32) -> bool {
    !matches!(Segment::from_id(id).status_any(), Ok(status) if !status.marked)
}

fn max_length() -> u64 {
    shm::limits(sysv::Kernel).map_or(u64::MAX, |limits| limits.shmmax)
}

fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    since.as_nanos() as u64
}

/// Growing sleeps, from a tenth of a millisecond to ten.
struct Pause {
    patience: Patience,
    next: Duration,
}

impl Pause {
    fn new(patience: Patience) -> Self {
        Self {
            patience,
            next: Duration::from_micros(100),
        }
    }

    /// False when patience is over.
    fn sleep(&mut self) -> bool {
        if self.patience.is_over() {
            return false;
        }
        std::thread::sleep(self.patience.slice(self.next));
        self.next = (self.next * 2).min(Duration::from_millis(10));
        true
    }
}
