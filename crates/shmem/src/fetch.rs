//! Asking the processor for a line that is going to be needed. Nothing else happens, wherever it is: no fault,
//! and no other result. Where there is no such instruction nothing happens at all.

/// Asks for the line around a byte, to read it.
#[inline(always)]
pub(crate) fn to_read(byte: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which changes no register and no memory, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(byte.cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = byte;
}

/// Asks for the line around a byte, to write it: no other processor has it then.
#[inline(always)]
pub(crate) fn to_write(byte: *mut u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a hint, which changes no register and no memory, whatever the address.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) byte, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = byte;
}
