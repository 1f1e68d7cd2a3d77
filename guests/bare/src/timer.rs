//! Time: the virtual counter and its timer, which a guest and EL2 both have.

use crate::gic;
use core::arch::asm;
use core::time::Duration;

/// The timer's interrupt: PPI 11.
pub const INTID: u32 = 27;

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
    // SAFETY: as in `arm`.
    unsafe {
        asm!(
            "msr cntv_ctl_el0, xzr",
            "isb",
            options(nostack, preserves_flags)
        );
    }
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
