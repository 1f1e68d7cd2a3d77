// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which pCPU a vCPU is on.
//!
//! A VM that stops must miss none of its vCPUs: it interrupts those that are on a pCPU, and those
//! that are not must not be put on one any more. Both sides say what they do before they ask what
//! the other does, so that one of the two sees the other: hence the sequential consistency.

use crate::sync::atomic::{AtomicU8, Ordering};
use postern_base::ids::PcpuIndex;

/// The pCPU that a vCPU is on, plus one; zero is none.
#[derive(Debug)]
pub struct Seat(AtomicU8);

impl Seat {
    /// On none.
    pub fn empty() -> Self {
        Self(AtomicU8::new(0))
    }

    /// Where the vCPU is. A VM says that it stops before it asks this.
    pub fn pcpu(&self) -> Option<PcpuIndex> {
        usize::from(self.0.load(Ordering::SeqCst))
            .checked_sub(1)
            .and_then(PcpuIndex::new)
    }

    /// The vCPU is put on a pCPU; `false` where its VM is stopping or paused, so that it must not run.
    /// A VM that begins to stop later finds it here.
    #[must_use]
    pub fn take(&self, pcpu: PcpuIndex, must_not_run: impl FnOnce() -> bool) -> bool {
        self.0.store(pcpu.get() as u8 + 1, Ordering::SeqCst);
        let may_run = !must_not_run();
        if !may_run {
            self.leave();
        }
        may_run
    }

    /// The vCPU is on no pCPU any more.
    pub fn leave(&self) {
        self.0.store(0, Ordering::SeqCst);
    }
}

#[cfg(all(test, shuttle))]
mod models {
    use super::*;
    use crate::sync::atomic::AtomicBool;
    use std::sync::Arc;

    /// Whatever comes first: a vCPU that runs has been found by its VM that stops.
    #[test]
    fn nobody_runs_unseen() {
        let model = || {
            let vcpu = Arc::new((Seat::empty(), AtomicBool::new(false)));
            let other = Arc::clone(&vcpu);
            let stopping = shuttle::thread::spawn(move || {
                other.1.store(true, Ordering::SeqCst);
                other.0.pcpu().is_some()
            });
            let pcpu = PcpuIndex::new(2).expect("there is one");
            let runs = vcpu.0.take(pcpu, || vcpu.1.load(Ordering::SeqCst));
            let seen = stopping.join().expect("it does not fail");
            assert!(seen || !runs);
            assert_eq!(vcpu.0.pcpu().is_some(), runs);
        };
        shuttle::check_dfs(model, None);
    }
}
