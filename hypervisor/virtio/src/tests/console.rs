// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;
use crate::link::Counters;
use proptest::prelude::*;

const NEEDS_RESET: u32 = 64;

/// Where a port's receive buffers are.
const BUFFERS: u64 = RAM + 0x1_0000;

/// Bytes that differ from their neighbours, from a position on.
fn text(from: usize, count: usize) -> Vec<u8> {
    (from..from + count)
        .map(|place| (place % 251) as u8)
        .collect()
}

impl World {
    /// Gives the device receive buffers of `bytes` bytes, each in `pieces` descriptors.
    fn provide_bytes(&mut self, port: usize, count: usize, bytes: u32, pieces: u32) {
        let ring = &mut self.ends[port].receive;
        let memory = &self.memories[port];
        for _ in 0..count {
            let at = BUFFERS + BUFFER_BYTES * u64::from(ring.available % ring.size);
            let piece = bytes / pieces;
            let chain: Vec<_> = (0..pieces)
                .map(|index| (at + u64::from(index * piece), piece, true))
                .collect();
            ring.add(memory, &chain);
        }
        if ring.must_notify(memory) {
            self.write(port, NOTIFY, 0);
        }
    }

    /// Sends bytes as Linux does: returns when the device has used them.
    fn say(&mut self, port: usize, bytes: &[u8]) {
        self.send(port, bytes);
        assert_eq!(self.sent(port), 1, "the driver would spin");
    }

    fn heard(&mut self, port: usize) -> Vec<u8> {
        self.received(port).concat()
    }

    fn counts(&self, port: usize) -> (u64, u64, u64) {
        let Counters {
            sent,
            received,
            dropped,
        } = self.link.counters(port);
        (sent, received, dropped)
    }
}

#[test]
fn sums_of_counters_wrap() {
    let most = Counters {
        sent: u64::MAX,
        received: u64::MAX,
        dropped: u64::MAX,
    };
    let one = Counters {
        sent: 1,
        received: 2,
        dropped: 3,
    };
    let sum = Counters {
        sent: 0,
        received: 1,
        dropped: 2,
    };
    assert_eq!(most.plus(one), sum);
}

#[test]
fn driver_finds_a_console_without_features() {
    let mut world = World::consoles(16, true);
    assert_eq!(world.read(0, 0x08), 3);
    for (select, features) in [(0, EVENT_IDX as u32), (1, 1)] {
        world.write(0, 0x14, select);
        assert_eq!(world.read(0, 0x10), features);
    }
    for place in 0..4 {
        assert_eq!(world.read(0, CONFIG + 4 * place), 0);
    }
    assert!(!world.link.is_up(0));
}

#[test]
fn bytes_arrive_in_order_whatever_the_buffers_are() {
    for event_idx in [false, true] {
        for (count, bytes, pieces) in [(1, 2048, 1), (8, 300, 3), (64, 32, 1)] {
            for (from, to) in [(0, 1), (1, 0)] {
                for chunk in [1, 7, 100, 1000, 2048] {
                    let mut world = World::consoles(64, event_idx);
                    world.provide_bytes(to, count, bytes, pieces);
                    assert!(world.enqueue(from, &text(3, chunk), pieces as usize));
                    world.write(from, NOTIFY, 1);
                    assert_eq!(world.sent(from), 1);
                    assert!(world.ends[to].line);
                    assert_eq!(world.heard(to), text(3, chunk));
                    assert_eq!(world.counts(from), (chunk as u64, 0, 0));
                    assert_eq!(world.counts(to), (0, chunk as u64, 0));
                }
            }
        }
    }
}

#[test]
fn bytes_wait_for_buffers_and_the_rest_is_dropped() {
    for event_idx in [false, true] {
        let mut world = World::consoles(16, event_idx);
        let all = text(0, MOST_WAITING + 500);
        for chunk in all.chunks(1000) {
            world.say(0, chunk);
        }
        assert_eq!(world.counts(0), (0, 0, 500));
        assert!(!world.ends[1].line);
        assert!(!world.link.is_waiting(), "nothing expires");
        // Buffers that come are filled, each with as much as it takes.
        for _ in 0..3 {
            world.provide_bytes(1, 1, 1024, 1);
        }
        let mut heard = world.heard(1);
        assert_eq!(heard.len(), 3 * 1024);
        world.provide_bytes(1, 8, 1024, 1);
        heard.extend(world.heard(1));
        assert_eq!(heard, all[..MOST_WAITING]);
        // What comes then goes to a buffer of its own.
        world.say(0, b"x");
        assert_eq!(world.heard(1), b"x");
        assert_eq!(world.counts(0), (MOST_WAITING as u64 + 1, 0, 500));
        assert_eq!(world.counts(1), (0, MOST_WAITING as u64 + 1, 0));
    }
}

#[test]
fn bytes_of_a_chain_that_is_an_error_do_not_wait() {
    let mut world = World::consoles(64, true);
    // The first buffer takes all the room, and the last one is one too many.
    let mut chain = [(BUFFERS, 8, false); 17];
    chain[0].1 = MOST_WAITING as u32;
    world.ends[0].transmit.add(&world.memories[0], &chain);
    world.write(0, NOTIFY, 1);
    assert_eq!(world.read(0, STATUS) & NEEDS_RESET, NEEDS_RESET);
    world.provide_bytes(1, 8, 1024, 1);
    world.write(1, NOTIFY, 0);
    assert_eq!(world.counts(1), (0, 0, 0));
}

#[test]
fn other_end_is_asked_for_buffers_only_where_bytes_wait() {
    let mut world = World::consoles(64, true);
    world.provide_bytes(1, 1, 64, 1);
    let wants = |world: &mut World| {
        let (memory, ring) = (&world.memories[1], &mut world.ends[1].receive);
        ring.add(memory, &[(BUFFERS, 64, true)]);
        ring.must_notify(memory)
    };
    assert!(!wants(&mut world), "nothing waits");
    world.say(0, &[1; 200]);
    assert!(wants(&mut world), "72 bytes wait");
    world.write(1, NOTIFY, 0);
    assert!(wants(&mut world), "8 bytes wait");
    world.write(1, NOTIFY, 0);
    assert!(!wants(&mut world), "nothing waits again");
    assert_eq!(world.heard(1).len(), 200);
}

#[test]
fn bytes_to_an_end_without_a_driver_are_dropped_and_counted() {
    let mut world = World::of(consoles(), 0, 2, 16, true);
    world.start(0);
    world.say(0, b"nobody");
    assert_eq!(world.counts(0), (0, 0, 6));
    world.start(1);
    world.provide_bytes(1, 4, 64, 1);
    assert_eq!(world.heard(1), b"", "no old bytes");
    // The ends are told nothing of each other.
    assert_eq!(world.read(0, INTERRUPT_STATUS) & 2, 0);
    world.say(0, b"hello");
    assert_eq!(world.heard(1), b"hello");
}

#[test]
fn end_that_is_reset_gets_no_old_bytes_and_its_last_words_arrive() {
    let mut world = World::consoles(16, true);
    world.say(0, &[7; 300]);
    world.say(1, b"last words");
    // The VM of port 1 ends; of what waits for it nothing is left.
    world.link.reset(1, &world.memories);
    world.look();
    assert_eq!(world.counts(1), (0, 0, 300));
    world.say(0, b"dropped");
    world.provide_bytes(0, 1, 64, 1);
    assert_eq!(world.heard(0), b"last words");
    world.start(1);
    world.provide_bytes(1, 2, 64, 1);
    assert_eq!(world.heard(1), b"");
    world.say(0, b"again");
    assert_eq!(world.heard(1), b"again");
    assert_eq!(world.counts(0), (5, 10, 7));
    assert_eq!(world.counts(1), (10, 5, 300));
}

#[test]
fn one_access_moves_a_bounded_number_of_bytes() {
    let mut world = World::consoles(256, true);
    world.provide_bytes(1, 256, 2048, 1);
    for place in 0..100 {
        world.enqueue(0, &text(place, 1500), 2);
    }
    let notify = Access::write(NOTIFY, AccessSize::Word, 1);
    let (mut arrived, mut accesses) = (0, 0);
    loop {
        accesses += 1;
        let outcome = world.try_access(0, notify);
        let some = world.heard(1).len();
        assert!(some <= 2 * MOST_WAITING, "{some}");
        arrived += some;
        if !outcome.is_unfinished {
            break;
        }
    }
    assert_eq!(arrived, 150_000);
    assert!(accesses > 30, "{accesses}");
}

/// A receiver that always has buffers which take nothing, or a byte in sixteen descriptors, holds no sender.
#[test]
fn sender_goes_on_beside_a_receiver_with_useless_buffers() {
    for bytes in [0, 1] {
        let mut world = World::consoles(256, true);
        let memory = &world.memories[1];
        let ring = &mut world.ends[1].receive;
        for index in 0..16 {
            let flags = if index == 15 { 2 } else { 3 };
            let length = if index == 15 { bytes } else { 0 };
            ring.describe(memory, index, BUFFERS, length, flags, index + 1);
        }
        for place in 0..64 {
            world.enqueue(0, &text(place, 2048), 1);
        }
        let notify = Access::write(NOTIFY, AccessSize::Word, 1);
        let mut accesses = 0;
        loop {
            let ring = &mut world.ends[1].receive;
            while ring
                .available
                .wrapping_sub(world.memories[1].get_u16(ring.device + 2))
                < 256
            {
                ring.offer(&world.memories[1], 0);
            }
            accesses += 1;
            assert!(accesses < 100, "the sender does not get on");
            if !world.try_access(0, notify).is_unfinished {
                break;
            }
        }
        assert_eq!(world.sent(0), 64);
        assert_eq!(world.read(1, STATUS), 15);
    }
}

/// What a call leaves, for its cost, goes to buffers that take a byte each.
#[test]
fn small_buffers_get_all_bytes_of_a_chunk() {
    let mut world = World::consoles(256, true);
    world.provide_bytes(1, 256, 1, 1);
    world.say(0, &text(0, 256));
    assert_eq!(world.heard(1), text(0, 256));
}

#[test]
fn wrong_chains_break_their_device_and_buffers_outside_of_ram_only_themselves() {
    for (descriptors, is_broken) in [(16, false), (17, true)] {
        // The sender's chain, and the receiver's.
        for broken in 0..2 {
            let mut world = World::consoles(64, true);
            if broken == 0 {
                world.provide_bytes(1, 1, 64, 1);
                world.enqueue(0, &text(0, descriptors), descriptors);
            } else {
                world.provide_bytes(1, 1, descriptors as u32, descriptors as u32);
                world.enqueue(0, &text(0, descriptors), 1);
            }
            world.write(0, NOTIFY, 1);
            let status = world.read(broken, STATUS) & NEEDS_RESET;
            assert_eq!(status != 0, is_broken, "{descriptors} {broken}");
            assert_eq!(world.read(1 - broken, STATUS), 15);
            if !is_broken {
                assert_eq!(world.heard(1), text(0, descriptors));
            } else if broken == 1 {
                assert_eq!(world.sent(0), 1);
                world.say(0, b"goes on");
            }
        }
    }
    let mut world = World::consoles(16, true);
    let end = RAM + driver::RAM_BYTES as u64;
    for (at, bytes) in [
        (0, 100),
        (end - 10, 100),
        (u64::MAX, u32::MAX),
        (RAM, u32::MAX),
    ] {
        world.ends[0]
            .transmit
            .add(&world.memories[0], &[(at, bytes, false)]);
        world.write(0, NOTIFY, 1);
        assert_eq!(world.sent(0), 1);
    }
    // The last one's beginning waits. What was read and is not in RAM counts as nothing.
    let counted = 2 * (u32::MAX as usize - MOST_WAITING);
    assert_eq!(world.counts(0), (0, 0, counted as u64));
    for at in [0, end - 10, u64::MAX] {
        world.ends[1]
            .receive
            .add(&world.memories[1], &[(at, 100, true)]);
    }
    world.write(1, NOTIFY, 0);
    let (memory, ring) = (&world.memories[1], &mut world.ends[1].receive);
    for _ in 0..3 {
        assert_eq!(ring.take(memory).map(|(_, bytes)| bytes), Some(0));
    }
    for port in 0..2 {
        assert_eq!(world.read(port, STATUS), 15);
    }
}

#[derive(Clone, Debug)]
enum Act {
    Say { from: usize, bytes: usize },
    Provide { to: usize, count: usize, bytes: u32 },
    Hear { to: usize },
    Reset { port: usize },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0..2_usize, 1..2048_usize).prop_map(|(from, bytes)| Act::Say { from, bytes }),
        6 => (0..2_usize, 1..9_usize, 1..2048_u32)
            .prop_map(|(to, count, bytes)| Act::Provide { to, count, bytes }),
        4 => (0..2_usize).prop_map(|to| Act::Hear { to }),
        1 => (0..2_usize).prop_map(|port| Act::Reset { port }),
    ]
}

proptest! {
    /// Two drivers that keep to the rules, in any order: a model knows each byte that arrives, and each that is dropped.
    #[test]
    fn bytes_arrive_as_in_the_model(
        event_idx in any::<bool>(),
        size in prop_oneof![Just(8_u16), Just(16), Just(256)],
        acts in prop::collection::vec(act(), 1..150),
    ) {
        let mut world = World::consoles(size, event_idx);
        // What each port is still to receive, and how much of that has a buffer.
        let mut coming = [Vec::new(), Vec::new()];
        let mut placed = [0; 2];
        let mut buffers = [Vec::new(), Vec::new()];
        let (mut said, mut dropped) = (0, [0, 0]);
        for act in acts {
            let mut changed = None;
            match act {
                Act::Say { from, bytes } => {
                    let to = 1 - from;
                    let chunk = text(said, bytes);
                    said += bytes;
                    world.say(from, &chunk);
                    let kept = bytes.min(MOST_WAITING - (coming[to].len() - placed[to]));
                    coming[to].extend(&chunk[..kept]);
                    dropped[from] += (bytes - kept) as u64;
                    changed = Some(to);
                }
                Act::Provide { to, count, bytes } => {
                    let count = count.min(world.ends[to].receive.room());
                    buffers[to].extend(core::iter::repeat_n(bytes as usize, count));
                    world.provide_bytes(to, count, bytes, 1);
                    changed = Some(to);
                }
                Act::Hear { to } => {
                    let heard = world.heard(to);
                    prop_assert_eq!(heard.len(), placed[to]);
                    prop_assert!(heard.iter().eq(coming[to].iter().take(placed[to])));
                    coming[to].drain(..placed[to]);
                    placed[to] = 0;
                }
                Act::Reset { port } => {
                    world.start(port);
                    dropped[port] += (coming[port].len() - placed[port]) as u64;
                    coming[port].clear();
                    placed[port] = 0;
                    buffers[port].clear();
                }
            }
            if let Some(to) = changed {
                let mut used = 0;
                for bytes in &buffers[to] {
                    let waiting = coming[to].len() - placed[to];
                    if waiting == 0 {
                        break;
                    }
                    placed[to] += waiting.min(*bytes);
                    used += 1;
                }
                buffers[to].drain(..used);
            }
            prop_assert_eq!([0, 1].map(|from| world.counts(from).2), dropped);
        }
    }
}
