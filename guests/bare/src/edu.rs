// SPDX-License-Identifier: Apache-2.0 OR MIT
//! QEMU's `edu` device, a PCI function that accesses memory at any address (QEMU's docs/specs/edu.rst).
//!
//! A transfer is between memory and a buffer of 4 KiB in the device, and happens 100 ms after it was started.

use crate::machine::{Range, machine};
use crate::probe::{Width, load_device, store_device};
use crate::timer::Deadline;
use core::time::Duration;

/// Vendor and device.
const IDENTITY: u64 = 0x11e8_1234;
/// The offsets of configuration registers.
const COMMAND: u64 = 0x04;
const BAR0: u64 = 0x10;
/// Memory Space and Bus Master.
const ON: u64 = 0b110;
/// The device's registers: one that it keeps, inverted, and those of transfers.
const KEPT: u64 = 0x04;
const SOURCE: u64 = 0x80;
const DESTINATION: u64 = 0x88;
const COUNT: u64 = 0x90;
const TRANSFER: u64 = 0x98;
/// Start, and from the device to memory.
const START: u64 = 1;
const TO_MEMORY: u64 = 2;
/// The buffer, as the device sees it.
const BUFFER: u64 = 0x4_0000;
/// More than a transfer takes.
const PATIENCE: Duration = Duration::from_secs(5);

/// The device, with its registers mapped.
#[derive(Debug)]
pub struct Edu {
    registers: u64,
}

impl Edu {
    /// Finds the device on the root bus, and turns it on.
    pub fn find() -> Option<Self> {
        let (ecam, window) = machine().pci?;
        let mut functions = (0..32).map(|device| ecam + (device << 15));
        let config = functions.find(|config| load_device(*config, Width::Word) == Ok(IDENTITY))?;
        let Range { start, .. } = window;
        store_device(config + BAR0, Width::Word, start).ok()?;
        store_device(config + COMMAND, Width::Word, ON).ok()?;
        Some(Self { registers: start })
    }

    /// Returns what [`Edu::keep`] has stored, also in an earlier life.
    pub fn kept(&self) -> u32 {
        !(load_device(self.registers + KEPT, Width::Word).unwrap_or(0) as u32)
    }

    /// Has the device store a value.
    pub fn keep(&self, value: u32) {
        self.write(KEPT, Width::Word, value.into());
    }

    /// Has the device read memory into its buffer. Returns whether it has ended, whatever came of it.
    pub fn load(&self, address: u64, bytes: u64) -> bool {
        self.begin(address, BUFFER, bytes, START);
        self.wait()
    }

    /// Has the device write its buffer to memory. Returns whether it has ended, whatever came of it.
    pub fn store(&self, address: u64, bytes: u64) -> bool {
        self.begin_store(address, bytes);
        self.wait()
    }

    /// Starts to write its buffer to memory.
    pub fn begin_store(&self, address: u64, bytes: u64) {
        self.begin(BUFFER, address, bytes, START | TO_MEMORY);
    }

    fn begin(&self, source: u64, destination: u64, bytes: u64, transfer: u64) {
        self.write(SOURCE, Width::Double, source);
        self.write(DESTINATION, Width::Double, destination);
        self.write(COUNT, Width::Double, bytes);
        self.write(TRANSFER, Width::Double, transfer);
    }

    fn wait(&self) -> bool {
        Deadline::after(PATIENCE).wait(|| {
            let transfer = load_device(self.registers + TRANSFER, Width::Double);
            transfer.is_ok_and(|transfer| transfer & START == 0)
        })
    }

    fn write(&self, register: u64, width: Width, value: u64) {
        // A window that is mapped takes it.
        let _ = store_device(self.registers + register, width, value);
    }
}
