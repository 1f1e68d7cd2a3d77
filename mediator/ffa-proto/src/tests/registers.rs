// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any registers are decoded without a panic, and what is decoded has lost nothing.

use crate::answer;
use crate::call::{
    DirectMessage, FeaturesAnswer, IdAnswer, MemSendAnswer, NotificationGetAnswer,
    PartitionInfoAnswer, PartitionInfoRegsAnswer, Payload,
};
use crate::endpoint::EndpointId;
use crate::notification::{NotificationGetFlags, PendingLists};
use crate::tests::config;
use crate::{Registers, Request, Version, Width};
use proptest::prelude::*;

/// Registers that are often near to a call: an id of the framework, small values, few bits.
pub(super) fn registers() -> impl Strategy<Value = Registers> {
    let id = prop_oneof![
        8 => (prop::bool::ANY, 0x60..=0x8f_u64).prop_map(|(long, number)| {
            if long { 0xc400_0000 | number } else { 0x8400_0000 | number }
        }),
        1 => any::<u64>(),
    ];
    let value = prop_oneof![
        6 => Just(0),
        2 => (0..64u32).prop_map(|bit| 1u64 << bit),
        2 => 0..0x100u64,
        1 => any::<u64>(),
    ];
    (id, prop::collection::vec(value, 17)).prop_map(|(id, values)| {
        let values = values.into_iter().enumerate();
        values.fold(
            Registers::from_8([id, 0, 0, 0, 0, 0, 0, 0]),
            |all, (n, x)| all.with(n + 1, x),
        )
    })
}

pub(super) fn version() -> impl Strategy<Value = Version> {
    prop_oneof![
        Just(Version::V1_0),
        Just(Version::V1_1),
        Just(Version::V1_2)
    ]
}

fn request() -> DirectMessage {
    DirectMessage {
        source: EndpointId::new(1),
        destination: EndpointId::new(0),
        framework: None,
        payload: Payload::Smc32([0; 5]),
    }
}

proptest! {
    #![proptest_config(config(4096, 16))]

    #[test]
    fn request_that_decodes_encodes_to_the_same(call in registers(), version in version()) {
        let Ok(request) = Request::decode(&call, version) else { return Ok(()) };
        let again = request.encode();
        prop_assert_eq!(Request::decode(&again, version), Ok(request));
        // All significant registers are the same, but for upper halves of wN in an SMC64.
        let significant = call.significant(version);
        for n in 0..18 {
            let (was, is) = (significant.x(n), again.x(n));
            prop_assert_eq!(was as u32, is as u32);
            prop_assert!(is == was || is >> 32 == 0, "x{}", n);
        }
    }

    #[test]
    fn answer_that_reads_encodes_to_the_same(found in registers(), version in version()) {
        let same = |again: Registers| {
            let (was, is) = (found.significant(version), again.significant(version));
            let id = (was.id().function(), is.id().function());
            id.0 == id.1 && (1..18).all(|n| was.w(n) == is.w(n))
        };
        if let Ok(read) = FeaturesAnswer::read(&found, version) {
            prop_assert!(same(read.encode()));
        }
        if let Ok(read) = IdAnswer::read(&found, version) {
            prop_assert!(same(read.encode()));
        }
        if let Ok(read) = PartitionInfoAnswer::read(&found, version) {
            prop_assert!(same(read.encode()));
        }
        if let Ok(read) = MemSendAnswer::read(&found, version) {
            prop_assert!(same(read.encode()));
        }
        if let Ok(read) = NotificationGetAnswer::read(&found, version, NotificationGetFlags::all()) {
            prop_assert!(same(read.encode()));
        }
        for width in [Width::Smc32, Width::Smc64] {
            if let Ok(read) = PendingLists::read_answer(&found, version, width) {
                prop_assert!(same(read.encode()));
                prop_assert!(read.iter().count() <= 20);
            }
        }
        if let Ok(read) = PartitionInfoRegsAnswer::read(&found, found.x(3) as u16) {
            prop_assert_eq!(read.encode().to_18(), found.significant(Version::V1_2).to_18());
        }
        let _ = (answer::read_success(&found, version), answer::read_version(&found));
        let _ = (request().read_answer(&found, version), request().read_vm_answer(&found, version));
    }
}
