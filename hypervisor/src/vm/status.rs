// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where a VM is in its life, and what it has: what there is to ask, and the little that is changed by who asks.

use super::instance::Vm;
use super::lifecycle::{Phase, SetMemoryError};
use crate::sched::run_loop::RunDecision;
use core::sync::atomic::Ordering;
use postern_arch::timer;
use postern_base::ticks::Ticks;
use postern_boot_tree::BLOCK_SIZE;

impl Vm {
    /// Where it is in its life.
    pub fn phase(&self) -> Phase {
        self.lifecycle.lock().phase()
    }

    /// Whether its vCPUs may be on pCPUs, or what is to become of them.
    #[inline]
    pub fn run_decision(&self) -> RunDecision {
        self.run_permission.get()
    }

    /// Whether its vCPUs may be on pCPUs.
    #[inline]
    pub fn may_run(&self) -> bool {
        self.run_permission.is_given()
    }

    /// Whether its vCPUs are to wait.
    #[inline]
    pub fn is_paused(&self) -> bool {
        self.run_decision() == RunDecision::Pause
    }

    /// How often it was started, resets included.
    pub fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }

    /// How long it has been running or paused; zero when it is neither.
    pub fn uptime(&self) -> Ticks {
        match self.phase() {
            Phase::Running | Phase::Paused => {
                timer::now().since(Ticks::new(self.started_at.load(Ordering::Relaxed)))
            }
            _ => Ticks::ZERO,
        }
    }

    /// A vCPU of a paused VM was running until now.
    pub fn note_pause(&self) {
        self.paused_at
            .fetch_max(timer::now().get(), Ordering::Relaxed);
    }

    /// Whether some pCPU is to do a piece of work for it.
    #[inline]
    pub fn has_work(&self) -> bool {
        self.requested.load(Ordering::Acquire) != 0 || self.busy.load(Ordering::Acquire)
    }

    /// The memory that it gets when it starts next.
    ///
    /// # Errors
    /// When it was not made for so much, or it is not off.
    pub fn set_memory(&self, bytes: u64) -> Result<(), SetMemoryError> {
        let most = self.memory.most_bytes();
        if bytes == 0 || !bytes.is_multiple_of(BLOCK_SIZE) || bytes > most {
            return Err(SetMemoryError::Size(most));
        }
        let lifecycle = self.lifecycle.lock();
        if lifecycle.phase() != Phase::Off {
            return Err(SetMemoryError::NotOff(lifecycle.phase()));
        }
        self.next_bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// The memory that it gets when it starts: bytes.
    pub fn next_memory_bytes(&self) -> u64 {
        self.next_bytes.load(Ordering::Relaxed)
    }

    /// The memory that it has, or gets when it starts: bytes.
    pub fn memory_bytes(&self) -> u64 {
        match self.memory.bytes() {
            0 => self.next_memory_bytes(),
            bytes => bytes,
        }
    }
}
