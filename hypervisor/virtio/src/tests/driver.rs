// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A model of a driver, made from the specification: its memory, its rings and its accesses.

use crate::mmio::{EVENT_IDX, VERSION_1};
use crate::ram::{GuestRam, OutsideRam};
use mediator::addr::Ipa;
use postern_base::mmio::{Access, AccessSize};
use std::cell::{Cell, RefCell};

/// The first address of the model's RAM.
pub const RAM: u64 = 0x1_0000_0000;
/// The bytes of the model's RAM.
pub const RAM_BYTES: usize = 0x10_0000;
/// The bytes of a buffer's place.
pub const BUFFER_BYTES: u64 = 0x800;

/// A guest's RAM.
pub struct Memory {
    bytes: RefCell<Vec<u8>>,
    /// The number of accesses of the device's.
    pub accesses: Cell<usize>,
}

impl Memory {
    pub fn new() -> Self {
        Self {
            bytes: RefCell::new(vec![0; RAM_BYTES]),
            accesses: Cell::new(0),
        }
    }

    fn range(at: u64, bytes: usize) -> Result<core::ops::Range<usize>, OutsideRam> {
        let start = at.checked_sub(RAM).ok_or(OutsideRam)? as usize;
        let end = start.checked_add(bytes).ok_or(OutsideRam)?;
        (end <= RAM_BYTES).then_some(start..end).ok_or(OutsideRam)
    }

    /// The driver's own accesses.
    pub fn get<const N: usize>(&self, at: u64) -> [u8; N] {
        self.bytes.borrow()[Self::range(at, N).unwrap()]
            .try_into()
            .unwrap()
    }

    pub fn put(&self, at: u64, bytes: &[u8]) {
        self.bytes.borrow_mut()[Self::range(at, bytes.len()).unwrap()].copy_from_slice(bytes);
    }

    pub fn get_u16(&self, at: u64) -> u16 {
        u16::from_le_bytes(self.get(at))
    }

    pub fn bytes(&self, at: u64, length: usize) -> Vec<u8> {
        self.bytes.borrow()[Self::range(at, length).unwrap()].to_vec()
    }
}

impl GuestRam for Memory {
    fn read(&self, from: Ipa, into: &mut [u8]) -> Result<(), OutsideRam> {
        self.accesses.set(self.accesses.get() + 1);
        into.copy_from_slice(&self.bytes.borrow()[Self::range(from.get(), into.len())?]);
        Ok(())
    }

    fn write(&self, to: Ipa, bytes: &[u8]) -> Result<(), OutsideRam> {
        self.accesses.set(self.accesses.get() + 1);
        self.bytes.borrow_mut()[Self::range(to.get(), bytes.len())?].copy_from_slice(bytes);
        Ok(())
    }

    fn contains(&self, start: Ipa, bytes: u64) -> bool {
        usize::try_from(bytes).is_ok_and(|bytes| Self::range(start.get(), bytes).is_ok())
    }

    fn store_u32(&self, to: Ipa, value: u32) -> Result<(), OutsideRam> {
        assert!(to.get().is_multiple_of(4), "an odd address");
        self.write(to, &value.to_le_bytes())
    }

    fn load_u16(&self, from: Ipa) -> Result<u16, OutsideRam> {
        assert!(from.get().is_multiple_of(2));
        let mut bytes = [0; 2];
        self.read(from, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    fn store_u16(&self, to: Ipa, value: u16) -> Result<(), OutsideRam> {
        assert!(to.get().is_multiple_of(2));
        self.write(to, &value.to_le_bytes())
    }
}

/// A driver's side of a queue.
#[derive(Clone, Debug)]
pub struct Ring {
    pub descriptors: u64,
    pub driver: u64,
    pub device: u64,
    pub size: u16,
    pub has_event_idx: bool,
    pub free: Vec<u16>,
    /// The descriptors of each chain that the device has, by its head.
    pub chains: Vec<Vec<u16>>,
    pub available: u16,
    pub notified: u16,
    pub used: u16,
}

impl Ring {
    /// Returns a ring whose parts are from `base` on.
    pub fn new(base: u64, size: u16, has_event_idx: bool) -> Self {
        Self {
            descriptors: base,
            driver: base + 0x1000,
            device: base + 0x2000,
            size,
            has_event_idx,
            free: (0..size).rev().collect(),
            chains: vec![Vec::new(); size.into()],
            available: 0,
            notified: 0,
            used: 0,
        }
    }

    pub fn room(&self) -> usize {
        self.free.len()
    }

    pub fn describe(
        &self,
        memory: &Memory,
        index: u16,
        at: u64,
        bytes: u32,
        flags: u16,
        next: u16,
    ) {
        let place = self.descriptors + 16 * u64::from(index);
        memory.put(place, &at.to_le_bytes());
        memory.put(place + 8, &bytes.to_le_bytes());
        memory.put(place + 12, &flags.to_le_bytes());
        memory.put(place + 14, &next.to_le_bytes());
    }

    pub fn offer(&mut self, memory: &Memory, head: u16) {
        let slot = self.available % self.size;
        memory.put(self.driver + 4 + 2 * u64::from(slot), &head.to_le_bytes());
        self.available = self.available.wrapping_add(1);
        memory.put(self.driver + 2, &self.available.to_le_bytes());
    }

    /// Makes a chain of buffers (address, bytes, whether the device writes) available. Returns its head.
    pub fn add(&mut self, memory: &Memory, buffers: &[(u64, u32, bool)]) -> u16 {
        let indices = self.free.split_off(self.free.len() - buffers.len());
        for (place, &(at, bytes, write)) in buffers.iter().enumerate() {
            let next = indices.get(place + 1);
            let flags = u16::from(next.is_some()) | u16::from(write) << 1;
            self.describe(
                memory,
                indices[place],
                at,
                bytes,
                flags,
                next.copied().unwrap_or(0),
            );
        }
        let head = indices[0];
        self.chains[usize::from(head)] = indices;
        self.offer(memory, head);
        head
    }

    /// Returns whether the device wants a notification of what was added since the last call.
    pub fn must_notify(&mut self, memory: &Memory) -> bool {
        let (before, now) = (self.notified, self.available);
        self.notified = now;
        if self.has_event_idx {
            let event = memory.get_u16(self.device + 4 + 8 * u64::from(self.size));
            now.wrapping_sub(event).wrapping_sub(1) < now.wrapping_sub(before)
        } else {
            now != before && memory.get_u16(self.device) & 1 == 0
        }
    }

    /// Takes a used chain: its head and the bytes written.
    pub fn take(&mut self, memory: &Memory) -> Option<(u16, u32)> {
        if memory.get_u16(self.device + 2) == self.used {
            return None;
        }
        let entry = self.device + 4 + 8 * u64::from(self.used % self.size);
        let head = u32::from_le_bytes(memory.get(entry)) as u16;
        let bytes = u32::from_le_bytes(memory.get(entry + 4));
        let chain = std::mem::take(&mut self.chains[usize::from(head)]);
        assert!(!chain.is_empty(), "a chain that the device did not have");
        self.free.extend(chain);
        self.used = self.used.wrapping_add(1);
        Some((head, bytes))
    }

    /// Asks for an interrupt at the next used chain.
    pub fn want_interrupt(&self, memory: &Memory, wanted: bool) {
        if self.has_event_idx {
            let event = if wanted {
                self.used
            } else {
                self.used.wrapping_sub(1)
            };
            memory.put(
                self.driver + 4 + 2 * u64::from(self.size),
                &event.to_le_bytes(),
            );
        } else {
            memory.put(self.driver, &u16::from(!wanted).to_le_bytes());
        }
    }
}

pub fn read(device: &mut impl FnMut(Access) -> u64, register: u64) -> u32 {
    device(Access::read(register, AccessSize::Word)) as u32
}

pub fn write(device: &mut impl FnMut(Access) -> u64, register: u64, value: u32) {
    assert_eq!(
        device(Access::write(register, AccessSize::Word, value.into())),
        0
    );
}

/// Does what a driver does up to FEATURES_OK (3.1.1). Returns whether the device has agreed.
pub fn negotiate(device: &mut impl FnMut(Access) -> u64, wanted: u64) -> bool {
    assert_eq!(read(device, 0), u32::from_le_bytes(*b"virt"));
    assert_eq!(read(device, 4), 2);
    write(device, 0x70, 0);
    write(device, 0x70, 1);
    write(device, 0x70, 3);
    write(device, 0x14, 1);
    let high = read(device, 0x10);
    write(device, 0x14, 0);
    let offered = u64::from(high) << 32 | u64::from(read(device, 0x10));
    assert_eq!(offered & (VERSION_1 | EVENT_IDX), VERSION_1 | EVENT_IDX);
    for (select, half) in [(0, wanted as u32), (1, (wanted >> 32) as u32)] {
        write(device, 0x24, select);
        write(device, 0x20, half);
    }
    write(device, 0x70, 3 | 8);
    read(device, 0x70) & 8 != 0
}

/// Sets a queue up.
pub fn set_up(device: &mut impl FnMut(Access) -> u64, queue: u32, ring: &Ring) {
    write(device, 0x30, queue);
    assert_eq!(read(device, 0x44), 0);
    assert!(read(device, 0x34) >= u32::from(ring.size));
    write(device, 0x38, ring.size.into());
    for (register, address) in [
        (0x80, ring.descriptors),
        (0x90, ring.driver),
        (0xa0, ring.device),
    ] {
        write(device, register, address as u32);
        write(device, register + 4, (address >> 32) as u32);
    }
    write(device, 0x44, 1);
}

/// Says that the driver is set up.
pub fn go(device: &mut impl FnMut(Access) -> u64) {
    write(device, 0x70, 1 | 2 | 4 | 8);
}
