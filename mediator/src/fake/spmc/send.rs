// SPDX-License-Identifier: Apache-2.0 OR MIT
//! MEM_SHARE, MEM_LEND and MEM_FRAG_TX.

use super::{Manner, PARTITION, SecureWorld, Spmc, Trap};
use alloc::vec;
use alloc::vec::Vec;
use ffa_proto::call::{MemFragRx, MemFragTx, MemSend, MemSendAnswer, MemSendKind};
use ffa_proto::memory::{Descriptor, Layout, MemoryAttributes, Permissions};
use ffa_proto::{EndpointId, ErrorCode, Handle, Registers};

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
    pub(super) fn send(
        &mut self,
        on_behalf: EndpointId,
        send: &MemSend,
        world: &mut dyn SecureWorld,
    ) -> Result<Registers, ErrorCode> {
        if send.kind == MemSendKind::Donate {
            return self.unhandled();
        }
        if send.buffer.is_some() {
            self.step_on(Trap::Fragments, ErrorCode::INVALID_PARAMETERS)?;
            return Err(ErrorCode::NO_MEMORY);
        }
        let bytes = self.read_tx(send.fragment_length, world)?;
        if send.fragment_length == send.total_length {
            let handle = self.share(on_behalf, send.kind, &bytes, None, world)?;
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
        world: &mut dyn SecureWorld,
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
        let bytes = self.read_tx(fragment.length, world)?;
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
        let handle = self.share(on_behalf, kind, &bytes, Some(fragment.handle), world)?;
        Ok(MemSendAnswer::Done(handle).encode())
    }

    /// Returns what is in the caller's TX buffer.
    fn read_tx(&self, length: u32, world: &dyn SecureWorld) -> Result<Vec<u8>, ErrorCode> {
        let map = self.buffers.ok_or(ErrorCode::INVALID_PARAMETERS)?;
        let length = length as usize;
        if length > usize::from(map.pages) * 4096 {
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        let mut bytes = vec![0; length];
        world.read(map.tx, &mut bytes);
        Ok(bytes)
    }

    /// Makes the object of a descriptor. `known` is the handle of a transaction that was in fragments.
    fn share(
        &mut self,
        on_behalf: EndpointId,
        kind: MemSendKind,
        bytes: &[u8],
        known: Option<Handle>,
        world: &mut dyn SecureWorld,
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
        if pages.any(|page| world.is_secure(page)) {
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        let handle = match known {
            Some(handle) => handle,
            None => self.new_handle(transaction.sender, transaction.handle)?,
        };
        world.shared(transaction.sender, handle, &ranges);
        self.objects.insert(transaction.sender, handle, ranges);
        Ok(handle)
    }
}
