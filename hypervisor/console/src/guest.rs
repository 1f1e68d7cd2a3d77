// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest's console: its PL011, and its channel on the physical UART.

use super::flow::{ANSWER_BYTES, FlowState};
use super::mux::Channel;
use alloc::boxed::Box;
use postern_base::lock::{Class, Lock};
use postern_base::mmio::Access;
use postern_devices::pl011::{Pl011, TxSink};

/// The way to the physical UART.
pub trait ConsoleLink {
    /// Sends a guest's byte on its channel; false where it is to wait until [`GuestConsole::resume_output`].
    fn send(&self, channel: Channel, byte: u8) -> bool;

    /// Sends an answer of the flow control's about a channel; false where it is to come again in
    /// [`GuestConsole::resume_output`].
    fn tell(&self, about: Channel, answer: &[u8; ANSWER_BYTES]) -> bool;
}

/// One guest's console.
pub struct GuestConsole<O> {
    channel: Channel,
    line: Box<Lock<ConsoleDevice>>,
    outside: O,
}

/// The device, and whether the other end of the line waits to hear that it has room.
struct ConsoleDevice {
    device: Pl011,
    flow: FlowState,
}

impl ConsoleDevice {
    /// Answers a question whose time has come. Under the lock, so that no byte of input is between the two.
    fn tell_room(&mut self, channel: Channel, outside: &impl ConsoleLink) {
        if let Some(answer) = self.flow.answer(channel, self.device.input_room())
            && outside.tell(channel, &answer)
        {
            self.flow.told();
        }
    }
}

/// The channel on the physical UART.
struct ChannelSink<'a, O>(Channel, &'a O);

/// Where the machine's UART is slower than the guest, a byte stays in the guest's FIFO, whose flags and
/// interrupts tell the guest to wait.
impl<O: ConsoleLink> TxSink for ChannelSink<'_, O> {
    fn send(&mut self, byte: u8) -> bool {
        self.1.send(self.0, byte)
    }
}

impl<O: ConsoleLink> GuestConsole<O> {
    /// A console on this channel.
    pub fn new(channel: Channel, outside: O) -> Self {
        Self {
            channel,
            line: Box::new(Lock::new(
                Class::Console,
                ConsoleDevice {
                    device: Pl011::new(),
                    flow: FlowState::new(),
                },
            )),
            outside,
        }
    }

    /// Its channel.
    pub const fn channel(&self) -> Channel {
        self.channel
    }

    const fn sink(&self) -> ChannelSink<'_, O> {
        ChannelSink(self.channel, &self.outside)
    }

    /// The guest's access to a register: what a read finds. `drive` is told the interrupt line's
    /// level under the device's lock, so that levels arrive in their order.
    pub fn access<R>(&self, access: Access, drive: impl FnOnce(bool) -> R) -> (u64, R) {
        let mut line = self.line.lock();
        if line.device.has_output() {
            // Who polls for room finds it without being told.
            line.device.pump(&mut self.sink());
        }
        let value = line.device.access(access, &mut self.sink());
        line.tell_room(self.channel, &self.outside);
        (value, drive(line.device.irq_line()))
    }

    /// A byte arrives for the guest. It is lost where the guest has not read thousands before it.
    pub fn receive<R>(&self, byte: u8, drive: impl FnOnce(bool) -> R) -> R {
        let mut line = self.line.lock();
        let _ = line.device.receive(byte);
        drive(line.device.irq_line())
    }

    /// The other end of the UART asks how much input has room: it is told now, or as soon as it is worth it.
    pub fn tell_room(&self) {
        let mut line = self.line.lock();
        line.flow.ask();
        line.tell_room(self.channel, &self.outside);
    }

    /// There is room again on the machine's UART, which refused the guest's bytes before, or an answer.
    pub fn resume_output<R>(&self, drive: impl FnOnce(bool) -> R) -> R {
        let mut line = self.line.lock();
        line.device.pump(&mut self.sink());
        line.tell_room(self.channel, &self.outside);
        drive(line.device.irq_line())
    }

    /// As after power-on.
    pub fn reset(&self) {
        let mut line = self.line.lock();
        line.device.pump(&mut self.sink());
        line.device = Pl011::new();
        line.tell_room(self.channel, &self.outside);
    }
}

#[cfg(test)]
mod tests;
