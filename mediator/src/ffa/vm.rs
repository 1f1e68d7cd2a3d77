// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the hypervisor tells the SPMC of a VM: VM_CREATED and VM_DESTROYED, and the notification bitmap between them.

use super::FfaVm;
use super::fragments::Slot;
use crate::Mediator;
use crate::host::Host;
use ffa_proto::call::{DirectMessage, NotificationBitmapCreate};
use ffa_proto::{AnswerError, Registers, Request, answer};

/// The code of an answer that has no meaning.
const NO_ANSWER: u32 = u32::MAX;

impl Mediator {
    /// Tells OP-TEE that the VM begins.
    ///
    /// # Errors
    /// The SPMC's code.
    pub(crate) fn tell_created_by_ffa<H: Host>(&self, host: &H, ffa: &FfaVm) -> Result<(), u32> {
        let message = DirectMessage::vm_created(ffa.tee, ffa.id());
        self.tell_by_ffa(host, ffa, &message)
    }

    /// Has the SPMC make the VM's notification bitmap: OP-TEE 4.10 must have it before the guest enables notifications.
    ///
    /// # Errors
    /// The SPMC's code.
    pub(super) fn create_bitmap<H: Host>(&self, host: &H, ffa: &FfaVm) -> Result<(), u32> {
        if !self.config.features.async_notif {
            return Ok(());
        }
        let create = Request::NotificationBitmapCreate(NotificationBitmapCreate {
            vm: ffa.id(),
            // Global notifications need none of their own.
            vcpus: 1,
        });
        let answer = Registers::from_8(self.secure(host, create.encode().to_8()));
        answer::read_success(&answer, ffa.spmc.version).map_err(code)
    }

    /// Tells OP-TEE that the VM has ended.
    ///
    /// # Errors
    /// The SPMC's code.
    pub(crate) fn tell_destroyed_by_ffa<H: Host>(&self, host: &H, ffa: &FfaVm) -> Result<(), u32> {
        if self.config.features.async_notif {
            self.end_notifications(host, ffa);
        }
        let message = DirectMessage::vm_destroyed(ffa.tee, ffa.id());
        self.tell_by_ffa(host, ffa, &message)
    }

    fn tell_by_ffa<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        message: &DirectMessage,
    ) -> Result<(), u32> {
        let answer = self.secure(host, message.encode_request().to_8());
        let read = message.read_vm_answer(&Registers::from_8(answer), ffa.spmc.version);
        read.map_err(code)
    }

    /// Forgets what the guest has set up. The VM has ended.
    pub(crate) fn reset_endpoint<H: Host>(&self, host: &H) {
        if let Some(ffa) = &self.ffa {
            *ffa.open.lock() = Slot::Empty;
            ffa.endpoint.reset(host);
        }
    }
}

/// Returns the number of an error.
const fn code(error: AnswerError) -> u32 {
    match error {
        AnswerError::Refused(code) => code.to_w(),
        _ => NO_ANSWER,
    }
}
