// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads OP-TEE's log for errors.

use std::path::PathBuf;

/// The log, read up to a position.
pub struct TeeLog {
    path: PathBuf,
    read: usize,
}

impl TeeLog {
    /// Returns the log in that file.
    pub const fn new(path: PathBuf) -> Self {
        Self { path, read: 0 }
    }

    /// Returns the whole lines since the last time, and their number of bytes.
    fn fresh(&self) -> (String, usize) {
        let bytes = std::fs::read(&self.path).unwrap_or_default();
        let fresh = bytes.get(self.read..).unwrap_or_default();
        // Half a line is left for the next time.
        let whole = fresh
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |end| end + 1);
        (String::from_utf8_lossy(&fresh[..whole]).into_owned(), whole)
    }

    /// Returns the new lines that report an error in OP-TEE itself, except those with one of the
    /// `expected` words.
    pub fn complaints(&mut self, expected: &[&str]) -> Vec<String> {
        let (text, whole) = self.fresh();
        self.read += whole;
        complaints(&text, expected)
    }

    /// Returns the line in which OP-TEE reports its panic, if it has come.
    pub fn panic(&self) -> Option<String> {
        panic(&self.fresh().0)
    }
}

/// Returns a panic of the core. That of `ldelf`, which loads an application for one session, is
/// `E/LD:`.
fn panic(text: &str) -> Option<String> {
    let mut lines = text.lines();
    let line = lines.find(|line| line.starts_with("E/TC") && line.contains("Panic "))?;
    Some(line.trim_end().to_owned())
}

fn complaints(text: &str, expected: &[&str]) -> Vec<String> {
    text.lines()
        .map(str::trim_end)
        .filter(|line| line.starts_with("E/TC") || line.contains("Panic "))
        // A prefix (CPU, thread, guest) without words separates parts of a dump.
        .filter(|line| line.split_whitespace().count() > 3)
        .filter(|line| !expected.iter().any(|words| line.contains(words)))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_lines_are_found() {
        let text = "D/TC:? 1 wd_ndrv_yielding_cb:85 Clearing pending\r\nE/TC:0 0 Panic 'x' at a.c:1 <f>\r\n\
                    I/TC: up\r\nE/TC:? 0 expected words\r\nE/LD:  no TA\r\n";
        assert_eq!(
            complaints(text, &["expected"]),
            ["E/TC:0 0 Panic 'x' at a.c:1 <f>"]
        );
        assert_eq!(
            panic(text).as_deref(),
            Some("E/TC:0 0 Panic 'x' at a.c:1 <f>")
        );
    }

    #[test]
    fn ldelf_panic_is_no_core_panic() {
        let text = "E/LD:  Panic at ldelf/main.c:146 <ldelf>\r\nE/TC:1 ? 0 \r\nE/TC:1 ? 0 TA panicked with code 0x1\r\n";
        assert_eq!(panic(text), None);
        assert_eq!(
            complaints(text, &["ldelf"]),
            ["E/TC:1 ? 0 TA panicked with code 0x1"]
        );
    }
}
