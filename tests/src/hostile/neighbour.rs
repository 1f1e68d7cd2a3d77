//! The other guest, which runs xtest all the time and must not notice.

use anyhow::{Result, ensure};
use guest_agent::event::{CaseState, Event};
use postern_qemu::console::Channel;
use postern_qemu::guest::{Severity, trouble};
use postern_qemu::session::{Item, Session, What};

/// What it runs: sessions, loading, shared memory, cryptography, storage. None of it takes long, and
/// none has an application panic on purpose, which OP-TEE would log.
const CASES: &[&str] = &["1001", "1002", "1004", "1005", "4001", "6001"];

/// The guest and what it has said.
pub struct Neighbour {
    channel: Channel,
    /// Cases that have ended well.
    pub cases: u32,
    /// Runs of all of them that have ended well.
    pub runs: u32,
    /// What must not have been.
    trouble: Vec<String>,
    /// Whether it begins again when it is through.
    again: bool,
    /// Whether it is through.
    pub idle: bool,
}

impl Neighbour {
    /// Has the guest on that console begin.
    ///
    /// # Errors
    ///
    /// QEMU has ended.
    pub fn start(session: &mut Session, channel: Channel) -> Result<Self> {
        let mut neighbour = Self {
            channel,
            cases: 0,
            runs: 0,
            trouble: Vec::new(),
            again: true,
            idle: true,
        };
        neighbour.begin(session)?;
        Ok(neighbour)
    }

    fn begin(&mut self, session: &mut Session) -> Result<()> {
        let command = format!("xtest -t regression {}", CASES.join(" "));
        session.send(self.channel, &command)?;
        self.idle = false;
        Ok(())
    }

    /// Does not begin again.
    pub const fn stop(&mut self) {
        self.again = false;
    }

    /// Takes note of what a console said.
    ///
    /// # Errors
    ///
    /// QEMU has ended.
    pub fn note(&mut self, session: &mut Session, item: &Item) -> Result<()> {
        if item.channel != self.channel {
            return Ok(());
        }
        match &item.what {
            What::Guest(Event::Case { name, state, .. }) => match state {
                CaseState::Ok => self.cases += 1,
                CaseState::Failed => self.trouble.push(format!("{name} failed")),
                CaseState::Skipped => self.trouble.push(format!("{name} was skipped")),
                CaseState::Start => {}
            },
            What::Guest(Event::XtestEnd(end)) => {
                self.idle = true;
                if end.exit != 0 || end.cases as usize != CASES.len() {
                    self.trouble.push(format!("xtest ended badly: {end:?}"));
                } else {
                    self.runs += 1;
                }
                if self.again {
                    self.begin(session)?;
                }
            }
            What::Guest(Event::Error { text }) => self.trouble.push(text.clone()),
            What::Guest(Event::Ready { .. }) => self.trouble.push("it has started anew".into()),
            What::Line(line) if trouble(line) == Some(Severity::Fatal) => {
                self.trouble.push(line.clone());
            }
            _ => {}
        }
        Ok(())
    }

    /// Fails when something has happened to it since the last time.
    ///
    /// # Errors
    ///
    /// What.
    pub fn unharmed(&mut self) -> Result<()> {
        let trouble = std::mem::take(&mut self.trouble);
        ensure!(trouble.is_empty(), "{}", trouble.join("; "));
        Ok(())
    }
}
