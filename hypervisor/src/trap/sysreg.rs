//! The system registers whose accesses trap, and what a guest finds in them.
//!
//! Three answers: a value of ours, nothing at all (reads zero, ignores writes), or an undefined
//! instruction. The last is the answer to everything that has no row here.

use super::decode::SysReg;
use super::ids::IdValues;
use crate::devices::vgic::SgiRegister;
use crate::ids::VcpuIndex;

const fn debug(crn: u8, crm: u8, op2: u8) -> SysReg {
    SysReg::new(2, 0, crn, crm, op2)
}

const OSDTRRX_EL1: SysReg = debug(0, 0, 2);
const MDCCINT_EL1: SysReg = debug(0, 2, 0);
const MDSCR_EL1: SysReg = debug(0, 2, 2);
const OSDTRTX_EL1: SysReg = debug(0, 3, 2);
const OSECCR_EL1: SysReg = debug(0, 6, 2);
const MDRAR_EL1: SysReg = debug(1, 0, 0);
const OSLAR_EL1: SysReg = debug(1, 0, 4);
const OSLSR_EL1: SysReg = debug(1, 1, 4);
const OSDLR_EL1: SysReg = debug(1, 3, 4);
const DBGPRCR_EL1: SysReg = debug(1, 4, 4);
const DBGCLAIMSET_EL1: SysReg = debug(7, 8, 6);
const DBGCLAIMCLR_EL1: SysReg = debug(7, 9, 6);
const DBGAUTHSTATUS_EL1: SysReg = debug(7, 14, 6);
const MDCCSR_EL0: SysReg = SysReg::new(2, 3, 0, 1, 0);
const DBGDTR_EL0: SysReg = SysReg::new(2, 3, 0, 4, 0);
const DBGDTRTX_EL0: SysReg = SysReg::new(2, 3, 0, 5, 0);

const REVIDR_EL1: SysReg = SysReg::new(3, 0, 0, 0, 6);
const ACTLR_EL1: SysReg = SysReg::new(3, 0, 1, 0, 1);
const AIDR_EL1: SysReg = SysReg::new(3, 1, 0, 0, 7);
const ICC_SGI1R_EL1: SysReg = SysReg::new(3, 0, 12, 11, 5);
const ICC_ASGI1R_EL1: SysReg = SysReg::new(3, 0, 12, 11, 6);
const ICC_SGI0R_EL1: SysReg = SysReg::new(3, 0, 12, 11, 7);
const ICC_SRE_EL1: SysReg = SysReg::new(3, 0, 12, 12, 5);
const CNTPCT_EL0: SysReg = SysReg::new(3, 3, 14, 0, 1);
const CNTPCTSS_EL0: SysReg = SysReg::new(3, 3, 14, 0, 5);
const CNTP_TVAL_EL0: SysReg = SysReg::new(3, 3, 14, 2, 0);
const CNTP_CTL_EL0: SysReg = SysReg::new(3, 3, 14, 2, 1);
const CNTP_CVAL_EL0: SysReg = SysReg::new(3, 3, 14, 2, 2);

/// OSLSR_EL1: the OS lock is there (OSLM is 0b10) and open, as far as anybody can tell.
const OS_LOCK_OPEN: u64 = 1 << 3;
/// DBGCLAIMSET_EL1: the eight claim tags that exist read as one, whatever is claimed.
const CLAIM_TAGS: u64 = 0xff;
/// ICC_SRE_EL1: system registers and nothing else (SRE, DFB, DIB: all read as one).
const SRE_ONLY: u64 = 7;
/// The breakpoints, and the watchpoints, that ID_AA64DFR0_EL1 promises.
const DEBUG_PAIRS: u8 = 2;

/// A register of the EL1 physical timer or its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhysicalTimer {
    /// CNTPCT_EL0 or CNTPCTSS_EL0, the counter; never written.
    Count,
    /// CNTP_TVAL_EL0: the low 32 bits, signed, of CVAL less the counter.
    TimerValue,
    /// CNTP_CTL_EL0: ENABLE (bit 0), IMASK (bit 1), ISTATUS (bit 2, read only).
    Control,
    /// CNTP_CVAL_EL0.
    CompareValue,
}

/// The group of a generated SGI (IHI0069, the ICC_SGIxR registers, with one security state).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SgiGroup {
    /// ICC_SGI0R_EL1, and ICC_ASGI1R_EL1, whose other security state there is not: reaches only
    /// those vCPUs whose SGI is configured as group 0.
    Group0,
    /// ICC_SGI1R_EL1.
    Group1,
}

/// A write to one of the ICC_SGIxR_EL1 registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SgiRequest {
    /// Which group is asked for.
    pub group: SgiGroup,
    value: u64,
}

impl SgiRequest {
    /// What was written.
    #[inline]
    pub const fn value(self) -> u64 {
        self.value
    }

    /// The register, as the vGIC names it.
    pub const fn register(self) -> SgiRegister {
        match self.group {
            SgiGroup::Group0 => SgiRegister::Sgi0r,
            SgiGroup::Group1 => SgiRegister::Sgi1r,
        }
    }

    /// The INTID, 0 to 15: bits 27:24.
    #[inline]
    pub const fn intid(self) -> u8 {
        (self.value >> 24 & 0xf) as u8
    }

    /// Which of a VM's first `vcpus` vCPUs are meant when `sender` wrote the register: bit n for
    /// the vCPU with Aff0 n. No bit for affinities that no vCPU has.
    pub const fn targets(self, sender: VcpuIndex, vcpus: usize) -> u64 {
        let present = if vcpus >= 64 {
            u64::MAX
        } else {
            (1 << vcpus) - 1
        };
        // IRM, bit 40: all but the sender.
        if self.value >> 40 & 1 == 1 {
            return present & !(1 << sender.get());
        }
        // Aff3, Aff2 and Aff1 are zero in every vCPU, and Aff0 is below 16: RS is zero as well.
        let elsewhere = 0xff << 48 | 0xff << 32 | 0xff << 16 | 0xf << 44;
        if self.value & elsewhere != 0 {
            return 0;
        }
        self.value & 0xffff & present
    }
}

/// What becomes of a trapped access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A read, and its value for Rt.
    Value(u64),
    /// A write without effect.
    Ignored,
    /// The guest takes an undefined-instruction exception.
    Undefined,
    /// The vGIC is to generate an SGI.
    Sgi(SgiRequest),
    /// The physical timer is to be emulated: a write of a value, or a read.
    PhysicalTimer(PhysicalTimer, Option<u64>),
}

/// What becomes of a guest's access to `reg`: the write of a value, or a read.
pub fn access(reg: SysReg, write: Option<u64>, ids: &IdValues) -> Outcome {
    match (reg, write) {
        (ICC_SGI1R_EL1, Some(value)) => Outcome::Sgi(SgiRequest {
            group: SgiGroup::Group1,
            value,
        }),
        (ICC_SGI0R_EL1 | ICC_ASGI1R_EL1, Some(value)) => Outcome::Sgi(SgiRequest {
            group: SgiGroup::Group0,
            value,
        }),
        (CNTP_TVAL_EL0, _) => Outcome::PhysicalTimer(PhysicalTimer::TimerValue, write),
        (CNTP_CTL_EL0, _) => Outcome::PhysicalTimer(PhysicalTimer::Control, write),
        (CNTP_CVAL_EL0, _) => Outcome::PhysicalTimer(PhysicalTimer::CompareValue, write),
        (CNTPCT_EL0 | CNTPCTSS_EL0, None) => Outcome::PhysicalTimer(PhysicalTimer::Count, None),
        (ICC_SRE_EL1, _) => constant(SRE_ONLY, write),
        (ACTLR_EL1, _) => constant(0, write),
        // Trapped by HCR_EL2.TID1. No revision bit set: no erratum is said to be fixed.
        (REVIDR_EL1 | AIDR_EL1, None) => Outcome::Value(0),
        (SysReg { op0: 2, .. }, _) => debug_register(reg, write),
        (
            SysReg {
                op0: 3,
                op1: 0,
                crn: 0,
                crm,
                op2,
            },
            None,
        ) => ids.get(crm, op2).map_or(Outcome::Undefined, Outcome::Value),
        _ => Outcome::Undefined,
    }
}

/// The self-hosted debug registers: there, but without effect (trapped by MDCR_EL2.TDA, TDOSA
/// and TDRA). The trace registers, op1 1, do not exist.
fn debug_register(reg: SysReg, write: Option<u64>) -> Outcome {
    match (reg, write) {
        (OSLSR_EL1, None) => Outcome::Value(OS_LOCK_OPEN),
        (OSLAR_EL1, Some(_)) => Outcome::Ignored,
        (DBGCLAIMSET_EL1, _) => constant(CLAIM_TAGS, write),
        (MDRAR_EL1 | DBGAUTHSTATUS_EL1 | MDCCSR_EL0, None) => Outcome::Value(0),
        (
            MDCCINT_EL1 | MDSCR_EL1 | OSDTRRX_EL1 | OSDTRTX_EL1 | OSECCR_EL1 | OSDLR_EL1
            | DBGPRCR_EL1 | DBGCLAIMCLR_EL1 | DBGDTR_EL0 | DBGDTRTX_EL0,
            _,
        ) => constant(0, write),
        // DBGBVR<n>, DBGBCR<n>, DBGWVR<n>, DBGWCR<n>.
        (
            SysReg {
                op1: 0,
                crn: 0,
                crm: 0..DEBUG_PAIRS,
                op2: 4..=7,
                ..
            },
            _,
        ) => constant(0, write),
        _ => Outcome::Undefined,
    }
}

/// A register that always reads `value` and forgets what is written.
const fn constant(value: u64, write: Option<u64>) -> Outcome {
    match write {
        None => Outcome::Value(value),
        Some(_) => Outcome::Ignored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reg: SysReg) -> Outcome {
        access(reg, None, &IdValues::new(|_| 2, 40))
    }

    fn write(reg: SysReg, value: u64) -> Outcome {
        access(reg, Some(value), &IdValues::new(|_| 2, 40))
    }

    #[test]
    fn what_linux_touches_at_boot() {
        for (op1, crn, crm, op2, value) in [
            (0, 1, 1, 4, 0x8), // OSLSR_EL1
            (0, 0, 2, 2, 0),   // MDSCR_EL1
            (0, 0, 0, 4, 0),   // DBGBVR0_EL1
            (0, 0, 0, 5, 0),   // DBGBCR0_EL1
            (0, 0, 1, 6, 0),   // DBGWVR1_EL1
            (0, 0, 1, 7, 0),   // DBGWCR1_EL1
            (0, 1, 3, 4, 0),   // OSDLR_EL1
            (0, 7, 14, 6, 0),  // DBGAUTHSTATUS_EL1
            (0, 7, 8, 6, 0xff),
        ] {
            let reg = SysReg::new(2, op1, crn, crm, op2);
            assert_eq!(read(reg), Outcome::Value(value), "{reg:?}");
        }
        for (crn, crm, op2) in [(1, 0, 4), (0, 2, 2), (0, 1, 5), (1, 3, 4), (7, 9, 6)] {
            let reg = SysReg::new(2, 0, crn, crm, op2);
            assert_eq!(write(reg, u64::MAX), Outcome::Ignored, "{reg:?}");
        }
        assert_eq!(read(ICC_SRE_EL1), Outcome::Value(7));
        assert_eq!(write(ICC_SRE_EL1, 0), Outcome::Ignored);
        assert_eq!(read(ACTLR_EL1), Outcome::Value(0));
        assert_eq!(write(ACTLR_EL1, u64::MAX), Outcome::Ignored);
        // ID_AA64PFR0_EL1, by way of the masks.
        assert_eq!(
            read(SysReg::new(3, 0, 0, 4, 0)),
            Outcome::Value(0x0100_1012)
        );
    }

    #[test]
    fn what_does_not_exist() {
        for reg in [
            SysReg::new(3, 0, 9, 14, 1), // PMINTENSET_EL1
            SysReg::new(3, 3, 9, 12, 0), // PMCR_EL0
            SysReg::new(3, 3, 14, 8, 0), // PMEVCNTR0_EL0
            SysReg::new(3, 3, 9, 13, 0), // PMCCNTR_EL0
            SysReg::new(2, 1, 0, 1, 0),  // TRCPRGCTLR
            SysReg::new(2, 0, 0, 2, 4),  // DBGBVR2_EL1: beyond the two
            SysReg::new(3, 0, 5, 3, 0),  // ERRIDR_EL1
            SysReg::new(3, 0, 10, 5, 1), // MPAM1_EL1
            SysReg::new(3, 3, 13, 2, 0), // AMCR_EL0
            SysReg::new(3, 0, 9, 9, 0),  // PMSCR_EL1
            SysReg::new(3, 0, 1, 2, 0),  // ZCR_EL1
            SysReg::new(3, 0, 13, 0, 7), // SCXTNUM_EL1
            SysReg::new(3, 0, 10, 4, 0), // LORSA_EL1
            SysReg::new(3, 0, 0, 0, 0),  // MIDR_EL1: not ours to trap
            SysReg::new(1, 0, 7, 14, 2), // DC CISW
        ] {
            assert_eq!(read(reg), Outcome::Undefined, "{reg:?}");
            assert_eq!(write(reg, 0), Outcome::Undefined, "{reg:?}");
        }
        // Wrong direction.
        for reg in [OSLAR_EL1, ICC_SGI1R_EL1, ICC_ASGI1R_EL1, ICC_SGI0R_EL1] {
            assert_eq!(read(reg), Outcome::Undefined, "{reg:?}");
        }
        for reg in [OSLSR_EL1, CNTPCT_EL0, SysReg::new(3, 0, 0, 4, 0)] {
            assert_eq!(write(reg, 0), Outcome::Undefined, "{reg:?}");
        }
    }

    #[test]
    fn every_name_has_an_answer() {
        let ids = IdValues::new(|_| u64::MAX, 40);
        for bits in 0..1_u32 << 16 {
            let part = |low: u32, width: u32| (bits >> low & ((1 << width) - 1)) as u8;
            let reg = SysReg::new(part(14, 2), part(11, 3), part(7, 4), part(3, 4), part(0, 3));
            assert!(!matches!(access(reg, Some(1), &ids), Outcome::Value(_)));
            assert!(!matches!(
                access(reg, None, &ids),
                Outcome::Ignored | Outcome::Sgi(_)
            ));
        }
    }

    #[test]
    fn the_physical_timer() {
        for (op2, which) in [
            (0, PhysicalTimer::TimerValue),
            (1, PhysicalTimer::Control),
            (2, PhysicalTimer::CompareValue),
        ] {
            let reg = SysReg::new(3, 3, 14, 2, op2);
            assert_eq!(read(reg), Outcome::PhysicalTimer(which, None));
            assert_eq!(write(reg, 5), Outcome::PhysicalTimer(which, Some(5)));
        }
        assert_eq!(
            read(CNTPCT_EL0),
            Outcome::PhysicalTimer(PhysicalTimer::Count, None)
        );
    }

    #[test]
    fn sgis() {
        let two = VcpuIndex::new(2).unwrap();
        for (value, intid, targets) in [
            (0x0000_0000_0700_000b, 7, 0b1011), // three of them, the others do not exist
            (0x0000_0000_0f00_fff4, 15, 0b0100), // itself
            (0x0000_0100_0300_0001, 3, 0b1011), // all but itself, the list does not count
            (0x0000_0000_0001_000f, 0, 0),      // Aff1
            (0x0000_0001_0000_000f, 0, 0),      // Aff2
            (0x0001_0000_0000_000f, 0, 0),      // Aff3
            (0x0000_1000_0000_000f, 0, 0),      // RS
        ] {
            let Outcome::Sgi(request) = write(ICC_SGI1R_EL1, value) else {
                panic!("no SGI");
            };
            assert_eq!(request.group, SgiGroup::Group1);
            assert_eq!(
                (request.intid(), request.targets(two, 4)),
                (intid, targets),
                "{value:#x}"
            );
            for reg in [ICC_SGI0R_EL1, ICC_ASGI1R_EL1] {
                assert_eq!(
                    write(reg, value),
                    Outcome::Sgi(SgiRequest {
                        group: SgiGroup::Group0,
                        value
                    })
                );
            }
        }
    }
}
