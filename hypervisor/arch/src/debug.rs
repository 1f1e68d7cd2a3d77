// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The debug registers of this pCPU that guests use: breakpoints, watchpoints, single step. EL2 reads
//! MDSCR_EL1 alone; the others are only written.

use super::barrier;
use super::registers::OSDLR_EL1;
use aarch64_cpu::registers::{ID_AA64DFR0_EL1, MDSCR_EL1, OSLAR_EL1, Readable, Writeable};
use postern_devices::debug::{DebugUnit, MAX_PAIRS, Pair, TDCC};

/// Writes both registers of the first `$count` pairs, from an array of [`Pair`]s. Straight code, entered where it writes
/// that many: a choice by number would take a kilobyte.
macro_rules! write_pairs {
    ($kind:literal, $pairs:expr, $count:expr) => {
        let pairs: [Pair; MAX_PAIRS] = $pairs;
        // SAFETY: registers that this pCPU has, by ID_AA64DFR0_EL1; `$count` is at most `MAX_PAIRS`, so the branch stays in
        // this code, each pair of which is three instructions. It reads `pairs`, two words each (`repr(C)`). Debug
        // exceptions whose target is EL1, as MDCR_EL2.TDE is 0, do not reach EL2.
        unsafe {
            core::arch::asm!(
                "adr {value}, 2f",
                "add {value}, {value}, {skip}",
                "br {value}",
                "2:",
                ".irp n, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0",
                "ldp {value}, {control}, [{pairs}, #(16 * \\n)]",
                concat!("msr dbg", $kind, "vr\\n\\()_el1, {value}"),
                concat!("msr dbg", $kind, "cr\\n\\()_el1, {control}"),
                ".endr",
                value = out(reg) _,
                control = out(reg) _,
                skip = in(reg) (MAX_PAIRS - $count) * 12,
                pairs = in(reg) pairs.as_ptr(),
                options(nostack, preserves_flags, readonly),
            );
        }
    };
}

/// Turns debug exceptions off, and opens the OS lock so that there can be any. The firmware may have left the lock and
/// the double lock closed; whether a guest has locked its own is known elsewhere.
pub fn init() {
    OSDLR_EL1.set(0);
    OSLAR_EL1.write(OSLAR_EL1::OSLK::Unlocked);
    quiet();
}

/// Turns debug exceptions off. The breakpoints stay, without effect (MDSCR_EL1.MDE).
pub fn quiet() {
    MDSCR_EL1.set(TDCC);
}

/// Does something in the secure world while the registers are a vCPU's. Software step knows no security state. A guest's
/// would go on in OP-TEE's applications where the firmware neither sets MDCR_EL3.SDD (Arm ARM DDI 0487, D2.4) nor switches
/// MDSCR_EL1. The SMC and the return from it synchronise.
#[cold]
pub fn quietly<T>(act: impl FnOnce() -> T) -> T {
    let control = MDSCR_EL1.get();
    quiet();
    let result = act();
    MDSCR_EL1.set(control);
    result
}

/// Puts a vCPU's registers on this pCPU, as many as the pCPU has.
pub fn load(unit: &DebugUnit) {
    // Nothing matches while the registers are of two vCPUs.
    quiet();
    let features = ID_AA64DFR0_EL1.get();
    let pairs = |low: u32| ((features >> low & 0xf) as usize + 1).min(MAX_PAIRS);
    write_pairs!(
        "b",
        core::array::from_fn(|index| unit.breakpoint(index)),
        pairs(12)
    );
    write_pairs!(
        "w",
        core::array::from_fn(|index| unit.watchpoint(index)),
        pairs(20)
    );
    MDSCR_EL1.set(unit.control_in_use());
    barrier::isb();
}
