// SPDX-License-Identifier: Apache-2.0 OR MIT
//! All virtual machines.

use super::instance::{VcpuRef, Vm};
use alloc::vec::Vec;
use postern_base::ids::VcpuId;
use spin::Once;

static VMS: Once<Vec<Vm>> = Once::new();

/// Registers the VMs of the machine, once.
pub fn init(vms: Vec<Vm>) -> &'static [Vm] {
    VMS.call_once(|| vms)
}

/// Returns all VMs; an empty list before [`init`].
pub fn all() -> &'static [Vm] {
    VMS.get().map_or(&[], Vec::as_slice)
}

/// Returns a vCPU by its number.
#[inline]
pub fn by_id(id: VcpuId) -> VcpuRef {
    let vm = &all()[id.vm.get()];
    VcpuRef {
        vm,
        vcpu: &vm.vcpus[id.vcpu.get()],
    }
}

/// Returns whether some VM waits to be started or torn down.
pub fn has_work() -> bool {
    all().iter().any(Vm::has_work)
}
