// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whose turn it is on a pCPU, and for how long: what is done before a guest goes on, when EL2's timer is to
//! interrupt, and how much of the time pieces of work for VMs get.
//!
//! Decisions only. The policy behind them is [`Scheduler`](super::policy::Scheduler)'s, and a [`Site`] does what is decided: the hypervisor's
//! (`super::run`), or the tests' made-up pCPU. Three things are kept here:
//! - **What is asked for is done before a guest goes on**, or the timer asks again within a slice.
//! - **A slice lasts as long as it is to**: its end interrupts, and nothing else ends it.
//! - **Whoever waits for a time is woken then**, whatever the pCPU is busy with.

use super::queues::{
    Queues, Wanted, arm_timer, ask, keep, look_at_slice, placed_on, put_off_work, take, wake,
    work_due,
};
use postern_base::ids::{PcpuSet, VcpuId};

/// Whether a VM's vCPUs may be on pCPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// They may.
    Open,
    /// They are to wait.
    Paused,
    /// They are to end.
    Closed,
}

/// A pCPU, which this runs on, and what is on it. Times are counter ticks.
pub trait Site: Queues {
    /// A vCPU.
    type Vcpu: Copy;
    /// Where the registers of the vCPU on this pCPU are, while EL2 runs.
    type Frame;

    /// The timer has interrupted: does what is due of that.
    fn tick(&self, now: u64);
    /// Takes the interrupts that are pending.
    fn take_pending(&self);
    /// Waits until one is.
    fn idle(&self);

    /// Does a piece; `false` where there is none now. A call to OP-TEE in it is interrupted by what interrupts this pCPU.
    fn work_step(&self) -> bool;
    /// Has the monitor do what is asked of it.
    fn monitor(&self);

    /// Which vCPU that is.
    fn id(&self, vcpu: Self::Vcpu) -> VcpuId;
    /// The vCPU of this number.
    fn by_id(&self, id: VcpuId) -> Self::Vcpu;
    /// Where the vCPU may run.
    fn affinity(&self, vcpu: Self::Vcpu) -> PcpuSet;
    /// Whether its VM lets it run.
    fn gate(&self, vcpu: Self::Vcpu) -> Gate;
    /// The vCPU whose registers the pCPU holds.
    fn current(&self) -> Option<Self::Vcpu>;
    /// Whether interrupts wait for the vCPU on this pCPU that are not in its list registers.
    fn needs_fill(&self, vcpu: Self::Vcpu) -> bool;
    /// Brings its list registers up to date. That may wake others.
    fn refresh(&self, vcpu: Self::Vcpu);
    /// Takes the vCPU off this pCPU.
    fn take_off(&self, vcpu: Self::Vcpu, frame: &mut Self::Frame);
    /// Puts it on; `false` where its VM does not let it run.
    fn put_on(&self, vcpu: Self::Vcpu, frame: &mut Self::Frame) -> bool;
    /// When a timer of a vCPU that is on no pCPU fires.
    fn deadline(&self, vcpu: Self::Vcpu) -> Option<u64>;
    /// Whether a vCPU that is on no pCPU has an interrupt to take.
    fn has_deliverable(&self, vcpu: Self::Vcpu) -> bool;
    /// A vCPU of a paused VM ran until now.
    fn note_pause(&self, vcpu: Self::Vcpu);
    /// It waits until its VM goes on.
    fn rests(&self, vcpu: Self::Vcpu);
    /// It has ended.
    fn ended(&self, vcpu: Self::Vcpu);
}

/// How often [`rounds`] looks whether something was asked for meanwhile. What asks is a vCPU that was woken,
/// each time another, or a person at the monitor.
const MOST_ROUNDS: usize = 4;

/// Does what was asked for, before the guest on this pCPU goes on, or another.
#[inline]
pub fn before_guest<S: Site>(site: &S, frame: &mut S::Frame) {
    let wanted = site.wanted();
    // What is usual: interrupts for the vCPU that is here, and nothing else.
    if let Some(vcpu) = site.current()
        && !wanted.get().has(Wanted::MORE)
    {
        wanted.set(Wanted::NOTHING);
        site.refresh(vcpu);
        if wanted.get().is_nothing() {
            return;
        }
    }
    rounds(site, frame);
}

/// The same where it is more than that.
#[inline(never)]
fn rounds<S: Site>(site: &S, frame: &mut S::Frame) {
    for round in 0..MOST_ROUNDS {
        // First, since a command may end what runs here.
        if take(site, Wanted::MONITOR) {
            site.monitor();
        }
        // Once: what is asked for meanwhile has the next timer interrupt.
        if round == 0 && take(site, Wanted::WORK) {
            ask(site, Wanted::REFILL);
            // A quarter of the time is the others'. The slice stays as long as it was: else whoever wakes up while
            // there is work could end it at once, again and again.
            do_pieces(site, site.slice() / 4);
            // Not for what was asked for by the interrupts that were taken meanwhile: else all of the time would be work.
            put_off_work(site);
            look_at_slice(site);
        }
        match site.current() {
            Some(vcpu) if !site.wanted().get().has(Wanted::SCHEDULE) => {
                keep(site, Wanted::MONITOR.and(Wanted::WORK));
                site.refresh(vcpu);
            }
            _ => schedule(site, frame),
        }
        // The list registers' interrupts woke others, or the monitor was asked for.
        if !site
            .wanted()
            .get()
            .has(Wanted::SCHEDULE.and(Wanted::MONITOR))
        {
            return;
        }
    }
    site.arm_no_later_than(site.now() + site.slice());
}

/// Does a piece of work for some VM. Where that is a call to OP-TEE, it is interrupted after `most` ticks, or when
/// something else is due.
fn do_a_piece<S: Site>(site: &S, most: u64) -> bool {
    if !site.has_work() {
        return false;
    }
    site.arm_no_later_than(site.now() + most);
    site.work_step()
}

/// Does pieces of work for VMs, for `most` ticks or a piece more, and takes interrupts in between. An interrupt for
/// the guest that waits here ends it.
fn do_pieces<S: Site>(site: &S, most: u64) {
    let end = site.now() + most;
    loop {
        let left = end.saturating_sub(site.now());
        if left == 0 || !do_a_piece(site, left) {
            return;
        }
        site.take_pending();
        let is_awaited = site.current().is_some_and(|vcpu| site.needs_fill(vcpu));
        if is_awaited || site.wanted().get().has(Wanted::MONITOR) {
            return;
        }
    }
}

/// The timer has interrupted: a slice is over, or a waiting vCPU's time has come.
pub fn timer_fired<S: Site>(site: &S) {
    let now = site.now();
    while let Some(id) = site.scheduler(|scheduler| scheduler.expired(site.pcpu(), now)) {
        wake(site, id, site.affinity(site.by_id(id)));
    }
    site.tick(now);
    // Busy pCPUs too do their part, a piece at a time: a VM's start or end must not wait until its
    // neighbours are idle.
    if work_due(site).is_some_and(|at| at <= now) {
        ask(site, Wanted::WORK);
    }
    look_at_slice(site);
}

/// Takes the current vCPU off if it is to leave, and puts the next one on.
#[inline(never)]
fn schedule<S: Site>(site: &S, frame: &mut S::Frame) {
    let asked = keep(site, Wanted::MONITOR.and(Wanted::WORK));
    if let Some(vcpu) = site.current()
        && stays(site, vcpu, asked, frame)
    {
        return;
    }
    let pcpu = site.pcpu();
    loop {
        let now = site.now();
        let next = site.scheduler(|scheduler| scheduler.pick(pcpu, now, site.slice()));
        if let Some(id) = next {
            let vcpu = site.by_id(id);
            // What was asked of the one before. Else its slice's end would end this one's as well.
            keep(site, Wanted::MONITOR.and(Wanted::WORK));
            if site.put_on(vcpu, frame) {
                arm_timer(site);
                return;
            }
            match site.gate(vcpu) {
                Gate::Closed => end(site, vcpu),
                Gate::Open | Gate::Paused => rest(site, vcpu),
            }
            continue;
        }
        // All of the time is for work. Whoever waits for a time is woken in time, work or not.
        put_off_work(site);
        arm_timer(site);
        if !do_a_piece(site, site.slice()) && !site.wanted().get().has(Wanted::MONITOR) {
            site.idle();
        }
        site.take_pending();
        if take(site, Wanted::MONITOR) {
            site.monitor();
        }
        keep(site, Wanted::MONITOR);
    }
}

/// Whether the vCPU, of which this is `asked`, stays on this pCPU. If not, it is taken off, and is where it waits.
fn stays<S: Site>(site: &S, vcpu: S::Vcpu, asked: Wanted, frame: &mut S::Frame) -> bool {
    let pcpu = site.pcpu();
    let gate = site.gate(vcpu);
    let leaves = asked.has(Wanted::BLOCK.and(Wanted::OFF)) || gate != Gate::Open;
    if !leaves && !site.scheduler(|scheduler| scheduler.must_give_way(pcpu)) {
        site.refresh(vcpu);
        arm_timer(site);
        return true;
    }
    if gate == Gate::Paused {
        site.note_pause(vcpu);
    }
    site.take_off(vcpu, frame);
    // It may have changed since.
    let gate = site.gate(vcpu);
    if asked.has(Wanted::OFF) || gate == Gate::Closed {
        end(site, vcpu);
    } else if gate == Gate::Paused {
        rest(site, vcpu);
    } else if asked.has(Wanted::BLOCK) {
        block(site, vcpu);
    } else {
        let id = site.id(vcpu);
        placed_on(
            site,
            site.scheduler(|scheduler| scheduler.requeue(id, pcpu)),
        );
    }
    false
}

/// The vCPU, which is on no pCPU any more, waits for an interrupt.
fn block<S: Site>(site: &S, vcpu: S::Vcpu) {
    let (id, pcpu) = (site.id(vcpu), site.pcpu());
    let deadline = site.deadline(vcpu);
    placed_on(
        site,
        site.scheduler(|scheduler| scheduler.block(id, pcpu, deadline)),
    );
    // What came between the guest's WFI and now found nobody to wake.
    let is_ready = deadline.is_some_and(|at| at <= site.now())
        || site.gate(vcpu) == Gate::Closed
        || site.has_deliverable(vcpu);
    if is_ready {
        wake(site, id, site.affinity(vcpu));
    }
}

/// The vCPU, which is on no pCPU, waits until its VM goes on.
fn rest<S: Site>(site: &S, vcpu: S::Vcpu) {
    let (id, pcpu) = (site.id(vcpu), site.pcpu());
    placed_on(
        site,
        site.scheduler(|scheduler| scheduler.block(id, pcpu, None)),
    );
    site.rests(vcpu);
    // A VM that went on or stopped before now found nobody to wake.
    if site.gate(vcpu) != Gate::Paused {
        wake(site, id, site.affinity(vcpu));
    }
}

/// The vCPU, which is on no pCPU, does not run again.
fn end<S: Site>(site: &S, vcpu: S::Vcpu) {
    let id = site.id(vcpu);
    site.scheduler(|scheduler| scheduler.off(id));
    site.ended(vcpu);
}

#[cfg(test)]
mod tests;
