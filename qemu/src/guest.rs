// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is known of a guest while it runs, from what its console says.

use crate::session::What;
use guest_agent::event::{CaseState, Event, Latency, XtestEnd};
use postern_ctl::told::{HypervisorEvent, Stats};
use std::time::Duration;

/// How bad a kernel message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The kernel finds that something took too long, as it may on a host that is busy.
    Slow,
    /// The kernel complains and goes on.
    Warning,
    /// The kernel, or what it did, is dead.
    Fatal,
}

/// Whether a console line is a kernel's cry for help.
pub fn trouble(line: &str) -> Option<Severity> {
    // In this order: a soft lockup is announced as a bug, too.
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

/// What a guest does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not ready yet.
    Booting,
    /// Reads commands.
    Ready,
    /// Runs xtest.
    Testing,
    /// Has powered off.
    Off,
}

/// A case of xtest.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// When it began, on the host, since the machine was started.
    pub start: Duration,
    /// When it ended.
    pub end: Option<Duration>,
    /// How it ended; [`CaseState::Start`] while it runs.
    pub state: CaseState,
    /// Its titled parts.
    pub subcases: u32,
    /// What it printed, if it failed.
    pub log: Vec<String>,
}

/// One run of xtest.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The suites.
    pub suites: String,
    /// When it began, on the host, since the machine was started.
    pub start: Duration,
    /// When it ended.
    pub end: Option<Duration>,
    /// Its cases, in order.
    pub cases: Vec<Case>,
    /// What it came to, in the guest's own count.
    pub summary: Option<XtestEnd>,
    /// What xtest said outside any case.
    pub said: Vec<String>,
}

impl Run {
    /// Cases that have ended in a state.
    pub fn count(&self, state: CaseState) -> usize {
        self.cases.iter().filter(|case| case.state == state).count()
    }

    /// Whether it has ended without a single case: xtest did not take its command line.
    pub fn is_empty(&self) -> bool {
        self.summary.is_some() && self.cases.is_empty()
    }

    /// Cases that have ended.
    pub fn ended(&self) -> usize {
        self.cases.len() - self.count(CaseState::Start)
    }

    /// The case that runs.
    pub fn current(&self) -> Option<&Case> {
        self.cases
            .last()
            .filter(|case| case.state == CaseState::Start)
    }
}

/// What is known of a guest.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Its name.
    pub name: String,
    /// What it does.
    pub phase: Phase,
    /// Its kernel, once ready.
    pub kernel: Option<String>,
    /// When it was first ready.
    pub ready: Option<Duration>,
    /// Whether it said that it has the TEE and xtest.
    pub tee: bool,
    /// Its runs of xtest, in order.
    pub runs: Vec<Run>,
    /// Its measurements, in order.
    pub latencies: Vec<Latency>,
    /// What its agent complained about.
    pub errors: Vec<String>,
    /// What its kernel complained about.
    pub warnings: Vec<String>,
    /// Why its kernel died.
    pub death: Option<String>,
    /// Events that could not be read.
    pub garbled: usize,
    /// What the hypervisor counted for it.
    pub stats: Option<Stats>,
    /// When its console last said anything.
    pub last_word: Duration,
}

impl Guest {
    /// A guest of which nothing is known yet.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            phase: Phase::Booting,
            kernel: None,
            ready: None,
            tee: false,
            runs: Vec::new(),
            latencies: Vec::new(),
            errors: Vec::new(),
            warnings: Vec::new(),
            death: None,
            garbled: 0,
            stats: None,
            last_word: Duration::ZERO,
        }
    }

    /// Takes in what the guest's console said.
    pub fn hear(&mut self, at: Duration, what: &What) {
        self.last_word = at;
        match what {
            What::Guest(event) => self.event(at, event),
            What::Garbled(_) => self.garbled += 1,
            What::Line(line) => match trouble(line) {
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

    /// Takes in what the hypervisor said of this guest.
    pub fn hear_of(&mut self, event: &HypervisorEvent) {
        match event {
            HypervisorEvent::VmOff { vm, reason } if *vm == self.name => {
                self.phase = Phase::Off;
                if reason == "error" && self.death.is_none() {
                    self.death = Some("the hypervisor stopped it".into());
                }
            }
            _ => {}
        }
    }

    /// Takes in what the hypervisor counted, where it is of this guest.
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
            // An end whose start was lost still is a case.
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

    /// The last measurement of that label.
    pub fn latency(&self, label: &str) -> Option<&Latency> {
        self.latencies
            .iter()
            .rev()
            .find(|latency| latency.label == label)
    }
}

#[cfg(test)]
mod tests;
