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
        // SAFETY: the caller's promise.
        unsafe { calls(from, to, length) };
    } else {
        // SAFETY: the caller's promise, and there are no more.
        unsafe { short(from, to, length, false) };
    }
}

/// Whether this processor moves 32 bytes at once: its 256-bit AVX registers.
pub(crate) fn is_wide() -> bool {
    #[cfg(all(target_arch = "x86_64", not(miri), not(loom)))]
    return std::arch::is_x86_feature_detected!("avx");
    #[cfg(not(all(target_arch = "x86_64", not(miri), not(loom))))]
    false
}

/// Copies no more than [`SHORT`] bytes, more than 32 of them by two moves if `wide`.
///
/// # Safety
/// As [`copy`], `length` is no more than that, and `wide` is what [`is_wide`] answers, or false.
#[cfg(not(loom))]
#[inline(always)]
pub(crate) unsafe fn short(from: *const u8, to: *mut u8, length: usize, wide: bool) {
    debug_assert!(length <= SHORT);
    if length > 32 {
        if wide {
            // SAFETY: the caller's promise, as for all that follows, and there are more than 32.
            unsafe { halves(from, to, length) };
            return;
        }
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
    } else if length >= 4 {
        // SAFETY: as above, and there are four or more.
        unsafe { ends::<u32, 1>(from, to, length) };
    } else if length >= 2 {
        // SAFETY: as above, and there are two or more.
        unsafe { ends::<u16, 1>(from, to, length) };
    } else if length == 1 {
        // SAFETY: as above, and there is one.
        unsafe { piece::<u8>(from, to, 0) };
    }
}

/// The last 32 bytes and the first 32, which may overlap, by moves as wide.
///
/// # Safety
/// As [`copy`], there are 32 to 64, and the processor has AVX.
#[cfg(not(loom))]
#[inline(always)]
unsafe fn halves(from: *const u8, to: *mut u8, length: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // Not by what the compiler has for it, which is a call wherever it was not told that there is AVX.
    // SAFETY: by the caller's promise both moves are inside both, and the processor has such. `vzeroupper`
    // takes the upper halves of these sixteen registers away, all of which count as overwritten.
    unsafe {
        std::arch::asm!(
            "vmovdqu ymm0, ymmword ptr [{from} + {length} - 32]",
            "vmovdqu ymm1, ymmword ptr [{from}]",
            "vmovdqu ymmword ptr [{to} + {length} - 32], ymm0",
            "vmovdqu ymmword ptr [{to}], ymm1",
            "vzeroupper",
            from = in(reg) from,
            to = in(reg) to,
            length = in(reg) length,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
            out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
            out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            options(nostack, preserves_flags),
        );
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    // SAFETY: the caller's promise.
    unsafe {
        ends::<u128, 2>(from, to, length);
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
                if length <= SHORT {
                    to.fill(0);
                    // SAFETY: inside.
                    let place = unsafe { to.as_mut_ptr().add(start) };
                    // SAFETY: as above, and there are no more.
                    unsafe { short(from[start..].as_ptr(), place, length, is_wide()) };
                    assert!((0..160).all(|at| to[at] == expected(at)), "{length}");
                }
            }
        }
    }
}
