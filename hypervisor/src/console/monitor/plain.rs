// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Lines as programs send them: nothing is echoed.

use super::MAX_LINE;
use super::editor::Line;
use postern_monitor::command::is_echo;

/// Puts lines together.
#[derive(Clone, Debug, Default)]
pub struct Assembler {
    line: Line,
    /// What is wrong with the line so far.
    fault: Option<LineError>,
}

/// Why a line was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It has more bytes than there is room for.
    #[error("the line has more than {MAX_LINE} characters: write it shorter")]
    TooLong,
    /// It has control characters, or bytes that are not ASCII.
    #[error("the line is not plain ASCII: `terminal on`, or Enter alone, is for editing")]
    NotText,
}

/// What a byte has led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// Nothing.
    Nothing,
    /// A line that is not empty.
    Line(Line),
    /// A line that is no line.
    Wrong(LineError),
    /// Enter at a terminal, with no line: a CR alone. A LF alone is what a program sends, or a
    /// terminal with echo sends back.
    Enter,
}

impl Assembler {
    /// Nothing typed yet.
    pub const fn new() -> Self {
        Self {
            line: Line::new(),
            fault: None,
        }
    }

    /// Takes a byte. Lines end with CR or LF; the caller leaves out the LF behind a CR. Backspace and DEL take the last character
    /// back, Ctrl-C and Ctrl-U the whole line with all that is wrong with it.
    pub fn push(&mut self, byte: u8) -> Typed {
        match byte {
            b'\r' | b'\n' => return self.end(byte),
            0x08 | 0x7f => {
                let _ = self.line.pop();
            }
            0x03 | 0x15 => *self = Self::new(),
            b'\t' => self.add(' '),
            b' '..=b'~' => self.add(char::from(byte)),
            _ => self.fault = self.fault.or(Some(LineError::NotText)),
        }
        Typed::Nothing
    }

    fn add(&mut self, c: char) {
        if self.line.push(c).is_err() {
            self.fault = self.fault.or(Some(LineError::TooLong));
        }
    }

    fn end(&mut self, byte: u8) -> Typed {
        let line = core::mem::take(&mut self.line);
        let fault = self.fault.take();
        let first = line.split_ascii_whitespace().next();
        match (fault, first) {
            // A long answer that came back; to answer would go round in circles.
            (Some(_), Some(word)) if is_echo(word) => Typed::Nothing,
            (Some(fault), _) => Typed::Wrong(fault),
            (None, Some(_)) => Typed::Line(line),
            (None, None) if byte == b'\r' => Typed::Enter,
            (None, None) => Typed::Nothing,
        }
    }
}
