// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Boots the program in one place and collects its figures.

use super::other;
use super::rows::DIFFERENCES;
use crate::Lab;
use anyhow::{Context, Result, anyhow, ensure};
use dtoolkit::Node;
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeProperty};
use postern_qemu::board::BoardName;
use postern_qemu::config::System;
use postern_qemu::console::Channel;
use postern_qemu::launch::Machine;
use postern_qemu::prepare::{Artifacts, Flavour};
use postern_qemu::session::Session;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// One nanosecond per instruction; waiting for a timer takes no real time.
const CLOCK: [&str; 2] = ["-icount", "shift=0,sleep=off"];
/// Enough for the firmware to start while instructions are counted.
const BOOT: Duration = Duration::from_secs(480);
/// Enough for all measurements.
const MEASURE: Duration = Duration::from_secs(900);
/// The seed of random numbers on this machine.
const SEED: u8 = 0x5a;

/// The figures of one place.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Instructions, and calls or accesses, per sample, by name.
    pub figures: BTreeMap<String, (u64, u64)>,
    /// The measurements without a figure, and why.
    pub failed: BTreeMap<String, String>,
}

impl Found {
    /// Returns the figures as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let figures: BTreeMap<_, _> = (self.figures.iter())
            .map(|(name, (instructions, calls))| {
                let figure = json!({ "instructions": instructions, "calls": calls });
                (name, figure)
            })
            .collect();
        json!({ "figures": figures, "failed": self.failed })
    }

    /// Returns the instructions of a row.
    #[must_use]
    pub fn instructions(&self, name: &str) -> Option<u64> {
        self.figures
            .get(name)
            .map(|&(instructions, _)| instructions)
    }

    /// Adds an event's figure; returns a value when the event was the last.
    fn add(&mut self, event: &Value) -> Option<()> {
        let name = event["name"].as_str().unwrap_or_default();
        match event["event"].as_str()? {
            "bench" => {
                let figures = (event["instructions"].as_u64()?, event["calls"].as_u64()?);
                self.figures.insert(name.to_owned(), figures);
                None
            }
            "bench-failed" => {
                let text = event["text"].as_str().unwrap_or_default();
                self.failed.insert(name.to_owned(), text.to_owned());
                None
            }
            "bench-end" => Some(()),
            _ => None,
        }
    }

    /// Adds the figures that are differences of two others. Their calls are those of the minuend.
    fn add_differences(&mut self) {
        for (name, of, without) in DIFFERENCES {
            let both = self.figures.get(of).zip(self.figures.get(without));
            if let Some((&(all, calls), &(rest, _))) = both {
                let figures = (all.saturating_sub(rest), calls);
                self.figures.insert(name.to_owned(), figures);
            }
        }
    }

    /// Returns the instructions per additional page of registering and unregistering, in
    /// hundredths: the slope between buffers of `few` and of `many` pages, without the fixed cost
    /// of a buffer.
    #[must_use]
    pub fn page(&self, few: u64, many: u64) -> Option<u64> {
        let both = |pages| {
            let there = self.instructions(&format!("register-{pages}"))?;
            Some(there + self.instructions(&format!("unregister-{pages}"))?)
        };
        both(many)?
            .checked_sub(both(few)?)
            .map(|more| more * 100 / (many - few))
    }
}

/// Gives firmware and OP-TEE the same random numbers at each boot. OP-TEE's address depends on
/// them, and with it the order of searches: up to 2 % of a call.
fn fix_seeds(file: &Path) -> Result<()> {
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    let fdt = Fdt::new(&bytes).map_err(|error| anyhow!("{}: {error}", file.display()))?;
    let mut tree = DeviceTree::from_fdt(&fdt);
    let mut fixed = 0;
    for name in ["chosen", "secure-chosen"] {
        let Some(node) = tree.root.child_mut(name) else {
            continue;
        };
        for (seed, bytes) in [("kaslr-seed", 8), ("rng-seed", 32)] {
            if node.property(seed).is_some() {
                let value = vec![SEED; bytes];
                node.add_property(DeviceTreeProperty::new_unchecked(seed, &value[..]));
                fixed += 1;
            }
        }
    }
    ensure!(fixed > 0, "{}: there is no seed", file.display());
    std::fs::write(file, tree.to_dtb()).with_context(|| file.display().to_string())
}

/// A machine that is ready to start, and its parts.
pub struct Ready {
    /// The machine.
    pub machine: Machine,
    /// The machine's files and versions.
    pub artifacts: Artifacts,
}

/// Returns the system of `guests/bench.toml`, on other boards without the VM whose device only QEMU's `virt` machines have.
///
/// # Errors
/// Fails when the file cannot be read.
pub fn system(lab: &Lab) -> Result<System> {
    let mut system = lab.system("bench.toml")?;
    if !matches!(system.machine.board, BoardName::Virt | BoardName::VirtGicv2) {
        system.vms.retain(|vm| vm.devices.is_empty());
    }
    Ok(system)
}

/// Prepares a machine that counts instructions and is the same each time.
///
/// # Errors
/// Fails when a part cannot be fetched or built.
pub fn ready(lab: &Lab, system: &System, flavour: Flavour) -> Result<Ready> {
    let artifacts = lab.artifacts(system, flavour)?;
    let mut machine = Machine::new(&artifacts, system, flavour.wiring());
    // Only QEMU makes seeds; a tree of Linux's has none.
    if artifacts.placed_by_qemu {
        fix_seeds(&artifacts.tree)?;
    }
    machine.extra = CLOCK.map(Into::into).into();
    Ok(Ready { machine, artifacts })
}

impl Ready {
    /// Returns the versions of the parts as text.
    #[must_use]
    pub fn parts(&self) -> String {
        let versions = &self.artifacts.versions;
        format!(
            "OP-TEE {} ({}), TF-A {}",
            versions.optee, versions.suite, versions.tf_a
        )
    }

    /// Boots the program, passes its `ready` event to `first` and all later events to `each`, until
    /// that returns a value.
    ///
    /// # Errors
    /// Fails when the program does not start or does not end.
    pub fn run<T>(
        &self,
        folder: &Path,
        first: impl FnOnce(&Value, &mut Session) -> Result<()>,
        each: impl FnMut(&Value) -> Option<T>,
    ) -> Result<T> {
        let program = Channel::Vm(1);
        let mut session = Session::boot(&self.machine, folder)?;
        let ready = session
            .expect(program, BOOT)
            .program("the program's start", |event| {
                (event["event"] == "ready").then(|| event.clone())
            })?;
        first(&ready, &mut session)?;
        session
            .expect(program, MEASURE)
            .program("the end of the measurements", each)
    }
}

/// The place in which the program runs.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// On the bare machine, at EL2.
    Floor,
    /// Under Postern.
    Postern,
    /// Under another hypervisor, which is this arm64 `Image`.
    Other(&'a Path),
}

impl Place<'_> {
    fn word(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Postern => "postern",
            Self::Other(_) => "other",
        }
    }
}

/// Boots the program in one place and collects its figures; returns them and the machine.
///
/// # Errors
/// Fails when the program does not end there, or has no figures.
pub fn measure(lab: &Lab, place: Place<'_>) -> Result<(Found, Ready)> {
    let system = system(lab)?;
    let ready = match place {
        Place::Floor => ready(lab, &system, Flavour::Bare)?,
        Place::Postern => ready(lab, &system, Flavour::Shared)?,
        Place::Other(image) => other::under(ready(lab, &system, Flavour::Bare)?, image)?,
    };
    let place = place.word();
    let mut found = Found::default();
    ready.run(
        &lab.folder.join(place),
        |_, _| Ok(()),
        |event| found.add(event),
    )?;
    // The VM with a device has measured long before.
    let log = lab.folder.join(place).join("vm-device.log");
    if let Ok(log) = std::fs::read_to_string(&log) {
        for line in log.lines() {
            let event = line
                .find('{')
                .and_then(|at| serde_json::from_str(&line[at..]).ok());
            if let Some(event) = event {
                found.add(&event);
            }
        }
    }
    ensure!(!found.figures.is_empty(), "{place}: no figures");
    found.add_differences();
    Ok((found, ready))
}
