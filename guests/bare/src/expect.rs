// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Exceptions that a program wants to take, to look at what the hardware says of them.

use crate::exception::Frame;
use crate::{debug, mmu};
use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// What is kept of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Taken {
    /// Which vector: 4 for this level's synchronous one, 8 for EL0's.
    pub vector: u64,
    /// ESR_EL1.
    pub esr: u64,
    /// ELR_EL1.
    pub elr: u64,
    /// SPSR_EL1.
    pub spsr: u64,
    /// FAR_EL1, which does not count for each class.
    pub far: u64,
}

impl Taken {
    /// The exception class.
    pub const fn class(&self) -> u64 {
        self.esr >> 26 & 0x3f
    }
}

/// The most that are kept.
const MOST: usize = 8;
/// PSTATE.SS, PSTATE.IL and PSTATE.D in SPSR_EL1.
const SPSR_SS: u64 = 1 << 21;
const SPSR_IL: u64 = 1 << 20;

/// CPU 0 expects exceptions; others do not.
static EXPECTING: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// How many more single steps are wanted.
static STEPS: AtomicUsize = AtomicUsize::new(0);
static TAKEN: [[AtomicU64; 5]; MOST] = [const { [const { AtomicU64::new(0) }; 5] }; MOST];

global_asm!(include_str!("expect.S"));

unsafe extern "C" {
    fn code_run(code: u64, argument: u64, spsr: u64);
    fn code_back();
    fn code_nops();
    fn code_smc();
    fn code_hvc();
    fn code_counter();
    fn code_debug_register();
    fn code_gic_register();
    fn code_load();
    fn code_store();
    fn code_brk();
    fn code_svc();
    fn code_undefined();
    fn code_jump();
    fn code_el0_svc();
    fn code_el0_nop();
    fn code_el0_undefined();
    fn code_el0_load();
    fn code_el0_counter();
    fn code_el0_mrs();
}

/// A few instructions. Where it matters, `N` is how many come before the last, which returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// Three that do nothing.
    Nops,
    /// `smc #0`, PSCI_VERSION; then one that does nothing.
    Smc,
    /// `hvc #0`, PSCI_VERSION; then one that does nothing.
    Hvc,
    /// A read of CNTPCT_EL0; then one that does nothing.
    Counter,
    /// A read of OSLSR_EL1; then one that does nothing.
    DebugRegister,
    /// A read of ICC_CTLR_EL1; then one that does nothing.
    GicRegister,
    /// A 32-bit load from the address given; then one that does nothing.
    Load,
    /// A 32-bit store to the address given; then one that does nothing.
    Store,
    /// `brk #0x123`.
    Brk,
    /// `svc #0x234`.
    Svc,
    /// `udf #0`.
    Undefined,
    /// A jump to the address given, which has to fault.
    Jump,
    /// At EL0: `svc #0x345`.
    El0Svc,
    /// At EL0: one that does nothing, then `svc #0x345`.
    El0Nop,
    /// At EL0: `udf #0`.
    El0Undefined,
    /// At EL0: a load from the address given.
    El0Load,
    /// At EL0: a read of CNTPCT_EL0, then `svc #0x345`.
    El0Counter,
    /// At EL0: a read of SCTLR_EL1.
    El0Mrs,
}

impl Code {
    /// Returns the address of its first instruction.
    pub fn address(self) -> u64 {
        let code: unsafe extern "C" fn() = match self {
            Self::Nops => code_nops,
            Self::Smc => code_smc,
            Self::Hvc => code_hvc,
            Self::Counter => code_counter,
            Self::DebugRegister => code_debug_register,
            Self::GicRegister => code_gic_register,
            Self::Load => code_load,
            Self::Store => code_store,
            Self::Brk => code_brk,
            Self::Svc => code_svc,
            Self::Undefined => code_undefined,
            Self::Jump => code_jump,
            Self::El0Svc => code_el0_svc,
            Self::El0Nop => code_el0_nop,
            Self::El0Undefined => code_el0_undefined,
            Self::El0Load => code_el0_load,
            Self::El0Counter => code_el0_counter,
            Self::El0Mrs => code_el0_mrs,
        };
        code as *const () as u64
    }

    /// Returns the address of its first instruction as EL0 has it.
    pub fn address_at_el0(self) -> u64 {
        self.address() + mmu::EL0_OFFSET
    }

    const fn is_at_el0(self) -> bool {
        matches!(
            self,
            Self::El0Svc
                | Self::El0Nop
                | Self::El0Undefined
                | Self::El0Load
                | Self::El0Counter
                | Self::El0Mrs
        )
    }
}

/// How [`run`] runs its code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct How {
    /// What the code finds in x0.
    pub argument: u64,
    /// With debug exceptions masked (PSTATE.D).
    pub masked: bool,
    /// So many single steps, from its first instruction on. MDSCR_EL1.SS is to be set.
    pub steps: usize,
    /// In an illegal state (PSTATE.IL).
    pub illegal: bool,
}

/// Runs `code` on CPU 0 and gives the exceptions that it takes, in their order. After a breakpoint or watchpoint
/// MDSCR_EL1.MDE is zero, after the last single step SS is; behind other instructions that fault it goes on.
pub fn run(code: Code, how: How, each: &mut dyn FnMut(Taken)) {
    let first = crate::cpu::index() == 0;
    if first {
        COUNT.store(0, Ordering::Relaxed);
    }
    STEPS.store(how.steps, Ordering::Relaxed);
    EXPECTING.store(first, Ordering::Release);
    // EL1h or EL0t; SError, IRQ and FIQ are masked.
    let level = if code.is_at_el0() { 0 } else { 5 };
    let spsr = level
        | 0b111 << 6
        | u64::from(how.masked) << 9
        | if how.steps > 0 { SPSR_SS } else { 0 }
        | if how.illegal { SPSR_IL } else { 0 };
    let start = if code.is_at_el0() {
        code.address_at_el0()
    } else {
        code.address()
    };
    // SAFETY: `expect.S` has what runs there: it changes registers that a call may change, and the word that
    // `argument` names, which is the caller's to give.
    unsafe { code_run(start, how.argument, spsr) };
    EXPECTING.store(false, Ordering::Release);
    for slot in &TAKEN[..COUNT.load(Ordering::Relaxed).min(MOST)] {
        let [vector, esr, elr, spsr, far] =
            slot.each_ref().map(|word| word.load(Ordering::Relaxed));
        each(Taken {
            vector,
            esr,
            elr,
            spsr,
            far,
        });
    }
}

/// Takes an exception that is expected; `false` for all others.
pub(crate) fn take(frame: &mut Frame) -> bool {
    if !EXPECTING.load(Ordering::Acquire)
        || crate::cpu::index() != 0
        || !matches!(frame.kind, 4 | 8)
    {
        return false;
    }
    let taken = Taken {
        vector: frame.kind,
        esr: frame.esr,
        elr: frame.elr,
        spsr: frame.spsr,
        far: frame.far,
    };
    if let Some(slot) = TAKEN.get(COUNT.fetch_add(1, Ordering::Relaxed)) {
        let words = [taken.vector, taken.esr, taken.elr, taken.spsr, taken.far];
        for (place, word) in slot.iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
    }
    if frame.kind == 8 {
        // EL0's code ends with it.
        frame.elr = code_back as *const () as u64;
        frame.spsr = 0x3c5;
        return true;
    }
    match taken.class() {
        // SVC: behind it already.
        0x15 => {}
        // Illegal state.
        0x0e => frame.spsr &= !SPSR_IL,
        // Undefined, trapped, data abort, BRK.
        0x00 | 0x18 | 0x25 | 0x3c => frame.elr += 4,
        // Instruction abort, misaligned PC: what was jumped to.
        0x21 | 0x22 => frame.elr = frame.x[30],
        // Breakpoint, watchpoint.
        0x31 | 0x35 => debug::set_mdscr(debug::mdscr() & !debug::MDE),
        0x33 => {
            if STEPS.fetch_sub(1, Ordering::Relaxed) > 1 {
                frame.spsr |= SPSR_SS;
            } else {
                debug::set_mdscr(debug::mdscr() & !debug::SS);
            }
        }
        _ => return false,
    }
    true
}

/// Lets EL0 read the physical counter (CNTKCTL_EL1.EL0PCTEN), or not.
pub fn let_el0_read_counter(allowed: bool) {
    // SAFETY: EL0 runs nothing but code of `expect.S`.
    unsafe { asm!("msr cntkctl_el1, {}", "isb", in(reg) u64::from(allowed), options(nostack)) };
}
