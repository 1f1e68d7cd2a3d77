// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The way from the first instruction to the program's main function.

use crate::machine::Range;
use crate::{cpu, exception, gic, heap, machine, mmu, pages, stack};
use core::arch::global_asm;

global_asm!(
    include_str!("entry.S"),
    table = sym mmu::TABLE,
    stacks = sym stack::STACKS,
    stack_size = const stack::STACK_SIZE,
    primary = sym primary,
    secondary = sym secondary,
);

global_asm!(include_str!("vectors.S"), exception = sym exception::exception);

unsafe extern "Rust" {
    /// What [`crate::program!`] defines.
    safe fn guest_main() -> !;
}

/// The boot vCPU, MMU on: `tree` is x0 as the loader left it, the image is at `start..end`.
extern "C" fn primary(tree: u64, start: u64, end: u64) -> ! {
    heap::init();
    // SAFETY: the boot protocol: x0 is the address of a device tree, in RAM. Where that is another
    // gigabyte than the image's it is mapped as device memory so far, which can be read as well.
    let machine = unsafe { machine::read(tree, Range { start, end }) };
    mmu::map_ram(machine.ram);
    pages::init(machine);
    gic::init();
    guest_main()
}

/// Another vCPU, MMU on.
extern "C" fn secondary(start: u64) -> ! {
    gic::init_cpu();
    cpu::run_started(start)
}
