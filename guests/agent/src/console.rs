// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writes whole lines to the console, never mixed with the kernel's own.
//!
//! The kernel's messages go to the same UART and would cut an event in two. So the agent makes the
//! kernel print emergencies only, reads its log from `/dev/kmsg`, and writes it here line by line,
//! under the same lock as the events.

use crate::sys;
use guest_agent::event::Event;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::Mutex;

static OUT: Mutex<()> = Mutex::new(());

/// Writes an event to the console.
pub fn emit(event: &Event) {
    line(&event.line());
}

/// Reports an error to the host.
pub fn error(text: impl std::fmt::Display) {
    emit(&Event::Error {
        text: text.to_string(),
    });
}

/// Writes one line. An error is ignored: there is no other place to report it.
pub fn line(text: &str) {
    // A thread that panicked while it wrote left at most half a line.
    let _guard = OUT
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut bytes = Vec::with_capacity(text.len() + 1);
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(b'\n');
    let _ = std::io::stdout()
        .lock()
        .write_all(&bytes)
        .and_then(|()| std::io::stdout().flush());
}

/// Makes the kernel's console the standard input, output and error, without echo, which the host
/// does not need.
///
/// # Errors
///
/// Fails when the console cannot be opened or set.
pub fn take_over() -> std::io::Result<()> {
    sys::become_stdio(&path())?;
    sys::set_echo(0, false)
}

/// Returns the terminal behind `/dev/console`, which unlike that one can be a shell's controlling
/// terminal.
pub fn path() -> String {
    std::fs::read_to_string("/sys/class/tty/console/active")
        .ok()
        .and_then(|list| {
            list.split_whitespace()
                .next_back()
                .map(|name| format!("/dev/{name}"))
        })
        .filter(|path| std::path::Path::new(path).exists())
        .unwrap_or_else(|| "/dev/console".to_owned())
}

/// Stops the kernel's own console output and forwards its messages from now on, on a thread of its
/// own. Earlier messages are not repeated.
pub fn forward_kernel_log() {
    let Ok(log) = sys::open_kernel_log_at_end("/dev/kmsg") else {
        error("/dev/kmsg cannot be read; kernel messages may cut events");
        return;
    };
    // Level 1: only emergencies still reach the UART directly; a panic raises the level again.
    if let Err(why) = std::fs::write("/proc/sys/kernel/printk", "1\n") {
        error(format_args!(
            "the kernel's console level could not be set: {why}"
        ));
    }
    std::thread::spawn(move || {
        let mut log: File = log;
        let mut record = vec![0; 8192];
        loop {
            match log.read(&mut record) {
                Ok(0) => return,
                Ok(length) => {
                    if let Some(text) = kernel_line(&String::from_utf8_lossy(&record[..length])) {
                        line(&text);
                    }
                }
                // EPIPE: messages were overwritten before they were read; the next read continues
                // after them.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                    line("(kernel messages lost)");
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
}

/// Formats a record of `/dev/kmsg` (`priority,sequence,microseconds,flags;text`) as the kernel
/// prints it. Returns `None` when it is no record, or a debug message.
fn kernel_line(record: &str) -> Option<String> {
    let (head, body) = record.split_once(';')?;
    let mut fields = head.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let _sequence = fields.next()?;
    let microseconds: u64 = fields.next()?.parse().ok()?;
    // The low three bits are the level; 7 is debug.
    if priority & 7 == 7 {
        return None;
    }
    let text = body.lines().next().unwrap_or("");
    Some(format!(
        "[{:5}.{:06}] {text}",
        microseconds / 1_000_000,
        microseconds % 1_000_000
    ))
}

/// Reads command lines until the console is closed.
pub fn lines() -> impl Iterator<Item = String> {
    let mut input = BufReader::with_capacity(4096, std::io::stdin());
    std::iter::from_fn(move || {
        let mut bytes = Vec::new();
        match input.read_until(b'\n', &mut bytes) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::kernel_line;

    #[test]
    fn kmsg_records_become_console_lines() {
        let table = [
            (
                "6,339,5140900,-;optee: initialized driver\n SUBSYSTEM=tee\n",
                Some("[    5.140900] optee: initialized driver"),
            ),
            ("4,1,0,-;", Some("[    0.000000] ")),
            (
                "30,7,1000000,-;systemd says; more",
                Some("[    1.000000] systemd says; more"),
            ),
            ("7,1,0,-;debug", None),
            ("no record", None),
            ("a,b,c;d", None),
        ];
        for (record, line) in table {
            assert_eq!(kernel_line(record).as_deref(), line, "{record:?}");
        }
    }
}
