//! The meter: how long a call into the TEE and back takes, seen by a program in the guest.
//!
//! One call is a `TEE_IOC_INVOKE` of OP-TEE's invoke-tests pseudo TA with one value that it adds up:
//! system call, Linux's driver, a yielding SMC, the hypervisor, OP-TEE, and all the way back. No memory
//! is shared and nobody answers an RPC. The sum is checked, so that no shortcut can answer for the TEE.

use crate::sys;
use crate::tee::{INVOKE_TESTS, INVOKE_TESTS_PARAMS, Session};
use guest_agent::event::Latency;
use hdrhistogram::Histogram;
use std::io::{Error, Result};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// What is measured, in words.
const WHAT: &str = "one TEE_IOC_INVOKE of OP-TEE's invoke-tests pseudo TA (one value in and out, no \
                    shared memory, no RPC) and back, by CLOCK_MONOTONIC_RAW in the guest";
/// Calls before the first one that counts: session, caches and the driver's buffers are then in place.
const WARM_UP: u32 = 50;
/// A measurement ends here even when it has not timed all calls.
const LONGEST: Duration = Duration::from_secs(60);
/// The longest single call that the histogram tells apart from longer ones.
const LONGEST_CALL: Duration = Duration::from_secs(100);

/// Measures `samples` calls through `device`.
///
/// # Errors
///
/// The TEE cannot be reached, or answers something wrong.
pub fn measure(device: &Path, label: &str, samples: u32) -> Result<Latency> {
    let session = Session::open(device, INVOKE_TESTS)?;
    let mut number = 0_u64;
    let mut call = || {
        number += 1;
        let begin = sys::raw_time();
        let (sum, _) = session.invoke(INVOKE_TESTS_PARAMS, number, 7)?;
        let end = sys::raw_time();
        if sum == number + 7 {
            Ok(end.saturating_sub(begin))
        } else {
            Err(Error::other(format!("the TEE says {number} + 7 = {sum}")))
        }
    };
    for _ in 0..WARM_UP {
        call()?;
    }
    record(label, samples, sys::raw_time, call)
}

/// Times calls with a clock until there are enough, or [`LONGEST`] is over.
fn record(
    label: &str,
    samples: u32,
    mut clock: impl FnMut() -> Duration,
    mut call: impl FnMut() -> Result<Duration>,
) -> Result<Latency> {
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let mut histogram: Histogram<u64> =
        Histogram::new_with_bounds(1, nanoseconds(LONGEST_CALL), 3).map_err(Error::other)?;
    let begin = clock();
    let mut total = Duration::ZERO;
    // The ends are kept beside the histogram, which rounds to three digits.
    let (mut shortest, mut longest) = (u64::MAX, 0);
    while histogram.len() < u64::from(samples) && total < LONGEST {
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
        label: label.to_owned(),
        samples: histogram.len(),
        min_ns: shortest,
        median_ns: at(0.5),
        p90_ns: at(0.9),
        p99_ns: at(0.99),
        max_ns: longest,
        mean_ns: histogram.mean() as u64,
        total_ns: nanoseconds(total),
        what: WHAT.to_owned(),
    })
}

const USAGE: &str = "\
usage: tee-latency [--json] [--samples N] [--label TEXT] [--device /dev/tee0]
Measures the round trip into OP-TEE and back as a program sees it.";

/// `tee-latency` as a program of its own.
pub fn program(arguments: impl Iterator<Item = String>) -> ExitCode {
    let options = match Options::parse(arguments) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("tee-latency: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match measure(Path::new(&options.device), &options.label, options.samples) {
        Ok(report) if options.json => match serde_json::to_string_pretty(&report) {
            Ok(json) => println!("{json}"),
            Err(error) => {
                eprintln!("tee-latency: {error}");
                return ExitCode::FAILURE;
            }
        },
        Ok(report) => print!("{}", text(&report)),
        Err(error) => {
            eprintln!("tee-latency: {}: {error}", options.device);
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// The result for a person.
fn text(report: &Latency) -> String {
    let us = |ns: u64| format!("{}.{:03}", ns / 1000, ns % 1000);
    format!(
        "{}\n{} calls in {} us\nmin {} us   median {} us   p90 {} us   p99 {} us   max {} us\n",
        report.what,
        report.samples,
        us(report.total_ns),
        us(report.min_ns),
        us(report.median_ns),
        us(report.p90_ns),
        us(report.p99_ns),
        us(report.max_ns),
    )
}

/// What `tee-latency` was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    json: bool,
    samples: u32,
    label: String,
    device: String,
}

impl Options {
    /// `None` when help was asked for.
    fn parse(
        mut arguments: impl Iterator<Item = String>,
    ) -> std::result::Result<Option<Self>, String> {
        let mut options = Self {
            json: false,
            samples: 2000,
            label: "idle".into(),
            device: "/dev/tee0".into(),
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--json" => options.json = true,
                "--samples" => {
                    options.samples = value()?
                        .parse()
                        .ok()
                        .filter(|&samples| samples > 0 && samples <= crate::command::MAX_SAMPLES)
                        .ok_or(format!(
                            "--samples takes 1 to {}",
                            crate::command::MAX_SAMPLES
                        ))?;
                }
                "--label" => options.label = value()?,
                "--device" => options.device = value()?,
                "-h" | "--help" => return Ok(None),
                other => return Err(format!("unknown option {other}")),
            }
        }
        Ok(Some(options))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1,000 calls: 989 of 1 ms, 10 of 10 ms, one of 5 s.
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
        record("idle", 1000, clock, || {
            Ok(calls.next().expect("1000 calls"))
        })
        .expect("a report")
    }

    #[test]
    fn percentiles_are_those_of_the_calls() {
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
        assert!(
            text(&report).contains("max 5000000.000 us"),
            "{}",
            text(&report)
        );
    }

    #[test]
    fn a_slow_tee_ends_the_measurement_in_time() {
        let mut now = Duration::ZERO;
        let clock = || {
            now += Duration::from_secs(7);
            now
        };
        let report = record("busy", 1000, clock, || Ok(Duration::from_secs(7))).expect("a report");
        assert_eq!(report.samples, 9);
    }

    #[test]
    fn a_failing_call_is_no_measurement() {
        let failed = record(
            "idle",
            10,
            || Duration::ZERO,
            || Err(Error::other("no TEE")),
        );
        assert!(failed.is_err());
    }

    #[test]
    fn options_are_parsed_or_refused() {
        let parse = |line: &str| Options::parse(line.split_whitespace().map(str::to_owned));
        let options = parse("--json --samples 10 --device /dev/tee1")
            .expect("good")
            .expect("no help");
        assert!(options.json);
        assert_eq!(
            (options.samples, options.device.as_str()),
            (10, "/dev/tee1")
        );
        assert_eq!(parse("--help"), Ok(None));
        for bad in ["--samples", "--samples 0", "--samples x", "--fast"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
