// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The second UART of a privileged VM: a PL011 with the monitor behind it instead of a line.
//!
//! Nothing gets lost on the way. A guest that does not read its answers has its commands wait: first
//! in the monitor's input, then in the device's transmit FIFO, which the guest sees to be full.

use super::monitor::{MonitorPort, ReplyQueue, System};
use postern_base::lock::{Class, Lock};
use postern_base::mmio::Access;
use postern_devices::pl011::{Pl011, TxSink};

/// One privileged VM's.
pub struct MonitorUart {
    device: Lock<Pl011>,
    port: MonitorPort,
    answers: ReplyQueue,
}

/// The monitor's end of the line.
struct PortSink<'a>(&'a MonitorPort);

impl TxSink for PortSink<'_> {
    fn send(&mut self, byte: u8) -> bool {
        self.0.receive(byte)
    }
}

impl MonitorUart {
    /// A session that nobody has used.
    pub fn new() -> Self {
        Self {
            device: Lock::new(Class::MonitorUart, Pl011::new()),
            port: MonitorPort::new(),
            answers: ReplyQueue::new(),
        }
    }

    /// The guest's access to a register: what a read finds. If it completes a command, that is
    /// executed, with none of the device's locks held.
    ///
    /// `drive` is told the interrupt line's level under the device's lock, so that levels arrive in
    /// their order; `tell` gets what it answers, without the lock.
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
            // A guest that has something to read comes back for it, and then it goes on.
            let again = (unfinished || before) && !device.has_input();
            let driven = drive(device.irq_line());
            drop(device);
            tell(driven);
            if !again {
                return value;
            }
        }
    }

    /// As after power-on.
    pub fn reset(&self) {
        *self.device.lock() = Pl011::new();
        self.port.reset();
        self.answers.reset();
    }
}

#[cfg(test)]
mod tests;
