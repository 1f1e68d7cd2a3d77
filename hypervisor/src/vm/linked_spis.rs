// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The physical SPIs of devices that VMs have for themselves.
//!
//! Such an SPI is the VM's for good. It is enabled while the guest has enabled the virtual one, and stays active until
//! the guest has ended that ([`postern_vgic::Vgic::spi_fired`]). So it cannot fire again before, whatever the device
//! does.

use super::instance::Vm;
use super::registry;
use super::scheduler::kick;
use crate::irq::Handled;
use crate::irq::owners;
use core::sync::atomic::{AtomicU8, Ordering};
use postern_arch::{gic, percpu};
use postern_base::ids::PcpuIndex;
use postern_boot_tree::{AssignedDevice, Interrupt, MAX_SPI, PhysIntId};
use postern_vgic::{IntId, PhysicalSpis};

/// The number of SPIs that a VM may have.
const SPIS: usize = MAX_SPI as usize + 1;
/// The INTID of the first SPI.
const FIRST: u32 = 32;
/// The owner of an SPI that is no VM's.
const NOBODY: u8 = u8::MAX;

/// The VM that owns each SPI. Written before the SPI can be enabled.
static OWNERS: [AtomicU8; SPIS] = [const { AtomicU8::new(NOBODY) }; SPIS];

/// The SPIs of the machine.
struct MachineSpis;

// An SPI may fire as soon as it is enabled or inactive, and what makes it so is an access of its guest on this pCPU. So
// the pCPU that pays is this one, and not one of another VM.
impl PhysicalSpis for MachineSpis {
    fn set_enabled(&self, spi: IntId, enabled: bool) {
        if enabled {
            route(spi.get(), percpu::id());
        }
        gic::set_spi_enabled(spi.get(), enabled);
    }

    fn deactivate(&self, spi: IntId) {
        route(spi.get(), percpu::id());
        gic::deactivate_spi(spi.get());
    }

    fn clear_pending(&self, spi: IntId) {
        gic::set_spi_pending(spi.get(), false);
    }
}

/// Makes the SPIs of devices a VM's, and links them in its vGIC. Called at boot.
pub fn link(vm: &mut Vm, devices: &[AssignedDevice<'_>]) {
    if devices.is_empty() {
        return;
    }
    owners::register_assigned(on_spi);
    let pcpu = vm.affinity().iter().next().unwrap_or(PcpuIndex::BOOT);
    let interrupts = || devices.iter().flat_map(|device| &device.interrupts);
    for interrupt in interrupts() {
        if let Some(owner) = owner(interrupt.intid.get()) {
            owner.store(vm.index.get() as u8, Ordering::Release);
            gic::configure_spi(*interrupt, pcpu);
        }
    }
    let spis = interrupts().filter_map(|interrupt| IntId::new(interrupt.intid.get()));
    vm.vgic.link_spis(spis, &MachineSpis);
}

/// Routes the SPIs of all VMs to this pCPU, because some other one does not return from the secure world. Each follows its
/// vCPU from here when it fires.
pub fn take_over_irqs() {
    let here = percpu::id();
    for (intid, owner) in (FIRST..).zip(&OWNERS) {
        if owner.load(Ordering::Acquire) != NOBODY {
            route(intid, here);
        }
    }
}

fn owner(intid: u32) -> Option<&'static AtomicU8> {
    OWNERS.get(intid.checked_sub(FIRST)? as usize)
}

/// Handles an SPI that was taken on this pCPU, if it is a VM's: makes the virtual one pending. Returns `None` if no VM
/// has it.
fn on_spi(intid: u32) -> Option<Handled> {
    let index = owner(intid)?.load(Ordering::Acquire);
    // Nobody's is no VM's index.
    let vm = registry::all().get(usize::from(index))?;
    let vcpus = vm.vgic.spi_fired(IntId::new(intid)?);
    kick(vm, vcpus);
    // The next one is taken where the vCPU is that has it, which then needs no kick.
    if let Some(vcpu) = vcpus.iter().next().and_then(|it| vm.vcpus.get(it.get()))
        && let Some(pcpu) = vcpu.pcpu()
        && pcpu != percpu::id()
    {
        route(intid, pcpu);
    }
    Some(Handled::Linked)
}

#[cold]
fn route(intid: u32, pcpu: PcpuIndex) {
    if let Some(intid) = PhysIntId::spi(intid.saturating_sub(FIRST)) {
        let interrupt = Interrupt {
            intid,
            trigger: None,
        };
        gic::route_spi(interrupt, pcpu);
    }
}
