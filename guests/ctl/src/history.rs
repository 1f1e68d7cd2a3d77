// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The most recent lines that were entered.

use std::collections::VecDeque;

/// The number of lines that are kept.
pub const ENTRIES: usize = 16;

/// The lines; none is empty, and no two consecutive ones are equal.
#[derive(Clone, Debug, Default)]
pub struct History(VecDeque<String>);

impl History {
    /// Adds a line and drops the oldest if there are too many.
    pub fn add(&mut self, line: &str) {
        if line.trim().is_empty() || self.0.front().is_some_and(|last| last == line) {
            return;
        }
        self.0.truncate(ENTRIES - 1);
        self.0.push_front(line.to_owned());
    }

    /// Returns a line; 0 is the newest.
    pub fn get(&self, age: usize) -> Option<&str> {
        self.0.get(age).map(String::as_str)
    }
}
