// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a VM needs of OP-TEE before its first call: its notification bitmap, an object per call for the message, a few to lend at
//! teardown, OP-TEE's own state of the VM, and OP-TEE's translation tables.
//!
//! OP-TEE makes its state of a VM in the first call that has a message, and panics where it has no memory for it. The guest could
//! have used that up by sharing. So the first call is the mediator's, with a message that asks for nothing.
//!
//! The tables are made for the same reason as over the SMC ABI (`smc::tables`): OP-TEE panics where it has no memory for one.
//! An object that is nearly as large as OP-TEE's address space for shared memory, and consists of the hypervisor's RX buffer again
//! and again, is mapped whole by a call whose message is said to begin behind its end. OP-TEE refuses the call and reads
//! nothing.

use super::share::SendError;
use super::{FfaVm, LENDABLE};
use crate::addr::{PAGE_SIZE, Pa};
use crate::host::{ForeignInterrupt, Host};
use crate::{CreateError, Mediator};
use ffa_proto::memory::{DescriptorWriter, MemoryRange};
use ffa_proto::{ErrorCode, Handle};
use optee_proto::ffa::{self, Service, Status, pair};
use optee_proto::msg::{Command, Header};
use zerocopy::IntoBytes;

/// Pages of the large object. OP-TEE's address space for this has 8,192 (`SHM_VASPACE_SIZE`), of which it has the hypervisor's
/// buffers mapped. The tables for what is left are the same.
const SPACE_PAGES: u32 = if cfg!(miri) { 600 } else { 7680 };

/// Number of direct requests in total for this, as in `smc::tables`.
const ENTRIES: u32 = if cfg!(miri) { 40 } else { 4000 };
/// Number of direct requests per step, if the hypervisor claims no interrupt.
const ENTRIES_A_STEP: u32 = 64;

/// A session that no VM has.
const NO_SESSION: u32 = u32::MAX;

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The notification bitmap.
    Bitmap,
    /// Objects for messages, then those to lend.
    Objects,
    /// The first call, in this thread of OP-TEE if it was interrupted.
    First(Option<u32>),
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
            stage: Stage::Bitmap,
            makes_tables,
            entries: ENTRIES,
        }
    }

    /// Returns whether OP-TEE is in a call.
    pub(crate) const fn is_under_way(&self) -> bool {
        matches!(self.stage, Stage::Map(_, Some(_)) | Stage::First(Some(_)))
    }

    /// Returns the large object, if the SPMC still has it.
    pub(crate) const fn object(&self) -> Option<Handle> {
        match self.stage {
            Stage::Map(handle, _) | Stage::Unregister(handle) | Stage::Reclaim(handle) => {
                Some(handle)
            }
            Stage::Bitmap | Stage::Objects | Stage::First(_) | Stage::Space | Stage::Done => None,
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
            Stage::Bitmap => {
                let made = self.create_bitmap(host, ffa);
                made.map_err(CreateError::Refused)?;
                Stage::Objects
            }
            Stage::Objects => match self.share_next(host, ffa)? {
                true => Stage::Objects,
                false => Stage::First(None),
            },
            Stage::First(thread) => self.make_first_call(host, ffa, making, thread)?,
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
        let next = match making.stage {
            Stage::Map(handle, thread @ Some(_)) => {
                self.map_space(host, ffa, making, handle, thread)
            }
            Stage::First(thread @ Some(_)) => self.make_first_call(host, ffa, making, thread),
            _ => return false,
        };
        match next {
            Ok(stage) => making.stage = stage,
            Err(_) => return false,
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
            Some(Err(error @ SendError::Unknown)) => {
                // Freed when OP-TEE has forgotten the VM.
                self.state.lock().lend_object(Handle::INVALID, page);
                Err(refused(error))
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
        let range = MemoryRange::new(page.get(), 1).ok()?;
        self.share_own(host, ffa, core::iter::once(range))
    }

    /// Shares the large object; `None` if another VM has the TX buffer.
    fn share_space<H: Host>(&self, host: &H, ffa: &FfaVm) -> Option<Result<Handle, SendError>> {
        let Some(range) = ffa.spmc.buffers.rx_range() else {
            return Some(Err(ErrorCode::INVALID_PARAMETERS.into()));
        };
        let count = SPACE_PAGES / range.pages();
        self.share_own(host, ffa, core::iter::repeat_n(range, count as usize))
    }

    fn share_own<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        ranges: impl Iterator<Item = MemoryRange>,
    ) -> Option<Result<Handle, SendError>> {
        let turn = ffa.spmc.take_tx(self.client.number())?;
        let mut scratch = turn.scratch().lock();
        let bytes = &mut scratch.outgoing;
        let written = DescriptorWriter::with_head(bytes, &ffa.head)
            .and_then(|mut writer| {
                for range in ranges {
                    writer.push(range)?;
                }
                writer.finish()
            })
            .map_err(|_| SendError::Refused(ErrorCode::NO_MEMORY));
        Some(written.and_then(|size| {
            let descriptor = bytes.get(..size as usize).unwrap_or_default();
            let handle = self.send(host, ffa, descriptor, &turn)?;
            // One that the SPMC has given before.
            let is_known = self.state.lock().knows_handle(handle);
            if is_known {
                Err(SendError::Unknown)
            } else {
                Ok(handle)
            }
        }))
    }

    /// Has OP-TEE map the large object. Returns the next stage.
    fn map_space<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        making: &mut FfaCreation,
        handle: Handle,
        thread: Option<u32>,
    ) -> Result<Stage, CreateError> {
        // Behind the end.
        let offset = SPACE_PAGES * PAGE_SIZE as u32;
        match self.call_some(host, ffa, making, (handle, offset), thread)? {
            // OP-TEE's code for the offset, after it has mapped the object.
            Called::Refused(Status::TEE_BAD_PARAMETERS) => Ok(Stage::Unregister(handle)),
            Called::Refused(status) => Err(CreateError::TablesRefused(status.to_w())),
            Called::Done => Err(CreateError::TablesRefused(0)),
            Called::Interrupted(thread) => Ok(Stage::Map(handle, Some(thread))),
        }
    }

    /// Makes the VM's first call with a message, which cancels nothing. Returns the next stage.
    fn make_first_call<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        making: &mut FfaCreation,
        thread: Option<u32>,
    ) -> Result<Stage, CreateError> {
        let lendable = self.state.lock().take_lendable();
        let (handle, page) = lendable.ok_or(CreateError::NoSharedPages)?;
        if thread.is_none() {
            let header = Header {
                cmd: Command::CANCEL.0.into(),
                session: NO_SESSION.into(),
                ..Header::default()
            };
            host.write_shared(&page, 0, header.as_bytes());
        }
        let called = self.call_some(host, ffa, making, (handle, 0), thread);
        self.state.lock().add_lendable(handle, page);
        match called? {
            Called::Done if making.makes_tables => Ok(Stage::Space),
            Called::Done => Ok(Stage::Done),
            Called::Refused(status) => Err(CreateError::TablesRefused(status.to_w())),
            Called::Interrupted(thread) => Ok(Stage::First(Some(thread))),
        }
    }

    /// Lets a call go on until it ends, or the hypervisor has something else to do. `message` is an object and an offset.
    fn call_some<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        making: &mut FfaCreation,
        message: (Handle, u32),
        mut thread: Option<u32>,
    ) -> Result<Called, CreateError> {
        for _ in 0..ENTRIES_A_STEP {
            making.entries = making
                .entries
                .checked_sub(1)
                .ok_or(CreateError::TablesUnfinished(ENTRIES))?;
            let words = match thread {
                None => {
                    let [low, high] = pair(message.0.get());
                    [Service::CALL_WITH_ARG.get(), low, high, message.1, 0]
                }
                Some(thread) => [Service::RESUME.get(), 0, 0, 0, thread],
            };
            let words = self.request(host, ffa, words);
            let words = words.map_err(|_| CreateError::TablesRefused(u32::MAX))?;
            let number = match ffa::Return::read(&words) {
                Ok(ffa::Return::Done) => return Ok(Called::Done),
                Err(status) => return Ok(Called::Refused(status)),
                // The request says that it has failed, until somebody answers it.
                Ok(ffa::Return::RpcCommand(number)) => number,
                Ok(ffa::Return::Interrupt(number)) => {
                    if host.foreign_interrupt() == ForeignInterrupt::ReturnToGuest {
                        return Ok(Called::Interrupted(number));
                    }
                    number
                }
            };
            thread = Some(number);
        }
        thread
            .map(Called::Interrupted)
            .ok_or(CreateError::TablesUnfinished(ENTRIES))
    }
}

/// How a call of the creation has left OP-TEE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Called {
    Done,
    Refused(Status),
    /// It goes on in this thread.
    Interrupted(u32),
}

/// Returns why a VM gets no TEE whose objects the SPMC does not take.
const fn refused(error: SendError) -> CreateError {
    CreateError::SharesRefused(match error {
        SendError::Refused(code) => code.to_w(),
        SendError::Unknown => u32::MAX,
    })
}
