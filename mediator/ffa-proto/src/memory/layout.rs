// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Records of a descriptor as bytes, and the checks that need no other record.

use super::error::DescriptorError;
use super::range::MemoryRange;
use super::values::{MemoryAttributes, Permissions, Receiver, Transaction, TransactionFlags};
use crate::endpoint::EndpointId;
use crate::handle::Handle;
use crate::version::Version;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

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

// Records as they are at aligned addresses, with numbers in little endian: without unaligned accesses each byte would be
// one.

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy)]
#[repr(C)]
struct HeaderV1_0 {
    sender: u16,
    attributes: u8,
    reserved_3: u8,
    flags: u32,
    handle: u64,
    tag: u64,
    reserved_24: u32,
    receivers: u32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy)]
#[repr(C)]
struct HeaderV1_1 {
    sender: u16,
    attributes: u16,
    flags: u32,
    handle: u64,
    tag: u64,
    access_size: u32,
    receivers: u32,
    access_offset: u32,
    reserved_36: [u32; 3],
}

/// The record of a receiver, as far as both sizes agree. 8 reserved bytes follow, in the long one after 16 more.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy)]
#[repr(C)]
struct AccessRecord {
    endpoint: u16,
    permissions: u8,
    flags: u8,
    composite_offset: u32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy)]
#[repr(C)]
struct CompositeRecord {
    pages: u32,
    ranges: u32,
    reserved_8: u64,
}

const _: () = {
    assert!(size_of::<HeaderV1_0>() == 32);
    assert!(size_of::<HeaderV1_1>() == 48);
    assert!(size_of::<AccessRecord>() == 8);
    assert!(size_of::<CompositeRecord>() == Composite::SIZE);
    assert!(size_of::<RangeRecord>() == RANGE_SIZE);
};

/// The bytes of a range.
pub(super) const RANGE_SIZE: usize = 16;

/// Returns the record at the beginning of some bytes: there where they are aligned, otherwise in `copy`.
// A copy of each record is a tenth of a share.
#[inline(always)]
fn view<'a, T: FromBytes + Immutable + KnownLayout>(
    bytes: &'a [u8],
    copy: &'a mut Option<T>,
) -> Result<&'a T, DescriptorError> {
    if let Ok((record, _)) = T::ref_from_prefix(bytes) {
        return Ok(record);
    }
    let (record, _) = T::read_from_prefix(bytes).map_err(|_| DescriptorError::Truncated)?;
    Ok(copy.insert(record))
}

/// Writes a record, wherever it is.
#[inline]
fn write<T: FromBytes + IntoBytes + Immutable + KnownLayout>(
    record: T,
    room: &mut [u8],
) -> Option<()> {
    if let Ok((place, _)) = T::mut_from_prefix(room) {
        *place = record;
        return Some(());
    }
    record.write_to_prefix(room).ok()
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
        let mut copy = None;
        let header: &HeaderV1_0 = view(bytes, &mut copy)?;
        require_zero(header.reserved_3 == 0 && header.reserved_24 == 0)?;
        Ok(Self {
            transaction: Transaction {
                sender: EndpointId::new(u16::from_le(header.sender)),
                attributes: MemoryAttributes::new(header.attributes.into()),
                flags: TransactionFlags::from_bits_retain(u32::from_le(header.flags)),
                handle: Handle::new(u64::from_le(header.handle)),
                tag: u64::from_le(header.tag),
            },
            access_size: AccessSize::Short,
            access_offset: size_of::<HeaderV1_0>() as u32,
            receivers: u32::from_le(header.receivers),
        })
    }

    fn read_v1_1(bytes: &[u8]) -> Result<Self, DescriptorError> {
        let mut copy = None;
        let header: &HeaderV1_1 = view(bytes, &mut copy)?;
        require_zero(header.reserved_36 == [0; 3])?;
        let size = u32::from_le(header.access_size);
        let access_size = AccessSize::from_bytes(size).ok_or(DescriptorError::AccessSize(size))?;
        let access_offset = u32::from_le(header.access_offset);
        let is_outside = access_offset as usize >= size_of::<HeaderV1_1>();
        if !is_outside || !access_offset.is_multiple_of(16) {
            return Err(DescriptorError::AccessOffset(access_offset));
        }
        Ok(Self {
            transaction: Transaction {
                sender: EndpointId::new(u16::from_le(header.sender)),
                attributes: MemoryAttributes::new(u16::from_le(header.attributes)),
                flags: TransactionFlags::from_bits_retain(u32::from_le(header.flags)),
                handle: Handle::new(u64::from_le(header.handle)),
                tag: u64::from_le(header.tag),
            },
            access_size,
            access_offset,
            receivers: u32::from_le(header.receivers),
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
            sender: self.transaction.sender.get().to_le(),
            attributes: self.transaction.attributes.get().to_le(),
            flags: self.transaction.flags.bits().to_le(),
            handle: self.transaction.handle.get().to_le(),
            tag: self.transaction.tag.to_le(),
            access_size: (self.access_size.bytes() as u32).to_le(),
            receivers: self.receivers.to_le(),
            access_offset: self.access_offset.to_le(),
            reserved_36: [0; 3],
        };
        write(header, room)
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
        let mut copy = None;
        let record: &AccessRecord = view(bytes, &mut copy)?;
        let rest = bytes.get(size_of::<AccessRecord>()..).unwrap_or_default();
        let (implementation_defined, reserved) = match size {
            AccessSize::Short => ([0; 2], *view::<u64>(rest, &mut None)?),
            AccessSize::Long => {
                let mut copy = None;
                let &[a, b, reserved] = view::<[u64; 3]>(rest, &mut copy)?;
                ([a, b], reserved)
            }
        };
        require_zero(reserved == 0)?;
        Ok(Self {
            receiver: Receiver {
                endpoint: EndpointId::new(u16::from_le(record.endpoint)),
                permissions: Permissions::new(record.permissions),
                flags: record.flags,
                implementation_defined: implementation_defined.map(u64::from_le),
            },
            composite_offset: u32::from_le(record.composite_offset),
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
            endpoint: self.receiver.endpoint.get().to_le(),
            permissions: self.receiver.permissions.get(),
            flags: self.receiver.flags,
            composite_offset: self.composite_offset.to_le(),
        };
        write(record, room)?;
        let rest = room.get_mut(size_of::<AccessRecord>()..size.bytes())?;
        rest.fill(0);
        if size == AccessSize::Long {
            let values = self.receiver.implementation_defined.map(u64::to_le);
            write(values, rest)?;
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
        let mut copy = None;
        let record: &CompositeRecord = view(bytes, &mut copy)?;
        require_zero(record.reserved_8 == 0)?;
        let ranges = u32::from_le(record.ranges);
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
        let pages = u32::from_le(record.pages);
        Ok(Self { pages, ranges })
    }

    pub(super) fn write(&self, room: &mut [u8]) -> Option<()> {
        let record = CompositeRecord {
            pages: self.pages.to_le(),
            ranges: self.ranges.to_le(),
            reserved_8: 0,
        };
        write(record, room)
    }
}

/// A range.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy)]
#[repr(C)]
struct RangeRecord {
    address: u64,
    /// The number of pages in the low half. The other half is zero.
    pages: u64,
}

/// Reads a range.
#[inline]
pub(super) fn read_range(bytes: &[u8]) -> Result<MemoryRange, DescriptorError> {
    let mut copy = None;
    let record: &RangeRecord = view(bytes, &mut copy)?;
    let pages = u32::try_from(u64::from_le(record.pages)).map_err(|_| DescriptorError::Reserved)?;
    Ok(MemoryRange::new(u64::from_le(record.address), pages)?)
}

/// Writes a range.
#[inline]
pub(super) fn write_range(range: MemoryRange, room: &mut [u8]) -> Option<()> {
    let record = RangeRecord {
        address: range.address().to_le(),
        pages: u64::from(range.pages()).to_le(),
    };
    write(record, room)
}
