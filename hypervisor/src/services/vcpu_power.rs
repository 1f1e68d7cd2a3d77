// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The power state of a vCPU, as PSCI defines it (DEN0022, AFFINITY_INFO).
//!
//! Two vCPUs may call CPU_ON for the same third vCPU at once, and exactly one may succeed. So the
//! state changes by compare-and-exchange, and the caller that moved it from off to pending owns the
//! target's registers until it is on.

use crate::sync::atomic::{AtomicU8, Ordering};

/// The power state of a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PowerState {
    /// The vCPU runs, or waits to be scheduled.
    On = 0,
    /// The vCPU does not run, and no call has turned it on.
    Off = 1,
    /// The vCPU has been turned on, and has not executed an instruction yet.
    OnPending = 2,
}

impl PowerState {
    const fn from_bits(bits: u8) -> Self {
        match bits {
            0 => Self::On,
            1 => Self::Off,
            _ => Self::OnPending,
        }
    }
}

/// The reason why a vCPU cannot be turned on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuOnError {
    /// The vCPU is on.
    AlreadyOn,
    /// Another caller is turning it on.
    OnPending,
}

/// The power state of one vCPU, shared by all vCPUs of its VM.
#[derive(Debug)]
pub struct VcpuPower(AtomicU8);

impl VcpuPower {
    /// Creates the state of a vCPU that is off.
    pub fn off() -> Self {
        Self(AtomicU8::new(PowerState::Off as u8))
    }

    /// Returns the state, which may have changed since.
    pub fn state(&self) -> PowerState {
        PowerState::from_bits(self.0.load(Ordering::Acquire))
    }

    /// Moves the state from off to pending. On success the caller, and no other, may write the
    /// vCPU's registers: the vCPU's last instructions before it went off happened before. The
    /// caller then makes the vCPU runnable, which calls [`VcpuPower::started`], or gives up with
    /// [`VcpuPower::off_again`].
    ///
    /// # Errors
    ///
    /// The vCPU is on, or another caller is turning it on.
    pub fn claim(&self) -> Result<(), CpuOnError> {
        match self.swap(PowerState::Off, PowerState::OnPending) {
            Ok(()) => Ok(()),
            Err(PowerState::On) => Err(CpuOnError::AlreadyOn),
            Err(_) => Err(CpuOnError::OnPending),
        }
    }

    /// Moves the state from pending to on. The pCPU that is about to enter the vCPU for the first
    /// time calls this. Without effect in other states.
    pub fn started(&self) {
        let _ = self.swap(PowerState::OnPending, PowerState::On);
    }

    /// Moves the state from pending to off, because the caller that claimed the vCPU could not
    /// start it. Without effect in other states.
    pub fn off_again(&self) {
        let _ = self.swap(PowerState::OnPending, PowerState::Off);
    }

    /// Moves the state from on to off: the last action of a pCPU for a vCPU that called CPU_OFF,
    /// after it has saved all of the vCPU's state. Without effect in other states.
    pub fn turned_off(&self) {
        let _ = self.swap(PowerState::On, PowerState::Off);
    }

    fn swap(&self, from: PowerState, to: PowerState) -> Result<(), PowerState> {
        // Release: the next caller that moves the state sees what was written to the vCPU's
        // registers. Acquire: this caller sees what the last one wrote.
        self.0
            .compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
            .map_err(PowerState::from_bits)
    }
}

#[cfg(all(test, loom))]
mod models;

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicUsize;

    #[test]
    fn transitions_apply_in_their_states_only() {
        let power = VcpuPower::off();
        assert_eq!(power.claim(), Ok(()));
        assert_eq!(power.state(), PowerState::OnPending);
        assert_eq!(power.claim(), Err(CpuOnError::OnPending));
        power.turned_off();
        assert_eq!(power.state(), PowerState::OnPending, "it never ran");
        power.started();
        assert_eq!(power.state(), PowerState::On);
        assert_eq!(power.claim(), Err(CpuOnError::AlreadyOn));
        power.off_again();
        assert_eq!(power.state(), PowerState::On, "the vCPU is not claimed");
        power.turned_off();
        assert_eq!(power.claim(), Ok(()));
        power.off_again();
        power.started();
        assert_eq!(power.state(), PowerState::Off);
    }

    #[test]
    fn one_of_many_claims_succeeds() {
        let power = VcpuPower::off();
        let (winners, losers) = (AtomicUsize::new(0), AtomicUsize::new(0));
        for round in 1..=200 {
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| match power.claim() {
                        Ok(()) => {
                            winners.fetch_add(1, Ordering::Relaxed);
                            power.started();
                        }
                        Err(_) => {
                            losers.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
            });
            assert_eq!(winners.load(Ordering::Relaxed), round);
            assert_eq!(losers.load(Ordering::Relaxed), 3 * round);
            power.turned_off();
        }
    }
}
