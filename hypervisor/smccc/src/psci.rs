// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The Power State Coordination Interface, version 1.1 (DEN0022D).

use crate::call::SmcReturn;
use core::fmt;
use optee_proto::smc::FunctionId;

/// PSCI_VERSION.
pub const VERSION: FunctionId = FunctionId::new(0x8400_0000);
/// CPU_SUSPEND, the SMC32 call.
pub const CPU_SUSPEND: FunctionId = FunctionId::new(0x8400_0001);
/// CPU_SUSPEND, the SMC64 call.
pub const CPU_SUSPEND_64: FunctionId = FunctionId::new(0xc400_0001);
/// CPU_OFF.
pub const CPU_OFF: FunctionId = FunctionId::new(0x8400_0002);
/// CPU_ON, the SMC32 call.
pub const CPU_ON: FunctionId = FunctionId::new(0x8400_0003);
/// CPU_ON, the SMC64 call.
pub const CPU_ON_64: FunctionId = FunctionId::new(0xc400_0003);
/// AFFINITY_INFO, the SMC32 call.
pub const AFFINITY_INFO: FunctionId = FunctionId::new(0x8400_0004);
/// AFFINITY_INFO, the SMC64 call.
pub const AFFINITY_INFO_64: FunctionId = FunctionId::new(0xc400_0004);
/// MIGRATE_INFO_TYPE.
pub const MIGRATE_INFO_TYPE: FunctionId = FunctionId::new(0x8400_0006);
/// SYSTEM_OFF.
pub const SYSTEM_OFF: FunctionId = FunctionId::new(0x8400_0008);
/// SYSTEM_RESET.
pub const SYSTEM_RESET: FunctionId = FunctionId::new(0x8400_0009);
/// PSCI_FEATURES.
pub const FEATURES: FunctionId = FunctionId::new(0x8400_000a);
/// SYSTEM_RESET2, the SMC32 call.
pub const SYSTEM_RESET2: FunctionId = FunctionId::new(0x8400_0012);
/// SYSTEM_RESET2, the SMC64 call.
pub const SYSTEM_RESET2_64: FunctionId = FunctionId::new(0xc400_0012);

/// Version 1.1, as [`VERSION`] returns it.
pub const VERSION_1_1: u32 = 0x1_0001;
/// MIGRATE_INFO_TYPE: the trusted OS is not bound to a CPU, or there is no trusted OS.
pub const MIGRATION_NOT_REQUIRED: u32 = 2;
/// The only architectural type of [`SYSTEM_RESET2`].
pub const SYSTEM_WARM_RESET: u32 = 0;
/// AFFINITY_INFO: the CPU is on.
pub const ON: u32 = 0;
/// AFFINITY_INFO: the CPU is off.
pub const OFF: u32 = 1;
/// AFFINITY_INFO: the CPU was turned on and has not started yet.
pub const ON_PENDING: u32 = 2;

/// A return code that is not SUCCESS (DEN0022D 5.2.2).
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct PsciError(i32);

impl PsciError {
    /// No such function.
    pub const NOT_SUPPORTED: Self = Self(-1);
    /// An argument is not one that the function has.
    pub const INVALID_PARAMETERS: Self = Self(-2);
    /// The CPU is on already.
    pub const ALREADY_ON: Self = Self(-4);
    /// The CPU was turned on and has not started yet.
    pub const ON_PENDING: Self = Self(-5);
    /// A CPU cannot start at this address.
    pub const INVALID_ADDRESS: Self = Self(-9);

    /// Returns the code.
    #[inline]
    pub const fn code(self) -> i32 {
        self.0
    }

    /// Tells success from an error, by W0 of a call that returns either.
    ///
    /// # Errors
    /// W0 is not SUCCESS.
    pub const fn check(x0: u64) -> Result<(), Self> {
        match x0 as i32 {
            0 => Ok(()),
            code => Err(Self(code)),
        }
    }
}

impl From<PsciError> for SmcReturn {
    #[inline]
    fn from(error: PsciError) -> Self {
        Self::error(error.0)
    }
}

impl fmt::Display for PsciError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for PsciError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PsciError({})", self.0)
    }
}

impl core::error::Error for PsciError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_and_errors_are_told_apart_by_w0() {
        assert_eq!(PsciError::check(0), Ok(()));
        assert_eq!(PsciError::check(0xdead_beef_0000_0000), Ok(()));
        for x0 in [0xffff_fffc, 0xffff_ffff_ffff_fffc] {
            assert_eq!(PsciError::check(x0), Err(PsciError::ALREADY_ON));
        }
        assert_eq!(PsciError::INVALID_ADDRESS.to_string(), "-9");
        let returned = SmcReturn::from(PsciError::INVALID_PARAMETERS);
        assert_eq!(returned.words(), [(-2_i64).cast_unsigned(), 0, 0, 0]);
    }
}
