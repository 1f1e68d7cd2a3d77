// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Multiplexing of the UART: `0xFF c` switches to channel `c`, `0xFF 0xFF` is a literal 0xFF, and
//! any other byte belongs to the current channel. Both directions use the same format.

use super::Channel;

const ESCAPE: u8 = 0xff;

/// Splits the output stream into channels.
#[derive(Debug)]
pub struct Demux {
    current: Channel,
    escaped: bool,
    plain: bool,
}

impl Demux {
    /// Returns a demultiplexer for a machine with the hypervisor: bytes before the first switch are
    /// the firmware's.
    pub const fn multiplexed() -> Self {
        Self {
            current: Channel::Firmware,
            escaped: false,
            plain: false,
        }
    }

    /// Returns one for a machine without a hypervisor: everything belongs to the one guest, and
    /// 0xFF is an ordinary byte.
    pub const fn plain() -> Self {
        Self {
            current: Channel::Vm(1),
            escaped: false,
            plain: true,
        }
    }

    /// Takes bytes, cut anywhere, and passes them to `sink` in runs of one channel.
    pub fn feed(&mut self, bytes: &[u8], mut sink: impl FnMut(Channel, &[u8])) {
        if self.plain {
            sink(self.current, bytes);
            return;
        }
        let mut run = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            if self.escaped {
                self.escaped = false;
                if byte == ESCAPE {
                    // The literal starts the next run.
                    run = at;
                } else {
                    self.current = Channel::from_number(byte);
                    run = at + 1;
                }
            } else if byte == ESCAPE {
                if run < at {
                    sink(self.current, &bytes[run..at]);
                }
                self.escaped = true;
                run = at + 1;
            }
        }
        if run < bytes.len() && !self.escaped {
            sink(self.current, &bytes[run..]);
        }
    }
}

/// Merges channels into the input stream.
#[derive(Debug)]
pub struct Mux {
    current: u8,
    plain: bool,
}

impl Mux {
    /// Returns a multiplexer for a machine with the hypervisor, which first expects bytes for
    /// itself.
    pub const fn multiplexed() -> Self {
        Self {
            current: 0,
            plain: false,
        }
    }

    /// Returns one for a machine without a hypervisor.
    pub const fn plain() -> Self {
        Self {
            current: 1,
            plain: true,
        }
    }

    /// Returns the bytes to write so that `bytes` arrive on `channel`. The firmware takes no input.
    pub fn encode(&mut self, channel: Channel, bytes: &[u8]) -> Vec<u8> {
        if self.plain {
            return bytes.to_vec();
        }
        let Some(number) = channel.number() else {
            return Vec::new();
        };
        let mut wire = Vec::with_capacity(bytes.len() + 2);
        if number != self.current {
            wire.extend([ESCAPE, number]);
            self.current = number;
        }
        for &byte in bytes {
            if byte == ESCAPE {
                wire.push(ESCAPE);
            }
            wire.push(byte);
        }
        wire
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds a stream in pieces of `size` bytes; returns the joined runs of each channel, in order.
    fn runs(stream: &[u8], size: usize) -> Vec<(Channel, Vec<u8>)> {
        let mut demux = Demux::multiplexed();
        let mut runs: Vec<(Channel, Vec<u8>)> = Vec::new();
        for piece in stream.chunks(size) {
            demux.feed(piece, |channel, bytes| {
                assert!(!bytes.is_empty());
                match runs.last_mut() {
                    Some((last, all)) if *last == channel => all.extend_from_slice(bytes),
                    _ => runs.push((channel, bytes.to_vec())),
                }
            });
        }
        runs
    }

    #[test]
    fn demux_splits_channels_at_any_cut() {
        let stream = b"NOTICE\n\xff\x00[0] up\n\xff\x01login\xff\xff\xff\x02b\xff\x01\xff\x02\xff\xff\xff\x00end";
        let expected = [
            (Channel::Firmware, &b"NOTICE\n"[..]),
            (Channel::Hypervisor, b"[0] up\n"),
            (Channel::Vm(1), b"login\xff"),
            (Channel::Vm(2), b"b\xff"),
            (Channel::Hypervisor, b"end"),
        ];
        for size in 1..=stream.len() {
            let runs = runs(stream, size);
            let runs: Vec<_> = runs
                .iter()
                .map(|(channel, bytes)| (*channel, &bytes[..]))
                .collect();
            assert_eq!(runs, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn demux_inverts_mux() {
        let mut mux = Mux::multiplexed();
        let mut wire = Vec::new();
        let parts = [
            (Channel::Hypervisor, &b"stats\n"[..]),
            (Channel::Vm(1), b"\xff\xff\x01"),
            (Channel::Vm(1), b"more"),
            (Channel::Vm(7), b""),
            (Channel::Vm(2), b"x\xff"),
        ];
        for (channel, bytes) in parts {
            wire.extend(mux.encode(channel, bytes));
        }
        // The receiver starts at the hypervisor's channel, so no switch precedes the first bytes.
        assert!(wire.starts_with(b"stats\n\xff\x01"));
        let mut ends = runs(&[b"\xff\x00", &wire[..]].concat(), 3);
        ends.retain(|(_, bytes)| !bytes.is_empty());
        let ends: Vec<_> = ends
            .iter()
            .map(|(channel, bytes)| (*channel, &bytes[..]))
            .collect();
        assert_eq!(
            ends,
            [
                (Channel::Hypervisor, &b"stats\n"[..]),
                (Channel::Vm(1), b"\xff\xff\x01more"),
                (Channel::Vm(2), b"x\xff"),
            ]
        );
        assert_eq!(mux.encode(Channel::Firmware, b"lost"), b"");
    }

    #[test]
    fn plain_mux_escapes_nothing() {
        let mut got = Vec::new();
        Demux::plain().feed(b"a\xff\x00b", |channel, bytes| {
            got.push((channel, bytes.to_vec()));
        });
        assert_eq!(got, [(Channel::Vm(1), b"a\xff\x00b".to_vec())]);
        assert_eq!(Mux::plain().encode(Channel::Vm(1), b"\xff"), b"\xff");
    }
}
