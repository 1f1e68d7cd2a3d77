// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Events for the host: one per line, `@postern ` and a JSON object.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The mark in front of every event, which distinguishes it from other console output.
pub const MARK: &str = "@postern ";

/// The state of a case of xtest.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum CaseState {
    /// The case has begun.
    Start,
    /// The case ended without a failure.
    Ok,
    /// The case ended with a failure, or xtest ended inside it.
    Failed,
    /// The case ended without a failure but did nothing: its subject does not exist here.
    Skipped,
}

/// An event. Times are milliseconds of the guest's `CLOCK_MONOTONIC` unless a name says `ns`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The guest reads commands.
    Ready {
        /// The release of the kernel, `uname -r`.
        kernel: String,
        /// The number of CPUs online.
        cpus: usize,
        /// Whether `/dev/tee0` exists.
        tee: bool,
        /// Whether `xtest` is in the image.
        xtest: bool,
        /// The time since the kernel's start.
        ms: u64,
    },
    /// xtest was started.
    XtestStart {
        /// The suites, as xtest names them: `regression+pkcs11`.
        suites: String,
    },
    /// A case began or ended.
    Case {
        /// The case's name, such as `regression_1001`.
        name: String,
        /// The case's state.
        state: CaseState,
        /// The duration of the case.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ms: Option<u64>,
        /// The number of titled parts that the case reported. (xtest counts its single checks only
        /// over the whole run.)
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subcases: Option<u32>,
        /// The number of those parts that failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failed_subcases: Option<u32>,
    },
    /// A line of xtest's own output: after the failed case that it belongs to, or before the end of
    /// the run where it belongs to no case. The latter are failures that only the closing table has
    /// and, in a run without cases, xtest's other output.
    Log {
        /// The line; a very long one is cut.
        line: String,
    },
    /// xtest ended.
    XtestEnd(XtestEnd),
    /// The result of a measurement of the round trip to the TEE.
    Latency(Latency),
    /// The result of a measurement of the root file system's disk; out is writing.
    Disk(Throughput),
    /// The result of a measurement of the network; out is sending.
    Network(Throughput),
    /// The answer to `interrupts`.
    Interrupts {
        /// How often each device's interrupt was taken since the kernel's start, by the name of its
        /// handlers.
        counts: BTreeMap<String, u64>,
    },
    /// The answer to `ping`.
    Pong {
        /// The argument of `ping`.
        text: String,
    },
    /// A line of the monitor's answer to `monitor`.
    Monitor {
        /// The line as it arrived.
        line: String,
    },
    /// The answer to `monitor` is complete.
    MonitorEnd {
        /// The number of lines.
        lines: u32,
    },
    /// An error that the host should show.
    Error {
        /// The error's text.
        text: String,
    },
    /// The guest powers off or restarts now.
    Bye,
}

/// The result of a run of xtest.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct XtestEnd {
    /// The number of cases that ended, as counted during the run.
    pub cases: u32,
    /// The number of cases that failed.
    pub failed: u32,
    /// The number of cases that found nothing to test.
    pub skipped: u32,
    /// The number of single checks, from xtest's own closing table.
    pub subtests: u64,
    /// The number of failed single checks, from the same table.
    pub failed_subtests: u64,
    /// The number of cases in xtest's closing table; `None` when xtest ended without one.
    pub table_cases: Option<u32>,
    /// The duration of the run.
    pub ms: u64,
    /// xtest's exit status, or the negative number of the signal that ended it.
    pub exit: i32,
    /// When the run began.
    pub start_ms: u64,
    /// When the run ended.
    pub end_ms: u64,
}

/// The result of a measurement of the round trip to the TEE. All times are nanoseconds.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    /// The measurement's label.
    pub label: String,
    /// The number of calls.
    pub samples: u64,
    /// The fastest call.
    pub min_ns: u64,
    /// Half the calls were at most this long.
    pub median_ns: u64,
    /// 90 of 100 calls were at most this long.
    pub p90_ns: u64,
    /// 99 of 100 calls were at most this long.
    pub p99_ns: u64,
    /// 999 of 1,000 calls were at most this long; zero in reports from before this field existed.
    #[serde(default)]
    pub p999_ns: u64,
    /// The slowest call.
    pub max_ns: u64,
    /// The mean time of a call.
    pub mean_ns: u64,
    /// The duration of the measurement.
    pub total_ns: u64,
    /// A description of the call.
    pub what: String,
}

/// The result of a measurement of a device.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throughput {
    /// The bytes that were moved in each direction.
    pub bytes: u64,
    /// The nanoseconds in which they left the guest.
    pub out_ns: u64,
    /// The nanoseconds in which they came to the guest.
    pub in_ns: u64,
}

impl Event {
    /// Finds the event in a console line. The mark may come after other output. Returns `None` when
    /// the line has no mark.
    ///
    /// # Errors
    ///
    /// Fails when there is a mark but no known event after it: something has cut the line.
    pub fn find(line: &str) -> Option<Result<Self, serde_json::Error>> {
        let (_, json) = line.split_once(MARK)?;
        Some(serde_json::from_str(json.trim_end()))
    }

    /// Returns the console line for the event, without the newline. JSON escapes control
    /// characters, so it is always one line.
    pub fn line(&self) -> String {
        let json = serde_json::to_string(self)
            .unwrap_or_else(|error| format!(r#"{{"event":"error","text":"event lost: {error}"}}"#));
        format!("{MARK}{json}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_is_one_line_of_marked_json() {
        let table = [
            (
                Event::Case {
                    name: "regression_1001".into(),
                    state: CaseState::Start,
                    ms: None,
                    subcases: None,
                    failed_subcases: None,
                },
                r#"@postern {"event":"case","name":"regression_1001","state":"start"}"#,
            ),
            (
                Event::XtestEnd(XtestEnd {
                    cases: 3,
                    exit: -11,
                    ..XtestEnd::default()
                }),
                r#"@postern {"event":"xtest-end","cases":3,"failed":0,"skipped":0,"subtests":0,"failed_subtests":0,"table_cases":null,"ms":0,"exit":-11,"start_ms":0,"end_ms":0}"#,
            ),
            (
                Event::Log {
                    line: "a\nb".into(),
                },
                r#"@postern {"event":"log","line":"a\nb"}"#,
            ),
            (
                Event::Disk(Throughput {
                    bytes: 1 << 20,
                    out_ns: 2,
                    in_ns: 3,
                }),
                r#"@postern {"event":"disk","bytes":1048576,"out_ns":2,"in_ns":3}"#,
            ),
            (
                Event::Interrupts {
                    counts: [("virtio0".to_owned(), 7)].into(),
                },
                r#"@postern {"event":"interrupts","counts":{"virtio0":7}}"#,
            ),
            (Event::Bye, r#"@postern {"event":"bye"}"#),
        ];
        for (event, line) in table {
            assert_eq!(event.line(), line);
            let read = Event::find(&format!("noise {line}\r"))
                .expect("a mark")
                .expect("an event");
            assert_eq!(read, event);
        }
        assert!(Event::find("no mark {}").is_none());
        assert!(
            Event::find(r#"@postern {"event":"cas"#)
                .expect("a mark")
                .is_err()
        );
    }
}
