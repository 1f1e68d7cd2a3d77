// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The UART of i.MX.

use super::line::{Device, Line};
use crate::Width;

pub struct Imx {
    line: Line,
    control: [u32; 4],
    levels: u32,
}

impl Imx {
    pub fn new() -> Self {
        Self {
            line: Line::new(32, 32),
            // Enabled, with interrupts that firmware has left, of causes that last.
            control: [
                1 | 1 << 5 | 1 << 6,
                1 << 14 | 1 << 3,
                0x700,
                1 | 1 << 3 | 1 << 15,
            ],
            levels: 0b101 << 7 | 1 << 6 | 16 << 10 | 16,
        }
    }
}

impl Device for Imx {
    fn line(&mut self) -> &mut Line {
        &mut self.line
    }

    fn asserted(&mut self) -> Vec<bool> {
        let [ucr1, ucr2, _, ucr4] = self.control;
        let (received, to_send) = (self.line.received.len(), self.line.to_send.len());
        vec![
            ucr1 >> 9 & 1 != 0 && received >= (self.levels & 0x3f) as usize,
            ucr1 >> 13 & 1 != 0 && to_send < (self.levels >> 10) as usize,
            // RTS has changed, the transmitter is empty, received bytes grow old, all was sent, a byte is there.
            ucr1 >> 5 & 1 != 0,
            ucr1 >> 6 & 1 != 0 && to_send == 0,
            ucr2 >> 3 & 1 != 0 && received > 0,
            ucr4 >> 3 & 1 != 0 && to_send == 0,
            ucr4 & 1 != 0 && received > 0,
        ]
    }

    fn arrive(&mut self, byte: u8) {
        if self.control[1] >> 1 & 1 != 0 {
            self.line.take(byte);
        } else {
            self.line.lost += 1;
        }
    }

    fn read(&mut self, offset: u16, width: Width) -> u32 {
        assert_eq!(width, Width::Word);
        let line = &mut self.line;
        match offset {
            0x00 => u32::from(!line.received.is_empty()) << 15 | line.pop(),
            0x80..=0x8c => self.control[usize::from(offset - 0x80) / 4],
            0x90 => self.levels,
            0x98 => u32::from(!line.received.is_empty()) | u32::from(line.to_send.is_empty()) << 3,
            0xb4 => {
                u32::from(line.to_send.len() == 32) << 4 | u32::from(line.received.is_empty()) << 5
            }
            other => panic!("the driver reads {other:#x}"),
        }
    }

    fn write(&mut self, offset: u16, width: Width, value: u32) {
        assert_eq!(width, Width::Word);
        match offset {
            0x40 => self.line.push(value as u8),
            0x80..=0x8c => {
                // The UART's own enable, the line's format and the multiplexer stay.
                let index = usize::from(offset - 0x80) / 4;
                let fixed = [1, 1 << 14, 0x700, 1 << 15][index];
                assert_eq!(value & fixed, fixed, "{offset:#x}");
                self.control[index] = value;
            }
            0x90 => {
                assert_eq!(
                    value >> 6 & 0xf,
                    0b1011,
                    "the clock's divider and the mode stay"
                );
                self.levels = value;
            }
            other => panic!("the driver writes {other:#x}"),
        }
    }
}
