// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The format of log lines, and the bound on what a guest can make Postern log.
//!
//! Guests choose some of the text (names, numbers that they pass). None of that text may begin a
//! line of its own, because a program that reads the log would take it for the hypervisor's.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};

/// The severity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something does not work.
    Error,
    /// Something is not as it should be, but works.
    Warn,
    /// Information for a user.
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

/// The time in front of a log line: `[    1.234567]`.
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

/// A log line without its line end: `[    1.234567] warn: text`.
pub struct LogLine<'a> {
    /// Microseconds since the machine started.
    pub micros: u64,
    /// The severity.
    pub level: Level,
    /// The text. Control characters are written as blanks.
    pub text: fmt::Arguments<'a>,
}

impl fmt::Display for LogLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", Timestamp(self.micros), self.level)?;
        write!(PlainText(f), "{}", self.text)
    }
}

/// A writer that replaces control characters by blanks, so that text cannot leave its line.
struct PlainText<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for PlainText<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars()
            .try_for_each(|c| self.0.write_char(if c.is_control() { ' ' } else { c }))
    }
}

/// A counter of an event that a guest can cause, which is logged the first time only.
#[derive(Debug, Default)]
pub struct LogOnce(AtomicU64);

impl LogOnce {
    /// Creates a counter with the value zero.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts an event. Returns whether to log it.
    #[must_use]
    #[inline]
    pub fn record(&self) -> bool {
        // The count orders no other access. A 64-bit counter does not wrap while a machine runs.
        self.0.fetch_add(1, Ordering::Relaxed) == 0
    }

    /// Returns the number of events.
    #[inline]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_have_documented_format() {
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
    fn text_of_guests_cannot_begin_a_line() {
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
    fn log_once_counts_all_and_logs_first() {
        let denied = LogOnce::new();
        assert_eq!(denied.count(), 0);
        assert!(denied.record());
        assert!((0..99).all(|_| !denied.record()));
        assert_eq!(denied.count(), 100);
    }
}
