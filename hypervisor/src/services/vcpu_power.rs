// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether a vCPU is on, as PSCI sees it (DEN0022, AFFINITY_INFO).
//!
//! Two vCPUs may call CPU_ON for the same third at once; exactly one may win. So the state moves
//! by compare-and-exchange, and who moved it from off to pending owns the target's registers
//! until it is on.

use crate::sync::atomic::{AtomicU8, Ordering};

/// The state of a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PowerState {
    /// It runs, or waits to be scheduled.
    On = 0,
    /// It does not run, and nothing has been asked of it.
    Off = 1,
    /// It has been turned on, and has not yet executed an instruction.
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

/// Why a vCPU cannot be turned on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuOnError {
    /// It is on.
    AlreadyOn,
    /// Somebody else is turning it on.
    OnPending,
}

/// The power state of one vCPU, shared by all vCPUs of its VM.
#[derive(Debug)]
pub struct VcpuPower(AtomicU8);

impl VcpuPower {
    /// A vCPU that is off.
    pub fn off() -> Self {
        Self(AtomicU8::new(PowerState::Off as u8))
    }

    /// What the state is, or was a moment ago.
    pub fn state(&self) -> PowerState {
        PowerState::from_bits(self.0.load(Ordering::Acquire))
    }

    /// Off to pending. On success the caller, and nobody else, may write the vCPU's registers:
    /// the vCPU's last instructions before it went off happened before. Then it makes the
    /// vCPU runnable, which calls [`VcpuPower::started`]; or gives up with [`VcpuPower::off_again`].
    ///
    /// # Errors
    ///
    /// The vCPU is on, or somebody else is turning it on.
    pub fn claim(&self) -> Result<(), CpuOnError> {
        match self.swap(PowerState::Off, PowerState::OnPending) {
            Ok(()) => Ok(()),
            Err(PowerState::On) => Err(CpuOnError::AlreadyOn),
            Err(_) => Err(CpuOnError::OnPending),
        }
    }

    /// Pending to on: for the pCPU that is about to enter the vCPU for the first time. Without
    /// effect in other states.
    pub fn started(&self) {
        let _ = self.swap(PowerState::OnPending, PowerState::On);
    }

    /// Pending to off: whoever claimed the vCPU could not start it. Without effect in other
    /// states.
    pub fn off_again(&self) {
        let _ = self.swap(PowerState::OnPending, PowerState::Off);
    }

    /// On to off: the last thing that a pCPU does for a vCPU that called CPU_OFF, after it has
    /// saved all of its state. Without effect in other states.
    pub fn turned_off(&self) {
        let _ = self.swap(PowerState::On, PowerState::Off);
    }

    fn swap(&self, from: PowerState, to: PowerState) -> Result<(), PowerState> {
        // Release: what was written to the vCPU's registers is seen by who next moves the state.
        // Acquire: and the other way round.
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
    fn the_whole_life() {
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
        assert_eq!(power.state(), PowerState::On, "nobody claims it");
        power.turned_off();
        assert_eq!(power.claim(), Ok(()));
        power.off_again();
        power.started();
        assert_eq!(power.state(), PowerState::Off);
    }

    #[test]
    fn one_of_many_wins() {
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
