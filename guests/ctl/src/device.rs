// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The way to the monitor in a privileged guest: its second UART.
//!
//! An earlier user of the line may have left half a command, or an unread half of an answer. So a
//! command begins with Ctrl-U, and its answer is found by a unique tag.

use crate::messages::{MARK, MonitorMessage};
use crate::plan::Command;
use crate::tty::{self, Wait};
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The second UART of a privileged guest.
pub const DEVICE: &str = "/dev/ttyAMA1";
/// The most time for an answer. It takes milliseconds, but the guest may be paused meanwhile.
const PATIENCE: Duration = Duration::from_secs(20);

/// The connection to the monitor.
pub struct Device {
    file: File,
    /// The incomplete line that has arrived.
    partial: Vec<u8>,
    next: u64,
}

impl Device {
    /// Opens the connection.
    ///
    /// # Errors
    /// Fails when the guest has no such UART.
    pub fn open(path: &Path) -> Result<Self> {
        let explain = |why: Error| Error::new(why.kind(), format!("{}: {why}", path.display()));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open(path)
            .map_err(explain)?;
        // The terminal stays raw: an echo of the monitor's output would be a command for it.
        tty::set_raw(&file, Wait::HalfASecond).map_err(explain)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Ok(Self {
            file,
            partial: Vec::new(),
            next: now.map_or(0, |now| now.as_micros() as u64) % 1_000_000_000,
        })
    }

    /// Makes the monitor execute a command; returns the answer, a JSON object.
    ///
    /// # Errors
    /// Fails when there is no answer.
    pub fn ask(&mut self, command: &Command) -> Result<String> {
        let tag = format!("g{}", self.next);
        self.next += 1;
        let line = format!("\x15{}\n", command.tagged(&tag));
        self.file.write_all(line.as_bytes())?;
        let deadline = Instant::now() + PATIENCE;
        let mut chunk = [0; 512];
        loop {
            // A read without data returns after half a second.
            let count = self.file.read(&mut chunk)?;
            if let Some(answer) = self.take_bytes(&chunk[..count], &tag) {
                return Ok(answer);
            }
            if Instant::now() >= deadline {
                return Err(Error::new(
                    ErrorKind::TimedOut,
                    "the monitor does not answer",
                ));
            }
        }
    }

    /// Takes bytes; returns the answer with this tag, if it is complete.
    fn take_bytes(&mut self, bytes: &[u8], tag: &str) -> Option<String> {
        take_bytes(&mut self.partial, bytes, tag)
    }
}

fn take_bytes(partial: &mut Vec<u8>, bytes: &[u8], tag: &str) -> Option<String> {
    partial.extend_from_slice(bytes);
    while let Some(end) = partial.iter().position(|&byte| byte == b'\n') {
        let line: Vec<u8> = partial.drain(..=end).collect();
        let line = String::from_utf8_lossy(&line);
        if let Some(Ok(MonitorMessage::Answer(answer))) = MonitorMessage::find(&line)
            && answer.tag.as_deref() == Some(tag)
            && let Some((_, json)) = line.split_once(MARK)
        {
            return Some(json.trim_end().to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_is_found_by_tag_among_other_output() {
        let answer = |tag: &str| {
            format!(
                "@postern {{\"event\":\"answer\",\"tag\":\"{tag}\",\"command\":\"cpu\",\"ok\":true}}\r\n"
            )
        };
        let expected = "{\"event\":\"answer\",\"tag\":\"g1\",\"command\":\"cpu\",\"ok\":true}";
        let stream = format!(
            "half an ans\r\n{}#g1 cpu --json\r\n@postern {{\"event\":\r\n\u{fffd}{}rest",
            answer("g0"),
            answer("g1")
        );
        for size in [1, 7, 512] {
            let mut partial = Vec::new();
            let found: Vec<String> = stream
                .as_bytes()
                .chunks(size)
                .filter_map(|chunk| take_bytes(&mut partial, chunk, "g1"))
                .collect();
            assert_eq!(found, [expected]);
            assert!(b"rest".starts_with(&partial) || partial == b"rest");
        }
        let mut partial = Vec::new();
        assert_eq!(
            take_bytes(&mut partial, answer("g2").as_bytes(), "g1"),
            None
        );
    }
}
