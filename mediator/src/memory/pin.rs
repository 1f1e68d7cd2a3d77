// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest's pages: pinned before OP-TEE knows them, unpinned after OP-TEE has released them.

use crate::addr::{Ipa, PAGE_SIZE};
use crate::host::{Host, PinError};
use alloc::vec::Vec;
use optee_proto::le::U64;

/// The number of a guest's page: its IPA divided by the page size. 32 bits reach 16 TiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PageNumber(u32);

impl PageNumber {
    /// Returns the number of the page at an address, or `None` for an address inside a page or beyond 16 TiB.
    #[inline]
    pub(crate) fn of(page: Ipa) -> Option<Self> {
        // The rotation makes the page offset the highest bits, so one comparison finds both errors.
        let number = page.get().rotate_right(PAGE_SIZE.trailing_zeros());
        u32::try_from(number).ok().map(Self)
    }

    /// Returns the page's address.
    pub(crate) const fn ipa(self) -> Ipa {
        Ipa::new(self.0 as u64 * PAGE_SIZE)
    }
}

/// Progress of an import.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ImportProgress {
    /// All pages are pinned.
    Done,
    /// Some pages are left; call again.
    More,
}

/// Why pages were not imported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ImportError {
    /// The guest named something that is not its RAM, or not aligned.
    BadAddress,
    /// The hypervisor's memory is exhausted, or a page is pinned too often.
    NoMemory,
}

/// Pins the pages at some IPAs, replaces the IPAs by PAs, and adds the pages to `pins`, which has room for
/// them. After an error, the pages in `pins` are pinned.
// Always inlined: a guest may register thousands of pages, and each costs what is in this loop.
#[inline(always)]
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

/// Pages that are unpinned per step. Fewer under Miri, for shorter tests.
pub(crate) const UNPIN_STEP: usize = if cfg!(miri) { 128 } else { 2048 };
/// The time to free what a buffer had besides its pages, in pages.
pub(crate) const FREE_COST: usize = 64;

/// The pages of a buffer that has ended and that OP-TEE has released. They count until all of them are
/// unpinned.
#[derive(Debug)]
pub(crate) struct Release {
    /// The pages that are still pinned.
    pub(crate) pages: Vec<PageNumber>,
    /// The number of pages that it counts for.
    pub(crate) count: u32,
}

/// Unpins at most `left` pages, the last ones first, and subtracts them from `left`. Returns whether no page
/// remains.
#[inline(never)]
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
