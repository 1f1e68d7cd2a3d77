// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Postern's own memory calls: a guest gives pages back.
//!
//! [`MEM_RELINQUISH`](postern_smccc::vendor::MEM_RELINQUISH) is a fast SMC64 call in the
//! vendor-specific hypervisor range, modelled on KVM's. X1 is the first IPA, a multiple of 4 KiB;
//! X2 is the number of 4 KiB pages, 1 to 512; X3 is zero. The call returns one of [`Answer`] in X0.
//! Relinquished pages are cleared, and accesses to them abort until the VM's next start.

use mediator::addr::{Ipa, PAGE_SIZE};
use postern_base::range::IpaRange;
use postern_smccc::call::{Call, SmcReturn};

/// The most pages per call, which bounds the time of a call.
pub const MAX_PAGES: u64 = 512;

/// The result of the call in X0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Answer {
    /// The pages are relinquished.
    Success = 0,
    /// Nothing was done: the secure world may be using a page. The guest can retry when the secure
    /// world has released it. Or the VM has devices behind an SMMU, and never gives pages back.
    Denied = -2,
    /// Nothing was done: some pages are not RAM that the VM has, or an argument is invalid.
    InvalidParameter = -3,
    /// Nothing was done: the hypervisor is out of memory.
    NoMemory = -4,
}

impl Answer {
    /// Returns the values of X0 to X3.
    pub const fn returned(self) -> SmcReturn {
        SmcReturn::error(self as i32)
    }
}

/// Returns the range that the call names.
///
/// # Errors
/// [`Answer::InvalidParameter`].
pub fn range(call: &Call) -> Result<IpaRange, Answer> {
    let [start, pages, reserved] = call.args();
    let start = Ipa::new(start);
    if reserved != 0 || pages == 0 || pages > MAX_PAGES || !start.is_page_aligned() {
        return Err(Answer::InvalidParameter);
    }
    let bytes = pages * PAGE_SIZE;
    start
        .checked_add(bytes)
        .map(|_| IpaRange { start, bytes })
        .ok_or(Answer::InvalidParameter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_smccc::vendor::MEM_RELINQUISH;

    fn asked(x1: u64, x2: u64, x3: u64) -> Result<(u64, u64), Answer> {
        let call = Call::new(&[MEM_RELINQUISH.get().into(), x1, x2, x3, 9, 9, 9, 9]);
        range(&call).map(|range| (range.start.get(), range.bytes))
    }

    #[test]
    fn range_takes_whole_pages_up_to_the_maximum() {
        let bad = Err(Answer::InvalidParameter);
        for (x1, x2, x3, expected) in [
            (0x1_0000_0000, 1, 0, Ok((0x1_0000_0000, 0x1000))),
            (0x1_0000_0000, 512, 0, Ok((0x1_0000_0000, 0x20_0000))),
            (0x1_0000_0000, 513, 0, bad),
            (0x1_0000_0000, 0, 0, bad),
            (0x1_0000_0000, u64::MAX, 0, bad),
            (0x1_0000_0000, 1 << 52, 0, bad),
            (0x1_0000_0800, 1, 0, bad),
            (0x1_0000_0000, 1, 1, bad),
            (0xffff_ffff_ffff_f000, 1, 0, bad),
            (
                0xffff_ffff_ffff_e000,
                1,
                0,
                Ok((0xffff_ffff_ffff_e000, 0x1000)),
            ),
        ] {
            assert_eq!(asked(x1, x2, x3), expected, "{x1:#x} {x2} {x3}");
        }
    }

    #[test]
    fn relinquish_is_a_vendor_hypervisor_function() {
        assert!(super::super::smccc::owns(MEM_RELINQUISH));
        assert_eq!(
            Answer::Denied.returned().words(),
            [(-2_i64).cast_unsigned(), 0, 0, 0]
        );
    }
}
