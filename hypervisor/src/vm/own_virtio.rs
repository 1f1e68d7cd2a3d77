// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The state of the virtio devices that are one VM's alone. They follow the ends of links in the VM's slots.

use mediator::addr::Pa;
use postern_arch::{entropy, guest_ram};
use postern_base::lock::{Class, Lock};
use postern_base::mmio::Access;
use postern_base::range::PaRange;
use postern_vgic::VcpuSet;
use postern_virtio::blk::{Blk, SECTOR_BYTES, Sectors};
use postern_virtio::link::Outcome;
use postern_virtio::ram::GuestRam;
use postern_virtio::requests::{RequestDevice, Requests};
use postern_virtio::rng::{Entropy, Rng};

/// A VM's devices, in the order of their slots.
pub struct OwnVirtio {
    rng: Option<OwnDevice<Rng>>,
    disk: Option<(OwnDevice<Blk>, Module)>,
    /// The first slot behind the last device.
    end: usize,
}

/// A device and its slot.
struct OwnDevice<D> {
    slot: usize,
    state: Lock<RequestDevice<D>>,
}

impl OwnVirtio {
    /// Returns the devices that a VM is to have, behind `links` other virtio devices: an entropy device, if the machine
    /// has true random numbers, and a disk with the content of a module.
    pub fn new(links: usize, rng: bool, disk: Option<PaRange>) -> Self {
        let mut end = links;
        let mut next = || {
            end += 1;
            end - 1
        };
        let rng = (rng && entropy::is_available()).then(|| OwnDevice::new(next(), Rng::new()));
        let disk = disk.map(|range| {
            let sectors = range.bytes() / SECTOR_BYTES as u64;
            (OwnDevice::new(next(), Blk::new(sectors)), Module(range))
        });
        Self { rng, disk, end }
    }

    /// Returns the number of the VM's virtio devices, ends of links included.
    pub const fn end(&self) -> usize {
        self.end
    }

    /// Performs a guest's access to the device in a slot; `None` where none of these is. `drive` drives the interrupt of
    /// a slot; the caller kicks the vCPUs that it returned.
    pub fn access(
        &self,
        slot: usize,
        access: Access,
        ram: &impl GuestRam,
        drive: impl FnOnce(usize, bool) -> VcpuSet,
    ) -> Option<(Outcome, Option<VcpuSet>)> {
        match (&self.rng, &self.disk) {
            (Some(rng), _) if rng.slot == slot => Some(rng.with(drive, |device| {
                device.access(access, ram, &mut MachineEntropy)
            })),
            (_, Some((disk, module))) if disk.slot == slot => Some(disk.with(drive, |device| {
                device.access(access, ram, &mut Module(module.0))
            })),
            _ => None,
        }
    }

    /// Serves what waits for random numbers. Called about once a second.
    pub fn retry(
        &self,
        ram: &impl GuestRam,
        drive: impl FnOnce(usize, bool) -> VcpuSet,
    ) -> Option<VcpuSet> {
        let rng = self.rng.as_ref()?;
        let ((), kick) = rng.with(drive, |device| device.retry(ram, &mut MachineEntropy));
        kick
    }

    /// Resets the devices, as the VM has ended.
    pub fn reset(&self) {
        if let Some(rng) = &self.rng {
            rng.state.lock().reset();
        }
        if let Some((disk, _)) = &self.disk {
            disk.state.lock().reset();
        }
    }
}

impl<D: Requests> OwnDevice<D> {
    fn new(slot: usize, device: D) -> Self {
        Self {
            slot,
            state: Lock::new(Class::Virtio, RequestDevice::new(device)),
        }
    }

    fn with<T>(
        &self,
        drive: impl FnOnce(usize, bool) -> VcpuSet,
        act: impl FnOnce(&mut RequestDevice<D>) -> T,
    ) -> (T, Option<VcpuSet>) {
        let mut state = self.state.lock();
        let result = act(&mut state);
        // Under the device's lock, so that levels reach the vGIC in order.
        let kick = state.changed_line().map(|level| drive(self.slot, level));
        (result, kick)
    }
}

/// The machine's source of true random numbers.
struct MachineEntropy;

impl Entropy for MachineEntropy {
    fn bits(&mut self) -> Option<[u64; 3]> {
        entropy::bits()
    }
}

/// A file that the boot loader put into RAM, which nobody writes to.
struct Module(PaRange);

impl Sectors for Module {
    fn read(&self, offset: u64, into: &mut [u8; SECTOR_BYTES]) {
        guest_ram::read(Pa::new(self.0.start().get() + offset), into);
    }
}
