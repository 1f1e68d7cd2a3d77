// SPDX-License-Identifier: Apache-2.0 OR MIT
//! REGISTER_SHM: a guest registers a buffer by a page list.

use super::page_list::PageListImport;
use crate::Mediator;
use crate::addr::Ipa;
use crate::call::{BeginError, Call, Completion, IMPORT_STEP, Pending};
use crate::denied::DeniedError;
use crate::host::Host;
use crate::memory::{Buffer, ImportProgress, Provenance};
use crate::message::PageList;
use optee_proto::TeeResult;
use optee_proto::msg::{Attr, Param};

impl Mediator {
    /// Reserves the buffer; [`Mediator::pin_registered`] pins its pages.
    pub(crate) fn prepare_register(&self, call: &mut Call) -> Result<(), BeginError> {
        let param = call.guest_message.params[0];
        if param.attr() != Attr::PAGE_LIST {
            return Err(DeniedError(TeeResult::BAD_PARAMETERS).into());
        }
        let PageList {
            buf_ptr,
            size,
            cookie,
        } = PageList::of(&param).map_err(DeniedError)?;
        let list = Ipa::new(buf_ptr);
        let offset = list.page_offset();
        let count = Buffer::pages(size, offset).ok_or(DeniedError(TeeResult::BAD_PARAMETERS))?;
        let cookie =
            self.state
                .lock()
                .reserve(cookie, Provenance::Registered, size, offset, count)?;
        match PageListImport::new(count, list.page()) {
            Ok(import) => call.completion = Completion::Register { cookie, import },
            Err(refusal) => {
                let mut state = self.state.lock();
                // No page is pinned.
                if let Some((_, release)) = state.remove(cookie) {
                    state.released(release.count);
                }
                return Err(refusal.into());
            }
        }
        Ok(())
    }

    /// Pins some of the buffer's pages. When all are pinned, OP-TEE's message names the mediator's list of them.
    pub(crate) fn pin_registered<H: Host>(
        &self,
        host: &H,
        call: &mut Call,
    ) -> Result<ImportProgress, BeginError> {
        let Completion::Register { cookie, import } = &mut call.completion else {
            return Ok(ImportProgress::Done);
        };
        if import.step(host, IMPORT_STEP, || self.take_page(host))? == ImportProgress::More {
            call.pending = Pending::Enter;
            return Ok(ImportProgress::More);
        }
        let Param { a, b, .. } = call.guest_message.params[0];
        let offset = Ipa::new(a.get()).page_offset();
        let start = import.list_start().map_or(0, |pa| pa.get());
        call.tee_message.params[0] =
            Param::new(Attr::PAGE_LIST, start | offset, b.get(), cookie.get());
        Ok(ImportProgress::Done)
    }
}
