//! Bytes in place, in pieces of one length, of which none is checked: that all are inside was, once.
//!
//! Whoever reads a long message piece by piece asks for each whether it is inside otherwise, and where the bytes
//! are, which a store in between could have changed for all that the compiler knows. That takes longer than to
//! read a line that is in a cache.
//!
//! The lines of long messages are fetched some way ahead, as long as that is inside. Measured for a stream of 1 MiB,
//! written and read in place by two hyper-threads of one core, in turns: 60 to 65 thousand a second in nearly all of
//! some fifty runs, where without it most had 49 to 56, and the others as many. With writers only 55 to 58; from 2 to
//! 16 KiB ahead for writers, 1 to 16 for readers it made no difference. It has a price where lines are near: 1 MiB
//! there and back 37 µs one way instead of 35 if it is copied in and read in place, 64 KiB in place 2.2 instead of 2.1,
//! so not even those of 64 KiB have it.

use crate::fetch;
use crate::memory::{read, write};
use crate::region::{Region, View};
use std::iter::FusedIterator;
use std::marker::PhantomData;

/// A cache line, in bytes.
const LINE: usize = 64;
/// How far ahead lines are fetched, in bytes.
const AHEAD: usize = 8192;
/// Of how long messages, in bytes, and longer ones.
const LONG: usize = 256 * 1024;

/// Where pieces begin, one after the other.
///
/// # Invariants
/// From `next` on there are `left` times `N` bytes of memory whose bytes are only reached by copies.
#[derive(Clone, Debug)]
struct Steps<const N: usize> {
    next: *mut u8,
    left: usize,
    /// While more pieces than this are left, lines are fetched.
    unfetched: usize,
}

// SAFETY: it is no more than a place and a number; what is done there any thread may do.
unsafe impl<const N: usize> Send for Steps<N> {}
// SAFETY: as for `Send`; shared, it offers its length only.
unsafe impl<const N: usize> Sync for Steps<N> {}

impl<const N: usize> Steps<N> {
    /// How many pieces ahead lines are fetched.
    const AHEAD: usize = AHEAD / N;

    /// `left` pieces from `next` on.
    ///
    /// # Safety
    /// So many bytes are there, only reached by copies.
    #[inline(always)]
    unsafe fn new(next: *mut u8, left: usize) -> Self {
        const { assert!(N > 0) };
        // Not pieces shorter than a line, of which each would have it fetched again, nor longer than the way ahead.
        let fetches = (LINE..=AHEAD).contains(&N) && left >= LONG / N;
        // INVARIANT: the caller's promise.
        Self {
            next,
            left,
            unfetched: if fetches { Self::AHEAD } else { usize::MAX },
        }
    }

    #[inline(always)]
    fn step(&mut self) -> Option<*mut u8> {
        self.left = self.left.checked_sub(1)?;
        let here = self.next;
        // SAFETY: there was another piece, so this is no further than the end.
        self.next = unsafe { here.add(N) };
        Some(here)
    }

    /// Has the lines of the piece so far ahead fetched.
    #[inline(always)]
    fn fetch_ahead(&self, fetch: impl Fn(*mut u8)) {
        if self.left > self.unfetched {
            for line in (0..N).step_by(LINE) {
                fetch(self.next.wrapping_add(Self::AHEAD * N + line));
            }
        }
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
        // INVARIANT: the caller's promise.
        Self {
            // SAFETY: the caller's promise.
            steps: unsafe { Steps::new(start.cast_mut(), left) },
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
        self.steps.fetch_ahead(|line| fetch::to_read(line));
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
            // SAFETY: the caller's promise.
            steps: unsafe { Steps::new(next, left) },
            _region: PhantomData,
        }
    }
}

impl<'a, const N: usize> Iterator for ChunksMut<'a, N> {
    type Item = ChunkMut<'a, N>;

    #[inline(always)]
    fn next(&mut self) -> Option<ChunkMut<'a, N>> {
        let next = self.steps.step()?;
        self.steps.fetch_ahead(fetch::to_write);
        // INVARIANT: one piece, of those that are valid for writes.
        Some(ChunkMut {
            // SAFETY: one piece.
            piece: unsafe { Steps::new(next, 1) },
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
    use super::{AHEAD, LINE, LONG};
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

    /// Writes pieces of `N` bytes and reads them, between pages that nobody may touch.
    fn go_through<const N: usize>(length: usize) {
        let region = Region::guarded(length);
        let mut out = BytesMut::new(&region, 0, length).unwrap();
        let chunks = out.as_chunks_mut::<N>().0;
        assert_eq!(chunks.len(), length / N);
        for (number, mut chunk) in chunks.enumerate() {
            chunk.set([number as u8; N]);
        }
        let chunks = Bytes::new(&region, 0, length).unwrap().as_chunks::<N>().0;
        assert_eq!(chunks.len(), length / N);
        for (number, chunk) in chunks.enumerate() {
            assert_eq!(chunk, [number as u8; N]);
        }
    }

    #[test]
    fn long_messages_are_whole_whatever_was_fetched() {
        for length in [LONG - 1, LONG, LONG + AHEAD + 3 * LINE] {
            go_through::<8>(length);
            go_through::<LINE>(length);
            go_through::<100>(length);
            go_through::<AHEAD>(length);
            go_through::<{ 3 * AHEAD }>(length);
        }
    }
}
