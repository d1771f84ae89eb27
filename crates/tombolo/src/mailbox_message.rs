//! A message of a `mailbox_store`: a block of its heap.

use shmem::heap::Heap;
use shmem::journal::Tx;
use sysv::{Errno, Result};

/// What stands where in a message's block.
pub mod message {
    shmem::layout! {
        "message", 24;
        NEXT: 8 @ 0, "the lock's holder, by journal", "next of its run, or 0";
        TYPE: 8 @ 8, "its maker", "its type, from 1";
        LENGTH: 8 @ 16, "its maker; the highest bit by journal", "bytes of text, which follow; and in the highest bit whether it was taken once and put back";
    }

    /// Set in LENGTH of a message that was put back.
    pub(crate) const AGAIN: u64 = 1 << 63;
}

/// A message that stands in the store: where its block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(pub(crate) usize);

/// A message that is in no store: a block of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message(pub(crate) usize);

impl Message {
    /// Makes a message. The text is copied.
    ///
    /// # Errors
    /// `ENOMEM`; `EUCLEAN` if the heap is damaged.
    #[inline]
    pub fn new(tx: &mut Tx, heap: &Heap, number: u64, text: &[u8]) -> Result<Self> {
        let new = Self::blank(tx, heap, number, text.len())?;
        let copied = tx.region().copy_in(new.text(), text);
        copied.map_err(|_| Errno::UCLEAN)?;
        Ok(new)
    }

    /// Makes a message whose text is yet to be written: its bytes are anything.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    #[inline]
    pub fn blank(tx: &mut Tx, heap: &Heap, number: u64, length: usize) -> Result<Self> {
        let size = message::LAYOUT.size.checked_add(length);
        let at = heap.allocate(tx, size.ok_or(Errno::NOMEM)?)?;
        tx.set(at + message::TYPE, number)?;
        tx.set(at + message::LENGTH, length as u64)?;
        Ok(Self(at))
    }

    /// The message at an offset that was noted in shared memory.
    pub fn from_offset(offset: usize) -> Self {
        Self(offset)
    }

    /// The offset to note.
    pub fn offset(self) -> usize {
        self.0
    }

    /// Its type and the length of its text.
    ///
    /// # Errors
    /// `EUCLEAN` if there is no message.
    #[inline]
    pub fn describe(self, tx: &Tx, heap: &Heap) -> Result<(u64, usize)> {
        let length = tx.get(self.0.wrapping_add(message::LENGTH))? & !message::AGAIN;
        let length = usize::try_from(length).map_err(|_| Errno::UCLEAN)?;
        let size = message::LAYOUT.size.checked_add(length);
        heap.holds(tx, self.0, size.ok_or(Errno::UCLEAN)?)?;
        Ok((tx.get(self.0 + message::TYPE)?, length))
    }

    /// Whether it was [put back](crate::mailbox_store::Store::put_back).
    ///
    /// # Errors
    /// `EUCLEAN` if there is no message.
    pub fn is_again(self, tx: &Tx) -> Result<bool> {
        Ok(tx.get(self.0.wrapping_add(message::LENGTH))? & message::AGAIN != 0)
    }

    /// Where its text begins.
    #[inline]
    pub fn text(self) -> usize {
        self.0.wrapping_add(message::LAYOUT.size)
    }

    /// Shortens the text of a message that is in no store.
    ///
    /// # Errors
    /// `EUCLEAN` if there is no message, `EINVAL` if its text is shorter.
    pub fn truncate(self, tx: &mut Tx, heap: &Heap, length: usize) -> Result<()> {
        if length > self.describe(tx, heap)?.1 {
            return Err(Errno::INVAL);
        }
        tx.set(self.0 + message::LENGTH, length as u64)
    }

    /// Appends up to `most` bytes of its text to `to`.
    ///
    /// # Errors
    /// `EUCLEAN` if there is no message.
    pub fn read(self, tx: &Tx, heap: &Heap, most: usize, to: &mut Vec<u8>) -> Result<()> {
        let length = self.describe(tx, heap)?.1.min(most);
        let text = self.0 + message::LAYOUT.size;
        let copied = tx.region().append_to(text, length, to);
        copied.map_err(|_| Errno::UCLEAN)
    }

    /// Gives its block back.
    ///
    /// # Errors
    /// `EUCLEAN` if there is none.
    #[inline]
    pub fn free(self, tx: &mut Tx, heap: &Heap) -> Result<()> {
        heap.free(tx, self.0)
    }
}

impl Place {
    /// The message there, to be looked at.
    pub fn message(self) -> Message {
        Message(self.0)
    }
}
