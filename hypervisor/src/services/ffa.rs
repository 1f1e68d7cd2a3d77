// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The functions of FF-A (DEN0077A), which the mediator answers in VMs whose TEE is reached over it.

use core::ops::RangeInclusive;
use optee_proto::smc::FunctionId;
use postern_smccc::call::OwningEntity;

/// The numbers of FF-A's functions among those of standard secure services (DEN0077A, 11.2).
const NUMBERS: RangeInclusive<u32> = 0x60..=0xff;

/// Returns whether the function is one of FF-A, with or without SMCCC's hint.
#[inline]
pub fn owns(function: FunctionId) -> bool {
    function.is_fast()
        && OwningEntity::of(function) == OwningEntity::StandardSecure
        && NUMBERS.contains(&function.number())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owns_what_the_framework_reserves() {
        for (id, ours) in [
            (0x8400_0060, true),
            (0xc400_0060, true),
            (0x8400_00ff, true),
            (0x8400_005f, false), // TRNG
            (0x8400_0100, false),
            (0x8401_0063, true),  // with the hint that there is no SVE state
            (0x0400_0063, false), // a yielding call
            (0x8500_0063, false),
            (0x8200_0063, false),
        ] {
            assert_eq!(owns(FunctionId::new(id)), ours, "{id:#x}");
        }
    }
}
