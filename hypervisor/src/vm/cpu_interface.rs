// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The trapped accesses of a guest to its GIC: CPU interface, distributor and redistributors.

use super::instance::VcpuRef;
use super::lr_sync::resync_later;
use super::scheduler::kick;
use postern_arch::{ich, virtual_interface};
use postern_base::mmio::{Access, AccessSize};
use postern_guest_tree::layout;
use postern_vgic::{CpuInterface, InterfaceRegister, MmioOutcome, Vgic, Vmcr, Window};

/// Deactivates an interrupt for the guest's trapped write to ICC_DIR_EL1 or GICC_DIR.
pub fn deactivate(running: VcpuRef, value: u64) {
    resync_later(running);
    let vmcr = Vmcr::from_bits(virtual_interface::this().vmcr());
    let set = running.vm.vgic.deactivate(running.vcpu.index, vmcr, value);
    kick(running.vm, set);
}

/// Performs a guest's access to the second page of a GICv2's CPU interface, the only one that traps: GICC_DIR is the only
/// register there (IHI 0048B.b 4.1.3), and the rest reads zero and ignores writes. Returns the value read; zero for a
/// write.
pub fn second_page_access(running: VcpuRef, access: Access) -> u64 {
    const GICC_DIR: u64 = 0;
    if access.offset == GICC_DIR
        && access.size == AccessSize::Word
        && let Some(value) = access.write
    {
        deactivate(running, value);
    }
    0
}

/// Performs a guest's access to a register of its CPU interface that traps together with
/// ICC_DIR_EL1 ([`Hcr::TC`]): writes a value, or reads one. Returns the value read; zero for a
/// write.
///
/// [`Hcr::TC`]: postern_vgic::Hcr::TC
pub fn interface_access(running: VcpuRef, register: InterfaceRegister, write: Option<u64>) -> u64 {
    // ICC_CTLR_EL1.EOImode, which a write may change, decides which accesses trap.
    resync_later(running);
    let mut interface = CpuInterface {
        vmcr: Vmcr::from_bits(ich::vmcr()),
        vtr: ich::vtr(),
        active: ich::active_priorities(),
    };
    let value = interface.access(register, write);
    if write.is_some() {
        ich::set_vmcr(interface.vmcr.bits());
    }
    value
}

/// The result of an access to the vGIC.
pub enum VgicAccess {
    /// The value read; zero for a write.
    Value(u64),
    /// The guest must repeat the access.
    Retry,
    /// No register has this address.
    Unmapped,
}

/// Performs the running vCPU's access to its distributor or redistributors.
pub fn vgic_access(running: VcpuRef, device: layout::Device, access: Access) -> VgicAccess {
    if Vgic::needs_sync(&access) {
        resync_later(running);
    }
    let window = match device {
        layout::Device::Distributor => Window::Distributor,
        layout::Device::Redistributors => Window::Redistributors,
        layout::Device::CpuInterface
        | layout::Device::Uart
        | layout::Device::MonitorUart
        | layout::Device::Gpio
        | layout::Device::Rtc
        | layout::Device::Virtio
        | layout::Device::WatchdogControl
        | layout::Device::WatchdogRefresh => {
            return VgicAccess::Unmapped;
        }
    };
    let vm = running.vm;
    match vm.vgic.access(running.vcpu.index, window, &access) {
        MmioOutcome::Done { value, kick: set } => {
            kick(vm, set);
            VgicAccess::Value(value)
        }
        MmioOutcome::Retry { sync } => {
            kick(vm, sync);
            VgicAccess::Retry
        }
    }
}
