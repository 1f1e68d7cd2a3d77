// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What each pCPU has of its own, reached without a lock. Its owner declares it, as a static.
//!
//! `entry.S` puts the index of a pCPU into its TPIDR_EL2 before Rust runs there, and nobody changes it.

use core::arch::asm;
use postern_base::ids::{MAX_PCPUS, PcpuIndex};

/// Returns the index of this pCPU, 0 for the boot pCPU; below [`MAX_PCPUS`].
#[inline]
pub fn index() -> usize {
    let index: usize;
    // SAFETY: TPIDR_EL2 is EL2's own and does not change while Rust runs, so reading it has no effect
    // and gives the same value each time.
    unsafe {
        asm!("mrs {}, tpidr_el2", out(reg) index, options(pure, nomem, nostack, preserves_flags));
    }
    index
}

/// Returns the index of this pCPU as a number of its own kind.
#[inline]
pub fn id() -> PcpuIndex {
    PcpuIndex::new(index()).expect("psci::start_pcpu starts no more than MAX_PCPUS")
}

/// One value for each pCPU.
pub struct PerPcpu<T>([T; MAX_PCPUS]);

// SAFETY: of the values each pCPU reaches its own (`this`), and EL2 is never preempted or migrated: so no value is ever
// shared. They are made elsewhere than they are used, hence `Send`.
unsafe impl<T: Send> Sync for PerPcpu<T> {}

impl<T> PerPcpu<T> {
    /// Holds these values, that of the boot pCPU first.
    pub const fn new(values: [T; MAX_PCPUS]) -> Self {
        Self(values)
    }

    /// Returns the value of this pCPU.
    #[inline]
    pub fn this(&self) -> &T {
        // SAFETY: `entry.S` and `psci::start_pcpu` put indices below MAX_PCPUS into TPIDR_EL2.
        unsafe { self.0.get_unchecked(index()) }
    }
}
