// SPDX-License-Identifier: Apache-2.0 OR MIT
//! RAM to which EL2 has no reference, and which others may write at the same time: guests' RAM, the pages that OP-TEE
//! sees, and the modules that the boot loader left.
//!
//! Rust has no reference to any of it. It is copied by volatile accesses a word or byte wide, each byte once, and every
//! copy is checked against the ranges that [`init`] was given: what is not in them, such as EL2's own image and heap,
//! cannot be reached from here.

use super::registers::DCZID_EL0;
use aarch64_cpu::registers::Readable;
use core::arch::asm;
use core::cell::UnsafeCell;
use mediator::addr::Pa;
use postern_base::range::PaRange;
use postern_boot_tree::Memory;
use spin::Once;

/// The first byte and the length of a range.
type Extent = (u64, u64);

/// The two largest ranges of [`RAM`], which nearly all accesses are in: guests' RAM is in the first, and the pages that
/// OP-TEE sees are often in the second.
struct Largest(UnsafeCell<[Extent; 2]>);

// SAFETY: `init` writes it while no other pCPU is up, once, and nothing writes it later.
unsafe impl Sync for Largest {}

static LARGEST: Largest = Largest(UnsafeCell::new([(0, 0); 2]));
static RAM: Once<Memory> = Once::new();

/// Opens these ranges. Once, at boot, before another pCPU is up.
///
/// # Safety
/// They are mapped at EL2 as normal memory, and no Rust reference covers any of it, now or later.
pub unsafe fn init(ram: Memory) {
    RAM.call_once(|| {
        let mut largest: [Extent; 2] = [(0, 0); 2];
        for range in ram.iter() {
            let extent = (range.start().get(), range.bytes());
            if extent.1 > largest[0].1 {
                largest = [extent, largest[0]];
            } else if extent.1 > largest[1].1 {
                largest[1] = extent;
            }
        }
        // SAFETY: only the boot pCPU is up, and it reads this in `check` alone.
        unsafe { *LARGEST.0.get() = largest };
        ram
    });
}

/// Panics if the range is not open. EL2 translates every address that a guest names, so this is a bug in EL2.
#[inline]
fn check(at: Pa, bytes: u64) {
    // SAFETY: nothing writes it any more.
    let [largest, _] = unsafe { &*LARGEST.0.get() };
    if !is_in(largest, at, bytes) {
        check_second(at, bytes);
    }
}

// Not inlined, so that accesses to guests' RAM do not get longer.
#[inline(never)]
fn check_second(at: Pa, bytes: u64) {
    // SAFETY: as in `check`.
    let [_, second] = unsafe { &*LARGEST.0.get() };
    if !is_in(second, at, bytes) {
        check_others(at, bytes);
    }
}

#[inline]
const fn is_in(&(start, length): &Extent, at: Pa, bytes: u64) -> bool {
    let offset = at.get().wrapping_sub(start);
    // A range whose end wraps is longer than what is left.
    offset < length && bytes <= length - offset
}

#[cold]
#[inline(never)]
fn check_others(at: Pa, bytes: u64) {
    let is_open = PaRange::new(at, bytes)
        .zip(RAM.get())
        .is_some_and(|(range, ram)| ram.contains(range));
    assert!(is_open, "{at:?} is no guest's RAM");
}

/// Copies `into.len()` bytes from physical memory at `from`.
///
/// # Panics
/// The range is not open.
#[inline]
pub fn read(from: Pa, into: &mut [u8]) {
    check(from, into.len() as u64);
    // SAFETY: it is open.
    unsafe { read_open(from, into) };
}

/// Copies `bytes` to physical memory at `to`.
///
/// # Panics
/// As [`read`].
#[inline]
pub fn write(to: Pa, bytes: &[u8]) {
    check(to, bytes.len() as u64);
    // SAFETY: it is open.
    unsafe { write_open(to, bytes) };
}

/// Loads a little-endian number in one access.
///
/// # Panics
/// The range is not open, or the address is odd.
#[inline]
pub fn load_u16(from: Pa) -> u16 {
    check(from, 2);
    assert!(from.get().is_multiple_of(2), "an odd address");
    // SAFETY: it is open, and aligned.
    u16::from_le(unsafe { core::ptr::read_volatile(from.get() as *const u16) })
}

/// Stores a little-endian number in one access.
///
/// # Panics
/// The range is not open, or the address is not a multiple of four.
#[inline]
pub fn store_u32(to: Pa, value: u32) {
    check(to, 4);
    assert!(to.get().is_multiple_of(4), "an odd address");
    // SAFETY: it is open, and aligned.
    unsafe { core::ptr::write_volatile(to.get() as *mut u32, value.to_le()) };
}

/// Stores a little-endian number in one access.
///
/// # Panics
/// As [`load_u16`].
#[inline]
pub fn store_u16(to: Pa, value: u16) {
    check(to, 2);
    assert!(to.get().is_multiple_of(2), "an odd address");
    // SAFETY: it is open, and aligned.
    unsafe { core::ptr::write_volatile(to.get() as *mut u16, value.to_le()) };
}

/// Reads as [`read`] does, without the check, on the path of an SMC.
///
/// # Safety
/// The range is open: it was just found in the RAM of a VM.
#[inline]
pub unsafe fn read_open(from: Pa, into: &mut [u8]) {
    let to = into.as_mut_ptr() as u64;
    // SAFETY: `into` is ours and as long; the other range is open.
    unsafe { copy_once(from.get(), to, into.len()) };
}

/// Writes as `write` does, without the check, on the path of an SMC.
///
/// # Safety
/// As [`read_open`].
#[inline]
pub unsafe fn write_open(to: Pa, bytes: &[u8]) {
    let from = bytes.as_ptr() as u64;
    // SAFETY: `bytes` may be read and is as long; the other range is open.
    unsafe { copy_once(from, to.get(), bytes.len()) };
}

/// Reads each byte once and writes each byte once; words in one access where all are aligned.
///
/// # Safety
/// Both ranges are RAM mapped at EL2; the one written may be written, and no Rust reference but the
/// caller's covers it.
#[inline]
unsafe fn copy_once(from: u64, to: u64, length: usize) {
    if (from | to | length as u64).is_multiple_of(8) {
        // SAFETY: as here, and all are multiples of eight.
        unsafe { copy_words(from, to, length) };
    } else {
        // SAFETY: as here.
        unsafe { copy_pieces(from, to, length) };
    }
}

/// [`copy_once`] for addresses and lengths that are multiples of eight. A pair of words is two accesses
/// of eight bytes each (Arm ARM, B2.2.1).
///
/// # Safety
/// As [`copy_once`].
#[inline]
unsafe fn copy_words(from: u64, to: u64, length: usize) {
    // SAFETY: the loops read and write `length` bytes from the two addresses on, and use no stack.
    unsafe {
        asm!(
            "subs {left}, {left}, #32",
            "b.lo 3f",
            "2:",
            "ldp {a}, {b}, [{from}], #16",
            "ldp {c}, {d}, [{from}], #16",
            "stp {a}, {b}, [{to}], #16",
            "stp {c}, {d}, [{to}], #16",
            "subs {left}, {left}, #32",
            "b.hs 2b",
            "3:",
            "adds {left}, {left}, #32",
            "b.eq 5f",
            "4:",
            "ldr {a}, [{from}], #8",
            "subs {left}, {left}, #8",
            "str {a}, [{to}], #8",
            "b.ne 4b",
            "5:",
            left = inout(reg) length => _,
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            a = out(reg) _,
            b = out(reg) _,
            c = out(reg) _,
            d = out(reg) _,
            options(nostack),
        );
    }
}

/// [`copy_once`] for any others: short ones that begin and end at multiples of four by words of eight bytes, as far as
/// they are aligned on both sides, and of four; else by [`copy_unaligned`].
///
/// # Safety
/// As [`copy_once`].
#[inline(never)]
unsafe fn copy_pieces(from: u64, to: u64, length: usize) {
    let length = length as u64;
    let end = from.wrapping_add(length);
    if length == 8 && (from | to).is_multiple_of(4) {
        // What each call ends with: the result and its origin.
        // SAFETY: as here, and both addresses are multiples of four.
        unsafe {
            copy_one::<u32>(from, to);
            copy_one::<u32>(from.wrapping_add(4), to.wrapping_add(4));
        }
    } else if length >= LONG || !(from | to | end).is_multiple_of(4) {
        // SAFETY: as here.
        unsafe { copy_unaligned(from, to, length as usize) };
    } else if (from ^ to).is_multiple_of(8) {
        let head = (from % 8).min(length);
        let words = (length - head) & !7;
        let behind = head + words;
        // SAFETY: within the ranges; aligned: `head` leads both to a multiple of eight.
        unsafe {
            if head != 0 {
                copy_one::<u32>(from, to);
            }
            copy_words(
                from.wrapping_add(head),
                to.wrapping_add(head),
                words as usize,
            );
            if behind != length {
                copy_one::<u32>(from.wrapping_add(behind), to.wrapping_add(behind));
            }
        }
    } else {
        // SAFETY: as here, and all are multiples of four.
        unsafe { copy_each::<u32>(from, to, length) };
    }
}

/// The bytes from which on a copy is long.
const LONG: u64 = 64;

/// [`copy_once`] for any addresses and lengths, by words that need not be aligned.
/// What is not aligned is not copied in one access, but each byte is accessed once.
///
/// # Safety
/// As [`copy_once`].
#[inline]
unsafe fn copy_unaligned(from: u64, to: u64, length: usize) {
    // SAFETY: this reads and writes `length` bytes from the two addresses on, and uses no stack. Both are normal memory,
    // and SCTLR_EL2.A is 0, so no access needs to be aligned (Arm ARM, B2.5.2).
    unsafe {
        asm!(
            "subs {left}, {left}, #64",
            "b.lo 3f",
            "2:",
            "ldp {a}, {b}, [{from}], #64",
            "ldp {c}, {d}, [{from}, #-48]",
            "ldp {e}, {f}, [{from}, #-32]",
            "ldp {g}, {h}, [{from}, #-16]",
            "stp {a}, {b}, [{to}], #64",
            "stp {c}, {d}, [{to}, #-48]",
            "stp {e}, {f}, [{to}, #-32]",
            "stp {g}, {h}, [{to}, #-16]",
            "subs {left}, {left}, #64",
            "b.hs 2b",
            "3:",
            // The low six bits of what is left are the bytes to copy: 64 was subtracted once too often.
            "tbz {left}, #5, 4f",
            "ldp {a}, {b}, [{from}], #32",
            "ldp {c}, {d}, [{from}, #-16]",
            "stp {a}, {b}, [{to}], #32",
            "stp {c}, {d}, [{to}, #-16]",
            "4:",
            "tbz {left}, #4, 5f",
            "ldp {a}, {b}, [{from}], #16",
            "stp {a}, {b}, [{to}], #16",
            "5:",
            "tbz {left}, #3, 6f",
            "ldr {a}, [{from}], #8",
            "str {a}, [{to}], #8",
            "6:",
            "tbz {left}, #2, 7f",
            "ldr {a:w}, [{from}], #4",
            "str {a:w}, [{to}], #4",
            "7:",
            "tbz {left}, #1, 8f",
            "ldrh {a:w}, [{from}], #2",
            "strh {a:w}, [{to}], #2",
            "8:",
            "tbz {left}, #0, 9f",
            "ldrb {a:w}, [{from}]",
            "strb {a:w}, [{to}]",
            "9:",
            left = inout(reg) length => _,
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            a = out(reg) _,
            b = out(reg) _,
            c = out(reg) _,
            d = out(reg) _,
            e = out(reg) _,
            f = out(reg) _,
            g = out(reg) _,
            h = out(reg) _,
            options(nostack),
        );
    }
}

/// Copies numbers one by one. Neither range wraps, so no addition here needs a check.
///
/// # Safety
/// As [`copy_once`]; both addresses and the length are multiples of the number's size.
#[inline]
unsafe fn copy_each<T: Copy>(from: u64, to: u64, length: u64) {
    let mut at = 0_u64;
    while at < length {
        // SAFETY: within the ranges, and aligned.
        unsafe { copy_one::<T>(from.wrapping_add(at), to.wrapping_add(at)) };
        at = at.wrapping_add(size_of::<T>() as u64);
    }
}

/// Copies one number, in one access each.
///
/// # Safety
/// As [`copy_once`]; both addresses are aligned.
#[inline]
unsafe fn copy_one<T: Copy>(from: u64, to: u64) {
    // SAFETY: by the contract.
    unsafe { core::ptr::write_volatile(to as *mut T, core::ptr::read_volatile(from as *const T)) };
}

/// Sets `length` bytes to zero.
///
/// # Panics
/// As [`read`].
pub fn zero(to: Pa, length: u64) {
    check(to, length);
    let start = to.get();
    // The block size that DC ZVA clears, in words of four bytes as a power of two, and whether it may be used
    // (DCZID_EL0).
    let zva = DCZID_EL0.get();
    let block = 4_u64 << (zva & 0xf);
    if zva & 1 << 4 == 0 && (start | length).is_multiple_of(block) {
        for at in (start..start + length).step_by(block as usize) {
            // SAFETY: a whole aligned block within the range, which is open.
            unsafe { asm!("dc zva, {at}", at = in(reg) at, options(nostack)) };
        }
    } else {
        // SAFETY: the range is open; nothing reads it before it is complete.
        unsafe { core::ptr::write_bytes(start as *mut u8, 0, length as usize) };
    }
}

/// Copies `length` bytes between two ranges of RAM that do not overlap, each byte once.
///
/// # Panics
/// As [`read`], for both; or they overlap.
#[inline]
pub fn copy(from: Pa, to: Pa, length: u64) {
    check(from, length);
    check(to, length);
    let (from, to) = (from.get(), to.get());
    assert!(from.abs_diff(to) >= length, "a copy onto itself");
    // SAFETY: both ranges are open and do not overlap.
    unsafe { copy_once(from, to, length as usize) };
}
