// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Children of the first process. It inherits all orphans of the system and must reap them; the
//! status of a child that it started itself must reach the thread that waits for it.

use crate::sys;
use std::collections::HashMap;
use std::io::Result;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

static WAITED_FOR: LazyLock<Mutex<HashMap<u32, Sender<i32>>>> = LazyLock::new(Mutex::default);

/// A child that runs or has ended.
pub struct ChildProcess {
    status: Receiver<i32>,
}

/// Starts a program; [`ChildProcess::wait`] returns its status.
///
/// # Errors
///
/// Fails when the program cannot be started.
pub fn spawn(command: &mut Command) -> Result<ChildProcess> {
    let (sender, status) = channel();
    // Locked during the start, so that the reaper cannot see the end of a child that is not yet
    // listed.
    let mut waited_for = WAITED_FOR.lock().unwrap_or_else(PoisonError::into_inner);
    // The handle is dropped: std's own wait would find nothing, because the reaper takes the
    // status.
    let child = command.spawn()?;
    waited_for.insert(child.id(), sender);
    Ok(ChildProcess { status })
}

impl ChildProcess {
    /// Waits for the end; returns the exit status or the negative signal number.
    pub fn wait(&self) -> i32 {
        // The sender disappears without a value only when the reaper has panicked.
        self.status.recv().unwrap_or(-1)
    }
}

/// Reaps children for the rest of the system's life, on a thread of its own.
pub fn reap() {
    std::thread::spawn(|| {
        loop {
            match sys::wait_any() {
                Ok((pid, status)) => {
                    let waiter = WAITED_FOR
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .remove(&pid);
                    if let Some(waiter) = waiter {
                        // The waiting thread may have gone.
                        let _ = waiter.send(sys::exit_code(status));
                    }
                }
                // There is no child at the moment.
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    });
}
