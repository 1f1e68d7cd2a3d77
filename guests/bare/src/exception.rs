// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Exceptions that the program takes.

use crate::expect;
use crate::machine::machine;
use core::fmt;

/// What an instruction was refused for: the exception syndrome (ESR_ELx, Arm ARM D17.2.37).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault(pub u64);

impl Fault {
    /// The exception class, bits 31:26.
    pub const fn class(self) -> u64 {
        self.0 >> 26 & 0x3f
    }

    /// Whether an access was aborted: a data abort taken without a change of level.
    pub const fn is_abort(self) -> bool {
        self.class() == 0x25
    }

    /// Whether a fetch was aborted: an instruction abort taken without a change of level.
    pub const fn is_fetch(self) -> bool {
        self.class() == 0x21
    }

    /// Whether the instruction is undefined.
    pub const fn is_undefined(self) -> bool {
        self.class() == 0
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.class() {
            0 => f.write_str("undefined instruction"),
            0x25 if self.0 & 0x3f == 0x10 => f.write_str("external abort"),
            class => write!(f, "exception of class {class:#x}, syndrome {:#x}", self.0),
        }
    }
}

/// What `vectors.S` pushes.
#[repr(C)]
pub struct Frame {
    pub(crate) x: [u64; 31],
    pub(crate) elr: u64,
    pub(crate) spsr: u64,
    pub(crate) esr: u64,
    pub(crate) far: u64,
    pub(crate) kind: u64,
}

unsafe extern "C" {
    /// In `vectors.S`: the first instruction that may fail.
    static probes_start: u8;
    /// In `vectors.S`: behind the last of them.
    static probes_end: u8;
}

/// An exception: skips a probe's instruction, goes back to a probe that has jumped out of the image,
/// ends the program for anything else.
pub extern "C" fn exception(frame: &mut Frame) {
    if expect::take(frame) {
        return;
    }
    let probes = (&raw const probes_start) as u64..(&raw const probes_end) as u64;
    // A synchronous exception on this level's own stack.
    let behind = match frame.kind {
        4 if probes.contains(&frame.elr) => Some(frame.elr + 4),
        4 if probes.contains(&frame.x[30]) && !machine().image.contains(frame.elr) => {
            Some(frame.x[30])
        }
        _ => None,
    };
    if let Some(behind) = behind {
        // A syndrome is never zero where class or length bit are set; be sure.
        frame.x[18] = frame.esr | 1 << 25;
        frame.elr = behind;
        return;
    }
    panic!(
        "exception {} at {:#x}: syndrome {:#x}, address {:#x}, x0 {:#x}, x30 {:#x}",
        frame.kind, frame.elr, frame.esr, frame.far, frame.x[0], frame.x[30]
    );
}
