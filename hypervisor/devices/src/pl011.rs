// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest's UART: the PL011 of ARM DDI 0183, revision r1p5.
//!
//! It differs from the part on a board in three ways, each harmless to a driver. It has no
//! clock: a byte is sent as soon as the console has room, and a receive timeout is over at once.
//! It transmits and receives whether CR enables that or not, because no firmware has enabled it
//! for a guest's first messages. And behind its receive FIFO stands a long queue, so that a paste
//! is not lost while the guest is busy.

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

/// Bytes in each FIFO; 32 from revision r1p5 on, which drivers tell from the peripheral ID.
const FIFO_DEPTH: usize = 32;
/// Bytes of input that can wait, those in the FIFO included.
pub const INPUT_QUEUE: usize = 4096;

/// The carrier is there and the other side is ready to receive: nobody waits for a modem.
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
/// The eleven interrupts that IMSC, RIS, MIS and ICR have bits for.
const INTERRUPTS: u32 = 0x7ff;

/// Bit 11 of DR: bytes were lost before this one. Bit 3 of RSR says the same.
const DR_OVERRUN: u32 = 1 << 11;
const RSR_OVERRUN: u32 = 1 << 3;

/// Where the bytes go that a guest sends.
pub trait TxSink {
    /// Takes a byte, or answers false where there is no room for it now.
    #[must_use]
    fn send(&mut self, byte: u8) -> bool;
}

impl<const N: usize> TxSink for Ring<N> {
    fn send(&mut self, byte: u8) -> bool {
        self.push(byte)
    }
}

/// The device's state. After every call that takes `&mut self`, [`Pl011::irq_line`] tells what
/// the interrupt line is.
#[derive(Clone, Debug)]
pub struct Pl011 {
    input: Ring<INPUT_QUEUE>,
    /// How many of the bytes in `input`, from the oldest on, are in the receive FIFO.
    received: usize,
    output: Ring<FIFO_DEPTH>,
    /// Input was lost, which the next byte that is read tells.
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
    /// The device after reset.
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

    /// The level of the combined interrupt, UARTINTR.
    #[inline]
    pub const fn irq_line(&self) -> bool {
        self.raw_interrupts & self.interrupt_mask != 0
    }

    /// Whether bytes wait that the sink had no room for: then [`Pl011::pump`] is to be called
    /// when it has.
    #[inline]
    pub const fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Whether input waits for the guest.
    #[inline]
    pub const fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// The number of bytes that [`Pl011::receive`] takes before it loses any.
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

    /// A byte arrives on the line; false where it is lost because the guest does not read.
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

    /// A guest's access; what a read finds, zero for a write. The access is aligned. Of a 64-bit
    /// access only the first register is touched.
    pub fn access(&mut self, access: Access, sink: &mut impl TxSink) -> u64 {
        match access.write {
            None => access.part_of(self.read(access.register())),
            Some(value) => {
                // Registers are written whole: a byte behind the first has nowhere to go.
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
                // What no longer fits into the FIFO waits behind it.
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
        // A byte for a full FIFO is lost, as the part loses it.
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

    /// Moves waiting input into the FIFO: to the guest, it arrives now.
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

    /// Bytes that a FIFO holds: one, the holding register, where FIFOs are disabled.
    const fn depth(&self) -> usize {
        if self.fifos_enabled() { FIFO_DEPTH } else { 1 }
    }

    /// The receive interrupt comes at this many bytes or more.
    const fn receive_trigger(&self) -> usize {
        if self.fifos_enabled() {
            eighths(self.fifo_levels >> 3)
        } else {
            1
        }
    }

    /// The transmit interrupt comes at this many bytes or fewer.
    const fn transmit_trigger(&self) -> usize {
        if self.fifos_enabled() {
            eighths(self.fifo_levels)
        } else {
            0
        }
    }
}

/// A trigger level of IFLS in bytes: 1/8, 1/4, 1/2, 3/4 or 7/8 of the FIFO; the reserved values
/// count as the last.
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
