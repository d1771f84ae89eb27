//! An allocator of blocks in shared memory, whose every change is part of a transaction.
//!
//! ```text
//!   header    bump | populated | first free block of class 0, 1, 2 …
//!   block     class | next free block | payload …
//! ```
//!
//! Sizes are rounded up to a class, four of which lie between a power of two and the next. A
//! block once cut stays of its class: freed, it goes to the class's list, from which the next
//! allocation of that class takes it; otherwise the next fresh bytes are cut, and when there are
//! none left a free block of a larger class serves. Blocks are not joined again, so the heap is as
//! large as the sum, over the classes, of the most that was in use at once.
//!
//! **Crash.** Allocating and freeing go by the journal; the bytes of a block do not, and may hold
//! anything.
//!
//! **A peer that lies** can have one block handed out twice, which spoils what is in it and
//! nothing else: a link or class that can't be is an error.

use crate::journal::Tx;
use crate::sync::Ordering;
use sysv::{Errno, Result};

/// What stands where in a heap's header, and in a block before its payload.
pub mod layout {
    crate::layout! {
        "heap", 1536;
        BUMP: 8 @ 0, "the holder of the lock, by journal", "first byte that was never allocated, from the region's start; 0 at first";
        POPULATED: 8 @ 8, "the holder of the lock", "up to here the kernel has found memory";
        FREE: 8 @ 16, "the holder of the lock, by journal", "first free block of class 0, or 0; those of the other classes follow";
    }
}

/// What stands before the payload of a block.
pub mod block {
    crate::layout! {
        "block of a heap", 16;
        CLASS: 8 @ 0, "who cuts it, by journal", "its size class";
        NEXT: 8 @ 8, "who frees it, by journal", "next free block of the class, or 0";
    }
}

/// Bytes of a heap's header.
pub const HEADER: usize = layout::LAYOUT.size;
/// How many size classes there are: more than any block needs.
pub const CLASSES: usize = (HEADER - layout::FREE) / 8;
/// Fresh memory is asked for in steps of so many bytes.
const STEP: usize = 1 << 18;

/// A heap: its header, and the bytes that it hands out.
#[derive(Clone, Copy, Debug)]
pub struct Heap {
    /// Where the header stands, from the region's start.
    pub header: usize,
    /// The first byte it hands out, a multiple of eight.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

/// Bytes of a block of a class, its 16 before the payload included.
#[inline]
fn size_of_class(class: usize) -> usize {
    (4 + class % 4) << (3 + class / 4)
}

/// The smallest class with room for so many bytes.
#[inline]
fn class_of(size: usize) -> Option<usize> {
    if size <= 32 {
        return Some(0);
    }
    // The highest two bits below the first one choose among four.
    let scaled = size.checked_add(7)? >> 3;
    let bits = usize::BITS as usize - (scaled - 1).leading_zeros() as usize;
    let coarse = bits - 3;
    let class = coarse * 4 + ((scaled - 1) >> coarse) - 4 + 1;
    (class < CLASSES).then_some(class)
}

impl Heap {
    /// A block with room for `size` bytes: where its payload is, a multiple of eight. What is in
    /// it is anything.
    ///
    /// # Errors
    /// `ENOMEM` if there is no memory, `EUCLEAN` if the heap is damaged.
    #[inline]
    pub fn allocate(&self, tx: &mut Tx, size: usize) -> Result<usize> {
        let whole = size.checked_add(block::LAYOUT.size).ok_or(Errno::NOMEM)?;
        let class = class_of(whole).ok_or(Errno::NOMEM)?;
        if let Some(free) = self.take_free(tx, class)? {
            return Ok(free);
        }
        let block = match self.cut(tx, size_of_class(class)) {
            Err(Errno::NOMEM) => return self.take_larger(tx, class),
            cut => cut?,
        };
        tx.set(block + block::CLASS, class as u64)?;
        Ok(block + block::LAYOUT.size)
    }

    /// A free block of a class.
    fn take_free(&self, tx: &mut Tx, class: usize) -> Result<Option<usize>> {
        let list = self.header + layout::FREE + 8 * class;
        let free = tx.get_at(list)?;
        if free == 0 {
            return Ok(None);
        }
        self.check(free)?;
        let next = tx.get(free + block::NEXT)?;
        tx.set(list, next)?;
        Ok(Some(free + block::LAYOUT.size))
    }

    /// A free block of a larger class than that, when nothing can be cut any more.
    #[cold]
    fn take_larger(&self, tx: &mut Tx, class: usize) -> Result<usize> {
        for larger in class + 1..CLASSES {
            if let Some(free) = self.take_free(tx, larger)? {
                return Ok(free);
            }
        }
        Err(Errno::NOMEM)
    }

    /// Where the list of free blocks begins from which so many bytes come: to have it fetched.
    #[inline]
    pub fn free_list(&self, size: usize) -> usize {
        let class = class_of(size + block::LAYOUT.size).unwrap_or(0);
        self.header + layout::FREE + 8 * class
    }

    fn cut(&self, tx: &mut Tx, size: usize) -> Result<usize> {
        let bump = tx.get_at(self.header + layout::BUMP)?;
        let block = if bump == 0 { self.start } else { bump };
        if block < self.start || !block.is_multiple_of(8) {
            return Err(Errno::UCLEAN);
        }
        let end = block.checked_add(size).ok_or(Errno::NOMEM)?;
        if end > self.end {
            return Err(Errno::NOMEM);
        }
        let populated = tx.get_at(self.header + layout::POPULATED)?.max(self.start);
        if populated < end {
            let until = end.next_multiple_of(STEP).min(self.end);
            tx.region().populate(populated, until - populated)?;
            // Relaxed, and not by journal: memory that was found stays.
            tx.region()
                .u64(self.header + layout::POPULATED)
                .store(until as u64, Ordering::Relaxed);
        }
        tx.set(self.header + layout::BUMP, end as u64)?;
        Ok(block)
    }

    #[inline]
    fn check(&self, block: usize) -> Result<()> {
        if block < self.start || block >= self.end || !block.is_multiple_of(8) {
            return Err(Errno::UCLEAN);
        }
        Ok(())
    }

    /// Whether a payload of `size` bytes can be at `at`: that the block was handed out, and is
    /// large enough.
    ///
    /// # Errors
    /// `EUCLEAN` if it can't.
    #[inline]
    pub fn holds(&self, tx: &Tx, at: usize, size: usize) -> Result<()> {
        let block = at.checked_sub(block::LAYOUT.size).ok_or(Errno::UCLEAN)?;
        self.check(block)?;
        let class = tx.get_at(block + block::CLASS)?;
        if class >= CLASSES || size_of_class(class) - block::LAYOUT.size < size {
            return Err(Errno::UCLEAN);
        }
        Ok(())
    }

    /// Gives all blocks back, of which nobody has any in hand: what was cut small can be cut large
    /// again. A note for each class that has been used.
    ///
    /// # Errors
    /// `EUCLEAN` if the header is outside the region.
    pub fn clear(&self, tx: &mut Tx) -> Result<()> {
        for class in 0..CLASSES {
            tx.set(self.header + layout::FREE + 8 * class, 0)?;
        }
        tx.set(self.header + layout::BUMP, 0)
    }

    /// Gives a block back, by where its payload is.
    ///
    /// # Errors
    /// `EUCLEAN` if there can't be a block.
    #[inline]
    pub fn free(&self, tx: &mut Tx, at: usize) -> Result<()> {
        self.holds(tx, at, 0)?;
        let block = at - block::LAYOUT.size;
        let class = tx.get_at(block + block::CLASS)?;
        let list = self.header + layout::FREE + 8 * class;
        let first = tx.get(list)?;
        tx.set(block + block::NEXT, first)?;
        tx.set(list, block as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{self, Journal};
    use crate::region::Region;

    const JOURNAL: Journal = Journal {
        offset: 0,
        room: 100,
    };

    fn heap() -> (Region, Heap) {
        let header = journal::size(100);
        let start = header + HEADER;
        let end = start + (1 << 16);
        (Region::heap(end), Heap { header, start, end })
    }

    #[test]
    fn classes_are_large_enough_and_not_much_larger() {
        for size in 1..5000 {
            let class = class_of(size).unwrap();
            assert!(size_of_class(class) >= size, "{size} {class}");
            assert!(
                class == 0 || size_of_class(class - 1) < size,
                "{size} {class}"
            );
        }
        assert_eq!(class_of(usize::MAX), None);
        assert_eq!(class_of(1 << 60), None);
    }

    #[test]
    fn freed_blocks_come_back() {
        let (region, heap) = heap();
        let mut tx = JOURNAL.begin(&region);
        let blocks = [10, 10, 200, 3000].map(|size| heap.allocate(&mut tx, size).unwrap());
        for (i, &block) in blocks.iter().enumerate() {
            for (j, &other) in blocks.iter().enumerate() {
                assert!(i == j || block.abs_diff(other) >= 24);
            }
        }
        heap.free(&mut tx, blocks[1]).unwrap();
        heap.free(&mut tx, blocks[0]).unwrap();
        assert_eq!(heap.allocate(&mut tx, 12), Ok(blocks[0]));
        assert_eq!(heap.allocate(&mut tx, 12), Ok(blocks[1]));
        assert_eq!(heap.allocate(&mut tx, 1 << 20), Err(Errno::NOMEM));
        tx.commit();
        // A transaction that does not come to its end has allocated nothing.
        let lost = heap.allocate(&mut tx, 500).unwrap();
        drop(tx);
        let mut tx = JOURNAL.begin(&region);
        assert_eq!(heap.allocate(&mut tx, 500), Ok(lost));
        // What is left is too small for one more, which then gets a larger block.
        while heap.cut(&mut tx, 32).is_ok() {
            tx.commit();
        }
        heap.free(&mut tx, blocks[3]).unwrap();
        assert_eq!(heap.allocate(&mut tx, 100), Ok(blocks[3]));
        assert_eq!(heap.allocate(&mut tx, 100), Err(Errno::NOMEM));
        heap.clear(&mut tx).unwrap();
        assert_eq!(heap.allocate(&mut tx, 40_000), Ok(blocks[0]));
    }

    #[test]
    fn nonsense_is_an_error() {
        let (region, heap) = heap();
        let mut tx = JOURNAL.begin(&region);
        let block = heap.allocate(&mut tx, 10).unwrap();
        assert_eq!(heap.holds(&tx, block, 16), Ok(()));
        assert_eq!(heap.holds(&tx, block, 1000), Err(Errno::UCLEAN));
        for wrong in [0, 8, block + 4, heap.end + 64, usize::MAX] {
            assert_eq!(heap.free(&mut tx, wrong), Err(Errno::UCLEAN), "{wrong}");
        }
        tx.set(heap.header + layout::FREE, 12345).unwrap();
        assert_eq!(heap.allocate(&mut tx, 10), Err(Errno::UCLEAN));
        tx.set(heap.header + layout::BUMP, 1).unwrap();
        assert_eq!(heap.allocate(&mut tx, 300), Err(Errno::UCLEAN));
    }
}
