// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The generic timer: EL2's own (CNTHP) and the guests' virtual one. Times are counter ticks.

use super::registers::CNTHP_CVAL_EL2;
use aarch64_cpu::registers::{CNTFRQ_EL0, CNTHP_CTL_EL2, CNTPCT_EL0, CNTV_CTL_EL0};
use core::sync::atomic::{AtomicU64, Ordering};
use postern_base::ticks::Ticks;
use tock_registers::interfaces::{Readable, Writeable};

/// INTID of EL2's physical timer (PPI 10), by the Arm base system architecture.
pub const HYPERVISOR_TIMER_INTID: u32 = 26;
/// INTID of the virtual timer (PPI 11).
pub const VIRTUAL_TIMER_INTID: u32 = 27;

/// Returns the time: ticks since the counter started.
#[inline]
pub fn now() -> Ticks {
    Ticks::new(CNTPCT_EL0.get())
}

/// The argument of [`set_frequency`]; 0 before.
static FREQUENCY: AtomicU64 = AtomicU64::new(0);
/// Ticks per second until the tree has been read, if firmware does not say: it bounds waits for the UART only.
const UNTIL_KNOWN: u64 = 100_000_000;

/// Returns the number of ticks per second.
#[inline]
pub fn frequency() -> u64 {
    match FREQUENCY.load(Ordering::Relaxed) {
        0 => UNTIL_KNOWN,
        known => known,
    }
}

/// Returns the ticks per second in `CNTFRQ_EL0`, or 0 if firmware has not set it. Guests read the same register.
pub fn counter_frequency() -> u64 {
    CNTFRQ_EL0.get()
}

/// Sets what [`frequency`] returns; 0 if it is not known yet.
pub fn set_frequency(hertz: u64) {
    FREQUENCY.store(hertz, Ordering::Relaxed);
}

/// Returns the ticks of one second.
#[inline]
pub fn second() -> Ticks {
    Ticks::new(frequency())
}

/// Arms EL2's timer, which interrupts at `deadline`.
#[inline]
pub fn arm(deadline: Ticks) {
    CNTHP_CVAL_EL2.set(deadline.get());
    CNTHP_CTL_EL2.write(CNTHP_CTL_EL2::ENABLE.val(1));
    super::barrier::isb();
}

/// Stops the virtual timer, on a pCPU without a vCPU.
pub fn silence_virtual() {
    CNTV_CTL_EL0.set(0);
    super::barrier::isb();
}

/// Moves the deadline of EL2's timer, which is armed, to `deadline` if that is earlier.
#[inline]
pub fn arm_no_later_than(deadline: Ticks) {
    if deadline.get() < CNTHP_CVAL_EL2.get() {
        arm(deadline);
    }
}
