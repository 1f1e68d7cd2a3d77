// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Devices with one queue, from which they take requests of the driver's.

use crate::link::Outcome;
use crate::mmio::{Device, Event, Transport};
use crate::queue::{Chain, ChainError, RingError};
use crate::ram::GuestRam;
use postern_base::mmio::Access;

/// A kind of device that serves requests.
pub trait Requests: Device {
    /// Returns whether the device can serve a request now.
    fn is_ready(&mut self) -> bool;

    /// Serves a request. Called only when the device [is ready](Requests::is_ready).
    ///
    /// # Errors
    /// See [`ChainError`]. Where the request alone is bad, the driver gets it back as it is.
    fn serve<R: GuestRam>(&mut self, chain: &mut Chain, ram: &R) -> Result<(), ChainError>;
}

/// A device of such a kind.
#[derive(Debug)]
pub struct RequestDevice<D> {
    transport: Transport<1>,
    device: D,
    /// The level of the interrupt line that was returned last.
    line: bool,
    is_waiting: bool,
}

impl<D: Requests> RequestDevice<D> {
    /// Returns the device as it is after a reset.
    pub const fn new(device: D) -> Self {
        Self {
            transport: Transport::new(),
            device,
            line: false,
            is_waiting: false,
        }
    }

    /// Does a driver's access. [`RequestDevice::changed_line`] has the interrupt afterwards.
    pub fn access<R: GuestRam>(&mut self, access: Access, ram: &R) -> Outcome {
        let (value, event) = self.transport.access(&mut self.device, access);
        let is_unfinished = matches!(event, Event::Notified(_)) && self.work(ram);
        Outcome {
            value,
            is_unfinished,
            has_changed: true,
        }
    }

    /// Resets the device: its VM has ended, and the interrupt controller is reset as well.
    pub fn reset(&mut self) {
        self.transport.reset();
        self.line = false;
        self.is_waiting = false;
    }

    /// Returns whether requests wait until the device is ready ([`RequestDevice::retry`]).
    pub const fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// Serves one of the requests that wait. The others wait for the next call.
    pub fn retry<R: GuestRam>(&mut self, ram: &R) {
        if self.is_waiting {
            self.is_waiting = self.work(ram) || self.is_waiting;
        }
    }

    /// Returns the level of the interrupt line, if it has changed since the last call.
    pub const fn changed_line(&mut self) -> Option<bool> {
        let level = self.transport.irq_line();
        if self.line == level {
            return None;
        }
        self.line = level;
        Some(level)
    }

    /// Returns whether the interrupt line, which is high, is to fall and rise, since the driver has not acknowledged all.
    pub const fn is_raised_again(&mut self) -> bool {
        self.transport.take_partly_acknowledged()
    }

    /// Serves a request: its device bounds what it costs. Returns whether more are there that could be served at once.
    fn work<R: GuestRam>(&mut self, ram: &R) -> bool {
        self.is_waiting = false;
        if !self.transport.is_live() {
            return false;
        }
        let served = self.serve_one(ram);
        let published = match self.transport.queues()[0].publish(ram) {
            Ok(true) => {
                self.transport.interrupt_used();
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        match published.and(served) {
            Ok(more) => more,
            Err(error) => {
                self.transport.break_down(error);
                false
            }
        }
    }

    fn serve_one<R: GuestRam>(&mut self, ram: &R) -> Result<bool, RingError> {
        let [queue] = self.transport.queues();
        // Asked for before it is looked at again: the driver may add a request meanwhile, and not notify of it.
        if !queue.listen(ram)? {
            return Ok(false);
        }
        if !self.device.is_ready() {
            self.is_waiting = true;
            return Ok(false);
        }
        let Some(mut chain) = queue.pop(ram)? else {
            return Ok(false);
        };
        match self.device.serve(&mut chain, ram) {
            Ok(()) | Err(ChainError::Buffer) => {}
            Err(ChainError::Ring(error)) => return Err(error),
        }
        queue.push(ram, &chain)?;
        queue.listen(ram)
    }
}
