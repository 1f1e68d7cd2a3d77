// SPDX-License-Identifier: Apache-2.0 OR MIT
//! OP-TEE's own log: what it says about an attack.

use std::path::PathBuf;

/// The log, read as far as it has come.
pub struct TeeLog {
    path: PathBuf,
    read: usize,
}

impl TeeLog {
    /// The log in that file.
    pub const fn new(path: PathBuf) -> Self {
        Self { path, read: 0 }
    }

    /// What has come since the last time, in whole lines, and how many bytes that is.
    fn fresh(&self) -> (String, usize) {
        let bytes = std::fs::read(&self.path).unwrap_or_default();
        let fresh = bytes.get(self.read..).unwrap_or_default();
        // Half a line is the next time's.
        let whole = fresh
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |end| end + 1);
        (String::from_utf8_lossy(&fresh[..whole]).into_owned(), whole)
    }

    /// The lines that have come since the last time and tell of an error in OP-TEE itself, but for
    /// those with one of the `expected` words.
    pub fn complaints(&mut self, expected: &[&str]) -> Vec<String> {
        let (text, whole) = self.fresh();
        self.read += whole;
        complaints(&text, expected)
    }

    /// The line by which OP-TEE says that it gives up, if it has come.
    pub fn panic(&self) -> Option<String> {
        panic(&self.fresh().0)
    }
}

/// The core's own panic. That of `ldelf`, which loads an application for one session, is `E/LD:`.
fn panic(text: &str) -> Option<String> {
    let mut lines = text.lines();
    let line = lines.find(|line| line.starts_with("E/TC") && line.contains("Panic "))?;
    Some(line.trim_end().to_owned())
}

fn complaints(text: &str, expected: &[&str]) -> Vec<String> {
    text.lines()
        .map(str::trim_end)
        .filter(|line| line.starts_with("E/TC") || line.contains("Panic "))
        // A prefix (CPU, thread, guest) without words parts a dump.
        .filter(|line| line.split_whitespace().count() > 3)
        .filter(|line| !expected.iter().any(|words| line.contains(words)))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_from_the_rest() {
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
    fn the_loader_of_an_application_is_not_the_core() {
        let text = "E/LD:  Panic at ldelf/main.c:146 <ldelf>\r\nE/TC:1 ? 0 \r\nE/TC:1 ? 0 TA panicked with code 0x1\r\n";
        assert_eq!(panic(text), None);
        assert_eq!(
            complaints(text, &["ldelf"]),
            ["E/TC:1 ? 0 TA panicked with code 0x1"]
        );
    }
}
