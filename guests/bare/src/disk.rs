// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A driver for a virtio-blk device on the PCI bus (VIRTIO 1.2, 4.1 and 5.2) that keeps several reads in flight.

use crate::PAGE_SIZE;
use crate::pages::Pages;
use crate::pci::Function;
use crate::probe::{Width, load_device, store_device};
use core::sync::atomic::{Ordering, fence};

/// Vendor and device.
const IDENTITY: u64 = 0x1042_1af4;
/// The ID of capabilities that a vendor defines, and the kinds of those of virtio.
const VENDOR: u64 = 0x09;
const COMMON: u64 = 1;
const NOTIFY: u64 = 2;
const ISR: u64 = 3;
/// The offsets in such a capability.
const KIND: u64 = 3;
const BAR: u64 = 4;
const OFFSET: u64 = 8;
const MULTIPLIER: u64 = 16;
/// The offsets of common registers.
const FEATURES_SEL: u64 = 0x08;
const FEATURES: u64 = 0x0c;
const STATUS: u64 = 0x14;
const QUEUE_SELECT: u64 = 0x16;
const QUEUE_SIZE: u64 = 0x18;
const QUEUE_ENABLE: u64 = 0x1c;
const QUEUE_NOTIFY_OFF: u64 = 0x1e;
const QUEUE_AREAS: [u64; 3] = [0x20, 0x28, 0x30];
/// VERSION_1 and ACCESS_PLATFORM, of the features' second word.
const PLATFORM: u64 = 0b11;

/// The requests that can be in flight.
pub const REQUESTS: u16 = 16;
/// The descriptors of the queue: three of each request are used.
const SIZE: u16 = 64;
const NEXT: u64 = 1;
const WRITE: u64 = 2;
/// The offsets in the page of the rings.
const DRIVER: usize = 0x800;
const DEVICE: usize = 0xa00;
/// The offsets in the page of headers and results.
const HEADER_BYTES: u64 = 16;
const RESULTS: u64 = 0x800;

/// A disk.
#[derive(Debug)]
pub struct Disk {
    common: u64,
    isr: u64,
    notify: u64,
    intid: u32,
    /// A page of rings, and one of headers and results.
    pages: Pages,
    available: u16,
    used: u16,
}

impl Disk {
    /// Finds the disk on the root bus and sets it up.
    pub fn find() -> Option<Self> {
        let function = Function::find(IDENTITY)?;
        let capability = |kind| {
            let mut all = function.capabilities(VENDOR);
            all.find(|at| function.read(at + KIND, Width::Byte) == kind)
        };
        let common = capability(COMMON)?;
        let bar = function.read(common + BAR, Width::Byte);
        let base = function.place(bar);
        let part = |at: u64| base + function.read(at + OFFSET, Width::Word);
        let notify = capability(NOTIFY)?;
        let (common, isr) = (part(common), part(capability(ISR)?));
        function.enable();
        let write = |register, width, value| store_device(common + register, width, value).ok();
        for status in [0, 1, 3] {
            write(STATUS, Width::Byte, status)?;
        }
        for (select, features) in [(0, 0), (1, PLATFORM)] {
            write(FEATURES_SEL, Width::Word, select)?;
            write(FEATURES, Width::Word, features)?;
        }
        write(STATUS, Width::Byte, 11)?;
        let pages = Pages::take(2);
        write(QUEUE_SELECT, Width::Half, 0)?;
        write(QUEUE_SIZE, Width::Half, SIZE.into())?;
        for (register, offset) in QUEUE_AREAS.into_iter().zip([0, DRIVER, DEVICE]) {
            let address = pages.page(0) + offset as u64;
            write(register, Width::Word, address & 0xffff_ffff)?;
            write(register + 4, Width::Word, address >> 32)?;
        }
        write(QUEUE_ENABLE, Width::Half, 1)?;
        write(STATUS, Width::Byte, 15)?;
        let queue = load_device(common + QUEUE_NOTIFY_OFF, Width::Half).ok()?;
        let multiplier = function.read(notify + MULTIPLIER, Width::Word);
        Some(Self {
            common,
            isr,
            notify: part(notify) + queue * multiplier,
            intid: function.intid()?,
            pages,
            available: 0,
            used: 0,
        })
    }

    /// Returns the INTID of its interrupt, which is level-sensitive.
    pub const fn intid(&self) -> u32 {
        self.intid
    }

    /// Begins to read `bytes` bytes from the disk's start into RAM, as one of [`REQUESTS`] requests.
    pub fn begin_read(&mut self, request: u16, address: u64, bytes: u64) {
        let header = self.pages.page(1) + HEADER_BYTES * u64::from(request);
        let result = self.pages.page(1) + RESULTS + u64::from(request);
        let first = 3 * request;
        let chain = [
            (header, HEADER_BYTES, NEXT),
            (address, bytes, NEXT | WRITE),
            (result, 1, WRITE),
        ];
        for (number, (at, bytes, flags)) in (first..).zip(chain) {
            let place = 16 * usize::from(number);
            self.pages.write_u64(place, at);
            let rest = bytes | flags << 32 | u64::from(number + 1) << 48;
            self.pages.write_u64(place + 8, rest);
        }
        let slot = DRIVER + 4 + 2 * usize::from(self.available % SIZE);
        self.pages.write_u16(slot, first);
        self.available = self.available.wrapping_add(1);
        fence(Ordering::Release);
        self.pages.write_u16(DRIVER + 2, self.available);
        fence(Ordering::SeqCst);
        // A register that takes every write.
        let _ = store_device(self.notify, Width::Half, 0);
    }

    /// Returns a request that has ended, and whether it was done.
    pub fn take_ended(&mut self) -> Option<(u16, bool)> {
        if self.pages.read_u16(DEVICE + 2) == self.used {
            return None;
        }
        fence(Ordering::Acquire);
        let entry = DEVICE + 4 + 8 * usize::from(self.used % SIZE);
        let request = self.pages.read_u16(entry) / 3 % REQUESTS;
        self.used = self.used.wrapping_add(1);
        let mut result = [0xff];
        let at = PAGE_SIZE + RESULTS + u64::from(request);
        self.pages.read(at as usize, &mut result);
        Some((request, result == [0]))
    }

    /// Ends what the disk interrupts for.
    pub fn acknowledge(&self) {
        // Reading it clears it.
        let _ = load_device(self.isr, Width::Byte);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // From here on the device accesses no memory. It takes the write.
        let _ = store_device(self.common + STATUS, Width::Byte, 0);
    }
}
