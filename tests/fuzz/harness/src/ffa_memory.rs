// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fuzzes the readers and the writer of FF-A's memory transaction descriptors.

use crate::input::Input;
use ffa_proto::memory::{
    AccessSize, Descriptor, DescriptorError, DescriptorWriter, FragmentReader, Layout, MemoryRange,
    Progress, Receiver, Transaction,
};

/// The most receivers that the reader of fragments has room for here.
const RECEIVERS: usize = 4;

/// What a reader finds.
type Found = Result<(Transaction, Vec<Receiver>, Vec<MemoryRange>), DescriptorError>;

fn whole(bytes: &[u8], layout: Layout) -> Found {
    let descriptor = Descriptor::read(bytes, layout)?;
    let ranges: Vec<_> = descriptor.ranges().collect();
    let pages: u64 = ranges.iter().map(|range| u64::from(range.pages())).sum();
    assert_eq!(pages, u64::from(descriptor.pages()));
    assert_eq!(ranges.len(), descriptor.range_count() as usize);
    let receivers: Vec<_> = descriptor.receivers().collect();
    assert_eq!(receivers.len(), descriptor.receiver_count() as usize);
    assert!(!ranges.is_empty() && !receivers.is_empty());
    Ok((*descriptor.transaction(), receivers, ranges))
}

fn layout(input: &mut Input) -> Layout {
    input.pick(&[Layout::V1_1, Layout::V1_0])
}

/// Reads a whole descriptor, and writes what it says.
pub fn descriptor(data: &[u8]) {
    let mut input = Input::new(data);
    let layout = layout(&mut input);
    let Ok((transaction, receivers, ranges)) = whole(input.rest(), layout) else {
        return;
    };
    let mut buffer = vec![0xff; data.len() + 64 + 16 * receivers.len()];
    let size = AccessSize::Long;
    let writer = DescriptorWriter::new(&mut buffer, &transaction, size, &receivers);
    let mut writer = writer.expect("room for the receivers");
    for &range in &ranges {
        writer.push(range).expect("room for the range");
    }
    let length = writer.finish().expect("at least one range") as usize;
    let again = whole(&buffer[..length], Layout::V1_1).expect("what is written is a descriptor");
    assert_eq!((again.0, &again.1), (transaction, &receivers));
    // Ranges that touch are one now.
    let mut merged = again.2.into_iter();
    let mut rest: Option<(u64, u64)> = None;
    for range in ranges {
        let (address, left) = rest
            .take()
            .filter(|&(_, left)| left > 0)
            .unwrap_or_else(|| {
                let next = merged.next().expect("a range");
                (next.address(), next.bytes())
            });
        assert_eq!(address, range.address());
        let left = left
            .checked_sub(range.bytes())
            .expect("the range is inside");
        rest = Some((address.wrapping_add(range.bytes()), left));
    }
    assert!(merged.next().is_none() && rest.is_none_or(|(_, left)| left == 0));
}

/// Reads a descriptor in fragments, and compares with the whole.
pub fn fragments(data: &[u8]) {
    let mut input = Input::new(data);
    let layout = layout(&mut input);
    let cuts: [u8; 4] = core::array::from_fn(|_| input.byte());
    let bytes = input.rest();
    if bytes.is_empty() {
        return;
    }
    let found = in_fragments(bytes, layout, cuts);
    if matches!(found, Err(DescriptorError::TooManyReceivers(count)) if count as usize > RECEIVERS)
    {
        return;
    }
    assert_eq!(found, whole(bytes, layout));
}

fn in_fragments(bytes: &[u8], layout: Layout, cuts: [u8; 4]) -> Found {
    let mut reader = FragmentReader::<RECEIVERS>::new(layout, bytes.len() as u32);
    let mut ranges = Vec::new();
    let mut rest = bytes;
    for cut in cuts.iter().cycle() {
        let (fragment, after) = rest.split_at(usize::from(*cut).clamp(1, rest.len()));
        rest = after;
        match reader.feed(fragment, |range| ranges.push(range)) {
            Ok(Progress::More(received)) => {
                assert_eq!(received as usize, bytes.len() - rest.len());
                assert!(!rest.is_empty(), "all has arrived, and nothing is said");
            }
            Ok(Progress::Complete(summary)) => {
                assert!(rest.is_empty());
                return Ok((summary.transaction, summary.receivers().collect(), ranges));
            }
            Err(error) => {
                assert_eq!(reader.feed(&[0], |_| ()), Err(error));
                return Err(error);
            }
        }
    }
    unreachable!("the cuts are repeated for ever")
}
