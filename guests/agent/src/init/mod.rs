// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The guest's first process: sets the system up, then executes commands.

mod button;
mod ffa;
mod network;
mod root;
mod supplicant;
mod system;

use crate::command::{Command, Words};
use crate::{console, latency, measure, process, sys, xtest};
use guest_agent::event::Event;
use guest_agent::interrupts;
use guest_agent::role::{Role, Root};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::ExitCode;

/// The client device of the TEE.
const TEE: &str = "/dev/tee0";
const SHELL: &str = "/bin/sh";
/// The script of the session in which the user's shell runs. The end of a session discards what the terminal has not
/// sent yet, and `stty` waits for that (TCSADRAIN). It is not in the foreground then, and must not be stopped for it.
const SESSION: &str = "trap '' TTOU; sh; stty echo";

/// Sets the system up and executes commands. When the console is lost it powers the guest off; a
/// return would end the guest by a kernel panic.
pub fn run() -> ExitCode {
    let problems = system::bring_up();
    if let Err(why) = console::take_over() {
        console::error(format_args!("console: {why}"));
    }
    console::forward_kernel_log();
    for problem in problems {
        console::error(problem);
    }
    process::reap();
    let command_line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let words = Words::parse(&command_line);
    let name = words.hostname.as_deref().unwrap_or("guest");
    if let Err(why) = sys::set_hostname(name) {
        console::error(format_args!("host name {name:?}: {why}"));
    }
    for problem in system::load_modules() {
        console::error(problem);
    }
    for problem in devices(&command_line) {
        console::error(problem);
    }
    button::watch();
    if system::wait_for_tee() {
        supplicant::start();
    }
    if words.shell {
        shell();
    }
    ready();
    for line in words.auto {
        execute(&line);
        // The next command may need the result of this one.
        while xtest::is_running() {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
    for line in console::lines() {
        execute(&line);
    }
    console::error("the console is closed");
    end(sys::End::Off);
    ExitCode::FAILURE
}

/// Puts the guest's devices and links to use, and furnishes the root file system. Returns the errors.
fn devices(command_line: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let role = Role::parse(command_line).unwrap_or_else(|why| {
        problems.push(why);
        Role::default()
    });
    problems.extend(network::configure(&role));
    let mut in_ram = role.root == Root::Ram;
    if let Err(why) = root::enter(&role.root) {
        problems.push(format!("root file system: {why}"));
        in_ram = true;
    }
    problems.extend(system::furnish(in_ram));
    problems.extend(network::serve(&role.exports));
    problems
}

fn ready() {
    console::emit(&Event::Ready {
        kernel: sys::kernel_release(),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        tee: Path::new(TEE).exists(),
        xtest: xtest::present(),
        ms: sys::monotonic_ms(),
    });
}

fn execute(line: &str) {
    match Command::parse(line) {
        Ok(None) => {}
        Ok(Some(Command::Xtest(arguments))) => {
            if let Err(why) = xtest::start(arguments) {
                console::error(why);
            }
        }
        Ok(Some(Command::Latency(measurement))) => {
            match latency::measure(Path::new(TEE), &measurement) {
                Ok(report) => console::emit(&Event::Latency(report)),
                Err(why) => {
                    let label = measurement.label;
                    console::error(format_args!("latency {label}: {TEE}: {why}"));
                }
            }
        }
        Ok(Some(Command::Disk(bytes))) => match measure::disk(bytes) {
            Ok(measured) => console::emit(&Event::Disk(measured)),
            Err(why) => console::error(format_args!("disk: {why}")),
        },
        Ok(Some(Command::Network(host, bytes))) => match measure::network(host, bytes) {
            Ok(measured) => console::emit(&Event::Network(measured)),
            Err(why) => console::error(format_args!("network to {host}: {why}")),
        },
        Ok(Some(Command::Serve(port))) => {
            if let Err(why) = network::serve_transfers(port) {
                console::error(format_args!("serving at port {port}: {why}"));
            }
        }
        Ok(Some(Command::Interrupts)) => match std::fs::read_to_string("/proc/interrupts") {
            Ok(text) => console::emit(&Event::Interrupts {
                counts: interrupts::counts(&text),
            }),
            Err(why) => console::error(format_args!("/proc/interrupts: {why}")),
        },
        Ok(Some(Command::Ping(text))) => console::emit(&Event::Pong { text }),
        Ok(Some(Command::SysRq(letter))) => {
            if let Err(why) = std::fs::write("/proc/sysrq-trigger", [letter as u8]) {
                console::error(format_args!("sysrq: {why}"));
            }
        }
        Ok(Some(Command::Monitor(line))) => match postern_ctl::ask(&line) {
            Ok(text) => {
                for line in text.lines() {
                    console::emit(&Event::Monitor { line: line.into() });
                }
                let lines = text.lines().count() as u32;
                console::emit(&Event::MonitorEnd { lines });
            }
            Err(why) => console::error(format_args!("monitor: {why}")),
        },
        Ok(Some(Command::Shell)) if xtest::is_running() => {
            console::error("no shell while xtest is running");
        }
        Ok(Some(Command::Shell)) => {
            shell();
            ready();
        }
        Ok(Some(Command::PowerOff)) => end(sys::End::Off),
        Ok(Some(Command::Reboot)) => end(sys::End::Restart),
        Err(why) => console::error(why),
    }
}

fn end(how: sys::End) {
    console::emit(&Event::Bye);
    if ffa::has_optee() {
        ffa::end_processes();
    }
    let why = sys::end(how);
    console::error(format_args!("the kernel does not {how:?}: {why}"));
}

/// Runs a shell with the console as its terminal until it exits.
fn shell() {
    // Checked first: std itself waits for a child whose exec fails, and the reaper would have taken
    // its status.
    if !Path::new(SHELL).exists() {
        console::error(format_args!("there is no {SHELL}"));
        return;
    }
    console::line("A shell; `exit` gives the console back to the agent.");
    // The shell also works without echo.
    let _ = sys::set_echo(0, true);
    let mut command = std::process::Command::new(SHELL);
    command
        .args(["-c", SESSION])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/")
        .env("TERM", "vt100")
        .env("PS1", "\\h:\\w# ");
    // SAFETY: the closure runs between fork and exec and makes two system calls, nothing else.
    unsafe { command.pre_exec(sys::own_terminal_session) };
    match process::spawn(&mut command) {
        Ok(running) => drop(running.wait()),
        Err(why) => console::error(format_args!("{SHELL}: {why}")),
    }
    // The end of a session hangs up its terminal for all processes that have it open.
    if let Err(why) = console::take_over() {
        console::error(format_args!("console: {why}"));
    }
}
