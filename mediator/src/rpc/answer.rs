// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The guest's answer to a command is fetched, and its outputs are copied.

use super::{Request, RpcMessage};
use crate::Mediator;
use crate::call::{Call, CallStep, ResumeArgs};
use crate::host::Host;
use crate::transport::MemoryNames;
use optee_proto::TeeResult;
use optee_proto::msg::{self, PARAM_SIZE};
use optee_proto::rpc::Command;
use zerocopy::IntoBytes;

impl Mediator {
    /// Takes the guest's answer to a request.
    // Large, and not on the path of a call without RPCs.
    #[inline(never)]
    pub(crate) fn answer_command<H: Host>(
        &self,
        host: &H,
        call: &mut Call,
        request: Request,
    ) -> CallStep {
        let Ok(guest_answer) = request.read_guest(host, call) else {
            self.counters.denied.bump();
            // Whatever the guest did, its answer cannot be read.
            request.fail(host, call, TeeResult::COMMUNICATION);
            self.return_rpc_buffer(request);
            return CallStep::Resume(ResumeArgs::NOTHING);
        };
        if request.command == Command::SHM_ALLOC && guest_answer.header.ret.get() == 0 {
            let param = &guest_answer.params[0];
            return match self.memory_names() {
                MemoryNames::Guest => self.answer_shm_alloc(host, call, request, param),
                MemoryNames::Spmc => self.answer_shm_alloc_by_handle(host, call, request, param),
            };
        }
        if request.command == Command::LOAD_TA && guest_answer.header.ret.get() == 0 {
            self.note_user_ta(call, &request);
        }
        request.copy_outputs(host, call, &guest_answer);
        request.conclude(
            host,
            call,
            guest_answer.header.ret,
            guest_answer.header.ret_origin,
        );
        self.return_rpc_buffer(request);
        CallStep::Resume(ResumeArgs::NOTHING)
    }

    /// Notes that the guest has code that OP-TEE requested. UUIDs without code are not remembered, however many
    /// a client tries.
    #[inline(never)]
    pub(super) fn note_user_ta(&self, call: &Call, request: &Request) {
        if let Some(app) = request.requested_code(call) {
            self.state.lock().note_user_ta(app);
        }
    }
}

impl Request {
    /// Copies the outputs of the guest's answer to OP-TEE's request, and nothing else.
    fn copy_outputs<H: Host>(&self, host: &H, call: &Call, guest_answer: &RpcMessage) {
        let (page, offset) = self.tee_copy(call);
        for at in 0..self.count {
            if self.kinds[at].is_out() {
                let mut param = self.params[at];
                self.kinds[at].copy_out(&guest_answer.params[at], &mut param);
                let at = offset + msg::size(at);
                host.write_shared(page, at, &param.as_bytes()[..PARAM_SIZE]);
            }
        }
    }
}
