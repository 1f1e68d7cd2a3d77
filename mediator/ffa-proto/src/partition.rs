// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Records about partitions, as `FFA_PARTITION_INFO_GET` writes them into the RX buffer and
//! `FFA_PARTITION_INFO_GET_REGS` into registers: DEN0077A issue E, table 13.37; issue J, tables 6.1 and 6.2.

use crate::endpoint::EndpointId;
use crate::uuid::Uuid;
use crate::version::Version;
use bitflags::bitflags;
use thiserror::Error;
use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

bitflags! {
    /// Properties of a partition. Bits without a name are kept.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct PartitionProperties: u32 {
        /// Receives direct requests.
        const DIRECT_RECEIVE = 1 << 0;
        /// Sends direct requests.
        const DIRECT_SEND = 1 << 1;
        /// Sends and receives indirect messages.
        const INDIRECT = 1 << 2;
        /// Receives notifications; from version 1.1 on.
        const NOTIFICATIONS = 1 << 3;
        /// Wants to know of VMs that are created, if it receives direct requests; from version 1.1 on.
        const VM_CREATED = 1 << 6;
        /// Wants to know of VMs that are destroyed, if it receives direct requests; from version 1.1 on.
        const VM_DESTROYED = 1 << 7;
        /// Runs in AArch64; from version 1.1 on.
        const AARCH64 = 1 << 8;
        /// Receives `FFA_MSG_SEND_DIRECT_REQ2`; from version 1.2 on.
        const DIRECT_RECEIVE2 = 1 << 9;
        /// Sends `FFA_MSG_SEND_DIRECT_REQ2`; from version 1.2 on.
        const DIRECT_SEND2 = 1 << 10;

        const _ = !0;
    }
}

impl PartitionProperties {
    /// The bits that version 1.0 defines.
    pub const OF_V1_0: Self = Self::DIRECT_RECEIVE
        .union(Self::DIRECT_SEND)
        .union(Self::INDIRECT);
}

/// A partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartitionInfo {
    /// The partition's id.
    pub id: EndpointId,
    /// The number of its execution contexts.
    pub contexts: u16,
    /// What it can do.
    pub properties: PartitionProperties,
    /// Its service. NIL in a record of version 1.0, and where the question named the service.
    pub uuid: Uuid,
}

/// A record of version 1.1 and later; in 1.0 it ends before the UUID.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Record {
    id: U16,
    contexts: U16,
    properties: U32,
    uuid: [u8; 16],
}

/// Records that cannot be read or written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum PartitionInfoError {
    /// A record is smaller than those of the version.
    #[error("a record of {0} bytes is too small")]
    RecordSize(u32),
    /// The buffer is smaller than its records.
    #[error("the records do not fit into the buffer")]
    BufferSize,
}

impl PartitionInfo {
    /// Returns the bytes of a record: 8 in version 1.0, 24 later.
    pub const fn size(version: Version) -> usize {
        if version.to_w() < Version::V1_1.to_w() {
            8
        } else {
            size_of::<Record>()
        }
    }

    /// Writes the record of a version to the beginning of a buffer, and returns its size.
    ///
    /// # Errors
    ///
    /// [`PartitionInfoError::BufferSize`] if it does not fit.
    pub fn write(&self, version: Version, buffer: &mut [u8]) -> Result<usize, PartitionInfoError> {
        let size = Self::size(version);
        let mut properties = self.properties;
        if version < Version::V1_1 {
            properties &= PartitionProperties::OF_V1_0;
        }
        let record = Record {
            id: U16::new(self.id.get()),
            contexts: U16::new(self.contexts),
            properties: U32::new(properties.bits()),
            uuid: self.uuid.bytes(),
        };
        let (room, bytes) = (buffer.get_mut(..size), record.as_bytes().get(..size));
        let (room, bytes) = room.zip(bytes).ok_or(PartitionInfoError::BufferSize)?;
        room.copy_from_slice(bytes);
        Ok(size)
    }

    /// Reads a record: the UUID is there if the bytes are enough.
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut whole = [0; size_of::<Record>()];
        let size = if bytes.len() < whole.len() {
            8
        } else {
            whole.len()
        };
        whole.get_mut(..size)?.copy_from_slice(bytes.get(..size)?);
        let record = Record::read_from_bytes(&whole).ok()?;
        Some(Self {
            id: EndpointId::new(record.id.get()),
            contexts: record.contexts.get(),
            properties: PartitionProperties::from_bits_retain(record.properties.get()),
            uuid: Uuid::new(record.uuid),
        })
    }

    /// Returns the partition in three registers of `FFA_PARTITION_INFO_GET_REGS`.
    pub const fn from_registers(x: [u64; 3]) -> Self {
        Self {
            id: EndpointId::new(x[0] as u16),
            contexts: (x[0] >> 16) as u16,
            properties: PartitionProperties::from_bits_retain((x[0] >> 32) as u32),
            uuid: Uuid::from_pair([x[1], x[2]]),
        }
    }

    /// Returns the partition as three registers of `FFA_PARTITION_INFO_GET_REGS` hold it.
    pub const fn to_registers(&self) -> [u64; 3] {
        let head = (self.properties.bits() as u64) << 32
            | (self.contexts as u64) << 16
            | self.id.get() as u64;
        let [a, b] = self.uuid.to_pair();
        [head, a, b]
    }
}

/// The records in an RX buffer, in order.
#[derive(Clone, Debug)]
pub struct PartitionInfos<'a> {
    records: core::slice::ChunksExact<'a, u8>,
}

impl<'a> PartitionInfos<'a> {
    /// Reads the records of a successful `FFA_PARTITION_INFO_GET`: `count` from w2, `size` from w3. In version 1.0
    /// the size is not used, and is 8. A larger size than this crate knows is good: what follows is skipped.
    ///
    /// # Errors
    ///
    /// [`PartitionInfoError`] if records are too small or do not fit into the buffer.
    pub fn new(
        buffer: &'a [u8],
        version: Version,
        count: u32,
        size: u32,
    ) -> Result<Self, PartitionInfoError> {
        let least = PartitionInfo::size(version);
        let size = if version < Version::V1_1 {
            least
        } else {
            let size_error = PartitionInfoError::RecordSize(size);
            usize::try_from(size).map_err(|_| size_error)?
        };
        if size < least {
            return Err(PartitionInfoError::RecordSize(size as u32));
        }
        let bytes = usize::try_from(count)
            .ok()
            .and_then(|n| n.checked_mul(size));
        let records = bytes.and_then(|bytes| buffer.get(..bytes));
        let records = records.ok_or(PartitionInfoError::BufferSize)?;
        Ok(Self {
            records: records.chunks_exact(size),
        })
    }
}

impl Iterator for PartitionInfos<'_> {
    type Item = PartitionInfo;

    fn next(&mut self) -> Option<PartitionInfo> {
        self.records.next().and_then(PartitionInfo::read)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.records.size_hint()
    }
}

impl ExactSizeIterator for PartitionInfos<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    /// OP-TEE 4.10 with virtualisation, as it describes itself.
    const OPTEE: PartitionInfo = PartitionInfo {
        id: EndpointId::new(0x8001),
        contexts: 4,
        properties: PartitionProperties::from_bits_retain(0x1c3),
        uuid: Uuid::from_u128(0x486178e0_e7f8_11e3_bc5e_0002a5d5c51b),
    };

    #[test]
    fn record_of_1_1_has_a_uuid_and_reads_back() {
        let mut buffer = [0; 64];
        let size = OPTEE.write(Version::V1_1, &mut buffer).unwrap();
        assert_eq!(
            (size, &buffer[..12]),
            (
                24,
                &[1, 0x80, 4, 0, 0xc3, 1, 0, 0, 0x48, 0x61, 0x78, 0xe0][..]
            )
        );
        let mut infos = PartitionInfos::new(&buffer, Version::V1_2, 1, 24).unwrap();
        assert_eq!(
            (infos.len(), infos.next(), infos.next()),
            (1, Some(OPTEE), None)
        );
    }

    #[test]
    fn record_of_1_0_lacks_uuid_and_later_properties() {
        let mut buffer = [0xff; 16];
        assert_eq!(OPTEE.write(Version::V1_0, &mut buffer), Ok(8));
        assert_eq!(buffer[..8], [1, 0x80, 4, 0, 3, 0, 0, 0]);
        let infos = PartitionInfos::new(&buffer, Version::V1_0, 2, 0).unwrap();
        assert_eq!(infos.len(), 2);
    }

    #[test]
    fn records_that_do_not_fit_are_refused() {
        let buffer = [0; 48];
        let infos =
            |count, size| PartitionInfos::new(&buffer, Version::V1_2, count, size).map(|i| i.len());
        assert_eq!(infos(2, 24), Ok(2));
        assert_eq!(infos(1, 48), Ok(1));
        assert_eq!(infos(3, 24), Err(PartitionInfoError::BufferSize));
        assert_eq!(
            infos(u32::MAX, u32::MAX),
            Err(PartitionInfoError::BufferSize)
        );
        assert_eq!(infos(1, 8), Err(PartitionInfoError::RecordSize(8)));
        assert_eq!(infos(0, 0), Err(PartitionInfoError::RecordSize(0)));
        let room = &mut [0; 23];
        assert_eq!(
            OPTEE.write(Version::V1_1, room),
            Err(PartitionInfoError::BufferSize)
        );
    }

    #[test]
    fn registers_hold_a_partition() {
        let x = OPTEE.to_registers();
        assert_eq!(x[0], 0x1c3_0004_8001);
        assert_eq!(PartitionInfo::from_registers(x), OPTEE);
    }
}
