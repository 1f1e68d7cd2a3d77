// SPDX-License-Identifier: Apache-2.0 OR MIT
//! VMs, and the framework messages that create and destroy them.

use super::{MAX_LIVES, PARTITION, SPMC, SecureWorld, Spmc, Trap};
use alloc::vec::Vec;
use ffa_proto::call::{DirectMessage, FrameworkMessage, Payload};
use ffa_proto::notification::NotificationBitmap;
use ffa_proto::{EndpointId, ErrorCode, Handle, Registers};

/// A VM that lives.
#[derive(Debug, Default)]
pub(super) struct Vm {
    /// The notification that asks for a bottom half, once it is enabled.
    pub(super) bottom_half: Option<NotificationBitmap>,
    /// The notifications that are bound, and those that are pending, if there is a bitmap.
    pub(super) bitmap: Option<(NotificationBitmap, NotificationBitmap)>,
    /// The suspended calls: the thread's number and the object with the message.
    pub(super) suspended: Vec<(u32, Handle)>,
}

/// Returns whether a message is VM_DESTROYED.
pub(super) fn is_destroy(message: &DirectMessage) -> bool {
    message.framework == Some(FrameworkMessage::VM_DESTROYED)
}

impl Spmc {
    /// Answers a framework message: OP-TEE obeys those of any sender.
    pub(super) fn framework(
        &mut self,
        on_behalf: EndpointId,
        message: &DirectMessage,
        kind: FrameworkMessage,
        world: &mut dyn SecureWorld,
    ) -> Result<Registers, ErrorCode> {
        let is_own =
            on_behalf == EndpointId::HYPERVISOR && message.source == EndpointId::HYPERVISOR;
        if !is_own {
            self.step_on(Trap::ForeignFrameworkMessage, ErrorCode::DENIED)?;
        }
        if ![PARTITION, SPMC].contains(&message.destination) {
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        let Payload::Smc32([w3, _, w5, ..]) = message.payload else {
            return Err(ErrorCode::INVALID_PARAMETERS);
        };
        let vm = EndpointId::new(w5 as u16);
        let (kind, status) = match kind {
            FrameworkMessage::VM_CREATED => {
                let status = self.create(vm);
                if status.is_ok() {
                    world.created(vm);
                }
                (FrameworkMessage::VM_CREATED_ANSWER, status)
            }
            FrameworkMessage::VM_DESTROYED => {
                let status = self.destroy(vm);
                if status.is_ok() {
                    world.destroyed(vm);
                }
                (FrameworkMessage::VM_DESTROYED_ANSWER, status)
            }
            FrameworkMessage::VERSION => {
                let version = self.exchange_version(w3).to_8();
                let payload = Payload::Smc32([version[0] as u32, 0, 0, 0, 0]);
                let answer = message.answer(Some(FrameworkMessage::VERSION_ANSWER), payload);
                return Ok(answer.encode_response());
            }
            _ => return Err(ErrorCode::INVALID_PARAMETERS),
        };
        let status = status.err().map_or(0, ErrorCode::to_w);
        let answer = message.answer(Some(kind), Payload::Smc32([status, 0, 0, 0, 0]));
        Ok(answer.encode_response())
    }

    fn create(&mut self, vm: EndpointId) -> Result<(), ErrorCode> {
        if vm == EndpointId::HYPERVISOR {
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        if self.buffers.is_none() {
            self.step_on(Trap::VmBeforeBuffers, ErrorCode::DENIED)?;
        }
        if self.vms.contains_key(&vm) {
            self.step_on(Trap::WrongLife, ErrorCode::DENIED)?;
        } else if self.objects.count(vm) > 0 {
            self.step_on(Trap::StaleHandles, ErrorCode::DENIED)?;
        }
        if self.vms.len() >= self.room_for_vms {
            return Err(ErrorCode::DENIED);
        }
        if self.lives.values().sum::<usize>() >= MAX_LIVES {
            self.step_on(Trap::TooManyLives, ErrorCode::NO_MEMORY)?;
        }
        *self.lives.entry(vm).or_default() += 1;
        self.vms.insert(vm, Vm::default());
        Ok(())
    }

    /// Objects stay, and can still be reclaimed.
    fn destroy(&mut self, vm: EndpointId) -> Result<(), ErrorCode> {
        let gone = self.vms.remove(&vm);
        if gone.as_ref().is_some_and(|vm| vm.bottom_half.is_some()) {
            self.enabled_before.insert(vm);
        }
        if gone.is_none() {
            self.step_on(Trap::WrongLife, ErrorCode::INVALID_PARAMETERS)?;
        }
        self.objects.forget_uses(vm);
        Ok(())
    }

    /// Records a call for a VM that names another one.
    pub(super) fn check_owner(
        &mut self,
        on_behalf: EndpointId,
        named: EndpointId,
    ) -> Result<(), ErrorCode> {
        if on_behalf != EndpointId::HYPERVISOR && on_behalf != named {
            self.step_on(Trap::ForeignObject, ErrorCode::INVALID_PARAMETERS)?;
        }
        Ok(())
    }
}
