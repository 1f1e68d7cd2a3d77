// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A yielding call over FF-A: how a guest begins and resumes it, and how it enters and leaves OP-TEE.
//!
//! The guest's message is at an offset of an object that the guest has shared. OP-TEE gets the call's shadow page, which is an
//! object of its own in the VM's partition, and finds the room for RPC messages behind the message there.

use super::FfaVm;
use crate::Mediator;
use crate::call::Call;
use crate::host::Host;
use crate::memory::GuestCookie;
use crate::rpc;
use crate::transport::{Answer, Entry, Exit};
use ffa_proto::call::{DirectMessage, Payload};
use ffa_proto::{AnswerError, Function, FunctionId, Registers, Width};
use optee_proto::ffa::{self, Service, Status, Words};
use optee_proto::{Return, TeeResult};

impl Mediator {
    /// Begins a call with the message at an offset of an object that the guest has shared (CALL_WITH_ARG).
    pub(super) fn begin_by_handle<H: Host>(
        &self,
        host: &H,
        handle: GuestCookie,
        offset: u32,
    ) -> Answer {
        let mut call = match self.take_idle_call() {
            Ok(call) => call,
            Err(answer) => return Answer::done(answer),
        };
        self.counters.yielding.bump();
        call.has_rpc_arg = true;
        let prepared = self
            .find_in_buffer(&mut call, handle, offset.into())
            .and_then(|()| self.prepare_message(host, &mut call));
        match prepared {
            Ok(()) => self.enter(host, call),
            Err(refused) => self.refuse(host, call, refused),
        }
    }

    /// Has a call enter OP-TEE by one direct request.
    #[inline(never)]
    pub(crate) fn run_in_tee_by_ffa<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        call: &Call,
        entry: Entry,
    ) -> Exit {
        let words = match entry {
            Entry::Begin => {
                let [low, high] = ffa::pair(call.object.get());
                [Service::CALL_WITH_ARG.get(), low, high, 0, 0]
            }
            Entry::Resume { thread, .. } => [Service::RESUME.get(), 0, 0, 0, thread],
        };
        let is_begun = !matches!(entry, Entry::Begin);
        let exit = match self.request(host, ffa, words) {
            Ok(words) => exit(&words, is_begun && call.has_asked),
            // The SPMC did not deliver it: OP-TEE knows nothing of it.
            Err(AnswerError::Refused(_)) if !is_begun => Exit::Done(Return::EBUSY),
            Err(_) => Exit::Lost,
        };
        // Nobody has asked yet whether OP-TEE was told of what the call names: it is in flight.
        let is_taken = !matches!(exit, Exit::Done(Return::ETHREAD_LIMIT | Return::EBUSY));
        let named = call.named_buffers();
        if is_taken && !is_begun && !named.is_empty() {
            self.state.lock().tell(named);
        }
        exit
    }

    /// Makes a direct request of the VM's to OP-TEE, and returns w3 to w7 of its answer.
    ///
    /// # Errors
    /// As [`DirectMessage::read_answer`].
    pub(super) fn request<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        words: Words,
    ) -> Result<Words, AnswerError> {
        // By hand: each call into OP-TEE comes here, and the codec copies 18 registers several times.
        let request = FunctionId::new(Function::MsgSendDirectReq, Width::Smc32).get();
        let addresses = u32::from(ffa.id().get()) << 16 | u32::from(ffa.tee.get());
        let [w3, w4, w5, w6, w7] = words.map(u64::from);
        let answer = self.secure(
            host,
            [request.into(), addresses.into(), 0, w3, w4, w5, w6, w7],
        );
        let [w0, w1, w2, w3, w4, w5, w6, w7] = answer.map(|x| x as u32);
        let response = FunctionId::new(Function::MsgSendDirectResp, Width::Smc32).get();
        if [w0, w1, w2] == [response, addresses.rotate_left(16), 0] {
            return Ok([w3, w4, w5, w6, w7]);
        }
        Err(no_answer(ffa, words, answer))
    }
}

/// Returns what is wrong with an answer.
#[cold]
fn no_answer(ffa: &FfaVm, words: Words, answer: [u64; 8]) -> AnswerError {
    let message = DirectMessage {
        source: ffa.id(),
        destination: ffa.tee,
        framework: None,
        payload: Payload::Smc32(words),
    };
    let answer = Registers::from_8(answer);
    let read = message.read_answer(&answer, ffa.spmc.version);
    read.err().unwrap_or(AnswerError::Unexpected(answer.id()))
}

/// Returns an answer that is a status in w3 and nothing else.
pub(super) const fn status(status: Status) -> Words {
    [status.to_w(), 0, 0, 0, 0]
}

/// Returns how a call has left OP-TEE. `has_asked`: OP-TEE has acted upon the message before.
fn exit(words: &Words, has_asked: bool) -> Exit {
    match ffa::Return::read(words) {
        Ok(ffa::Return::Done) => Exit::Done(Return::OK),
        Ok(ffa::Return::RpcCommand(thread)) => Exit::Rpc {
            function: rpc::Function::CMD,
            thread,
            // The request is behind the message.
            value: 0,
        },
        Ok(ffa::Return::Interrupt(thread)) => Exit::Rpc {
            function: rpc::Function::FOREIGN_INTR,
            thread,
            value: 0,
        },
        Err(_) if has_asked => Exit::Lost,
        Err(Status::TEE_BUSY) => Exit::Done(Return::ETHREAD_LIMIT),
        Err(Status::TEE_BAD_PARAMETERS) => Exit::Done(Return::EBADADDR),
        Err(Status::TEE_OUT_OF_MEMORY) => Exit::Done(Return::ENOMEM),
        Err(_) => Exit::Lost,
    }
}

/// Returns w3 to w7 of what a guest hears of its call.
pub(super) fn words(answer: Answer) -> Words {
    let token = answer.token;
    match (answer.code, answer.code.rpc()) {
        (_, Some(rpc::Function::CMD)) => ffa::Return::RpcCommand(token).to_words(),
        (_, Some(_)) => ffa::Return::Interrupt(token).to_words(),
        (Return::OK, None) => ffa::Return::Done.to_words(),
        (code, None) => status(match code {
            // The guest tries again when a call of its own has ended.
            Return::ETHREAD_LIMIT | Return::EBUSY => Status::TEE_BUSY,
            Return::ENOMEM => Status::TEE_OUT_OF_MEMORY,
            Return::ENOTAVAIL => Status::from_w(TeeResult::COMMUNICATION.0),
            _ => Status::TEE_BAD_PARAMETERS,
        }),
    }
}
