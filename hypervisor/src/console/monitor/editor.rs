// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A line that is edited at a terminal: keys in, what the terminal is to be told out.
//!
//! The line may be longer than the screen is wide: a window of it is shown, in which the cursor
//! always is. Newlines come out as `\n`; whoever sends them makes them what the terminal wants.

use super::MAX_LINE;
use super::history::History;
use core::fmt::{self, Write};

/// What stands in front of the line.
pub const PROMPT: &str = "postern> ";
/// The characters of the line that are shown: with the prompt in front and the cursor or a `^C`
/// behind them, less than 80.
pub const VIEW: usize = 68;

/// A line.
pub type Line = heapless::String<MAX_LINE>;

/// What a byte from a terminal is, or belongs to.
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
    KillToEnd,
    KillAll,
    KillWord,
    Cancel,
    Clear,
    Tab,
    Enter,
}

/// Where a key that is more than one byte stands.
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

/// Finds keys in bytes (ECMA-48 and what xterm sends for keys).
#[derive(Clone, Debug, Default)]
struct Keys {
    escape: Escape,
}

impl Keys {
    const fn new() -> Self {
        Self {
            escape: Escape::None,
        }
    }

    fn push(&mut self, byte: u8) -> Option<Key> {
        match core::mem::take(&mut self.escape) {
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
                    // With modifiers there are several numbers.
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
            0x04 => Key::Delete,
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

/// What a byte has led to, beside what it changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edited {
    /// Nothing more.
    Nothing,
    /// The line is ended; it is empty again.
    Line(Line),
    /// The word before the cursor is to be completed: [`Editor::complete`].
    Complete,
}

/// The line and its history.
#[derive(Clone, Debug)]
pub struct Editor {
    keys: Keys,
    /// Printable ASCII only.
    line: heapless::Vec<u8, MAX_LINE>,
    cursor: usize,
    /// The first character that is shown: `first <= cursor <= first + VIEW`.
    first: usize,
    history: History,
    /// The entry of the history that is shown, from the newest on, and what was typed before.
    browsing: Option<(usize, Line)>,
}

impl Editor {
    /// An empty line, no history.
    pub const fn new() -> Self {
        Self {
            keys: Keys::new(),
            line: heapless::Vec::new(),
            cursor: 0,
            first: 0,
            history: History::new(),
            browsing: None,
        }
    }

    /// The line.
    pub fn line(&self) -> &str {
        // It never has anything but ASCII.
        core::str::from_utf8(&self.line).unwrap_or_default()
    }

    /// What of it is before the cursor.
    pub fn before_cursor(&self) -> &str {
        self.line().get(..self.cursor).unwrap_or_default()
    }

    /// Tells a terminal whose cursor is at the beginning of an empty line what it is to show.
    ///
    /// # Errors
    /// Those of `out`.
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
        // No empty columns at the right while something is hidden at the left.
        self.first = self.first.min(self.line.len().saturating_sub(VIEW));
        out.write_str("\r\x1b[K")?;
        self.show(out)
    }

    /// Begins a new line; the history stays.
    pub fn restart(&mut self) {
        self.keys = Keys::new();
        self.clear();
    }

    /// Takes a byte from the terminal. CR and LF end the line; the caller leaves out the LF behind
    /// a CR.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn receive(&mut self, byte: u8, out: &mut impl Write) -> Result<Edited, fmt::Error> {
        let Some(key) = self.keys.push(byte) else {
            return Ok(Edited::Nothing);
        };
        match key {
            Key::Char(byte) => return self.insert(byte, out).map(|()| Edited::Nothing),
            Key::Tab => return Ok(Edited::Complete),
            Key::Enter => {
                out.write_char('\n')?;
                let line = Line::try_from(self.line()).unwrap_or_default();
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
            Key::Left => self.cursor = self.cursor.saturating_sub(1),
            Key::Right => self.cursor = self.line.len().min(self.cursor + 1),
            Key::Home => self.cursor = 0,
            Key::End => self.cursor = self.line.len(),
            Key::Up => self.browse(1),
            Key::Down => self.browse(-1),
            Key::Backspace => self.remove(self.cursor.saturating_sub(1), self.cursor),
            Key::Delete => self.remove(self.cursor, self.line.len().min(self.cursor + 1)),
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
        if self.line.insert(self.cursor, byte).is_err() {
            return out.write_char('\x07');
        }
        self.cursor += 1;
        if self.cursor == self.line.len() && self.cursor <= self.first + VIEW {
            return out.write_char(char::from(byte));
        }
        self.redraw(out)
    }

    fn remove(&mut self, from: usize, to: usize) {
        self.line.copy_within(to.., from);
        self.line.truncate(self.line.len() - (to - from));
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
                Some(entry) => entry.clone(),
                // There is none older.
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
                None => Line::try_from(self.line()).unwrap_or_default(),
            };
            self.browsing = Some((index, draft));
        }
        self.line.clear();
        // A line fits into a line.
        let _ = self.line.extend_from_slice(text.as_bytes());
        self.cursor = self.line.len();
    }

    /// Completes the word before the cursor. `candidates` gives each word that it may become, in
    /// any order, some perhaps more than once in a row; they begin with what is there.
    ///
    /// One candidate is written out with a blank behind it, of several what they have in common.
    /// Where that is nothing new they are listed.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn complete(
        &mut self,
        candidates: impl Fn(&mut dyn FnMut(&str)),
        out: &mut impl Write,
    ) -> fmt::Result {
        let before = self.before_cursor();
        let begun = before.len() - before.rfind(' ').map_or(0, |blank| blank + 1);
        let mut common = Line::new();
        let mut count = 0;
        candidates(&mut |word| {
            count += 1;
            if count == 1 {
                // What does not fit into a line cannot be completed in one.
                let _ = common.push_str(word);
            } else {
                let same = common.bytes().zip(word.bytes());
                common.truncate(same.take_while(|(a, b)| a == b).count());
            }
        });
        let news = common.len().saturating_sub(begun);
        if count == 0 {
            return out.write_char('\x07');
        }
        if news == 0 && count > 1 {
            return self.list(candidates, out);
        }
        for byte in common.bytes().skip(begun) {
            self.insert(byte, out)?;
        }
        let blank_follows = self.line.get(self.cursor) == Some(&b' ');
        if count == 1 && !blank_follows {
            self.insert(b' ', out)?;
        }
        Ok(())
    }

    fn list(&self, candidates: impl Fn(&mut dyn FnMut(&str)), out: &mut impl Write) -> fmt::Result {
        let mut result = out.write_char('\n');
        let mut column = 0;
        candidates(&mut |word| {
            let gap = if column == 0 {
                ""
            } else if column + 2 + word.len() < 80 {
                "  "
            } else {
                column = 0;
                "\n"
            };
            column += gap.len() + word.len();
            result = result.and_then(|()| write!(out, "{gap}{word}"));
        });
        result?;
        out.write_char('\n')?;
        self.show(out)
    }
}

impl Default for Editor {
    fn default() -> Self {
        Self::new()
    }
}
