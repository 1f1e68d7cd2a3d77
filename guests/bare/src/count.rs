// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Counting the instructions of a call.
//!
//! Under QEMU's `-icount shift=0` an instruction takes a nanosecond, at whatever exception level it is
//! executed. So the virtual counter, which guests have too, counts instructions, as many at a time as a
//! tick has nanoseconds: 16 at 62.5 MHz. A call's figure is exact all the same, as the mean of calls that
//! begin at each place in a tick once. A call begins a number of steps after the beginning of a tick, and
//! a step has three instructions, so steps from 0 to 15 are all places.

use core::arch::asm;

/// Two values of the virtual counter, before and after something.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Before.
    pub begin: u64,
    /// After.
    pub end: u64,
}

impl Span {
    /// Ticks from one to the other.
    pub const fn ticks(self) -> u64 {
        self.end - self.begin
    }
}

macro_rules! counted {
    ($(#[$about:meta])* $name:ident, $instruction:literal) => {
        $(#[$about])*
        ///
        /// x0..x7 are as in `registers`, x8..x17 zero, and x0..x7 in it afterwards. The call begins `steps`
        /// steps after a tick's beginning.
        pub fn $name(registers: &mut [u64; 8], steps: u64) -> Span {
            let [mut x0, mut x1, mut x2, mut x3, mut x4, mut x5, mut x6, mut x7] = *registers;
            let (begin, end): (u64, u64);
            // SAFETY: by SMCCC a call keeps x18..x30, of which the compiler chooses the other
            // registers, and the stack; x0..x17 are named. Whom the call has write memory,
            // writes `Pages`, which are only reached by volatile accesses.
            unsafe {
                asm!(
                    // A tick begins between two instructions that read different values. The loop has an
                    // odd number of instructions, so that it comes to each place in a tick.
                    "2:",
                    "mrs {begin}, cntvct_el0",
                    "mrs {end}, cntvct_el0",
                    "cmp {begin}, {end}",
                    "nop",
                    "b.eq 2b",
                    "3:",
                    "nop",
                    "subs {left}, {left}, #1",
                    "b.hi 3b",
                    "isb",
                    "mrs {begin}, cntvct_el0",
                    $instruction,
                    "isb",
                    "mrs {end}, cntvct_el0",
                    left = inout(reg) steps + 1 => _,
                    begin = out(reg) begin,
                    end = out(reg) end,
                    inout("x0") x0, inout("x1") x1, inout("x2") x2, inout("x3") x3,
                    inout("x4") x4, inout("x5") x5, inout("x6") x6, inout("x7") x7,
                    inout("x8") 0_u64 => _, inout("x9") 0_u64 => _,
                    inout("x10") 0_u64 => _, inout("x11") 0_u64 => _,
                    inout("x12") 0_u64 => _, inout("x13") 0_u64 => _,
                    inout("x14") 0_u64 => _, inout("x15") 0_u64 => _,
                    inout("x16") 0_u64 => _, inout("x17") 0_u64 => _,
                );
            }
            *registers = [x0, x1, x2, x3, x4, x5, x6, x7];
            Span { begin, end }
        }
    };
}

counted! {
    /// Counts `smc #0`.
    smc, "smc #0"
}
counted! {
    /// Counts `hvc #0`.
    hvc, "hvc #0"
}
counted! {
    /// Counts a `nop`: what to subtract from the others, all but one instruction.
    nothing, "nop"
}
counted! {
    /// Counts a 32-bit load from the address in x0, such as a device's register. The value comes back in x0.
    load, "ldr w0, [x0]"
}
counted! {
    /// Counts a 32-bit store of x0 to the address in x1, such as a device's register.
    store, "str w0, [x1]"
}
counted! {
    /// The same, and then waits for an interrupt (WFI), which may be masked and stays pending.
    store_and_wait, "str w0, [x1]\ndsb sy\nwfi"
}
counted! {
    /// Counts a write of x0 to `ICC_SGI1R_EL1`: a software generated interrupt, see [`crate::gic::poke_write`].
    send_sgi, "msr icc_sgi1r_el1, x0"
}
counted! {
    /// The same, and then waits for an interrupt (WFI), which may be masked and stays pending.
    send_sgi_and_wait, "msr icc_sgi1r_el1, x0\nisb\nwfi"
}
counted! {
    /// Counts a write of x0 to `ICC_EOIR1_EL1`: the end of an interrupt that [`crate::gic::take`] gave.
    end_interrupt, "msr icc_eoir1_el1, x0"
}

/// Does nothing. Whoever watches the program's instructions sees by it where something ends.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn mark_item() {
    // SAFETY: the first instruction of a function of its own, which nothing else is merged with.
    unsafe { asm!("hint #0x60", options(nomem, nostack, preserves_flags)) };
}

/// Does nothing. Whoever watches the program's instructions sees by it where what is counted begins or ends.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn mark_call() {
    // SAFETY: as in `mark_item`.
    unsafe { asm!("hint #0x61", options(nomem, nostack, preserves_flags)) };
}
