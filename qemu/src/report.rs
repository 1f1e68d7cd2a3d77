// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The result of a run: `report.json`, whose schema is in `docs/report.md`, and the picture and
//! table made of it.

pub mod picture;
mod table;
mod verdict;

pub use picture::{latency_picture, picture};
pub use table::table;
pub use verdict::{Checks, judge};

use crate::guest::{Guest, Run};
use crate::launch::VmInfo;
use crate::prepare::Versions;
use guest_agent::event::{CaseState, Latency, Throughput};
use postern_ctl::messages::Stats;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The version of the schema.
pub const SCHEMA: u32 = 1;
/// The label of a measurement while no other guest works.
pub const IDLE: &str = "idle";
/// The label of a measurement while another guest runs xtest.
pub const BUSY: &str = "busy";

/// A report. Times are milliseconds of the host's clock since the machine's start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The version of the schema, [`SCHEMA`].
    pub schema: u32,
    /// The verdict: `PASS` or `FAIL`.
    pub verdict: String,
    /// The reasons for a failure; empty when the run passed.
    pub why: Vec<String>,
    /// Remarks that are no failure.
    pub notes: Vec<String>,
    /// What was run: `shared` with the hypervisor, `native` on a bare machine.
    pub mode: String,
    /// The system description's file name.
    pub system: String,
    /// The Debian suite.
    pub suite: String,
    /// The selection of xtest's cases, as given to `--xtest`.
    pub selection: String,
    /// The versions of the parts that ran.
    pub versions: ReportVersions,
    /// The machine.
    pub machine: ReportMachine,
    /// The time from the machine's start to its end.
    pub duration_ms: u64,
    /// How long at least two guests ran xtest at once.
    pub overlap_ms: u64,
    /// The number of cases that the selection has on the bare machine; none when that is not known.
    pub expected_cases: Option<usize>,
    /// The guests, in the order of the boot tree.
    pub guests: Vec<GuestReport>,
}

/// The versions of the parts that ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportVersions {
    /// The version of this project.
    pub postern: String,
    /// The package version of OP-TEE.
    pub optee: String,
    /// The package version of xtest.
    pub xtest: String,
    /// The release of the guest kernel.
    pub linux: String,
    /// The package version of TF-A.
    pub tf_a: String,
}

/// The emulated machine and its host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportMachine {
    /// The number of emulated CPUs.
    pub cpus: u32,
    /// The CPU model.
    pub cpu: String,
    /// The emulated RAM in MiB.
    pub memory_mib: u64,
    /// The number of the host's CPUs.
    pub host_cpus: usize,
}

/// The results of one guest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuestReport {
    /// The guest's name.
    pub name: String,
    /// The number of vCPUs.
    pub vcpus: u32,
    /// The guest's RAM in KiB.
    pub memory_kib: u64,
    /// Whether the guest has the TEE.
    pub tee: bool,
    /// When the guest was ready.
    pub ready_ms: Option<u64>,
    /// The result of xtest.
    pub xtest: Option<XtestReport>,
    /// The results of xtest's cases.
    pub cases: Vec<CaseReport>,
    /// The measured round-trip times to the TEE.
    pub latency: Vec<Latency>,
    /// What was measured of disk and network; only in guests that have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<DevicesReport>,
    /// The hypervisor's counters.
    pub stats: Option<Stats>,
    /// Warnings of the guest's kernel.
    pub warnings: Vec<String>,
}

/// The measurements of disk and network in one guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicesReport {
    /// The disk of the root file system, with direct I/O: out is writing, fsync(2) included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Throughput>,
    /// A TCP connection to the host: out is sending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Throughput>,
    /// How often each device interrupted the guest until the end of the run, by the name of the
    /// handlers in `/proc/interrupts`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub interrupts: BTreeMap<String, u64>,
}

impl DevicesReport {
    /// Returns what was measured in a guest, if anything.
    fn of(guest: &Guest) -> Option<Self> {
        let report = Self {
            disk: guest.disk,
            network: guest.network,
            interrupts: guest.interrupts.clone().unwrap_or_default(),
        };
        (report != Self::default()).then_some(report)
    }

    /// Returns the number of interrupts from virtio devices, and from all devices with the timer.
    pub fn interrupt_sums(&self) -> (u64, u64) {
        let sum = |wanted: fn(&str) -> bool| {
            let counts = self.interrupts.iter();
            counts
                .filter(|(name, _)| wanted(name))
                .map(|(_, count)| count)
                .sum()
        };
        (sum(|name| name.starts_with("virtio")), sum(|_| true))
    }
}

/// The result of xtest in one guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct XtestReport {
    /// The suites that were run.
    pub suites: String,
    /// The number of cases that were run.
    pub cases: u32,
    /// The number of cases that failed.
    pub failed: u32,
    /// The number of cases that found nothing to test.
    pub skipped: u32,
    /// The number of single checks.
    pub subtests: u64,
    /// The number of single checks that failed.
    pub failed_subtests: u64,
    /// xtest's exit status, or a negative signal number.
    pub exit: Option<i32>,
    /// When xtest began.
    pub start_ms: u64,
    /// When xtest ended.
    pub end_ms: Option<u64>,
    /// The duration by the guest's own clock.
    pub guest_ms: Option<u64>,
}

/// The result of one case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseReport {
    /// The case's name.
    pub name: String,
    /// The state: `ok`, `failed`, `skipped`, or `start` when the case never ended.
    pub state: CaseState,
    /// When the case began.
    pub start_ms: u64,
    /// When the case ended.
    pub end_ms: Option<u64>,
    /// The number of titled parts.
    pub subcases: u32,
    /// The output of a case that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Report {
    /// Returns whether the verdict is `PASS`.
    pub fn passed(&self) -> bool {
        self.verdict == "PASS"
    }

    /// Reads `report.json`.
    ///
    /// # Errors
    ///
    /// Fails when the text is no report, or of another schema.
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
    /// Returns the results of a guest. Its first run of xtest counts: later runs only kept the TEE
    /// busy for another guest's measurement.
    pub fn new(vm: &VmInfo, guest: &Guest) -> Self {
        let run = guest.runs.first();
        // The last of repeated measurements counts.
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
            devices: DevicesReport::of(guest),
            stats: guest.stats.clone(),
            warnings: guest.warnings.clone(),
        }
    }

    /// Returns the measurement with this label.
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

/// Returns how long at least two of the spans overlap.
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

/// Formats a time in minutes and seconds: `2:05`.
pub fn clock(ms: u64) -> String {
    format!("{}:{:02}", ms / 60_000, ms / 1000 % 60)
}

#[cfg(test)]
mod tests;
