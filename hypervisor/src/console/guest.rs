//! A guest's console: its PL011, and its channel on the physical UART.

use super::flow::Flow;
use super::mux;
use super::output;
use crate::devices::mmio::Access;
use crate::devices::pl011::{Pl011, TxSink};
use crate::lock::{Class, Lock};
use alloc::boxed::Box;

/// One guest's console.
pub struct Console {
    channel: mux::Channel,
    line: Box<Lock<Line>>,
}

/// The device, and whether the other end of the line waits to hear that it has room.
struct Line {
    device: Pl011,
    flow: Flow,
}

impl Line {
    /// Answers a question whose time has come. Under the lock, so that no byte of input is between the two.
    fn tell_room(&mut self, channel: mux::Channel) {
        if let Some(answer) = self.flow.answer(channel, self.device.input_room()) {
            output::send_flow(&answer);
        }
    }
}

/// The channel on the physical UART.
struct Channel(mux::Channel);

/// Where the machine's UART is slower than the guest, a byte stays in the guest's FIFO, whose flags and
/// interrupts tell the guest to wait.
impl TxSink for Channel {
    fn send(&mut self, byte: u8) -> bool {
        output::send_guest(self.0, byte)
    }
}

impl Console {
    /// A console on this channel.
    pub fn new(channel: mux::Channel) -> Self {
        Self {
            channel,
            line: Box::new(Lock::new(
                Class::Console,
                Line {
                    device: Pl011::new(),
                    flow: Flow::new(),
                },
            )),
        }
    }

    /// Its channel.
    pub const fn channel(&self) -> mux::Channel {
        self.channel
    }

    /// The guest's access to a register: what a read finds. `drive` is told the interrupt line's
    /// level under the device's lock, so that levels arrive in their order.
    pub fn access<R>(&self, access: Access, drive: impl FnOnce(bool) -> R) -> (u64, R) {
        let mut line = self.line.lock();
        if line.device.has_output() {
            // Who polls for room finds it without being told.
            line.device.pump(&mut Channel(self.channel));
        }
        let value = line.device.access(access, &mut Channel(self.channel));
        line.tell_room(self.channel);
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
        line.tell_room(self.channel);
    }

    /// There is room again on the machine's UART, which refused the guest's bytes before.
    pub fn go_on<R>(&self, drive: impl FnOnce(bool) -> R) -> R {
        let mut line = self.line.lock();
        line.device.pump(&mut Channel(self.channel));
        drive(line.device.irq_line())
    }

    /// As after power-on.
    pub fn reset(&self) {
        let mut line = self.line.lock();
        line.device.pump(&mut Channel(self.channel));
        line.device = Pl011::new();
        line.tell_room(self.channel);
    }
}
