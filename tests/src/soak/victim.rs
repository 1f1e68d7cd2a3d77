// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The VM that is started and ended: monitor commands, and the events of the VM and its guest.

use crate::watch::Watch;
use anyhow::{Context, Result, bail, ensure};
use postern_ctl::messages::{Answer, HypervisorEvent};
use postern_qemu::console::Channel;
use postern_qemu::session::{Item, What};
use serde_json::Value;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The most time for any wait, on a busy host.
const PATIENCE: Duration = Duration::from_secs(240);

/// An event of the VM's life, or of its guest.
#[derive(Clone, Debug)]
enum Heard {
    Life(HypervisorEvent),
    Said(Value),
}

/// The machine, and the VM that is ended.
pub struct Victim {
    /// The machine.
    pub watch: Watch,
    /// The VM's name.
    pub name: String,
    channel: Channel,
    /// Events that nothing has waited for yet. A command's answer and its effects come in any
    /// order.
    heard: VecDeque<Heard>,
    tag: u32,
    /// How many times the VM has certainly started.
    pub starts: u32,
}

impl Victim {
    /// Returns the VM of that name.
    ///
    /// # Errors
    ///
    /// Fails when there is none.
    pub fn new(watch: Watch, name: &str) -> Result<Self> {
        let channel = watch.session.vm(name)?;
        Ok(Self {
            watch,
            name: name.into(),
            channel,
            heard: VecDeque::new(),
            tag: 0,
            starts: 0,
        })
    }

    fn take_item(&mut self, item: &Item) {
        match &item.what {
            What::Hypervisor(
                event @ (HypervisorEvent::VmOff { .. }
                | HypervisorEvent::VmStarted { .. }
                | HypervisorEvent::VmPaused { .. }
                | HypervisorEvent::VmResumed { .. }),
            ) => self.heard.push_back(Heard::Life(event.clone())),
            What::Program(event) if item.channel == self.channel => {
                self.heard.push_back(Heard::Said(event.clone()));
            }
            _ => {}
        }
    }

    /// Lets time pass.
    ///
    /// # Errors
    ///
    /// Fails when the machine ends meanwhile.
    pub fn wait_for(&mut self, time: Duration) -> Result<()> {
        let deadline = Instant::now() + time;
        while let Some(item) = self
            .watch
            .next(deadline.saturating_duration_since(Instant::now()))?
        {
            self.take_item(&item);
        }
        Ok(())
    }

    /// Processes the next item, so that not only [`Victim::wait_for`] does.
    ///
    /// # Errors
    ///
    /// Fails when the machine ends, or nothing happens for too long.
    pub fn listen(&mut self, what: &str) -> Result<()> {
        let item = self.watch.next(PATIENCE)?;
        let item = item.with_context(|| format!("nothing happened, waiting for {what}"))?;
        self.take_item(&item);
        Ok(())
    }

    /// Waits for an event for which `pick` returns a value. Earlier events are dropped.
    fn expect<T>(&mut self, what: &str, mut pick: impl FnMut(&Heard) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while let Some(heard) = self.heard.pop_front() {
                if let Some(found) = pick(&heard) {
                    return Ok(found);
                }
                if let Heard::Said(event) = &heard
                    && event["event"] == "error"
                {
                    bail!(
                        "while waiting for {what}, {} reported: {}",
                        self.name,
                        event["text"]
                    );
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.watch.next(left) {
                Ok(Some(item)) => self.take_item(&item),
                Ok(None) => bail!(
                    "waited {} s for {what}\n{}{}",
                    PATIENCE.as_secs(),
                    self.watch.session.tail(self.channel),
                    self.watch.session.tail(Channel::Hypervisor)
                ),
                Err(error) => return Err(error.context(format!("waiting for {what}"))),
            }
        }
    }

    /// Sends the monitor a command.
    ///
    /// # Errors
    ///
    /// Fails when it is refused or not answered.
    pub fn order(&mut self, command: &str) -> Result<Answer> {
        self.tag += 1;
        let tag = format!("soak-{}", self.tag);
        let line = format!("#{tag} {command} --json");
        self.watch.session.send(Channel::Hypervisor, &line)?;
        let deadline = Instant::now() + PATIENCE;
        let answer = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let item = self.watch.next(left)?;
            let item = item.with_context(|| format!("`{command}` is not answered"))?;
            match &item.what {
                What::Answer(answer) if answer.tag.as_ref() == Some(&tag) => {
                    break answer.clone();
                }
                _ => self.take_item(&item),
            }
        };
        if let Some(error) = &answer.error {
            bail!("`{command}`: {error}");
        }
        ensure!(answer.ok, "`{command}` is refused without a reason");
        Ok(*answer)
    }

    /// Drops all events so far.
    pub fn forget(&mut self) {
        self.heard.clear();
    }

    /// Waits until a VM is off for that reason.
    ///
    /// # Errors
    ///
    /// Fails when it is not, or for another reason.
    pub fn off(&mut self, vm: &str, wanted: &str) -> Result<()> {
        let reason = self.expect(&format!("{vm}'s end"), |heard| match heard {
            Heard::Life(HypervisorEvent::VmOff { vm: name, reason }) if name == vm => {
                Some(reason.clone())
            }
            _ => None,
        })?;
        ensure!(reason == wanted, "{vm} ended: {reason}, not {wanted}");
        Ok(())
    }

    /// Waits until a VM has started, with a TEE.
    ///
    /// # Errors
    ///
    /// Fails when it has not, or without a TEE.
    pub fn started(&mut self, vm: &str) -> Result<()> {
        let tee = self.expect(&format!("{vm}'s start"), |heard| match heard {
            Heard::Life(HypervisorEvent::VmStarted { vm: name, tee, .. }) if name == vm => {
                Some(*tee)
            }
            _ => None,
        })?;
        ensure!(tee, "{vm} has no TEE");
        self.starts += u32::from(vm == self.name);
        Ok(())
    }

    /// Waits until a VM has started or cannot; returns whether it has.
    ///
    /// # Errors
    ///
    /// Fails when neither happens, or it starts without a TEE.
    pub fn starts_or_not(&mut self, vm: &str) -> Result<bool> {
        let tee = self.expect(&format!("{vm}'s start or end"), |heard| match heard {
            Heard::Life(HypervisorEvent::VmStarted { vm: name, tee, .. }) if name == vm => {
                Some(Some(*tee))
            }
            Heard::Life(HypervisorEvent::VmOff { vm: name, .. }) if name == vm => Some(None),
            _ => None,
        })?;
        ensure!(tee != Some(false), "{vm} has no TEE");
        self.starts += u32::from(tee.is_some() && vm == self.name);
        Ok(tee.is_some())
    }

    /// Waits until a VM is paused.
    ///
    /// # Errors
    ///
    /// Fails when it is not.
    pub fn paused(&mut self, vm: &str) -> Result<()> {
        self.expect(&format!("{vm} to pause"), |heard| {
            matches!(heard, Heard::Life(HypervisorEvent::VmPaused { vm: name }) if name == vm)
                .then_some(())
        })
    }

    /// Waits until a VM is resumed.
    ///
    /// # Errors
    ///
    /// Fails when it is not.
    pub fn resumed(&mut self, vm: &str) -> Result<()> {
        self.expect(&format!("{vm} to go on"), |heard| {
            matches!(heard, Heard::Life(HypervisorEvent::VmResumed { vm: name }) if name == vm)
                .then_some(())
        })
    }

    /// Waits for an event of the guest.
    ///
    /// # Errors
    ///
    /// Fails when it does not come, or the guest reports an error.
    pub fn event(&mut self, name: &str) -> Result<Value> {
        self.event_of(&[name])
    }

    /// Waits for one of several events of the guest.
    ///
    /// # Errors
    ///
    /// Fails when none comes, or the guest reports an error.
    pub fn event_of(&mut self, names: &[&str]) -> Result<Value> {
        self.expect(&format!("the guest's {names:?}"), |heard| match heard {
            Heard::Said(event) if names.iter().any(|name| event["event"] == *name) => {
                Some(event.clone())
            }
            _ => None,
        })
    }

    /// Returns whether an event of the guest has come that nothing waited for.
    pub fn has_event(&self, name: &str) -> bool {
        self.heard
            .iter()
            .any(|heard| matches!(heard, Heard::Said(event) if event["event"] == name))
    }

    /// Sends the guest a command.
    ///
    /// # Errors
    ///
    /// Fails when QEMU has ended.
    pub fn send(&mut self, command: &str) -> Result<()> {
        self.watch.session.send(self.channel, command)
    }

    /// Sends the guest a command and waits for the event that answers it.
    ///
    /// # Errors
    ///
    /// Fails when it does not come, or the guest reports an error.
    pub fn ask(&mut self, command: &str, answer: &str) -> Result<Value> {
        self.send(command)?;
        self.event(answer)
    }
}
