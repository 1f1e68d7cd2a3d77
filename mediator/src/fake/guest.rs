// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest that behaves like Linux's driver, unless told otherwise.

use super::driver::Driver;
use super::machine::FakeHost;
use super::ram::RAM_BASE;
use crate::Mediator;
use crate::addr::{Ipa, PAGE_SIZE};
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use ffa_proto::ErrorCode;
use optee_proto::le::U32;
use optee_proto::msg::{self, Attr, Command, Header, Param};
use optee_proto::rpc::{self, Function};
use optee_proto::{FunctionId, Return, TeeResult, smc};
use zerocopy::{FromBytes, IntoBytes};

/// Cookies look like addresses in a kernel: this plus the address of the first page.
const COOKIE_BASE: u64 = 0xffff_8000_0000_0000;

/// A command that the guest has been asked to execute.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// Address of the request, where the answer is expected.
    pub at: Ipa,
    /// Its header.
    pub header: Header,
    /// Its parameters.
    pub params: Vec<Param>,
}

impl Request {
    /// Returns its command.
    pub fn command(&self) -> rpc::Command {
        rpc::Command(self.header.cmd.get())
    }
}

/// A guest's kernel.
#[derive(Debug)]
pub struct Guest<'a> {
    /// Its memory.
    pub host: &'a FakeHost,
    /// Its TEE.
    pub mediator: &'a Mediator,
    next: AtomicU64,
    /// Its FF-A driver, where the TEE is reached over FF-A.
    pub driver: Option<Driver>,
    /// The function that begins its calls: without or with room for RPC messages.
    pub function: FunctionId,
    /// There is garbage in the upper halves of its registers.
    pub has_garbage: bool,
    /// All requests of the TEE, in order.
    pub requests: spin::Mutex<Vec<Request>>,
    /// The cookies of FREE.
    pub freed: spin::Mutex<Vec<u64>>,
}

impl<'a> Guest<'a> {
    /// Creates a guest with its memory and its TEE.
    pub const fn new(host: &'a FakeHost, mediator: &'a Mediator) -> Self {
        Self {
            host,
            mediator,
            next: AtomicU64::new(0),
            driver: None,
            function: smc::CALL_WITH_ARG,
            has_garbage: false,
            requests: spin::Mutex::new(Vec::new()),
            freed: spin::Mutex::new(Vec::new()),
        }
    }

    /// Returns the address of some unused pages, next to each other.
    pub fn alloc(&self, pages: u64) -> Ipa {
        Ipa::new(RAM_BASE + self.next.fetch_add(pages, Ordering::Relaxed) * PAGE_SIZE)
    }

    /// Returns the cookie for memory at an address.
    pub const fn cookie(at: Ipa) -> u64 {
        COOKIE_BASE + at.get()
    }

    /// Makes one SMC, and checks that no secret comes back.
    pub fn smc(&self, regs: [u64; 8]) -> [u64; 4] {
        let garbage = if self.has_garbage {
            0xdead_beef << 32
        } else {
            0
        };
        let regs = regs.map(|reg| reg | garbage);
        self.host.machine().note_registers(&regs);
        let answer = self.mediator.smc(self.host, &regs);
        self.host.machine().check_registers(answer);
        answer
    }

    /// Makes one fast SMC without arguments.
    pub fn fast(&self, function: FunctionId) -> [u64; 4] {
        self.smc([function.get().into(), 0, 0, 0, 0, 0, 0, 0])
    }

    /// Begins a call whose message is at `at`.
    pub fn begin(&self, at: Ipa) -> [u64; 4] {
        if let Some(driver) = &self.driver {
            return driver.begin(self, at);
        }
        let (a1, a2) = smc::pair(at.get());
        self.smc([self.function.get().into(), a1, a2, 0, 0, 0, 0, 0])
    }

    /// Returns from an RPC; `token` is the a3 that it came with.
    pub fn resume(&self, token: u64, [a1, a2, a4, a5]: [u64; 4]) -> [u64; 4] {
        if self.driver.is_some() {
            return self.resume_by_ffa(token);
        }
        let function = smc::CALL_RETURN_FROM_RPC.get().into();
        self.smc([function, a1, a2, token, a4, a5, 0, 0])
    }

    /// Writes a message into a new page.
    pub fn message(&self, command: Command, session: u32, params: &[Param]) -> Ipa {
        let at = self.alloc(1);
        self.write_message(at, command, session, params);
        at
    }

    /// Writes a message somewhere.
    pub fn write_message(&self, at: Ipa, command: Command, session: u32, params: &[Param]) {
        let header = Header {
            cmd: U32::new(command.0),
            session: U32::new(session),
            ret: U32::new(0x7777_7777),
            num_params: U32::new(params.len() as u32),
            ..Header::default()
        };
        self.host.poke(at, header.as_bytes());
        let behind = at.checked_add(msg::HEADER_SIZE as u64).unwrap_or(at);
        self.host.poke(behind, params.as_bytes());
    }

    /// Reads a message of at most six parameters.
    pub fn read_message(&self, at: Ipa) -> Request {
        let mut bytes = [0; msg::size(6)];
        let room = bytes.len().min((PAGE_SIZE - at.page_offset()) as usize);
        self.host.peek(at, &mut bytes[..room]);
        let (header, rest) = Header::read_from_prefix(&bytes).expect("long enough");
        let count = header.num_params.get().min(6) as usize;
        let params = rest
            .chunks_exact(msg::PARAM_SIZE)
            .take(count)
            .map(|bytes| Param::read_from_bytes(bytes).expect("its size"))
            .collect();
        Request { at, header, params }
    }

    /// Writes the list of some pages into new pages, as Linux does.
    pub fn page_list(&self, pages: &[Ipa]) -> Ipa {
        let lists = pages.chunks(msg::PAGE_LIST_ENTRIES);
        let first = self.alloc(lists.len().max(1) as u64);
        for (number, chunk) in lists.enumerate() {
            let mut bytes = vec![0; PAGE_SIZE as usize];
            for (word, page) in bytes.chunks_exact_mut(8).zip(chunk) {
                word.copy_from_slice(&page.get().to_le_bytes());
            }
            let at = first.get() + number as u64 * PAGE_SIZE;
            // Linux links a page to the next even where there is nothing any more.
            bytes[msg::PAGE_LIST_ENTRIES * 8..].copy_from_slice(&(at + PAGE_SIZE).to_le_bytes());
            self.host.poke(Ipa::new(at), &bytes);
        }
        first
    }

    /// Registers a buffer of this many pages next to each other. Returns its cookie or handle, and the result.
    pub fn register(&self, pages: u64) -> (u64, u32) {
        let at = self.alloc(pages);
        let all: Vec<Ipa> = (0..pages)
            .map(|n| Ipa::new(at.get() + n * PAGE_SIZE))
            .collect();
        if self.driver.is_some() {
            return match self.share(&all) {
                Ok(handle) => (handle, 0),
                Err(code) => (0, code.to_w()),
            };
        }
        let list = self.page_list(&all);
        let cookie = Self::cookie(at);
        let param = Param::new(Attr::PAGE_LIST, list.get(), pages * PAGE_SIZE, cookie);
        let message = self.message(Command::REGISTER_SHM, 0, &[param]);
        (cookie, self.run(message).header.ret.get())
    }

    /// Unregisters a buffer. Returns the result.
    pub fn unregister(&self, cookie: u64) -> u32 {
        if self.driver.is_some() {
            return self.unshare(cookie).map_or_else(ErrorCode::to_w, |()| 0);
        }
        let param = Param::new(Attr::RMEM_INPUT, 0, 0, cookie);
        let message = self.message(Command::UNREGISTER_SHM, 0, &[param]);
        self.run(message).header.ret.get()
    }

    /// Opens a session to the application with this UUID. Returns its number, and the result.
    pub fn open(&self, app: optee_proto::Uuid, login: u32) -> (u32, u32) {
        let (a, b) = app.to_value();
        let params = [
            Param::new(Attr::META_VALUE_INPUT, a, b, 0),
            Param::new(Attr::META_VALUE_INPUT, 0, 0, login.into()),
        ];
        let message = self.message(Command::OPEN_SESSION, 0, &params);
        let header = self.run(message).header;
        (header.session.get(), header.ret.get())
    }

    /// Runs a call to its end, and serves its requests as Linux does. Returns the message afterwards.
    ///
    /// # Panics
    /// When the call does not end by OK.
    pub fn run(&self, message: Ipa) -> Request {
        self.run_with(message, |_, _| false)
    }

    /// Does the same, but first offers commands to `answer`, which returns whether it has answered.
    ///
    /// # Panics
    /// When the call does not end by OK.
    pub fn run_with(
        &self,
        message: Ipa,
        mut answer: impl FnMut(&Self, &Request) -> bool,
    ) -> Request {
        let regs = self.begin(message);
        let end = self.finish(message, regs, &mut answer);
        assert_eq!(end, Return::OK, "{:?}", self.host.machine().violations());
        self.read_message(message)
    }

    /// Continues a call that returned with `regs`, to its end.
    pub fn finish(
        &self,
        message: Ipa,
        mut regs: [u64; 4],
        answer: &mut impl FnMut(&Self, &Request) -> bool,
    ) -> Return {
        loop {
            let code = Return::from_x0(regs[0]);
            let Some(function) = code.rpc() else {
                return code;
            };
            let mut back = [regs[1], regs[2], 0, 0];
            match function {
                Function::ALLOC => {
                    let at = self.alloc(1);
                    let ((a1, a2), (a4, a5)) = (smc::pair(at.get()), smc::pair(Self::cookie(at)));
                    back = [a1, a2, a4, a5];
                }
                Function::FREE => self.freed.lock().push(smc::unpair(regs[1], regs[2])),
                Function::CMD => {
                    let is_elsewhere = self.driver.is_none() && self.function == smc::CALL_WITH_ARG;
                    let at = if is_elsewhere {
                        Ipa::new(smc::unpair(regs[1], regs[2]) - COOKIE_BASE)
                    } else {
                        let count = self.read_message(message).params.len();
                        Ipa::new(message.get() + msg::size(count) as u64)
                    };
                    let request = self.read_message(at);
                    self.requests.lock().push(request.clone());
                    if !answer(self, &request) {
                        self.answer(&request);
                    }
                }
                _ => {}
            }
            regs = self.resume(regs[3], back);
        }
    }

    /// Answers a command as Linux and its supplicant do: memory is allocated, everything else succeeds, outputs
    /// are the inputs plus one.
    pub fn answer(&self, request: &Request) {
        let mut params = request.params.clone();
        match request.command() {
            // The guest's memory has changed since the request came.
            rpc::Command::SHM_ALLOC | rpc::Command::SHM_FREE if params.is_empty() => {}
            rpc::Command::SHM_ALLOC => {
                let size = params[0].b.get().next_multiple_of(PAGE_SIZE);
                let pages = size / PAGE_SIZE;
                let at = self.alloc(pages);
                let all: Vec<Ipa> = (0..pages)
                    .map(|n| Ipa::new(at.get() + n * PAGE_SIZE))
                    .collect();
                if self.driver.is_some() {
                    match self.share(&all) {
                        Ok(handle) => params[0] = Param::new(Attr::RMEM_OUTPUT, 0, size, handle),
                        Err(_) => {
                            self.reply(request, TeeResult::OUT_OF_MEMORY.0, &params);
                            return;
                        }
                    }
                } else {
                    let list = self.page_list(&all);
                    params[0] = Param::new(Attr::PAGE_LIST, list.get(), size, Self::cookie(at));
                }
            }
            // OP-TEE does not use the memory any more.
            rpc::Command::SHM_FREE if self.driver.is_some() => {
                let _ = self.reclaim(params[0].b.get());
            }
            rpc::Command::SHM_FREE => {}
            _ => {
                for param in &mut params {
                    match param.attr().0 {
                        2 | 3 => {
                            param.a = param.a.get().wrapping_add(1).into();
                            param.b = param.b.get().wrapping_add(1).into();
                            param.c = param.c.get().wrapping_add(1).into();
                        }
                        6 | 7 | 0xa | 0xb => param.b = param.b.get().wrapping_add(1).into(),
                        _ => {}
                    }
                }
            }
        }
        self.reply(request, 0, &params);
    }

    /// Writes an answer.
    pub fn reply(&self, request: &Request, result: u32, params: &[Param]) {
        let header = Header {
            ret: U32::new(result),
            ..request.header
        };
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(params.as_bytes());
        self.host.poke(request.at, &bytes);
    }
}
