// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A call whose message is checked enters OP-TEE, waits, or is refused.

use super::{BeginError, Call, Completion};
use crate::denied::DeniedError;
use crate::host::Host;
use crate::memory::ImportProgress;
use crate::transport::{Answer, Entry};
use crate::{Mediator, rpc};
use alloc::boxed::Box;
use optee_proto::Return;

impl Mediator {
    /// Brings a call whose message is checked to OP-TEE, once all pages of the buffer that it registers are pinned, and
    /// no other call uses the buffer or the session that it ends.
    pub(crate) fn enter<H: Host>(&self, host: &H, mut call: Box<Call>) -> Answer {
        if !matches!(call.completion, Completion::Plain) {
            match self.get_ready(host, &mut call) {
                Ok(ImportProgress::Done) => {}
                Ok(ImportProgress::More) => return self.wait(host, call),
                Err(refused) => return self.refuse(host, call, refused),
            }
        }
        call.rebuild(host);
        self.run(host, call, Entry::Begin)
    }

    /// Gives the guest the pCPU back. A call that waits for other calls asks the guest to sleep meanwhile, if there is room
    /// for a request. A kernel comes back from an interrupt at once, and would do nothing else.
    #[inline(never)]
    pub(super) fn wait<H: Host>(&self, host: &H, mut call: Box<Call>) -> Answer {
        let works = matches!(call.completion, Completion::Register { .. });
        let function = if !works && call.ask_to_sleep(host) {
            rpc::Function::CMD
        } else {
            rpc::Function::FOREIGN_INTR
        };
        self.suspend(call, function, 0)
    }

    /// Tells the guest why its call does not begin.
    #[cold]
    pub(crate) fn refuse<H: Host>(&self, host: &H, call: Box<Call>, refused: BeginError) -> Answer {
        if refused != BeginError::Code(Return::ETHREAD_LIMIT) {
            self.counters.denied.bump();
        }
        let answer = match refused {
            BeginError::Code(answer) => answer,
            BeginError::Result(DeniedError(result)) => match call.write_result(host, result) {
                Ok(()) => Return::OK,
                Err(_) => Return::EBADADDR,
            },
        };
        self.conclude(host, call, None, answer)
    }
}
