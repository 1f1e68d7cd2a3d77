// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The SMC instruction: the way into the secure world.

use core::arch::asm;

/// Calls the secure world with x0..x7 (SMCCC, DEN0028) and gives back x0..x7.
///
/// Memory is not assumed unchanged: OP-TEE writes what was shared with it, which is never
/// anything that a Rust reference covers (shared pages are reached by volatile copies only).
#[inline]
pub fn call(args: [u64; 8]) -> [u64; 8] {
    let [
        mut x0,
        mut x1,
        mut x2,
        mut x3,
        mut x4,
        mut x5,
        mut x6,
        mut x7,
    ] = args;
    // SAFETY: SMCCC lets the callee change x0..x17 only, all named here. What firmware does to
    // memory stays within what was shared with it.
    unsafe {
        asm!(
            "smc #0",
            inout("x0") x0, inout("x1") x1, inout("x2") x2, inout("x3") x3,
            inout("x4") x4, inout("x5") x5, inout("x6") x6, inout("x7") x7,
            out("x8") _, out("x9") _, out("x10") _, out("x11") _, out("x12") _,
            out("x13") _, out("x14") _, out("x15") _, out("x16") _, out("x17") _,
            options(nostack),
        );
    }
    [x0, x1, x2, x3, x4, x5, x6, x7]
}

/// Calls by HVC, in the one place where Postern may itself run under a hypervisor: when it was entered at EL1.
pub fn call_hvc(function: u64) {
    // SAFETY: as `call`; used for PSCI SYSTEM_OFF only.
    unsafe {
        asm!(
            "hvc #0",
            inout("x0") function => _, out("x1") _, out("x2") _, out("x3") _,
            out("x4") _, out("x5") _, out("x6") _, out("x7") _,
            out("x8") _, out("x9") _, out("x10") _, out("x11") _, out("x12") _,
            out("x13") _, out("x14") _, out("x15") _, out("x16") _, out("x17") _,
            options(nostack),
        );
    }
}
