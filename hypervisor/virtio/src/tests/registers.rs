// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;
use crate::mmio::{Event, Status, Transport};
use crate::net::Net;
use crate::tests::driver::{go, negotiate, read, set_up, write};

/// A network device without a link.
struct Lone {
    transport: Transport<2>,
    net: Net,
    event: Event,
}

impl Lone {
    fn new() -> Self {
        Self {
            transport: Transport::new(),
            net: Net::new(mac(7)),
            event: Event::None,
        }
    }

    fn access(&mut self) -> impl FnMut(Access) -> u64 {
        |access| {
            let (value, event) = self.transport.access(&mut self.net, access);
            self.event = event;
            value
        }
    }
}

#[test]
fn driver_finds_a_network_device_with_its_address() {
    let mut lone = Lone::new();
    let mut device = lone.access();
    assert_eq!(read(&mut device, 0x08), 1);
    assert_eq!(read(&mut device, 0x0c), u32::from_le_bytes(*b"POST"));
    let address: Vec<_> = (0..6)
        .map(|place| device(Access::read(CONFIG + place, AccessSize::Byte)) as u8)
        .collect();
    assert_eq!(address, [2, b'p', b's', b't', 0, 7]);
    assert_eq!(read(&mut device, CONFIG), u32::from_le_bytes(*b"\x02pst"));
    assert_eq!(read(&mut device, CONFIG + 8), 0, "behind the configuration");
    assert_eq!(read(&mut device, 0x1fc), 0);
    // No shared memory.
    write(&mut device, 0xac, 0);
    for register in [0xb0, 0xb4, 0xb8, 0xbc] {
        assert_eq!(read(&mut device, register), u32::MAX);
    }
    // A third queue does not exist.
    for (queue, most) in [(0, 256), (1, 256), (2, 0), (u32::MAX, 0)] {
        write(&mut device, 0x30, queue);
        assert_eq!(read(&mut device, 0x34), most);
        write(&mut device, 0x38, 16);
        write(&mut device, 0x44, 1);
        assert_eq!(read(&mut device, 0x44), 0, "not before FEATURES_OK");
    }
}

#[test]
fn features_are_what_was_offered_and_version_1() {
    for (wanted, agreed) in [
        (VERSION_1, true),
        (VERSION_1 | EVENT_IDX | NET, true),
        (0, false),
        (NET, false),
        (VERSION_1 | 1 << 28, false), // Indirect descriptors.
        (VERSION_1 | 1 << 34, false), // Packed rings.
        (VERSION_1 | 1, false),       // Checksums.
    ] {
        let mut lone = Lone::new();
        assert_eq!(negotiate(&mut lone.access(), wanted), agreed, "{wanted:#x}");
        go(&mut lone.access());
        assert_eq!(lone.transport.is_live(), agreed, "{wanted:#x}");
        assert_eq!(lone.transport.negotiated(), if agreed { wanted } else { 0 });
        assert_eq!(
            lone.event,
            if agreed { Event::Changed } else { Event::None }
        );
        // What was agreed stays.
        write(&mut lone.access(), 0x24, 0);
        write(&mut lone.access(), 0x20, 0);
        assert_eq!(lone.transport.negotiated(), if agreed { wanted } else { 0 });
    }
}

#[test]
fn status_is_only_ever_added_to_until_a_reset() {
    let mut lone = Lone::new();
    // DRIVER_OK before the features are agreed on has no effect.
    write(&mut lone.access(), STATUS, 7);
    assert_eq!(read(&mut lone.access(), STATUS), 3);
    assert!(negotiate(&mut lone.access(), VERSION_1));
    go(&mut lone.access());
    write(&mut lone.access(), STATUS, 1);
    assert_eq!(read(&mut lone.access(), STATUS), 15);
    // A driver cannot say that the device is broken, nor that it is well again.
    write(&mut lone.access(), STATUS, 64);
    assert_eq!(read(&mut lone.access(), STATUS), 15);
    // FAILED.
    write(&mut lone.access(), STATUS, 128);
    assert_eq!(lone.event, Event::Changed);
    assert!(!lone.transport.is_live());
    write(&mut lone.access(), STATUS, 0);
    assert_eq!(lone.transport.status(), Status::empty());
}

#[test]
fn queue_of_a_wrong_shape_breaks_the_device() {
    let good = Ring::new(RAM, 16, false);
    let wrong = [
        Ring {
            size: 0,
            ..good.clone()
        },
        Ring {
            size: 3,
            ..good.clone()
        },
        Ring {
            descriptors: RAM + 8,
            ..good.clone()
        },
        Ring {
            driver: RAM + 1,
            ..good.clone()
        },
        Ring {
            device: RAM + 2,
            ..good.clone()
        },
        Ring {
            device: u64::MAX - 3,
            ..good.clone()
        },
    ];
    for ring in wrong {
        let mut lone = Lone::new();
        assert!(negotiate(&mut lone.access(), VERSION_1));
        set_up(&mut lone.access(), 0, &ring);
        go(&mut lone.access());
        assert!(!lone.transport.is_live(), "{ring:?}");
        assert_eq!(read(&mut lone.access(), STATUS) & 64, 64);
        assert_eq!(read(&mut lone.access(), 0x44), 0);
        // A reset cures it.
        assert!(negotiate(&mut lone.access(), VERSION_1));
        set_up(&mut lone.access(), 0, &good);
        go(&mut lone.access());
        assert!(lone.transport.is_live());
        assert_eq!(read(&mut lone.access(), 0x44), 1);
    }
    // Larger than the most.
    let mut lone = Lone::new();
    assert!(negotiate(&mut lone.access(), VERSION_1));
    for size in [512, 0x1_0010] {
        write(&mut lone.access(), 0x38, size);
        write(&mut lone.access(), 0x44, 1);
        assert_eq!(read(&mut lone.access(), 0x44), 0);
        assert_eq!(read(&mut lone.access(), STATUS) & 64, 64);
    }
}

#[test]
fn registers_have_accesses_of_32_bits_only() {
    let mut lone = Lone::new();
    let mut device = lone.access();
    for size in [AccessSize::Byte, AccessSize::Half, AccessSize::Double] {
        assert_eq!(device(Access::read(0, size)), 0);
        device(Access::write(STATUS, size, 1));
    }
    assert_eq!(read(&mut device, STATUS), 0);
    assert_eq!(
        device(Access::read(CONFIG, AccessSize::Double)),
        u64::from_le_bytes(*b"\x02pst\0\x07\0\0")
    );
}
