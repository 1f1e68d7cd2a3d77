// SPDX-License-Identifier: Apache-2.0 OR MIT
//! REGISTER_SHM: a guest registers a buffer by a page list.

use super::page_list::Intake;
use crate::Mediator;
use crate::addr::Ipa;
use crate::call::{BeginError, Call, INTAKE_STEP, Pending, Work};
use crate::denied::DeniedError;
use crate::host::Host;
use crate::memory::{Buffer, Progress, Provenance};
use crate::message::PageList;
use optee_proto::TeeResult;
use optee_proto::msg::{Attr, Param};

impl Mediator {
    /// Reserves the buffer; [`Mediator::pin_registered`] pins its pages.
    pub(crate) fn prepare_register(&self, call: &mut Call) -> Result<(), BeginError> {
        let param = call.message.params[0];
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
        match Intake::new(count, list.page()) {
            Ok(intake) => call.work = Work::Register { cookie, intake },
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
    ) -> Result<Progress, BeginError> {
        let Work::Register { cookie, intake } = &mut call.work else {
            return Ok(Progress::Done);
        };
        if intake.step(host, INTAKE_STEP, || self.take_page(host))? == Progress::More {
            call.pending = Pending::Enter;
            return Ok(Progress::More);
        }
        let Param { a, b, .. } = call.message.params[0];
        let offset = Ipa::new(a.get()).page_offset();
        let start = intake.list_start().map_or(0, |pa| pa.get());
        call.ours.params[0] = Param::new(Attr::PAGE_LIST, start | offset, b.get(), cookie.get());
        Ok(Progress::Done)
    }
}
