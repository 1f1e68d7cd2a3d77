// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The monitor: commands to the hypervisor, typed or sent by programs.
//!
//! Bytes come from the hypervisor's channel of the physical UART, or from the second UART of a
//! privileged VM. A [`Session`] makes lines of them, [`respond`] answers a line, [`Port`] joins the two for a
//! source of bytes. Everything but `machine` is plain code over the trait [`System`].
//!
//! A guest may write what it likes: a line, the history and unread answers are bounded, a byte
//! costs a bounded amount of work, and a session is shared with nobody.

pub mod answer;
mod complete;
pub mod editor;
mod history;
mod json;
#[cfg(target_os = "none")]
pub mod machine;
pub mod plain;
pub mod port;
pub mod system;
mod text;

pub use answer::{Written, respond};
pub use port::{Answers, Output, Port};
pub use system::System;

use core::fmt::{self, Write};
use editor::{Edited, Editor, Line};
use plain::{Assembler, LineError, Typed};

/// The most characters of a line.
pub const MAX_LINE: usize = 160;

/// One end of a conversation: plain lines, or a terminal.
///
/// It begins plain: no echo, no prompt, each line is answered. Enter on an empty line makes it a
/// terminal.
#[derive(Clone, Debug)]
pub struct Session {
    terminal: bool,
    /// The last byte was a CR: a LF belongs to it.
    after_return: bool,
    assembler: Assembler,
    editor: Editor,
}

/// What is to be answered.
pub type Entered = Result<Line, LineError>;

impl Session {
    /// A plain session.
    pub const fn new() -> Self {
        Self {
            terminal: false,
            after_return: false,
            assembler: Assembler::new(),
            editor: Editor::new(),
        }
    }

    /// Whether the other end is a terminal.
    pub const fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Takes a byte, and tells the terminal what to show. Where that gives a line it is to be
    /// answered, outside of any lock, and then [`Session::answered`] called.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn receive(
        &mut self,
        byte: u8,
        system: &impl System,
        out: &mut impl Write,
    ) -> Result<Option<Entered>, fmt::Error> {
        let after_return = core::mem::replace(&mut self.after_return, byte == b'\r');
        if byte == b'\n' && after_return {
            return Ok(None);
        }
        if !self.terminal {
            return match self.assembler.push(byte) {
                Typed::Nothing => Ok(None),
                Typed::Line(line) => Ok(Some(Ok(line))),
                Typed::Wrong(error) => Ok(Some(Err(error))),
                Typed::Enter => {
                    self.become_terminal(true);
                    self.editor.show(out)?;
                    Ok(None)
                }
            };
        }
        match self.editor.receive(byte, out)? {
            Edited::Nothing => Ok(None),
            Edited::Line(line) => Ok(Some(Ok(line))),
            Edited::Complete => {
                let before = Line::try_from(self.editor.before_cursor()).unwrap_or_default();
                let candidates =
                    |each: &mut dyn FnMut(&str)| complete::candidates(&before, system, each);
                self.editor.complete(candidates, out)?;
                Ok(None)
            }
        }
    }

    /// A line is answered; `terminal` is what it made of the session.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn answered(&mut self, terminal: Option<bool>, out: &mut impl Write) -> fmt::Result {
        if let Some(terminal) = terminal {
            self.become_terminal(terminal);
        }
        self.show(out)
    }

    /// Tells a terminal, whose cursor is at the beginning of an empty line, what it is to show:
    /// nothing where there is no terminal.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn show(&self, out: &mut impl Write) -> fmt::Result {
        if self.terminal {
            self.editor.show(out)
        } else {
            Ok(())
        }
    }

    fn become_terminal(&mut self, terminal: bool) {
        self.terminal = terminal;
        self.assembler = Assembler::new();
        self.editor.restart();
    }
}

impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
