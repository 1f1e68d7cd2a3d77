// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the guest tells the host: one event a line, `@postern ` and a JSON object.

use serde::{Deserialize, Serialize};

/// The word in front of every event, by which the host tells it from the rest of the console.
pub const MARK: &str = "@postern ";

/// How a case of xtest stands.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum CaseState {
    /// It has begun.
    Start,
    /// It ended without a failure.
    Ok,
    /// It ended with a failure, or xtest ended inside it.
    Failed,
    /// It ended without a failure because it did nothing: what it tests is not there.
    Skipped,
}

/// An event. Times are milliseconds of the guest's `CLOCK_MONOTONIC` unless a name says `ns`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The guest reads commands.
    Ready {
        /// `uname -r`.
        kernel: String,
        /// CPUs online.
        cpus: usize,
        /// Whether `/dev/tee0` is there.
        tee: bool,
        /// Whether `xtest` is in the image.
        xtest: bool,
        /// Since the kernel started.
        ms: u64,
    },
    /// xtest was started.
    XtestStart {
        /// The suites, as xtest names them: `regression+pkcs11`.
        suites: String,
    },
    /// A case began or ended.
    Case {
        /// `regression_1001`.
        name: String,
        /// How it stands.
        state: CaseState,
        /// How long it took.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ms: Option<u64>,
        /// Titled parts it reported. (xtest counts its single checks only over the whole run.)
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subcases: Option<u32>,
        /// How many of those failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failed_subcases: Option<u32>,
    },
    /// A line of xtest's own output: after the failed case it belongs to, or before the end, where no case tells it. Those
    /// are failures that only the closing table has, and, of a run without cases, what xtest said instead.
    Log {
        /// The line, cut where it is very long.
        line: String,
    },
    /// xtest ended.
    XtestEnd(XtestEnd),
    /// A measurement of the round trip into the TEE.
    Latency(Latency),
    /// The answer to `ping`.
    Pong {
        /// What `ping` was given.
        text: String,
    },
    /// A line of the hypervisor's answer to `monitor`.
    Monitor {
        /// The line as it came.
        line: String,
    },
    /// The answer to `monitor` is complete.
    MonitorEnd {
        /// How many lines it had.
        lines: u32,
    },
    /// Something is wrong that the host should show.
    Error {
        /// What.
        text: String,
    },
    /// The guest powers off or restarts now.
    Bye,
}

/// What a run of xtest came to.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct XtestEnd {
    /// Cases run to their end, as counted while they ran.
    pub cases: u32,
    /// Cases that failed.
    pub failed: u32,
    /// Cases that found nothing to test.
    pub skipped: u32,
    /// Single checks, from xtest's own closing table.
    pub subtests: u64,
    /// Failed single checks, from the same table.
    pub failed_subtests: u64,
    /// Cases that xtest's closing table counts, or nothing when xtest ended without one.
    pub table_cases: Option<u32>,
    /// How long it took.
    pub ms: u64,
    /// Its exit status, or minus the signal that ended it.
    pub exit: i32,
    /// When it began.
    pub start_ms: u64,
    /// When it ended.
    pub end_ms: u64,
}

/// A measurement of the round trip into the TEE. All times are nanoseconds.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    /// What the measurement was called.
    pub label: String,
    /// Calls timed.
    pub samples: u64,
    /// The fastest call.
    pub min_ns: u64,
    /// Half the calls were at most this long.
    pub median_ns: u64,
    /// 90 of 100 calls were at most this long.
    pub p90_ns: u64,
    /// 99 of 100 calls were at most this long.
    pub p99_ns: u64,
    /// 999 of 1,000 calls were at most this long; zero in reports of before it was told.
    #[serde(default)]
    pub p999_ns: u64,
    /// The slowest call.
    pub max_ns: u64,
    /// The mean.
    pub mean_ns: u64,
    /// How long the measurement took.
    pub total_ns: u64,
    /// What was measured, in words.
    pub what: String,
}

impl Event {
    /// Finds the event in a console line: behind the mark, which other output may stand before.
    /// `None` when the line has no mark.
    ///
    /// # Errors
    ///
    /// There is a mark and no known event behind it: something has cut the line.
    pub fn find(line: &str) -> Option<Result<Self, serde_json::Error>> {
        let (_, json) = line.split_once(MARK)?;
        Some(serde_json::from_str(json.trim_end()))
    }

    /// The console line for the event, without the newline. JSON escapes every control character, so
    /// it is always one line.
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
    fn an_event_is_one_line_of_the_agreed_form() {
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
