// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The monitor from outside: while a system runs, a socket beside its logs takes commands of
//! `postern-tool ctl` and hands them to the hypervisor's monitor.
//!
//! A conversation is one line each way: a `Request` and a `Reply`.

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
/// How long the monitor may take for an answer. It takes milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What a client asks for.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    /// The monitor's command, without a tag or an option.
    command: String,
}

/// What it hears.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reply {
    /// The monitor's answer, a JSON object.
    Answer(String),
    /// There is none, since…
    Failed(String),
}

/// The way to the machine's UART, for everybody who writes there.
#[derive(Clone)]
pub struct Wire(Arc<Mutex<End>>);

struct End {
    input: ChildStdin,
    sender: FlowControl,
}

impl Wire {
    /// The end of QEMU's input.
    pub fn new(input: ChildStdin, sender: FlowControl) -> Self {
        Self(Arc::new(Mutex::new(End { input, sender })))
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

    fn end(&self) -> std::sync::MutexGuard<'_, End> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl End {
    fn send(&mut self, channel: Channel, bytes: &[u8]) -> Result<()> {
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
