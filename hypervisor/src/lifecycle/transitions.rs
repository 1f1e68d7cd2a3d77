// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A VM starts, pauses and ends: what follows from the state machine in [`crate::vm::lifecycle`].

use crate::console::output;
use crate::fatal::power_off;
use crate::platform::machine;
use crate::vm::guest_image::EntryPoint;
use crate::vm::instance::{SavedContext, Vcpu, VcpuRef, Vm};
use crate::vm::lifecycle::{
    EndReason, LifecycleAction, LifecycleError, LifecycleEvent, LifecycleRequest, Phase,
};
use crate::vm::{registry, scheduler};
use core::fmt::Display;
use core::sync::atomic::Ordering;
use mediator::addr::Ipa;
use postern_arch::timer;
use postern_arch::vcpu_context::{Context, Frame};
use postern_base::ids::VcpuIndex;
use postern_base::ticks::Ticks;
use postern_devices::debug::DebugUnit;
use postern_devices::physical_timer::PhysicalTimer;
use postern_monitor::Event as MonitorEvent;

/// `Vm::requested`: that the VM starts.
pub(super) const START: u8 = 1;
/// `Vm::requested`: that it is torn down.
pub(super) const TEARDOWN: u8 = 2;

/// Asks for a VM's start.
fn request_start(vm: &Vm) {
    vm.requested.store(START, Ordering::Release);
    scheduler::notify_work();
}

/// Asks for a VM's end. None of its vCPUs runs.
fn request_teardown(vm: &Vm) {
    vm.requested.store(TEARDOWN, Ordering::Release);
    scheduler::notify_work();
}

/// Ends the machine, if the VM that is off now was the last one and nothing else is asked of the machine.
pub fn on_vm_off() {
    let over = |vm: &Vm| matches!(vm.phase(), Phase::Off | Phase::Failed);
    if registry::all().iter().all(over) && !machine().stay {
        output::event(None, &MonitorEvent::AllOff);
        output::flush();
        power_off();
    }
}

/// Does what a user wants of a VM, or begins to. The caller holds no lock.
///
/// # Errors
/// When that makes no sense now.
pub fn request(vm: &'static Vm, request: LifecycleRequest) -> Result<(), LifecycleError> {
    let action = {
        let mut lifecycle = vm.lifecycle.lock();
        let now = timer::now();
        let action = lifecycle.request(request)?;
        match action {
            LifecycleAction::Pause => vm.paused_at.store(now.get(), Ordering::Relaxed),
            // While the gate is closed yet, so that no vCPU goes on with the old offset.
            LifecycleAction::Resume => forget_pause(vm, now),
            _ => {}
        }
        vm.run_permission.follow(lifecycle.phase());
        action
    };
    carry_out(vm, action);
    Ok(())
}

/// Does what follows from something that has happened to a VM. The caller holds no lock but that of `Vm::work`, and that
/// only where it is the one that does the work.
pub fn handle(vm: &'static Vm, event: LifecycleEvent) {
    let action = transition(vm, event);
    carry_out(vm, action);
}

/// Notes that something has happened to a VM, and returns what is to be done.
pub(super) fn transition(vm: &Vm, event: LifecycleEvent) -> LifecycleAction {
    let mut lifecycle = vm.lifecycle.lock();
    let action = lifecycle.handle(event);
    vm.run_permission.follow(lifecycle.phase());
    action
}

/// Ends a VM: the hardware has lost some of its state, so that it cannot go on.
pub fn lost_state(vm: &'static Vm) {
    handle(vm, LifecycleEvent::LostState);
}

/// Does what is to be done.
pub(super) fn carry_out(vm: &'static Vm, action: LifecycleAction) {
    match action {
        // Who loads it knows where it begins, and lets it run.
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
            scheduler::wake_vm(vm);
        }
        LifecycleAction::StopVcpus => scheduler::stop_vm(vm),
        LifecycleAction::TearDown => request_teardown(vm),
        LifecycleAction::Ended(ending) => {
            report_end(vm, ending);
            on_vm_off();
        }
        LifecycleAction::Again => {
            report_end(vm, EndReason::Reset);
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

/// Says once that a paused VM has no vCPU on a pCPU any more: one has just left, or the VM was paused just now.
pub fn report_if_paused(vm: &Vm) {
    let moving = vm.vcpus.iter().any(|vcpu| vcpu.pcpu().is_some());
    if !moving && vm.is_paused() && !vm.pause_reported.swap(true, Ordering::Relaxed) {
        report(vm, MonitorEvent::VmPaused { vm: &vm.name });
    }
}

/// Has the guest's time go on where it stopped. Where a vCPU is still on its pCPU, none was
/// paused for long enough to speak of.
fn forget_pause(vm: &Vm, now: Ticks) {
    if vm.vcpus.iter().all(|vcpu| vcpu.pcpu().is_none()) {
        let lost = now.since(Ticks::new(vm.paused_at.load(Ordering::Relaxed)));
        vm.counter_offset.fetch_add(lost.get(), Ordering::Relaxed);
    }
}

/// Starts the first vCPU: everything is in place.
///
/// Whoever has ended the VM since then closed its gate: the vCPU ends before it runs.
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
    *vcpu.saved.lock() = SavedContext {
        frame: Frame::start(entry.get(), context),
        context: Context::new(),
        physical_timer: PhysicalTimer::new(),
        debug: DebugUnit::new(),
    };
    vm.vcpus_on.fetch_add(1, Ordering::AcqRel);
    let set = vm.vgic.vcpu_on(vcpu.index);
    vcpu.power.started();
    scheduler::start(VcpuRef { vm, vcpu });
    scheduler::kick(vm, set);
}

/// Notes that a vCPU has left its pCPU for good.
pub fn vcpu_stopped(vm: &'static Vm, vcpu: &'static Vcpu) {
    let set = vm.vgic.vcpu_off(vcpu.index);
    vcpu.power.turned_off();
    scheduler::kick(vm, set);
    if vm.vcpus_on.fetch_sub(1, Ordering::AcqRel) == 1 {
        handle(vm, LifecycleEvent::VcpusStopped);
    }
}
