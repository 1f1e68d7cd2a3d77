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
/// - `wrong_level(tree, level)`: the boot pCPU at an exception level other than 2, MMU off.
/// - `secondary()`: another pCPU, at EL2 with the final table on.
#[macro_export]
macro_rules! entry {
    (primary: $primary:path, wrong_level: $wrong_level:path, secondary: $secondary:path $(,)?) => {
        #[unsafe(no_mangle)]
        extern "C" fn boot_primary(tree: u64, image: u64) -> ! {
            $primary(tree, image)
        }

        #[unsafe(no_mangle)]
        extern "C" fn boot_wrong_level(tree: u64, current_el: u64) -> ! {
            $wrong_level(tree, (current_el >> 2) & 3)
        }

        #[unsafe(no_mangle)]
        extern "C" fn boot_secondary() -> ! {
            $secondary()
        }
    };
}
