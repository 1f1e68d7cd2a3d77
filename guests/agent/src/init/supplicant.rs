// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs the supplicant, which serves OP-TEE's requests for files and sockets. Without it no TA is
//! loaded.

use crate::{console, process};
use std::fs::File;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PROGRAM: &str = "/usr/sbin/tee-supplicant";
const LOG: &str = "/tmp/tee-supplicant.log";
/// The number of ends after which the supplicant is not restarted.
const PATIENCE: u32 = 5;
/// Whether the guest is about to end, and the supplicant with it.
static IS_NOT_NEEDED: AtomicBool = AtomicBool::new(false);

/// Lets the supplicant end: it is not restarted, and its end is not reported.
pub fn is_not_needed() {
    IS_NOT_NEEDED.store(true, Ordering::SeqCst);
}

/// Keeps the supplicant running, on a thread of its own. Each end is reported to the host.
pub fn start() {
    if !std::path::Path::new(PROGRAM).exists() {
        console::error(format_args!("there is no {PROGRAM}; no TA can be loaded"));
        return;
    }
    // The first start happens here, before the guest reports that it is ready.
    let mut running = launch();
    std::thread::spawn(move || {
        for _ in 0..PATIENCE {
            match running {
                Ok(child) => {
                    let status = child.wait();
                    if IS_NOT_NEEDED.load(Ordering::SeqCst) {
                        return;
                    }
                    let log = std::fs::read_to_string(LOG).unwrap_or_default();
                    let last = log.lines().next_back().unwrap_or("it printed nothing");
                    console::error(format_args!("{PROGRAM} ended with {status}: {last}"));
                }
                Err(why) => console::error(format_args!("{PROGRAM}: {why}")),
            }
            std::thread::sleep(Duration::from_millis(200));
            running = launch();
        }
        console::error(format_args!(
            "{PROGRAM} ended {PATIENCE} times and is not restarted"
        ));
    });
}

fn launch() -> std::io::Result<process::ChildProcess> {
    let log = File::create(LOG)?;
    let mut command = Command::new(PROGRAM);
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    process::spawn(&mut command)
}
