// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The time that each pCPU has been idle.

use crate::irq::sections;
use crate::sched::idle_clock::IdleClock;
use postern_arch::{barrier, percpu, timer};
use postern_base::ids::{MAX_PCPUS, PcpuIndex};
use postern_base::lock::{Class, Lock};
use postern_base::ticks::Ticks;

/// The clock of each pCPU. Only that pCPU writes it.
static IDLE: [Lock<IdleClock>; MAX_PCPUS] =
    [const { Lock::new(Class::Idle, IdleClock::new()) }; MAX_PCPUS];

/// Returns the idle clock of a pCPU.
pub fn clock_of(pcpu: PcpuIndex) -> IdleClock {
    *IDLE[pcpu.get()].lock()
}

/// Sets a mark at `now` on the clock of this pCPU. Called about once per second.
pub fn mark(now: Ticks) {
    IDLE[percpu::id().get()].lock().mark(now);
}

/// Waits on this pCPU until an interrupt is pending.
pub fn wait() {
    let clock = &IDLE[percpu::id().get()];
    clock.lock().begin(timer::now());
    sections::outside(barrier::wait_for_interrupt);
    clock.lock().end(timer::now());
}
