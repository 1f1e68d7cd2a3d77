// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One life of the VM: it starts, enters a state, and is ended in it.

use super::figures::{HELD, LOST};
use super::plan::{BOOTING, Ending, Turn};
use super::{Soak, VICTIM};
use crate::neighbour::Neighbour;
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

/// The most time after its start before a booting VM is ended.
const BOOTS: Duration = Duration::from_millis(250);
/// The most time that a VM stays in its state, or paused.
const STAYS: Duration = Duration::from_millis(60);

impl Soak {
    pub(super) fn start(&mut self) -> Result<()> {
        self.victim.forget();
        self.victim.order("vm start c")?;
        self.victim.started(VICTIM)
    }

    pub(super) fn kill(&mut self) -> Result<()> {
        self.off("vm kill c", "killed")?;
        self.on = false;
        Ok(())
    }

    /// Ends the VM by a monitor command, or by a command to its guest.
    fn off(&mut self, command: &str, reason: &str) -> Result<()> {
        let start = Instant::now();
        if command.starts_with("vm ") {
            self.victim.order(command)?;
        } else {
            self.victim.send(command)?;
        }
        self.victim.off(VICTIM, reason)?;
        self.ended_in = start.elapsed();
        Ok(())
    }

    /// Runs one life of the VM.
    pub(super) fn cycle(&mut self, cycle: u32, Turn { state, ending }: Turn) -> Result<()> {
        if state == BOOTING {
            return self.end_booting(ending);
        }
        if !self.on {
            self.start()?;
            self.victim.event("ready")?;
        }
        self.check_devices()?;
        self.victim.ask(&format!("park {state}"), "parked")?;
        let moment = self.plan.moment(STAYS);
        self.victim.wait_for(moment)?;
        self.end(cycle, ending)
    }

    /// Ends the VM before it is ready, perhaps before its first instruction.
    fn end_booting(&mut self, ending: Ending) -> Result<()> {
        if self.on {
            self.kill()?;
        }
        self.victim.forget();
        self.victim.order("vm start c")?;
        // A VM that does not run yet can be killed, but not reset or paused.
        if ending == Ending::Kill {
            self.perhaps_started += 1;
        } else {
            self.victim.started(VICTIM)?;
        }
        let moment = self.plan.moment(BOOTS);
        self.victim.wait_for(moment)?;
        self.end(0, ending)
    }

    fn end(&mut self, cycle: u32, ending: Ending) -> Result<()> {
        match ending {
            Ending::Kill => self.kill(),
            Ending::Reset => self.restart("vm reset c"),
            Ending::PauseKill => {
                self.pause()?;
                self.kill()
            }
            Ending::PauseReset => {
                self.pause()?;
                self.restart("vm reset c")
            }
            Ending::ResumeKill => {
                self.pause()?;
                self.resume(cycle)?;
                self.kill()
            }
            Ending::Off => {
                self.off("poweroff", "off")?;
                self.on = false;
                Ok(())
            }
            Ending::Restart => self.restart("reset"),
        }
    }

    /// Restarts the VM, and waits until it has restarted.
    fn restart(&mut self, command: &str) -> Result<()> {
        self.off(command, "reset")?;
        self.victim.started(VICTIM)?;
        self.victim.event("ready")?;
        self.on = true;
        Ok(())
    }

    /// Lets the guest go on, which got a request while it was paused.
    fn resume(&mut self, cycle: u32) -> Result<()> {
        let text = format!("cycle-{cycle}");
        self.victim.send(&format!("ping {text}"))?;
        let moment = self.plan.moment(STAYS);
        self.victim.wait_for(moment)?;
        ensure!(!self.victim.has_event("pong"), "it runs while it is paused");
        self.victim.order("vm resume c")?;
        self.victim.resumed(VICTIM)?;
        let pong = self.victim.event("pong")?;
        ensure!(pong["text"] == text, "another pong: {pong}");
        Ok(())
    }

    fn pause(&mut self) -> Result<()> {
        self.victim.order("vm pause c")?;
        self.victim.paused(VICTIM)?;
        let moment = self.plan.moment(STAYS);
        self.victim.wait_for(moment)
    }

    /// Fails unless the hypervisor holds nothing for the VM, or only what its next life has begun with.
    pub(super) fn check_nothing_held(&mut self) -> Result<()> {
        let wanted = [&HELD[..], &LOST[..]].concat();
        let found = self.counters(VICTIM, &wanted)?;
        let begins_with = |name| match self.begins_with.get(name) {
            Some(value) if self.on => *value,
            _ => 0,
        };
        let off = found.iter();
        let off: Vec<_> = off
            .filter(|(name, value)| **value != begins_with(*name))
            .collect();
        ensure!(off.is_empty(), "it has left something behind: {off:?}");
        let away = self.victim.watch.neighbours.iter().any(Neighbour::is_away);
        if !self.on && !away {
            let memory = self.memory()?;
            for name in ["free_kib", "guests_kib"] {
                let (found, wanted) = (memory[name], self.quiet[name]);
                ensure!(found == wanted, "{name} is {found}, not {wanted}");
            }
        }
        Ok(())
    }
}
