// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What log lines look like, and how a guest is kept from filling the log.
//!
//! Guests choose some of the text (names, numbers that they pass): none of it may begin a line of
//! its own, which a program that reads the log would take for the hypervisor's.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something does not work.
    Error,
    /// Something is not as it should be.
    Warn,
    /// What a user wants to know.
    Info,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
        })
    }
}

/// When a line was said, as it stands in front of it: `[    1.234567]`.
#[derive(Clone, Copy, Debug)]
pub struct Timestamp(
    /// Microseconds since the machine started.
    pub u64,
);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.0 / 1_000_000, self.0 % 1_000_000);
        write!(f, "[{seconds:5}.{micros:06}]")
    }
}

/// A log line without its end: `[    1.234567] warn: text`.
pub struct LogLine<'a> {
    /// Microseconds since the machine started.
    pub micros: u64,
    /// How much it matters.
    pub level: Level,
    /// What it says; control characters come out as blanks.
    pub text: fmt::Arguments<'a>,
}

impl fmt::Display for LogLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", Timestamp(self.micros), self.level)?;
        write!(PlainText(f), "{}", self.text)
    }
}

/// Control characters become blanks, so that text stays in its line.
struct PlainText<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for PlainText<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars()
            .try_for_each(|c| self.0.write_char(if c.is_control() { ' ' } else { c }))
    }
}

/// Counts something that a guest can make happen, and says when it is the first time: each is
/// counted, and logged once.
#[derive(Debug, Default)]
pub struct LogOnce(AtomicU64);

impl LogOnce {
    /// It has not happened yet.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// It happens; whether that is to be logged.
    #[must_use]
    #[inline]
    pub fn record(&self) -> bool {
        // Nothing else is ordered by the count, and it cannot wrap in a machine's life.
        self.0.fetch_add(1, Ordering::Relaxed) == 0
    }

    /// How often it has happened.
    #[inline]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines() {
        for (micros, level, expected) in [
            (1_234_567, Level::Warn, "[    1.234567] warn: x"),
            (0, Level::Error, "[    0.000000] error: x"),
            (98_765_000_042, Level::Info, "[98765.000042] info: x"),
            (1_000_000_000_000, Level::Info, "[1000000.000000] info: x"),
        ] {
            let text = format_args!("{}", 'x');
            let line = LogLine {
                micros,
                level,
                text,
            };
            assert_eq!(line.to_string(), expected);
        }
    }

    #[test]
    fn guests_do_not_begin_lines() {
        let name = "evil\r\n@postern {\"event\":\"all-off\"}\u{1b}[2J\u{85}ä";
        let line = LogLine {
            micros: 0,
            level: Level::Info,
            text: format_args!("vm {name} is up"),
        };
        assert_eq!(
            line.to_string(),
            "[    0.000000] info: vm evil  @postern {\"event\":\"all-off\"} [2J ä is up"
        );
    }

    #[test]
    fn counted_and_logged_once() {
        let denied = LogOnce::new();
        assert_eq!(denied.count(), 0);
        assert!(denied.record());
        assert!((0..99).all(|_| !denied.record()));
        assert_eq!(denied.count(), 100);
    }
}
