// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The registers of a call or of an answer.
//!
//! A field that the specification puts into `wN` is the low half of `xN`: the upper half is ignored, as SMCCC says of
//! SMC32 calls, and is zero in what this crate writes. A register that must be zero must be so in all bits that the
//! call's convention has.

use crate::error::ReservedBits;
use crate::function::{Function, FunctionId, Width};
use crate::version::Version;
use core::fmt;
use core::ops::RangeInclusive;

/// x0 to x17.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Registers([u64; Self::LONG]);

impl Registers {
    /// The number of registers of a call that uses x8 to x17.
    pub const LONG: usize = 18;
    /// The number of registers of all other calls.
    pub const SHORT: usize = 8;

    /// Returns the registers of a call that uses x0 to x7.
    pub const fn from_8(x: [u64; Self::SHORT]) -> Self {
        let mut all = [0; Self::LONG];
        let mut n = 0;
        while n < Self::SHORT {
            all[n] = x[n];
            n += 1;
        }
        Self(all)
    }

    /// Returns the registers of a call that uses x0 to x17.
    pub const fn from_18(x: [u64; Self::LONG]) -> Self {
        Self(x)
    }

    /// Returns x0 to x7.
    pub fn to_8(&self) -> [u64; Self::SHORT] {
        core::array::from_fn(|n| self.x(n))
    }

    /// Returns x0 to x17.
    pub const fn to_18(&self) -> [u64; Self::LONG] {
        self.0
    }

    /// Returns the id in w0.
    pub const fn id(&self) -> FunctionId {
        FunctionId::from_x0(self.0[0])
    }

    /// Returns a register, or zero if there is none of this number.
    pub(crate) fn x(&self, n: usize) -> u64 {
        self.0.get(n).copied().unwrap_or(0)
    }

    /// Returns the low half of a register.
    pub(crate) fn w(&self, n: usize) -> u32 {
        self.x(n) as u32
    }

    /// Returns the 64-bit value in two registers of 32 bits, the lower half first.
    pub(crate) fn pair(&self, n: usize) -> u64 {
        u64::from(self.w(n + 1)) << 32 | u64::from(self.w(n))
    }

    /// Returns the registers of a function with all parameters zero.
    pub(crate) fn new(function: Function, width: Width) -> Self {
        Self::from_id(FunctionId::new(function, width))
    }

    /// Returns the registers of an id with all parameters zero.
    pub(crate) fn from_id(id: FunctionId) -> Self {
        Self([0; Self::LONG]).with(0, id.get())
    }

    /// Returns the registers with one of them changed. A number above 17 changes none.
    pub(crate) fn with(mut self, n: usize, value: impl Into<u64>) -> Self {
        if let Some(register) = self.0.get_mut(n) {
            *register = value.into();
        }
        self
    }

    /// Returns the registers with a 64-bit value in two of them, the lower half first.
    pub(crate) fn with_pair(self, n: usize, value: u64) -> Self {
        self.with(n, value as u32).with(n + 1, (value >> 32) as u32)
    }

    /// Checks that registers are zero.
    pub(crate) fn require_zero(&self, numbers: RangeInclusive<usize>) -> Result<(), ReservedBits> {
        for n in numbers {
            if self.x(n) != 0 {
                return Err(ReservedBits(n as u8));
            }
        }
        Ok(())
    }

    /// Checks that bits of wN are zero.
    pub(crate) fn require_zero_bits(&self, n: usize, bits: u32) -> Result<(), ReservedBits> {
        if self.w(n) & bits == 0 {
            Ok(())
        } else {
            Err(ReservedBits(n as u8))
        }
    }

    /// Returns only what takes part in a call or an answer of this id at this version, the rest as zero.
    pub(crate) fn significant(&self, version: Version) -> Self {
        let id = self.id();
        let is_long = version >= Version::V1_2 && id.function().is_some_and(Function::is_long);
        let (count, bits) = match id.width() {
            Width::Smc32 => (Self::SHORT, u64::from(u32::MAX)),
            Width::Smc64 if is_long => (Self::LONG, u64::MAX),
            Width::Smc64 => (Self::SHORT, u64::MAX),
        };
        let kept = core::array::from_fn(|n| if n < count { self.x(n) & bits } else { 0 });
        Self(kept).with(0, id.get())
    }
}

impl fmt::Debug for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registers({:#x?})", self.0)
    }
}
