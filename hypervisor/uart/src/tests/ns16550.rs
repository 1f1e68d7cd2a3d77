// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The 8250 with FIFOs, and what Synopsys and Broadcom made of it.

use super::line::{Device, Line};
use crate::Width;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// With or without FIFOs that work.
    Plain { fifos: bool },
    /// With the interrupts of a DW_apb_uart that a driver of the plain part does not expect.
    DesignWare,
    /// With a transmitter that is "empty" when it has room, and FIFOs of 8 bytes that always claim to be on.
    Aux,
}

pub struct Ns16550 {
    kind: Kind,
    shift: u8,
    width: Width,
    line: Line,
    enables: u32,
    modem: u32,
    /// The transmitter became empty, and nothing has looked since.
    empty: bool,
    timeout: bool,
    /// The line control was written while the line was busy.
    busy: bool,
}

impl Ns16550 {
    pub fn new(kind: Kind, shift: u8, width: Width) -> Self {
        let depth = match kind {
            Kind::Plain { fifos: false } => 1,
            Kind::Plain { fifos: true } | Kind::DesignWare => 16,
            Kind::Aux => 8,
        };
        Self {
            kind,
            shift,
            width,
            line: Line::new(depth, depth),
            enables: 0,
            modem: 0,
            empty: true,
            timeout: false,
            busy: kind == Kind::DesignWare,
        }
    }

    fn has_room(&self) -> bool {
        match self.kind {
            Kind::Aux => self.line.to_send.len() < self.line.send_depth,
            _ => self.line.to_send.is_empty(),
        }
    }
}

impl Device for Ns16550 {
    fn line(&mut self) -> &mut Line {
        &mut self.line
    }

    fn asserted(&mut self) -> Vec<bool> {
        let empty = if self.kind == Kind::Aux {
            self.line.to_send.is_empty()
        } else {
            self.empty
        };
        vec![
            self.enables & 1 != 0 && (!self.line.received.is_empty() || self.timeout),
            self.enables & 2 != 0 && empty,
            self.enables != 0 && self.busy,
        ]
    }

    fn arrive(&mut self, byte: u8) {
        self.line.take(byte);
    }

    fn silence(&mut self) {
        self.timeout |= !self.line.received.is_empty();
    }

    fn sent(&mut self) {
        self.empty |= self.line.to_send.is_empty();
    }

    /// The timeout of a byte that was read already, and the interrupt of a write of the line control.
    fn disturb(&mut self) {
        if self.kind == Kind::DesignWare {
            self.timeout = true;
            self.busy = true;
        }
    }

    fn read(&mut self, offset: u16, width: Width) -> u32 {
        assert_eq!(width, self.width);
        match offset >> self.shift {
            0 => {
                self.timeout = false;
                self.line.pop()
            }
            1 => self.enables,
            2 => {
                let fifos = match self.kind {
                    Kind::Plain { fifos: false } => 0,
                    _ => 0xc0,
                };
                let source = match self.asserted()[..] {
                    [_, _, true] => 0x7,
                    [true, ..] if self.timeout => 0xc,
                    [true, ..] => 0x4,
                    [_, true, _] => {
                        self.empty = false;
                        0x2
                    }
                    _ => 0x1,
                };
                fifos | source
            }
            4 => self.modem,
            5 => {
                u32::from(!self.line.received.is_empty())
                    | u32::from(self.has_room()) << 5
                    | u32::from(self.line.to_send.is_empty()) << 6
            }
            0x1f if self.kind == Kind::DesignWare => {
                self.busy = false;
                0x6
            }
            other => panic!("the driver reads register {other:#x}"),
        }
    }

    fn write(&mut self, offset: u16, width: Width, value: u32) {
        assert_eq!(width, self.width);
        match offset >> self.shift {
            0 => {
                self.line.push(value as u8);
                self.empty = false;
            }
            1 => {
                assert_eq!(value & !3, 0, "nothing handles these");
                let enabled = value & !self.enables & 2 != 0;
                self.empty |= enabled && self.line.to_send.is_empty();
                self.enables = value;
            }
            2 => assert_eq!(value, 1, "FIFOs are on and keep what they have"),
            4 => self.modem = value,
            0x1f if self.kind == Kind::DesignWare => {}
            other => panic!("the driver writes register {other:#x}"),
        }
    }
}
