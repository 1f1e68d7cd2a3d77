// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The values of EL2's own control registers, which let guests use what they may use and trap the rest.
//!
//! Where a bit came with a later extension, a CPU without it ignores the bit (it is RES0), so all that trap
//! something are set everywhere. A CPU that has the registers, but whose firmware hides them in the ID registers, is
//! then not open. Whole registers that came later are written where the ID registers show them. Then firmware must
//! allow EL2 to use them, as the arm64 boot protocol asks ("Booting AArch64 Linux": SCR_EL3.HXEn, FGTEn, ECVEn,
//! EnTP2, API, APK; CPTR_EL3.EZ, ESM; MPAM3_EL3.TRAPLOWER).

/// Bits of HCR_EL2 (DDI 0487, D24.2.55).
pub mod hcr {
    use super::super::features::CpuFeatures;

    /// Stage 2 is on.
    pub const VM: u64 = 1;
    /// Invalidating by set and way also cleans.
    pub const SWIO: u64 = 1 << 1;
    /// FIQ, IRQ and SError come to EL2; EL1 has virtual ones, and VDISR_EL2 behind DISR_EL1's name.
    pub const FMO_IMO_AMO: u64 = 0b111 << 3;
    /// TLB maintenance and barriers of guests reach the inner shareable domain.
    pub const FB_BSU_INNER: u64 = 1 << 9 | 1 << 10;
    /// WFI traps.
    pub const TWI: u64 = 1 << 13;
    /// Traps REVIDR_EL1, AIDR_EL1, SMIDR_EL1.
    pub const TID1: u64 = 1 << 16;
    /// Traps the ID registers of group 3.
    pub const TID3: u64 = 1 << 18;
    /// SMC traps.
    pub const TSC: u64 = 1 << 19;
    /// Traps what is implementation defined: `S3_<op1>_C11` and `S3_<op1>_C15`.
    pub const TIDCP: u64 = 1 << 20;
    /// Traps ACTLR_EL1.
    pub const TACR: u64 = 1 << 21;
    /// EL1 is AArch64.
    pub const RW: u64 = 1 << 31;
    /// Traps the LOR registers.
    pub const TLOR: u64 = 1 << 35;
    /// Traps the RAS error records.
    pub const TERR: u64 = 1 << 36;
    /// The keys of pointer authentication (APK) and its instructions (API) do not trap.
    pub const API_APK: u64 = 0b11 << 40;
    /// Traps GMID_EL1.
    pub const TID5: u64 = 1 << 58;

    /// While a guest runs, on a CPU without FEAT_PAuth. Zero, and so closed: ATA (the tag registers), EnSCXT
    /// (SCXTNUM_ELx), FIEN (error injection), NV, TME; E2H and TGE. Not set on purpose: TID2 and TID4 (the geometry of the caches is the machine's), TVM, TTLB, TWE.
    pub const GUEST: u64 = VM
        | SWIO
        | FMO_IMO_AMO
        | FB_BSU_INNER
        | TWI
        | TID1
        | TID3
        | TSC
        | TIDCP
        | TACR
        | RW
        | TLOR
        | TERR
        | TID5;

    /// Returns the value while a guest runs, on a CPU with these features. Where the ID registers hide pointer
    /// authentication its keys are not switched, so they trap.
    pub const fn guest(features: CpuFeatures) -> u64 {
        if features.contains(CpuFeatures::PAC) {
            GUEST | API_APK
        } else {
            GUEST
        }
    }
}

/// Bits of CPTR_EL2 without FEAT_VHE in use (DDI 0487, D24.2.34).
pub mod cptr {
    /// Traps SVE; RES1 without it.
    pub const TZ: u64 = 1 << 8;
    /// Traps FP, SIMD and SVE.
    pub const TFP: u64 = 1 << 10;
    /// Traps SME; RES1 without it.
    pub const TSM: u64 = 1 << 12;
    /// Traps the trace unit's registers.
    pub const TTA: u64 = 1 << 20;
    /// Traps the activity monitors.
    pub const TAM: u64 = 1 << 30;
    /// The bits that are one whatever the CPU has.
    const RES1: u64 = 0x22ff;

    /// While a guest without SVE runs: FP and SIMD are the guest's, and CPACR_EL1 too; the rest traps.
    pub const GUEST: u64 = RES1 | TZ | TSM | TTA | TAM;
    /// While a guest with SVE runs whose vector state is on the pCPU.
    pub const SVE: u64 = GUEST & !TZ;
    /// While a guest with SVE runs whose vector state is in memory.
    pub const SVE_OFF: u64 = GUEST | TFP;
    /// The same with nothing of EL2's own SVE and SME trapped: the only time when ZCR_EL2 and SMCR_EL2 can be written.
    pub const SET_UP: u64 = GUEST & !(TZ | TSM);
}

/// Bits of MDCR_EL2 (DDI 0487, D24.3.19).
pub mod mdcr {
    /// Traps PMCR_EL0.
    pub const TPMCR: u64 = 1 << 5;
    /// Traps the PMU.
    pub const TPM: u64 = 1 << 6;
    /// Traps the debug registers.
    pub const TDA: u64 = 1 << 9;
    /// Traps the OS locks.
    pub const TDOSA: u64 = 1 << 10;
    /// Traps MDRAR_EL1.
    pub const TDRA: u64 = 1 << 11;
    /// Traps the statistical profiling unit.
    pub const TPMS: u64 = 1 << 14;
    /// Traps TRFCR_EL1.
    pub const TTRF: u64 = 1 << 19;

    /// While a guest runs, but for HPMN. Zero, and so EL2's own: E2PB, E2TB (the buffers of profiling and
    /// trace, whose registers then trap), EnSPM, EnSTEPOP, EBWE.
    pub const GUEST: u64 = TPMCR | TPM | TDA | TDOSA | TDRA | TPMS | TTRF;
    /// Returns HPMN: all event counters (PMCR_EL0.N) belong to EL1, as after reset; zero without PMU.
    pub const fn hpmn(pmcr: u64) -> u64 {
        pmcr >> 11 & 0x1f
    }
}

/// SCTLR_EL1 and TCR_EL1 while no vCPU's registers are whole on a pCPU: stage 1 is on (M), and no walk of its tables is
/// allowed (EPD0, EPD1). A CPU that translates by speculation, as Cortex-A55 (erratum 1530923), A57 (1319537), A72
/// (1319367) and A76 (1165522) do at any time, then has nothing to walk, neither at stage 1 nor at stage 2.
pub mod no_walks {
    /// SCTLR_EL1: the RES1 bits, and M.
    pub const SCTLR_EL1: u64 = 0x30d0_0801;
    /// TCR_EL1: EPD0 and EPD1.
    pub const TCR_EL1: u64 = 1 << 7 | 1 << 23;
}

/// HSTR_EL2: no coprocessor of AArch32 code at EL0 traps by number. What such code can reach is trapped by the
/// registers above.
pub const HSTR: u64 = 0;
/// CNTHCTL_EL2: the virtual counter and its timer are the guest's. The physical ones trap and are emulated (EL1PCTEN
/// and EL1PCEN are zero): the guest's counter would need an offset, which few CPUs have (CNTPOFF_EL2), and the timer is
/// not there twice.
pub const CNTHCTL: u64 = 0;
/// HCRX_EL2: nothing that FEAT_HCX guards exists for guests: MOPS, LS64, TCR2_EL1, SCTLR2_EL1, GCS, FPMR, masks.
pub const HCRX: u64 = 0;
/// HFGRTR_EL2 and all of its kin. Their bits for what FEAT_FGT came with or after trap when they are zero (nSMPRI_EL1,
/// nTPIDR2_EL0, nGCS_EL0, nPIR_EL1, nBRBCTL and so on); those for older registers do not, which other traps hold.
pub const FINE_GRAINED: u64 = 0;
/// CNTPOFF_EL2: CNTHCTL_EL2.ECV does not use it.
pub const CNTPOFF: u64 = 0;
/// MPAM2_EL2: partition 0, TIDR, TRAPMPAM0EL1, TRAPMPAM1EL1.
pub const MPAM2: u64 = 1 << 58 | 1 << 49 | 1 << 48;
/// MPAMHCR_EL2: TRAP_MPAMIDR_EL1, for where TIDR is not.
pub const MPAMHCR: u64 = 1 << 31;
/// MPAMIDR_EL1.HAS_HCR: MPAMHCR_EL2 is there.
pub const MPAMIDR_HAS_HCR: u64 = 1 << 17;
/// ICC_SRE_EL2: SRE, DFB, DIB. Enable is zero, so that ICC_SRE_EL1 traps, where the CPU lets it be (IHI 0069H, 12.2.24;
/// where SRE cannot be cleared Enable may be fixed too, and then so is ICC_SRE_EL1.SRE).
pub const ICC_SRE_EL2: u64 = 0b0111;
/// ICC_SRE_EL1: the same for EL1, whose interface is used by system registers.
pub const ICC_SRE_EL1: u64 = 0b0111;

#[cfg(test)]
mod tests {
    use super::super::features::CpuFeatures;
    use super::*;

    #[test]
    fn every_guest_has_the_same_closed_doors() {
        // As numbers, so that a wrong position above is not repeated here.
        assert_eq!(hcr::GUEST, 0x0400_0018_803d_263b);
        let guest = |features| hcr::guest(features);
        assert_eq!(guest(CpuFeatures::all()), 0x0400_0318_803d_263b);
        assert_eq!(guest(CpuFeatures::all() - CpuFeatures::PAC), hcr::GUEST);
        assert_eq!(cptr::GUEST, 0x4010_33ff);
        assert_eq!(cptr::SVE, 0x4010_32ff);
        assert_eq!(cptr::SVE_OFF, 0x4010_37ff);
        assert_eq!(mdcr::GUEST, 0x0008_4e60);
        assert_eq!(mdcr::hpmn(0x4103_3000), 6);
        // DDI 0487, D24.5: TIDR, TRAPMPAM0EL1, TRAPMPAM1EL1; TRAP_MPAMIDR_EL1; HAS_HCR.
        assert_eq!(MPAM2, 0x0403_0000_0000_0000);
        assert_eq!(MPAMHCR, 0x8000_0000);
        assert_eq!(MPAMIDR_HAS_HCR, 0x0002_0000);
        assert_eq!(ICC_SRE_EL2 & 8, 0, "Enable");
        assert_eq!(ICC_SRE_EL2 & 1, 1, "SRE");
    }

    #[test]
    fn nothing_is_walked_between_two_vcpus() {
        // DDI 0487, D24.2.175 (SCTLR_EL1) and D24.2.184 (TCR_EL1).
        assert_eq!(no_walks::SCTLR_EL1 & 1, 1, "M");
        assert_eq!(no_walks::TCR_EL1, 0x0080_0080, "EPD1 and EPD0");
    }

    #[test]
    fn el2_has_its_own_traps_off_only_while_it_sets_up() {
        assert_eq!(cptr::SET_UP & (1 << 8 | 1 << 12), 0);
        assert_eq!(cptr::SET_UP | cptr::TZ | cptr::TSM, cptr::GUEST);
    }
}
