// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The syndrome of an exception taken to EL2: ESR_EL2, HPFAR_EL2 and FAR_EL2 (their descriptions in the Arm ARM, part D).
//!
//! The values come from the hardware and the meaning from the Arm ARM. Every bit pattern decodes to something, and the
//! decisions are elsewhere.

use core::fmt;
use mediator::addr::Ipa;
use postern_base::mmio::AccessSize;

/// A virtual address of a guest, as FAR_ELx and ELR_ELx hold it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct GuestVa(u64);

impl GuestVa {
    /// Holds this address.
    #[inline]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// Returns the numeric value.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the address `bytes` further on; wraps as the program counter does.
    #[inline]
    pub const fn wrapping_add(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl fmt::Debug for GuestVa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuestVa({:#x})", self.0)
    }
}

/// Exception classes: ESR_ELx.EC (DDI 0487, D24.2.40).
pub mod class {
    /// WFI or WFE.
    pub const WFX: u8 = 0x01;
    /// FP or SIMD.
    pub const FP: u8 = 0x07;
    /// HVC in AArch64 state.
    pub const HVC: u8 = 0x16;
    /// SMC in AArch64 state.
    pub const SMC: u8 = 0x17;
    /// MSR, MRS or a system instruction in AArch64 state.
    pub const SYSTEM_REGISTER: u8 = 0x18;
    /// SVE.
    pub const SVE: u8 = 0x19;
    /// An instruction abort from a lower exception level.
    pub const INSTRUCTION_ABORT_LOWER: u8 = 0x20;
    /// A data abort from a lower exception level.
    pub const DATA_ABORT_LOWER: u8 = 0x24;
}

/// A value of ESR_ELx.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Esr(u64);

impl Esr {
    /// Holds this syndrome.
    #[inline]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// Returns the numeric value.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the exception class, bits 31:26.
    #[inline]
    pub const fn class(self) -> u8 {
        (self.0 >> 26 & 0x3f) as u8
    }

    /// Returns the length of the trapped instruction in bytes (IL): 2 for a 16-bit T32 one, else 4.
    #[inline]
    pub const fn instruction_length(self) -> u64 {
        if self.bit(25) { 4 } else { 2 }
    }

    const fn bit(self, bit: u32) -> bool {
        self.0 >> bit & 1 == 1
    }

    const fn field(self, low: u32, width: u32) -> u64 {
        self.0 >> low & ((1 << width) - 1)
    }
}

impl fmt::Debug for Esr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Esr({:#x})", self.0)
    }
}

/// A value of HPFAR_EL2: the page of the faulting IPA, where the fault provides one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Hpfar(u64);

impl Hpfar {
    /// Holds this register value.
    #[inline]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// Returns the start of the page of the faulting IPA: FIPA, bits 47:4, holds address bits 55:12.
    #[inline]
    pub const fn page(self) -> Ipa {
        Ipa::new((self.0 & 0xffff_ffff_fff0) << 8)
    }
}

/// The number of a general-purpose register, 0 to 31; 31 is the zero register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Gpr(u8);

impl Gpr {
    /// Returns the register whose number is the low five bits of `number`.
    #[inline]
    pub const fn new(number: u64) -> Self {
        Self((number & 0x1f) as u8)
    }

    /// Returns where the register lies among X0 to X30; `None` for the zero register, which reads zero and forgets what
    /// is written.
    #[inline]
    pub const fn index(self) -> Option<usize> {
        if self.0 < 31 {
            Some(self.0 as usize)
        } else {
            None
        }
    }
}

/// Why a memory access faulted: DFSC or IFSC, bits 5:0 of the ISS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The output address is too large.
    AddressSize,
    /// Nothing is mapped there: the ordinary case of emulated devices.
    Translation,
    /// The access flag is clear.
    AccessFlag,
    /// The mapping forbids the access.
    Permission,
    /// The bus answered with an error; on the access itself or on a table walk.
    External,
    /// A misaligned access to Device memory.
    Alignment,
    /// Any other code: TLB conflict, unsupported atomic, lockdown, parity and such.
    Other(u8),
}

impl Fault {
    /// Returns the meaning of a six-bit fault status code.
    #[inline]
    pub const fn from_status(code: u64) -> Self {
        match code & 0x3f {
            // Level -1 has codes of its own (FEAT_LPA2).
            0x00..=0x03 | 0x29 => Self::AddressSize,
            0x04..=0x07 | 0x2b => Self::Translation,
            0x08..=0x0b => Self::AccessFlag,
            0x0c..=0x0f => Self::Permission,
            0x10 | 0x13..=0x17 => Self::External,
            0x21 => Self::Alignment,
            other => Self::Other(other as u8),
        }
    }

    /// Returns whether HPFAR_EL2 holds the IPA of a fault with this reason (Arm ARM, HPFAR_EL2): always for those that
    /// the walk of stage 2 itself finds. A permission fault leaves it UNKNOWN unless it was the walk of stage 1 that
    /// faulted.
    const fn gives_ipa(self, on_stage_1_walk: bool) -> bool {
        match self {
            Self::AddressSize | Self::Translation | Self::AccessFlag => true,
            Self::Permission => on_stage_1_walk,
            _ => false,
        }
    }
}

/// What the syndrome says of the load or store instruction (ISV is 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The width of the access.
    pub size: AccessSize,
    /// The register to store from or to load into.
    pub register: Gpr,
    /// Whether a load sign-extends (SSE).
    pub sign_extend: bool,
    /// Whether a load fills 64 bits of the register, or clears the upper 32 (SF).
    pub sixty_four: bool,
}

impl Transfer {
    /// Returns what a syndrome says whose ISV is 1.
    #[inline]
    const fn decode(esr: Esr) -> Self {
        Self {
            size: AccessSize::from_sas(esr.field(22, 2)),
            register: Gpr::new(esr.field(16, 5)),
            sign_extend: esr.bit(21),
            sixty_four: esr.bit(15),
        }
    }
}

/// A data abort from a lower exception level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataAbort {
    /// The guest's virtual address, from FAR_EL2; `None` where the hardware gives none (FnV).
    pub va: Option<GuestVa>,
    /// The guest's physical address, to the byte (to the page where `stage_1_walk`); `None`
    /// where HPFAR_EL2 is not valid, so that it takes a translation of `va` to find it.
    pub ipa: Option<Ipa>,
    /// Whether it was a write. A cache maintenance instruction counts as one.
    pub write: bool,
    /// The instruction, where the syndrome describes it. `None` for those that no device can
    /// be given: pairs, exclusives, write-back, vectors, cache maintenance.
    pub transfer: Option<Transfer>,
    /// Whether the walk of the guest's own tables faulted rather than the access (S1PTW).
    pub stage_1_walk: bool,
    /// Whether a cache maintenance or address translation instruction faulted (CM).
    pub cache_maintenance: bool,
    /// The reason.
    pub fault: Fault,
}

/// An instruction abort from a lower exception level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstructionAbort {
    /// The guest's virtual address, from FAR_EL2; `None` where the hardware gives none (FnV).
    pub va: Option<GuestVa>,
    /// The guest's physical address, as in [`DataAbort::ipa`].
    pub ipa: Option<Ipa>,
    /// Whether the walk of the guest's own tables faulted rather than the fetch (S1PTW).
    pub stage_1_walk: bool,
    /// The reason.
    pub fault: Fault,
}

/// The name of a system register: the five numbers of its `S<op0>_<op1>_C<CRn>_C<CRm>_<op2>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SysReg {
    /// 2 for debug and trace, 3 for the others; 1 for system instructions.
    pub op0: u8,
    /// 0 to 7.
    pub op1: u8,
    /// 0 to 15.
    pub crn: u8,
    /// 0 to 15.
    pub crm: u8,
    /// 0 to 7.
    pub op2: u8,
}

impl SysReg {
    /// Returns the register with these numbers.
    pub const fn new(op0: u8, op1: u8, crn: u8, crm: u8, op2: u8) -> Self {
        Self {
            op0,
            op1,
            crn,
            crm,
            op2,
        }
    }
}

impl fmt::Debug for SysReg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            op0,
            op1,
            crn,
            crm,
            op2,
        } = self;
        write!(f, "S{op0}_{op1}_C{crn}_C{crm}_{op2}")
    }
}

/// A trapped MRS, MSR or system instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SysRegAccess {
    /// The register.
    pub reg: SysReg,
    /// The general-purpose register to read from or to write to.
    pub rt: Gpr,
    /// Whether the guest writes the system register.
    pub write: bool,
}

impl SysRegAccess {
    /// Returns what a syndrome of the class [`class::SYSTEM_REGISTER`] says.
    #[inline]
    pub const fn decode(esr: Esr) -> Self {
        Self {
            reg: SysReg::new(
                esr.field(20, 2) as u8,
                esr.field(14, 3) as u8,
                esr.field(10, 4) as u8,
                esr.field(1, 4) as u8,
                esr.field(17, 3) as u8,
            ),
            rt: Gpr::new(esr.field(5, 5)),
            write: !esr.bit(0),
        }
    }
}

/// A load or store that no memory answers, and a device might: stage 2 maps nothing there, and the syndrome describes the
/// instruction (ISV is 1).
///
/// These are nearly all exits that are not calls, so they are recognised before all others: [`Trap::decode`] would write
/// the same into a larger value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceAccess {
    /// The guest's physical address.
    pub ipa: Ipa,
    /// The instruction.
    pub transfer: Transfer,
    /// Whether it is a store.
    pub write: bool,
    /// The guest's virtual address, as in [`DataAbort::va`].
    pub va: Option<GuestVa>,
}

impl DeviceAccess {
    /// Decodes the three registers. Returns `None` for every other exception.
    #[inline]
    pub const fn decode(esr: Esr, hpfar: Hpfar, far: GuestVa) -> Option<Self> {
        // Class, ISV and S1PTW: ISV is not to be believed for a fault that is not the access's own.
        const MASK: u64 = 0x3f << 26 | 1 << 24 | 1 << 7;
        const WANTED: u64 = (class::DATA_ABORT_LOWER as u64) << 26 | 1 << 24;
        // Translation faults at levels 0 to 3; at level -1 (FEAT_LPA2).
        let is_translation = esr.field(2, 4) == 1 || esr.field(0, 6) == 0x2b;
        if esr.get() & MASK != WANTED || !is_translation {
            return None;
        }
        Some(Self {
            ipa: Ipa::new(hpfar.page().get() | far.get() & 0xfff),
            transfer: Transfer::decode(esr),
            write: esr.bit(6),
            va: if esr.bit(10) { None } else { Some(far) },
        })
    }
}

/// The cause of a synchronous exception from a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// HVC from AArch64. ELR_EL2 is past the instruction.
    Hvc {
        /// The immediate; the SMC calling convention wants 0.
        imm: u16,
    },
    /// SMC from AArch64, trapped by HCR_EL2.TSC. ELR_EL2 is at the instruction.
    Smc {
        /// The immediate; the SMC calling convention wants 0.
        imm: u16,
    },
    /// WFI, or WFIT, whose timeout the guest is told not to have.
    Wfi,
    /// WFE or WFET.
    Wfe,
    /// A load or store that stage 2 refused.
    DataAbort(DataAbort),
    /// A fetch that stage 2 refused.
    InstructionAbort(InstructionAbort),
    /// MRS, MSR or a system instruction.
    SysReg(SysRegAccess),
    /// Floating point or Advanced SIMD, trapped by CPTR_EL2.TFP.
    Fp,
    /// SVE, trapped by CPTR_EL2.TZ.
    Sve,
    /// Any other exception class: an undefined instruction to the guest, or a bug in EL2.
    Other(u8),
}

/// The name of the cause alone: this is for a log, and a derived `Debug` would be more code than the decoder.
impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hvc { .. } => "Hvc",
            Self::Smc { .. } => "Smc",
            Self::Wfi => "Wfi",
            Self::Wfe => "Wfe",
            Self::DataAbort(_) => "DataAbort",
            Self::InstructionAbort(_) => "InstructionAbort",
            Self::SysReg(_) => "SysReg",
            Self::Fp => "Fp",
            Self::Sve => "Sve",
            Self::Other(class) => return write!(f, "Other({class})"),
        })
    }
}

impl Trap {
    /// Decodes the three registers. `hpfar` and `far` matter to aborts only.
    pub const fn decode(esr: Esr, hpfar: Hpfar, far: GuestVa) -> Self {
        match esr.class() {
            class::WFX if esr.bit(0) => Self::Wfe,
            class::WFX => Self::Wfi,
            class::FP => Self::Fp,
            class::HVC => Self::Hvc {
                imm: esr.field(0, 16) as u16,
            },
            class::SMC => Self::Smc {
                imm: esr.field(0, 16) as u16,
            },
            class::SYSTEM_REGISTER => Self::SysReg(SysRegAccess::decode(esr)),
            class::SVE => Self::Sve,
            class::INSTRUCTION_ABORT_LOWER => {
                let (va, ipa, fault) = addresses(esr, hpfar, far);
                Self::InstructionAbort(InstructionAbort {
                    va,
                    ipa,
                    stage_1_walk: esr.bit(7),
                    fault,
                })
            }
            class::DATA_ABORT_LOWER => {
                let (va, ipa, fault) = addresses(esr, hpfar, far);
                let stage_1_walk = esr.bit(7);
                // ISV is not to be believed for a fault that is not the access's own.
                let transfer = if esr.bit(24) && !stage_1_walk {
                    Some(Transfer::decode(esr))
                } else {
                    None
                };
                Self::DataAbort(DataAbort {
                    va,
                    ipa,
                    write: esr.bit(6),
                    transfer,
                    stage_1_walk,
                    cache_maintenance: esr.bit(8),
                    fault,
                })
            }
            class => Self::Other(class),
        }
    }
}

const fn addresses(esr: Esr, hpfar: Hpfar, far: GuestVa) -> (Option<GuestVa>, Option<Ipa>, Fault) {
    let fault = Fault::from_status(esr.field(0, 6));
    let on_stage_1_walk = esr.bit(7);
    let far_is_invalid = esr.bit(10);
    let va = if far_is_invalid { None } else { Some(far) };
    let ipa = if fault.gives_ipa(on_stage_1_walk) {
        // The walk faulted on a descriptor, whose offset in the page nothing tells.
        let offset = if on_stage_1_walk {
            0
        } else {
            far.get() & 0xfff
        };
        Some(Ipa::new(hpfar.page().get() | offset))
    } else {
        None
    };
    (va, ipa, fault)
}

#[cfg(test)]
mod tests;
