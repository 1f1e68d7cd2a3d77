// SPDX-License-Identifier: Apache-2.0 OR MIT
//! QEMU's `edu` device, a PCI function that accesses memory at any address (QEMU's docs/specs/edu.rst).
//!
//! A transfer is between memory and a buffer of 4 KiB in the device, and happens 100 ms after it was started.

use crate::pci::Function;
use crate::probe::{Width, load_device, store_device};
use crate::timer::Deadline;
use core::time::Duration;

/// Vendor and device.
const IDENTITY: u64 = 0x11e8_1234;
/// The device's registers: one that it keeps, inverted, those of its interrupt, and those of transfers.
const KEPT: u64 = 0x04;
const STATUS: u64 = 0x24;
const RAISE: u64 = 0x60;
const ACKNOWLEDGE: u64 = 0x64;
const SOURCE: u64 = 0x80;
const DESTINATION: u64 = 0x88;
const COUNT: u64 = 0x90;
const TRANSFER: u64 = 0x98;
/// Start, and from the device to memory.
const START: u64 = 1;
const TO_MEMORY: u64 = 2;
/// The buffer, as the device sees it.
const BUFFER: u64 = 0x4_0000;
/// The bytes of the buffer.
pub const BUFFER_BYTES: u64 = 4096;
/// The time that a transfer takes.
pub const TRANSFER_TIME: Duration = Duration::from_millis(100);
/// More than a transfer takes.
const PATIENCE: Duration = Duration::from_secs(5);

/// The device, with its registers mapped.
#[derive(Debug)]
pub struct Edu {
    registers: u64,
    intid: u32,
}

impl Edu {
    /// Finds the device on the root bus, and turns it on, with no interrupt of an earlier life.
    pub fn find() -> Option<Self> {
        let function = Function::find(IDENTITY)?;
        let edu = Self {
            registers: function.place(0),
            intid: function.intid()?,
        };
        function.enable_quietly();
        edu.acknowledge();
        function.enable();
        Some(edu)
    }

    /// Returns the INTID of its interrupt, which is level-sensitive.
    pub const fn intid(&self) -> u32 {
        self.intid
    }

    /// Has the device interrupt until it is acknowledged.
    pub fn raise(&self) {
        self.write(RAISE, Width::Word, 1);
    }

    /// Ends what the device interrupts for.
    pub fn acknowledge(&self) {
        let status = load_device(self.registers + STATUS, Width::Word).unwrap_or(0);
        self.write(ACKNOWLEDGE, Width::Word, status);
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
        self.begin_load(address, bytes);
        self.wait()
    }

    /// Has the device write its buffer to memory. Returns whether it has ended, whatever came of it.
    pub fn store(&self, address: u64, bytes: u64) -> bool {
        self.begin_store(address, bytes);
        self.wait()
    }

    /// Starts to read memory into its buffer.
    pub fn begin_load(&self, address: u64, bytes: u64) {
        self.begin(address, BUFFER, bytes, START);
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
