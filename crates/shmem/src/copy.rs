//! Copying between a process's own memory and a region.
//!
//! Most messages are short, and a call into the C library costs as much as the copy of one: up to
//! [`SHORT`] bytes are moved here.

/// Longest copy that is made here, in bytes.
pub const SHORT: usize = 64;

/// Copies `length` bytes.
///
/// # Safety
/// `from` is valid for reading and `to` for writing so many bytes, and they are apart.
#[inline(always)]
pub(crate) unsafe fn copy(from: *const u8, to: *mut u8, length: usize) {
    if length > SHORT {
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(from, to, length) };
    } else if length > 32 {
        // SAFETY: the first half and the last half are all there, and no more.
        unsafe { ends::<u128, 2>(from, to, length) };
    } else if length > 16 {
        // SAFETY: as above.
        unsafe { ends::<u128, 1>(from, to, length) };
    } else if length >= 8 {
        // SAFETY: as above.
        unsafe { ends::<u64, 1>(from, to, length) };
    } else {
        for at in 0..length {
            // SAFETY: inside both.
            unsafe { piece::<u8>(from, to, at) };
        }
    }
}

/// The first `N` pieces and the last `N`, which may overlap.
///
/// # Safety
/// As [`copy`], and there are at least `N` pieces.
#[inline(always)]
unsafe fn ends<T: Copy, const N: usize>(from: *const u8, to: *mut u8, length: usize) {
    let size = size_of::<T>();
    for k in 0..N {
        // SAFETY: the caller's promise.
        unsafe { piece::<T>(from, to, size * k) };
    }
    for k in 0..N {
        // SAFETY: the caller's promise.
        unsafe { piece::<T>(from, to, length - size * (N - k)) };
    }
}

/// # Safety
/// As [`copy`], for a piece at so many bytes.
#[inline(always)]
unsafe fn piece<T: Copy>(from: *const u8, to: *mut u8, at: usize) {
    // SAFETY: the caller's promise, as for all that follows.
    let from = unsafe { from.add(at) };
    // SAFETY: as above.
    let to = unsafe { to.add(at) };
    // SAFETY: as above.
    let piece = unsafe { from.cast::<T>().read_unaligned() };
    // SAFETY: as above.
    unsafe { to.cast::<T>().write_unaligned(piece) };
}
