// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The lines that were entered, the newest of them.

use std::collections::VecDeque;

/// How many are kept.
pub const ENTRIES: usize = 16;

/// Lines, none empty, none twice in a row.
#[derive(Clone, Debug, Default)]
pub struct History(VecDeque<String>);

impl History {
    /// Adds a line; the oldest goes where there are too many.
    pub fn add(&mut self, line: &str) {
        if line.trim().is_empty() || self.0.front().is_some_and(|last| last == line) {
            return;
        }
        self.0.truncate(ENTRIES - 1);
        self.0.push_front(line.to_owned());
    }

    /// A line: 0 is the newest.
    pub fn get(&self, age: usize) -> Option<&str> {
        self.0.get(age).map(String::as_str)
    }
}
