// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How long each pCPU has had nothing to do.

use crate::irq::sections;
use crate::sched::idle_clock::IdleClock;
use postern_arch::{barrier, percpu, timer};
use postern_base::ids::{MAX_PCPUS, PcpuIndex};
use postern_base::lock::{Class, Lock};
use postern_base::ticks::Ticks;

/// Of each pCPU; written by itself only.
static IDLE: [Lock<IdleClock>; MAX_PCPUS] =
    [const { Lock::new(Class::Idle, IdleClock::new()) }; MAX_PCPUS];

/// Returns how much a pCPU has had nothing to do.
pub fn clock_of(pcpu: PcpuIndex) -> IdleClock {
    *IDLE[pcpu.get()].lock()
}

/// Marks the present on the clock of this pCPU: about once a second.
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
