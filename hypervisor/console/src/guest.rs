// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest's console: its PL011 and its channel on the physical UART.

use super::flow::{ANSWER_BYTES, FlowState};
use super::mux::Channel;
use alloc::boxed::Box;
use postern_base::lock::{Class, Lock};
use postern_base::mmio::Access;
use postern_devices::pl011::{Pl011, TxSink};

/// The path to the physical UART.
pub trait ConsoleLink {
    /// Sends a guest's byte on its channel. Returns false if the byte has to wait until
    /// [`GuestConsole::resume_output`].
    fn send(&self, channel: Channel, byte: u8) -> bool;

    /// Sends an answer of flow control about a channel. Returns false if
    /// [`GuestConsole::resume_output`] has to send it again.
    fn tell(&self, about: Channel, answer: &[u8; ANSWER_BYTES]) -> bool;
}

/// One guest's console.
pub struct GuestConsole<O> {
    channel: Channel,
    line: Box<Lock<ConsoleDevice>>,
    outside: O,
}

/// The device and its flow-control state.
struct ConsoleDevice {
    device: Pl011,
    flow: FlowState,
    /// The level that the interrupt line has at the interrupt controller.
    driven: bool,
}

impl ConsoleDevice {
    /// Drives the interrupt line if its level has changed. Under the lock, so that levels arrive in
    /// order.
    #[inline]
    fn drive_change<R>(&mut self, drive: impl FnOnce(bool) -> R) -> Option<R> {
        let level = self.device.irq_line();
        let is_changed = level != self.driven;
        self.driven = level;
        is_changed.then(|| drive(level))
    }

    /// Answers a pending question if there is enough room. The caller holds the lock, so no byte of
    /// input arrives between the measurement and the answer.
    fn tell_room(&mut self, channel: Channel, outside: &impl ConsoleLink) {
        if let Some(answer) = self.flow.answer(channel, self.device.input_room())
            && outside.tell(channel, &answer)
        {
            self.flow.told();
        }
    }
}

/// A transmit sink that sends to a channel of the physical UART.
struct ChannelSink<'a, O>(Channel, &'a O);

/// While the machine's UART is slower than the guest, a byte stays in the guest's FIFO, whose flags
/// and interrupts make the guest wait.
impl<O: ConsoleLink> TxSink for ChannelSink<'_, O> {
    fn send(&mut self, byte: u8) -> bool {
        self.1.send(self.0, byte)
    }
}

impl<O: ConsoleLink> GuestConsole<O> {
    /// Creates a console on this channel.
    pub fn new(channel: Channel, outside: O) -> Self {
        Self {
            channel,
            line: Box::new(Lock::new(
                Class::Console,
                ConsoleDevice {
                    device: Pl011::new(),
                    flow: FlowState::new(),
                    driven: false,
                },
            )),
            outside,
        }
    }

    /// Returns the console's channel.
    pub const fn channel(&self) -> Channel {
        self.channel
    }

    const fn sink(&self) -> ChannelSink<'_, O> {
        ChannelSink(self.channel, &self.outside)
    }

    /// Performs the guest's access to a register and returns the value of a read. If the level of
    /// the interrupt line changes, calls `drive` with it, and returns its result.
    pub fn access<R>(&self, access: Access, drive: impl FnOnce(bool) -> R) -> (u64, Option<R>) {
        let mut line = self.line.lock();
        if line.device.has_output() {
            // A guest that polls for room finds it without a notification.
            line.device.pump(&mut self.sink());
        }
        let value = line.device.access(access, &mut self.sink());
        line.tell_room(self.channel, &self.outside);
        (value, line.drive_change(drive))
    }

    /// Receives a byte for the guest. The byte is lost if the guest's input queue is full. Calls
    /// `drive` as [`Self::access`] does.
    pub fn receive<R>(&self, byte: u8, drive: impl FnOnce(bool) -> R) -> Option<R> {
        let mut line = self.line.lock();
        let _ = line.device.receive(byte);
        line.drive_change(drive)
    }

    /// Records that the other end of the UART asks how much input has room. Answers now, or as soon
    /// as there is enough room.
    pub fn tell_room(&self) {
        let mut line = self.line.lock();
        line.flow.ask();
        line.tell_room(self.channel, &self.outside);
    }

    /// Resumes output and answers after the machine's UART refused them, because it has room again.
    /// Calls `drive` as [`Self::access`] does.
    pub fn resume_output<R>(&self, drive: impl FnOnce(bool) -> R) -> Option<R> {
        let mut line = self.line.lock();
        line.device.pump(&mut self.sink());
        line.tell_room(self.channel, &self.outside);
        line.drive_change(drive)
    }

    /// Resets the device to its state after power-on. The interrupt line is low then, and the caller
    /// resets the interrupt controller afterwards.
    pub fn reset(&self) {
        let mut line = self.line.lock();
        line.device.pump(&mut self.sink());
        line.device = Pl011::new();
        line.driven = false;
        line.tell_room(self.channel, &self.outside);
    }
}

#[cfg(test)]
mod tests;
