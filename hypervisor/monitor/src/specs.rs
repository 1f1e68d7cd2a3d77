// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The table of commands, which parsing, help and completion follow.

use crate::lifecycle::LifecycleRequest;
use core::fmt;

/// What a command takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arguments {
    /// Nothing.
    None,
    /// The name of a VM.
    Vm,
    /// The name of a VM, or nothing.
    AnyVm,
    /// The name of a VM, and a size.
    VmAndSize,
    /// A number, or nothing.
    Count,
    /// The words of a command, or nothing.
    Command,
    /// `on` or `off`.
    OnOff,
}

impl Arguments {
    /// As the help has it.
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

/// Which command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// All VMs.
    List,
    /// All about one VM.
    Info,
    /// An order to a VM.
    Lifecycle(LifecycleRequest),
    /// RAM at the next start.
    VmMemory,
    /// What was done for VMs in the TEE.
    TeeStats,
    /// The pCPUs.
    Cpu,
    /// Where RAM has gone.
    Memory,
    /// The end of the log.
    Log,
    /// The commands.
    Help,
    /// Whether what is typed is shown.
    Echo,
    /// The `stats` events.
    Stats,
}

/// A command as it is written and explained.
#[derive(Debug, PartialEq, Eq)]
pub struct Spec {
    /// Which one it is.
    pub verb: Verb,
    /// Its words, one blank between.
    pub path: &'static str,
    /// What follows them.
    pub arguments: Arguments,
}

const fn spec(verb: Verb, path: &'static str, arguments: Arguments) -> Spec {
    Spec {
        verb,
        path,
        arguments,
    }
}

/// All commands, in the order of the help. Those with the same first word stand together.
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
    /// Whether the command begins with these words.
    pub fn begins_with(&self, words: &[&str]) -> bool {
        let mut path = self.path.split(' ');
        words.iter().all(|word| path.next() == Some(word))
    }
}
