// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a guest does with its interrupt controller, where that traps.

use super::instance::VcpuRef;
use super::lr_sync::resync_later;
use super::scheduler::kick;
use postern_arch::ich;
use postern_base::mmio::Access;
use postern_guest_tree::layout;
use postern_vgic::{CpuInterface, InterfaceRegister, MmioOutcome, Vgic, Vmcr, Window};

/// The guest ends an interrupt by a trapped write to ICC_DIR_EL1.
pub fn deactivate(running: VcpuRef, value: u64) {
    resync_later(running);
    let vmcr = Vmcr::from_bits(ich::vmcr());
    let set = running.vm.vgic.deactivate(running.vcpu.index, vmcr, value);
    kick(running.vm, set);
}

/// A guest's access to a register of its CPU interface that traps together with ICC_DIR_EL1 ([`Hcr::TC`]): the
/// write of a value, or a read, and its result.
///
/// [`Hcr::TC`]: postern_vgic::Hcr::TC
pub fn interface_access(running: VcpuRef, register: InterfaceRegister, write: Option<u64>) -> u64 {
    // What traps follows from ICC_CTLR_EL1.EOImode.
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

/// What came of an access to the vGIC.
pub enum VgicAccess {
    /// The value read; zero for a write.
    Value(u64),
    /// The guest is to try again.
    Retry,
    /// There is no register.
    Unmapped,
}

/// An access of the running vCPU to its distributor or redistributors.
pub fn vgic_access(running: VcpuRef, device: layout::Device, access: Access) -> VgicAccess {
    if Vgic::needs_sync(&access) {
        resync_later(running);
    }
    let window = match device {
        layout::Device::Distributor => Window::Distributor,
        layout::Device::Redistributors => Window::Redistributors,
        layout::Device::Uart
        | layout::Device::MonitorUart
        | layout::Device::Gpio
        | layout::Device::Rtc => {
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
