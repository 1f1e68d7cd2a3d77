// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The status of a VM and its memory size, as queries and simple changes.

use super::instance::Vm;
use super::lifecycle::{Phase, SetMemoryError};
use crate::sched::run_loop::RunDecision;
use core::sync::atomic::Ordering;
use postern_arch::timer;
use postern_base::ticks::Ticks;
use postern_boot_tree::BLOCK_SIZE;

impl Vm {
    /// Returns the VM's phase.
    pub fn phase(&self) -> Phase {
        self.lifecycle.lock().phase()
    }

    /// Returns whether the VM's vCPUs may run, must wait, or must stop.
    #[inline]
    pub fn run_decision(&self) -> RunDecision {
        self.run_permission.get()
    }

    /// Returns whether the VM's vCPUs may be on pCPUs.
    #[inline]
    pub fn may_run(&self) -> bool {
        self.run_permission.is_given()
    }

    /// Returns whether the VM's vCPUs must wait.
    #[inline]
    pub fn is_paused(&self) -> bool {
        self.run_decision() == RunDecision::Pause
    }

    /// Returns the number of the VM's starts, resets included.
    pub fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }

    /// Returns the time since the VM's first vCPU started, if the VM is running or paused; zero
    /// otherwise.
    pub fn uptime(&self) -> Ticks {
        match self.phase() {
            Phase::Running | Phase::Paused => {
                timer::now().since(Ticks::new(self.started_at.load(Ordering::Relaxed)))
            }
            _ => Ticks::ZERO,
        }
    }

    /// Notes that a vCPU of a paused VM was running until now.
    pub fn note_pause(&self) {
        self.paused_at
            .fetch_max(timer::now().get(), Ordering::Relaxed);
    }

    /// Returns whether the VM waits for a piece of work that some pCPU must do.
    #[inline]
    pub fn has_work(&self) -> bool {
        self.requested.load(Ordering::Acquire) != 0 || self.busy.load(Ordering::Acquire)
    }

    /// Sets the size of the memory that the VM gets at its next start.
    ///
    /// # Errors
    /// When the size is not a number of blocks, or is more than the VM was made for, or when the VM
    /// is not off.
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

    /// Returns the size of the memory that the VM gets at its next start, in bytes.
    pub fn next_memory_bytes(&self) -> u64 {
        self.next_bytes.load(Ordering::Relaxed)
    }

    /// Returns the size of the memory that the VM has, or gets at its next start, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        match self.memory.bytes() {
            0 => self.next_memory_bytes(),
            bytes => bytes,
        }
    }
}
