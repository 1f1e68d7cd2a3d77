// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest's GPIO controller with a power button on one of its lines: the PL061 of ARM DDI 0190,
//! as on QEMU's `virt` machine.
//!
//! The button has no clock, so the duration of a press is not emulated. A press raises the line,
//! and the guest's first read of the raised line lowers it again. A guest that uses both edges and
//! reads the line after each sees a press and a release, whatever its debounce time is (5 ms in
//! Linux's gpio-keys). A guest that polls sees the line raised once. If the guest's driver is not
//! loaded yet, it finds the line raised later.

use postern_base::mmio::{Access, AccessSize};

/// The last of the 256 addresses of GPIODATA. Bits 9 to 2 of each address are a mask of lines.
const DATA_END: u64 = 0x3fc;
const DIR: u64 = 0x400;
const IS: u64 = 0x404;
const IBE: u64 = 0x408;
const IEV: u64 = 0x40c;
const IE: u64 = 0x410;
const RIS: u64 = 0x414;
const MIS: u64 = 0x418;
const IC: u64 = 0x41c;
const AFSEL: u64 = 0x420;
const PERIPH_ID0: u64 = 0xfe0;
const PCELL_ID3: u64 = 0xffc;

/// GPIOPeriphID0 to 3, then GPIOPCellID0 to 3: part 0x061 of ARM, revision 0, and PrimeCell.
const IDS: [u8; 8] = [0x61, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

/// The line of the power button, of lines 0 to 7.
pub const POWER_LINE: u32 = 3;
const POWER: u8 = 1 << POWER_LINE;

/// The state of a GPIO controller. After every call that takes `&mut self`, [`Pl061::irq_line`]
/// returns the new level of the interrupt line.
#[derive(Clone, Debug, Default)]
pub struct Pl061 {
    /// The levels of the lines that are driven from outside.
    inputs: u8,
    /// The levels that the guest wrote, which apply to the lines that it drives.
    data: u8,
    /// The lines that the guest drives.
    outputs: u8,
    /// The lines whose interrupts are level-sensitive. The others are edge-sensitive.
    level_sensitive: u8,
    both_edges: u8,
    /// The lines whose interrupts are triggered by a high level or a rising edge.
    event_high: u8,
    enabled: u8,
    /// The lines on which an edge was detected since it was last cleared.
    edges: u8,
    alternate: u8,
}

impl Pl061 {
    /// Returns the device after reset: the button is not pressed.
    pub const fn new() -> Self {
        Self {
            inputs: 0,
            data: 0,
            outputs: 0,
            level_sensitive: 0,
            both_edges: 0,
            event_high: 0,
            enabled: 0,
            edges: 0,
            alternate: 0,
        }
    }

    /// Returns the level of the combined interrupt, GPIOINTR.
    #[inline]
    pub const fn irq_line(&self) -> bool {
        self.raw_interrupts() & self.enabled != 0
    }

    /// Presses the power button. A guest that has not read the line since the last press gets
    /// another rising edge.
    pub const fn press(&mut self) {
        self.drive(self.inputs & !POWER);
        self.drive(self.inputs | POWER);
    }

    /// Does a guest's access, which is aligned. Returns the value read, or zero for a write.
    /// Registers have eight bits, and only an access to their first byte reaches them.
    pub fn access(&mut self, access: Access) -> u64 {
        match access.write {
            None => access.part_of(u32::from(self.read(access.register()))),
            Some(value) => {
                if access.offset == access.register() {
                    self.write(access.register(), AccessSize::Byte.truncate(value) as u8);
                }
                0
            }
        }
    }

    fn read(&mut self, register: u64) -> u8 {
        match register {
            0..=DATA_END => self.look(mask(register)),
            DIR => self.outputs,
            IS => self.level_sensitive,
            IBE => self.both_edges,
            IEV => self.event_high,
            IE => self.enabled,
            RIS => self.raw_interrupts(),
            MIS => self.raw_interrupts() & self.enabled,
            AFSEL => self.alternate,
            PERIPH_ID0..=PCELL_ID3 => IDS[((register - PERIPH_ID0) / 4) as usize],
            _ => 0,
        }
    }

    fn write(&mut self, register: u64, value: u8) {
        match register {
            0..=DATA_END => {
                let mask = mask(register);
                self.data = self.data & !mask | value & mask;
            }
            DIR => self.outputs = value,
            IS => self.level_sensitive = value,
            IBE => self.both_edges = value,
            IEV => self.event_high = value,
            IE => self.enabled = value,
            IC => self.edges &= !value,
            AFSEL => self.alternate = value,
            _ => {}
        }
    }

    /// Reads the lines of `mask`. A read that finds the button pressed releases it.
    const fn look(&mut self, mask: u8) -> u8 {
        let seen = self.levels() & mask;
        if seen & !self.outputs & POWER != 0 {
            self.drive(self.inputs & !POWER);
        }
        seen
    }

    /// Returns the levels of all lines, those that the guest drives and those driven from outside.
    const fn levels(&self) -> u8 {
        self.data & self.outputs | self.inputs & !self.outputs
    }

    const fn drive(&mut self, inputs: u8) {
        let changed = (inputs ^ self.inputs) & !self.outputs;
        let wanted = self.both_edges | !(inputs ^ self.event_high);
        self.edges |= changed & wanted & !self.level_sensitive;
        self.inputs = inputs;
    }

    /// Returns the recorded edges and the current levels. The level of a line that the guest drives
    /// raises no interrupt.
    const fn raw_interrupts(&self) -> u8 {
        let levels = !(self.levels() ^ self.event_high) & !self.outputs;
        self.edges & !self.level_sensitive | levels & self.level_sensitive
    }
}

/// Returns the lines that an access to GPIODATA at this offset selects.
const fn mask(register: u64) -> u8 {
    (register >> 2) as u8
}

#[cfg(test)]
mod tests;
