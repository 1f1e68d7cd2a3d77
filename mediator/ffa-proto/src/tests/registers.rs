// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any registers are decoded without a panic, and what is decoded has lost nothing.

use crate::answer;
use crate::call::{
    DirectMessage, FeaturesAnswer, IdAnswer, MemReclaim, MemReclaimFlags, MemSend, MemSendAnswer,
    MemSendKind, NotificationGetAnswer, PartitionInfoAnswer, PartitionInfoRegsAnswer, Payload,
    usual,
};
use crate::endpoint::EndpointId;
use crate::notification::{NotificationGetFlags, PendingLists};
use crate::tests::config;
use crate::{Function, FunctionId, Handle, Registers, Request, Version, Width};
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

    #[test]
    fn usual_form_is_read_as_all_forms_are(
        function in prop_oneof![Just(Function::MemShare), Just(Function::MemReclaim)],
        width in prop_oneof![Just(Width::Smc32), Just(Width::Smc64)],
        low in prop::array::uniform2(any::<u32>()),
        other in (1..8usize, prop_oneof![4 => Just(0), 1 => any::<u64>()]),
        version in version(),
    ) {
        let id = FunctionId::new(function, width);
        let mut x = [id.get().into(), low[0].into(), low[1].into(), 0, 0, 0, 0, 0];
        x[other.0] |= other.1;
        let all = Request::decode(&Registers::from_8(x), version);
        let share = usual::share(id, &x).map(Request::MemSend);
        let reclaim = usual::reclaim(id, &x).map(Request::MemReclaim);
        prop_assert!(share.is_none() || reclaim.is_none());
        if let Some(usual) = share.or(reclaim) {
            prop_assert_eq!(all, Ok(usual));
        }
        // Nothing that guests usually say goes the long way.
        let is_whole = function == Function::MemReclaim || low[1] <= low[0];
        if other.1 == 0 && id.function().is_some() && is_whole {
            prop_assert!(share.or(reclaim).is_some());
        }
    }

    #[test]
    fn usual_answer_is_read_as_all_answers_are(
        id in prop_oneof![Just(0x8400_0061u64), Just(0xc400_0061), Just(0x8400_0060)],
        low in prop::array::uniform2(prop_oneof![Just(0u64), Just(u32::MAX.into()), any::<u64>()]),
        other in (1..8usize, prop_oneof![4 => Just(0), 1 => any::<u64>()]),
        version in version(),
    ) {
        let mut x = [id, 0, low[0], low[1], 0, 0, 0, 0];
        x[other.0] |= other.1;
        let answer = Registers::from_8(x);
        if let Some(handle) = usual::shared(&x) {
            prop_assert_eq!(MemSendAnswer::read(&answer, version), Ok(MemSendAnswer::Done(handle)));
        }
        if usual::succeeded(&x) {
            prop_assert_eq!(answer::read_success(&answer, version), Ok(()));
        }
    }

    #[test]
    fn usual_requests_and_answers_are_those_of_the_codec(length in any::<u32>(), handle in any::<u64>()) {
        let handle = Handle::new(handle);
        let send = MemSend {
            kind: MemSendKind::Share,
            width: Width::Smc32,
            total_length: length,
            fragment_length: length,
            buffer: None,
        };
        prop_assert_eq!(usual::share_request(length), Request::MemSend(send).encode().to_8());
        let reclaim = MemReclaim { handle, flags: MemReclaimFlags::empty() };
        prop_assert_eq!(usual::reclaim_request(handle), Request::MemReclaim(reclaim).encode().to_8());
        prop_assert_eq!(usual::share_answer(handle), MemSendAnswer::Done(handle).encode().to_8());
        prop_assert_eq!(usual::success(), answer::success().to_8());
        let shared = usual::shared(&usual::share_answer(handle));
        prop_assert_eq!(shared, handle.is_usable().then_some(handle));
        prop_assert!(usual::succeeded(&usual::success()));
    }
}
