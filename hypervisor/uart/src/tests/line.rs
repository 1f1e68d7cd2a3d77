// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the models of UARTs have in common: two FIFOs with a line between them and the world.

use crate::{Layout, Registers, Width};
use std::cell::RefCell;
use std::collections::VecDeque;

/// The FIFOs.
#[derive(Default)]
pub struct Line {
    pub receive_depth: usize,
    pub send_depth: usize,
    pub received: VecDeque<u8>,
    pub to_send: VecDeque<u8>,
    /// All bytes that have left.
    pub sent: Vec<u8>,
    /// The number of bytes that arrived at a full FIFO, or while the receiver was stopped.
    pub lost: usize,
}

impl Line {
    pub fn new(receive_depth: usize, send_depth: usize) -> Self {
        Self {
            receive_depth,
            send_depth,
            ..Self::default()
        }
    }

    /// A byte that the driver writes.
    pub fn push(&mut self, byte: u8) {
        assert!(
            self.to_send.len() < self.send_depth,
            "a byte was written without room"
        );
        self.to_send.push_back(byte);
    }

    /// The byte that the driver reads.
    pub fn pop(&mut self) -> u32 {
        self.received.pop_front().unwrap_or(0xee).into()
    }

    /// A byte arrives; false if it is lost.
    pub fn take(&mut self, byte: u8) -> bool {
        let fits = self.received.len() < self.receive_depth;
        if fits {
            self.received.push_back(byte);
        } else {
            self.lost += 1;
        }
        fits
    }
}

/// A UART as software sees it.
pub trait Device {
    fn line(&mut self) -> &mut Line;
    fn read(&mut self, offset: u16, width: Width) -> u32;
    fn write(&mut self, offset: u16, width: Width, value: u32);
    /// The levels of its interrupt sources.
    fn asserted(&mut self) -> Vec<bool>;
    /// A byte arrives.
    fn arrive(&mut self, byte: u8);
    /// The line is silent for a while.
    fn silence(&mut self) {}
    /// A byte has left.
    fn sent(&mut self) {}
    /// The line is disturbed: a break, or what is odd in this UART.
    fn disturb(&mut self) {}
    /// Whether its interrupt is a pulse at the beginning of a cause, instead of a level for as long as the cause lasts.
    fn pulses(&self) -> bool {
        false
    }
}

struct State {
    device: Box<dyn Device>,
    before: Vec<bool>,
    pending: bool,
}

/// A model, with the part of an interrupt controller that keeps pulses.
pub struct Model(RefCell<State>, Layout);

impl Model {
    pub fn new(device: Box<dyn Device>, layout: Layout) -> Self {
        let state = State {
            device,
            before: Vec::new(),
            pending: false,
        };
        Self(RefCell::new(state), layout)
    }

    fn with<T>(&self, act: impl FnOnce(&mut dyn Device) -> T) -> T {
        let state = &mut *self.0.borrow_mut();
        let result = act(&mut *state.device);
        let now = state.device.asserted();
        let before = state.before.iter().copied().chain(std::iter::repeat(false));
        state.pending |= now.iter().zip(before).any(|(now, before)| *now && !before);
        state.before = now;
        result
    }

    /// Whether the interrupt is to be taken; takes it if it is a pulse.
    pub fn interrupts(&self) -> bool {
        let level = self.with(|device| device.asserted().contains(&true));
        let state = &mut *self.0.borrow_mut();
        if state.device.pulses() {
            std::mem::take(&mut state.pending)
        } else {
            level
        }
    }

    pub fn arrive(&self, byte: u8) {
        self.with(|device| device.arrive(byte));
    }

    pub fn silence(&self) {
        self.with(|device| device.silence());
    }

    pub fn disturb(&self) {
        self.with(|device| device.disturb());
    }

    /// The line has sent a byte, if there was one.
    pub fn character_time(&self) {
        self.with(|device| {
            let line = device.line();
            if let Some(byte) = line.to_send.pop_front() {
                line.sent.push(byte);
                device.sent();
            }
        });
    }

    pub fn line<T>(&self, look: impl FnOnce(&Line) -> T) -> T {
        self.with(|device| look(device.line()))
    }
}

impl Registers for &Model {
    fn layout(&self) -> Layout {
        self.1
    }

    fn read(&self, offset: u16, width: Width) -> u32 {
        self.with(|device| device.read(offset, width))
    }

    fn write(&self, offset: u16, width: Width, value: u32) {
        self.with(|device| device.write(offset, width, value));
    }
}
