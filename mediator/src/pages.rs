// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pages that OP-TEE may see. A few are kept in reserve, so that a call rarely waits for the hypervisor's
//! allocator.

use crate::Mediator;
use crate::host::{Host, SharedPage};

/// Number of pages in reserve.
pub(crate) const SPARE_PAGES: usize = 8;

impl Mediator {
    /// Returns a page filled with zeroes.
    pub(crate) fn take_page<H: Host>(&self, host: &H) -> Option<SharedPage> {
        let spare = self.state.lock().spare.pop();
        match spare {
            Some(page) => {
                // OP-TEE sees what this call needs, and no data of earlier calls.
                host.clear_shared(&page);
                Some(page)
            }
            None => host.alloc_shared(),
        }
    }

    /// Takes back a page that OP-TEE does not use any more.
    pub(crate) fn give_page<H: Host>(&self, host: &H, page: SharedPage) {
        let surplus = {
            let mut state = self.state.lock();
            if state.spare.len() < state.spare.capacity() {
                state.spare.push(page);
                None
            } else {
                Some(page)
            }
        };
        if let Some(page) = surplus {
            host.free_shared(page);
        }
    }
}
