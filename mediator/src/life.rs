//! A VM becomes known to OP-TEE. How OP-TEE lets go of it is in [`crate::end`].

use crate::books::Life;
use crate::call::Call;
use crate::host::{Host, Lengthy};
use crate::pages::SPARE_PAGES;
use crate::sync::Ordering;
use crate::{CreateError, Mediator};
use alloc::boxed::Box;
use alloc::vec::Vec;
use optee_proto::{Return, smc};

impl Mediator {
    /// Makes the VM known to OP-TEE and sets aside what its calls need, so that they allocate
    /// nothing. To be called before the VM's first vCPU runs.
    ///
    /// # Errors
    /// When memory or OP-TEE's room for VMs is exhausted; everything is then as before.
    #[allow(
        clippy::vec_box,
        reason = "calls move from hand to hand; a pointer moves faster"
    )]
    pub fn create<H: Host>(&self, host: &H) -> Result<(), CreateError> {
        if self.books.lock().life != Life::Unknown {
            return Err(CreateError::Exists);
        }
        let left = self.counters.leaked.get() + self.counters.kept.get();
        if left >= self.config.quotas.leftovers.into() {
            return Err(CreateError::Leftovers(left));
        }
        let lives = self.lives.load(Ordering::Relaxed);
        if self.config.lives.is_some_and(|most| lives >= most) {
            return Err(CreateError::Lives(lives));
        }
        let slots = self.call_limit() as usize;
        let mut idle: Vec<Box<Call>> = Vec::new();
        let (mut suspended, mut lost, mut spare) = (Vec::new(), Vec::new(), Vec::new());
        let reserved = idle
            .try_reserve_exact(slots)
            .and_then(|()| suspended.try_reserve_exact(slots))
            .and_then(|()| lost.try_reserve_exact(slots))
            .and_then(|()| spare.try_reserve_exact(SPARE_PAGES));
        if reserved.is_err() {
            return Err(CreateError::NoMemory);
        }
        let give_back = |calls: Vec<Box<Call>>| {
            for call in calls {
                host.free_shared(call.shadow);
            }
        };
        let set_aside = host.lengthy(Lengthy::SetAside, || {
            (0..slots).rev().all(|slot| {
                let page = host.alloc_shared();
                idle.extend(page.map(|page| Box::new(Call::new(slot, page))));
                suspended.push(None);
                idle.len() == suspended.len()
            })
        });
        if !set_aside {
            give_back(idle);
            return Err(CreateError::NoSharedPages);
        }
        if self.tee.virtualised {
            let created = smc::VM_CREATED.get().into();
            let args = [created, self.client.get(), 0, 0, 0, 0, 0, 0];
            let [a0, ..] = self.secure(host, args);
            if Return::from_x0(a0) != Return::OK {
                give_back(idle);
                return Err(CreateError::Refused(a0 as u32));
            }
            // A life that ends before the guest sees it costs OP-TEE as much as any other.
            self.lives.store(lives + 1, Ordering::Relaxed);
            if let Err(error) = self.make_tables(host) {
                give_back(idle);
                return Err(error);
            }
        } else {
            self.lives.store(lives + 1, Ordering::Relaxed);
        }
        let is_mute = self.has_notified.load(Ordering::Relaxed) && !self.tee.notifies_again();
        self.is_mute.store(is_mute, Ordering::Relaxed);
        let mut books = self.books.lock();
        (books.idle, books.suspended, books.lost, books.spare) = (idle, suspended, lost, spare);
        books.lost_spaces = u32::try_from(left).unwrap_or(u32::MAX);
        books.life = Life::Live;
        self.live.store(true, Ordering::SeqCst);
        Ok(())
    }
}
