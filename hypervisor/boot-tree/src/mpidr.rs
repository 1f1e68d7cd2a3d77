// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The affinity, by which a CPU is named.

use core::fmt;

/// The affinity fields of a CPU's `MPIDR_EL1`, Aff3 to Aff0 at their places, with all other bits
/// zero: the argument of PSCI's CPU_ON.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mpidr(u64);

impl Mpidr {
    const AFFINITY: u64 = 0xff_00ff_ffff;

    /// Returns the affinity fields of a register value. Other bits are dropped.
    pub const fn new(register: u64) -> Self {
        Self(register & Self::AFFINITY)
    }

    /// Returns the value, in the layout of the register.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for Mpidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mpidr({:#x})", self.0)
    }
}
