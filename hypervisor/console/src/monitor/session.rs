// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One end of a conversation: assembles lines from bytes, with an echo for people.

use core::fmt::Write;
use postern_monitor::command::is_echo;

/// The most characters of a line.
pub const MAX_LINE: usize = 160;
/// The prompt in front of a line that a person types.
pub const PROMPT: &str = "postern> ";
/// The most bytes of a session's own output per received byte.
pub const MAX_ECHO: usize = 32;

/// The text of a line.
pub type LineText = heapless::String<MAX_LINE>;
/// The session's own output.
pub type Echo = heapless::String<MAX_ECHO>;
/// A line to answer, or the reason why it was dropped.
pub type Entered = Result<LineText, LineError>;

/// The reason why a line was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// The line has more bytes than there is room for.
    #[error("the line has more than {MAX_LINE} characters: write it shorter")]
    TooLong,
    /// The line has control characters, or bytes that are not ASCII.
    #[error("the line is not plain ASCII")]
    NotText,
}

/// The state of a conversation.
///
/// A session begins silent: it answers lines and outputs nothing else. Enter on an empty line, a CR
/// alone, turns on the echo and the prompt. An LF alone does not, because a program sends it, or a
/// terminal with an echo of its own.
#[derive(Clone, Debug)]
pub struct Session {
    echo: bool,
    /// Whether the last byte was a CR, so that an LF belongs to it.
    after_return: bool,
    line: LineText,
    /// The first fault of the line so far.
    fault: Option<LineError>,
}

impl Session {
    /// Creates a silent session.
    pub const fn new() -> Self {
        Self {
            echo: false,
            after_return: false,
            line: LineText::new(),
            fault: None,
        }
    }

    /// Returns whether the session shows what is typed.
    pub const fn has_echo(&self) -> bool {
        self.echo
    }

    /// Takes a byte, and adds the output for it to `echo`. Returns the line that the byte ends, if
    /// any. The caller answers that line without any lock, and then calls [`Session::answered`].
    ///
    /// Lines end with CR, LF or both. Backspace and DEL remove the last character; Ctrl-C and
    /// Ctrl-U remove the whole line and its fault.
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

    /// Begins the next line, after an answer or an empty line. `echo_from_now` is the new echo
    /// setting, if the answered line changes it.
    pub fn answered(&mut self, echo_from_now: Option<bool>, echo: &mut Echo) {
        self.echo = echo_from_now.unwrap_or(self.echo);
        self.say(PROMPT, echo);
    }

    fn say(&self, text: &str, echo: &mut Echo) {
        if self.echo {
            // `MAX_ECHO` suffices for the output of one byte.
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
            // This is a long answer that a terminal sent back. Answering it would never end.
            (Some(_), Some(word)) if is_echo(word) => None,
            (Some(fault), _) => Some(Err(fault)),
            (None, Some(_)) => Some(Ok(line)),
            (None, None) => None,
        }
    }
}
