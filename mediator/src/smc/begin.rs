// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A yielding call's registers on its way to OP-TEE.

use super::code;
use crate::addr::Ipa;
use crate::call::{BeginError, Call, Completion};
use crate::denied::DeniedError;
use crate::host::Host;
use crate::memory::{GuestCookie, ImportProgress, MessageLocation};
use crate::{Mediator, rpc};
use alloc::boxed::Box;
use optee_proto::{FunctionId, Return, smc};

impl Mediator {
    /// Begins a call with a message: CALL_WITH_ARG, CALL_WITH_RPC_ARG or CALL_WITH_REGD_ARG.
    pub(super) fn begin<H: Host>(
        &self,
        host: &H,
        function: FunctionId,
        regs: &[u64; 8],
    ) -> [u64; 4] {
        let mut call = match self.take_idle_call() {
            Ok(call) => call,
            Err(answer) => return code(answer),
        };
        self.counters.yielding.bump();
        let prepared = self
            .find_message(&mut call, function, regs)
            .and_then(|()| self.prepare_message(host, &mut call));
        match prepared {
            Ok(()) => self.enter(host, call),
            Err(refused) => self.refuse(host, call, refused),
        }
    }

    /// Finds out from the registers where the guest's message is.
    #[inline]
    fn find_message(
        &self,
        call: &mut Call,
        function: FunctionId,
        regs: &[u64; 8],
    ) -> Result<(), BeginError> {
        let value = smc::unpair(regs[1], regs[2]);
        call.has_rpc_arg = function != smc::CALL_WITH_ARG;
        if function == smc::CALL_WITH_REGD_ARG {
            self.find_in_buffer(call, GuestCookie(value), regs[3] & 0xffff_ffff)?;
        } else {
            let at = Ipa::new(value);
            if !at.is_page_aligned() {
                return Err(BeginError::Code(Return::EBADADDR));
            }
            call.location = MessageLocation::page(at);
        }
        Ok(())
    }

    /// Brings a call whose message is checked to OP-TEE, once all pages of the buffer that it registers are pinned, and
    /// no other call uses the buffer or the session that it ends.
    pub(crate) fn enter<H: Host>(&self, host: &H, mut call: Box<Call>) -> [u64; 4] {
        if !matches!(call.completion, Completion::Plain) {
            match self.get_ready(host, &mut call) {
                Ok(ImportProgress::Done) => {}
                Ok(ImportProgress::More) => return self.wait(host, call),
                Err(refused) => return self.refuse(host, call, refused),
            }
        }
        call.rebuild(host);
        let (a1, a2) = smc::pair(call.shadow.pa().get());
        // Whichever function the guest chose, OP-TEE gets the message by address, in the shadow page.
        let (function, cached) = if call.has_rpc_arg {
            (smc::CALL_WITH_RPC_ARG, 0)
        } else {
            (smc::CALL_WITH_ARG, smc::SHM_CACHED)
        };
        let args = [
            function.get().into(),
            a1,
            a2,
            cached,
            0,
            0,
            0,
            self.client_id(),
        ];
        self.run(host, call, args)
    }

    /// Gives the guest the pCPU back. A call that waits for other calls asks the guest to sleep meanwhile, if there is room
    /// for a request. A kernel comes back from an interrupt at once, and would do nothing else.
    #[inline(never)]
    fn wait<H: Host>(&self, host: &H, mut call: Box<Call>) -> [u64; 4] {
        let works = matches!(call.completion, Completion::Register { .. });
        let function = if !works && call.ask_to_sleep(host) {
            rpc::Function::CMD
        } else {
            rpc::Function::FOREIGN_INTR
        };
        self.suspend(call, function.a0(), 0)
    }

    /// Tells the guest why its call does not begin.
    #[cold]
    fn refuse<H: Host>(&self, host: &H, call: Box<Call>, refused: BeginError) -> [u64; 4] {
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
