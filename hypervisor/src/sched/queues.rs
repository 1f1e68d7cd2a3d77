// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is done on a pCPU that the run queues ask for: others are told, the timer is armed, and what must be done before a
//! guest goes on is noted.
//!
//! Decisions only, by the numbers of vCPUs. The policy behind them is [`Scheduler`]'s, and a [`Queues`] does what is decided.

use super::policy::Scheduler;
use core::cell::Cell;
use postern_base::ids::{PcpuIndex, PcpuSet, VcpuId};

/// What must be done before a guest goes on: bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Wanted(u32);

impl Wanted {
    /// Nothing.
    pub const NOTHING: Self = Self(0);
    /// The scheduler is to be asked.
    pub const RESCHEDULE: Self = Self(1);
    /// The list registers were read back and must be filled again.
    pub const REFILL: Self = Self(2);
    /// The running vCPU waits for an interrupt.
    pub const BLOCK: Self = Self(4);
    /// The running vCPU is turned off.
    pub const OFF: Self = Self(8);
    /// The monitor has something to do, with no lock held.
    pub const MONITOR: Self = Self(16);
    /// A piece of work for some VM is to be done.
    pub const WORK: Self = Self(32);
    /// What the scheduler does.
    pub(super) const SCHEDULE: Self = Self(Self::RESCHEDULE.0 | Self::BLOCK.0 | Self::OFF.0);
    /// All but the list registers.
    pub(super) const MORE: Self = Self(Self::SCHEDULE.0 | Self::MONITOR.0 | Self::WORK.0);

    /// Both.
    #[must_use]
    #[inline]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    #[inline]
    pub(super) const fn only(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether something is in both.
    #[inline]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether it is nothing.
    #[inline]
    pub const fn is_nothing(self) -> bool {
        self.0 == 0
    }
}

/// The run queues, as the pCPU that this runs on reaches them. Times are counter ticks.
pub trait Queues {
    /// Which pCPU it is.
    fn pcpu(&self) -> PcpuIndex;
    /// What must be done on it before a guest goes on.
    fn wanted(&self) -> &Cell<Wanted>;
    /// When a piece of work for some VM is due next, though a guest runs; `u64::MAX` while none is known.
    fn work_at(&self) -> &Cell<u64>;
    /// The time.
    fn now(&self) -> u64;
    /// How long a vCPU runs when others wait.
    fn slice(&self) -> u64;
    /// Has the timer interrupt then, and at no other time.
    fn arm(&self, at: u64);
    /// Has the timer interrupt no later than then.
    fn arm_no_later_than(&self, at: u64);
    /// When the timer is to interrupt for something else.
    fn next_tick(&self) -> u64;
    /// Asks the scheduler, under its lock.
    fn scheduler<R>(&self, ask: impl FnOnce(&mut Scheduler) -> R) -> R;
    /// Interrupts another pCPU.
    fn kick(&self, pcpu: PcpuIndex);
    /// Whether there are pieces of work for VMs.
    fn has_work(&self) -> bool;
}

/// Has this done before the guest goes on.
pub fn ask<Q: Queues>(queues: &Q, what: Wanted) {
    let wanted = queues.wanted();
    wanted.set(wanted.get().and(what));
}

/// Whether this was asked for; it is not any more.
pub(super) fn take<Q: Queues>(queues: &Q, what: Wanted) -> bool {
    let wanted = queues.wanted().get();
    queues.wanted().set(Wanted(wanted.0 & !what.0));
    wanted.has(what)
}

/// Only this of what was asked for is still to be done: what was.
pub(super) fn keep<Q: Queues>(queues: &Q, what: Wanted) -> Wanted {
    let wanted = queues.wanted().get();
    queues.wanted().set(wanted.only(what));
    wanted
}

/// Gives way if the slice is over and somebody waits; else sees to it that the timer says so.
pub fn look_at_slice<Q: Queues>(queues: &Q) {
    let now = queues.now();
    if queues.scheduler(|scheduler| scheduler.slice_is_over(queues.pcpu(), now)) {
        ask(queues, Wanted::RESCHEDULE);
    }
    arm_timer(queues);
}

/// Has the timer interrupt when something is due on this pCPU.
pub(super) fn arm_timer<Q: Queues>(queues: &Q) {
    let pcpu = queues.pcpu();
    // What is asked for already needs no interrupt, which would come at once, again and again. What is not does: the
    // slice may have ended since somebody looked.
    let is_asked = queues.wanted().get().has(Wanted::RESCHEDULE);
    let event = queues.scheduler(|scheduler| {
        let slice_end = scheduler.slice_end(pcpu).filter(|_| !is_asked);
        slice_end.into_iter().chain(scheduler.deadline(pcpu)).min()
    });
    let for_work = work_due(queues).filter(|_| !queues.wanted().get().has(Wanted::WORK));
    let events = event.into_iter().chain(for_work);
    queues.arm(events.fold(queues.next_tick(), u64::min));
}

/// When a piece of work is due though a guest runs, if there is work: a slice after the last one, whatever interrupts
/// come before. So who runs here can neither put work off nor have more of it done in its neighbour's time.
pub(super) fn work_due<Q: Queues>(queues: &Q) -> Option<u64> {
    let at = queues.work_at();
    if !queues.has_work() {
        at.set(u64::MAX);
        return None;
    }
    if at.get() == u64::MAX {
        at.set(queues.now() + queues.slice());
    }
    Some(at.get())
}

/// Work was done: it is due a slice after the timer is armed next.
pub(super) fn put_off_work<Q: Queues>(queues: &Q) {
    take(queues, Wanted::WORK);
    queues.work_at().set(u64::MAX);
}

/// Makes a vCPU that waits runnable, on one of the pCPUs that it may use; no effect on others.
pub fn wake<Q: Queues>(queues: &Q, sleeper: VcpuId, affinity: PcpuSet) {
    let placed = queues.scheduler(|scheduler| scheduler.wake(sleeper, affinity));
    placed_on(queues, placed);
}

/// Makes a vCPU that is off runnable, on one of the pCPUs that it may use.
pub fn start<Q: Queues>(queues: &Q, newcomer: VcpuId, affinity: PcpuSet) {
    let placed = queues.scheduler(|scheduler| scheduler.start(newcomer, affinity));
    placed_on(queues, placed);
}

pub(super) fn placed_on<Q: Queues>(queues: &Q, placed: Option<PcpuIndex>) {
    match placed {
        Some(pcpu) if pcpu == queues.pcpu() => look_at_slice(queues),
        Some(pcpu) => queues.kick(pcpu),
        None => {}
    }
}

/// Another pCPU stays in the secure world: others take over what waits for it, this one its deadlines.
pub fn lost<Q: Queues>(queues: &Q, pcpu: PcpuIndex) {
    let told = queues.scheduler(|scheduler| scheduler.lose(pcpu, queues.pcpu()));
    tell(queues, told);
}

/// It is back.
pub fn regained<Q: Queues>(queues: &Q, pcpu: PcpuIndex) {
    let told = queues.scheduler(|scheduler| scheduler.regain(pcpu));
    tell(queues, told);
}

fn tell<Q: Queues>(queues: &Q, pcpus: PcpuSet) {
    for pcpu in pcpus.iter() {
        placed_on(queues, Some(pcpu));
    }
}
