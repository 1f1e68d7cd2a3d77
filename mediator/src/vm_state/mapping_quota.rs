// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What OP-TEE's core may map of the VM's memory: see [`Quotas::mapped_pages`].
//!
//! [`Quotas::mapped_pages`]: crate::Quotas::mapped_pages

use super::VmState;
use crate::denied::DeniedError;
use crate::mapped_pages::MappedPages;
use optee_proto::{TeeResult, Uuid};

/// A call that hands over no more pages than this is counted without a look at its session.
const FEW_PAGES: u32 = 16;

/// Why OP-TEE's core may not map a call's buffers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MapError {
    /// Other calls hold what is too much, and they end.
    Temporary,
    /// They are more than the VM may have mapped, or what OP-TEE has asked for and keeps leaves no room for them.
    Permanent(DeniedError),
}

impl VmState {
    /// Pages that OP-TEE's core may have mapped.
    pub(crate) const fn mapped(&self) -> u32 {
        self.mapped
    }

    /// How many pages OP-TEE's core may have mapped with so many more.
    pub(crate) fn with_mapped(&self, more: u32) -> Result<u32, DeniedError> {
        self.mapped
            .checked_add(more)
            .filter(|&mapped| mapped <= self.quotas.mapped_pages)
            .ok_or(DeniedError(TeeResult::OUT_OF_MEMORY))
    }

    /// A call hands `pages` pages to an application, in `session` or, when it opens one, to `app`. OP-TEE's core may map
    /// them, unless that is known to be a user TA: they count until [`VmState::unmap`].
    ///
    /// # Errors
    /// Where that is too much, whether it may do when another call has ended.
    pub(crate) fn map(
        &mut self,
        held: &mut MappedPages,
        pages: u32,
        session: u32,
        app: Option<Uuid>,
    ) -> Result<(), MapError> {
        let user = pages > FEW_PAGES
            && match app {
                Some(app) => self.is_user_app(app),
                None => self.sessions.is_user(session),
            };
        if user {
            return Ok(());
        }
        match self.with_mapped(pages) {
            Ok(mapped) => {
                self.mapped = mapped;
                self.mapped_by_calls += pages;
                held.passed = pages;
                Ok(())
            }
            // Who waits must be woken: by the end of a call that is not as badly off itself.
            Err(_) if self.fits_without_others(pages) => Err(MapError::Temporary),
            Err(denied) => Err(MapError::Permanent(denied)),
        }
    }

    /// Whether there is room for so many pages once all calls that hold some have ended.
    const fn fits_without_others(&self, pages: u32) -> bool {
        // OP-TEE can give back in one call what it had asked for in another.
        let stay = self.mapped.saturating_sub(self.mapped_by_calls);
        stay.saturating_add(pages) <= self.quotas.mapped_pages
    }

    /// OP-TEE has got so many pages that it asked for during a call. [`VmState::reserve`] has counted them as mapped.
    pub(crate) fn add_requested(&mut self, held: &mut MappedPages, pages: u32) {
        held.requested += pages;
        self.mapped_by_calls += pages;
    }

    /// OP-TEE has given so many pages back during a call that it had asked for, in this one as a rule.
    pub(crate) fn subtract_requested(&mut self, held: &mut MappedPages, pages: u32) {
        let own = held.requested.min(pages);
        held.requested -= own;
        self.mapped_by_calls -= own;
    }

    /// A call is done.
    #[inline]
    pub(crate) fn unmap(&mut self, held: &mut MappedPages) {
        let MappedPages { passed, requested } = core::mem::take(held);
        self.mapped -= passed;
        self.mapped_by_calls -= passed + requested;
    }
}
