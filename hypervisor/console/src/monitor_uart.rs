// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The second UART of a privileged VM: a PL011 that is connected to the monitor instead of a line.
//!
//! No byte is lost on the way. If a guest does not read its answers, its commands wait: first in
//! the monitor's input, then in the device's transmit FIFO, which the guest sees to be full.

use super::monitor::{MonitorPort, ReplyQueue, System};
use postern_base::lock::{Class, Lock};
use postern_base::mmio::Access;
use postern_devices::pl011::{Pl011, TxSink};

/// The monitor UART of one privileged VM.
pub struct MonitorUart {
    device: Lock<Pl011>,
    port: MonitorPort,
    answers: ReplyQueue,
}

/// A transmit sink that passes bytes to the monitor.
struct PortSink<'a>(&'a MonitorPort);

impl TxSink for PortSink<'_> {
    fn send(&mut self, byte: u8) -> bool {
        self.0.receive(byte)
    }
}

impl MonitorUart {
    /// Creates a UART with a new session.
    pub fn new() -> Self {
        Self {
            device: Lock::new(Class::MonitorUart, Pl011::new()),
            port: MonitorPort::new(),
            answers: ReplyQueue::new(),
        }
    }

    /// Performs the guest's access to a register and returns the value of a read. If the access
    /// completes a command, executes it with none of the device's locks held.
    ///
    /// Calls `drive` with the level of the interrupt line under the device's lock, so that levels
    /// arrive in order. Calls `tell` with the result of `drive`, without the lock.
    pub fn access<R>(
        &self,
        access: Access,
        system: &dyn System,
        drive: impl Fn(bool) -> R,
        tell: impl Fn(R),
    ) -> u64 {
        let mut device = self.device.lock();
        let value = device.access(access, &mut PortSink(&self.port));
        let driven = drive(device.irq_line());
        drop(device);
        tell(driven);
        loop {
            let unfinished = self.port.work(system, &self.answers);
            let mut device = self.device.lock();
            let before = device.has_output();
            device.pump(&mut PortSink(&self.port));
            while device.input_room() > 0
                && let Some(byte) = self.answers.next()
            {
                let _ = device.receive(byte);
            }
            // A guest that has something to read accesses the device again, and work continues
            // then.
            let again = (unfinished || before) && !device.has_input();
            let driven = drive(device.irq_line());
            drop(device);
            tell(driven);
            if !again {
                return value;
            }
        }
    }

    /// Resets the device and the session to their state after power-on.
    pub fn reset(&self) {
        *self.device.lock() = Pl011::new();
        self.port.reset();
        self.answers.reset();
    }
}

#[cfg(test)]
mod tests;
