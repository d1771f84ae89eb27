//! Doubly linked lists in shared memory.
//!
//! A list has two words, its first and its last node; a node has two for each list that it is in,
//! the next and the previous node. 0 is no node.
//!
//! **A peer that lies** can make a list a circle or lead it anywhere: whoever walks one counts, and
//! gives up at [`LONGEST`].

use shmem::journal::Tx;
use sysv::{Errno, Result};

/// More nodes than any list has.
pub const LONGEST: usize = 1 << 24;

/// Appends a node. `ends` is where the list's two words are, `links` where the node's are within
/// it.
pub fn push(tx: &mut Tx, ends: usize, node: usize, links: usize) -> Result<()> {
    let last = tx.get_at(ends + 8)?;
    tx.set(node + links, 0)?;
    tx.set(node + links + 8, last as u64)?;
    if last == 0 {
        tx.set(ends, node as u64)?;
    } else {
        tx.set(last + links, node as u64)?;
    }
    tx.set(ends + 8, node as u64)
}

/// Takes a node out.
pub fn remove(tx: &mut Tx, ends: usize, node: usize, links: usize) -> Result<()> {
    let next = tx.get_at(node + links)?;
    let previous = tx.get_at(node + links + 8)?;
    let before = if previous == 0 {
        ends
    } else {
        previous + links
    };
    let after = if next == 0 {
        ends + 8
    } else {
        next + links + 8
    };
    tx.set(before, next as u64)?;
    tx.set(after, previous as u64)
}

/// The nodes of a list, first to last; the list is as it is now.
///
/// # Errors
/// `EUCLEAN` if it has no end.
pub fn nodes(tx: &Tx, ends: usize, links: usize) -> Result<Vec<usize>> {
    let mut all = Vec::new();
    let mut node = tx.get_at(ends)?;
    while node != 0 {
        if all.len() == LONGEST {
            return Err(Errno::UCLEAN);
        }
        all.push(node);
        node = tx.get_at(node + links)?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shmem::Region;
    use shmem::journal::{self, Journal};

    const JOURNAL: Journal = Journal {
        offset: 0,
        room: 50,
    };

    #[test]
    fn nodes_come_and_go() {
        let ends = journal::size(50);
        let region = Region::heap(ends + 200);
        let mut tx = JOURNAL.begin(&region);
        let [a, b, c] = [1, 2, 3].map(|n| ends + 32 * n);
        for node in [a, b, c] {
            push(&mut tx, ends, node, 8).unwrap();
        }
        assert_eq!(nodes(&tx, ends, 8).unwrap(), [a, b, c]);
        remove(&mut tx, ends, b, 8).unwrap();
        assert_eq!(nodes(&tx, ends, 8).unwrap(), [a, c]);
        remove(&mut tx, ends, a, 8).unwrap();
        push(&mut tx, ends, b, 8).unwrap();
        assert_eq!(nodes(&tx, ends, 8).unwrap(), [c, b]);
        remove(&mut tx, ends, b, 8).unwrap();
        remove(&mut tx, ends, c, 8).unwrap();
        assert_eq!(nodes(&tx, ends, 8).unwrap(), []);
    }

    #[test]
    fn a_circle_is_an_error() {
        let ends = journal::size(50);
        let region = Region::heap(ends + 200);
        let mut tx = JOURNAL.begin(&region);
        let node = ends + 32;
        push(&mut tx, ends, node, 8).unwrap();
        tx.set(node + 8, node as u64).unwrap();
        assert_eq!(nodes(&tx, ends, 8), Err(Errno::UCLEAN));
    }
}
