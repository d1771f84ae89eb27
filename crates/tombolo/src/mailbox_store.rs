//! Messages with types, in the order of their arrival and each type by itself.
//!
//! ```text
//!   runs      [3 a b c] ⇄ [7 d] ⇄ [3 e f] ⇄ [5 g]        in order of arrival
//!   types     3 ──► [3 a b c] ──► [3 e f]
//!             5 ──► [5 g]         7 ──► [7 d]             in a tree, by number
//! ```
//!
//! Neighbours of one type are a *run*. A type knows its runs, and the runs know each other, so the
//! oldest message of all is the first of the first run; the oldest that is not of type *t* is the
//! first of the first run or of the second; the oldest of type *t* is the first of the type's first
//! run. Whatever is taken is the oldest of its type, so it is the first of its run; a run that
//! becomes empty goes, and if its neighbours are then of one type they become one run. What was taken
//! and is put back becomes the oldest of all. All of that takes the same time however many messages
//! wait; finding a type takes a walk down a tree as deep as the types' numbers differ in bits, at
//! most 63.
//!
//! The last message leaves its run and its type behind, *idle*, for the next one whatever its type:
//! a store that goes between none and one makes no blocks. Nothing but COUNT says that they are.
//!
//! The tree is a crit-bit tree: an inner node names the highest bit in which its types differ.
//!
//! Everything is written through a transaction, so a store is whole whoever dies.
//!
//! **A peer that lies** in links and numbers causes an error (`EUCLEAN`): walks are counted, and
//! a length is checked against the block that is to have it.

use shmem::heap::Heap;
use shmem::journal::Tx;
use sysv::{Errno, Result};

pub use crate::mailbox_message::{Message, Place, message};

/// What stands where in a store's root, and in its blocks.
pub mod layout {
    shmem::layout! {
        "store of messages", 40;
        FIRST: 8 @ 0, "the lock's holder, by journal", "first run, or 0";
        LAST: 8 @ 8, "the lock's holder, by journal", "last run, or 0";
        TYPES: 8 @ 16, "the lock's holder, by journal", "the tree: a type, an inner node plus one, or 0";
        COUNT: 8 @ 24, "the lock's holder, by journal", "messages";
        BYTES: 8 @ 32, "the lock's holder, by journal", "bytes of their texts";
    }
}

/// Neighbours of one type: a block.
pub mod run {
    shmem::layout! {
        "run", 48;
        OF: 8 @ 0, "the lock's holder, by journal", "its type's block";
        NEXT: 8 @ 8, "the lock's holder, by journal", "next run";
        PREVIOUS: 8 @ 16, "the lock's holder, by journal", "previous run";
        SAME: 8 @ 24, "the lock's holder, by journal", "next run of the type";
        FIRST: 8 @ 32, "the lock's holder, by journal", "first message";
        LAST: 8 @ 40, "the lock's holder, by journal", "last message";
    }
}

/// A type that has messages: a block.
pub mod kind {
    shmem::layout! {
        "type", 24;
        NUMBER: 8 @ 0, "the lock's holder, by journal", "the type";
        FIRST: 8 @ 8, "the lock's holder, by journal", "its first run";
        LAST: 8 @ 16, "the lock's holder, by journal", "its last run";
    }
}

/// An inner node of the tree: a block. Blocks are aligned to eight, so a link plus one is a link to
/// an inner node.
pub mod node {
    shmem::layout! {
        "node", 24;
        BIT: 8 @ 0, "the lock's holder, by journal", "the highest bit in which the types below differ";
        ZERO: 8 @ 8, "the lock's holder, by journal", "the types in which it is 0";
        ONE: 8 @ 16, "the lock's holder, by journal", "the types in which it is 1";
    }
}

/// More than the depth of any tree.
const DEEPEST: usize = 64;
/// More messages than any store has.
const MOST: usize = 1 << 32;

/// Which message is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The oldest.
    Any,
    /// The oldest of a type.
    Type(u64),
    /// The oldest of the lowest type up to this one.
    UpTo(u64),
    /// The oldest that is not of this type.
    Except(u64),
}

impl Wanted {
    /// Whether a message of a type is one that is wanted.
    pub fn suits(self, number: u64) -> bool {
        match self {
            Self::Any => true,
            Self::Type(wanted) => number == wanted,
            Self::UpTo(most) => number <= most,
            Self::Except(unwanted) => number != unwanted,
        }
    }
}

/// A store: its root, and the heap of its blocks.
#[derive(Clone, Copy, Debug)]
pub struct Store {
    /// Where the root stands.
    pub root: usize,
    /// The heap.
    pub heap: Heap,
}

impl Store {
    /// How many messages there are, and how many bytes of text they have.
    ///
    /// # Errors
    /// `EUCLEAN` if the root is outside the region.
    #[inline]
    pub fn contents(&self, tx: &Tx) -> Result<(u64, u64)> {
        Ok((
            tx.get(self.root + layout::COUNT)?,
            tx.get(self.root + layout::BYTES)?,
        ))
    }

    /// Appends a message.
    ///
    /// # Errors
    /// `ENOMEM`; `EUCLEAN` if the store is damaged.
    #[inline]
    pub fn append(&self, tx: &mut Tx, new: Message) -> Result<()> {
        let (number, length) = new.describe(tx, &self.heap)?;
        tx.set(new.0 + message::NEXT, 0)?;
        let count = tx.get(self.root + layout::COUNT)?;
        tx.set(self.root + layout::COUNT, count.wrapping_add(1))?;
        tx.add(self.root + layout::BYTES, length as i64)?;
        let last = tx.get_at(self.root + layout::LAST)?;
        if last != 0 {
            let of = tx.get_at(last + run::OF)?;
            if count == 0 {
                return begin_again(tx, last, of, number, new);
            }
            if tx.get(of + kind::NUMBER)? == number {
                let tail = tx.get_at(last + run::LAST)?;
                tx.set(tail + message::NEXT, new.0 as u64)?;
                return tx.set(last + run::LAST, new.0 as u64);
            }
        }
        let of = self.find_or_add(tx, number)?;
        let run = self.new_run(tx, of, new)?;
        tx.set(run + run::PREVIOUS, last as u64)?;
        link(tx, self.root, layout::FIRST, last, run::NEXT, run)?;
        tx.set(self.root + layout::LAST, run as u64)?;
        let before = tx.get_at(of + kind::LAST)?;
        link(tx, of, kind::FIRST, before, run::SAME, run)?;
        tx.set(of + kind::LAST, run as u64)
    }

    /// Puts a message back that was taken: before all others, and marked as such.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn put_back(&self, tx: &mut Tx, taken: Message) -> Result<()> {
        let (number, length) = taken.describe(tx, &self.heap)?;
        tx.set(taken.0 + message::LENGTH, length as u64 | message::AGAIN)?;
        let count = tx.get(self.root + layout::COUNT)?;
        tx.set(self.root + layout::COUNT, count.wrapping_add(1))?;
        tx.add(self.root + layout::BYTES, length as i64)?;
        let first = tx.get_at(self.root + layout::FIRST)?;
        if first != 0 {
            let of = tx.get_at(first + run::OF)?;
            if count == 0 {
                tx.set(taken.0 + message::NEXT, 0)?;
                return begin_again(tx, first, of, number, taken);
            }
            if tx.get(of + kind::NUMBER)? == number {
                let head = tx.get(first + run::FIRST)?;
                tx.set(taken.0 + message::NEXT, head)?;
                return tx.set(first + run::FIRST, taken.0 as u64);
            }
        }
        tx.set(taken.0 + message::NEXT, 0)?;
        let of = self.find_or_add(tx, number)?;
        let run = self.new_run(tx, of, taken)?;
        tx.set(run + run::NEXT, first as u64)?;
        tx.set(self.root + layout::FIRST, run as u64)?;
        let next = if first == 0 {
            self.root + layout::LAST
        } else {
            first + run::PREVIOUS
        };
        tx.set(next, run as u64)?;
        let same = tx.get(of + kind::FIRST)?;
        tx.set(run + run::SAME, same)?;
        tx.set(of + kind::FIRST, run as u64)?;
        if same == 0 {
            tx.set(of + kind::LAST, run as u64)?;
        }
        Ok(())
    }

    /// A run of one message, between no others yet.
    fn new_run(&self, tx: &mut Tx, of: usize, only: Message) -> Result<usize> {
        let run = self.heap.allocate(tx, run::LAYOUT.size)?;
        tx.set(run + run::OF, of as u64)?;
        tx.set(run + run::NEXT, 0)?;
        tx.set(run + run::PREVIOUS, 0)?;
        tx.set(run + run::SAME, 0)?;
        tx.set(run + run::FIRST, only.0 as u64)?;
        tx.set(run + run::LAST, only.0 as u64)?;
        Ok(run)
    }

    /// Where the wanted message is.
    ///
    /// # Errors
    /// `EUCLEAN` if the store is damaged.
    #[inline]
    pub fn find(&self, tx: &Tx, wanted: Wanted) -> Result<Option<Place>> {
        if tx.get(self.root + layout::COUNT)? == 0 {
            return Ok(None);
        }
        let first = tx.get_at(self.root + layout::FIRST)?;
        let run = match wanted {
            Wanted::Any => first,
            Wanted::Except(unwanted) => {
                let of = tx.get_at(first + run::OF)?;
                if tx.get(of + kind::NUMBER)? != unwanted {
                    first
                } else {
                    tx.get_at(first + run::NEXT)?
                }
            }
            Wanted::Type(number) => match self.find_type(tx, number)? {
                Some(of) => tx.get_at(of + kind::FIRST)?,
                None => 0,
            },
            Wanted::UpTo(most) => {
                let of = self.lowest(tx)?;
                if tx.get(of + kind::NUMBER)? <= most {
                    tx.get_at(of + kind::FIRST)?
                } else {
                    0
                }
            }
        };
        if run == 0 {
            return Ok(None);
        }
        match tx.get_at(run + run::FIRST)? {
            0 => Err(Errno::UCLEAN),
            found => Ok(Some(Place(found))),
        }
    }

    /// Where the message is that has `before` others before it. Takes as long as there are others.
    ///
    /// # Errors
    /// `EUCLEAN` if the store is damaged.
    pub fn at(&self, tx: &Tx, before: u64) -> Result<Option<Place>> {
        if before >= tx.get(self.root + layout::COUNT)? {
            return Ok(None);
        }
        let mut run = tx.get_at(self.root + layout::FIRST)?;
        let mut passed = 0;
        while run != 0 {
            let mut at = tx.get_at(run + run::FIRST)?;
            while at != 0 {
                if passed == before {
                    return Ok(Some(Place(at)));
                }
                passed += 1;
                if passed > MOST as u64 {
                    return Err(Errno::UCLEAN);
                }
                at = tx.get_at(at + message::NEXT)?;
            }
            run = tx.get_at(run + run::NEXT)?;
        }
        Err(Errno::UCLEAN)
    }

    /// Takes out the message that [`find`](Self::find) has found.
    ///
    /// # Errors
    /// `EUCLEAN` if the store is damaged.
    #[inline]
    pub fn take(&self, tx: &mut Tx, found: Place) -> Result<Message> {
        let taken = Message(found.0);
        let (number, length) = taken.describe(tx, &self.heap)?;
        tx.add(self.root + layout::COUNT, -1)?;
        tx.add(self.root + layout::BYTES, -(length as i64))?;
        let first = tx.get_at(self.root + layout::FIRST)?;
        let of = match first {
            0 => return Err(Errno::UCLEAN),
            first if tx.get_at(first + run::FIRST)? == found.0 => tx.get_at(first + run::OF)?,
            _ => self.find_type(tx, number)?.ok_or(Errno::UCLEAN)?,
        };
        let run = tx.get_at(of + kind::FIRST)?;
        if run == 0 || tx.get_at(run + run::FIRST)? != found.0 {
            return Err(Errno::UCLEAN);
        }
        let next = tx.get(found.0 + message::NEXT)?;
        let is_only = tx.get_at(self.root + layout::LAST)? == run && first == run;
        if next != 0 || is_only {
            // Without a message it is idle.
            tx.set(run + run::FIRST, next)?;
            return Ok(taken);
        }
        self.remove_run(tx, run, of)?;
        Ok(taken)
    }

    /// Takes out an empty run, which is the first of its type.
    fn remove_run(&self, tx: &mut Tx, run: usize, of: usize) -> Result<()> {
        let same = tx.get(run + run::SAME)?;
        if same == 0 {
            let number = tx.get(of + kind::NUMBER)?;
            self.remove_type(tx, number)?;
            self.heap.free(tx, of)?;
        } else {
            tx.set(of + kind::FIRST, same)?;
        }
        let next = tx.get_at(run + run::NEXT)?;
        let previous = tx.get_at(run + run::PREVIOUS)?;
        link(tx, self.root, layout::FIRST, previous, run::NEXT, next)?;
        if next == 0 {
            tx.set(self.root + layout::LAST, previous as u64)?;
        } else {
            tx.set(next + run::PREVIOUS, previous as u64)?;
        }
        self.heap.free(tx, run)?;
        if next != 0 && previous != 0 {
            let (left, right) = (tx.get(previous + run::OF)?, tx.get(next + run::OF)?);
            if left == right {
                return self.join(tx, previous, next);
            }
        }
        Ok(())
    }

    /// Makes two neighbours of one type one run.
    fn join(&self, tx: &mut Tx, left: usize, right: usize) -> Result<()> {
        let tail = tx.get_at(left + run::LAST)?;
        let head = tx.get(right + run::FIRST)?;
        tx.set(tail + message::NEXT, head)?;
        let last = tx.get(right + run::LAST)?;
        tx.set(left + run::LAST, last)?;
        let same = tx.get(right + run::SAME)?;
        tx.set(left + run::SAME, same)?;
        if same == 0 {
            let of = tx.get_at(left + run::OF)?;
            tx.set(of + kind::LAST, left as u64)?;
        }
        let next = tx.get_at(right + run::NEXT)?;
        tx.set(left + run::NEXT, next as u64)?;
        if next == 0 {
            tx.set(self.root + layout::LAST, left as u64)?;
        } else {
            tx.set(next + run::PREVIOUS, left as u64)?;
        }
        self.heap.free(tx, right)
    }

    /// Gives every block back, and leaves an empty store.
    ///
    /// # Errors
    /// `EUCLEAN` if the store is damaged.
    pub fn clear(&self, tx: &mut Tx) -> Result<()> {
        while let Some(found) = self.find(tx, Wanted::Any)? {
            self.take(tx, found)?.free(tx, &self.heap)?;
        }
        let idle = tx.get_at(self.root + layout::FIRST)?;
        if idle != 0 {
            let of = tx.get_at(idle + run::OF)?;
            self.heap.free(tx, idle)?;
            self.heap.free(tx, of)?;
            self.forget(tx)?;
        }
        Ok(())
    }

    /// Gives all blocks of the heap back, of which nobody has any in hand; the store is empty.
    ///
    /// # Errors
    /// `EUCLEAN` if the root or the heap is outside the region.
    pub fn cut_anew(&self, tx: &mut Tx) -> Result<()> {
        self.forget(tx)?;
        self.heap.clear(tx)
    }

    /// Forgets what is idle.
    fn forget(&self, tx: &mut Tx) -> Result<()> {
        for word in [layout::FIRST, layout::LAST, layout::TYPES] {
            tx.set(self.root + word, 0)?;
        }
        Ok(())
    }

    /// The block of a type, if it has messages.
    fn find_type(&self, tx: &Tx, number: u64) -> Result<Option<usize>> {
        let Some(link) = self.leaf(tx, |bit| number >> bit & 1 == 1)? else {
            return Ok(None);
        };
        Ok((tx.get(link + kind::NUMBER)? == number).then_some(link))
    }

    /// Walks down the tree to a type.
    fn leaf(&self, tx: &Tx, side: impl Fn(u64) -> bool) -> Result<Option<usize>> {
        let mut link = tx.get_at(self.root + layout::TYPES)?;
        for _ in 0..=DEEPEST {
            if link % 8 == 0 {
                return Ok((link != 0).then_some(link));
            }
            let inner = link - 1;
            let child = if side(tx.get(inner + node::BIT)? & 63) {
                node::ONE
            } else {
                node::ZERO
            };
            link = tx.get_at(inner + child)?;
        }
        Err(Errno::UCLEAN)
    }

    /// The block of the lowest type.
    fn lowest(&self, tx: &Tx) -> Result<usize> {
        self.leaf(tx, |_| false)?.ok_or(Errno::UCLEAN)
    }

    /// Walks down the tree: the type where it ends, and the words that lead there.
    fn descend(&self, tx: &Tx, side: impl Fn(u64) -> bool) -> Result<Option<(usize, Path)>> {
        let mut path = Path::new(self.root + layout::TYPES);
        loop {
            let link = tx.get_at(path.last())?;
            match link {
                0 => return Ok(None),
                leaf if leaf % 8 == 0 => return Ok(Some((leaf, path))),
                inner => {
                    let inner = inner - 1;
                    let bit = tx.get(inner + node::BIT)?;
                    let child = if side(bit & 63) {
                        node::ONE
                    } else {
                        node::ZERO
                    };
                    path.push(inner + child)?;
                }
            }
        }
    }

    /// The block of a type, made if it has none.
    fn find_or_add(&self, tx: &mut Tx, number: u64) -> Result<usize> {
        let nearest = self.descend(tx, |bit| number >> bit & 1 == 1)?;
        let Some((leaf, path)) = nearest else {
            let of = self.new_type(tx, number)?;
            tx.set(self.root + layout::TYPES, of as u64)?;
            return Ok(of);
        };
        let difference = tx.get(leaf + kind::NUMBER)? ^ number;
        if difference == 0 {
            return Ok(leaf);
        }
        let bit = u64::from(63 - difference.leading_zeros());
        let of = self.new_type(tx, number)?;
        let inner = self.heap.allocate(tx, node::LAYOUT.size)?;
        // Above the first node that looks at a lower bit.
        let mut word = self.root + layout::TYPES;
        for &below in path.after_root() {
            let above = tx.get_at(word)?.wrapping_sub(1);
            if tx.get(above.wrapping_add(node::BIT))? < bit {
                break;
            }
            word = below;
        }
        let other = tx.get(word)?;
        let (zero, one) = if number >> bit & 1 == 1 {
            (other, of as u64)
        } else {
            (of as u64, other)
        };
        tx.set(inner + node::BIT, bit)?;
        tx.set(inner + node::ZERO, zero)?;
        tx.set(inner + node::ONE, one)?;
        tx.set(word, inner as u64 + 1)?;
        Ok(of)
    }

    fn new_type(&self, tx: &mut Tx, number: u64) -> Result<usize> {
        let of = self.heap.allocate(tx, kind::LAYOUT.size)?;
        tx.set(of + kind::NUMBER, number)?;
        tx.set(of + kind::FIRST, 0)?;
        tx.set(of + kind::LAST, 0)?;
        Ok(of)
    }

    /// Takes a type out of the tree.
    fn remove_type(&self, tx: &mut Tx, number: u64) -> Result<()> {
        let found = self.descend(tx, |bit| number >> bit & 1 == 1)?;
        let (leaf, path) = found.ok_or(Errno::UCLEAN)?;
        if tx.get(leaf + kind::NUMBER)? != number {
            return Err(Errno::UCLEAN);
        }
        let Some((above, word)) = path.last_two() else {
            return tx.set(self.root + layout::TYPES, 0);
        };
        // The sibling takes the place of the node above both.
        let inner = tx.get_at(above)?.checked_sub(1).ok_or(Errno::UCLEAN)?;
        let sibling = if word == inner + node::ONE {
            node::ZERO
        } else {
            node::ONE
        };
        let sibling = tx.get(inner + sibling)?;
        tx.set(above, sibling)?;
        self.heap.free(tx, inner)
    }
}

/// Has an idle run and its type be those of the only message.
fn begin_again(tx: &mut Tx, run: usize, of: usize, number: u64, only: Message) -> Result<()> {
    tx.set(of + kind::NUMBER, number)?;
    tx.set(run + run::FIRST, only.0 as u64)?;
    tx.set(run + run::LAST, only.0 as u64)
}

/// Makes `to` what follows `before`, or the first if there is nothing before.
fn link(
    tx: &mut Tx,
    head: usize,
    first: usize,
    before: usize,
    next: usize,
    to: usize,
) -> Result<()> {
    let word = if before == 0 {
        head + first
    } else {
        before + next
    };
    tx.set(word, to as u64)
}

/// The words that lead from the root to a leaf.
struct Path {
    words: [usize; DEEPEST + 1],
    length: usize,
}

impl Path {
    fn new(root: usize) -> Self {
        let mut words = [0; DEEPEST + 1];
        words[0] = root;
        Self { words, length: 1 }
    }

    fn push(&mut self, word: usize) -> Result<()> {
        let place = self.words.get_mut(self.length).ok_or(Errno::UCLEAN)?;
        *place = word;
        self.length += 1;
        Ok(())
    }

    fn last(&self) -> usize {
        self.words[self.length - 1]
    }

    fn after_root(&self) -> &[usize] {
        &self.words[1..self.length]
    }

    fn last_two(&self) -> Option<(usize, usize)> {
        let above = self.length.checked_sub(2)?;
        Some((self.words[above], self.words[above + 1]))
    }
}

#[cfg(test)]
#[path = "mailbox_store_tests.rs"]
mod tests;
