// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A machine with neighbours at work: every wait also processes their items and checks OP-TEE's
//! log.

use crate::neighbour::Neighbour;
use crate::tee_log::TeeLog;
use anyhow::{Result, bail};
use guest_agent::event::MARK;
use postern_ctl::messages::is_panic;
use postern_qemu::console::Channel;
use postern_qemu::session::{Item, Session, What};
use std::time::{Duration, Instant};

/// The time between two checks whether OP-TEE still works.
const GLANCE: Duration = Duration::from_secs(2);

/// The machine.
pub struct Watch {
    /// Its consoles.
    pub session: Session,
    /// The guests that work.
    pub neighbours: Vec<Neighbour>,
    /// OP-TEE's log.
    pub log: TeeLog,
}

impl Watch {
    /// Watches a machine that was booted, whose neighbours are ready.
    pub fn new(session: Session, neighbours: Vec<Neighbour>) -> Self {
        let log = TeeLog::new(session.folder().join("optee.log"));
        Self {
            session,
            neighbours,
            log,
        }
    }

    /// Returns the next item, after the neighbours have recorded it.
    ///
    /// # Errors
    ///
    /// Fails when QEMU, the hypervisor or OP-TEE has ended, or the wait was interrupted.
    pub fn next(&mut self, within: Duration) -> Result<Option<Item>> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(item) = self.session.next(left.min(GLANCE))? else {
                if let Some(line) = self.log.panic() {
                    bail!("OP-TEE died: {line}");
                }
                if left.is_zero() {
                    return Ok(None);
                }
                continue;
            };
            let item = self.whole(item);
            for neighbour in &mut self.neighbours {
                neighbour.note(&mut self.session, &item)?;
            }
            match &item.what {
                What::Closed => bail!("QEMU ended"),
                What::Line(line) if is_panic(line) => bail!("the hypervisor panicked: {line}"),
                _ => return Ok(Some(item)),
            }
        }
    }

    /// Removes the half line of a VM that was ended in the middle of one: its next life begins
    /// after it, and the event there counts.
    fn whole(&self, item: Item) -> Item {
        let (What::Garbled(line), Channel::Vm(number)) = (&item.what, item.channel) else {
            return item;
        };
        let Some((_, json)) = line.rsplit_once(MARK) else {
            return item;
        };
        let vm = self.session.vms().get(usize::from(number).wrapping_sub(1));
        let what = if vm.is_some_and(|vm| vm.program) {
            serde_json::from_str(json).ok().map(What::Program)
        } else {
            serde_json::from_str(json).ok().map(What::Guest)
        };
        match what {
            Some(what) => Item { what, ..item },
            None => item,
        }
    }

    /// Processes items until `pick` returns a value. A program's `error` event that it does not
    /// pick fails the wait.
    ///
    /// # Errors
    ///
    /// Fails as [`Watch::next`] does, or when it did not come in time.
    pub fn wait<T>(
        &mut self,
        what: &str,
        within: Duration,
        mut pick: impl FnMut(&Item) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let item = match self.next(left) {
                Ok(Some(item)) => item,
                Ok(None) => break,
                Err(error) => return Err(error.context(format!("waiting for {what}"))),
            };
            if let Some(found) = pick(&item) {
                return Ok(found);
            }
            if let What::Program(event) = &item.what
                && event["event"] == "error"
            {
                bail!(
                    "while waiting for {what}, the guest reported: {}",
                    event["text"]
                );
            }
        }
        bail!(
            "waited {} s for {what}\n{}",
            within.as_secs(),
            self.session.tail(Channel::Hypervisor)
        )
    }
}
