// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A running machine with all its consoles. Their output arrives as items, in order; every byte
//! also goes to one log file per console.

mod expect;

pub use expect::Expectation;

use crate::console::{Channel, Demux, FlowControl, Lines};
use crate::control::{AnswerRouter, Control, Wire};
use crate::folder::clear_logs;
use crate::launch::{Machine, PowerSwitch, Qemu, VmInfo, Wiring};
use crate::signals;
use anyhow::{Context, Result, bail};
use guest_agent::event::{Event, MARK};
use postern_ctl::messages::{Answer, HypervisorEvent, MonitorMessage, Stats};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// The number of each console's lines that are kept for error messages.
const TAIL: usize = 15;
/// The number of such a line's characters that are shown.
const TAIL_WIDTH: usize = 200;
/// The time between two checks whether a wait was interrupted.
const GLANCE: Duration = Duration::from_millis(100);

/// The content of an item.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A line that is no event.
    Line(String),
    /// An event of a guest's agent.
    Guest(Event),
    /// An event of a bare-metal program, whose meaning only its test knows.
    Program(serde_json::Value),
    /// An event of the hypervisor.
    Hypervisor(HypervisorEvent),
    /// The monitor's answer to a command.
    Answer(Box<Answer>),
    /// The counters per VM, from the monitor answer to `stats`.
    Stats(Box<Stats>),
    /// A line with an event's mark but no readable event.
    Garbled(String),
    /// The UART was closed: QEMU has ended or is about to.
    Closed,
}

/// A piece of console output and its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The console.
    pub channel: Channel,
    /// The time since the machine's start.
    pub at: Duration,
    /// The content.
    pub what: What,
}

/// A wait was ended by Ctrl-C or a similar signal.
#[derive(Debug)]
pub struct InterruptedError(
    /// The signal's number.
    pub i32,
);

impl std::fmt::Display for InterruptedError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "interrupted (signal {})", self.0)
    }
}

impl std::error::Error for InterruptedError {}

/// A running machine. Dropping this value ends it.
pub struct Session {
    qemu: Qemu,
    wire: Wire,
    /// The socket for `postern-tool ctl`, open for as long as this value exists.
    _control: Option<Control>,
    items: Receiver<Item>,
    backlog: VecDeque<Item>,
    tails: HashMap<Channel, VecDeque<String>>,
    vms: Vec<VmInfo>,
    folder: PathBuf,
    started: Instant,
    closed: bool,
}

impl Session {
    /// Starts a machine with its logs in `folder`, from which the logs of an earlier run are
    /// removed.
    ///
    /// # Errors
    ///
    /// Fails when the folder cannot be written to or QEMU cannot be started.
    pub fn boot(machine: &Machine, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        clear_logs(folder)?;
        let plain = machine.wiring == Wiring::Plain;
        let logs = Logs::new(folder, machine);
        let (qemu, input, output) = Qemu::start(machine, folder)?;
        let power = qemu.power_switch(machine);
        let (sender, items) = channel();
        let started = Instant::now();
        let demux = if plain {
            Demux::plain()
        } else {
            Demux::multiplexed()
        };
        let flow = if plain {
            FlowControl::plain()
        } else {
            FlowControl::multiplexed()
        };
        let wire = Wire::new(input, flow);
        let control = Control::beside(folder, machine.wiring, &wire);
        let listeners = Listeners {
            programs: machine.vms.iter().map(|vm| vm.program).collect(),
            router: control.as_ref().map(Control::router),
            wire: wire.clone(),
            power,
        };
        std::thread::spawn(move || read(output, demux, logs, &listeners, started, &sender));
        Ok(Self {
            qemu,
            wire,
            _control: control,
            items,
            backlog: VecDeque::new(),
            tails: HashMap::new(),
            vms: machine.vms.clone(),
            folder: folder.to_owned(),
            started,
            closed: false,
        })
    }

    /// Returns the time since the machine's start.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Returns the folder of the logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the VMs, in the order of the boot tree.
    pub fn vms(&self) -> &[VmInfo] {
        &self.vms
    }

    /// Returns the console of the VM of that name.
    ///
    /// # Errors
    ///
    /// Fails when there is no such VM.
    pub fn vm(&self, name: &str) -> Result<Channel> {
        let index = self.vms.iter().position(|vm| vm.name == name);
        let number = index.and_then(|index| u8::try_from(index + 1).ok());
        number
            .map(Channel::Vm)
            .with_context(|| format!("there is no VM {name}"))
    }

    /// Writes a line to a console.
    ///
    /// # Errors
    ///
    /// Fails when QEMU has ended.
    pub fn send(&mut self, channel: Channel, line: &str) -> Result<()> {
        self.send_bytes(channel, format!("{line}\n").as_bytes())
    }

    /// Writes bytes to a console.
    ///
    /// # Errors
    ///
    /// Fails when QEMU has ended.
    pub fn send_bytes(&mut self, channel: Channel, bytes: &[u8]) -> Result<()> {
        self.wire.send(channel, bytes)
    }

    /// Returns the next item of any console, those that were set aside first; `None` when none came
    /// in time. No item follows [`What::Closed`].
    ///
    /// # Errors
    ///
    /// Fails with [`InterruptedError`].
    pub fn next(&mut self, within: Duration) -> Result<Option<Item>> {
        if let Some(item) = self.backlog.pop_front() {
            return Ok(Some(item));
        }
        self.receive(Instant::now() + within)
    }

    /// Returns the next new item; leaves the backlog alone.
    fn receive(&mut self, deadline: Instant) -> Result<Option<Item>> {
        loop {
            if let Some(signal) = signals::received() {
                bail!(InterruptedError(signal));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.items.recv_timeout(left.min(GLANCE)) {
                Ok(item) => {
                    self.remember(&item);
                    return Ok(Some(item));
                }
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.closed = true;
                    return Ok(None);
                }
            }
        }
    }

    fn remember(&mut self, item: &Item) {
        let line = match &item.what {
            What::Line(line) | What::Garbled(line) => line.clone(),
            What::Guest(event) => event.line(),
            What::Program(event) => event.to_string(),
            What::Hypervisor(event) => format!("{event:?}"),
            What::Answer(answer) => format!("{answer:?}"),
            What::Stats(stats) => format!("{stats:?}"),
            What::Closed => {
                self.closed = true;
                return;
            }
        };
        let tail = self.tails.entry(item.channel).or_default();
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(line);
    }

    /// Returns whether the UART is closed. No item comes after that.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Returns the last lines of a console, for an error message.
    pub fn tail(&self, channel: Channel) -> String {
        let lines = self.tails.get(&channel).into_iter().flatten();
        let shown = |line: &String| {
            let line: String = crate::console::plain(line)
                .chars()
                .take(TAIL_WIDTH)
                .collect();
            format!("    | {line}\n")
        };
        lines.map(shown).collect()
    }

    /// Returns the name of a console, which is that of its VM.
    pub fn name(&self, channel: Channel) -> String {
        match channel {
            Channel::Vm(number) => self
                .vms
                .get(usize::from(number).wrapping_sub(1))
                .map_or_else(|| channel.to_string(), |vm| vm.name.clone()),
            other => other.to_string(),
        }
    }

    /// Waits for QEMU to end.
    ///
    /// # Errors
    ///
    /// Fails when QEMU does not end in time.
    pub fn exit(&mut self, within: Duration) -> Result<ExitStatus> {
        match self.qemu.wait(within)? {
            Some(status) => Ok(status),
            None => bail!("QEMU still runs after {} s", within.as_secs()),
        }
    }
}

/// The log files, one per console, made when there is something to write.
struct Logs {
    folder: PathBuf,
    names: BTreeMap<u8, String>,
    files: HashMap<Channel, Option<File>>,
}

impl Logs {
    fn new(folder: &Path, machine: &Machine) -> Self {
        let names = machine
            .vms
            .iter()
            .zip(1..)
            .map(|(vm, number)| (number, file_name(&vm.name)));
        Self {
            folder: folder.to_owned(),
            names: names.collect(),
            files: HashMap::new(),
        }
    }

    fn write(&mut self, channel: Channel, bytes: &[u8]) {
        let file = self.files.entry(channel).or_insert_with(|| {
            let name = match channel {
                Channel::Vm(number) => {
                    let number_name = || number.to_string();
                    format!(
                        "vm-{}.log",
                        self.names.get(&number).cloned().unwrap_or_else(number_name)
                    )
                }
                other => format!("{other}.log"),
            };
            File::create(self.folder.join(name)).ok()
        });
        if let Some(file) = file {
            // A full disk must not stop the run, which works on items.
            let _ = file.write_all(bytes);
        }
    }
}

/// Returns a VM's name as part of a file's name.
fn file_name(name: &str) -> String {
    let safe = |letter: char| {
        if letter.is_ascii_alphanumeric() || "-_".contains(letter) {
            letter
        } else {
            '_'
        }
    };
    name.chars().map(safe).collect()
}

/// The receivers of the machine's output.
struct Listeners {
    /// Whether each VM runs a program.
    programs: Vec<bool>,
    /// The handle that passes the monitor's lines to its clients.
    router: Option<AnswerRouter>,
    /// The way to the guests.
    wire: Wire,
    /// What ends QEMU.
    power: PowerSwitch,
}

/// Reads the UART until QEMU closes it; runs on a thread of its own.
fn read(
    mut uart: ChildStdout,
    mut demux: Demux,
    mut logs: Logs,
    listeners: &Listeners,
    started: Instant,
    items: &Sender<Item>,
) {
    let mut lines: HashMap<Channel, Lines> = HashMap::new();
    let mut bytes = vec![0; 64 * 1024];
    // When the session is dropped nothing receives any more; that also ends QEMU and this thread.
    let give = |channel, what| {
        drop(items.send(Item {
            channel,
            at: started.elapsed(),
            what,
        }));
    };
    let mut power = listeners.power;
    let mut say = |channel, line: String| {
        power.take_line(channel, &line);
        let answers = channel == Channel::Hypervisor
            && listeners
                .router
                .as_ref()
                .is_some_and(|router| router.take_line(&line));
        if !answers {
            give(channel, classify(channel, &listeners.programs, line));
        }
    };
    loop {
        let length = match uart.read(&mut bytes) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        demux.feed(&bytes[..length], |channel, bytes| {
            if channel == Channel::Flow {
                return listeners.wire.take_answers(bytes);
            }
            logs.write(channel, bytes);
            lines
                .entry(channel)
                .or_default()
                .feed(bytes, |line| say(channel, line));
        });
    }
    for (&channel, lines) in &mut lines {
        lines.finish(|line| say(channel, line));
    }
    if let Some(router) = &listeners.router {
        router.close();
    }
    give(Channel::Firmware, What::Closed);
}

/// Classifies a line; `programs` tells of each VM whether it runs a program.
fn classify(channel: Channel, programs: &[bool], line: String) -> What {
    let is_program = |number: u8| programs.get(usize::from(number).wrapping_sub(1)) == Some(&true);
    let found = match channel {
        Channel::Vm(number) if is_program(number) => line
            .split_once(MARK)
            .map(|(_, json)| serde_json::from_str(json.trim_end()).map(What::Program)),
        Channel::Vm(_) => Event::find(&line).map(|event| event.map(What::Guest)),
        // The hypervisor's last lines may come before it has switched to its channel.
        Channel::Hypervisor | Channel::Firmware | Channel::Flow => {
            MonitorMessage::find(&line).map(|found| {
                found.map(|message| match message {
                    MonitorMessage::Event(event) => What::Hypervisor(event),
                    MonitorMessage::Answer(answer) => What::Answer(answer),
                    MonitorMessage::Stats(stats) => What::Stats(stats),
                })
            })
        }
    };
    match found {
        None => What::Line(line),
        Some(Ok(what)) => what,
        Some(Err(_)) => What::Garbled(line),
    }
}

#[cfg(test)]
mod tests;
