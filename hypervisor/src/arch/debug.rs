//! The debug registers of this pCPU that guests use: breakpoints, watchpoints, single step. They are only written.

use super::{barrier, read_register, write_register};
use crate::devices::debug::{DebugUnit, MAX_PAIRS, TDCC};

/// Writes both registers of the pair with this number.
macro_rules! write_pair {
    ($index:expr, $pair:expr, $kind:literal: $($number:literal)*) => {
        match $index {
            $($number => {
                let pair = $pair;
                // SAFETY: registers that this pCPU has, by ID_AA64DFR0_EL1. Debug exceptions whose target is EL1, as
                // MDCR_EL2.TDE is 0, are none of EL2's.
                unsafe {
                    core::arch::asm!(
                        concat!("msr dbg", $kind, "vr", $number, "_el1, {}"),
                        concat!("msr dbg", $kind, "cr", $number, "_el1, {}"),
                        in(reg) pair.value,
                        in(reg) pair.control,
                        options(nostack, preserves_flags),
                    );
                }
            })*
            _ => {}
        }
    };
}

/// No debug exceptions, and the OS lock open so that there can be any. The lock and the double lock are as the
/// firmware left them; whether a guest has locked its own is known elsewhere.
pub fn init() {
    write_register!("osdlr_el1", 0);
    write_register!("oslar_el1", 0);
    quiet();
}

/// No debug exceptions. The breakpoints stay, without effect (MDSCR_EL1.MDE).
pub fn quiet() {
    write_register!("mdscr_el1", TDCC);
}

/// Puts a vCPU's registers on this pCPU, as many as the pCPU has.
pub fn load(unit: &DebugUnit) {
    // Nothing matches while the registers are of two vCPUs.
    quiet();
    let features = read_register!("id_aa64dfr0_el1");
    let pairs = |low: u32| ((features >> low & 0xf) as usize + 1).min(MAX_PAIRS);
    for index in 0..pairs(12) {
        write_pair!(index, unit.breakpoint(index), "b": 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    }
    for index in 0..pairs(20) {
        write_pair!(index, unit.watchpoint(index), "w": 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    }
    write_register!("mdscr_el1", unit.control_in_use());
    barrier::isb();
}
