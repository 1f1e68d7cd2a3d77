// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writing a descriptor.

use super::error::WriteError;
use super::layout::{Access, AccessSize, Composite, Header, Layout, RANGE_SIZE, write_range};
use super::range::MemoryRange;
use super::values::{Receiver, Transaction};

/// Writes a descriptor of version 1.1 or 1.2 into a buffer. Ranges that follow each other are merged.
#[derive(Debug)]
pub struct DescriptorWriter<'a> {
    buffer: &'a mut [u8],
    /// Where the composite begins.
    composite: usize,
    /// The last range, which is written when it is complete. There is room for it at `last_at`.
    last: Option<MemoryRange>,
    last_at: usize,
    ranges: u32,
    pages: u32,
}

/// The parts of a descriptor with one receiver that do not depend on its ranges.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DescriptorHead {
    bytes: [u8; Self::MOST],
    length: usize,
}

impl DescriptorHead {
    const MOST: usize = Layout::V1_1.header_size() + AccessSize::Long.bytes();

    /// Returns the head of descriptors of this transaction.
    pub fn new(transaction: &Transaction, size: AccessSize, receiver: &Receiver) -> Self {
        let mut bytes = [0; Self::MOST + Composite::SIZE + RANGE_SIZE];
        let receivers = core::slice::from_ref(receiver);
        let written = DescriptorWriter::new(&mut bytes, transaction, size, receivers);
        // There is room for one receiver.
        let length = written.map_or(0, |writer| writer.composite);
        let mut head = [0; Self::MOST];
        head.copy_from_slice(&bytes[..Self::MOST]);
        Self {
            bytes: head,
            length,
        }
    }
}

impl<'a> DescriptorWriter<'a> {
    /// Writes a head that was made before.
    ///
    /// # Errors
    ///
    /// [`WriteError::Full`] if the buffer has no room for it and one range.
    pub fn with_head(buffer: &'a mut [u8], head: &DescriptorHead) -> Result<Self, WriteError> {
        let composite = head.length;
        if buffer.len().saturating_sub(composite) < Composite::SIZE + RANGE_SIZE {
            return Err(WriteError::Full);
        }
        if let (Some(room), Some(bytes)) =
            (buffer.get_mut(..composite), head.bytes.get(..composite))
        {
            room.copy_from_slice(bytes);
        }
        Ok(Self::behind(buffer, composite))
    }

    /// Returns a writer of ranges behind the head, which ends where the composite begins.
    const fn behind(buffer: &'a mut [u8], composite: usize) -> Self {
        Self {
            buffer,
            composite,
            last_at: composite + Composite::SIZE,
            last: None,
            ranges: 0,
            pages: 0,
        }
    }

    /// Writes the header and the receivers.
    ///
    /// # Errors
    ///
    /// [`WriteError::NoReceiver`], and [`WriteError::Full`] if the buffer has no room for them and one range.
    pub fn new(
        buffer: &'a mut [u8],
        transaction: &Transaction,
        size: AccessSize,
        receivers: &[Receiver],
    ) -> Result<Self, WriteError> {
        if receivers.is_empty() {
            return Err(WriteError::NoReceiver);
        }
        let header_size = Layout::V1_1.header_size();
        let count = u32::try_from(receivers.len()).map_err(|_| WriteError::Full)?;
        let header = Header {
            transaction: *transaction,
            access_size: size,
            access_offset: header_size as u32,
            receivers: count,
        };
        let end = header.access_end();
        let composite_offset = u32::try_from(end).map_err(|_| WriteError::Full)?;
        let composite = composite_offset as usize;
        if buffer.len().saturating_sub(composite) < Composite::SIZE + RANGE_SIZE {
            return Err(WriteError::Full);
        }
        header.write(buffer).ok_or(WriteError::Full)?;
        let records = buffer.get_mut(header_size..composite).unwrap_or_default();
        for (room, receiver) in records.chunks_exact_mut(size.bytes()).zip(receivers) {
            let access = Access {
                receiver: *receiver,
                composite_offset,
            };
            access.write(room, size).ok_or(WriteError::Full)?;
        }
        Ok(Self::behind(buffer, composite))
    }

    /// Adds a range, as part of the last one if it follows that.
    ///
    /// # Errors
    ///
    /// [`WriteError::Full`], or [`WriteError::TooManyPages`]. The descriptor stays as it was.
    #[inline]
    pub fn push(&mut self, range: MemoryRange) -> Result<(), WriteError> {
        let pages = self.pages.checked_add(range.pages());
        let pages = pages.ok_or(WriteError::TooManyPages)?;
        match self.last {
            Some(last) if let Some(merged) = last.merge(range) => self.last = Some(merged),
            last => {
                if let Some(last) = last {
                    self.write_last(last)?;
                }
                self.last = Some(range);
                self.ranges += 1;
            }
        }
        self.pages = pages;
        Ok(())
    }

    /// Writes a range, behind which there is room for another one.
    #[inline]
    fn write_last(&mut self, last: MemoryRange) -> Result<(), WriteError> {
        let room = self.buffer.get_mut(self.last_at..).unwrap_or_default();
        if room.len() < 2 * RANGE_SIZE {
            return Err(WriteError::Full);
        }
        write_range(last, room).ok_or(WriteError::Full)?;
        self.last_at += RANGE_SIZE;
        Ok(())
    }

    /// Returns the number of ranges, after merging.
    pub const fn range_count(&self) -> u32 {
        self.ranges
    }

    /// Writes the sums, and returns the descriptor's size in bytes.
    ///
    /// # Errors
    ///
    /// [`WriteError::NoRange`].
    pub fn finish(self) -> Result<u32, WriteError> {
        let last = self.last.ok_or(WriteError::NoRange)?;
        let room = self.buffer.get_mut(self.last_at..).unwrap_or_default();
        write_range(last, room).ok_or(WriteError::Full)?;
        let composite = Composite {
            pages: self.pages,
            ranges: self.ranges,
        };
        let room = self.buffer.get_mut(self.composite..).unwrap_or_default();
        composite.write(room).ok_or(WriteError::Full)?;
        u32::try_from(self.last_at + RANGE_SIZE).map_err(|_| WriteError::Full)
    }
}
