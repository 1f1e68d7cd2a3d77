// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The network device (VIRTIO 1.2, 5.1): a MAC address, a link that is up or down, frames of up to 1514 bytes, or 1518
//! with a VLAN tag. It offers no checksums and no segmentation, so a frame is what travels on a wire.

use crate::mmio::Device;

/// The receive queue, `receiveq1` (5.1.2).
pub const RECEIVE: usize = 0;
/// The transmit queue, `transmitq1` (5.1.2).
pub const TRANSMIT: usize = 1;
/// The number of queues.
pub const QUEUES: usize = 2;

/// VIRTIO_NET_F_MAC: the configuration has the MAC address.
const MAC: u64 = 1 << 5;
/// VIRTIO_NET_F_STATUS: the configuration has the state of the link.
const STATUS: u64 = 1 << 16;

/// VIRTIO_NET_S_LINK_UP.
const LINK_UP: u8 = 1;

/// The bytes of `struct virtio_net_hdr` in front of each frame (5.1.6).
pub const HEADER_BYTES: usize = 12;
/// The header of a received frame: no offload, and one buffer (`num_buffers`, which is always there with VERSION_1).
pub const HEADER: [u8; HEADER_BYTES] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
/// The bytes of the shortest frame: two addresses and a type. There is no padding.
pub const MIN_FRAME: usize = 14;
/// The bytes of the longest frame: 1500 of payload, addresses and type, and a VLAN tag.
pub const MAX_FRAME: usize = 1518;

/// A MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// Returns the address of a VM's end of a link, by their numbers: locally administered (the two low bits of the first
    /// byte are 10), the same at each start, and no other port's.
    pub const fn of_port(link: u8, vm: u8) -> Self {
        Self([0x02, b'p', b's', b't', link, vm])
    }

    /// Returns whether frames to this address are for several ports.
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

/// What a driver sees of a network device.
#[derive(Clone, Debug)]
pub struct Net {
    /// `struct virtio_net_config`, up to `status` (5.1.4).
    config: [u8; 8],
}

impl Net {
    /// Returns a device whose link is down.
    pub const fn new(mac: MacAddress) -> Self {
        let [a, b, c, d, e, f] = mac.0;
        Self {
            config: [a, b, c, d, e, f, 0, 0],
        }
    }

    /// Returns whether the link is up.
    pub const fn is_up(&self) -> bool {
        self.config[6] == LINK_UP
    }

    /// Takes the link up or down.
    pub const fn set_up(&mut self, is_up: bool) {
        self.config[6] = if is_up { LINK_UP } else { 0 };
    }
}

impl Device for Net {
    fn id(&self) -> u32 {
        1
    }

    fn features(&self) -> u64 {
        MAC | STATUS
    }

    fn config(&self) -> &[u8] {
        &self.config
    }
}
