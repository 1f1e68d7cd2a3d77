// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Against the crate `arm-ffa`, where it has an opinion.
//!
//! Left out is what it panics on: SMC64 calls with x8 to x17 below version 1.2, and versions of partition records
//! other than 1.1 and 1.2.

use super::memory::properties::{damage, raw};
use super::registers::registers;
use crate::call::{DirectMessage, MemSend};
use crate::memory::{Descriptor, Layout};
use crate::partition::{PartitionInfo, PartitionProperties};
use crate::tests::config;
use crate::{ErrorCode, Function, FunctionId, Registers, Request, Uuid, Version, Width};
use ::arm_ffa::memory_management::MemTransactionDesc;
use ::arm_ffa::{FfaError, FuncId, Interface, UuidHelper};
use proptest::prelude::*;
use std::vec::Vec;

const THEIRS: ::arm_ffa::Version = ::arm_ffa::Version(1, 2);

/// Ids that `arm-ffa` has from version 1.3 on.
const OF_1_3: [u32; 6] = [
    0xc400_0060,
    0xc400_0062,
    0xc400_006b,
    0xc400_006c,
    0xc400_006d,
    0xc400_007c,
];

#[test]
fn function_ids_and_their_versions_are_the_same() {
    for &function in Function::ALL {
        for width in [Width::Smc32, Width::Smc64] {
            let id = FunctionId::new(function, width);
            let theirs = FuncId::try_from(id.get()).ok();
            let theirs = theirs.filter(|_| !OF_1_3.contains(&id.get()));
            // It lacks what was removed after version 1.0.
            let is_removed = matches!(function, Function::MsgPoll | Function::MsgSend);
            assert_eq!(
                function.has(width),
                theirs.is_some() || is_removed && width == Width::Smc32,
                "{id}"
            );
            if let Some(theirs) = theirs {
                let since = theirs.minimum_ffa_version();
                assert_eq!(
                    Version::new(since.0, since.1),
                    Some(function.since()),
                    "{id}"
                );
            }
        }
    }
}

#[test]
fn error_codes_are_the_same() {
    for code in (-9..0).map(|code| ErrorCode::from_w(code as u32)) {
        let theirs = FfaError::try_from(code.get()).expect("a code");
        let name: std::string::String = std::format!("{theirs:?}");
        let ours = code.name().expect("a name").replace('_', "");
        assert_eq!(name.to_uppercase(), ours);
    }
}

#[test]
fn partition_records_are_the_same() {
    let ours = PartitionInfo {
        id: crate::EndpointId::new(0x8001),
        contexts: 4,
        properties: PartitionProperties::DIRECT_RECEIVE | PartitionProperties::AARCH64,
        uuid: Uuid::from_u128(0x486178e0_e7f8_11e3_bc5e_0002a5d5c51b),
    };
    let mut buffer = [0; 24];
    ours.write(Version::V1_2, &mut buffer).unwrap();
    let records =
        ::arm_ffa::partition_info::PartitionInfoIterator::new(THEIRS, &buffer, 1).unwrap();
    let theirs: Vec<_> = records.map(Result::unwrap).collect();
    assert_eq!(theirs.len(), 1);
    assert_eq!(theirs[0].uuid.into_bytes(), ours.uuid.bytes());
    assert_eq!(
        UuidHelper::to_u32_regs(theirs[0].uuid),
        ours.uuid.to_words()
    );
    assert_eq!(UuidHelper::to_u64_regs(theirs[0].uuid), ours.uuid.to_pair());
    let properties = theirs[0].props;
    assert!(properties.is_aarch64 && properties.support_direct_req_rec);
}

/// The registers of one of their values, or `None` where it panics or has no opinion.
fn theirs(call: &Registers) -> Option<[u64; 18]> {
    let function = call.id().function()?;
    let is_long = call.id().width() == Width::Smc64 && function.is_long();
    let registers = call.significant(Version::V1_2).to_18();
    let read = if is_long && function != Function::PartitionInfoGetRegs {
        Interface::from_regs(THEIRS, &registers)
    } else {
        Interface::from_regs(THEIRS, &registers[..8])
    };
    let mut written = [0; 18];
    read.ok()?.to_regs(THEIRS, &mut written);
    Some(written)
}

proptest! {
    #![proptest_config(config(4096, 16))]

    /// What both accept they write as the same registers.
    #[test]
    fn requests_that_both_accept_are_the_same(call in registers()) {
        let Ok(request) = Request::decode(&call, Version::V1_2) else { return Ok(()) };
        // It forgets a buffer without pages or without an address.
        if let Request::MemSend(MemSend { buffer: Some(buffer), .. }) = request
            && (buffer.pages == 0 || buffer.address == 0)
        {
            return Ok(());
        }
        // It drops what a framework message has beyond its own fields.
        if let Request::DirectRequest(DirectMessage { framework: Some(_), .. }) = request {
            return Ok(());
        }
        if let Some(theirs) = theirs(&request.encode()) {
            prop_assert_eq!(request.encode().to_18(), theirs);
        }
    }
    /// It reads descriptors with 16 bytes for each receiver, of version 1.1.
    #[test]
    fn descriptors_that_both_accept_are_the_same(
        raw in raw(),
        damages in prop::collection::vec(damage(), 0..3),
    ) {
        if (raw.layout, raw.access_size) != (Layout::V1_1, 16) {
            return Ok(());
        }
        let mut bytes = raw.bytes();
        for &(at, value) in &damages {
            if let Some(room) = bytes.get_mut(at..at + 4) {
                room.copy_from_slice(&value.to_le_bytes());
            }
        }
        let Ok(ours) = Descriptor::read(&bytes, Layout::V1_1) else { return Ok(()) };
        let theirs = MemTransactionDesc::unpack(&bytes);
        // It knows fewer attributes and permissions.
        let Ok((transaction, receivers, Some(ranges))) = theirs else {
            prop_assert!(!damages.is_empty());
            return Ok(());
        };
        prop_assert_eq!(transaction.sender_id, ours.transaction().sender.get());
        prop_assert_eq!(transaction.flags.0, ours.transaction().flags.bits());
        prop_assert_eq!(transaction.handle.0, ours.transaction().handle.get());
        prop_assert_eq!(transaction.tag, ours.transaction().tag);
        for (theirs, ours) in receivers.zip(ours.receivers()) {
            let Ok(theirs) = theirs else { return Ok(()) };
            prop_assert_eq!((theirs.endpoint_id, theirs.flags), (ours.endpoint.get(), ours.flags));
            let bits = theirs.instr_access as u8 | theirs.data_access as u8;
            prop_assert_eq!(bits, ours.permissions.get() & 0xf);
        }
        let ranges: Vec<_> = ranges.map(|range| range.map(|r| (r.address, r.page_cnt)).unwrap()).collect();
        let ours: Vec<_> = ours.ranges().map(|range| (range.address(), range.pages())).collect();
        prop_assert_eq!(ranges, ours);
    }
}
