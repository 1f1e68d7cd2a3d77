// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A descriptor that arrives in fragments (`FFA_MEM_FRAG_TX`), or that takes long to read.
//!
//! It is kept as ranges in private memory until it is complete. The SPMC gets it in one piece: OP-TEE 4.10 refuses fragments.

use super::share::{MAX_OBJECT_PAGES, RANGE_BYTES, check_head, check_size};
use super::spmc::TxTurn;
use super::{FfaVm, SHARE_HEAP_BYTES};
use crate::Mediator;
use crate::addr::{Ipa, PAGE_SIZE};
use crate::host::Host;
use crate::memory::Cookie;
use alloc::vec::Vec;
use ffa_proto::call::{MemFragRx, MemFragTx, MemSendAnswer};
use ffa_proto::memory::{FragmentReader, Layout, MemoryRange, Progress, Summary};
use ffa_proto::{EndpointId, ErrorCode, Version};

/// Bytes of a descriptor between which interrupts are taken.
const PIECE_BYTES: u32 = 4096;

/// Bytes of a descriptor that are fetched at once. They are in one page.
const CHUNK: usize = 256;

/// A descriptor that a guest is sending.
#[derive(Debug)]
pub(super) struct OpenShare {
    reader: FragmentReader,
    ranges: Vec<MemoryRange>,
    /// The object, which counts from its first fragment on.
    pub(super) cookie: Cookie,
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
    /// Gives up the descriptor that the guest has begun to send. Returns `false` if a vCPU is at work on it.
    #[cold]
    pub(super) fn give_up(&self, ffa: &FfaVm) -> bool {
        match ffa.take_open() {
            Slot::Busy => return false,
            Slot::Open(old) => self.state.lock().cancel_object(old.cookie),
            Slot::Empty => {}
        }
        ffa.set_open(Slot::Empty);
        true
    }

    /// Shares memory by a descriptor that takes long to read, or that has not arrived as a whole. The lengths are the whole
    /// descriptor's and the fragment's.
    #[inline(never)]
    pub(super) fn share_in_pieces<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        version: Version,
        tx: Ipa,
        (total, length): (u32, u32),
        turn: Option<TxTurn<'_>>,
    ) -> Result<Option<MemSendAnswer>, ErrorCode> {
        // Another vCPU may have begun meanwhile.
        if !ffa.begin_open() {
            return Ok(None);
        }
        match self.begin_share(version, total) {
            Ok(open) => self.go_on(host, ffa, open, (tx, length), turn),
            Err(code) => {
                ffa.set_open(Slot::Empty);
                Err(code)
            }
        }
    }

    fn begin_share(&self, version: Version, total: u32) -> Result<OpenShare, ErrorCode> {
        let mut ranges = Vec::new();
        let most = (total / RANGE_BYTES).min(MAX_OBJECT_PAGES);
        let reserved = ranges.try_reserve_exact(most as usize);
        reserved.map_err(|_| ErrorCode::NO_MEMORY)?;
        let begun = self.state.lock().begin_object(0);
        let cookie = begun.map_err(|_| ErrorCode::NO_MEMORY)?;
        Ok(OpenShare {
            reader: FragmentReader::new(Layout::of(version), total),
            ranges,
            cookie,
            total,
        })
    }

    /// Takes a further fragment of the guest's descriptor. Returns `None` where [`Mediator::share`] does.
    #[inline(never)]
    pub(super) fn share_more<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        call: &MemFragTx,
    ) -> Result<Option<MemSendAnswer>, ErrorCode> {
        let (tx, room) = ffa.endpoint.tx().ok_or(ErrorCode::INVALID_PARAMETERS)?;
        let is_own = [EndpointId::HYPERVISOR, ffa.id()].contains(&call.sender);
        if !is_own || call.length == 0 || u64::from(call.length) > room {
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        let open = match ffa.take_open() {
            Slot::Busy => return Ok(None),
            Slot::Empty => {
                ffa.set_open(Slot::Empty);
                return Err(ErrorCode::INVALID_PARAMETERS);
            }
            Slot::Open(open) => open,
        };
        let missing = open.total - open.reader.received();
        if open.cookie.to_handle() != call.handle || call.length > missing {
            ffa.set_open(Slot::Open(open));
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        let Some(turn) = self.turn_for(ffa, call.length == missing) else {
            ffa.set_open(Slot::Open(open));
            return Ok(None);
        };
        self.go_on(host, ffa, open, (tx, call.length), turn)
    }

    /// Reads a fragment, and shares the memory if it was the last.
    fn go_on<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        mut open: OpenShare,
        (tx, length): (Ipa, u32),
        turn: Option<TxTurn<'_>>,
    ) -> Result<Option<MemSendAnswer>, ErrorCode> {
        let cookie = open.cookie;
        let result = match (open.read(host, tx, length), turn) {
            (Ok(Progress::More(offset)), _) => {
                let answer = MemFragRx {
                    handle: cookie.to_handle(),
                    offset,
                    sender: EndpointId::HYPERVISOR,
                };
                ffa.set_open(Slot::Open(open));
                return Ok(Some(MemSendAnswer::Continue(answer)));
            }
            (Ok(Progress::Complete(summary)), Some(turn)) => {
                self.share_summary(host, ffa, &open, &summary, &turn)
            }
            // Complete before its length: the reader reports that.
            (Ok(Progress::Complete(_)), None) => Err(ErrorCode::INVALID_PARAMETERS),
            (Err(code), _) => Err(code),
        };
        ffa.set_open(Slot::Empty);
        if let Err(code) = result {
            self.state.lock().cancel_object(cookie);
            return Err(code);
        }
        Ok(Some(MemSendAnswer::Done(cookie.to_handle())))
    }

    /// Checks a descriptor that has arrived in fragments, and shares its pages.
    fn share_summary<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        open: &OpenShare,
        summary: &Summary<1>,
        turn: &TxTurn<'_>,
    ) -> Result<(), ErrorCode> {
        // The reader takes one receiver at most.
        let receiver = summary.receivers().next();
        let receiver = receiver.ok_or(ErrorCode::INVALID_PARAMETERS)?;
        check_head(ffa, &summary.transaction, (1, receiver))?;
        let count = summary.pages;
        check_size(count)?;
        let sized = self.state.lock().size_object(open.cookie, count);
        sized.map_err(|_| ErrorCode::NO_MEMORY)?;
        let mut scratch = turn.scratch().lock();
        let mut ranges = open.ranges.iter().copied();
        let bytes = &mut scratch.outgoing;
        self.share_ranges(host, ffa, turn, (open.cookie, count), &mut ranges, bytes)
    }
}

const _: () = assert!((PAGE_SIZE as usize).is_multiple_of(CHUNK));
const _: () = assert!((RANGE_BYTES * MAX_OBJECT_PAGES) as u64 <= SHARE_HEAP_BYTES);

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::fake::{Machine, RAM_BASE};
    use alloc::vec;
    use ffa_proto::Handle;
    use ffa_proto::memory::{AccessSize, DescriptorWriter, Receiver};

    /// The heap of a VM has room for the ranges that were reserved.
    #[test]
    fn no_more_ranges_are_kept_than_were_reserved() {
        let machine = Machine::new();
        let host = machine.add_vm(1, 4);
        let head = super::super::transaction(EndpointId::new(1));
        let receivers = [Receiver::read_write(EndpointId::new(0x8001))];
        let mut bytes = vec![0; 256];
        let mut writer =
            DescriptorWriter::new(&mut bytes, &head, AccessSize::Long, &receivers).unwrap();
        for page in [0, 2, 5] {
            let range = MemoryRange::new(RAM_BASE + page * PAGE_SIZE, 1).unwrap();
            writer.push(range).unwrap();
        }
        let total = writer.finish().unwrap();
        host.poke(Ipa::new(RAM_BASE), &bytes);
        for reserved in [2, 3] {
            let mut open = OpenShare {
                reader: FragmentReader::new(Layout::of(Version::V1_2), total),
                ranges: Vec::with_capacity(reserved),
                cookie: Cookie::from_handle(Handle::new(1 << 63 | 1)).unwrap(),
                total,
            };
            assert_eq!(open.ranges.capacity(), reserved);
            let read = open.read(&host, Ipa::new(RAM_BASE), total);
            match reserved {
                2 => assert_eq!(read.err(), Some(ErrorCode::NO_MEMORY)),
                _ => assert!(matches!(read, Ok(Progress::Complete(_)))),
            }
            assert_eq!(
                (open.ranges.len(), open.ranges.capacity()),
                (reserved, reserved)
            );
        }
    }
}
