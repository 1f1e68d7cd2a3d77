// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The memory that OP-TEE requests by SHM_ALLOC: the guest answers with an object that it has shared.

use crate::Mediator;
use crate::addr::PAGE_SIZE;
use crate::call::{Call, CallStep, ResumeArgs};
use crate::denied::DeniedError;
use crate::host::Host;
use crate::memory::GuestCookie;
use crate::rpc::Request;
use ffa_proto::Handle;
use optee_proto::TeeResult;
use optee_proto::ffa::Fmem;
use optee_proto::le::U32;
use optee_proto::msg::{self, Attr, Param};
use zerocopy::IntoBytes;

impl Mediator {
    /// Takes the guest's answer to SHM_ALLOC, which says that there is memory.
    pub(crate) fn answer_shm_alloc_by_handle<H: Host>(
        &self,
        host: &H,
        call: &mut Call,
        request: Request,
        param: &Param,
    ) -> CallStep {
        let fmem = Fmem::read(param);
        if param.attr() != Attr::RMEM_OUTPUT || fmem.handle == Fmem::NULL {
            // Not an answer to SHM_ALLOC: there is nothing to free.
            return self.fail_shm_alloc(host, call, request);
        }
        let name = GuestCookie(fmem.handle);
        let wanted = request.params[0].b.get();
        let is_right = u64::from(fmem.internal_offset) < PAGE_SIZE && fmem.size >= wanted;
        let allocated = if is_right {
            let offset = fmem.internal_offset.into();
            let mut state = self.state.lock();
            state
                .allocate_object(name, offset, fmem.size)
                .inspect(|&(_, count)| state.add_requested(&mut call.mapped, count))
        } else {
            Err(DeniedError(TeeResult::BAD_PARAMETERS))
        };
        let Ok((handle, _)) = allocated else {
            return self.undo(host, call, request, name);
        };
        let answer = Fmem {
            offset: 0,
            internal_offset: fmem.internal_offset,
            size: fmem.size,
            handle: handle.get(),
        };
        write_answer(host, call, &request, &answer);
        CallStep::Resume(ResumeArgs::NOTHING)
    }

    /// Takes back what OP-TEE had requested (SHM_FREE). The guest still shares it. Returns the guest's name for it.
    pub(crate) fn take_object_back(&self, call: &mut Call, handle: u64) -> Option<GuestCookie> {
        let mut state = self.state.lock();
        let (name, count) = state.return_object(Handle::new(handle))?;
        state.subtract_requested(&mut call.mapped, count);
        Some(name)
    }

    /// Lends OP-TEE a page of the mediator in an internal call.
    pub(crate) fn lend_object<H: Host>(
        &self,
        host: &H,
        call: &Call,
        request: &Request,
    ) -> TeeResult {
        let lendable = self.state.lock().take_lendable();
        let Some((handle, page)) = lendable else {
            return TeeResult::OUT_OF_MEMORY;
        };
        host.clear_shared(&page);
        self.state.lock().lend_object(handle, page);
        let answer = Fmem {
            offset: 0,
            internal_offset: 0,
            size: PAGE_SIZE,
            handle: handle.get(),
        };
        write_param(host, call, request, &answer);
        TeeResult::SUCCESS
    }
}

/// Writes the answer to SHM_ALLOC for OP-TEE.
fn write_answer<H: Host>(host: &H, call: &Call, request: &Request, fmem: &Fmem) {
    write_param(host, call, request, fmem);
    request.conclude(host, call, U32::ZERO, U32::ZERO);
}

fn write_param<H: Host>(host: &H, call: &Call, request: &Request, fmem: &Fmem) {
    // The offset is zero, so there are bits for it.
    let param = fmem.write(Attr::RMEM_OUTPUT).unwrap_or_default();
    let (page, at) = request.tee_copy(call);
    host.write_shared(page, at + msg::HEADER_SIZE, param.as_bytes());
}
