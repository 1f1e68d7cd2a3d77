// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One end of a conversation: lines out of bytes, with an echo for people.

use core::fmt::Write;
use postern_monitor::command::is_echo;

/// The most characters of a line.
pub const MAX_LINE: usize = 160;
/// What stands in front of a line that is typed.
pub const PROMPT: &str = "postern> ";
/// The most bytes that a session says by itself about one byte.
pub const MAX_ECHO: usize = 32;

/// A line.
pub type LineText = heapless::String<MAX_LINE>;
/// What a session says by itself.
pub type Echo = heapless::String<MAX_ECHO>;
/// What is to be answered.
pub type Entered = Result<LineText, LineError>;

/// Why a line was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It has more bytes than there is room for.
    #[error("the line has more than {MAX_LINE} characters: write it shorter")]
    TooLong,
    /// It has control characters, or bytes that are not ASCII.
    #[error("the line is not plain ASCII")]
    NotText,
}

/// Puts lines together.
///
/// It begins silent: each line is answered, and nothing else said. Enter on an empty line, a CR alone, has it show what
/// is typed, behind a prompt. A LF alone is what a program sends, or a terminal with an echo of its own sends back.
#[derive(Clone, Debug)]
pub struct Session {
    echo: bool,
    /// The last byte was a CR: a LF belongs to it.
    after_return: bool,
    line: LineText,
    /// What is wrong with the line so far.
    fault: Option<LineError>,
}

impl Session {
    /// Makes a silent session.
    pub const fn new() -> Self {
        Self {
            echo: false,
            after_return: false,
            line: LineText::new(),
            fault: None,
        }
    }

    /// Returns whether it shows what is typed.
    pub const fn has_echo(&self) -> bool {
        self.echo
    }

    /// Takes a byte, and adds to `echo` what is to be shown of it. A line that it ends is to be answered, outside of any
    /// lock, and then [`Session::answered`] called.
    ///
    /// Lines end with CR, LF or both. Backspace and DEL take the last character back, Ctrl-C and Ctrl-U the whole line
    /// with all that is wrong with it.
    pub fn receive(&mut self, byte: u8, echo: &mut Echo) -> Option<Entered> {
        let after_return = core::mem::replace(&mut self.after_return, byte == b'\r');
        match byte {
            b'\n' if after_return => {}
            b'\r' | b'\n' => {
                let was_empty = self.line.is_empty() && self.fault.is_none();
                self.say("\n", echo);
                let entered = self.end();
                if entered.is_none() {
                    self.echo |= byte == b'\r' && was_empty;
                    self.answered(None, echo);
                }
                return entered;
            }
            0x08 | 0x7f => {
                if self.line.pop().is_some() {
                    self.say("\x08 \x08", echo);
                }
            }
            0x03 | 0x15 => {
                self.line.clear();
                self.fault = None;
                self.say("\r\x1b[K", echo);
                self.answered(None, echo);
            }
            b'\t' => self.add(' ', echo),
            b' '..=b'~' => self.add(char::from(byte), echo),
            _ => self.fault = self.fault.or(Some(LineError::NotText)),
        }
        None
    }

    /// A line is answered, or there is none; `echo_from_now` is what it made of the session. The next line begins.
    pub fn answered(&mut self, echo_from_now: Option<bool>, echo: &mut Echo) {
        self.echo = echo_from_now.unwrap_or(self.echo);
        self.say(PROMPT, echo);
    }

    fn say(&self, text: &str, echo: &mut Echo) {
        if self.echo {
            // There is room for what one byte leads to.
            let _ = echo.write_str(text);
        }
    }

    fn add(&mut self, c: char, echo: &mut Echo) {
        if self.line.push(c).is_err() {
            self.fault = self.fault.or(Some(LineError::TooLong));
            self.say("\x07", echo);
        } else {
            self.say(c.encode_utf8(&mut [0; 4]), echo);
        }
    }

    fn end(&mut self) -> Option<Entered> {
        let line = core::mem::take(&mut self.line);
        let fault = self.fault.take();
        let first = line.split_ascii_whitespace().next();
        match (fault, first) {
            // A long answer that came back; to answer would go round in circles.
            (Some(_), Some(word)) if is_echo(word) => None,
            (Some(fault), _) => Some(Err(fault)),
            (None, Some(_)) => Some(Ok(line)),
            (None, None) => None,
        }
    }
}
