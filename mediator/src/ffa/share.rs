// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `FFA_MEM_SHARE` from a guest: memory becomes an object that OP-TEE can use.
//!
//! The guest's descriptor is fetched once into private memory. When it is complete and right, the pages are pinned, and the
//! SPMC gets a descriptor that the mediator makes. The mediator names the object to the guest; the SPMC has another name for it.
//!
//! A descriptor that is whole in one page is read at once; `fragments` has the others.

use super::FfaVm;
use super::spmc::{Scratch, TxTurn};
use crate::Mediator;
use crate::addr::{Ipa, PAGE_SIZE};
use crate::host::{Host, LongOperation, PinError};
use crate::memory::Cookie;
use crate::memory::pin::PageNumber;
use alloc::vec::Vec;
use ffa_proto::call::{MemSend, MemSendAnswer, MemSendKind, usual};
use ffa_proto::memory::{
    Descriptor, DescriptorWriter, Layout, MemoryAttributes, MemoryRange, Permissions, Receiver,
    Transaction, TransactionFlags,
};
use ffa_proto::{AnswerError, EndpointId, ErrorCode, Handle, Registers, Version};

/// The most pages of an object: 16 MiB. The time that a share takes, at EL2 and in OP-TEE, depends on it.
pub(super) const MAX_OBJECT_PAGES: u32 = if cfg!(miri) { 600 } else { 4096 };

/// The bytes of a range in a descriptor.
pub(super) const RANGE_BYTES: u32 = 16;

/// The number of pages from which on it takes long to pin or unpin them.
const MANY_PAGES: usize = 32;

/// Pages between which interrupts are taken.
const PIECE_PAGES: usize = 512;

/// The most bytes of a guest's descriptor: a header, one receiver, and a range per page.
const MAX_DESCRIPTOR: u32 = 128 + RANGE_BYTES * MAX_OBJECT_PAGES;

impl Mediator {
    /// Shares guest memory with OP-TEE, or takes the first fragment of the descriptor. Returns `None` if the guest is to
    /// repeat the call: another VM has the TX buffer, or another vCPU shares memory.
    pub(super) fn share<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        call: &MemSend,
        version: Version,
    ) -> Result<Option<MemSendAnswer>, ErrorCode> {
        if call.kind != MemSendKind::Share {
            return Err(ErrorCode::NOT_SUPPORTED);
        }
        // FEATURES says that there are no other buffers than TX.
        if call.buffer.is_some() || !ffa.sees_tee() {
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        let (tx, room) = ffa.endpoint.tx().ok_or(ErrorCode::INVALID_PARAMETERS)?;
        let (total, length) = (call.total_length, call.fragment_length);
        if length == 0 || length > total || u64::from(length) > room {
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        if total > MAX_DESCRIPTOR {
            return Err(ErrorCode::NO_MEMORY);
        }
        let Some(turn) = self.turn_for(ffa, length == total) else {
            return Ok(None);
        };
        // A guest that begins anew, after kexec for example, has given up what it began.
        if ffa.is_sending() && !self.give_up(ffa) {
            return Ok(None);
        }
        match turn {
            Some(turn) if u64::from(length) <= PAGE_SIZE => {
                let cookie = self.share_at_once(host, ffa, version, tx, length as usize, &turn)?;
                Ok(Some(MemSendAnswer::Done(cookie.to_handle())))
            }
            turn => self.share_in_pieces(host, ffa, version, tx, (total, length), turn),
        }
    }

    /// Shares memory by a descriptor that is whole in the first page of the TX buffer.
    fn share_at_once<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        version: Version,
        tx: Ipa,
        length: usize,
        turn: &TxTurn<'_>,
    ) -> Result<Cookie, ErrorCode> {
        let mut scratch = turn.scratch().lock();
        let Scratch { incoming, outgoing } = &mut *scratch;
        let bytes = incoming.get_mut(..length).unwrap_or_default();
        host.read_guest(tx, bytes)
            .map_err(|_| ErrorCode::INVALID_PARAMETERS)?;
        let descriptor = Descriptor::read(bytes, Layout::of(version));
        let descriptor = descriptor.map_err(|_| ErrorCode::INVALID_PARAMETERS)?;
        let receivers = (descriptor.receiver_count(), descriptor.first_receiver());
        check_head(ffa, descriptor.transaction(), receivers)?;
        let count = descriptor.pages();
        check_size(count)?;
        let begun = self.state.lock().begin_object(count);
        let cookie = begun.map_err(|_| ErrorCode::NO_MEMORY)?;
        let mut ranges = descriptor.ranges();
        self.share_ranges(host, ffa, turn, (cookie, count), &mut ranges, outgoing)
            .inspect_err(|_| self.state.lock().cancel_object(cookie))?;
        Ok(cookie)
    }

    /// Takes the hypervisor's TX buffer where it is going to be needed: `None` if it is needed and another VM has it.
    pub(super) fn turn_for<'a>(
        &self,
        ffa: &'a FfaVm,
        is_needed: bool,
    ) -> Option<Option<TxTurn<'a>>> {
        if is_needed {
            ffa.spmc.take_tx(self.client.number()).map(Some)
        } else {
            Some(None)
        }
    }

    /// Pins the pages of an object, and shares them.
    // One function for all iterators: it is long.
    pub(super) fn share_ranges<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        turn: &TxTurn<'_>,
        (cookie, count): (Cookie, u32),
        ranges: &mut dyn Iterator<Item = MemoryRange>,
        bytes: &mut [u8],
    ) -> Result<(), ErrorCode> {
        let mut pins = Vec::new();
        let reserved = pins.try_reserve_exact(count as usize);
        reserved.map_err(|_| ErrorCode::NO_MEMORY)?;
        let described = take_time(host, LongOperation::Import, count as usize, || {
            describe(host, ffa, ranges, &mut pins, bytes)
        });
        let shared = described.and_then(|size| {
            let descriptor = bytes.get(..size as usize).unwrap_or_default();
            self.send(host, ffa, descriptor, turn)
        });
        match shared {
            Ok(handle) => {
                if self.state.lock().establish_object(cookie, pins, handle) {
                    return Ok(());
                }
                // The SPMC has given a handle twice.
                self.counters.poisoned.bump();
                Err(ErrorCode::ABORTED)
            }
            Err(SendError::Refused(code)) => {
                // To pin the last of them has taken time already.
                if pins.len() >= MANY_PAGES {
                    host.take_interrupts();
                }
                unpin_all(host, &pins);
                Err(code)
            }
            Err(SendError::Unknown) => {
                // The SPMC may have the pages: they stay pinned until it has forgotten the VM.
                self.counters.poisoned.bump();
                self.state.lock().keep_object(cookie, pins);
                Err(ErrorCode::ABORTED)
            }
        }
    }

    /// Shares memory by a descriptor, in the TX buffer, and returns the SPMC's handle.
    pub(super) fn send<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        descriptor: &[u8],
        _: &TxTurn<'_>,
    ) -> Result<Handle, SendError> {
        host.write_tx(0, descriptor);
        let answer = self.secure(host, usual::share_request(descriptor.len() as u32));
        match usual::shared(&answer) {
            Some(handle) => Ok(handle),
            None => not_shared(ffa, answer),
        }
    }
}

/// Returns what an answer says that is not the usual one.
#[cold]
fn not_shared(ffa: &FfaVm, answer: [u64; 8]) -> Result<Handle, SendError> {
    match MemSendAnswer::read(&Registers::from_8(answer), ffa.spmc.version) {
        Ok(MemSendAnswer::Done(handle)) => Ok(handle),
        Err(AnswerError::Refused(code)) => Err(SendError::Refused(code)),
        _ => Err(SendError::Unknown),
    }
}

/// Checks what a descriptor says besides its ranges. `receivers` is their number, and the first.
pub(super) fn check_head(
    ffa: &FfaVm,
    found: &Transaction,
    (count, receiver): (u32, Receiver),
) -> Result<(), ErrorCode> {
    // What the receiver's record has for itself is not passed on.
    let receiver = Receiver {
        implementation_defined: [0; 2],
        ..receiver
    };
    let is_right =
        *found == transaction(ffa.id()) && count == 1 && receiver == Receiver::read_write(ffa.tee);
    is_right.then_some(()).ok_or(ErrorCode::INVALID_PARAMETERS)
}

/// Checks the number of pages.
pub(super) const fn check_size(pages: u32) -> Result<(), ErrorCode> {
    if pages > MAX_OBJECT_PAGES {
        return Err(ErrorCode::NO_MEMORY);
    }
    Ok(())
}

/// Why memory is not shared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SendError {
    /// The SPMC does not take it.
    Refused(ErrorCode),
    /// What the SPMC says has no meaning, so it may have taken the memory or not.
    Unknown,
}

impl From<ErrorCode> for SendError {
    fn from(code: ErrorCode) -> Self {
        Self::Refused(code)
    }
}

/// Returns the head of a descriptor of a VM's for the SPMC, and the only one that a guest may send.
pub(super) const fn transaction(vm: EndpointId) -> Transaction {
    Transaction {
        sender: vm,
        attributes: MemoryAttributes::NORMAL_WRITE_BACK_INNER,
        flags: TransactionFlags::empty(),
        handle: Handle::NONE,
        tag: 0,
    }
}

/// Acts on this many pages: as a long operation, if they are many.
fn take_time<H: Host, T>(
    host: &H,
    what: LongOperation,
    pages: usize,
    act: impl FnOnce() -> T,
) -> T {
    if pages < MANY_PAGES {
        act()
    } else {
        host.long_operation(what, act)
    }
}

/// Unpins the pages of an object.
pub(super) fn unpin_all<H: Host>(host: &H, pages: &[PageNumber]) {
    take_time(host, LongOperation::Unpin, pages.len(), || {
        unpin_pieces(host, pages);
    });
}

// One function for both ways to it.
#[inline(never)]
fn unpin_pieces<H: Host>(host: &H, pages: &[PageNumber]) {
    for piece in pages.chunks(PIECE_PAGES) {
        piece.iter().for_each(|page| host.unpin(page.ipa()));
        if piece.len() == PIECE_PAGES {
            host.take_interrupts();
        }
    }
}

/// Pins the pages of ranges, and writes a descriptor of their physical addresses. Returns its size. After an error the pages in
/// `pins` are pinned.
fn describe<H: Host>(
    host: &H,
    ffa: &FfaVm,
    ranges: &mut dyn Iterator<Item = MemoryRange>,
    pins: &mut Vec<PageNumber>,
    bytes: &mut [u8],
) -> Result<u32, SendError> {
    let full = |_| SendError::Refused(ErrorCode::NO_MEMORY);
    let mut writer = DescriptorWriter::with_head(bytes, &ffa.head).map_err(full)?;
    let mut left = PIECE_PAGES;
    for range in ranges {
        for address in range.page_addresses() {
            if left == 0 {
                host.take_interrupts();
                left = PIECE_PAGES;
            }
            left -= 1;
            let page = Ipa::new(address);
            let number = PageNumber::of(page).ok_or(ErrorCode::DENIED)?;
            let pa = host.pin(page).map_err(|error| match error {
                PinError::NotOwnMemory(_) => ErrorCode::DENIED,
                PinError::TooManyPins(_) => ErrorCode::NO_MEMORY,
            })?;
            pins.push(number);
            let range = MemoryRange::new(pa.get(), 1).map_err(|_| ErrorCode::DENIED)?;
            writer.push(range).map_err(full)?;
        }
    }
    writer.finish().map_err(full)
}

const _: () = assert!(PAGE_SIZE == ffa_proto::memory::PAGE_SIZE);
const _: () = assert!(matches!(Permissions::READ_WRITE.get(), 2));
