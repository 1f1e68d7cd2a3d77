// SPDX-License-Identifier: Apache-2.0 OR MIT
//! True random numbers of the machine: from firmware (DEN0098) or from the CPU (FEAT_RNG).

use super::{id_registers, smc};
use core::arch::asm;
use postern_exceptions::decode::SysReg;
use postern_smccc::trng::{MAX_BITS_64, RND64, VERSION, VERSION_1_0};
use spin::Once;

/// The source of true random numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The machine has none.
    None,
    /// The TRNG_RND call of the firmware.
    Firmware,
    /// The RNDRRS register of the CPU.
    Cpu,
}

static KIND: Once<Kind> = Once::new();

/// Returns the machine's source: that of the firmware, if it has one.
pub fn kind() -> Kind {
    *KIND.call_once(|| {
        let version = smc::call([VERSION.into(), 0, 0, 0, 0, 0, 0, 0])[0] as i32;
        if version >= VERSION_1_0 as i32 {
            Kind::Firmware
        } else if has_rng() {
            Kind::Cpu
        } else {
            Kind::None
        }
    })
}

/// Returns whether this pCPU has FEAT_RNG: ID_AA64ISAR0_EL1.RNDR.
fn has_rng() -> bool {
    id_registers::read(SysReg::new(3, 0, 0, 6, 0)) >> 60 != 0
}

/// Returns whether this machine has true random numbers.
pub fn is_available() -> bool {
    kind() != Kind::None
}

/// Returns bits of the machine's source; `None` where it has none, or too few now, or where it is a register that this
/// pCPU lacks.
pub fn bits() -> Option<[u64; 3]> {
    match kind() {
        Kind::None => None,
        Kind::Firmware => {
            let [result, high, middle, low, ..] =
                smc::call([RND64.into(), MAX_BITS_64, 0, 0, 0, 0, 0, 0]);
            (result == 0).then_some([high, middle, low])
        }
        Kind::Cpu if !has_rng() => None,
        Kind::Cpu => Some([reseeded()?, reseeded()?, reseeded()?]),
    }
}

/// Reads RNDRRS, a number from a freshly seeded generator; `None` if the CPU had none in time.
fn reseeded() -> Option<u64> {
    let value: u64;
    let failed: u64;
    // SAFETY: the caller has seen on this pCPU, in ID_AA64ISAR0_EL1.RNDR, that the register is there.
    unsafe {
        asm!(".arch_extension rng", "mrs {0}, rndrrs", "cset {1}, eq", out(reg) value, out(reg) failed,
            options(nostack, nomem));
    }
    (failed == 0).then_some(value)
}
