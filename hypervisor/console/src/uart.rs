// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The driver of the physical PL011 (ARM DDI 0183), which firmware has set up.
//!
//! The receive and the transmit interrupt come with a step of a FIFO's level through its trigger,
//! and only with the step (DDI 0183 2.8.2, 2.8.3). What stepped before anybody listened does not
//! do so again: [`Uart::listen`] reads what has come before, and whoever asks for
//! [`Uart::set_transmit_interrupt`] has filled the FIFO before.

/// The data register.
const DR: u16 = 0x00;
/// The flags.
const FR: u16 = 0x18;
/// The control register.
const CR: u16 = 0x30;
/// The FIFOs' trigger levels.
const IFLS: u16 = 0x34;
/// The interrupt mask: a set bit lets the interrupt through.
const IMSC: u16 = 0x38;
/// Clears interrupts.
const ICR: u16 = 0x44;

const FR_BUSY: u32 = 1 << 3;
const FR_RXFE: u32 = 1 << 4;
const FR_TXFF: u32 = 1 << 5;

/// UARTEN, TXE and RXE.
const CR_ENABLED: u32 = 1 | 1 << 8 | 1 << 9;
/// The receive FIFO's trigger is an eighth, so that input is seen early; the transmit FIFO's is a
/// half, so that the line does not run dry before the interrupt is taken.
const IFLS_RX_EIGHTH_TX_HALF: u32 = 0b00_0010;
const RX_AND_TIMEOUT: u32 = 1 << 4 | 1 << 6;
const TX: u32 = 1 << 5;
const ALL_INTERRUPTS: u32 = 0x7ff;

/// The most bytes that one visit reads: what the largest FIFO holds.
const MOST_AT_ONCE: usize = 32;

/// The most bytes that were received before anybody listened: more than a FIFO holds, for a line that
/// goes on receiving.
const MOST_BEFORE: usize = 1024;

/// A PL011's registers, by their offsets in bytes.
pub trait Registers {
    /// Reads a register.
    fn read(&self, offset: u16) -> u32;
    /// Writes a register.
    fn write(&self, offset: u16, value: u32);
}

/// The driver.
#[derive(Clone, Copy, Debug)]
pub struct Uart<R>(R);

impl<R: Registers> Uart<R> {
    /// Drives the device with these registers.
    pub const fn new(registers: R) -> Self {
        Self(registers)
    }

    /// Sends a byte if there is room now.
    #[inline]
    pub fn try_send(&self, byte: u8) -> bool {
        if self.0.read(FR) & FR_TXFF != 0 {
            return false;
        }
        self.0.write(DR, u32::from(byte));
        true
    }

    /// Whether bytes are in the FIFO or on the line.
    pub fn is_busy(&self) -> bool {
        self.0.read(FR) & FR_BUSY != 0
    }

    /// Asks for the receive interrupt, and gives `each` what was received before. Left in the FIFO,
    /// it would keep the level from the step that interrupts, for good.
    pub fn listen(&self, mut each: impl FnMut(u8)) {
        self.0.write(CR, self.0.read(CR) | CR_ENABLED);
        self.0.write(IFLS, IFLS_RX_EIGHTH_TX_HALF);
        // The transmit interrupt stays: its step may have been the last one.
        self.0.write(ICR, ALL_INTERRUPTS & !TX);
        self.0.write(IMSC, self.0.read(IMSC) & TX | RX_AND_TIMEOUT);
        for _ in 0..MOST_BEFORE {
            match self.receive() {
                Some(byte) => each(byte),
                None => break,
            }
        }
    }

    /// Gives `each` what was received, a FIFO's worth at most. With more, the interrupt stays
    /// asserted.
    ///
    /// The receive interrupts are not cleared but end with what they are for: the level falls
    /// below the trigger, and the timeout's FIFO runs empty. Clearing them here would lose
    /// the interrupt for what is left.
    pub fn drain(&self, mut each: impl FnMut(u8)) {
        for _ in 0..MOST_AT_ONCE {
            match self.receive() {
                Some(byte) => each(byte),
                None => break,
            }
        }
    }

    /// The oldest byte that was received, if there is one.
    fn receive(&self) -> Option<u8> {
        (self.0.read(FR) & FR_RXFE == 0).then(|| self.0.read(DR) as u8)
    }

    /// Sends a byte, waiting for room for so many looks at the device; false where there was none.
    pub fn send_within(&self, byte: u8, looks: u32) -> bool {
        (0..looks).any(|_| self.try_send(byte))
    }

    /// Lets the transmit interrupt through, or masks it. What is asserted or not is the device's: it
    /// comes with the step down through half a FIFO, so the caller has filled the FIFO before.
    pub fn set_transmit_interrupt(&self, on: bool) {
        let others = self.0.read(IMSC) & !TX;
        self.0.write(IMSC, if on { others | TX } else { others });
    }
}

#[cfg(test)]
pub(crate) mod model;
#[cfg(test)]
mod tests;
