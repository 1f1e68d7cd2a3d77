// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest that runs xtest all the time and must not notice what happens to another.

use anyhow::{Result, ensure};
use guest_agent::event::{CaseState, Event};
use postern_qemu::console::Channel;
use postern_qemu::guest::{Severity, kernel_severity};
use postern_qemu::session::{Item, Session, What};

/// The guest and its results so far.
pub struct Neighbour {
    /// The guest's name.
    pub name: String,
    /// The guest's console.
    pub channel: Channel,
    /// The number of cases that passed.
    pub cases: u32,
    /// How many times it has run all of its cases.
    pub rounds: u32,
    /// xtest's arguments, run by run, and the number of cases of each run.
    runs: Vec<(String, usize)>,
    /// The index of the next run.
    next: usize,
    /// The faults so far.
    trouble: Vec<String>,
    /// Whether it begins again when a run has ended.
    again: bool,
    /// Whether no run is in progress.
    idle: bool,
    /// Whether it restarts, as requested.
    away: bool,
}

impl Neighbour {
    /// Returns the guest on that console, which is ready and idle.
    pub fn new(session: &Session, channel: Channel) -> Self {
        Self {
            name: session.name(channel),
            channel,
            cases: 0,
            rounds: 0,
            runs: Vec::new(),
            next: 0,
            trouble: Vec::new(),
            again: false,
            idle: true,
            away: false,
        }
    }

    /// Makes it run these cases repeatedly, a number of them at a time.
    ///
    /// # Errors
    ///
    /// Fails when QEMU has ended.
    pub fn work<'a>(
        &mut self,
        session: &mut Session,
        cases: impl IntoIterator<Item = &'a str>,
        at_a_time: usize,
    ) -> Result<()> {
        let cases: Vec<&str> = cases.into_iter().collect();
        self.runs = cases
            .chunks(at_a_time)
            .map(|cases| {
                let line = format!("xtest -t regression {}", cases.join(" "));
                (line, cases.len())
            })
            .collect();
        self.next = 0;
        self.again = true;
        if self.idle && !self.away {
            self.begin(session)?;
        }
        Ok(())
    }

    fn begin(&mut self, session: &mut Session) -> Result<()> {
        if let Some((line, _)) = self.runs.get(self.next) {
            session.send(self.channel, line)?;
            self.idle = false;
        }
        Ok(())
    }

    /// Stops it from beginning again.
    pub const fn stop(&mut self) {
        self.again = false;
    }

    /// Returns whether it is idle and running.
    pub const fn is_idle(&self) -> bool {
        self.idle && !self.away
    }

    /// Records that it was reset: its current run is lost, and it restarts.
    pub const fn reset(&mut self) {
        self.idle = true;
        self.away = true;
    }

    /// Returns whether it restarts and is not ready yet.
    pub const fn is_away(&self) -> bool {
        self.away
    }

    /// Records an item of its console.
    ///
    /// # Errors
    ///
    /// Fails when QEMU has ended.
    pub fn note(&mut self, session: &mut Session, item: &Item) -> Result<()> {
        if item.channel != self.channel {
            return Ok(());
        }
        match &item.what {
            What::Guest(Event::Ready { .. }) => {
                if !self.away {
                    self.trouble.push("it has restarted".into());
                }
                self.away = false;
                if self.again {
                    self.begin(session)?;
                }
            }
            // Half a line of the previous life may be left over.
            _ if self.away => {}
            What::Guest(Event::Case { name, state, .. }) => match state {
                CaseState::Ok => self.cases += 1,
                CaseState::Failed => self.trouble.push(format!("{name} failed")),
                CaseState::Skipped => self.trouble.push(format!("{name} was skipped")),
                CaseState::Start => {}
            },
            What::Guest(Event::XtestEnd(end)) => {
                self.idle = true;
                let wanted = self.runs.get(self.next).map_or(0, |(_, cases)| *cases);
                if end.exit != 0 || end.cases as usize != wanted {
                    self.trouble.push(format!("xtest failed: {end:?}"));
                }
                self.next += 1;
                if self.next >= self.runs.len() {
                    self.next = 0;
                    self.rounds += 1;
                }
                if self.again {
                    self.begin(session)?;
                }
            }
            What::Guest(Event::Error { text }) => self.trouble.push(text.clone()),
            What::Line(line) if kernel_severity(line) == Some(Severity::Fatal) => {
                self.trouble.push(line.clone());
            }
            _ => {}
        }
        Ok(())
    }

    /// Checks that no fault has happened since the last call.
    ///
    /// # Errors
    ///
    /// Fails with the fault.
    pub fn unharmed(&mut self) -> Result<()> {
        let trouble = std::mem::take(&mut self.trouble);
        ensure!(trouble.is_empty(), "{}: {}", self.name, trouble.join("; "));
        Ok(())
    }
}
