//! Bytes in place, in pieces of one length, of which none is checked: that all are inside was, once.
//!
//! Whoever reads a long message piece by piece asks for each whether it is inside otherwise, and where the bytes
//! are, which a store in between could have changed for all that the compiler knows. That takes longer than to
//! read a line that is in a cache.

use crate::memory::{read, write};
use crate::region::{Region, View};
use std::iter::FusedIterator;
use std::marker::PhantomData;

/// Where pieces begin, one after the other.
///
/// # Invariants
/// From `next` on there are `left` times `N` bytes of memory whose bytes are only reached by copies.
#[derive(Clone, Debug)]
struct Steps<const N: usize> {
    next: *mut u8,
    left: usize,
}

// SAFETY: it is no more than a place and a number; what is done there any thread may do.
unsafe impl<const N: usize> Send for Steps<N> {}
// SAFETY: as for `Send`; shared, it offers its length only.
unsafe impl<const N: usize> Sync for Steps<N> {}

impl<const N: usize> Steps<N> {
    #[inline(always)]
    fn step(&mut self) -> Option<*mut u8> {
        const { assert!(N > 0) };
        self.left = self.left.checked_sub(1)?;
        let here = self.next;
        // SAFETY: there was another piece, so this is no further than the end.
        self.next = unsafe { here.add(N) };
        Some(here)
    }
}

/// Copies of pieces of `N` bytes each, in order. See [`Bytes::as_chunks`](crate::Bytes::as_chunks).
///
/// # Invariants
/// The pieces are valid for reads as long as `'a`.
#[derive(Clone, Debug)]
pub struct Chunks<'a, const N: usize> {
    steps: Steps<N>,
    _view: PhantomData<&'a View>,
}

impl<'a, const N: usize> Chunks<'a, N> {
    /// `left` pieces from `start` on.
    ///
    /// # Safety
    /// So many bytes are there, valid for reads as long as `'a`, by copies only.
    #[inline]
    pub(crate) unsafe fn new(start: *const u8, left: usize) -> Self {
        let next = start.cast_mut();
        // INVARIANT: the caller's promise.
        Self {
            steps: Steps { next, left },
            _view: PhantomData,
        }
    }
}

impl<const N: usize> Iterator for Chunks<'_, N> {
    type Item = [u8; N];

    /// A copy of the next piece. A peer that writes it meanwhile leaves a mixture.
    #[inline(always)]
    fn next(&mut self) -> Option<[u8; N]> {
        let from = self.steps.step()?;
        let mut chunk = [0; N];
        // SAFETY: a piece is valid for reads; the copy is this process's own.
        unsafe { read(from, chunk.as_mut_ptr(), N) };
        Some(chunk)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.steps.left, Some(self.steps.left))
    }
}

impl<const N: usize> ExactSizeIterator for Chunks<'_, N> {}
impl<const N: usize> FusedIterator for Chunks<'_, N> {}

/// Pieces of `N` bytes each, to be written. See [`BytesMut::as_chunks_mut`](crate::BytesMut::as_chunks_mut).
///
/// # Invariants
/// The pieces are valid for writes as long as `'a`.
#[derive(Debug)]
pub struct ChunksMut<'a, const N: usize> {
    steps: Steps<N>,
    _region: PhantomData<&'a Region>,
}

impl<'a, const N: usize> ChunksMut<'a, N> {
    /// `left` pieces from `next` on.
    ///
    /// # Safety
    /// So many bytes are there, valid for writes as long as `'a`, by copies only.
    #[inline]
    pub(crate) unsafe fn new(next: *mut u8, left: usize) -> Self {
        // INVARIANT: the caller's promise.
        Self {
            steps: Steps { next, left },
            _region: PhantomData,
        }
    }
}

impl<'a, const N: usize> Iterator for ChunksMut<'a, N> {
    type Item = ChunkMut<'a, N>;

    #[inline(always)]
    fn next(&mut self) -> Option<ChunkMut<'a, N>> {
        let next = self.steps.step()?;
        // INVARIANT: one piece, of those that are valid for writes.
        Some(ChunkMut {
            piece: Steps { next, left: 1 },
            _region: PhantomData,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.steps.left, Some(self.steps.left))
    }
}

impl<const N: usize> ExactSizeIterator for ChunksMut<'_, N> {}
impl<const N: usize> FusedIterator for ChunksMut<'_, N> {}

/// One of the pieces.
///
/// # Invariants
/// It is valid for writes as long as `'a`.
#[derive(Debug)]
pub struct ChunkMut<'a, const N: usize> {
    piece: Steps<N>,
    _region: PhantomData<&'a Region>,
}

impl<const N: usize> ChunkMut<'_, N> {
    /// Writes it.
    #[inline(always)]
    pub fn set(&mut self, bytes: [u8; N]) {
        // SAFETY: by the invariant; `bytes` is this process's own.
        unsafe { write(self.piece.next, bytes.as_ptr(), N) };
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::{Bytes, BytesMut, Region};

    #[test]
    fn pieces_are_all_that_is_there_in_order() {
        let region = Region::heap(256);
        for (length, count, rest) in [(0, 0, 0), (7, 0, 7), (16, 2, 0), (100, 12, 4)] {
            let mut out = BytesMut::new(&region, 9, length).unwrap();
            let (chunks, mut left) = out.as_chunks_mut::<8>();
            assert_eq!((chunks.len(), left.len()), (count, rest));
            for (number, mut chunk) in chunks.enumerate() {
                chunk.set([number as u8 + 1; 8]);
            }
            left.copy_in(0, &vec![99; rest]).unwrap();
            let bytes = Bytes::new(&region, 9, length).unwrap();
            let (mut chunks, left) = bytes.as_chunks::<8>();
            assert_eq!(chunks.len(), count);
            let expected: Vec<_> = (1..=count as u8).map(|byte| [byte; 8]).collect();
            assert_eq!(chunks.by_ref().collect::<Vec<_>>(), expected);
            assert_eq!((chunks.next(), chunks.len()), (None, 0));
            assert_eq!(left.iter().collect::<Vec<_>>(), vec![99; rest]);
        }
        // Nothing around them was touched.
        let all = Bytes::new(&region, 0, 256).unwrap();
        assert!(all.part(0, 9).unwrap().iter().all(|byte| byte == 0));
        assert!(all.part(109, 147).unwrap().iter().all(|byte| byte == 0));
    }
}
