//! A guest's console: its PL011, and its channel on the physical UART.

use super::mux;
use super::output;
use crate::devices::mmio::Access;
use crate::devices::pl011::{Pl011, TxSink};
use alloc::boxed::Box;
use spin::mutex::SpinMutex;

/// One guest's console.
pub struct Console {
    channel: mux::Channel,
    device: Box<SpinMutex<Pl011>>,
}

/// The channel on the physical UART.
struct Channel(mux::Channel);

impl TxSink for Channel {
    fn send(&mut self, byte: u8) -> bool {
        output::send(self.0, &[byte]);
        true
    }
}

impl Console {
    /// A console on this channel.
    pub fn new(channel: mux::Channel) -> Self {
        Self {
            channel,
            device: Box::new(SpinMutex::new(Pl011::new())),
        }
    }

    /// Its channel.
    pub const fn channel(&self) -> mux::Channel {
        self.channel
    }

    /// The guest's access to a register: what a read finds. `drive` is told the interrupt line's
    /// level under the device's lock, so that levels arrive in their order.
    pub fn access<R>(&self, access: Access, drive: impl FnOnce(bool) -> R) -> (u64, R) {
        let mut device = self.device.lock();
        let value = device.access(access, &mut Channel(self.channel));
        let level = device.irq_line();
        (value, drive(level))
    }

    /// A byte arrives for the guest. It is lost where the guest has not read thousands before it.
    pub fn receive<R>(&self, byte: u8, drive: impl FnOnce(bool) -> R) -> R {
        let mut device = self.device.lock();
        let _ = device.receive(byte);
        let level = device.irq_line();
        drive(level)
    }

    /// As after power-on.
    pub fn reset(&self) {
        *self.device.lock() = Pl011::new();
    }
}
