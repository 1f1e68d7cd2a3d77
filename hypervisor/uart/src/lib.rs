// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine's UART, which firmware has set up: the driver never sets a baud rate or a line format.
//!
//! UARTs differ in where their flags are and in what ends an interrupt, and hardly in what a console does with them. So
//! there is one driver, and a table for each model (`tables.rs`).
//!
//! A transmit interrupt may come with the step of a FIFO's level down through its trigger, and only with the step, as
//! on a PL011 (DDI 0183 2.8.2). So the caller fills the FIFO before [`Uart::set_transmit_interrupt`]. Likewise
//! [`Uart::listen`] reads what has arrived before, which would keep the level from the step that interrupts.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod compatible;
mod tables;

#[cfg(test)]
mod tests;

pub use compatible::{COMPATIBLE, Layout, Model, find};

use tables::{Condition, Reg, Step, Table};

/// The most bytes that [`Uart::listen`] reads: more than a FIFO holds, for a line that keeps receiving.
const MOST_BEFORE: usize = 1024;
/// The bytes that an 8250 with FIFOs takes when its transmitter is empty.
const BURST: usize = 16;

/// The width of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Half,
    /// 32 bits.
    Word,
}

/// A UART's registers, by their offsets in bytes.
pub trait Registers {
    /// Returns the model, and how its registers are laid out.
    fn layout(&self) -> Layout;
    /// Reads a register.
    fn read(&self, offset: u16, width: Width) -> u32;
    /// Writes a register.
    fn write(&self, offset: u16, width: Width, value: u32);
}

/// The driver.
#[derive(Clone, Copy, Debug)]
pub struct Uart<R> {
    registers: R,
    table: &'static Table,
    layout: Layout,
}

// Small rather than fast, and not inlined into what uses it: a byte takes 87 µs on the line.
impl<R: Registers> Uart<R> {
    /// Creates the driver of the UART with these registers.
    pub fn new(registers: R) -> Self {
        let layout = registers.layout();
        Self {
            registers,
            table: layout.model.table(),
            layout,
        }
    }

    /// Returns the number of bytes that [`Uart::send`] may write now.
    #[inline(never)]
    pub fn room(&self) -> usize {
        if !self.holds(&self.table.has_room) {
            return 0;
        }
        match &self.table.takes_burst {
            Some(condition) if self.holds(condition) => BURST,
            _ => 1,
        }
    }

    /// Writes a byte, for which there is [room](Uart::room).
    #[inline(never)]
    pub fn send(&self, byte: u8) {
        self.write(self.table.send, byte.into());
        self.apply(self.table.after_send);
    }

    /// Sends a byte if there is room now.
    pub fn try_send(&self, byte: u8) -> bool {
        let fits = self.room() > 0;
        if fits {
            self.send(byte);
        }
        fits
    }

    /// Sends a byte, waiting for room for `looks` reads of the flags; returns false if there was none.
    #[inline(never)]
    pub fn send_within(&self, byte: u8, looks: u32) -> bool {
        (0..looks).any(|_| self.try_send(byte))
    }

    /// Whether bytes are in the FIFO or on the line.
    #[inline(never)]
    pub fn is_busy(&self) -> bool {
        !self.holds(&self.table.is_idle)
    }

    /// Enables the receive interrupt, and gives `each` what was received before. The transmit interrupt stays as it is.
    pub fn listen(&self, mut each: impl FnMut(u8)) {
        self.apply(self.table.listen);
        self.receive(MOST_BEFORE, &mut each);
    }

    /// Gives `each` what was received, at most one FIFO's content, and acknowledges the interrupt. If more is there, the
    /// interrupt stays asserted.
    pub fn drain(&self, mut each: impl FnMut(u8)) {
        self.apply(self.table.before_drain);
        if let Some(spurious) = &self.table.is_spurious
            && self.holds(spurious)
            && !self.holds(&self.table.has_received)
        {
            let _ = self.read(self.table.receive);
        }
        self.receive(self.table.depth.into(), &mut each);
    }

    /// Enables or disables the transmit interrupt.
    #[inline(never)]
    pub fn set_transmit_interrupt(&self, on: bool) {
        self.apply(if on {
            self.table.transmit_on
        } else {
            self.table.transmit_off
        });
    }

    #[inline(never)]
    fn receive(&self, most: usize, each: &mut dyn FnMut(u8)) {
        for _ in 0..most {
            if !self.holds(&self.table.has_received) {
                break;
            }
            each(self.read(self.table.receive) as u8);
        }
        self.apply(self.table.after_drain);
    }

    #[inline(never)]
    fn holds(&self, condition: &Condition) -> bool {
        let found = self.read(condition.register) & condition.mask;
        (found == condition.value) == condition.equal
    }

    #[inline(never)]
    fn apply(&self, steps: &[Step]) {
        for step in steps {
            // Only what is kept is read: reading may change a device.
            let kept = match step.keep {
                0 => 0,
                keep => self.read(step.register) & keep,
            };
            self.write(step.register, kept | step.set);
        }
    }

    #[inline(never)]
    fn read(&self, register: Reg) -> u32 {
        self.registers
            .read(self.offset(register), self.width(register))
    }

    #[inline(never)]
    fn write(&self, register: Reg, value: u32) {
        let (offset, width) = (self.offset(register), self.width(register));
        self.registers.write(offset, width, value);
    }

    const fn offset(&self, register: Reg) -> u16 {
        register.number() << self.layout.shift
    }

    const fn width(&self, register: Reg) -> Width {
        if register.is_byte() {
            Width::Byte
        } else {
            self.layout.width
        }
    }
}
