// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The firmware interface for true random numbers, version 1.0 (DEN0098).

use optee_proto::smc::FunctionId;
use postern_smccc::call::{Call, OwningEntity, SmcReturn};
use postern_smccc::trng::*;

/// 4dd26f64-d043-483c-8b77-734b78ff88fb, the UUID of this source, in the order of a UID call.
const SOURCE_UUID: SmcReturn = SmcReturn::new([0x646f_d24d, 0x3c48_43d0, 0x4b73_778b, 0xfb88_ff78]);

/// A source of random numbers.
pub trait Entropy {
    /// Returns 192 conditioned bits that no other caller gets, or `None` if fewer are available
    /// now.
    fn bits(&mut self) -> Option<[u64; 3]>;
}

/// Returns whether the function is in the range of this interface: fast calls of the standard
/// secure service with a number from 0x50 to 0x5f.
#[inline]
pub const fn owns(function: FunctionId) -> bool {
    function.is_fast()
        && matches!(OwningEntity::of(function), OwningEntity::StandardSecure)
        && matches!(function.number(), 0x50..=0x5f)
}

/// Answers `call`. If the machine has no source, the caller answers [`SmcReturn::NOT_SUPPORTED`]
/// instead, so that guests do not wait for one.
pub fn answer(call: &Call, source: &mut impl Entropy) -> SmcReturn {
    match call.function() {
        VERSION => SmcReturn::value(VERSION_1_0),
        FEATURES => match call.queried_function() {
            VERSION | FEATURES | GET_UUID | RND32 | RND64 => SmcReturn::SUCCESS,
            _ => SmcReturn::NOT_SUPPORTED,
        },
        GET_UUID => SOURCE_UUID,
        RND32 => random(call.args()[0], 32, source),
        RND64 => random(call.args()[0], 64, source),
        _ => SmcReturn::NOT_SUPPORTED,
    }
}

/// Returns `wanted` bits: the lowest in the low bits of the third result, the next above them in
/// the second, then in the first. Bits that were not requested are zero.
fn random(wanted: u64, width: u32, source: &mut impl Entropy) -> SmcReturn {
    if wanted == 0 || wanted > 3 * u64::from(width) {
        return SmcReturn::error(INVALID_PARAMETERS);
    }
    let Some(bits) = source.bits() else {
        return SmcReturn::error(NO_ENTROPY);
    };
    let mut returned = [0; 4];
    let mut left = wanted as u32;
    for (place, word) in returned[1..].iter_mut().rev().zip(bits) {
        let count = left.min(width);
        if count > 0 {
            *place = word & (u64::MAX >> (64 - count));
        }
        left -= count;
    }
    SmcReturn::new(returned)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Full;
    impl Entropy for Full {
        fn bits(&mut self) -> Option<[u64; 3]> {
            Some([u64::MAX; 3])
        }
    }

    struct Empty;
    impl Entropy for Empty {
        fn bits(&mut self) -> Option<[u64; 3]> {
            None
        }
    }

    fn call(function: u64, x1: u64) -> Call {
        Call::new(&[function, x1, 0, 0, 0, 0, 0, 0])
    }

    #[test]
    fn linux_probe_finds_rnd64() {
        // VERSION of at least 1.0, and RND64 among the features.
        assert_eq!(
            answer(&call(0x8400_0050, 0), &mut Empty).words()[0],
            0x1_0000
        );
        for (id, x0) in [
            (0x8400_0053, 0),
            (0xc400_0053, 0),
            (0x8400_0052, 0),
            (0xc400_0050, u64::MAX),
            (0x8400_0054, u64::MAX),
            (0x8400_0000, u64::MAX),
        ] {
            assert_eq!(
                answer(&call(0x8400_0051, id), &mut Empty).words()[0],
                x0,
                "{id:#x}"
            );
        }
        for id in [0x8400_0054, 0x8400_005f, 0xc400_0050, 0xc400_0052] {
            assert_eq!(answer(&call(id, 0), &mut Full), SmcReturn::NOT_SUPPORTED);
        }
    }

    #[test]
    fn random_returns_the_requested_number_of_bits() {
        for (function, most) in [(0x8400_0053, 96), (0xc400_0053, 192)] {
            for wanted in 1..=most {
                let [status, high, middle, low] =
                    answer(&call(function, wanted), &mut Full).words();
                assert_eq!(status, 0);
                let ones = high.count_ones() + middle.count_ones() + low.count_ones();
                assert_eq!(u64::from(ones), wanted);
                // The bits fill the low result first, from its low end.
                let width = most / 3;
                assert_eq!(u64::from(low.trailing_ones()), wanted.min(width));
                assert_eq!(
                    u64::from(middle.trailing_ones()),
                    wanted.saturating_sub(width).min(width)
                );
            }
            for wanted in [0, most + 1, u64::MAX] {
                let x0 = answer(&call(function, wanted), &mut Full);
                assert_eq!(x0, SmcReturn::error(-2), "{wanted}");
            }
            let x0 = answer(&call(function, most), &mut Empty);
            assert_eq!(x0, SmcReturn::error(-3));
        }
    }

    #[test]
    fn each_result_has_bits_of_its_own() {
        struct Numbered;
        impl Entropy for Numbered {
            fn bits(&mut self) -> Option<[u64; 3]> {
                Some([0xa_0000_0001, 0xb_0000_0002, 0xc_0000_0003])
            }
        }
        assert_eq!(
            answer(&call(0xc400_0053, 192), &mut Numbered),
            SmcReturn::new([0, 0xc_0000_0003, 0xb_0000_0002, 0xa_0000_0001])
        );
        assert_eq!(
            answer(&call(0x8400_0053, 96), &mut Numbered),
            SmcReturn::new([0, 3, 2, 1])
        );
    }

    #[test]
    fn owns_the_trng_range() {
        for (id, ours) in [
            (0x8400_004f, false),
            (0x8400_0050, true),
            (0xc400_005f, true),
            (0x8400_0060, false),
            (0x0400_0050, false),
            (0x8600_0050, false),
        ] {
            assert_eq!(owns(FunctionId::new(id)), ours, "{id:#x}");
        }
    }
}
