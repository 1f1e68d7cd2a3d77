// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The time of day: read once from the machine's clock, and counted by the generic timer from then on.

use core::sync::atomic::{AtomicU64, Ordering};

/// Seconds since 1970, when it is known.
#[derive(Debug)]
pub struct WallClock {
    /// Zero where nobody knows the time: that of 1970 is as good as none.
    seconds: AtomicU64,
    /// When it was so, in ticks.
    ticks: AtomicU64,
}

impl WallClock {
    /// Returns a clock that does not know the time.
    pub const fn new() -> Self {
        Self {
            seconds: AtomicU64::new(0),
            ticks: AtomicU64::new(0),
        }
    }

    /// Sets the time that it was at `ticks`, in seconds since 1970, before anybody asks.
    pub fn set(&self, seconds: u32, ticks: u64) {
        self.ticks.store(ticks, Ordering::Relaxed);
        self.seconds.store(seconds.into(), Ordering::Release);
    }

    /// Whether it knows the time.
    pub fn is_set(&self) -> bool {
        self.seconds.load(Ordering::Acquire) != 0
    }

    /// Returns the time at `ticks`, of which there are `frequency` a second: seconds since 1970, which wrap in 2106 as
    /// those of a PL031 do. Without a time, the seconds since the machine started.
    pub fn seconds_at(&self, ticks: u64, frequency: u64) -> u32 {
        let seconds = self.seconds.load(Ordering::Acquire);
        let passed = ticks.saturating_sub(self.ticks.load(Ordering::Relaxed)) / frequency.max(1);
        seconds.wrapping_add(passed) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_from_what_it_was_told() {
        let clock = WallClock::new();
        assert!(!clock.is_set());
        assert_eq!(clock.seconds_at(250, 100), 2);
        clock.set(1_000_000, 250);
        assert!(clock.is_set());
        for (ticks, expected) in [
            (0, 1_000_000),
            (250, 1_000_000),
            (349, 1_000_000),
            (350, 1_000_001),
            (100_250, 1_001_000),
        ] {
            assert_eq!(clock.seconds_at(ticks, 100), expected, "{ticks}");
        }
        clock.set(u32::MAX, 0);
        assert_eq!(clock.seconds_at(200, 100), 1);
    }
}
