// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A yielding call in OP-TEE: from SMC to SMC, until it is done or needs the guest.

use super::code;
use crate::Mediator;
use crate::call::{Call, CallStep, Completion, MAX_ROUNDS, Pending, ResumeArgs};
use crate::host::{ForeignInterrupt, Host};
use crate::rpc::Function;
use alloc::boxed::Box;
use core::mem;
use optee_proto::{Return, smc};

/// The return code at teardown, which no guest sees.
const NO_GUEST: Return = Return::OK;

impl Mediator {
    /// Makes SMCs for a call until it is done or the guest has to do something.
    pub(crate) fn run<H: Host>(
        &self,
        host: &H,
        mut call: Box<Call>,
        mut args: [u64; 8],
    ) -> [u64; 4] {
        for _ in 0..MAX_ROUNDS {
            let [a0, a1, a2, a3] = self.secure(host, args);
            let answer = Return::from_x0(a0);
            let Some(function) = answer.rpc() else {
                return self.finish_call(host, call, answer);
            };
            // A call has one thread from its first RPC to its end.
            let thread = a3 as u32;
            let next = if *call.thread.get_or_insert(thread) == thread {
                self.ask(host, &mut call, function, [a1, a2])
            } else {
                CallStep::Poison
            };
            match next {
                CallStep::Resume(answer) if !call.releases.is_empty() => {
                    return self.pause(call, Pending::Resume(answer));
                }
                CallStep::Resume(answer) => args = self.resumption(thread, answer),
                CallStep::AskGuest(function, value) => {
                    return self.suspend(call, function.a0(), value);
                }
                CallStep::Poison => return self.poison(call),
            }
        }
        // The guest and the hypervisor get their turn, whatever OP-TEE does.
        let answer = ResumeArgs([args[1], args[2], args[4], args[5]]);
        self.pause(call, Pending::Resume(answer))
    }

    /// Lets the guest run, as after an interrupt, before a call continues.
    #[inline(never)]
    pub(super) fn pause(&self, mut call: Box<Call>, pending: Pending) -> [u64; 4] {
        call.pending = pending;
        self.suspend(call, Function::FOREIGN_INTR.a0(), 0)
    }

    /// Handles an RPC from OP-TEE.
    fn ask<H: Host>(
        &self,
        host: &H,
        call: &mut Call,
        function: Function,
        [a1, a2]: [u64; 2],
    ) -> CallStep {
        match function {
            Function::FOREIGN_INTR => {
                self.counters.foreign_intr.bump();
                match host.foreign_interrupt() {
                    ForeignInterrupt::Resume => CallStep::Resume(ResumeArgs::NOTHING),
                    ForeignInterrupt::ReturnToGuest => {
                        call.pending = Pending::Resume(ResumeArgs::NOTHING);
                        CallStep::AskGuest(Function::FOREIGN_INTR, 0)
                    }
                }
            }
            Function::CMD => {
                let source = self.find_request(host, call, smc::unpair(a1, a2));
                self.ask_command(host, call, source)
            }
            Function::ALLOC => self.ask_alloc(call, a1 & 0xffff_ffff),
            Function::FREE => self.ask_free(host, call, smc::unpair(a1, a2)),
            _ => CallStep::Poison,
        }
    }

    /// Returns the registers that resume a thread in OP-TEE.
    fn resumption(&self, thread: u32, ResumeArgs([a1, a2, a4, a5]): ResumeArgs) -> [u64; 8] {
        let function = smc::CALL_RETURN_FROM_RPC.get().into();
        [function, a1, a2, thread.into(), a4, a5, 0, self.client_id()]
    }

    /// Leaves a call to the guest, with `a0` and `value` to tell it.
    pub(super) fn suspend(&self, call: Box<Call>, a0: u64, value: u64) -> [u64; 4] {
        let (a1, a2) = smc::pair(value);
        [a0, a1, a2, self.store_suspended(call).into()]
    }

    /// Continues a call when the guest returns from an RPC.
    pub(super) fn resume<H: Host>(&self, host: &H, regs: &[u64; 8]) -> [u64; 4] {
        let mut call = match self.take_suspended(regs[3] as u32) {
            Ok(call) => call,
            Err(answer) => return code(answer),
        };
        let next = match mem::replace(&mut call.pending, Pending::Nothing) {
            Pending::Enter => return self.enter(host, call),
            Pending::Release(answer) => return self.conclude_release(host, call, answer),
            Pending::Resume(answer) => self.resume_after_pause(host, &mut call, answer),
            Pending::Alloc => self.answer_alloc(
                host,
                smc::unpair(regs[1], regs[2]),
                smc::unpair(regs[4], regs[5]),
                &mut call,
            ),
            Pending::Command(request) => self.answer_command(host, &mut call, request),
            Pending::Import {
                request,
                cookie,
                import,
            } => self.import_allocation(host, &mut call, request, cookie, import),
            Pending::Undo(request) => self.answer_out_of_memory(host, &call, request),
            // A call that waits for nothing is not suspended.
            Pending::Nothing => CallStep::Poison,
        };
        self.proceed(host, call, next)
    }

    /// Continues a call at teardown: whatever the call waits for fails. The guest's memory is not read.
    pub(crate) fn resume_without_guest<H: Host>(&self, host: &H, mut call: Box<Call>) {
        let next = match mem::replace(&mut call.pending, Pending::Nothing) {
            // The open session must be closed.
            Pending::Enter if matches!(call.completion, Completion::CloseDenied { .. }) => {
                self.enter(host, call);
                return;
            }
            Pending::Enter => {
                self.conclude(host, call, None, NO_GUEST);
                return;
            }
            Pending::Release(_) => {
                self.conclude_release(host, call, NO_GUEST);
                return;
            }
            Pending::Resume(answer) => self.resume_after_pause(host, &mut call, answer),
            Pending::Alloc => CallStep::Resume(ResumeArgs::NOTHING),
            Pending::Command(request) | Pending::Undo(request) => {
                self.answer_out_of_memory(host, &call, request)
            }
            Pending::Import {
                request,
                cookie,
                import,
            } => {
                self.release_import(host, &mut call, cookie, Some(import));
                self.answer_out_of_memory(host, &call, request)
            }
            Pending::Nothing => CallStep::Poison,
        };
        self.proceed(host, call, next);
    }

    /// Continues a call after the guest has run. Some pages that OP-TEE has returned are unpinned first.
    #[inline]
    fn resume_after_pause<H: Host>(
        &self,
        host: &H,
        call: &mut Call,
        answer: ResumeArgs,
    ) -> CallStep {
        if !call.releases.is_empty() {
            self.unpin_some(host, call);
        }
        CallStep::Resume(answer)
    }

    /// Moves a call to where the answer to its RPC sends it.
    fn proceed<H: Host>(&self, host: &H, call: Box<Call>, next: CallStep) -> [u64; 4] {
        match next {
            // OP-TEE could return more and more memory, which would all be unpinned at the end at once.
            CallStep::Resume(answer) if !call.releases.is_empty() => {
                self.pause(call, Pending::Resume(answer))
            }
            CallStep::Resume(answer) => {
                let thread = call.thread.unwrap_or(0);
                self.run(host, call, self.resumption(thread, answer))
            }
            CallStep::AskGuest(function, value) => self.suspend(call, function.a0(), value),
            CallStep::Poison => self.poison(call),
        }
    }
}
