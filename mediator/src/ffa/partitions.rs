// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `FFA_PARTITION_INFO_GET` and `FFA_PARTITION_INFO_GET_REGS`: the partitions that a guest sees (DEN0077A issue J, 13.8
//! and 13.9).
//!
//! The list was read once, at boot. The SPMC is not asked again: OP-TEE 4.10 takes its RX buffer away from the
//! hypervisor even when it refuses the call.

use super::buffers::Buffers;
use crate::host::Host;
use alloc::vec::Vec;
use ffa_proto::call::{
    PartitionInfoAnswer, PartitionInfoGet, PartitionInfoGetRegs, PartitionInfoRegsAnswer,
};
use ffa_proto::partition::{PartitionInfo, PartitionProperties};
use ffa_proto::{EndpointId, ErrorCode, Uuid, Version};

/// The tag of the list, which does not change.
const TAG: u16 = 0;

/// The partitions that a VM sees, in the SPMC's order.
#[derive(Debug)]
pub(super) struct Partitions(Vec<PartitionInfo>);

impl Partitions {
    /// Returns the list without what concerns only the hypervisor: which partitions hear of VMs.
    pub(super) fn new(mut infos: Vec<PartitionInfo>) -> Self {
        for info in &mut infos {
            info.properties -= PartitionProperties::VM_CREATED | PartitionProperties::VM_DESTROYED;
        }
        Self(infos)
    }

    /// Returns whether a partition is in the list.
    pub(super) fn contains(&self, id: EndpointId) -> bool {
        self.0.iter().any(|info| info.id == id)
    }

    /// Returns the records that a caller of this version gets: those with this service, or all.
    ///
    /// From version 1.2 on a partition with several services has a record for each. Before, it has one, and whose service
    /// that names is ours to choose: the first.
    fn with(&self, uuid: Uuid, version: Version) -> impl Iterator<Item = PartitionInfo> {
        let is_found = move |info: &PartitionInfo| uuid.is_nil() || info.uuid == uuid;
        let is_first = move |at: usize, info: &PartitionInfo| {
            version >= Version::V1_2
                || self.0.iter().position(|other| other.id == info.id) == Some(at)
        };
        let all = self.0.iter().enumerate();
        let found =
            all.filter(move |&(at, info)| is_found(info) && (!uuid.is_nil() || is_first(at, info)));
        found.map(move |(_, &info)| PartitionInfo {
            // Whoever asks for a service knows its UUID: the field is zero then.
            uuid: if uuid.is_nil() { info.uuid } else { Uuid::NIL },
            ..info
        })
    }

    /// Answers a question for partitions, by the RX buffer.
    pub(super) fn get<H: Host>(
        &self,
        host: &H,
        buffers: &Buffers,
        call: &PartitionInfoGet,
        version: Version,
    ) -> Result<PartitionInfoAnswer, ErrorCode> {
        let count = self.with(call.uuid, version).count();
        if count == 0 {
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        let count = u32::try_from(count).map_err(|_| ErrorCode::NO_MEMORY)?;
        if call.count_only {
            return Ok(PartitionInfoAnswer { count, size: 0 });
        }
        buffers.write_rx(|rx| {
            let mut offset = 0;
            for info in self.with(call.uuid, version) {
                let mut record = [0; PartitionInfo::size(Version::V1_2)];
                let size = info
                    .write(version, &mut record)
                    .map_err(|_| ErrorCode::NO_MEMORY)?;
                rx.write(host, offset, record.get(..size).unwrap_or_default())?;
                offset += size as u64;
            }
            Ok(())
        })?;
        // Version 1.0 has no size here.
        let size = match version {
            Version::V1_0 => 0,
            _ => PartitionInfo::size(version) as u32,
        };
        Ok(PartitionInfoAnswer { count, size })
    }

    /// Answers a question for partitions, by registers.
    pub(super) fn get_by_registers(
        &self,
        call: &PartitionInfoGetRegs,
    ) -> Result<PartitionInfoRegsAnswer, ErrorCode> {
        if call.tag != TAG {
            return Err(ErrorCode::RETRY);
        }
        // This call is not older than version 1.2.
        let version = Version::V1_2;
        let last = self.with(call.uuid, version).count().checked_sub(1);
        let last = last.and_then(|last| u16::try_from(last).ok());
        let last = last.ok_or(ErrorCode::INVALID_PARAMETERS)?;
        let part = self.with(call.uuid, version).skip(call.start.into());
        let part: heapless::Vec<_, { PartitionInfoRegsAnswer::MOST }> =
            part.take(PartitionInfoRegsAnswer::MOST).collect();
        PartitionInfoRegsAnswer::new(call.start, last, TAG, &part)
            .ok_or(ErrorCode::INVALID_PARAMETERS)
    }
}
