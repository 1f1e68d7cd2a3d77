// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A frame on its way from one guest's memory to others'.
//!
//! On a wire nothing in a frame matters, so that it is copied at once from the sender's buffers to the receiver's. On a
//! switch the addresses in it decide who gets it. It is then fetched into a buffer of EL2's, once, since its sender may
//! change it at any time.

use crate::net::{HEADER, HEADER_BYTES, MAX_FRAME, MIN_FRAME, MacAddress};
use crate::queue::{Buffer, Chain, ChainError, RingError};
use crate::ram::GuestRam;

/// The most pieces of the sender's memory that a frame is left in. Linux uses one or two.
const MOST_PIECES: usize = 4;
/// The bytes of a frame.
const LENGTHS: core::ops::RangeInclusive<usize> = MIN_FRAME..=MAX_FRAME;

/// A frame, without the header that virtio puts in front of it.
#[derive(Debug)]
pub(super) struct Frame {
    /// Where the frame's beginning is in the sender's memory.
    pieces: heapless::Vec<Buffer, MOST_PIECES>,
    /// EL2's copy of the rest; one byte more than the longest frame has, so that a longer one is noticed.
    bytes: [u8; MAX_FRAME + 1],
    /// The number of bytes that are used.
    length: usize,
}

impl Frame {
    pub const fn new() -> Self {
        Self {
            pieces: heapless::Vec::new(),
            bytes: [0; _],
            length: 0,
        }
    }

    /// Finds a chain's frame, and leaves it where it is. Returns whether there is one.
    ///
    /// # Errors
    /// The sender's queue is broken.
    #[inline]
    pub fn find(&mut self, chain: &mut Chain, ram: &impl GuestRam) -> Result<bool, RingError> {
        self.pieces.clear();
        self.length = 0;
        if !skip_header(chain, ram)? {
            return Ok(false);
        }
        let mut total = 0;
        while !self.pieces.is_full() {
            let Some(piece) = chain.take_readable(ram, MAX_FRAME + 1)? else {
                return Ok(LENGTHS.contains(&total));
            };
            if piece.bytes == 0 {
                continue;
            }
            total += piece.bytes as usize;
            if total > MAX_FRAME || !ram.contains(piece.start, piece.bytes.into()) {
                return Ok(false);
            }
            // There is room.
            let _ = self.pieces.push(piece);
        }
        self.fetch_rest(chain, ram, total)
    }

    /// Copies a chain's frame to EL2's memory. Returns whether there is one.
    ///
    /// # Errors
    /// The sender's queue is broken.
    #[inline]
    pub fn fetch(&mut self, chain: &mut Chain, ram: &impl GuestRam) -> Result<bool, RingError> {
        self.pieces.clear();
        self.length = 0;
        if !skip_header(chain, ram)? {
            return Ok(false);
        }
        self.fetch_rest(chain, ram, 0)
    }

    /// Copies what follows the first `before` bytes.
    fn fetch_rest(
        &mut self,
        chain: &mut Chain,
        ram: &impl GuestRam,
        before: usize,
    ) -> Result<bool, RingError> {
        self.length = match chain.read(ram, &mut self.bytes) {
            Ok(length) => length,
            Err(ChainError::Buffer) => return Ok(false),
            Err(ChainError::Ring(error)) => return Err(error),
        };
        Ok(LENGTHS.contains(&(before + self.length)))
    }

    /// Writes the frame with its header to a receiver's chain. Returns whether all of it has found room.
    ///
    /// # Errors
    /// The receiver's buffer or queue is broken; or its sender has given the frame's memory back meanwhile.
    #[inline]
    pub fn write<R: GuestRam>(
        &self,
        chain: &mut Chain,
        ram: &R,
        sender: &R,
    ) -> Result<bool, ChainError> {
        if chain.write(ram, &HEADER)? < HEADER_BYTES {
            return Ok(false);
        }
        for piece in &self.pieces {
            if chain.write_from(ram, sender, *piece)? < piece.bytes {
                return Ok(false);
            }
        }
        let rest = self.bytes.get(..self.length).unwrap_or_default();
        Ok(chain.write(ram, rest)? == rest.len())
    }

    /// Returns the addresses of receiver and sender, of a frame that was [fetched](Frame::fetch).
    pub fn addresses(&self) -> (MacAddress, MacAddress) {
        let address = |at| {
            let bytes = self.bytes.get(at..).and_then(<[u8]>::first_chunk);
            MacAddress(bytes.copied().unwrap_or_default())
        };
        (address(0), address(6))
    }
}

/// Passes over the header of a frame to send, which says nothing, since no offload was negotiated. Returns whether it is
/// there, and in RAM.
#[inline]
fn skip_header(chain: &mut Chain, ram: &impl GuestRam) -> Result<bool, RingError> {
    let mut left = HEADER_BYTES;
    while left > 0 {
        let Some(piece) = chain.take_readable(ram, left)? else {
            return Ok(false);
        };
        // Wherever it is.
        if piece.bytes == 0 {
            continue;
        }
        if !ram.contains(piece.start, piece.bytes.into()) {
            return Ok(false);
        }
        left -= piece.bytes as usize;
    }
    Ok(true)
}
