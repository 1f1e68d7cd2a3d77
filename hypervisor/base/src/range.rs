// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ranges of memory, and small ordered sets of physical ones.

use core::fmt;
use mediator::addr::{Ipa, Pa};

/// A range of physical memory, `[start, end)`, that does not wrap.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PaRange {
    start: u64,
    end: u64,
}

impl PaRange {
    /// Returns the range of `bytes` bytes from `start` on (any alignment), or `None` where it passes the end of the
    /// 64-bit address space.
    pub const fn new(start: Pa, bytes: u64) -> Option<Self> {
        match start.get().checked_add(bytes) {
            Some(end) => Some(Self {
                start: start.get(),
                end,
            }),
            None => None,
        }
    }

    /// Returns the range from `start` up to, not including, `end`; empty where `end` is not above it.
    pub const fn between(start: Pa, end: Pa) -> Self {
        let (start, end) = (start.get(), end.get());
        Self {
            start,
            end: if end < start { start } else { end },
        }
    }

    /// Returns the first address.
    pub const fn start(self) -> Pa {
        Pa::new(self.start)
    }

    /// Returns the first address behind the range.
    pub const fn end(self) -> Pa {
        Pa::new(self.end)
    }

    /// Returns the length in bytes.
    pub const fn bytes(self) -> u64 {
        self.end - self.start
    }

    /// Returns whether the range holds no byte.
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Returns whether every byte of `other` is in this range; an empty `other` always is.
    pub const fn contains(self, other: Self) -> bool {
        other.is_empty() || (self.start <= other.start && other.end <= self.end)
    }

    /// Returns whether the two have a byte in common.
    pub const fn overlaps(self, other: Self) -> bool {
        !self.is_empty() && !other.is_empty() && self.start < other.end && other.start < self.end
    }

    /// Returns the largest range inside this one whose ends are multiples of `unit`, a power of two; empty where there
    /// is none.
    pub const fn aligned_inward(self, unit: u64) -> Self {
        let Some(start) = self.start.checked_next_multiple_of(unit) else {
            return Self {
                start: self.end,
                end: self.end,
            };
        };
        Self::between(Pa::new(start), Pa::new(self.end & !(unit - 1)))
    }

    /// Returns the smallest range around this one whose ends are multiples of `unit`, a power of two; `None` where its
    /// end would pass the end of the address space.
    pub const fn aligned_outward(self, unit: u64) -> Option<Self> {
        match self.end.checked_next_multiple_of(unit) {
            Some(end) => Some(Self {
                start: self.start & !(unit - 1),
                end,
            }),
            None => None,
        }
    }
}

impl fmt::Debug for PaRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for PaRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start, self.end)
    }
}

/// A range of a guest's memory. It may wrap until it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpaRange {
    /// The first address.
    pub start: Ipa,
    /// The length in bytes.
    pub bytes: u64,
}

impl IpaRange {
    /// Returns the first address behind the range; `None` where it wraps.
    pub const fn end(self) -> Option<Ipa> {
        self.start.checked_add(self.bytes)
    }
}

/// A [`RangeSet`] has no room for one more range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {0} separate ranges of memory")]
pub struct TooManyRanges(
    /// The capacity of the set.
    pub usize,
);

/// A set of physical addresses, kept as at most `N` ranges: ascending, not empty, and with a gap
/// between any two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet<const N: usize> {
    ranges: heapless::Vec<PaRange, N>,
}

impl<const N: usize> RangeSet<N> {
    /// Makes an empty set.
    pub const fn new() -> Self {
        Self {
            ranges: heapless::Vec::new(),
        }
    }

    /// Adds every byte of `range`. On an error the set is what it was.
    pub fn insert(&mut self, range: PaRange) -> Result<(), TooManyRanges> {
        if range.is_empty() {
            return Ok(());
        }
        // Ranges that touch the new one melt into it.
        let first = self.ranges.partition_point(|r| r.end < range.start);
        let behind = self.ranges.partition_point(|r| r.start <= range.end);
        if first == behind {
            return self
                .ranges
                .insert(first, range)
                .map_err(|_| TooManyRanges(N));
        }
        let merged = PaRange {
            start: range.start.min(self.ranges[first].start),
            end: range.end.max(self.ranges[behind - 1].end),
        };
        self.ranges[first] = merged;
        self.drop_between(first + 1, behind);
        Ok(())
    }

    /// Takes every byte of `range` out, whether it was in or not. On an error (a hole that would
    /// split one range too many) the set is what it was.
    pub fn remove(&mut self, range: PaRange) -> Result<(), TooManyRanges> {
        if range.is_empty() {
            return Ok(());
        }
        let first = self.ranges.partition_point(|r| r.end <= range.start);
        let behind = self.ranges.partition_point(|r| r.start < range.end);
        if first == behind {
            return Ok(());
        }
        let left = PaRange::between(self.ranges[first].start(), range.start());
        let right = PaRange::between(range.end(), self.ranges[behind - 1].end());
        match (left.is_empty(), right.is_empty()) {
            (true, true) => self.drop_between(first, behind),
            (false, true) => {
                self.ranges[first] = left;
                self.drop_between(first + 1, behind);
            }
            (true, false) => {
                self.ranges[first] = right;
                self.drop_between(first + 1, behind);
            }
            (false, false) => {
                if behind - first == 1 {
                    self.ranges
                        .insert(first + 1, right)
                        .map_err(|_| TooManyRanges(N))?;
                } else {
                    self.ranges[first + 1] = right;
                    self.drop_between(first + 2, behind);
                }
                self.ranges[first] = left;
            }
        }
        Ok(())
    }

    /// Returns whether every byte of `range` is in the set.
    pub fn contains(&self, range: PaRange) -> bool {
        range.is_empty() || self.ranges.iter().any(|r| r.contains(range))
    }

    /// Returns whether some byte of `range` is in the set.
    pub fn overlaps(&self, range: PaRange) -> bool {
        self.ranges.iter().any(|r| r.overlaps(range))
    }

    /// Returns the ranges, ascending.
    pub fn iter(&self) -> impl Iterator<Item = PaRange> + '_ {
        self.ranges.iter().copied()
    }

    /// Returns the bytes in whole blocks of `unit` bytes (a power of two), aligned to it.
    pub fn bytes_in_units(&self, unit: u64) -> u64 {
        self.iter().map(|r| r.aligned_inward(unit).bytes()).sum()
    }

    fn drop_between(&mut self, from: usize, to: usize) {
        for _ in from..to {
            self.ranges.remove(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(start: u64, end: u64) -> PaRange {
        PaRange::between(Pa::new(start), Pa::new(end))
    }

    #[test]
    fn a_range_never_wraps() {
        assert_eq!(PaRange::new(Pa::new(u64::MAX), 1), None);
        let last = PaRange::new(Pa::new(u64::MAX - 1), 1).unwrap();
        assert!(last.aligned_inward(0x1000).is_empty());
        assert_eq!(last.aligned_outward(0x1000), None);
        assert!(range(0x2000, 0x1000).is_empty());
    }

    #[test]
    fn alignment_inward_may_leave_nothing() {
        assert_eq!(
            range(0x1001, 0x3fff).aligned_inward(0x1000),
            range(0x2000, 0x3000)
        );
        assert!(range(0x1001, 0x1fff).aligned_inward(0x1000).is_empty());
        assert_eq!(
            range(0x1001, 0x1fff).aligned_outward(0x1000),
            Some(range(0x1000, 0x2000))
        );
    }

    #[test]
    fn a_full_set_refuses_and_stays_as_it_was() {
        let mut set = RangeSet::<2>::new();
        set.insert(range(0, 10)).unwrap();
        set.insert(range(20, 30)).unwrap();
        let before = set.clone();
        assert_eq!(set.insert(range(40, 50)), Err(TooManyRanges(2)));
        assert_eq!(set.remove(range(2, 4)), Err(TooManyRanges(2)));
        assert_eq!(set, before);
        set.insert(range(10, 20)).unwrap();
        assert_eq!(set.iter().collect::<Vec<_>>(), [range(0, 30)]);
    }

    proptest! {
        #[test]
        fn behaves_as_a_set_of_addresses(
            steps in prop::collection::vec((any::<bool>(), 0_u64..64, 0_u64..16), 1..60)
        ) {
            let mut set = RangeSet::<64>::new();
            let mut model = [false; 96];
            for (add, start, bytes) in steps {
                let step = PaRange::new(Pa::new(start), bytes).unwrap();
                if add { set.insert(step).unwrap() } else { set.remove(step).unwrap() }
                model[start as usize..(start + bytes) as usize].fill(add);
                for (address, &present) in model.iter().enumerate() {
                    let byte = PaRange::new(Pa::new(address as u64), 1).unwrap();
                    prop_assert_eq!(set.contains(byte), present);
                    prop_assert_eq!(set.overlaps(byte), present);
                }
                let ranges: Vec<_> = set.iter().collect();
                prop_assert!(ranges.iter().all(|r| !r.is_empty()));
                prop_assert!(ranges.windows(2).all(|w| w[0].end < w[1].start));
            }
        }
    }
}
