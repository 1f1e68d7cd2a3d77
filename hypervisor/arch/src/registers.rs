// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The system registers that `aarch64-cpu` lacks, by their names and with the same traits.
//!
//! The assembler knows each name only for an architecture that has the register, hence `.arch` in the two macros. It says
//! nothing about the CPU: the caller knows whether a register is there.

use tock_registers::interfaces::{Readable, Writeable};

/// Reads a system register. The name is an expression that makes a literal. Reading has no side effect unless the register's
/// own description says so (ICC_IAR1_EL1 acknowledges).
macro_rules! read_register {
    ($name:expr) => {{
        let value: u64;
        // SAFETY: MRS of a register that exists at EL2 on this pCPU; it touches no memory.
        unsafe {
            core::arch::asm!(".arch armv9.6-a+sve+sme+rng", concat!("mrs {}, ", $name), out(reg) value,
                options(nomem, nostack, preserves_flags));
        }
        value
    }};
}

/// Writes a system register. Used only for registers whose write cannot break Rust's memory model: the interrupt
/// controller's, the traps' and the guest's own state. Accesses to memory stay on their side of the write.
macro_rules! write_register {
    ($name:expr, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: MSR of a register of the interrupt controller, of EL1, or of EL2's traps; EL2's own translation and
        // stack do not depend on it.
        unsafe {
            core::arch::asm!(".arch armv9.6-a+sve+sme+rng", concat!("msr ", $name, ", {}"), in(reg) value,
                options(nostack, preserves_flags));
        }
    }};
}

pub(crate) use {read_register, write_register};

macro_rules! registers {
    ($($access:ident $name:ident,)+) => {
        $(
            #[doc = concat!("The system register ", stringify!($name), ".")]
            #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
            pub struct $name;
            $access!($name);
        )+
    };
}

macro_rules! r {
    ($name:ident) => {
        impl Readable for $name {
            type T = u64;
            type R = ();

            #[inline]
            fn get(&self) -> u64 {
                read_register!(stringify!($name))
            }
        }
    };
}

macro_rules! w {
    ($name:ident) => {
        impl Writeable for $name {
            type T = u64;
            type R = ();

            #[inline]
            fn set(&self, value: u64) {
                write_register!(stringify!($name), value);
            }
        }
    };
}

macro_rules! rw {
    ($name:ident) => {
        r!($name);
        w!($name);
    };
}

registers! {
    rw CNTHP_CVAL_EL2,
    r CTR_EL0,
    r DCZID_EL0,
    rw FPCR,
    rw FPSR,
    w HACR_EL2,
    w HSTR_EL2,
    w OSDLR_EL1,
    r PMCR_EL0,
    w VPIDR_EL2,
    // The physical GIC's CPU interface.
    w ICC_BPR1_EL1,
    // `aarch64-cpu` only reads it.
    w ICC_CTLR_EL1,
    w ICC_DIR_EL1,
    w ICC_EOIR1_EL1,
    r ICC_IAR1_EL1,
    w ICC_IGRPEN1_EL1,
    w ICC_PMR_EL1,
    w ICC_SGI1R_EL1,
    w ICC_SRE_EL1,
    // Of newer CPUs.
    // `aarch64-cpu` has it, by a name that its own `msr` does not assemble.
    w CNTPOFF_EL2,
    w HCRX_EL2,
    w HDFGRTR2_EL2,
    w HDFGWTR2_EL2,
    w HFGITR2_EL2,
    w HFGRTR2_EL2,
    w HFGWTR2_EL2,
    w MPAM2_EL2,
    w MPAMHCR_EL2,
    r MPAMIDR_EL1,
    w SMCR_EL2,
    w VSESR_EL2,
    rw ZCR_EL1,
    w ZCR_EL2,
}
