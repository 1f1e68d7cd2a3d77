// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The logic of a terminal for the monitor, without I/O: takes keys and answers, returns the bytes
//! for the screen.

use crate::complete::candidates;
use crate::editor::{Edited, Editor};
use crate::plan::{Command, Plan, plan};
use std::collections::VecDeque;

/// The result of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entered {
    /// Nothing for the caller.
    Nothing,
    /// A command for the monitor; the caller then calls [`Terminal::answered`].
    Command(Command),
    /// Ctrl-D on an empty line.
    End,
}

/// The terminal. Its output is for a raw one: lines end with CR LF.
#[derive(Debug)]
pub struct Terminal {
    editor: Editor,
    /// The VMs' names, for completion.
    names: Vec<String>,
    /// The command that waits for the monitor's answer.
    asked: Option<Command>,
    /// Keys that were typed ahead.
    ahead: VecDeque<u8>,
    /// Whether the screen shows something else, and no line is edited.
    hidden: bool,
}

impl Terminal {
    /// Returns a terminal with an empty line, and shows nothing.
    pub fn new(names: Vec<String>) -> Self {
        Self {
            editor: Editor::new(),
            names,
            asked: None,
            ahead: VecDeque::new(),
            hidden: false,
        }
    }

    /// Hides the line, or makes it visible again: [`Terminal::line`] then draws it, and
    /// [`Terminal::keys`] takes the keys that wait.
    pub fn hide(&mut self, hidden: bool) {
        self.hidden = hidden;
    }

    fn has_line(&self) -> bool {
        self.asked.is_none() && !self.hidden
    }

    /// Returns the bytes that draw the line on a screen whose cursor is in column 0.
    pub fn line(&self) -> String {
        let mut out = String::new();
        if self.has_line() {
            // Writing to a string cannot fail.
            let _ = self.editor.show(&mut out);
        }
        out
    }

    /// Returns the bytes that draw `text`, whole lines, above the edited line.
    pub fn above(&self, text: &str) -> String {
        let clear = if self.has_line() { "\r\x1b[K" } else { "" };
        format!("{clear}{}{}", crlf(text), self.line())
    }

    /// Takes keys. Adds the bytes for the screen to `screen`.
    pub fn keys(&mut self, keys: &[u8], screen: &mut String) -> Entered {
        if self.asked.is_some() {
            // Ctrl-C: the user gives the wait up.
            if let Some(place) = keys.iter().rposition(|&key| key == 0x03) {
                self.asked = None;
                self.ahead.clear();
                screen.push_str("^C\r\n");
                screen.push_str(&self.line());
                return self.keys(&keys[place + 1..], screen);
            }
        }
        self.ahead.extend(keys);
        self.go_on(screen)
    }

    /// Takes the answer to the last command, a JSON object, or the reason why there is none.
    pub fn answered(&mut self, answer: Result<&str, &str>, screen: &mut String) -> Entered {
        if let Some(command) = self.asked.take() {
            let shown = match answer {
                Ok(json) => command.show(json),
                Err(why) => Err(why.to_owned()),
            };
            say(shown, screen);
            screen.push_str(&self.line());
        }
        self.go_on(screen)
    }

    fn go_on(&mut self, screen: &mut String) -> Entered {
        while self.has_line() {
            let Some(key) = self.ahead.pop_front() else {
                break;
            };
            match self.key(key, screen) {
                Entered::Nothing => {}
                entered => return entered,
            }
        }
        Entered::Nothing
    }

    fn key(&mut self, key: u8, screen: &mut String) -> Entered {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let edited = self
            .editor
            .receive(key, &mut out)
            .unwrap_or(Edited::Nothing);
        let mut entered = Entered::Nothing;
        match edited {
            Edited::Nothing => {}
            Edited::End => entered = Entered::End,
            Edited::Complete => {
                let before = self.editor.before_cursor().to_owned();
                let _ = self
                    .editor
                    .complete(&candidates(&before, &self.names), &mut out);
            }
            Edited::Line(line) => {
                match plan(&line) {
                    Plan::Nothing => {}
                    Plan::Say(text) => say(Ok(text), &mut out),
                    Plan::Refuse(why) => say(Err(why), &mut out),
                    Plan::Ask(command) => {
                        self.asked = Some(command.clone());
                        entered = Entered::Command(command);
                    }
                }
                out += &self.line();
            }
        }
        screen.push_str(&crlf(&out));
        entered
    }
}

/// Adds an answer as the user sees it.
fn say(answer: Result<String, String>, out: &mut String) {
    match answer {
        Ok(text) => out.push_str(&crlf(&text)),
        Err(why) => out.push_str(&format!("monitor: {why}\r\n")),
    }
}

/// Converts newlines for a raw terminal; CR LF stays.
fn crlf(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut last = ' ';
    for letter in text.chars() {
        if letter == '\n' && last != '\r' {
            out.push('\r');
        }
        out.push(letter);
        last = letter;
    }
    out
}

#[cfg(test)]
mod tests;
