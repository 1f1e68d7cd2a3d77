// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Synchronous exceptions that EL2 makes a guest take to its EL1.
//!
//! The hypervisor does here for its own exceptions what the hardware does for others:
//! the pseudocode of AArch64.TakeException in the Arm ARM, for a target of EL1. EL1 is always
//! AArch64 (HCR_EL2.RW is 1); EL0 may be AArch32.

use super::decode::{Esr, GuestVa, class};
use core::fmt;

/// A value of SPSR_ELx: the PSTATE of the interrupted code.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Spsr(u64);

impl Spsr {
    /// Flags N, Z, C and V.
    const NZCV: u64 = 0xf << 28;
    /// Tag check override (FEAT_MTE).
    const TCO: u64 = 1 << 25;
    /// Data independent timing (FEAT_DIT).
    const DIT: u64 = 1 << 24;
    /// Privileged access never (FEAT_PAN).
    const PAN: u64 = 1 << 22;
    /// Software step: the next instruction is executed before the debug exception.
    const SS: u64 = 1 << 21;
    /// Speculative store bypass safe (FEAT_SSBS), where AArch64 has it.
    const SSBS: u64 = 1 << 12;
    /// The type of the branch that led here, where AArch64 has it (FEAT_BTI). In AArch32 the bits are IT's.
    const BTYPE: u64 = 3 << 10;
    /// The masks of debug, SError, IRQ and FIQ.
    const DAIF: u64 = 0xf << 6;
    /// The interrupted code was AArch32.
    const AARCH32: u64 = 1 << 4;
    const MODE: u64 = 0xf;
    const EL1H: u64 = 0b0101;
    /// T32 rather than A32 instructions (AArch32 only).
    const THUMB: u64 = 1 << 5;

    /// Holds this state.
    #[inline]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// Returns the numeric value.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns whether the code ran in AArch32 state.
    #[inline]
    pub const fn is_aarch32(self) -> bool {
        self.0 & Self::AARCH32 != 0
    }

    /// Returns whether the code ran at EL0.
    #[inline]
    pub const fn is_el0(self) -> bool {
        // AArch32 User mode is 0b10000: the same low bits as AArch64's EL0t.
        self.0 & Self::MODE == 0
    }

    /// Returns the state after the instruction is stepped over, as if it had been executed: a single step is done (Arm
    /// ARM, D2.12), a branch is long past (PSTATE.BTYPE), and an If-Then block of T32 moves on by one condition
    /// (AArch32.ITAdvance). Everything else stays.
    #[must_use]
    #[inline]
    pub const fn after_instruction(self) -> Self {
        if !self.is_aarch32() {
            return Self(self.0 & !(Self::SS | Self::BTYPE));
        }
        let stepped = self.0 & !Self::SS;
        if stepped & Self::THUMB == 0 {
            return Self(stepped);
        }
        // IT[7:2] lie in bits 15:10, IT[1:0] in bits 26:25.
        let it = (self.0 >> 8 & 0xfc) | (self.0 >> 25 & 3);
        let next = if it & 7 == 0 {
            0
        } else {
            (it & 0xe0) | (it << 1 & 0x1f)
        };
        let others = stepped & !(0xfc << 8 | 3 << 25);
        Self(others | (next & 0xfc) << 8 | (next & 3) << 25)
    }
}

impl fmt::Debug for Spsr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spsr({:#x})", self.0)
    }
}

/// The state of the interrupted vCPU that decides how it takes an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted {
    /// ELR_EL2: for an undefined instruction and for an abort, the instruction's own address.
    /// (After HVC it is already past it.)
    pub elr: GuestVa,
    /// SPSR_EL2.
    pub spsr: Spsr,
    /// VBAR_EL1.
    pub vbar: GuestVa,
    /// SCTLR_EL1, for SPAN (bit 23) and DSSBS (bit 44).
    pub sctlr: u64,
}

/// The extensions of the CPU that give PSTATE more bits, which are RES0 without them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PstateFeatures {
    /// FEAT_PAN: ID_AA64MMFR1_EL1.PAN is not 0.
    pub pan: bool,
    /// FEAT_SSBS: ID_AA64PFR1_EL1.SSBS is not 0.
    pub ssbs: bool,
    /// FEAT_MTE, of the CPU itself, not as the guest is told: ID_AA64PFR1_EL1.MTE is not 0.
    pub mte: bool,
}

/// An exception to take to EL1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// The instruction is undefined: exception class 0, as for an unallocated one.
    Undefined,
    /// A synchronous external abort of a load, store or cache maintenance: nothing answers
    /// at the address.
    DataAbort {
        /// The faulting address; `None` where the hardware gave none.
        va: Option<GuestVa>,
        /// Whether it was a write.
        write: bool,
    },
    /// A synchronous external abort of a fetch.
    InstructionAbort {
        /// The faulting address; `None` where the hardware gave none.
        va: Option<GuestVa>,
    },
}

/// The registers of a vCPU that has just taken the exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// ELR_EL2: the vector.
    pub elr: GuestVa,
    /// SPSR_EL2: the state in which the vector runs.
    pub spsr: Spsr,
    /// ELR_EL1.
    pub elr_el1: GuestVa,
    /// SPSR_EL1.
    pub spsr_el1: Spsr,
    /// ESR_EL1.
    pub esr_el1: Esr,
    /// FAR_EL1; `None`: leave it as it is.
    pub far_el1: Option<GuestVa>,
}

/// Added to the class of an abort from a lower level: the class of one from the same level.
const SAME_LEVEL: u64 = 1;
/// The fault status of a synchronous external abort that is not on a table walk.
const STATUS_EXTERNAL: u64 = 0x10;
const IL: u64 = 1 << 25;
const FNV: u64 = 1 << 10;
const WNR: u64 = 1 << 6;

const SCTLR_SPAN: u64 = 1 << 23;
const SCTLR_DSSBS: u64 = 1 << 44;

/// Returns how a vCPU that was interrupted so takes `exception` to its EL1.
pub const fn take_exception_to_el1(
    from: &Interrupted,
    exception: Exception,
    features: PstateFeatures,
) -> Taken {
    let (esr_el1, far_el1) = syndrome(exception, !from.spsr.is_el0());
    Taken {
        elr: GuestVa::new((from.vbar.get() & !0x7ff).wrapping_add(vector(from.spsr))),
        spsr: new_state(from, features),
        elr_el1: from.elr,
        spsr_el1: from.spsr,
        esr_el1: Esr::new(esr_el1),
        far_el1,
    }
}

/// Returns the offset of the synchronous vector: current level with SP_EL0, current level with SP_EL1, lower level in
/// AArch64, lower level in AArch32.
const fn vector(spsr: Spsr) -> u64 {
    if spsr.is_aarch32() {
        0x600
    } else if spsr.is_el0() {
        0x400
    } else if spsr.get() & 1 == 1 {
        0x200
    } else {
        0x000
    }
}

const fn new_state(from: &Interrupted, features: PstateFeatures) -> Spsr {
    // SS, IL, BTYPE, UAO and the AArch32 bits come out as zero.
    let mut state = Spsr::EL1H | Spsr::DAIF | (from.spsr.get() & (Spsr::NZCV | Spsr::DIT));
    if features.pan {
        state |= from.spsr.get() & Spsr::PAN;
        if from.sctlr & SCTLR_SPAN == 0 {
            state |= Spsr::PAN;
        }
    }
    if features.ssbs && from.sctlr & SCTLR_DSSBS != 0 {
        state |= Spsr::SSBS;
    }
    if features.mte {
        state |= Spsr::TCO;
    }
    Spsr(state)
}

const fn syndrome(exception: Exception, same_level: bool) -> (u64, Option<GuestVa>) {
    let level = if same_level { SAME_LEVEL } else { 0 };
    // IL is 1 for an unknown reason, for instruction aborts and for data aborts without ISV.
    match exception {
        Exception::Undefined => (IL, None),
        Exception::InstructionAbort { va } => (
            (class::INSTRUCTION_ABORT_LOWER as u64 + level) << 26
                | IL
                | unknown(va)
                | STATUS_EXTERNAL,
            va,
        ),
        Exception::DataAbort { va, write } => (
            (class::DATA_ABORT_LOWER as u64 + level) << 26
                | IL
                | unknown(va)
                | if write { WNR } else { 0 }
                | STATUS_EXTERNAL,
            va,
        ),
    }
}

const fn unknown(va: Option<GuestVa>) -> u64 {
    if va.is_none() { FNV } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: PstateFeatures = PstateFeatures {
        pan: true,
        ssbs: true,
        mte: true,
    };
    const VA: GuestVa = GuestVa::new(0xffff_8000_0900_0000);

    fn from(spsr: u64, sctlr: u64) -> Interrupted {
        Interrupted {
            elr: GuestVa::new(0xffff_8000_1000_0040),
            spsr: Spsr::new(spsr),
            // Bits 10:0 of VBAR_EL1 are RES0, but a guest may have written them.
            vbar: GuestVa::new(0xffff_8000_1001_0fff),
            sctlr,
        }
    }

    #[test]
    fn vectors_and_classes() {
        let read = Exception::DataAbort {
            va: Some(VA),
            write: false,
        };
        for (spsr, offset, data, instruction) in [
            (0x3c5, 0x200, 0x9600_0010, 0x8600_0010), // EL1h
            (0x3c4, 0x000, 0x9600_0010, 0x8600_0010), // EL1t
            (0x000, 0x400, 0x9200_0010, 0x8200_0010), // EL0
            (0x010, 0x600, 0x9200_0010, 0x8200_0010), // EL0, A32
            (0x030, 0x600, 0x9200_0010, 0x8200_0010), // EL0, T32
        ] {
            let taken = take_exception_to_el1(&from(spsr, 0), read, ALL);
            assert_eq!(taken.elr.get(), 0xffff_8000_1001_0800 + offset, "{spsr:#x}");
            assert_eq!(taken.esr_el1.get(), data);
            assert_eq!(taken.far_el1, Some(VA));
            assert_eq!(taken.elr_el1.get(), 0xffff_8000_1000_0040);
            assert_eq!(taken.spsr_el1.get(), spsr);

            let fetch = Exception::InstructionAbort { va: Some(VA) };
            let taken = take_exception_to_el1(&from(spsr, 0), fetch, ALL);
            assert_eq!(taken.esr_el1.get(), instruction);
            assert_eq!(taken.far_el1, Some(VA));

            let taken = take_exception_to_el1(&from(spsr, 0), Exception::Undefined, ALL);
            assert_eq!(taken.esr_el1.get(), 0x0200_0000);
            assert_eq!(taken.far_el1, None);
            assert_eq!(taken.elr.get(), 0xffff_8000_1001_0800 + offset);
        }
    }

    #[test]
    fn details_of_the_syndrome() {
        let write = Exception::DataAbort {
            va: None,
            write: true,
        };
        let taken = take_exception_to_el1(&from(0x3c5, 0), write, ALL);
        assert_eq!(taken.esr_el1.get(), 0x9600_0450, "WnR and FnV");
        assert_eq!(taken.far_el1, None);
        let fetch = Exception::InstructionAbort { va: None };
        assert_eq!(
            take_exception_to_el1(&from(0, 0), fetch, ALL).esr_el1.get(),
            0x8200_0410
        );
    }

    #[test]
    fn the_new_state() {
        let none = PstateFeatures::default();
        // Everything that can be set is; EL0.
        let busy = 0xff_ffff_ffe0;
        let flags = 0xf100_0000;
        for (spsr, sctlr, features, expected) in [
            (0, 0, none, 0x3c5),
            (0, u64::MAX, none, 0x3c5),
            // Flags and DIT stay; SS, IL, BTYPE, UAO, TCO, PAN and SSBS go.
            (busy, u64::MAX, none, flags | 0x3c5),
            // SPAN clear sets PAN; SPAN set leaves it.
            (0, 0, ALL, 0x0240_03c5),
            (0, SCTLR_SPAN, ALL, 0x0200_03c5),
            (busy, SCTLR_SPAN, ALL, flags | 0x0240_03c5),
            // SSBS comes from DSSBS, not from the interrupted code.
            (0, SCTLR_SPAN | SCTLR_DSSBS, ALL, 0x0200_13c5),
        ] {
            let taken = take_exception_to_el1(&from(spsr, sctlr), Exception::Undefined, features);
            assert_eq!(taken.spsr.get(), expected, "{spsr:#x} {sctlr:#x}");
            assert_eq!(taken.spsr_el1.get(), spsr);
        }
        // From AArch32 the T bit and the mode are gone.
        let taken = take_exception_to_el1(
            &from(0x6000_0030, SCTLR_SPAN),
            Exception::Undefined,
            PstateFeatures::default(),
        );
        assert_eq!(taken.spsr.get(), 0x6000_03c5);
    }

    #[test]
    fn an_if_then_block_moves_on() {
        let thumb = |it: u64| Spsr::new(0x30 | (it & 0xfc) << 8 | (it & 3) << 25);
        // ITTE EQ: 0b0000_0110 -> 0b0000_1100 -> 0b0001_1000 -> done.
        let mut state = thumb(0b0000_0110);
        for it in [0b0000_1100, 0b0001_1000, 0, 0] {
            state = state.after_instruction();
            assert_eq!(state, thumb(it));
        }
        // ITTTT EQ, where IT[0] is set: the bit moves and leaves nothing behind.
        let mut state = thumb(0b0000_0001);
        for it in [0b0000_0010, 0b0000_0100, 0b0000_1000, 0] {
            state = state.after_instruction();
            assert_eq!(state, thumb(it));
        }
        // The base condition stays.
        assert_eq!(
            thumb(0b1010_1010).after_instruction(),
            thumb(0b1011_0100),
            "GE, two more"
        );
        for other in [0x3c5, 0x0600_fc10, 0x0600_f000] {
            assert_eq!(Spsr::new(other).after_instruction().get(), other);
        }
    }

    #[test]
    fn an_instruction_that_was_stepped_over_was_executed() {
        // The single step is done, in either state, and BTYPE is zero; in AArch32 its bits are IT's.
        for (before, after) in [
            (0x0020_03c5, 0x03c5),
            (0x0c00 | 0x3c5, 0x3c5),
            (0xf020_0c00, 0xf000_0000),
            (0x0020_0010, 0x0000_0010),
            (0x0020_0c10, 0x0000_0c10),
            (0x0020_0030, 0x0000_0030),
        ] {
            assert_eq!(Spsr::new(before).after_instruction().get(), after);
        }
    }
}
