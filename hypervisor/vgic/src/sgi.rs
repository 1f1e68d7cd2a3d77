// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Software-generated interrupts: the values of ICC_SGI1R_EL1, ICC_SGI0R_EL1 and ICC_ASGI1R_EL1.

use super::intid::{IntId, VcpuSet};

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
    /// All vCPUs except the one that sends it (IRM is 1).
    AllButSelf,
    /// The vCPUs with these Aff0 values.
    Aff0(VcpuSet),
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
            SgiTargets::Aff0(VcpuSet::EMPTY)
        } else {
            SgiTargets::Aff0(VcpuSet::from_bits(value as u8))
        };
        Self {
            intid: IntId::at(0, 1 << (value >> 24 & 0xf)),
            targets,
            any_group: register == SgiRegister::Sgi1r,
        }
    }
}
