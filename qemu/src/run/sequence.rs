// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The sequence of a run.
//!
//! Every guest with the TEE gets two measurements: one while no other guest works, and one while
//! another runs xtest. So the first guest starts xtest and the others measure; then they start as
//! well. A guest that ends while another still runs measures then. A guest without a second figure
//! after that gets one while another guest repeats a few cases.

use super::{ActiveRun, RunPlan};
use crate::config::HOST;
use crate::console::Channel;
use crate::guest::{Guest, Phase};
use crate::launch::{VmInfo, Wiring};
use crate::report::{BUSY, IDLE};
use crate::selection::Selection;
use anyhow::{Result, bail, ensure};
use std::time::Duration;

/// The number of calls in the idle measurement.
const IDLE_SAMPLES: u32 = 2000;
/// The number of calls in the measurement beside a busy guest.
const BUSY_SAMPLES: u32 = 500;
/// The cases that keep a guest busy for another's measurement: TA loading, sessions, storage.
const LOAD: &str = "xtest -t regression 1004 1006 6001 6010";
/// The data that is written to the disk, and read from it, in MiB.
const DISK_MIB: u32 = 32;
/// The data that is sent to the host, and received from it, in MiB.
const NETWORK_MIB: u32 = 16;
/// The most attempts at a measurement for which the other guest was not busy long enough.
const TRIES: u32 = 3;

/// The most time for a boot: seconds on an idle host, minutes beside builds.
const BOOT: Duration = Duration::from_secs(600);
const MEASURE: Duration = Duration::from_secs(150);
const SHORT_TALK: Duration = Duration::from_secs(30);
const OFF: Duration = Duration::from_secs(60);

/// Returns the most time for xtest as a whole.
const fn patience(selection: &Selection) -> Duration {
    match selection {
        Selection::Default => Duration::from_secs(25 * 60),
        Selection::All | Selection::Words(_) => Duration::from_secs(80 * 60),
    }
}

/// Returns the most time for one case: many times that of the selection's longest one.
pub(super) const fn longest_case(selection: &Selection) -> Duration {
    match selection {
        Selection::Default => Duration::from_secs(6 * 60),
        Selection::All | Selection::Words(_) => Duration::from_secs(30 * 60),
    }
}

/// Executes the sequence, from the machine's start to its end.
pub(super) fn run(running: &mut ActiveRun, plan: &RunPlan) -> Result<()> {
    let shared = plan.machine.wiring == Wiring::Multiplexed;
    let origin = plan
        .baseline
        .as_ref()
        .filter(|_| shared)
        .map(|baseline| baseline.origin.as_str());
    running.say(&origin.map_or_else(
        || "Booting".to_owned(),
        |origin| format!("Booting; the expected cases are those of {origin}"),
    ));
    running.until("all guests to be ready", BOOT, |now| {
        now.guests.iter().all(|guest| guest.phase == Phase::Ready)
    })?;
    let with_tee: Vec<usize> = (0..running.guests.len())
        .filter(|&guest| plan.machine.vms[guest].tee)
        .collect();
    for &guest in &with_tee {
        let Guest { name, tee, .. } = &running.guests[guest];
        ensure!(
            *tee,
            "guest {name} has come up without the TEE or without xtest"
        );
    }
    running.say("Measuring the round trip into the TEE, one guest after the other");
    for &guest in &with_tee {
        running.measure(guest, IDLE, IDLE_SAMPLES)?;
    }
    running.measure_devices()?;
    match &with_tee[..] {
        [] => {}
        [only] => {
            running.say("xtest");
            running.command(*only, &plan.selection.command())?;
        }
        [first, others @ ..] => {
            let name = running.guests[*first].name.clone();
            running.say(&format!(
                "xtest in {name}; the others measure beside it, then start it too"
            ));
            running.command(*first, &plan.selection.command())?;
            running.until("xtest to start", SHORT_TALK, |now| {
                !now.guests[*first].runs.is_empty()
            })?;
            for &guest in others {
                running.measure_beside(guest)?;
                running.command(guest, &plan.selection.command())?;
            }
        }
    }
    running.all_tests(&with_tee, patience(&plan.selection))?;
    if with_tee.len() > 1 {
        for &guest in &with_tee {
            running.measure_beside_a_load(guest, &with_tee)?;
        }
    }
    if shared {
        running.session.send(Channel::Hypervisor, "stats")?;
        running.until("the hypervisor's counters", SHORT_TALK, |now| {
            now.guests.iter().all(|guest| guest.stats.is_some())
        })?;
    }
    running.count_interrupts()?;
    running.say("Powering off");
    // A guest whose disk another one serves writes to it to the very end.
    let (served, others): (Vec<usize>, Vec<usize>) =
        (0..running.guests.len()).partition(|&guest| plan.machine.vms[guest].served);
    for &guest in &served {
        running.command(guest, "poweroff")?;
    }
    running.until("guests with another's disk to power off", OFF, |now| {
        let mut served = served.iter();
        served.all(|&guest| now.guests[guest].stopped)
    })?;
    for &guest in &others {
        running.command(guest, "poweroff")?;
    }
    running.until("all guests to power off", OFF, |now| {
        now.guests.iter().all(|guest| guest.phase == Phase::Off) && (now.all_off || !shared)
    })?;
    let status = running.session.exit(OFF)?;
    ensure!(status.success(), "QEMU ended with {status}");
    Ok(())
}

/// Returns whether a guest is inside xtest.
fn busy(now: &ActiveRun, guest: usize) -> bool {
    now.guests[guest]
        .runs
        .last()
        .is_some_and(|run| run.end.is_none() && run.current().is_some())
}

/// Returns whether a guest has ended its first run.
fn tested(now: &ActiveRun, guest: usize) -> bool {
    now.guests[guest]
        .runs
        .first()
        .is_some_and(|run| run.end.is_some())
}

impl ActiveRun {
    fn say(&mut self, text: &str) {
        self.display.say(self.session.now(), text);
    }

    fn command(&mut self, guest: usize, line: &str) -> Result<()> {
        let number = u8::try_from(guest + 1)?;
        self.session.send(Channel::Vm(number), line)
    }

    fn measure(&mut self, guest: usize, label: &str, samples: u32) -> Result<()> {
        let (seen, errors) = (
            self.guests[guest].latencies.len(),
            self.guests[guest].errors.len(),
        );
        self.command(guest, &format!("latency {label} {samples}"))?;
        let what = format!("the measurement in {}", self.guests[guest].name);
        self.until(&what, MEASURE, |now| {
            now.guests[guest].latencies.len() > seen || now.guests[guest].errors.len() > errors
        })?;
        if let Some(error) = self.guests[guest].errors.get(errors) {
            bail!("{}: {error}", self.guests[guest].name);
        }
        Ok(())
    }

    /// Measures disk and network of each guest that has them, one guest after the other.
    fn measure_devices(&mut self) -> Result<()> {
        let vms = self.session.vms().to_vec();
        let network = format!("network {HOST}:{} {NETWORK_MIB}", self.far_end);
        for (guest, vm) in vms.iter().enumerate() {
            if vm.disk || vm.network {
                self.say(&format!("Measuring disk and network of {}", vm.name));
            }
            if vm.disk {
                self.ask(guest, &format!("disk {DISK_MIB}"), |guest| {
                    guest.disk.is_some()
                })?;
            }
            if vm.network {
                self.ask(guest, &network, |guest| guest.network.is_some())?;
            }
        }
        Ok(())
    }

    /// Asks each guest with disk or network how often its devices interrupted it.
    fn count_interrupts(&mut self) -> Result<()> {
        let vms = self.session.vms().to_vec();
        let with_devices = |&(_, vm): &(usize, &VmInfo)| vm.disk || vm.network;
        for (guest, _) in vms.iter().enumerate().filter(with_devices) {
            self.ask(guest, "interrupts", |guest| guest.interrupts.is_some())?;
        }
        Ok(())
    }

    /// Sends a command and waits until it is answered. An error that the guest reports meanwhile is
    /// this command's.
    fn ask(&mut self, guest: usize, line: &str, answered: fn(&Guest) -> bool) -> Result<()> {
        let errors = self.guests[guest].errors.len();
        self.command(guest, line)?;
        let what = format!("the answer of {} to `{line}`", self.guests[guest].name);
        self.until(&what, MEASURE, |now| {
            answered(&now.guests[guest]) || now.guests[guest].errors.len() > errors
        })?;
        if let Some(error) = self.guests[guest].errors.get(errors) {
            bail!("{}: {error}", self.guests[guest].name);
        }
        Ok(())
    }

    /// Measures while others are busy. A figure for which no other guest was busy to the end is
    /// discarded; returns whether one was kept.
    fn measure_beside(&mut self, guest: usize) -> Result<bool> {
        self.measure(guest, BUSY, BUSY_SAMPLES)?;
        let others = 0..self.guests.len();
        let kept = others
            .into_iter()
            .any(|other| other != guest && busy_still(self, other));
        if !kept {
            self.guests[guest].latencies.pop();
        }
        Ok(kept)
    }

    /// Waits for the end of every guest's first run. A guest that ends before another measures at
    /// once.
    fn all_tests(&mut self, guests: &[usize], patience: Duration) -> Result<()> {
        let begin = self.session.now();
        loop {
            let ready = guests.iter().copied().find(|&guest| {
                tested(self, guest)
                    && self.guests[guest].latency(BUSY).is_none()
                    && guests
                        .iter()
                        .any(|&other| other != guest && busy(self, other))
            });
            if let Some(guest) = ready {
                self.measure_beside(guest)?;
            }
            if guests.iter().all(|&guest| tested(self, guest)) {
                return Ok(());
            }
            let left = patience.saturating_sub(self.session.now().saturating_sub(begin));
            let ended = |now: &Self| guests.iter().filter(|&&guest| tested(now, guest)).count();
            let before = ended(self);
            self.until("xtest to end in every guest", left, |now| {
                ended(now) > before
                    || guests.iter().any(|&guest| {
                        tested(now, guest)
                            && now.guests[guest].latency(BUSY).is_none()
                            && guests
                                .iter()
                                .any(|&other| other != guest && busy(now, other))
                    })
            })?;
        }
    }

    /// Measures a guest's second figure beside a load, if the guest has none yet.
    fn measure_beside_a_load(&mut self, guest: usize, guests: &[usize]) -> Result<()> {
        let Some(&other) = guests.iter().find(|&&other| other != guest) else {
            return Ok(());
        };
        for _ in 0..TRIES {
            if self.guests[guest].latency(BUSY).is_some() {
                return Ok(());
            }
            let text = format!(
                "Measuring in {} while {} repeats a few cases",
                self.guests[guest].name, self.guests[other].name
            );
            self.say(&text);
            let runs = self.guests[other].runs.len();
            self.command(other, LOAD)?;
            self.until("the load to start", SHORT_TALK, |now| {
                now.guests[other].runs.len() > runs
            })?;
            self.measure_beside(guest)?;
            self.until("the load to end", MEASURE, |now| {
                now.guests[other]
                    .runs
                    .last()
                    .is_some_and(|run| run.end.is_some())
            })?;
        }
        Ok(())
    }
}

/// Returns whether a guest's last run has not ended.
fn busy_still(now: &ActiveRun, guest: usize) -> bool {
    now.guests[guest]
        .runs
        .last()
        .is_some_and(|run| run.end.is_none())
}
