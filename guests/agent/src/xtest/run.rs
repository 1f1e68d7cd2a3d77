// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs xtest as a child process.

use super::parse::Parser;
use crate::{console, process, sys};
use guest_agent::event::Event;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

const XTEST: &str = "/usr/bin/xtest";
/// The file with everything that xtest printed in the last run.
const LOG: &str = "/tmp/xtest.log";
/// The suites that xtest runs when none are named.
const DEFAULT_SUITES: &str = "regression+pkcs11";

static RUNNING: AtomicBool = AtomicBool::new(false);

/// Returns whether a run is in progress.
pub fn is_running() -> bool {
    RUNNING.load(Ordering::Acquire)
}

/// Returns whether the guest has xtest.
pub fn present() -> bool {
    Path::new(XTEST).exists()
}

/// Starts a run on a thread of its own, so that commands are answered meanwhile.
///
/// # Errors
///
/// Fails when a run is in progress or xtest cannot be started.
pub fn start(arguments: Vec<String>) -> Result<(), String> {
    if RUNNING.swap(true, Ordering::AcqRel) {
        return Err("xtest is running already".into());
    }
    let started = launch(&arguments);
    match started {
        Ok((running, output)) => {
            let suites = suites(&arguments).to_owned();
            std::thread::spawn(move || {
                let last = follow(&running, output, suites);
                // Cleared before the end is reported: the reader may start the next run at once.
                RUNNING.store(false, Ordering::Release);
                last.iter().for_each(console::emit);
            });
            Ok(())
        }
        Err(error) => {
            RUNNING.store(false, Ordering::Release);
            Err(format!("{XTEST} cannot be started: {error}"))
        }
    }
}

fn launch(arguments: &[String]) -> std::io::Result<(process::ChildProcess, std::io::PipeReader)> {
    let (output, input) = std::io::pipe()?;
    let mut command = Command::new(XTEST);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(input.try_clone()?)
        .stderr(input);
    // The command holds the pipe's writing end; after this only xtest has it.
    process::spawn(&mut command).map(|running| (running, output))
}

/// Reports the progress of a run. Returns the events for its end.
fn follow(running: &process::ChildProcess, output: impl Read, suites: String) -> Vec<Event> {
    let start_ms = sys::monotonic_ms();
    console::emit(&Event::XtestStart { suites });
    let mut log = File::create(LOG).ok();
    let mut parser = Parser::default();
    let mut reader = BufReader::new(output);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        match reader.read_until(b'\n', &mut bytes) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        if let Some(file) = &mut log {
            // A full disk must not end the run; the events still report the results.
            let _ = file.write_all(&bytes);
        }
        for event in parser.line(&String::from_utf8_lossy(&bytes), sys::monotonic_ms()) {
            console::emit(&event);
        }
    }
    let exit = running.wait();
    parser.finished(exit, start_ms, sys::monotonic_ms())
}

/// Returns the suites that the arguments name.
fn suites(arguments: &[String]) -> &str {
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == "-t" {
            return words.next().map_or(DEFAULT_SUITES, String::as_str);
        }
    }
    DEFAULT_SUITES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_follow_option_t() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(suites(&words("-l 0 -t regression 1001")), "regression");
        assert_eq!(suites(&words("1001")), DEFAULT_SUITES);
    }
}
