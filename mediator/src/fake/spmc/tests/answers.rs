// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Answers that are OP-TEE's own, and those of an SPMC that checks in their place.

use super::*;
use ffa_proto::FunctionId;
use ffa_proto::call::Features;

#[test]
fn version_is_1_2_for_everybody_and_remembered_for_all() {
    let mut bench = Bench::new(Manner::OpTee);
    let asked = Request::Version(Version::V1_0.to_w());
    assert_eq!(answer::read_version(&bench.call(asked)), Ok(V1_2));
    // Descriptors of version 1.1 are no descriptors now.
    assert_eq!(bench.share(VM), refused(INVALID));
    let none = Request::Version(1 << 31);
    assert!(answer::read_version(&bench.call(none)).is_err());
}

#[test]
fn secure_memory_and_other_attributes_are_refused() {
    for manner in MANNERS {
        let mut bench = Bench::new(manner);
        let outcome = bench.share_as(VM, Handle::NONE, SECURE);
        assert_eq!(outcome, refused(INVALID));
        assert_eq!(bench.spmc.object_count(VM), 0);
        assert_eq!(bench.spmc.traps(), []);
    }
}

#[test]
fn optee_finds_no_partition_of_an_unknown_service_and_takes_rx() {
    let unknown = Uuid::from_u128(1);
    let mut bench = Bench::new(Manner::OpTee);
    let answer = PartitionInfoAnswer { count: 0, size: 24 };
    assert_eq!(bench.partitions(unknown), Ok(answer));
    bench.simple(Request::RxRelease(HYPERVISOR)).unwrap();
    assert_eq!(bench.spmc.traps(), []);
    let mut bench = Bench::new(Manner::Checking);
    assert_eq!(bench.partitions(unknown), refused(INVALID));
    let release = bench.simple(Request::RxRelease(HYPERVISOR));
    assert_eq!(release, refused(ErrorCode::DENIED));
}

#[test]
fn partitions_by_registers_are_those_of_an_spmc_that_checks() {
    let get = Request::PartitionInfoGetRegs(PartitionInfoGetRegs {
        uuid: Uuid::NIL,
        start: 0,
        tag: 0,
    });
    let mut bench = Bench::new(Manner::Checking);
    let answer = PartitionInfoRegsAnswer::read(&bench.call(get), 0).unwrap();
    assert!(answer.infos().map(|info| info.id).eq([PARTITION]));
    let mut bench = Bench::new(Manner::OpTee);
    assert_eq!(bench.simple(get), refused(ErrorCode::NOT_SUPPORTED));
    bench.found(Trap::Logged);
}

#[test]
fn context_that_runs_is_none_of_optees() {
    for (manner, endpoint, code) in [
        (Manner::OpTee, PARTITION, INVALID),
        (Manner::OpTee, SPMC, INVALID),
        (
            Manner::OpTee,
            EndpointId::new(0x8002),
            ErrorCode::NOT_SUPPORTED,
        ),
        (Manner::Checking, EndpointId::new(0x8002), INVALID),
    ] {
        let mut bench = Bench::new(manner);
        let vcpu = VcpuId::new(0);
        let run = Request::Run(Target { endpoint, vcpu });
        assert_eq!(bench.simple(run), refused(code));
        assert_eq!(bench.spmc.traps(), []);
    }
}

#[test]
fn features_of_optee_have_a_buffer_for_descriptors_and_no_buffer_of_a_vm() {
    let of = |bench: &mut Bench, number: u32| {
        let query = FeatureQuery::Function(FunctionId::from_x0(number.into()));
        let answer = bench.call(Request::Features(Features {
            query,
            properties: 0,
        }));
        FeaturesAnswer::read(&answer, V1_2).map(|answer| answer.w2)
    };
    let unknown = refused(ErrorCode::NOT_SUPPORTED);
    for (number, by_optee, by_other) in [
        (0x8400_0073, Ok(1), Ok(0)),
        (0xc400_0073, Ok(1), Ok(0)),
        (0xc400_0066, Ok(0), Ok(0)),
        (0x8400_0081, Ok(0), unknown),
        (0x8400_0084, unknown, unknown),
        (0xc400_008b, unknown, Ok(0)),
    ] {
        assert_eq!(of(&mut Bench::new(Manner::OpTee), number), by_optee);
        assert_eq!(of(&mut Bench::new(Manner::Checking), number), by_other);
    }
}

#[test]
fn direct_request_by_smc64_is_answered_by_smc64() {
    let message = |service| DirectMessage {
        source: VM,
        destination: PARTITION,
        framework: None,
        payload: Payload::Smc64([service, 0, 0, 0, 0]),
    };
    for manner in MANNERS {
        let mut bench = Bench::new(manner);
        let request = message(Service::EXCHANGE_CAPABILITIES.get().into());
        let answer = bench.call(Request::DirectRequest(request));
        // The largest notification is zero.
        let expected = DirectAnswer::Message(Payload::Smc64([0, 4, 7, 0, 0]));
        assert_eq!(request.read_answer(&answer, V1_2), Ok(expected));
        assert_eq!(bench.spmc.traps(), []);
    }
    let mut bench = Bench::new(Manner::OpTee);
    let request = message(1 << 32);
    let answer = bench.call(Request::DirectRequest(request));
    let bad = Status::TEE_BAD_PARAMETERS.to_w().into();
    let expected = DirectAnswer::Message(Payload::Smc64([bad, 0, 0, 0, 0]));
    assert_eq!(request.read_answer(&answer, V1_2), Ok(expected));
    bench.found(Trap::Logged);
}

#[test]
fn memory_that_is_lent_has_no_attributes() {
    for manner in MANNERS {
        let mut bench = Bench::new(manner);
        let length = bench.describe(0x2f, VM, Handle::NONE, 0x4000_0000);
        assert_eq!(bench.send(MemSendKind::Lend, length), refused(INVALID));
        let length = bench.describe(0, VM, Handle::NONE, 0x4000_0000);
        assert_eq!(bench.send(MemSendKind::Share, length), refused(INVALID));
        let handle = bench.send(MemSendKind::Lend, length).unwrap();
        bench.reclaim(handle).unwrap();
        assert_eq!(bench.spmc.traps(), []);
    }
}

#[test]
fn descriptor_in_fragments_is_read_by_an_spmc_that_checks() {
    let mut bench = Bench::new(Manner::Checking);
    let total_length = bench.describe(0x2f, VM, Handle::NONE, 0x4000_0000);
    let whole = bench.ram.0[..total_length as usize].to_vec();
    let answer = bench.call(Request::MemSend(MemSend {
        kind: MemSendKind::Share,
        width: Width::Smc32,
        total_length,
        fragment_length: 48,
        buffer: None,
    }));
    let Ok(MemSendAnswer::Continue(next)) = MemSendAnswer::read(&answer, V1_2) else {
        panic!("{answer:?}");
    };
    assert_eq!((next.offset, next.sender), (48, VM));
    bench.ram.0[..whole.len() - 48].copy_from_slice(&whole[48..]);
    let of_other = MemFragTx {
        sender: OTHER,
        ..fragment(next.handle, total_length - 48)
    };
    assert_eq!(bench.simple(Request::MemFragTx(of_other)), refused(INVALID));
    let answer = bench.call(Request::MemFragTx(fragment(next.handle, total_length - 48)));
    let done = MemSendAnswer::read(&answer, V1_2);
    assert_eq!(done, Ok(MemSendAnswer::Done(next.handle)));
    let ranges = bench.spmc.ranges(next.handle).unwrap();
    assert_eq!(ranges[0].address(), 0x4000_0000);
    assert_eq!(bench.spmc.traps(), []);
}
