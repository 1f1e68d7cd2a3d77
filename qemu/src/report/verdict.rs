// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decides whether a run passed, and why not.

use super::{BUSY, GuestReport, IDLE, Report};
use crate::guest::Guest;
use guest_agent::event::CaseState;

/// The least part of the shorter run that must have overlapped with another, in percent.
const OVERLAP_PERCENT: u64 = 60;

/// The conditions that a run must meet.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    /// The cases that every guest must have run, with their results on the bare machine; `None`
    /// when those are not known.
    pub expected: Option<Vec<(String, CaseState)>>,
    /// Whether guests must have run at the same time for most of the time.
    pub overlap: bool,
    /// Whether the hypervisor must have reported its counters.
    pub stats: bool,
    /// Whether the round trip must have been measured while another guest was busy.
    pub busy: bool,
    /// Why the sequence itself broke off, if it did.
    pub broken: Option<String>,
}

/// Fills in the verdict of a report: all reasons for a failure, worst first, and the remarks.
pub fn judge(report: &mut Report, guests: &[Guest], checks: &Checks) {
    let mut why: Vec<String> = checks.broken.iter().cloned().collect();
    let mut notes = Vec::new();
    for guest in guests {
        let name = &guest.name;
        if let Some(death) = &guest.death {
            why.push(format!("{name}: {death}"));
        }
        why.extend(guest.errors.iter().map(|error| format!("{name}: {error}")));
        if guest.garbled > 0 {
            why.push(format!(
                "{name}: {} events could not be read",
                guest.garbled
            ));
        }
        if let Some(first) = guest.warnings.first() {
            notes.push(format!(
                "{name}: {} kernel warnings, the first: {first}",
                guest.warnings.len()
            ));
        }
    }
    // When the sequence broke off, everything after that is missing anyway.
    let complete = why.is_empty();
    for guest in report.guests.iter().filter(|guest| guest.tee) {
        cases(guest, checks, complete, &mut why);
        if complete {
            rest(guest, checks, &mut why);
        }
    }
    if complete && checks.overlap {
        let lengths = report.guests.iter().filter_map(|guest| {
            let xtest = guest.xtest.as_ref()?;
            Some(xtest.end_ms?.saturating_sub(xtest.start_ms))
        });
        let shortest = lengths.min().unwrap_or(0);
        if report.overlap_ms * 100 < shortest * OVERLAP_PERCENT {
            why.push(format!(
                "the guests ran at once for only {} of the shorter run's {} s",
                report.overlap_ms / 1000,
                shortest / 1000
            ));
        }
    }
    report.verdict = if why.is_empty() { "PASS" } else { "FAIL" }.into();
    report.why = why;
    report.notes = notes;
}

/// Adds failed and missing cases.
fn cases(guest: &GuestReport, checks: &Checks, complete: bool, why: &mut Vec<String>) {
    let name = &guest.name;
    let in_state = |state| -> Vec<&str> {
        let cases = guest.cases.iter().filter(|case| case.state == state);
        cases.map(|case| case.name.as_str()).collect()
    };
    let failed = in_state(CaseState::Failed);
    if !failed.is_empty() {
        why.push(format!(
            "{name}: {} failed: {}",
            count(failed.len(), "case"),
            some(&failed)
        ));
    }
    if !complete {
        let stuck = in_state(CaseState::Start);
        if !stuck.is_empty() {
            why.push(format!("{name}: not ended: {}", some(&stuck)));
        }
        return;
    }
    let Some(xtest) = &guest.xtest else {
        why.push(format!("{name}: xtest did not run"));
        return;
    };
    match xtest.exit {
        Some(0) => {}
        // A failed case, which is reported already, makes the exit status.
        Some(_) if !failed.is_empty() => {}
        Some(exit) => why.push(format!("{name}: xtest ended with {exit}")),
        None => why.push(format!("{name}: xtest did not end")),
    }
    if xtest.cases == 0 {
        why.push(format!("{name}: no case was run"));
    }
    let Some(expected) = &checks.expected else {
        return;
    };
    let state_of = |wanted: &str| {
        guest
            .cases
            .iter()
            .find(|case| case.name == wanted)
            .map(|case| case.state)
    };
    let missing: Vec<&str> = expected
        .iter()
        .filter(|(case, _)| state_of(case).is_none())
        .map(|(case, _)| case.as_str())
        .collect();
    if !missing.is_empty() {
        why.push(format!(
            "{name}: {} missing: {}",
            count(missing.len(), "case"),
            some(&missing)
        ));
    }
    let skipped: Vec<&str> = expected
        .iter()
        .filter(|(case, native)| {
            *native == CaseState::Ok && state_of(case) == Some(CaseState::Skipped)
        })
        .map(|(case, _)| case.as_str())
        .collect();
    if !skipped.is_empty() {
        why.push(format!(
            "{name}: {} skipped that the bare machine runs: {}",
            count(skipped.len(), "case"),
            some(&skipped)
        ));
    }
}

/// Adds missing measurements and counters.
fn rest(guest: &GuestReport, checks: &Checks, why: &mut Vec<String>) {
    let name = &guest.name;
    let mut labels = vec![IDLE];
    labels.extend(checks.busy.then_some(BUSY));
    for label in labels {
        if guest.latency(label).is_none() {
            why.push(format!("{name}: the round trip was not measured ({label})"));
        }
    }
    if checks.stats && guest.stats.is_none() {
        why.push(format!("{name}: the hypervisor reported no counters"));
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Returns the first few entries of a list.
fn some(names: &[&str]) -> String {
    const SHOWN: usize = 8;
    let more = if names.len() > SHOWN {
        format!(" and {} more", names.len() - SHOWN)
    } else {
        String::new()
    };
    format!("{}{more}", names[..names.len().min(SHOWN)].join(", "))
}
