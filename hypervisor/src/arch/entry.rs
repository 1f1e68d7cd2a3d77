// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The entry code and what it needs from Rust.

use super::{mmu, stack};
use core::arch::global_asm;

global_asm!(
    include_str!("entry.S"),
    stack0_top = sym stack::BOOT_STACK_TOP,
    boot_table = sym mmu::BOOT_TABLE,
    boot_primary = sym boot_primary,
    boot_wrong_level = sym boot_wrong_level,
    boot_secondary = sym boot_secondary,
);

/// The boot pCPU, at EL2 with the boot table on. `tree` is x0 as the loader left it.
extern "C" fn boot_primary(tree: u64, image: u64) -> ! {
    crate::boot::start::primary(tree, image)
}

/// The boot pCPU at an exception level other than 2, MMU off.
extern "C" fn boot_wrong_level(tree: u64, current_el: u64) -> ! {
    crate::boot::start::wrong_level(tree, (current_el >> 2) & 3)
}

/// Another pCPU, at EL2 with the final table on.
extern "C" fn boot_secondary(start: u64) -> ! {
    // SAFETY: `start` is what `psci::start_pcpu` passed to CPU_ON: the address of a leaked
    // `SecondaryStart` that nobody changes any more.
    let start = unsafe { &*(start as *const super::psci::SecondaryStart) };
    crate::boot::start::secondary(start.index)
}
