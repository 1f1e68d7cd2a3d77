// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The ends of the hostile VM, and its starts afterwards.

use super::{ATTACK, Arena, AttackRow, HELD, HOSTILE, NEIGHBOUR, counter};
use crate::{BOOT, SOON};
use anyhow::{Context, Result, ensure};
use postern_ctl::messages::HypervisorEvent;
use postern_qemu::session::What;

impl Arena {
    /// Ends the VM in the row's states, and checks each time that it restarts with a working TEE. Where OP-TEE has had
    /// all the VM's starts that it survives, the machine is booted anew, and the state is tried once more.
    pub(super) fn endings(&mut self, row: &AttackRow) -> Result<(Result<()>, String)> {
        let mut text = Vec::new();
        for (name, times) in row.endings {
            let mut done = 0;
            while done < *times {
                self.ask(&format!("end {name}"), "ending", SOON)?;
                let reason = self.end()?;
                if reason != "reset" {
                    let wrong = anyhow::anyhow!("{name}: the VM ended for {reason:?}");
                    return Ok((Err(wrong), text.join(", ")));
                }
                if self.starts()? {
                    self.alive().with_context(|| format!("after {name}"))?;
                    done += 1;
                } else {
                    self.boot_anew(row)?;
                }
            }
            text.push(format!("{name} {times} times"));
        }
        Ok((Ok(()), text.join(", ")))
    }

    /// Waits for the end of the hostile VM, and returns its reason.
    fn end(&mut self) -> Result<String> {
        self.watch
            .wait("the hostile VM's end", ATTACK, |item| match &item.what {
                What::Hypervisor(HypervisorEvent::VmOff { vm, reason }) if vm == HOSTILE => {
                    Some(reason.clone())
                }
                _ => None,
            })
    }

    /// Waits until the hostile VM has started, or cannot. Returns whether it has.
    fn starts(&mut self) -> Result<bool> {
        let hostile = self.hostile;
        self.watch
            .wait("the hostile VM's start", BOOT, |item| match &item.what {
                What::Program(event) if item.channel == hostile && event["event"] == "ready" => {
                    Some(true)
                }
                What::Hypervisor(HypervisorEvent::VmOff { vm, .. }) if vm == HOSTILE => Some(false),
                _ => None,
            })
    }

    /// Boots the machine anew: its OP-TEE leaks memory with each start of a VM, so EL2 does not start the hostile VM
    /// any more. What is checked after an attack is checked first.
    fn boot_anew(&mut self, row: &AttackRow) -> Result<()> {
        ensure!(
            !self.machine.board.optee.packaged,
            "the hostile VM does not start any more"
        );
        let complaints = self.watch.log.complaints(row.log);
        ensure!(
            complaints.is_empty(),
            "OP-TEE's log: {}",
            complaints.join(" | ")
        );
        let stats = self.stats()?;
        for name in HELD {
            let held = counter(&stats, name)?;
            ensure!(held == 0, "{name} {held} although the VM is off");
        }
        self.neighbour_makes_progress()?;
        self.report_masked(row.number)?;
        self.stop_neighbour()?;
        println!("      this OP-TEE survives no more starts of the VM: the machine is booted anew");
        let machine = self.machine.clone();
        let mut fresh = Self::open(machine, &self.folder, self.boots + 1)?;
        fresh.masked = self.masked;
        fresh.entries = fresh.neighbour_entries()?;
        let old = std::mem::replace(self, fresh);
        crate::power_off(old.watch.session, &[NEIGHBOUR])
    }
}
