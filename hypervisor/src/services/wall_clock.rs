// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The time of day: read once from the machine's clock, and counted by the generic timer
//! afterwards.

use core::sync::atomic::{AtomicU64, Ordering};
use postern_base::ticks::Ticks;

/// The time of day, in seconds since 1970, if it is known.
#[derive(Debug)]
pub struct WallClock {
    /// The time that was set, in seconds since 1970; zero if the time is unknown.
    seconds: AtomicU64,
    /// The time at which it was set, in ticks.
    ticks: AtomicU64,
}

impl WallClock {
    /// Creates a clock that does not know the time.
    pub const fn new() -> Self {
        Self {
            seconds: AtomicU64::new(0),
            ticks: AtomicU64::new(0),
        }
    }

    /// Sets the time of day at `time`, in seconds since 1970, before any pCPU reads it.
    pub fn set(&self, seconds: u32, time: Ticks) {
        self.ticks.store(time.get(), Ordering::Relaxed);
        self.seconds.store(seconds.into(), Ordering::Release);
    }

    /// Returns whether the clock knows the time.
    pub fn is_set(&self) -> bool {
        self.seconds.load(Ordering::Acquire) != 0
    }

    /// Returns the time of day at `time`, for a counter with `frequency` ticks per second: seconds
    /// since 1970, which wrap in 2106 as those of a PL031 do. If the time is unknown, returns the
    /// seconds since the machine started.
    pub fn seconds_at(&self, time: Ticks, frequency: u64) -> u32 {
        let seconds = self.seconds.load(Ordering::Acquire);
        let passed = time
            .since(Ticks::new(self.ticks.load(Ordering::Relaxed)))
            .get()
            / frequency.max(1);
        seconds.wrapping_add(passed) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_counts_from_the_set_time() {
        let clock = WallClock::new();
        assert!(!clock.is_set());
        assert_eq!(clock.seconds_at(Ticks::new(250), 100), 2);
        clock.set(1_000_000, Ticks::new(250));
        assert!(clock.is_set());
        for (ticks, expected) in [
            (0, 1_000_000),
            (250, 1_000_000),
            (349, 1_000_000),
            (350, 1_000_001),
            (100_250, 1_001_000),
        ] {
            assert_eq!(
                clock.seconds_at(Ticks::new(ticks), 100),
                expected,
                "{ticks}"
            );
        }
        clock.set(u32::MAX, Ticks::new(0));
        assert_eq!(clock.seconds_at(Ticks::new(200), 100), 1);
    }
}
