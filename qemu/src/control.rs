// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Access to the monitor from outside: while a system runs, a socket in the folder of its logs
//! takes commands of `postern-tool ctl` and passes them to the hypervisor's monitor.
//!
//! A client sends one line, a `Request`, and gets one line, a `Reply`.

mod client;
mod server;
#[cfg(test)]
mod tests;

pub use client::{ctl, find};
pub use server::{AnswerRouter, Control};

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
/// The most time for the monitor's answer, which takes milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A client's request.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    /// The monitor's command, without a tag or an option.
    command: String,
}

/// The reply to a client.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reply {
    /// The monitor's answer, a JSON object.
    Answer(String),
    /// The reason why there is no answer.
    Failed(String),
}

/// The way to the machine's UART, shared by all writers.
#[derive(Clone)]
pub struct Wire(Arc<Mutex<End>>);

struct End {
    input: ChildStdin,
    sender: FlowControl,
}

impl Wire {
    /// Wraps the end of QEMU's input.
    pub fn new(input: ChildStdin, sender: FlowControl) -> Self {
        Self(Arc::new(Mutex::new(End { input, sender })))
    }

    /// Writes bytes to a console as far as it has room, and the rest later.
    ///
    /// # Errors
    /// Fails when QEMU has ended, or with [`InputFullError`](crate::console::InputFullError) when
    /// the guest does not read.
    pub fn send(&self, channel: Channel, bytes: &[u8]) -> Result<()> {
        self.end().send(channel, bytes)
    }

    /// Takes bytes of the hypervisor on [`Channel::Flow`].
    pub fn take_answers(&self, bytes: &[u8]) {
        let mut end = self.end();
        let wire = end.sender.take_answers(bytes);
        // A machine that has ended reads no more; the next sender gets the error.
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
            .context("QEMU has ended and takes no more input")
    }
}

/// Returns a path to the socket that is short enough for `sockaddr_un`, however deep the folder is.
/// It is valid while the file is open.
fn socket(folder: &Path) -> Result<(File, PathBuf)> {
    let open = File::open(folder).with_context(|| folder.display().to_string())?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", open.as_raw_fd());
    Ok((open, path.into()))
}
