// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The monitor from outside: while a system runs, a socket beside its logs takes commands of
//! `postern-tool ctl` and hands them to the hypervisor's monitor.
//!
//! A conversation is one line each way and lines between: [`Request`], then [`Reply`]s, the last of which
//! says how it went.

mod client;
mod server;
#[cfg(test)]
mod tests;

pub use client::{ctl, find};
pub use server::{Control, Ear};

use crate::console::{Channel, FlowControl};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The socket's name in the folder of a system's logs.
pub const SOCKET: &str = "control.sock";
/// The longest command, in bytes: the monitor's line without the tag and option that are added.
const MAX_COMMAND: usize = 128;
/// How long the monitor may take for an answer. It takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a client asks for.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    /// The monitor's command.
    command: String,
    /// Whether its answer is to be one line of JSON.
    json: bool,
}

/// What it hears.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reply {
    /// A line of the answer.
    Line(String),
    /// The end: the command was executed.
    Done,
    /// The end: it was not, since…
    Failed(String),
}

/// Why a command cannot be sent.
fn check(command: &str) -> Result<(), String> {
    if command.trim().is_empty() {
        return Err("there is no command; `help` lists them".into());
    }
    if !command.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err("a command is plain ASCII".into());
    }
    if command.len() > MAX_COMMAND {
        return Err(format!("a command has at most {MAX_COMMAND} characters"));
    }
    match command.split_whitespace().next() {
        Some(tag) if tag.starts_with('#') => Err("the tool sets the tag itself".into()),
        Some("terminal") => Err("the monitor's terminal is in `make shell`: press Ctrl-A 0".into()),
        // Its answer is events, which belong to nobody in particular.
        Some("stats") => {
            Err("the same figures are in `tee stats`, with --json for programs".into())
        }
        _ => Ok(()),
    }
}

/// The way to the machine's UART, for everybody who writes there.
#[derive(Clone)]
pub struct Wire(Arc<Mutex<End>>);

struct End {
    input: ChildStdin,
    sender: FlowControl,
    /// Somebody is in the middle of a line for the monitor.
    typing: bool,
}

impl Wire {
    /// The end of QEMU's input.
    pub fn new(input: ChildStdin, sender: FlowControl) -> Self {
        Self(Arc::new(Mutex::new(End {
            input,
            sender,
            typing: false,
        })))
    }

    /// Writes bytes to a console, as far as it has room, and the others when it has.
    ///
    /// # Errors
    /// QEMU has ended, or [`Full`](crate::console::Full): the guest does not read.
    pub fn send(&self, channel: Channel, bytes: &[u8]) -> Result<()> {
        self.end().send(channel, bytes)
    }

    /// Takes in what the hypervisor said on [`Channel::Flow`].
    pub fn heard(&self, bytes: &[u8]) {
        let mut end = self.end();
        let wire = end.sender.heard(bytes);
        // A machine that has ended reads no more, which whoever sends next is told.
        let _ = end.write(&wire);
    }

    /// Writes a line to the monitor; not while somebody else is in the middle of one.
    fn send_command(&self, line: &str) -> Result<bool> {
        let mut end = self.end();
        if end.typing {
            return Ok(false);
        }
        // Alone, a line feed would make no terminal of the monitor; behind a line both end it.
        end.send(Channel::Hypervisor, format!("{line}\n").as_bytes())?;
        Ok(true)
    }

    fn end(&self) -> std::sync::MutexGuard<'_, End> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl End {
    fn send(&mut self, channel: Channel, bytes: &[u8]) -> Result<()> {
        if channel == Channel::Hypervisor {
            // Return, Ctrl-C and Ctrl-U leave an empty line behind.
            let ends = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0x03 | 0x15);
            self.typing = bytes.last().map_or(self.typing, |byte| !ends(byte));
        }
        let wire = self.sender.send(channel, bytes)?;
        self.write(&wire)
    }

    fn write(&mut self, wire: &[u8]) -> Result<()> {
        self.input
            .write_all(wire)
            .and_then(|()| self.input.flush())
            .context("QEMU reads no more: it has ended")
    }
}

/// A path to the socket that is short enough for one, however deep the folder is; good while the file is
/// open.
fn socket(folder: &Path) -> Result<(File, PathBuf)> {
    let open = File::open(folder).with_context(|| folder.display().to_string())?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", open.as_raw_fd());
    Ok((open, path.into()))
}
