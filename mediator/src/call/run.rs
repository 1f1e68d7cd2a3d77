// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A yielding call in OP-TEE: from entry to exit, until it is done or needs the guest.

use super::{Call, CallStep, Completion, MAX_ROUNDS, Pending, ResumeArgs};
use crate::Mediator;
use crate::host::{ForeignInterrupt, Host};
use crate::rpc::Function;
use crate::transport::{Answer, Entry, Exit};
use alloc::boxed::Box;
use core::mem;
use optee_proto::Return;

/// The return code at teardown, which no guest sees.
const NO_GUEST: Return = Return::OK;

impl Mediator {
    /// Has a call enter OP-TEE until it is done or the guest has to do something.
    pub(crate) fn run<H: Host>(&self, host: &H, mut call: Box<Call>, mut entry: Entry) -> Answer {
        for _ in 0..MAX_ROUNDS {
            let (function, thread, value) = match self.run_in_tee(host, &call, entry) {
                Exit::Done(answer) => return self.finish_call(host, call, answer),
                Exit::Lost => return self.poison(call),
                Exit::Rpc {
                    function,
                    thread,
                    value,
                } => (function, thread, value),
            };
            // A call has one thread from its first RPC to its end.
            let next = if *call.thread.get_or_insert(thread) == thread {
                self.ask(host, &mut call, function, value)
            } else {
                CallStep::Poison
            };
            match next {
                CallStep::Resume(answer) if !call.releases.is_empty() => {
                    return self.pause(call, Pending::Resume(answer));
                }
                CallStep::Resume(answer) => entry = Entry::Resume { thread, answer },
                CallStep::AskGuest(function, value) => {
                    return self.suspend(call, function, value);
                }
                CallStep::Poison => return self.poison(call),
            }
        }
        // The guest and the hypervisor get their turn, whatever OP-TEE does.
        let answer = match entry {
            Entry::Begin => ResumeArgs::NOTHING,
            Entry::Resume { answer, .. } => answer,
        };
        self.pause(call, Pending::Resume(answer))
    }

    /// Lets the guest run, as after an interrupt, before a call continues.
    #[inline(never)]
    pub(super) fn pause(&self, mut call: Box<Call>, pending: Pending) -> Answer {
        call.pending = pending;
        self.suspend(call, Function::FOREIGN_INTR, 0)
    }

    /// Handles an RPC from OP-TEE.
    fn ask<H: Host>(&self, host: &H, call: &mut Call, function: Function, value: u64) -> CallStep {
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
                call.has_asked = true;
                let source = self.find_request(host, call, value);
                self.ask_command(host, call, source)
            }
            Function::ALLOC => self.ask_alloc(call, value >> 32),
            Function::FREE => self.ask_free(host, call, value),
            _ => CallStep::Poison,
        }
    }

    /// Leaves a call to the guest, which is to execute `function`.
    pub(super) fn suspend(&self, call: Box<Call>, function: Function, value: u64) -> Answer {
        let token = self.store_suspended(call);
        Answer::ask(function, value, token)
    }

    /// Continues the call of this token when the guest returns from an RPC. Where the guest has allocated memory for RPC
    /// messages, `memory` is its address and its cookie.
    pub(crate) fn resume<H: Host>(&self, host: &H, token: u32, memory: [u64; 2]) -> Answer {
        let mut call = match self.take_suspended(token) {
            Ok(call) => call,
            Err(answer) => return Answer::done(answer),
        };
        call.is_resumed = true;
        let next = match mem::replace(&mut call.pending, Pending::Nothing) {
            Pending::Enter => return self.enter(host, call),
            Pending::Release(answer) => return self.conclude_release(host, call, answer),
            Pending::Resume(answer) => self.resume_after_pause(host, &mut call, answer),
            Pending::Alloc => self.answer_alloc(host, memory, &mut call),
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
    fn proceed<H: Host>(&self, host: &H, call: Box<Call>, next: CallStep) -> Answer {
        match next {
            // OP-TEE could return more and more memory, which would all be unpinned at the end at once.
            CallStep::Resume(answer) if !call.releases.is_empty() => {
                self.pause(call, Pending::Resume(answer))
            }
            CallStep::Resume(answer) => {
                let thread = call.thread.unwrap_or(0);
                self.run(host, call, Entry::Resume { thread, answer })
            }
            CallStep::AskGuest(function, value) => self.suspend(call, function, value),
            CallStep::Poison => self.poison(call),
        }
    }
}
