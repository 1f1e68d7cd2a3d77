// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests with a model of a driver.

mod console;
mod driver;
mod hostile;
mod registers;
mod requests;
mod switch;
mod wire;

use crate::console::MOST_WAITING;
use crate::link::{Link, Outcome};
use crate::mmio::{EVENT_IDX, VERSION_1};
use crate::net::{HEADER, MacAddress};
use driver::{BUFFER_BYTES, Memory, RAM, Ring};
use postern_base::mmio::{Access, AccessSize};

/// VIRTIO_NET_F_MAC and VIRTIO_NET_F_STATUS.
const NET: u64 = 1 << 5 | 1 << 16;

const NOTIFY: u64 = 0x50;
const INTERRUPT_STATUS: u64 = 0x60;
const INTERRUPT_ACK: u64 = 0x64;
const STATUS: u64 = 0x70;
const CONFIG: u64 = 0x100;

/// A link with a driver at each port.
struct World {
    link: Link<'static>,
    /// The features of the kind of device.
    features: u64,
    memories: Vec<Memory>,
    ends: Vec<End>,
}

/// A driver's own state.
struct End {
    receive: Ring,
    transmit: Ring,
    /// The levels of the interrupt line that were seen.
    line: bool,
    /// How many times it has risen.
    edges: usize,
}

fn mac(port: usize) -> MacAddress {
    MacAddress::of_port(0, port as u8)
}

/// A frame of `bytes` bytes to an address.
fn frame(to: MacAddress, from: MacAddress, bytes: usize, seed: u8) -> Vec<u8> {
    let mut frame = [to.0, from.0].concat();
    frame.extend((0..bytes - 12).map(|place| (place as u8).wrapping_mul(seed | 1)));
    frame
}

/// Two consoles.
fn consoles() -> Link<'static> {
    let mut link = Link::new((0..2).map(mac));
    link.make_consoles(|| vec![0; MOST_WAITING].leak());
    link
}

impl World {
    fn new(ports: usize, size: u16, event_idx: bool) -> Self {
        Self::of(Link::new((0..ports).map(mac)), NET, ports, size, event_idx)
    }

    fn of(link: Link<'static>, features: u64, ports: usize, size: u16, event_idx: bool) -> Self {
        let end = |_| End {
            receive: Ring::new(RAM, size, event_idx),
            transmit: Ring::new(RAM + 0x4000, size, event_idx),
            line: false,
            edges: 0,
        };
        Self {
            link,
            features,
            memories: (0..ports).map(|_| Memory::new()).collect(),
            ends: (0..ports).map(end).collect(),
        }
    }

    /// A link whose ports are all up.
    fn up(ports: usize, size: u16, event_idx: bool) -> Self {
        Self::new(ports, size, event_idx).all_up()
    }

    /// Two consoles that are both up.
    fn consoles(size: u16, event_idx: bool) -> Self {
        Self::of(consoles(), 0, 2, size, event_idx).all_up()
    }

    fn all_up(mut self) -> Self {
        for port in 0..self.ends.len() {
            self.start(port);
        }
        self.settle();
        self
    }

    /// Acknowledges all interrupts.
    fn settle(&mut self) {
        for port in 0..self.ends.len() {
            let pending = self.read(port, INTERRUPT_STATUS);
            self.write(port, INTERRUPT_ACK, pending);
        }
    }

    fn try_access(&mut self, port: usize, access: Access) -> Outcome {
        let outcome = self.link.access(port, access, &self.memories);
        self.look();
        outcome
    }

    /// Takes over the levels of the interrupt lines.
    fn look(&mut self) {
        for change in self.link.changed_lines() {
            let end = &mut self.ends[change.port];
            assert_eq!(end.line == change.level, change.is_again);
            end.line = change.level;
            end.edges += usize::from(change.level);
        }
    }

    /// Makes an access until it is done. Returns the value read.
    fn access(&mut self, port: usize, access: Access) -> u64 {
        loop {
            let outcome = self.try_access(port, access);
            if !outcome.is_unfinished {
                return outcome.value;
            }
        }
    }

    fn read(&mut self, port: usize, register: u64) -> u32 {
        self.access(port, Access::read(register, AccessSize::Word)) as u32
    }

    fn write(&mut self, port: usize, register: u64, value: u32) {
        self.access(
            port,
            Access::write(register, AccessSize::Word, value.into()),
        );
    }

    fn start(&mut self, port: usize) {
        let (size, event_idx) = {
            let ring = &self.ends[port].receive;
            (ring.size, ring.has_event_idx)
        };
        self.ends[port].receive = Ring::new(RAM, size, event_idx);
        self.ends[port].transmit = Ring::new(RAM + 0x4000, size, event_idx);
        self.memories[port].put(RAM, &[0; 0x8000]);
        let wanted = VERSION_1 | self.features | if event_idx { EVENT_IDX } else { 0 };
        let (receive, transmit) = (
            self.ends[port].receive.clone(),
            self.ends[port].transmit.clone(),
        );
        let mut device = |access| self.access(port, access);
        assert!(driver::negotiate(&mut device, wanted));
        driver::set_up(&mut device, 0, &receive);
        driver::set_up(&mut device, 1, &transmit);
        driver::go(&mut device);
    }

    fn is_up(&mut self, port: usize) -> bool {
        self.access(port, Access::read(CONFIG + 6, AccessSize::Half)) == 1
    }

    /// The bytes in front of each frame; none in front of a console's bytes.
    fn header(&self) -> &'static [u8] {
        if self.features == 0 { &[] } else { &HEADER }
    }

    /// Puts a frame, split where the lengths say, into the transmit queue. Returns whether to notify.
    fn enqueue(&mut self, port: usize, frame: &[u8], pieces: usize) -> bool {
        let bytes = [vec![0x55; self.header().len()], frame.to_vec()].concat();
        let ring = &mut self.ends[port].transmit;
        let memory = &self.memories[port];
        let at = RAM + 0x8_0000 + BUFFER_BYTES * u64::from(ring.available % ring.size);
        memory.put(at, &bytes);
        let piece = bytes.len().div_ceil(pieces);
        let buffers: Vec<_> = bytes
            .chunks(piece)
            .enumerate()
            .map(|(index, chunk)| (at + (index * piece) as u64, chunk.len() as u32, false))
            .collect();
        ring.add(memory, &buffers);
        ring.must_notify(memory)
    }

    fn send(&mut self, port: usize, frame: &[u8]) {
        if self.enqueue(port, frame, 1) {
            self.write(port, NOTIFY, 1);
        }
    }

    /// Gives the device receive buffers. Notifies where it wants that.
    fn provide(&mut self, port: usize, count: usize) {
        let ring = &mut self.ends[port].receive;
        let memory = &self.memories[port];
        for _ in 0..count {
            let at = RAM + 0x1_0000 + BUFFER_BYTES * u64::from(ring.available % ring.size);
            ring.add(memory, &[(at, 12, true), (at + 12, 1514, true)]);
        }
        if ring.must_notify(memory) {
            self.write(port, NOTIFY, 0);
        }
    }

    /// Takes the frames that have arrived.
    fn received(&mut self, port: usize) -> Vec<Vec<u8>> {
        let header = self.header();
        let memory = &self.memories[port];
        let ring = &mut self.ends[port].receive;
        let mut frames = Vec::new();
        while let Some((head, bytes)) = ring.take(memory) {
            let first: [u8; 8] = memory.get(ring.descriptors + 16 * u64::from(head));
            let bytes = memory.bytes(u64::from_le_bytes(first), bytes as usize);
            if !bytes.is_empty() {
                assert!(bytes.starts_with(header));
                frames.push(bytes[header.len()..].to_vec());
            }
        }
        ring.want_interrupt(memory, true);
        frames
    }

    /// Takes back what was sent. Returns how many frames that were.
    fn sent(&mut self, port: usize) -> usize {
        let memory = &self.memories[port];
        let ring = &mut self.ends[port].transmit;
        let count = core::iter::from_fn(|| ring.take(memory)).count();
        ring.want_interrupt(memory, true);
        count
    }
}
