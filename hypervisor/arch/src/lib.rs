// SPDX-License-Identifier: Apache-2.0 OR MIT
//! EL2 on Armv8-A: entry and vectors, system registers, EL2's own tables, the TLB, the physical GIC, timer and UART, the SMC
//! instruction, guests' RAM. What it offers is safe to use; inside is nearly all `unsafe` code of the hypervisor.
//!
//! All but [`gicv3`] compiles for the machine only.
#![cfg_attr(target_os = "none", no_std)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
pub mod barrier;
#[cfg(target_os = "none")]
pub mod debug;
#[cfg(target_os = "none")]
pub mod entropy;
#[cfg(target_os = "none")]
pub mod entry;
#[cfg(target_os = "none")]
pub mod gic;
pub mod gicv3;
#[cfg(target_os = "none")]
pub mod guest_ram;
#[cfg(target_os = "none")]
pub mod heap;
#[cfg(target_os = "none")]
pub mod ich;
#[cfg(target_os = "none")]
pub mod id_registers;
#[cfg(target_os = "none")]
pub mod mmu;
#[cfg(target_os = "none")]
pub mod percpu;
#[cfg(target_os = "none")]
pub mod psci;
#[cfg(target_os = "none")]
pub mod rtc;
#[cfg(target_os = "none")]
pub mod smc;
#[cfg(target_os = "none")]
pub mod stack;
#[cfg(target_os = "none")]
pub mod stage2;
#[cfg(target_os = "none")]
pub mod timer;
#[cfg(target_os = "none")]
pub mod uart;
#[cfg(target_os = "none")]
pub mod vcpu_context;
#[cfg(target_os = "none")]
pub mod vectors;

/// Reads a system register that is not in `aarch64-cpu`. Reading has no side effect unless the
/// register's own description says so (ICC_IAR1_EL1 acknowledges).
#[cfg(target_os = "none")]
macro_rules! read_register {
    ($name:literal) => {{
        let value: u64;
        // SAFETY: MRS of a register that exists at EL2 with GICv3 or the base architecture;
        // it touches no memory that Rust knows of.
        unsafe {
            core::arch::asm!(concat!("mrs {}, ", $name), out(reg) value,
                options(nostack, preserves_flags));
        }
        value
    }};
}

/// Writes a system register that is not in `aarch64-cpu`. Used only for registers whose write
/// cannot break Rust's memory model: the interrupt controller's and the guest's own state.
#[cfg(target_os = "none")]
macro_rules! write_register {
    ($name:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: MSR of an interrupt controller or EL1 register; EL2's own translation and
        // stack do not depend on it.
        unsafe {
            core::arch::asm!(concat!("msr ", $name, ", {}"), in(reg) value,
                options(nostack, preserves_flags));
        }
    }};
}

#[cfg(target_os = "none")]
pub(crate) use read_register;
#[cfg(target_os = "none")]
pub(crate) use write_register;
