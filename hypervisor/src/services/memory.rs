// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Postern's own calls about memory: a guest gives pages back.
//!
//! [`MEM_RELINQUISH`](postern_smccc::vendor::MEM_RELINQUISH), a fast SMC64 call in the vendor-specific hypervisor range,
//! after the model of KVM's. X1 is the first IPA, a multiple of 4 KiB; X2 the number of 4 KiB
//! pages, 1 to 512; X3 is zero. X0 is then one of [`Answer`]. Pages that were given back are
//! cleared, and accesses to them are aborts, until the VM starts the next time.

use mediator::addr::{Ipa, PAGE_SIZE};
use postern_base::range::IpaRange;
use postern_smccc::call::{Call, SmcReturn};

/// The most pages in one call, so that it takes a bounded time.
pub const MAX_PAGES: u64 = 512;

/// What the guest is told in X0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Answer {
    /// The pages are gone.
    Success = 0,
    /// Nothing was done: the secure world may be using a page. Try again when it has let go.
    Denied = -2,
    /// Nothing was done: the pages are not all RAM that the VM has, or the arguments are none
    /// that the call has.
    InvalidParameter = -3,
    /// Nothing was done: the hypervisor is out of memory.
    NoMemory = -4,
}

impl Answer {
    /// X0 to X3.
    pub const fn returned(self) -> SmcReturn {
        SmcReturn::error(self as i32)
    }
}

/// The range that the call is about.
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
    fn whole_pages_and_not_too_many() {
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
    fn the_function_is_the_hypervisors_own() {
        assert!(super::super::smccc::owns(MEM_RELINQUISH));
        assert_eq!(
            Answer::Denied.returned().words(),
            [(-2_i64).cast_unsigned(), 0, 0, 0]
        );
    }
}
