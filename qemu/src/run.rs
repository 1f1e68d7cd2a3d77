// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A whole run: boot, measure, xtest in all guests at once, measure again, power off, report.

mod far_end;
mod sequence;

use crate::caller::Caller;
use crate::display::Display;
use crate::ending::{explain_boot_error, said};
use crate::guest::{Guest, Phase};
use crate::launch::{Machine, Wiring};
use crate::prepare::Versions;
use crate::report::{
    Checks, GuestReport, Report, ReportMachine, ReportVersions, SCHEMA, judge, overlap_ms, picture,
    table,
};
use crate::selection::{Baseline, Selection};
use crate::session::{Item, Session, What};
use anyhow::{Context, Result, bail};
use guest_agent::event::CaseState;
use postern_ctl::messages::{HypervisorEvent, is_panic};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The longest wait for one item before the host looks at the clock.
const GLANCE: Duration = Duration::from_millis(200);
/// The time that guests and hypervisor get to report why they are stuck.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// The input of a run.
#[derive(Clone, Debug)]
pub struct RunPlan {
    /// The machine.
    pub machine: Machine,
    /// The versions of the parts.
    pub versions: Versions,
    /// The name of the system description.
    pub system: String,
    /// The selection of xtest's cases.
    pub selection: Selection,
    /// The results on the bare machine, if they are known.
    pub baseline: Option<Baseline>,
    /// The folder for logs and reports.
    pub folder: PathBuf,
}

/// A run in progress.
struct ActiveRun {
    session: Session,
    guests: Vec<Guest>,
    display: Display,
    expected: Option<usize>,
    /// Whether the hypervisor reported that all guests are off.
    all_off: bool,
    /// Why the hypervisor cannot go on, if it cannot.
    hypervisor_death: Option<String>,
    /// The most time that a guest may spend in one case of xtest.
    longest_case: Duration,
    /// The user's selection, as it was typed.
    asked: String,
    /// The port of the host to which guests measure the network.
    far_end: u16,
}

/// Runs a plan to its end and writes the report, whatever happens on the way.
///
/// # Errors
///
/// Fails when QEMU cannot be started or the report cannot be written. A run that fails is no error:
/// the report says so.
pub fn run(plan: &RunPlan) -> Result<Report> {
    let far_end = far_end::start()?;
    let session = Session::boot(&plan.machine, &plan.folder)?;
    let guests: Vec<Guest> = plan
        .machine
        .vms
        .iter()
        .map(|vm| Guest::new(&vm.name))
        .collect();
    let expected = plan
        .baseline
        .as_ref()
        .map(|baseline| baseline.expected(&plan.selection));
    let display = Display::on_stderr(&guests);
    let mut running = ActiveRun {
        session,
        guests,
        display,
        expected: expected.as_ref().map(Vec::len),
        all_off: false,
        hypervisor_death: None,
        longest_case: sequence::longest_case(&plan.selection),
        far_end,
        asked: Caller::of_this_process().option("xtest", &format!("'{}'", plan.selection)),
    };
    let outcome = sequence::run(&mut running, plan);
    let broken = match outcome {
        Ok(()) => None,
        Err(error) if error.is::<crate::session::InterruptedError>() => return Err(error),
        Err(error) => {
            // When xtest rejected its arguments, the guests have nothing to add.
            if running.refused().is_none() {
                running.ask_for_last_words();
            }
            Some(format!("{error:#}"))
        }
    };
    running.display.erase();
    let report = running.report(plan, broken);
    write(&report, &plan.folder)?;
    Ok(report)
}

/// Writes `report.json` and `report.svg`, and prints the table.
fn write(report: &Report, folder: &Path) -> Result<()> {
    let save = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    save(
        "report.json",
        &serde_json::to_string_pretty(report).context("the report cannot be written")?,
    )?;
    save("report.svg", &picture(report))?;
    println!("{}", table(report).trim_end());
    println!(
        "  {0}/report.json, {0}/report.svg; every console's log is beside them",
        folder.display()
    );
    Ok(())
}

impl ActiveRun {
    /// Processes the next item, if one comes soon, and updates the display.
    fn pump(&mut self) -> Result<()> {
        let item = self.session.next(GLANCE)?;
        // Items that have already arrived do not need a redraw each.
        let hurry = Instant::now() + GLANCE;
        let mut next = item;
        while let Some(item) = next {
            self.take_item(item);
            next = if Instant::now() < hurry {
                self.session.next(Duration::ZERO)?
            } else {
                None
            };
        }
        self.display
            .show(self.session.now(), &self.guests, self.expected);
        Ok(())
    }

    fn take_item(&mut self, item: Item) {
        let Item { channel, at, what } = item;
        match (&what, channel.number()) {
            (What::Hypervisor(event), _) => {
                match event {
                    HypervisorEvent::AllOff => self.all_off = true,
                    HypervisorEvent::BootError { text } => {
                        self.hypervisor_death = Some(explain_boot_error(text));
                    }
                    _ => {}
                }
                for guest in &mut self.guests {
                    guest.take_event(event);
                }
            }
            (What::Stats(stats), _) => {
                for guest in &mut self.guests {
                    guest.count(stats);
                }
            }
            (What::Line(line), None | Some(0)) if is_panic(line) => {
                self.hypervisor_death
                    .get_or_insert_with(|| format!("the hypervisor panicked: {line}"));
            }
            (_, Some(number @ 1..)) => {
                if let Some(guest) = self.guests.get_mut(usize::from(number) - 1) {
                    guest.take_item(at, &what);
                }
            }
            _ => {}
        }
    }

    /// Waits until a condition holds; fails when it takes too long or can never hold any more.
    fn until(
        &mut self,
        what: &str,
        within: Duration,
        mut holds: impl FnMut(&Self) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + within;
        while !holds(self) {
            if let Some(death) = &self.hypervisor_death {
                bail!("{death}");
            }
            if self.session.is_closed() && !holds(self) {
                let said = said(self.session.folder());
                bail!("QEMU ended while waiting for {what}{said}");
            }
            if let Some((guest, said)) = self.refused() {
                bail!(
                    "{}: xtest ran no case in {guest}; it said:\n    {}",
                    self.asked,
                    said.join("\n    ")
                );
            }
            if let Some(guest) = self.guests.iter().find(|guest| guest.death.is_some()) {
                bail!("guest {} crashed while waiting for {what}", guest.name);
            }
            let silence = |guest: &Guest| self.session.now().saturating_sub(guest.last_word);
            let hangs = |guest: &&Guest| {
                guest.phase == Phase::Testing && silence(guest) > self.longest_case
            };
            if let Some(guest) = self.guests.iter().find(hangs) {
                let seconds = silence(guest).as_secs();
                bail!(
                    "guest {} has printed nothing in xtest for {seconds} s",
                    guest.name
                );
            }
            if Instant::now() >= deadline {
                bail!(
                    "time-out: {} s were not enough for {what}",
                    within.as_secs()
                );
            }
            self.pump()?;
        }
        Ok(())
    }

    /// Returns a guest in which xtest ran no case, and xtest's output.
    fn refused(&self) -> Option<(&str, &[String])> {
        self.guests.iter().find_map(|guest| {
            let run = guest.runs.last().filter(|run| run.is_empty())?;
            Some((guest.name.as_str(), &run.said[..]))
        })
    }

    /// Makes guests and hypervisor write their state into the logs, after something hung or died.
    fn ask_for_last_words(&mut self) {
        for number in 1..=self.guests.len() {
            let channel = crate::console::Channel::Vm(u8::try_from(number).unwrap_or(u8::MAX));
            for letter in ["w", "l"] {
                // A guest that does not read does not answer either.
                let _ = self.session.send(channel, &format!("sysrq {letter}"));
            }
        }
        let _ = self
            .session
            .send(crate::console::Channel::Hypervisor, "stats");
        let deadline = Instant::now() + LAST_WORDS;
        while Instant::now() < deadline && !self.session.is_closed() && self.pump().is_ok() {}
    }

    fn report(&self, plan: &RunPlan, broken: Option<String>) -> Report {
        let shared = plan.machine.wiring == Wiring::Multiplexed;
        let vms = plan.machine.vms.iter().zip(&self.guests);
        let guests: Vec<GuestReport> = vms.map(|(vm, guest)| GuestReport::new(vm, guest)).collect();
        let spans: Vec<(u64, u64)> = guests
            .iter()
            .filter_map(|guest| {
                guest
                    .xtest
                    .as_ref()
                    .and_then(|x| Some((x.start_ms, x.end_ms?)))
            })
            .collect();
        let with_tee = guests.iter().filter(|guest| guest.tee).count();
        let expected = plan.baseline.as_ref().map(|baseline| {
            let states = baseline.report.guests.iter().flat_map(|guest| &guest.cases);
            let wanted = states.filter(|case| plan.selection.matches(&case.name));
            wanted
                .map(|case| (case.name.clone(), case.state))
                .collect::<Vec<(String, CaseState)>>()
        });
        let checks = Checks {
            // A bare machine is the baseline itself.
            expected: expected.clone().filter(|_| shared),
            overlap: with_tee > 1 && !matches!(plan.selection, Selection::Words(_)),
            stats: shared,
            busy: with_tee > 1,
            broken,
        };
        let mut report = Report {
            schema: SCHEMA,
            verdict: String::new(),
            why: Vec::new(),
            notes: Vec::new(),
            mode: if shared { "shared" } else { "native" }.into(),
            system: plan.system.clone(),
            suite: plan.versions.suite.clone(),
            selection: plan.selection.to_string(),
            versions: ReportVersions::from(&plan.versions),
            machine: ReportMachine {
                cpus: plan.machine.cpus,
                cpu: plan.machine.cpu.clone(),
                memory_mib: plan.machine.memory_mib,
                host_cpus: std::thread::available_parallelism().map_or(1, usize::from),
            },
            duration_ms: u64::try_from(self.session.now().as_millis()).unwrap_or(u64::MAX),
            overlap_ms: overlap_ms(&spans),
            expected_cases: expected.map(|cases| cases.len()),
            guests,
        };
        judge(&mut report, &self.guests, &checks);
        if shared && plan.baseline.is_none() {
            report.notes.push(format!(
                "no native run of all cases is known for xtest {}, so missing cases cannot be noticed; \
                 `make run-native XTEST=all` makes one",
                plan.versions.xtest
            ));
        }
        report
    }
}

#[cfg(test)]
mod tests;
