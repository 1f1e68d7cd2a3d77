// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The end of a yielding call: what OP-TEE and the guest are told.

use super::{Call, Completion, Pending};
use crate::Mediator;
use crate::host::Host;
use crate::transport::Answer;
use alloc::boxed::Box;
use optee_proto::{Return, TeeResult};

impl Mediator {
    /// Ends a call that OP-TEE has returned from with `answer`.
    pub(super) fn finish_call<H: Host>(
        &self,
        host: &H,
        mut call: Box<Call>,
        answer: Return,
    ) -> Answer {
        let is_done = match answer {
            Return::OK => true,
            // OP-TEE has not acted upon the message.
            Return::EBADADDR | Return::EBADCMD | Return::ENOMEM => false,
            Return::ETHREAD_LIMIT | Return::ENOTAVAIL | Return::EBUSY if call.thread.is_none() => {
                false
            }
            // Anything else leaves open what OP-TEE still uses.
            _ => return self.poison(call),
        };
        if matches!(call.completion, Completion::CloseDenied { .. }) {
            return self.finish_denied_close(host, call, answer);
        }
        if answer == Return::ETHREAD_LIMIT && self.ffa.is_some() {
            return self.without_thread(host, call);
        }
        if !is_done {
            return self.conclude(host, call, None, answer);
        }
        let result = call.collect(host);
        if result == TeeResult::SUCCESS && self.is_denied_after_open(&call) {
            self.turn_into_close(host, &mut call);
            return self.enter(host, call);
        }
        let answer = reported(call.report(host).is_ok());
        self.conclude(host, call, Some(result), answer)
    }

    /// Ends the call in which OP-TEE was to close a session that the policy denies. The guest hears that it was denied.
    #[cold]
    fn finish_denied_close<H: Host>(&self, host: &H, call: Box<Call>, answer: Return) -> Answer {
        // The session must not stay open, so this goes on when there is a thread for it.
        if answer == Return::ETHREAD_LIMIT {
            return self.pause(call, Pending::Enter);
        }
        let result = if answer == Return::OK {
            call.read_result(host)
        } else {
            TeeResult(u32::MAX)
        };
        let told = reported(call.report(host).is_ok());
        self.conclude(host, call, Some(result), told)
    }

    /// Goes on with a call for which OP-TEE has no thread: the guest waits until another call of its own has ended. A call that
    /// it has resumed begins again itself.
    #[cold]
    fn without_thread<H: Host>(&self, host: &H, mut call: Box<Call>) -> Answer {
        let others = self.state.lock().calls_in_flight() > 1;
        if call.is_resumed && others {
            call.pending = Pending::Enter;
            return self.wait(host, call);
        }
        // Poisoned calls never end.
        let answer = if others {
            Return::ETHREAD_LIMIT
        } else {
            Return::ENOTAVAIL
        };
        self.conclude(host, call, None, answer)
    }

    /// Settles a call, of which OP-TEE has said `result`, or nothing where it has not acted upon the message. The guest gets
    /// `answer`, now or when all pages are unpinned.
    pub(super) fn conclude<H: Host>(
        &self,
        host: &H,
        call: Box<Call>,
        result: Option<TeeResult>,
        answer: Return,
    ) -> Answer {
        match self.settle(host, call, result) {
            None => Answer::done(answer),
            Some(call) => self.pause(call, Pending::Release(answer)),
        }
    }

    /// Goes on unpinning the pages of a call that is done.
    #[cold]
    pub(super) fn conclude_release<H: Host>(
        &self,
        host: &H,
        call: Box<Call>,
        answer: Return,
    ) -> Answer {
        match self.finish(host, call) {
            None => Answer::done(answer),
            Some(call) => self.pause(call, Pending::Release(answer)),
        }
    }

    /// Keeps a call that OP-TEE broke until the VM's end.
    pub(super) fn poison(&self, call: Box<Call>) -> Answer {
        self.keep_poisoned(call);
        Answer::done(Return::ENOTAVAIL)
    }
}

/// Returns what the guest hears of a call whose result was written to its message, or was not since the guest has taken
/// the memory away.
const fn reported(is_written: bool) -> Return {
    if is_written {
        Return::OK
    } else {
        Return::EBADADDR
    }
}
