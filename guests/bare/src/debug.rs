// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The self-hosted debug registers of this vCPU (Arm ARM DDI 0487, D2).

use core::arch::asm;

/// MDSCR_EL1.SS.
pub const SS: u64 = 1;
/// MDSCR_EL1.KDE.
pub const KDE: u64 = 1 << 13;
/// MDSCR_EL1.MDE.
pub const MDE: u64 = 1 << 15;

macro_rules! control {
    ($(#[$about:meta])* $read:ident, $(#[$about_set:meta])* $write:ident, $name:literal) => {
        $(#[$about])*
        pub fn $read() -> u64 {
            let value: u64;
            // SAFETY: reading the register has no effect.
            unsafe { asm!(concat!("mrs {}, ", $name), out(reg) value, options(nostack)) };
            value
        }

        $(#[$about_set])*
        pub fn $write(value: u64) {
            // SAFETY: what debug exceptions come of it is the vectors' to take; without an expectation they end the
            // program.
            unsafe { asm!(concat!("msr ", $name, ", {}"), "isb", in(reg) value, options(nostack)) };
        }
    };
}

control!(
    /// Reads MDSCR_EL1.
    mdscr,
    /// Writes MDSCR_EL1.
    set_mdscr,
    "mdscr_el1"
);

/// Locks the OS lock, or opens it.
pub fn set_os_lock(locked: bool) {
    // SAFETY: as in `set_mdscr`.
    unsafe { asm!("msr oslar_el1, {}", "isb", in(reg) u64::from(locked), options(nostack)) };
}

/// Reads OSLSR_EL1.
pub fn os_lock() -> u64 {
    let value: u64;
    // SAFETY: reading the register has no effect.
    unsafe { asm!("mrs {}, oslsr_el1", out(reg) value, options(nostack)) };
    value
}

/// Returns how many breakpoints and how many watchpoints there are, by ID_AA64DFR0_EL1.
pub fn pairs() -> (usize, usize) {
    let features: u64;
    // SAFETY: reading the register has no effect.
    unsafe { asm!("mrs {}, id_aa64dfr0_el1", out(reg) features, options(nostack)) };
    let pairs = |low: u32| (features >> low & 0xf) as usize + 1;
    (pairs(12), pairs(20))
}

macro_rules! pair {
    ($(#[$about:meta])* $read:ident, $(#[$about_set:meta])* $write:ident, $kind:literal: $($number:literal)*) => {
        $(#[$about])*
        pub fn $read(index: usize) -> (u64, u64) {
            let (value, control): (u64, u64);
            match index {
                $($number => {
                    // SAFETY: reading the registers has no effect.
                    unsafe {
                        asm!(
                            concat!("mrs {}, dbg", $kind, "vr", $number, "_el1"),
                            concat!("mrs {}, dbg", $kind, "cr", $number, "_el1"),
                            out(reg) value, out(reg) control, options(nostack)
                        );
                    }
                })*
                _ => panic!("there is no pair {index}"),
            }
            (value, control)
        }

        $(#[$about_set])*
        pub fn $write(index: usize, value: u64, control: u64) {
            match index {
                $($number => {
                    // SAFETY: as in `set_mdscr`.
                    unsafe {
                        asm!(
                            concat!("msr dbg", $kind, "vr", $number, "_el1, {}"),
                            concat!("msr dbg", $kind, "cr", $number, "_el1, {}"),
                            "isb",
                            in(reg) value, in(reg) control, options(nostack)
                        );
                    }
                })*
                _ => panic!("there is no pair {index}"),
            }
        }
    };
}

pair!(
    /// Reads the value and the control register of a breakpoint.
    breakpoint,
    /// Writes the value and the control register of a breakpoint.
    set_breakpoint,
    "b": 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15
);
pair!(
    /// Reads the value and the control register of a watchpoint.
    watchpoint,
    /// Writes the value and the control register of a watchpoint.
    set_watchpoint,
    "w": 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15
);
