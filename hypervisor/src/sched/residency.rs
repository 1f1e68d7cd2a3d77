// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which pCPU a vCPU is on.
//!
//! A VM that stops must miss none of its vCPUs: it interrupts those that are on a pCPU, and the others must not enter one
//! any more. Each side writes its own state before it reads the state of the other, so that one of the two sees the
//! other: hence the sequential consistency.

use crate::sync::atomic::{AtomicU8, Ordering};
use postern_base::ids::PcpuIndex;

/// The pCPU that a vCPU is on, plus one; zero stands for no pCPU.
#[derive(Debug)]
pub struct Residency(AtomicU8);

impl Residency {
    /// Makes the residency of a vCPU that is on no pCPU.
    pub fn none() -> Self {
        Self(AtomicU8::new(0))
    }

    /// Returns the pCPU that the vCPU is on. A VM that stops writes that before it calls this.
    pub fn pcpu(&self) -> Option<PcpuIndex> {
        usize::from(self.0.load(Ordering::SeqCst))
            .checked_sub(1)
            .and_then(PcpuIndex::new)
    }

    /// Puts the vCPU on a pCPU; `false` where `must_not_run` says that its VM is stopping or paused. A VM that begins to
    /// stop later finds the vCPU here.
    #[must_use]
    pub fn enter(&self, pcpu: PcpuIndex, must_not_run: impl FnOnce() -> bool) -> bool {
        self.0.store(pcpu.get() as u8 + 1, Ordering::SeqCst);
        let may_run = !must_not_run();
        if !may_run {
            self.exit();
        }
        may_run
    }

    /// Takes the vCPU off its pCPU.
    pub fn exit(&self) {
        self.0.store(0, Ordering::SeqCst);
    }
}

#[cfg(all(test, shuttle))]
mod models {
    use super::*;
    use crate::sync::atomic::AtomicBool;
    use std::sync::Arc;

    /// In every order of events, a vCPU that runs was found by its VM that stops.
    #[test]
    fn a_vcpu_that_runs_was_seen_by_its_stopping_vm() {
        let model = || {
            let vcpu = Arc::new((Residency::none(), AtomicBool::new(false)));
            let other = Arc::clone(&vcpu);
            let stopping = shuttle::thread::spawn(move || {
                other.1.store(true, Ordering::SeqCst);
                other.0.pcpu().is_some()
            });
            let pcpu = PcpuIndex::new(2).expect("there is one");
            let runs = vcpu.0.enter(pcpu, || vcpu.1.load(Ordering::SeqCst));
            let seen = stopping.join().expect("it does not fail");
            assert!(seen || !runs);
            assert_eq!(vcpu.0.pcpu().is_some(), runs);
        };
        shuttle::check_dfs(model, None);
    }
}
