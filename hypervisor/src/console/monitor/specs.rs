// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The table of commands, which parsing, help and completion follow.

use super::system::Order;

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
    Order(Order),
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
    /// Editing on and off.
    Terminal,
    /// The `stats` events.
    Stats,
}

/// A command as it is written and explained.
#[derive(Debug)]
pub struct Spec {
    /// Which one it is.
    pub verb: Verb,
    /// Its words, one blank between.
    pub path: &'static str,
    /// What follows them.
    pub arguments: Arguments,
    /// What it does, in a line.
    pub summary: &'static str,
    /// What else there is to know; may be empty.
    pub more: &'static str,
}

const fn spec(
    verb: Verb,
    path: &'static str,
    arguments: Arguments,
    summary: &'static str,
    more: &'static str,
) -> Spec {
    Spec {
        verb,
        path,
        arguments,
        summary,
        more,
    }
}

/// All commands, in the order of the help. Those with the same first word stand together.
pub static SPECS: [Spec; 16] = [
    spec(
        Verb::List,
        "vm list",
        Arguments::None,
        "the virtual machines and their states",
        "",
    ),
    spec(
        Verb::Info,
        "vm info",
        Arguments::Vm,
        "all about one virtual machine",
        "",
    ),
    spec(
        Verb::Order(Order::Start),
        "vm start",
        Arguments::Vm,
        "start one that is off",
        "",
    ),
    spec(
        Verb::Order(Order::Stop),
        "vm stop",
        Arguments::Vm,
        "press its power button: the guest shuts itself down",
        "A guest that does not listen goes on; `vm kill` asks nobody.",
    ),
    spec(
        Verb::Order(Order::Reset),
        "vm reset",
        Arguments::Vm,
        "end it at once, and start it again",
        "",
    ),
    spec(
        Verb::Order(Order::Kill),
        "vm kill",
        Arguments::Vm,
        "end it at once",
        "What it has open in the TEE is closed for it.",
    ),
    spec(
        Verb::Order(Order::Pause),
        "vm pause",
        Arguments::Vm,
        "stop its vCPUs where they are",
        "",
    ),
    spec(
        Verb::Order(Order::Resume),
        "vm resume",
        Arguments::Vm,
        "let the vCPUs go on",
        "",
    ),
    spec(
        Verb::VmMemory,
        "vm mem",
        Arguments::VmAndSize,
        "the RAM that it has from its next start on",
        "SIZE is a multiple of 2 MiB, such as 512M or 1G.",
    ),
    spec(
        Verb::TeeStats,
        "tee stats",
        Arguments::AnyVm,
        "what OP-TEE was asked, and what it holds",
        "",
    ),
    spec(
        Verb::Cpu,
        "cpu",
        Arguments::None,
        "what runs on the physical CPUs",
        "IDLE NOW is the share of the last second or two. LONGEST MASKED is the longest time that EL2 took no\n\
         interrupts, and what it did then.",
    ),
    spec(
        Verb::Memory,
        "mem",
        Arguments::None,
        "where the machine's RAM has gone",
        "",
    ),
    spec(
        Verb::Log,
        "log",
        Arguments::Count,
        "the last N log lines and events, 20 unless said",
        "",
    ),
    spec(
        Verb::Help,
        "help",
        Arguments::Command,
        "the commands, or more on one",
        "",
    ),
    spec(
        Verb::Terminal,
        "terminal",
        Arguments::OnOff,
        "a prompt, with editing, history and completion",
        "Enter on an empty line does the same as `terminal on`.",
    ),
    spec(
        Verb::Stats,
        "stats",
        Arguments::None,
        "one `stats` event a VM, for programs",
        "",
    ),
];

impl Spec {
    /// Whether the command begins with these words.
    pub fn begins_with(&self, words: &[&str]) -> bool {
        let mut path = self.path.split(' ');
        words.iter().all(|word| path.next() == Some(word))
    }
}
