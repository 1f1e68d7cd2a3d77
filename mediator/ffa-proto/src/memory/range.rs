// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ranges of pages.

use super::error::RangeError;

/// The bytes of a page, whatever the caller's translation granule is.
pub const PAGE_SIZE: u64 = 4096;

/// A range of whole pages. It is not empty, and does not wrap around.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct MemoryRange {
    address: u64,
    pages: u32,
}

impl MemoryRange {
    /// Returns the range of this many pages of 4 KiB at an address.
    ///
    /// # Errors
    ///
    /// [`RangeError`] if there is no page, if the address is not a multiple of 4096, or if the last byte is beyond
    /// the last address of 64 bits.
    #[inline]
    pub const fn new(address: u64, pages: u32) -> Result<Self, RangeError> {
        if pages == 0 {
            Err(RangeError::Empty)
        } else if !address.is_multiple_of(PAGE_SIZE) {
            Err(RangeError::Unaligned)
        } else if address.checked_add(pages as u64 * PAGE_SIZE - 1).is_none() {
            Err(RangeError::Wraps)
        } else {
            Ok(Self { address, pages })
        }
    }

    /// Returns the address of the first page, as the sender sees it.
    #[inline]
    pub const fn address(self) -> u64 {
        self.address
    }

    /// Returns the number of pages, at least 1.
    #[inline]
    pub const fn pages(self) -> u32 {
        self.pages
    }

    /// Returns the number of bytes.
    #[inline]
    pub const fn bytes(self) -> u64 {
        self.pages as u64 * PAGE_SIZE
    }

    /// Returns the addresses of the pages, in order.
    #[inline]
    pub fn page_addresses(self) -> impl Iterator<Item = u64> {
        (0..u64::from(self.pages)).map(move |page| self.address + page * PAGE_SIZE)
    }

    /// Returns this range and the next as one, if the next begins where this one ends.
    #[inline]
    pub(super) fn merge(self, next: Self) -> Option<Self> {
        if self.address.checked_add(self.bytes()) != Some(next.address) {
            return None;
        }
        let pages = self.pages.checked_add(next.pages)?;
        Self::new(self.address, pages).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_is_aligned_has_pages_and_does_not_wrap() {
        let last = u64::MAX - (PAGE_SIZE - 1);
        assert!(MemoryRange::new(last, 1).is_ok());
        assert_eq!(MemoryRange::new(last, 2), Err(RangeError::Wraps));
        assert_eq!(MemoryRange::new(0, 0), Err(RangeError::Empty));
        for address in [1, 8, 0x800, 0x1001] {
            assert_eq!(MemoryRange::new(address, 1), Err(RangeError::Unaligned));
        }
        let most = MemoryRange::new(0, u32::MAX).unwrap();
        assert_eq!(most.bytes(), u64::from(u32::MAX) << 12);
    }

    #[test]
    fn ranges_merge_only_where_they_touch() {
        let range = |address, pages| MemoryRange::new(address, pages).unwrap();
        assert_eq!(
            range(0x1000, 2).merge(range(0x3000, 3)),
            Some(range(0x1000, 5))
        );
        assert_eq!(range(0x1000, 2).merge(range(0x4000, 3)), None);
        assert_eq!(range(0x3000, 3).merge(range(0x1000, 2)), None);
        // The sum of the pages has 33 bits; the first ends at the last address.
        let long = range(0x1000, u32::MAX);
        assert_eq!(long.merge(range(0x1000 + long.bytes(), 1)), None);
        assert_eq!(range(u64::MAX - 0xfff, 1).merge(range(0, 1)), None);
        assert!(range(0x1000, 2).page_addresses().eq([0x1000, 0x2000]));
    }
}
