// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A yielding call's registers: how a guest begins it, and how it enters and leaves OP-TEE.

use crate::Mediator;
use crate::addr::Ipa;
use crate::call::{BeginError, Call, ResumeArgs};
use crate::host::Host;
use crate::memory::{GuestCookie, MessageLocation};
use crate::transport::{Answer, Entry, Exit};
use optee_proto::{FunctionId, Return, smc};

impl Mediator {
    /// Begins a call with a message: CALL_WITH_ARG, CALL_WITH_RPC_ARG or CALL_WITH_REGD_ARG.
    pub(super) fn begin<H: Host>(&self, host: &H, function: FunctionId, regs: &[u64; 8]) -> Answer {
        let mut call = match self.take_idle_call() {
            Ok(call) => call,
            Err(answer) => return Answer::done(answer),
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

    /// Has a call enter OP-TEE by one SMC.
    #[inline]
    pub(crate) fn run_in_tee_by_smc<H: Host>(&self, host: &H, call: &Call, entry: Entry) -> Exit {
        let args = match entry {
            Entry::Begin => self.beginning(call),
            Entry::Resume { thread, answer } => self.resumption(thread, answer),
        };
        let [a0, a1, a2, a3, ..] = self.secure(host, args);
        let answer = Return::from_x0(a0);
        match answer.rpc() {
            None => Exit::Done(answer),
            Some(function) => Exit::Rpc {
                function,
                thread: a3 as u32,
                value: smc::unpair(a1, a2),
            },
        }
    }

    /// Returns the registers by which a call begins. Whichever function the guest chose, OP-TEE gets the message by address,
    /// in the shadow page.
    #[inline]
    fn beginning(&self, call: &Call) -> [u64; 8] {
        let (a1, a2) = smc::pair(call.shadow.pa().get());
        let (function, cached) = if call.has_rpc_arg {
            (smc::CALL_WITH_RPC_ARG, 0)
        } else {
            (smc::CALL_WITH_ARG, smc::SHM_CACHED)
        };
        let function = function.get().into();
        [function, a1, a2, cached, 0, 0, 0, self.client_id()]
    }

    /// Returns the registers that resume a thread in OP-TEE.
    #[inline]
    fn resumption(&self, thread: u32, ResumeArgs([a1, a2, a4, a5]): ResumeArgs) -> [u64; 8] {
        let function = smc::CALL_RETURN_FROM_RPC.get().into();
        [function, a1, a2, thread.into(), a4, a5, 0, self.client_id()]
    }
}

/// Returns the registers that tell a guest of its call.
#[inline]
pub(super) fn registers(answer: Answer) -> [u64; 4] {
    let (a1, a2) = smc::pair(answer.value);
    [answer.code.get(), a1, a2, answer.token.into()]
}
