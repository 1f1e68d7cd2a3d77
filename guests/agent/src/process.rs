// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Children of the first process. Whatever dies in the system is inherited by it and must be reaped;
//! the statuses of the children that it started itself must find the thread that waits for them.

use crate::sys;
use std::collections::HashMap;
use std::io::Result;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

static WAITED_FOR: LazyLock<Mutex<HashMap<u32, Sender<i32>>>> = LazyLock::new(Mutex::default);

/// A child of ours that runs, or has ended.
pub struct Running {
    status: Receiver<i32>,
}

/// Starts a program whose end somebody will wait for.
///
/// # Errors
///
/// It cannot be started.
pub fn spawn(command: &mut Command) -> Result<Running> {
    let (sender, status) = channel();
    // Held across the start, so that the reaper cannot see the end of a child that is not yet listed.
    let mut waited_for = WAITED_FOR.lock().unwrap_or_else(PoisonError::into_inner);
    // The handle is let go: std's own wait would find nothing, the reaper gets the status.
    let child = command.spawn()?;
    waited_for.insert(child.id(), sender);
    Ok(Running { status })
}

impl Running {
    /// Waits for the end: the exit status, or minus the signal.
    pub fn wait(&self) -> i32 {
        // The sender goes away without a word only when the reaper has died.
        self.status.recv().unwrap_or(-1)
    }
}

/// Reaps for good, on a thread of its own.
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
                        // Nobody listening any more is fine.
                        let _ = waiter.send(sys::exit_code(status));
                    }
                }
                // No child at the moment.
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    });
}
