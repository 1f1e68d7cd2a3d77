// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Software-generated interrupts: the values of ICC_SGI1R_EL1, ICC_SGI0R_EL1 and ICC_ASGI1R_EL1, and
//! of a GICv2's GICD_SGIR, and the sources of a GICv2's SGIs.

use super::bank::{SGIS, each_bit};
use super::intid::{IntId, VcpuSet};
use postern_base::ids::VcpuIndex;

/// One of the three registers that generate SGIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SgiRegister {
    /// ICC_SGI1R_EL1. With one security state, it generates SGIs of either group.
    Sgi1r,
    /// ICC_ASGI1R_EL1, for the other security state. As there is only one, it acts as `Sgi0r`.
    Asgi1r,
    /// ICC_SGI0R_EL1. It generates SGIs that are in Group 0.
    Sgi0r,
}

/// The vCPUs that receive an SGI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SgiTargets {
    /// All vCPUs except the one that sends it.
    AllButSelf,
    /// These vCPUs, as far as the VM has them.
    Listed(VcpuSet),
}

/// A request for an SGI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SgiRequest {
    pub intid: IntId,
    pub targets: SgiTargets,
    /// Whether the target's SGI may be in Group 1.
    pub any_group: bool,
}

impl SgiRequest {
    /// Decodes a write of `value`. Aff3 to Aff1 of each vCPU are zero and Aff0 is below 8, so every
    /// other cluster, and every range of 16 except the first, targets no vCPU.
    pub fn decode(register: SgiRegister, value: u64) -> Self {
        const AFF3_AFF2_AFF1: u64 = 0xff << 48 | 0xff << 32 | 0xff << 16;
        const RANGE_SELECTOR: u64 = 0xf << 44;
        const IRM: u64 = 1 << 40;
        let targets = if value & IRM != 0 {
            SgiTargets::AllButSelf
        } else if value & (AFF3_AFF2_AFF1 | RANGE_SELECTOR) != 0 {
            SgiTargets::Listed(VcpuSet::EMPTY)
        } else {
            SgiTargets::Listed(VcpuSet::from_bits(value as u8))
        };
        Self {
            intid: IntId::at(0, 1 << (value >> 24 & 0xf)),
            targets,
            any_group: register == SgiRegister::Sgi1r,
        }
    }
}

/// Decodes a write of `value` by `from` to GICD_SGIR (IHI 0048B.b 4.3.15): the SGI and its targets,
/// or `None` for the reserved target list filter. NSATT has no meaning without the Security
/// Extensions.
pub(super) fn decode_sgir(from: VcpuIndex, value: u32) -> Option<(IntId, SgiTargets)> {
    let targets = match value >> 24 & 3 {
        0 => SgiTargets::Listed(VcpuSet::from_bits((value >> 16) as u8)),
        1 => SgiTargets::AllButSelf,
        2 => SgiTargets::Listed(VcpuSet::only(from)),
        _ => return None,
    };
    Some((IntId::at(0, 1 << (value & 0xf)), targets))
}

/// The number of SGIs of a vCPU.
const COUNT: usize = SGIS.count_ones() as usize;

/// The sources of a vCPU's SGIs. A GICv3 does not use them.
#[derive(Clone, Copy)]
pub(super) struct SgiSources {
    /// The vCPUs from which each SGI is pending, except one in a list register. The SGI's
    /// [`super::bank::Bank::latch`] is set if and only if the set is not empty.
    pub pending: [VcpuSet; COUNT],
    /// The vCPU that sent the SGI that is in a list register or active.
    pub current: [VcpuIndex; COUNT],
}

impl SgiSources {
    pub const fn new() -> Self {
        Self {
            pending: [VcpuSet::EMPTY; COUNT],
            current: [VcpuIndex::BOOT; COUNT],
        }
    }

    /// Makes those of `sgis` pending whose pending state returns from a list register.
    // Not inlined, so that a GICv3 does not pay for it.
    #[cold]
    #[inline(never)]
    pub fn put_back(&mut self, sgis: u32) {
        for bit in each_bit(sgis & SGIS) {
            let sgi = index(bit);
            self.pending[sgi] = self.pending[sgi].union(VcpuSet::only(self.current[sgi]));
        }
    }
}

/// Returns the index of the SGI at the lowest bit of `bit`.
pub(super) const fn index(bit: u32) -> usize {
    bit.trailing_zeros() as usize % COUNT
}
