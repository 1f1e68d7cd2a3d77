// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Follows the state of a running guest from its console's output.

use crate::session::What;
use guest_agent::event::{CaseState, Event, Latency, Throughput, XtestEnd};
use postern_ctl::messages::{HypervisorEvent, Stats};
use std::collections::BTreeMap;
use std::time::Duration;

/// The severity of a kernel message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Something took too long, as happens on a busy host.
    Slow,
    /// The kernel reports a problem and goes on.
    Warning,
    /// The kernel, or the task that it ran, is dead.
    Fatal,
}

/// Returns the severity of a console line that is a kernel's complaint.
pub fn kernel_severity(line: &str) -> Option<Severity> {
    // The order matters: a soft lockup is announced as a bug, too.
    const CRIES: [(Severity, &[&str]); 3] = [
        (
            Severity::Slow,
            &[
                "detected stalls on CPU",
                "self-detected stall on CPU",
                "soft lockup",
                "blocked for more than",
            ],
        ),
        (Severity::Warning, &["WARNING: ", "nobody cared"]),
        (
            Severity::Fatal,
            &[
                "Kernel panic - not syncing",
                "Internal error: ",
                "Unable to handle kernel ",
                "kernel BUG at ",
                "BUG: ",
                "Bad mode in ",
            ],
        ),
    ];
    let cry = CRIES
        .iter()
        .find(|(_, texts)| texts.iter().any(|text| line.contains(text)));
    cry.map(|&(severity, _)| severity)
}

/// The phase of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The guest is not ready yet.
    Booting,
    /// The guest reads commands.
    Ready,
    /// The guest runs xtest.
    Testing,
    /// The guest has powered off.
    Off,
}

/// A case of xtest.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The case's name.
    pub name: String,
    /// When the case began, on the host's clock since the machine's start.
    pub start: Duration,
    /// When the case ended.
    pub end: Option<Duration>,
    /// The result; [`CaseState::Start`] while the case runs.
    pub state: CaseState,
    /// The number of the case's titled parts.
    pub subcases: u32,
    /// The output of a case that failed.
    pub log: Vec<String>,
}

/// One run of xtest.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The suites that were run.
    pub suites: String,
    /// When the run began, on the host's clock since the machine's start.
    pub start: Duration,
    /// When the run ended.
    pub end: Option<Duration>,
    /// The run's cases, in order.
    pub cases: Vec<Case>,
    /// The result, in the guest's own count.
    pub summary: Option<XtestEnd>,
    /// xtest's output outside any case.
    pub said: Vec<String>,
}

impl Run {
    /// Returns the number of cases that ended in a state.
    pub fn count(&self, state: CaseState) -> usize {
        self.cases.iter().filter(|case| case.state == state).count()
    }

    /// Returns whether the run ended without any case: xtest rejected its command line.
    pub fn is_empty(&self) -> bool {
        self.summary.is_some() && self.cases.is_empty()
    }

    /// Returns the number of cases that have ended.
    pub fn ended(&self) -> usize {
        self.cases.len() - self.count(CaseState::Start)
    }

    /// Returns the case that runs.
    pub fn current(&self) -> Option<&Case> {
        self.cases
            .last()
            .filter(|case| case.state == CaseState::Start)
    }
}

/// The state of a guest.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The guest's name.
    pub name: String,
    /// The guest's phase.
    pub phase: Phase,
    /// The release of the guest's kernel, once it is ready.
    pub kernel: Option<String>,
    /// When the guest was first ready.
    pub ready: Option<Duration>,
    /// Whether the guest reported the TEE and xtest.
    pub tee: bool,
    /// The guest's runs of xtest, in order.
    pub runs: Vec<Run>,
    /// The guest's measurements, in order.
    pub latencies: Vec<Latency>,
    /// The measured throughput of the root file system's disk.
    pub disk: Option<Throughput>,
    /// The measured throughput of the network.
    pub network: Option<Throughput>,
    /// How often each device interrupted the guest, by the name of the handlers.
    pub interrupts: Option<BTreeMap<String, u64>>,
    /// Errors that the guest's agent reported.
    pub errors: Vec<String>,
    /// Warnings of the guest's kernel.
    pub warnings: Vec<String>,
    /// The kernel's message about its death, if it died.
    pub death: Option<String>,
    /// Whether the hypervisor has stopped the guest.
    pub stopped: bool,
    /// The number of events that could not be read.
    pub garbled: usize,
    /// The hypervisor's counters for the guest.
    pub stats: Option<Stats>,
    /// When the guest's console last had output.
    pub last_word: Duration,
}

impl Guest {
    /// Returns a guest in its initial state.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            phase: Phase::Booting,
            kernel: None,
            ready: None,
            tee: false,
            runs: Vec::new(),
            latencies: Vec::new(),
            disk: None,
            network: None,
            interrupts: None,
            errors: Vec::new(),
            warnings: Vec::new(),
            death: None,
            garbled: 0,
            stopped: false,
            stats: None,
            last_word: Duration::ZERO,
        }
    }

    /// Updates the state from an item of the guest's console.
    pub fn take_item(&mut self, at: Duration, what: &What) {
        self.last_word = at;
        match what {
            What::Guest(event) => self.event(at, event),
            What::Garbled(_) => self.garbled += 1,
            What::Line(line) => match kernel_severity(line) {
                Some(Severity::Fatal) if self.death.is_none() => self.death = Some(line.clone()),
                Some(Severity::Warning | Severity::Slow) => self.warnings.push(line.clone()),
                _ => {}
            },
            What::Program(_)
            | What::Hypervisor(_)
            | What::Answer(_)
            | What::Stats(_)
            | What::Closed => {}
        }
    }

    /// Updates the state from an event of the hypervisor about this guest.
    pub fn take_event(&mut self, event: &HypervisorEvent) {
        match event {
            HypervisorEvent::VmOff { vm, reason } if *vm == self.name => {
                self.phase = Phase::Off;
                self.stopped = true;
                if reason == "error" && self.death.is_none() {
                    self.death = Some("the hypervisor stopped it".into());
                }
            }
            _ => {}
        }
    }

    /// Stores the hypervisor's counters, if they are this guest's.
    pub fn count(&mut self, stats: &Stats) {
        if stats.vm == self.name {
            self.stats = Some(stats.clone());
        }
    }

    fn event(&mut self, at: Duration, event: &Event) {
        match event {
            Event::Ready {
                kernel, tee, xtest, ..
            } => {
                self.phase = Phase::Ready;
                self.kernel = Some(kernel.clone());
                self.ready.get_or_insert(at);
                self.tee = *tee && *xtest;
            }
            Event::XtestStart { suites } => {
                self.phase = Phase::Testing;
                self.runs.push(Run {
                    suites: suites.clone(),
                    start: at,
                    end: None,
                    cases: Vec::new(),
                    summary: None,
                    said: Vec::new(),
                });
            }
            Event::Case {
                name,
                state,
                subcases,
                ..
            } => self.case(at, name, *state, subcases.unwrap_or(0)),
            Event::Log { line } => {
                let Some(run) = self.runs.last_mut() else {
                    return;
                };
                let mut cases = run.cases.iter_mut().rev();
                match cases.find(|case| case.state == CaseState::Failed) {
                    Some(case) => case.log.push(line.clone()),
                    None => run.said.push(line.clone()),
                }
            }
            Event::XtestEnd(summary) => {
                self.phase = Phase::Ready;
                if let Some(run) = self.runs.last_mut() {
                    run.end = Some(at);
                    run.summary = Some(summary.clone());
                }
            }
            Event::Latency(latency) => self.latencies.push(latency.clone()),
            Event::Error { text } => self.errors.push(text.clone()),
            Event::Bye => self.phase = Phase::Off,
            Event::Disk(measured) => self.disk = Some(*measured),
            Event::Network(measured) => self.network = Some(*measured),
            Event::Interrupts { counts } => self.interrupts = Some(counts.clone()),
            Event::Pong { .. } | Event::Monitor { .. } | Event::MonitorEnd { .. } => {}
        }
    }

    fn case(&mut self, at: Duration, name: &str, state: CaseState, subcases: u32) {
        let Some(run) = self.runs.last_mut() else {
            return;
        };
        let running = run
            .cases
            .last_mut()
            .filter(|case| case.state == CaseState::Start && case.name == name);
        match running {
            Some(case) if state != CaseState::Start => {
                case.state = state;
                case.end = Some(at);
                case.subcases = subcases;
            }
            // An end whose start was lost is still a case.
            _ => run.cases.push(Case {
                name: name.to_owned(),
                start: at,
                end: (state != CaseState::Start).then_some(at),
                state,
                subcases,
                log: Vec::new(),
            }),
        }
    }

    /// Returns the last measurement with this label.
    pub fn latency(&self, label: &str) -> Option<&Latency> {
        self.latencies
            .iter()
            .rev()
            .find(|latency| latency.label == label)
    }
}

#[cfg(test)]
mod tests;
