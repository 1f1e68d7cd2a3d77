// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Properties of random descriptors, damaged ones among them.

use super::{Raw, in_fragments, ranges, transaction, whole};
use crate::EndpointId;
use crate::memory::{
    AccessSize, DescriptorError, DescriptorHead, DescriptorWriter, Layout, MemoryRange,
    Permissions, Receiver,
};
use crate::tests::config;
use proptest::prelude::*;
use std::vec::Vec;

/// Returns ranges of which many touch their predecessor.
fn some_ranges() -> impl Strategy<Value = Vec<(u64, u32)>> {
    let step = (prop_oneof![3 => Just(0u64), 1 => 1..0x100u64], 1..9u32);
    prop::collection::vec(step, 1..60).prop_map(|steps| {
        let mut at = 0x4_0000_0000;
        let place = |(gap, pages): (u64, u32)| {
            let address = at + gap * 4096;
            at = address + u64::from(pages) * 4096;
            (address, pages)
        };
        steps.into_iter().map(place).collect()
    })
}

pub(in crate::tests) fn raw() -> impl Strategy<Value = Raw> {
    let layout = prop_oneof![
        Just((Layout::V1_0, 16)),
        Just((Layout::V1_1, 16)),
        Just((Layout::V1_1, 32))
    ];
    (layout, some_ranges(), 1..4u32, 0..3u32, 0..5u32).prop_map(
        |((layout, size), ranges, receivers, gap, second_gap)| {
            let raw = Raw::of(layout, size, &ranges);
            let gap = if layout == Layout::V1_0 { 0 } else { 16 * gap };
            let access_offset = raw.access_offset + gap;
            let composite_offset = access_offset + receivers * size + 8 * second_gap;
            Raw {
                receivers,
                access_offset,
                composite_offset,
                ..raw
            }
        },
    )
}

/// A change of a few bytes, mostly where the structure is.
pub(in crate::tests) fn damage() -> impl Strategy<Value = (usize, u32)> {
    let at = prop_oneof![4 => (0..40usize).prop_map(|word| 4 * word), 1 => 0..400usize];
    let value = prop_oneof![
        Just(0),
        Just(1),
        Just(16),
        Just(32),
        Just(48),
        Just(u32::MAX),
        Just(0xffff_fff0),
        0..512u32,
        any::<u32>()
    ];
    (at, value)
}

proptest! {
    #![proptest_config(config(1024, 8))]

    #[test]
    fn fragments_are_the_whole(raw in raw(), cuts in prop::collection::vec(1..200usize, 1..8)) {
        let bytes = raw.bytes();
        let found = whole(&bytes, raw.layout);
        prop_assert_eq!(&found.as_ref().unwrap().2, &ranges(&raw.ranges));
        prop_assert_eq!(in_fragments(&bytes, raw.layout, &cuts), found);
    }

    #[test]
    fn fragments_are_the_whole_where_it_is_damaged(
        raw in raw(),
        cuts in prop::collection::vec(1..200usize, 1..8),
        damage in prop::collection::vec(damage(), 1..4),
        length in prop_oneof![3 => Just(usize::MAX), 1 => 0..600usize],
    ) {
        let mut bytes = raw.bytes();
        for (at, value) in damage {
            if let Some(room) = bytes.get_mut(at..at + 4) {
                room.copy_from_slice(&value.to_le_bytes());
            }
        }
        if length < 600 {
            bytes.resize(length.max(1), 0);
        }
        let expected = match whole(&bytes, raw.layout) {
            Ok((_, receivers, _)) if receivers.len() > 8 => return Ok(()),
            found => found,
        };
        let found = in_fragments(&bytes, raw.layout, &cuts);
        if !matches!(found, Err(DescriptorError::TooManyReceivers(_))) {
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 1..256),
        layout in prop_oneof![Just(Layout::V1_0), Just(Layout::V1_1)],
    ) {
        prop_assert!(whole(&bytes, layout).is_err() || bytes.len() >= 80);
        let _ = in_fragments(&bytes, layout, &[11]);
    }

    #[test]
    fn what_is_written_reads_back_merged(
        places in some_ranges(),
        endpoints in prop::collection::vec(any::<u16>(), 1..4),
        values in any::<[u64; 2]>(),
        is_long: bool,
    ) {
        let size = if is_long { AccessSize::Long } else { AccessSize::Short };
        let receivers: Vec<_> = endpoints.iter().map(|&id| Receiver {
            endpoint: EndpointId::new(id),
            permissions: Permissions::READ_ONLY,
            flags: 1,
            implementation_defined: if is_long { values } else { [0; 2] },
        }).collect();
        let mut buffer = [0xff; 2048];
        let mut writer = DescriptorWriter::new(&mut buffer, &transaction(), size, &receivers).unwrap();
        for range in ranges(&places) {
            writer.push(range).unwrap();
        }
        let count = writer.range_count();
        let length = writer.finish().unwrap() as usize;
        let (found, found_receivers, found_ranges) = whole(&buffer[..length], Layout::V1_1).unwrap();
        prop_assert_eq!((found, found_receivers), (transaction(), receivers));
        prop_assert_eq!(found_ranges.len(), count as usize);
        // The same pages in the same order, and no two ranges that touch.
        let pages = |ranges: &[MemoryRange]| ranges.iter().flat_map(|range| range.page_addresses()).collect::<Vec<_>>();
        prop_assert_eq!(pages(&found_ranges), pages(&ranges(&places)));
        let is_apart = |pair: &[MemoryRange]| pair[0].address() + pair[0].bytes() != pair[1].address();
        prop_assert!(found_ranges.windows(2).all(is_apart));
    }

    /// Records are read and written by words where they are aligned, and otherwise not.
    #[test]
    fn place_of_a_descriptor_changes_nothing(
        places in some_ranges(),
        endpoint in any::<u16>(),
        is_long: bool,
        has_head: bool,
        offsets in prop::array::uniform2(0..8usize),
    ) {
        let size = if is_long { AccessSize::Long } else { AccessSize::Short };
        let receiver = Receiver::read_write(EndpointId::new(endpoint));
        let head = DescriptorHead::new(&transaction(), size, &receiver);
        let write = |offset: usize, has_head: bool| {
            let mut buffer = std::vec![0xff; 2048];
            let room = &mut buffer[offset..];
            let mut writer = if has_head {
                DescriptorWriter::with_head(room, &head).unwrap()
            } else {
                DescriptorWriter::new(room, &transaction(), size, &[receiver]).unwrap()
            };
            for range in ranges(&places) {
                writer.push(range).unwrap();
            }
            let length = writer.finish().unwrap() as usize;
            buffer[offset..offset + length].to_vec()
        };
        let bytes = write(offsets[0], has_head);
        prop_assert_eq!(&bytes, &write(0, false));
        let mut moved = std::vec![0; offsets[1]];
        moved.extend(&bytes);
        let again = whole(&moved[offsets[1]..], Layout::V1_1);
        prop_assert_eq!(again, whole(&bytes, Layout::V1_1));
    }
}
