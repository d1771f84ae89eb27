//! Copying between a process's own memory and a region.
//!
//! Most messages are short, and a call into the C library costs as much as the copy of one: up to
//! [`SHORT`] bytes are moved here. Long ones are copied by [`PIECE`]s: on some processors the C library has a
//! way of its own for what is longer than a core's own cache, and it is a slow one where another processor has
//! the lines (measured on AMD's, 1 MiB: a stream 1.13 times that of one call where the two are near, more than
//! twice where they are far apart; there and back 58 µs one way instead of 69).

/// Longest copy that is made here, in bytes.
pub const SHORT: usize = 64;
/// Longest copy that is one call, in bytes.
pub const PIECE: usize = 64 * 1024;

/// Copies `length` bytes.
///
/// # Safety
/// `from` is valid for reading and `to` for writing so many bytes, and they are apart.
#[cfg(not(loom))]
#[inline(always)]
pub(crate) unsafe fn copy(from: *const u8, to: *mut u8, length: usize) {
    if length > SHORT {
        // SAFETY: the caller's promise, as for all that follows.
        unsafe { calls(from, to, length) };
    } else if length > 32 {
        // SAFETY: as above, and there are more than two pieces of 16 bytes.
        unsafe { ends::<u128, 2>(from, to, length) };
    } else if length > 16 {
        // SAFETY: as above, and there is more than one.
        unsafe { ends::<u128, 1>(from, to, length) };
    } else if length > 8 {
        // SAFETY: as above, and there is more than one word.
        unsafe { ends::<u64, 1>(from, to, length) };
    } else if length == 8 {
        // SAFETY: as above, and there is one word.
        unsafe { piece::<u64>(from, to, 0) };
    } else {
        for at in 0..length {
            // SAFETY: inside both.
            unsafe { piece::<u8>(from, to, at) };
        }
    }
}

/// The same by the C library, one call for each piece.
///
/// # Safety
/// As [`copy`].
#[cfg(not(loom))]
#[inline(always)]
unsafe fn calls(from: *const u8, to: *mut u8, length: usize) {
    if length <= PIECE {
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(from, to, length) };
    } else {
        // SAFETY: the caller's promise.
        unsafe { pieces(from, to, length) };
    }
}

/// The same for more than one.
///
/// # Safety
/// As [`copy`].
#[cfg(not(loom))]
#[inline(never)]
unsafe fn pieces(from: *const u8, to: *mut u8, length: usize) {
    for at in (0..length).step_by(PIECE) {
        let (from, to) = (from.wrapping_add(at), to.wrapping_add(at));
        // SAFETY: the caller's promise: the bytes are inside both.
        unsafe { std::ptr::copy_nonoverlapping(from, to, PIECE.min(length - at)) };
    }
}

/// The last `N` pieces and the first `N`, which may overlap, from the end on: see `Walk::write`.
///
/// # Safety
/// As [`copy`], and there are at least `N` pieces.
#[cfg(not(loom))]
#[inline(always)]
unsafe fn ends<T: Copy, const N: usize>(from: *const u8, to: *mut u8, length: usize) {
    let last = length - size_of::<T>() * N;
    for start in [last, 0] {
        for at in (0..N).rev().map(|k| size_of::<T>() * k) {
            // SAFETY: the caller's promise.
            unsafe { piece::<T>(from, to, start + at) };
        }
    }
}

/// The piece at so many bytes.
///
/// # Safety
/// As [`copy`], and the piece is inside.
#[cfg(not(loom))]
#[inline(always)]
unsafe fn piece<T: Copy>(from: *const u8, to: *mut u8, at: usize) {
    // SAFETY: the caller's promise.
    let piece = unsafe { from.wrapping_add(at).cast::<T>().read_unaligned() };
    // SAFETY: the caller's promise.
    unsafe { to.wrapping_add(at).cast::<T>().write_unaligned(piece) };
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn long_copies_are_whole() {
        for length in [PIECE, PIECE + 1, 3 * PIECE - 1, 3 * PIECE] {
            let from: Vec<u8> = (0..length).map(|at| (at % 251) as u8 + 1).collect();
            let mut to = vec![0; length + 1];
            // SAFETY: so many bytes are inside both.
            unsafe { copy(from.as_ptr(), to.as_mut_ptr(), length) };
            assert!(to[..length] == from && to[length] == 0, "{length}");
        }
    }

    #[test]
    fn all_bytes_are_copied_and_no_others() {
        let from: Vec<u8> = (0..200).map(|byte| byte as u8 + 1).collect();
        for length in 0..=130 {
            for start in 0..9 {
                let mut to = vec![0u8; 160];
                // SAFETY: inside.
                let place = unsafe { to.as_mut_ptr().add(start) };
                // SAFETY: `length` bytes behind the start of each are inside.
                unsafe { copy(from[start..].as_ptr(), place, length) };
                let expected = |at: usize| {
                    let inside = (start..start + length).contains(&at);
                    if inside { from[at] } else { 0 }
                };
                assert!((0..160).all(|at| to[at] == expected(at)), "{length}");
            }
        }
    }
}
