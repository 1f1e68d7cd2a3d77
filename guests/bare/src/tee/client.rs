// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls: single SMCs, and conversations with their RPCs.

use super::message::{Message, PageList};
use super::supplicant::{Act, Supplicant};
use optee_proto::msg::{Command, Param, login};
use optee_proto::smc::{self, pair};
use optee_proto::{FunctionId, Return, TeeResult, Uuid, rpc};

/// How many RPCs one conversation may take before the program is taken to be in a loop.
const MAX_RPCS: u32 = 100_000;

/// An SMC: x0..x7 in, x0..x7 out.
pub type Conduit = fn([u64; 8]) -> [u64; 8];

/// Who speaks to OP-TEE.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    conduit: Conduit,
    /// What goes into a7: at EL2 the VM's number; what a guest puts there must not matter.
    pub a7: u64,
}

/// A suspended call: what it asks for, and how to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Suspended {
    /// The function that is asked for.
    pub function: rpc::Function,
    /// a1 and a2.
    pub args: [u64; 2],
    /// a3: which call this is.
    pub thread: u64,
}

impl Suspended {
    /// a1 and a2 as one value: a cookie, for most functions.
    pub fn cookie(&self) -> u64 {
        smc::unpair(self.args[0], self.args[1])
    }
}

/// Where a call is after an SMC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// It is over, or never began.
    Done(Return),
    /// It waits for the normal world.
    Rpc(Suspended),
}

/// How a conversation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// With this code.
    Done(Return),
    /// It was left suspended on purpose ([`Act::Park`]).
    Parked(Suspended),
}

/// A failure that a call reported: the SMC's code, or the message's result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The SMC's own code was not OK.
    Smc(Return),
    /// The message's result was not success.
    Tee(TeeResult),
    /// The call was left suspended.
    Parked(Suspended),
}

impl Client {
    /// A client with this conduit and a7.
    pub const fn new(conduit: Conduit, a7: u64) -> Self {
        Self { conduit, a7 }
    }

    /// The same conduit with another a7.
    pub const fn with_a7(self, a7: u64) -> Self {
        Self { a7, ..self }
    }

    /// One SMC with a0..a6; a7 is the client's. It gives back x0..x7.
    pub fn smc(&self, id: FunctionId, args: [u64; 6]) -> [u64; 8] {
        let [a1, a2, a3, a4, a5, a6] = args;
        (self.conduit)([id.get().into(), a1, a2, a3, a4, a5, a6, self.a7])
    }

    /// A fast call with one argument: a0..a3 of the answer.
    pub fn fast(&self, id: FunctionId, a1: u64) -> [u64; 4] {
        let [a0, b1, b2, b3, ..] = self.smc(id, [a1, 0, 0, 0, 0, 0]);
        [a0 & 0xffff_ffff, b1, b2, b3]
    }

    /// One SMC, and what it means for a yielding call.
    pub fn step(&self, id: FunctionId, args: [u64; 6]) -> Step {
        let [a0, a1, a2, a3, ..] = self.smc(id, args);
        let code = Return::from_x0(a0);
        match code.rpc() {
            Some(function) => Step::Rpc(Suspended {
                function,
                args: [a1, a2],
                thread: a3,
            }),
            None => Step::Done(code),
        }
    }

    /// Begins a call with a message of its own (CALL_WITH_ARG or CALL_WITH_RPC_ARG).
    pub fn begin(&self, id: FunctionId, message: &Message) -> Step {
        let (upper, lower) = pair(message.address());
        self.step(id, [upper, lower, smc::SHM_CACHED, 0, 0, 0])
    }

    /// Begins a call with a message in registered memory.
    pub fn begin_registered(&self, cookie: u64, offset: u64) -> Step {
        let (upper, lower) = pair(cookie);
        self.step(smc::CALL_WITH_REGD_ARG, [upper, lower, offset, 0, 0, 0])
    }

    /// Goes on after an RPC; `answer` is a1, a2, a4, a5.
    pub fn resume(&self, call: &Suspended, answer: [u64; 4]) -> Step {
        let [a1, a2, a4, a5] = answer;
        self.step(smc::CALL_RETURN_FROM_RPC, [a1, a2, call.thread, a4, a5, 0])
    }

    /// Goes on with a conversation until it is over or `hook` parks it. `hook` sees each RPC
    /// first; what it leaves to the supplicant ([`Act::Default`]) is answered as Linux would.
    pub fn run(
        &self,
        mut step: Step,
        supplicant: &Supplicant,
        mut hook: impl FnMut(&Suspended) -> Act,
    ) -> Outcome {
        for _ in 0..MAX_RPCS {
            let call = match step {
                Step::Done(code) => return Outcome::Done(code),
                Step::Rpc(call) => call,
            };
            let answer = match hook(&call) {
                Act::Default => supplicant.answer(&call),
                Act::Answer(answer) => answer,
                Act::Park => return Outcome::Parked(call),
            };
            step = self.resume(&call, answer);
        }
        panic!("a call that makes {MAX_RPCS} RPCs does not end");
    }

    /// A whole call by CALL_WITH_ARG with ordinary answers.
    ///
    /// # Errors
    /// The code or the result that is not success.
    pub fn call(&self, message: &Message, supplicant: &Supplicant) -> Result<(), Failure> {
        self.call_by(smc::CALL_WITH_ARG, message, supplicant, |_| Act::Default)
    }

    /// A whole call by one of the two functions that take an address.
    ///
    /// # Errors
    /// The code or the result that is not success.
    pub fn call_by(
        &self,
        id: FunctionId,
        message: &Message,
        supplicant: &Supplicant,
        hook: impl FnMut(&Suspended) -> Act,
    ) -> Result<(), Failure> {
        let with = supplicant.with_message(message);
        match self.run(self.begin(id, message), &with, hook) {
            Outcome::Done(Return::OK) => match message.view().ret() {
                TeeResult::SUCCESS => Ok(()),
                result => Err(Failure::Tee(result)),
            },
            Outcome::Done(code) => Err(Failure::Smc(code)),
            Outcome::Parked(call) => Err(Failure::Parked(call)),
        }
    }

    /// Opens a session; gives its number.
    ///
    /// # Errors
    /// The code or the result that is not success.
    pub fn open(&self, supplicant: &Supplicant, app: Uuid) -> Result<u32, Failure> {
        let message = Message::open(app, login::PUBLIC, &[]);
        self.call(&message, supplicant)?;
        Ok(message.view().session())
    }

    /// Invokes a function; gives the parameters back.
    ///
    /// # Errors
    /// The code or the result that is not success.
    pub fn invoke<const N: usize>(
        &self,
        supplicant: &Supplicant,
        session: u32,
        func: u32,
        params: [Param; N],
    ) -> Result<[Param; N], Failure> {
        let message = Message::invoke(session, func, &params);
        self.call(&message, supplicant)?;
        Ok(core::array::from_fn(|index| message.param(index)))
    }

    /// Closes a session.
    ///
    /// # Errors
    /// The code or the result that is not success.
    pub fn close(&self, supplicant: &Supplicant, session: u32) -> Result<(), Failure> {
        self.call(&Message::close(session), supplicant)
    }

    /// Registers a buffer.
    ///
    /// # Errors
    /// The code or the result that is not success.
    pub fn register(
        &self,
        supplicant: &Supplicant,
        cookie: u64,
        list: &PageList,
    ) -> Result<(), Failure> {
        self.call(&Message::register(cookie, list), supplicant)
    }

    /// Unregisters a buffer.
    ///
    /// # Errors
    /// The code or the result that is not success.
    pub fn unregister(&self, supplicant: &Supplicant, cookie: u64) -> Result<(), Failure> {
        self.call(&Message::unregister(cookie), supplicant)
    }

    /// A command without parameters, such as DO_BOTTOM_HALF.
    ///
    /// # Errors
    /// The code or the result that is not success.
    pub fn command(&self, supplicant: &Supplicant, command: Command) -> Result<(), Failure> {
        self.call(&Message::new(command, 0, 0, &[]), supplicant)
    }
}
