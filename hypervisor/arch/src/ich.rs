// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The registers that control the virtual CPU interface of a GICv3: list registers and their kin, ICH_*_EL2 (IHI 0069H
//! 12.4).

use super::barrier;
use aarch64_cpu::registers::*;

/// The state of a vCPU's virtual interface while the vCPU does not run, without list registers.
#[derive(Clone, Copy, Default)]
pub struct Interface {
    /// ICH_VMCR_EL2 or GICH_VMCR: priority mask, binary points, group enables.
    pub vmcr: u64,
    /// ICH_AP0R&lt;n&gt;_EL2; GICH_APR in the first.
    pub(super) ap0: [u64; 4],
    pub(super) ap1: [u64; 4],
}

impl Interface {
    /// Holds the values after reset.
    pub const fn new() -> Self {
        Self {
            vmcr: 0,
            ap0: [0; 4],
            ap1: [0; 4],
        }
    }
}

/// Returns the number of list registers.
pub fn list_registers() -> usize {
    ((vtr() & 0x1f) + 1) as usize
}

/// Reads ICH_VTR_EL2: the capabilities of the virtual interface.
pub fn vtr() -> u64 {
    ICH_VTR_EL2.get()
}

/// Returns whether writes to ICC_DIR_EL1 can be trapped alone (ICH_VTR_EL2.TDS).
pub fn traps_deactivation() -> bool {
    vtr() & 1 << 19 != 0
}

fn preemption_bits() -> u64 {
    (vtr() >> 26 & 7) + 1
}

macro_rules! read {
    ($lr:ident) => {
        $lr.get()
    };
}

macro_rules! write {
    ($lr:ident, $value:expr) => {
        $lr.set($value)
    };
}

macro_rules! by_index {
    ($index:expr, $act:ident $(, $value:expr)?) => {
        match $index {
            0 => $act!(ICH_LR0_EL2 $(, $value)?),
            1 => $act!(ICH_LR1_EL2 $(, $value)?),
            2 => $act!(ICH_LR2_EL2 $(, $value)?),
            3 => $act!(ICH_LR3_EL2 $(, $value)?),
            4 => $act!(ICH_LR4_EL2 $(, $value)?),
            5 => $act!(ICH_LR5_EL2 $(, $value)?),
            6 => $act!(ICH_LR6_EL2 $(, $value)?),
            7 => $act!(ICH_LR7_EL2 $(, $value)?),
            8 => $act!(ICH_LR8_EL2 $(, $value)?),
            9 => $act!(ICH_LR9_EL2 $(, $value)?),
            10 => $act!(ICH_LR10_EL2 $(, $value)?),
            11 => $act!(ICH_LR11_EL2 $(, $value)?),
            12 => $act!(ICH_LR12_EL2 $(, $value)?),
            13 => $act!(ICH_LR13_EL2 $(, $value)?),
            14 => $act!(ICH_LR14_EL2 $(, $value)?),
            _ => $act!(ICH_LR15_EL2 $(, $value)?),
        }
    };
}

/// Reads ICH_LR`index`_EL2.
pub fn read_lr(index: usize) -> u64 {
    by_index!(index, read)
}

/// Writes ICH_LR`index`_EL2.
pub fn write_lr(index: usize, value: u64) {
    by_index!(index, write, value);
}

/// Reads ICH_MISR_EL2: why the maintenance interrupt is asserted.
pub fn misr() -> u64 {
    ICH_MISR_EL2.get()
}

/// Reads ICH_HCR_EL2, with EOIcount in bits 31:27.
pub fn hcr() -> u64 {
    ICH_HCR_EL2.get()
}

/// Sets ICH_HCR_EL2; zero turns the virtual interface off.
pub fn set_hcr(value: u64) {
    ICH_HCR_EL2.set(value);
}

/// Reads ICH_VMCR_EL2 of the running vCPU.
pub fn vmcr() -> u64 {
    ICH_VMCR_EL2.get()
}

/// Sets ICH_VMCR_EL2.
pub fn set_vmcr(value: u64) {
    ICH_VMCR_EL2.set(value);
}

/// Returns the active priorities of the running vCPU: ICH_AP0R&lt;n&gt;_EL2 or ICH_AP1R&lt;n&gt;_EL2.
pub fn active_priorities() -> [u32; 4] {
    let mut interface = Interface::new();
    save(&mut interface);
    core::array::from_fn(|word| (interface.ap0[word] | interface.ap1[word]) as u32)
}

/// Saves all but the list registers.
pub fn save(into: &mut Interface) {
    let bits = preemption_bits();
    into.vmcr = vmcr();
    into.ap0[0] = ICH_AP0R0_EL2.get();
    into.ap1[0] = ICH_AP1R0_EL2.get();
    if bits >= 6 {
        into.ap0[1] = ICH_AP0R1_EL2.get();
        into.ap1[1] = ICH_AP1R1_EL2.get();
    }
    if bits >= 7 {
        into.ap0[2] = ICH_AP0R2_EL2.get();
        into.ap0[3] = ICH_AP0R3_EL2.get();
        into.ap1[2] = ICH_AP1R2_EL2.get();
        into.ap1[3] = ICH_AP1R3_EL2.get();
    }
}

/// Puts a vCPU's virtual interface on this pCPU.
pub fn load(from: &Interface) {
    let bits = preemption_bits();
    ICH_VMCR_EL2.set(from.vmcr);
    ICH_AP0R0_EL2.set(from.ap0[0]);
    ICH_AP1R0_EL2.set(from.ap1[0]);
    if bits >= 6 {
        ICH_AP0R1_EL2.set(from.ap0[1]);
        ICH_AP1R1_EL2.set(from.ap1[1]);
    }
    if bits >= 7 {
        ICH_AP0R2_EL2.set(from.ap0[2]);
        ICH_AP0R3_EL2.set(from.ap0[3]);
        ICH_AP1R2_EL2.set(from.ap1[2]);
        ICH_AP1R3_EL2.set(from.ap1[3]);
    }
    barrier::isb();
}
