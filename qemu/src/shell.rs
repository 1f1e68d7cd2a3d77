// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `postern-tool shell`: the system's consoles on the user's terminal.

mod keys;
mod monitor_terminal;

use crate::console::{Channel, Demux, FlowControl, InputFullError, Lines, plain};
use crate::control::{AnswerRouter, Control, Wire};
use crate::ending::Ending;
use crate::folder::clear_logs;
use crate::launch::{Machine, PowerSwitch, Qemu, Wiring};
use crate::session::InterruptedError;
use crate::signals;
use anyhow::{Context, Result, bail};
use keys::{Action, Keys};
use monitor_terminal::MonitorTerminal;
use postern_ctl::tty;
use std::collections::HashMap;
use std::io::{IsTerminal, Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// The bytes that are kept of a console that is not shown.
const KEPT: usize = 16 * 1024;
const GLANCE: Duration = Duration::from_millis(100);
/// The boot is over when no console has printed anything for this long.
const SETTLED: Duration = Duration::from_secs(4);

/// An input that wakes the loop.
enum Input {
    /// Bytes of the UART; `None` when QEMU has closed it.
    Machine(Vec<u8>),
    /// Keys of the user; `None` when standard input has ended.
    User(Vec<u8>),
}

/// The consoles, and which of them is shown.
struct Consoles {
    names: Vec<String>,
    shown: Channel,
    kept: HashMap<Channel, Vec<u8>>,
    logs: HashMap<Channel, std::fs::File>,
    /// The handle that passes the monitor's lines to clients outside.
    router: Option<AnswerRouter>,
    /// What ends QEMU, once it runs.
    power: Option<PowerSwitch>,
    /// The monitor's terminal; `None` on a machine without a hypervisor.
    monitor: Option<MonitorTerminal>,
    /// The lines of hypervisor and firmware. The hypervisor's first and last lines may come on the
    /// firmware's channel.
    lines: HashMap<Channel, Lines>,
    /// The hypervisor's output that tells how the machine ended.
    ending: Ending,
}

/// The reason why the loop ends.
#[derive(Debug, PartialEq, Eq)]
enum Over {
    /// The user left.
    Left(&'static str),
    /// The machine ended.
    Machine,
    /// A signal arrived.
    Signal(i32),
}

/// Boots the machine and connects the terminal with its consoles until the user leaves or the
/// machine ends. Returns whether all went well: the machine came up, and ended as its guests wanted
/// or because the user left.
///
/// # Errors
///
/// Fails when standard input is no terminal, QEMU cannot be started, or the terminal cannot be set.
pub fn run(machine: &Machine, folder: &Path) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("a shell needs a terminal on its standard input");
    }
    let raw = tty::raw(std::io::stdin()).context("the terminal cannot be set to raw")?;
    let (over, failure) = connect(machine, folder, std::io::stdin())?;
    drop(raw);
    let ended = match (&over, &failure) {
        (Over::Signal(signal), _) => bail!(InterruptedError(*signal)),
        (Over::Left(how), _) => *how,
        (Over::Machine, None) => "the machine has powered off",
        (Over::Machine, Some(why)) => {
            eprintln!("\nPostern: {why}\nLogs: {}", folder.display());
            return Ok(false);
        }
    };
    println!("\nPostern: {ended}. Logs: {}", folder.display());
    Ok(true)
}

/// Boots the machine and passes keys and output on until either side ends. If the machine ended
/// badly, returns why.
fn connect(
    machine: &Machine,
    folder: &Path,
    keys_from: impl Read + Send + 'static,
) -> Result<(Over, Option<String>)> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    clear_logs(folder)?;
    let plain_wire = machine.wiring == Wiring::Plain;
    let (mut qemu, input, output) = Qemu::start(machine, folder)?;
    let inputs = readers(output, keys_from);
    let mut demux = if plain_wire {
        Demux::plain()
    } else {
        Demux::multiplexed()
    };
    let flow = if plain_wire {
        FlowControl::plain()
    } else {
        FlowControl::multiplexed()
    };
    let wire = Wire::new(input, flow);
    let control = Control::beside(folder, machine.wiring, &wire);
    let mut consoles = Consoles::new(machine, folder);
    consoles.power = Some(qemu.power_switch(machine));
    consoles.router = control.as_ref().map(Control::router);
    consoles.monitor =
        (!plain_wire).then(|| MonitorTerminal::new(wire.clone(), consoles.names.clone()));
    let mut keys = Keys::default();
    show(format!("\r\n{}\r\n", consoles.help()).as_bytes());
    let (mut quiet, mut reminded) = (Duration::ZERO, false);
    let over = loop {
        if let Some(signal) = signals::received() {
            break Over::Signal(signal);
        }
        consoles.give_up_overdue();
        match inputs.recv_timeout(GLANCE) {
            Ok(Input::Machine(bytes)) if bytes.is_empty() => break Over::Machine,
            Ok(Input::Machine(bytes)) => {
                quiet = Duration::ZERO;
                demux.feed(&bytes, |channel, bytes| match channel {
                    Channel::Flow => wire.take_answers(bytes),
                    channel => consoles.output(channel, bytes),
                });
            }
            Ok(Input::User(bytes)) if bytes.is_empty() => {
                break Over::Left("standard input has ended");
            }
            Ok(Input::User(bytes)) => {
                let mut quit = false;
                for action in keys.feed(&bytes) {
                    match action {
                        Action::Send(bytes) if consoles.types(&bytes) => {}
                        Action::Send(bytes) => {
                            // A machine that has ended reads no more; the loop sees its end next.
                            if let Err(why) = wire.send(consoles.shown, &bytes)
                                && why.is::<InputFullError>()
                            {
                                show(
                                    format!("\r\n--- {why}; what was typed is lost ---\r\n")
                                        .as_bytes(),
                                );
                            }
                        }
                        Action::Switch(number) => consoles.switch(number),
                        Action::Help => consoles.notice(&consoles.help()),
                        Action::Quit => quit = true,
                    }
                }
                if quit {
                    break Over::Left("left");
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                quiet += GLANCE;
                // The boot's output has scrolled the help away.
                if quiet >= SETTLED && !reminded {
                    reminded = true;
                    consoles.notice(&consoles.help());
                }
            }
            Err(RecvTimeoutError::Disconnected) => break Over::Machine,
        }
    };
    drop(control);
    let failure = match over {
        Over::Machine => consoles.ending.why(&mut qemu, folder, machine.wiring),
        _ => None,
    };
    qemu.kill();
    Ok((over, failure))
}

/// Starts one thread per source; both end with the process at the latest.
fn readers(
    mut uart: impl Read + Send + 'static,
    keys: impl Read + Send + 'static,
) -> Receiver<Input> {
    let (sender, receiver) = channel();
    let users = sender.clone();
    fn pass(mut source: impl Read, mut give: impl FnMut(Vec<u8>) -> bool) {
        let mut bytes = [0; 16 * 1024];
        loop {
            let length = match source.read(&mut bytes) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Ok(length) => length,
                Err(_) => 0,
            };
            if !give(bytes[..length].to_vec()) || length == 0 {
                return;
            }
        }
    }
    std::thread::spawn(move || {
        pass(&mut uart, |bytes| {
            sender.send(Input::Machine(bytes)).is_ok()
        });
    });
    std::thread::spawn(move || {
        pass(keys, |bytes| users.send(Input::User(bytes)).is_ok());
    });
    receiver
}

fn show(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    // When the terminal is closed, SIGHUP ends the process.
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

impl Consoles {
    fn new(machine: &Machine, folder: &Path) -> Self {
        let names: Vec<String> = machine.vms.iter().map(|vm| vm.name.clone()).collect();
        let mut logs = HashMap::new();
        let numbers = (0..=u8::MAX - 1)
            .take(names.len() + 1)
            .map(Channel::from_number);
        for channel in numbers.chain([Channel::Firmware]) {
            let name = match channel {
                Channel::Vm(number) => format!("vm-{}.log", names[usize::from(number) - 1]),
                other => format!("{other}.log"),
            };
            // The console works without a log.
            if let Ok(file) = std::fs::File::create(folder.join(name)) {
                logs.insert(channel, file);
            }
        }
        Self {
            names,
            shown: Channel::Vm(1),
            kept: HashMap::new(),
            logs,
            router: None,
            power: None,
            monitor: None,
            lines: HashMap::new(),
            ending: Ending::default(),
        }
    }

    fn help(&self) -> String {
        let guests = self
            .names
            .iter()
            .enumerate()
            .map(|(index, name)| format!("{} guest {name}", index + 1));
        format!(
            "Postern: press Ctrl-A and then  {}  0 the hypervisor  x quit  h this help  a a Ctrl-A itself",
            guests.collect::<Vec<_>>().join("  ")
        )
    }

    fn name(&self, channel: Channel) -> String {
        match channel {
            Channel::Vm(number) => format!("guest {}", self.names[usize::from(number) - 1]),
            other => format!("the {other}"),
        }
    }

    fn output(&mut self, channel: Channel, bytes: &[u8]) {
        if let Some(log) = self.logs.get_mut(&channel) {
            // A full disk must not stop the console.
            let _ = log.write_all(bytes);
        }
        self.listen(channel, bytes);
        if channel == Channel::Hypervisor && self.monitor.is_some() {
            return;
        }
        // The firmware's output is shown: it comes before any other, and when something goes wrong.
        if channel == self.shown || channel == Channel::Firmware {
            show(bytes);
            return;
        }
        keep(&mut self.kept, channel, bytes);
    }

    /// Processes lines about the boot's and the machine's end, and the hypervisor's answers: those
    /// to clients, which are not shown, and those to the user. Other lines of the hypervisor appear
    /// above the line that the user edits.
    fn listen(&mut self, channel: Channel, bytes: &[u8]) {
        if !matches!(channel, Channel::Hypervisor | Channel::Firmware) {
            return;
        }
        let Self {
            router,
            power,
            ending,
            lines,
            monitor,
            kept,
            shown,
            ..
        } = self;
        lines.entry(channel).or_default().feed(bytes, |line| {
            if let Some(power) = power {
                power.take_line(channel, &line);
            }
            if channel == Channel::Hypervisor {
                let is_shown = *shown == channel;
                let others = router
                    .as_ref()
                    .is_some_and(|router| router.take_line(&line));
                if let Some(monitor) = monitor.as_mut().filter(|_| !others) {
                    let text = monitor.take_line(&line);
                    if is_shown {
                        show(text.as_bytes());
                    } else {
                        keep(kept, channel, text.as_bytes());
                    }
                }
            }
            if let Some(notice) = ending.take_line(&line) {
                let text = format!("--- {notice} ---");
                show(notice_at(*shown, monitor.as_ref(), &text).as_bytes());
            }
        });
    }

    /// Passes keys to the monitor's terminal; returns false where it is not shown.
    fn types(&mut self, keys: &[u8]) -> bool {
        match self.monitor.as_mut() {
            Some(monitor) if self.shown == Channel::Hypervisor => {
                show(monitor.types(keys).as_bytes());
                true
            }
            _ => false,
        }
    }

    /// Gives up on an overdue monitor answer.
    fn give_up_overdue(&mut self) {
        if let Some(text) = self
            .monitor
            .as_mut()
            .and_then(MonitorTerminal::give_up_overdue)
        {
            if self.shown == Channel::Hypervisor {
                show(text.as_bytes());
            } else {
                keep(&mut self.kept, Channel::Hypervisor, text.as_bytes());
            }
        }
    }

    /// Shows a text of the tool itself.
    fn notice(&self, text: &str) {
        show(notice_at(self.shown, self.monitor.as_ref(), text).as_bytes());
    }

    fn switch(&mut self, number: u8) {
        let channel = Channel::from_number(number);
        if usize::from(number) > self.names.len() {
            self.notice(&self.help());
            return;
        }
        self.shown = channel;
        if let Some(monitor) = &mut self.monitor {
            monitor.hide(channel != Channel::Hypervisor);
        }
        show(format!("\r\n--- {}; Ctrl-A h for help ---\r\n", self.name(channel)).as_bytes());
        let missed = self.kept.remove(&channel).unwrap_or_default();
        let text = String::from_utf8_lossy(&missed);
        for line in text.split_inclusive('\n') {
            show(plain(line.trim_end_matches(['\r', '\n'])).as_bytes());
            if line.ends_with('\n') {
                show(b"\r\n");
            }
        }
        if let Some(monitor) = &mut self.monitor
            && channel == Channel::Hypervisor
        {
            show(monitor.line().as_bytes());
            // These keys were typed ahead.
            show(monitor.types(b"").as_bytes());
        }
    }
}

/// Keeps the last bytes of a console that is not shown.
fn keep(kept: &mut HashMap<Channel, Vec<u8>>, channel: Channel, bytes: &[u8]) {
    let kept = kept.entry(channel).or_default();
    kept.extend_from_slice(bytes);
    if kept.len() > KEPT {
        kept.drain(..kept.len() - KEPT);
    }
}

/// Returns the bytes that show a notice; at the monitor's terminal it appears above the line.
fn notice_at(shown: Channel, monitor: Option<&MonitorTerminal>, text: &str) -> String {
    match monitor {
        Some(monitor) if shown == Channel::Hypervisor => monitor.above(&format!("{text}\n")),
        _ => format!("\r\n{text}\r\n"),
    }
}

#[cfg(test)]
mod tests;
