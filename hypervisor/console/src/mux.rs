// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Many consoles over one byte stream.
//!
//! `0xFF c` makes `c` the current channel, `0xFF 0xFF` is a byte 0xFF of the current channel, and
//! every other byte belongs to the current channel. Both directions use this format. A stream
//! without 0xFF is its own encoding, so a sender that runs before the first switch need not know
//! the format.

use postern_base::ids::VmIndex;

const ESCAPE: u8 = 0xff;

/// A channel number: any byte but 0xFF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Channel(u8);

impl Channel {
    /// The hypervisor's channel: log lines and events out, monitor commands in.
    pub const HYPERVISOR: Self = Self(0);
    /// The flow-control channel, which is no console ([`super::flow`]): questions in, answers out.
    pub const FLOW: Self = Self(0xfe);

    /// Returns the channel with this number, or `None` for 0xFF.
    #[inline]
    pub const fn new(number: u8) -> Option<Self> {
        if number == ESCAPE {
            None
        } else {
            Some(Self(number))
        }
    }

    /// Returns the channel of a VM's console: 1 for the first VM, and so on.
    #[inline]
    pub const fn of_vm(vm: VmIndex) -> Self {
        Self(vm.get() as u8 + 1)
    }

    /// Returns the VM whose console the channel is, or `None` for the hypervisor's channel and for
    /// channels that no VM can have.
    #[inline]
    pub const fn vm(self) -> Option<VmIndex> {
        match self.0.checked_sub(1) {
            Some(index) => VmIndex::new(index as usize),
            None => None,
        }
    }

    /// Returns the channel number.
    #[inline]
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// The most bytes in the encoding of one byte: a switch and an escape.
pub const MAX_ENCODED: usize = 4;

/// The encoding of one byte: at most [`MAX_ENCODED`] bytes, which the sender must not separate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    bytes: [u8; MAX_ENCODED],
    len: usize,
}

impl Encoded {
    /// Returns the bytes to send.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }
}

/// The sending end.
#[derive(Clone, Debug, Default)]
pub struct Encoder {
    current: Option<Channel>,
}

impl Encoder {
    /// Creates an encoder that begins with a switch, whatever was sent before.
    pub const fn new() -> Self {
        Self { current: None }
    }

    /// Returns the encoding of `byte` of `channel`. The caller sends all of it with nothing in
    /// between.
    #[inline]
    pub fn encode(&mut self, channel: Channel, byte: u8) -> Encoded {
        let mut encoded = Encoded {
            bytes: [0; MAX_ENCODED],
            len: 0,
        };
        if self.current != Some(channel) {
            self.current = Some(channel);
            encoded.push(ESCAPE);
            encoded.push(channel.0);
        }
        if byte == ESCAPE {
            encoded.push(ESCAPE);
        }
        encoded.push(byte);
        encoded
    }

    /// Passes the encoding of the `bytes` of `channel` to `send`.
    pub fn encode_all(&mut self, channel: Channel, bytes: &[u8], mut send: impl FnMut(u8)) {
        for &byte in bytes {
            let encoded = self.encode(channel, byte);
            encoded.as_bytes().iter().copied().for_each(&mut send);
        }
    }
}

/// A received byte with its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The channel; `None` before the first switch if the decoder has no initial channel.
    pub channel: Option<Channel>,
    /// The byte.
    pub byte: u8,
}

/// The receiving end.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    current: Option<Channel>,
    escaped: bool,
}

impl Decoder {
    /// Creates a decoder that assigns bytes before the first switch to `initial`. The hypervisor's
    /// receiver uses [`Channel::HYPERVISOR`]. A receiver of the hypervisor's output uses `None`,
    /// because those bytes come from the firmware.
    pub const fn new(initial: Option<Channel>) -> Self {
        Self {
            current: initial,
            escaped: false,
        }
    }

    /// Takes the next byte of the stream. Returns the channel's byte that it completes, if any.
    #[inline]
    pub fn push(&mut self, byte: u8) -> Option<Decoded> {
        if self.escaped {
            self.escaped = false;
            if let Some(channel) = Channel::new(byte) {
                self.current = Some(channel);
                return None;
            }
        } else if byte == ESCAPE {
            self.escaped = true;
            return None;
        }
        Some(Decoded {
            channel: self.current,
            byte,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(encoder: &mut Encoder, channel: u8, bytes: &[u8]) -> Vec<u8> {
        let mut sent = Vec::new();
        encoder.encode_all(Channel(channel), bytes, |byte| sent.push(byte));
        sent
    }

    fn decode(initial: Option<Channel>, line: &[u8]) -> Vec<(Option<u8>, u8)> {
        let mut decoder = Decoder::new(initial);
        line.iter()
            .filter_map(|&byte| decoder.push(byte))
            .map(|decoded| (decoded.channel.map(Channel::get), decoded.byte))
            .collect()
    }

    #[test]
    fn encoding_has_documented_format() {
        let mut encoder = Encoder::new();
        for (channel, bytes, line) in [
            (0, &b"ab"[..], &[0xff, 0, b'a', b'b'][..]),
            (0, b"c", b"c"),
            (1, b"", b""),
            (1, b"d", &[0xff, 1, b'd']),
            (1, b"\xff", &[0xff, 0xff]),
            (0xfe, b"\xffe", &[0xff, 0xfe, 0xff, 0xff, b'e']),
        ] {
            assert_eq!(encode(&mut encoder, channel, bytes), line);
        }
    }

    #[test]
    fn bytes_before_first_switch_have_initial_channel() {
        let line = b"NOTICE\xff\xff\xff\x01x\xff\x00y";
        let firmware = decode(None, line);
        assert_eq!(firmware[..7], b"NOTICE\xff".map(|byte| (None, byte)));
        assert_eq!(firmware[7..], [(Some(1), b'x'), (Some(0), b'y')]);
        assert_eq!(decode(Some(Channel(0)), b"stats\n")[0], (Some(0), b's'));
    }

    #[test]
    fn channel_is_never_the_escape_byte() {
        assert_eq!(Channel::new(0xff), None);
        assert_eq!(Channel::new(0xfe).map(Channel::get), Some(0xfe));
        let last = VmIndex::new(postern_base::ids::MAX_VMS - 1).unwrap();
        assert_eq!(Channel::of_vm(last).get(), 8);
        assert_eq!(Channel::of_vm(last).vm(), Some(last));
        assert_eq!(Channel::HYPERVISOR.vm(), None);
        assert_eq!(Channel::FLOW.vm(), None);
        assert_eq!(Channel(9).vm(), None);
    }

    proptest! {
        /// Every byte arrives once, in order and on its channel, in any sequence of channels.
        #[test]
        fn round_trip(said in proptest::collection::vec(
            (0_u8..0xff, proptest::collection::vec(prop_oneof![Just(0xff_u8), any::<u8>()], 0..8)),
            0..50,
        )) {
            let mut encoder = Encoder::new();
            let mut line = Vec::new();
            let mut expected = Vec::new();
            for (channel, bytes) in &said {
                line.extend(encode(&mut encoder, *channel, bytes));
                expected.extend(bytes.iter().map(|&byte| (Some(*channel), byte)));
            }
            prop_assert_eq!(decode(None, &line), expected);
        }

        /// Any stream decodes, and a switch within it resynchronises the receiver.
        #[test]
        fn receiver_recovers_from_noise(noise in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut line = noise;
            line.push(b'.');
            line.extend(encode(&mut Encoder::new(), 3, b"ok"));
            let heard = decode(None, &line);
            prop_assert!(heard.ends_with(&[(Some(3), b'o'), (Some(3), b'k')]));
        }
    }
}
