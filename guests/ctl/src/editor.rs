// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A line editor for a terminal: takes keys, returns the bytes for the terminal.
//!
//! The line may be longer than the screen is wide: a window of it is shown, which always contains
//! the cursor. Newlines are `\n`; the caller converts them for the terminal.

use crate::history::History;
use std::fmt::{self, Write};

/// The most characters of a line. The monitor takes 160, which include a tag and an option.
pub const MAX_LINE: usize = 128;
/// The prompt in front of the line.
pub const PROMPT: &str = "postern> ";
/// The most characters of the line that are shown: less than 80 together with the prompt and the
/// cursor or a `^C`.
pub const VIEW: usize = 68;

/// The meaning of a byte from a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Char(u8),
    Left,
    Right,
    Home,
    End,
    Up,
    Down,
    Backspace,
    Delete,
    /// Ctrl-D
    EndOrDelete,
    KillToEnd,
    KillAll,
    KillWord,
    Cancel,
    Clear,
    Tab,
    Enter,
}

/// The state inside a key of several bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Escape {
    #[default]
    None,
    /// After ESC.
    Begun,
    /// After ESC O.
    Single,
    /// After ESC [; the number so far.
    Control(u8),
}

/// Decodes keys from bytes (ECMA-48, and the keys of xterm).
#[derive(Clone, Debug, Default)]
struct Keys {
    escape: Escape,
}

impl Keys {
    fn push(&mut self, byte: u8) -> Option<Key> {
        match std::mem::take(&mut self.escape) {
            Escape::None => {}
            Escape::Begun => {
                self.escape = match byte {
                    b'[' => Escape::Control(0),
                    b'O' => Escape::Single,
                    _ => Escape::None,
                };
                return None;
            }
            Escape::Single => return Self::arrow(byte),
            Escape::Control(number) => {
                return match byte {
                    b'0'..=b'9' => {
                        let number = number.saturating_mul(10).saturating_add(byte - b'0');
                        self.escape = Escape::Control(number);
                        None
                    }
                    b'~' => match number {
                        1 | 7 => Some(Key::Home),
                        4 | 8 => Some(Key::End),
                        3 => Some(Key::Delete),
                        _ => None,
                    },
                    // A key with modifiers has several numbers.
                    b';' => {
                        self.escape = Escape::Control(0);
                        None
                    }
                    _ => Self::arrow(byte),
                };
            }
        }
        Some(match byte {
            0x01 => Key::Home,
            0x02 => Key::Left,
            0x03 => Key::Cancel,
            0x04 => Key::EndOrDelete,
            0x05 => Key::End,
            0x06 => Key::Right,
            0x08 | 0x7f => Key::Backspace,
            b'\t' => Key::Tab,
            b'\n' | b'\r' => Key::Enter,
            0x0b => Key::KillToEnd,
            0x0c => Key::Clear,
            0x0e => Key::Down,
            0x10 => Key::Up,
            0x15 => Key::KillAll,
            0x17 => Key::KillWord,
            0x1b => {
                self.escape = Escape::Begun;
                return None;
            }
            b' '..=b'~' => Key::Char(byte),
            _ => return None,
        })
    }

    const fn arrow(byte: u8) -> Option<Key> {
        Some(match byte {
            b'A' => Key::Up,
            b'B' => Key::Down,
            b'C' => Key::Right,
            b'D' => Key::Left,
            b'F' => Key::End,
            b'H' => Key::Home,
            _ => return None,
        })
    }
}

/// The result of a byte, besides the changes to the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edited {
    /// Nothing else.
    Nothing,
    /// The line is complete; the edited one is empty again.
    Line(String),
    /// The word before the cursor needs completion: [`Editor::complete`].
    Complete,
    /// Ctrl-D on an empty line: the user wants to leave.
    End,
}

/// The line and its history.
#[derive(Clone, Debug, Default)]
pub struct Editor {
    keys: Keys,
    /// Whether the last byte was a CR: a LF then belongs to it.
    after_return: bool,
    /// The line, printable ASCII only.
    line: String,
    cursor: usize,
    /// The first character that is shown: `first <= cursor <= first + VIEW`.
    first: usize,
    history: History,
    /// The entry of the history that is shown, counted from the newest, and the line that was typed
    /// before.
    browsing: Option<(usize, String)>,
}

impl Editor {
    /// Returns an empty line without a history.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the line.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// Returns the part of the line before the cursor.
    pub fn before_cursor(&self) -> &str {
        self.line().get(..self.cursor).unwrap_or_default()
    }

    /// Writes the bytes that show the line on a terminal whose cursor is at the beginning of an
    /// empty line.
    ///
    /// # Errors
    /// Fails as `out` does.
    pub fn show(&self, out: &mut impl Write) -> fmt::Result {
        let end = self.line.len().min(self.first + VIEW);
        let shown = self.line().get(self.first..end).unwrap_or_default();
        write!(out, "{PROMPT}{shown}")?;
        match end - self.cursor {
            0 => Ok(()),
            back => write!(out, "\x1b[{back}D"),
        }
    }

    fn redraw(&mut self, out: &mut impl Write) -> fmt::Result {
        self.first = self.first.min(self.cursor);
        self.first = self.first.max(self.cursor.saturating_sub(VIEW));
        // No columns stay empty at the right while characters are hidden at the left.
        self.first = self.first.min(self.line.len().saturating_sub(VIEW));
        out.write_str("\r\x1b[K")?;
        self.show(out)
    }

    /// Takes a byte from the terminal. CR, LF, or both end the line.
    ///
    /// # Errors
    /// Fails as `out` does.
    pub fn receive(&mut self, byte: u8, out: &mut impl Write) -> Result<Edited, fmt::Error> {
        let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
        if byte == b'\n' && after_return {
            return Ok(Edited::Nothing);
        }
        let Some(key) = self.keys.push(byte) else {
            return Ok(Edited::Nothing);
        };
        match key {
            Key::Char(byte) => return self.insert(byte, out).map(|()| Edited::Nothing),
            Key::Tab => return Ok(Edited::Complete),
            Key::Enter => {
                out.write_char('\n')?;
                let line = self.line.clone();
                self.history.add(&line);
                self.clear();
                return Ok(Edited::Line(line));
            }
            Key::Cancel => {
                out.write_str("^C\n")?;
                self.clear();
                self.show(out)?;
                return Ok(Edited::Nothing);
            }
            Key::Clear => {
                out.write_str("\x1b[H\x1b[2J")?;
                self.show(out)?;
                return Ok(Edited::Nothing);
            }
            Key::EndOrDelete if self.line.is_empty() => return Ok(Edited::End),
            Key::Left => self.cursor = self.cursor.saturating_sub(1),
            Key::Right => self.cursor = self.line.len().min(self.cursor + 1),
            Key::Home => self.cursor = 0,
            Key::End => self.cursor = self.line.len(),
            Key::Up => self.browse(1),
            Key::Down => self.browse(-1),
            Key::Backspace => self.remove(self.cursor.saturating_sub(1), self.cursor),
            Key::Delete | Key::EndOrDelete => {
                self.remove(self.cursor, self.line.len().min(self.cursor + 1));
            }
            Key::KillToEnd => self.remove(self.cursor, self.line.len()),
            Key::KillAll => self.remove(0, self.line.len()),
            Key::KillWord => {
                let before = self.before_cursor().trim_end();
                let word = before.rfind(' ').map_or(0, |blank| blank + 1);
                self.remove(word, self.cursor);
            }
        }
        self.redraw(out)?;
        Ok(Edited::Nothing)
    }

    fn insert(&mut self, byte: u8, out: &mut impl Write) -> fmt::Result {
        if self.line.len() >= MAX_LINE {
            return out.write_char('\x07');
        }
        self.line.insert(self.cursor, char::from(byte));
        self.cursor += 1;
        if self.cursor == self.line.len() && self.cursor <= self.first + VIEW {
            return out.write_char(char::from(byte));
        }
        self.redraw(out)
    }

    fn remove(&mut self, from: usize, to: usize) {
        self.line.drain(from..to);
        self.cursor = from;
    }

    fn clear(&mut self) {
        self.line.clear();
        self.cursor = 0;
        self.first = 0;
        self.browsing = None;
    }

    fn browse(&mut self, step: isize) {
        let shown = self.browsing.as_ref().map(|(index, _)| *index);
        let next = match shown {
            None if step > 0 => Some(0),
            None => return,
            Some(index) => index.checked_add_signed(step),
        };
        let text = match next {
            Some(index) => match self.history.get(index) {
                Some(entry) => entry.to_owned(),
                // There is no older entry.
                None => return,
            },
            None => match self.browsing.take() {
                Some((_, draft)) => draft,
                None => return,
            },
        };
        if let Some(index) = next {
            let draft = match self.browsing.take() {
                Some((_, draft)) => draft,
                None => self.line.clone(),
            };
            self.browsing = Some((index, draft));
        }
        self.line = text;
        self.cursor = self.line.len();
    }

    /// Completes the word before the cursor. All `candidates` begin with that word.
    ///
    /// A single candidate is inserted with a blank after it; of several, their common start is.
    /// When that adds nothing they are listed.
    ///
    /// # Errors
    /// Fails as `out` does.
    pub fn complete(&mut self, candidates: &[&str], out: &mut impl Write) -> fmt::Result {
        let before = self.before_cursor();
        let begun = before.len() - before.rfind(' ').map_or(0, |blank| blank + 1);
        let Some((first, others)) = candidates.split_first() else {
            return out.write_char('\x07');
        };
        let common = others.iter().fold(first.len(), |length, word| {
            let same = first.bytes().zip(word.bytes()).take(length);
            same.take_while(|(a, b)| a == b).count()
        });
        if common <= begun && !others.is_empty() {
            return self.list(candidates, out);
        }
        for byte in first.bytes().take(common).skip(begun) {
            self.insert(byte, out)?;
        }
        let blank_follows = self.line.as_bytes().get(self.cursor) == Some(&b' ');
        if others.is_empty() && !blank_follows {
            self.insert(b' ', out)?;
        }
        Ok(())
    }

    fn list(&self, candidates: &[&str], out: &mut impl Write) -> fmt::Result {
        out.write_char('\n')?;
        let mut column = 0;
        for word in candidates {
            let gap = if column == 0 {
                ""
            } else if column + 2 + word.len() < 80 {
                "  "
            } else {
                column = 0;
                "\n"
            };
            column += gap.len() + word.len();
            write!(out, "{gap}{word}")?;
        }
        out.write_char('\n')?;
        self.show(out)
    }
}

#[cfg(test)]
mod tests;
