// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether a VM's vCPUs may be on pCPUs.

use super::lifecycle::Phase;
use crate::sched::run_loop::RunDecision;
use core::sync::atomic::{AtomicU8, Ordering};

const CLOSED: u8 = 0;
const OPEN: u8 = 1;
const PAUSED: u8 = 2;

/// Whether a VM's vCPUs may be on pCPUs. Follows the VM's phase, changed under the same lock, and
/// read without it.
pub struct RunPermission(AtomicU8);

impl RunPermission {
    /// That of a VM that is off.
    pub const fn closed() -> Self {
        Self(AtomicU8::new(CLOSED))
    }

    /// The VM has come to this phase.
    pub fn follow(&self, phase: Phase) {
        let state = match phase {
            Phase::Running => OPEN,
            Phase::Paused => PAUSED,
            Phase::Off | Phase::Starting | Phase::Ending | Phase::Failed => CLOSED,
        };
        self.0.store(state, Ordering::SeqCst);
    }

    /// Whether they may, or what is to become of them.
    #[inline]
    pub fn get(&self) -> RunDecision {
        match self.0.load(Ordering::SeqCst) {
            OPEN => RunDecision::Run,
            PAUSED => RunDecision::Pause,
            _ => RunDecision::Stop,
        }
    }

    /// Whether they may.
    #[inline]
    pub fn is_given(&self) -> bool {
        self.0.load(Ordering::SeqCst) == OPEN
    }
}
