// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Descriptors: those of other programs, damaged ones, and in fragments.

pub(super) mod properties;

use crate::memory::{
    AccessSize, Descriptor, DescriptorError, DescriptorWriter, FragmentReader, Layout,
    MemoryAttributes, MemoryRange, Progress, RangeError, Receiver, Transaction, TransactionFlags,
    WriteError,
};
use crate::{EndpointId, Handle};
use std::vec::Vec;

/// A descriptor that is not yet bytes, and need not make sense.
#[derive(Clone, Debug)]
pub(in crate::tests) struct Raw {
    pub(in crate::tests) layout: Layout,
    pub(in crate::tests) access_size: u32,
    pub(in crate::tests) access_offset: u32,
    pub(in crate::tests) receivers: u32,
    pub(in crate::tests) composite_offset: u32,
    pub(in crate::tests) pages: u32,
    pub(in crate::tests) range_count: u32,
    pub(in crate::tests) ranges: Vec<(u64, u32)>,
}

impl Raw {
    /// The descriptor of these ranges that Linux makes: for OP-TEE, no gaps.
    pub(in crate::tests) fn of(layout: Layout, access_size: u32, ranges: &[(u64, u32)]) -> Self {
        let access_offset = match layout {
            Layout::V1_0 => 32,
            Layout::V1_1 => 48,
        };
        Self {
            layout,
            access_size,
            access_offset,
            receivers: 1,
            composite_offset: access_offset + access_size,
            pages: ranges
                .iter()
                .fold(0, |sum, &(_, pages)| sum.wrapping_add(pages)),
            range_count: ranges.len() as u32,
            ranges: ranges.to_vec(),
        }
    }

    /// Returns the bytes, as far as offsets are not beyond 4096.
    pub(in crate::tests) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut put = |at: u32, value: &[u8]| {
            let at = at as usize;
            if at <= 4096 {
                let end = at + value.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[at..end].copy_from_slice(value);
            }
        };
        put(self.composite_offset, &self.pages.to_le_bytes());
        put(
            self.composite_offset.saturating_add(4),
            &self.range_count.to_le_bytes(),
        );
        put(self.composite_offset.saturating_add(8), &[0; 8]);
        for (index, (address, pages)) in self.ranges.iter().enumerate() {
            let at = self.composite_offset.saturating_add(16 + 16 * index as u32);
            put(at, &address.to_le_bytes());
            put(at.saturating_add(8), &pages.to_le_bytes());
            put(at.saturating_add(12), &[0; 4]);
        }
        for index in 0..self.receivers.min(8) {
            let record = self.access_size.wrapping_mul(index);
            let at = self.access_offset.saturating_add(record);
            put(at, &(0x8001 + index as u16).to_le_bytes());
            put(at.saturating_add(2), &[2, 0]);
            put(at.saturating_add(4), &self.composite_offset.to_le_bytes());
            let rest = self.access_size.clamp(16, 64) - 8;
            put(at.saturating_add(8), &std::vec![0; rest as usize]);
        }
        // The header last, so that nothing else is in its place.
        put(0, &1u16.to_le_bytes());
        put(2, &0x2fu16.to_le_bytes());
        match self.layout {
            Layout::V1_0 => put(28, &self.receivers.to_le_bytes()),
            Layout::V1_1 => {
                put(24, &self.access_size.to_le_bytes());
                put(28, &self.receivers.to_le_bytes());
                put(32, &self.access_offset.to_le_bytes());
                put(36, &[0; 12]);
            }
        }
        bytes
    }
}

/// What a reader finds.
type Found = Result<(Transaction, Vec<Receiver>, Vec<MemoryRange>), DescriptorError>;

fn whole(bytes: &[u8], layout: Layout) -> Found {
    let descriptor = Descriptor::read(bytes, layout)?;
    let (receivers, ranges): (Vec<_>, Vec<_>) = (
        descriptor.receivers().collect(),
        descriptor.ranges().collect(),
    );
    assert_eq!(receivers.len(), descriptor.receiver_count() as usize);
    assert_eq!(ranges.len(), descriptor.range_count() as usize);
    let pages: u64 = ranges.iter().map(|range| u64::from(range.pages())).sum();
    assert_eq!(pages, u64::from(descriptor.pages()));
    Ok((*descriptor.transaction(), receivers, ranges))
}

/// Reads in fragments of these lengths, over and over.
fn in_fragments(bytes: &[u8], layout: Layout, cuts: &[usize]) -> Found {
    let mut reader = FragmentReader::<8>::new(layout, bytes.len() as u32);
    let mut ranges = Vec::new();
    let (mut rest, mut cuts) = (bytes, cuts.iter().cycle());
    loop {
        let cut = (*cuts.next().expect("a length")).clamp(1, rest.len().max(1));
        let (fragment, after) = rest.split_at(cut.min(rest.len()));
        rest = after;
        match reader.feed(fragment, |range| ranges.push(range))? {
            Progress::More(received) => {
                assert_eq!(received as usize, bytes.len() - rest.len());
                assert_eq!(received, reader.received());
            }
            Progress::Complete(summary) => {
                assert!(rest.is_empty());
                assert_eq!(summary.range_count as usize, ranges.len());
                return Ok((summary.transaction, summary.receivers().collect(), ranges));
            }
        }
    }
}

/// Reads in both ways.
fn read(raw: &Raw) -> Found {
    let bytes = raw.bytes();
    let found = whole(&bytes, raw.layout);
    for cuts in [&[usize::MAX][..], &[1], &[4096], &[16, 48, 3]] {
        assert_eq!(in_fragments(&bytes, raw.layout, cuts), found, "{raw:?}");
    }
    found
}

const RANGES: [(u64, u32); 3] = [(0x4_0000_0000, 1), (0x4_1000_0000, 7), (0x1000, 0x100)];

fn ranges(of: &[(u64, u32)]) -> Vec<MemoryRange> {
    let range = |&(address, pages)| MemoryRange::new(address, pages).expect("a range");
    of.iter().map(range).collect()
}

#[test]
fn descriptors_of_each_version_are_read() {
    for (layout, access_size) in [(Layout::V1_0, 16), (Layout::V1_1, 16), (Layout::V1_1, 32)] {
        let raw = Raw::of(layout, access_size, &RANGES);
        let (transaction, receivers, found) = read(&raw).unwrap();
        assert_eq!(transaction.sender, EndpointId::new(1));
        assert_eq!(
            transaction.attributes,
            MemoryAttributes::NORMAL_WRITE_BACK_INNER
        );
        assert_eq!((transaction.handle, transaction.tag), (Handle::NONE, 0));
        assert_eq!(receivers, [Receiver::read_write(EndpointId::new(0x8001))]);
        assert_eq!(found, ranges(&RANGES));
    }
}

/// Bytes as Linux 7.2 sends them: records of receivers of 32 bytes at offset 48, attributes 0x2f.
#[test]
fn descriptor_of_linux_7_2_is_read() {
    let words: [u32; 28] = [
        0x002f_0001,
        0,
        0,
        0,
        0,
        0,
        32,
        1,
        48,
        0,
        0,
        0, // header
        0x0002_8001,
        80,
        0,
        0,
        0,
        0,
        0,
        0, // receiver
        1,
        1,
        0,
        0,
        0x4765_4000,
        0,
        1,
        0, // composite, range
    ];
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let (transaction, receivers, found) = whole(&bytes, Layout::V1_1).unwrap();
    assert_eq!(transaction.sender.get(), 1);
    assert_eq!(receivers, [Receiver::read_write(EndpointId::new(0x8001))]);
    assert_eq!(found, ranges(&[(0x4765_4000, 1)]));
    // The writer makes the same bytes.
    let mut buffer = [0xff; 4096];
    let writer = DescriptorWriter::new(&mut buffer, &transaction, AccessSize::Long, &receivers);
    let mut writer = writer.unwrap();
    writer.push(found[0]).unwrap();
    let length = writer.finish().unwrap() as usize;
    assert_eq!(buffer[..length], bytes);
}

#[test]
fn several_receivers_and_gaps_are_read() {
    let raw = Raw {
        receivers: 3,
        access_offset: 64,
        composite_offset: 64 + 3 * 32 + 24,
        ..Raw::of(Layout::V1_1, 32, &RANGES)
    };
    let (_, receivers, found) = read(&raw).unwrap();
    let ids: Vec<_> = receivers
        .iter()
        .map(|receiver| receiver.endpoint.get())
        .collect();
    assert_eq!(
        (ids, found),
        (std::vec![0x8001, 0x8002, 0x8003], ranges(&RANGES))
    );
}

/// What a hostile sender can write into the fields that say where things are.
#[test]
fn offsets_sizes_and_counts_that_do_not_fit_are_refused() {
    let good = || Raw::of(Layout::V1_1, 32, &RANGES);
    let refused = |raw: Raw, error| assert_eq!(read(&raw), Err(error), "{raw:?}");
    for access_offset in [0, 8, 16, 47, 49, 56, u32::MAX] {
        refused(
            Raw {
                access_offset,
                ..good()
            },
            DescriptorError::AccessOffset(access_offset),
        );
    }
    for access_offset in [0xfff0, 0xffff_fff0] {
        refused(
            Raw {
                access_offset,
                ..good()
            },
            DescriptorError::Truncated,
        );
    }
    for access_size in [0, 1, 15, 17, 24, 31, 33, 48, 255, u32::MAX] {
        refused(
            Raw {
                access_size,
                ..good()
            },
            DescriptorError::AccessSize(access_size),
        );
    }
    refused(
        Raw {
            receivers: 0,
            ..good()
        },
        DescriptorError::NoReceiver,
    );
    // 32 times these wraps in 32 bits.
    for receivers in [0x0800_0000, 0x0800_0001, u32::MAX] {
        refused(
            Raw {
                receivers,
                ..good()
            },
            DescriptorError::Truncated,
        );
    }
    for composite_offset in [0, 8, 48, 64, 72, 81, 84] {
        let error = DescriptorError::CompositeOffset(composite_offset);
        refused(
            Raw {
                composite_offset,
                ..good()
            },
            error,
        );
    }
    for composite_offset in [0x1_0000, 0xffff_fff0, 0xffff_fff8] {
        refused(
            Raw {
                composite_offset,
                ..good()
            },
            DescriptorError::Truncated,
        );
    }
    refused(
        Raw {
            range_count: 0,
            ..good()
        },
        DescriptorError::NoRange,
    );
    // 16 times these wraps in 32 bits.
    for range_count in [4, 0x1000_0000, 0x1000_0003, u32::MAX] {
        refused(
            Raw {
                range_count,
                ..good()
            },
            DescriptorError::Truncated,
        );
    }
    refused(
        Raw {
            range_count: 2,
            ..good()
        },
        DescriptorError::TrailingBytes,
    );
    for pages in [0, 0x107, 0x109, u32::MAX] {
        refused(Raw { pages, ..good() }, DescriptorError::PageCount);
    }
}

#[test]
fn ranges_that_are_none_are_refused() {
    for (range, error) in [
        ((0x1000, 0), RangeError::Empty),
        ((0x1001, 1), RangeError::Unaligned),
        ((0x1008, 1), RangeError::Unaligned),
        ((u64::MAX - 0xfff, 2), RangeError::Wraps),
    ] {
        let raw = Raw::of(Layout::V1_1, 16, &[RANGES[0], range]);
        assert_eq!(read(&raw), Err(DescriptorError::Range(error)));
    }
    // The sum of the pages wraps to the number that the composite says.
    let raw = Raw::of(Layout::V1_1, 16, &[(0, u32::MAX), (0x1000, 2)]);
    assert_eq!(
        (raw.pages, read(&raw)),
        (1, Err(DescriptorError::PageCount))
    );
}

#[test]
fn reserved_bytes_must_be_zero() {
    // In the header, the receiver's record, the composite, a range.
    for (layout, size, at) in [
        (Layout::V1_0, 16, &[3, 24, 27, 40, 47, 56, 63, 76][..]),
        (Layout::V1_1, 16, &[36, 47, 56, 63, 72, 79, 92]),
        (Layout::V1_1, 32, &[36, 47, 72, 79, 88, 95, 108]),
    ] {
        let good = Raw::of(layout, size, &RANGES).bytes();
        for &at in at {
            let mut bytes = good.clone();
            bytes[at] = 0x80;
            assert_eq!(
                whole(&bytes, layout),
                Err(DescriptorError::Reserved),
                "{at}"
            );
            assert_eq!(
                in_fragments(&bytes, layout, &[7]),
                Err(DescriptorError::Reserved)
            );
        }
    }
}

#[test]
fn receivers_with_different_ranges_are_refused() {
    let raw = Raw {
        receivers: 2,
        composite_offset: 112,
        ..Raw::of(Layout::V1_1, 32, &RANGES)
    };
    let mut bytes = raw.bytes();
    bytes[48 + 32 + 4] += 8;
    let error = Err(DescriptorError::CompositeOffset(120));
    assert_eq!(whole(&bytes, Layout::V1_1), error);
    assert_eq!(in_fragments(&bytes, Layout::V1_1, &[50]), error);
}

#[test]
fn descriptor_in_another_layout_is_refused() {
    let old = Raw::of(Layout::V1_0, 16, &RANGES).bytes();
    let new = Raw::of(Layout::V1_1, 16, &RANGES).bytes();
    assert!(whole(&old, Layout::V1_1).is_err());
    assert!(whole(&new, Layout::V1_0).is_err());
}

#[test]
fn fragment_that_is_empty_or_too_long_ends_the_transaction() {
    let bytes = Raw::of(Layout::V1_1, 32, &RANGES).bytes();
    let new = || FragmentReader::<1>::new(Layout::V1_1, bytes.len() as u32);
    let length = DescriptorError::FragmentLength;
    let mut reader = new();
    assert_eq!(reader.feed(&[], drop), Err(length(0)));
    assert_eq!(reader.feed(&bytes, drop), Err(length(0)));
    let mut reader = new();
    assert_eq!(reader.feed(&bytes[..100], drop), Ok(Progress::More(100)));
    assert_eq!(
        reader.feed(&bytes[99..], drop),
        Err(length(bytes.len() - 99))
    );
    let mut reader = new();
    assert!(matches!(
        reader.feed(&bytes, drop),
        Ok(Progress::Complete(_))
    ));
    assert_eq!(reader.feed(&bytes[..1], drop), Err(length(1)));
    // A descriptor without bytes, and one that ends in its header.
    assert_eq!(
        FragmentReader::<1>::new(Layout::V1_1, 0).feed(&[], drop),
        Err(length(0))
    );
    let mut reader = FragmentReader::<1>::new(Layout::V1_1, 47);
    assert_eq!(
        reader.feed(&bytes[..1], drop),
        Err(DescriptorError::Truncated)
    );
}

#[test]
fn receivers_beyond_the_room_are_refused() {
    let raw = Raw {
        receivers: 2,
        composite_offset: 112,
        ..Raw::of(Layout::V1_1, 32, &RANGES)
    };
    let bytes = raw.bytes();
    let mut reader = FragmentReader::<1>::new(Layout::V1_1, bytes.len() as u32);
    assert_eq!(
        reader.feed(&bytes, drop),
        Err(DescriptorError::TooManyReceivers(2))
    );
}

fn transaction() -> Transaction {
    Transaction {
        sender: EndpointId::new(3),
        attributes: MemoryAttributes::NORMAL_WRITE_BACK_INNER,
        flags: TransactionFlags::ZERO,
        handle: Handle::new(1 << 63),
        tag: 0x1234_5678_9abc_def0,
    }
}

#[test]
fn writer_says_when_the_buffer_is_full() {
    let receiver = Receiver::read_write(EndpointId::new(0x8001));
    let ranges = ranges(&RANGES);
    for length in 0..=160 {
        let mut buffer = std::vec![0; length];
        let writer =
            DescriptorWriter::new(&mut buffer, &transaction(), AccessSize::Short, &[receiver]);
        let Ok(mut writer) = writer else {
            assert!(length < 48 + 16 + 16 + 16);
            continue;
        };
        let fits = |range: &&MemoryRange| writer.push(**range).is_ok();
        let count = ranges.iter().take_while(fits).count();
        assert_eq!(count, ((length - 80) / 16).min(3));
        let written = writer.finish().unwrap() as usize;
        assert_eq!(
            whole(&buffer[..written], Layout::V1_1).unwrap().2,
            ranges[..count]
        );
    }
}

#[test]
fn writer_refuses_what_is_no_descriptor() {
    let mut buffer = [0; 256];
    let receiver = Receiver::read_write(EndpointId::new(0x8001));
    let none = DescriptorWriter::new(&mut buffer, &transaction(), AccessSize::Long, &[]);
    assert_eq!(none.err(), Some(WriteError::NoReceiver));
    let size = AccessSize::Long;
    let writer = DescriptorWriter::new(&mut buffer, &transaction(), size, &[receiver]).unwrap();
    assert_eq!(writer.finish(), Err(WriteError::NoRange));
    let mut writer = DescriptorWriter::new(&mut buffer, &transaction(), size, &[receiver]).unwrap();
    writer.push(MemoryRange::new(0, u32::MAX).unwrap()).unwrap();
    let more = writer.push(MemoryRange::new(0x1000, 1).unwrap());
    assert_eq!(more, Err(WriteError::TooManyPages));
    assert_eq!(writer.range_count(), 1);
}
