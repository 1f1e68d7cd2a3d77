// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest's RX and TX buffers: pinned as long as they are registered, and written by one call at a time.

use crate::addr::{Ipa, PAGE_SIZE};
use crate::host::{GuestMemoryError, Host, PinError};
use crate::sync::TicketMutex;
use ffa_proto::ErrorCode;
use ffa_proto::call::RxtxMap;

/// The most pages of one buffer: 64 KiB.
pub(super) const MAX_PAGES: u8 = 16;

/// A pair of buffers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Pair {
    tx: Ipa,
    rx: Ipa,
    /// Pages of each, 1..=[`MAX_PAGES`].
    pages: u8,
}

/// Who may write to the RX buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum RxOwner {
    /// A call from the guest may take it.
    Free,
    /// A call from the guest writes to it.
    Call,
    /// The guest reads what a call has written, until it releases the buffer.
    Guest,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    None,
    /// A vCPU pins or unpins the pages.
    Changing,
    Registered(Pair, RxOwner),
}

/// The buffers of a VM.
#[derive(Debug)]
pub(super) struct Buffers(TicketMutex<State>);

impl Pair {
    /// Returns the pair that a guest names.
    fn new(call: &RxtxMap) -> Option<Self> {
        let pair = Self {
            tx: Ipa::new(call.tx),
            rx: Ipa::new(call.rx),
            pages: call.pages,
        };
        let is_usable = (1..=MAX_PAGES).contains(&pair.pages)
            && [pair.tx, pair.rx]
                .iter()
                .all(|at| at.is_page_aligned() && at.checked_add(pair.bytes()).is_some())
            && pair.tx.get().abs_diff(pair.rx.get()) >= pair.bytes();
        is_usable.then_some(pair)
    }

    /// Returns the size of each buffer.
    fn bytes(&self) -> u64 {
        u64::from(self.pages) * PAGE_SIZE
    }

    /// Returns the addresses of all pages.
    fn all_pages(&self) -> impl Iterator<Item = Ipa> {
        let pages = u64::from(self.pages);
        [self.tx, self.rx]
            .into_iter()
            .flat_map(move |at| (0..pages).filter_map(move |page| at.checked_add(page * PAGE_SIZE)))
    }

    /// Pins all pages or none.
    fn pin<H: Host>(&self, host: &H) -> Result<(), PinError> {
        for (pinned, page) in self.all_pages().enumerate() {
            if let Err(error) = host.pin(page) {
                self.all_pages()
                    .take(pinned)
                    .for_each(|page| host.unpin(page));
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Buffers {
    pub(super) fn new() -> Self {
        Self(TicketMutex::new(State::None))
    }

    /// Registers the buffers that the guest names.
    pub(super) fn map<H: Host>(&self, host: &H, call: &RxtxMap) -> Result<(), ErrorCode> {
        let pair = Pair::new(call).ok_or(ErrorCode::INVALID_PARAMETERS)?;
        {
            let mut state = self.0.lock();
            if *state != State::None {
                return Err(ErrorCode::DENIED);
            }
            *state = State::Changing;
        }
        let pinned = pair.pin(host);
        *self.0.lock() = match pinned {
            Ok(()) => State::Registered(pair, RxOwner::Free),
            Err(_) => State::None,
        };
        pinned.map_err(|error| match error {
            PinError::NotOwnMemory(_) => ErrorCode::INVALID_PARAMETERS,
            PinError::TooManyPins(_) => ErrorCode::NO_MEMORY,
        })
    }

    /// Ends the use of the buffers.
    pub(super) fn unmap<H: Host>(&self, host: &H) -> Result<(), ErrorCode> {
        let pair = {
            let mut state = self.0.lock();
            let pair = match *state {
                State::None => return Err(ErrorCode::INVALID_PARAMETERS),
                State::Changing | State::Registered(_, RxOwner::Call) => {
                    return Err(ErrorCode::DENIED);
                }
                State::Registered(pair, RxOwner::Free | RxOwner::Guest) => pair,
            };
            *state = State::Changing;
            pair
        };
        pair.all_pages().for_each(|page| host.unpin(page));
        *self.0.lock() = State::None;
        Ok(())
    }

    /// Returns the TX buffer and its size in bytes, if the buffers are registered.
    pub(super) fn tx(&self) -> Option<(Ipa, u64)> {
        match *self.0.lock() {
            State::Registered(pair, _) => Some((pair.tx, pair.bytes())),
            State::None | State::Changing => None,
        }
    }

    /// Takes the RX buffer back from the guest.
    pub(super) fn release_rx(&self) -> Result<(), ErrorCode> {
        match &mut *self.0.lock() {
            State::Registered(_, owner @ RxOwner::Guest) => {
                *owner = RxOwner::Free;
                Ok(())
            }
            _ => Err(ErrorCode::DENIED),
        }
    }

    /// Has `write` fill the RX buffer, which belongs to the guest afterwards, unless `write` fails.
    ///
    /// `BUSY` if there is no buffer, or if it is not free.
    pub(super) fn write_rx(
        &self,
        write: impl FnOnce(&RxBuffer) -> Result<(), ErrorCode>,
    ) -> Result<(), ErrorCode> {
        let buffer = match &mut *self.0.lock() {
            State::Registered(pair, owner @ RxOwner::Free) => {
                *owner = RxOwner::Call;
                RxBuffer {
                    at: pair.rx,
                    bytes: pair.bytes(),
                }
            }
            _ => return Err(ErrorCode::BUSY),
        };
        let written = write(&buffer);
        // Nobody else changes the state while a call has the buffer.
        if let State::Registered(_, owner) = &mut *self.0.lock() {
            *owner = match written {
                Ok(()) => RxOwner::Guest,
                Err(_) => RxOwner::Free,
            };
        }
        written
    }
}

/// An RX buffer that a call may write to.
#[derive(Debug)]
pub(super) struct RxBuffer {
    at: Ipa,
    bytes: u64,
}

impl RxBuffer {
    /// Writes bytes at an offset.
    ///
    /// `NO_MEMORY` if they do not fit.
    pub(super) fn write<H: Host>(
        &self,
        host: &H,
        offset: u64,
        mut bytes: &[u8],
    ) -> Result<(), ErrorCode> {
        let end = offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > self.bytes) {
            return Err(ErrorCode::NO_MEMORY);
        }
        let mut at = self.at.checked_add(offset).ok_or(ErrorCode::NO_MEMORY)?;
        while !bytes.is_empty() {
            let room = (PAGE_SIZE - at.page_offset()) as usize;
            let (part, rest) = bytes.split_at(room.min(bytes.len()));
            // The page is pinned, so the hypervisor has no reason to refuse this.
            host.write_guest(at, part)
                .map_err(|GuestMemoryError(_)| ErrorCode::ABORTED)?;
            bytes = rest;
            at = at
                .checked_add(part.len() as u64)
                .ok_or(ErrorCode::NO_MEMORY)?;
        }
        Ok(())
    }
}
