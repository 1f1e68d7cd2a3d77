// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a program tells the host: lines of `@postern ` and one JSON object.

use crate::console;
use alloc::string::String;
use core::fmt::Write;

/// An event, member by member.
pub struct Event(String);

impl Event {
    /// The event of that name.
    pub fn new(name: &str) -> Self {
        let mut event = Self(String::from("@postern {\"event\":"));
        event.quote(name);
        event
    }

    fn quote(&mut self, text: &str) {
        self.0.push('"');
        for letter in text.chars() {
            match letter {
                '"' | '\\' => {
                    self.0.push('\\');
                    self.0.push(letter);
                }
                ' '..='~' => self.0.push(letter),
                // Writing to a string does not fail.
                _ => drop(write!(self.0, "\\u{:04x}", u32::from(letter).min(0xffff))),
            }
        }
        self.0.push('"');
    }

    fn key(&mut self, key: &str) {
        self.0.push(',');
        self.quote(key);
        self.0.push(':');
    }

    /// With a text.
    #[must_use]
    pub fn text(mut self, key: &str, value: &str) -> Self {
        self.key(key);
        self.quote(value);
        self
    }

    /// With a number.
    #[must_use]
    pub fn number(mut self, key: &str, value: u64) -> Self {
        self.key(key);
        // Writing to a string does not fail.
        let _ = write!(self.0, "{value}");
        self
    }

    /// With a truth value.
    #[must_use]
    pub fn flag(mut self, key: &str, value: bool) -> Self {
        self.key(key);
        self.0.push_str(if value { "true" } else { "false" });
        self
    }

    /// Writes it to the console.
    pub fn send(self) {
        console::line(format_args!("{}}}", self.0));
    }
}
