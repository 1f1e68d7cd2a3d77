// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;
use crate::link::Counters;
use crate::net::{MAX_FRAME, MIN_FRAME};
use proptest::prelude::*;
use std::collections::VecDeque;

fn any_frame(bytes: usize, seed: u8) -> Vec<u8> {
    frame(mac(1), mac(0), bytes, seed)
}

#[test]
fn frame_arrives_whole_whatever_its_pieces_are() {
    for event_idx in [false, true] {
        let mut world = World::up(2, 16, event_idx);
        for (bytes, pieces) in [(MIN_FRAME, 1), (60, 2), (1514, 1), (1514, 3), (101, 13)] {
            for (from, to) in [(0, 1), (1, 0)] {
                world.provide(to, 1);
                let sent = frame(mac(to), mac(from), bytes, pieces as u8);
                assert!(world.enqueue(from, &sent, pieces), "it wants to know");
                world.write(from, NOTIFY, 1);
                assert!(world.ends[to].line, "{bytes} {pieces}");
                assert_eq!(world.read(to, INTERRUPT_STATUS), 1);
                world.write(to, INTERRUPT_ACK, 1);
                assert!(!world.ends[to].line);
                assert_eq!(world.received(to), [sent]);
                assert_eq!(world.sent(from), 1);
                world.settle();
            }
        }
        let counters = world.link.counters(0);
        assert_eq!(
            (counters.sent, counters.received, counters.dropped),
            (5, 5, 0)
        );
    }
}

#[test]
fn frames_of_wrong_lengths_are_dropped() {
    let mut world = World::up(2, 16, true);
    world.provide(1, 8);
    for bytes in [MIN_FRAME - 1, MAX_FRAME + 1, MAX_FRAME + 400] {
        world.send(0, &any_frame(bytes, 3));
    }
    assert!(world.received(1).is_empty());
    assert_eq!(world.sent(0), 3);
    assert_eq!(world.link.counters(0).dropped, 3);
    // A frame that is longer than the receiver's buffer.
    world.send(0, &any_frame(MAX_FRAME, 3));
    assert!(world.received(1).is_empty());
    world.send(0, &any_frame(1514, 3));
    assert_eq!(world.received(1).len(), 1);
}

#[test]
fn one_access_moves_a_bounded_number_of_frames() {
    let mut world = World::up(2, 256, true);
    world.provide(1, 128);
    for seed in 0..100 {
        world.enqueue(0, &any_frame(200, seed), 1);
    }
    let notify = Access::write(NOTIFY, AccessSize::Word, 1);
    let mut arrived = Vec::new();
    let mut accesses = 0;
    loop {
        accesses += 1;
        let outcome = world.try_access(0, notify);
        let some = world.received(1);
        assert!(some.len() <= 32);
        arrived.extend(some);
        if !outcome.is_unfinished {
            break;
        }
    }
    assert!(accesses > 3);
    let sent: Vec<_> = (0..100).map(|seed| any_frame(200, seed)).collect();
    assert_eq!(arrived, sent);
}

#[test]
fn frames_wait_for_buffers_and_then_expire() {
    for event_idx in [false, true] {
        let mut world = World::up(2, 16, event_idx);
        for seed in 0..6 {
            world.send(0, &any_frame(100, seed));
        }
        assert_eq!(world.sent(0), 0, "they stay in the ring");
        assert!(world.link.is_waiting());
        // Buffers that come are filled.
        world.provide(1, 2);
        assert_eq!(world.received(1).len(), 2);
        assert_eq!(world.sent(0), 2);
        assert!(world.ends[0].line, "the sender has room again");
        // Progress is no reason to expire.
        world.link.expire(&world.memories);
        world.provide(1, 1);
        world.link.expire(&world.memories);
        assert_eq!(world.received(1).len(), 1);
        assert_eq!((world.sent(0), world.link.counters(0).dropped), (1, 0));
        world.link.expire(&world.memories);
        assert_eq!((world.sent(0), world.link.counters(0).dropped), (3, 3));
        assert!(!world.link.is_waiting());
        // It goes on.
        world.send(0, &any_frame(100, 9));
        world.provide(1, 3);
        assert_eq!(world.received(1), [any_frame(100, 9)]);
    }
}

/// The receiver's one notification moves all frames that waited, however many calls that takes.
#[test]
fn buffers_for_many_waiting_frames_are_filled_with_one_notification() {
    for event_idx in [false, true] {
        let mut world = World::up(2, 256, event_idx);
        for seed in 0..100 {
            world.send(0, &any_frame(100, seed));
        }
        assert!(world.link.is_waiting());
        world.provide(1, 120);
        assert_eq!(world.received(1).len(), 100);
        assert_eq!(world.sent(0), 100);
        assert!(!world.link.is_waiting());
        // The sender notifies again.
        assert!(world.enqueue(0, &any_frame(100, 7), 1));
    }
}

/// A retry that never comes leaves frames that wait, and expire.
#[test]
fn frames_of_an_abandoned_call_expire() {
    let mut world = World::up(2, 256, true);
    for seed in 0..100 {
        world.send(0, &any_frame(100, seed));
    }
    let memory = &world.memories[1];
    for slot in 0..120 {
        let buffer = (RAM + 0x1_0000 + 0x800 * slot, 1526, true);
        world.ends[1].receive.add(memory, &[buffer]);
    }
    let notify = Access::write(NOTIFY, AccessSize::Word, 0);
    assert!(world.try_access(1, notify).is_unfinished);
    assert!(world.link.is_waiting());
    world.link.expire(&world.memories);
    world.link.expire(&world.memories);
    assert_eq!(world.sent(0), 100);
    assert!(world.enqueue(0, &any_frame(100, 7), 1), "it notifies again");
}

/// A whole ring of frames to nobody is dropped at once, and the sender notifies of the next one.
#[test]
fn full_ring_is_dropped_and_listened_to() {
    let mut world = World::new(2, 256, true);
    world.start(0);
    world.settle();
    for seed in 0..=255 {
        world.enqueue(0, &any_frame(20, seed), 1);
    }
    world.write(0, NOTIFY, 1);
    assert_eq!(world.sent(0), 256);
    assert!(world.enqueue(0, &any_frame(100, 7), 1));
}

#[test]
fn receiver_is_asked_to_notify_only_where_frames_wait() {
    for event_idx in [false, true] {
        let mut world = World::up(2, 64, event_idx);
        world.provide(1, 4);
        let memory = &world.memories[1];
        let ring = &mut world.ends[1].receive;
        ring.add(memory, &[(RAM + 0x1_8000, 1526, true)]);
        assert!(!ring.must_notify(memory));
        for seed in 0..6 {
            world.send(0, &any_frame(100, seed));
        }
        let memory = &world.memories[1];
        let ring = &mut world.ends[1].receive;
        ring.add(memory, &[(RAM + 0x1_9000, 1526, true)]);
        assert!(ring.must_notify(memory));
        world.write(1, NOTIFY, 0);
        assert_eq!(world.received(1).len(), 6);
        let memory = &world.memories[1];
        let ring = &mut world.ends[1].receive;
        ring.add(memory, &[(RAM + 0x1_9000, 1526, true)]);
        assert!(!ring.must_notify(memory));
    }
}

#[test]
fn link_is_up_while_the_other_driver_is() {
    let mut world = World::new(2, 16, true);
    assert!(!world.is_up(0) && !world.is_up(1));
    world.start(0);
    assert!(!world.is_up(0) && world.is_up(1));
    assert_eq!(world.read(0, INTERRUPT_STATUS), 0);
    // Frames go nowhere, but they go.
    world.send(0, &any_frame(100, 0));
    assert_eq!(world.sent(0), 1);
    world.settle();
    let generation = world.read(0, 0xfc);
    world.start(1);
    assert!(world.is_up(0) && world.is_up(1));
    assert_eq!(world.read(0, INTERRUPT_STATUS), 2);
    assert_ne!(world.read(0, 0xfc), generation);
    world.settle();
    // Some frames wait when the other end goes.
    for seed in 0..3 {
        world.send(0, &any_frame(100, seed));
    }
    assert_eq!(world.sent(0), 0);
    world.link.reset(1, &world.memories);
    world.look();
    assert!(!world.is_up(0) && world.is_up(1));
    assert_eq!(world.sent(0), 3);
    assert_eq!(world.read(0, INTERRUPT_STATUS), 3);
    assert!(world.ends[0].line);
    // A driver that acknowledges one reason hears of the other, by another edge, and one that acknowledges nothing does not.
    let edges = world.ends[0].edges;
    world.write(0, INTERRUPT_ACK, 0);
    assert_eq!(world.ends[0].edges, edges);
    world.write(0, INTERRUPT_ACK, 2);
    assert!(world.ends[0].line);
    assert_eq!(world.ends[0].edges, edges + 1);
    world.write(0, INTERRUPT_ACK, 1);
    assert!(!world.ends[0].line);
    world.settle();
    world.start(1);
    assert!(world.is_up(0) && world.is_up(1));
    world.provide(1, 1);
    world.send(0, &any_frame(100, 5));
    assert_eq!(world.received(1), [any_frame(100, 5)]);
    assert_eq!(
        world.link.counters(0),
        Counters {
            sent: 1,
            received: 0,
            dropped: 4
        }
    );
}

#[test]
fn interrupts_come_as_the_driver_wants_them() {
    for event_idx in [false, true] {
        let mut world = World::up(2, 64, event_idx);
        world.provide(1, 20);
        world.ends[1]
            .receive
            .want_interrupt(&world.memories[1], false);
        world.send(0, &any_frame(100, 0));
        assert!(!world.ends[1].line);
        assert_eq!(world.received(1).len(), 1);
        world.send(0, &any_frame(100, 0));
        assert!(world.ends[1].line);
        world.settle();
        if event_idx {
            // The third one from now.
            let event = world.ends[1].receive.used.wrapping_add(3);
            let ring = &world.ends[1].receive;
            let place = ring.driver + 4 + 2 * 64;
            world.memories[1].put(place, &event.to_le_bytes());
            for expected in [false, false, true, true] {
                world.send(0, &any_frame(100, 0));
                assert_eq!(world.ends[1].line, expected);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Act {
    Send {
        from: usize,
        bytes: usize,
        pieces: usize,
        notify: bool,
    },
    Provide {
        to: usize,
        count: usize,
    },
    Receive {
        to: usize,
    },
    Reset {
        port: usize,
    },
    Expire,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0..2_usize, MIN_FRAME..1514, 1..4_usize, any::<bool>())
            .prop_map(|(from, bytes, pieces, notify)| Act::Send { from, bytes, pieces, notify }),
        4 => (0..2_usize, 1..9_usize).prop_map(|(to, count)| Act::Provide { to, count }),
        4 => (0..2_usize).prop_map(|to| Act::Receive { to }),
        1 => (0..2_usize).prop_map(|port| Act::Reset { port }),
        1 => Just(Act::Expire),
    ]
}

proptest! {
    /// Two drivers that keep to the rules, in any order: frames arrive in their order and whole, only resets and
    /// expiry lose some, and what nobody waits for is nowhere.
    #[test]
    fn frames_arrive_in_order(
        event_idx in any::<bool>(),
        size in prop_oneof![Just(8_u16), Just(16), Just(256)],
        acts in prop::collection::vec(act(), 1..150),
    ) {
        let mut world = World::up(2, size, event_idx);
        // What each port is still to receive.
        let mut expected = [VecDeque::new(), VecDeque::new()];
        let mut seed = 0_u8;
        for act in acts {
            match act {
                Act::Send { from, bytes, pieces, notify } => {
                    world.sent(from);
                    if world.ends[from].transmit.room() < pieces {
                        continue;
                    }
                    seed = seed.wrapping_add(1);
                    let frame = frame(mac(1 - from), mac(from), bytes, seed);
                    let wanted = world.enqueue(from, &frame, pieces);
                    expected[1 - from].push_back(frame);
                    if wanted || notify {
                        world.write(from, NOTIFY, 1);
                    }
                }
                Act::Provide { to, count } => {
                    let room = world.ends[to].receive.room() / 2;
                    world.provide(to, count.min(room));
                }
                Act::Receive { to } => {
                    world.settle();
                    for frame in world.received(to) {
                        prop_assert_eq!(Some(frame), expected[to].pop_front());
                    }
                }
                Act::Reset { port } => {
                    world.start(port);
                    expected[0].clear();
                    expected[1].clear();
                    // What the other has received but not looked at.
                    let other = 1 - port;
                    world.received(other);
                    world.sent(other);
                }
                Act::Expire => {
                    if world.link.is_waiting() {
                        continue;
                    }
                    world.link.expire(&world.memories);
                    world.look();
                }
            }
        }
        // All that was sent arrives once there are buffers.
        for to in [0, 1] {
            for _ in 0..300 {
                world.write(1 - to, NOTIFY, 1);
                for frame in world.received(to) {
                    prop_assert_eq!(Some(frame), expected[to].pop_front());
                }
                let room = world.ends[to].receive.room() / 2;
                world.provide(to, room);
            }
            prop_assert!(expected[to].is_empty(), "{} left", expected[to].len());
        }
    }
}
