// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Direct requests: OP-TEE's service.

use super::{Entry, PARTITION, SecureWorld, Spmc, Trap};
use ffa_proto::call::{DirectMessage, Payload};
use ffa_proto::notification::NotificationBitmap;
use ffa_proto::{EndpointId, ErrorCode, Handle, Registers};
use optee_proto::ffa::{
    API_VERSION, Capabilities, Return, SecureCaps, Service, Status, Words, unpair,
};

impl Spmc {
    /// Appends to what the next yielding calls return with, in order. Without a script they are done at once. The number
    /// in a return that suspends is the thread's.
    pub fn script(&mut self, returns: impl IntoIterator<Item = Return>) {
        self.script.extend(returns);
    }

    pub(super) fn direct(
        &mut self,
        on_behalf: EndpointId,
        message: &DirectMessage,
        world: &mut dyn SecureWorld,
    ) -> Result<Registers, ErrorCode> {
        if let Some(kind) = message.framework {
            return self.framework(on_behalf, message, kind, world);
        }
        if message.source.is_secure() || message.destination != PARTITION {
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        self.check_owner(on_behalf, message.source)?;
        let words = match message.payload {
            Payload::Smc32(words) => words,
            // OP-TEE compares the service with all of x3, and looks at the low halves of the others.
            Payload::Smc64(values) => {
                let mut words = values.map(|value| value as u32);
                if values[0] >> 32 != 0 {
                    words[0] = u32::MAX >> 1;
                }
                words
            }
        };
        let words = self.serve(message.source, words, world)?;
        let payload = match message.payload {
            Payload::Smc32(_) => Payload::Smc32(words),
            Payload::Smc64(_) => Payload::Smc64(words.map(u64::from)),
        };
        Ok(message.answer(None, payload).encode_response())
    }

    fn serve(
        &mut self,
        vm: EndpointId,
        words: Words,
        world: &mut dyn SecureWorld,
    ) -> Result<Words, ErrorCode> {
        let [w3, w4, w5, w6, w7] = words;
        let status = |status: Status| [status.to_w(), 0, 0, 0, 0];
        if !self.vms.contains_key(&vm) {
            return Ok(status(Status::TEE_ITEM_NOT_FOUND));
        }
        Ok(match Service::new(w3) {
            Service::GET_API_VERSION => [API_VERSION.0, API_VERSION.1, 0, 0, 0],
            Service::GET_OS_VERSION => [4, 10, 0, 0, 0],
            Service::EXCHANGE_CAPABILITIES => Capabilities {
                rpc_params: 4,
                caps: SecureCaps::ARG_OFFSET | SecureCaps::ASYNC_NOTIF | SecureCaps::RPMB_PROBE,
                // OP-TEE leaves this word zero.
                max_notification: 0,
            }
            .to_words(),
            Service::UNREGISTER_SHM => status(self.unregister(vm, unpair(w4, w5))?),
            Service::ENABLE_ASYNC_NOTIF => status(self.enable(vm, w4)?),
            Service::CALL_WITH_ARG => self.begin_call(vm, Handle::new(unpair(w4, w5)), w6, world),
            Service::RESUME => self.resume(vm, w7, world),
            service if service.is_yielding() => status(Status::DENIED),
            _ => {
                self.step_on(Trap::Logged, ErrorCode::INVALID_PARAMETERS)?;
                status(Status::TEE_BAD_PARAMETERS)
            }
        })
    }

    /// A handle that the VM does not have is no error, but OP-TEE prints a line about each that it need not forget.
    fn unregister(&mut self, vm: EndpointId, handle: u64) -> Result<Status, ErrorCode> {
        if handle == u64::MAX {
            self.step_on(Trap::UnregisterAllOnes, ErrorCode::INVALID_PARAMETERS)?;
            return Ok(Status::OK);
        }
        let handle = Handle::new(handle);
        if !self.objects.can_unregister(vm, handle) {
            // Not a fault of an SPMC that checks.
            let _ = self.step_on(Trap::Logged, ErrorCode::INVALID_PARAMETERS);
        }
        Ok(self.objects.unregister(vm, handle))
    }

    fn enable(&mut self, vm: EndpointId, value: u32) -> Result<Status, ErrorCode> {
        let Some(bit) = NotificationBitmap::of(value) else {
            return Ok(Status::TEE_BAD_PARAMETERS);
        };
        if self.enabled_before.contains(&vm) {
            // Not a fault of an SPMC that checks.
            let _ = self.step_on(Trap::EnableInSecondLife, ErrorCode::DENIED);
        }
        if let Some(vm) = self.vms.get_mut(&vm) {
            vm.bottom_half = Some(bit);
        }
        Ok(Status::OK)
    }

    fn begin_call(
        &mut self,
        vm: EndpointId,
        handle: Handle,
        offset: u32,
        world: &mut dyn SecureWorld,
    ) -> Words {
        let refused = [Status::TEE_BAD_PARAMETERS.to_w(), 0, 0, 0, 0];
        if !self.objects.is_of(vm, handle) {
            let _ = self.step_on(Trap::Logged, ErrorCode::INVALID_PARAMETERS);
            return refused;
        }
        let entry = Entry::Begin { handle, offset };
        if let Some(words) = world.run(vm, entry, &mut self.objects) {
            return words;
        }
        let bytes = self.objects.activate(vm, handle, 0).unwrap_or(0);
        if u64::from(offset) + 32 > bytes || !offset.is_multiple_of(8) {
            self.objects.deactivate(handle);
            return refused;
        }
        self.follow_script(vm, handle)
    }

    fn resume(&mut self, vm: EndpointId, thread: u32, world: &mut dyn SecureWorld) -> Words {
        if let Some(words) = world.run(vm, Entry::Resume { thread }, &mut self.objects) {
            return words;
        }
        let state = self.vms.get_mut(&vm);
        let found = state.and_then(|vm| {
            let at = vm
                .suspended
                .iter()
                .position(|&(number, _)| number == thread);
            at.map(|at| vm.suspended.swap_remove(at))
        });
        match found {
            Some((_, handle)) => self.follow_script(vm, handle),
            None => [Status::TEE_BAD_PARAMETERS.to_w(), 0, 0, 0, 0],
        }
    }

    /// Runs a call to its next return.
    fn follow_script(&mut self, vm: EndpointId, handle: Handle) -> Words {
        let returned = self.script.pop_front().unwrap_or(Return::Done);
        match returned {
            Return::Done => self.objects.deactivate(handle),
            Return::RpcCommand(thread) | Return::Interrupt(thread) => {
                if let Some(vm) = self.vms.get_mut(&vm) {
                    vm.suspended.push((thread, handle));
                }
            }
        }
        returned.to_words()
    }
}
