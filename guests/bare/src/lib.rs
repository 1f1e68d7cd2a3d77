// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the bare-metal programs of this project start from.
//!
//! A program is an arm64 `Image` that runs as a guest of Postern (EL1) or in its place on the bare
//! machine (EL2): [`program!`] names its main function, the linker script is `image.ld`. It finds an
//! identity map with caches on, a console, pages to share, other vCPUs to start, and the calls into
//! firmware, hypervisor and TEE with every register under its control.
//!
//! Programs attack memory, so addresses are plain `u64` here: what the program sees as physical.
//! `unsafe` is in this crate and nowhere in the programs. On the host the crate is empty.
#![cfg(target_os = "none")]
#![no_std]

extern crate alloc;

pub mod console;
pub mod count;
pub mod cpu;
pub mod debug;
pub mod disk;
pub mod edge;
pub mod edu;
mod entry;
pub mod event;
pub mod exception;
pub mod expect;
pub mod ffa;
pub mod gic;
mod heap;
pub mod machine;
mod mmu;
pub mod pages;
mod panic;
pub mod pci;
pub mod probe;
pub mod psci;
pub mod rtc;
pub mod smccc;
mod stack;
pub mod sve;
pub mod sysreg;
pub mod tee;
pub mod timer;
pub mod timers;
pub mod virtio;

/// Bytes in a page, as OP-TEE and Postern count them.
pub const PAGE_SIZE: u64 = 4096;

/// The most vCPUs that a program can have.
pub const MAX_CPUS: usize = 8;

/// Names the program's main function, a `fn() -> !` that runs on the boot vCPU.
#[macro_export]
macro_rules! program {
    ($main:path) => {
        // SAFETY: the one definition of what `guest_bare`'s entry code declares with this type.
        #[unsafe(no_mangle)]
        fn guest_main() -> ! {
            const MAIN: fn() -> ! = $main;
            MAIN()
        }
    };
}

/// Writes a line to the console, as `println!`.
#[macro_export]
macro_rules! say {
    ($($arguments:tt)*) => { $crate::console::line(format_args!($($arguments)*)) };
}
