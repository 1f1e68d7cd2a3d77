// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Chains of descriptors, and the buffers that they describe.

use super::{RingError, at};
use crate::ram::{GuestRam, OutsideRam};
use mediator::addr::Ipa;

/// The bytes of a descriptor: address, length, flags, next (2.7.5).
const DESCRIPTOR_BYTES: u64 = 16;

/// VIRTQ_DESC_F_NEXT: another descriptor follows.
const NEXT: u16 = 1;
/// VIRTQ_DESC_F_WRITE: the buffer is for the device to write to.
const WRITE: u16 = 2;
/// VIRTQ_DESC_F_INDIRECT.
const INDIRECT: u16 = 4;

/// What is wrong with a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The queue is broken.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// A buffer is not in RAM, which spoils this chain alone.
    #[error("a buffer is outside of the guest's memory")]
    Buffer,
}

/// A piece of a guest's memory that a driver gave to its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// The first address. The range may be anywhere, and may wrap.
    pub start: Ipa,
    /// The length in bytes; may be zero.
    pub bytes: u32,
    /// Whether it is for the device to write to; else to read from.
    pub is_writable: bool,
}

impl Buffer {
    const NONE: Self = Self {
        start: Ipa::new(0),
        bytes: 0,
        is_writable: false,
    };
}

/// A chain of descriptors that was taken from a queue: first the buffers that the device reads, then those that it
/// writes to. It is walked once.
#[derive(Debug)]
pub struct Chain {
    head: u16,
    /// The descriptor that is loaded next.
    next: Option<u16>,
    /// The descriptors that were loaded.
    loaded: u16,
    /// The descriptors that the chain may have.
    most: u16,
    size: u16,
    table: u64,
    /// The rest of the current buffer.
    buffer: Buffer,
    /// The bytes that were written to it.
    written: u32,
}

impl Chain {
    /// Returns a chain of a queue of `size` descriptors, which begins with the descriptor `head` of `table`.
    #[inline]
    pub(super) const fn new(head: u16, size: u16, table: u64) -> Self {
        Self {
            head,
            next: Some(head),
            loaded: 0,
            most: size,
            size,
            table,
            buffer: Buffer::NONE,
            written: 0,
        }
    }

    /// Returns the number of the first descriptor.
    #[inline]
    pub(super) const fn head(&self) -> u16 {
        self.head
    }

    /// Returns the number of bytes that were written to the chain.
    pub const fn written(&self) -> u32 {
        self.written
    }

    /// Returns the number of descriptors that were loaded: what the chain has cost.
    pub const fn descriptors(&self) -> u16 {
        self.loaded
    }

    /// Takes at most this many descriptors: a longer chain is an error.
    pub const fn limit(&mut self, descriptors: u16) {
        if descriptors < self.most {
            self.most = descriptors;
        }
    }

    /// Says how many bytes were written, from the first buffer to write to on, by a device that did not use
    /// [`Chain::write`].
    pub const fn set_written(&mut self, bytes: u32) {
        self.written = bytes;
    }

    /// Says that nothing was written to the chain: the driver is to ignore it.
    pub const fn discard(&mut self) {
        self.written = 0;
    }

    /// Loads the next descriptor, and returns its buffer; `None` at the end of the chain. What was left of the buffer
    /// before is passed over.
    ///
    /// # Errors
    /// See [`RingError`].
    #[inline]
    pub fn next_buffer(&mut self, ram: &impl GuestRam) -> Result<Option<Buffer>, RingError> {
        Ok(self.advance(ram)?.then_some(self.buffer))
    }

    /// Loads the next descriptor, whose buffer becomes the current one; what was left of the one before is passed over.
    /// Returns `false` at the end of the chain.
    ///
    /// # Errors
    /// See [`RingError`].
    // Not inlined into its many users, and so the result is small.
    #[inline(never)]
    fn advance(&mut self, ram: &impl GuestRam) -> Result<bool, RingError> {
        let Some(index) = self.next else {
            self.buffer.bytes = 0;
            return Ok(false);
        };
        if self.loaded >= self.most {
            return Err(RingError::Length);
        }
        self.loaded = self.loaded.wrapping_add(1);
        let mut bytes = [0; DESCRIPTOR_BYTES as usize];
        ram.read(
            at(self.table, DESCRIPTOR_BYTES * u64::from(index)),
            &mut bytes,
        )?;
        let value = u128::from_le_bytes(bytes);
        let flags = (value >> 96) as u16;
        if flags & INDIRECT != 0 {
            return Err(RingError::Indirect);
        }
        self.next = None;
        if flags & NEXT != 0 {
            let next = (value >> 112) as u16;
            if next >= self.size {
                return Err(RingError::Descriptor);
            }
            self.next = Some(next);
        }
        let is_writable = flags & WRITE != 0;
        if self.buffer.is_writable && !is_writable {
            return Err(RingError::Order);
        }
        self.buffer = Buffer {
            start: Ipa::new(value as u64),
            bytes: (value >> 64) as u32,
            is_writable,
        };
        Ok(true)
    }

    /// Copies from the buffers that the device reads, from where the last call ended. Returns the number of bytes, which
    /// is less than asked for at the end of these buffers only.
    ///
    /// # Errors
    /// See [`ChainError`].
    // Not inlined into its users, none of which is on the way of a wire's frames.
    #[inline(never)]
    pub fn read(&mut self, ram: &impl GuestRam, into: &mut [u8]) -> Result<usize, ChainError> {
        let mut done = 0;
        while done < into.len() {
            if self.buffer.bytes == 0 || self.buffer.is_writable {
                if self.buffer.is_writable || !self.advance(ram)? {
                    break;
                }
                continue;
            }
            let piece = self.take(into.len() - done);
            let target = &mut into[done..done + piece.bytes as usize];
            ram.read(piece.start, target)
                .map_err(|OutsideRam| ChainError::Buffer)?;
            done += piece.bytes as usize;
        }
        Ok(done)
    }

    /// Returns the rest of the current buffer that the device reads, of at most `most` bytes, or else the next one, and
    /// passes over it; `None` at the end of these buffers. It may be empty.
    ///
    /// # Errors
    /// See [`RingError`].
    #[inline(always)]
    pub fn take_readable(
        &mut self,
        ram: &impl GuestRam,
        most: usize,
    ) -> Result<Option<Buffer>, RingError> {
        if self.buffer.bytes == 0 && !self.buffer.is_writable && !self.advance(ram)? {
            return Ok(None);
        }
        if self.buffer.is_writable {
            return Ok(None);
        }
        Ok(Some(self.take(most)))
    }

    /// Passes over the rest of the buffers that the device reads. Returns their bytes.
    ///
    /// # Errors
    /// See [`RingError`].
    pub fn skip_readable(&mut self, ram: &impl GuestRam) -> Result<u64, RingError> {
        let mut bytes: u64 = 0;
        while !self.buffer.is_writable {
            bytes = bytes.wrapping_add(self.buffer.bytes.into());
            if !self.advance(ram)? {
                break;
            }
        }
        Ok(bytes)
    }

    /// Copies from another guest's memory to the buffers that the device writes to, from where the last call ended.
    /// Returns the number of bytes, as [`Chain::write`] does.
    ///
    /// # Errors
    /// See [`ChainError`].
    #[inline]
    pub fn write_from<R: GuestRam>(
        &mut self,
        ram: &R,
        source: &R,
        from: Buffer,
    ) -> Result<u32, ChainError> {
        let mut done = 0;
        while done < from.bytes {
            if self.buffer.bytes == 0 || !self.buffer.is_writable {
                if !self.advance(ram)? {
                    break;
                }
                continue;
            }
            let piece = self.take((from.bytes - done) as usize);
            let start = Ipa::new(from.start.get().wrapping_add(done.into()));
            ram.copy_from(piece.start, source, start, piece.bytes)
                .map_err(|OutsideRam| ChainError::Buffer)?;
            done += piece.bytes;
            self.written = self.written.saturating_add(piece.bytes);
        }
        Ok(done)
    }

    /// Copies to the buffers that the device writes to, from where the last call ended. Returns the number of bytes,
    /// which is less than there are at the end of the chain only.
    ///
    /// # Errors
    /// See [`ChainError`].
    #[inline]
    pub fn write(&mut self, ram: &impl GuestRam, bytes: &[u8]) -> Result<usize, ChainError> {
        let mut done = 0;
        while done < bytes.len() {
            if self.buffer.bytes == 0 || !self.buffer.is_writable {
                if !self.advance(ram)? {
                    break;
                }
                continue;
            }
            let piece = self.take(bytes.len() - done);
            ram.write(piece.start, &bytes[done..done + piece.bytes as usize])
                .map_err(|OutsideRam| ChainError::Buffer)?;
            done += piece.bytes as usize;
            self.written = self.written.saturating_add(piece.bytes);
        }
        Ok(done)
    }

    /// Takes at most `most` bytes from the front of the current buffer.
    #[inline(always)]
    fn take(&mut self, most: usize) -> Buffer {
        let bytes = self.buffer.bytes.min(most.min(u32::MAX as usize) as u32);
        let piece = Buffer {
            bytes,
            ..self.buffer
        };
        self.buffer.bytes = self.buffer.bytes.wrapping_sub(bytes);
        // A range that wraps is not RAM: the access to it has failed by then, or fails later.
        self.buffer.start = Ipa::new(self.buffer.start.get().wrapping_add(u64::from(bytes)));
        piece
    }
}
