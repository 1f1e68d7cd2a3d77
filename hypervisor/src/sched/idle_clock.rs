// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The idle time of a pCPU. Times are in ticks.

use postern_base::ticks::Ticks;
/// A pCPU's idle time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct IdleClock {
    /// The sum of the idle times that have ended.
    total: Ticks,
    /// When the current idle time began, if the pCPU is idle.
    since: Option<Ticks>,
    /// The last two marks, the older first: the time of each, and the idle time until then.
    marks: [(Ticks, Ticks); 2],
}

impl IdleClock {
    /// Returns the clock of a pCPU that has never been idle.
    pub const fn new() -> Self {
        Self {
            total: Ticks::ZERO,
            since: None,
            marks: [(Ticks::ZERO, Ticks::ZERO); 2],
        }
    }

    /// Begins an idle time.
    pub fn begin(&mut self, now: Ticks) {
        self.since = Some(now);
    }

    /// Ends the idle time.
    pub fn end(&mut self, now: Ticks) {
        if let Some(since) = self.since.take() {
            self.total += now.since(since);
        }
    }

    /// Returns all idle time until `now`.
    pub fn total(&self, now: Ticks) -> Ticks {
        let current = self.since.map_or(Ticks::ZERO, |since| now.since(since));
        self.total + current
    }

    /// Sets a mark at `now`. Called about once per second.
    pub fn mark(&mut self, now: Ticks) {
        self.marks = [self.marks[1], (now, self.total(now))];
    }

    /// Returns the idle share of the time since the mark before last, in percent.
    pub fn percent(&self, now: Ticks) -> u64 {
        let (then, total) = self.marks[0];
        let (time, idle) = (now.since(then).get(), self.total(now).since(total).get());
        // A day's ticks times 100 do not come near 2^64.
        (idle * 100).checked_div(time).unwrap_or(0).min(100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn t(ticks: u64) -> Ticks {
        Ticks::new(ticks)
    }

    #[test]
    fn percent_covers_the_time_since_the_mark_before_last() {
        let mut clock = IdleClock::new();
        assert_eq!((clock.total(t(100)), clock.percent(t(0))), (t(0), 0));
        clock.end(t(50));
        clock.begin(t(100));
        assert_eq!((clock.total(t(200)), clock.percent(t(200))), (t(100), 50));
        clock.end(t(300));
        assert_eq!(clock.total(t(1000)), t(200));
        // The first thousand: 20 percent. They count until the second mark after them.
        clock.mark(t(1000));
        clock.begin(t(1000));
        assert_eq!(
            (clock.total(t(2000)), clock.percent(t(2000))),
            (t(1200), 60)
        );
        clock.mark(t(2000));
        assert_eq!(clock.percent(t(2000)), 100);
        clock.end(t(2500));
        assert_eq!(clock.percent(t(3000)), 75);
        clock.mark(t(3000));
        assert_eq!(clock.percent(t(4000)), 25);
        clock.mark(t(4000));
        assert_eq!(clock.percent(t(4000)), 0);
    }

    #[test]
    fn a_clock_that_goes_back_does_no_harm() {
        let mut clock = IdleClock::new();
        clock.begin(t(1000));
        clock.mark(t(2000));
        clock.mark(t(2000));
        assert_eq!((clock.percent(t(1999)), clock.total(t(999))), (0, t(0)));
        clock.end(t(999));
        assert_eq!(clock.total(t(3000)), t(0));
    }
}
