// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls that are under way when a VM ends, and those that the mediator makes then: which goes on next.
//!
//! Calls depend on each other. One that waits inside OP-TEE for another, for a mutex, say, asks the
//! normal world to wait with it (NOTIFICATION), and asks again whenever it goes on too early. So it
//! goes on when one of the others has said that there is something for it, and else only when nobody
//! else can go on: what is there to spend is spent on those that get somewhere.

use super::{Teardown, TeardownStage};
use crate::Mediator;
use crate::call::Call;
use crate::host::Host;
use alloc::boxed::Box;

/// How many times a VM's calls are resumed on its behalf when it ends, all together. Each ends
/// at the next RPC or interrupt, so this bounds the time as well.
const BUDGET: u32 = if cfg!(miri) { 40 } else { 4000 };
/// By how many interrupts they may be, all together, for they work on: one that is given up costs a
/// session, and there are cases of xtest that take half a minute on an emulated machine. The hypervisor
/// sees to it that one comes every few milliseconds.
const INTERRUPTS: u32 = 4 * BUDGET;
/// The same for each call of the mediator's own: what a guest's call has used up is not missed here.
/// They all end, but an application that is opened is loaded and checked, which takes a while.
const INTERNAL_BUDGET: u32 = 2 * BUDGET;
/// The same for all of these together. An OP-TEE that needs more is broken.
const ALL_INTERNAL_BUDGET: u32 = 10 * BUDGET;
/// How many times in a row calls go on that wait for others, when there is nobody else. They wait for
/// something that never comes, such as a call that was given up.
const WITHOUT_PROGRESS: u32 = BUDGET / 10;
/// For how long, in milliseconds and all together, calls may sleep that end by themselves.
const MAX_SLEEP: u32 = 10_000;
/// Of how many such steps an interrupt takes the place in a call of the mediator's own, which is short.
const INTERRUPT_COST: u32 = 4;

/// What is left to spend on calls that do not end.
#[derive(Debug)]
pub(super) struct Budget {
    /// On those of the guest's that ask for something.
    guests: u32,
    /// On those of the guest's that work.
    interrupts: u32,
    /// On the mediator's own call that is under way.
    internal: u32,
    /// On those of the mediator's own that are to come.
    all_internal: u32,
    /// On calls that wait for others, while nobody else gets any further.
    without_progress: u32,
    /// How much longer calls may sleep, in milliseconds.
    sleep: u32,
}

impl Budget {
    pub(super) const fn new() -> Self {
        Self {
            guests: BUDGET,
            interrupts: INTERRUPTS,
            internal: 0,
            all_internal: ALL_INTERNAL_BUDGET,
            without_progress: WITHOUT_PROGRESS,
            sleep: MAX_SLEEP,
        }
    }

    /// One more call of the mediator's own begins.
    fn begin_internal(&mut self) {
        // What the last one has left over is for others.
        self.all_internal += self.internal;
        self.internal = INTERNAL_BUDGET.min(self.all_internal);
        self.all_internal -= self.internal;
        self.without_progress = WITHOUT_PROGRESS;
    }

    /// Whether there is something left for a call.
    const fn has_some_for(&self, call: &Call) -> bool {
        if call.is_internal() {
            self.internal > 0
        } else {
            self.guests > 0 && self.interrupts > 0
        }
    }

    /// A call has gone on, until OP-TEE asked for something or until that many interrupts had come.
    /// `without_progress`: it waits for others, and there was nobody else.
    fn spend(&mut self, is_internal: bool, interrupts: u32, without_progress: bool) {
        let (from, cost) = match (is_internal, interrupts) {
            (true, _) => (
                &mut self.internal,
                interrupts.saturating_mul(INTERRUPT_COST).saturating_add(1),
            ),
            (false, 0) => (&mut self.guests, 1),
            (false, _) => (&mut self.interrupts, interrupts),
        };
        *from = from.saturating_sub(cost);
        self.without_progress = if without_progress {
            self.without_progress - 1
        } else {
            WITHOUT_PROGRESS
        };
    }

    /// How long a call sleeps from now on. When too much time was spent on that, it does not.
    fn sleeps(&self, call: &Call) -> Option<u32> {
        call.sleeps().filter(|_| self.sleep > 0)
    }
}

impl Mediator {
    /// Begins a call of the mediator's own. OP-TEE can ask for something in it, an application's code or
    /// that it wait, where it needs no memory of the guest's for that.
    pub(super) fn enter_internal<H: Host>(
        &self,
        host: &H,
        teardown: &mut Teardown,
        mut call: Box<Call>,
    ) {
        teardown.budget.begin_internal();
        call.has_rpc_arg = self.tee.rpc_params as usize == optee_proto::rpc::MAX_PARAMS;
        self.enter(host, call);
    }

    /// Whether a call of the mediator's own is under way.
    pub(super) fn has_internal_call(&self) -> bool {
        let state = self.state.lock();
        state
            .suspended
            .iter()
            .flatten()
            .any(|call| call.is_internal())
    }

    /// Where all calls that may go on sleep, or wait for others: how long the first of them sleeps, in
    /// milliseconds. It counts as awake from then on.
    pub(super) fn until_one_wakes(&self, teardown: &mut Teardown) -> Option<u32> {
        let budget = &mut teardown.budget;
        if matches!(teardown.stage, TeardownStage::Cancel(_)) {
            return None;
        }
        let mut state = self.state.lock();
        let wake_count = state.wake_count;
        let calls = state.suspended.iter_mut().flatten();
        let mut first: Option<(u32, &mut Box<Call>)> = None;
        for call in
            calls.filter(|call| budget.has_some_for(call) && !call.waits_for_wake(wake_count))
        {
            // Where one is awake nobody waits.
            let sleeps = budget.sleeps(call)?;
            if first.as_ref().is_none_or(|(least, _)| sleeps < *least) {
                first = Some((sleeps, call));
            }
        }
        let (milliseconds, call) = first?;
        let milliseconds = milliseconds.min(budget.sleep);
        budget.sleep -= milliseconds;
        call.has_slept = true;
        Some(milliseconds)
    }

    /// Asks OP-TEE to cancel the first call from `slot` on that waits for the guest. The slot after it;
    /// `None` where there is no such call, or all of OP-TEE's threads are taken.
    pub(super) fn cancel_next<H: Host>(
        &self,
        host: &H,
        teardown: &mut Teardown,
        slot: usize,
    ) -> Option<usize> {
        let (at, session, cancel_id, mut call) = {
            let mut state = self.state.lock();
            let waiting = state.suspended.iter().enumerate().skip(slot);
            let mut cancellable =
                waiting.filter_map(|(at, call)| call.as_ref()?.cancellable().map(|id| (at, id)));
            let (at, (session, cancel_id)) = cancellable.next()?;
            (at, session, cancel_id, state.idle.pop()?)
        };
        call.set_up_cancel(session, cancel_id);
        self.enter_internal(host, teardown, call);
        Some(at + 1)
    }

    /// Answers for the guest, which is no more, in one call that waits for it. `false` where none
    /// can go on. They take turns.
    pub(super) fn resume_one<H: Host>(&self, host: &H, teardown: &mut Teardown) -> bool {
        let Some((mut call, without_progress)) = self.take_next(teardown) else {
            return false;
        };
        call.has_slept = false;
        let is_internal = call.is_internal();
        let before = self.counters.foreign_intr.get();
        self.resume_without_guest(host, call);
        let interrupts = self.counters.foreign_intr.get() - before;
        let interrupts = u32::try_from(interrupts).unwrap_or(u32::MAX);
        teardown
            .budget
            .spend(is_internal, interrupts, without_progress);
        true
    }

    /// The call that goes on next, and whether that is for want of others.
    fn take_next(&self, teardown: &mut Teardown) -> Option<(Box<Call>, bool)> {
        let slots = self.call_limit() as usize;
        let Budget {
            without_progress, ..
        } = teardown.budget;
        let mut state = self.state.lock();
        let wake_count = state.wake_count;
        let budget = &teardown.budget;
        let can = |call: &Call| budget.has_some_for(call) && budget.sleeps(call).is_none();
        let mut next = |may: &dyn Fn(&Call) -> bool| {
            let mut turns = (0..slots).map(|turn| (teardown.slot + turn) % slots);
            turns.find_map(|slot| {
                let call = state.suspended.get_mut(slot)?;
                Some((slot, call.take_if(|call| may(call))?))
            })
        };
        let (found, without_progress) =
            match next(&|call| can(call) && !call.waits_for_wake(wake_count)) {
                None if without_progress > 0 => (next(&can), true),
                found => (found, false),
            };
        let (slot, mut call) = found?;
        teardown.slot = slot + 1;
        call.note_resume(wake_count);
        Some((call, without_progress))
    }
}
