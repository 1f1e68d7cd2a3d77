// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Puts vCPUs on this pCPU and takes them off: the registers. And what interrupts and the vCPU itself make of that.

use super::instance::VcpuRef;
use super::lr_sync::{flush_lrs, resync_later, set_timer_active, sync_lrs};
use super::pcpu::{Pcpu, here};
use super::scheduler::{kick, request};
use super::{debug, physical_timer};
use crate::irq::Handled;
use crate::sched::run_queues::{self, PcpuRequests};
use postern_arch::vcpu_context::Frame;
use postern_arch::{barrier, ich, timer};
use postern_base::ticks::Ticks;
use postern_vgic::Vmcr;

/// Takes the vCPU off, whose general registers are in `frame`.
pub fn vcpu_put(here: &Pcpu, running: VcpuRef, frame: &Frame) {
    sync_lrs(here, running);
    ich::set_hcr(0);
    let mut saved = running.vcpu.saved.lock();
    saved.frame.copy_from(frame);
    saved.context.save(here.switched.get());
    drop(saved);
    if here.timer_is_active.get() {
        set_timer_active(here, false);
    }
    debug::vcpu_put(here);
    here.guest_timer_at.set(Ticks::NEVER);
    here.current.set(None);
    running.vcpu.residency.exit();
}

/// Puts a vCPU on this pCPU; `false` where its VM is paused or stopping, so that it must not run.
pub fn vcpu_load(here: &Pcpu, running: VcpuRef, frame: &mut Frame) -> bool {
    // `stop_vm` reads the residencies after it has written that the VM stops.
    let residency = &running.vcpu.residency;
    if !residency.enter(here.id(), || !running.vm.may_run()) {
        return false;
    }
    here.current.set(Some(running));
    let saved = running.vcpu.saved.lock();
    frame.copy_from(&saved.frame);
    saved
        .context
        .load(&running.vcpu.el2_registers(running.vm), here.switched.get());
    debug::vcpu_load(here, &saved.debug);
    // Two vCPUs of a VM share its VMID, and may use one address space identifier differently.
    let last = &here.last_vcpu[running.vm.index.get()];
    if last.replace(Some(running.vcpu.index)) != Some(running.vcpu.index) {
        barrier::invalidate_guest_tlb();
    }
    drop(saved);
    physical_timer::update_irq(here, running);
    flush_lrs(here, running);
    true
}

/// Returns whether there is something to do before the vCPU that is on this pCPU goes on: two loads.
#[inline]
pub fn has_exit_work(here: &Pcpu, running: VcpuRef) -> bool {
    !here.requests.get().is_empty() || running.vm.vgic.needs_flush(running.vcpu.index)
}

/// Returns whether the vCPU has something to do that a call in the secure world must not keep it from.
#[inline]
pub fn guest_must_run(running: VcpuRef) -> bool {
    has_exit_work(here(), running)
}

/// Lets others run: the guest executed WFI. The frame is behind it already.
pub fn wait_for_interrupt(running: VcpuRef) {
    resync_later(running);
    let vmcr = Vmcr::from_bits(ich::vmcr());
    if !running
        .vm
        .vgic
        .has_deliverable_through(running.vcpu.index, vmcr)
    {
        request(PcpuRequests::BLOCK);
    }
}

/// Handles the SGI by which another pCPU wants this one to look around.
pub fn on_kick_sgi() -> Handled {
    let here = here();
    if let Some(running) = here.current.get() {
        resync_later(running);
        if !running.vm.may_run() {
            request(PcpuRequests::RESCHEDULE);
        }
    }
    run_queues::check_slice(here);
    Handled::Quiet
}

/// Handles the maintenance interrupt: a list register ran empty while more interrupts wait, or the like. It is
/// level-sensitive, and what asserts it is in ICH_HCR_EL2 and the list registers (ICH_MISR_EL2), which
/// reading changes nothing about. So the virtual interface is off until it is filled.
pub fn on_maintenance_interrupt() -> Handled {
    if let Some(running) = here().current.get() {
        resync_later(running);
    }
    ich::turn_off();
    Handled::Quiet
}

/// Handles the virtual timer's interrupt: for the vCPU that is here, or, where there is none, for one that has just left.
pub fn on_virtual_timer() -> Handled {
    let here = here();
    let Some(running) = here.current.get() else {
        timer::silence_virtual();
        return Handled::Quiet;
    };
    here.timer_is_active.set(true);
    let set = running.vm.vgic.timer_fired(running.vcpu.index);
    kick(running.vm, set);
    Handled::Linked
}
