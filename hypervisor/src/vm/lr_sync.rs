// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Moves interrupts between the list registers of this pCPU and the vGIC's state.

use super::instance::VcpuRef;
use super::pcpu::{Pcpu, here};
use super::scheduler::{kick, request};
use crate::sched::run_queues::PcpuRequests;
use postern_arch::{gic, ich, timer};
use postern_vgic::{FlushResult, Hcr, InterfaceState, ListRegisters, Lr, Vmcr};

struct Hardware<'a>(&'a Pcpu);

impl ListRegisters for Hardware<'_> {
    fn count(&self) -> usize {
        self.0.list_registers.get()
    }

    fn read(&self, index: usize) -> Lr {
        Lr::from_bits(ich::read_lr(index))
    }

    fn write(&mut self, index: usize, value: Lr) {
        ich::write_lr(index, value.bits());
    }

    fn clear_from(&mut self, used: usize) {
        for index in used..self.0.list_registers_used.replace(used) {
            ich::write_lr(index, Lr::EMPTY.bits());
        }
    }
}

fn interface() -> InterfaceState {
    InterfaceState {
        eoi_count: Hcr::eoi_count(ich::hcr()),
        vmcr: Vmcr::from_bits(ich::vmcr()),
    }
}

/// Syncs: reads the list registers back into the vGIC's state. Does nothing where they are read
/// back already.
pub fn sync_lrs(here: &Pcpu, running: VcpuRef) {
    if !here.list_registers_loaded.replace(false) {
        return;
    }
    let vcpu = running.vcpu.index;
    let synced = running.vm.vgic.sync(vcpu, &Hardware(here), interface());
    here.timer_is_active.set(synced.hw_active);
    kick(running.vm, synced.kick);
}

/// Flushes: loads the vCPU's most urgent interrupts into the list registers.
pub fn flush_lrs(here: &Pcpu, running: VcpuRef) {
    let vmcr = Vmcr::from_bits(ich::vmcr());
    let vcpu = running.vcpu.index;
    let flushed = running.vm.vgic.flush(vcpu, vmcr, &mut Hardware(here));
    take_effect(here, flushed);
}

/// Resyncs: does [`sync_lrs`] and [`flush_lrs`] in one.
pub fn resync_lrs(here: &Pcpu, running: VcpuRef) {
    if !here.list_registers_loaded.get() {
        return flush_lrs(here, running);
    }
    let vcpu = running.vcpu.index;
    let vgic = &running.vm.vgic;
    let (synced, flushed) = vgic.resync(vcpu, interface(), &mut Hardware(here));
    here.timer_is_active.set(synced.hw_active);
    take_effect(here, flushed);
    kick(running.vm, synced.kick);
}

fn take_effect(here: &Pcpu, flushed: FlushResult) {
    here.list_registers_loaded.set(true);
    ich::set_hcr(flushed.hcr.on(here.unusable_hcr.get()).bits());
    if flushed.hw_deactivate {
        set_timer_active(here, false);
    }
    if here.timer_is_active.get() != flushed.hw_active {
        set_timer_active(here, flushed.hw_active);
    }
}

/// Sets the active state of the virtual timer's physical interrupt for the vCPU on this pCPU.
pub fn set_timer_active(here: &Pcpu, active: bool) {
    gic::set_private_active(timer::VIRTUAL_TIMER_INTID, active);
    here.timer_is_active.set(active);
}

/// Syncs now, and requests a flush before the guest continues. In between the vGIC's state is
/// complete.
pub fn resync_later(running: VcpuRef) {
    sync_lrs(here(), running);
    request(PcpuRequests::RESYNC_LRS);
}
