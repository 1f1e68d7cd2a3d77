// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Time as the system counter has it (CNTPCT_EL0, DDI 0487 D12.1).

use core::fmt;
use core::ops::{Add, AddAssign, Div, Mul};

/// A number of counter ticks: a time since the counter started, or a time between two of its values.
///
/// Sums that overflow panic, as sums of integers do. A difference saturates: two pCPUs may read the counter in another
/// order than they use it in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(transparent)]
pub struct Ticks(u64);

impl Ticks {
    /// The time at which the counter started, and the empty interval.
    pub const ZERO: Self = Self(0);
    /// A time that never comes: the counter takes at least 40 years to reach it (DDI 0487 D12.1.2).
    pub const NEVER: Self = Self(u64::MAX);

    /// Makes a time from a number of ticks.
    #[inline]
    pub const fn new(ticks: u64) -> Self {
        Self(ticks)
    }

    /// Returns the number of ticks.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the time of `milliseconds`, of a counter with `frequency` ticks per second.
    #[inline]
    pub const fn from_milliseconds(milliseconds: u64, frequency: u64) -> Self {
        Self(milliseconds * (frequency / 1000))
    }

    /// Returns the time in whole milliseconds, of a counter with `frequency` ticks per second.
    pub fn milliseconds(self, frequency: u64) -> u64 {
        self.0 / (frequency / 1000).max(1)
    }

    /// Returns the time in nanoseconds, of a counter with `frequency` ticks per second.
    pub fn nanoseconds(self, frequency: u64) -> u64 {
        const NANOSECONDS: u64 = 1_000_000_000;
        // In two parts, since a division of 128 bits is a function of 780 bytes. A frequency has 32 bits (CNTFRQ_EL0).
        let frequency = frequency.max(1);
        let (seconds, rest) = (self.0 / frequency, self.0 % frequency);
        let part = rest.saturating_mul(NANOSECONDS) / frequency;
        seconds.saturating_mul(NANOSECONDS).saturating_add(part)
    }

    /// Returns the time since `earlier`; zero if that is later.
    #[must_use]
    #[inline]
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }

    /// Returns the sum, or [`Ticks::NEVER`] if it overflows.
    #[must_use]
    #[inline]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Returns the sum, or `None` if it overflows.
    #[inline]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }
}

impl Add for Ticks {
    type Output = Self;

    #[inline]
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl AddAssign for Ticks {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl Mul<u64> for Ticks {
    type Output = Self;

    #[inline]
    fn mul(self, factor: u64) -> Self {
        Self(self.0 * factor)
    }
}

impl Div<u64> for Ticks {
    type Output = Self;

    #[inline]
    fn div(self, divisor: u64) -> Self {
        Self(self.0 / divisor)
    }
}

impl fmt::Debug for Ticks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ticks", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_converts_to_milliseconds_and_nanoseconds() {
        for (ticks, frequency, milliseconds, nanoseconds) in [
            (0, 1, 0, 0),
            (62_500_000, 62_500_000, 1000, 1_000_000_000),
            (62_499, 62_500_000, 0, 999_984),
            (1, 1_000_000_000, 0, 1),
            // A frequency that firmware has not set divides by nothing that is zero.
            (7, 0, 7, 7_000_000_000),
            (7, 999, 7, 7_007_007),
            (
                u64::MAX >> 8,
                1_000_000_000,
                (u64::MAX >> 8) / 1_000_000,
                u64::MAX >> 8,
            ),
        ] {
            let time = Ticks::new(ticks);
            let converted = (time.milliseconds(frequency), time.nanoseconds(frequency));
            assert_eq!(
                converted,
                (milliseconds, nanoseconds),
                "{time:?} of {frequency}"
            );
        }
        assert_eq!(
            Ticks::from_milliseconds(10, 62_500_000),
            Ticks::new(625_000)
        );
    }

    #[test]
    fn differences_and_sums_stop_at_the_ends_of_time() {
        let (early, late) = (Ticks::new(3), Ticks::new(10));
        assert_eq!(
            (late.since(early), early.since(late)),
            (Ticks::new(7), Ticks::ZERO)
        );
        assert_eq!(Ticks::NEVER.saturating_add(early), Ticks::NEVER);
        assert_eq!(late.saturating_add(early), Ticks::new(13));
        assert_eq!(Ticks::NEVER.checked_add(Ticks::new(1)), None);
        assert_eq!(late.checked_add(early), Some(late + early));
        assert_eq!(
            (late * 3 / 2, Ticks::default()),
            (Ticks::new(15), Ticks::ZERO)
        );
        let mut sum = early;
        sum += late;
        assert_eq!(sum, Ticks::new(13));
    }
}
