// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A model of a PL011 as software sees it, with the interrupts of the real device or of QEMU's
//! model.

use super::{Layout, Registers, Width};
use std::cell::RefCell;
use std::collections::VecDeque;

const DR: u16 = 0x00;
const FR: u16 = 0x18;
const CR: u16 = 0x30;
const IFLS: u16 = 0x34;
const IMSC: u16 = 0x38;
const ICR: u16 = 0x44;

const FR_BUSY: u32 = 1 << 3;
const FR_RXFE: u32 = 1 << 4;
const FR_TXFF: u32 = 1 << 5;

const RX: u32 = 1 << 4;
const TX: u32 = 1 << 5;
const RX_TIMEOUT: u32 = 1 << 6;
const RX_AND_TIMEOUT: u32 = RX | RX_TIMEOUT;
const ALL_INTERRUPTS: u32 = 0x7ff;

/// The device whose interrupts the model has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// DDI 0183: the receive interrupt at the trigger level, a timeout for bytes that stay below
    /// it, and a transmit FIFO that drains at the speed of the line. The FIFOs have this size in
    /// bytes; 1 means "FIFOs disabled".
    Part(usize),
    /// QEMU 10's `hw/char/pl011.c`: the first byte in an empty FIFO raises the receive interrupt,
    /// there is no timeout, and the transmit FIFO is always empty.
    Qemu,
}

/// The device and the bytes on its line.
pub struct Model {
    kind: Kind,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    received: VecDeque<u8>,
    to_send: VecDeque<u8>,
    sent: Vec<u8>,
    lost: usize,
    raw: u32,
    mask: u32,
    control: u32,
    levels: u32,
}

impl Model {
    pub fn new(kind: Kind) -> Self {
        let state = State {
            levels: 0x12,
            ..State::default()
        };
        Self {
            kind,
            state: RefCell::new(state),
        }
    }

    fn depth(&self) -> usize {
        match self.kind {
            Kind::Part(depth) => depth,
            Kind::Qemu => 16,
        }
    }

    fn eighths(&self, select: u32) -> usize {
        let eighths = [1, 2, 4, 6, 7][(select & 7).min(4) as usize];
        self.depth() * eighths / 8
    }

    fn receive_trigger(&self, state: &State) -> usize {
        match self.kind {
            Kind::Part(depth) if depth > 1 => self.eighths(state.levels >> 3),
            Kind::Part(_) | Kind::Qemu => 1,
        }
    }

    fn transmit_trigger(&self, state: &State) -> usize {
        match self.kind {
            Kind::Part(depth) if depth > 1 => self.eighths(state.levels),
            Kind::Part(_) | Kind::Qemu => 0,
        }
    }

    /// Receives a byte from the line.
    pub fn arrive(&self, byte: u8) {
        let state = &mut *self.state.borrow_mut();
        if state.received.len() == self.depth() {
            state.lost += 1;
            return;
        }
        state.received.push_back(byte);
        // Only the step raises the interrupt.
        if state.received.len() == self.receive_trigger(state) {
            state.raw |= RX;
        }
    }

    /// Lets the line be silent for the time of 32 bits.
    pub fn silence(&self) {
        let state = &mut *self.state.borrow_mut();
        if self.kind != Kind::Qemu && !state.received.is_empty() {
            state.raw |= RX_TIMEOUT;
        }
    }

    /// Lets the line send one byte, if there is one.
    pub fn character_time(&self) {
        let state = &mut *self.state.borrow_mut();
        if let Some(byte) = state.to_send.pop_front() {
            state.sent.push(byte);
            if state.to_send.len() == self.transmit_trigger(state) {
                state.raw |= TX;
            }
        }
    }

    /// Returns the level of the interrupt line.
    pub fn interrupts(&self) -> bool {
        let state = self.state.borrow();
        state.raw & state.mask != 0
    }

    /// Returns all bytes that were sent on the line.
    pub fn sent(&self) -> Vec<u8> {
        self.state.borrow().sent.clone()
    }

    /// Returns the number of bytes that were sent on the line.
    pub fn sent_count(&self) -> usize {
        self.state.borrow().sent.len()
    }

    /// Returns the number of bytes that were written to, or arrived at, a full FIFO.
    pub fn lost(&self) -> usize {
        self.state.borrow().lost
    }
}

impl Registers for &Model {
    fn layout(&self) -> Layout {
        postern_uart::find(["arm,pl011"].into_iter()).unwrap()
    }

    fn read(&self, offset: u16, width: Width) -> u32 {
        assert_eq!(width, Width::Word);
        let state = &mut *self.state.borrow_mut();
        match offset {
            DR => {
                let byte = state.received.pop_front().unwrap_or(0);
                if state.received.len() < self.receive_trigger(state) {
                    state.raw &= !RX;
                }
                if state.received.is_empty() {
                    state.raw &= !RX_TIMEOUT;
                }
                u32::from(byte)
            }
            FR => {
                let mut flags = 0;
                if !state.to_send.is_empty() {
                    flags |= FR_BUSY;
                }
                if state.received.is_empty() {
                    flags |= FR_RXFE;
                }
                if state.to_send.len() == self.depth() {
                    flags |= FR_TXFF;
                }
                flags
            }
            CR => state.control,
            IMSC => state.mask,
            other => panic!("the driver reads {other:#x}"),
        }
    }

    fn write(&self, offset: u16, width: Width, value: u32) {
        assert_eq!(width, Width::Word);
        let state = &mut *self.state.borrow_mut();
        match offset {
            DR if self.kind == Kind::Qemu => {
                state.sent.push(value as u8);
                state.raw |= TX;
            }
            DR => {
                if state.to_send.len() == self.depth() {
                    state.lost += 1;
                } else {
                    state.to_send.push_back(value as u8);
                }
                if state.to_send.len() > self.transmit_trigger(state) {
                    state.raw &= !TX;
                }
            }
            CR => state.control = value,
            IFLS => state.levels = value,
            IMSC => {
                assert_eq!(value & !(RX_AND_TIMEOUT | TX), 0, "these have no handler");
                state.mask = value;
            }
            ICR => state.raw &= !(value & ALL_INTERRUPTS),
            other => panic!("the driver writes {other:#x}"),
        }
    }
}
