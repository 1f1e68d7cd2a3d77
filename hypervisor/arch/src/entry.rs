// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The entry code, and the Rust functions that it calls.

use super::{efi, mmu, stack};
use core::arch::global_asm;

global_asm!(
    include_str!("entry.S"),
    stack0_top = sym stack::BOOT_STACK_TOP,
    boot_table = sym mmu::BOOT_TABLE,
    efi_enter = sym efi::enter,
);

/// Names the functions that the entry code calls. For the image, once.
///
/// - `primary(tree, image)`: the boot pCPU, at EL2 with the boot table on. `tree` is x0 as the loader left it, `image` where
///   the image begins.
/// - `check(tree, current_el, mmfr4)`: the boot pCPU at any exception level, MMU off, before all others, with CurrentEL
///   and ID_AA64MMFR4_EL1. Returns only where EL2 can run.
/// - `secondary()`: another pCPU, at EL2 with the final table on.
#[macro_export]
macro_rules! entry {
    (primary: $primary:path, check: $check:path, secondary: $secondary:path $(,)?) => {
        #[unsafe(no_mangle)]
        extern "C" fn boot_primary(tree: u64, image: u64) -> ! {
            $primary(tree, image)
        }

        #[unsafe(no_mangle)]
        extern "C" fn boot_check(tree: u64, current_el: u64, mmfr4: u64) {
            $check(tree, current_el, mmfr4)
        }

        #[unsafe(no_mangle)]
        extern "C" fn boot_secondary() -> ! {
            $secondary()
        }
    };
}
