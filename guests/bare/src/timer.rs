// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Time: the virtual counter and its timer, which a guest and EL2 both have.

use crate::gic::{self, Gic, v2};
use crate::machine::machine;
use crate::timers::Timer;
use core::arch::asm;
use core::time::Duration;

/// Ticks of the virtual counter (CNTVCT_EL0).
#[inline]
pub fn now() -> u64 {
    let ticks: u64;
    // SAFETY: reading the counter has no effect.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nostack, preserves_flags)) };
    ticks
}

/// Ticks a second.
#[inline]
pub fn frequency() -> u64 {
    let ticks: u64;
    // SAFETY: reading the frequency has no effect.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) ticks, options(nostack, preserves_flags)) };
    ticks
}

/// Has EL2's own timer interrupt at `deadline`, in ticks. For programs at EL2.
pub fn arm_el2(deadline: u64) {
    // SAFETY: the timer's registers, which EL2 has; no memory depends on them. Interrupts are masked.
    unsafe {
        asm!("msr cnthp_cval_el2, {}", "msr cnthp_ctl_el2, {}", "isb",
            in(reg) deadline, in(reg) 1_u64, options(nostack, preserves_flags));
    }
}

/// How many ticks a duration takes.
pub fn ticks(duration: Duration) -> u64 {
    (duration.as_nanos() * u128::from(frequency()) / 1_000_000_000) as u64
}

/// How long some ticks take.
pub fn duration(ticks: u64) -> Duration {
    Duration::from_nanos((u128::from(ticks) * 1_000_000_000 / u128::from(frequency())) as u64)
}

/// Has this vCPU's timer interrupt at `deadline`, in ticks.
pub fn arm(deadline: u64) {
    // SAFETY: the timer's registers; no memory depends on them. Interrupts are masked.
    unsafe {
        asm!("msr cntv_cval_el0, {}", "msr cntv_ctl_el0, {}", "isb",
            in(reg) deadline, in(reg) 1_u64, options(nostack, preserves_flags));
    }
}

/// Stops this vCPU's timer.
pub fn disarm() {
    Timer::Virtual.set_control(0);
}

/// Lets the timer interrupt the program in so many ticks, 10,000 at most. Back: the ticks from then to the
/// second instruction of the handler, or nothing where the interrupt does not come. Takes what interrupts
/// come, see [`gic::drain`].
pub fn interrupt_after(ticks: u64) -> Option<u64> {
    let deadline = now() + ticks;
    arm(deadline);
    let at = interrupts_loop();
    disarm();
    gic::drain();
    at?.checked_sub(deadline)
}

/// How long [`interrupts_loop`] waits for its interrupt. On a busy host an emulated timer may be
/// late by many milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs through a loop and lets an interrupt end it. Back: the time at the second instruction of the handler, or
/// nothing where none came within ten seconds. The interrupt stays pending.
pub fn interrupts_loop() -> Option<u64> {
    let patience = Deadline::after(PATIENCE);
    let mut at = 0;
    while at == 0 && !patience.passed() {
        at = interrupts_a_million_iterations();
    }
    (at != 0).then_some(at)
}

/// Runs a million times through a loop, or until an interrupt ends it. Back: the time at the second instruction of
/// the handler; zero where none came.
fn interrupts_a_million_iterations() -> u64 {
    let at: u64;
    // SAFETY: interrupts are unmasked here only. Their handler, in `vectors.S`, changes TPIDR_EL0, which
    // nothing else uses, the mask, and stack below the pointer, which is this program's to change here.
    unsafe {
        asm!(
            "msr tpidr_el0, xzr",
            "msr daifclr, #2",
            "2:",
            "mrs {at}, tpidr_el0",
            "cbnz {at}, 3f",
            "subs {left}, {left}, #1",
            "b.ne 2b",
            "3:",
            "msr daifset, #2",
            at = out(reg) at,
            left = inout(reg) 1_000_000_u64 => _,
        );
    }
    at
}

/// Waits for an interrupt (WFI), without holding the pCPU, and lets it interrupt the program. Back: the time at
/// the second instruction of the handler, in ticks. The interrupt stays pending.
pub fn wait_for_interrupt() -> u64 {
    let at: u64;
    // SAFETY: as in `interrupt_after`. Where the interrupt comes before the WFI, it is pending there and ends it.
    unsafe {
        asm!(
            "msr tpidr_el0, xzr",
            "msr daifclr, #2",
            "2:",
            "mrs {at}, tpidr_el0",
            "cbnz {at}, 3f",
            "wfi",
            "b 2b",
            "3:",
            "msr daifset, #2",
            at = out(reg) at,
        );
    }
    at
}

/// Instructions of [`wake_up_for_ever`] from the one behind its WFI to the next WFI.
pub const WAKE_UP_INSTRUCTIONS: u64 = 9;

/// Does nothing but wait: wakes each `period` ticks by the timer, beginning at `first`, and waits again.
pub fn wake_up_for_ever(first: u64, period: u64) -> ! {
    arm(first);
    if let Gic::V2(interface) = machine().gic {
        // SAFETY: as below; the registers are those of the CPU interface that the tree names.
        unsafe {
            asm!(
                "2:",
                "wfi",
                "ldr {intid:w}, [{acknowledge}]",
                "mrs {at}, cntv_cval_el0",
                "add {at}, {at}, {period}",
                "msr cntv_cval_el0, {at}",
                "isb",
                "str {intid:w}, [{end}]",
                "dsb sy",
                "b 2b",
                at = out(reg) _,
                intid = out(reg) _,
                period = in(reg) period,
                acknowledge = in(reg) interface.0 + v2::GICC_IAR,
                end = in(reg) interface.0 + v2::GICC_EOIR,
            );
        }
    }
    // SAFETY: interrupts are masked; the timer's is taken and ended by polling. Nothing but registers changes.
    unsafe {
        asm!(
            "2:",
            "wfi",
            "mrs {intid}, icc_iar1_el1",
            "mrs {at}, cntv_cval_el0",
            "add {at}, {at}, {period}",
            "msr cntv_cval_el0, {at}",
            "isb",
            "msr icc_eoir1_el1, {intid}",
            "isb",
            "b 2b",
            at = out(reg) _,
            intid = out(reg) _,
            period = in(reg) period,
        );
    }
    unreachable!("the loop has no end")
}

/// Spins until the program did not run for `least` ticks or more. Back: how many ticks that were; nothing where it
/// runs all the time until `deadline`.
pub fn gap(least: u64, deadline: u64) -> Option<u64> {
    let (before, after): (u64, u64);
    // SAFETY: reading the counter has no effect.
    unsafe {
        asm!(
            "mrs {after}, cntvct_el0",
            "2:",
            "mov {before}, {after}",
            "mrs {after}, cntvct_el0",
            "cmp {after}, {deadline}",
            "b.hi 3f",
            "sub {ticks}, {after}, {before}",
            "cmp {ticks}, {least}",
            "b.lo 2b",
            "3:",
            before = out(reg) before,
            after = out(reg) after,
            ticks = out(reg) _,
            least = in(reg) least,
            deadline = in(reg) deadline,
            options(nomem, nostack)
        );
    }
    after.checked_sub(before).filter(|&ticks| ticks >= least)
}

/// Waits without holding the pCPU. Takes what interrupts come, see [`gic::drain`].
pub fn sleep(duration: Duration) {
    let deadline = now() + ticks(duration);
    while now() < deadline {
        arm(deadline);
        // SAFETY: WFI only waits; a pending interrupt ends it although it is masked.
        unsafe { asm!("dsb sy", "wfi", options(nostack, preserves_flags)) };
        disarm();
        gic::drain();
    }
}

/// Does nothing else, and takes no interrupts.
pub fn spin(duration: Duration) {
    Deadline::after(duration).wait(|| false);
}

/// A time after which waiting is given up.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(u64);

impl Deadline {
    /// So long from now.
    pub fn after(duration: Duration) -> Self {
        Self(now() + ticks(duration))
    }

    /// Whether it has come.
    pub fn passed(self) -> bool {
        now() >= self.0
    }

    /// Waits until `done`, busily; whether it was so in time.
    pub fn wait(self, mut done: impl FnMut() -> bool) -> bool {
        loop {
            if done() {
                return true;
            }
            if self.passed() {
                return false;
            }
            core::hint::spin_loop();
        }
    }
}
