// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The vector state of a vCPU whose VM has SVE: Z, P, FFR, FPCR, FPSR and ZCR_EL1.
//!
//! The state is put on the pCPU when the guest first uses it after a switch: until then CPTR_EL2.TFP and TZ trap. SIMD
//! instructions are no exception to that, since a write to a V register clears the rest of the Z register.

use super::barrier;
use super::registers::{FPCR, FPSR, ZCR_EL1, ZCR_EL2};
use aarch64_cpu::registers::{CPTR_EL2, Readable, Writeable};
use alloc::boxed::Box;
use alloc::vec;
use core::arch::asm;
use postern_base::sve::{VectorLength, VectorLengths};
use postern_exceptions::registers::controls::cptr;

/// The vector state of a vCPU, while it is not on its pCPU.
pub struct SveState {
    length: VectorLength,
    /// Z0 to Z31, P0 to P15, FFR, without gaps.
    registers: Box<[u128]>,
    zcr_el1: u64,
    fpcr: u64,
    fpsr: u64,
}

impl SveState {
    /// Holds the state of a vCPU that was just turned on. Allocates.
    pub fn new(length: VectorLength) -> Self {
        Self {
            length,
            registers: vec![0; length.state_bytes().div_ceil(size_of::<u128>())].into_boxed_slice(),
            zcr_el1: 0,
            fpcr: 0,
            fpsr: 0,
        }
    }

    /// Returns the state to that of a vCPU that was just turned on.
    pub fn reset(&mut self) {
        self.registers.fill(0);
        (self.zcr_el1, self.fpcr, self.fpsr) = (0, 0, 0);
    }

    /// Puts the state on this pCPU, and lets the guest use it.
    pub fn load(&self) {
        CPTR_EL2.set(cptr::SVE);
        barrier::isb();
        ZCR_EL2.set(self.length.zcr_len().into());
        barrier::isb();
        let base = self.registers.as_ptr();
        let predicates = base.wrapping_byte_add(32 * self.length.bytes());
        // SAFETY: SVE is there, since the VM has it, does not trap, and its length is `length`: reads the
        // `state_bytes` bytes at `registers`, which are there. EL2 is compiled without FP registers.
        unsafe {
            asm!(
                ".arch_extension sve",
                "ldr p0, [{predicates}, #16, mul vl]",
                "wrffr p0.b",
                ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
                "ldr p\\n, [{predicates}, #\\n, mul vl]",
                "ldr z\\n, [{base}, #\\n, mul vl]",
                ".endr",
                ".irp n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
                "ldr z\\n, [{base}, #\\n, mul vl]",
                ".endr",
                base = in(reg) base,
                predicates = in(reg) predicates,
                options(nostack, preserves_flags, readonly),
            );
        }
        ZCR_EL1.set(self.zcr_el1);
        FPCR.set(self.fpcr);
        FPSR.set(self.fpsr);
    }

    /// Takes the state, which [`SveState::load`] put there, off this pCPU. The next use traps.
    pub fn save(&mut self) {
        let base = self.registers.as_mut_ptr();
        let predicates = base.wrapping_byte_add(32 * self.length.bytes());
        // SAFETY: as in `load`, and the bytes belong to `self`; FFR is read by way of P0, which was stored.
        unsafe {
            asm!(
                ".arch_extension sve",
                ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
                "str p\\n, [{predicates}, #\\n, mul vl]",
                "str z\\n, [{base}, #\\n, mul vl]",
                ".endr",
                ".irp n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
                "str z\\n, [{base}, #\\n, mul vl]",
                ".endr",
                "rdffr p0.b",
                "str p0, [{predicates}, #16, mul vl]",
                base = in(reg) base,
                predicates = in(reg) predicates,
                options(nostack, preserves_flags),
            );
        }
        self.zcr_el1 = ZCR_EL1.get();
        self.fpcr = FPCR.get();
        self.fpsr = FPSR.get();
        close();
    }
}

/// Has the first use of FP, SIMD and SVE trap: the registers are not the vCPU's.
pub fn close() {
    CPTR_EL2.set(cptr::SVE_OFF);
}

/// Lets FP and SIMD be used as by VMs without SVE.
pub fn leave() {
    CPTR_EL2.set(cptr::GUEST);
    barrier::isb();
}

/// Returns the lengths of this pCPU, which has SVE. It does not trap here.
pub(super) fn lengths() -> VectorLengths {
    (0..16_u64).fold(VectorLengths::NONE, |found, len| {
        ZCR_EL2.set(len);
        barrier::isb();
        let bytes: u64;
        // SAFETY: RDVL reads ZCR_EL2 and ZCR_EL3 and nothing else.
        unsafe {
            asm!(".arch_extension sve", "rdvl {}, #1", out(reg) bytes,
                options(nomem, nostack, preserves_flags));
        }
        // The longest length that is no longer than what was asked for.
        VectorLength::from_bits(bytes as u32 * 8).map_or(found, |length| found.with(length))
    })
}
