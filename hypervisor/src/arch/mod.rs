// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The architecture layer: the only room with `unsafe`. Everything it offers upwards is safe.

pub mod barrier;
pub mod debug;
pub mod entropy;
pub mod entry;
pub mod gic;
pub mod guest_ram;
pub mod heap;
pub mod ich;
pub mod id_registers;
pub mod mmu;
pub mod percpu;
pub mod psci;
pub mod rtc;
pub mod smc;
pub mod stack;
pub mod stage2;
pub mod timer;
pub mod uart;
pub mod vectors;
pub mod world;

/// Reads a system register that is not in `aarch64-cpu`. Reading has no side effect unless the
/// register's own description says so (ICC_IAR1_EL1 acknowledges).
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

pub(crate) use read_register;
pub(crate) use write_register;
