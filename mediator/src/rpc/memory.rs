// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The RPCs that allocate and free: ALLOC and FREE for memory that carries RPC messages,
//! SHM_ALLOC for memory that carries data. (SHM_FREE is a command like others but for the
//! cookie, see [`super::ask`].)
//!
//! Two orders matter. What OP-TEE gives back is forgotten before the guest hears of it, since
//! the guest may use the name again at once. And memory of the guest's reaches OP-TEE only
//! when it is pinned and in the books.

use super::{Function, Message, Request};
use crate::Mediator;
use crate::addr::{Ipa, PAGE_SIZE};
use crate::call::{Answer, Call, INTAKE_STEP, Next, Pending};
use crate::denied::Denied;
use crate::host::Host;
use crate::memory::buffer::Release;
use crate::memory::{
    Buffer, Cookie, GuestCookie, Intake, Place, Progress, Provenance, Refusal, RpcBuffer,
};
use crate::message::PageList;
use crate::stats::RpcKind;
use optee_proto::TeeResult;
use optee_proto::le::U32;
use optee_proto::msg::{self, Attr, Header, Param};
use optee_proto::rpc::Command;
use zerocopy::IntoBytes;

impl Mediator {
    /// RPC ALLOC: OP-TEE wants memory for RPC messages.
    pub(crate) fn ask_alloc(&self, call: &mut Call, size: u64) -> Next {
        self.counters.rpc[RpcKind::Alloc as usize].bump();
        if size == 0 || size > PAGE_SIZE {
            return Next::Tee(Answer::NOTHING);
        }
        call.pending = Pending::Alloc;
        Next::Guest(Function::ALLOC, size << 32)
    }

    /// The guest's answer to ALLOC. OP-TEE gets a page of ours and a cookie of ours.
    pub(crate) fn answer_alloc<H: Host>(
        &self,
        host: &H,
        at: u64,
        guest: u64,
        call: &mut Call,
    ) -> Next {
        if at == 0 {
            // The guest has none to give.
            return Next::Tee(Answer::NOTHING);
        }
        let place = Place::page(Ipa::new(at));
        let mut probe = [0; 8];
        if guest == 0 || !at.is_multiple_of(PAGE_SIZE) || place.read(host, 0, &mut probe).is_err() {
            return self.refuse_alloc(call, guest);
        }
        let Some(shadow) = self.take_page(host) else {
            return self.refuse_alloc(call, guest);
        };
        let pa = shadow.pa();
        let buffer = RpcBuffer {
            shadow,
            guest: place,
        };
        let inserted = self
            .books
            .lock()
            .rpc_buffers
            .insert(GuestCookie(guest), Some(buffer));
        match inserted {
            Ok(cookie) => Next::Tee(Answer::memory(pa.get(), cookie.get())),
            Err((_, buffer)) => {
                if let Some(buffer) = buffer {
                    self.give_page(host, buffer.shadow);
                }
                self.refuse_alloc(call, guest)
            }
        }
    }

    /// OP-TEE gets nothing; the guest gets back what it gave, if that has a name.
    fn refuse_alloc(&self, call: &mut Call, guest: u64) -> Next {
        self.counters.denied.bump();
        if guest == 0 {
            return Next::Tee(Answer::NOTHING);
        }
        call.pending = Pending::Resume(Answer::NOTHING);
        Next::Guest(Function::FREE, guest)
    }

    /// RPC FREE: OP-TEE is done with memory for RPC messages.
    pub(crate) fn ask_free<H: Host>(&self, host: &H, call: &mut Call, cookie: u64) -> Next {
        self.counters.rpc[RpcKind::Free as usize].bump();
        let Some((guest, shadow)) = self.forget_rpc_buffer(cookie) else {
            return Next::Lost;
        };
        // OP-TEE unmaps the page after this RPC, and surely before it frees another one.
        if let Some(page) = call.retired.replace(shadow) {
            self.give_page(host, page);
        }
        call.pending = Pending::Resume(Answer::NOTHING);
        Next::Guest(Function::FREE, guest.0)
    }

    /// Takes memory for RPC messages out of the books: its name and our page. `None` if there is
    /// none of that name, or a request is in it.
    pub(crate) fn forget_rpc_buffer(
        &self,
        cookie: u64,
    ) -> Option<(GuestCookie, crate::host::SharedPage)> {
        let cookie = Cookie::from_tee(cookie)?;
        let mut books = self.books.lock();
        books.rpc_buffers.get(cookie)?.1.as_ref()?;
        let (guest, buffer) = books.rpc_buffers.remove(cookie)?;
        buffer.map(|buffer| (guest, buffer.shadow))
    }

    /// The guest's answer to SHM_ALLOC, which says that there is memory.
    pub(super) fn answer_shm_alloc<H: Host>(
        &self,
        host: &H,
        call: &mut Call,
        request: Request,
        theirs: &Message,
    ) -> Next {
        let param = &theirs.params[0];
        let (list, single) = match (param.attr(), PageList::of(param)) {
            (Attr::PAGE_LIST, Ok(list)) => (list, false),
            // Linux answers so when the memory is the kernel's; one page can be translated.
            (Attr::TMEM_OUTPUT, Ok(list))
                if list.size <= PAGE_SIZE && list.buf_ptr.is_multiple_of(PAGE_SIZE) =>
            {
                (list, true)
            }
            (Attr::TMEM_OUTPUT, Ok(list)) => {
                return self.undo(host, call, request, list.cookie);
            }
            // Not an answer to this question: there is nothing that could be freed.
            _ => return self.fail_shm_alloc(host, call, request),
        };
        let wanted = request.params[0].b.get();
        let at = Ipa::new(list.buf_ptr);
        let offset = at.page_offset();
        let reserved = match Buffer::pages(list.size, offset) {
            Some(count) if list.size >= wanted => {
                let mut books = self.books.lock();
                let asked = Provenance::Allocated;
                books
                    .reserve(list.cookie, asked, list.size, offset, count)
                    .inspect(|_| books.asked(&mut call.mapped, count))
                    .map(|cookie| (cookie, count))
            }
            _ => return self.undo(host, call, request, list.cookie),
        };
        let (cookie, count) = match reserved {
            Ok(reserved) => reserved,
            Err(Denied(_)) => return self.undo(host, call, request, list.cookie),
        };
        let intake = if single {
            Intake::single(host, at, || self.take_page(host))
        } else {
            Intake::new(count, at.page()).map_err(|refusal| (refusal, None))
        };
        match intake {
            Ok(intake) => self.take_in(host, call, request, cookie, intake),
            Err((_, intake)) => self.abandon(host, call, request, cookie, intake),
        }
    }

    /// Takes in the pages of what the guest allocated, or some of them.
    pub(crate) fn take_in<H: Host>(
        &self,
        host: &H,
        call: &mut Call,
        request: Request,
        cookie: Cookie,
        mut intake: Intake,
    ) -> Next {
        match intake.step(host, INTAKE_STEP, || self.take_page(host)) {
            Ok(Progress::Done) => {}
            Ok(Progress::More) => {
                call.pending = Pending::TakeIn {
                    request,
                    cookie,
                    intake,
                };
                return Next::Guest(Function::FOREIGN_INTR, 0);
            }
            Err(Refusal::BadAddress | Refusal::NoMemory) => {
                return self.abandon(host, call, request, cookie, Some(intake));
            }
        }
        let start = intake.list_start().map_or(0, |pa| pa.get());
        let (pins, list) = intake.into_parts();
        let known = {
            let mut books = self.books.lock();
            books.establish(cookie, pins);
            books
                .buffers
                .get(cookie)
                .map_or((0, 0), |(_, buffer)| (buffer.offset, buffer.size))
        };
        let (offset, size) = known;
        call.list = list;
        let param = Param::new(Attr::PAGE_LIST, start | offset, size, cookie.get());
        let (page, at) = request.ours(call);
        host.write_shared(page, at + msg::HEADER_SIZE, param.as_bytes());
        request.conclude(host, call, U32::ZERO, U32::ZERO);
        self.done_with(request);
        Next::Tee(Answer::NOTHING)
    }

    /// Takes back what was pinned of an allocation that cannot be used, and has it freed.
    fn abandon<H: Host>(
        &self,
        host: &H,
        call: &mut Call,
        request: Request,
        cookie: Cookie,
        intake: Option<Intake>,
    ) -> Next {
        match self.put_back(host, call, cookie, intake) {
            Some(guest) => self.undo(host, call, request, guest),
            None => self.fail_shm_alloc(host, call, request),
        }
    }

    /// Takes back what was pinned for a buffer that does not come about. The guest's name for it.
    pub(crate) fn put_back<H: Host>(
        &self,
        host: &H,
        call: &mut Call,
        cookie: Cookie,
        intake: Option<Intake>,
    ) -> Option<GuestCookie> {
        let removed = self.books.lock().remove(cookie);
        let (pins, list) = intake.map_or_else(Default::default, Intake::into_parts);
        for page in list {
            self.give_page(host, page);
        }
        let (guest, mut release) = removed?;
        release.pages = pins;
        self.release_asked(host, call, release);
        Some(guest)
    }

    /// A call that goes on is to give back what OP-TEE had asked for.
    pub(super) fn release_asked<H: Host>(&self, host: &H, call: &mut Call, release: Release) {
        let count = release.count;
        self.books.lock().given_back(&mut call.mapped, count);
        self.release(host, call, release);
    }

    /// Has the guest free what it allocated in vain, by a request of our own; OP-TEE hears of
    /// the failure afterwards.
    fn undo<H: Host>(
        &self,
        host: &H,
        call: &mut Call,
        request: Request,
        guest: GuestCookie,
    ) -> Next {
        self.counters.denied.bump();
        let kind = request.params[0].a.get();
        let mut message = Message {
            header: Header {
                cmd: U32::new(Command::SHM_FREE.0),
                num_params: U32::new(1),
                ..Header::default()
            },
            ..Message::default()
        };
        message.params[0] = Param::new(Attr::VALUE_INPUT, kind, guest.0, 0);
        if request.write_guest(host, call, &message, 1).is_err() {
            return self.fail_shm_alloc(host, call, request);
        }
        let name = self.guest_name(&request);
        call.pending = Pending::Undo(request);
        Next::Guest(Function::CMD, name)
    }

    /// There is no memory after all: the guest has freed what it allocated in vain.
    pub(crate) fn answer_undone<H: Host>(&self, host: &H, call: &Call, request: Request) -> Next {
        request.fail(host, call, TeeResult::OUT_OF_MEMORY);
        self.done_with(request);
        Next::Tee(Answer::NOTHING)
    }

    /// OP-TEE hears that there is no memory.
    fn fail_shm_alloc<H: Host>(&self, host: &H, call: &Call, request: Request) -> Next {
        self.counters.denied.bump();
        self.answer_undone(host, call, request)
    }
}
