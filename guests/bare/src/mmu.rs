// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The identity map: gigabyte blocks, one table.

use crate::machine::Range;
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

/// The first-level table of a 39-bit map.
#[repr(C, align(4096))]
pub struct Table([AtomicU64; 512]);

/// What `entry.S` fills first: the gigabytes of the image as memory, all others as devices.
pub static TABLE: Table = Table([const { AtomicU64::new(0) }; 512]);

/// Where RAM is mapped a second time, not cacheable: this much higher.
pub const UNCACHED_OFFSET: u64 = 256 << 30;

/// Where RAM is mapped once more for EL0, which may do all with it: this much higher.
pub const EL0_OFFSET: u64 = 384 << 30;

/// A block of normal write-back memory, inner shareable.
const NORMAL: u64 = 0x705;
/// A block of normal non-cacheable memory, never executed.
const UNCACHED: u64 = 0x60 << 48 | 0x40d;
/// A block of normal write-back memory for EL0, which EL1 does not execute.
const OF_EL0: u64 = 1 << 53 | 1 << 6 | NORMAL;

/// Maps all gigabytes with RAM as memory, and a second time without caches.
pub fn map_ram(ram: Range) {
    for gigabyte in ram.start >> 30..ram.end.div_ceil(1 << 30) {
        let start = gigabyte << 30;
        let (Some(entry), Some(uncached)) = (
            TABLE.0.get(gigabyte as usize),
            TABLE.0.get((gigabyte + (UNCACHED_OFFSET >> 30)) as usize),
        ) else {
            continue;
        };
        uncached.store(start | UNCACHED, Ordering::Relaxed);
        if let Some(el0) = TABLE.0.get((gigabyte + (EL0_OFFSET >> 30)) as usize) {
            el0.store(start | OF_EL0, Ordering::Relaxed);
        }
        let wanted = start | NORMAL;
        if entry.load(Ordering::Relaxed) != wanted {
            // Break before make.
            entry.store(0, Ordering::Relaxed);
            forget();
            entry.store(wanted, Ordering::Relaxed);
        }
    }
    forget();
}

/// Makes table changes seen, and forgets what was translated before.
fn forget() {
    // SAFETY: TLB maintenance only has the hardware walk again; what runs stays mapped.
    unsafe {
        asm!(
            "dsb ishst",
            "mrs {level}, CurrentEL",
            "cmp {level}, #8",
            "b.eq 2f",
            "tlbi vmalle1is",
            "b 3f",
            "2: tlbi alle2is",
            "3: dsb ish",
            "isb",
            level = out(reg) _,
            options(nostack)
        );
    }
}

/// The table's address, for other vCPUs.
pub fn root() -> u64 {
    (&raw const TABLE) as u64
}

/// Cleans a range of memory out of the caches, for whoever reads it with the MMU off.
pub fn clean(address: u64, bytes: u64) {
    let mut at = address & !15;
    while at < address + bytes {
        // SAFETY: cache maintenance by address of mapped memory changes no content.
        unsafe { asm!("dc cvac, {}", in(reg) at, options(nostack, preserves_flags)) };
        at += 16;
    }
    // SAFETY: a barrier.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}
