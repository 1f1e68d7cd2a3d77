//! OP-TEE forgets the VM, and then its pages are its own again.

use crate::books::{Books, Life};
use crate::call::{Call, Pending, Work};
use crate::host::Host;
use crate::memory::buffer::unpin;
use crate::{DestroyError, Mediator};
use optee_proto::{Return, smc};

/// Pages that are unpinned in one step, or a few more.
const UNPIN_STEP: usize = 2048;

impl Mediator {
    /// Has OP-TEE forget the VM: the books, with what is to be given back.
    pub(super) fn forget<H: Host>(&self, host: &H) -> Result<Books, DestroyError> {
        if self.tee.virtualised {
            let destroyed = smc::VM_DESTROYED.get().into();
            let args = [destroyed, self.client.get(), 0, 0, 0, 0, 0, 0];
            let [a0, ..] = self.secure(host, args);
            if Return::from_x0(a0) != Return::OK {
                return Err(DestroyError::Refused(a0 as u32));
            }
        } else {
            let held = self.books.lock().held();
            if held > 0 {
                return Err(DestroyError::Held(held));
            }
        }
        let fresh = Books::new(self.config.quotas);
        let mut books = self.books.lock();
        let old = core::mem::replace(&mut *books, fresh);
        books.inherit(&old);
        // Nobody creates the VM before its end is over.
        books.life = Life::Dying;
        Ok(old)
    }

    /// Unpins and frees some of what the VM had, which OP-TEE does not know any more. What is left;
    /// `None` when nothing is.
    pub(super) fn release_some<H: Host>(&self, host: &H, mut old: Books) -> Option<Books> {
        let mut done = 0;
        while let Some(call) = old.take_call() {
            done += Self::release_call(host, *call);
        }
        while done < UNPIN_STEP
            && let Some(buffer) = old.buffers.pop()
        {
            done += buffer.pages.len();
            unpin(host, buffer.pages);
        }
        if done >= UNPIN_STEP {
            return Some(old);
        }
        while let Some(buffer) = old.rpc_buffers.pop() {
            if let Some(buffer) = buffer {
                host.free_shared(buffer.shadow);
            }
        }
        let spare = core::mem::take(&mut old.spare);
        for page in spare.into_iter().chain(old.take_all_lent()) {
            host.free_shared(page);
        }
        self.books.lock().life = Life::Unknown;
        None
    }

    /// Unpins and frees what a call had. How many pages that were.
    fn release_call<H: Host>(host: &H, call: Call) -> usize {
        let Call {
            shadow,
            list,
            retired,
            pending,
            work,
            ..
        } = call;
        let intake = match work {
            Work::Register { intake, .. } => Some(intake),
            _ => None,
        };
        let (request, taken) = match pending {
            Pending::Command(request) | Pending::Undo(request) => (Some(request), None),
            Pending::TakeIn {
                request, intake, ..
            } => (Some(request), Some(intake)),
            _ => (None, None),
        };
        let mut done = 0;
        for intake in intake.into_iter().chain(taken) {
            let (pins, pages) = intake.into_parts();
            done += pins.len();
            unpin(host, pins);
            for page in pages {
                host.free_shared(page);
            }
        }
        let message = request.and_then(|request| request.into_page());
        for page in list.into_iter().chain(retired).chain(message) {
            host.free_shared(page);
        }
        host.free_shared(shadow);
        done
    }
}
