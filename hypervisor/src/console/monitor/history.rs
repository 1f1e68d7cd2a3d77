// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The lines that were entered, the newest of them.

use super::editor::Line;

/// How many are kept.
pub const ENTRIES: usize = 16;

/// Lines, none empty, none twice in a row.
#[derive(Clone, Debug, Default)]
pub struct History(heapless::Deque<Line, ENTRIES>);

impl History {
    /// None yet.
    pub const fn new() -> Self {
        Self(heapless::Deque::new())
    }

    /// Adds a line; the oldest goes where there are too many.
    pub fn add(&mut self, line: &Line) {
        if line.trim().is_empty() || self.0.front() == Some(line) {
            return;
        }
        if self.0.is_full() {
            let _ = self.0.pop_back();
        }
        let _ = self.0.push_front(line.clone());
    }

    /// A line: 0 is the newest.
    pub fn get(&self, age: usize) -> Option<&Line> {
        self.0.get(age)
    }
}
