// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a VM needs of OP-TEE before its first call: an object per call for the message, a few to lend at teardown, and OP-TEE's
//! translation tables.
//!
//! The tables are made for the same reason as over the SMC ABI (`smc::tables`): OP-TEE panics where it has no memory for one.
//! An object that is nearly as large as OP-TEE's address space for shared memory, and consists of the hypervisor's RX buffer again
//! and again, is mapped whole by a call whose message is said to begin behind its end. OP-TEE refuses the call and reads
//! nothing.

use super::share::{SendError, transaction};
use super::{FfaVm, LENDABLE};
use crate::addr::{PAGE_SIZE, Pa};
use crate::host::{ForeignInterrupt, Host};
use crate::{CreateError, Mediator};
use alloc::vec::Vec;
use ffa_proto::memory::{DescriptorWriter, MemoryRange, Receiver};
use ffa_proto::{ErrorCode, Handle};
use optee_proto::ffa::{self, Service, Status, pair};

/// Pages of the large object. OP-TEE's address space for this has 8,192 (`SHM_VASPACE_SIZE`), of which it has the hypervisor's
/// buffers mapped. The tables for what is left are the same.
const SPACE_PAGES: u32 = if cfg!(miri) { 600 } else { 7680 };

/// Number of direct requests in total for this, as in `smc::tables`.
const ENTRIES: u32 = if cfg!(miri) { 40 } else { 4000 };
/// Number of direct requests per step, if the hypervisor claims no interrupt.
const ENTRIES_A_STEP: u32 = 64;

/// Bytes of the descriptor of one page.
const SMALL_DESCRIPTOR: usize = 128;

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Objects for messages, then those to lend.
    Objects,
    /// The large object is shared.
    Space,
    /// The call that has it mapped, in this thread of OP-TEE if it was interrupted.
    Map(Handle, Option<u32>),
    /// OP-TEE ends its use of it.
    Unregister(Handle),
    /// It is reclaimed.
    Reclaim(Handle),
    Done,
}

/// Progress of the creation.
#[derive(Debug)]
pub(crate) struct FfaCreation {
    stage: Stage,
    makes_tables: bool,
    entries: u32,
}

impl FfaCreation {
    pub(crate) const fn new(makes_tables: bool) -> Self {
        Self {
            stage: Stage::Objects,
            makes_tables,
            entries: ENTRIES,
        }
    }

    /// Returns whether OP-TEE is in a call.
    pub(crate) const fn is_under_way(&self) -> bool {
        matches!(self.stage, Stage::Map(_, Some(_)))
    }

    /// Returns the large object, if the SPMC still has it.
    pub(crate) const fn object(&self) -> Option<Handle> {
        match self.stage {
            Stage::Map(handle, _) | Stage::Unregister(handle) | Stage::Reclaim(handle) => {
                Some(handle)
            }
            Stage::Objects | Stage::Space | Stage::Done => None,
        }
    }
}

impl Mediator {
    /// Does one step. Returns whether there is more to do.
    ///
    /// # Errors
    /// [`CreateError::SharesRefused`], [`CreateError::TablesRefused`] and [`CreateError::TablesUnfinished`] when the SPMC or OP-TEE
    /// does not do it.
    pub(crate) fn create_some<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        making: &mut FfaCreation,
    ) -> Result<bool, CreateError> {
        making.stage = match making.stage {
            Stage::Objects => match self.share_next(host, ffa)? {
                true => Stage::Objects,
                false if making.makes_tables => Stage::Space,
                false => Stage::Done,
            },
            Stage::Space => match self.share_space(host, ffa) {
                Some(result) => Stage::Map(result.map_err(refused)?, None),
                None => Stage::Space,
            },
            Stage::Map(handle, thread) => self.map_space(host, ffa, making, handle, thread)?,
            Stage::Unregister(handle) => {
                let [low, high] = pair(handle.get());
                let words = [Service::UNREGISTER_SHM.get(), low, high, 0, 0];
                match self.request(host, ffa, words) {
                    Ok([0, ..]) => Stage::Reclaim(handle),
                    Ok([w3, ..]) => return Err(CreateError::TablesRefused(w3)),
                    Err(_) => return Err(CreateError::TablesRefused(u32::MAX)),
                }
            }
            Stage::Reclaim(handle) => {
                let reclaimed = self.reclaim(host, ffa, handle);
                reclaimed.map_err(|code| CreateError::TablesRefused(code.to_w()))?;
                Stage::Done
            }
            Stage::Done => Stage::Done,
        };
        Ok(making.stage != Stage::Done)
    }

    /// Goes on with the call that is under way, until it ends or the hypervisor has something else to do.
    pub(crate) fn end_creation<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        making: &mut FfaCreation,
    ) -> bool {
        if let Stage::Map(handle, thread @ Some(_)) = making.stage {
            match self.map_space(host, ffa, making, handle, thread) {
                Ok(stage) => making.stage = stage,
                Err(_) => return false,
            }
        }
        making.is_under_way()
    }

    /// Shares the next page that calls or the teardown need. Returns whether there may be more.
    fn share_next<H: Host>(&self, host: &H, ffa: &FfaVm) -> Result<bool, CreateError> {
        let page = self.state.lock().next_unshared();
        if let Some(pa) = page {
            if let Some(result) = self.share_pages(host, ffa, pa) {
                let handle = result.map_err(refused)?;
                self.state.lock().name_message(pa, handle);
            }
            return Ok(true);
        }
        if self.state.lock().lendable_count() == LENDABLE {
            return Ok(false);
        }
        let page = host.alloc_shared().ok_or(CreateError::NoSharedPages)?;
        match self.share_pages(host, ffa, page.pa()) {
            Some(Ok(handle)) => {
                self.state.lock().add_lendable(handle, page);
                Ok(true)
            }
            Some(Err(error)) => {
                host.free_shared(page);
                Err(refused(error))
            }
            None => {
                host.free_shared(page);
                Ok(true)
            }
        }
    }

    /// Shares one page of the mediator; `None` if another VM has the TX buffer.
    fn share_pages<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        page: Pa,
    ) -> Option<Result<Handle, SendError>> {
        let mut bytes = [0; SMALL_DESCRIPTOR];
        let range = MemoryRange::new(page.get(), 1).ok()?;
        self.share_own(host, ffa, core::iter::once(range), &mut bytes)
    }

    /// Shares the large object; `None` if another VM has the TX buffer.
    fn share_space<H: Host>(&self, host: &H, ffa: &FfaVm) -> Option<Result<Handle, SendError>> {
        let Some(range) = ffa.spmc.buffers.rx_range() else {
            return Some(Err(ErrorCode::INVALID_PARAMETERS.into()));
        };
        let count = SPACE_PAGES / range.pages();
        let size = SMALL_DESCRIPTOR + 16 * count as usize;
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(size).is_err() || size > ffa.spmc.buffers.bytes() {
            return Some(Err(ErrorCode::NO_MEMORY.into()));
        }
        bytes.resize(size, 0);
        let ranges = core::iter::repeat_n(range, count as usize);
        self.share_own(host, ffa, ranges, &mut bytes)
    }

    fn share_own<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        ranges: impl Iterator<Item = MemoryRange>,
        bytes: &mut [u8],
    ) -> Option<Result<Handle, SendError>> {
        let turn = ffa.spmc.take_tx(self.client.number())?;
        let receivers = [Receiver::read_write(ffa.spmc.tee.id)];
        let size = ffa.spmc.access_size();
        let head = transaction(ffa.id());
        let written = DescriptorWriter::new(bytes, &head, size, &receivers)
            .and_then(|mut writer| {
                for range in ranges {
                    writer.push(range)?;
                }
                writer.finish()
            })
            .map_err(|_| SendError::Refused(ErrorCode::NO_MEMORY));
        Some(written.and_then(|size| {
            let descriptor = bytes.get(..size as usize).unwrap_or_default();
            self.send(host, ffa, descriptor, &turn)
        }))
    }

    /// Has OP-TEE map the large object. Returns the next stage.
    fn map_space<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        making: &mut FfaCreation,
        handle: Handle,
        mut thread: Option<u32>,
    ) -> Result<Stage, CreateError> {
        for _ in 0..ENTRIES_A_STEP {
            making.entries = making
                .entries
                .checked_sub(1)
                .ok_or(CreateError::TablesUnfinished(ENTRIES))?;
            let words = match thread {
                None => {
                    let [low, high] = pair(handle.get());
                    // Behind the end.
                    let offset = SPACE_PAGES * PAGE_SIZE as u32;
                    [Service::CALL_WITH_ARG.get(), low, high, offset, 0]
                }
                Some(thread) => [Service::RESUME.get(), 0, 0, 0, thread],
            };
            let words = self.request(host, ffa, words);
            let words = words.map_err(|_| CreateError::TablesRefused(u32::MAX))?;
            match ffa::Return::read(&words) {
                // OP-TEE's code for the offset, after it has mapped the object.
                Err(Status::TEE_BAD_PARAMETERS) => return Ok(Stage::Unregister(handle)),
                Ok(ffa::Return::Interrupt(number)) => {
                    thread = Some(number);
                    if host.foreign_interrupt() == ForeignInterrupt::ReturnToGuest {
                        break;
                    }
                }
                _ => return Err(CreateError::TablesRefused(words[0])),
            }
        }
        Ok(Stage::Map(handle, thread))
    }
}

/// Returns why a VM gets no TEE whose objects the SPMC does not take.
const fn refused(error: SendError) -> CreateError {
    CreateError::SharesRefused(match error {
        SendError::Refused(code) => code.to_w(),
        SendError::Unknown => u32::MAX,
    })
}
