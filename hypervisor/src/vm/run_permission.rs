// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The permission of a VM's vCPUs to be on pCPUs.

use super::lifecycle::Phase;
use crate::sched::run_loop::RunDecision;
use core::sync::atomic::{AtomicU8, Ordering};

const CLOSED: u8 = 0;
const OPEN: u8 = 1;
const PAUSED: u8 = 2;

/// The permission of a VM's vCPUs to be on pCPUs. Follows the VM's phase: it is changed under the
/// same lock, and read without it.
pub struct RunPermission(AtomicU8);

impl RunPermission {
    /// Returns the permission of a VM that is off.
    pub const fn closed() -> Self {
        Self(AtomicU8::new(CLOSED))
    }

    /// Sets the permission that belongs to the VM's new phase.
    pub fn follow(&self, phase: Phase) {
        let state = match phase {
            Phase::Running => OPEN,
            Phase::Paused => PAUSED,
            Phase::Off | Phase::Starting | Phase::Ending | Phase::Failed => CLOSED,
        };
        self.0.store(state, Ordering::SeqCst);
    }

    /// Returns whether the vCPUs may run, must wait, or must stop.
    #[inline]
    pub fn get(&self) -> RunDecision {
        match self.0.load(Ordering::SeqCst) {
            OPEN => RunDecision::Run,
            PAUSED => RunDecision::Pause,
            _ => RunDecision::Stop,
        }
    }

    /// Returns whether the vCPUs may run.
    #[inline]
    pub fn is_given(&self) -> bool {
        self.0.load(Ordering::SeqCst) == OPEN
    }
}
