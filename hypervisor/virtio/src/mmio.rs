// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The registers of a virtio device on a memory-mapped bus, version 2 (VIRTIO 1.2, 4.2.2), and the state that all devices
//! have: status, features, queues and interrupt.
//!
//! A [`Transport`] knows no memory. An access returns an [`Event`] where the device has something to do.

use crate::queue::{Areas, MAX_SIZE, Queue, RingError};
use postern_base::mmio::{Access, AccessSize};

/// The bytes of a device's registers, its configuration included.
pub const WINDOW_BYTES: u64 = 0x200;

/// VIRTIO_F_EVENT_IDX (6).
pub const EVENT_IDX: u64 = 1 << 29;
/// VIRTIO_F_VERSION_1 (6).
pub const VERSION_1: u64 = 1 << 32;
/// The features that the transport and the queues have.
const COMMON: u64 = EVENT_IDX | VERSION_1;

/// "virt", little-endian.
const MAGIC: u32 = 0x7472_6976;
const VERSION: u32 = 2;
/// Of Postern: "POST", little-endian. Drivers ignore it.
const VENDOR: u32 = 0x5453_4f50;

const MAGIC_VALUE: u64 = 0x000;
const VERSION_REGISTER: u64 = 0x004;
const DEVICE_ID: u64 = 0x008;
const VENDOR_ID: u64 = 0x00c;
const DEVICE_FEATURES: u64 = 0x010;
const DEVICE_FEATURES_SEL: u64 = 0x014;
const DRIVER_FEATURES: u64 = 0x020;
const DRIVER_FEATURES_SEL: u64 = 0x024;
const QUEUE_SEL: u64 = 0x030;
const QUEUE_NUM_MAX: u64 = 0x034;
const QUEUE_NUM: u64 = 0x038;
const QUEUE_READY: u64 = 0x044;
const QUEUE_NOTIFY: u64 = 0x050;
const INTERRUPT_STATUS: u64 = 0x060;
const INTERRUPT_ACK: u64 = 0x064;
const STATUS: u64 = 0x070;
const QUEUE_DESC_LOW: u64 = 0x080;
const QUEUE_DESC_HIGH: u64 = 0x084;
const QUEUE_DRIVER_LOW: u64 = 0x090;
const QUEUE_DRIVER_HIGH: u64 = 0x094;
const QUEUE_DEVICE_LOW: u64 = 0x0a0;
const QUEUE_DEVICE_HIGH: u64 = 0x0a4;
const SHM_FIRST: u64 = 0x0b0;
const SHM_LAST: u64 = 0x0bc;
const CONFIG_GENERATION: u64 = 0x0fc;
const CONFIG: u64 = 0x100;

bitflags::bitflags! {
    /// The device status field (2.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Status: u8 {
        /// The driver has noticed the device.
        const ACKNOWLEDGE = 1;
        /// The driver knows how to drive it.
        const DRIVER = 2;
        /// The driver is set up.
        const DRIVER_OK = 4;
        /// Both agree on the features.
        const FEATURES_OK = 8;
        /// The device is broken until it is reset.
        const NEEDS_RESET = 64;
        /// The driver has given up.
        const FAILED = 128;
    }

    /// The reasons for an interrupt (InterruptStatus, 4.2.2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Interrupt: u8 {
        /// The device has used a buffer.
        const USED = 1;
        /// The configuration or the status has changed.
        const CONFIG = 2;
    }
}

/// What is particular to a kind of device.
pub trait Device {
    /// Returns the device's type (5).
    fn id(&self) -> u32;

    /// Returns the features of this kind of device.
    fn features(&self) -> u64;

    /// Returns the configuration. A driver reads zeroes behind it.
    fn config(&self) -> &[u8];

    /// Writes to the configuration at `offset`, one, two or four bytes.
    fn write_config(&mut self, _offset: usize, _bytes: &[u8]) {}
}

/// What a device has to do after an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing.
    None,
    /// The driver has made chains available in this queue, one of the device's, while the device is
    /// [live](Transport::is_live).
    Notified(usize),
    /// The device has become [live](Transport::is_live), or is so no longer.
    Changed,
}

/// The state that all devices have.
#[derive(Clone, Debug)]
pub struct Transport<const QUEUES: usize> {
    status: Status,
    interrupt: Interrupt,
    /// Whether the driver has acknowledged some reasons for an interrupt and not all.
    is_partly_acknowledged: bool,
    device_features_sel: u32,
    driver_features_sel: u32,
    driver_features: u64,
    queue_sel: u32,
    setups: [Setup; QUEUES],
    queues: [Queue; QUEUES],
    generation: u32,
}

/// What the driver has written about a queue that is not ready yet.
#[derive(Clone, Copy, Debug, Default)]
struct Setup {
    size: u16,
    areas: Areas,
}

impl<const QUEUES: usize> Transport<QUEUES> {
    /// Returns the state after a reset.
    pub const fn new() -> Self {
        const SETUP: Setup = Setup {
            size: 0,
            areas: Areas {
                descriptors: 0,
                driver: 0,
                device: 0,
            },
        };
        Self {
            status: Status::empty(),
            interrupt: Interrupt::empty(),
            is_partly_acknowledged: false,
            device_features_sel: 0,
            driver_features_sel: 0,
            driver_features: 0,
            queue_sel: 0,
            setups: [SETUP; QUEUES],
            queues: [const { Queue::new() }; QUEUES],
            generation: 0,
        }
    }

    /// Resets the device, as the driver does. The configuration's generation goes on.
    pub fn reset(&mut self) {
        *self = Self {
            generation: self.generation,
            ..Self::new()
        };
    }

    /// Returns whether the driver is set up and the device works.
    #[inline]
    pub fn is_live(&self) -> bool {
        let unfit = Status::NEEDS_RESET.union(Status::FAILED);
        self.status.contains(Status::DRIVER_OK) && !self.status.intersects(unfit)
    }

    /// Returns the status.
    pub const fn status(&self) -> Status {
        self.status
    }

    /// Returns the features that both have agreed on; none before that.
    pub const fn negotiated(&self) -> u64 {
        if self.status.contains(Status::FEATURES_OK) {
            self.driver_features
        } else {
            0
        }
    }

    /// Returns the queues.
    #[inline]
    pub const fn queues(&mut self) -> &mut [Queue; QUEUES] {
        &mut self.queues
    }

    /// Returns the level of the interrupt line.
    #[inline]
    pub const fn irq_line(&self) -> bool {
        !self.interrupt.is_empty()
    }

    /// Returns whether the driver has acknowledged some reasons for an interrupt since the last call, and not all: then it
    /// is to be interrupted again, since the interrupt may be edge-triggered.
    #[inline]
    pub const fn take_partly_acknowledged(&mut self) -> bool {
        core::mem::replace(&mut self.is_partly_acknowledged, false)
    }

    /// Interrupts the driver: the device has used buffers.
    #[inline]
    pub fn interrupt_used(&mut self) {
        self.interrupt |= Interrupt::USED;
    }

    /// Notes that the configuration has changed, and interrupts the driver if it is set up (2.3).
    pub fn config_changed(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        if self.status.contains(Status::DRIVER_OK) {
            self.interrupt |= Interrupt::CONFIG;
        }
    }

    /// Stops the device until the driver resets it, and says so (2.1.2).
    pub fn break_down(&mut self, _why: RingError) {
        if !self.status.contains(Status::NEEDS_RESET) {
            self.status |= Status::NEEDS_RESET;
            if self.status.contains(Status::DRIVER_OK) {
                self.interrupt |= Interrupt::CONFIG;
            }
        }
    }

    /// Does a driver's access, which is aligned. Returns the value read, or zero for a write, and what the device has to
    /// do. Registers have 32 bits, and accesses of other widths do not reach them (4.2.2.2); the configuration has any.
    #[inline]
    pub fn access<D: Device>(&mut self, device: &mut D, access: Access) -> (u64, Event) {
        // What drivers do all the time.
        if access.size == AccessSize::Word {
            match (access.offset, access.write) {
                (INTERRUPT_STATUS, None) => return (self.interrupt.bits().into(), Event::None),
                (QUEUE_NOTIFY, Some(queue)) => return (0, self.notified(queue as u32)),
                (INTERRUPT_ACK, Some(value)) => {
                    self.acknowledge(value as u8);
                    return (0, Event::None);
                }
                _ => {}
            }
        }
        self.access_rare(device, access)
    }

    /// Does the other accesses.
    #[cold]
    #[inline(never)]
    fn access_rare<D: Device>(&mut self, device: &mut D, access: Access) -> (u64, Event) {
        let Some(offset) = access.offset.checked_sub(CONFIG) else {
            if access.size != AccessSize::Word {
                return (0, Event::None);
            }
            return match access.write {
                None => (self.read(device, access.offset).into(), Event::None),
                Some(value) => (0, self.write(device, access.offset, value as u32)),
            };
        };
        let offset = offset.min(WINDOW_BYTES) as usize;
        let bytes = access.size.bytes() as usize;
        match access.write {
            None => (read_config(device.config(), offset, bytes), Event::None),
            Some(value) => {
                if let Some(bytes) = value.to_le_bytes().get(..bytes) {
                    device.write_config(offset, bytes);
                }
                (0, Event::None)
            }
        }
    }

    fn notified(&self, queue: u32) -> Event {
        let queue = queue as usize;
        if queue < QUEUES && self.is_live() {
            Event::Notified(queue)
        } else {
            Event::None
        }
    }

    fn acknowledge(&mut self, value: u8) {
        let acknowledged = self.interrupt & Interrupt::from_bits_truncate(value);
        self.interrupt.remove(acknowledged);
        self.is_partly_acknowledged = !acknowledged.is_empty() && !self.interrupt.is_empty();
    }

    fn read<D: Device>(&self, device: &D, register: u64) -> u32 {
        match register {
            MAGIC_VALUE => MAGIC,
            VERSION_REGISTER => VERSION,
            DEVICE_ID => device.id(),
            VENDOR_ID => VENDOR,
            DEVICE_FEATURES => word(COMMON | device.features(), self.device_features_sel),
            QUEUE_NUM_MAX if self.selected() < QUEUES => MAX_SIZE.into(),
            QUEUE_READY => self
                .queues
                .get(self.selected())
                .is_some_and(Queue::is_ready)
                .into(),
            STATUS => self.status.bits().into(),
            // No shared memory region: its length and its base are all ones.
            SHM_FIRST..=SHM_LAST => u32::MAX,
            CONFIG_GENERATION => self.generation,
            _ => 0,
        }
    }

    fn write<D: Device>(&mut self, device: &D, register: u64, value: u32) -> Event {
        match register {
            STATUS => return self.write_status(device, value as u8),
            DEVICE_FEATURES_SEL => self.device_features_sel = value,
            DRIVER_FEATURES_SEL => self.driver_features_sel = value,
            DRIVER_FEATURES if !self.status.contains(Status::FEATURES_OK) => {
                if let shift @ (0 | 32) = self.driver_features_sel.saturating_mul(32) {
                    self.driver_features &= !(u64::from(u32::MAX) << shift);
                    self.driver_features |= u64::from(value) << shift;
                }
            }
            QUEUE_SEL => self.queue_sel = value,
            QUEUE_READY => return self.write_ready(value),
            QUEUE_NUM..=QUEUE_DEVICE_HIGH => self.write_setup(register, value),
            _ => {}
        }
        Event::None
    }

    /// Returns the number of the selected queue, which the device need not have.
    const fn selected(&self) -> usize {
        self.queue_sel as usize
    }

    /// A driver only adds bits, or resets the device with zero (2.1.1).
    fn write_status<D: Device>(&mut self, device: &D, value: u8) -> Event {
        let was_live = self.is_live();
        let mut wanted = Status::from_bits_truncate(value);
        wanted.remove(Status::NEEDS_RESET);
        if value == 0 {
            self.reset();
        } else {
            let offered = COMMON | device.features();
            let is_subset = self.driver_features & !offered == 0;
            let is_modern = self.driver_features & VERSION_1 != 0;
            if !is_subset || !is_modern {
                wanted.remove(Status::FEATURES_OK);
            }
            self.status |= wanted & !Status::DRIVER_OK;
            // The driver has read FEATURES_OK back before (3.1.1).
            if self.status.contains(Status::FEATURES_OK) {
                self.status |= wanted & Status::DRIVER_OK;
            }
        }
        if self.is_live() == was_live {
            Event::None
        } else {
            Event::Changed
        }
    }

    fn write_ready(&mut self, value: u32) -> Event {
        let index = self.selected();
        let has_event_idx = self.negotiated() & EVENT_IDX != 0;
        let is_agreed = self.status.contains(Status::FEATURES_OK);
        let (Some(queue), Some(setup)) = (self.queues.get_mut(index), self.setups.get(index))
        else {
            return Event::None;
        };
        if value & 1 == 0 {
            *queue = Queue::new();
        } else if is_agreed && !queue.is_ready() {
            let was_live = self.is_live();
            let queue = &mut self.queues[index];
            if let Err(error) = queue.start(self.setups[index].areas, setup.size, has_event_idx) {
                self.break_down(error);
            }
            if self.is_live() != was_live {
                return Event::Changed;
            }
        }
        Event::None
    }

    fn write_setup(&mut self, register: u64, value: u32) {
        let index = self.selected();
        let (Some(queue), Some(setup)) = (self.queues.get(index), self.setups.get_mut(index))
        else {
            return;
        };
        // A queue that is ready keeps what it has (4.2.2.2).
        if queue.is_ready() {
            return;
        }
        let areas = &mut setup.areas;
        match register {
            QUEUE_NUM => setup.size = u16::try_from(value).unwrap_or(0),
            QUEUE_DESC_LOW => set_low(&mut areas.descriptors, value),
            QUEUE_DESC_HIGH => set_high(&mut areas.descriptors, value),
            QUEUE_DRIVER_LOW => set_low(&mut areas.driver, value),
            QUEUE_DRIVER_HIGH => set_high(&mut areas.driver, value),
            QUEUE_DEVICE_LOW => set_low(&mut areas.device, value),
            QUEUE_DEVICE_HIGH => set_high(&mut areas.device, value),
            _ => {}
        }
    }
}

/// Returns a word of the features.
const fn word(features: u64, select: u32) -> u32 {
    match select {
        0 => features as u32,
        1 => (features >> 32) as u32,
        _ => 0,
    }
}

fn set_low(address: &mut u64, value: u32) {
    *address = *address & !u64::from(u32::MAX) | u64::from(value);
}

fn set_high(address: &mut u64, value: u32) {
    *address = *address & u64::from(u32::MAX) | u64::from(value) << 32;
}

/// Returns the bytes at `offset`, at most eight.
fn read_config(config: &[u8], offset: usize, bytes: usize) -> u64 {
    let mut value = [0; 8];
    let there = config.get(offset..).unwrap_or_default();
    for (to, from) in value.iter_mut().zip(there).take(bytes) {
        *to = *from;
    }
    u64::from_le_bytes(value)
}
