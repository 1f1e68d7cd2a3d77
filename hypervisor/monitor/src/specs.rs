// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The table of commands, from which parsing, help and completion work.

use crate::lifecycle::LifecycleRequest;
use core::fmt;

/// The arguments of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arguments {
    /// No arguments.
    None,
    /// The name of a VM.
    Vm,
    /// The name of a VM, optional.
    AnyVm,
    /// The name of a VM and a size.
    VmAndSize,
    /// A number, optional.
    Count,
    /// The words of a command, optional.
    Command,
    /// `on` or `off`.
    OnOff,
}

impl Arguments {
    /// Returns the arguments as the help shows them.
    pub const fn text(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Vm => " NAME",
            Self::AnyVm => " [NAME]",
            Self::VmAndSize => " NAME SIZE",
            Self::Count => " [N]",
            Self::Command => " [COMMAND]",
            Self::OnOff => " on|off",
        }
    }
}

/// The operation of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Lists all VMs.
    List,
    /// Shows all figures of one VM.
    Info,
    /// Requests a lifecycle change of a VM.
    Lifecycle(LifecycleRequest),
    /// Sets a VM's RAM from its next start on.
    VmMemory,
    /// Shows the TEE figures of VMs.
    TeeStats,
    /// Shows the pCPUs.
    Cpu,
    /// Shows the use of RAM.
    Memory,
    /// Shows the end of the log.
    Log,
    /// Lists the commands.
    Help,
    /// Turns the echo on or off.
    Echo,
    /// Sends the `stats` events.
    Stats,
}

/// A command's entry in the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Spec {
    /// The operation.
    pub verb: Verb,
    /// The words of the command, separated by one blank.
    pub path: &'static str,
    /// The arguments after the words.
    pub arguments: Arguments,
}

const fn spec(verb: Verb, path: &'static str, arguments: Arguments) -> Spec {
    Spec {
        verb,
        path,
        arguments,
    }
}

/// All commands, in the order of the help. Commands with the same first word are adjacent.
pub static SPECS: [Spec; 16] = [
    spec(Verb::List, "vm list", Arguments::None),
    spec(Verb::Info, "vm info", Arguments::Vm),
    spec(
        Verb::Lifecycle(LifecycleRequest::Start),
        "vm start",
        Arguments::Vm,
    ),
    spec(
        Verb::Lifecycle(LifecycleRequest::Stop),
        "vm stop",
        Arguments::Vm,
    ),
    spec(
        Verb::Lifecycle(LifecycleRequest::Reset),
        "vm reset",
        Arguments::Vm,
    ),
    spec(
        Verb::Lifecycle(LifecycleRequest::Kill),
        "vm kill",
        Arguments::Vm,
    ),
    spec(
        Verb::Lifecycle(LifecycleRequest::Pause),
        "vm pause",
        Arguments::Vm,
    ),
    spec(
        Verb::Lifecycle(LifecycleRequest::Resume),
        "vm resume",
        Arguments::Vm,
    ),
    spec(Verb::VmMemory, "vm mem", Arguments::VmAndSize),
    spec(Verb::TeeStats, "tee stats", Arguments::AnyVm),
    spec(Verb::Cpu, "cpu", Arguments::None),
    spec(Verb::Memory, "mem", Arguments::None),
    spec(Verb::Log, "log", Arguments::Count),
    spec(Verb::Help, "help", Arguments::Command),
    spec(Verb::Echo, "echo", Arguments::OnOff),
    spec(Verb::Stats, "stats", Arguments::None),
];

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.path, self.arguments.text())
    }
}

impl Spec {
    /// Returns whether the command begins with these words.
    pub fn begins_with(&self, words: &[&str]) -> bool {
        let mut path = self.path.split(' ');
        words.iter().all(|word| path.next() == Some(word))
    }
}
