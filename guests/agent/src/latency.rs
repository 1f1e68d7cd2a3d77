// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Measures how long a call to the TEE and back takes, seen from a program in the guest.
//!
//! A call goes through the system call, Linux's driver, an SMC, the hypervisor and OP-TEE, and all
//! the way back. [`call`] has the kinds of calls, [`program`] the program for a shell.

mod call;
mod program;

use crate::sys;
use call::Calls;
pub use call::Kind;
use guest_agent::event::Latency;
use hdrhistogram::Histogram;
pub use program::program;
use std::io::{Error, Result};
use std::path::Path;
use std::time::Duration;

/// The calls before the first one that counts, which bring the session, caches and the driver's
/// buffers into place.
pub const WARM_UP: u32 = 50;
/// The longest measurement; it ends then even if calls are left.
const LONGEST: Duration = Duration::from_secs(60);
/// The longest call that the histogram resolves.
const LONGEST_CALL: Duration = Duration::from_secs(100);

/// The parameters of a measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurement {
    /// The measurement's label.
    pub label: String,
    /// The number of calls to time.
    pub samples: u32,
    /// The kind of call.
    pub kind: Kind,
    /// The number of untimed calls before those.
    pub warm_up: u32,
}

/// Measures calls through `device`.
///
/// # Errors
///
/// Fails when the TEE cannot be reached or answers wrongly.
pub fn measure(device: &Path, measurement: &Measurement) -> Result<Latency> {
    let mut calls = Calls::prepare(device, measurement.kind)?;
    for _ in 0..measurement.warm_up {
        calls.once()?;
    }
    record(measurement, sys::raw_time, || {
        let begin = sys::raw_time();
        calls.once()?;
        Ok(sys::raw_time().saturating_sub(begin))
    })
}

/// Times calls with a clock until there are enough, or [`LONGEST`] has passed.
fn record(
    measurement: &Measurement,
    mut clock: impl FnMut() -> Duration,
    mut call: impl FnMut() -> Result<Duration>,
) -> Result<Latency> {
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let mut histogram: Histogram<u64> =
        Histogram::new_with_bounds(1, nanoseconds(LONGEST_CALL), 3).map_err(Error::other)?;
    let begin = clock();
    let mut total = Duration::ZERO;
    // The extremes are kept beside the histogram, which rounds to three digits.
    let (mut shortest, mut longest) = (u64::MAX, 0);
    while histogram.len() < u64::from(measurement.samples) && total < LONGEST {
        let time = nanoseconds(call()?);
        shortest = shortest.min(time);
        longest = longest.max(time);
        histogram.saturating_record(time.max(1));
        total = clock().saturating_sub(begin);
    }
    let at = |quantile| {
        histogram
            .value_at_quantile(quantile)
            .clamp(shortest, longest)
    };
    Ok(Latency {
        label: measurement.label.clone(),
        samples: histogram.len(),
        min_ns: shortest,
        median_ns: at(0.5),
        p90_ns: at(0.9),
        p99_ns: at(0.99),
        p999_ns: at(0.999),
        max_ns: longest,
        mean_ns: histogram.mean() as u64,
        total_ns: nanoseconds(total),
        what: format!(
            "{} and back, by CLOCK_MONOTONIC_RAW in the guest",
            measurement.kind.what()
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(samples: u32) -> Measurement {
        Measurement {
            label: "idle".into(),
            samples,
            kind: Kind::default(),
            warm_up: 0,
        }
    }

    /// Returns a report of 1,000 calls: 989 of 1 ms, 10 of 10 ms, one of 5 s.
    fn example() -> Latency {
        let mut calls = (0..1000).map(|call| match call {
            17 => Duration::from_secs(5),
            _ if call % 100 == 1 => Duration::from_millis(10),
            _ => Duration::from_millis(1),
        });
        let mut now = Duration::ZERO;
        let clock = || {
            now += Duration::from_millis(1);
            now
        };
        record(&measurement(1000), clock, || {
            Ok(calls.next().expect("1000 calls"))
        })
        .expect("a report")
    }

    #[test]
    fn percentiles_match_the_calls() {
        let report = example();
        assert_eq!(report.samples, 1000);
        assert_eq!(report.min_ns, 1_000_000);
        assert_eq!(report.max_ns, 5_000_000_000);
        // Three significant digits.
        let near = |value: u64, expected: u64| value.abs_diff(expected) <= expected / 500;
        assert!(near(report.median_ns, 1_000_000), "{report:?}");
        assert!(near(report.p90_ns, 1_000_000), "{report:?}");
        assert!(near(report.p99_ns, 10_000_000), "{report:?}");
        // (989 + 100 + 5000) / 1000 ms.
        assert!(near(report.mean_ns, 6_089_000), "{report:?}");
        // The clock ticked once before and once after each call.
        assert_eq!(report.total_ns, 1_000_000_000);
        assert!(near(report.p999_ns, 10_000_000), "{report:?}");
    }

    #[test]
    fn slow_tee_ends_measurement_at_time_limit() {
        let mut now = Duration::ZERO;
        let clock = || {
            now += Duration::from_secs(7);
            now
        };
        let report =
            record(&measurement(1000), clock, || Ok(Duration::from_secs(7))).expect("a report");
        assert_eq!(report.samples, 9);
    }

    #[test]
    fn failing_call_fails_measurement() {
        let failed = record(
            &measurement(10),
            || Duration::ZERO,
            || Err(Error::other("no TEE")),
        );
        assert!(failed.is_err());
    }
}
