// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The import of a guest's page list: read, pinned, and written to a list of the mediator.
//!
//! The guest's list is read piece by piece, each word once, into private memory. OP-TEE gets a list in pages
//! that the guest cannot reach, so later writes to the guest's list have no effect. A long list is imported in
//! several steps, between which the guest runs. So no guest can hold a pCPU with one.

use crate::addr::{Ipa, Pa};
use crate::host::{Host, LongOperation, SharedPage};
use crate::memory::ImportProgress;
use crate::memory::pin::{ImportError, PageNumber, pin};
use alloc::vec::Vec;
use optee_proto::le::U64;
use optee_proto::msg::PAGE_LIST_ENTRIES;
use zerocopy::IntoBytes;

/// Words per fetch. Seven fetches read an eighth less than a page of a list.
const CHUNK: usize = 64;

/// A buffer's pages on their way from the guest's list to the mediator's.
#[derive(Debug)]
pub(crate) struct PageListImport {
    /// Number of pages of the buffer.
    total: usize,
    /// The pages that are pinned so far.
    pins: Vec<PageNumber>,
    /// The mediator's list so far.
    list: Vec<SharedPage>,
    /// The page of the guest's list that is being read.
    guest_list: Ipa,
}

impl PageListImport {
    /// Prepares the import of a buffer of `total` pages whose list begins at `guest_list`. Nothing is pinned
    /// yet.
    pub(crate) fn new(total: u32, guest_list: Ipa) -> Result<Self, ImportError> {
        let total = total as usize;
        let (mut pins, mut list) = (Vec::new(), Vec::new());
        pins.try_reserve_exact(total)
            .map_err(|_| ImportError::NoMemory)?;
        list.try_reserve_exact(total.div_ceil(PAGE_LIST_ENTRIES))
            .map_err(|_| ImportError::NoMemory)?;
        if !guest_list.is_page_aligned() {
            return Err(ImportError::BadAddress);
        }
        Ok(Self {
            total,
            pins,
            list,
            guest_list,
        })
    }

    /// Imports a buffer of one page that the guest names directly.
    pub(crate) fn single<H: Host>(
        host: &H,
        page: Ipa,
        new_page: impl FnMut() -> Option<SharedPage>,
    ) -> Result<Self, (ImportError, Option<Self>)> {
        let mut import = Self::new(1, page).map_err(|refusal| (refusal, None))?;
        let mut new_page = new_page;
        match import.take(host, &mut [U64::new(page.get())], &mut new_page) {
            Ok(()) => Ok(import),
            Err(refusal) => Err((refusal, Some(import))),
        }
    }

    /// Imports up to about `budget` pages. After an error, [`PageListImport::into_parts`] returns what to undo.
    pub(crate) fn step<H: Host>(
        &mut self,
        host: &H,
        budget: usize,
        mut new_page: impl FnMut() -> Option<SharedPage>,
    ) -> Result<ImportProgress, ImportError> {
        host.long_operation(LongOperation::Import, || {
            self.step_measured(host, budget, &mut new_page)
        })
    }

    fn step_measured<H: Host>(
        &mut self,
        host: &H,
        budget: usize,
        new_page: &mut impl FnMut() -> Option<SharedPage>,
    ) -> Result<ImportProgress, ImportError> {
        let stop = self.pins.len().saturating_add(budget);
        while self.pins.len() < self.total {
            if self.pins.len() >= stop {
                return Ok(ImportProgress::More);
            }
            // Index of the next word in its page of the list.
            let at = self.pins.len() % PAGE_LIST_ENTRIES;
            let left = self.total - self.pins.len();
            let entries = left.min(CHUNK - at % CHUNK).min(PAGE_LIST_ENTRIES - at);
            // The link to the list's next page is fetched with the entries before it.
            let link = at + entries == PAGE_LIST_ENTRIES && left > entries;
            let mut words = [U64::ZERO; CHUNK];
            let words = &mut words[..entries + usize::from(link)];
            let from = self
                .guest_list
                .checked_add(at as u64 * 8)
                .ok_or(ImportError::BadAddress)?;
            host.read_guest(from, words.as_mut_bytes())
                .map_err(|_| ImportError::BadAddress)?;
            self.take(host, &mut words[..entries], new_page)?;
            if link {
                self.guest_list = Ipa::new(words[entries].get());
                if !self.guest_list.is_page_aligned() {
                    return Err(ImportError::BadAddress);
                }
            }
        }
        Ok(ImportProgress::Done)
    }

    /// Pins some pages and appends them to the mediator's list, all in the same page of it. `pages` has IPAs
    /// before, and PAs afterwards.
    fn take<H: Host>(
        &mut self,
        host: &H,
        pages: &mut [U64],
        new_page: &mut impl FnMut() -> Option<SharedPage>,
    ) -> Result<(), ImportError> {
        let at = self.pins.len() % PAGE_LIST_ENTRIES;
        if at == 0 {
            let page = new_page().ok_or(ImportError::NoMemory)?;
            if let Some(last) = self.list.last() {
                let link = page.pa().get().to_le_bytes();
                host.write_shared(last, PAGE_LIST_ENTRIES * 8, &link);
            }
            self.list.push(page);
        }
        pin(host, pages, &mut self.pins)?;
        if let Some(page) = self.list.last() {
            host.write_shared(page, at * 8, pages.as_bytes());
        }
        Ok(())
    }

    /// Returns the address of the mediator's list, if it has begun.
    pub(crate) fn list_start(&self) -> Option<Pa> {
        self.list.first().map(SharedPage::pa)
    }

    /// Returns the pins and the pages of the mediator's list. The caller owns them from here on.
    pub(crate) fn into_parts(self) -> (Vec<PageNumber>, Vec<SharedPage>) {
        (self.pins, self.list)
    }
}
