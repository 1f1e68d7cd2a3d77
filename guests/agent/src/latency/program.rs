// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The program `tee-latency` for users at a shell.

use super::call::Kind;
use super::{Measurement, WARM_UP, measure};
use crate::command::MAX_SAMPLES;
use guest_agent::event::Latency;
use std::path::Path;
use std::process::ExitCode;

/// The text of `--help` without the list of calls.
const USAGE: &str = "\
usage: tee-latency [OPTION]...
Measures the round trip to OP-TEE and back as a program in this guest sees it.

  --call NAME     kind of call, see below; values by default
  --count N       number of timed calls, 2000 by default; a minute at most
  --warm-up N     number of untimed calls before them, 50 by default
  --json          print the result as JSON, in nanoseconds
  --label TEXT    label of the result, idle by default
  --device FILE   device of the TEE, /dev/tee0 by default
  --help          print this text

Calls:
";

fn usage() -> String {
    Kind::ALL.iter().fold(USAGE.to_owned(), |text, kind| {
        let line = format!("  {:<13} {}\n", kind.name(), kind.what());
        text + &line
    })
}

/// Runs the program.
pub fn program(arguments: impl Iterator<Item = String>) -> ExitCode {
    let options = match Options::parse(arguments) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{}", usage());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("tee-latency: {error}\n{}", usage());
            return ExitCode::from(2);
        }
    };
    let device = &options.device;
    match measure(Path::new(device), &options.measurement) {
        Ok(report) if options.json => match serde_json::to_string_pretty(&report) {
            Ok(json) => println!("{json}"),
            Err(error) => {
                eprintln!("tee-latency: {error}");
                return ExitCode::FAILURE;
            }
        },
        Ok(report) => print!("{}", text(&report)),
        Err(error) => {
            eprintln!("tee-latency: {device}: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Formats the result for a terminal.
fn text(report: &Latency) -> String {
    let us = |ns: u64| format!("{}.{:03}", ns / 1000, ns % 1000);
    let rows = [
        ("min", report.min_ns),
        ("p50", report.median_ns),
        ("p90", report.p90_ns),
        ("p99", report.p99_ns),
        ("p99.9", report.p999_ns),
        ("max", report.max_ns),
        ("mean", report.mean_ns),
    ];
    let head = format!(
        "{}\n{} calls in {} us\n",
        report.what,
        report.samples,
        us(report.total_ns)
    );
    rows.iter().fold(head, |text, (name, ns)| {
        text + &format!("  {name:<6}{:>14} us\n", us(*ns))
    })
}

/// The options of `tee-latency`.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    measurement: Measurement,
    json: bool,
    device: String,
}

impl Options {
    /// Parses the arguments; returns `None` for `--help`.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self {
            measurement: Measurement {
                label: "idle".into(),
                samples: 2000,
                kind: Kind::default(),
                warm_up: WARM_UP,
            },
            json: false,
            device: "/dev/tee0".into(),
        };
        let measurement = &mut options.measurement;
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--json" => options.json = true,
                "--count" | "--samples" => {
                    measurement.samples = number(&argument, &value()?, 1)?;
                }
                "--warm-up" => measurement.warm_up = number(&argument, &value()?, 0)?,
                "--call" => {
                    let name = value()?;
                    measurement.kind =
                        Kind::find(&name).ok_or(format!("there is no call {name}"))?;
                }
                "--label" => measurement.label = value()?,
                "--device" => options.device = value()?,
                "-h" | "--help" => return Ok(None),
                other => return Err(format!("unknown option {other}")),
            }
        }
        Ok(Some(options))
    }
}

fn number(option: &str, text: &str, least: u32) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|number| (least..=MAX_SAMPLES).contains(number))
        .ok_or(format!("{option} takes {least} to {MAX_SAMPLES}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_parse_or_give_a_reason() {
        let parse = |line: &str| Options::parse(line.split_whitespace().map(str::to_owned));
        let options = parse("--json --count 10 --call memref --warm-up 0 --device /dev/tee1")
            .expect("good")
            .expect("no help");
        assert!(options.json);
        assert_eq!(options.device, "/dev/tee1");
        assert_eq!(
            options.measurement,
            Measurement {
                label: "idle".into(),
                samples: 10,
                kind: Kind::Memref,
                warm_up: 0
            }
        );
        assert_eq!(parse("--help"), Ok(None));
        for bad in [
            "--count",
            "--count 0",
            "--count x",
            "--warm-up -1",
            "--call",
            "--call fast",
            "--fast",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        for kind in Kind::ALL {
            assert!(usage().contains(kind.name()));
        }
    }

    #[test]
    fn text_shows_all_figures() {
        let report = Latency {
            label: "idle".into(),
            samples: 3,
            min_ns: 1001,
            median_ns: 2002,
            p90_ns: 3003,
            p99_ns: 4004,
            p999_ns: 5005,
            max_ns: 5_000_006,
            mean_ns: 7007,
            total_ns: 8008,
            what: "a call".into(),
        };
        let text = text(&report);
        for part in [
            "a call\n3 calls in 8.008 us\n",
            "min            1.001 us\n",
            "p50            2.002 us\n",
            "p90            3.003 us\n",
            "p99            4.004 us\n",
            "p99.9          5.005 us\n",
            "max         5000.006 us\n",
            "mean           7.007 us\n",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
    }
}
