// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Requests during internal calls, at teardown.
//!
//! There is no guest to ask any more. The answers make OP-TEE go on until it requests the application's code:
//! there are no files, and there is a page for file names.

use super::Request;
use crate::Mediator;
use crate::addr::PAGE_SIZE;
use crate::call::{AppLoad, Call, Completion};
use crate::host::Host;
use crate::memory::Cookie;
use ffa_proto::Handle;
use optee_proto::TeeResult;
use optee_proto::msg::{self, Attr, Param};
use optee_proto::rpc::Command;
use zerocopy::IntoBytes;

impl Mediator {
    /// Executes a request, and returns its result.
    #[cold]
    #[inline(never)]
    pub(super) fn answer_internally<H: Host>(
        &self,
        host: &H,
        call: &mut Call,
        request: &Request,
    ) -> TeeResult {
        match request.command {
            Command::SHM_ALLOC => self.lend(host, call, request),
            Command::SHM_FREE => {
                self.take_back(host, call, request.params[0].b.get());
                TeeResult::SUCCESS
            }
            Command::LOAD_TA => {
                if request.requested_code(call).is_some() {
                    call.app_load = AppLoad::Code;
                }
                self.note_user_ta(call, request);
                TeeResult::ITEM_NOT_FOUND
            }
            Command::FS
            | Command::RPMB
            | Command::RPMB_PROBE_RESET
            | Command::RPMB_PROBE_NEXT
            | Command::RPMB_FRAMES => {
                if let Completion::OpenSession(reserved) = &call.completion {
                    self.state.lock().note_file_request(reserved.app());
                }
                TeeResult::ITEM_NOT_FOUND
            }
            _ => TeeResult::COMMUNICATION,
        }
    }

    /// Lends OP-TEE a page of the mediator.
    fn lend<H: Host>(&self, host: &H, call: &Call, request: &Request) -> TeeResult {
        let wanted = request.params[0].b.get();
        let refused = TeeResult::OUT_OF_MEMORY;
        if request.count != 1 || wanted > PAGE_SIZE {
            return refused;
        }
        if self.ffa.is_some() {
            return self.lend_object(host, call, request);
        }
        let Some(lent) = self.take_page(host) else {
            return refused;
        };
        let pa = lent.pa().get();
        let named = self.state.lock().lend(lent);
        let cookie = match named {
            Ok(cookie) => cookie,
            Err(page) => {
                self.give_page(host, page);
                return refused;
            }
        };
        let param = Param::new(Attr::TMEM_OUTPUT, pa, PAGE_SIZE, cookie);
        let (page, at) = request.tee_copy(call);
        host.write_shared(page, at + msg::HEADER_SIZE, param.as_bytes());
        TeeResult::SUCCESS
    }

    /// Takes back a lent page, or memory that OP-TEE still had from the guest.
    fn take_back<H: Host>(&self, host: &H, call: &mut Call, cookie: u64) {
        if self.ffa.is_some() {
            let handle = Handle::new(cookie);
            let is_own = self.state.lock().take_lent_object(handle);
            if !is_own {
                self.take_object_back(call, cookie);
            }
            return;
        }
        let lent = self.state.lock().take_lent(cookie);
        if let Some(page) = lent {
            // OP-TEE sends SHM_FREE before it unmaps the page.
            if let Some(page) = call.freed_rpc_page.replace(page) {
                self.give_page(host, page);
            }
            return;
        }
        let freed =
            Cookie::from_tee(cookie).and_then(|cookie| self.state.lock().free_allocated(cookie));
        if let Some((_, release)) = freed {
            self.release_asked(host, call, release);
        }
    }
}
