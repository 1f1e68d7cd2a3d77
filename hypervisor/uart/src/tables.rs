// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The form of a UART's table, and the tables.

pub mod cadence;
pub mod imx;
pub mod lpuart;
pub mod meson;
pub mod ns16550;
pub mod pl011;
pub mod scif;

/// A register, by its number: with a shift of 0 its offset in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reg(u16);

impl Reg {
    const BYTE: u16 = 1 << 15;

    /// A register of the layout's width.
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// A register of 8 bits, whatever the layout's width.
    pub const fn byte(number: u16) -> Self {
        Self(number | Self::BYTE)
    }

    /// Its number.
    pub const fn number(self) -> u16 {
        self.0 & !Self::BYTE
    }

    /// Whether it has 8 bits whatever the layout's width.
    pub const fn is_byte(self) -> bool {
        self.0 & Self::BYTE != 0
    }
}

/// What fields of a register say.
#[derive(Clone, Copy, Debug)]
pub struct Condition {
    /// The register.
    pub register: Reg,
    /// The fields.
    pub mask: u32,
    /// What they are compared with.
    pub value: u32,
    /// Whether the condition holds if they are equal, or if they are not.
    pub equal: bool,
}

impl Condition {
    /// All these bits are set.
    pub const fn set(register: Reg, bits: u32) -> Self {
        Self::is(register, bits, bits)
    }

    /// All these bits are clear.
    pub const fn clear(register: Reg, bits: u32) -> Self {
        Self::is(register, bits, 0)
    }

    /// The fields of `mask` have this value.
    pub const fn is(register: Reg, mask: u32, value: u32) -> Self {
        Self {
            register,
            mask,
            value,
            equal: true,
        }
    }

    /// The fields of `mask` have another value.
    pub const fn is_not(register: Reg, mask: u32, value: u32) -> Self {
        Self {
            equal: false,
            ..Self::is(register, mask, value)
        }
    }
}

/// A write of a register. If bits are kept, it is read before.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The register.
    pub register: Reg,
    /// The bits that keep their values.
    pub keep: u32,
    /// The bits that are set; those that are neither kept nor set are written as zeros.
    pub set: u32,
}

impl Step {
    /// Writes the register without reading it.
    pub const fn write(register: Reg, set: u32) -> Self {
        Self {
            register,
            keep: 0,
            set,
        }
    }

    /// Sets bits and clears others.
    pub const fn change(register: Reg, clear: u32, set: u32) -> Self {
        Self {
            register,
            keep: !clear & !set,
            set,
        }
    }
}

/// A model of a UART.
#[derive(Debug)]
pub struct Table {
    /// The register that a byte to send is written to.
    pub send: Reg,
    /// The register that a received byte is read from.
    pub receive: Reg,
    /// The last register of those below.
    pub last: Reg,
    /// The most bytes that the receive FIFO holds.
    pub depth: u8,
    /// A byte may be written.
    pub has_room: Condition,
    /// If a byte may be written, sixteen may.
    pub takes_burst: Option<Condition>,
    /// A byte may be read.
    pub has_received: Condition,
    /// All bytes have left on the line.
    pub is_idle: Condition,
    /// An interrupt is asserted that ends with a read of the receive register, although there may be no byte.
    pub is_spurious: Option<Condition>,
    /// Enables the receive interrupt, and keeps the transmit interrupt.
    pub listen: &'static [Step],
    /// Acknowledges the interrupt before bytes are read.
    pub before_drain: &'static [Step],
    /// Acknowledges the interrupt after bytes were read.
    pub after_drain: &'static [Step],
    /// Follows each byte that is written.
    pub after_send: &'static [Step],
    /// Enables the transmit interrupt.
    pub transmit_on: &'static [Step],
    /// Disables the transmit interrupt.
    pub transmit_off: &'static [Step],
}
