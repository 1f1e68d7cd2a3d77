// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest's accesses to its virtio devices that are not ends of links.

use super::device_ram::VmRam;
use super::instance::Vm;
use super::scheduler::kick;
use postern_base::mmio::Access;
use postern_guest_tree::layout;
use postern_virtio::link::Outcome;

/// Performs a guest's access to its virtio devices, at an offset from the first one's registers; `None` where none of
/// these devices is.
#[inline(never)]
pub fn access(vm: &'static Vm, access: Access) -> Option<Outcome> {
    let slot = (access.offset / layout::VIRTIO_BYTES) as usize;
    let access = Access {
        offset: access.offset % layout::VIRTIO_BYTES,
        ..access
    };
    let devices = &vm.devices.virtio;
    let drive = |slot, level| vm.drive_virtio(slot, level);
    let (outcome, set) = devices.access(slot, access, &VmRam::new(&vm.memory), drive)?;
    kick(vm, set);
    Some(outcome)
}

/// Has the devices do what they could not do before. Called about once a second.
pub fn retry(vm: &'static Vm) {
    let drive = |slot, level| vm.drive_virtio(slot, level);
    let set = vm.devices.virtio.retry(&VmRam::new(&vm.memory), drive);
    kick(vm, set);
}
