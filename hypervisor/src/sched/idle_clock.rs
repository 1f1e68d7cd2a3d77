// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How much of its time a pCPU has nothing to do. Times are ticks.

/// A pCPU's idle time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct IdleClock {
    /// What is over.
    total: u64,
    /// When the current idle time began.
    since: Option<u64>,
    /// The last two marks: when, and what the total was. The older is first.
    marks: [(u64, u64); 2],
}

impl IdleClock {
    /// Busy from the beginning of time.
    pub const fn new() -> Self {
        Self {
            total: 0,
            since: None,
            marks: [(0, 0); 2],
        }
    }

    /// There is nothing to do.
    pub fn begin(&mut self, now: u64) {
        self.since = Some(now);
    }

    /// There is something to do.
    pub fn end(&mut self, now: u64) {
        if let Some(since) = self.since.take() {
            self.total += now.saturating_sub(since);
        }
    }

    /// All idle time until now.
    pub fn total(&self, now: u64) -> u64 {
        let current = self.since.map_or(0, |since| now.saturating_sub(since));
        self.total + current
    }

    /// Marks the present. To be called about once a second.
    pub fn mark(&mut self, now: u64) {
        self.marks = [self.marks[1], (now, self.total(now))];
    }

    /// The share of the time since the mark before last, in percent.
    pub fn percent(&self, now: u64) -> u64 {
        let (then, total) = self.marks[0];
        let (time, idle) = (
            now.saturating_sub(then),
            self.total(now).saturating_sub(total),
        );
        // A day's ticks times 100 are far from a wrap.
        (idle * 100).checked_div(time).unwrap_or(0).min(100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_the_last_marks() {
        let mut clock = IdleClock::new();
        assert_eq!((clock.total(100), clock.percent(0)), (0, 0));
        clock.end(50);
        clock.begin(100);
        assert_eq!((clock.total(200), clock.percent(200)), (100, 50));
        clock.end(300);
        assert_eq!(clock.total(1000), 200);
        // The first thousand: 20 percent. They count until the second mark after them.
        clock.mark(1000);
        clock.begin(1000);
        assert_eq!((clock.total(2000), clock.percent(2000)), (1200, 60));
        clock.mark(2000);
        assert_eq!(clock.percent(2000), 100);
        clock.end(2500);
        assert_eq!(clock.percent(3000), 75);
        clock.mark(3000);
        assert_eq!(clock.percent(4000), 25);
        clock.mark(4000);
        assert_eq!(clock.percent(4000), 0);
    }

    #[test]
    fn a_clock_that_goes_back_does_no_harm() {
        let mut clock = IdleClock::new();
        clock.begin(1000);
        clock.mark(2000);
        clock.mark(2000);
        assert_eq!((clock.percent(1999), clock.total(999)), (0, 0));
        clock.end(999);
        assert_eq!(clock.total(3000), 0);
    }
}
