// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Splits the one UART's byte stream into consoles and merges them.

mod demux;
mod flow;
mod lines;

pub use demux::{Demux, Mux};
pub use flow::{FlowControl, InputFullError};
pub use lines::{Lines, plain};

use std::fmt;

/// The console that bytes belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    /// Output from before the hypervisor took the UART over: TF-A's, and the hypervisor's own first
    /// lines when it does not get far.
    Firmware,
    /// The hypervisor's log and monitor.
    Hypervisor,
    /// A VM's console: 1 is that of the boot tree's first VM.
    Vm(u8),
    /// Flow control: how much input guests have room for.
    Flow,
}

/// The number of [`Channel::Flow`] on the wire.
const FLOW: u8 = 0xfe;

impl Channel {
    /// Returns the channel of a number on the wire (0xFF is never one).
    pub const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Hypervisor,
            FLOW => Self::Flow,
            number => Self::Vm(number),
        }
    }

    /// Returns the number on the wire; the firmware has none.
    pub const fn number(self) -> Option<u8> {
        match self {
            Self::Firmware => None,
            Self::Hypervisor => Some(0),
            Self::Vm(number) => Some(number),
            Self::Flow => Some(FLOW),
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Firmware => f.write_str("firmware"),
            Self::Hypervisor => f.write_str("hypervisor"),
            Self::Vm(number) => write!(f, "VM {number}"),
            Self::Flow => f.write_str("flow control"),
        }
    }
}
