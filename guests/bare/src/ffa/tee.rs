// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls to OP-TEE over FF-A: single steps, and conversations with their RPCs.
//!
//! A call's message is in shared memory of the client's, and the room for RPC messages is behind it.

use super::{Answer, Endpoint};
use crate::pages::Pages;
use crate::tee::message::View;
use crate::tee::{Supplicant, supplicant};
use alloc::format;
use alloc::string::String;
use ffa_proto::ErrorCode;
use optee_proto::ffa::{Fmem, Return, Service, Status, pair};
use optee_proto::msg::{self, Attr, Command, Header, Param, login};
use optee_proto::{TeeResult, Uuid, rpc};

/// The number of RPCs after which a conversation is taken to be a loop.
const MAX_RPCS: u32 = 100_000;

/// Pages that are shared with OP-TEE.
#[derive(Debug)]
pub struct Shared {
    /// The pages.
    pub pages: Pages,
    /// Their handle.
    pub handle: u64,
}

impl Shared {
    /// Takes and shares pages.
    ///
    /// # Errors
    /// The refusal of MEM_SHARE.
    pub fn new(endpoint: &Endpoint, count: usize) -> Result<Self, Refusal> {
        Self::of(endpoint, Pages::take(count))
    }

    /// Shares pages.
    ///
    /// # Errors
    /// The refusal of MEM_SHARE.
    pub fn of(endpoint: &Endpoint, pages: Pages) -> Result<Self, Refusal> {
        let answer = endpoint.share(&[(pages.address(), pages.count() as u32)]);
        let handle = answer.handle().ok_or(Refusal::of(answer))?;
        Ok(Self { pages, handle })
    }

    /// Gives the pages back to the program: UNREGISTER_SHM, then MEM_RECLAIM. Where the latter is refused, they are
    /// never used again.
    pub fn unshare(self, endpoint: &Endpoint) -> Answer {
        // A refusal shows in the reclaim.
        let _ = endpoint.unregister(self.handle);
        let answer = endpoint.reclaim(self.handle);
        if !answer.is_success() {
            self.pages.forget();
        }
        answer
    }

    /// Returns a reference to `size` bytes at an offset.
    pub fn part(&self, attr: Attr, offset: u64, size: u64) -> Param {
        fmem(attr, self.handle, offset, size)
    }
}

impl Endpoint {
    /// Has OP-TEE forget the memory of a handle (UNREGISTER_SHM); returns the status in w3.
    ///
    /// # Errors
    /// An answer that has none.
    pub fn unregister(&self, handle: u64) -> Result<u32, Refusal> {
        let [low, high] = pair(handle);
        let answer = self.direct([Service::UNREGISTER_SHM.get(), low, high, 0, 0]);
        let [status, ..] = answer.direct().ok_or(Refusal::of(answer))?;
        Ok(status)
    }
}

/// Returns a reference to memory, with internal offset zero.
///
/// # Panics
/// The offset has more than 48 bits.
pub fn fmem(attr: Attr, handle: u64, offset: u64, size: u64) -> Param {
    let fmem = Fmem {
        offset,
        internal_offset: 0,
        size,
        handle,
    };
    fmem.write(attr).expect("an offset of 48 bits")
}

/// What a call came to, if not to success.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// An error of FF-A.
    Ffa(ErrorCode),
    /// A status in w3.
    Status(Status),
    /// The message's result.
    Tee(TeeResult),
    /// It was left suspended, under this number.
    Parked(u32),
    /// Something that is no answer to such a call.
    Strange(Answer),
}

impl Refusal {
    fn of(answer: Answer) -> Self {
        match answer.error() {
            Some(code) => Self::Ffa(code),
            None => Self::Strange(answer),
        }
    }
}

/// Describes a status in w3 in a few words.
pub fn describe_status(result: Result<u32, Refusal>) -> String {
    match result.map(|status| status as i32) {
        Ok(0) => "OK".into(),
        Ok(-2) => "INVALID_PARAMETERS".into(),
        Ok(-4) => "BUSY".into(),
        Ok(-6) => "DENIED".into(),
        Ok(other) => format!("w3 = {other:#x}"),
        Err(why) => describe::<()>(&Err(why)),
    }
}

/// Describes a result in a few words.
pub fn describe<T>(result: &Result<T, Refusal>) -> String {
    match result {
        Ok(_) => "success".into(),
        Err(Refusal::Ffa(code)) => match code.name() {
            Some(name) => name.into(),
            None => format!("error {}", code.get()),
        },
        Err(Refusal::Status(status)) => format!("w3 = {:#x}", status.to_w()),
        Err(Refusal::Tee(result)) => format!("result {:#x}", result.0),
        Err(Refusal::Parked(_)) => "suspended".into(),
        Err(Refusal::Strange(answer)) => format!("{answer}"),
    }
}

/// What to do with an RPC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// What the supplicant would do.
    Default,
    /// Nothing: the message has its answer.
    Answered,
    /// Nothing, not now.
    Park,
}

/// A step of a yielding call.
pub type Step = Result<Return, Refusal>;

/// A client of OP-TEE, with shared memory for one message at a time.
#[derive(Debug)]
pub struct Tee {
    /// Who calls.
    pub endpoint: Endpoint,
    /// Where its messages are.
    pub room: Shared,
    /// The offset of the message in that memory.
    pub offset: u32,
    /// Who answers RPCs.
    pub supplicant: Supplicant,
}

impl Tee {
    /// Returns a client with a page of its own for messages.
    ///
    /// # Errors
    /// The refusal of MEM_SHARE.
    pub fn new(endpoint: Endpoint) -> Result<Self, Refusal> {
        Ok(Self {
            endpoint,
            room: Shared::new(&endpoint, 1)?,
            offset: 0,
            supplicant: Supplicant::new(crate::tee::cpio::initrd()),
        })
    }

    /// Returns the message.
    pub fn message(&self) -> View {
        View(self.room.pages.address() + u64::from(self.offset))
    }

    /// Returns the RPC message, behind the message.
    pub fn rpc(&self) -> View {
        let message = self.message();
        View(message.0 + msg::size(message.num_params() as usize) as u64)
    }

    /// Writes a message.
    pub fn put(&self, command: Command, func: u32, session: u32, params: &[Param]) {
        self.message().set_header(&Header {
            cmd: command.0.into(),
            func: func.into(),
            session: session.into(),
            // What was not answered must not look like success.
            ret: 0xdead_beef.into(),
            num_params: (params.len() as u32).into(),
            ..Header::default()
        });
        for (index, param) in params.iter().enumerate() {
            self.message().set_param(index, param);
        }
    }

    /// Writes OPEN_SESSION of an application.
    pub fn put_open(&self, app: Uuid) {
        let (a, b) = app.to_value();
        let params = [
            Param::new(Attr::META_VALUE_INPUT, a, b, 0),
            Param::new(Attr::META_VALUE_INPUT, 0, 0, login::PUBLIC.into()),
        ];
        self.put(Command::OPEN_SESSION, 0, 0, &params);
    }

    fn step(&self, words: [u32; 5]) -> Step {
        let answer = self.endpoint.direct(words);
        let words = answer.direct().ok_or(Refusal::of(answer))?;
        Return::read(&words).map_err(Refusal::Status)
    }

    /// Begins a call with the message.
    pub fn begin(&self) -> Step {
        self.begin_at(self.room.handle, self.offset)
    }

    /// Begins a call with a message at an offset of some memory.
    pub fn begin_at(&self, handle: u64, offset: u32) -> Step {
        let [low, high] = pair(handle);
        self.step([Service::CALL_WITH_ARG.get(), low, high, offset, 0])
    }

    /// Goes on with a call.
    pub fn resume(&self, call: u32) -> Step {
        self.step([Service::RESUME.get(), 0, 0, 0, call])
    }

    /// Goes on with a conversation until it is over or `hook` parks it. `hook` sees each RPC first.
    ///
    /// # Errors
    /// A result that is not success, or the call that was parked.
    ///
    /// # Panics
    /// The conversation does not end.
    pub fn run(&self, mut step: Step, mut hook: impl FnMut(View) -> Act) -> Result<(), Refusal> {
        for _ in 0..MAX_RPCS {
            let call = match step? {
                Return::Done => {
                    let result = self.message().ret();
                    let good = result == TeeResult::SUCCESS;
                    return good.then_some(()).ok_or(Refusal::Tee(result));
                }
                Return::Interrupt(call) => call,
                Return::RpcCommand(call) => {
                    match hook(self.rpc()) {
                        Act::Default => self.answer(self.rpc()),
                        Act::Answered => {}
                        Act::Park => return Err(Refusal::Parked(call)),
                    }
                    call
                }
            };
            step = self.resume(call);
        }
        panic!("a call that makes {MAX_RPCS} RPCs does not end");
    }

    /// Answers an RPC as Linux does.
    pub fn answer(&self, view: View) {
        let result = match rpc::Command(view.cmd()) {
            rpc::Command::SHM_ALLOC => self.allocate(view),
            rpc::Command::SHM_FREE => {
                self.free(view.param(0).b.get());
                TeeResult::SUCCESS
            }
            _ => self.supplicant.do_command(view),
        };
        view.set_ret(result);
    }

    fn allocate(&self, view: View) -> TeeResult {
        let size = view.param(0).b.get();
        let pages = (size as usize).div_ceil(crate::PAGE_SIZE as usize).max(1);
        let shared = Pages::try_take(pages).map(|pages| Shared::of(&self.endpoint, pages));
        let Some(Ok(Shared { pages, handle })) = shared else {
            return TeeResult::OUT_OF_MEMORY;
        };
        view.set_param(0, &fmem(Attr::RMEM_OUTPUT, handle, 0, size));
        supplicant::remember(handle, pages);
        TeeResult::SUCCESS
    }

    /// Takes memory back that an RPC was answered with. OP-TEE has let go of it.
    pub fn free(&self, handle: u64) {
        let object = supplicant::forget(handle);
        if !self.endpoint.reclaim(handle).is_success()
            && let Some(object) = object
        {
            object.block.forget();
        }
    }

    /// Makes a whole call with the message.
    ///
    /// # Errors
    /// A result that is not success.
    pub fn call(&self) -> Result<(), Refusal> {
        self.run(self.begin(), |_| Act::Default)
    }

    /// Makes a whole call.
    ///
    /// # Errors
    /// A result that is not success.
    pub fn send(
        &self,
        command: Command,
        func: u32,
        session: u32,
        params: &[Param],
    ) -> Result<(), Refusal> {
        self.put(command, func, session, params);
        self.call()
    }

    /// Opens a session; returns its number.
    ///
    /// # Errors
    /// A result that is not success.
    pub fn open(&self, app: Uuid) -> Result<u32, Refusal> {
        self.put_open(app);
        self.call()?;
        Ok(self.message().session())
    }

    /// Invokes a function.
    ///
    /// # Errors
    /// A result that is not success.
    pub fn invoke(&self, session: u32, func: u32, params: &[Param]) -> Result<(), Refusal> {
        self.send(Command::INVOKE, func, session, params)
    }

    /// Closes a session.
    ///
    /// # Errors
    /// A result that is not success.
    pub fn close(&self, session: u32) -> Result<(), Refusal> {
        self.send(Command::CLOSE_SESSION, 0, session, &[])
    }
}
