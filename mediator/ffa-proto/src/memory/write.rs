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
    /// Where the composite begins, and where the last range does.
    composite: usize,
    last_at: usize,
    last: Option<MemoryRange>,
    ranges: u32,
    pages: u64,
}

impl<'a> DescriptorWriter<'a> {
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
        Ok(Self {
            buffer,
            composite,
            last_at: composite + Composite::SIZE,
            last: None,
            ranges: 0,
            pages: 0,
        })
    }

    /// Adds a range, as part of the last one if it follows that.
    ///
    /// # Errors
    ///
    /// [`WriteError::Full`], or [`WriteError::TooManyPages`]. The descriptor stays as it was.
    #[inline]
    pub fn push(&mut self, range: MemoryRange) -> Result<(), WriteError> {
        let pages = self.pages + u64::from(range.pages());
        if pages > u32::MAX.into() {
            return Err(WriteError::TooManyPages);
        }
        let merged = self.last.and_then(|last| last.merge(range));
        let (at, range, ranges) = match (self.last, merged) {
            (_, Some(merged)) => (self.last_at, merged, self.ranges),
            (None, None) => (self.last_at, range, 1),
            (Some(_), None) => (self.last_at + RANGE_SIZE, range, self.ranges + 1),
        };
        let room = self.buffer.get_mut(at..).unwrap_or_default();
        write_range(range, room).ok_or(WriteError::Full)?;
        self.last_at = at;
        self.last = Some(range);
        self.ranges = ranges;
        self.pages = pages;
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
        if self.last.is_none() {
            return Err(WriteError::NoRange);
        }
        let composite = Composite {
            // `push` bounds it.
            pages: self.pages as u32,
            ranges: self.ranges,
        };
        let room = self.buffer.get_mut(self.composite..).unwrap_or_default();
        composite.write(room).ok_or(WriteError::Full)?;
        u32::try_from(self.last_at + RANGE_SIZE).map_err(|_| WriteError::Full)
    }
}
