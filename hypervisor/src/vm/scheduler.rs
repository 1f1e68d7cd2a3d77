// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The run queues of the machine, behind one lock, and the operations on a VM's vCPUs that use
//! them.
//!
//! On the way of an SMC the lock is taken only where OP-TEE was interrupted.

use super::instance::{VcpuRef, Vm};
use super::pcpu::{Pcpu, here};
use super::registry;
use crate::platform::machine;
use crate::sched::policy::Scheduler;
use crate::sched::run_queues::{self, PcpuRequests, RunQueues};
use core::cell::Cell;
use postern_arch::{gic, timer};
use postern_base::ids::PcpuIndex;
use postern_base::lock::{Class, Lock};
use postern_base::ticks::Ticks;
use postern_vgic::VcpuSet;

static SCHEDULER: Lock<Scheduler> = Lock::new(Class::Scheduler, Scheduler::new());

/// The time that a vCPU runs when others wait, in milliseconds.
const SLICE_MS: u64 = 10;

impl RunQueues for Pcpu {
    fn pcpu(&self) -> PcpuIndex {
        self.id()
    }

    fn requests(&self) -> &Cell<PcpuRequests> {
        &self.requests
    }

    fn work_at(&self) -> &Cell<Ticks> {
        &self.work_at
    }

    fn now(&self) -> Ticks {
        timer::now()
    }

    fn slice(&self) -> Ticks {
        timer::second() * SLICE_MS / 1000
    }

    fn arm(&self, at: Ticks) {
        timer::arm(at);
    }

    fn arm_no_later_than(&self, at: Ticks) {
        timer::arm_no_later_than(at);
    }

    fn next_tick(&self) -> Ticks {
        let ticks = self.tick_at.get().min(self.watchdog_at.get());
        ticks.min(self.guest_timer_at.get())
    }

    #[inline]
    fn scheduler<R>(&self, ask: impl FnOnce(&mut Scheduler) -> R) -> R {
        ask(&mut SCHEDULER.lock())
    }

    fn kick(&self, pcpu: PcpuIndex) {
        gic::kick(pcpu);
    }

    fn has_work(&self) -> bool {
        registry::has_work()
    }
}

/// Requests work that this pCPU does before a guest continues.
pub fn request(what: PcpuRequests) {
    run_queues::request(here(), what);
}

/// Requests a piece of work for some VM on this pCPU, and kicks all others, so that the idle ones
/// do pieces too.
pub fn notify_work() {
    let here = here();
    let pcpus = machine().cpus.list().len();
    let others = (0..pcpus).filter_map(PcpuIndex::new);
    for pcpu in others.filter(|pcpu| *pcpu != here.id()) {
        gic::kick(pcpu);
    }
    request(PcpuRequests::WORK);
}

/// Makes the running vCPUs of `vm` check whether they may run.
pub fn reschedule_vm(vm: &'static Vm) {
    let here = here();
    for vcpu in &vm.vcpus {
        match vcpu.pcpu() {
            Some(pcpu) if pcpu == here.id() => request(PcpuRequests::RESCHEDULE),
            Some(pcpu) => here.kick(pcpu),
            None => {}
        }
    }
}

/// Lets the vCPUs of `vm` run again. A vCPU that waits for something wakes up and waits again.
pub fn wake_vm(vm: &'static Vm) {
    for vcpu in &vm.vcpus {
        wake(VcpuRef { vm, vcpu });
    }
}

/// Stops the vCPUs of `vm`, which is stopping: interrupts those that run, and wakes those that
/// wait.
pub fn stop_vm(vm: &'static Vm) {
    let here = here();
    for vcpu in &vm.vcpus {
        match vcpu.pcpu() {
            Some(pcpu) if pcpu == here.id() => request(PcpuRequests::OFF),
            Some(pcpu) => here.kick(pcpu),
            // The vCPU finds that its VM is stopping before it runs.
            None => wake(VcpuRef { vm, vcpu }),
        }
    }
}

/// Interrupts those of these vCPUs of `vm` that run, and wakes the others: an interrupt became
/// pending for them.
#[inline]
pub fn kick(vm: &'static Vm, vcpus: VcpuSet) {
    if !vcpus.is_empty() {
        kick_some(vm, vcpus);
    }
}

#[inline(never)]
fn kick_some(vm: &'static Vm, vcpus: VcpuSet) {
    let here = here();
    for index in vcpus.iter() {
        let Some(vcpu) = vm.vcpus.get(index.get()) else {
            continue;
        };
        match vcpu.pcpu() {
            // This pCPU checks the vGIC's flag before the vCPU continues.
            Some(pcpu) if pcpu == here.id() => {}
            Some(pcpu) => here.kick(pcpu),
            None => wake(VcpuRef { vm, vcpu }),
        }
    }
}

/// Makes a waiting vCPU runnable. Has no effect on others.
pub fn wake(vcpu: VcpuRef) {
    run_queues::wake(here(), vcpu.id(), vcpu.affinity());
}

/// Makes a vCPU runnable that is off.
pub fn start(vcpu: VcpuRef) {
    run_queues::start(here(), vcpu.id(), vcpu.affinity());
}

/// Lets other pCPUs take over the vCPUs that wait for a pCPU that stays in the secure world.
pub fn pcpu_away(pcpu: PcpuIndex) {
    run_queues::pcpu_away(here(), pcpu);
}

/// Lets a pCPU that has returned from the secure world take vCPUs again.
pub fn pcpu_back(pcpu: PcpuIndex) {
    run_queues::pcpu_back(here(), pcpu);
}
