// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The VM that is started and ended: orders to the monitor, and what it and its guest say.

use crate::watch::Watch;
use anyhow::{Context, Result, bail, ensure};
use postern_ctl::told::{Answer, HypervisorEvent};
use postern_qemu::console::Channel;
use postern_qemu::session::{Item, What};
use serde_json::Value;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The longest that anything may take on a busy host.
const PATIENCE: Duration = Duration::from_secs(240);

/// Something about a VM's life, or from the victim's guest.
#[derive(Clone, Debug)]
enum Heard {
    Life(HypervisorEvent),
    Said(Value),
}

/// The machine, with one VM that is ended.
pub struct Victim {
    /// The machine.
    pub watch: Watch,
    /// The VM's name.
    pub name: String,
    channel: Channel,
    /// What was heard and not yet waited for. An order's answer and what follows from it come in
    /// any order.
    heard: VecDeque<Heard>,
    tag: u32,
}

impl Victim {
    /// The VM of that name.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn new(watch: Watch, name: &str) -> Result<Self> {
        let channel = watch.session.vm(name)?;
        Ok(Self {
            watch,
            name: name.into(),
            channel,
            heard: VecDeque::new(),
            tag: 0,
        })
    }

    fn hear(&mut self, item: &Item) {
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
    /// The machine ends meanwhile.
    pub fn linger(&mut self, time: Duration) -> Result<()> {
        let deadline = Instant::now() + time;
        while let Some(item) = self
            .watch
            .next(deadline.saturating_duration_since(Instant::now()))?
        {
            self.hear(&item);
        }
        Ok(())
    }

    /// Takes the next thing that can happen, so that [`Victim::linger`] is not the only one who listens.
    ///
    /// # Errors
    ///
    /// The machine ends, or nothing happens for too long.
    pub fn listen(&mut self, what: &str) -> Result<()> {
        let item = self.watch.next(PATIENCE)?;
        let item = item.with_context(|| format!("nothing happened, waiting for {what}"))?;
        self.hear(&item);
        Ok(())
    }

    /// Waits for something that `pick` makes something of. What was heard before it is forgotten.
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
                    bail!("waiting for {what}, {} says: {}", self.name, event["text"]);
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.watch.next(left) {
                Ok(Some(item)) => self.hear(&item),
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

    /// Gives the monitor a command.
    ///
    /// # Errors
    ///
    /// It is refused, or not answered.
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
                _ => self.hear(&item),
            }
        };
        if let Some(error) = &answer.error {
            bail!("`{command}`: {error}");
        }
        ensure!(answer.ok, "`{command}` is refused without a word");
        Ok(*answer)
    }

    /// Forgets what was heard.
    pub fn forget(&mut self) {
        self.heard.clear();
    }

    /// Waits until a VM is off for that reason.
    ///
    /// # Errors
    ///
    /// It does not go off, or for another reason.
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
    /// It does not, or without.
    pub fn started(&mut self, vm: &str) -> Result<()> {
        let tee = self.expect(&format!("{vm}'s start"), |heard| match heard {
            Heard::Life(HypervisorEvent::VmStarted { vm: name, tee, .. }) if name == vm => {
                Some(*tee)
            }
            _ => None,
        })?;
        ensure!(tee, "{vm} has no TEE");
        Ok(())
    }

    /// Waits until a VM stands still.
    ///
    /// # Errors
    ///
    /// It does not.
    pub fn paused(&mut self, vm: &str) -> Result<()> {
        self.expect(&format!("{vm} to stand still"), |heard| {
            matches!(heard, Heard::Life(HypervisorEvent::VmPaused { vm: name }) if name == vm)
                .then_some(())
        })
    }

    /// Waits until a VM goes on.
    ///
    /// # Errors
    ///
    /// It does not.
    pub fn resumed(&mut self, vm: &str) -> Result<()> {
        self.expect(&format!("{vm} to go on"), |heard| {
            matches!(heard, Heard::Life(HypervisorEvent::VmResumed { vm: name }) if name == vm)
                .then_some(())
        })
    }

    /// Waits for an event of the guest's.
    ///
    /// # Errors
    ///
    /// It does not come, or the guest has a complaint.
    pub fn says(&mut self, name: &str) -> Result<Value> {
        self.says_one_of(&[name])
    }

    /// Waits for one of several events of the guest's.
    ///
    /// # Errors
    ///
    /// None comes, or the guest has a complaint.
    pub fn says_one_of(&mut self, names: &[&str]) -> Result<Value> {
        self.expect(&format!("the guest's {names:?}"), |heard| match heard {
            Heard::Said(event) if names.iter().any(|name| event["event"] == *name) => {
                Some(event.clone())
            }
            _ => None,
        })
    }

    /// Whether the guest has said something that was not waited for.
    pub fn has_said(&self, name: &str) -> bool {
        self.heard
            .iter()
            .any(|heard| matches!(heard, Heard::Said(event) if event["event"] == name))
    }

    /// Gives the guest a command.
    ///
    /// # Errors
    ///
    /// QEMU has ended.
    pub fn tell(&mut self, command: &str) -> Result<()> {
        self.watch.session.send(self.channel, command)
    }

    /// Gives the guest a command and waits for the event that answers it.
    ///
    /// # Errors
    ///
    /// It does not come, or the guest has a complaint.
    pub fn ask(&mut self, command: &str, answer: &str) -> Result<Value> {
        self.tell(command)?;
        self.says(answer)
    }
}
