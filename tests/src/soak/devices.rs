// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The devices of the VM that is ended: what they must have done, and not done, after each life.

use super::figures::number;
use super::{Soak, VICTIM};
use crate::SOON;
use crate::watch::Watch;
use anyhow::{Context, Result, ensure};
use postern_qemu::config::{Disk, System};
use postern_qemu::console::Channel;
use postern_qemu::session::What;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The VM at the other end of the link.
pub const PEER: &str = "e";
/// The size of the disk.
const DISK_BYTES: usize = 1 << 20;
/// The states in which the device accesses what is not the VM's. In all others nothing is refused.
const REFUSED: [&str; 2] = ["dma-refused", "dma-cut-off"];

/// Adds a disk whose content the guest knows.
///
/// # Errors
///
/// Fails when its file cannot be written.
pub fn add_disk(system: &mut System, folder: &Path) -> Result<()> {
    let file = folder.join("disk.img");
    std::fs::write(&file, b"disk".repeat(DISK_BYTES / 4))?;
    system.machine.disks = vec![Disk {
        file: Some(file),
        size: None,
    }];
    Ok(())
}

/// What is known of the devices.
pub struct Devices {
    peer: Channel,
    /// The number of refused accesses so far.
    refused: u64,
    /// The frames that the peer has answered so far.
    answered: u64,
    /// How many times the peer has seen its link go down.
    downs: u64,
}

impl Devices {
    /// Returns the devices of a machine on which nothing has happened yet.
    ///
    /// # Errors
    ///
    /// Fails when there is no VM at the other end of the link.
    pub fn new(watch: &Watch) -> Result<Self> {
        Ok(Self {
            peer: watch.session.vm(PEER)?,
            refused: 0,
            answered: 0,
            downs: 0,
        })
    }

    /// Prints what the peer has seen.
    pub fn print(&self) {
        let Self {
            refused,
            answered,
            downs,
            ..
        } = self;
        println!(
            "{PEER} answered {answered} frames and saw its link go down {downs} times; {refused} accesses of the \
             device were refused"
        );
    }
}

impl Soak {
    /// Checks in a new life of the VM that its devices work, and that nothing is left of an earlier life.
    pub(super) fn check_devices(&mut self) -> Result<()> {
        if self.devices.is_none() {
            return Ok(());
        }
        let checked = self.victim.ask("devices", "devices");
        checked.map(drop).map_err(|error| {
            let seen = self.seen();
            error.context(format!("{PEER} has seen {seen:?}"))
        })
    }

    /// Asks the peer what it has seen.
    fn seen(&mut self) -> Result<Value> {
        let devices = self.devices.as_ref();
        let peer = devices.context("there are no devices")?.peer;
        let watch = &mut self.victim.watch;
        watch.session.send(peer, "report")?;
        watch.wait("the peer's report", SOON, |item| match &item.what {
            What::Program(event) if item.channel == peer && event["event"] == "seen" => {
                Some(event.clone())
            }
            _ => None,
        })
    }

    /// Waits until the peer has started.
    pub(super) fn peer_is_ready(&mut self) -> Result<()> {
        let Some(Devices { peer, .. }) = self.devices else {
            return Ok(());
        };
        self.victim.watch.wait("the peer's start", SOON, |item| {
            let is_ready = matches!(&item.what, What::Program(event) if event["event"] == "ready");
            (item.channel == peer && is_ready).then_some(())
        })
    }

    /// Checks after a life what the SMMU and the peer have seen of it.
    pub(super) fn check_seen(&mut self, state: &str) -> Result<()> {
        let Some(Devices {
            peer,
            refused: before,
            ..
        }) = self.devices
        else {
            return Ok(());
        };
        let refused = self.refused()?;
        ensure!(
            (refused > before) == REFUSED.contains(&state),
            "{} accesses of the device were refused",
            refused - before
        );
        let seen = self.seen()?;
        let figure = |name: &str| seen[name].as_u64().with_context(|| format!("no {name}"));
        ensure!(
            figure("changed")? == 0,
            "the RAM of {PEER} has changed: {seen}"
        );
        // The next life sets its end of the link up when its devices are checked.
        ensure!(seen["up"] == false, "{PEER} sees its link up: {seen}");
        self.devices = Some(Devices {
            peer,
            refused,
            answered: figure("answered")?,
            downs: figure("downs")?,
        });
        Ok(())
    }

    /// Fails when the peer has seen nothing of what happened.
    pub(super) fn judge_devices(&self) -> Result<()> {
        if let Some(devices) = &self.devices {
            devices.print();
            ensure!(devices.answered > 0, "{PEER} answered no frame");
            ensure!(devices.downs > 0, "{PEER} never saw its link go down");
        }
        Ok(())
    }

    /// Returns how many accesses of the VM's devices were refused since the machine's start.
    fn refused(&mut self) -> Result<u64> {
        let answer = self.victim.order(&format!("tee stats {VICTIM}"))?;
        let vm = answer.more.get("vms").and_then(|vms| vms.get(0));
        let refused = vm.and_then(|vm| vm.get("refused"));
        let refused: BTreeMap<String, Value> =
            serde_json::from_value(refused.context("what was refused")?.clone())?;
        number(&refused, "dma")
    }
}
