// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The answer to SHM_ALLOC: the guest names the memory by a page list, or by one address.
//!
//! Guest memory reaches OP-TEE only when it is pinned and in the VM's state.

use super::page_list::PageListImport;
use crate::Mediator;
use crate::addr::{Ipa, PAGE_SIZE};
use crate::call::{Call, CallStep, IMPORT_STEP, Pending, ResumeArgs};
use crate::denied::DeniedError;
use crate::host::Host;
use crate::memory::{Buffer, Cookie, GuestCookie, ImportError, ImportProgress, Provenance};
use crate::message::PageList;
use crate::rpc::{Function, Request};
use optee_proto::le::U32;
use optee_proto::msg::{self, Attr, Param};
use zerocopy::IntoBytes;

impl Mediator {
    /// Takes the guest's answer to SHM_ALLOC, which says that there is memory.
    pub(crate) fn answer_shm_alloc<H: Host>(
        &self,
        host: &H,
        call: &mut Call,
        request: Request,
        param: &Param,
    ) -> CallStep {
        let (list, single) = match (param.attr(), PageList::of(param)) {
            (Attr::PAGE_LIST, Ok(list)) => (list, false),
            // Linux answers this way if the memory is the kernel's. One page can be translated.
            (Attr::TMEM_OUTPUT, Ok(list))
                if list.size <= PAGE_SIZE && list.buf_ptr.is_multiple_of(PAGE_SIZE) =>
            {
                (list, true)
            }
            (Attr::TMEM_OUTPUT, Ok(list)) => {
                return self.undo(host, call, request, list.cookie);
            }
            // Not an answer to SHM_ALLOC: there is nothing to free.
            _ => return self.fail_shm_alloc(host, call, request),
        };
        let wanted = request.params[0].b.get();
        let at = Ipa::new(list.buf_ptr);
        let offset = at.page_offset();
        let reserved = match Buffer::pages(list.size, offset) {
            Some(count) if list.size >= wanted => {
                let mut state = self.state.lock();
                let asked = Provenance::Allocated;
                state
                    .reserve(list.cookie, asked, list.size, offset, count)
                    .inspect(|_| state.add_requested(&mut call.mapped, count))
                    .map(|cookie| (cookie, count))
            }
            _ => return self.undo(host, call, request, list.cookie),
        };
        let (cookie, count) = match reserved {
            Ok(reserved) => reserved,
            Err(DeniedError(_)) => return self.undo(host, call, request, list.cookie),
        };
        let import = if single {
            PageListImport::single(host, at, || self.take_page(host))
        } else {
            PageListImport::new(count, at.page()).map_err(|refusal| (refusal, None))
        };
        match import {
            Ok(import) => self.import_allocation(host, call, request, cookie, import),
            Err((_, import)) => self.abandon(host, call, request, cookie, import),
        }
    }

    /// Imports pages of the guest's allocation.
    pub(crate) fn import_allocation<H: Host>(
        &self,
        host: &H,
        call: &mut Call,
        request: Request,
        cookie: Cookie,
        mut import: PageListImport,
    ) -> CallStep {
        match import.step(host, IMPORT_STEP, || self.take_page(host)) {
            Ok(ImportProgress::Done) => {}
            Ok(ImportProgress::More) => {
                call.pending = Pending::Import {
                    request,
                    cookie,
                    import,
                };
                return CallStep::AskGuest(Function::FOREIGN_INTR, 0);
            }
            Err(ImportError::BadAddress | ImportError::NoMemory) => {
                return self.abandon(host, call, request, cookie, Some(import));
            }
        }
        let start = import.list_start().map_or(0, |pa| pa.get());
        let (pins, list) = import.into_parts();
        let known = {
            let mut state = self.state.lock();
            state.establish(cookie, pins);
            state
                .buffers
                .get(cookie)
                .map_or((0, 0), |(_, buffer)| (buffer.offset, buffer.size))
        };
        let (offset, size) = known;
        call.page_list = list;
        let param = Param::new(Attr::PAGE_LIST, start | offset, size, cookie.get());
        let (page, at) = request.tee_copy(call);
        host.write_shared(page, at + msg::HEADER_SIZE, param.as_bytes());
        request.conclude(host, call, U32::ZERO, U32::ZERO);
        self.return_rpc_buffer(request);
        CallStep::Resume(ResumeArgs::NOTHING)
    }

    /// Unpins an allocation that cannot be used, and has the guest free it.
    fn abandon<H: Host>(
        &self,
        host: &H,
        call: &mut Call,
        request: Request,
        cookie: Cookie,
        import: Option<PageListImport>,
    ) -> CallStep {
        match self.release_import(host, call, cookie, import) {
            Some(guest) => self.undo(host, call, request, guest),
            None => self.fail_shm_alloc(host, call, request),
        }
    }

    /// Unpins a buffer that is not completed. Returns the guest's cookie for it.
    pub(crate) fn release_import<H: Host>(
        &self,
        host: &H,
        call: &mut Call,
        cookie: Cookie,
        import: Option<PageListImport>,
    ) -> Option<GuestCookie> {
        let removed = self.state.lock().remove(cookie);
        let (pins, list) = import.map_or_else(Default::default, PageListImport::into_parts);
        for page in list {
            self.give_page(host, page);
        }
        let (guest, mut release) = removed?;
        release.pages = pins;
        self.release_asked(host, call, release);
        Some(guest)
    }
}
