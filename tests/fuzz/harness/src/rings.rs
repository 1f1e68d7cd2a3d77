// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fuzzes the virtio devices of a link: any registers and any memory of the drivers, at any time.

use crate::input::Input;
use mediator::addr::Ipa;
use postern_base::mmio::{Access, AccessSize};
use postern_virtio::console::MOST_WAITING;
use postern_virtio::link::Link;
use postern_virtio::net::MacAddress;
use postern_virtio::ram::{GuestRam, OutsideRam};
use std::cell::{Cell, RefCell};

/// The most steps.
const STEPS: usize = 300;
/// The first address of RAM.
const RAM: u64 = 0x1_0000_0000;
/// The bytes of RAM: rings of 16 descriptors, and some buffers.
const BYTES: usize = 0x4000;
/// The most accesses to memory that one access of a driver's may cause, with a switch of three ports.
const MOST_ACCESSES: usize = 4000;

const QUEUE_NOTIFY: u64 = 0x50;
const STATUS: u64 = 0x70;

/// A driver's memory.
struct Memory {
    bytes: RefCell<Vec<u8>>,
    accesses: Cell<usize>,
}

impl Memory {
    fn new() -> Self {
        Self {
            bytes: RefCell::new(vec![0; BYTES]),
            accesses: Cell::new(0),
        }
    }

    fn range(at: u64, bytes: usize) -> Result<std::ops::Range<usize>, OutsideRam> {
        let start = at.checked_sub(RAM).ok_or(OutsideRam)? as usize;
        let end = start.checked_add(bytes).ok_or(OutsideRam)?;
        (end <= BYTES).then_some(start..end).ok_or(OutsideRam)
    }

    fn put(&self, offset: usize, bytes: &[u8]) {
        let at = offset.min(BYTES - bytes.len());
        self.bytes.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
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
        assert!(from.get().is_multiple_of(2), "an odd address");
        let mut bytes = [0; 2];
        self.read(from, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    fn store_u16(&self, to: Ipa, value: u16) -> Result<(), OutsideRam> {
        assert!(to.get().is_multiple_of(2), "an odd address");
        self.write(to, &value.to_le_bytes())
    }
}

/// A link and its drivers.
struct World<'m> {
    link: Link<'m>,
    memories: Vec<Memory>,
    lines: Vec<bool>,
}

impl World<'_> {
    fn access(&mut self, port: usize, access: Access) -> u64 {
        let accesses = |memories: &[Memory]| -> usize {
            memories.iter().map(|memory| memory.accesses.get()).sum()
        };
        let before = accesses(&self.memories);
        let outcome = self.link.access(port, access, &self.memories);
        assert!(accesses(&self.memories) - before < MOST_ACCESSES);
        self.look();
        outcome.value
    }

    fn write(&mut self, port: usize, register: u64, value: u32) {
        self.access(
            port,
            Access::write(register, AccessSize::Word, value.into()),
        );
    }

    /// Takes over the interrupt lines: only those that have changed are reported.
    fn look(&mut self) {
        for change in self.link.changed_lines() {
            assert_eq!(self.lines[change.port] == change.level, change.is_again);
            self.lines[change.port] = change.level;
        }
    }

    /// Sets a driver up as one that follows the rules does, with rings of `size` descriptors.
    fn start(&mut self, port: usize, size: u32, features: u32) {
        for value in [0, 1, 3] {
            self.write(port, STATUS, value);
        }
        for (select, features) in [(1, 1), (0, features)] {
            self.write(port, 0x24, select);
            self.write(port, 0x20, features);
        }
        self.write(port, STATUS, 11);
        for queue in 0..2 {
            self.write(port, 0x30, queue);
            self.write(port, 0x38, size);
            for (register, offset) in [(0x80, 0), (0x90, 0x800), (0xa0, 0xc00)] {
                self.write(port, register, 0x1000 * queue + offset);
                self.write(port, register + 4, 1);
            }
            self.write(port, 0x44, 1);
        }
        self.write(port, STATUS, 15);
    }

    /// Offers a chain of one descriptor in a queue.
    fn offer(&self, port: usize, queue: usize, descriptor: (u64, u32, u16, u16), index: u16) {
        let (at, bytes, flags, next) = descriptor;
        let memory = &self.memories[port];
        let base = 0x1000 * queue;
        let slot = usize::from(index % 16);
        memory.put(base + 16 * slot, &at.to_le_bytes());
        memory.put(base + 16 * slot + 8, &bytes.to_le_bytes());
        memory.put(base + 16 * slot + 12, &flags.to_le_bytes());
        memory.put(base + 16 * slot + 14, &next.to_le_bytes());
        memory.put(base + 0x804 + 2 * slot, &(slot as u16).to_le_bytes());
        memory.put(base + 0x802, &index.wrapping_add(1).to_le_bytes());
    }
}

/// Runs a link: the bytes decide its kind and the number of its ports, then each step.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.byte();
    let is_console = kind & 2 != 0;
    let ports = if is_console {
        2
    } else {
        2 + usize::from(kind & 1)
    };
    let mut link = Link::new((0..ports).map(|port| MacAddress::of_port(0, port as u8)));
    let mut waiting = [[0; MOST_WAITING]; 2];
    if is_console {
        let mut memory = waiting.iter_mut();
        link.make_consoles(|| memory.next().expect("two ports"));
    }
    let mut world = World {
        link,
        memories: (0..ports).map(|_| Memory::new()).collect(),
        lines: vec![false; ports],
    };
    let mut offered = [[0_u16; 2]; 3];
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let port = input.below(ports as u64) as usize;
        match input.below(16) {
            0 | 1 => {
                let features = input.pick(&[0, 1 << 29, 1 << 29 | 1 << 16 | 1 << 5, 1 << 28]);
                let size = input.pick(&[16, 16, 16, 1, 8, 3]);
                world.start(port, size, features);
                offered[port] = [0; 2];
            }
            2..=5 => {
                let queue = usize::from(input.flag());
                let index = &mut offered[port][queue];
                let length = input.pick(&[12, 26, 100, 1526, 1531, u32::MAX]);
                let offset = u64::from(input.half());
                let flags = u16::from(input.byte()) & 7;
                let descriptor = (RAM + offset, length, flags, input.half() % 20);
                let (at, now) = (*index, index.wrapping_add(1));
                *index = now;
                world.offer(port, queue, descriptor, at);
                if input.flag() {
                    world.write(port, QUEUE_NOTIFY, queue as u32);
                }
            }
            6..=8 => {
                let queue = input.byte().into();
                world.write(port, QUEUE_NOTIFY, queue);
            }
            9..=11 => {
                let offset = usize::from(input.half()) % BYTES;
                let bytes = input.bytes(8);
                world.memories[port].put(offset, bytes);
            }
            12 | 13 => {
                let size = input.pick(&[
                    AccessSize::Word,
                    AccessSize::Word,
                    AccessSize::Byte,
                    AccessSize::Half,
                    AccessSize::Double,
                ]);
                let offset = input.below(0x80) * 4;
                let value = input.word();
                let access = if input.flag() {
                    Access::write(offset, size, value.into())
                } else {
                    Access::read(offset, size)
                };
                if access.is_aligned() {
                    world.access(port, access);
                }
            }
            14 => world.link.reset(port, &world.memories),
            _ => world.link.expire(&world.memories),
        }
        world.look();
    }
    // Whatever has happened, drivers that follow the rules have a link after a reset.
    for port in 0..ports {
        world.memories[port].put(0, &[0; 0x2000]);
        world.link.reset(port, &world.memories);
        world.look();
    }
    for port in 0..ports {
        world.start(port, 16, 1 << 29);
    }
    let frame = [vec![0; 12], vec![0xff; 6], vec![2; 94]].concat();
    world.memories[0].put(0x3000, &frame);
    world.offer(1, 0, (RAM + 0x3000, 1526, 2, 0), 0);
    world.offer(0, 1, (RAM + 0x3000, frame.len() as u32, 0, 0), 0);
    world.write(0, QUEUE_NOTIFY, 1);
    let received = &world.memories[1].bytes.borrow()[0x3000..0x3000 + frame.len()];
    assert_eq!(received[12..], frame[12..], "the frame has not arrived");
}
