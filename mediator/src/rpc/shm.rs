// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Allocations for OP-TEE's data that fail or end: SHM_ALLOC and SHM_FREE.

use super::{Function, Request, RpcMessage};
use crate::Mediator;
use crate::call::{Call, CallStep, Pending, ResumeArgs};
use crate::host::Host;
use crate::memory::GuestCookie;
use crate::memory::pin::Release;
use optee_proto::TeeResult;
use optee_proto::le::U32;
use optee_proto::msg::{Attr, Header, Param};
use optee_proto::rpc::Command;

impl Mediator {
    /// Unpins memory that OP-TEE had requested, for a call that continues.
    pub(crate) fn release_asked<H: Host>(&self, host: &H, call: &mut Call, release: Release) {
        let count = release.count;
        self.state
            .lock()
            .subtract_requested(&mut call.mapped, count);
        self.release(host, call, release);
    }

    /// Has the guest free an unusable allocation, by a request of the mediator. OP-TEE is told of the failure
    /// afterwards.
    pub(crate) fn undo<H: Host>(
        &self,
        host: &H,
        call: &mut Call,
        request: Request,
        guest: GuestCookie,
    ) -> CallStep {
        self.counters.denied.bump();
        let kind = request.params[0].a.get();
        let mut message = RpcMessage {
            header: Header {
                cmd: U32::new(Command::SHM_FREE.0),
                num_params: U32::new(1),
                ..Header::default()
            },
            ..RpcMessage::default()
        };
        message.params[0] = Param::new(Attr::VALUE_INPUT, kind, guest.0, 0);
        if request.write_guest(host, call, &message, 1).is_err() {
            return self.fail_shm_alloc(host, call, request);
        }
        let name = self.guest_cookie(&request);
        call.pending = Pending::Undo(request);
        CallStep::AskGuest(Function::CMD, name)
    }

    /// Tells OP-TEE that there is no memory, after the guest has freed the unusable allocation.
    pub(crate) fn answer_out_of_memory<H: Host>(
        &self,
        host: &H,
        call: &Call,
        request: Request,
    ) -> CallStep {
        request.fail(host, call, TeeResult::OUT_OF_MEMORY);
        self.return_rpc_buffer(request);
        CallStep::Resume(ResumeArgs::NOTHING)
    }

    /// Tells OP-TEE that there is no memory, and counts that as denied.
    pub(crate) fn fail_shm_alloc<H: Host>(
        &self,
        host: &H,
        call: &Call,
        request: Request,
    ) -> CallStep {
        self.counters.denied.bump();
        self.answer_out_of_memory(host, call, request)
    }
}
