// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `FFA_MEM_SHARE` and `FFA_MEM_FRAG_TX` from a guest: memory becomes an object that OP-TEE can use.
//!
//! The guest's descriptor is fetched once, whole or in fragments, and kept as ranges in private memory. When it is complete
//! and right, the pages are pinned, and the SPMC gets a descriptor of the mediator's own in one piece: OP-TEE 4.10 refuses
//! fragments. The guest's name for the object is the mediator's, the SPMC's is another.

use super::FfaVm;
use super::spmc::TxTurn;
use crate::Mediator;
use crate::addr::{Ipa, PAGE_SIZE};
use crate::host::{Host, LongOperation, PinError};
use crate::memory::Cookie;
use crate::memory::pin::PageNumber;
use alloc::vec::Vec;
use ffa_proto::call::{MemFragRx, MemFragTx, MemSend, MemSendAnswer, MemSendKind};
use ffa_proto::memory::{
    DescriptorWriter, FragmentReader, Layout, MemoryAttributes, MemoryRange, Permissions, Progress,
    Receiver, Summary, Transaction, TransactionFlags,
};
use ffa_proto::{AnswerError, EndpointId, ErrorCode, Handle, Registers, Request, Version, Width};

/// The most pages of an object: 16 MiB. The time that a share takes, at EL2 and in OP-TEE, depends on it.
pub(super) const MAX_OBJECT_PAGES: u32 = if cfg!(miri) { 600 } else { 4096 };

/// The most bytes of a guest's descriptor: a header, one receiver, and a range per page.
const MAX_DESCRIPTOR: u32 = 128 + RANGE_BYTES * MAX_OBJECT_PAGES;

/// The bytes of a range in a descriptor.
const RANGE_BYTES: u32 = 16;

/// Bytes of a descriptor, and pages, between which interrupts are taken.
const PIECE_BYTES: u32 = 4096;
const PIECE_PAGES: usize = 512;

/// The most bytes of a descriptor before its ranges.
const HEAD_BYTES: usize = 128;

/// Bytes of a descriptor for which no memory is taken from the heap: 24 ranges.
const FEW_BYTES: usize = 512;

/// Bytes of a descriptor that are fetched at once. They are in one page.
const CHUNK: usize = 256;

/// A descriptor that a guest is sending.
#[derive(Debug)]
pub(super) struct OpenShare {
    reader: FragmentReader,
    ranges: Vec<MemoryRange>,
    /// The object, which counts from its first fragment on.
    cookie: Cookie,
    total: u32,
}

/// The one descriptor per VM that is being sent. So a VM needs memory for one.
#[derive(Debug, Default)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one per VM, and a box would have to be allocated"
)]
pub(super) enum Slot {
    #[default]
    Empty,
    /// A vCPU is at work on it.
    Busy,
    /// The guest has more fragments to send.
    Open(OpenShare),
}

/// What a guest hears of a call that may have to be made again.
#[derive(Debug)]
pub(super) enum Shared {
    /// The answer.
    Answer(MemSendAnswer),
    /// Another VM has the TX buffer, or another vCPU shares memory: the guest repeats the call.
    Repeat,
}

impl OpenShare {
    /// Reads a fragment out of the guest's TX buffer, each byte once.
    fn read<H: Host>(&mut self, host: &H, tx: Ipa, length: u32) -> Result<Progress<1>, ErrorCode> {
        let mut progress = Progress::More(self.reader.received());
        let mut done = 0;
        while done < length {
            let mut chunk = [0; CHUNK];
            let size = (length - done).min(CHUNK as u32);
            let bytes = chunk.get_mut(..size as usize).unwrap_or_default();
            let at = tx
                .checked_add(done.into())
                .ok_or(ErrorCode::INVALID_PARAMETERS)?;
            // The buffer begins with a page, so a chunk is in one.
            host.read_guest(at, bytes)
                .map_err(|_| ErrorCode::INVALID_PARAMETERS)?;
            let mut has_room = true;
            let ranges = &mut self.ranges;
            let read = self.reader.feed(bytes, |range| {
                has_room &= ranges.len() < ranges.capacity();
                if has_room {
                    ranges.push(range);
                }
            });
            progress = read.map_err(|_| ErrorCode::INVALID_PARAMETERS)?;
            if !has_room {
                return Err(ErrorCode::NO_MEMORY);
            }
            done += size;
            if done.is_multiple_of(PIECE_BYTES) {
                host.take_interrupts();
            }
        }
        Ok(progress)
    }
}

impl Mediator {
    /// Shares memory of the guest's with OP-TEE, or takes the first fragment of the descriptor.
    pub(super) fn share<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        call: &MemSend,
        version: Version,
    ) -> Result<Shared, ErrorCode> {
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
            return Ok(Shared::Repeat);
        };
        // A guest that begins anew, after kexec for example, has given up what it began.
        match core::mem::replace(&mut *ffa.open.lock(), Slot::Busy) {
            Slot::Busy => return Ok(Shared::Repeat),
            Slot::Open(old) => self.state.lock().cancel_object(old.cookie),
            Slot::Empty => {}
        }
        match self.begin_share(version, total) {
            Ok(open) => self.go_on(host, ffa, open, tx, length, turn),
            Err(code) => {
                *ffa.open.lock() = Slot::Empty;
                Err(code)
            }
        }
    }

    fn begin_share(&self, version: Version, total: u32) -> Result<OpenShare, ErrorCode> {
        let mut ranges = Vec::new();
        let most = (total / RANGE_BYTES).min(MAX_OBJECT_PAGES);
        let reserved = ranges.try_reserve_exact(most as usize);
        reserved.map_err(|_| ErrorCode::NO_MEMORY)?;
        let begun = self.state.lock().begin_object();
        let cookie = begun.map_err(|_| ErrorCode::NO_MEMORY)?;
        Ok(OpenShare {
            reader: FragmentReader::new(Layout::of(version), total),
            ranges,
            cookie,
            total,
        })
    }

    /// Takes a further fragment of the guest's descriptor.
    pub(super) fn share_more<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        call: &MemFragTx,
    ) -> Result<Shared, ErrorCode> {
        let (tx, room) = ffa.endpoint.tx().ok_or(ErrorCode::INVALID_PARAMETERS)?;
        let is_own = [EndpointId::HYPERVISOR, ffa.id()].contains(&call.sender);
        if !is_own || call.length == 0 || u64::from(call.length) > room {
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        let (open, turn) = {
            let mut slot = ffa.open.lock();
            let open = match core::mem::replace(&mut *slot, Slot::Busy) {
                Slot::Busy => return Ok(Shared::Repeat),
                Slot::Empty => {
                    *slot = Slot::Empty;
                    return Err(ErrorCode::INVALID_PARAMETERS);
                }
                Slot::Open(open) => open,
            };
            let missing = open.total - open.reader.received();
            if open.cookie.to_handle() != call.handle || call.length > missing {
                *slot = Slot::Open(open);
                return Err(ErrorCode::INVALID_PARAMETERS);
            }
            let Some(turn) = self.turn_for(ffa, call.length == missing) else {
                *slot = Slot::Open(open);
                return Ok(Shared::Repeat);
            };
            (open, turn)
        };
        self.go_on(host, ffa, open, tx, call.length, turn)
    }

    /// Takes the hypervisor's TX buffer where it is going to be needed: `None` if it is needed and another VM has it.
    fn turn_for<'a>(&self, ffa: &'a FfaVm, is_needed: bool) -> Option<Option<TxTurn<'a>>> {
        if is_needed {
            ffa.spmc.take_tx(self.client.number()).map(Some)
        } else {
            Some(None)
        }
    }

    /// Reads a fragment, and shares the memory if it was the last.
    fn go_on<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        mut open: OpenShare,
        tx: Ipa,
        length: u32,
        turn: Option<TxTurn<'_>>,
    ) -> Result<Shared, ErrorCode> {
        let cookie = open.cookie;
        let result = match (open.read(host, tx, length), turn) {
            (Ok(Progress::More(offset)), _) => {
                let answer = MemFragRx {
                    handle: cookie.to_handle(),
                    offset,
                    sender: EndpointId::HYPERVISOR,
                };
                *ffa.open.lock() = Slot::Open(open);
                return Ok(Shared::Answer(MemSendAnswer::Continue(answer)));
            }
            (Ok(Progress::Complete(summary)), Some(turn)) => {
                self.share_ranges(host, ffa, &open, &summary, &turn)
            }
            // Complete before its length: the reader reports that.
            (Ok(Progress::Complete(_)), None) => Err(ErrorCode::INVALID_PARAMETERS),
            (Err(code), _) => Err(code),
        };
        *ffa.open.lock() = Slot::Empty;
        if let Err(code) = result {
            self.state.lock().cancel_object(cookie);
            return Err(code);
        }
        Ok(Shared::Answer(MemSendAnswer::Done(cookie.to_handle())))
    }

    /// Checks a complete descriptor, pins its pages, and shares them.
    fn share_ranges<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        open: &OpenShare,
        summary: &Summary<1>,
        turn: &TxTurn<'_>,
    ) -> Result<(), ErrorCode> {
        let expected = transaction(ffa.id());
        let receiver = Receiver::read_write(ffa.tee);
        let found = summary.receivers().next();
        // What the receiver's record has for itself is not passed on.
        let found = found.map(|found| Receiver {
            implementation_defined: [0; 2],
            ..found
        });
        if summary.transaction != expected || found != Some(receiver) {
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        let count = summary.pages;
        if count > MAX_OBJECT_PAGES {
            return Err(ErrorCode::NO_MEMORY);
        }
        let reserved = self.state.lock().size_object(open.cookie, count);
        reserved.map_err(|_| ErrorCode::NO_MEMORY)?;
        let mut pins = Vec::new();
        let (mut few, mut many) = ([0; FEW_BYTES], Vec::new());
        let size = HEAD_BYTES + RANGE_BYTES as usize * count as usize;
        let size = size.min(ffa.spmc.buffers.bytes());
        let mut reserved = pins.try_reserve_exact(count as usize);
        if size > few.len() {
            reserved = reserved.and_then(|()| many.try_reserve_exact(size));
        }
        if reserved.is_err() {
            return Err(ErrorCode::NO_MEMORY);
        }
        let bytes = if size > few.len() {
            many.resize(size, 0);
            many.as_mut_slice()
        } else {
            few.as_mut_slice()
        };
        let shared = host
            .long_operation(LongOperation::Import, || {
                describe(host, ffa, &open.ranges, &mut pins, bytes)
            })
            .and_then(|size| {
                let descriptor = bytes.get(..size as usize).unwrap_or_default();
                self.send(host, ffa, descriptor, turn)
            });
        match shared {
            Ok(handle) => {
                self.state
                    .lock()
                    .establish_object(open.cookie, pins, handle);
                Ok(())
            }
            Err(SendError::Refused(code)) => {
                unpin_all(host, &pins);
                Err(code)
            }
            Err(SendError::Unknown) => {
                // The SPMC may have the pages: they stay pinned until it has forgotten the VM.
                self.counters.poisoned.bump();
                self.state.lock().keep_object(open.cookie, pins);
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
        let length = descriptor.len() as u32;
        let request = Request::MemSend(MemSend {
            kind: MemSendKind::Share,
            width: Width::Smc32,
            total_length: length,
            fragment_length: length,
            buffer: None,
        });
        let answer = self.secure(host, request.encode().to_8());
        match MemSendAnswer::read(&Registers::from_8(answer), ffa.spmc.version) {
            Ok(MemSendAnswer::Done(handle)) if !self.state.lock().knows_handle(handle) => {
                Ok(handle)
            }
            Err(AnswerError::Refused(code)) => Err(SendError::Refused(code)),
            _ => Err(SendError::Unknown),
        }
    }
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

/// Unpins the pages of an object.
pub(super) fn unpin_all<H: Host>(host: &H, pages: &[PageNumber]) {
    host.long_operation(LongOperation::Unpin, || {
        for piece in pages.chunks(PIECE_PAGES) {
            piece.iter().for_each(|page| host.unpin(page.ipa()));
            if piece.len() == PIECE_PAGES {
                host.take_interrupts();
            }
        }
    });
}

/// Pins the pages of ranges, and writes a descriptor of their physical addresses. Returns its size. After an error the pages in
/// `pins` are pinned.
fn describe<H: Host>(
    host: &H,
    ffa: &FfaVm,
    ranges: &[MemoryRange],
    pins: &mut Vec<PageNumber>,
    bytes: &mut [u8],
) -> Result<u32, SendError> {
    let receivers = [Receiver::read_write(ffa.tee)];
    let size = ffa.spmc.access_size();
    let full = |_| SendError::Refused(ErrorCode::NO_MEMORY);
    let mut writer =
        DescriptorWriter::new(bytes, &transaction(ffa.id()), size, &receivers).map_err(full)?;
    for address in ranges.iter().flat_map(|range| range.page_addresses()) {
        if !pins.is_empty() && pins.len().is_multiple_of(PIECE_PAGES) {
            host.take_interrupts();
        }
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
    writer.finish().map_err(full)
}

const _: () = assert!(
    PAGE_SIZE == ffa_proto::memory::PAGE_SIZE && (PAGE_SIZE as usize).is_multiple_of(CHUNK)
);
const _: () = assert!(matches!(Permissions::READ_WRITE.get(), 2));
