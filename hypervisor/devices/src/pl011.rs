// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest's UART: the PL011 of ARM DDI 0183, revision r1p5.
//!
//! It differs from the physical device in three ways, each harmless to a driver:
//! - It has no clock: it sends a byte as soon as the console has room, and a receive timeout
//!   expires at once.
//! - It transmits and receives whether CR enables that or not, because no firmware has enabled it
//!   for a guest's first messages.
//! - A long queue follows its receive FIFO, so that pasted input is not lost while the guest is
//!   busy.

use postern_base::mmio::{Access, AccessSize};
use postern_base::ring::Ring;

const DR: u64 = 0x000;
const RSR_ECR: u64 = 0x004;
const FR: u64 = 0x018;
const ILPR: u64 = 0x020;
const IBRD: u64 = 0x024;
const FBRD: u64 = 0x028;
const LCR_H: u64 = 0x02c;
const CR: u64 = 0x030;
const IFLS: u64 = 0x034;
const IMSC: u64 = 0x038;
const RIS: u64 = 0x03c;
const MIS: u64 = 0x040;
const ICR: u64 = 0x044;
const DMACR: u64 = 0x048;
const PERIPH_ID0: u64 = 0xfe0;
const PCELL_ID3: u64 = 0xffc;

/// UARTPeriphID0 to 3, then UARTPCellID0 to 3: part 0x011 of ARM, revision 3, and PrimeCell.
const IDS: [u32; 8] = [0x11, 0x10, 0x34, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

/// The size of each FIFO in bytes: 32 from revision r1p5 on, which drivers detect by the
/// peripheral ID.
const FIFO_DEPTH: usize = 32;
/// The number of bytes of input that can wait, including those in the FIFO.
pub const INPUT_QUEUE: usize = 4096;

/// The modem status flags that are always set: CTS, DSR and DCD, so no driver waits for a modem.
const FR_CTS_DSR_DCD: u32 = 0b111;
const FR_BUSY: u32 = 1 << 3;
const FR_RXFE: u32 = 1 << 4;
const FR_TXFF: u32 = 1 << 5;
const FR_RXFF: u32 = 1 << 6;
const FR_TXFE: u32 = 1 << 7;

const LCR_H_FEN: u32 = 1 << 4;
const CR_LBE: u32 = 1 << 7;

const INT_RX: u32 = 1 << 4;
const INT_TX: u32 = 1 << 5;
const INT_RX_TIMEOUT: u32 = 1 << 6;
const INT_OVERRUN: u32 = 1 << 10;
/// The eleven interrupt bits of IMSC, RIS, MIS and ICR.
const INTERRUPTS: u32 = 0x7ff;

/// Bit 11 of DR: bytes were lost before this one. Bit 3 of RSR has the same meaning.
const DR_OVERRUN: u32 = 1 << 11;
const RSR_OVERRUN: u32 = 1 << 3;

/// The destination of the bytes that a guest sends.
pub trait TxSink {
    /// Takes a byte. Returns false if there is no room for it now.
    #[must_use]
    fn send(&mut self, byte: u8) -> bool;
}

impl<const N: usize> TxSink for Ring<N> {
    fn send(&mut self, byte: u8) -> bool {
        self.push(byte)
    }
}

/// The state of a UART. After every call that takes `&mut self`, [`Pl011::irq_line`] returns the
/// new level of the interrupt line.
#[derive(Clone, Debug)]
pub struct Pl011 {
    input: Ring<INPUT_QUEUE>,
    /// The number of bytes in `input`, from the oldest on, that are in the receive FIFO.
    received: usize,
    output: Ring<FIFO_DEPTH>,
    /// Whether input was lost since the last byte that the guest read. The next byte reports it.
    overrun: bool,
    receive_status: u32,
    low_power_divisor: u32,
    integer_divisor: u32,
    fractional_divisor: u32,
    line_control: u32,
    control: u32,
    fifo_levels: u32,
    interrupt_mask: u32,
    raw_interrupts: u32,
    dma_control: u32,
}

impl Pl011 {
    /// Returns the device after reset.
    pub const fn new() -> Self {
        Self {
            input: Ring::new(),
            received: 0,
            output: Ring::new(),
            overrun: false,
            receive_status: 0,
            low_power_divisor: 0,
            integer_divisor: 0,
            fractional_divisor: 0,
            line_control: 0,
            control: 0x300,
            fifo_levels: 0x12,
            interrupt_mask: 0,
            raw_interrupts: 0,
            dma_control: 0,
        }
    }

    /// Returns the level of the combined interrupt, UARTINTR.
    #[inline]
    pub const fn irq_line(&self) -> bool {
        self.raw_interrupts & self.interrupt_mask != 0
    }

    /// Returns whether bytes wait for which the sink had no room. The caller calls [`Pl011::pump`]
    /// when the sink has room.
    #[inline]
    pub const fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Returns whether input waits for the guest.
    #[inline]
    pub const fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Returns the number of bytes that [`Pl011::receive`] takes before it loses any.
    #[inline]
    pub const fn input_room(&self) -> usize {
        self.input.room()
    }

    /// Moves waiting bytes into the sink, as far as it has room.
    pub fn pump(&mut self, sink: &mut impl TxSink) {
        let before = self.output.len();
        while let Some(byte) = self.output.peek() {
            if !sink.send(byte) {
                break;
            }
            let _ = self.output.pop();
        }
        if before > self.output.len() && self.output.len() <= self.transmit_trigger() {
            self.raw_interrupts |= INT_TX;
        }
    }

    /// Receives a byte from the line. Returns false if the byte is lost because the guest does not
    /// read its input.
    pub fn receive(&mut self, byte: u8) -> bool {
        let fits = self.input.push(byte);
        if fits {
            self.fill();
        } else {
            self.overrun = true;
            self.receive_status |= RSR_OVERRUN;
            self.raw_interrupts |= INT_OVERRUN;
        }
        fits
    }

    /// Does a guest's access, which is aligned. Returns the value read, or zero for a write. A
    /// 64-bit access reaches only the first register.
    pub fn access(&mut self, access: Access, sink: &mut impl TxSink) -> u64 {
        match access.write {
            None => access.part_of(self.read(access.register())),
            Some(value) => {
                // A write that does not begin at a register's first byte has no effect.
                if access.offset == access.register() {
                    let value = AccessSize::Word.truncate(value) as u32;
                    self.write(access.register(), value, sink);
                }
                0
            }
        }
    }

    fn read(&mut self, register: u64) -> u32 {
        match register {
            DR => self.take(),
            RSR_ECR => self.receive_status,
            FR => self.flags(),
            ILPR => self.low_power_divisor,
            IBRD => self.integer_divisor,
            FBRD => self.fractional_divisor,
            LCR_H => self.line_control,
            CR => self.control,
            IFLS => self.fifo_levels,
            IMSC => self.interrupt_mask,
            RIS => self.raw_interrupts,
            MIS => self.raw_interrupts & self.interrupt_mask,
            DMACR => self.dma_control,
            PERIPH_ID0..=PCELL_ID3 => IDS[((register - PERIPH_ID0) / 4) as usize],
            _ => 0,
        }
    }

    fn write(&mut self, register: u64, value: u32, sink: &mut impl TxSink) {
        match register {
            DR => self.transmit(value as u8, sink),
            RSR_ECR => self.receive_status = 0,
            ILPR => self.low_power_divisor = value & 0xff,
            IBRD => self.integer_divisor = value & 0xffff,
            FBRD => self.fractional_divisor = value & 0x3f,
            LCR_H => {
                self.line_control = value & 0xff;
                // Bytes that no longer fit into the FIFO wait in the queue.
                self.received = self.received.min(self.depth());
                self.fill();
            }
            CR => self.control = value & 0xff87,
            IFLS => self.fifo_levels = value & 0x3f,
            IMSC => self.interrupt_mask = value & INTERRUPTS,
            ICR => self.raw_interrupts &= !value,
            DMACR => self.dma_control = value & 7,
            _ => {}
        }
    }

    fn flags(&self) -> u32 {
        let mut flags = FR_CTS_DSR_DCD;
        if self.output.is_empty() {
            flags |= FR_TXFE;
        } else {
            flags |= FR_BUSY;
        }
        if self.output.len() >= self.depth() {
            flags |= FR_TXFF;
        }
        if self.received == 0 {
            flags |= FR_RXFE;
        }
        if self.received >= self.depth() {
            flags |= FR_RXFF;
        }
        flags
    }

    fn transmit(&mut self, byte: u8, sink: &mut impl TxSink) {
        if self.control & CR_LBE != 0 {
            self.receive(byte);
            self.raw_interrupts |= INT_TX;
            return;
        }
        // A byte for a full FIFO is lost, as in the physical device.
        if self.output.len() < self.depth() {
            let _ = self.output.push(byte);
        }
        if self.output.len() > self.transmit_trigger() {
            self.raw_interrupts &= !INT_TX;
        }
        self.pump(sink);
    }

    /// Reads a byte from the receive FIFO, with its errors.
    fn take(&mut self) -> u32 {
        if self.received == 0 {
            return 0;
        }
        let mut data = u32::from(self.input.pop().unwrap_or(0));
        self.received -= 1;
        if self.overrun {
            self.overrun = false;
            data |= DR_OVERRUN;
        } else {
            self.receive_status &= !RSR_OVERRUN;
        }
        self.fill();
        if self.received < self.receive_trigger() {
            self.raw_interrupts &= !INT_RX;
        }
        if self.received == 0 {
            self.raw_interrupts &= !INT_RX_TIMEOUT;
        }
        data
    }

    /// Moves waiting input into the FIFO. For the guest, it arrives now.
    fn fill(&mut self) {
        let level = self.input.len().min(self.depth());
        if level > self.received {
            self.received = level;
            self.raw_interrupts |= INT_RX_TIMEOUT;
            if level >= self.receive_trigger() {
                self.raw_interrupts |= INT_RX;
            }
        }
    }

    const fn fifos_enabled(&self) -> bool {
        self.line_control & LCR_H_FEN != 0
    }

    /// Returns the number of bytes that a FIFO holds: one, the holding register, if FIFOs are
    /// disabled.
    const fn depth(&self) -> usize {
        if self.fifos_enabled() { FIFO_DEPTH } else { 1 }
    }

    /// Returns the number of bytes from which the receive interrupt is raised.
    const fn receive_trigger(&self) -> usize {
        if self.fifos_enabled() {
            eighths(self.fifo_levels >> 3)
        } else {
            1
        }
    }

    /// Returns the number of bytes at or below which the transmit interrupt is raised.
    const fn transmit_trigger(&self) -> usize {
        if self.fifos_enabled() {
            eighths(self.fifo_levels)
        } else {
            0
        }
    }
}

/// Returns a trigger level of IFLS in bytes: 1/8, 1/4, 1/2, 3/4 or 7/8 of the FIFO. The reserved
/// values mean 7/8.
const fn eighths(select: u32) -> usize {
    FIFO_DEPTH / 8
        * match select & 7 {
            0 => 1,
            1 => 2,
            2 => 4,
            3 => 6,
            _ => 7,
        }
}

#[cfg(test)]
mod tests;
