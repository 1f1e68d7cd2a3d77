// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A step of a call of a VM that ends.

use crate::Mediator;
use crate::call::Call;
use crate::host::Host;
use alloc::boxed::Box;

/// What the mediator needs of a hypervisor at the end of a VM.
pub trait EndingHost: Host + Sized {
    /// Continues a call: returns `call.step(mediator, self)`.
    ///
    /// A hypervisor need not implement this. One whose calls of [`Mediator::smc`] are compiled elsewhere, for speed,
    /// calls [`EndingCall::step`] there, so that it does not contain what continues a call twice.
    fn step_call(&self, mediator: &Mediator, call: EndingCall) {
        call.step(mediator, self);
    }
}

/// A call that is about to enter OP-TEE while its VM is torn down; see [`EndingHost`].
#[derive(Debug)]
#[must_use = "the call holds buffers of the VM's until it has ended"]
pub struct EndingCall {
    call: Box<Call>,
    /// Whether the call begins. Otherwise it was suspended, and what it waits for fails.
    begins: bool,
}

impl EndingCall {
    /// Returns a call that begins.
    pub(super) const fn new(call: Box<Call>) -> Self {
        Self { call, begins: true }
    }

    /// Returns a call that was suspended.
    pub(super) const fn suspended(call: Box<Call>) -> Self {
        Self {
            call,
            begins: false,
        }
    }

    /// Lets the call run until it ends or is suspended again.
    pub fn step<H: Host>(self, mediator: &Mediator, host: &H) {
        if self.begins {
            mediator.enter(host, self.call);
        } else {
            mediator.resume_without_guest(host, self.call);
        }
    }
}
