//! The directory: which segment has which name, for who looks without touching.
//!
//! Reading a name from a segment's header takes an attach, and an attach moves the segment's
//! times. So the names of a user's channels stand a second time in a small System V message queue
//! of that user: one message for each channel, its type the segment's id + 1, its text the kind
//! and the name. The kernel makes adding and taking away atomic, whoever dies; reading goes by
//! `MSG_COPY` and changes nothing. The directory is made with the first channel and goes with
//! the last.
//!
//! It serves listings only: opening a channel never asks it. An entry that is missing (a kernel
//! without `MSG_COPY`, a full directory) costs the listing a name; one that is left over (a
//! segment removed by `ipcrm`) is seen to be stale and swept by the next change.
//!
//! **Protocol for its end.** Who finds it empty sets the queue's capacity to zero, so that nobody
//! can add, looks again, and removes it. One that was left at capacity zero by a death is removed
//! by the next who wants to add.

use crate::header::Kind;
use crate::name::{my_uid, window};
use sysv::msg;
use sysv::{Errno, Key, Mode, Queue, Segment, Select, Wait};

/// What the directory knows of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Id of its segment.
    pub id: i32,
    /// Which channel.
    pub kind: Kind,
    /// Its name without the user; empty if it is reached by its key.
    pub name: String,
}

/// How many directories a user may have, each of the kernel's default capacity (`msgmnb`).
const VOLUMES: usize = 8;
/// Longest entry: the kind and a name.
const ENTRY_MAX: usize = 4 + crate::header::NAME_MAX;

fn keys(uid: u32) -> impl Iterator<Item = Key> {
    window(&[b"directory", &uid.to_le_bytes()]).take(VOLUMES)
}

/// The directories of a user, found by key and known by their creator.
fn volumes(uid: u32) -> impl Iterator<Item = Queue> {
    keys(uid).filter_map(move |key| {
        let queue = Queue::open(key).ok()?;
        (queue.status_any().ok()?.perm.cuid == uid).then_some(queue)
    })
}

/// Whether a message queue is somebody's directory.
pub fn is_directory(status: &msg::Status) -> bool {
    keys(status.perm.cuid).any(|key| key == status.perm.key)
}

/// The channels of a user. Changes nothing.
///
/// What another user's directory says can only be read with `CAP_IPC_OWNER`; without, there are
/// no entries. The ids are a hint: check that the segment exists and who created it.
pub fn entries(uid: u32) -> Vec<Entry> {
    volumes(uid).flat_map(|queue| read(&queue)).collect()
}

fn read(queue: &Queue) -> Vec<Entry> {
    let mut found = Vec::new();
    // Positions shift when somebody takes an entry away meanwhile: read again if that was so.
    for _ in 0..3 {
        found.clear();
        while let Some(entry) = read_at(queue, found.len()) {
            found.push(entry);
        }
        let count = queue.status().map(|status| status.messages).unwrap_or(0);
        if count == found.len() as u64 {
            break;
        }
    }
    found.into_iter().flatten().collect()
}

/// The entry at a position, if there is one, and if it is one.
fn read_at(queue: &Queue, position: usize) -> Option<Option<Entry>> {
    let mut text = [0u8; ENTRY_MAX];
    let message = queue.receive_into(Select::At(position), &mut text, Wait::Never);
    let message = message.ok()?;
    Some(parse(message.message_type, &text[..message.length]))
}

fn parse(message_type: i64, text: &[u8]) -> Option<Entry> {
    let (kind, name) = text.split_first_chunk::<4>()?;
    Some(Entry {
        id: i32::try_from(message_type - 1).ok()?,
        kind: Kind::from_number(u32::from_le_bytes(*kind))?,
        name: std::str::from_utf8(name).ok()?.to_owned(),
    })
}

/// Adds an entry to this user's directory: where there is room, and before another volume is made, in place of
/// stale ones. To look for these takes milliseconds in a volume of hundreds.
///
/// # Errors
/// `EAGAIN` if all volumes are full, `ENOSPC` if there may be no more queues.
pub fn add(entry: &Entry) -> sysv::Result<()> {
    let uid = my_uid();
    let mut text = (entry.kind as u32).to_le_bytes().to_vec();
    text.extend_from_slice(entry.name.as_bytes());
    let add_at = |key| add_at(key, uid, i64::from(entry.id) + 1, &text);
    let mut full = Vec::new();
    for key in keys(uid).map(Some).chain([None]) {
        if !key.is_some_and(|key| full.is_empty() || Queue::open(key).is_ok()) {
            for key in full.drain(..) {
                if Queue::open(key).is_ok_and(|queue| sweep(&queue) > 0) && add_at(key)? {
                    return Ok(());
                }
            }
        }
        let Some(key) = key else { break };
        if add_at(key)? {
            return Ok(());
        }
        full.push(key);
    }
    Err(Errno::AGAIN)
}

/// Adds an entry to a volume, which is made if there is none; false if that is full or somebody else's.
fn add_at(key: Key, uid: u32, message_type: i64, text: &[u8]) -> sysv::Result<bool> {
    // Made anew if it goes just now; a few times, lest two programs play ping-pong.
    for _ in 0..4 {
        let queue = Queue::open_or_create(key, Mode::from_bits_truncate(0o600))?;
        match queue.status_any() {
            Ok(status) if status.perm.cuid == uid => {}
            Ok(_) => return Ok(false),
            Err(Errno::INVAL) => continue,
            Err(error) => return Err(error),
        }
        match queue.send(message_type, text, Wait::Never) {
            Ok(()) => return Ok(true),
            Err(Errno::INVAL | Errno::IDRM) => {}
            Err(Errno::AGAIN) if !has_ended(&queue) => return Ok(false),
            Err(Errno::AGAIN) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// Whether a volume that has no room is no more: takes away one that is closing.
fn has_ended(queue: &Queue) -> bool {
    match queue.status() {
        Ok(status) => status.capacity == 0 && (status.messages > 0 || queue.remove().is_ok()),
        Err(_) => true,
    }
}

/// The entries of a user's channels that are no more. Changes nothing.
pub fn stale(uid: u32) -> Vec<Entry> {
    let mut all = entries(uid);
    all.retain(is_stale);
    all
}

/// Takes away the entries of a user's channels that are no more, with the last one the directory;
/// says how many it could.
pub fn sweep_all(uid: u32) -> usize {
    let swept = |queue: Queue| {
        let count = sweep(&queue);
        close_if_empty(&queue);
        count
    };
    volumes(uid).map(swept).sum()
}

/// Whether the segment is gone, or will go with its last user: then nobody finds it by a name.
fn is_stale(entry: &Entry) -> bool {
    match Segment::from_id(entry.id).status_any() {
        Ok(status) => status.marked,
        Err(error) => error == Errno::INVAL,
    }
}

fn sweep(queue: &Queue) -> usize {
    read(queue)
        .iter()
        .filter(|entry| is_stale(entry))
        .filter(|entry| take(queue, entry.id))
        .count()
}

/// Takes away the entry of a segment of `uid`, if there is one, and the directory with the last.
pub fn take_away(uid: u32, id: i32) {
    let mut others = Vec::new();
    let mut has_closed = false;
    for queue in volumes(uid) {
        if take(&queue, id) && tidy(&queue) {
            has_closed = true;
        } else {
            others.push(queue);
        }
    }
    if has_closed {
        // In the others there may be nothing but what is stale.
        others.iter().for_each(|queue| {
            tidy(queue);
        });
    }
}

/// Takes away what is stale, if the oldest entry is, and a volume that is empty then; whether it was.
///
/// While the channel of the oldest is there the volume stays anyway, and to look at all takes milliseconds
/// where they are hundreds.
fn tidy(queue: &Queue) -> bool {
    let oldest = read_at(queue, 0);
    if oldest.is_some_and(|oldest| oldest.is_none_or(|entry| is_stale(&entry))) {
        sweep(queue);
    }
    close_if_empty(queue)
}

fn take(queue: &Queue, id: i32) -> bool {
    let mut nothing = [0u8; 0];
    queue
        .receive_truncated(Select::Type(i64::from(id) + 1), &mut nothing, Wait::Never)
        .is_ok()
}

/// Whether it was, and is removed.
fn close_if_empty(queue: &Queue) -> bool {
    let Ok(status) = queue.status() else {
        return false;
    };
    if status.messages > 0 {
        return false;
    }
    let capacity = |bytes| msg::Change {
        capacity: Some(bytes),
        ..msg::Change::default()
    };
    if queue.set(&capacity(0)).is_err() {
        return false;
    }
    match queue.status() {
        Ok(now) if now.messages == 0 => queue.remove().is_ok(),
        _ => {
            let _ = queue.set(&capacity(status.capacity));
            false
        }
    }
}
