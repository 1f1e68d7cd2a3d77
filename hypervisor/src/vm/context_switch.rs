// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Loads a vCPU's registers onto this pCPU and saves them, and handles the guest's WFI and the
//! interrupts that concern the loaded vCPU.

use super::instance::VcpuRef;
use super::lr_sync::{flush_lrs, resync_later, set_timer_active, sync_lrs};
use super::pcpu::{Pcpu, here};
use super::scheduler::{kick, request};
use super::{debug, physical_timer, vectors};
use crate::irq::Handled;
use crate::sched::run_queues::{self, PcpuRequests};
use postern_arch::vcpu_context::Frame;
use postern_arch::{barrier, timer, virtual_interface};
use postern_base::ticks::Ticks;
use postern_vgic::Vmcr;

/// Takes the running vCPU off this pCPU. Its general registers are in `frame`.
pub fn vcpu_put(here: &Pcpu, running: VcpuRef, frame: &Frame) {
    sync_lrs(here, running);
    virtual_interface::this().set_hcr(0);
    vectors::save(here);
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

/// Loads a vCPU onto this pCPU. Returns `false`, and loads nothing, where its VM is paused or
/// stopping.
pub fn vcpu_load(here: &Pcpu, running: VcpuRef, frame: &mut Frame) -> bool {
    // The VM's run permission closes before `stop_vm` reads the residencies.
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
    // Two vCPUs of a VM share its VMID, and may use one ASID for different tables.
    let last = &here.last_vcpu[running.vm.index.get()];
    if last.replace(Some(running.vcpu.index)) != Some(running.vcpu.index) {
        barrier::invalidate_guest_tlb();
    }
    drop(saved);
    physical_timer::update_irq(here, running);
    flush_lrs(here, running);
    true
}

/// Returns whether EL2 has work to do before the vCPU on this pCPU continues. Costs two loads.
#[inline]
pub fn has_exit_work(here: &Pcpu, running: VcpuRef) -> bool {
    !here.requests.get().is_empty() || running.vm.vgic.needs_flush(running.vcpu.index)
}

/// Returns whether the vCPU has work that must not wait for the end of a call in the secure world.
#[inline]
pub fn guest_must_run(running: VcpuRef) -> bool {
    has_exit_work(here(), running)
}

/// Handles the guest's WFI: other vCPUs may run. The program counter in the frame is already past
/// the instruction.
pub fn wait_for_interrupt(running: VcpuRef) {
    resync_later(running);
    let vmcr = Vmcr::from_bits(virtual_interface::this().vmcr());
    if !running
        .vm
        .vgic
        .has_deliverable_through(running.vcpu.index, vmcr)
    {
        request(PcpuRequests::BLOCK);
    }
}

/// Handles a kick from another pCPU: checks the interrupts, the VM's state and the run queue.
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

/// Handles the maintenance interrupt, for example when a list register has run empty while more
/// interrupts are pending. The interrupt is level-sensitive. The state of ICH_HCR_EL2 and of the
/// list registers asserts it (ICH_MISR_EL2), and reading them does not deassert it. So the virtual
/// interface stays off until the next flush.
pub fn on_maintenance_interrupt() -> Handled {
    if let Some(running) = here().current.get() {
        resync_later(running);
    }
    virtual_interface::this().turn_off();
    Handled::Quiet
}

/// Handles the virtual timer's interrupt for the vCPU on this pCPU. Where none is loaded, the
/// interrupt belongs to a vCPU that has just left, and the timer is silenced.
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
