// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The entropy device (VIRTIO 1.2, 5.4).

use crate::mmio::Device;
use crate::queue::{Chain, ChainError};
use crate::ram::GuestRam;
use crate::requests::Requests;
use postern_base::secret::wipe;

/// The most descriptors of a request. Linux uses one.
const MOST_BUFFERS: u16 = 16;
/// The bytes that a request gets: what the source has at a time. A driver asks again (5.4.6.1).
pub const REQUEST_BYTES: usize = 24;

/// A source of true random numbers.
pub trait Entropy {
    /// Returns 192 bits that nobody else gets, or `None` if fewer are available now.
    fn bits(&mut self) -> Option<[u64; 3]>;
}

/// The entropy device. It stores no random bytes that it has handed out.
#[derive(Debug)]
pub struct Rng<E> {
    source: E,
    /// What the next request gets, where it was asked for already.
    next: Option<[u8; REQUEST_BYTES]>,
}

impl<E: Entropy> Rng<E> {
    /// Returns a device that has asked its source for nothing yet.
    pub const fn new(source: E) -> Self {
        Self { source, next: None }
    }
}

impl<E> Device for Rng<E> {
    fn id(&self) -> u32 {
        4
    }

    fn features(&self) -> u64 {
        0
    }

    fn config(&self) -> &[u8] {
        &[]
    }
}

impl<E: Entropy> Requests for Rng<E> {
    fn is_ready(&mut self) -> bool {
        if self.next.is_none() {
            self.next = self.source.bits().map(|words| {
                let mut bytes = [0; REQUEST_BYTES];
                for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
                    place.copy_from_slice(&word.to_le_bytes());
                }
                bytes
            });
        }
        self.next.is_some()
    }

    fn serve<R: GuestRam>(&mut self, chain: &mut Chain, ram: &R) -> Result<(), ChainError> {
        chain.limit(MOST_BUFFERS);
        let Some(bytes) = &mut self.next else {
            return Ok(());
        };
        let written = chain.write(ram, bytes);
        // Part of it may be in the guest's memory, even where the rest could not be written.
        wipe(bytes);
        self.next = None;
        written.map(|_| ())
    }
}
