// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A descriptor that arrives in fragments: `FFA_MEM_SHARE` with the first, `FFA_MEM_FRAG_TX` with the others.

use super::error::DescriptorError;
use super::layout::{Access, Composite, Header, Layout, RANGE_SIZE, read_range};
use super::range::MemoryRange;
use super::values::{Receiver, Transaction};

/// The bytes of the largest record: a header.
const LARGEST_RECORD: usize = Layout::V1_1.header_size();

/// Reads a descriptor that arrives in fragments, which may be cut anywhere. It keeps one record and up to `RECEIVERS`
/// receivers, so its size does not depend on the descriptor's.
///
/// It finds the same as [`super::Descriptor`]: the same values, or the same error, but that it has room for fewer
/// receivers.
#[derive(Clone, Debug)]
pub struct FragmentReader<const RECEIVERS: usize = 1> {
    layout: Layout,
    total: u32,
    received: u32,
    part: Part,
    /// The bytes of the record that have arrived.
    record: [u8; LARGEST_RECORD],
    filled: usize,
    receivers: [Option<Receiver>; RECEIVERS],
    pages: u64,
}

/// The record that comes next.
#[derive(Clone, Copy, Debug)]
enum Part {
    Header,
    Access {
        header: Header,
        index: u32,
        first: Option<u32>,
    },
    Composite {
        header: Header,
        offset: u32,
    },
    Range {
        header: Header,
        offset: u32,
        composite: Composite,
        index: u32,
    },
    /// No more: all has been read, or there was an error.
    Complete(Header, Composite),
    Failed(DescriptorError),
}

/// Where a transaction is after a fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress<const RECEIVERS: usize> {
    /// The next fragment begins after this many bytes.
    More(u32),
    /// The descriptor is complete, and is one.
    Complete(Summary<RECEIVERS>),
}

/// What a complete descriptor says, but for its ranges.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summary<const RECEIVERS: usize> {
    /// The part about the whole transaction.
    pub transaction: Transaction,
    receivers: [Option<Receiver>; RECEIVERS],
    /// The number of ranges.
    pub range_count: u32,
    /// The number of pages.
    pub pages: u32,
}

impl<const RECEIVERS: usize> Summary<RECEIVERS> {
    /// Returns the receivers, of which there is at least one.
    pub fn receivers(&self) -> impl Iterator<Item = Receiver> + '_ {
        self.receivers.iter().flatten().copied()
    }
}

impl<const RECEIVERS: usize> FragmentReader<RECEIVERS> {
    /// Returns a reader of a descriptor of this many bytes, of which none has arrived.
    pub const fn new(layout: Layout, total_length: u32) -> Self {
        Self {
            layout,
            total: total_length,
            received: 0,
            part: Part::Header,
            record: [0; LARGEST_RECORD],
            filled: 0,
            receivers: [None; RECEIVERS],
            pages: 0,
        }
    }

    /// Returns the number of bytes that have arrived.
    pub const fn received(&self) -> u32 {
        self.received
    }

    /// Reads the next fragment, and hands out each range in it, in order. A range that has been handed out counts for
    /// nothing until the descriptor is complete.
    ///
    /// The time it takes depends on the fragment's length.
    ///
    /// # Errors
    ///
    /// [`DescriptorError::FragmentLength`] for a fragment that is empty or longer than what is missing, and all others
    /// of [`super::Descriptor::read`]. After an error all fragments are that error.
    pub fn feed(
        &mut self,
        fragment: &[u8],
        mut on_range: impl FnMut(MemoryRange),
    ) -> Result<Progress<RECEIVERS>, DescriptorError> {
        if let Part::Failed(error) = self.part {
            return Err(error);
        }
        let result = self.read(fragment, &mut on_range);
        if let Err(error) = result {
            self.part = Part::Failed(error);
        }
        result
    }

    fn read(
        &mut self,
        mut fragment: &[u8],
        on_range: &mut impl FnMut(MemoryRange),
    ) -> Result<Progress<RECEIVERS>, DescriptorError> {
        let missing = (self.total - self.received) as usize;
        if fragment.is_empty() || fragment.len() > missing {
            return Err(DescriptorError::FragmentLength(fragment.len()));
        }
        if self.layout.header_size() > self.total as usize {
            return Err(DescriptorError::Truncated);
        }
        while !fragment.is_empty() {
            let Some((begin, size)) = self.next_record() else {
                // Not reached: the last range ends with the descriptor.
                return Err(DescriptorError::TrailingBytes);
            };
            // Where the record's missing bytes begin. Before them may be a gap, which says nothing.
            let wanted = begin + self.filled as u64;
            let gap = wanted.saturating_sub(self.received.into());
            let skipped = usize::try_from(gap)
                .unwrap_or(usize::MAX)
                .min(fragment.len());
            let (_, rest) = fragment.split_at_checked(skipped).unwrap_or_default();
            let taken = rest.len().min(size - self.filled);
            let (bytes, rest) = rest.split_at_checked(taken).unwrap_or_default();
            if let Some(room) = self.record.get_mut(self.filled..self.filled + taken) {
                room.copy_from_slice(bytes);
            }
            self.filled += taken;
            // Not more than the fragment's length, which is not more than what was missing.
            self.received += (skipped + taken) as u32;
            fragment = rest;
            if self.filled == size {
                self.filled = 0;
                self.process(on_range)?;
            }
        }
        if let Part::Complete(header, composite) = &self.part {
            return Ok(Progress::Complete(Summary {
                transaction: header.transaction,
                receivers: self.receivers,
                range_count: composite.ranges,
                pages: composite.pages,
            }));
        }
        Ok(Progress::More(self.received))
    }

    /// Returns where the next record begins, and its size.
    fn next_record(&self) -> Option<(u64, usize)> {
        match &self.part {
            Part::Header => Some((0, self.layout.header_size())),
            Part::Access { header, index, .. } => {
                Some((header.access_at(*index), header.access_size.bytes()))
            }
            Part::Composite { offset, .. } => Some((u64::from(*offset), Composite::SIZE)),
            Part::Range { offset, index, .. } => {
                let before = Composite::SIZE as u64 + RANGE_SIZE as u64 * u64::from(*index);
                Some((u64::from(*offset) + before, RANGE_SIZE))
            }
            Part::Complete(..) | Part::Failed(_) => None,
        }
    }

    /// Reads the record, which is complete.
    fn process(&mut self, on_range: &mut impl FnMut(MemoryRange)) -> Result<(), DescriptorError> {
        let total = u64::from(self.total);
        self.part = match self.part {
            Part::Header => {
                let header = Header::read(&self.record, self.layout)?;
                if header.access_end() > total {
                    return Err(DescriptorError::Truncated);
                }
                if header.receivers as usize > RECEIVERS {
                    return Err(DescriptorError::TooManyReceivers(header.receivers));
                }
                Part::Access {
                    header,
                    index: 0,
                    first: None,
                }
            }
            Part::Access {
                header,
                index,
                first,
            } => {
                let access = Access::read(&self.record, header.access_size)?;
                access.check_composite(&header, total, first)?;
                if let Some(room) = self.receivers.get_mut(index as usize) {
                    *room = Some(access.receiver);
                }
                let offset = access.composite_offset;
                let index = index + 1;
                if index == header.receivers {
                    Part::Composite { header, offset }
                } else {
                    Part::Access {
                        header,
                        index,
                        first: Some(offset),
                    }
                }
            }
            Part::Composite { header, offset } => Part::Range {
                header,
                offset,
                composite: Composite::read(&self.record, offset, total)?,
                index: 0,
            },
            Part::Range {
                header,
                offset,
                composite,
                index,
            } => {
                let range = read_range(&self.record)?;
                on_range(range);
                self.pages = self.pages.saturating_add(range.pages().into());
                let index = index + 1;
                if index < composite.ranges {
                    Part::Range {
                        header,
                        offset,
                        composite,
                        index,
                    }
                } else if self.pages == composite.pages.into() {
                    Part::Complete(header, composite)
                } else {
                    return Err(DescriptorError::PageCount);
                }
            }
            part @ (Part::Complete(..) | Part::Failed(_)) => part,
        };
        Ok(())
    }
}
