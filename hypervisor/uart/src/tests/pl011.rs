// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A PL011: with the interrupts of the part, or with those of QEMU's model.

use super::line::{Device, Line};
use crate::Width;

const RX: u32 = 1 << 4;
const TX: u32 = 1 << 5;
const RX_TIMEOUT: u32 = 1 << 6;

/// Whose interrupts it has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// DDI 0183: the receive interrupt at the trigger level, a timeout for what stays below it, and a transmit FIFO that
    /// drains at the line's speed. With FIFOs of so many bytes; 1 is "FIFOs disabled".
    Part(usize),
    /// DEN0029: as a part with 32 bytes whose triggers are fixed.
    Sbsa,
    /// QEMU 10's `hw/char/pl011.c`: the receive interrupt comes with the first byte in an empty FIFO, there is no
    /// timeout, and the transmit FIFO never has anything in it.
    Qemu,
}

pub struct Pl011 {
    kind: Kind,
    line: Line,
    raw: u32,
    mask: u32,
    control: u32,
    levels: u32,
}

impl Pl011 {
    pub fn new(kind: Kind) -> Self {
        let depth = match kind {
            Kind::Part(depth) => depth,
            Kind::Sbsa => 32,
            Kind::Qemu => 16,
        };
        Self {
            kind,
            line: Line::new(depth, depth),
            raw: 0,
            mask: 0,
            control: 0,
            levels: 0x12,
        }
    }

    fn trigger(&self, select: u32, without: usize) -> usize {
        let depth = self.line.receive_depth;
        if self.kind == Kind::Qemu || depth == 1 {
            without
        } else {
            depth * [1, 2, 4, 6, 7][(select & 7).min(4) as usize] / 8
        }
    }

    fn receive_trigger(&self) -> usize {
        self.trigger(self.levels >> 3, 1)
    }

    fn send_trigger(&self) -> usize {
        self.trigger(self.levels, 0)
    }
}

impl Device for Pl011 {
    fn line(&mut self) -> &mut Line {
        &mut self.line
    }

    fn asserted(&mut self) -> Vec<bool> {
        vec![self.raw & self.mask != 0]
    }

    fn arrive(&mut self, byte: u8) {
        // The step, and nothing but the step.
        if self.line.take(byte) && self.line.received.len() == self.receive_trigger() {
            self.raw |= RX;
        }
    }

    fn silence(&mut self) {
        if self.kind != Kind::Qemu && !self.line.received.is_empty() {
            self.raw |= RX_TIMEOUT;
        }
    }

    fn sent(&mut self) {
        if self.line.to_send.len() == self.send_trigger() {
            self.raw |= TX;
        }
    }

    fn read(&mut self, offset: u16, width: Width) -> u32 {
        assert_eq!(width, Width::Word);
        match offset {
            0x00 => {
                let byte = self.line.pop();
                if self.line.received.len() < self.receive_trigger() {
                    self.raw &= !RX;
                }
                if self.line.received.is_empty() {
                    self.raw &= !RX_TIMEOUT;
                }
                byte
            }
            0x18 => {
                let line = &self.line;
                u32::from(!line.to_send.is_empty()) << 3
                    | u32::from(line.received.is_empty()) << 4
                    | u32::from(line.to_send.len() == line.send_depth) << 5
            }
            0x30 if self.kind != Kind::Sbsa => self.control,
            0x38 => self.mask,
            other => panic!("the driver reads {other:#x}"),
        }
    }

    fn write(&mut self, offset: u16, width: Width, value: u32) {
        assert_eq!(width, Width::Word);
        match offset {
            0x00 if self.kind == Kind::Qemu => {
                self.line.sent.push(value as u8);
                self.raw |= TX;
            }
            0x00 => {
                self.line.push(value as u8);
                if self.line.to_send.len() > self.send_trigger() {
                    self.raw &= !TX;
                }
            }
            0x30 if self.kind != Kind::Sbsa => self.control = value,
            0x34 if self.kind != Kind::Sbsa => self.levels = value,
            0x38 => {
                assert_eq!(value & !(RX | RX_TIMEOUT | TX), 0, "nothing handles these");
                self.mask = value;
            }
            0x44 => self.raw &= !value,
            other => panic!("the driver writes {other:#x}"),
        }
    }
}
