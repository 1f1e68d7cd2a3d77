// SPDX-License-Identifier: Apache-2.0 OR MIT
//! OP-TEE forgets the VM, and its pages are released.

use crate::call::{Call, Completion, MAX_RELEASES, Pending};
use crate::ffa::MAX_OBJECTS;
use crate::host::{Host, LongOperation};
use crate::memory::pin::{FREE_COST, PageNumber, UNPIN_STEP, unpin};
use crate::vm_state::{Phase, VmState};
use crate::{DestroyError, Mediator};
use alloc::vec::Vec;
use ffa_proto::Handle;

/// What remains of a VM that OP-TEE has forgotten.
#[derive(Debug)]
pub(super) struct Remains {
    state: VmState,
    /// Objects that the SPMC still has. OP-TEE 4.10 gives them back after it has forgotten the VM, and would give their names
    /// to objects of the VM's next life.
    objects: heapless::Vec<Handle, { MAX_OBJECTS as usize + 1 }>,
    /// Number of refusals since the SPMC last gave one back.
    refusals: usize,
    /// Pages of one buffer, or of one call, that are unpinned next.
    pages: heapless::Vec<Vec<PageNumber>, MAX_LISTS>,
}

/// The most page lists of a call: of a buffer that it registers, of one that it imports, and those to unpin.
const MAX_LISTS: usize = MAX_RELEASES + 2;

impl Mediator {
    /// Has OP-TEE forget the VM. Returns the VM's state, with everything that is to be released.
    pub(super) fn forget<H: Host>(&self, host: &H) -> Result<Remains, DestroyError> {
        if self.tee.virtualised {
            let told = match &self.ffa {
                None => self.tell_destroyed(host),
                Some(ffa) => self.tell_destroyed_by_ffa(host, ffa),
            };
            told.map_err(DestroyError::Refused)?;
        } else {
            let held = self.state.lock().held();
            if held > 0 {
                return Err(DestroyError::Held(held));
            }
        }
        let fresh = VmState::new(self.quotas(), self.memory_names());
        let mut state = self.state.lock();
        let old = core::mem::replace(&mut *state, fresh);
        state.inherit(&old);
        // The VM cannot be created before its teardown is over.
        state.phase = Phase::Destroying;
        let (objects, pages) = (old.all_handles(), heapless::Vec::new());
        Ok(Remains {
            state: old,
            objects,
            refusals: 0,
            pages,
        })
    }

    /// Takes an object back from the SPMC, if it still has one: its pages may be unpinned then.
    pub(super) fn reclaim_some<H: Host>(
        &self,
        host: &H,
        old: &mut Remains,
    ) -> Result<(), DestroyError> {
        let Some(ffa) = &self.ffa else { return Ok(()) };
        let Some(&handle) = old.objects.last() else {
            return Ok(());
        };
        match self.reclaim(host, ffa, handle) {
            Ok(()) => {
                old.objects.pop();
                old.refusals = 0;
                Ok(())
            }
            // Each of the others may have it as its only obstacle.
            Err(code) => {
                old.objects.rotate_right(1);
                old.refusals += 1;
                if old.refusals < old.objects.len() {
                    return Ok(());
                }
                old.refusals = 0;
                Err(DestroyError::Refused(code.to_w()))
            }
        }
    }

    /// Unpins and frees some of what the VM had and OP-TEE does not know any more. Returns what remains, or
    /// `None` at the end.
    pub(super) fn release_some<H: Host>(&self, host: &H, mut old: Remains) -> Option<Remains> {
        let done = old.objects.is_empty()
            && host.long_operation(LongOperation::Unpin, || old.release(host, UNPIN_STEP));
        if !done {
            return Some(old);
        }
        self.reset_endpoint(host);
        self.state.lock().phase = Phase::Absent;
        None
    }
}

impl Remains {
    /// Releases as much as unpinning `left` pages takes, or one call more. Returns whether that was all.
    fn release<H: Host>(&mut self, host: &H, mut left: usize) -> bool {
        loop {
            while let Some(pages) = self.pages.last_mut() {
                if !unpin(host, pages, &mut left) {
                    return false;
                }
                drop(self.pages.pop());
                left = left.saturating_sub(FREE_COST);
            }
            if left == 0 {
                return false;
            }
            if let Some(call) = self.state.take_call() {
                left = left.saturating_sub(self.release_call(host, *call));
            } else if let Some(entry) = self.state.buffers.pop() {
                left -= 1;
                if let Some(buffer) = entry {
                    // The list is empty, so there is room.
                    let _ = self.pages.push(buffer.pages);
                }
            } else if let Some(entry) = self.state.rpc_buffers.pop() {
                left = left.saturating_sub(FREE_COST);
                if let Some(buffer) = entry.flatten() {
                    host.free_shared(buffer.shadow);
                }
            } else {
                break;
            }
        }
        let spare = core::mem::take(&mut self.state.spare);
        for page in spare.into_iter().chain(self.state.take_all_lent()) {
            host.free_shared(page);
        }
        if let Some(making) = self.state.creation.take() {
            making.give_back(host);
        }
        true
    }

    /// Frees what a call had, and queues its pages to be unpinned. Returns the cost in pages.
    fn release_call<H: Host>(&mut self, host: &H, call: Call) -> usize {
        let Call {
            shadow,
            page_list,
            freed_rpc_page,
            releases,
            pending,
            completion,
            ..
        } = call;
        let import = match completion {
            Completion::Register { import, .. } => Some(import),
            _ => None,
        };
        let (request, taken) = match pending {
            Pending::Command(request) | Pending::Undo(request) => (Some(request), None),
            Pending::Import {
                request, import, ..
            } => (Some(request), Some(import)),
            _ => (None, None),
        };
        let mut cost = FREE_COST;
        let mut free = |page| {
            host.free_shared(page);
            cost += 2;
        };
        // There is room for all of them.
        for import in import.into_iter().chain(taken) {
            let (pins, pages) = import.into_parts();
            let _ = self.pages.push(pins);
            pages.into_iter().for_each(&mut free);
        }
        for release in releases {
            let _ = self.pages.push(release.pages);
        }
        let message = request.and_then(|request| request.into_page());
        let pages = page_list.into_iter().chain(freed_rpc_page).chain(message);
        pages.chain([shadow]).for_each(free);
        cost
    }
}
