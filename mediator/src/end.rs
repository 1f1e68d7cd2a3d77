//! The end of a VM in OP-TEE, step by step.
//!
//! The order of the end is what keeps a neighbour safe. OP-TEE may use the VM's pages until it
//! has answered VM_DESTROYED and no pCPU is in it for the VM any more. So: no vCPU inside, then
//! VM_DESTROYED, once, and only then are pages unpinned.
//!
//! Before that, what the VM left open is wound up as far as OP-TEE lets us: OP-TEE does not do
//! it, and every trusted application that is left in memory keeps an address space number, of
//! which all VMs together have few.
//!
//! An OP-TEE that is not virtualised has no VM_DESTROYED. It is asked for each thing that it has
//! of the VM's, and what it does not give back stays pinned.
//!
//! Each step is one entry of OP-TEE's at most, up to the next interrupt, so that whoever takes a VM
//! down does other things in between.

use crate::books::{Books, Life};
use crate::call::{Call, Pending, Work};
use crate::host::Host;
use crate::memory::Cookie;
use crate::memory::buffer::unpin;
use crate::sync::Ordering;
use crate::{DestroyError, Mediator};
use alloc::boxed::Box;
use alloc::vec::Vec;
use optee_proto::{Return, Uuid, smc};

/// How many times a VM's calls are resumed on its behalf when it ends, all together. Each ends
/// at the next RPC or interrupt, so this bounds the time as well.
const BUDGET: u32 = if cfg!(miri) { 40 } else { 4000 };
/// The same for each call of the mediator's own: what a guest's call has used up is not missed here.
/// They all end, but an application that is opened is loaded and checked, which takes a while.
const OWN_BUDGET: u32 = 2 * BUDGET;
/// The same for all of these together. An OP-TEE that needs more is broken.
const ALL_OWN_BUDGET: u32 = 10 * BUDGET;
/// For how long, in milliseconds and all together, calls may sleep that end by themselves.
const MAX_SLEEP: u32 = 10_000;
/// Of how many such steps an interrupt takes the place, in a call that goes on and on. The
/// hypervisor sees to it that one comes every few milliseconds.
const INTERRUPT_COST: u64 = 4;
/// Pages that are unpinned in one step, or a few more.
const UNPIN_STEP: usize = 2048;

/// Whether there is more to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// There is: go on.
    More,
    /// There is, once so many milliseconds have passed: a call sleeps until then. Going on earlier
    /// does no harm but to the call, which is given up sooner.
    Later(u32),
    /// There is not. The VM may be created again.
    Done,
}

/// How far the end of a VM is.
#[derive(Debug)]
pub(crate) struct End {
    /// What is left to spend on calls that do not end: those of the guest's.
    budget: u32,
    /// The same for the mediator's own call that is under way.
    own_budget: u32,
    /// The same for those that are to come.
    all_own_budget: u32,
    /// How much longer calls may sleep, in milliseconds.
    sleep: u32,
    /// Where the next look for a suspended call begins.
    slot: usize,
    stage: Stage,
}

#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a box would have to be allocated, and the end must not fail"
)]
enum Stage {
    /// Calls that wait for the guest are cancelled, those of these slots.
    Cancel(usize),
    /// They are ended.
    Calls,
    /// Sessions are closed. How many had been closed before the call that is under way.
    Sessions(Option<u64>, After),
    /// Applications that OP-TEE has loaded are opened once more; one of them is being opened.
    Apps(Vec<Uuid>, Option<Uuid>),
    /// An OP-TEE that is not virtualised gives back memory for RPC messages.
    Cache,
    /// It forgets these registered buffers.
    Buffers(Vec<Cookie>),
    /// OP-TEE is to forget the VM.
    Forget,
    /// OP-TEE has forgotten it.
    Release(Books),
}

/// What comes after sessions are closed.
#[derive(Debug)]
enum After {
    /// The question which applications stay.
    Ask,
    /// The next of these.
    Apps(Vec<Uuid>),
}

impl End {
    const fn new() -> Self {
        Self {
            budget: BUDGET,
            own_budget: 0,
            all_own_budget: ALL_OWN_BUDGET,
            sleep: MAX_SLEEP,
            slot: 0,
            stage: Stage::Cancel(0),
        }
    }
}

impl Mediator {
    /// Ends the VM in OP-TEE, then unpins and frees all that it had: [`Mediator::destroy_step`]
    /// to the end.
    ///
    /// # Errors
    /// As [`Mediator::destroy_step`].
    pub fn destroy<H: Host>(&self, host: &H) -> Result<(), DestroyError> {
        while self.destroy_step(host)? != Progress::Done {}
        Ok(())
    }

    /// Does a step of the VM's end: ends it in OP-TEE, then unpins and frees all that it had. To be
    /// called after all its vCPUs have stopped and have left [`Mediator::smc`], until it is done.
    /// Without a live VM it does nothing.
    ///
    /// # Errors
    /// [`DestroyError::Busy`] when a vCPU is still in [`Mediator::smc`], or another pCPU in this:
    /// try again.
    /// [`DestroyError::Refused`] and [`DestroyError::Held`] when OP-TEE does not let go of the VM:
    /// its pages stay pinned. Trying again asks it once more.
    pub fn destroy_step<H: Host>(&self, host: &H) -> Result<Progress, DestroyError> {
        {
            let mut books = self.books.lock();
            match books.life {
                Life::Unknown if self.end.lock().is_none() => return Ok(Progress::Done),
                Life::Live => {
                    books.life = Life::Dying;
                    books.notify = false;
                    *self.end.lock() = Some(End::new());
                    self.live.store(false, Ordering::SeqCst);
                }
                Life::Unknown | Life::Dying => {}
            }
        }
        // From here on nobody begins. Who began before is counted.
        if self.inside.load(Ordering::SeqCst) != 0 {
            return Err(DestroyError::Busy);
        }
        let Some(mut end) = self.end.lock().take() else {
            return Err(DestroyError::Busy);
        };
        if let Some(milliseconds) = self.until_one_wakes(&mut end) {
            *self.end.lock() = Some(end);
            return Ok(Progress::Later(milliseconds));
        }
        let next = self.end_stage(host, &mut end);
        match next {
            Ok(Some(stage)) => {
                end.stage = stage;
                *self.end.lock() = Some(end);
                Ok(Progress::More)
            }
            Ok(None) => Ok(Progress::Done),
            Err(error) => {
                end.stage = if self.tee.virtualised {
                    Stage::Forget
                } else {
                    Stage::Cache
                };
                *self.end.lock() = Some(end);
                Err(error)
            }
        }
    }

    /// Does a step. Where the end is then; `None` when it is over.
    fn end_stage<H: Host>(&self, host: &H, end: &mut End) -> Result<Option<Stage>, DestroyError> {
        let stage = core::mem::replace(&mut end.stage, Stage::Forget);
        Ok(Some(match stage {
            Stage::Release(old) => return Ok(self.release_some(host, old).map(Stage::Release)),
            Stage::Forget => Stage::Release(self.forget(host)?),
            // What calls are under way is first, but that those which sleep are cancelled.
            Stage::Cancel(slot) if !self.own_call_waits() => {
                match self.cancel_next(host, end, slot) {
                    Some(next) => Stage::Cancel(next),
                    None => Stage::Calls,
                }
            }
            stage if self.resume_one(host, end) => stage,
            Stage::Cancel(_) | Stage::Calls => Stage::Sessions(None, After::Ask),
            Stage::Sessions(before, after) => {
                if before.is_some_and(|before| self.counters.closed.get() == before) {
                    self.counters.leaked.bump();
                }
                match self.close_one(host, end) {
                    Some(before) => Stage::Sessions(Some(before), after),
                    None => match after {
                        After::Ask => Stage::Apps(self.loaded_apps(), None),
                        After::Apps(apps) => Stage::Apps(apps, None),
                    },
                }
            }
            Stage::Apps(apps, Some(opened)) => {
                if !self.books.lock().is_user_app(opened) {
                    self.counters.kept.bump();
                }
                Stage::Sessions(None, After::Apps(apps))
            }
            Stage::Apps(mut apps, None) => match apps.pop() {
                Some(app) => {
                    self.open_once_more(host, end, app);
                    Stage::Apps(apps, Some(app))
                }
                None => {
                    let left = core::mem::take(&mut self.books.lock().sessions);
                    self.counters.leaked.add(left.len() as u64);
                    if self.tee.virtualised {
                        Stage::Forget
                    } else {
                        Stage::Cache
                    }
                }
            },
            Stage::Cache => {
                if self.drop_cached(host) {
                    Stage::Cache
                } else {
                    let books = self.books.lock();
                    Stage::Buffers(books.buffers.all_cookies())
                }
            }
            Stage::Buffers(mut cookies) => match cookies.pop() {
                Some(cookie) => {
                    self.unregister(host, end, cookie);
                    Stage::Buffers(cookies)
                }
                None => Stage::Forget,
            },
        }))
    }

    /// Begins a call of the mediator's own.
    fn enter_own<H: Host>(&self, host: &H, end: &mut End, call: Box<Call>) {
        // What the last one has left over is for others.
        end.all_own_budget += core::mem::take(&mut end.own_budget);
        end.own_budget = OWN_BUDGET.min(end.all_own_budget);
        end.all_own_budget -= end.own_budget;
        self.enter(host, call);
    }

    /// Whether a call of the mediator's own is under way.
    fn own_call_waits(&self) -> bool {
        let books = self.books.lock();
        books.suspended.iter().flatten().any(|call| call.is_own())
    }

    /// Where all calls that may go on sleep: how long the first of them does, in milliseconds. It
    /// counts as awake from then on.
    fn until_one_wakes(&self, end: &mut End) -> Option<u32> {
        if end.sleep == 0 || matches!(end.stage, Stage::Cancel(_)) {
            return None;
        }
        let mut books = self.books.lock();
        let mut calls = books.suspended.iter_mut().flatten();
        let first = calls.try_fold(None, |first: Option<(u32, &mut Box<Call>)>, call| {
            let (sleeps, wakes) = (
                call.sleeps(),
                first.as_ref().map_or(u32::MAX, |(ms, _)| *ms),
            );
            match sleeps {
                Some(milliseconds) if milliseconds < wakes => Ok(Some((milliseconds, call))),
                Some(_) => Ok(first),
                // One is awake.
                None => Err(()),
            }
        });
        let (milliseconds, call) = first.ok().flatten()?;
        let milliseconds = milliseconds.min(end.sleep);
        end.sleep -= milliseconds;
        call.awake = true;
        Some(milliseconds)
    }

    /// Asks OP-TEE to cancel the first call from `slot` on that waits for the guest. The slot after it;
    /// `None` where there is no such call, or all of OP-TEE's threads are taken.
    fn cancel_next<H: Host>(&self, host: &H, end: &mut End, slot: usize) -> Option<usize> {
        let (at, session, cancel_id, mut call) = {
            let mut books = self.books.lock();
            let waiting = books.suspended.iter().enumerate().skip(slot);
            let mut cancellable =
                waiting.filter_map(|(at, call)| call.as_ref()?.cancellable().map(|id| (at, id)));
            let (at, (session, cancel_id)) = cancellable.next()?;
            (at, session, cancel_id, books.idle.pop()?)
        };
        call.cancel_for_guest(session, cancel_id);
        self.enter_own(host, end, call);
        Some(at + 1)
    }

    /// Answers for the guest, which is no more, in one call that waits for it. `false` where none
    /// does, or the budget is used up. Calls may wait for each other, so they take turns.
    fn resume_one<H: Host>(&self, host: &H, end: &mut End) -> bool {
        let slots = self.call_limit() as usize;
        let (guests, own) = (end.budget > 0, end.own_budget > 0);
        let waiting = {
            let mut books = self.books.lock();
            let mut turns = (0..slots).map(|turn| (end.slot + turn) % slots);
            let sleep = end.sleep > 0;
            let mut may_go_on = |call: &mut Box<Call>| match call.is_own() {
                true => own,
                false => guests && !(sleep && call.sleeps().is_some()),
            };
            turns.find_map(|slot| {
                let waiting = books.suspended.get_mut(slot)?;
                Some((slot, waiting.take_if(&mut may_go_on)?))
            })
        };
        let Some((slot, mut call)) = waiting else {
            return false;
        };
        end.slot = slot + 1;
        call.awake = false;
        let is_own = call.is_own();
        let before = self.counters.foreign_intr.get();
        self.resume_without_guest(host, call);
        let interrupts = self.counters.foreign_intr.get() - before;
        let cost = u32::try_from(1 + interrupts.saturating_mul(INTERRUPT_COST)).unwrap_or(u32::MAX);
        let budget = if is_own {
            &mut end.own_budget
        } else {
            &mut end.budget
        };
        *budget = budget.saturating_sub(cost);
        true
    }

    /// Begins to close a session, if one is open. How many had been closed before.
    ///
    /// Without a call there is no way to close any. One that cannot be closed is not tried again,
    /// and keeps its call where the budget is used up: so this ends.
    fn close_one<H: Host>(&self, host: &H, end: &mut End) -> Option<u64> {
        let (session, mut call) = {
            let mut books = self.books.lock();
            let call = books.idle.pop()?;
            match books.sessions.pop() {
                Some(session) => (session, call),
                None => {
                    books.idle.push(call);
                    return None;
                }
            }
        };
        let before = self.counters.closed.get();
        call.close_for_guest(session.id);
        self.enter_own(host, end, call);
        Some(before)
    }

    /// The applications that OP-TEE has loaded for the VM. Those that were too many for the list
    /// count as kept.
    fn loaded_apps(&self) -> Vec<Uuid> {
        let (apps, more) = self.books.lock().take_user_apps();
        self.counters.kept.add(more.into());
        apps
    }

    /// Opens an application, to see whether OP-TEE keeps it although no session to it is open.
    /// Nothing ends such a one but OP-TEE's own end.
    ///
    /// OP-TEE does not say which they are. But where it asks for the application's code, which it
    /// does not get, it has not kept it.
    fn open_once_more<H: Host>(&self, host: &H, end: &mut End, app: Uuid) {
        let rpc_room = self.tee.rpc_params as usize == optee_proto::rpc::MAX_PARAMS;
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
            self.enter_own(host, end, call);
        }
    }

    /// Has OP-TEE give back one buffer for RPC messages; `false` where it has none.
    fn drop_cached<H: Host>(&self, host: &H) -> bool {
        let args = [
            smc::DISABLE_SHM_CACHE.get().into(),
            0,
            0,
            0,
            0,
            0,
            0,
            self.tag(),
        ];
        let [a0, a1, a2, _] = self.secure(host, args);
        if Return::from_x0(a0) != Return::OK {
            return false;
        }
        if let Some((_, shadow)) = self.forget_rpc_buffer(smc::unpair(a1, a2)) {
            self.give_page(host, shadow);
        }
        true
    }

    /// Has OP-TEE forget a registered buffer, if it can be asked.
    fn unregister<H: Host>(&self, host: &H, end: &mut End, cookie: Cookie) {
        let call = {
            let mut books = self.books.lock();
            if books.begin_own_unregister(cookie) {
                books.idle.pop()
            } else {
                None
            }
        };
        if let Some(mut call) = call {
            call.unregister_for_guest(cookie);
            self.enter_own(host, end, call);
        }
    }

    /// Has OP-TEE forget the VM: the books, with what is to be given back.
    fn forget<H: Host>(&self, host: &H) -> Result<Books, DestroyError> {
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
    fn release_some<H: Host>(&self, host: &H, mut old: Books) -> Option<Books> {
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
