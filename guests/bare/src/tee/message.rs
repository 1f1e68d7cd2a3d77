// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Messages and page lists, in shared pages.

use super::memory;
use crate::PAGE_SIZE;
use crate::pages::Pages;
use optee_proto::msg::{self, Attr, Command, Header, Param};
use optee_proto::{Origin, TeeResult, Uuid, rpc};
use zerocopy::{FromZeros, IntoBytes};

/// A message somewhere in shared memory: a call's, or an RPC's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct View(pub u64);

impl View {
    /// The header.
    pub fn header(self) -> Header {
        let mut header = Header::new_zeroed();
        memory::read(self.0, header.as_mut_bytes());
        header
    }

    /// Replaces the header.
    pub fn set_header(self, header: &Header) {
        memory::write(self.0, header.as_bytes());
    }

    fn param_at(self, index: usize) -> u64 {
        self.0 + msg::size(index) as u64
    }

    /// A parameter.
    pub fn param(self, index: usize) -> Param {
        let mut param = Param::new_zeroed();
        memory::read(self.param_at(index), param.as_mut_bytes());
        param
    }

    /// Replaces a parameter.
    pub fn set_param(self, index: usize, param: &Param) {
        memory::write(self.param_at(index), param.as_bytes());
    }

    /// The command, of a call or of an RPC.
    pub fn cmd(self) -> u32 {
        memory::read_u32(self.0)
    }

    /// Replaces the command.
    pub fn set_cmd(self, cmd: u32) {
        memory::write_u32(self.0, cmd);
    }

    /// The result.
    pub fn ret(self) -> TeeResult {
        TeeResult(memory::read_u32(self.0 + msg::RET_OFFSET as u64))
    }

    /// Who produced the result.
    pub fn origin(self) -> Origin {
        Origin(memory::read_u32(self.0 + msg::RET_OFFSET as u64 + 4))
    }

    /// Answers an RPC with a result.
    pub fn set_ret(self, result: TeeResult) {
        memory::write_u32(self.0 + msg::RET_OFFSET as u64, result.0);
    }

    /// The session.
    pub fn session(self) -> u32 {
        memory::read_u32(self.0 + msg::SESSION_OFFSET as u64)
    }

    /// How many parameters it says to have.
    pub fn num_params(self) -> u32 {
        memory::read_u32(self.0 + 28)
    }

    /// Replaces how many parameters it says to have.
    pub fn set_num_params(self, count: u32) {
        memory::write_u32(self.0 + 28, count);
    }
}

/// A call's message, alone in its page.
#[derive(Debug)]
pub struct Message {
    page: Pages,
}

impl Message {
    /// A message with these parameters.
    pub fn new(cmd: Command, func: u32, session: u32, params: &[Param]) -> Self {
        let message = Self {
            page: Pages::take(1),
        };
        message.rebuild(cmd, func, session, params);
        message
    }

    /// Replaces its contents.
    pub fn rebuild(&self, cmd: Command, func: u32, session: u32, params: &[Param]) {
        self.view().set_header(&Header {
            cmd: cmd.0.into(),
            func: func.into(),
            session: session.into(),
            // What was not answered must not look like success.
            ret: 0xdead_beef.into(),
            num_params: (params.len() as u32).into(),
            ..Header::default()
        });
        for (index, param) in params.iter().enumerate() {
            self.view().set_param(index, param);
        }
    }

    /// OPEN_SESSION of an application with up to four parameters.
    pub fn open(app: Uuid, login: u32, params: &[Param]) -> Self {
        let mut all = [Param::default(); 6];
        let (a, b) = app.to_value();
        all[0] = Param::new(Attr::META_VALUE_INPUT, a, b, 0);
        all[1] = Param::new(Attr::META_VALUE_INPUT, 0, 0, login.into());
        all[2..2 + params.len()].copy_from_slice(params);
        Self::new(Command::OPEN_SESSION, 0, 0, &all[..2 + params.len()])
    }

    /// INVOKE.
    pub fn invoke(session: u32, func: u32, params: &[Param]) -> Self {
        Self::new(Command::INVOKE, func, session, params)
    }

    /// CLOSE_SESSION.
    pub fn close(session: u32) -> Self {
        Self::new(Command::CLOSE_SESSION, 0, session, &[])
    }

    /// REGISTER_SHM of a page list.
    pub fn register(cookie: u64, list: &PageList) -> Self {
        let param = Param::new(Attr::PAGE_LIST, list.pointer(), list.size, cookie);
        Self::new(Command::REGISTER_SHM, 0, 0, &[param])
    }

    /// UNREGISTER_SHM of a cookie.
    pub fn unregister(cookie: u64) -> Self {
        let param = Param::new(Attr::RMEM_INPUT, 0, 0, cookie);
        Self::new(Command::UNREGISTER_SHM, 0, 0, &[param])
    }

    /// Its address.
    pub fn address(&self) -> u64 {
        self.page.address()
    }

    /// Its contents.
    pub fn view(&self) -> View {
        View(self.page.address())
    }

    /// Where an RPC's message is in CALL_WITH_RPC_ARG: behind the parameters.
    pub fn rpc_view(&self) -> View {
        View(self.address() + msg::size(self.view().num_params() as usize) as u64)
    }

    /// A parameter of it that refers to memory or holds a value.
    pub fn param(&self, index: usize) -> Param {
        self.view().param(index)
    }
}

const _: () = assert!(msg::size(6) + msg::size(rpc::MAX_PARAMS) <= PAGE_SIZE as usize);

/// A list of pages, in as many pages of its own as it takes.
#[derive(Debug)]
pub struct PageList {
    pages: Pages,
    /// Where the buffer begins in its first page.
    pub offset: u64,
    /// Bytes of the buffer.
    pub size: u64,
}

impl PageList {
    /// The list of these pages, for a buffer of so many bytes that begins at `offset` in the first.
    pub fn new(entries: impl ExactSizeIterator<Item = u64>, offset: u64, size: u64) -> Self {
        let per_page = msg::PAGE_LIST_ENTRIES;
        let pages = Pages::take(entries.len().div_ceil(per_page).max(1));
        for (index, entry) in entries.enumerate() {
            memory::write_u64(
                pages.page(index / per_page) + (index % per_page * 8) as u64,
                entry,
            );
        }
        for page in 1..pages.count() {
            memory::write_u64(pages.page(page) - 8, pages.page(page));
        }
        Self {
            pages,
            offset,
            size,
        }
    }

    /// The list of these pages, all of them.
    pub fn of(pages: &Pages) -> Self {
        Self::new(
            (0..pages.count()).map(|page| pages.page(page)),
            0,
            pages.bytes(),
        )
    }

    /// `tmem.buf_ptr`: the list's address, and the offset of the buffer in its first page.
    pub fn pointer(&self) -> u64 {
        self.pages.address() | self.offset
    }

    /// Where an entry of the first page of the list is.
    pub fn entry(&self, index: usize) -> u64 {
        self.pages.address() + (index * 8) as u64
    }
}

/// A reference to part of a registered buffer.
pub fn rmem(attr: Attr, offset: u64, size: u64, cookie: u64) -> Param {
    Param::new(attr, offset, size, cookie)
}

/// A value.
pub fn value(attr: Attr, a: u64, b: u64) -> Param {
    Param::new(attr, a, b, 0)
}
