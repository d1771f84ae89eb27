//! Bytes of a message in place, which peers can still write.
//!
//! They are handed out as a view and not as `&[u8]`: what is read twice may differ, and a reference
//! would promise the compiler that it does not. Whoever trusts the peers says so with `unsafe` and
//! gets the slice.

use crate::chunks::{Chunks, ChunksMut};
use crate::memory::write;
use crate::region::{OutOfBounds, Region, View};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A message has not the size of the type that it is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of {found} bytes is not the {expected} bytes of the type that was asked for")]
pub struct WrongSize {
    /// Bytes of the type.
    pub expected: usize,
    /// Bytes of the message.
    pub found: usize,
}

/// Some bytes of a region, for reading.
///
/// # Invariants
/// They lie inside the view.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a> {
    view: &'a View,
    offset: usize,
    length: usize,
}

impl<'a> Bytes<'a> {
    /// `length` bytes from `offset` on.
    ///
    /// # Errors
    /// If they are not all inside the view.
    #[inline]
    pub fn new(view: &'a View, offset: usize, length: usize) -> Result<Self, OutOfBounds> {
        // INVARIANT: as just checked.
        view.check(offset, length)?;
        Ok(Self {
            view,
            offset,
            length,
        })
    }

    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// A part of them.
    ///
    /// # Errors
    /// If the part is not inside.
    pub fn part(&self, offset: usize, length: usize) -> Result<Self, OutOfBounds> {
        inside(offset, length, self.length)?;
        Ok(Self {
            offset: self.offset + offset,
            length,
            ..*self
        })
    }

    /// Copies a part of them out. A peer that writes meanwhile leaves a mixture. For one part after the other see
    /// [`as_chunks`](Self::as_chunks).
    ///
    /// # Errors
    /// If the part is not inside; nothing is copied then.
    #[inline]
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) -> Result<(), OutOfBounds> {
        inside(offset, to.len(), self.length)?;
        // SAFETY: as just checked, and inside the view by the type's invariant.
        unsafe { self.view.copy_out_unchecked(self.offset + offset, to) };
        Ok(())
    }

    /// Appends them to a buffer. A peer that writes meanwhile leaves a mixture.
    #[inline(always)]
    pub fn append_to(&self, to: &mut Vec<u8>) {
        // SAFETY: inside the view by the type's invariant.
        unsafe { self.view.append_unchecked(self.offset, self.length, to) };
    }

    /// A copy of the value that stands at `offset`: a field.
    ///
    /// ```
    /// let region = shmem::Region::heap(64);
    /// region.copy_in(8, &7u32.to_ne_bytes())?;
    /// let bytes = shmem::Bytes::new(&region, 0, 16)?;
    /// assert_eq!(bytes.field::<u32>(8)?, 7);
    /// # Ok::<(), shmem::OutOfBounds>(())
    /// ```
    ///
    /// # Errors
    /// If it is not all inside.
    pub fn field<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T, OutOfBounds> {
        let mut value = T::new_zeroed();
        self.copy_out(offset, value.as_mut_bytes())?;
        Ok(value)
    }

    /// A copy of the value that they are as a whole.
    ///
    /// # Errors
    /// If they are more or fewer than the type has.
    pub fn read<T: FromBytes + IntoBytes>(&self) -> Result<T, WrongSize> {
        let wrong = WrongSize {
            expected: size_of::<T>(),
            found: self.length,
        };
        if wrong.expected != wrong.found {
            return Err(wrong);
        }
        self.field(0).map_err(|_| wrong)
    }

    /// The bytes in pieces of `N`, each copied when its turn comes, and what is left behind them: the way to read a
    /// long message in place. Pieces of 64 bytes and more of one of 256 KiB or more are fetched ahead.
    ///
    /// ```
    /// let region = shmem::Region::heap(64);
    /// region.copy_in(8, &7u64.to_ne_bytes())?;
    /// let bytes = shmem::Bytes::new(&region, 0, 20)?;
    /// let (words, rest) = bytes.as_chunks();
    /// assert_eq!(words.map(u64::from_ne_bytes).sum::<u64>(), 7);
    /// assert_eq!(rest.len(), 4);
    /// # Ok::<(), shmem::OutOfBounds>(())
    /// ```
    #[inline]
    pub fn as_chunks<const N: usize>(&self) -> (Chunks<'a, N>, Self) {
        let count = self.length / N;
        // SAFETY: inside the view by the type's invariant.
        let start = unsafe { self.view.at(self.offset) };
        // SAFETY: so many are, and the view's bytes are only reached by copies.
        let chunks = unsafe { Chunks::new(start, count) };
        // INVARIANT: behind those, and no further than the end.
        let rest = Self {
            offset: self.offset + count * N,
            length: self.length % N,
            ..*self
        };
        (chunks, rest)
    }

    /// The bytes one after the other, each loaded once.
    pub fn iter(&self) -> impl Iterator<Item = u8> + 'a {
        let bytes = *self;
        // Inside, so there is always one.
        (0..self.length).map(move |at| bytes.field(at).unwrap_or_default())
    }

    /// Writes them to a file, a pipe, a socket, … without a copy of them in this process. Answers how
    /// many were written, which may be fewer.
    ///
    /// # Errors
    /// Those of `write`.
    #[doc(alias = "write")]
    pub fn write_to(&self, to: impl AsFd) -> io::Result<usize> {
        // SAFETY: inside the view by the type's invariant.
        let start = unsafe { self.view.at(self.offset) };
        let to = to.as_fd().as_raw_fd();
        // SAFETY: the kernel only reads these bytes, which are mapped as long as the view; that a
        // peer may write them meanwhile changes what is written, and nothing else.
        let written = unsafe { libc::write(to, start.cast(), self.length) };
        usize::try_from(written).map_err(|_| io::Error::last_os_error())
    }

    /// The bytes as a plain slice.
    ///
    /// # Safety
    /// Nobody writes them while the slice lives: neither this process nor any other that has the
    /// segment attached for writing. A channel's protocol promises it of honest peers only.
    #[inline]
    pub unsafe fn as_slice(&self) -> &'a [u8] {
        // SAFETY: inside the view by the type's invariant; that nobody writes is the caller's
        // promise.
        unsafe { self.view.slice(self.offset, self.length) }
    }
}

/// Some bytes of a region, for writing: a message that is not sent yet.
///
/// Where they begin is known once and for all: looked up in the region, it would be loaded again after
/// each store, which could have changed it for all that the compiler knows.
///
/// # Invariants
/// They lie inside the region, which is writable: from `start` on, `length` bytes.
#[derive(Debug)]
pub struct BytesMut<'a> {
    start: *mut u8,
    length: usize,
    _region: PhantomData<&'a Region>,
}

// SAFETY: as a reference to the region, which any thread may use to write.
unsafe impl Send for BytesMut<'_> {}
// SAFETY: as for `Send`; shared, it offers its length only.
unsafe impl Sync for BytesMut<'_> {}

impl<'a> BytesMut<'a> {
    /// `length` bytes from `offset` on.
    ///
    /// # Errors
    /// If they are not all inside the region.
    #[inline]
    pub fn new(region: &'a Region, offset: usize, length: usize) -> Result<Self, OutOfBounds> {
        region.check(offset, length)?;
        // SAFETY: as just checked.
        let start = unsafe { region.at(offset) };
        // INVARIANT: as just checked; a region is writable.
        Ok(Self {
            start,
            length,
            _region: PhantomData,
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Writes a part of them. For one part after the other see [`as_chunks_mut`](Self::as_chunks_mut).
    ///
    /// # Errors
    /// If the part is not inside; nothing is written then.
    #[inline]
    pub fn copy_in(&mut self, offset: usize, part: &[u8]) -> Result<(), OutOfBounds> {
        inside(offset, part.len(), self.length)?;
        // SAFETY: as just checked, and inside the region by the type's invariant.
        let to = unsafe { self.start.add(offset) };
        // SAFETY: as before; `part` is memory of this process that nobody writes.
        unsafe { write(to, part.as_ptr(), part.len()) };
        Ok(())
    }

    /// The bytes in pieces of `N`, each to be written when its turn comes, and what is left behind them: the way to
    /// write a long message in place. Lines are fetched ahead as with [`Bytes::as_chunks`].
    ///
    /// ```
    /// let region = shmem::Region::heap(64);
    /// let mut bytes = shmem::BytesMut::new(&region, 0, 64)?;
    /// let (words, _) = bytes.as_chunks_mut();
    /// for (number, mut word) in words.enumerate() {
    ///     word.set(number.to_ne_bytes());
    /// }
    /// # Ok::<(), shmem::OutOfBounds>(())
    /// ```
    #[inline]
    pub fn as_chunks_mut<const N: usize>(&mut self) -> (ChunksMut<'_, N>, BytesMut<'_>) {
        let count = self.length / N;
        // SAFETY: so many are inside, by the type's invariant, and are only reached by copies.
        let chunks = unsafe { ChunksMut::new(self.start, count) };
        // SAFETY: inside, as before, or one past the end.
        let start = unsafe { self.start.add(count * N) };
        // INVARIANT: behind those, and no further than the end.
        let rest = BytesMut {
            start,
            length: self.length % N,
            _region: PhantomData,
        };
        (chunks, rest)
    }

    /// Writes a value at `offset`: a field.
    ///
    /// # Errors
    /// If it does not all fit; nothing is written then.
    pub fn set_field<T: IntoBytes + Immutable>(
        &mut self,
        offset: usize,
        value: &T,
    ) -> Result<(), OutOfBounds> {
        self.copy_in(offset, value.as_bytes())
    }

    /// Fills the bytes from `offset` on from a file, a pipe, a socket, … without a copy of them in this
    /// process. Answers how many were read, 0 at its end.
    ///
    /// # Errors
    /// Those of `read`; `InvalidInput` if `offset` is beyond the end.
    #[doc(alias = "read")]
    pub fn read_from(&mut self, offset: usize, from: impl AsFd) -> io::Result<usize> {
        let outside = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
        inside(offset, 0, self.length).map_err(outside)?;
        // SAFETY: inside the region by the type's invariant and the check just made.
        let start = unsafe { self.start.add(offset) };
        let from = from.as_fd().as_raw_fd();
        // SAFETY: the kernel writes no more than the bytes from there to the end of this part of
        // the region, which is writable and mapped as long as the region; no reference to any of
        // them exists.
        let read = unsafe { libc::read(from, start.cast(), self.length - offset) };
        usize::try_from(read).map_err(|_| io::Error::last_os_error())
    }

    /// The bytes as a plain slice. What is never written holds the bytes of older messages.
    ///
    /// # Safety
    /// Nobody else reads or writes them while the slice lives: neither this process nor any other
    /// that has the segment attached. A channel's protocol promises it of honest peers only.
    #[inline]
    pub unsafe fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: inside the region by the type's invariant; that nobody else touches them is the
        // caller's promise, and this borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.length) }
    }
}

#[inline]
fn inside(offset: usize, length: usize, region: usize) -> Result<(), OutOfBounds> {
    match offset.checked_add(length) {
        Some(end) if end <= region => Ok(()),
        _ => Err(OutOfBounds {
            offset,
            length,
            region,
        }),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn parts_stay_inside() {
        let region = Region::heap(64);
        let mut out = BytesMut::new(&region, 8, 10).unwrap();
        assert!(out.copy_in(1, b"0123456789").is_err());
        out.copy_in(0, b"0123456789").unwrap();
        out.set_field(2, &u16::from_ne_bytes(*b"ab")).unwrap();
        assert!(out.set_field(9, &1u16).is_err());
        let bytes = Bytes::new(&region, 8, 10).unwrap();
        let text = bytes.part(1, 4).unwrap();
        assert_eq!(text.iter().collect::<Vec<_>>(), b"1ab4");
        assert_eq!(text.read::<[u8; 4]>(), Ok(*b"1ab4"));
        let wrong = WrongSize {
            expected: 8,
            found: 4,
        };
        assert_eq!(text.read::<u64>(), Err(wrong));
        assert!(text.field::<u32>(1).is_err() && text.part(2, 3).is_err());
        assert!(text.copy_out(usize::MAX, &mut [0; 2]).is_err());
        assert!(Bytes::new(&region, 60, 5).is_err() && BytesMut::new(&region, 64, 1).is_err());
        let (read, write) = io::pipe().unwrap();
        assert_eq!(text.write_to(&write).unwrap(), 4);
        let mut out = BytesMut::new(&region, 40, 4).unwrap();
        assert!(out.read_from(5, &read).is_err());
        assert_eq!(out.read_from(1, &read).unwrap(), 3);
        assert_eq!(out.read_from(0, &read).unwrap(), 1);
        assert_eq!(Bytes::new(&region, 40, 4).unwrap().read(), Ok(*b"41ab"));
        drop(write);
        assert_eq!(out.read_from(0, &read).unwrap(), 0);
        // SAFETY: the region is this test's alone.
        assert_eq!(unsafe { text.as_slice() }, b"1ab4");
        let mut out = BytesMut::new(&region, 9, 4).unwrap();
        // SAFETY: as before; `text`'s slice is gone.
        unsafe { out.as_mut_slice() }.copy_from_slice(b"wxyz");
        assert_eq!(text.read::<[u8; 4]>(), Ok(*b"wxyz"));
    }
}
