// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Each pCPU's count of entries to the secure world, returns from it, and ticks.

use crate::sched::tee_watchdog::SecureEntryCount;
use postern_arch::percpu;
use postern_base::ids::{MAX_PCPUS, PcpuIndex};

/// The count of each pCPU. That pCPU alone writes it; all pCPUs read it.
static ENTRIES: [SecureEntryCount; MAX_PCPUS] = [const { SecureEntryCount::new() }; MAX_PCPUS];

/// Returns the count of this pCPU.
#[inline]
pub fn here() -> &'static SecureEntryCount {
    of(percpu::id())
}

/// Returns the count of a pCPU.
#[inline]
pub fn of(pcpu: PcpuIndex) -> &'static SecureEntryCount {
    &ENTRIES[pcpu.get()]
}

/// Returns whether a pCPU is in the secure world on behalf of a VM.
pub fn is_inside(pcpu: PcpuIndex) -> bool {
    !of(pcpu).get().is_multiple_of(2)
}
