// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The devices that serve requests.

use super::driver::{self, Memory, RAM, Ring};
use super::{INTERRUPT_ACK, INTERRUPT_STATUS, NOTIFY, STATUS};
use crate::blk::{Blk, SECTOR_BYTES, Sectors};
use crate::mmio::{EVENT_IDX, VERSION_1};
use crate::requests::{RequestDevice, Requests};
use crate::rng::{Entropy, REQUEST_BYTES, Rng};
use postern_base::mmio::{Access, AccessSize};
use proptest::prelude::*;
use std::cell::Cell;
use std::rc::Rc;

const BUFFERS: u64 = RAM + 0x1_0000;
const NEEDS_RESET: u32 = 64;

/// A device with a driver.
struct World<D> {
    device: RequestDevice<D>,
    memory: Memory,
    ring: Ring,
    line: bool,
    edges: usize,
}

impl<D: Requests> World<D> {
    fn up(device: D, event_idx: bool) -> Self {
        let mut world = Self {
            device: RequestDevice::new(device),
            memory: Memory::new(),
            ring: Ring::new(RAM, 32, event_idx),
            line: false,
            edges: 0,
        };
        let ring = world.ring.clone();
        let mut access = |access| world.access(access);
        let wanted = VERSION_1 | if event_idx { EVENT_IDX } else { 0 };
        assert!(driver::negotiate(&mut access, wanted));
        driver::set_up(&mut access, 0, &ring);
        driver::go(&mut access);
        world
    }

    /// Makes an access until it is done. Returns the value read.
    fn access(&mut self, access: Access) -> u64 {
        for _ in 0..100 {
            let outcome = self.device.access(access, &self.memory);
            self.look();
            if !outcome.is_unfinished {
                return outcome.value;
            }
        }
        panic!("an access without an end");
    }

    fn look(&mut self) {
        if self.device.is_raised_again() {
            assert!(self.line);
            self.edges += 1;
        }
        if let Some(level) = self.device.changed_line() {
            assert_ne!(level, self.line);
            self.line = level;
            self.edges += usize::from(level);
        }
    }

    fn read(&mut self, register: u64) -> u32 {
        self.access(Access::read(register, AccessSize::Word)) as u32
    }

    fn write(&mut self, register: u64, value: u32) {
        self.access(Access::write(register, AccessSize::Word, value.into()));
    }

    fn request(&mut self, buffers: &[(u64, u32, bool)]) {
        self.ring.add(&self.memory, buffers);
        if self.ring.must_notify(&self.memory) {
            self.write(NOTIFY, 0);
        }
    }

    /// Takes the next answer: the number of bytes.
    fn answer(&mut self) -> Option<u32> {
        let (_, bytes) = self.ring.take(&self.memory)?;
        self.ring.want_interrupt(&self.memory, true);
        Some(bytes)
    }
}

/// Numbers that count up, as many as there are.
struct Numbers {
    next: u64,
    left: Rc<Cell<usize>>,
}

impl Entropy for Numbers {
    fn bits(&mut self) -> Option<[u64; 3]> {
        self.left.set(self.left.get().checked_sub(1)?);
        self.next += 3;
        Some([self.next - 3, self.next - 2, self.next - 1])
    }
}

/// A device whose source has so many numbers left, and their number.
fn rng(left: usize, event_idx: bool) -> (World<Rng<Numbers>>, Rc<Cell<usize>>) {
    let left = Rc::new(Cell::new(left));
    let numbers = Numbers {
        next: 1,
        left: Rc::clone(&left),
    };
    (World::up(Rng::new(numbers), event_idx), left)
}

#[test]
fn rng_request_gets_bits_that_no_other_gets() {
    for event_idx in [false, true] {
        let (mut world, _) = rng(3, event_idx);
        assert_eq!(world.read(8), 4);
        for first in [1_u64, 4] {
            world.request(&[(BUFFERS, 64, true)]);
            assert!(world.line);
            assert_eq!(world.answer(), Some(REQUEST_BYTES as u32));
            for word in 0..3 {
                let value = u64::from_le_bytes(world.memory.get(BUFFERS + 8 * word));
                assert_eq!(value, first + word);
            }
            assert_eq!(world.memory.get(BUFFERS + 24), [0; 40], "the rest");
            assert_eq!(world.read(INTERRUPT_STATUS), 1);
            world.write(INTERRUPT_ACK, 1);
            assert!(!world.line);
        }
        // A short buffer gets less, and what is left over goes to nobody.
        world.request(&[(BUFFERS, 5, true)]);
        assert_eq!(world.answer(), Some(5));
        assert_eq!(world.memory.get(BUFFERS), [7, 0, 0, 0, 0, 0, 0, 0]);
        world.request(&[(BUFFERS, 64, true)]);
        assert_eq!(world.answer(), None);
        assert!(world.device.is_waiting());
    }
}

#[test]
fn rng_request_waits_while_the_source_is_empty() {
    let (mut world, left) = rng(0, true);
    for place in 0..9 {
        world.request(&[(BUFFERS + 64 * place, 64, true)]);
    }
    assert_eq!(world.answer(), None);
    world.device.retry(&world.memory);
    assert!(world.device.is_waiting());
    left.set(100);
    // One at a time.
    for served in [1; 9].into_iter().chain([0]) {
        world.device.retry(&world.memory);
        assert_eq!(
            core::iter::from_fn(|| world.answer()).count(),
            served,
            "at a time"
        );
    }
    assert!(!world.device.is_waiting());
    world.device.reset();
    assert!(!world.device.is_waiting());
}

#[test]
fn requests_of_one_notification_are_all_served() {
    let (mut world, _) = rng(100, true);
    for place in 0..20 {
        world
            .ring
            .add(&world.memory, &[(BUFFERS + 64 * place, 64, true)]);
    }
    world.write(NOTIFY, 0);
    assert_eq!(core::iter::from_fn(|| world.answer()).count(), 20);
    // One request more than a call serves: the access is to be made again.
    for place in 0..2 {
        world
            .ring
            .add(&world.memory, &[(BUFFERS + 64 * place, 64, true)]);
    }
    let notify = Access::write(NOTIFY, AccessSize::Word, 0);
    let outcome = world.device.access(notify, &world.memory);
    assert!(outcome.is_unfinished);
    let outcome = world.device.access(notify, &world.memory);
    assert!(!outcome.is_unfinished);
}

/// A disk whose sectors have their numbers.
struct Numbered;

impl Sectors for Numbered {
    fn read(&self, offset: u64, into: &mut [u8; SECTOR_BYTES]) {
        assert!(offset.is_multiple_of(SECTOR_BYTES as u64));
        assert!(offset < 100 * SECTOR_BYTES as u64, "behind the last sector");
        into.fill((offset / SECTOR_BYTES as u64) as u8);
    }
}

fn disk(event_idx: bool) -> World<Blk<Numbered>> {
    World::up(Blk::new(Numbered, 100), event_idx)
}

impl World<Blk<Numbered>> {
    fn header(&self, kind: u32, sector: u64) {
        self.memory.put(BUFFERS, &kind.to_le_bytes());
        self.memory.put(BUFFERS + 8, &sector.to_le_bytes());
    }

    /// Sends a request as Linux does. Returns the used bytes and the status.
    fn send(&mut self, kind: u32, sector: u64, bytes: u32) -> (u32, u8) {
        self.header(kind, sector);
        let status = BUFFERS + 0x1_0000;
        self.memory.put(status, &[0xee]);
        let data = (BUFFERS + 0x1000, bytes, true);
        let chain = [(BUFFERS, 16, false), data, (status, 1, true)];
        let chain = if bytes == 0 {
            [chain[0], chain[2]].to_vec()
        } else {
            chain.to_vec()
        };
        self.request(&chain);
        (self.answer().unwrap(), self.memory.get::<1>(status)[0])
    }
}

#[test]
fn blk_configuration_has_capacity_and_limits() {
    let mut world = disk(true);
    assert_eq!(world.read(8), 2);
    // SIZE_MAX, SEG_MAX, RO; of the other word VERSION_1.
    assert_eq!(world.read(0x10) & !(EVENT_IDX as u32), 0b10_0110);
    for (offset, value) in [(0, 100), (4, 0), (8, 4096), (12, 16), (16, 0)] {
        assert_eq!(world.read(0x100 + offset), value, "{offset}");
    }
}

#[test]
fn blk_reads_sectors() {
    for event_idx in [false, true] {
        let mut world = disk(event_idx);
        assert_eq!(world.send(0, 7, 1024), (1025, 0));
        assert!(world.line);
        let at = BUFFERS + 0x1000;
        assert_eq!(world.memory.get(at), [7; 512]);
        assert_eq!(world.memory.get(at + 512), [8; 512]);
        assert_eq!(world.memory.get(at + 1024), [0; 8]);
        assert_eq!(world.send(0, 99, 512), (513, 0), "the last");
        assert_eq!(world.send(0, 0, 0), (1, 0), "nothing");
        assert_eq!(world.send(0, 0, 16 * 4096).1, 1, "more than there is");
        assert_eq!(world.send(0, 0, 50 * 512), (50 * 512 + 1, 0));
    }
}

/// What bounds the time of one request.
#[test]
fn blk_reads_64_kib_at_most() {
    struct Content;
    impl Sectors for Content {
        fn read(&self, _: u64, into: &mut [u8; SECTOR_BYTES]) {
            into.fill(0x77);
        }
    }
    let mut world = World::up(Blk::new(Content, 1000), true);
    for (bytes, status) in [(0x1_0000, 0), (0x1_0200, 1)] {
        world.memory.put(BUFFERS, &[0; 16]);
        let last = BUFFERS + 0x4_0000;
        world.memory.put(last, &[0xee]);
        let chain = [
            (BUFFERS, 16, false),
            (BUFFERS + 0x1_0000, bytes, true),
            (last, 1, true),
        ];
        world.request(&chain);
        assert!(world.answer().is_some());
        assert_eq!(world.memory.get(last), [status], "{bytes}");
    }
}

/// The bits of a request are nobody's afterwards, whatever became of it.
#[test]
fn rng_request_that_fails_costs_its_bits() {
    let (mut world, left) = rng(9, true);
    for buffers in [
        &[(0, 64, true)][..],
        &[(BUFFERS, 64, false)],
        &[(BUFFERS, 4, true), (u64::MAX - 3, 4, true)],
    ] {
        let before = left.get();
        world.request(buffers);
        assert!(world.answer().is_some());
        assert_eq!(left.get(), before - 1);
    }
    world.request(&[(BUFFERS, 64, true)]);
    assert_eq!(world.answer(), Some(REQUEST_BYTES as u32));
    assert_eq!(world.memory.get(BUFFERS), 10_u64.to_le_bytes());
    // A driver that resets its device waits no longer.
    left.set(0);
    world.request(&[(BUFFERS, 64, true)]);
    assert!(world.device.is_waiting());
    world.write(STATUS, 0);
    left.set(1);
    world.device.retry(&world.memory);
    assert!(!world.device.is_waiting());
    assert_eq!((world.answer(), left.get()), (None, 1));
}

/// The interrupt is edge-triggered, and a life begins with a low line.
#[test]
fn each_reason_and_each_life_has_an_edge() {
    let (mut world, _) = rng(9, true);
    world.request(&[(BUFFERS, 64, true)]);
    assert_eq!(world.edges, 1);
    // There is no such descriptor.
    world.ring.offer(&world.memory, 32);
    world.write(NOTIFY, 0);
    assert_eq!((world.read(INTERRUPT_STATUS), world.edges), (3, 1));
    world.write(INTERRUPT_ACK, 1);
    assert_eq!((world.line, world.edges), (true, 2));
    world.device.reset();
    world.line = false;
    let ring = Ring::new(RAM, 32, true);
    world.memory.put(RAM, &[0; 0x4000]);
    world.ring = ring.clone();
    let mut access = |access| world.access(access);
    assert!(driver::negotiate(&mut access, VERSION_1 | EVENT_IDX));
    driver::set_up(&mut access, 0, &ring);
    driver::go(&mut access);
    world.request(&[(BUFFERS, 64, true)]);
    assert_eq!((world.line, world.edges), (true, 3));
}

#[test]
fn rng_breaks_on_a_chain_that_is_too_long() {
    let (mut world, _) = rng(9, true);
    world.request(&[(BUFFERS, 1, true); 17]);
    assert_eq!(world.answer(), None);
    assert_ne!(world.read(STATUS) & NEEDS_RESET, 0);
}

#[test]
fn blk_refuses_what_it_cannot_do_and_goes_on() {
    let mut world = disk(true);
    for (kind, sector, bytes, answer) in [
        (0, 100, 512, (0, 1)),
        (0, 99, 1024, (0, 1)),
        (0, u64::MAX, 512, (0, 1)),
        (0, 0, 511, (0, 1)),
        (1, 0, 0, (1, 1)),
        (4, 0, 0, (1, 2)),
        (8, 0, 20, (21, 0)),
        (8, 0, 30, (20, 0)),
        (8, 0, 3, (4, 0)),
        (11, 0, 512, (0, 2)),
        (0, 3, 512, (513, 0)),
    ] {
        assert_eq!(world.send(kind, sector, bytes), answer, "{kind} {sector}");
        assert_eq!(world.memory.get(BUFFERS + 0x1000 + 512), [0; 2]);
    }
    assert_eq!(world.read(STATUS) & NEEDS_RESET, 0);
}

#[test]
fn blk_takes_any_split_of_header_data_and_status() {
    let mut world = disk(true);
    world.header(0, 5);
    let at = BUFFERS + 0x1000;
    let chain = [
        (BUFFERS, 3, false),
        (BUFFERS + 3, 0, false),
        (BUFFERS + 3, 13, false),
        (at, 100, true),
        (at + 0x800, 413, true),
    ];
    world.memory.put(at + 0x800 + 412, &[0xee]);
    world.request(&chain);
    assert_eq!(world.answer(), Some(513));
    assert_eq!(world.memory.get(at), [5; 100]);
    assert_eq!(world.memory.get(at + 0x800), [5; 412]);
    assert_eq!(world.memory.get(at + 0x800 + 412), [0]);
}

#[test]
fn blk_request_outside_of_ram_fails_alone() {
    let mut world = disk(true);
    let status = BUFFERS + 0x1_0000;
    let cases = [
        // The header, the data, the status; no room for a status; a header that is too short.
        vec![
            (0, 16, false),
            (BUFFERS + 0x1000, 512, true),
            (status, 1, true),
        ],
        vec![
            (BUFFERS, 16, false),
            (u64::MAX - 100, 512, true),
            (status, 1, true),
        ],
        vec![
            (BUFFERS, 16, false),
            (BUFFERS + 0x1000, 512, true),
            (0, 1, true),
        ],
        vec![(BUFFERS, 16, false)],
        vec![
            (BUFFERS, 15, false),
            (BUFFERS + 0x1000, 512, true),
            (status, 1, true),
        ],
    ];
    for (case, chain) in cases.iter().enumerate() {
        world.header(0, 1);
        world.memory.put(status, &[0xee]);
        world.request(chain);
        assert!(world.answer().is_some(), "{case}");
        let expected = match case {
            2 | 3 => 0xee,
            _ => 1,
        };
        assert_eq!(world.memory.get(status), [expected], "{case}");
    }
    assert_eq!(world.send(0, 7, 512), (513, 0));
}

#[test]
fn blk_breaks_on_a_chain_that_is_too_long() {
    let mut world = disk(true);
    world.header(0, 0);
    let chain: Vec<_> = (0..19)
        .map(|place| (BUFFERS + 0x1000 + 512 * place, 512, place > 0))
        .collect();
    world.request(&chain);
    assert_eq!(world.answer(), None);
    assert_ne!(world.read(STATUS) & NEEDS_RESET, 0);
}

proptest! {
    /// Whatever is in a request, the device reads its own sectors only, and ends.
    #[test]
    fn blk_survives_any_request(
        header in prop::array::uniform16(any::<u8>()),
        kind in 0_u32..12,
        sector in prop_oneof![0_u64..110, any::<u64>()],
        buffers in prop::collection::vec(
            (prop_oneof![BUFFERS..BUFFERS + 0x8000, any::<u64>()], prop_oneof![0_u32..9000, any::<u32>()], any::<bool>()),
            1..20,
        ),
        is_sensible in any::<bool>(),
    ) {
        let mut world = disk(true);
        world.memory.put(BUFFERS, &header);
        if is_sensible {
            world.header(kind, sector);
        }
        let mut buffers = buffers;
        if is_sensible {
            buffers[0] = (BUFFERS, 16, false);
        }
        world.request(&buffers);
        let is_broken = world.read(STATUS) & NEEDS_RESET != 0;
        prop_assert_ne!(world.answer().is_some(), is_broken);
        prop_assert!(world.memory.accesses.get() < 600);
    }
}
