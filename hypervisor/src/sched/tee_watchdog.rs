// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Detects a pCPU that does not return from the secure world.
//!
//! OP-TEE leaves a call when an interrupt for the normal world is pending, and every pCPU has one at least once per second.
//! A pCPU that stays in one SMC for [`PATIENCE_SECONDS`] is in a trusted OS that has panicked or hangs with interrupts
//! masked. So is a pCPU that has made no call and misses its tick: a secure interrupt took it there. The pCPU cannot report
//! that itself, so the others do, in their ticks.

use core::sync::atomic::{AtomicU32, Ordering};
use postern_base::ids::{MAX_PCPUS, PcpuIndex};
use postern_base::ticks::Ticks;

/// How long a pCPU may show no sign before other pCPUs take over what waits for it. That does no harm where it comes back,
/// so the time is short: twice the time between two ticks, which also end a call of a secure world that works.
pub const AWAY_SECONDS: u64 = 2;

/// How long a pCPU may show no sign before the secure world counts as stuck.
pub const PATIENCE_SECONDS: u64 = 10;

/// A counter of one pCPU's entries to and exits from the secure world, odd while the pCPU is inside, and of its ticks, two
/// each. It has a cache line of its own, since only its pCPU writes it.
#[repr(align(64))]
#[derive(Debug, Default)]
pub struct SecureEntryCount(AtomicU32);

impl SecureEntryCount {
    /// Makes a counter at zero.
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Counts an entry, makes the call, and counts the exit. To be called by the pCPU whose counter it is.
    #[inline]
    pub fn around<T>(&self, call: impl FnOnce() -> T) -> T {
        let count = self.0.load(Ordering::Relaxed);
        self.0.store(count.wrapping_add(1), Ordering::Relaxed);
        let result = call();
        self.0.store(count.wrapping_add(2), Ordering::Relaxed);
        result
    }

    /// Counts a tick, outside the secure world. To be called by the pCPU whose counter it is.
    #[inline]
    pub fn tick(&self) {
        let count = self.0.load(Ordering::Relaxed);
        self.0.store(count.wrapping_add(2), Ordering::Relaxed);
    }

    /// Returns the count.
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A change of the state of a pCPU, as the watchdog sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchdogEvent {
    /// It has shown no sign for [`AWAY_SECONDS`].
    Away(PcpuIndex),
    /// It was reported to be away, but not stuck, and has come back.
    Returned(PcpuIndex),
    /// It has shown no sign for [`PATIENCE_SECONDS`]. [`WatchdogEvent::Away`] came before.
    Stuck(PcpuIndex),
    /// It was reported to be stuck, and has come back.
    Back(PcpuIndex),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Observation {
    count: u32,
    /// When the count was first seen; `None` before the first poll.
    since: Option<Ticks>,
    reported: Reported,
}

/// The last event reported of a pCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Reported {
    #[default]
    Nothing,
    Away,
    Stuck,
}

/// The last observation of each pCPU.
#[derive(Debug, Default)]
pub struct TeeWatchdog {
    observed: [Observation; MAX_PCPUS],
}

impl TeeWatchdog {
    /// Makes a watchdog that has observed nothing.
    pub const fn new() -> Self {
        Self {
            observed: [Observation {
                count: 0,
                since: None,
                reported: Reported::Nothing,
            }; MAX_PCPUS],
        }
    }

    /// Compares the count of a pCPU with the last one. `second` is the time of one second.
    pub fn poll(
        &mut self,
        pcpu: PcpuIndex,
        count: u32,
        now: Ticks,
        second: Ticks,
    ) -> Option<WatchdogEvent> {
        let observed = &mut self.observed[pcpu.get()];
        let Some(since) = observed.since.filter(|_| observed.count == count) else {
            let reported = observed.reported;
            *observed = Observation {
                count,
                since: Some(now),
                reported: Reported::Nothing,
            };
            return match reported {
                Reported::Nothing => None,
                Reported::Away => Some(WatchdogEvent::Returned(pcpu)),
                Reported::Stuck => Some(WatchdogEvent::Back(pcpu)),
            };
        };
        let (seconds, reported, event) = match observed.reported {
            Reported::Nothing => (AWAY_SECONDS, Reported::Away, WatchdogEvent::Away(pcpu)),
            Reported::Away => (
                PATIENCE_SECONDS,
                Reported::Stuck,
                WatchdogEvent::Stuck(pcpu),
            ),
            Reported::Stuck => return None,
        };
        if now.since(since) < second * seconds {
            return None;
        }
        observed.reported = reported;
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn t(ticks: u64) -> Ticks {
        Ticks::new(ticks)
    }

    const P: PcpuIndex = PcpuIndex::BOOT;

    #[test]
    fn the_count_is_odd_inside() {
        let entries = SecureEntryCount(AtomicU32::new(u32::MAX - 1));
        assert!(entries.get().is_multiple_of(2));
        let inside = entries.around(|| entries.get());
        assert!(!inside.is_multiple_of(2));
        assert_eq!(entries.get(), 0, "wraps to an even number");
    }

    #[test]
    fn a_pcpu_in_one_call_is_away_then_stuck_and_reported_once() {
        let mut watchdog = TeeWatchdog::new();
        // The first poll, however late it is.
        assert_eq!(watchdog.poll(P, 0, t(1_000_000), t(10)), None);
        // Inside at every poll, but never in the same call.
        for step in 0..20 {
            let now = 2_000_000 + 19 * u64::from(step);
            assert_eq!(watchdog.poll(P, 2 * step + 1, t(now), t(10)), None);
        }
        for (count, now, event) in [
            (41, 3_000_000, None),
            (41, 3_000_019, None),
            (41, 3_000_020, Some(WatchdogEvent::Away(P))),
            (41, 3_000_099, None),
            (41, 3_000_100, Some(WatchdogEvent::Stuck(P))),
            (41, 4_000_000, None),
            (42, 4_000_001, Some(WatchdogEvent::Back(P))),
            (43, 4_000_002, None),
            (43, 4_000_022, Some(WatchdogEvent::Away(P))),
            (45, 4_000_023, Some(WatchdogEvent::Returned(P))),
            (46, 4_000_024, None),
            (47, 5_000_001, None),
            // After a long time without a poll, one event still comes after the other.
            (47, 6_000_000, Some(WatchdogEvent::Away(P))),
            (47, 6_000_001, Some(WatchdogEvent::Stuck(P))),
            (49, 6_000_002, Some(WatchdogEvent::Back(P))),
        ] {
            assert_eq!(
                watchdog.poll(P, count, t(now), t(10)),
                event,
                "{count} at {now}"
            );
        }
    }

    /// A secure interrupt can take a pCPU from wherever it is.
    #[test]
    fn a_pcpu_that_misses_its_tick_is_away_although_it_made_no_call() {
        let entries = SecureEntryCount::new();
        let mut watchdog = TeeWatchdog::new();
        let mut poll =
            |entries: &SecureEntryCount, now| watchdog.poll(P, entries.get(), t(now), t(10));
        // An idle pCPU ticks once per second, however long it is idle.
        for now in (1000..2000).step_by(10) {
            entries.tick();
            assert!(entries.get().is_multiple_of(2), "it is outside");
            assert_eq!(poll(&entries, now), None);
        }
        let last = 1990;
        assert_eq!(poll(&entries, last + 19), None);
        assert_eq!(poll(&entries, last + 20), Some(WatchdogEvent::Away(P)));
        assert_eq!(poll(&entries, last + 99), None);
        assert_eq!(poll(&entries, last + 100), Some(WatchdogEvent::Stuck(P)));
        entries.tick();
        assert_eq!(poll(&entries, last + 200), Some(WatchdogEvent::Back(P)));
    }

    #[test]
    fn a_clock_that_another_cpu_reads_a_little_earlier_does_no_harm() {
        let mut watchdog = TeeWatchdog::new();
        assert_eq!(watchdog.poll(P, 1, t(100), t(10)), None);
        assert_eq!(watchdog.poll(P, 1, t(99), t(10)), None);
    }

    #[test]
    fn two_pcpus_are_observed_independently() {
        let mut watchdog = TeeWatchdog::new();
        let other = PcpuIndex::new(1).unwrap();
        watchdog.poll(P, 1, t(0), t(10));
        watchdog.poll(other, 2, t(0), t(10));
        assert_eq!(watchdog.poll(other, 4, t(50), t(10)), None);
        assert_eq!(
            watchdog.poll(P, 1, t(50), t(10)),
            Some(WatchdogEvent::Away(P))
        );
    }
}
