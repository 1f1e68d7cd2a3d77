// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Records of a descriptor as bytes, and the checks that need no other record.

use super::error::DescriptorError;
use super::range::MemoryRange;
use super::values::{MemoryAttributes, Permissions, Receiver, Transaction, TransactionFlags};
use crate::endpoint::EndpointId;
use crate::handle::Handle;
use crate::version::Version;
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Which header a descriptor has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// That of version 1.0: 32 bytes, and 16 for each receiver.
    V1_0,
    /// That of versions 1.1 and 1.2: 48 bytes, which say how many each receiver has.
    V1_1,
}

impl Layout {
    /// Returns the layout of descriptors that a caller of this version sends.
    pub const fn of(version: Version) -> Self {
        if version.to_w() < Version::V1_1.to_w() {
            Self::V1_0
        } else {
            Self::V1_1
        }
    }

    /// Returns the bytes of the header.
    pub const fn header_size(self) -> usize {
        match self {
            Self::V1_0 => size_of::<HeaderV1_0>(),
            Self::V1_1 => size_of::<HeaderV1_1>(),
        }
    }
}

/// The size of the record of a receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccessSize {
    /// 16 bytes: versions 1.0 and 1.1.
    Short,
    /// 32 bytes: version 1.2. OP-TEE 4.10 takes both from callers of version 1.1 and later, by the header's field.
    Long,
}

impl AccessSize {
    /// Returns the size in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Short => 16,
            Self::Long => 32,
        }
    }

    const fn from_bytes(bytes: u32) -> Option<Self> {
        match bytes {
            16 => Some(Self::Short),
            32 => Some(Self::Long),
            _ => None,
        }
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct HeaderV1_0 {
    sender: U16,
    attributes: u8,
    reserved_3: u8,
    flags: U32,
    handle: U64,
    tag: U64,
    reserved_24: U32,
    receivers: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct HeaderV1_1 {
    sender: U16,
    attributes: U16,
    flags: U32,
    handle: U64,
    tag: U64,
    access_size: U32,
    receivers: U32,
    access_offset: U32,
    reserved_36: [U32; 3],
}

/// The record of a receiver, as far as both sizes agree. 8 reserved bytes follow, in the long one after 16 more.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct AccessRecord {
    endpoint: U16,
    permissions: u8,
    flags: u8,
    composite_offset: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct CompositeRecord {
    pages: U32,
    ranges: U32,
    reserved_8: U64,
}

const _: () = {
    assert!(size_of::<HeaderV1_0>() == 32);
    assert!(size_of::<HeaderV1_1>() == 48);
    assert!(size_of::<AccessRecord>() == 8);
    assert!(size_of::<CompositeRecord>() == Composite::SIZE);
    assert!(size_of::<AlignedRange>() == RANGE_SIZE);
};

/// The bytes of a range.
pub(super) const RANGE_SIZE: usize = 16;

fn read<T: FromBytes>(bytes: &[u8]) -> Result<T, DescriptorError> {
    let (record, _) = T::read_from_prefix(bytes).map_err(|_| DescriptorError::Truncated)?;
    Ok(record)
}

fn require_zero(is_zero: bool) -> Result<(), DescriptorError> {
    is_zero.then_some(()).ok_or(DescriptorError::Reserved)
}

/// A header: the transaction, and where the receivers are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) transaction: Transaction,
    pub(super) access_size: AccessSize,
    pub(super) access_offset: u32,
    pub(super) receivers: u32,
}

impl Header {
    pub(super) fn read(bytes: &[u8], layout: Layout) -> Result<Self, DescriptorError> {
        let header = match layout {
            Layout::V1_0 => Self::read_v1_0(bytes)?,
            Layout::V1_1 => Self::read_v1_1(bytes)?,
        };
        if header.receivers == 0 {
            return Err(DescriptorError::NoReceiver);
        }
        Ok(header)
    }

    fn read_v1_0(bytes: &[u8]) -> Result<Self, DescriptorError> {
        let header: HeaderV1_0 = read(bytes)?;
        require_zero(header.reserved_3 == 0 && header.reserved_24 == 0)?;
        Ok(Self {
            transaction: Transaction {
                sender: EndpointId::new(header.sender.get()),
                attributes: MemoryAttributes::new(header.attributes.into()),
                flags: TransactionFlags::from_bits_retain(header.flags.get()),
                handle: Handle::new(header.handle.get()),
                tag: header.tag.get(),
            },
            access_size: AccessSize::Short,
            access_offset: size_of::<HeaderV1_0>() as u32,
            receivers: header.receivers.get(),
        })
    }

    fn read_v1_1(bytes: &[u8]) -> Result<Self, DescriptorError> {
        let header: HeaderV1_1 = read(bytes)?;
        require_zero(header.reserved_36.iter().all(|word| *word == 0))?;
        let size = header.access_size.get();
        let access_size = AccessSize::from_bytes(size).ok_or(DescriptorError::AccessSize(size))?;
        let access_offset = header.access_offset.get();
        let is_outside = access_offset as usize >= size_of::<HeaderV1_1>();
        if !is_outside || !access_offset.is_multiple_of(16) {
            return Err(DescriptorError::AccessOffset(access_offset));
        }
        Ok(Self {
            transaction: Transaction {
                sender: EndpointId::new(header.sender.get()),
                attributes: MemoryAttributes::new(header.attributes.get()),
                flags: TransactionFlags::from_bits_retain(header.flags.get()),
                handle: Handle::new(header.handle.get()),
                tag: header.tag.get(),
            },
            access_size,
            access_offset,
            receivers: header.receivers.get(),
        })
    }

    /// Returns where the records of the receivers end. Even the largest values do not wrap in 64 bits.
    pub(super) const fn access_end(&self) -> u64 {
        self.access_at(self.receivers)
    }

    /// Returns where the record of a receiver begins.
    pub(super) const fn access_at(&self, index: u32) -> u64 {
        self.access_offset as u64 + self.access_size.bytes() as u64 * index as u64
    }

    /// Writes the header of versions 1.1 and 1.2.
    pub(super) fn write(&self, room: &mut [u8]) -> Option<()> {
        let header = HeaderV1_1 {
            sender: U16::new(self.transaction.sender.get()),
            attributes: U16::new(self.transaction.attributes.get()),
            flags: U32::new(self.transaction.flags.bits()),
            handle: U64::new(self.transaction.handle.get()),
            tag: U64::new(self.transaction.tag),
            access_size: U32::new(self.access_size.bytes() as u32),
            receivers: U32::new(self.receivers),
            access_offset: U32::new(self.access_offset),
            reserved_36: [U32::ZERO; 3],
        };
        header.write_to_prefix(room).ok()
    }
}

/// The record of a receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Access {
    pub(super) receiver: Receiver,
    pub(super) composite_offset: u32,
}

impl Access {
    pub(super) fn read(bytes: &[u8], size: AccessSize) -> Result<Self, DescriptorError> {
        let record: AccessRecord = read(bytes)?;
        let rest = bytes.get(size_of::<AccessRecord>()..).unwrap_or_default();
        let (implementation_defined, reserved) = match size {
            AccessSize::Short => ([U64::ZERO; 2], read::<U64>(rest)?),
            AccessSize::Long => {
                let [a, b, reserved] = read::<[U64; 3]>(rest)?;
                ([a, b], reserved)
            }
        };
        require_zero(reserved == 0)?;
        Ok(Self {
            receiver: Receiver {
                endpoint: EndpointId::new(record.endpoint.get()),
                permissions: Permissions::new(record.permissions),
                flags: record.flags,
                implementation_defined: implementation_defined.map(U64::get),
            },
            composite_offset: record.composite_offset.get(),
        })
    }

    /// Checks where the composite begins: `total` is the descriptor's size, `first` the first receiver's composite.
    pub(super) fn check_composite(
        &self,
        header: &Header,
        total: u64,
        first: Option<u32>,
    ) -> Result<(), DescriptorError> {
        let offset = self.composite_offset;
        let is_there = u64::from(offset) >= header.access_end() && offset.is_multiple_of(8);
        if !is_there || first.is_some_and(|first| first != offset) {
            return Err(DescriptorError::CompositeOffset(offset));
        }
        if u64::from(offset) + Composite::SIZE as u64 > total {
            return Err(DescriptorError::Truncated);
        }
        Ok(())
    }

    pub(super) fn write(&self, room: &mut [u8], size: AccessSize) -> Option<()> {
        let record = AccessRecord {
            endpoint: U16::new(self.receiver.endpoint.get()),
            permissions: self.receiver.permissions.get(),
            flags: self.receiver.flags,
            composite_offset: U32::new(self.composite_offset),
        };
        record.write_to_prefix(room).ok()?;
        let rest = room.get_mut(size_of::<AccessRecord>()..size.bytes())?;
        rest.fill(0);
        if size == AccessSize::Long {
            let values = self.receiver.implementation_defined.map(U64::new);
            values.write_to_prefix(rest).ok()?;
        }
        Some(())
    }
}

/// The head of the composite.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Composite {
    pub(super) pages: u32,
    pub(super) ranges: u32,
}

impl Composite {
    pub(super) const SIZE: usize = 16;

    /// Reads the head of a composite at an offset of a descriptor of `total` bytes.
    pub(super) fn read(bytes: &[u8], offset: u32, total: u64) -> Result<Self, DescriptorError> {
        let record: CompositeRecord = read(bytes)?;
        require_zero(record.reserved_8 == 0)?;
        let ranges = record.ranges.get();
        if ranges == 0 {
            return Err(DescriptorError::NoRange);
        }
        let end = u64::from(offset) + Self::SIZE as u64 + RANGE_SIZE as u64 * u64::from(ranges);
        if end > total {
            return Err(DescriptorError::Truncated);
        }
        if end < total {
            return Err(DescriptorError::TrailingBytes);
        }
        let pages = record.pages.get();
        Ok(Self { pages, ranges })
    }

    pub(super) fn write(&self, room: &mut [u8]) -> Option<()> {
        let record = CompositeRecord {
            pages: U32::new(self.pages),
            ranges: U32::new(self.ranges),
            reserved_8: U64::ZERO,
        };
        record.write_to_prefix(room).ok()
    }
}

/// A range where it is aligned, as in all descriptors at aligned addresses: there may be thousands, and without unaligned
/// accesses each byte is one.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct AlignedRange {
    /// Little endian, as all of them.
    address: u64,
    /// The number of pages in the low half. The other half is zero.
    pages: u64,
}

/// Reads a range.
#[inline]
pub(super) fn read_range(bytes: &[u8]) -> Result<MemoryRange, DescriptorError> {
    let (address, pages) = match AlignedRange::ref_from_prefix(bytes) {
        Ok((record, _)) => (u64::from_le(record.address), u64::from_le(record.pages)),
        Err(_) => {
            let [address, pages] = read::<[U64; 2]>(bytes)?;
            (address.get(), pages.get())
        }
    };
    let pages = u32::try_from(pages).map_err(|_| DescriptorError::Reserved)?;
    Ok(MemoryRange::new(address, pages)?)
}

/// Writes a range.
#[inline]
pub(super) fn write_range(range: MemoryRange, room: &mut [u8]) -> Option<()> {
    let (address, pages) = (range.address(), u64::from(range.pages()));
    if let Ok((record, _)) = AlignedRange::mut_from_prefix(room) {
        *record = AlignedRange {
            address: address.to_le(),
            pages: pages.to_le(),
        };
        return Some(());
    }
    [U64::new(address), U64::new(pages)]
        .write_to_prefix(room)
        .ok()
}
