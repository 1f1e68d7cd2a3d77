// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The way from the first instruction to the program's main function.

use crate::machine::Range;
use crate::{MAX_CPUS, cpu, exception, gic, heap, machine, mmu, pages};
use core::arch::global_asm;
use core::cell::UnsafeCell;

/// Bytes of stack of each vCPU.
pub const STACK_SIZE: usize = 64 * 1024;

/// The stacks of all vCPUs, each used by its own.
#[repr(C, align(4096))]
pub struct Stacks(UnsafeCell<[[u8; STACK_SIZE]; MAX_CPUS]>);

// SAFETY: no Rust reference to a stack's bytes is ever made.
unsafe impl Sync for Stacks {}

static STACKS: Stacks = Stacks(UnsafeCell::new([[0; STACK_SIZE]; MAX_CPUS]));

global_asm!(
    include_str!("entry.S"),
    table = sym mmu::TABLE,
    stacks = sym STACKS,
    stack_size = const STACK_SIZE,
    primary = sym primary,
    secondary = sym secondary,
);

global_asm!(include_str!("vectors.S"), exception = sym exception::exception);

unsafe extern "C" {
    /// In `entry.S`.
    fn secondary_entry();
}

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

/// Where the stack of a vCPU begins: its highest address.
pub fn stack_top(cpu: usize) -> u64 {
    (&raw const STACKS) as u64 + ((cpu + 1) * STACK_SIZE) as u64
}

/// Where PSCI has a vCPU begin.
pub fn secondary_address() -> u64 {
    secondary_entry as *const () as u64
}
