// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Notices a secure world that does not come back.
//!
//! OP-TEE leaves a call when an interrupt for the normal world is pending, and every pCPU has one
//! at least once a second. A pCPU that stays in one and the same SMC for [`PATIENCE_SECONDS`] is
//! in a trusted OS that has panicked or hangs with interrupts masked. So is a pCPU that has made no
//! call and misses its tick: a secure interrupt has taken it there, from wherever it was. The pCPU itself cannot say so; the others do, in their ticks.

use core::sync::atomic::{AtomicU32, Ordering};
use postern_base::ids::{MAX_PCPUS, PcpuIndex};

/// How long a pCPU may show no sign before others take over what waits for it. That does no harm where it comes back, so
/// it is soon: twice the time between two ticks, which also end a call of a secure world that works.
pub const AWAY_SECONDS: u64 = 2;

/// How long a pCPU may show no sign before the secure world counts as stuck.
pub const PATIENCE_SECONDS: u64 = 10;

/// Counts the entries to and the exits from the secure world of one pCPU, odd while it is inside, and its ticks, two each.
/// On a cache line of its own, since only its pCPU writes it.
#[repr(align(64))]
#[derive(Debug, Default)]
pub struct SecureEntryCount(AtomicU32);

impl SecureEntryCount {
    /// None yet.
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Counts an entry, makes the call, and counts the exit. For the pCPU whose count it is.
    #[inline]
    pub fn around<T>(&self, call: impl FnOnce() -> T) -> T {
        let count = self.0.load(Ordering::Relaxed);
        self.0.store(count.wrapping_add(1), Ordering::Relaxed);
        let result = call();
        self.0.store(count.wrapping_add(2), Ordering::Relaxed);
        result
    }

    /// Counts a tick, outside. For the pCPU whose count it is.
    #[inline]
    pub fn tick(&self) {
        let count = self.0.load(Ordering::Relaxed);
        self.0.store(count.wrapping_add(2), Ordering::Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is new about a pCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchdogEvent {
    /// It has shown no sign for [`AWAY_SECONDS`].
    Away(PcpuIndex),
    /// It was said to be away, no more than that, and has come back.
    Returned(PcpuIndex),
    /// It has shown no sign for too long. That it is away has been said before.
    Stuck(PcpuIndex),
    /// It was said to be stuck, and has come back.
    Back(PcpuIndex),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Seen {
    count: u32,
    /// When the count was first seen, in ticks; `None` where nobody has looked yet.
    since: Option<u64>,
    told: Told,
}

/// What has been said of a pCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Told {
    #[default]
    Nothing,
    Away,
    Stuck,
}

/// What was seen of all pCPUs.
#[derive(Debug, Default)]
pub struct TeeWatchdog {
    seen: [Seen; MAX_PCPUS],
}

impl TeeWatchdog {
    /// Nothing seen.
    pub const fn new() -> Self {
        Self {
            seen: [Seen {
                count: 0,
                since: None,
                told: Told::Nothing,
            }; MAX_PCPUS],
        }
    }

    /// Looks at the count of a pCPU at `now`, in ticks, of which a `second` has so many.
    pub fn poll(
        &mut self,
        pcpu: PcpuIndex,
        count: u32,
        now: u64,
        second: u64,
    ) -> Option<WatchdogEvent> {
        let seen = &mut self.seen[pcpu.get()];
        let Some(since) = seen.since.filter(|_| seen.count == count) else {
            let told = seen.told;
            *seen = Seen {
                count,
                since: Some(now),
                told: Told::Nothing,
            };
            return match told {
                Told::Nothing => None,
                Told::Away => Some(WatchdogEvent::Returned(pcpu)),
                Told::Stuck => Some(WatchdogEvent::Back(pcpu)),
            };
        };
        let (seconds, told, news) = match seen.told {
            Told::Nothing => (AWAY_SECONDS, Told::Away, WatchdogEvent::Away(pcpu)),
            Told::Away => (PATIENCE_SECONDS, Told::Stuck, WatchdogEvent::Stuck(pcpu)),
            Told::Stuck => return None,
        };
        if now.saturating_sub(since) < seconds * second {
            return None;
        }
        seen.told = told;
        Some(news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn only_who_stays_in_one_call_is_away_and_then_stuck_and_is_told_once() {
        let mut watchdog = TeeWatchdog::new();
        // Nobody has looked before, however late it is.
        assert_eq!(watchdog.poll(P, 0, 1_000_000, 10), None);
        // Inside at every look, but never in the same call.
        for step in 0..20 {
            let now = 2_000_000 + 19 * u64::from(step);
            assert_eq!(watchdog.poll(P, 2 * step + 1, now, 10), None);
        }
        for (count, now, news) in [
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
            // Where nobody looked for long, one comes after the other all the same.
            (47, 6_000_000, Some(WatchdogEvent::Away(P))),
            (47, 6_000_001, Some(WatchdogEvent::Stuck(P))),
            (49, 6_000_002, Some(WatchdogEvent::Back(P))),
        ] {
            assert_eq!(watchdog.poll(P, count, now, 10), news, "{count} at {now}");
        }
    }

    /// A secure interrupt can take a pCPU from wherever it is.
    #[test]
    fn who_does_not_come_to_its_tick_is_away_although_it_has_called_nobody() {
        let entries = SecureEntryCount::new();
        let mut watchdog = TeeWatchdog::new();
        let mut look = |entries: &SecureEntryCount, now| watchdog.poll(P, entries.get(), now, 10);
        // An idle pCPU ticks once per second, however long it is idle.
        for now in (1000..2000).step_by(10) {
            entries.tick();
            assert!(entries.get().is_multiple_of(2), "it is outside");
            assert_eq!(look(&entries, now), None);
        }
        let last = 1990;
        assert_eq!(look(&entries, last + 19), None);
        assert_eq!(look(&entries, last + 20), Some(WatchdogEvent::Away(P)));
        assert_eq!(look(&entries, last + 99), None);
        assert_eq!(look(&entries, last + 100), Some(WatchdogEvent::Stuck(P)));
        entries.tick();
        assert_eq!(look(&entries, last + 200), Some(WatchdogEvent::Back(P)));
    }

    #[test]
    fn a_clock_that_another_cpu_reads_a_little_earlier_does_no_harm() {
        let mut watchdog = TeeWatchdog::new();
        assert_eq!(watchdog.poll(P, 1, 100, 10), None);
        assert_eq!(watchdog.poll(P, 1, 99, 10), None);
    }

    #[test]
    fn pcpus_are_told_apart() {
        let mut watchdog = TeeWatchdog::new();
        let other = PcpuIndex::new(1).unwrap();
        watchdog.poll(P, 1, 0, 10);
        watchdog.poll(other, 2, 0, 10);
        assert_eq!(watchdog.poll(other, 4, 50, 10), None);
        assert_eq!(watchdog.poll(P, 1, 50, 10), Some(WatchdogEvent::Away(P)));
    }
}
