//! How many messages of which type wait in a mailbox: counted from outside.
//!
//! # Protocol
//! Nobody keeps such counts: they would cost every post and every take something. So the tree of
//! types, their runs and the links of their messages are walked; of a message its link alone is read.
//! Every change stores POSTED or TAKEN under the lock. If the lock is free, and both are the same
//! before and after the walk, it has seen one moment; otherwise it is tried again, a few times.
//!
//! # Hostile bytes
//! A link that leads outside ends the walk, and so does its length: a circle has no end.

use crate::inspect::{Read, word};
use crate::mailbox_layout::{Shape, layout};
use crate::mailbox_store::{self as store, kind, message, node, run};
use shmem::Region;
use shmem::lock;

/// Steps of a walk, which are messages, runs, types and nodes.
const LONGEST: usize = 8192;
const ATTEMPTS: usize = 5;

/// By type, lowest first. `None` if it changes all the time, or holds too many.
pub(crate) fn types(shape: &Shape, read: &mut Read<'_>) -> Option<Vec<(u64, u64)>> {
    for _ in 0..ATTEMPTS {
        let Some(before) = moment(read) else { continue };
        let mut walk = Walk {
            shape,
            read: &mut *read,
            left: LONGEST,
        };
        let counted = walk.count();
        if walk.left == 0 {
            return None;
        }
        if counted.is_some() && moment(read) == Some(before) {
            return counted;
        }
    }
    None
}

/// What tells one moment from another; none if somebody is at it.
fn moment(read: &mut Read<'_>) -> Option<[u64; 2]> {
    let words = [
        layout::LOCK + lock::layout::HOLDER,
        layout::POSTED,
        layout::TAKEN,
    ];
    let mut all = [0; 3];
    for (word, offset) in all.iter_mut().zip(words) {
        let mut bytes = [0; 8];
        *word = read(offset, &mut bytes).then(|| u64::from_ne_bytes(bytes))?;
    }
    (all[0] == 0).then_some([all[1], all[2]])
}

struct Walk<'a, 'r> {
    shape: &'a Shape,
    read: &'a mut Read<'r>,
    left: usize,
}

impl Walk<'_, '_> {
    fn count(&mut self) -> Option<Vec<(u64, u64)>> {
        let mut root = [0; store::layout::LAYOUT.size];
        (self.read)(layout::STORE, &mut root).then_some(())?;
        let root = copy(&root);
        if word(&root, store::layout::COUNT) == 0 {
            // What is left of the last message is idle.
            return Some(Vec::new());
        }
        let mut all = Vec::new();
        let mut links = vec![word(&root, store::layout::TYPES)];
        while let Some(link) = links.pop() {
            if link % 8 == 1 {
                let inner = self.block(link - 1, node::LAYOUT.size)?;
                // The lower types come first.
                links.extend([word(&inner, node::ONE), word(&inner, node::ZERO)]);
            } else {
                let of = self.block(link, kind::LAYOUT.size)?;
                let messages = self.messages(word(&of, kind::FIRST))?;
                all.push((word(&of, kind::NUMBER), messages));
            }
        }
        Some(all)
    }

    /// How many messages the runs of a type have.
    fn messages(&mut self, mut of_type: u64) -> Option<u64> {
        let mut count = 0;
        while of_type != 0 {
            let run = self.block(of_type, run::LAYOUT.size)?;
            let mut at = word(&run, run::FIRST);
            while at != 0 {
                count += 1;
                at = word(&self.block(at, message::NEXT + 8)?, message::NEXT);
            }
            of_type = word(&run, run::SAME);
        }
        Some(count)
    }

    /// The beginning of a block, if there can be one.
    fn block(&mut self, at: u64, length: usize) -> Option<Region> {
        self.left = self.left.checked_sub(1)?;
        let at = usize::try_from(at).ok()?;
        let blocks = self.shape.blocks()..self.shape.end();
        let inside = at % 8 == 0 && blocks.contains(&at) && length <= blocks.end - at;
        let mut bytes = [0; 64];
        let bytes = bytes.get_mut(..length)?;
        (inside && (self.read)(at, bytes)).then(|| copy(bytes))
    }
}

fn copy(bytes: &[u8]) -> Region {
    let region = Region::heap(bytes.len());
    // As long as it.
    let _ = region.copy_in(0, bytes);
    region
}
