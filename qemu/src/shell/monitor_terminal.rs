// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The terminal of the monitor, on the hypervisor's console.

use crate::console::{Channel, plain};
use crate::control::{PATIENCE, Wire};
use postern_ctl::messages::{HypervisorEvent, MARK, MonitorMessage};
use postern_ctl::{Command, Entered, Terminal};
use std::time::Instant;

/// The prefix of all tags of this terminal.
const TAG: &str = "shell-";

/// The terminal, and the way to the monitor.
pub(super) struct MonitorTerminal {
    terminal: Terminal,
    wire: Wire,
    /// The number of the last command, and the time at which its answer is late.
    asked: u32,
    late: Option<Instant>,
    /// Whether the hypervisor accepts commands.
    up: bool,
}

impl MonitorTerminal {
    /// Returns a terminal with an empty line.
    pub(super) fn new(wire: Wire, names: Vec<String>) -> Self {
        let mut terminal = Terminal::new(names);
        terminal.hide(true);
        Self {
            terminal,
            wire,
            asked: 0,
            late: None,
            up: false,
        }
    }

    /// Hides the terminal while another console is shown, or shows it again.
    pub(super) fn hide(&mut self, hidden: bool) {
        self.terminal.hide(hidden);
    }

    /// Returns the bytes that draw the edited line.
    pub(super) fn line(&self) -> String {
        self.terminal.line()
    }

    /// Returns the bytes that draw whole lines above the edited one.
    pub(super) fn above(&self, text: &str) -> String {
        self.terminal.above(text)
    }

    /// Takes keys; returns the bytes for the screen.
    pub(super) fn types(&mut self, keys: &[u8]) -> String {
        let mut screen = String::new();
        let entered = self.terminal.keys(keys, &mut screen);
        self.send(entered, &mut screen);
        screen
    }

    /// Takes a line from the hypervisor; returns the bytes for the screen.
    pub(super) fn take_line(&mut self, line: &str) -> String {
        match number(line) {
            // The command was given up or replaced.
            Some(number) if number != self.asked || self.late.is_none() => String::new(),
            Some(_) => {
                let json = line
                    .split_once(MARK)
                    .map_or("", |(_, json)| json.trim_end());
                self.answered(Ok(json))
            }
            None => {
                self.up |= matches!(
                    MonitorMessage::find(line),
                    Some(Ok(MonitorMessage::Event(HypervisorEvent::Up { .. })))
                );
                self.above(&format!("{}\n", plain(line)))
            }
        }
    }

    /// Gives up on an overdue answer; returns the bytes for the screen.
    pub(super) fn give_up_overdue(&mut self) -> Option<String> {
        let late = self.late?;
        (Instant::now() >= late).then(|| {
            let why = format!("the monitor has not answered for {} s", PATIENCE.as_secs());
            self.answered(Err(&why))
        })
    }

    fn answered(&mut self, answer: Result<&str, &str>) -> String {
        self.late = None;
        let mut screen = String::new();
        let entered = self.terminal.answered(answer, &mut screen);
        self.send(entered, &mut screen);
        screen
    }

    /// Sends a command to the monitor.
    fn send(&mut self, entered: Entered, screen: &mut String) {
        let Entered::Command(command) = entered else {
            return;
        };
        let refused = if self.up {
            self.ask(&command).err()
        } else {
            Some("the hypervisor has not booted yet".to_owned())
        };
        if let Some(why) = refused {
            screen.push_str(&self.answered(Err(&why)));
        }
    }

    fn ask(&mut self, command: &Command) -> Result<(), String> {
        self.asked += 1;
        let line = command.tagged(&format!("{TAG}{}", self.asked));
        self.late = Some(Instant::now() + PATIENCE);
        self.wire
            .send(Channel::Hypervisor, format!("{line}\n").as_bytes())
            .map_err(|why| format!("{why:#}"))
    }
}

/// Returns the number of this terminal's command that a line answers, if it answers one.
fn number(line: &str) -> Option<u32> {
    match MonitorMessage::find(line) {
        Some(Ok(MonitorMessage::Answer(answer))) => answer.tag?.strip_prefix(TAG)?.parse().ok(),
        _ => None,
    }
}
