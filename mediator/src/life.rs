//! A VM's life with the TEE: created, then destroyed.
//!
//! The order of the end is what keeps a neighbour safe. OP-TEE may use the VM's pages until it
//! has answered VM_DESTROYED and no pCPU is in it for the VM any more. So: no vCPU inside, then
//! VM_DESTROYED, once, and only then are pages unpinned.
//!
//! Before that, what the VM left open is wound up as far as OP-TEE lets us: OP-TEE does not do
//! it, and every trusted application that is left in memory keeps an address space number, of
//! which all VMs together have few.

use crate::books::Life;
use crate::call::{Call, Pending, Work};
use crate::host::Host;
use crate::memory::buffer::unpin;
use crate::pages::SPARE_PAGES;
use crate::sync::Ordering;
use crate::{CreateError, DestroyError, Mediator};
use alloc::boxed::Box;
use alloc::vec::Vec;
use optee_proto::{Return, smc};

/// How many times a VM's calls are resumed on its behalf when it ends, all together. Each ends
/// at the next RPC or interrupt, so this bounds the time as well.
const WIND_UP_STEPS: u32 = if cfg!(miri) { 40 } else { 1000 };
/// Of how many such steps an interrupt takes the place, in a call that goes on and on. The
/// hypervisor sees to it that one comes every few milliseconds.
const INTERRUPT_COST: u64 = 10;

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
        for slot in (0..slots).rev() {
            let Some(page) = host.alloc_shared() else {
                give_back(idle);
                return Err(CreateError::NoSharedPages);
            };
            idle.push(Box::new(Call::new(slot, page)));
            suspended.push(None);
        }
        let args = [
            smc::VM_CREATED.get().into(),
            self.client.get(),
            0,
            0,
            0,
            0,
            0,
            0,
        ];
        let [a0, ..] = self.secure(host, args);
        if Return::from_x0(a0) != Return::OK {
            give_back(idle);
            return Err(CreateError::Refused(a0 as u32));
        }
        let mut books = self.books.lock();
        (books.idle, books.suspended, books.lost, books.spare) = (idle, suspended, lost, spare);
        books.life = Life::Live;
        self.live.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Ends the VM in OP-TEE, then unpins and frees all that it had. To be called after all its
    /// vCPUs have stopped and have left [`Mediator::smc`]. Without a live VM it does nothing.
    ///
    /// # Errors
    /// [`DestroyError::Busy`] when a vCPU is still in [`Mediator::smc`]: try again.
    /// [`DestroyError::Refused`] when OP-TEE does not let go of the VM: its pages stay pinned.
    pub fn destroy<H: Host>(&self, host: &H) -> Result<(), DestroyError> {
        {
            let mut books = self.books.lock();
            if books.life == Life::Unknown {
                return Ok(());
            }
            books.life = Life::Dying;
            books.notify = false;
            self.live.store(false, Ordering::SeqCst);
        }
        // From here on nobody begins. Who began before is counted.
        if self.inside.load(Ordering::SeqCst) != 0 {
            return Err(DestroyError::Busy);
        }
        self.wind_up(host);
        let args = [
            smc::VM_DESTROYED.get().into(),
            self.client.get(),
            0,
            0,
            0,
            0,
            0,
            0,
        ];
        let [a0, ..] = self.secure(host, args);
        if Return::from_x0(a0) != Return::OK {
            return Err(DestroyError::Refused(a0 as u32));
        }
        self.release_all(host);
        Ok(())
    }

    /// Ends calls that wait for the guest, then closes its sessions, then finds out which
    /// applications OP-TEE keeps all the same.
    fn wind_up<H: Host>(&self, host: &H) {
        let mut budget = WIND_UP_STEPS;
        self.drain(host, &mut budget);
        self.close_sessions(host, &mut budget);
        self.count_kept(host, &mut budget);
        let mut books = self.books.lock();
        for _ in core::mem::take(&mut books.sessions) {
            self.counters.leaked.bump();
        }
    }

    /// Counts the applications that OP-TEE keeps although no session to them is open. Nothing
    /// ends these but OP-TEE's own end.
    ///
    /// OP-TEE does not say which they are. So each application that it has loaded for the VM is
    /// opened once more: where OP-TEE asks for its code, which it does not get, it has not kept it.
    fn count_kept<H: Host>(&self, host: &H, budget: &mut u32) {
        let rpc_room = self.tee.rpc_params as usize == optee_proto::rpc::MAX_PARAMS;
        let (apps, more) = self.books.lock().take_user_apps();
        for _ in 0..more {
            self.counters.kept.bump();
        }
        for app in apps {
            let call = {
                let mut books = self.books.lock();
                let reserved = books.reserve_session().is_ok();
                let call = if reserved { books.idle.pop() } else { None };
                if reserved && call.is_none() {
                    books.no_session();
                }
                call
            };
            if let Some(mut call) = call {
                call.open_for_guest(app, rpc_room);
                self.enter(host, call);
                self.drain(host, budget);
            }
            if !self.books.lock().is_user_app(app) {
                self.counters.kept.bump();
            }
            self.close_sessions(host, budget);
        }
    }

    /// Closes the sessions that are open.
    fn close_sessions<H: Host>(&self, host: &H, budget: &mut u32) {
        loop {
            let next = {
                let mut books = self.books.lock();
                // Without a call there is no way to close any. One that cannot be closed is not
                // tried again, and keeps its call where the budget is used up: so this ends.
                books.idle.pop().map(|call| (books.sessions.pop(), call))
            };
            let (session, mut call) = match next {
                Some((Some(session), call)) => (session, call),
                Some((None, call)) => {
                    self.books.lock().idle.push(call);
                    break;
                }
                None => break,
            };
            let before = self.counters.closed.get();
            call.close_for_guest(session.id);
            self.enter(host, call);
            self.drain(host, budget);
            if self.counters.closed.get() == before {
                self.counters.leaked.bump();
            }
        }
    }

    /// Answers for the guest, which is no more, until no call waits for it or the budget is
    /// used up. Calls may wait for each other, so they take turns.
    fn drain<H: Host>(&self, host: &H, budget: &mut u32) {
        loop {
            let mut some = false;
            for slot in 0..self.call_limit() as usize {
                let waiting = self
                    .books
                    .lock()
                    .suspended
                    .get_mut(slot)
                    .and_then(Option::take);
                let Some(call) = waiting else { continue };
                if *budget == 0 {
                    self.books.lock().suspended[slot] = Some(call);
                    return;
                }
                some = true;
                let before = self.counters.foreign_intr.get();
                self.resume_without_guest(host, call);
                let interrupts = self.counters.foreign_intr.get() - before;
                let cost = 1 + interrupts.saturating_mul(INTERRUPT_COST);
                *budget = budget.saturating_sub(u32::try_from(cost).unwrap_or(u32::MAX));
            }
            if !some {
                return;
            }
        }
    }

    /// Unpins and frees everything. OP-TEE does not know the VM any more.
    fn release_all<H: Host>(&self, host: &H) {
        let mut books = self.books.lock();
        let idle = core::mem::take(&mut books.idle);
        let suspended = core::mem::take(&mut books.suspended);
        let lost = core::mem::take(&mut books.lost);
        let spare = core::mem::take(&mut books.spare);
        let fresh = crate::books::Books::new(self.config.quotas);
        let mut old = core::mem::replace(&mut *books, fresh);
        books.inherit(&old);
        drop(books);

        for call in idle
            .into_iter()
            .chain(suspended.into_iter().flatten())
            .chain(lost)
        {
            let Call {
                shadow,
                list,
                retired,
                pending,
                work,
                ..
            } = *call;
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
            for intake in intake.into_iter().chain(taken) {
                let (pins, pages) = intake.into_parts();
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
        }
        while let Some(buffer) = old.buffers.pop() {
            unpin(host, buffer.pages);
        }
        while let Some(buffer) = old.rpc_buffers.pop() {
            if let Some(buffer) = buffer {
                host.free_shared(buffer.shadow);
            }
        }
        for page in spare.into_iter().chain(old.take_all_lent()) {
            host.free_shared(page);
        }
    }
}
