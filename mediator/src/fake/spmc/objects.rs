// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Shared memory objects: MEM_SHARE and MEM_RECLAIM.

use super::{MAX_OBJECTS, PARTITION, Spmc, SpmcMemory, Trap};
use alloc::vec;
use alloc::vec::Vec;
use ffa_proto::call::{MemReclaim, MemSend, MemSendAnswer, MemSendKind};
use ffa_proto::handle::Allocator;
use ffa_proto::memory::{Descriptor, Layout, MemoryAttributes, MemoryRange, Permissions};
use ffa_proto::{EndpointId, ErrorCode, Handle, Registers, answer};

/// An object that a VM has shared.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) vm: EndpointId,
    pub(super) ranges: Vec<MemoryRange>,
    /// Whether a message has used it: then UNREGISTER_SHM comes before MEM_RECLAIM.
    pub(super) is_registered: bool,
    /// The number of calls that use it.
    pub(super) users: usize,
}

impl Spmc {
    /// Returns the ranges of an object, for checks of what a mediator has shared.
    pub fn ranges(&self, handle: Handle) -> Option<&[MemoryRange]> {
        let object = self.objects.get(&handle.get());
        object.map(|object| object.ranges.as_slice())
    }

    /// Returns the number of objects of a VM's id.
    pub fn object_count(&self, vm: EndpointId) -> usize {
        self.objects
            .values()
            .filter(|object| object.vm == vm)
            .count()
    }

    pub(super) fn send(
        &mut self,
        on_behalf: EndpointId,
        send: &MemSend,
        memory: &dyn SpmcMemory,
    ) -> Result<Registers, ErrorCode> {
        match send.kind {
            MemSendKind::Share => {}
            MemSendKind::Lend => return Err(ErrorCode::INVALID_PARAMETERS),
            MemSendKind::Donate => {
                self.step_on(Trap::Logged, ErrorCode::NOT_SUPPORTED)?;
                return Err(ErrorCode::NOT_SUPPORTED);
            }
        }
        if send.buffer.is_some() {
            self.step_on(Trap::Fragments, ErrorCode::INVALID_PARAMETERS)?;
            return Err(ErrorCode::NO_MEMORY);
        }
        if send.fragment_length != send.total_length {
            self.step_on(Trap::Fragments, ErrorCode::INVALID_PARAMETERS)?;
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        let map = self.buffers.ok_or(ErrorCode::INVALID_PARAMETERS)?;
        if send.total_length as usize > usize::from(map.pages) * 4096 {
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        let mut bytes = vec![0; send.total_length as usize];
        memory.read(map.tx, &mut bytes);
        let descriptor = Descriptor::read(&bytes, Layout::of(self.version));
        let descriptor = descriptor.map_err(|_| ErrorCode::INVALID_PARAMETERS)?;
        let transaction = *descriptor.transaction();
        self.check_owner(on_behalf, transaction.sender)?;
        if !self.vms.contains_key(&transaction.sender) {
            self.step_on(Trap::ShareOfUnknownVm, ErrorCode::INVALID_PARAMETERS)?;
            return Ok(MemSendAnswer::Done(Handle::NONE).encode());
        }
        let mut receivers = descriptor.receivers();
        let is_for_us = receivers.any(|receiver| {
            receiver.endpoint == PARTITION && receiver.permissions == Permissions::READ_WRITE
        });
        let is_normal = transaction.attributes == MemoryAttributes::NORMAL_WRITE_BACK_INNER;
        if !is_for_us || !is_normal {
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        let ranges: Vec<_> = descriptor.ranges().collect();
        let mut pages = ranges.iter().flat_map(|range| range.page_addresses());
        if pages.any(|page| memory.is_secure(page)) {
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        let handle = self.new_handle(transaction.sender, transaction.handle)?;
        let object = Object {
            vm: transaction.sender,
            ranges,
            is_registered: false,
            users: 0,
        };
        self.objects.insert(handle.get(), object);
        Ok(MemSendAnswer::Done(handle).encode())
    }

    /// Returns the handle of a new object: the lowest free index of the VM, or what the descriptor says.
    fn new_handle(&mut self, vm: EndpointId, asked: Handle) -> Result<Handle, ErrorCode> {
        if asked != Handle::NONE {
            if asked.allocator() == Allocator::Spmc {
                return Err(ErrorCode::NO_MEMORY);
            }
            self.step_on(Trap::HypervisorHandle, ErrorCode::INVALID_PARAMETERS)?;
            let is_new = !self.objects.contains_key(&asked.get());
            return is_new.then_some(asked).ok_or(ErrorCode::INVALID_PARAMETERS);
        }
        let of_index =
            |index: usize| Handle::new(index as u64 | u64::from(vm.get()) << 16 | 1 << 44);
        let mut free = (0..MAX_OBJECTS).map(of_index);
        match free.find(|handle| !self.objects.contains_key(&handle.get())) {
            Some(handle) => Ok(handle),
            None => {
                self.step_on(Trap::TooManyObjects, ErrorCode::NO_MEMORY)?;
                Err(ErrorCode::NO_MEMORY)
            }
        }
    }

    pub(super) fn reclaim(
        &mut self,
        on_behalf: EndpointId,
        reclaim: &MemReclaim,
    ) -> Result<Registers, ErrorCode> {
        let handle = reclaim.handle.get();
        let object = self.objects.get(&handle);
        let object = object.ok_or(ErrorCode::INVALID_PARAMETERS)?;
        let (vm, is_used) = (object.vm, object.is_registered || object.users > 0);
        self.check_owner(on_behalf, vm)?;
        if is_used {
            return Err(ErrorCode::DENIED);
        }
        // Objects with a handle of the hypervisor's are found for living VMs only.
        let is_lost = reclaim.handle.allocator() == Allocator::Hypervisor;
        if is_lost && !self.vms.contains_key(&vm) {
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        self.objects.remove(&handle);
        Ok(answer::success())
    }
}
