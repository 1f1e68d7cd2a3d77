// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Carries out the actions of the state machine in [`crate::vm::lifecycle`]: start, pause and end
//! of a VM.

use crate::console::output;
use crate::fatal::power_off;
use crate::platform::machine;
use crate::vm::guest_image::EntryPoint;
use crate::vm::instance::{Vcpu, VcpuRef, Vm};
use crate::vm::lifecycle::{
    EndReason, LifecycleAction, LifecycleError, LifecycleEvent, LifecycleRequest, Phase,
};
use crate::vm::{registry, scheduler, watchdog};
use core::fmt::Display;
use core::sync::atomic::Ordering;
use mediator::addr::Ipa;
use postern_arch::timer;
use postern_arch::vcpu_context::Frame;
use postern_base::ids::VcpuIndex;
use postern_base::ticks::Ticks;
use postern_monitor::Event as MonitorEvent;

/// The value of `Vm::requested` that requests a start.
pub(super) const START: u8 = 1;
/// The value of `Vm::requested` that requests a teardown.
pub(super) const TEARDOWN: u8 = 2;

/// Requests a VM's start.
fn request_start(vm: &Vm) {
    vm.requested.store(START, Ordering::Release);
    scheduler::notify_work();
}

/// Requests a VM's teardown. None of its vCPUs runs.
fn request_teardown(vm: &Vm) {
    vm.requested.store(TEARDOWN, Ordering::Release);
    scheduler::notify_work();
}

/// Powers the machine off if every VM is off or failed, and the machine is not configured to stay
/// on.
pub fn on_vm_off() {
    let over = |vm: &Vm| matches!(vm.phase(), Phase::Off | Phase::Failed);
    if registry::all().iter().all(over) && !machine().stay {
        output::event(None, &MonitorEvent::AllOff);
        output::flush();
        power_off();
    }
}

/// Carries out a user's request for a VM, or begins to. The caller holds no lock.
///
/// # Errors
/// When the VM's phase does not allow the request.
pub fn request(vm: &'static Vm, request: LifecycleRequest) -> Result<(), LifecycleError> {
    let action = {
        let mut lifecycle = vm.lifecycle.lock();
        let now = timer::now();
        let action = lifecycle.request(request)?;
        match action {
            LifecycleAction::Pause => vm.paused_at.store(now.get(), Ordering::Relaxed),
            // Before the run permission is given again, so that no vCPU continues with the old
            // offset.
            LifecycleAction::Resume => forget_pause(vm, now),
            _ => {}
        }
        vm.run_permission.follow(lifecycle.phase());
        action
    };
    carry_out(vm, action);
    Ok(())
}

/// Handles an event of a VM, and carries out the action that follows. The caller holds no lock
/// except `Vm::work`, and that one only where it does the work.
pub fn handle(vm: &'static Vm, event: LifecycleEvent) {
    let action = transition(vm, event);
    carry_out(vm, action);
}

/// Handles an event of a VM in its state machine. Returns the next action.
pub(super) fn transition(vm: &Vm, event: LifecycleEvent) -> LifecycleAction {
    let mut lifecycle = vm.lifecycle.lock();
    let action = lifecycle.handle(event);
    vm.run_permission.follow(lifecycle.phase());
    action
}

/// Ends a VM that cannot continue because the hardware has lost some of its state.
pub fn lost_state(vm: &'static Vm) {
    handle(vm, LifecycleEvent::LostState);
}

/// Carries out an action.
pub(super) fn carry_out(vm: &'static Vm, action: LifecycleAction) {
    match action {
        // The work step that loads the VM knows the entry point, and starts the first vCPU.
        LifecycleAction::Nothing | LifecycleAction::Run => {}
        LifecycleAction::Start => request_start(vm),
        LifecycleAction::PressButton => vm.press_power_button(),
        LifecycleAction::Pause => {
            vm.pause_reported.store(false, Ordering::Relaxed);
            scheduler::reschedule_vm(vm);
            report_if_paused(vm);
        }
        LifecycleAction::Resume => {
            report(vm, MonitorEvent::VmResumed { vm: &vm.name });
            watchdog::arm(vm, timer::now());
            scheduler::wake_vm(vm);
        }
        LifecycleAction::StopVcpus => scheduler::stop_vm(vm),
        LifecycleAction::TearDown => request_teardown(vm),
        LifecycleAction::Ended(ending) => {
            report_end(vm, ending);
            on_vm_off();
        }
        LifecycleAction::Again(ending) => {
            report_end(vm, ending);
            request_start(vm);
        }
    }
}

fn report(vm: &Vm, event: MonitorEvent<&dyn Display>) {
    output::event(Some(vm.index), &event);
}

fn report_end(vm: &Vm, ending: EndReason) {
    let reason: &dyn Display = &ending.name();
    report(
        vm,
        MonitorEvent::VmOff {
            vm: &vm.name,
            reason,
        },
    );
}

/// Reports once that a paused VM has no vCPU on a pCPU any more. Called when a vCPU has left its
/// pCPU, and when a VM is paused.
pub fn report_if_paused(vm: &Vm) {
    let moving = vm.vcpus.iter().any(|vcpu| vcpu.pcpu().is_some());
    if !moving && vm.is_paused() && !vm.pause_reported.swap(true, Ordering::Relaxed) {
        report(vm, MonitorEvent::VmPaused { vm: &vm.name });
    }
}

/// Moves the counter's offset so that the guest's time continues where it stopped. Where a vCPU is
/// still on its pCPU, the pause was too short to matter.
fn forget_pause(vm: &Vm, now: Ticks) {
    if vm.vcpus.iter().all(|vcpu| vcpu.pcpu().is_none()) {
        let lost = now.since(Ticks::new(vm.paused_at.load(Ordering::Relaxed)));
        vm.counter_offset.fetch_add(lost.get(), Ordering::Relaxed);
    }
}

/// Starts the first vCPU of a VM that is loaded.
///
/// If the VM has been ended meanwhile, its run permission is closed, and the vCPU ends before it
/// runs.
pub(super) fn run(vm: &'static Vm, entry: EntryPoint) {
    let now = timer::now();
    vm.counter_offset.store(now.get(), Ordering::Relaxed);
    vm.started_at.store(now.get(), Ordering::Relaxed);
    vm.starts.fetch_add(1, Ordering::Relaxed);
    report(
        vm,
        MonitorEvent::VmStarted {
            vm: &vm.name,
            channel: vm.console.channel().get(),
            vcpus: vm.vcpus.len() as u32,
            memory_kib: vm.memory.bytes() / 1024,
            tee: vm.has_tee(),
        },
    );
    if let Some(boot) = VcpuIndex::new(0)
        && vm.vcpus[0].power.claim().is_ok()
    {
        turn_on(vm, boot, entry.kernel, entry.tree.get());
    }
}

/// Starts a vCPU whose power state the caller has claimed.
pub fn turn_on(vm: &'static Vm, index: VcpuIndex, entry: Ipa, context: u64) {
    let Some(vcpu) = vm.vcpus.get(index.get()) else {
        return;
    };
    vcpu.saved.lock().reset(Frame::start(entry.get(), context));
    vm.vcpus_on.fetch_add(1, Ordering::AcqRel);
    let set = vm.vgic.vcpu_on(vcpu.index);
    vcpu.power.started();
    scheduler::start(VcpuRef { vm, vcpu });
    scheduler::kick(vm, set);
}

/// Records that a vCPU has left its pCPU for good, and handles the stop of the VM's last one.
pub fn vcpu_stopped(vm: &'static Vm, vcpu: &'static Vcpu) {
    let set = vm.vgic.vcpu_off(vcpu.index);
    vcpu.power.turned_off();
    scheduler::kick(vm, set);
    if vm.vcpus_on.fetch_sub(1, Ordering::AcqRel) == 1 {
        handle(vm, LifecycleEvent::VcpusStopped);
    }
}
