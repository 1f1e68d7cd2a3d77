// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A whole descriptor in a slice.

use super::error::DescriptorError;
use super::layout::{Access, Composite, Header, Layout, RANGE_SIZE, read_range};
use super::range::MemoryRange;
use super::values::{Receiver, Transaction};

/// A descriptor that has been checked from the first byte to the last.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor<'a> {
    header: Header,
    first: Receiver,
    accesses: &'a [u8],
    composite: Composite,
    ranges: &'a [u8],
}

impl<'a> Descriptor<'a> {
    /// Reads a descriptor, which is all of the bytes.
    ///
    /// # Errors
    ///
    /// [`DescriptorError`] for the first fault, in the order of the parts: header, receivers, composite, ranges, sum of
    /// the pages.
    pub fn read(bytes: &'a [u8], layout: Layout) -> Result<Self, DescriptorError> {
        let total = bytes.len() as u64;
        let header = Header::read(bytes, layout)?;
        let accesses = part(bytes, header.access_offset.into(), header.access_end())?;
        let mut records = accesses.chunks_exact(header.access_size.bytes());
        let record = records.next().ok_or(DescriptorError::NoReceiver)?;
        let first = Access::read(record, header.access_size)?;
        first.check_composite(&header, total, None)?;
        let offset = first.composite_offset;
        for record in records {
            let access = Access::read(record, header.access_size)?;
            access.check_composite(&header, total, Some(offset))?;
        }
        let rest = part(bytes, offset.into(), total)?;
        let composite = Composite::read(rest, offset, total)?;
        let ranges = rest.get(Composite::SIZE..).unwrap_or_default();
        let mut pages = 0u64;
        for record in ranges.chunks_exact(RANGE_SIZE) {
            pages = pages.saturating_add(read_range(record)?.pages().into());
        }
        if pages != composite.pages.into() {
            return Err(DescriptorError::PageCount);
        }
        Ok(Self {
            header,
            first: first.receiver,
            accesses,
            composite,
            ranges,
        })
    }

    /// Returns the part about the whole transaction.
    pub const fn transaction(&self) -> &Transaction {
        &self.header.transaction
    }

    /// Returns the first receiver.
    pub const fn first_receiver(&self) -> Receiver {
        self.first
    }

    /// Returns the receivers, of which there is at least one.
    pub fn receivers(&self) -> impl Iterator<Item = Receiver> + 'a {
        let size = self.header.access_size;
        let records = self.accesses.chunks_exact(size.bytes());
        // All have been read before, so that none is an error.
        records.filter_map(move |record| Some(Access::read(record, size).ok()?.receiver))
    }

    /// Returns the number of receivers.
    pub const fn receiver_count(&self) -> u32 {
        self.header.receivers
    }

    /// Returns the ranges, of which there is at least one.
    #[inline]
    pub fn ranges(&self) -> impl Iterator<Item = MemoryRange> + 'a {
        let records = self.ranges.chunks_exact(RANGE_SIZE);
        records.filter_map(|record| read_range(record).ok())
    }

    /// Returns the number of ranges.
    pub const fn range_count(&self) -> u32 {
        self.composite.ranges
    }

    /// Returns the number of pages: the sum of those of the ranges.
    pub const fn pages(&self) -> u32 {
        self.composite.pages
    }
}

/// Returns the bytes from an offset to another.
fn part(bytes: &[u8], from: u64, to: u64) -> Result<&[u8], DescriptorError> {
    let at = |offset| usize::try_from(offset).ok();
    let range = at(from).zip(at(to));
    let part = range.and_then(|(from, to)| bytes.get(from..to));
    part.ok_or(DescriptorError::Truncated)
}
