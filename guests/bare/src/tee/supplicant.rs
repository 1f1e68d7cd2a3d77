// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Answers to RPCs, as Linux with its supplicant gives them, out of free pages and the initial RAM
//! disk.

use super::client::Suspended;
use super::memory;
use super::message::{Message, PageList, View};
use super::{cpio, files};
use crate::PAGE_SIZE;
use crate::pages::Pages;
use crate::timer;
use alloc::collections::BTreeMap;
use alloc::format;
use core::time::Duration;
use optee_proto::msg::{Attr, Param};
use optee_proto::smc::pair;
use optee_proto::{TeeResult, Uuid, rpc};
use spin::Mutex;

/// The answer to GET_TIME, in seconds.
pub const TIME: u64 = 1_000_000;
/// How long a call rests that waits for another one. Where its vCPU shares a pCPU with the other one, asking at once
/// again would take the time that the other one needs.
const NAP: Duration = Duration::from_micros(100);

/// What to do with an RPC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// What the supplicant would do.
    Default,
    /// This: a1, a2, a4, a5.
    Answer([u64; 4]),
    /// Nothing, not now.
    Park,
}

impl Act {
    /// The answer to FUNC_ALLOC: an address and its cookie.
    pub fn memory(addr: u64, cookie: u64) -> Self {
        let ((a1, a2), (a4, a5)) = (pair(addr), pair(cookie));
        Self::Answer([a1, a2, a4, a5])
    }

    /// The answer to all the others: nothing in registers.
    pub const DONE: Self = Self::Answer([0; 4]);
}

/// Memory that OP-TEE was given in answer to an RPC.
#[derive(Debug)]
pub struct Object {
    /// The memory.
    pub block: Pages,
    /// Its page list, for a payload. It is kept until OP-TEE has read it, and longer does no harm.
    _list: Option<PageList>,
}

/// By cookie. OP-TEE may keep memory from one call to the next, and free it in a call of another
/// vCPU's, so there is one table for all.
static OBJECTS: Mutex<BTreeMap<u64, Object>> = Mutex::new(BTreeMap::new());

/// Remembers memory under a cookie; what was there before goes.
pub fn remember(cookie: u64, block: Pages) {
    let old = OBJECTS.lock().insert(cookie, Object { block, _list: None });
    drop(old);
}

/// Takes the memory of a cookie back.
pub fn forget(cookie: u64) -> Option<Object> {
    OBJECTS.lock().remove(&cookie)
}

/// How many objects OP-TEE holds.
pub fn objects() -> usize {
    OBJECTS.lock().len()
}

/// Forgets all objects, after the VM is gone from OP-TEE.
pub fn forget_all() {
    let old = core::mem::take(&mut *OBJECTS.lock());
    drop(old);
}

/// The address of an object's byte.
pub fn object_at(cookie: u64, offset: u64) -> Option<u64> {
    let objects = OBJECTS.lock();
    let block = &objects.get(&cookie)?.block;
    (offset < block.bytes()).then(|| block.address() + offset)
}

/// The supplicant.
#[derive(Clone, Copy, Debug)]
pub struct Supplicant {
    archive: &'static [u8],
    /// The message behind the call's, where there is one.
    behind: Option<View>,
    /// Whether one-page payloads are answered by address, as Linux does for its kernel's own.
    contiguous: bool,
}

impl Supplicant {
    /// A supplicant that loads applications from an archive: files `UUID.ta`.
    pub const fn new(archive: &'static [u8]) -> Self {
        Self {
            archive,
            behind: None,
            contiguous: false,
        }
    }

    /// The same, answering one-page payloads by address.
    pub const fn by_address(self) -> Self {
        Self {
            contiguous: true,
            ..self
        }
    }

    /// The same for a call that may have its RPC messages behind its own.
    pub fn with_message(&self, message: &Message) -> Self {
        Self {
            behind: Some(message.rpc_view()),
            ..*self
        }
    }

    /// The application with this UUID.
    pub fn application(&self, app: Uuid) -> Option<&'static [u8]> {
        cpio::find(self.archive, &format!("{app}.ta"))
    }

    /// The message that a CMD is about.
    pub fn message(&self, call: &Suspended) -> Option<View> {
        match call.cookie() {
            0 => self.behind,
            cookie => object_at(cookie, 0).map(View),
        }
    }

    /// The command of a CMD.
    pub fn command(&self, call: &Suspended) -> Option<rpc::Command> {
        (call.function == rpc::Function::CMD)
            .then(|| self.message(call))
            .flatten()
            .map(|view| rpc::Command(view.cmd()))
    }

    /// Does what is asked and gives a1, a2, a4, a5. What it does not know it refuses.
    pub fn answer(&self, call: &Suspended) -> [u64; 4] {
        match call.function {
            rpc::Function::ALLOC => {
                let block =
                    Pages::take((call.args[0] as usize).div_ceil(PAGE_SIZE as usize).max(1));
                let addr = block.address();
                remember(addr, block);
                let (upper, lower) = pair(addr);
                [upper, lower, upper, lower]
            }
            rpc::Function::FREE => {
                forget(call.cookie());
                [0; 4]
            }
            rpc::Function::CMD => {
                if let Some(view) = self.message(call) {
                    let result = self.do_command(view);
                    view.set_ret(result);
                }
                // As Linux leaves them; Xen looks at the cookie once more.
                [call.args[0], call.args[1], 0, 0]
            }
            _ => [0; 4],
        }
    }

    /// Does what a request says, wherever it is; the result is for the caller to write.
    pub fn do_command(&self, view: View) -> TeeResult {
        match rpc::Command(view.cmd()) {
            rpc::Command::LOAD_TA => self.load(view),
            rpc::Command::SHM_ALLOC => self.alloc(view),
            rpc::Command::SHM_FREE => {
                forget(view.param(0).b.get());
                TeeResult::SUCCESS
            }
            rpc::Command::GET_TIME => {
                view.set_param(0, &Param::new(Attr::VALUE_OUTPUT, TIME, 0, 0));
                TeeResult::SUCCESS
            }
            rpc::Command::NOTIFICATION if view.param(0).a.get() == rpc::NOTIFICATION_SEND => {
                TeeResult::SUCCESS
            }
            rpc::Command::NOTIFICATION | rpc::Command::SUSPEND => {
                timer::Deadline::after(NAP).wait(|| false);
                TeeResult::SUCCESS
            }
            rpc::Command::FS => files::answer(view),
            _ => TeeResult::NOT_SUPPORTED,
        }
    }

    fn load(&self, view: View) -> TeeResult {
        let (name, mut to) = (view.param(0), view.param(1));
        let app = Uuid::from_value(name.a.get(), name.b.get());
        let Some(data) = self.application(app) else {
            return TeeResult::ITEM_NOT_FOUND;
        };
        let room = to.b.get();
        to.b = (data.len() as u64).into();
        view.set_param(1, &to);
        if to.c.get() != 0 && room >= data.len() as u64 {
            let objects = OBJECTS.lock();
            let Some(object) = objects.get(&to.c.get()) else {
                return TeeResult::BAD_PARAMETERS;
            };
            memory::write(object.block.address() + to.a.get(), data);
        }
        TeeResult::SUCCESS
    }

    fn alloc(&self, view: View) -> TeeResult {
        let size = view.param(0).b.get();
        let pages = (size as usize).div_ceil(PAGE_SIZE as usize).max(1);
        let Some(block) = Pages::try_take(pages) else {
            return TeeResult::OUT_OF_MEMORY;
        };
        let cookie = block.address();
        let (param, list) = if self.contiguous && pages == 1 {
            let param = Param::new(Attr::TMEM_OUTPUT, block.address(), size, cookie);
            (param, None)
        } else {
            let list = PageList::of(&block);
            let param = Param::new(Attr::PAGE_LIST, list.pointer(), size, cookie);
            (param, Some(list))
        };
        view.set_param(0, &param);
        let old = OBJECTS.lock().insert(cookie, Object { block, _list: list });
        drop(old);
        TeeResult::SUCCESS
    }
}
