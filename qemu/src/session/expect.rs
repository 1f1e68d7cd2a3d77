// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Waits for one item on one console.

use super::{Item, Session, What};
use crate::console::Channel;
use crate::ending::said;
use crate::guest::{Severity, kernel_severity};
use anyhow::{Result, bail};
use guest_agent::event::Event;
use postern_ctl::messages::{Answer, HypervisorEvent, is_panic};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// A wait for something on a console, made by [`Session::expect`].
pub struct Expectation<'a> {
    session: &'a mut Session,
    channel: Channel,
    within: Duration,
}

impl Session {
    /// Begins a wait of at most `within`. Output of other consoles is set aside for later waits on
    /// them; this console's output before the awaited item is skipped.
    pub const fn expect(&mut self, channel: Channel, within: Duration) -> Expectation<'_> {
        Expectation {
            session: self,
            channel,
            within,
        }
    }
}

impl Expectation<'_> {
    /// Waits for an item for which `pick` returns a value; `what` names it in the error.
    ///
    /// # Errors
    ///
    /// Fails when the item did not come in time, QEMU ended before, the guest's kernel crashed, the
    /// hypervisor reports that it cannot boot, or the wait was interrupted. The error has the
    /// console's last lines.
    pub fn find<T>(self, what: &str, mut pick: impl FnMut(&What) -> Option<T>) -> Result<T> {
        let Self {
            session,
            channel,
            within,
        } = self;
        let mut kept = 0;
        while let Some(item) = session.backlog.get(kept) {
            if item.channel == channel {
                let Some(item) = session.backlog.remove(kept) else {
                    break;
                };
                if let Some(found) = pick(&item.what) {
                    return Ok(found);
                }
                if let Some(why) = why_hopeless(&item, session.folder()) {
                    return session.failed(channel, what, &why);
                }
            } else {
                kept += 1;
            }
        }
        let deadline = Instant::now() + within;
        loop {
            let Some(item) = session.receive(deadline)? else {
                let why = if session.closed {
                    ended(session.folder())
                } else {
                    timeout(within)
                };
                return session.failed(channel, what, &why);
            };
            if item.channel == channel
                && let Some(found) = pick(&item.what)
            {
                return Ok(found);
            }
            if let Some(why) = why_hopeless(&item, session.folder())
                && (item.channel == channel || !matches!(item.channel, Channel::Vm(_)))
            {
                return session.failed(channel, what, &why);
            }
            if item.channel != channel {
                session.backlog.push_back(item);
            }
        }
    }

    /// Waits for an event of the guest's agent. An `error` event of the agent fails the wait,
    /// unless `pick` accepts it.
    ///
    /// # Errors
    ///
    /// Fails as [`Expectation::find`] does.
    pub fn event<T>(self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> Result<T> {
        let found = self.find(what, |item| match item {
            What::Guest(event) => match (pick(event), event) {
                (Some(found), _) => Some(Ok(found)),
                (None, Event::Error { text }) => Some(Err(text.clone())),
                (None, _) => None,
            },
            _ => None,
        })?;
        match found {
            Ok(found) => Ok(found),
            Err(text) => bail!("while waiting for {what}, the guest reported: {text}"),
        }
    }

    /// Waits for an event of a bare-metal program. Its `{"event":"error","text":"…"}` fails the
    /// wait, unless `pick` accepts it.
    ///
    /// # Errors
    ///
    /// Fails as [`Expectation::find`] does.
    pub fn program<T>(self, what: &str, mut pick: impl FnMut(&Value) -> Option<T>) -> Result<T> {
        let found = self.find(what, |item| match item {
            What::Program(event) => match pick(event) {
                Some(found) => Some(Ok(found)),
                None if event["event"] == "error" => Some(Err(event["text"].to_string())),
                None => None,
            },
            _ => None,
        })?;
        match found {
            Ok(found) => Ok(found),
            Err(text) => bail!("while waiting for {what}, the program reported: {text}"),
        }
    }

    /// Waits for an event of the hypervisor.
    ///
    /// # Errors
    ///
    /// Fails as [`Expectation::find`] does.
    pub fn hypervisor<T>(
        self,
        what: &str,
        mut pick: impl FnMut(&HypervisorEvent) -> Option<T>,
    ) -> Result<T> {
        self.find(what, |item| match item {
            What::Hypervisor(event) => pick(event),
            _ => None,
        })
    }

    /// Waits for the monitor's answer to the command with this tag.
    ///
    /// # Errors
    ///
    /// Fails as [`Expectation::find`] does.
    pub fn answer(self, tag: &str) -> Result<Answer> {
        self.find(&format!("the answer to #{tag}"), |item| match item {
            What::Answer(answer) if answer.tag.as_deref() == Some(tag) => Some((**answer).clone()),
            _ => None,
        })
    }

    /// Waits for a line that contains a text, and returns the line.
    ///
    /// # Errors
    ///
    /// Fails as [`Expectation::find`] does.
    pub fn line(self, text: &str) -> Result<String> {
        self.find(&format!("a line with {text:?}"), |item| match item {
            What::Line(line) if line.contains(text) => Some(line.clone()),
            _ => None,
        })
    }

    /// Waits until the guest reports that it is ready, whether Linux or a program.
    ///
    /// # Errors
    ///
    /// Fails as [`Expectation::find`] does.
    pub fn ready(self) -> Result<()> {
        let what = "the guest's \"ready\"";
        let is_program = match self.channel {
            Channel::Vm(number) => self
                .session
                .vms
                .get(usize::from(number).wrapping_sub(1))
                .is_some_and(|vm| vm.program),
            _ => false,
        };
        if is_program {
            self.program(what, |event| (event["event"] == "ready").then_some(()))
        } else {
            self.event(what, |event| {
                matches!(event, Event::Ready { .. }).then_some(())
            })
        }
    }
}

/// Returns why waiting is useless after this item, if it is.
fn why_hopeless(item: &Item, folder: &Path) -> Option<String> {
    match &item.what {
        What::Line(line) if matches!(item.channel, Channel::Vm(_)) => (kernel_severity(line)
            == Some(Severity::Fatal))
        .then(|| format!("the guest's kernel crashed: {line}")),
        What::Line(line) if is_panic(line) => Some(format!("the hypervisor panicked: {line}")),
        What::Hypervisor(HypervisorEvent::BootError { text }) => {
            Some(format!("the boot failed: {text}"))
        }
        What::Closed => Some(ended(folder)),
        _ => None,
    }
}

/// Says that QEMU has ended, with QEMU's own output.
fn ended(folder: &Path) -> String {
    format!("QEMU ended{}", said(folder))
}

fn timeout(within: Duration) -> String {
    format!("nothing in {} s", within.as_secs_f32())
}

impl Session {
    fn failed<T>(&self, channel: Channel, what: &str, why: &str) -> Result<T> {
        let mut text = format!(
            "{}: waiting for {what}: {why} (at {:.1} s)\n  its last lines:\n{}",
            self.name(channel),
            self.now().as_secs_f32(),
            self.tail(channel)
        );
        if channel != Channel::Hypervisor && self.tails.contains_key(&Channel::Hypervisor) {
            text += &format!(
                "  the hypervisor's last lines:\n{}",
                self.tail(Channel::Hypervisor)
            );
        }
        text += &format!("  all logs: {}", self.folder.display());
        bail!(text)
    }
}
