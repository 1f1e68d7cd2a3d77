// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What can be wrong with a descriptor.

use thiserror::Error;

/// A range that is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum RangeError {
    /// It has no pages.
    #[error("a range has no pages")]
    Empty,
    /// Its address is not one of a page.
    #[error("the address of a range is not a multiple of 4096")]
    Unaligned,
    /// It goes beyond the last address.
    #[error("a range wraps around")]
    Wraps,
}

/// A descriptor that is none. A caller that sends it gets `INVALID_PARAMETERS`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum DescriptorError {
    /// A part ends after the descriptor.
    #[error("the descriptor ends before its parts")]
    Truncated,
    /// The descriptor does not end with its last range.
    #[error("bytes follow the last range")]
    TrailingBytes,
    /// Bytes that must be zero are not.
    #[error("reserved bytes are not zero")]
    Reserved,
    /// There is no receiver.
    #[error("the descriptor names no receiver")]
    NoReceiver,
    /// There are more receivers than the reader has room for.
    #[error("{0} receivers are too many")]
    TooManyReceivers(u32),
    /// The records of receivers have a size other than 16 and 32 bytes.
    #[error("{0} bytes for a receiver are not known")]
    AccessSize(u32),
    /// The records of receivers begin in the header, or not at a multiple of 16.
    #[error("receivers at offset {0}")]
    AccessOffset(u32),
    /// The composite begins before the end of these records, not at a multiple of 8, or elsewhere for another receiver.
    #[error("ranges at offset {0}")]
    CompositeOffset(u32),
    /// There is no range.
    #[error("the descriptor has no range")]
    NoRange,
    /// A range is none.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// The ranges do not have as many pages as the composite says.
    #[error("the number of pages is not the sum of those of the ranges")]
    PageCount,
    /// A fragment is empty, or longer than what is missing.
    #[error("a fragment of {0} bytes")]
    FragmentLength(usize),
}

/// A descriptor that cannot be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum WriteError {
    /// The buffer is too small.
    #[error("the descriptor does not fit into the buffer")]
    Full,
    /// There is no receiver.
    #[error("no receiver")]
    NoReceiver,
    /// There is no range.
    #[error("no range")]
    NoRange,
    /// The sum of the pages has more than 32 bits.
    #[error("too many pages")]
    TooManyPages,
}
