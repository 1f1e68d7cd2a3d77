// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The program `postern-ctl`: executes one command, or runs a terminal.

use crate::device::{DEVICE, Device};
use crate::plan::{Command, Plan, plan};
use crate::terminal::{Entered, Terminal};
use crate::tty;
use std::borrow::BorrowMut;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: postern-ctl [--device PATH] [COMMAND]

Sends a command to the hypervisor's monitor and prints the answer. Without a command it is a terminal for the monitor,
with editing, history and completion; Ctrl-D leaves it. From a pipe it reads commands line by line. `postern-ctl help`
lists the commands. Only a guest with `privileged = true` has the monitor, on its second UART, /dev/ttyAMA1.";

/// Runs `postern-ctl` with these arguments, without the program's name.
pub fn program(args: impl IntoIterator<Item = String>) -> ExitCode {
    match execute(args.into_iter().collect()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("postern-ctl: {why}");
            ExitCode::FAILURE
        }
    }
}

fn execute(mut args: Vec<String>) -> io::Result<bool> {
    let mut path = PathBuf::from(DEVICE);
    match args.first().map(String::as_str) {
        Some("--help" | "-h") => {
            println!("{USAGE}");
            return Ok(true);
        }
        Some("--device") if args.len() >= 2 => {
            path = args.drain(..2).next_back().unwrap_or_default().into();
        }
        _ => {}
    }
    if !args.is_empty() {
        return Ok(print(answer(&args.join(" "), || Device::open(&path))?));
    }
    let mut device = Device::open(&path)?;
    if io::stdin().is_terminal() {
        terminal(&mut device)?;
        return Ok(true);
    }
    let mut good = true;
    for line in io::stdin().lock().lines() {
        good &= print(answer(&line?, || Ok(&mut device))?);
    }
    Ok(good)
}

/// Makes the monitor execute a line; returns whole lines to show.
///
/// # Errors
/// Fails when the guest has no monitor, or the monitor does not answer.
pub fn ask(line: &str) -> io::Result<String> {
    let answer = answer(line, || Device::open(Path::new(DEVICE)))?;
    Ok(answer.unwrap_or_else(|why| format!("monitor: {why}\n")))
}

/// Returns the answer to a line, or why there is none.
fn answer<D: BorrowMut<Device>>(
    line: &str,
    device: impl FnOnce() -> io::Result<D>,
) -> io::Result<Result<String, String>> {
    Ok(match plan(line) {
        Plan::Nothing => Ok(String::new()),
        Plan::Say(text) => Ok(text),
        Plan::Refuse(why) => Err(why),
        Plan::Ask(command) => {
            let answer = device()?.borrow_mut().ask(&command)?;
            command.show(&answer)
        }
    })
}

/// Prints an answer; returns whether it is no error.
fn print(answer: Result<String, String>) -> bool {
    match answer {
        Ok(text) => {
            print!("{text}");
            true
        }
        Err(why) => {
            eprintln!("monitor: {why}");
            false
        }
    }
}

fn terminal(device: &mut Device) -> io::Result<()> {
    let mut terminal = Terminal::new(names(device)?);
    let raw = tty::raw(io::stdin())?;
    show(&terminal.line())?;
    let mut keys = [0; 256];
    loop {
        let count = io::stdin().read(&mut keys)?;
        let mut screen = String::new();
        let mut entered = terminal.keys(&keys[..count], &mut screen);
        show(&screen)?;
        while let Entered::Command(command) = entered {
            let answer = device.ask(&command).map_err(|why| why.to_string());
            let mut screen = String::new();
            let answer = answer.as_deref().map_err(String::as_str);
            entered = terminal.answered(answer, &mut screen);
            show(&screen)?;
        }
        if count == 0 || entered == Entered::End {
            break;
        }
    }
    drop(raw);
    println!();
    Ok(())
}

fn show(screen: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(screen.as_bytes())?;
    out.flush()
}

/// Returns the names of the VMs.
fn names(device: &mut Device) -> io::Result<Vec<String>> {
    let answer = device.ask(&Command {
        line: "vm list".into(),
        json: true,
    })?;
    let answer: serde_json::Value = serde_json::from_str(&answer)?;
    let vms = answer["vms"].as_array().into_iter().flatten();
    Ok(vms
        .filter_map(|vm| Some(vm["name"].as_str()?.to_owned()))
        .collect())
}
