// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The configuration space of functions on the root bus (PCIe 5.0, 7.2.2 and 7.5.1).

use crate::machine::{PciHost, machine};
use crate::probe::{Width, load_device, store_device};

/// The offsets of configuration registers.
const IDENTITY: u64 = 0x00;
const COMMAND: u64 = 0x04;
const BARS: u64 = 0x10;
const CAPABILITIES: u64 = 0x34;
/// Command: Memory Space, Bus Master, Interrupt Disable.
const MEMORY: u64 = 1 << 1;
const BUS_MASTER: u64 = 1 << 2;
const INTERRUPT_DISABLE: u64 = 1 << 10;
/// The most bytes of a device's registers: each device has its own part of the window.
const PART: u64 = 1 << 20;
/// The most capabilities.
const MAX_CAPABILITIES: usize = 48;

/// A function.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    config: u64,
    device: u64,
    host: &'static PciHost,
}

impl Function {
    /// Finds the function 0 with that identity: vendor, and device in the upper half.
    pub fn find(identity: u64) -> Option<Self> {
        let host = machine().pci.as_ref()?;
        let function = |device: u64| Self {
            config: host.config + (device << 15),
            device,
            host,
        };
        let mut functions = (0..32).map(function);
        functions.find(|function| function.read(IDENTITY, Width::Word) == identity)
    }

    /// Reads a configuration register; ones where there is none.
    pub fn read(&self, register: u64, width: Width) -> u64 {
        load_device(self.config + register, width).unwrap_or(u64::MAX)
    }

    /// Writes a configuration register.
    pub fn write(&self, register: u64, value: u64) {
        // The space takes every write.
        let _ = store_device(self.config + register, Width::Word, value);
    }

    /// Places the registers behind a BAR, 1 MiB at most, and returns their address. A BAR of 64 bits has its upper half
    /// at zero after a reset.
    pub fn place(&self, bar: u64) -> u64 {
        let address = self.host.window.start + self.device * PART;
        self.write(BARS + 4 * bar, address);
        address
    }

    /// Lets the function answer, but neither access memory nor interrupt.
    pub fn enable_quietly(&self) {
        self.write(COMMAND, MEMORY | INTERRUPT_DISABLE);
    }

    /// Lets the function answer, access memory and interrupt.
    pub fn enable(&self) {
        self.write(COMMAND, MEMORY | BUS_MASTER);
    }

    /// Returns the INTID of INTA.
    pub fn intid(&self) -> Option<u32> {
        self.host.inta(self.device)
    }

    /// Returns the offsets of all capabilities with an ID.
    pub fn capabilities(&self, id: u64) -> impl Iterator<Item = u64> {
        let function = *self;
        let mut next = self.read(CAPABILITIES, Width::Byte);
        let all = core::iter::from_fn(move || {
            let offset = next & 0xfc;
            next = function.read(offset + 1, Width::Byte);
            (offset >= 0x40).then_some(offset)
        });
        all.take(MAX_CAPABILITIES)
            .filter(move |offset| function.read(*offset, Width::Byte) == id)
    }
}
