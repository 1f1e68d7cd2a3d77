// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The low-power UART: after an overrun it receives nothing until the flag is cleared.

use super::line::{Device, Line};
use crate::Width;

const OVERRUN: u32 = 1 << 19;
/// Break, noise, framing and parity: these do not stop the receiver.
const DISTURBED: u32 = 1 << 31 | 0x7 << 16;
const KEPT: u32 = DISTURBED | OVERRUN | 1 << 30 | 1 << 20;

pub struct Lpuart {
    line: Line,
    kept: u32,
    control: u32,
}

impl Lpuart {
    pub fn new() -> Self {
        Self {
            line: Line::new(16, 1),
            kept: 1 << 20,
            // With interrupts of an overrun and of silence.
            control: 1 << 27 | 1 << 20 | 1 << 4,
        }
    }

    fn flags(&self) -> u32 {
        let empty = u32::from(self.line.to_send.is_empty());
        let received = u32::from(!self.line.received.is_empty());
        // The transmitter takes the next byte when it has begun with the one before.
        self.kept | empty << 23 | empty << 22 | received << 21 | 1 << 29
    }
}

impl Device for Lpuart {
    fn line(&mut self) -> &mut Line {
        &mut self.line
    }

    fn asserted(&mut self) -> Vec<bool> {
        let both = self.flags() & self.control;
        vec![
            both & 1 << 23 != 0,
            both & 1 << 21 != 0,
            both & 1 << 20 != 0,
            self.control >> 27 & 1 != 0 && self.kept & OVERRUN != 0,
        ]
    }

    fn arrive(&mut self, byte: u8) {
        if self.control >> 18 & 1 == 0 || self.kept & OVERRUN != 0 {
            self.line.lost += 1;
        } else if !self.line.take(byte) {
            self.kept |= OVERRUN;
        }
    }

    fn silence(&mut self) {
        self.kept |= 1 << 20;
    }

    fn disturb(&mut self) {
        self.kept |= DISTURBED;
    }

    fn read(&mut self, offset: u16, width: Width) -> u32 {
        assert_eq!(width, Width::Word);
        match offset {
            0x14 => self.flags(),
            0x18 => self.control,
            0x1c => self.line.pop(),
            other => panic!("the driver reads {other:#x}"),
        }
    }

    fn write(&mut self, offset: u16, width: Width, value: u32) {
        assert_eq!(width, Width::Word);
        match offset {
            0x14 => {
                assert_eq!(value >> 25 & 0x1f, 1 << 4, "the configuration stays");
                self.kept &= !(value & KEPT);
            }
            0x18 => {
                assert_eq!(value & 1 << 4, 1 << 4, "the format stays");
                self.control = value;
            }
            0x1c => self.line.push(value as u8),
            other => panic!("the driver writes {other:#x}"),
        }
    }
}
