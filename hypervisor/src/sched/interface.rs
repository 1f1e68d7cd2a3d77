// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a guest does with its interrupt controller, where that traps.

use super::run::{kick, refill_later};
use crate::arch::ich;
use crate::vm::{Running, layout};
use postern_base::mmio::Access;
use postern_vgic::{CpuInterface, InterfaceRegister, Vgic, Vmcr};

/// The guest ends an interrupt by a trapped write to ICC_DIR_EL1.
pub fn deactivate(running: Running, value: u64) {
    refill_later(running);
    let vmcr = Vmcr::from_bits(ich::vmcr());
    let set = running.vm.vgic.deactivate(running.vcpu.index, vmcr, value);
    kick(running.vm, set);
}

/// A guest's access to a register of its CPU interface that traps together with ICC_DIR_EL1 ([`Hcr::TC`]): the
/// write of a value, or a read, and its result.
///
/// [`Hcr::TC`]: postern_vgic::Hcr::TC
pub fn interface_access(running: Running, register: InterfaceRegister, write: Option<u64>) -> u64 {
    // What traps follows from ICC_CTLR_EL1.EOImode.
    refill_later(running);
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
pub enum VgicAnswer {
    /// The value read; zero for a write.
    Value(u64),
    /// The guest is to try again.
    Again,
    /// There is no register.
    Nothing,
}

/// An access of the running vCPU to its distributor or redistributors.
pub fn vgic_access(running: Running, device: layout::Device, access: Access) -> VgicAnswer {
    if Vgic::wants_sync(&access) {
        refill_later(running);
    }
    running.vm.vgic_access(running.vcpu, device, &access)
}
