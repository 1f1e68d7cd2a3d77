// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Drivers that follow no rules.

use super::*;
use driver::RAM_BYTES;
use proptest::prelude::*;

const NEEDS_RESET: u32 = 64;
/// The most accesses to memory that one access of a driver's may cause: the chain that exceeds the budget and the one
/// that takes it may be as long as a queue, and each buffer is an access of its own.
const MOST_ACCESSES: usize = 3000;

type Damage = fn(&mut World);

/// Takes a descriptor of port 0's, and offers it.
fn describe(world: &mut World, at: u64, bytes: u32, flags: u16, next: u16) {
    let memory = &world.memories[0];
    let ring = &mut world.ends[0].transmit;
    ring.describe(memory, 0, at, bytes, flags, next);
    ring.offer(memory, 0);
}

#[test]
fn broken_ring_stops_its_device_and_no_other() {
    let cases: [(&str, Damage); 9] = [
        ("loop", |world| describe(world, RAM, 1, 1, 0)),
        ("next", |world| describe(world, RAM, 1, 1, 16)),
        ("indirect", |world| describe(world, RAM, 64, 4, 0)),
        ("order", |world| {
            let (memory, ring) = (&world.memories[0], &world.ends[0].transmit);
            ring.describe(memory, 1, RAM, 8, 0, 0);
            describe(world, RAM, 8, 1 | 2, 1);
            // A device that reads only never comes to the second one, so let it be received.
            let memory = &world.memories[0];
            let ring = &mut world.ends[0].receive;
            ring.describe(memory, 0, RAM, 8, 1 | 2, 1);
            ring.describe(memory, 1, RAM, 8, 0, 0);
            ring.offer(memory, 0);
            let sent = frame(mac(0), mac(1), 100, 1);
            world.send(1, &sent);
        }),
        ("head", |world| {
            let memory = &world.memories[0];
            world.ends[0].transmit.offer(memory, 16);
        }),
        ("index", |world| {
            let place = world.ends[0].transmit.driver + 2;
            world.memories[0].put(place, &17_u16.to_le_bytes());
        }),
        ("index backwards", |world| {
            let place = world.ends[0].transmit.driver + 2;
            world.memories[0].put(place, &0xffff_u16.to_le_bytes());
        }),
        ("receive head", |world| {
            let memory = &world.memories[0];
            world.ends[0].receive.offer(memory, 99);
            let sent = frame(mac(0), mac(1), 100, 1);
            world.send(1, &sent);
        }),
        ("receive loop", |world| {
            let memory = &world.memories[0];
            let ring = &mut world.ends[0].receive;
            ring.describe(memory, 3, RAM, 0, 1 | 2, 3);
            ring.offer(memory, 3);
            let sent = frame(mac(0), mac(1), 100, 1);
            world.send(1, &sent);
        }),
    ];
    for event_idx in [false, true] {
        for (name, damage) in cases {
            let mut world = World::up(2, 16, event_idx);
            world.provide(1, 4);
            damage(&mut world);
            world.write(0, NOTIFY, 1);
            assert_eq!(world.read(0, STATUS) & NEEDS_RESET, NEEDS_RESET, "{name}");
            assert_eq!(world.read(0, INTERRUPT_STATUS) & 2, 2, "{name}");
            assert_eq!(world.read(1, STATUS), 15, "{name}");
            assert!(!world.is_up(1), "{name}");
            // It rests: whatever it is told.
            let accesses = world.memories[0].accesses.get();
            world.write(0, NOTIFY, 0);
            world.write(0, NOTIFY, 1);
            world.send(1, &frame(mac(0), mac(1), 100, 1));
            world.link.expire(&world.memories);
            assert_eq!(world.memories[0].accesses.get(), accesses, "{name}");
            // And it is as new after a reset.
            world.start(0);
            assert!(world.is_up(1), "{name}");
            world.send(0, &frame(mac(1), mac(0), 100, 1));
            assert_eq!(world.received(1).len(), 1, "{name}");
        }
    }
}

#[test]
fn rings_outside_of_ram_break_the_device() {
    for place in [0, RAM - 0x10, RAM + RAM_BYTES as u64 - 2, 1 << 62] {
        for part in 0..3 {
            let mut world = World::up(2, 16, true);
            let mut ring = Ring::new(RAM + 0x4000, 16, true);
            *[&mut ring.descriptors, &mut ring.driver, &mut ring.device][part] = place & !0xf;
            let receive = world.ends[0].receive.clone();
            let mut device = |access| world.access(0, access);
            assert!(driver::negotiate(&mut device, VERSION_1 | EVENT_IDX));
            driver::set_up(&mut device, 0, &receive);
            driver::set_up(&mut device, 1, &ring);
            driver::go(&mut device);
            if part != 1 {
                // A frame without bytes.
                let memory = &world.memories[0];
                // Of the descriptors at the end of RAM, the first is in it.
                memory.put(ring.driver, &[0, 0, 1, 0, u8::from(place > RAM), 0]);
            }
            world.provide(1, 1);
            world.write(0, NOTIFY, 1);
            let is_broken = world.read(0, STATUS) & NEEDS_RESET != 0;
            // The available ring may still begin in RAM, and then is empty.
            assert!(is_broken || part == 1 && place > RAM, "{place:#x} {part}");
        }
    }
}

/// An empty buffer has no place, in front of the header, inside of it and behind it.
#[test]
fn empty_buffer_may_be_anywhere() {
    for ports in [2, 3] {
        let mut world = World::up(ports, 16, true);
        world.provide(1, 8);
        let sent = frame(mac(1), mac(0), 100, 1);
        let at = RAM + 0x8_0000;
        let memory = &world.memories[0];
        memory.put(at, &[&[0; 12][..], &sent].concat());
        let chain = [
            (0, 0, false),
            (at, 5, false),
            (u64::MAX, 0, false),
            (at + 5, 27, false),
            (1, 0, false),
            (at + 32, 80, false),
        ];
        world.ends[0].transmit.add(memory, &chain);
        world.write(0, NOTIFY, 1);
        assert_eq!(world.received(1), [sent], "{ports} ports");
    }
}

#[test]
fn buffer_outside_of_ram_costs_its_frame_only() {
    let mut world = World::up(2, 16, true);
    world.provide(1, 8);
    let end = RAM + RAM_BYTES as u64;
    for (at, bytes) in [
        (0, 1514),
        (end - 100, 1514),
        (RAM - 1, 200),
        (u64::MAX - 50, 200),
        (u64::MAX, u32::MAX),
        (RAM, u32::MAX),
    ] {
        describe(&mut world, at, bytes, 0, 0);
        world.write(0, NOTIFY, 1);
    }
    assert_eq!(world.read(0, STATUS), 15);
    assert_eq!(world.link.counters(0).dropped, 6);
    assert!(world.received(1).is_empty());
    // The receiver's buffers likewise.
    let memory = &world.memories[0];
    let ring = &mut world.ends[0].receive;
    for (at, bytes) in [(0, 2000), (end - 100, 1526), (u64::MAX, 2000)] {
        ring.add(memory, &[(at, bytes, true)]);
    }
    for _ in 0..3 {
        world.send(1, &frame(mac(0), mac(1), 1514, 1));
    }
    let memory = &world.memories[0];
    let ring = &mut world.ends[0].receive;
    let lengths: Vec<_> = core::iter::from_fn(|| ring.take(memory))
        .map(|(_, bytes)| bytes)
        .collect();
    assert_eq!(lengths, [0, 0, 0]);
    assert_eq!(world.read(0, STATUS), 15);
    assert_eq!(world.sent(1), 3);
}

#[test]
fn longest_chains_cost_a_bounded_number_of_accesses() {
    let mut world = World::up(2, 256, true);
    for port in 0..2 {
        let memory = &world.memories[port];
        let end = &mut world.ends[port];
        for (ring, flags, last) in [(&mut end.receive, 3, 15), (&mut end.transmit, 1, 255)] {
            for index in 0..256_u16 {
                let flags = if index == last { flags & !1 } else { flags };
                ring.describe(
                    memory,
                    index,
                    RAM + 0x8_0000,
                    6,
                    flags,
                    index.wrapping_add(1),
                );
            }
            for _ in 0..256 {
                ring.offer(memory, 0);
            }
        }
    }
    let before: usize = world
        .memories
        .iter()
        .map(|memory| memory.accesses.get())
        .sum();
    let outcome = world.try_access(0, Access::write(NOTIFY, AccessSize::Word, 1));
    assert!(outcome.is_unfinished);
    let after: usize = world
        .memories
        .iter()
        .map(|memory| memory.accesses.get())
        .sum();
    assert!(after - before < MOST_ACCESSES, "{}", after - before);
}

#[test]
fn receiver_with_long_chains_costs_others_little() {
    for (descriptors, is_broken) in [(16_u16, false), (17, true)] {
        let mut world = World::up(2, 256, true);
        let memory = &world.memories[0];
        let ring = &mut world.ends[0].receive;
        for index in 0..descriptors {
            // Without bytes, but for the last one.
            let is_last = index + 1 == descriptors;
            let (bytes, flags) = if is_last { (2000, 2) } else { (0, 3) };
            ring.describe(memory, index, RAM + 0x8_0000, bytes, flags, index + 1);
        }
        ring.offer(memory, 0);
        let before = memory.accesses.get();
        world.send(1, &frame(mac(0), mac(1), 100, 1));
        assert!(world.memories[0].accesses.get() - before < 32);
        let status = world.read(0, STATUS);
        assert_eq!(status & NEEDS_RESET != 0, is_broken, "{descriptors}");
        assert_eq!(world.link.counters(0).received, u64::from(!is_broken));
    }
}

#[derive(Clone, Debug)]
enum Act {
    Register {
        port: usize,
        register: u64,
        value: u32,
        size: u64,
    },
    Memory {
        port: usize,
        offset: u64,
        value: u64,
    },
    Start {
        port: usize,
    },
    Send {
        port: usize,
    },
    Provide {
        port: usize,
    },
    Reset {
        port: usize,
    },
    Expire,
}

fn act() -> impl Strategy<Value = Act> {
    let register = prop_oneof![
        Just(NOTIFY),
        Just(STATUS),
        Just(0x30),
        Just(0x38),
        Just(0x44),
        Just(INTERRUPT_ACK),
        Just(0x80),
        Just(0x90),
        Just(0xa0),
        (0_u64..0x80).prop_map(|word| word * 4),
    ];
    let small = prop_oneof![0_u32..20, any::<u32>()];
    let word = prop_oneof![
        (0_u64..4, 0_u64..256).prop_map(|(flags, next)| 0x400 | flags << 32 | next << 48),
        (0_u64..0x10_0000).prop_map(|offset| RAM + offset),
        0_u64..300,
        any::<u64>(),
    ];
    prop_oneof![
        4 => (0..3_usize, register, small, 0_u64..9)
            .prop_map(|(port, register, value, size)| Act::Register { port, register, value, size }),
        6 => (0..3_usize, 0_u64..0x1000, word)
            .prop_map(|(port, offset, value)| Act::Memory { port, offset: offset * 8, value }),
        1 => (0..3_usize).prop_map(|port| Act::Start { port }),
        4 => (0..3_usize).prop_map(|port| Act::Send { port }),
        3 => (0..3_usize).prop_map(|port| Act::Provide { port }),
        1 => (0..3_usize).prop_map(|port| Act::Reset { port }),
        1 => Just(Act::Expire),
    ]
}

proptest! {
    /// The last port keeps to the rules, the others write anything anywhere: no access costs more than the bound, nothing
    /// panics, and its device works on.
    #[test]
    fn anything_goes(ports in 1..4_usize, acts in prop::collection::vec(act(), 1..200)) {
        // One port is none: two consoles.
        let is_console = ports == 1;
        let ports = ports.max(2);
        let mut world = if is_console { World::consoles(16, true) } else { World::up(ports, 16, true) };
        let good = ports - 1;
        for act in acts {
            let before: usize = world.memories.iter().map(|memory| memory.accesses.get()).sum();
            match act {
                Act::Register { port, register, value, size } if port < good => {
                    // Sizes other than words are rare.
                    let size = match size {
                        0 => AccessSize::Byte,
                        1 => AccessSize::Double,
                        _ => AccessSize::Word,
                    };
                    let access = Access::write(register, size, value.into());
                    if access.is_aligned() {
                        world.try_access(port, access);
                        world.try_access(port, Access::read(register, size));
                    }
                }
                Act::Memory { port, offset, value } if port < good => {
                    world.memories[port].put(RAM + offset, &value.to_le_bytes());
                }
                Act::Send { port } if port < ports => {
                    if port == good {
                        world.sent(port);
                        if world.ends[port].transmit.room() > 0 {
                            world.send(port, &frame(mac(0), mac(port), 100, 1));
                        }
                    } else {
                        world.try_access(port, Access::write(NOTIFY, AccessSize::Word, 1));
                    }
                }
                Act::Provide { port } if port == good => {
                    world.received(port);
                    let room = world.ends[port].receive.room() / 2;
                    world.provide(port, room);
                }
                Act::Start { port } if port < good => {
                    world.link.reset(port, &world.memories);
                    world.start(port);
                }
                Act::Reset { port } if port < good => {
                    world.link.reset(port, &world.memories);
                }
                Act::Expire => world.link.expire(&world.memories),
                _ => {}
            }
            world.look();
            let after: usize = world.memories.iter().map(|memory| memory.accesses.get()).sum();
            prop_assert!(after - before < 3 * MOST_ACCESSES);
            prop_assert_eq!(world.read(good, STATUS), 15);
        }
    }
}
