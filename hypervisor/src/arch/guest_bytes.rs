//! Copies to and from memory that somebody else may write at the same time: guests' RAM and the
//! pages that OP-TEE sees. Never a reference to it, always a volatile access a word or byte wide,
//! each byte once.

use mediator::addr::Pa;

/// Copies `into.len()` bytes from physical memory at `from`.
///
/// # Safety
/// The range is RAM mapped at EL2, and no Rust reference covers it.
#[inline]
pub unsafe fn read(from: Pa, into: &mut [u8]) {
    let mut source = from.get();
    let mut done = 0;
    if source.is_multiple_of(8) {
        for word in into.chunks_exact_mut(8) {
            // SAFETY: within the range, since the chunks are; aligned.
            let value = unsafe { core::ptr::read_volatile(source as *const u64) };
            word.copy_from_slice(&value.to_ne_bytes());
            source += 8;
            done += 8;
        }
    }
    for byte in &mut into[done..] {
        // SAFETY: within the range.
        *byte = unsafe { core::ptr::read_volatile(source as *const u8) };
        source += 1;
    }
}

/// Copies `bytes` to physical memory at `to`.
///
/// # Safety
/// As [`read`].
#[inline]
pub unsafe fn write(to: Pa, bytes: &[u8]) {
    let mut target = to.get();
    let mut rest = bytes;
    while let Some((word, tail)) = rest.split_first_chunk::<8>()
        && target.is_multiple_of(8)
    {
        // SAFETY: within the range by the loop's condition; aligned.
        unsafe { core::ptr::write_volatile(target as *mut u64, u64::from_ne_bytes(*word)) };
        target += 8;
        rest = tail;
    }
    for byte in rest {
        // SAFETY: within the range.
        unsafe { core::ptr::write_volatile(target as *mut u8, *byte) };
        target += 1;
    }
}

/// Sets `length` bytes to zero.
///
/// # Safety
/// As [`read`].
pub unsafe fn zero(to: Pa, length: u64) {
    // SAFETY: by the contract nobody else uses the range; a plain memset is much faster than
    // volatile stores.
    unsafe { core::ptr::write_bytes(to.get() as *mut u8, 0, length as usize) };
}

/// Copies `length` bytes between two ranges of RAM that do not overlap.
///
/// # Safety
/// As [`read`], for both.
pub unsafe fn copy(from: Pa, to: Pa, length: u64) {
    // SAFETY: by the contract.
    unsafe {
        core::ptr::copy_nonoverlapping(
            from.get() as *const u8,
            to.get() as *mut u8,
            length as usize,
        );
    }
}
