// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The system registers whose accesses trap, and what a guest finds in them.
//!
//! Three answers: a value that EL2 chooses, nothing at all (reads zero, ignores writes), or an undefined
//! instruction. The last is the answer to everything that has no row here.

use super::decode::SysReg;
use super::ids::IdValues;
use postern_devices::debug::DebugRegister;
use postern_devices::physical_timer::TimerRegister;
use postern_vgic::{InterfaceRegister, SgiRegister};

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
const ICC_PMR_EL1: SysReg = SysReg::new(3, 0, 4, 6, 0);
const ICC_RPR_EL1: SysReg = SysReg::new(3, 0, 12, 11, 3);
const ICC_CTLR_EL1: SysReg = SysReg::new(3, 0, 12, 12, 4);
const ICC_DIR_EL1: SysReg = SysReg::new(3, 0, 12, 11, 1);
const ICC_SGI1R_EL1: SysReg = SysReg::new(3, 0, 12, 11, 5);
const ICC_ASGI1R_EL1: SysReg = SysReg::new(3, 0, 12, 11, 6);
const ICC_SGI0R_EL1: SysReg = SysReg::new(3, 0, 12, 11, 7);
const ICC_SRE_EL1: SysReg = SysReg::new(3, 0, 12, 12, 5);
const CNTPCT_EL0: SysReg = SysReg::new(3, 3, 14, 0, 1);
const CNTPCTSS_EL0: SysReg = SysReg::new(3, 3, 14, 0, 5);
const CNTP_TVAL_EL0: SysReg = SysReg::new(3, 3, 14, 2, 0);
const CNTP_CTL_EL0: SysReg = SysReg::new(3, 3, 14, 2, 1);
const CNTP_CVAL_EL0: SysReg = SysReg::new(3, 3, 14, 2, 2);

/// ICC_SRE_EL1: system registers and nothing else (SRE, DFB, DIB: all read as one).
const SRE_ONLY: u64 = 7;

/// The answer to a trapped access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The value of a read, for Rt.
    Value(u64),
    /// No effect, for a write.
    Ignored,
    /// The guest takes an undefined-instruction exception.
    Undefined,
    /// The vGIC is to generate SGIs, by what was written to which register.
    Sgi(SgiRegister, u64),
    /// The vGIC is to deactivate the interrupt that was written to ICC_DIR_EL1.
    Deactivate(u64),
    /// A debug register of the vCPU is to be written, or read.
    Debug(DebugRegister, Option<u64>),
    /// A register of the CPU interface, where it traps because ICC_DIR_EL1 cannot alone: a write of a
    /// value, or a read.
    Interface(InterfaceRegister, Option<u64>),
    /// The physical timer is to be emulated: a write of a value, or a read.
    PhysicalTimer(TimerRegister, Option<u64>),
}

/// Decides a guest's access to `reg`: the write of a value, or a read.
pub fn access(reg: SysReg, write: Option<u64>, ids: &IdValues) -> Outcome {
    match (reg, write) {
        (ICC_SGI1R_EL1, Some(value)) => Outcome::Sgi(SgiRegister::Sgi1r, value),
        (ICC_ASGI1R_EL1, Some(value)) => Outcome::Sgi(SgiRegister::Asgi1r, value),
        (ICC_SGI0R_EL1, Some(value)) => Outcome::Sgi(SgiRegister::Sgi0r, value),
        (ICC_DIR_EL1, Some(value)) => Outcome::Deactivate(value),
        (ICC_CTLR_EL1, _) => Outcome::Interface(InterfaceRegister::Control, write),
        (ICC_PMR_EL1, _) => Outcome::Interface(InterfaceRegister::PriorityMask, write),
        (ICC_RPR_EL1, None) => Outcome::Interface(InterfaceRegister::RunningPriority, None),
        (CNTP_TVAL_EL0, _) => Outcome::PhysicalTimer(TimerRegister::TimerValue, write),
        (CNTP_CTL_EL0, _) => Outcome::PhysicalTimer(TimerRegister::Control, write),
        (CNTP_CVAL_EL0, _) => Outcome::PhysicalTimer(TimerRegister::CompareValue, write),
        (CNTPCT_EL0 | CNTPCTSS_EL0, None) => Outcome::PhysicalTimer(TimerRegister::Count, None),
        (ICC_SRE_EL1, _) => constant(SRE_ONLY, write),
        (ACTLR_EL1, _) => constant(0, write),
        // Trapped by HCR_EL2.TID1. No revision bit set: no erratum is said to be fixed.
        (REVIDR_EL1 | AIDR_EL1, None) => Outcome::Value(0),
        (SysReg { op0: 2, .. }, _) => debug_register(reg, write, ids),
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

/// Decides an access to the self-hosted debug registers (trapped by MDCR_EL2.TDA, TDOSA and TDRA). There are as many
/// breakpoints and watchpoints as ID_AA64DFR0_EL1 says. The communications channel to an external debugger reads as zero
/// and ignores writes. The trace registers, op1 1, do not exist.
fn debug_register(reg: SysReg, write: Option<u64>, ids: &IdValues) -> Outcome {
    let features = ids.get(5, 0).unwrap_or(0);
    let pairs = |low: u32| (features >> low & 0xf) as u8;
    let (breakpoints, watchpoints) = (pairs(12), pairs(20));
    match (reg, write) {
        (OSLSR_EL1, None) => Outcome::Debug(DebugRegister::OsLockStatus, None),
        (OSLAR_EL1, Some(_)) => Outcome::Debug(DebugRegister::OsLockAccess, write),
        (MDSCR_EL1, _) => Outcome::Debug(DebugRegister::Control, write),
        (DBGCLAIMSET_EL1, _) => Outcome::Debug(DebugRegister::ClaimSet, write),
        (DBGCLAIMCLR_EL1, _) => Outcome::Debug(DebugRegister::ClaimClear, write),
        (MDRAR_EL1 | DBGAUTHSTATUS_EL1 | MDCCSR_EL0, None) => Outcome::Value(0),
        (
            MDCCINT_EL1 | OSDTRRX_EL1 | OSDTRTX_EL1 | OSECCR_EL1 | OSDLR_EL1 | DBGPRCR_EL1
            | DBGDTR_EL0 | DBGDTRTX_EL0,
            _,
        ) => constant(0, write),
        (
            SysReg {
                op1: 0,
                crn: 0,
                crm,
                op2,
                ..
            },
            _,
        ) => match op2 {
            4 if crm <= breakpoints => Outcome::Debug(DebugRegister::BreakpointValue(crm), write),
            5 if crm <= breakpoints => Outcome::Debug(DebugRegister::BreakpointControl(crm), write),
            6 if crm <= watchpoints => Outcome::Debug(DebugRegister::WatchpointValue(crm), write),
            7 if crm <= watchpoints => Outcome::Debug(DebugRegister::WatchpointControl(crm), write),
            _ => Outcome::Undefined,
        },
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

    /// Three breakpoints, three watchpoints.
    fn ids() -> IdValues {
        let debug = SysReg::new(3, 0, 0, 5, 0);
        IdValues::new(|reg| if reg == debug { 0x0020_2002 } else { 2 }, 40, false)
    }

    fn read(reg: SysReg) -> Outcome {
        access(reg, None, &ids())
    }

    fn write(reg: SysReg, value: u64) -> Outcome {
        access(reg, Some(value), &ids())
    }

    #[test]
    fn what_linux_touches_at_boot() {
        for (crn, crm, op2, register) in [
            (1, 1, 4, DebugRegister::OsLockStatus),
            (0, 2, 2, DebugRegister::Control),
            (0, 0, 4, DebugRegister::BreakpointValue(0)),
            (0, 0, 5, DebugRegister::BreakpointControl(0)),
            (0, 1, 6, DebugRegister::WatchpointValue(1)),
            (0, 1, 7, DebugRegister::WatchpointControl(1)),
            (7, 8, 6, DebugRegister::ClaimSet),
        ] {
            let reg = SysReg::new(2, 0, crn, crm, op2);
            assert_eq!(read(reg), Outcome::Debug(register, None), "{reg:?}");
        }
        for (crn, crm, op2, register) in [
            (1, 0, 4, DebugRegister::OsLockAccess),
            (0, 2, 2, DebugRegister::Control),
            (0, 1, 5, DebugRegister::BreakpointControl(1)),
            (7, 9, 6, DebugRegister::ClaimClear),
        ] {
            let reg = SysReg::new(2, 0, crn, crm, op2);
            let outcome = Outcome::Debug(register, Some(u64::MAX));
            assert_eq!(write(reg, u64::MAX), outcome, "{reg:?}");
        }
        assert_eq!(read(OSDLR_EL1), Outcome::Value(0));
        assert_eq!(write(OSDLR_EL1, u64::MAX), Outcome::Ignored);
        assert_eq!(read(DBGAUTHSTATUS_EL1), Outcome::Value(0));
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
        // Beyond the three that the ID register of these tests promises.
        for op2 in 4..=7 {
            assert_ne!(read(SysReg::new(2, 0, 0, 2, op2)), Outcome::Undefined);
            assert_eq!(read(SysReg::new(2, 0, 0, 3, op2)), Outcome::Undefined);
            assert_eq!(write(SysReg::new(2, 0, 0, 3, op2), 0), Outcome::Undefined);
        }
        // Wrong direction.
        for reg in [
            OSLAR_EL1,
            ICC_DIR_EL1,
            ICC_SGI1R_EL1,
            ICC_ASGI1R_EL1,
            ICC_SGI0R_EL1,
        ] {
            assert_eq!(read(reg), Outcome::Undefined, "{reg:?}");
        }
        for reg in [OSLSR_EL1, CNTPCT_EL0, SysReg::new(3, 0, 0, 4, 0)] {
            assert_eq!(write(reg, 0), Outcome::Undefined, "{reg:?}");
        }
    }

    #[test]
    fn every_name_has_an_answer() {
        let ids = IdValues::new(|_| u64::MAX, 40, false);
        for bits in 0..1_u32 << 16 {
            let part = |low: u32, width: u32| (bits >> low & ((1 << width) - 1)) as u8;
            let reg = SysReg::new(part(14, 2), part(11, 3), part(7, 4), part(3, 4), part(0, 3));
            assert!(!matches!(access(reg, Some(1), &ids), Outcome::Value(_)));
            assert!(!matches!(
                access(reg, None, &ids),
                Outcome::Ignored | Outcome::Sgi(..) | Outcome::Deactivate(_)
            ));
        }
    }

    #[test]
    fn the_physical_timer() {
        for (op2, which) in [
            (0, TimerRegister::TimerValue),
            (1, TimerRegister::Control),
            (2, TimerRegister::CompareValue),
        ] {
            let reg = SysReg::new(3, 3, 14, 2, op2);
            assert_eq!(read(reg), Outcome::PhysicalTimer(which, None));
            assert_eq!(write(reg, 5), Outcome::PhysicalTimer(which, Some(5)));
        }
        assert_eq!(
            read(CNTPCT_EL0),
            Outcome::PhysicalTimer(TimerRegister::Count, None)
        );
    }

    #[test]
    fn what_traps_together_with_deactivation() {
        use InterfaceRegister::{Control, PriorityMask, RunningPriority};
        for (reg, which) in [
            (ICC_CTLR_EL1, Control),
            (ICC_PMR_EL1, PriorityMask),
            (ICC_RPR_EL1, RunningPriority),
        ] {
            assert_eq!(read(reg), Outcome::Interface(which, None));
        }
        for (reg, which) in [(ICC_CTLR_EL1, Control), (ICC_PMR_EL1, PriorityMask)] {
            assert_eq!(write(reg, 2), Outcome::Interface(which, Some(2)));
        }
        assert_eq!(write(ICC_RPR_EL1, 2), Outcome::Undefined);
    }

    #[test]
    fn what_the_vgic_is_to_do() {
        for (reg, outcome) in [
            (ICC_SGI1R_EL1, Outcome::Sgi(SgiRegister::Sgi1r, 0x0700_000b)),
            (
                ICC_ASGI1R_EL1,
                Outcome::Sgi(SgiRegister::Asgi1r, 0x0700_000b),
            ),
            (ICC_SGI0R_EL1, Outcome::Sgi(SgiRegister::Sgi0r, 0x0700_000b)),
            (ICC_DIR_EL1, Outcome::Deactivate(0x0700_000b)),
        ] {
            assert_eq!(write(reg, 0x0700_000b), outcome);
        }
    }
}
