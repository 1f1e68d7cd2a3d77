// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Cadence's UART: the interrupt status keeps what has been, until it is cleared and is no more.

use super::line::{Device, Line};
use crate::Width;

pub struct Cadence {
    line: Line,
    control: u32,
    mask: u32,
    status: u32,
    level: usize,
}

impl Cadence {
    pub fn new() -> Self {
        Self {
            line: Line::new(64, 64),
            // Disabled, with other interrupts enabled, as firmware may leave it.
            control: 1 << 3 | 1 << 5,
            mask: 1 << 5 | 1 << 6 | 1 << 8,
            status: 0,
            level: 32,
        }
    }

    fn flags(&self) -> u32 {
        let (received, to_send) = (&self.line.received, &self.line.to_send);
        u32::from(received.len() >= self.level)
            | u32::from(received.is_empty()) << 1
            | u32::from(received.len() == 64) << 2
            | u32::from(to_send.is_empty()) << 3
            | u32::from(to_send.len() == 64) << 4
            | u32::from(!to_send.is_empty()) << 11
    }

    fn is_enabled(&self, shift: u32) -> bool {
        self.control >> shift & 3 == 1
    }
}

impl Device for Cadence {
    fn line(&mut self) -> &mut Line {
        &mut self.line
    }

    fn asserted(&mut self) -> Vec<bool> {
        self.status |= self.flags() & 0x1f;
        vec![self.status & self.mask != 0]
    }

    fn arrive(&mut self, byte: u8) {
        if !self.is_enabled(2) {
            self.line.lost += 1;
        } else if !self.line.take(byte) {
            self.status |= 1 << 5;
        }
    }

    fn silence(&mut self) {
        if !self.line.received.is_empty() {
            self.status |= 1 << 8;
        }
    }

    /// A framing error.
    fn disturb(&mut self) {
        self.status |= 1 << 6;
    }

    fn read(&mut self, offset: u16, width: Width) -> u32 {
        assert_eq!(width, Width::Word);
        match offset {
            0x00 => self.control,
            0x2c => self.flags(),
            0x30 => self.line.pop(),
            other => panic!("the driver reads {other:#x}"),
        }
    }

    fn write(&mut self, offset: u16, width: Width, value: u32) {
        assert_eq!(width, Width::Word);
        match offset {
            0x00 => self.control = value,
            0x08 => self.mask |= value,
            0x0c => self.mask &= !value,
            0x14 => self.status &= !value,
            0x20 => self.level = value as usize,
            0x30 => self.line.push(value as u8),
            other => panic!("the driver writes {other:#x}"),
        }
    }
}
