// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Barriers and hints.

use aarch64_cpu::asm;

/// Synchronises instructions: writes to system registers hold from here on.
#[inline]
pub fn isb() {
    asm::barrier::isb(asm::barrier::SY);
}

/// Waits until all earlier accesses and maintenance are complete.
#[inline]
pub fn dsb() {
    asm::barrier::dsb(asm::barrier::SY);
}

/// Sleeps until an interrupt is pending, masked or not.
#[inline]
pub fn wait_for_interrupt() {
    asm::barrier::dsb(asm::barrier::SY);
    asm::wfi();
}

/// Forgets the stage-1 translations of the VM whose stage 2 is loaded, on this pCPU.
pub fn invalidate_guest_tlb() {
    // SAFETY: TLB maintenance only makes the hardware walk again.
    unsafe {
        core::arch::asm!(
            "isb",
            "tlbi vmalle1",
            "dsb nsh",
            "isb",
            options(nostack, preserves_flags)
        );
    }
}
