// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The run loop of a pCPU: which vCPU it runs and for how long, when EL2's timer interrupts, and how much time pieces of
//! work for VMs get.
//!
//! Decisions only. The policy is in [`Scheduler`](super::policy::Scheduler). An implementation of [`PcpuOps`] carries the
//! decisions out: the hypervisor's (`exit/run.rs`), or the tests' made-up pCPU. Three rules are kept here:
//! - **A request is served before a guest is entered**, or the timer interrupts again within a slice.
//! - **A slice lasts its whole length**: its end interrupts, and nothing else ends it.
//! - **A vCPU that waits for a time is woken at that time**, whatever the pCPU is busy with.

use super::run_queues::{
    PcpuRequests, RunQueues, arm_timer, check_slice, notify_placement, postpone_work, request,
    retain_requests, take_requests, wake, work_due,
};
use postern_base::ids::{PcpuSet, VcpuId};
use postern_base::ticks::Ticks;

/// What a pCPU is to do with the vCPUs of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunDecision {
    /// Run them.
    Run,
    /// Park them until the VM is resumed.
    Pause,
    /// Stop them for good.
    Stop,
}

/// The operations of this pCPU and on the vCPU that it runs.
pub trait PcpuOps: RunQueues {
    /// A vCPU.
    type Vcpu: Copy;
    /// The registers of the loaded vCPU, while EL2 runs.
    type Frame;

    /// Does what is due by time, since the timer has interrupted.
    fn tick(&self, now: Ticks);
    /// Takes the pending interrupts.
    fn take_pending(&self);
    /// Waits until an interrupt is pending.
    fn idle(&self);

    /// Does a piece of work; `false` where none can be done now. An interrupt of this pCPU interrupts a call to OP-TEE.
    fn work_step(&self) -> bool;
    /// Runs the monitor.
    fn monitor(&self);

    /// Returns the number of a vCPU.
    fn id(&self, vcpu: Self::Vcpu) -> VcpuId;
    /// Returns the vCPU with this number.
    fn by_id(&self, id: VcpuId) -> Self::Vcpu;
    /// Returns the pCPUs that a vCPU may use.
    fn affinity(&self, vcpu: Self::Vcpu) -> PcpuSet;
    /// Returns what is to be done with a vCPU, by the state of its VM.
    fn run_decision(&self, vcpu: Self::Vcpu) -> RunDecision;
    /// Returns the vCPU that is loaded on this pCPU.
    fn current(&self) -> Option<Self::Vcpu>;
    /// Returns whether a loaded vCPU has pending interrupts that its list registers do not hold.
    fn needs_flush(&self, vcpu: Self::Vcpu) -> bool;
    /// Brings the list registers of a loaded vCPU up to date. That may wake other vCPUs.
    fn resync_lrs(&self, vcpu: Self::Vcpu);
    /// Saves the registers of the loaded vCPU, so that none is loaded.
    fn vcpu_put(&self, vcpu: Self::Vcpu, frame: &mut Self::Frame);
    /// Loads the registers of a vCPU; `false` where its VM does not let it run.
    fn vcpu_load(&self, vcpu: Self::Vcpu, frame: &mut Self::Frame) -> bool;
    /// Returns when a timer of a vCPU fires that is on no pCPU.
    fn deadline(&self, vcpu: Self::Vcpu) -> Option<Ticks>;
    /// Returns whether a vCPU that is on no pCPU has an interrupt to take.
    fn has_deliverable(&self, vcpu: Self::Vcpu) -> bool;
    /// Notes that a vCPU of a paused VM ran until now.
    fn note_pause(&self, vcpu: Self::Vcpu);
    /// Notes that a vCPU waits until its VM is resumed.
    fn parked(&self, vcpu: Self::Vcpu);
    /// Notes that a vCPU has stopped for good.
    fn vcpu_stopped(&self, vcpu: Self::Vcpu);
}

/// The number of times that [`serve_requests`] serves requests that came meanwhile: another vCPU was woken each time, or a
/// user of the monitor typed.
const MAX_ROUNDS: usize = 4;

/// Serves the requests of this pCPU, and returns with a vCPU loaded that is to be entered.
#[inline]
pub fn prepare_entry<S: PcpuOps>(ops: &S, frame: &mut S::Frame) {
    let requests = ops.requests();
    // The usual case: interrupts for the loaded vCPU, and nothing else.
    if let Some(vcpu) = ops.current()
        && !requests.get().intersects(PcpuRequests::ALL_BUT_LRS)
    {
        requests.set(PcpuRequests::NONE);
        ops.resync_lrs(vcpu);
        if requests.get().is_empty() {
            return;
        }
    }
    serve_requests(ops, frame);
}

/// Does the work of [`prepare_entry`] where there is more than interrupts for the loaded vCPU.
#[inline(never)]
fn serve_requests<S: PcpuOps>(ops: &S, frame: &mut S::Frame) {
    for round in 0..MAX_ROUNDS {
        // First, since a command may end what runs here.
        if take_requests(ops, PcpuRequests::MONITOR) {
            ops.monitor();
        }
        // Once: what is requested meanwhile waits for the next timer interrupt.
        if round == 0 && take_requests(ops, PcpuRequests::WORK) {
            request(ops, PcpuRequests::RESYNC_LRS);
            // A quarter of the time is for other VMs' work. The slice keeps its length: else a vCPU that wakes up while
            // there is work could end it at once, again and again.
            run_work_for(ops, ops.slice() / 4);
            // Drops what the interrupts that were taken meanwhile have requested: else all of the time would be work.
            postpone_work(ops);
            check_slice(ops);
        }
        match ops.current() {
            Some(vcpu) if !ops.requests().get().intersects(PcpuRequests::SCHEDULE) => {
                retain_requests(ops, PcpuRequests::MONITOR.union(PcpuRequests::WORK));
                ops.resync_lrs(vcpu);
            }
            _ => schedule(ops, frame),
        }
        // The interrupts in the list registers woke other vCPUs, or the monitor was requested.
        if !ops
            .requests()
            .get()
            .intersects(PcpuRequests::SCHEDULE.union(PcpuRequests::MONITOR))
        {
            return;
        }
    }
    ops.arm_no_later_than(ops.now() + ops.slice());
}

/// Does a piece of work for some VM. A call to OP-TEE in it is interrupted after `most`, or when another event is
/// due.
fn run_work_step<S: PcpuOps>(ops: &S, most: Ticks) -> bool {
    if !ops.has_work() {
        return false;
    }
    ops.arm_no_later_than(ops.now() + most);
    ops.work_step()
}

/// Does pieces of work for VMs, for `most` or a piece more, and takes interrupts in between. An interrupt for the
/// loaded vCPU ends it.
fn run_work_for<S: PcpuOps>(ops: &S, most: Ticks) {
    let end = ops.now() + most;
    loop {
        let left = end.since(ops.now());
        if left == Ticks::ZERO || !run_work_step(ops, left) {
            return;
        }
        ops.take_pending();
        let is_awaited = ops.current().is_some_and(|vcpu| ops.needs_flush(vcpu));
        if is_awaited || ops.requests().get().intersects(PcpuRequests::MONITOR) {
            return;
        }
    }
}

/// Handles EL2's timer interrupt: a slice is over, or the time of a waiting vCPU has come.
pub fn timer_fired<S: PcpuOps>(ops: &S) {
    let now = ops.now();
    while let Some(id) = ops.scheduler(|scheduler| scheduler.expired(ops.pcpu(), now)) {
        wake(ops, id, ops.affinity(ops.by_id(id)));
    }
    ops.tick(now);
    // A busy pCPU does work too, a piece at a time: the start or end of a VM must not wait until other VMs are idle.
    if work_due(ops).is_some_and(|at| at <= now) {
        request(ops, PcpuRequests::WORK);
    }
    check_slice(ops);
}

/// Puts the loaded vCPU if it has to leave, and loads the next one.
#[inline(never)]
fn schedule<S: PcpuOps>(ops: &S, frame: &mut S::Frame) {
    let requested = retain_requests(ops, PcpuRequests::MONITOR.union(PcpuRequests::WORK));
    if let Some(vcpu) = ops.current()
        && stays(ops, vcpu, requested, frame)
    {
        return;
    }
    let pcpu = ops.pcpu();
    loop {
        let now = ops.now();
        let next = ops.scheduler(|scheduler| scheduler.pick(pcpu, now, ops.slice()));
        if let Some(id) = next {
            let vcpu = ops.by_id(id);
            // Drops the requests that concerned the vCPU before. Else the end of its slice would end this one as well.
            retain_requests(ops, PcpuRequests::MONITOR.union(PcpuRequests::WORK));
            if ops.vcpu_load(vcpu, frame) {
                arm_timer(ops);
                return;
            }
            match ops.run_decision(vcpu) {
                RunDecision::Stop => stop(ops, vcpu),
                RunDecision::Run | RunDecision::Pause => park(ops, vcpu),
            }
            continue;
        }
        // All of the time is for work. A vCPU that waits for a time is woken in time all the same.
        postpone_work(ops);
        arm_timer(ops);
        if !run_work_step(ops, ops.slice())
            && !ops.requests().get().intersects(PcpuRequests::MONITOR)
        {
            ops.idle();
        }
        ops.take_pending();
        if take_requests(ops, PcpuRequests::MONITOR) {
            ops.monitor();
        }
        retain_requests(ops, PcpuRequests::MONITOR);
    }
}

/// Returns whether the loaded vCPU stays, given what was `requested`. If not, it is put, and waits where it has to.
fn stays<S: PcpuOps>(
    ops: &S,
    vcpu: S::Vcpu,
    requested: PcpuRequests,
    frame: &mut S::Frame,
) -> bool {
    let pcpu = ops.pcpu();
    let decision = ops.run_decision(vcpu);
    let leaves = requested.intersects(PcpuRequests::BLOCK.union(PcpuRequests::OFF))
        || decision != RunDecision::Run;
    if !leaves && !ops.scheduler(|scheduler| scheduler.must_give_way(pcpu)) {
        ops.resync_lrs(vcpu);
        arm_timer(ops);
        return true;
    }
    if decision == RunDecision::Pause {
        ops.note_pause(vcpu);
    }
    ops.vcpu_put(vcpu, frame);
    // It may have changed since.
    let decision = ops.run_decision(vcpu);
    if requested.intersects(PcpuRequests::OFF) || decision == RunDecision::Stop {
        stop(ops, vcpu);
    } else if decision == RunDecision::Pause {
        park(ops, vcpu);
    } else if requested.intersects(PcpuRequests::BLOCK) {
        block(ops, vcpu);
    } else {
        let id = ops.id(vcpu);
        notify_placement(ops, ops.scheduler(|scheduler| scheduler.requeue(id, pcpu)));
    }
    false
}

/// Blocks a vCPU that was just put: it waits for an interrupt.
fn block<S: PcpuOps>(ops: &S, vcpu: S::Vcpu) {
    let (id, pcpu) = (ops.id(vcpu), ops.pcpu());
    let deadline = ops.deadline(vcpu);
    notify_placement(
        ops,
        ops.scheduler(|scheduler| scheduler.block(id, pcpu, deadline)),
    );
    // An event between the guest's WFI and now found no blocked vCPU to wake.
    let is_ready = deadline.is_some_and(|at| at <= ops.now())
        || ops.run_decision(vcpu) == RunDecision::Stop
        || ops.has_deliverable(vcpu);
    if is_ready {
        wake(ops, id, ops.affinity(vcpu));
    }
}

/// Parks a vCPU that is on no pCPU until its VM is resumed.
fn park<S: PcpuOps>(ops: &S, vcpu: S::Vcpu) {
    let (id, pcpu) = (ops.id(vcpu), ops.pcpu());
    notify_placement(
        ops,
        ops.scheduler(|scheduler| scheduler.block(id, pcpu, None)),
    );
    ops.parked(vcpu);
    // A VM that was resumed or stopped before now found no parked vCPU to wake.
    if ops.run_decision(vcpu) != RunDecision::Pause {
        wake(ops, id, ops.affinity(vcpu));
    }
}

/// Stops a vCPU that is on no pCPU for good.
fn stop<S: PcpuOps>(ops: &S, vcpu: S::Vcpu) {
    let id = ops.id(vcpu);
    ops.scheduler(|scheduler| scheduler.off(id));
    ops.vcpu_stopped(vcpu);
}

#[cfg(test)]
mod tests;
