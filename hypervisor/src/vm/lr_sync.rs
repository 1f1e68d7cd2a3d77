// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Moves interrupts between the list registers of this pCPU and the vGIC's state.

use super::instance::VcpuRef;
use super::pcpu::{Pcpu, here};
use super::scheduler::{kick, request};
use crate::sched::run_queues::PcpuRequests;
use postern_arch::virtual_interface::{self, VirtualInterface};
use postern_arch::{gic, ich, timer};
use postern_vgic::{FlushResult, Hcr, InterfaceState, ListRegisters, Lr, Vmcr};

struct Hardware<'a> {
    here: &'a Pcpu,
    interface: VirtualInterface,
}

impl Hardware<'_> {
    fn write_lr(&self, index: usize, value: Lr) {
        match self.interface {
            VirtualInterface::SystemRegisters => ich::write_lr(index, value.bits()),
            VirtualInterface::Memory(gich) => gich.write_lr(index, value.to_gich()),
        }
    }

    #[inline(always)]
    fn state(&self) -> InterfaceState {
        InterfaceState {
            eoi_count: Hcr::eoi_count(self.interface.hcr()),
            vmcr: Vmcr::from_bits(self.interface.vmcr()),
        }
    }
}

fn hardware(here: &Pcpu) -> Hardware<'_> {
    Hardware {
        here,
        interface: virtual_interface::this(),
    }
}

impl ListRegisters for Hardware<'_> {
    fn count(&self) -> usize {
        self.here.list_registers.get()
    }

    fn read(&self, index: usize) -> Lr {
        match self.interface {
            VirtualInterface::SystemRegisters => Lr::from_bits(ich::read_lr(index)),
            VirtualInterface::Memory(gich) => Lr::from_gich(gich.read_lr(index)),
        }
    }

    fn write(&mut self, index: usize, value: Lr) {
        self.write_lr(index, value);
    }

    fn clear_from(&mut self, used: usize) {
        for index in used..self.here.list_registers_used.replace(used) {
            self.write_lr(index, Lr::EMPTY);
        }
    }
}

/// Syncs: reads the list registers back into the vGIC's state. Does nothing where they are read
/// back already.
pub fn sync_lrs(here: &Pcpu, running: VcpuRef) {
    if !here.list_registers_loaded.replace(false) {
        return;
    }
    let vcpu = running.vcpu.index;
    let hardware = hardware(here);
    let synced = running.vm.vgic.sync(vcpu, &hardware, hardware.state());
    here.timer_is_active.set(synced.hw_active);
    kick(running.vm, synced.kick);
}

/// Flushes: loads the vCPU's most urgent interrupts into the list registers.
pub fn flush_lrs(here: &Pcpu, running: VcpuRef) {
    let mut hardware = hardware(here);
    let vmcr = Vmcr::from_bits(hardware.interface.vmcr());
    let vcpu = running.vcpu.index;
    let flushed = running.vm.vgic.flush(vcpu, vmcr, &mut hardware);
    take_effect(&hardware, flushed);
}

/// Resyncs: does [`sync_lrs`] and [`flush_lrs`] in one.
pub fn resync_lrs(here: &Pcpu, running: VcpuRef) {
    if !here.list_registers_loaded.get() {
        return flush_lrs(here, running);
    }
    let vcpu = running.vcpu.index;
    let vgic = &running.vm.vgic;
    let mut hardware = hardware(here);
    let (synced, flushed) = vgic.resync(vcpu, hardware.state(), &mut hardware);
    here.timer_is_active.set(synced.hw_active);
    take_effect(&hardware, flushed);
    kick(running.vm, synced.kick);
}

fn take_effect(hardware: &Hardware<'_>, flushed: FlushResult) {
    let here = hardware.here;
    here.list_registers_loaded.set(true);
    let hcr = flushed.hcr.on(here.unusable_hcr.get());
    hardware.interface.set_hcr(hcr.bits().into());
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
