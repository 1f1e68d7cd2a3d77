// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Shared memory objects: MEM_SHARE, MEM_LEND, MEM_FRAG_TX and MEM_RECLAIM.

use super::{MAX_OBJECTS, Manner, PARTITION, Spmc, SpmcMemory, Trap};
use alloc::vec;
use alloc::vec::Vec;
use ffa_proto::call::{MemFragRx, MemFragTx, MemReclaim, MemSend, MemSendAnswer, MemSendKind};
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

/// A transaction in fragments.
#[derive(Debug)]
pub(super) struct Unfinished {
    sender: EndpointId,
    kind: MemSendKind,
    total_length: usize,
    /// What has come so far.
    bytes: Vec<u8>,
}

impl Unfinished {
    /// Returns the answer that asks for the next fragment.
    fn ask(&self, handle: Handle) -> Registers {
        let next = MemFragRx {
            handle,
            offset: self.bytes.len() as u32,
            sender: self.sender,
        };
        MemSendAnswer::Continue(next).encode()
    }
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
        if send.kind == MemSendKind::Donate {
            return self.unhandled();
        }
        if send.buffer.is_some() {
            self.step_on(Trap::Fragments, ErrorCode::INVALID_PARAMETERS)?;
            return Err(ErrorCode::NO_MEMORY);
        }
        let bytes = self.read_tx(send.fragment_length, memory)?;
        if send.fragment_length == send.total_length {
            let handle = self.share(on_behalf, send.kind, &bytes, None, memory)?;
            return Ok(MemSendAnswer::Done(handle).encode());
        }
        if self.manner == Manner::OpTee {
            self.step_on(Trap::Fragments, ErrorCode::INVALID_PARAMETERS)?;
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        // The sender is at the beginning of each version's header.
        let sender = bytes.first_chunk().ok_or(ErrorCode::INVALID_PARAMETERS)?;
        let sender = EndpointId::new(u16::from_le_bytes(*sender));
        self.check_owner(on_behalf, sender)?;
        let handle = self.new_handle(sender, Handle::NONE)?;
        let unfinished = Unfinished {
            sender,
            kind: send.kind,
            total_length: send.total_length as usize,
            bytes,
        };
        let answer = unfinished.ask(handle);
        self.unfinished.insert(handle.get(), unfinished);
        Ok(answer)
    }

    /// OP-TEE never has a transaction that waits for a fragment.
    pub(super) fn send_fragment(
        &mut self,
        on_behalf: EndpointId,
        fragment: &MemFragTx,
        memory: &dyn SpmcMemory,
    ) -> Result<Registers, ErrorCode> {
        if self.manner == Manner::OpTee {
            self.step_on(Trap::Fragments, ErrorCode::INVALID_PARAMETERS)?;
        }
        let key = fragment.handle.get();
        let unfinished = self.unfinished.remove(&key);
        let mut unfinished = unfinished.ok_or(ErrorCode::INVALID_PARAMETERS)?;
        if unfinished.sender != fragment.sender {
            self.unfinished.insert(key, unfinished);
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        let bytes = self.read_tx(fragment.length, memory)?;
        unfinished.bytes.extend(bytes);
        let missing = unfinished.total_length.checked_sub(unfinished.bytes.len());
        if fragment.length == 0 || missing.is_none() {
            return Err(ErrorCode::ABORTED);
        }
        if missing != Some(0) {
            let answer = unfinished.ask(fragment.handle);
            self.unfinished.insert(key, unfinished);
            return Ok(answer);
        }
        let Unfinished { kind, bytes, .. } = unfinished;
        let handle = self.share(on_behalf, kind, &bytes, Some(fragment.handle), memory)?;
        Ok(MemSendAnswer::Done(handle).encode())
    }

    /// Returns what is in the caller's TX buffer.
    fn read_tx(&self, length: u32, memory: &dyn SpmcMemory) -> Result<Vec<u8>, ErrorCode> {
        let map = self.buffers.ok_or(ErrorCode::INVALID_PARAMETERS)?;
        let length = length as usize;
        if length > usize::from(map.pages) * 4096 {
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        let mut bytes = vec![0; length];
        memory.read(map.tx, &mut bytes);
        Ok(bytes)
    }

    /// Makes the object of a descriptor. `known` is the handle of a transaction that was in fragments.
    fn share(
        &mut self,
        on_behalf: EndpointId,
        kind: MemSendKind,
        bytes: &[u8],
        known: Option<Handle>,
        memory: &dyn SpmcMemory,
    ) -> Result<Handle, ErrorCode> {
        let descriptor = Descriptor::read(bytes, Layout::of(self.version));
        let descriptor = descriptor.map_err(|_| ErrorCode::INVALID_PARAMETERS)?;
        let transaction = *descriptor.transaction();
        self.check_owner(on_behalf, transaction.sender)?;
        if !self.vms.contains_key(&transaction.sender) {
            self.step_on(Trap::ShareOfUnknownVm, ErrorCode::INVALID_PARAMETERS)?;
            return Ok(Handle::NONE);
        }
        let mut receivers = descriptor.receivers();
        let is_for_us = receivers.any(|receiver| {
            receiver.endpoint == PARTITION && receiver.permissions == Permissions::READ_WRITE
        });
        let attributes = match kind {
            MemSendKind::Share => MemoryAttributes::NORMAL_WRITE_BACK_INNER,
            _ => MemoryAttributes::new(0),
        };
        if !is_for_us || transaction.attributes != attributes {
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        let ranges: Vec<_> = descriptor.ranges().collect();
        let mut pages = ranges.iter().flat_map(|range| range.page_addresses());
        if pages.any(|page| memory.is_secure(page)) {
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        let handle = match known {
            Some(handle) => handle,
            None => self.new_handle(transaction.sender, transaction.handle)?,
        };
        let object = Object {
            vm: transaction.sender,
            ranges,
            is_registered: false,
            users: 0,
        };
        self.objects.insert(handle.get(), object);
        Ok(handle)
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
        let is_free = |handle: &Handle| {
            let handle = handle.get();
            !self.objects.contains_key(&handle) && !self.unfinished.contains_key(&handle)
        };
        match free.find(is_free) {
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
