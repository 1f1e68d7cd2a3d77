// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The one table of all system registers of EL1 and EL0. `tests.rs` holds the hypervisor to it.

use super::architecture::Register;
use super::controls::{self, cptr, hcr, mdcr};

/// The decision on a register: what a guest meets behind its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Each vCPU has its own, by the list in `switched.rs`.
    Switched,
    /// Each vCPU has its own, by other means.
    SwitchedBy(&'static str),
    /// Accesses trap, and a guest is given an answer that is not the machine's.
    Trapped(Trap),
    /// What the machine or the vCPU has, the same at each reading or a clock: no VM changes it, and none learns by
    /// it of another.
    Constant(&'static str),
    /// Each vCPU of a VM that has the extension has its own, by other means. For other VMs as [`Decision::Absent`].
    Optional {
        /// What switches it.
        by: &'static str,
        /// What makes accesses trap for other VMs.
        trap: Trap,
    },
    /// Undefined for guests: accesses trap, and EL2 injects the exception.
    Absent(Trap),
    /// Undefined for guests, by the architecture alone.
    AbsentBy(&'static str),
    /// Part of an extension that no known CPU has; EL2 does not enable it, and the ID registers hide it.
    AbsentYet {
        /// The extension.
        feature: &'static str,
        /// CRm and op2 of the ID register that would tell.
        id: (u8, u8),
    },
}

/// The bit of an EL2 register that makes accesses trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// One, in HCR_EL2.
    Hcr(u64),
    /// Zero at this position, in HCR_EL2.
    HcrZero(u32),
    /// One, in CPTR_EL2.
    Cptr(u64),
    /// One, in MDCR_EL2.
    Mdcr(u64),
    /// Zero at this position, in MDCR_EL2.
    MdcrZero(u32),
    /// Zero at this position, in HCRX_EL2.
    HcrxZero(u32),
    /// Zero at this position, in the named fine-grained trap register.
    FineZero(&'static str, u32),
    /// One at this position, in MPAM2_EL2.
    Mpam2(u32),
    /// Zero at this position, in CNTHCTL_EL2.
    CnthctlZero(u32),
    /// ICC_SRE_EL2.Enable is zero.
    SreEnable,
    /// HCR_EL2.FMO and IMO: what generates SGIs.
    Sgi,
    /// ICH_HCR_EL2.TDIR or TC, while it matters: a deactivation of what is in no list register.
    Deactivate,
}

impl Trap {
    /// Returns whether EL2 has set the trap.
    #[must_use]
    pub fn is_set(self) -> bool {
        let is_one = |value: u64, mask: u64| value & mask == mask && mask != 0;
        let is_zero = |value: u64, bit: u32| value >> bit & 1 == 0;
        match self {
            Self::Hcr(mask) => is_one(hcr::GUEST, mask),
            Self::HcrZero(bit) => is_zero(hcr::GUEST, bit),
            Self::Cptr(mask) => is_one(cptr::GUEST, mask),
            Self::Mdcr(mask) => is_one(mdcr::GUEST, mask),
            Self::MdcrZero(bit) => is_zero(mdcr::GUEST, bit),
            Self::HcrxZero(bit) => is_zero(controls::HCRX, bit),
            Self::FineZero(_, bit) => is_zero(controls::FINE_GRAINED, bit),
            Self::Mpam2(bit) => is_one(controls::MPAM2, 1 << bit),
            Self::CnthctlZero(bit) => is_zero(controls::CNTHCTL, bit),
            Self::SreEnable => is_zero(controls::ICC_SRE_EL2, 3),
            Self::Sgi => is_one(hcr::GUEST, hcr::FMO_IMO_AMO),
            // `postern-vgic` decides when; its tests hold it.
            Self::Deactivate => true,
        }
    }
}

const PSTATE: &str = "PSTATE is in the frame (SPSR_EL2)";
const VGIC: &str = "the virtual interface: ICH_VMCR_EL2, ICH_AP<x>R<n>_EL2, list registers";
const SPE_BUFFER: Trap = Trap::MdcrZero(12);
const R_PROFILE: &str = "Armv8-R only";

/// Names, of which `*` stands for any letters, and what becomes of them. Every register has one row.
pub(super) const TABLE: &[(&str, Decision)] = &[
    // State of EL1 and EL0 that Armv8.0 has.
    (
        "SCTLR_EL1 CPACR_EL1 TTBR0_EL1 TTBR1_EL1 TCR_EL1 MAIR_EL1 AMAIR_EL1 VBAR_EL1 CONTEXTIDR_EL1 SP_EL0 ELR_EL1 \
         SPSR_EL1 ESR_EL1 FAR_EL1 AFSR0_EL1 AFSR1_EL1 PAR_EL1 TPIDR_EL0 TPIDRRO_EL0 TPIDR_EL1 CNTKCTL_EL1 CSSELR_EL1",
        Decision::Switched,
    ),
    (
        "NZCV DAIF SPSel CurrentEL PAN UAO DIT SSBS TCO ALLINT PM",
        Decision::SwitchedBy(PSTATE),
    ),
    (
        "FPCR FPSR",
        Decision::SwitchedBy("with the FP and SIMD registers"),
    ),
    (
        "CNTV_CTL_EL0 CNTV_CVAL_EL0 CNTV_TVAL_EL0",
        Decision::SwitchedBy("stopped at a switch, compare value and control kept"),
    ),
    ("MPIDR_EL1", Decision::SwitchedBy("VMPIDR_EL2")),
    (
        "DISR_EL1",
        Decision::SwitchedBy("VDISR_EL2, which it stands for since HCR_EL2.AMO is set"),
    ),
    // FEAT_SME; behind HFGRTR_EL2.nTPIDR2_EL0 where FEAT_FGT is, else switched.
    ("TPIDR2_EL0", Decision::Switched),
    // What the machine is.
    (
        "MIDR_EL1",
        Decision::Constant("VPIDR_EL2: the pCPU's, by which errata are known"),
    ),
    (
        "CTR_EL0 DCZID_EL0 CLIDR_EL1 CCSIDR_EL1 CCSIDR2_EL1",
        Decision::Constant("the geometry of the caches, which is everybody's"),
    ),
    ("CNTFRQ_EL0", Decision::Constant("set by EL3 only")),
    (
        "CNTVCT_EL0 CNTVCTSS_EL0",
        Decision::Constant("a clock, less CNTVOFF_EL2, which is switched"),
    ),
    (
        "ISR_EL1",
        Decision::Constant("the vCPU's own pending virtual interrupts"),
    ),
    ("RNDR RNDRRS", Decision::Constant("random, FEAT_RNG")),
    (
        "RVBAR_EL1 RMR_EL1",
        Decision::AbsentBy("of the highest exception level alone, which is not EL1"),
    ),
    // ID registers.
    ("ID_* MVFR*", Decision::Trapped(Trap::Hcr(hcr::TID3))),
    (
        "REVIDR_EL1 AIDR_EL1",
        Decision::Trapped(Trap::Hcr(hcr::TID1)),
    ),
    ("SMIDR_EL1", Decision::Absent(Trap::Hcr(hcr::TID1))),
    ("GMID_EL1", Decision::Absent(Trap::Hcr(hcr::TID5))),
    ("ACTLR_EL1", Decision::Trapped(Trap::Hcr(hcr::TACR))),
    // The interrupt controller.
    (
        "ICC_PMR_EL1 ICC_IAR?_EL1 ICC_EOIR?_EL1 ICC_HPPIR?_EL1 ICC_BPR?_EL1 ICC_AP?R?_EL1 ICC_RPR_EL1 ICC_CTLR_EL1 \
         ICC_IGRPEN?_EL1 ICC_NMIAR1_EL1",
        Decision::SwitchedBy(VGIC),
    ),
    (
        "ICC_SGI1R_EL1 ICC_ASGI1R_EL1 ICC_SGI0R_EL1",
        Decision::Trapped(Trap::Sgi),
    ),
    ("ICC_DIR_EL1", Decision::Trapped(Trap::Deactivate)),
    ("ICC_SRE_EL1", Decision::Trapped(Trap::SreEnable)),
    (
        "ICC_PPI_* ICC_IDR0_EL1 ICC_HPPIR_EL1 ICC_ICSR_EL1 ICC_IAFFIDR_EL1 ICC_APR_EL1 ICC_CR0_EL1 ICC_PCR_EL1 \
         ICC_HAPR_EL1",
        Decision::AbsentYet {
            feature: "FEAT_GCIE",
            id: (4, 2),
        },
    ),
    // Timers.
    (
        "CNTP_TVAL_EL0 CNTP_CTL_EL0 CNTP_CVAL_EL0",
        Decision::Trapped(Trap::CnthctlZero(1)),
    ),
    (
        "CNTPCT_EL0 CNTPCTSS_EL0",
        Decision::Trapped(Trap::CnthctlZero(0)),
    ),
    ("CNTPS_*", Decision::AbsentBy("of EL3 and the secure world")),
    // Self-hosted debug.
    (
        "DBGB?R*_EL1 DBGW?R*_EL1 MDCCINT_EL1 MDSCR_EL1 OSDTR?X_EL1 OSECCR_EL1 DBGCLAIM*_EL1 DBGAUTHSTATUS_EL1 MDCCSR_EL0 \
         DBGDTR_EL0 DBGDTRTX_EL0",
        Decision::Trapped(Trap::Mdcr(mdcr::TDA)),
    ),
    (
        "OSLAR_EL1 OSLSR_EL1 OSDLR_EL1 DBGPRCR_EL1",
        Decision::Trapped(Trap::Mdcr(mdcr::TDOSA)),
    ),
    ("MDRAR_EL1", Decision::Trapped(Trap::Mdcr(mdcr::TDRA))),
    (
        "MDSELR_EL1",
        Decision::Absent(Trap::FineZero("HDFGRTR2_EL2.nMDSELR_EL1", 5)),
    ),
    (
        "MDSTEPOP_EL1",
        Decision::Absent(Trap::FineZero("HDFGRTR2_EL2.nMDSTEPOP_EL1", 23)),
    ),
    (
        "DSPSR_EL0 DLR_EL0 DPOCR_EL0",
        Decision::AbsentBy("in Debug state only"),
    ),
    (
        "TEECR32_EL1 TEEHBR32_EL1",
        Decision::AbsentBy("Armv7's ThumbEE"),
    ),
    // The performance monitors.
    (
        "PMCNTEN* PMOVS* PMSWINC_EL0 PMSELR_EL0 PMCEID* PMCCNTR_EL0 PMXEV* PMUSERENR_EL0 PMEVCNTR* PMEVTYPER* \
         PMCCFILTR_EL0 PMINTEN* PMMIR_EL1 PMZR_EL0",
        Decision::Absent(Trap::Mdcr(mdcr::TPM)),
    ),
    ("PMCR_EL0", Decision::Absent(Trap::Mdcr(mdcr::TPMCR))),
    (
        "PMECR_EL1",
        Decision::Absent(Trap::FineZero("HDFGRTR2_EL2.nPMECR_EL1", 0)),
    ),
    (
        "PMIAR_EL1",
        Decision::Absent(Trap::FineZero("HDFGRTR2_EL2.nPMIAR_EL1", 1)),
    ),
    (
        "PMICNTR_EL0",
        Decision::Absent(Trap::FineZero("HDFGRTR2_EL2.nPMICNTR_EL0", 2)),
    ),
    (
        "PMICFILTR_EL0",
        Decision::Absent(Trap::FineZero("HDFGRTR2_EL2.nPMICFILTR_EL0", 3)),
    ),
    (
        "PMUACR_EL1",
        Decision::Absent(Trap::FineZero("HDFGRTR2_EL2.nPMUACR_EL1", 4)),
    ),
    (
        "PMEVCNTSVR* PMCCNTSVR_EL1 PMICNTSVR_EL1",
        Decision::Absent(Trap::FineZero("HDFGRTR2_EL2.nPMSSDATA", 6)),
    ),
    (
        "PMSSCR_EL1",
        Decision::Absent(Trap::FineZero("HDFGRTR2_EL2.nPMSSCR_EL1", 7)),
    ),
    (
        "SPM*",
        Decision::Absent(Trap::FineZero("HDFGRTR2_EL2.nSPM*", 8)),
    ),
    ("AM*_EL0", Decision::Absent(Trap::Cptr(cptr::TAM))),
    // Profiling, trace, branch records.
    (
        "PMSCR_EL1 PMSNEVFR_EL1 PMSICR_EL1 PMSIRR_EL1 PMSFCR_EL1 PMSEVFR_EL1 PMSLATFR_EL1 PMSIDR_EL1 PMSDSFR_EL1",
        Decision::Absent(Trap::Mdcr(mdcr::TPMS)),
    ),
    ("PMB*", Decision::Absent(SPE_BUFFER)),
    ("TRB*", Decision::Absent(Trap::MdcrZero(24))),
    ("TRFCR_EL1", Decision::Absent(Trap::Mdcr(mdcr::TTRF))),
    (
        "TRCITECR_EL1",
        Decision::Absent(Trap::FineZero("HDFGRTR2_EL2.nTRCITECR_EL1", 20)),
    ),
    ("TRC~", Decision::Absent(Trap::Cptr(cptr::TTA))),
    (
        "BRBIDR0_EL1",
        Decision::Absent(Trap::FineZero("HDFGRTR_EL2.nBRBIDR", 59)),
    ),
    (
        "BRBCR_EL1 BRBFCR_EL1 BRBTS_EL1",
        Decision::Absent(Trap::FineZero("HDFGRTR_EL2.nBRBCTL", 60)),
    ),
    (
        "BRBINF* BRBSRC* BRBTGT*",
        Decision::Absent(Trap::FineZero("HDFGRTR_EL2.nBRBDATA", 61)),
    ),
    // Errors, regions, partitions.
    (
        "ERXGSR_EL1",
        Decision::Absent(Trap::FineZero("HFGRTR2_EL2.nERXGSR_EL1", 1)),
    ),
    (
        "ERRIDR_EL1 ERRSELR_EL1 ERXFR_EL1 ERXCTLR_EL1 ERXSTATUS_EL1 ERXADDR_EL1 ERXPFG* ERXMISC*",
        Decision::Absent(Trap::Hcr(hcr::TERR)),
    ),
    ("LOR*", Decision::Absent(Trap::Hcr(hcr::TLOR))),
    ("MPAMIDR_EL1", Decision::Absent(Trap::Mpam2(58))),
    ("MPAM1_EL1", Decision::Absent(Trap::Mpam2(49))),
    ("MPAM0_EL1", Decision::Absent(Trap::Mpam2(48))),
    (
        "MPAMSM_EL1",
        Decision::AbsentYet {
            feature: "FEAT_SME with MPAM: MPAM2_EL2.EnMPAMSM is zero",
            id: (4, 1),
        },
    ),
    (
        "MPAMBW* MPAMCTL_EL1",
        Decision::AbsentYet {
            feature: "FEAT_MPAM_PE_BW_CTRL, FEAT_MPAMv2",
            id: (4, 2),
        },
    ),
    // Vectors, pointer authentication, tags.
    (
        "ZCR_EL1",
        Decision::Optional {
            by: "with the vector state, in VMs with SVE",
            trap: Trap::Cptr(cptr::TZ),
        },
    ),
    ("SMCR_EL1 SVCR", Decision::Absent(Trap::Cptr(cptr::TSM))),
    (
        "SMPRI_EL1",
        Decision::Absent(Trap::FineZero("HFGRTR_EL2.nSMPRI_EL1", 54)),
    ),
    ("FPMR", Decision::Absent(Trap::HcrxZero(23))),
    // Trapped where the CPU's ID registers hide FEAT_PAuth.
    ("AP??Key*_EL1", Decision::Switched),
    (
        "RGSR_EL1 GCR_EL1 TFSR_EL1 TFSRE0_EL1",
        Decision::Absent(Trap::HcrZero(56)),
    ),
    ("SCXTNUM_EL?", Decision::Absent(Trap::HcrZero(53))),
    // Newer state of EL1.
    (
        "ACCDATA_EL1",
        Decision::Absent(Trap::FineZero("HFGRTR_EL2.nACCDATA_EL1", 50)),
    ),
    (
        "GCSPR_EL0 GCSCRE0_EL1",
        Decision::Absent(Trap::FineZero("HFGRTR_EL2.nGCS_EL0", 52)),
    ),
    (
        "GCSPR_EL1 GCSCR_EL1",
        Decision::Absent(Trap::FineZero("HFGRTR_EL2.nGCS_EL1", 53)),
    ),
    (
        "RCWMASK_EL1",
        Decision::Absent(Trap::FineZero("HFGRTR_EL2.nRCWMASK_EL1", 56)),
    ),
    (
        "RCWSMASK_EL1",
        Decision::Absent(Trap::FineZero("HFGRTR2_EL2.nRCWSMASK_EL1", 2)),
    ),
    (
        "PIRE0_EL1",
        Decision::Absent(Trap::FineZero("HFGRTR_EL2.nPIRE0_EL1", 57)),
    ),
    (
        "PIR_EL1",
        Decision::Absent(Trap::FineZero("HFGRTR_EL2.nPIR_EL1", 58)),
    ),
    (
        "POR_EL0",
        Decision::Absent(Trap::FineZero("HFGRTR_EL2.nPOR_EL0", 59)),
    ),
    (
        "POR_EL1",
        Decision::Absent(Trap::FineZero("HFGRTR_EL2.nPOR_EL1", 60)),
    ),
    (
        "S2POR_EL1",
        Decision::Absent(Trap::FineZero("HFGRTR_EL2.nS2POR_EL1", 61)),
    ),
    (
        "MAIR2_EL1",
        Decision::Absent(Trap::FineZero("HFGRTR_EL2.nMAIR2_EL1", 62)),
    ),
    (
        "AMAIR2_EL1",
        Decision::Absent(Trap::FineZero("HFGRTR_EL2.nAMAIR2_EL1", 63)),
    ),
    (
        "PFAR_EL1",
        Decision::Absent(Trap::FineZero("HFGRTR2_EL2.nPFAR_EL1", 0)),
    ),
    ("TCR2_EL1", Decision::Absent(Trap::HcrxZero(14))),
    ("SCTLR2_EL1", Decision::Absent(Trap::HcrxZero(15))),
    (
        "SCTLRMASK_EL1 ACTLRMASK_EL1 CPACRMASK_EL1 SCTLR2MASK_EL1 TCRMASK_EL1 TCR2MASK_EL1 ???*ALIAS_EL1",
        Decision::Absent(Trap::HcrxZero(26)),
    ),
    // Extensions of 2025, which have traps of their own.
    (
        "TPIDR3_EL? IRTBR?_EL1 DPOTBR?_EL1 TTTBR?_EL1 LDSTT_EL1 TPMIN* TPMAX* FGDT* AFGDT* STINDEX_EL1 TINDEX_EL?",
        Decision::AbsentYet {
            feature: "FEAT_S1POE2, FEAT_TEV and their kin",
            id: (7, 3),
        },
    ),
    (
        "TLBIDIDR_EL1",
        Decision::AbsentYet {
            feature: "FEAT_TLBID",
            id: (7, 4),
        },
    ),
    (
        "MPUIR_EL1 PRENR_EL1 PRSELR_EL1 PRBAR*_EL1 PRLAR*_EL1",
        Decision::AbsentBy(R_PROFILE),
    ),
];

/// Returns whether a name is what a pattern says: `?` is one letter, `*` any, and a `~` at the end any but "ITECR_EL1".
pub(super) fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([b'~'], rest) => rest != b"ITECR_EL1",
        ([b'*', rest @ ..], _) => {
            fits(rest, name)
                || name
                    .split_first()
                    .is_some_and(|(_, tail)| fits(pattern, tail))
        }
        ([b'?', rest @ ..], [_, tail @ ..]) => fits(rest, tail),
        ([a, rest @ ..], [b, tail @ ..]) => a == b && fits(rest, tail),
        _ => false,
    }
}

/// Returns the decision on a register.
///
/// # Panics
/// It has no row or several; the tests see to it that none has.
#[must_use]
pub fn decision(register: &Register) -> Decision {
    let all: Vec<_> = TABLE
        .iter()
        .filter(|(names, _)| {
            names
                .split_whitespace()
                .any(|pattern| fits(pattern.as_bytes(), register.name.as_bytes()))
        })
        .collect();
    let [(_, decision)] = all[..] else {
        panic!("{register:?} has {} rows: {all:?}", all.len());
    };
    *decision
}
