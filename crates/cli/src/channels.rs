//! Which segments are Tombolo's channels, and what they are called.
//!
//! The names come from the users' directories, which are read without touching a segment.

use std::collections::HashMap;

use tombolo::shmem::{directory, name, open, presence, pulse};
use tombolo::sysv::{Kernel, Segment, msg, shm};
use tombolo::{Address, Name};

use crate::peek::Peeks;

/// What a segment of ours is.
#[derive(Clone, Debug)]
pub struct ChannelName {
    /// What kind of channel it is: `value`, `queue`, …
    pub kind: String,
    /// The name by which the user of this process reaches it: `NAME`, or `USER/NAME`. None for a
    /// channel that is reached by its key, and for a directory, which is nothing to be opened.
    pub name: Option<String>,
}

/// The channels of this IPC name space by segment id.
pub fn names() -> HashMap<i32, ChannelName> {
    let mut users: Vec<u32> = msg::list(Kernel)
        .unwrap_or_default()
        .iter()
        .filter(|queue| directory::is_directory(queue))
        .map(|queue| queue.perm.cuid)
        .collect();
    users.sort_unstable();
    users.dedup();
    users.into_iter().flat_map(names_of).collect()
}

fn names_of(user: u32) -> impl Iterator<Item = (i32, ChannelName)> {
    directory::entries(user)
        .into_iter()
        .filter_map(move |entry| {
            let perm = Segment::from_id(entry.id).status_any().ok()?.perm;
            // An entry may have outlived its segment, and another may have the id by now.
            let named = !entry.name.is_empty();
            if perm.cuid != user || perm.key.is_private() || named != name::is_name_key(perm.key) {
                return None;
            }
            let name = named.then(|| Name::of(user, &entry.name).ok());
            let kind = entry.kind.name().to_owned();
            Some((
                entry.id,
                ChannelName {
                    kind,
                    name: name.flatten().map(|name| name.to_string()),
                },
            ))
        })
}

/// The presence or the pulse of a process, which are segments too.
pub fn presence(status: &shm::Status) -> Option<ChannelName> {
    let kind = if pulse::is_pulse(status) {
        "pulse"
    } else {
        "presence"
    };
    presence::is_presence(status).then(|| ChannelName {
        kind: kind.to_owned(),
        name: Some(format!("pid {}", status.creator_pid)),
    })
}

/// A message queue that lists the channels of its user.
pub fn directory() -> ChannelName {
    ChannelName {
        kind: "directory".to_owned(),
        name: None,
    }
}

/// The segment that carries the channel `text`, found without touching any.
///
/// Asked of the directory if that may be read. Otherwise it is the one that this user made at one
/// of the name's keys: the name in its header says which, where that can be seen.
pub fn look_for(text: &str) -> Option<i32> {
    let name: Name = text.parse().ok()?;
    if let Some(id) = listed(&name) {
        return Some(id);
    }
    let statuses = name.keys().filter_map(|key| {
        let status = Segment::open(key).ok()?.status_any().ok()?;
        (status.perm.cuid == name.uid() && !status.marked).then_some(status)
    });
    let peeks = Peeks::look();
    let other = |status: &shm::Status| {
        let seen = peeks.inspect(status);
        seen.is_ok_and(|seen| seen.header.name != name.text())
    };
    statuses
        .filter(|status| !other(status))
        .map(|status| status.id)
        .next()
}

/// What the user's directory says.
fn listed(name: &Name) -> Option<i32> {
    let text = Some(name.to_string());
    let found = names_of(name.uid()).find(|(_, channel)| channel.name == text);
    found.map(|(id, _)| id)
}

/// The segment that carries the channel `text`.
///
/// Asked of the directory if that may be read; otherwise the channel is opened for a moment.
pub fn find(text: &str) -> Option<i32> {
    let name: Name = text.parse().ok()?;
    match listed(&name) {
        Some(id) => Some(id),
        None => open::find(&Address::Name(name))
            .ok()
            .map(|opened| opened.id),
    }
}
