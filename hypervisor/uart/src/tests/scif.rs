// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Renesas' SCIF: a flag is cleared by a zero if it was read as one, and comes back if its cause lasts.

use super::line::{Device, Line};
use crate::Width;

const ERROR: u32 = 1 << 7;
const DONE: u32 = 1 << 6;
const TX: u32 = 1 << 5;
const BREAK: u32 = 1 << 4;
const RX: u32 = 1 << 1;
const REST: u32 = 1 << 0;

pub struct Scif {
    shift: u8,
    line: Line,
    control: u32,
    fifo_control: u32,
    flags: u32,
    /// The flags that were ones when they were read.
    seen: u32,
    overrun: u32,
    seen_overrun: u32,
}

impl Scif {
    pub fn new(shift: u8, depth: usize) -> Self {
        Self {
            shift,
            line: Line::new(depth, depth),
            // The clock is external.
            control: 2,
            fifo_control: 0x80,
            flags: DONE | TX,
            seen: 0,
            overrun: 0,
            seen_overrun: 0,
        }
    }

    /// The levels that the FIFOs' control chooses, in bytes.
    fn triggers(&self) -> (usize, usize) {
        let depth = self.line.receive_depth;
        let receive = [1, depth / 4, depth / 2, depth - 2][(self.fifo_control >> 6 & 3) as usize];
        let send = [depth / 2, depth / 4, 2, 0][(self.fifo_control >> 4 & 3) as usize];
        (receive, send)
    }

    fn update(&mut self) {
        let (receive, send) = self.triggers();
        if self.line.received.len() >= receive {
            self.flags |= RX;
        }
        if self.line.to_send.len() <= send {
            self.flags |= TX;
        }
    }
}

impl Device for Scif {
    fn line(&mut self) -> &mut Line {
        &mut self.line
    }

    fn asserted(&mut self) -> Vec<bool> {
        self.update();
        let receives = self.control >> 6 & 1 != 0;
        vec![
            self.control >> 7 & 1 != 0 && self.flags & TX != 0,
            receives && self.flags & (RX | REST) != 0,
            receives && (self.flags & (ERROR | BREAK) != 0 || self.overrun != 0),
        ]
    }

    fn arrive(&mut self, byte: u8) {
        if self.control >> 4 & 1 == 0 || self.overrun != 0 {
            self.line.lost += 1;
        } else if !self.line.take(byte) {
            self.overrun = 1;
        }
    }

    fn silence(&mut self) {
        let (receive, _) = self.triggers();
        if (1..receive).contains(&self.line.received.len()) {
            self.flags |= REST;
        }
    }

    fn sent(&mut self) {
        if self.line.to_send.is_empty() {
            self.flags |= DONE;
        }
    }

    fn disturb(&mut self) {
        self.flags |= ERROR | BREAK;
    }

    fn read(&mut self, offset: u16, width: Width) -> u32 {
        let register = offset >> self.shift;
        assert_eq!(register << self.shift, offset);
        let byte = register == 5;
        assert_eq!(width, if byte { Width::Byte } else { Width::Half });
        self.update();
        match register {
            2 => self.control,
            4 => {
                self.seen = self.flags;
                self.flags
            }
            5 => self.line.pop(),
            6 => self.fifo_control,
            7 => (self.line.to_send.len() << 8 | self.line.received.len()) as u32,
            9 => {
                self.seen_overrun = self.overrun;
                self.overrun
            }
            other => panic!("the driver reads register {other}"),
        }
    }

    fn write(&mut self, offset: u16, width: Width, value: u32) {
        let register = offset >> self.shift;
        assert_eq!(register << self.shift, offset);
        let byte = register == 3;
        assert_eq!(width, if byte { Width::Byte } else { Width::Half });
        match register {
            2 => {
                assert_eq!(value & 3, 2, "the clock stays");
                self.control = value;
            }
            3 => self.line.push(value as u8),
            4 => self.flags &= value | !self.seen,
            6 => {
                assert_eq!(value & 6, 0, "FIFOs keep what they have");
                self.fifo_control = value;
            }
            9 => self.overrun &= value | !self.seen_overrun,
            other => panic!("the driver writes register {other}"),
        }
    }
}
