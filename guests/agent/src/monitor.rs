// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hypervisor's monitor, which a privileged guest has behind its second UART.
//!
//! A plain answer does not say where it ends, and an earlier user of the line may have left half an
//! answer or a terminal's prompt. So the line is put between two commands whose answers carry tags that nobody else
//! uses: what comes between these two is the answer.

use crate::sys;
use std::fs::OpenOptions;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

/// The second UART.
const DEVICE: &str = "/dev/ttyAMA1";
/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends a command line and gives the lines of its answer to `tell`.
///
/// # Errors
///
/// The guest has no such UART, or nobody answers.
pub fn ask(line: &str, tell: impl FnMut(String)) -> Result<()> {
    let mut device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(DEVICE)
        .map_err(|why| Error::new(why.kind(), format!("{DEVICE}: {why}")))?;
    sys::set_raw(&device)?;
    let tag = sys::raw_time().as_micros() % 1_000_000_000;
    let (begin, end) = (format!("b{tag}"), format!("e{tag}"));
    // Ctrl-U: somebody may have left half a line.
    let text = format!("\x15{}\n{line}\n{}\n", mark(&begin), mark(&end));
    device.write_all(text.as_bytes())?;
    let deadline = Instant::now() + PATIENCE;
    answer(Patient { device, deadline }, &begin, &end, tell)
}

/// A command without an effect, whose answer is one line of JSON with this tag in it.
fn mark(tag: &str) -> String {
    format!("#{tag} terminal off --json")
}

/// Reads lines, and tells those between the two marks.
fn answer(mut from: impl Read, begin: &str, end: &str, mut tell: impl FnMut(String)) -> Result<()> {
    let is_mark = |line: &str, tag: &str| {
        line.contains("\"event\":\"answer\"") && line.contains(&format!("\"tag\":\"{tag}\""))
    };
    let mut begun = false;
    let mut line = Vec::new();
    let mut chunk = [0; 512];
    loop {
        let count = from.read(&mut chunk)?;
        if count == 0 {
            return Err(Error::new(
                ErrorKind::TimedOut,
                "the monitor does not answer",
            ));
        }
        for &byte in &chunk[..count] {
            if byte != b'\n' {
                line.push(byte);
                continue;
            }
            let text = String::from_utf8_lossy(&line)
                .trim_end_matches('\r')
                .to_owned();
            line.clear();
            if is_mark(&text, end) {
                return Ok(());
            }
            if begun {
                tell(text);
            } else {
                begun = is_mark(&text, begin);
            }
        }
    }
}

/// A terminal whose reads give up after a while, read until a deadline.
struct Patient<R> {
    device: R,
    deadline: Instant,
}

impl<R: Read> Read for Patient<R> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        loop {
            match self.device.read(into) {
                Ok(0) if Instant::now() < self.deadline => {}
                other => return other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(stream: &str) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        answer(stream.as_bytes(), "b1", "e1", |line| lines.push(line))?;
        Ok(lines)
    }

    #[test]
    fn the_answer_is_what_comes_between_the_marks() {
        let mark = |tag: &str| {
            format!(
                "@postern {{\"event\":\"answer\",\"tag\":\"{tag}\",\"command\":\"terminal off\",\"ok\":true}}\r\n"
            )
        };
        let (begin, end) = (mark("b1"), mark("e1"));
        assert_eq!(
            told(&format!(
                "old\r\n{}{begin}one\r\ntwo\n{end}three\r\n",
                mark("b0")
            ))
            .unwrap(),
            ["one", "two"]
        );
        assert_eq!(told(&format!("{begin}{end}")).unwrap(), [""; 0]);
        // A terminal's echo of the mark is no answer.
        assert_eq!(
            told(&format!(
                "postern> #b1 terminal off --json\r\n{begin}x\r\n{end}"
            ))
            .unwrap(),
            ["x"]
        );
        let error = told(&format!("{begin}half an ans")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}
