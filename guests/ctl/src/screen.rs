// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A terminal of 80 columns that understands only the sequences of the editor (ECMA-48), for tests.

use std::fmt;

/// The content of the screen.
#[derive(Debug)]
pub struct Screen {
    lines: Vec<Vec<u8>>,
    row: usize,
    column: usize,
    bells: usize,
    /// The incomplete escape sequence, without the ESC.
    sequence: Option<String>,
}

impl Screen {
    pub fn new() -> Self {
        Self {
            lines: vec![Vec::new()],
            row: 0,
            column: 0,
            bells: 0,
            sequence: None,
        }
    }

    /// Returns the line with the cursor, and the cursor's column.
    pub fn line(&self) -> (String, usize) {
        let text = String::from_utf8(self.lines[self.row].clone()).unwrap();
        (text.trim_end().into(), self.column)
    }

    /// Returns all lines.
    pub fn text(&self) -> String {
        let lines = self.lines.iter();
        let lines = lines.map(|line| String::from_utf8(line.clone()).unwrap());
        lines.collect::<Vec<_>>().join("\n")
    }

    pub const fn bells(&self) -> usize {
        self.bells
    }

    fn put(&mut self, byte: u8) {
        assert!(self.column < 80, "it would wrap: {self:?}");
        let line = &mut self.lines[self.row];
        if line.len() <= self.column {
            line.resize(self.column + 1, b' ');
        }
        line[self.column] = byte;
        self.column += 1;
    }

    fn control(&mut self, number: &str, last: u8) {
        let count = number.parse().unwrap_or(1);
        match (last, number) {
            (b'D', _) => self.column = self.column.checked_sub(count).expect("room at the left"),
            (b'K', "") => self.lines[self.row].truncate(self.column),
            (b'H', "") => (self.row, self.column) = (0, 0),
            (b'J', "2") => self.lines = vec![Vec::new()],
            other => panic!("a sequence that the editor has no business with: {other:?}"),
        }
    }
}

/// Takes text whose newlines are not yet CR LF.
impl fmt::Write for Screen {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if let Some(mut sequence) = self.sequence.take() {
                match byte {
                    b'[' if sequence.is_empty() => self.sequence = Some("[".into()),
                    b'0'..=b'9' => {
                        sequence.push(char::from(byte));
                        self.sequence = Some(sequence);
                    }
                    last => self.control(&sequence[1..], last),
                }
                continue;
            }
            match byte {
                b'\r' => self.column = 0,
                b'\n' => {
                    self.row += 1;
                    self.column = 0;
                    self.lines.insert(self.row, Vec::new());
                }
                0x07 => self.bells += 1,
                0x1b => self.sequence = Some(String::new()),
                b' '..=b'~' => self.put(byte),
                other => panic!("{other:#x} does nothing good"),
            }
        }
        Ok(())
    }
}
