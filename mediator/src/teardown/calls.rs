// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls in flight when a VM ends, and internal calls: which one continues next.
//!
//! Calls depend on each other. A call that waits inside OP-TEE for another one, for example for a mutex, asks
//! the normal world to wait with it (NOTIFICATION), and asks again if it continues too early. So it continues
//! when another call has sent a notification, and otherwise only when no other call can continue. That keeps
//! the budget for calls that make progress.

use super::{EndingCall, EndingHost, Teardown, TeardownStage};
use crate::Mediator;
use crate::call::Call;
use alloc::boxed::Box;

/// Number of times that a VM's calls are resumed at teardown, in total. Each time ends at the next RPC or
/// interrupt, so this bounds the time too.
const BUDGET: u32 = if cfg!(miri) { 40 } else { 4000 };
/// The same for interrupts, during which calls make progress. An abandoned call costs a session, and some cases
/// of xtest take half a minute on an emulated machine. The hypervisor causes an interrupt every few
/// milliseconds.
const INTERRUPTS: u32 = 4 * BUDGET;
/// The same for each internal call, independent of what the guest's calls have used. Internal calls end, but an
/// application that is opened is loaded and checked, which takes time.
const INTERNAL_BUDGET: u32 = 2 * BUDGET;
/// The same for all internal calls together. An OP-TEE that needs more is broken.
const ALL_INTERNAL_BUDGET: u32 = 10 * BUDGET;
/// Number of times in a row that waiting calls continue while no other call can. They wait for something that
/// never comes, such as an abandoned call.
const WITHOUT_PROGRESS: u32 = BUDGET / 10;
/// The longest time, in milliseconds and in total, for which calls may sleep.
const MAX_SLEEP: u32 = 10_000;
/// The cost of one interrupt in an internal call, in steps.
const INTERRUPT_COST: u32 = 4;

/// What is left to spend on calls.
#[derive(Debug)]
pub(super) struct Budget {
    /// For the guest's calls that ask for something.
    guests: u32,
    /// For the guest's calls that run.
    interrupts: u32,
    /// For the internal call in flight.
    internal: u32,
    /// For later internal calls.
    all_internal: u32,
    /// For waiting calls while no other call makes progress.
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

    /// Begins the budget of another internal call.
    fn begin_internal(&mut self) {
        // What the last one has left is for later ones.
        self.all_internal += self.internal;
        self.internal = INTERNAL_BUDGET.min(self.all_internal);
        self.all_internal -= self.internal;
        self.without_progress = WITHOUT_PROGRESS;
    }

    /// Returns whether a call has budget left.
    const fn has_some_for(&self, call: &Call) -> bool {
        if call.is_internal() {
            self.internal > 0
        } else {
            self.guests > 0 && self.interrupts > 0
        }
    }

    /// Charges a call that has run until OP-TEE asked for something or until that many interrupts.
    /// `without_progress`: the call waits for others, and no other call could continue.
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

    /// Returns how long a call still sleeps, or `None` when the time for sleeping is used up.
    fn sleeps(&self, call: &Call) -> Option<u32> {
        call.sleeps().filter(|_| self.sleep > 0)
    }
}

impl Mediator {
    /// Begins an internal call. OP-TEE can send requests in it that need no memory of the guest, such as for an
    /// application's code.
    pub(super) fn enter_internal<H: EndingHost>(
        &self,
        host: &H,
        teardown: &mut Teardown,
        mut call: Box<Call>,
    ) {
        teardown.budget.begin_internal();
        call.has_rpc_arg = self.tee.rpc_params as usize == optee_proto::rpc::MAX_PARAMS;
        host.step_call(self, EndingCall::new(call));
    }

    /// Returns whether an internal call is in flight.
    pub(super) fn has_internal_call(&self) -> bool {
        let state = self.state.lock();
        state
            .suspended
            .iter()
            .flatten()
            .any(|call| call.is_internal())
    }

    /// Returns how many milliseconds the first call sleeps, if all calls that may continue sleep or wait for
    /// others. That call counts as awake from then on.
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
            // With a call that is awake there is nothing to wait for.
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

    /// Asks OP-TEE to cancel the first call from `slot` on that waits for the guest. Returns the slot after it,
    /// or `None` without such a call or without a free thread in OP-TEE.
    pub(super) fn cancel_next<H: EndingHost>(
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

    /// Answers on the guest's behalf in one call that waits for the guest. Returns `false` if no call can
    /// continue. Calls take turns.
    pub(super) fn resume_one<H: EndingHost>(&self, host: &H, teardown: &mut Teardown) -> bool {
        let Some((mut call, without_progress)) = self.take_next(teardown) else {
            return false;
        };
        call.has_slept = false;
        let is_internal = call.is_internal();
        let before = self.counters.foreign_intr.get();
        host.step_call(self, EndingCall::suspended(call));
        let interrupts = self.counters.foreign_intr.get() - before;
        let interrupts = u32::try_from(interrupts).unwrap_or(u32::MAX);
        teardown
            .budget
            .spend(is_internal, interrupts, without_progress);
        true
    }

    /// Takes the call that continues next. Also returns whether it is a waiting call, for lack of others.
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
