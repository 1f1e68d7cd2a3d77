// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Splits a console's bytes into lines.

/// The most bytes of a line; a longer one is cut, so that an endless line does not use up the
/// memory.
const LONGEST: usize = 64 * 1024;

/// Collects bytes into lines.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Takes bytes; passes each line that they complete to `sink`, without its end.
    pub fn feed(&mut self, bytes: &[u8], mut sink: impl FnMut(String)) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            self.partial.extend_from_slice(&rest[..end]);
            self.flush(&mut sink);
            rest = &rest[end + 1..];
        }
        self.partial.extend_from_slice(rest);
        if self.partial.len() > LONGEST {
            self.flush(&mut sink);
        }
    }

    /// Returns the start of an incomplete line, such as a prompt.
    pub fn partial(&self) -> String {
        String::from_utf8_lossy(&self.partial).into_owned()
    }

    /// Passes the incomplete line to `sink`, if there is one.
    pub fn finish(&mut self, mut sink: impl FnMut(String)) {
        if !self.partial.is_empty() {
            self.flush(&mut sink);
        }
    }

    fn flush(&mut self, sink: &mut impl FnMut(String)) {
        let line = String::from_utf8_lossy(&self.partial);
        sink(line.trim_end_matches('\r').to_owned());
        self.partial.clear();
    }
}

/// Returns a line for a terminal, without colours and cursor movements, so that no console can draw
/// over the display.
pub fn plain(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\u{1b}' => {
                if letters.next_if_eq(&'[').is_some() {
                    // A control sequence ends with a byte of 0x40 to 0x7e.
                    letters
                        .by_ref()
                        .find(|last| ('\u{40}'..='\u{7e}').contains(last));
                }
            }
            '\t' => out.push(' '),
            control if control.is_control() => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_at_any_cut() {
        let bytes = b"one\r\n\ntw\xc3\xb6\r\nrest";
        for size in 1..=bytes.len() {
            let mut lines = Lines::default();
            let mut got = Vec::new();
            for piece in bytes.chunks(size) {
                lines.feed(piece, |line| got.push(line));
            }
            assert_eq!(got, ["one", "", "tw\u{f6}"], "in pieces of {size}");
            assert_eq!(lines.partial(), "rest");
            lines.finish(|line| got.push(line));
            assert_eq!(got.last().map(String::as_str), Some("rest"));
        }
    }

    #[test]
    fn endless_line_is_cut() {
        let mut lines = Lines::default();
        let mut count = 0;
        for _ in 0..100 {
            lines.feed(&[b'x'; 4096], |_| count += 1);
        }
        assert_eq!(count, 5);
    }

    #[test]
    fn plain_line_has_no_control_characters() {
        assert_eq!(plain("a\u{1b}[31;1mred\u{1b}[0m\tb\u{7}\u{1b}c"), "ared bc");
        assert_eq!(plain("\u{1b}[2J"), "");
    }
}
