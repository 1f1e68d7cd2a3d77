// SPDX-License-Identifier: Apache-2.0 OR MIT
//! EL1's two timers, register by register (Arm ARM DDI 0487, D11.2), and the end of EL2's.

use core::arch::asm;

/// CNTx_CTL_EL0.ENABLE.
pub const ENABLE: u64 = 1;
/// CNTx_CTL_EL0.IMASK.
pub const IMASK: u64 = 1 << 1;
/// CNTx_CTL_EL0.ISTATUS.
pub const ISTATUS: u64 = 1 << 2;

/// The interrupt of EL2's own timer, which a program at EL2 has: PPI 10. Unlike the others it goes on while the secure
/// world runs: TF-A switches EL1's timers with the world.
pub const EL2_INTID: u32 = 26;

/// Stops EL2's own timer. For programs at EL2.
pub fn disarm_el2() {
    // SAFETY: the timer's register, which EL2 has; no memory depends on it.
    unsafe {
        asm!(
            "msr cnthp_ctl_el2, xzr",
            "isb",
            options(nostack, preserves_flags)
        );
    }
}

/// One of EL1's timers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timer {
    /// CNTV_*.
    Virtual,
    /// CNTP_*.
    Physical,
}

macro_rules! register {
    ($(#[$about:meta])* $read:ident, $(#[$about_set:meta])* $write:ident, $virtual:literal, $physical:literal) => {
        $(#[$about])*
        pub fn $read(self) -> u64 {
            let value: u64;
            // SAFETY: reading a timer's register has no effect.
            unsafe {
                match self {
                    Self::Virtual => asm!(concat!("mrs {}, ", $virtual), out(reg) value, options(nostack)),
                    Self::Physical => asm!(concat!("mrs {}, ", $physical), out(reg) value, options(nostack)),
                }
            }
            value
        }

        $(#[$about_set])*
        pub fn $write(self, value: u64) {
            // SAFETY: a timer's register; no memory depends on it, and interrupts are masked.
            unsafe {
                match self {
                    Self::Virtual => asm!(concat!("msr ", $virtual, ", {}"), "isb", in(reg) value, options(nostack)),
                    Self::Physical => asm!(concat!("msr ", $physical, ", {}"), "isb", in(reg) value, options(nostack)),
                }
            }
        }
    };
}

impl Timer {
    /// Returns the number of its interrupt, a PPI.
    pub const fn intid(self) -> u32 {
        match self {
            Self::Virtual => 27,
            Self::Physical => 30,
        }
    }

    /// Reads its counter: CNTVCT_EL0 or CNTPCT_EL0.
    pub fn count(self) -> u64 {
        let value: u64;
        // SAFETY: reading a counter has no effect.
        unsafe {
            match self {
                Self::Virtual => {
                    asm!("isb", "mrs {}, cntvct_el0", out(reg) value, options(nostack));
                }
                Self::Physical => {
                    asm!("isb", "mrs {}, cntpct_el0", out(reg) value, options(nostack));
                }
            }
        }
        value
    }

    register!(
        /// Reads CNTx_CTL_EL0.
        control,
        /// Writes CNTx_CTL_EL0.
        set_control, "cntv_ctl_el0", "cntp_ctl_el0");
    register!(
        /// Reads CNTx_CVAL_EL0.
        compare,
        /// Writes CNTx_CVAL_EL0.
        set_compare, "cntv_cval_el0", "cntp_cval_el0");
    register!(
        /// Reads CNTx_TVAL_EL0.
        value,
        /// Writes CNTx_TVAL_EL0.
        set_value, "cntv_tval_el0", "cntp_tval_el0");
}
