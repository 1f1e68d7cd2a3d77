// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The one UART's byte stream, taken apart into consoles and put together again.

mod demux;
mod flow;
mod lines;

pub use demux::{Demux, Mux};
pub use flow::{FlowControl, Full};
pub use lines::{Lines, plain};

use std::fmt;

/// Whose bytes they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    /// What came before the hypervisor took the UART over: TF-A, and the hypervisor's own first words
    /// when it does not get far.
    Firmware,
    /// The hypervisor's log and monitor.
    Hypervisor,
    /// The console of a VM: 1 for the first one of the boot tree.
    Vm(u8),
    /// No console: how much input guests have room for.
    Flow,
}

/// The number of [`Channel::Flow`] on the wire.
const FLOW: u8 = 0xfe;

impl Channel {
    /// The channel of a number on the wire (0xFF is never one).
    pub const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Hypervisor,
            FLOW => Self::Flow,
            number => Self::Vm(number),
        }
    }

    /// The number on the wire; firmware has none.
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
