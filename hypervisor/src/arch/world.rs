//! A guest's share of a pCPU's registers, put on and taken off when vCPUs are switched.
//!
//! What EL2 and TF-A do not touch stays in the registers across exits; only a switch saves it.

use super::{barrier, ich, read_register, write_register};
use crate::trap::inject::Spsr;
use aarch64_cpu::registers::*;
use core::arch::asm;

/// A guest's general registers while EL2 runs: pushed by `vectors.S`, at the top of the stack.
#[repr(C)]
#[derive(Clone)]
pub struct Frame {
    /// x0..x30.
    pub x: [u64; 31],
    /// Where the guest goes on (ELR_EL2).
    pub pc: u64,
    /// Its PSTATE (SPSR_EL2).
    pub pstate: u64,
    reserved: u64,
}

const _: () = assert!(size_of::<Frame>() == 272, "vectors.S knows this size");

/// The head of a [`Frame`], for a call (SMCCC): what it passes and what it gets. Of the rest of the frame
/// only what calls leave as it was is there.
#[repr(C)]
pub struct CallFrame {
    /// x0..x7.
    pub x: [u64; 8],
}

/// PSTATE of a vCPU at its start: EL1h, all interrupts masked (PSCI DEN0022, 6.4).
pub const PSTATE_EL1H_MASKED: u64 = 0x3c5;
/// SCTLR_EL1 at a vCPU's start: the RES1 bits, MMU and caches off.
const SCTLR_EL1_RESET: u64 = 0x30d0_0800;

impl Frame {
    /// A vCPU that starts at `pc` with `x0`, at EL1 with everything masked.
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

    /// The guest goes on behind an instruction that is so many bytes long, as if it had executed it. Its
    /// address may be the last one: it wraps as the program counter does.
    #[inline]
    pub const fn skip(&mut self, bytes: u64) {
        self.pc = self.pc.wrapping_add(bytes);
        self.pstate = Spsr::new(self.pstate).after_instruction().get();
    }

    /// The guest does an instruction again, which is so many bytes long and was the last one.
    #[inline]
    pub const fn step_back(&mut self, bytes: u64) {
        self.pc = self.pc.wrapping_sub(bytes);
    }

    /// Register `index` as an instruction names it: 31 is the zero register.
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
#[derive(Clone)]
struct Simd {
    q: [[u64; 2]; 32],
    fpcr: u64,
    fpsr: u64,
}

/// Everything of a vCPU that is not in its frame and not the vGIC's.
#[derive(Clone)]
pub struct Context {
    sp_el0: u64,
    sp_el1: u64,
    elr_el1: u64,
    spsr_el1: u64,
    sctlr_el1: u64,
    tcr_el1: u64,
    ttbr0_el1: u64,
    ttbr1_el1: u64,
    mair_el1: u64,
    amair_el1: u64,
    vbar_el1: u64,
    contextidr_el1: u64,
    tpidr_el0: u64,
    tpidrro_el0: u64,
    tpidr_el1: u64,
    cpacr_el1: u64,
    esr_el1: u64,
    far_el1: u64,
    afsr0_el1: u64,
    afsr1_el1: u64,
    par_el1: u64,
    cntkctl_el1: u64,
    csselr_el1: u64,
    /// CNTV_CTL_EL0.
    pub timer_control: u64,
    /// CNTV_CVAL_EL0, in the guest's ticks.
    pub timer_compare: u64,
    /// The virtual GIC interface but for its list registers.
    pub interface: ich::Interface,
    simd: Simd,
}

impl Context {
    /// The registers of a vCPU that was just turned on.
    pub const fn new() -> Self {
        Self {
            sp_el0: 0,
            sp_el1: 0,
            elr_el1: 0,
            spsr_el1: 0,
            sctlr_el1: SCTLR_EL1_RESET,
            tcr_el1: 0,
            ttbr0_el1: 0,
            ttbr1_el1: 0,
            mair_el1: 0,
            amair_el1: 0,
            vbar_el1: 0,
            contextidr_el1: 0,
            tpidr_el0: 0,
            tpidrro_el0: 0,
            tpidr_el1: 0,
            cpacr_el1: 0,
            esr_el1: 0,
            far_el1: 0,
            afsr0_el1: 0,
            afsr1_el1: 0,
            par_el1: 0,
            cntkctl_el1: 0,
            csselr_el1: 0,
            timer_control: 0,
            timer_compare: 0,
            interface: ich::Interface::new(),
            simd: Simd {
                q: [[0; 2]; 32],
                fpcr: 0,
                fpsr: 0,
            },
        }
    }

    /// Takes the running vCPU's registers off this pCPU.
    pub fn save(&mut self) {
        self.sp_el0 = SP_EL0.get();
        self.sp_el1 = SP_EL1.get();
        self.elr_el1 = ELR_EL1.get();
        self.spsr_el1 = SPSR_EL1.get();
        self.sctlr_el1 = SCTLR_EL1.get();
        self.tcr_el1 = TCR_EL1.get();
        self.ttbr0_el1 = TTBR0_EL1.get();
        self.ttbr1_el1 = TTBR1_EL1.get();
        self.mair_el1 = MAIR_EL1.get();
        self.amair_el1 = read_register!("amair_el1");
        self.vbar_el1 = VBAR_EL1.get();
        self.contextidr_el1 = read_register!("contextidr_el1");
        self.tpidr_el0 = TPIDR_EL0.get();
        self.tpidrro_el0 = TPIDRRO_EL0.get();
        self.tpidr_el1 = TPIDR_EL1.get();
        self.cpacr_el1 = CPACR_EL1.get();
        self.esr_el1 = ESR_EL1.get();
        self.far_el1 = FAR_EL1.get();
        self.afsr0_el1 = read_register!("afsr0_el1");
        self.afsr1_el1 = read_register!("afsr1_el1");
        self.par_el1 = PAR_EL1.get();
        self.cntkctl_el1 = CNTKCTL_EL1.get();
        self.csselr_el1 = CSSELR_EL1.get();
        self.timer_control = CNTV_CTL_EL0.get();
        self.timer_compare = CNTV_CVAL_EL0.get();
        // The next vCPU must not get this one's interrupt.
        CNTV_CTL_EL0.set(0);
        ich::save(&mut self.interface);
        self.simd.save();
    }

    /// Puts a vCPU's registers on this pCPU.
    pub fn load(&self, machine: &Machine) {
        SP_EL0.set(self.sp_el0);
        SP_EL1.set(self.sp_el1);
        ELR_EL1.set(self.elr_el1);
        SPSR_EL1.set(self.spsr_el1);
        SCTLR_EL1.set(self.sctlr_el1);
        TCR_EL1.set(self.tcr_el1);
        TTBR0_EL1.set(self.ttbr0_el1);
        TTBR1_EL1.set(self.ttbr1_el1);
        MAIR_EL1.set(self.mair_el1);
        write_register!("amair_el1", self.amair_el1);
        VBAR_EL1.set(self.vbar_el1);
        write_register!("contextidr_el1", self.contextidr_el1);
        TPIDR_EL0.set(self.tpidr_el0);
        TPIDRRO_EL0.set(self.tpidrro_el0);
        TPIDR_EL1.set(self.tpidr_el1);
        CPACR_EL1.set(self.cpacr_el1);
        ESR_EL1.set(self.esr_el1);
        FAR_EL1.set(self.far_el1);
        write_register!("afsr0_el1", self.afsr0_el1);
        write_register!("afsr1_el1", self.afsr1_el1);
        PAR_EL1.set(self.par_el1);
        CNTKCTL_EL1.set(self.cntkctl_el1);
        CSSELR_EL1.set(self.csselr_el1);
        write_register!("vpidr_el2", read_register!("midr_el1"));
        VMPIDR_EL2.set(machine.mpidr);
        VTTBR_EL2.set(machine.vttbr);
        CNTVOFF_EL2.set(machine.counter_offset);
        CNTV_CVAL_EL0.set(self.timer_compare);
        CNTV_CTL_EL0.set(self.timer_control);
        ich::load(&self.interface);
        self.simd.load();
        barrier::isb();
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}

/// What a vCPU sees of the machine: the EL2 registers that belong to it and never change.
#[derive(Clone, Copy)]
pub struct Machine {
    /// Its MPIDR_EL1, with the RES1 bit.
    pub mpidr: u64,
    /// Its stage 2 and VMID.
    pub vttbr: u64,
    /// What its counter lags behind the physical one, in ticks.
    pub counter_offset: u64,
}

/// VTCR_EL2 for 4 KiB pages and a 40-bit IPA space from two concatenated level-1 tables, as
/// `vm::stage2` builds them.
fn vtcr() -> u64 {
    let physical_size = read_register!("id_aa64mmfr0_el1") & 7;
    VTCR_EL2::SL0.val(1).value
        | VTCR_EL2::T0SZ.val(crate::vm::stage2::T0SZ).value
        | VTCR_EL2::IRGN0.val(1).value
        | VTCR_EL2::ORGN0.val(1).value
        | VTCR_EL2::SH0.val(3).value
        | VTCR_EL2::PS.val(physical_size).value
        | 1 << 31
}

/// Sets up what EL2 traps and how it translates, on this pCPU, once.
pub fn init_traps() {
    HCR_EL2.write(
        HCR_EL2::VM::SET
            + HCR_EL2::SWIO::SET
            + HCR_EL2::FMO::SET
            + HCR_EL2::IMO::SET
            + HCR_EL2::AMO::SET
            + HCR_EL2::FB.val(1)
            + HCR_EL2::BSU.val(1)
            + HCR_EL2::TWI.val(1)
            + HCR_EL2::TID3.val(1)
            + HCR_EL2::TSC::EnableTrapEl1SmcToEl2
            + HCR_EL2::TIDCP.val(1)
            + HCR_EL2::TACR.val(1)
            + HCR_EL2::RW::EL1IsAarch64,
    );
    VTCR_EL2.set(vtcr());
    // FP and SIMD are the guest's; SVE, trace and the rest trap. RES1 bits for no-VHE.
    CPTR_EL2.set(0x33ff | 1 << 20);
    // Debug, OS lock, PMU registers trap.
    write_register!(
        "mdcr_el2",
        1 << 11 | 1 << 10 | 1 << 9 | 1 << 6 | 1 << 5 | read_register!("mdcr_el2") & 0x1f
    );
    write_register!("hstr_el2", 0);
    // The virtual counter and the reading of the physical one are the guest's; its timer is not.
    write_register!("cnthctl_el2", 1);
    CNTV_CTL_EL0.set(0);
    barrier::isb();
}

impl Simd {
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
        self.fpcr = read_register!("S3_3_C4_C4_0");
        self.fpsr = read_register!("S3_3_C4_C4_1");
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
        write_register!("S3_3_C4_C4_0", self.fpcr);
        write_register!("S3_3_C4_C4_1", self.fpsr);
    }
}
