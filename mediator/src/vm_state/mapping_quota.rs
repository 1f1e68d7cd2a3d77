// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What OP-TEE's core may map of the VM's memory: see [`Quotas::mapped_pages`].
//!
//! [`Quotas::mapped_pages`]: crate::Quotas::mapped_pages

use super::VmState;
use crate::denied::DeniedError;
use crate::mapped_pages::MappedPages;
use optee_proto::{TeeResult, Uuid};

/// A call that passes at most this many pages is counted without a look at its session.
const FEW_PAGES: u32 = 16;

/// Why OP-TEE's core may not map a call's buffers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MapError {
    /// Other calls hold too many pages, and they end.
    Temporary,
    /// The pages exceed the quota, or what OP-TEE has requested and keeps leaves no room for them.
    Permanent(DeniedError),
}

impl VmState {
    /// Returns the number of pages that OP-TEE's core may have mapped.
    pub(crate) const fn mapped(&self) -> u32 {
        self.mapped
    }

    /// Returns the number of pages that OP-TEE's core may have mapped with `more` pages.
    pub(crate) fn with_mapped(&self, more: u32) -> Result<u32, DeniedError> {
        self.mapped
            .checked_add(more)
            .filter(|&mapped| mapped <= self.quotas.mapped_pages)
            .ok_or(DeniedError(TeeResult::OUT_OF_MEMORY))
    }

    /// Counts `pages` pages that a call passes to an application, in `session` or, if it opens one, to `app`,
    /// until [`VmState::unmap`]. OP-TEE's core may map them, unless the application is known to be a user TA.
    ///
    /// # Errors
    /// If there are too many pages; says whether there may be room when another call has ended.
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
            // A waiting call must be woken by the end of a call that does not wait for the same reason.
            Err(_) if self.fits_without_others(pages) => Err(MapError::Temporary),
            Err(denied) => Err(MapError::Permanent(denied)),
        }
    }

    /// Returns whether there is room for the pages once all calls that hold some have ended.
    const fn fits_without_others(&self, pages: u32) -> bool {
        // OP-TEE can return in one call what it has requested in another.
        let stay = self.mapped.saturating_sub(self.mapped_by_calls);
        stay.saturating_add(pages) <= self.quotas.mapped_pages
    }

    /// Counts pages that OP-TEE has requested during a call. [`VmState::reserve`] has counted them as mapped.
    pub(crate) fn add_requested(&mut self, held: &mut MappedPages, pages: u32) {
        held.requested += pages;
        self.mapped_by_calls += pages;
    }

    /// Subtracts pages that OP-TEE has returned during a call, usually the one in which it requested them.
    pub(crate) fn subtract_requested(&mut self, held: &mut MappedPages, pages: u32) {
        let own = held.requested.min(pages);
        held.requested -= own;
        self.mapped_by_calls -= own;
    }

    /// Subtracts the pages of a call that is done.
    #[inline]
    pub(crate) fn unmap(&mut self, held: &mut MappedPages) {
        let MappedPages { passed, requested } = core::mem::take(held);
        self.mapped -= passed;
        self.mapped_by_calls -= passed + requested;
    }
}
