//! Which segments are Tombolo's channels, and what they are called.

use std::collections::HashMap;

use tombolo::shmem::{directory, name};
use tombolo::sysv::Perm;

/// What a segment of ours says about itself.
#[derive(Clone, Debug)]
pub struct ChannelName {
    /// What kind of channel it is: `value`, `queue`, …
    pub kind: String,
    /// The name by which the user of this process reaches it: `NAME`, or `USER/NAME`.
    pub name: String,
}

/// The channels of this IPC name space by segment id.
pub fn names() -> HashMap<i32, ChannelName> {
    HashMap::new()
}

/// The segment that carries the channel `name`.
pub fn find(name: &str) -> Option<i32> {
    names()
        .into_iter()
        .find(|(_, channel)| channel.name == name)
        .map(|(id, _)| id)
}

/// Takes a segment that was removed out of its creator's directory of channels, if it may have
/// been one.
pub fn removed(id: i32, perm: &Perm) {
    if name::is_name_key(perm.key) {
        directory::take_away(perm.cuid, id);
    }
}
