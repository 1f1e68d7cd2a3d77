// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;

const ALL: MacAddress = MacAddress([0xff; 6]);
const OTHER: MacAddress = MacAddress([0x02, 9, 9, 9, 9, 9]);

/// A switch whose ports all have buffers.
fn switch(ports: usize) -> World {
    let mut world = World::up(ports, 64, true);
    for port in 0..ports {
        world.provide(port, 16);
    }
    world
}

/// Sends a frame, and returns the ports that have received it.
fn send(world: &mut World, from: usize, to: MacAddress, sender: MacAddress) -> Vec<usize> {
    let sent = frame(to, sender, 80, 7);
    world.send(from, &sent);
    assert_eq!(world.sent(from), 1);
    let ports = 0..world.ends.len();
    ports
        .filter(|&port| {
            let frames = world.received(port);
            assert!(frames.iter().all(|frame| *frame == sent) && frames.len() <= 1);
            !frames.is_empty()
        })
        .collect()
}

#[test]
fn frame_goes_to_the_port_with_its_address() {
    let mut world = switch(4);
    for from in 0..4 {
        for to in 0..4 {
            let ports = send(&mut world, from, mac(to), mac(from));
            assert_eq!(ports, if from == to { vec![] } else { vec![to] });
        }
        let all: Vec<_> = (0..4).filter(|port| *port != from).collect();
        assert_eq!(send(&mut world, from, ALL, mac(from)), all);
    }
}

#[test]
fn other_addresses_belong_to_no_port() {
    let mut world = switch(3);
    for from in [1, 2, 1] {
        // A frame to it goes to all, whichever port has used it.
        let others: Vec<_> = (0..3).filter(|port| *port != from).collect();
        assert_eq!(send(&mut world, from, OTHER, OTHER), others);
        assert_eq!(send(&mut world, 0, OTHER, mac(0)), [1, 2]);
        assert_eq!(send(&mut world, from, mac(0), OTHER), [0]);
    }
    // The address of a neighbour's device is for no other port to use.
    assert_eq!(send(&mut world, 1, mac(0), mac(2)), []);
    assert_eq!(send(&mut world, 1, ALL, mac(2)), []);
    assert_eq!(send(&mut world, 0, mac(2), mac(0)), [2]);
}

#[test]
fn port_without_buffers_stops_nobody() {
    let mut world = World::up(3, 16, true);
    world.provide(1, 4);
    assert_eq!(send(&mut world, 0, ALL, mac(0)), [1]);
    assert_eq!(send(&mut world, 0, mac(2), mac(0)), []);
    assert_eq!(send(&mut world, 0, mac(1), mac(0)), [1]);
    assert_eq!(world.link.counters(2).dropped, 2);
    assert_eq!(world.link.counters(0).dropped, 1);
    assert!(!world.link.is_waiting());
}

#[test]
fn link_is_up_while_any_other_is() {
    let mut world = World::new(3, 16, false);
    world.start(1);
    assert!(world.is_up(0) && !world.is_up(1) && world.is_up(2));
    world.start(0);
    assert!(world.is_up(0) && world.is_up(1) && world.is_up(2));
    world.link.reset(1, &world.memories);
    assert!(!world.is_up(0) && world.is_up(1) && world.is_up(2));
}
