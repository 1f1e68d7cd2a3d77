// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What follows from a change of the run queues: other pCPUs are interrupted, the timer is armed, and requests are noted
//! that this pCPU serves before it enters a guest.
//!
//! Decisions only, by the numbers of vCPUs. [`Scheduler`] has the policy, and an implementation of [`RunQueues`] carries
//! the decisions out.

use super::policy::Scheduler;
use core::cell::Cell;
use postern_base::ids::{PcpuIndex, PcpuSet, VcpuId};
use postern_base::ticks::Ticks;

/// Requests that a pCPU serves before it enters a guest: a set of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct PcpuRequests(u32);

impl PcpuRequests {
    /// No request.
    pub const NONE: Self = Self(0);
    /// Ask the scheduler which vCPU runs.
    pub const RESCHEDULE: Self = Self(1);
    /// Write the list registers again: they were read back, or are out of date.
    pub const RESYNC_LRS: Self = Self(2);
    /// Block the running vCPU: it waits for an interrupt.
    pub const BLOCK: Self = Self(4);
    /// Stop the running vCPU: it is turned off.
    pub const OFF: Self = Self(8);
    /// Run the monitor, with no lock held.
    pub const MONITOR: Self = Self(16);
    /// Do a piece of work for some VM.
    pub const WORK: Self = Self(32);
    /// The requests that the scheduler serves.
    pub(super) const SCHEDULE: Self = Self(Self::RESCHEDULE.0 | Self::BLOCK.0 | Self::OFF.0);
    /// All requests but [`PcpuRequests::RESYNC_LRS`].
    pub(super) const ALL_BUT_LRS: Self = Self(Self::SCHEDULE.0 | Self::MONITOR.0 | Self::WORK.0);

    /// Returns the requests that are in either set.
    #[must_use]
    #[inline]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the requests that are in both sets.
    #[must_use]
    #[inline]
    pub(super) const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns whether a request is in both sets.
    #[inline]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns whether there is no request.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The run queues, as this pCPU reaches them.
pub trait RunQueues {
    /// Returns the index of this pCPU.
    fn pcpu(&self) -> PcpuIndex;
    /// Returns the requests of this pCPU.
    fn requests(&self) -> &Cell<PcpuRequests>;
    /// Returns when a piece of work for some VM is due although a guest runs; [`Ticks::NEVER`] while no time is known.
    fn work_at(&self) -> &Cell<Ticks>;
    /// Returns the time.
    fn now(&self) -> Ticks;
    /// Returns how long a vCPU runs while others wait.
    fn slice(&self) -> Ticks;
    /// Arms the timer for `at`, and for no other time.
    fn arm(&self, at: Ticks);
    /// Arms the timer for `at`, unless it is armed for an earlier time.
    fn arm_no_later_than(&self, at: Ticks);
    /// Returns when the timer is to interrupt for something else than scheduling.
    fn next_tick(&self) -> Ticks;
    /// Calls the scheduler with its lock held.
    fn scheduler<R>(&self, call: impl FnOnce(&mut Scheduler) -> R) -> R;
    /// Sends another pCPU the kick SGI.
    fn kick(&self, pcpu: PcpuIndex);
    /// Returns whether a VM has pieces of work.
    fn has_work(&self) -> bool;
}

/// Adds requests, which this pCPU serves before it enters a guest.
pub fn request<Q: RunQueues>(queues: &Q, what: PcpuRequests) {
    let requests = queues.requests();
    requests.set(requests.get().union(what));
}

/// Removes requests. Returns whether any of them was there.
pub(super) fn take_requests<Q: RunQueues>(queues: &Q, what: PcpuRequests) -> bool {
    let requests = queues.requests().get();
    queues.requests().set(PcpuRequests(requests.0 & !what.0));
    requests.intersects(what)
}

/// Removes all requests but `what`. Returns all that were there.
pub(super) fn retain_requests<Q: RunQueues>(queues: &Q, what: PcpuRequests) -> PcpuRequests {
    let requests = queues.requests().get();
    queues.requests().set(requests.intersection(what));
    requests
}

/// Requests rescheduling if the slice is over and a vCPU waits; arms the timer otherwise.
pub fn check_slice<Q: RunQueues>(queues: &Q) {
    let now = queues.now();
    if queues.scheduler(|scheduler| scheduler.slice_is_over(queues.pcpu(), now)) {
        request(queues, PcpuRequests::RESCHEDULE);
    }
    arm_timer(queues);
}

/// Arms the timer for the next event on this pCPU.
pub(super) fn arm_timer<Q: RunQueues>(queues: &Q) {
    let pcpu = queues.pcpu();
    // What is requested needs no interrupt, which would come at once, again and again. What is not requested does: the
    // slice may have ended since the last check.
    let is_requested = queues.requests().get().intersects(PcpuRequests::RESCHEDULE);
    let event = queues.scheduler(|scheduler| {
        let slice_end = scheduler.slice_end(pcpu).filter(|_| !is_requested);
        slice_end.into_iter().chain(scheduler.deadline(pcpu)).min()
    });
    let for_work =
        work_due(queues).filter(|_| !queues.requests().get().intersects(PcpuRequests::WORK));
    let events = event.into_iter().chain(for_work);
    queues.arm(events.fold(queues.next_tick(), Ticks::min));
}

/// Returns when a piece of work is due although a guest runs, if there is work: a slice after the last piece, whatever
/// interrupts come before. So a guest can neither put work off nor have more of it done in its neighbour's time.
pub(super) fn work_due<Q: RunQueues>(queues: &Q) -> Option<Ticks> {
    let at = queues.work_at();
    if !queues.has_work() {
        at.set(Ticks::NEVER);
        return None;
    }
    if at.get() == Ticks::NEVER {
        at.set(queues.now() + queues.slice());
    }
    Some(at.get())
}

/// Has the next piece of work due a slice after the timer is armed next: some was just done.
pub(super) fn postpone_work<Q: RunQueues>(queues: &Q) {
    take_requests(queues, PcpuRequests::WORK);
    queues.work_at().set(Ticks::NEVER);
}

/// Makes a blocked vCPU runnable, on one of the pCPUs that it may use. No effect on others.
pub fn wake<Q: RunQueues>(queues: &Q, vcpu: VcpuId, affinity: PcpuSet) {
    let placement = queues.scheduler(|scheduler| scheduler.wake(vcpu, affinity));
    notify_placement(queues, placement);
}

/// Makes a vCPU that is off runnable, on one of the pCPUs that it may use.
pub fn start<Q: RunQueues>(queues: &Q, vcpu: VcpuId, affinity: PcpuSet) {
    let placement = queues.scheduler(|scheduler| scheduler.start(vcpu, affinity));
    notify_placement(queues, placement);
}

/// Tells the pCPU in whose queue a vCPU was put.
pub(super) fn notify_placement<Q: RunQueues>(queues: &Q, placement: Option<PcpuIndex>) {
    match placement {
        Some(pcpu) if pcpu == queues.pcpu() => check_slice(queues),
        Some(pcpu) => queues.kick(pcpu),
        None => {}
    }
}

/// Moves what waits for a pCPU that stays in the secure world to other pCPUs, and its deadlines to this one.
pub fn pcpu_away<Q: RunQueues>(queues: &Q, pcpu: PcpuIndex) {
    let notified = queues.scheduler(|scheduler| scheduler.set_away(pcpu, queues.pcpu()));
    notify_placements(queues, notified);
}

/// Notes that a pCPU is back from the secure world.
pub fn pcpu_back<Q: RunQueues>(queues: &Q, pcpu: PcpuIndex) {
    let notified = queues.scheduler(|scheduler| scheduler.set_back(pcpu));
    notify_placements(queues, notified);
}

fn notify_placements<Q: RunQueues>(queues: &Q, pcpus: PcpuSet) {
    for pcpu in pcpus.iter() {
        notify_placement(queues, Some(pcpu));
    }
}
