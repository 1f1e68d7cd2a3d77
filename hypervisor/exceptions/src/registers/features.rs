// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Features of a CPU that bring registers which EL2 must set up or switch.

use crate::decode::SysReg;

bitflags::bitflags! {
    /// Features of one pCPU, as its ID registers tell EL2.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct CpuFeatures: u32 {
        /// FEAT_RAS: DISR_EL1, which a guest has as VDISR_EL2.
        const RAS = 1 << 0;
        /// TPIDR2_EL0 is there, and nothing traps it: FEAT_SME without FEAT_FGT. The architecture has no such CPU,
        /// QEMU 7.2 has.
        const OPEN_TPIDR2 = 1 << 1;
        /// FEAT_HCX: HCRX_EL2.
        const HCX = 1 << 2;
        /// FEAT_FGT: HFGRTR_EL2 and its kin.
        const FGT = 1 << 3;
        /// FEAT_FGT2: HFGRTR2_EL2 and its kin.
        const FGT2 = 1 << 4;
        /// FEAT_ECV's larger form: CNTPOFF_EL2.
        const COUNTER_OFFSET = 1 << 5;
        /// FEAT_MPAM: MPAM2_EL2.
        const MPAM = 1 << 6;
        /// FEAT_AMUv1: HAFGRTR_EL2, where FEAT_FGT is.
        const AMU = 1 << 7;
        /// FEAT_PMUv3: MDCR_EL2.HPMN counts something.
        const PMU = 1 << 8;
        /// FEAT_SVE: ZCR_EL2.
        const SVE = 1 << 9;
        /// FEAT_SME: SMCR_EL2.
        const SME = 1 << 10;
        /// FEAT_PAuth: the keys of pointer authentication.
        const PAC = 1 << 11;
    }
}

/// The fields of ID_AA64ISAR1_EL1 and ID_AA64ISAR2_EL1, by op2 and lowest bit, of which one is not zero on a CPU with
/// FEAT_PAuth: APA, API, GPA, GPI; GPA3, APA3 (DDI 0487, D24.2).
const POINTER_AUTHENTICATION: [(u8, u32); 6] = [(1, 4), (1, 8), (1, 24), (1, 28), (2, 8), (2, 12)];

impl CpuFeatures {
    /// The features with state of guests' that only newer CPUs have, and that a switch of vCPUs must not forget.
    pub const SWITCHED: Self = Self::RAS.union(Self::OPEN_TPIDR2).union(Self::PAC);

    /// Returns what the ID registers that `read` reads tell (DDI 0487, D24.2).
    pub fn new(read: impl Fn(SysReg) -> u64) -> Self {
        let field = |crm, op2, low: u32| read(SysReg::new(3, 0, 0, crm, op2)) >> low & 0xf;
        let pmu_version = field(5, 0, 8);
        let fgt = field(7, 0, 56);
        let sme = field(4, 1, 24) != 0;
        [
            (Self::RAS, field(4, 0, 28) != 0),
            (Self::OPEN_TPIDR2, sme && fgt == 0),
            (Self::HCX, field(7, 1, 40) != 0),
            (Self::FGT, fgt != 0),
            (Self::FGT2, fgt >= 2),
            (Self::COUNTER_OFFSET, field(7, 0, 60) >= 2),
            (Self::MPAM, field(4, 0, 40) != 0 || field(4, 1, 16) != 0),
            (Self::AMU, field(4, 0, 44) != 0),
            // 0xf: a PMU of the implementation's own.
            (Self::PMU, pmu_version != 0 && pmu_version != 0xf),
            (Self::SVE, field(4, 0, 32) != 0),
            (Self::SME, sme),
            (
                Self::PAC,
                POINTER_AUTHENTICATION
                    .iter()
                    .any(|&(op2, low)| field(6, op2, low) != 0),
            ),
        ]
        .into_iter()
        .filter_map(|(feature, is_there)| is_there.then_some(feature))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A CPU with this value of one ID register, CRn 0, and zero in the others.
    fn with(crm: u8, op2: u8, value: u64) -> CpuFeatures {
        CpuFeatures::new(|reg| {
            if reg == SysReg::new(3, 0, 0, crm, op2) {
                value
            } else {
                0
            }
        })
    }

    #[test]
    fn one_field_after_the_other() {
        assert_eq!(with(0, 0, u64::MAX), CpuFeatures::empty());
        for (crm, op2, value, expected) in [
            (4, 0, 0x1 << 28, CpuFeatures::RAS),
            (4, 0, 0x1 << 32, CpuFeatures::SVE),
            (4, 0, 0x1 << 40, CpuFeatures::MPAM),
            (4, 1, 0x1 << 16, CpuFeatures::MPAM),
            (4, 0, 0x1 << 44, CpuFeatures::AMU),
            (4, 1, 0x1 << 24, CpuFeatures::SME | CpuFeatures::OPEN_TPIDR2),
            (5, 0, 0x4 << 8, CpuFeatures::PMU),
            (5, 0, 0xf << 8, CpuFeatures::empty()),
            (7, 0, 0x1 << 56, CpuFeatures::FGT),
            (7, 0, 0x2 << 56, CpuFeatures::FGT | CpuFeatures::FGT2),
            (7, 0, 0x1 << 60, CpuFeatures::empty()),
            (7, 0, 0x2 << 60, CpuFeatures::COUNTER_OFFSET),
            (7, 1, 0x1 << 40, CpuFeatures::HCX),
            (6, 1, 0x1 << 4, CpuFeatures::PAC),
            (6, 1, 0x1 << 8, CpuFeatures::PAC),
            (6, 1, 0x1 << 24, CpuFeatures::PAC),
            (6, 1, 0x1 << 28, CpuFeatures::PAC),
            (6, 1, !0xff00_0ff0, CpuFeatures::empty()),
            (6, 2, 0x1 << 8, CpuFeatures::PAC),
            (6, 2, 0x5 << 12, CpuFeatures::PAC),
            (6, 2, !0xff00, CpuFeatures::empty()),
        ] {
            assert_eq!(with(crm, op2, value), expected, "{crm} {op2} {value:#x}");
        }
    }

    #[test]
    fn fine_grained_traps_close_tpidr2() {
        let cpu = CpuFeatures::new(|reg| match (reg.crm, reg.op2) {
            (4, 1) => 1 << 24,
            (7, 0) => 1 << 56,
            _ => 0,
        });
        assert_eq!(cpu, CpuFeatures::SME | CpuFeatures::FGT);
        assert!(!cpu.intersects(CpuFeatures::SWITCHED));
    }
}
