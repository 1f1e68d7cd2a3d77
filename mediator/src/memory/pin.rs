// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pages of a guest: pinned before OP-TEE hears of them, unpinned after OP-TEE has let go of them.

use crate::addr::{Ipa, PAGE_SIZE};
use crate::host::{Host, PinError};
use alloc::vec::Vec;
use optee_proto::le::U64;

/// A page of a guest, by its number: an IPA divided by the page size. 32 bits reach 16 TiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PageNumber(u32);

impl PageNumber {
    /// The number of the page at an address; `None` for one inside a page, and beyond 16 TiB.
    #[inline]
    pub(crate) fn of(page: Ipa) -> Option<Self> {
        // With the offset in the page as its highest bits, a number that is too large is both.
        let number = page.get().rotate_right(PAGE_SIZE.trailing_zeros());
        u32::try_from(number).ok().map(Self)
    }

    /// The page's address.
    pub(crate) const fn ipa(self) -> Ipa {
        Ipa::new(self.0 as u64 * PAGE_SIZE)
    }
}

/// How far a list is taken in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ImportProgress {
    /// All of it.
    Done,
    /// Not all; call again.
    More,
}

/// Why pages were not taken in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ImportError {
    /// The guest's fault: something that it names is not its RAM, or not aligned.
    BadAddress,
    /// The hypervisor's memory is exhausted, or a page is pinned too often.
    NoMemory,
}

/// Pins the pages at some IPAs, which become PAs, and notes them in `pins`, which has room for them. After an error, the
/// pages in `pins` are pinned.
#[inline]
pub(crate) fn pin<H: Host>(
    host: &H,
    pages: &mut [U64],
    pins: &mut Vec<PageNumber>,
) -> Result<(), ImportError> {
    for word in pages {
        let page = Ipa::new(word.get());
        let number = PageNumber::of(page).ok_or(ImportError::BadAddress)?;
        let pa = host.pin(page).map_err(|error| match error {
            PinError::NotOwnMemory(_) => ImportError::BadAddress,
            PinError::TooManyPins(_) => ImportError::NoMemory,
        })?;
        pins.push(number);
        *word = U64::new(pa.get());
    }
    Ok(())
}

/// Pages that are unpinned in one step. Under Miri fewer, so that a test need not wait for so many.
pub(crate) const UNPIN_STEP: usize = if cfg!(miri) { 128 } else { 2048 };
/// How many pages' time it takes to free what a buffer had beside its pages.
pub(crate) const FREE_COST: usize = 64;

/// The pages of a buffer that has ended, which OP-TEE has let go of: they are to be unpinned, which is the last thing
/// that happens to them. Until all are, they count.
#[derive(Debug)]
pub(crate) struct Release {
    /// Those that are still pinned.
    pub(crate) pages: Vec<PageNumber>,
    /// As how many pages it counts.
    pub(crate) count: u32,
}

/// Takes back the pins of some pages, the last ones first: `left` at most, which becomes less. Whether none is left.
pub(crate) fn unpin<H: Host>(host: &H, pages: &mut Vec<PageNumber>, left: &mut usize) -> bool {
    let stay = pages.len().saturating_sub(*left);
    *left -= pages.len() - stay;
    for page in pages.drain(stay..) {
        host.unpin(page.ipa());
    }
    pages.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_numbers_end_at_16_tib() {
        assert_eq!(
            PageNumber::of(Ipa::new(0xfff_ffff_f000))
                .unwrap()
                .ipa()
                .get(),
            0xfff_ffff_f000
        );
        assert_eq!(PageNumber::of(Ipa::new(0x1000_0000_0000)), None);
        for inside in [1, 8, 0x800, 0xfff, 0xfff_ffff_f001, u64::MAX] {
            assert_eq!(PageNumber::of(Ipa::new(inside)), None, "{inside:#x}");
        }
    }
}
