// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The context of a vCPU: its share of a pCPU's registers, put on and taken off when vCPUs are switched.
//!
//! What EL2 and TF-A do not touch stays in the registers across exits; only a switch saves it.

use super::registers::{
    CNTPOFF_EL2, FPCR, FPSR, HACR_EL2, HCRX_EL2, HDFGRTR2_EL2, HDFGWTR2_EL2, HFGITR2_EL2,
    HFGRTR2_EL2, HFGWTR2_EL2, HSTR_EL2, MPAM2_EL2, MPAMHCR_EL2, MPAMIDR_EL1, PMCR_EL0, SMCR_EL2,
    VPIDR_EL2, VSESR_EL2, ZCR_EL2, read_register, write_register,
};
use super::sve::{self, SveState};
use super::{barrier, debug, virtual_interface};
use aarch64_cpu::registers::*;
use core::arch::asm;
use postern_base::sve::{VectorLength, VectorLengths};
use postern_exceptions::inject::Spsr;
use postern_exceptions::registers::controls;
use postern_exceptions::registers::features::CpuFeatures;
use postern_exceptions::switched_registers;

// The keys of pointer authentication are the running vCPU's while EL2 runs. EL2 does not use them: SCTLR_EL2 as
// `entry.S` sets it has EnIA, EnIB, EnDA and EnDB clear, which makes the instructions of compilers do nothing.
const _: () = assert!(!cfg!(any(target_feature = "paca", target_feature = "pacg")));

/// A guest's general registers while EL2 runs: pushed by `vectors.S`, at the top of the stack.
#[repr(C)]
#[derive(Clone)]
pub struct Frame {
    /// x0..x30.
    pub x: [u64; 31],
    /// The address at which the guest continues (ELR_EL2).
    pub pc: u64,
    /// The guest's PSTATE (SPSR_EL2).
    pub pstate: u64,
    reserved: u64,
}

const _: () = assert!(size_of::<Frame>() == 272, "vectors.S knows this size");

/// The head of a [`Frame`], for a call (SMCCC): its arguments and its results. Of the rest of the frame
/// only what calls leave as it was is there.
#[repr(C)]
pub struct CallFrame {
    /// x0..x7.
    pub x: [u64; 8],
    /// x8..x17, which only calls of FF-A use.
    pub more: [u64; 10],
}

impl CallFrame {
    /// Has the guest execute the instruction of this call again, after the interrupts that it takes before. For a call
    /// alone, whose return address EL2 keeps in its register.
    #[inline]
    pub fn repeat(&mut self) {
        // The address of the instruction behind an SMC or HVC, which have four bytes.
        ELR_EL2.set(ELR_EL2.get().wrapping_sub(4));
    }
}

/// PSTATE of a vCPU at its start: EL1h, all interrupts masked (PSCI DEN0022, 6.4).
pub const PSTATE_EL1H_MASKED: u64 = 0x3c5;

impl Frame {
    /// Returns the frame of a vCPU that starts at `pc` with `x0`, at EL1 with all interrupts masked.
    pub fn start(pc: u64, x0: u64) -> Self {
        let mut x = [0; 31];
        x[0] = x0;
        Self {
            x,
            pc,
            pstate: PSTATE_EL1H_MASKED,
            reserved: 0,
        }
    }

    /// Takes over all registers of another frame. In pairs: as `memcpy` does it, word by word, this would be a tenth of a
    /// switch of vCPUs.
    pub fn copy_from(&mut self, other: &Self) {
        // SAFETY: reads and writes the 272 bytes of a frame each.
        unsafe {
            asm!(
                ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16",
                "ldp {low}, {high}, [{from}, #(16 * \\n)]",
                "stp {low}, {high}, [{to}, #(16 * \\n)]",
                ".endr",
                low = out(reg) _,
                high = out(reg) _,
                from = in(reg) core::ptr::from_ref(other),
                to = in(reg) core::ptr::from_mut(self),
                options(nostack, preserves_flags),
            );
        }
    }

    /// Skips an instruction of `bytes` bytes, as if the guest had executed it. The instruction may be the last one of
    /// the address space: the address wraps as the program counter does.
    #[inline]
    pub const fn skip(&mut self, bytes: u64) {
        self.pc = self.pc.wrapping_add(bytes);
        self.pstate = Spsr::new(self.pstate).after_instruction().get();
    }

    /// Steps back to the last instruction, of `bytes` bytes, which the guest executes again.
    #[inline]
    pub const fn step_back(&mut self, bytes: u64) {
        self.pc = self.pc.wrapping_sub(bytes);
    }

    /// Returns register `index` as an instruction names it: 31 is the zero register.
    pub fn register(&self, index: u8) -> u64 {
        self.x.get(usize::from(index)).copied().unwrap_or(0)
    }

    /// Sets register `index`; 31 swallows the value.
    pub fn set_register(&mut self, index: u8, value: u64) {
        if let Some(register) = self.x.get_mut(usize::from(index)) {
            *register = value;
        }
    }
}

/// FP and SIMD registers.
#[repr(C, align(16))]
struct Simd {
    q: [[u64; 2]; 32],
    fpcr: u64,
    fpsr: u64,
}

macro_rules! context {
    ($($feature:ident { $($field:ident = $reset:literal,)+ })+) => {
        /// The registers of `exceptions/src/registers/switched.rs`, while their vCPU does not run.
        #[repr(C)]
        struct Registers {
            $($($field: u64,)+)+
        }

        impl Registers {
            const fn new() -> Self {
                Self { $($($field: $reset,)+)+ }
            }

            fn save(&mut self, features: CpuFeatures) {
                $(for_feature!($feature, features, {
                    save_pairs!(self, $($field)+);
                });)+
            }

            /// Loads all registers but those that make the CPU walk tables.
            fn load(&self, features: CpuFeatures) {
                $(before_translation!($feature, features, {
                    load_pairs!(self, $($field)+);
                });)+
            }

            /// Loads the registers that make the CPU walk tables.
            fn load_translation(&self) {
                $(only_translation!($feature, {
                    load_pairs!(self, $($field)+);
                });)+
            }
        }
    };
}

/// Reads registers of a vCPU. Two at a time, as the compiler stores neighbours by one instruction if nothing stands between.
macro_rules! save_pairs {
    ($to:ident, $first:ident $second:ident $($rest:ident)*) => {
        let (first, second): (u64, u64);
        // SAFETY: MRS of registers of EL1 and EL0, which the pCPU has, without side effect.
        unsafe {
            asm!(".arch armv9.6-a+sme",
                concat!("mrs {}, ", stringify!($first)), concat!("mrs {}, ", stringify!($second)),
                out(reg) first, out(reg) second, options(nomem, nostack, preserves_flags));
        }
        ($to.$first, $to.$second) = (first, second);
        save_pairs!($to, $($rest)*);
    };
    ($to:ident, $last:ident) => {
        $to.$last = read_register!(stringify!($last));
    };
    ($to:ident,) => {};
}

/// Writes registers of a vCPU, two at a time.
macro_rules! load_pairs {
    ($from:ident, $first:ident $second:ident $($rest:ident)*) => {
        // SAFETY: MSR of registers of EL1 and EL0, which the pCPU has, and on which nothing of EL2 depends.
        unsafe {
            asm!(".arch armv9.6-a+sme",
                concat!("msr ", stringify!($first), ", {}"), concat!("msr ", stringify!($second), ", {}"),
                in(reg) $from.$first, in(reg) $from.$second, options(nomem, nostack, preserves_flags));
        }
        load_pairs!($from, $($rest)*);
    };
    ($from:ident, $last:ident) => {
        write_register!(stringify!($last), $from.$last);
    };
    ($from:ident,) => {};
}

/// Runs a block if the pCPU has a feature.
macro_rules! for_feature {
    (always, $features:ident, $then:block) => {
        $then
    };
    (translation, $features:ident, $then:block) => {
        $then
    };
    ($feature:ident, $features:ident, $then:block) => {
        if $features.contains(CpuFeatures::$feature) $then
    };
}

macro_rules! before_translation {
    (translation, $features:ident, $then:block) => {};
    ($feature:ident, $features:ident, $then:block) => {
        for_feature!($feature, $features, $then)
    };
}

macro_rules! only_translation {
    (translation, $then:block) => {
        $then
    };
    ($feature:ident, $then:block) => {};
}

switched_registers!(context);

/// The FP, SIMD and SVE registers of a vCPU.
#[allow(
    clippy::large_enum_variant,
    reason = "a pointer more on the way of most vCPUs' switches saves nothing"
)]
enum Vectors {
    /// Of a VM without SVE: switched with the other registers.
    Simd(Simd),
    /// Of a VM with SVE: put on the pCPU when they are used.
    Sve(SveState),
}

/// The state of a vCPU outside its frame and outside the vGIC.
pub struct Context {
    registers: Registers,
    /// CNTV_CTL_EL0.
    pub timer_control: u64,
    /// CNTV_CVAL_EL0, in the guest's ticks.
    pub timer_compare: u64,
    /// The virtual GIC interface without its list registers.
    pub interface: virtual_interface::Interface,
    vectors: Vectors,
}

impl Context {
    /// Holds the registers of a vCPU that was just turned on. With SVE of some length, allocates memory for its state.
    pub fn new(sve: Option<VectorLength>) -> Self {
        Self {
            registers: Registers::new(),
            timer_control: 0,
            timer_compare: 0,
            interface: virtual_interface::Interface::new(),
            vectors: match sve {
                None => Vectors::Simd(Simd::new()),
                Some(length) => Vectors::Sve(SveState::new(length)),
            },
        }
    }

    /// Returns the registers to those of a vCPU that was just turned on. Allocates nothing.
    pub fn reset(&mut self) {
        self.registers = Registers::new();
        (self.timer_control, self.timer_compare) = (0, 0);
        self.interface = virtual_interface::Interface::new();
        match &mut self.vectors {
            Vectors::Simd(simd) => *simd = Simd::new(),
            Vectors::Sve(state) => state.reset(),
        }
    }

    /// Puts the running vCPU's vector state on this pCPU after a use of it trapped. Returns `false` where the VM has no
    /// SVE, whose FP and SIMD registers are there already.
    pub fn load_vectors(&self) -> bool {
        match &self.vectors {
            Vectors::Simd(_) => false,
            Vectors::Sve(state) => {
                state.load();
                true
            }
        }
    }

    /// Takes the running vCPU's vector state, which [`Context::load_vectors`] put there, off this pCPU.
    pub fn save_vectors(&mut self) {
        if let Vectors::Sve(state) = &mut self.vectors {
            state.save();
        }
    }

    /// Takes the running vCPU's registers off this pCPU, which has these features. The vector state of a VM with SVE
    /// is off already.
    pub fn save(&mut self, features: CpuFeatures) {
        self.registers.save(features);
        super::stage2::walk_nothing();
        self.timer_control = CNTV_CTL_EL0.get();
        self.timer_compare = CNTV_CVAL_EL0.get();
        // The next vCPU must not get this one's interrupt.
        CNTV_CTL_EL0.set(0);
        virtual_interface::this().save(&mut self.interface);
        match &mut self.vectors {
            Vectors::Simd(simd) => simd.save(),
            Vectors::Sve(_) => sve::leave(),
        }
    }

    /// Puts a vCPU's registers on this pCPU, which has these features and walks no tables yet.
    ///
    /// Whatever the CPU translates by speculation until then it must not keep: so all else comes first, stage 2 too, and
    /// only then stage 1. This is the order of Linux's KVM, for the errata that [`controls::no_walks`] names.
    pub fn load(&self, machine: &VcpuEl2Regs, features: CpuFeatures) {
        self.registers.load(features);
        VPIDR_EL2.set(MIDR_EL1.get());
        VMPIDR_EL2.set(machine.mpidr);
        VTTBR_EL2.set(machine.vttbr);
        CNTVOFF_EL2.set(machine.counter_offset);
        CNTV_CVAL_EL0.set(self.timer_compare);
        CNTV_CTL_EL0.set(self.timer_control);
        virtual_interface::this().load(&self.interface);
        match &self.vectors {
            Vectors::Simd(simd) => simd.load(),
            Vectors::Sve(_) => sve::close(),
        }
        barrier::isb();
        self.registers.load_translation();
        barrier::isb();
    }
}

/// The EL2 registers that belong to a vCPU and never change: its view of the machine.
#[derive(Clone, Copy)]
pub struct VcpuEl2Regs {
    /// VMPIDR_EL2: its MPIDR_EL1, with the RES1 bit.
    pub mpidr: u64,
    /// VTTBR_EL2: its stage 2 and VMID.
    pub vttbr: u64,
    /// CNTVOFF_EL2: the lag of its counter behind the physical one, in ticks.
    pub counter_offset: u64,
}

/// Sets up what EL2 traps and how it translates, on this pCPU with these features, once. Returns the lengths of SVE's
/// vectors.
pub fn init_traps(features: CpuFeatures) -> VectorLengths {
    VTCR_EL2.set(super::stage2::vtcr());
    super::stage2::walk_nothing();
    HCR_EL2.set(controls::hcr::guest(features));
    CPTR_EL2.set(controls::cptr::SET_UP);
    barrier::isb();
    let lengths = init_newer(features);
    CPTR_EL2.set(controls::cptr::GUEST);
    let counters = if features.contains(CpuFeatures::PMU) {
        controls::mdcr::hpmn(PMCR_EL0.get())
    } else {
        0
    };
    MDCR_EL2.set(controls::mdcr::GUEST | counters);
    HSTR_EL2.set(controls::HSTR);
    // No implementation defined trap is set.
    HACR_EL2.set(0);
    CNTHCTL_EL2.set(controls::CNTHCTL);
    CNTV_CTL_EL0.set(0);
    debug::init();
    barrier::isb();
    lengths
}

/// Writes the registers of EL2 that only newer CPUs have: what firmware left there must not count.
fn init_newer(features: CpuFeatures) -> VectorLengths {
    if features.contains(CpuFeatures::HCX) {
        HCRX_EL2.set(controls::HCRX);
    }
    if features.contains(CpuFeatures::FGT) {
        HFGRTR_EL2.set(controls::FINE_GRAINED);
        HFGWTR_EL2.set(controls::FINE_GRAINED);
        HFGITR_EL2.set(controls::FINE_GRAINED);
        HDFGRTR_EL2.set(controls::FINE_GRAINED);
        HDFGWTR_EL2.set(controls::FINE_GRAINED);
        if features.contains(CpuFeatures::AMU) {
            HAFGRTR_EL2.set(controls::FINE_GRAINED);
        }
    }
    if features.contains(CpuFeatures::FGT2) {
        HDFGRTR2_EL2.set(controls::FINE_GRAINED);
        HDFGWTR2_EL2.set(controls::FINE_GRAINED);
        HFGRTR2_EL2.set(controls::FINE_GRAINED);
        HFGWTR2_EL2.set(controls::FINE_GRAINED);
        HFGITR2_EL2.set(controls::FINE_GRAINED);
    }
    if features.contains(CpuFeatures::COUNTER_OFFSET) {
        CNTPOFF_EL2.set(controls::CNTPOFF);
    }
    if features.contains(CpuFeatures::MPAM) {
        MPAM2_EL2.set(controls::MPAM2);
        if MPAMIDR_EL1.get() & controls::MPAMIDR_HAS_HCR != 0 {
            MPAMHCR_EL2.set(controls::MPAMHCR);
        }
    }
    if features.contains(CpuFeatures::RAS) {
        VSESR_EL2.set(0);
    }
    let mut lengths = VectorLengths::NONE;
    if features.contains(CpuFeatures::SVE) {
        lengths = sve::lengths();
        ZCR_EL2.set(0);
    }
    if features.contains(CpuFeatures::SME) {
        SMCR_EL2.set(0);
    }
    barrier::isb();
    lengths
}

impl Simd {
    const fn new() -> Self {
        Self {
            q: [[0; 2]; 32],
            fpcr: 0,
            fpsr: 0,
        }
    }

    fn save(&mut self) {
        // SAFETY: 512 bytes at `q` belong to `self`; EL2 is compiled without FP registers.
        unsafe {
            asm!(
                ".arch_extension fp", ".arch_extension simd",
                "stp q0, q1, [{0}, #0]", "stp q2, q3, [{0}, #32]",
                "stp q4, q5, [{0}, #64]", "stp q6, q7, [{0}, #96]",
                "stp q8, q9, [{0}, #128]", "stp q10, q11, [{0}, #160]",
                "stp q12, q13, [{0}, #192]", "stp q14, q15, [{0}, #224]",
                "stp q16, q17, [{0}, #256]", "stp q18, q19, [{0}, #288]",
                "stp q20, q21, [{0}, #320]", "stp q22, q23, [{0}, #352]",
                "stp q24, q25, [{0}, #384]", "stp q26, q27, [{0}, #416]",
                "stp q28, q29, [{0}, #448]", "stp q30, q31, [{0}, #480]",
                in(reg) self.q.as_mut_ptr(), options(nostack, preserves_flags),
            );
        }
        self.fpcr = FPCR.get();
        self.fpsr = FPSR.get();
    }

    fn load(&self) {
        // SAFETY: reads 512 bytes of `self`; EL2 is compiled without FP registers.
        unsafe {
            asm!(
                ".arch_extension fp", ".arch_extension simd",
                "ldp q0, q1, [{0}, #0]", "ldp q2, q3, [{0}, #32]",
                "ldp q4, q5, [{0}, #64]", "ldp q6, q7, [{0}, #96]",
                "ldp q8, q9, [{0}, #128]", "ldp q10, q11, [{0}, #160]",
                "ldp q12, q13, [{0}, #192]", "ldp q14, q15, [{0}, #224]",
                "ldp q16, q17, [{0}, #256]", "ldp q18, q19, [{0}, #288]",
                "ldp q20, q21, [{0}, #320]", "ldp q22, q23, [{0}, #352]",
                "ldp q24, q25, [{0}, #384]", "ldp q26, q27, [{0}, #416]",
                "ldp q28, q29, [{0}, #448]", "ldp q30, q31, [{0}, #480]",
                in(reg) self.q.as_ptr(), options(nostack, preserves_flags),
            );
        }
        FPCR.set(self.fpcr);
        FPSR.set(self.fpsr);
    }
}
