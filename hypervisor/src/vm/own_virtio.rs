// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The state of the virtio devices that are one VM's alone. They follow the ends of links in the VM's slots.

use core::sync::atomic::{AtomicBool, Ordering};
use mediator::addr::Pa;
use postern_arch::{entropy, guest_ram};
use postern_base::lock::{Class, Guard, Lock};
use postern_base::mmio::Access;
use postern_base::range::PaRange;
use postern_vgic::VcpuSet;
use postern_virtio::blk::{Blk, SECTOR_BYTES, Sectors};
use postern_virtio::link::Outcome;
use postern_virtio::mmio::Device;
use postern_virtio::queue::{Chain, ChainError};
use postern_virtio::ram::GuestRam;
use postern_virtio::requests::{RequestDevice, Requests};
use postern_virtio::rng::{Entropy, Rng};

/// A VM's devices, in the order of their slots.
pub struct OwnVirtio {
    /// The slot of the first.
    first: usize,
    devices: heapless::Vec<OwnDevice, 2>,
}

/// A device.
struct OwnDevice {
    state: Lock<RequestDevice<Kind>>,
    /// Whether requests wait, so that they are to be served in time. Written with the lock held.
    is_waiting: AtomicBool,
}

/// What it is. One type for all, so that their common code is there once.
enum Kind {
    /// An entropy device.
    Rng(Rng<MachineEntropy>),
    /// A disk.
    Disk(Blk<Module>),
}

impl OwnVirtio {
    /// Returns the devices that a VM is to have, behind `links` other virtio devices: an entropy device, if the machine
    /// has true random numbers, and a disk with the content of a module.
    pub fn new(links: usize, rng: bool, disk: Option<PaRange>) -> Self {
        let rng = (rng && entropy::is_available()).then(|| Kind::Rng(Rng::new(MachineEntropy)));
        let disk = disk.map(|range| {
            let sectors = range.bytes() / SECTOR_BYTES as u64;
            Kind::Disk(Blk::new(Module(range), sectors))
        });
        let devices = rng.into_iter().chain(disk).map(|kind| OwnDevice {
            state: Lock::new(Class::Virtio, RequestDevice::new(kind)),
            is_waiting: AtomicBool::new(false),
        });
        Self {
            first: links,
            devices: devices.collect(),
        }
    }

    /// Returns the number of the VM's virtio devices, ends of links included.
    pub fn end(&self) -> usize {
        self.first + self.devices.len()
    }

    /// Performs a guest's access to the device in a slot; `None` where none of these is. `drive` drives the interrupt of
    /// a slot; the caller kicks the vCPUs that it returned.
    pub fn access(
        &self,
        slot: usize,
        access: Access,
        ram: &impl GuestRam,
        drive: impl Fn(usize, bool) -> VcpuSet,
    ) -> Option<(Outcome, VcpuSet)> {
        let device = self.devices.get(slot.checked_sub(self.first)?)?;
        let mut state = device.state.lock();
        let outcome = state.access(access, ram);
        Some((outcome, device.finish(state, slot, drive)))
    }

    /// Has the devices serve what waits, such as for random numbers. Called about once a second.
    pub fn retry(&self, ram: &impl GuestRam, drive: impl Fn(usize, bool) -> VcpuSet) -> VcpuSet {
        let mut kicks = VcpuSet::EMPTY;
        for (slot, device) in (self.first..).zip(&self.devices) {
            if !device.is_waiting.load(Ordering::Relaxed) {
                continue;
            }
            // Where another pCPU is at it, it does no less.
            let Some(mut state) = device.state.try_lock() else {
                continue;
            };
            state.retry(ram);
            kicks = kicks.union(device.finish(state, slot, &drive));
        }
        kicks
    }

    /// Resets the devices, as the VM has ended.
    pub fn reset(&self) {
        for device in &self.devices {
            device.state.lock().reset();
        }
    }
}

impl OwnDevice {
    /// Drives the interrupt line if it has changed, and drops the lock: so levels reach the vGIC in order.
    fn finish(
        &self,
        mut state: Guard<'_, RequestDevice<Kind>>,
        slot: usize,
        drive: impl Fn(usize, bool) -> VcpuSet,
    ) -> VcpuSet {
        self.is_waiting.store(state.is_waiting(), Ordering::Relaxed);
        if state.is_raised_again() {
            return drive(slot, false).union(drive(slot, true));
        }
        match state.changed_line() {
            Some(level) => drive(slot, level),
            None => VcpuSet::EMPTY,
        }
    }
}

impl Device for Kind {
    fn id(&self) -> u32 {
        match self {
            Self::Rng(rng) => rng.id(),
            Self::Disk(disk) => disk.id(),
        }
    }

    fn features(&self) -> u64 {
        match self {
            Self::Rng(rng) => rng.features(),
            Self::Disk(disk) => disk.features(),
        }
    }

    fn config(&self) -> &[u8] {
        match self {
            Self::Rng(rng) => rng.config(),
            Self::Disk(disk) => disk.config(),
        }
    }
}

impl Requests for Kind {
    fn is_ready(&mut self) -> bool {
        match self {
            Self::Rng(rng) => rng.is_ready(),
            Self::Disk(disk) => disk.is_ready(),
        }
    }

    fn serve<R: GuestRam>(&mut self, chain: &mut Chain, ram: &R) -> Result<(), ChainError> {
        match self {
            Self::Rng(rng) => rng.serve(chain, ram),
            Self::Disk(disk) => disk.serve(chain, ram),
        }
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
