// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The UART of Amlogic's SoCs: its interrupt is a pulse.

use super::line::{Device, Line};
use crate::Width;

pub struct Meson {
    line: Line,
    control: u32,
    levels: u32,
}

impl Meson {
    pub fn new() -> Self {
        Self {
            line: Line::new(64, 64),
            // Eight bits; the baud rate is elsewhere.
            control: 1 << 15,
            levels: 32 << 8 | 15 | 1 << 16,
        }
    }
}

impl Device for Meson {
    fn line(&mut self) -> &mut Line {
        &mut self.line
    }

    fn pulses(&self) -> bool {
        true
    }

    fn asserted(&mut self) -> Vec<bool> {
        let (receive, send) = (self.levels & 0xff, self.levels >> 8 & 0xff);
        vec![
            self.control >> 27 & 1 != 0 && self.line.received.len() >= receive as usize,
            self.control >> 28 & 1 != 0 && self.line.to_send.len() < send as usize,
        ]
    }

    fn arrive(&mut self, byte: u8) {
        if self.control >> 13 & 1 == 0 {
            self.line.lost += 1;
        } else {
            self.line.take(byte);
        }
    }

    fn read(&mut self, offset: u16, width: Width) -> u32 {
        assert_eq!(width, Width::Word);
        let line = &mut self.line;
        match offset {
            0x04 => line.pop(),
            0x08 => self.control,
            0x0c => {
                u32::from(line.received.is_empty()) << 20
                    | u32::from(line.to_send.len() == 64) << 21
                    | u32::from(line.to_send.is_empty()) << 22
                    | u32::from(!line.to_send.is_empty()) << 25
            }
            0x10 => self.levels,
            other => panic!("the driver reads {other:#x}"),
        }
    }

    fn write(&mut self, offset: u16, width: Width, value: u32) {
        assert_eq!(width, Width::Word);
        match offset {
            0x00 => self.line.push(value as u8),
            0x08 => {
                assert_eq!(value & 1 << 15, 1 << 15, "the format stays");
                self.control = value;
            }
            0x10 => {
                assert_eq!(value >> 16, 1);
                self.levels = value;
            }
            other => panic!("the driver writes {other:#x}"),
        }
    }
}
