// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A driver for a virtio-net device on a memory-mapped bus (VIRTIO 1.2, 4.2 and 5.1): split queues, frames of one
//! descriptor each. Its rings are open to programs that damage them. The console (5.3) has queues of the same numbers, and
//! takes the frames as bytes.

use crate::PAGE_SIZE;
use crate::gic;
use crate::machine::machine;
use crate::pages::Pages;
use core::sync::atomic::{Ordering, fence};

/// The descriptors of each queue.
pub const SIZE: u16 = 64;
/// The receive queue.
pub const RECEIVE: usize = 0;
/// The transmit queue.
pub const TRANSMIT: usize = 1;
/// The bytes of the header in front of each frame.
pub const HEADER: usize = 12;

/// The first byte of a frame that the neighbour of `guests/dma` does not answer, and after which it takes no frames for
/// a while.
pub const PAUSE: u8 = 0x20;
/// The bit by which the first byte of its answer differs from that of a frame.
pub const ANSWER: u8 = 0x40;

/// QueueNotify.
pub const QUEUE_NOTIFY: u64 = 0x050;
/// InterruptStatus.
pub const INTERRUPT_STATUS: u64 = 0x060;
/// InterruptACK.
pub const INTERRUPT_ACK: u64 = 0x064;
/// Status.
pub const STATUS: u64 = 0x070;

const DEVICE_ID: u64 = 0x008;
const DRIVER_FEATURES: u64 = 0x020;
const DRIVER_FEATURES_SEL: u64 = 0x024;
const QUEUE_SEL: u64 = 0x030;
const QUEUE_NUM: u64 = 0x038;
const QUEUE_READY: u64 = 0x044;
const QUEUE_AREAS: [u64; 3] = [0x080, 0x090, 0x0a0];
const LINK_STATUS: u64 = 0x106;

const NETWORK: u32 = 1;
const CONSOLE: u32 = 3;
const EVENT_IDX: u32 = 1 << 29;
const NET_FEATURES: u32 = 1 << 5 | 1 << 16;
const WRITE: u16 = 2;
/// The bytes of a buffer's place.
const PLACE: u64 = 2048;
/// Where a sent frame begins in its place: not aligned, as Linux's are.
const SENT_AT: u64 = 2;
/// The offsets of the parts of a queue in its page.
const DRIVER: u64 = 0x800;
const DEVICE: u64 = 0xa00;

/// The indices of a queue: what was made available, and what was taken back.
#[derive(Debug)]
struct Queue {
    available: u16,
    used: u16,
}

/// A network device, with its driver's memory.
#[derive(Debug)]
pub struct Net {
    base: u64,
    intid: u32,
    /// The features of the kind of device.
    features: u32,
    rings: Pages,
    buffers: Pages,
    queues: [Queue; 2],
}

fn load(address: u64) -> u32 {
    // SAFETY: a register of the device that the tree names, mapped as device memory.
    unsafe { core::ptr::read_volatile(address as *const u32) }
}

fn store(address: u64, value: u32) {
    // SAFETY: as in `load`. The device writes to pages that are reached by volatile accesses only.
    unsafe { core::ptr::write_volatile(address as *mut u32, value) };
}

impl Net {
    /// Sets up the first network device of the tree. All descriptors of the receive queue have a buffer.
    pub fn start() -> Option<Self> {
        Self::start_kind(NETWORK, NET_FEATURES)
    }

    /// Does the same with the first console.
    pub fn start_console() -> Option<Self> {
        Self::start_kind(CONSOLE, 0)
    }

    fn start_kind(kind: u32, features: u32) -> Option<Self> {
        let mut devices = machine().virtio.iter();
        let &(base, intid) = devices.find(|(base, _)| load(base + DEVICE_ID) == kind)?;
        let places = 2 * usize::from(SIZE) * PLACE as usize / PAGE_SIZE as usize;
        let mut net = Self {
            base,
            intid,
            features,
            rings: Pages::take(2),
            buffers: Pages::take(places),
            queues: [const {
                Queue {
                    available: 0,
                    used: 0,
                }
            }; 2],
        };
        net.reset();
        // As the tree says.
        gic::set_edge_triggered(intid);
        gic::enable_spi(intid);
        Some(net)
    }

    /// Resets the device and sets it up again, with new rings.
    pub fn reset(&mut self) {
        self.write(STATUS, 0);
        self.rings.fill(0);
        self.queues = [const {
            Queue {
                available: 0,
                used: 0,
            }
        }; 2];
        for status in [1, 3] {
            self.write(STATUS, status);
        }
        for (select, features) in [(0, EVENT_IDX | self.features), (1, 1)] {
            self.write(DRIVER_FEATURES_SEL, select);
            self.write(DRIVER_FEATURES, features);
        }
        self.write(STATUS, 11);
        for queue in [RECEIVE, TRANSMIT] {
            self.write(QUEUE_SEL, queue as u32);
            self.write(QUEUE_NUM, SIZE.into());
            for (register, offset) in QUEUE_AREAS.into_iter().zip([0, DRIVER, DEVICE]) {
                let address = self.rings.page(queue) + offset;
                self.write(register, address as u32);
                self.write(register + 4, (address >> 32) as u32);
            }
            self.write(QUEUE_READY, 1);
        }
        self.write(STATUS, 15);
        for slot in 0..SIZE {
            self.describe(
                RECEIVE,
                slot,
                self.place(RECEIVE, slot),
                PLACE as u32,
                WRITE,
                0,
            );
            self.offer(RECEIVE, slot);
        }
    }

    /// Takes other pages for the rings, and forgets those that were there, which may be gone. The device is to be reset
    /// then.
    pub fn replace_rings(&mut self) {
        core::mem::replace(&mut self.rings, Pages::take(2)).forget();
    }

    /// Reads a register.
    pub fn read(&self, register: u64) -> u32 {
        load(self.base + register)
    }

    /// Writes a register.
    pub fn write(&self, register: u64, value: u32) {
        store(self.base + register, value);
    }

    /// Returns the address of a register.
    pub const fn register(&self, register: u64) -> u64 {
        self.base + register
    }

    /// Returns whether the link is up.
    pub fn is_up(&self) -> bool {
        self.read(LINK_STATUS & !3) >> 16 & 1 != 0
    }

    /// Returns the address of a queue's page: the descriptors, the available ring at [`Net::driver_ring`], the used ring.
    pub fn rings(&self, queue: usize) -> u64 {
        self.rings.page(queue)
    }

    /// Returns the address of a queue's available ring.
    pub fn driver_ring(&self, queue: usize) -> u64 {
        self.rings.page(queue) + DRIVER
    }

    fn place(&self, queue: usize, slot: u16) -> u64 {
        let number = queue as u64 * u64::from(SIZE) + u64::from(slot % SIZE);
        self.buffers.address() + number * PLACE
    }

    /// Stores a number in a ring.
    fn put_u16(&self, address: u64, value: u16) {
        // SAFETY: in the pages of this value; even; volatile.
        unsafe { core::ptr::write_volatile(address as *mut u16, value) };
    }

    fn get_u16(&self, address: u64) -> u16 {
        // SAFETY: as in `put_u16`.
        unsafe { core::ptr::read_volatile(address as *const u16) }
    }

    /// Writes a descriptor.
    pub fn describe(&self, queue: usize, slot: u16, at: u64, bytes: u32, flags: u16, next: u16) {
        let place = self.rings.page(queue) + 16 * u64::from(slot % SIZE);
        let second = u64::from(bytes) | u64::from(flags) << 32 | u64::from(next) << 48;
        for (place, value) in [(place, at), (place + 8, second)] {
            // SAFETY: as in `put_u16`; a multiple of eight.
            unsafe { core::ptr::write_volatile(place as *mut u64, value) };
        }
    }

    /// Makes a chain available. The device is not notified.
    pub fn offer(&mut self, queue: usize, head: u16) {
        let available = self.queues[queue].available;
        let ring = self.driver_ring(queue);
        self.put_u16(ring + 4 + 2 * u64::from(available % SIZE), head);
        self.set_available(queue, available.wrapping_add(1));
    }

    /// Returns the index of the available ring.
    pub const fn available(&self, queue: usize) -> u16 {
        self.queues[queue].available
    }

    /// Sets the index of the available ring.
    pub fn set_available(&mut self, queue: usize, index: u16) {
        fence(Ordering::Release);
        self.put_u16(self.driver_ring(queue) + 2, index);
        self.queues[queue].available = index;
        fence(Ordering::SeqCst);
    }

    /// Puts a frame of `bytes` bytes that begins with `first` into the transmit queue. The device is not notified.
    pub fn send(&mut self, first: u8, bytes: u32) {
        let slot = self.queues[TRANSMIT].available % SIZE;
        let at = self.place(TRANSMIT, slot) + SENT_AT;
        // SAFETY: as in `put_u16`.
        unsafe { core::ptr::write_volatile((at + HEADER as u64) as *mut u8, first) };
        self.describe(TRANSMIT, slot, at, bytes + HEADER as u32, 0, 0);
        self.offer(TRANSMIT, slot);
    }

    /// Notifies the device of a queue.
    pub fn notify(&self, queue: usize) {
        self.write(QUEUE_NOTIFY, queue as u32);
    }

    /// Returns how many chains of a queue the device has used that were not taken.
    pub fn used(&self, queue: usize) -> u16 {
        let index = self.get_u16(self.rings.page(queue) + DEVICE + 2);
        index.wrapping_sub(self.queues[queue].used)
    }

    /// Returns how many frames the device has not sent yet.
    pub fn in_flight(&self) -> u16 {
        let done = self.get_u16(self.rings.page(TRANSMIT) + DEVICE + 2);
        self.queues[TRANSMIT].available.wrapping_sub(done)
    }

    /// Returns whether there is a descriptor for another frame to send.
    pub fn has_room(&self) -> bool {
        self.in_flight() < SIZE
    }

    /// Has its interrupts reach this program, or not: then the program asks for what has arrived, and may sleep in
    /// between ([`crate::timer::sleep`]).
    pub fn set_interrupt(&self, on: bool) {
        if on {
            gic::enable_spi(self.intid);
        } else {
            gic::disable_spi(self.intid);
        }
    }

    /// Takes a received frame and gives its buffer back. Returns its first byte and its length; `None` where there is
    /// none.
    pub fn receive(&mut self) -> Option<(u8, u32)> {
        if self.used(RECEIVE) == 0 {
            return None;
        }
        fence(Ordering::Acquire);
        let used = self.queues[RECEIVE].used;
        let entry = self.rings.page(RECEIVE) + DEVICE + 4 + 8 * u64::from(used % SIZE);
        let head = self.get_u16(entry);
        let bytes = u32::from(self.get_u16(entry + 4));
        let at = self.place(RECEIVE, head) + HEADER as u64;
        // SAFETY: as in `put_u16`.
        let first = unsafe { core::ptr::read_volatile(at as *const u8) };
        self.queues[RECEIVE].used = used.wrapping_add(1);
        self.offer(RECEIVE, head);
        Some((first, bytes.saturating_sub(HEADER as u32)))
    }

    /// Takes back all sent frames. The device interrupts for none of the next.
    pub fn reclaim(&mut self) {
        let used = self.queues[TRANSMIT].used.wrapping_add(self.used(TRANSMIT));
        self.queues[TRANSMIT].used = used;
        self.put_u16(
            self.driver_ring(TRANSMIT) + 4 + 2 * u64::from(SIZE),
            used.wrapping_sub(1),
        );
    }

    /// Asks for an interrupt at the next received frame.
    pub fn want_interrupt(&self) {
        self.put_u16(
            self.driver_ring(RECEIVE) + 4 + 2 * u64::from(SIZE),
            self.queues[RECEIVE].used,
        );
        fence(Ordering::SeqCst);
    }

    /// Acknowledges the device's interrupts, and takes them from the interrupt controller.
    pub fn acknowledge(&self) {
        let pending = self.read(INTERRUPT_STATUS);
        self.write(INTERRUPT_ACK, pending);
        // Twice at most: if the device has more to say by now, its line is high until the next acknowledgement.
        for _ in 0..2 {
            let Some(intid) = gic::take() else {
                break;
            };
            gic::end(intid);
            if intid != self.intid {
                break;
            }
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // From here on the device touches no memory, and raises no interrupt.
        self.write(STATUS, 0);
        gic::disable_spi(self.intid);
    }
}
