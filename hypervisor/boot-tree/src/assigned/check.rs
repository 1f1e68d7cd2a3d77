// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether a VM may have the devices that it names: nobody else has or needs what belongs to them.

use super::super::devices::Optee;
use super::super::error::{BootError, DeviceError, VmError};
use super::super::gic::{Gic, GicRegisters};
use super::super::interrupts::Interrupt;
use super::super::iommu::{Smmus, StreamRange};
use super::super::ram::Memory;
use super::super::uart::Uart;
use super::super::vms::VmConfig;
use super::AssignedDevice;
use mediator::addr::Pa;
use postern_base::range::{IpaRange, PaRange};
use postern_guest_tree::layout;

/// What of the machine cannot be given away.
pub(in super::super) struct Taken<'m> {
    /// The interrupt controller.
    pub(in super::super) gic: &'m Gic,
    /// The console.
    pub(in super::super) uart: &'m Uart,
    /// The SMMUs.
    pub(in super::super) smmus: &'m Smmus,
    /// OP-TEE.
    pub(in super::super) optee: Option<&'m Optee>,
    /// All RAM.
    pub(in super::super) ram: &'m Memory,
}

/// Checks the devices of all VMs.
pub(in super::super) fn check<'t>(
    vms: &[VmConfig<'t>],
    taken: &Taken<'_>,
) -> Result<(), BootError<'t>> {
    for (index, vm) in vms.iter().enumerate() {
        for (place, device) in vm.devices.iter().enumerate() {
            let of_others = vms[..index].iter().flat_map(|other| {
                let name = other.name;
                other.devices.iter().map(move |device| (name, device))
            });
            let checked = taken
                .check(device, vm)
                .and_then(|()| check_own(device, &vm.devices[..place]))
                .and_then(|()| check_others(device, of_others));
            checked.map_err(|error| BootError::Vm {
                vm: vm.name,
                error: VmError::Device {
                    path: device.path,
                    error,
                },
            })?;
        }
    }
    Ok(())
}

impl Taken<'_> {
    fn check<'t>(
        &self,
        device: &AssignedDevice<'t>,
        vm: &VmConfig<'t>,
    ) -> Result<(), DeviceError<'t>> {
        for &window in &device.windows {
            let user = self
                .user(window)
                .or_else(|| guest_user(vm, self.gic, window));
            if let Some(user) = user {
                return Err(DeviceError::InUse { window, user });
            }
        }
        for interrupt in &device.interrupts {
            if let Some(user) = self.interrupt_user(interrupt) {
                let spi = interrupt.intid.get().saturating_sub(32);
                return Err(DeviceError::Spi { spi, user });
            }
        }
        if device.is_unprotected() && !vm.unprotected_dma {
            return Err(DeviceError::Dma);
        }
        Ok(())
    }

    /// Who needs some of the addresses.
    fn user(&self, window: PaRange) -> Option<&'static str> {
        let page = |range: PaRange| range.aligned_outward(mediator::addr::PAGE_SIZE);
        let uses = |range: PaRange| page(range).is_some_and(|range| range.overlaps(window));
        let virtual_interface = match &self.gic.registers {
            GicRegisters::V3(_) => None,
            GicRegisters::V2(v2) => Some(v2.virtual_cpu_interface),
        };
        let mut gic = self.gic.el2_ranges().into_iter().chain(virtual_interface);
        if uses(self.uart.registers) {
            Some("the console")
        } else if gic.any(uses) {
            Some("the interrupt controller")
        } else if self.smmus.iter().any(|smmu| uses(smmu.registers)) {
            Some("an SMMU")
        } else if self.ram.overlaps(window) {
            Some("RAM")
        } else {
            None
        }
    }

    /// Who needs the interrupt.
    fn interrupt_user(&self, interrupt: &Interrupt) -> Option<&'static str> {
        let is_it = |other: &Interrupt| other.intid == interrupt.intid;
        let mut smmus = self
            .smmus
            .iter()
            .flat_map(|smmu| [smmu.event, smmu.global_error].into_iter().flatten());
        let notification = self.optee.and_then(|optee| optee.notification);
        if self.uart.interrupts.iter().any(is_it) {
            Some("the console")
        } else if notification.as_ref().is_some_and(is_it) {
            Some("OP-TEE")
        } else if smmus.any(|it| is_it(&it)) {
            Some("an SMMU")
        } else {
            None
        }
    }
}

/// What the guest has at some of the addresses, which it sees its devices at.
fn guest_user(vm: &VmConfig<'_>, gic: &Gic, window: PaRange) -> Option<&'static str> {
    let overlaps = |range: IpaRange| {
        let range = PaRange::new(Pa::new(range.start.get()), range.bytes);
        range.is_none_or(|range| range.overlaps(window))
    };
    // No device is where there is RAM, and so where a guest has its RAM at the same addresses.
    let ram = vm.ram_start().map(|start| IpaRange {
        start,
        bytes: vm.memory,
    });
    let mut emulated = layout::emulated(gic.version(), vm.privileged);
    if emulated.any(overlaps) {
        Some("where the guest has a device that Postern emulates")
    } else if ram.is_some_and(overlaps) {
        Some("where the guest has its RAM")
    } else {
        None
    }
}

/// Checks a device against others of its VM. They may share interrupts.
fn check_own<'t>(
    device: &AssignedDevice<'t>,
    others: &[AssignedDevice<'t>],
) -> Result<(), DeviceError<'t>> {
    let windows = || others.iter().flat_map(|other| &other.windows);
    let mut own = device.windows.iter();
    match own.find(|window| windows().any(|other| other.overlaps(**window))) {
        None => Ok(()),
        Some(&window) => Err(DeviceError::InUse {
            window,
            user: "another device of the list",
        }),
    }
}

/// Checks a device against those of other VMs.
fn check_others<'a, 't: 'a>(
    device: &AssignedDevice<'t>,
    others: impl Iterator<Item = (&'t str, &'a AssignedDevice<'t>)>,
) -> Result<(), DeviceError<'t>> {
    for (owner, other) in others {
        let shares = |window: &PaRange| other.windows.iter().any(|it| it.overlaps(*window));
        if other.node == device.node || device.windows.iter().any(shares) {
            return Err(DeviceError::Owned { owner });
        }
        let shared = |range: &StreamRange| other.streams.iter().any(|it| it.overlaps(*range));
        if let Some(range) = device.streams.iter().find(|range| shared(range)) {
            let stream = range.first;
            return Err(DeviceError::SharedStream { stream, owner });
        }
        let shared = device.interrupts.iter().find(|interrupt| {
            let intid = interrupt.intid;
            other.interrupts.iter().any(|it| it.intid == intid)
        });
        if let Some(interrupt) = shared {
            let spi = interrupt.intid.get().saturating_sub(32);
            return Err(DeviceError::SharedSpi { spi, owner });
        }
    }
    Ok(())
}
