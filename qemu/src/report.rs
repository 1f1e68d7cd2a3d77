// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a run came to: `report.json`, whose schema `docs/report.md` has, and the picture and table that
//! are made of it.

pub mod picture;
mod table;
mod verdict;

pub use picture::{latency_picture, picture};
pub use table::table;
pub use verdict::{Checks, judge};

use crate::guest::{Guest, Run};
use crate::launch::Vm;
use crate::prepare::Versions;
use guest_agent::event::{CaseState, Latency};
use postern_ctl::told::Stats;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The version of the schema.
pub const SCHEMA: u32 = 1;
/// The label of a measurement with nothing else going on.
pub const IDLE: &str = "idle";
/// The label of a measurement while another guest runs xtest.
pub const BUSY: &str = "busy";

/// A whole run. Times are milliseconds of the host's clock since the machine was started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// `PASS` or `FAIL`.
    pub verdict: String,
    /// Why it failed; empty when it passed.
    pub why: Vec<String>,
    /// What is worth a look but no failure.
    pub notes: Vec<String>,
    /// Whether the hypervisor ran, or a bare machine: `shared` or `native`.
    pub mode: String,
    /// The system description's file name.
    pub system: String,
    /// The Debian suite.
    pub suite: String,
    /// What xtest was asked for, in the words of `--xtest`.
    pub selection: String,
    /// Versions of what ran.
    pub versions: ReportVersions,
    /// The machine.
    pub machine: ReportMachine,
    /// From the start of the machine to its end.
    pub duration_ms: u64,
    /// How long at least two guests ran xtest at once.
    pub overlap_ms: u64,
    /// Cases that the selection has on the bare machine; none when that is not known.
    pub expected_cases: Option<usize>,
    /// The guests, in the order of the boot tree.
    pub guests: Vec<GuestReport>,
}

/// Versions of what ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportVersions {
    /// This project.
    pub postern: String,
    /// Package version of OP-TEE.
    pub optee: String,
    /// Package version of xtest.
    pub xtest: String,
    /// Release of the guest kernel.
    pub linux: String,
    /// Package version of TF-A.
    pub tf_a: String,
}

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportMachine {
    /// Emulated CPUs.
    pub cpus: u32,
    /// Their model.
    pub cpu: String,
    /// Emulated RAM.
    pub memory_mib: u64,
    /// CPUs of the host that emulates them.
    pub host_cpus: usize,
}

/// One guest's part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuestReport {
    /// Its name.
    pub name: String,
    /// Its vCPUs.
    pub vcpus: u32,
    /// Its RAM.
    pub memory_kib: u64,
    /// Whether it has the TEE.
    pub tee: bool,
    /// When it was ready.
    pub ready_ms: Option<u64>,
    /// What xtest came to.
    pub xtest: Option<XtestReport>,
    /// xtest's cases.
    pub cases: Vec<CaseReport>,
    /// The round trip into the TEE.
    pub latency: Vec<Latency>,
    /// What the hypervisor counted.
    pub stats: Option<Stats>,
    /// What its kernel complained about.
    pub warnings: Vec<String>,
}

/// What xtest came to in one guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct XtestReport {
    /// The suites.
    pub suites: String,
    /// Cases that were run.
    pub cases: u32,
    /// Cases that failed.
    pub failed: u32,
    /// Cases that found nothing to test.
    pub skipped: u32,
    /// Single checks.
    pub subtests: u64,
    /// Failed single checks.
    pub failed_subtests: u64,
    /// xtest's exit status, or minus a signal.
    pub exit: Option<i32>,
    /// When it began.
    pub start_ms: u64,
    /// When it ended.
    pub end_ms: Option<u64>,
    /// How long it took by the guest's own clock.
    pub guest_ms: Option<u64>,
}

/// One case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseReport {
    /// Its name.
    pub name: String,
    /// `ok`, `failed`, `skipped`; `start` when it never ended.
    pub state: CaseState,
    /// When it began.
    pub start_ms: u64,
    /// When it ended.
    pub end_ms: Option<u64>,
    /// Its titled parts.
    pub subcases: u32,
    /// What it printed, if it failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Report {
    /// Whether the verdict is `PASS`.
    pub fn passed(&self) -> bool {
        self.verdict == "PASS"
    }

    /// Reads `report.json`.
    ///
    /// # Errors
    ///
    /// It is none, or of another schema.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let report: Self = serde_json::from_str(text)?;
        anyhow::ensure!(
            report.schema == SCHEMA,
            "a report of schema {}, not {SCHEMA}",
            report.schema
        );
        Ok(report)
    }
}

impl From<&Versions> for ReportVersions {
    fn from(versions: &Versions) -> Self {
        Self {
            postern: env!("CARGO_PKG_VERSION").into(),
            optee: versions.optee.clone(),
            xtest: versions.xtest.clone(),
            linux: versions.linux.clone(),
            tf_a: versions.tf_a.clone(),
        }
    }
}

impl GuestReport {
    /// What is known of a guest. Its first run of xtest is the one that counts: later ones only kept
    /// the TEE busy for another guest's measurement.
    pub fn new(vm: &Vm, guest: &Guest) -> Self {
        let run = guest.runs.first();
        // Of measurements that had to be repeated, the last one counts.
        let latency = [IDLE, BUSY]
            .into_iter()
            .filter_map(|label| guest.latency(label).cloned());
        Self {
            name: vm.name.clone(),
            vcpus: vm.vcpus,
            memory_kib: vm.memory_kib,
            tee: vm.tee,
            ready_ms: guest.ready.map(ms),
            xtest: run.map(XtestReport::new),
            cases: run
                .into_iter()
                .flat_map(|run| &run.cases)
                .map(CaseReport::new)
                .collect(),
            latency: latency.collect(),
            stats: guest.stats.clone(),
            warnings: guest.warnings.clone(),
        }
    }

    /// The measurement of that label.
    pub fn latency(&self, label: &str) -> Option<&Latency> {
        self.latency.iter().find(|latency| latency.label == label)
    }
}

impl XtestReport {
    fn new(run: &Run) -> Self {
        let count = |state| u32::try_from(run.count(state)).unwrap_or(u32::MAX);
        let summary = run.summary.as_ref();
        Self {
            suites: run.suites.clone(),
            cases: u32::try_from(run.ended()).unwrap_or(u32::MAX),
            failed: count(CaseState::Failed),
            skipped: count(CaseState::Skipped),
            subtests: summary.map_or(0, |end| end.subtests),
            failed_subtests: summary.map_or(0, |end| end.failed_subtests),
            exit: summary.map(|end| end.exit),
            start_ms: ms(run.start),
            end_ms: run.end.map(ms),
            guest_ms: summary.map(|end| end.ms),
        }
    }
}

impl CaseReport {
    fn new(case: &crate::guest::Case) -> Self {
        Self {
            name: case.name.clone(),
            state: case.state,
            start_ms: ms(case.start),
            end_ms: case.end.map(ms),
            subcases: case.subcases,
            log: case.log.clone(),
        }
    }
}

/// How long at least two of the spans lie over each other.
pub fn overlap_ms(spans: &[(u64, u64)]) -> u64 {
    let mut edges: Vec<(u64, i32)> = spans
        .iter()
        .flat_map(|&(start, end)| [(start, 1), (end.max(start), -1)])
        .collect();
    edges.sort_unstable();
    let (mut open, mut since, mut total) = (0, 0, 0);
    for (at, step) in edges {
        if open >= 2 {
            total += at - since;
        }
        open += step;
        since = at;
    }
    total
}

/// A time as people say it: `2:05`.
pub fn clock(ms: u64) -> String {
    format!("{}:{:02}", ms / 60_000, ms / 1000 % 60)
}

#[cfg(test)]
mod tests;
