// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest that speaks FF-A.

use super::tries;
use crate::addr::{Ipa, PAGE_SIZE};
use crate::fake::{FakeHost, Machine, RAM_BASE};
use crate::ffa::{VmEndpoint, VmEndpointConfig};
use alloc::vec;
use alloc::vec::Vec;
use ffa_proto::answer::{read_success, read_version};
use ffa_proto::call::{
    FeatureId, FeatureQuery, Features, FeaturesAnswer, IdAnswer, PartitionInfoAnswer,
    PartitionInfoGet, PartitionInfoGetRegs, PartitionInfoRegsAnswer, RxtxMap,
};
use ffa_proto::partition::{PartitionInfo, PartitionInfos, PartitionProperties};
use ffa_proto::{
    AnswerError, EndpointId, ErrorCode, Function, FunctionId, Registers, Request, Uuid, Version,
    Width,
};
use proptest::prelude::*;

const OPTEE: Uuid = Uuid::from_u128(0x486178e0_e7f8_11e3_bc5e_0002a5d5c51b);
const SPMC: EndpointId = EndpointId::new(0x8000);
const TX: u64 = RAM_BASE;
const RX: u64 = RAM_BASE + 0x1_0000;

/// What OP-TEE 4.10 says of itself, with the bits about VMs.
fn optee() -> PartitionInfo {
    PartitionInfo {
        id: EndpointId::new(0x8001),
        contexts: 4,
        properties: PartitionProperties::from_bits_retain(0x1c3),
        uuid: OPTEE,
    }
}

fn other(id: u16) -> PartitionInfo {
    PartitionInfo {
        id: EndpointId::new(id),
        contexts: 1,
        properties: PartitionProperties::DIRECT_RECEIVE,
        uuid: Uuid::from_u128(id.into()),
    }
}

struct Guest {
    machine: Machine,
    host: FakeHost,
    endpoint: VmEndpoint,
}

impl Guest {
    fn new(partitions: Vec<PartitionInfo>) -> Self {
        let machine = Machine::new();
        let host = machine.add_vm(7, 64);
        let config = VmEndpointConfig {
            id: EndpointId::new(7),
            spm: SPMC,
            partitions,
        };
        let endpoint = VmEndpoint::new(config);
        Self {
            machine,
            host,
            endpoint,
        }
    }

    fn of(version: Version, partitions: Vec<PartitionInfo>) -> Self {
        let guest = Self::new(partitions);
        let answer = guest.call(&Request::Version(version.to_w()));
        assert_eq!(read_version(&answer), Ok(Version::V1_2));
        guest
    }

    fn call(&self, request: &Request) -> Registers {
        self.raw(&request.encode())
    }

    fn raw(&self, call: &Registers) -> Registers {
        let answer = self.endpoint.call(&self.host, call);
        assert_eq!(self.machine.violations(), Vec::<&str>::new());
        answer
    }

    fn done(&self, request: &Request) -> Result<(), ErrorCode> {
        let answer = self.call(request);
        read_success(&answer, Version::V1_2).map_err(|error| match error {
            AnswerError::Refused(code) => code,
            other => panic!("{request:?}: {other}"),
        })
    }

    fn map(&self, tx: u64, rx: u64, pages: u8) -> Result<(), ErrorCode> {
        let width = Width::Smc64;
        self.done(&Request::RxtxMap(RxtxMap {
            width,
            tx,
            rx,
            pages,
        }))
    }

    fn get(&self, uuid: Uuid, count_only: bool) -> Result<PartitionInfoAnswer, ErrorCode> {
        let get = PartitionInfoGet { uuid, count_only };
        let answer = self.call(&Request::PartitionInfoGet(get));
        PartitionInfoAnswer::read(&answer, Version::V1_2).map_err(refused)
    }

    fn release(&self) -> Result<(), ErrorCode> {
        self.done(&Request::RxRelease(EndpointId::HYPERVISOR))
    }

    fn unmap(&self) -> Result<(), ErrorCode> {
        self.done(&Request::RxtxUnmap(EndpointId::HYPERVISOR))
    }

    fn rx(&self, bytes: usize) -> Vec<u8> {
        let mut content = vec![0; bytes];
        for (page, part) in content.chunks_mut(PAGE_SIZE as usize).enumerate() {
            self.host.peek(Ipa::new(RX + page as u64 * PAGE_SIZE), part);
        }
        content
    }
}

fn refused(error: AnswerError) -> ErrorCode {
    match error {
        AnswerError::Refused(code) => code,
        other => panic!("{other}"),
    }
}

fn function(function: Function, width: Width) -> FunctionId {
    FunctionId::new(function, width)
}

#[test]
fn guest_without_version_has_no_other_function() {
    let guest = Guest::new(vec![optee()]);
    assert_eq!(guest.map(TX, RX, 1), Err(ErrorCode::NOT_SUPPORTED));
    let answer = guest.call(&Request::IdGet);
    let error = AnswerError::Refused(ErrorCode::NOT_SUPPORTED);
    assert_eq!(IdAnswer::read(&answer, Version::V1_2), Err(error));
    assert_eq!(guest.host.pins(), 0);
}

#[test]
fn version_is_fixed_by_the_first_other_call_until_the_vm_ends() {
    let guest = Guest::of(Version::V1_0, vec![]);
    let ask = |version: Version| read_version(&guest.call(&Request::Version(version.to_w())));
    assert_eq!(ask(Version::V1_1), Ok(Version::V1_2));
    let _ = guest.call(&Request::IdGet);
    let error = Err(AnswerError::Refused(ErrorCode::NOT_SUPPORTED));
    assert_eq!(ask(Version::V1_0), error);
    assert_eq!(ask(Version::V1_2), Ok(Version::V1_1));
    guest.endpoint.reset(&guest.host);
    assert_eq!(ask(Version::V1_2), Ok(Version::V1_2));
}

/// Version 1.3 has a kind of query there.
#[test]
fn version_ignores_registers_that_later_versions_use() {
    let guest = Guest::new(vec![]);
    let mut call = Request::Version(Version::V1_2.to_w()).encode().to_8();
    call[2..].fill(1);
    let answer = guest.raw(&Registers::from_8(call));
    assert_eq!(answer.to_8(), [0x1_0002, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn ids_are_the_vms_and_the_spmcs() {
    let guest = Guest::of(Version::V1_2, vec![]);
    let id = |request: &Request| IdAnswer::read(&guest.call(request), Version::V1_2);
    assert_eq!(id(&Request::IdGet), Ok(IdAnswer(EndpointId::new(7))));
    assert_eq!(id(&Request::SpmIdGet), Ok(IdAnswer(SPMC)));
    // It came with 1.1.
    let old = Guest::of(Version::V1_0, vec![]);
    let answer = IdAnswer::read(&old.call(&Request::SpmIdGet), Version::V1_2);
    let error = AnswerError::Refused(ErrorCode::NOT_SUPPORTED);
    assert_eq!(answer, Err(error));
}

#[test]
fn every_function_that_features_names_is_served_and_no_other() {
    // Answers, which are no calls.
    let answers = [
        Function::Error,
        Function::Success,
        Function::MsgSendDirectResp,
        Function::MemFragRx,
    ];
    // The mediator serves these, behind the endpoint.
    let behind = [
        Function::MsgSendDirectReq,
        Function::MemShare,
        Function::MemReclaim,
        Function::MemFragTx,
    ];
    for version in [Version::V1_0, Version::V1_1, Version::V1_2] {
        for number in 0x60..=0xff {
            for base in [0x8400_0000, 0xc400_0000] {
                let id = FunctionId::from_x0(base | number);
                let guest = Guest::of(version, vec![optee()]);
                let query = Features {
                    query: FeatureQuery::Function(id),
                    properties: 0,
                };
                let answer = guest.call(&Request::Features(query));
                let is_named = FeaturesAnswer::read(&answer, Version::V1_2).is_ok();
                // FFA_FEATURES needs a subject, and the others nothing that is not zero.
                let subject = match id.function() {
                    Some(Function::Features) => base | number,
                    _ => 0,
                };
                let call = [base | number, subject, 0, 0, 0, 0, 0, 0];
                let answer = guest.raw(&Registers::from_8(call));
                let code = match id.function() {
                    Some(Function::Version) => None,
                    _ => read_success(&answer, Version::V1_2).err(),
                };
                let is_served = code != Some(AnswerError::Refused(ErrorCode::NOT_SUPPORTED));
                let is_in = |list: &[Function]| id.function().is_some_and(|it| list.contains(&it));
                let is_otherwise = is_in(&answers) || is_in(&behind);
                assert_eq!(is_named, is_served || is_otherwise, "{version} {id:?}");
            }
        }
    }
}

#[test]
fn features_of_buffers_are_their_sizes() {
    for (version, w2) in [
        (Version::V1_0, 1),
        (Version::V1_1, 1),
        (Version::V1_2, 16 << 16 | 1),
    ] {
        let guest = Guest::of(version, vec![]);
        // What the guest says of itself belongs to functions that have such properties.
        for (width, properties) in [(Width::Smc32, 0), (Width::Smc64, 0), (Width::Smc64, 2)] {
            let query = FeatureQuery::Function(function(Function::RxtxMap, width));
            let answer = guest.call(&Request::Features(Features { query, properties }));
            let answer = FeaturesAnswer::read(&answer, version).unwrap();
            assert_eq!(answer, FeaturesAnswer { w2, w3: 0 });
        }
    }
}

#[test]
fn features_by_number_are_not_supported() {
    let guest = Guest::of(Version::V1_2, vec![]);
    for number in 0..=255 {
        let query = FeatureQuery::Feature(FeatureId::new(number));
        let request = Request::Features(Features {
            query,
            properties: 0,
        });
        assert_eq!(guest.done(&request), Err(ErrorCode::NOT_SUPPORTED));
    }
}

#[test]
fn buffers_are_pinned_until_they_are_unmapped() {
    let guest = Guest::of(Version::V1_2, vec![]);
    assert_eq!(guest.unmap(), Err(ErrorCode::INVALID_PARAMETERS));
    assert_eq!(guest.map(TX, RX, 16), Ok(()));
    assert_eq!(guest.host.pins(), 32);
    assert_eq!(guest.map(TX, RX, 16), Err(ErrorCode::DENIED));
    assert_eq!(guest.unmap(), Ok(()));
    assert_eq!(guest.host.pins(), 0);
    assert_eq!(guest.map(RX, TX, 1), Ok(()));
    // Version 1.0 has the VM's id here.
    let own = EndpointId::new(7);
    let others = EndpointId::new(8);
    let invalid = Err(ErrorCode::INVALID_PARAMETERS);
    assert_eq!(guest.done(&Request::RxtxUnmap(others)), invalid);
    assert_eq!(guest.done(&Request::RxtxUnmap(own)), Ok(()));
    assert_eq!(guest.map(TX, RX, 2), Ok(()));
    guest.endpoint.reset(&guest.host);
    assert_eq!(guest.host.pins(), 0);
}

#[test]
fn buffers_that_are_not_the_guests_are_refused_and_nothing_is_pinned() {
    let guest = Guest::of(Version::V1_2, vec![]);
    let end = RAM_BASE + 64 * PAGE_SIZE;
    guest.host.unmap(Ipa::new(RAM_BASE + 5 * PAGE_SIZE));
    for (tx, rx, pages) in [
        (TX, RX, 0),
        (TX, RX, 17),
        (TX, RX, 63),
        (TX + 8, RX, 1),
        (TX, RX + 0x800, 1),
        (TX, TX, 1),
        (TX, TX + PAGE_SIZE, 2),
        (TX + PAGE_SIZE, TX, 2),
        (0, RX, 1),
        (TX, RAM_BASE - PAGE_SIZE, 1),
        (TX, end, 1),
        (TX, end - PAGE_SIZE, 2),
        // A hole behind pages that are there.
        (TX, RX, 6),
        (RX, TX, 6),
        (!0xfff, RX, 2),
        (TX, !0xfff, 1),
    ] {
        let answer = guest.map(tx, rx, pages);
        let invalid = Err(ErrorCode::INVALID_PARAMETERS);
        assert_eq!(answer, invalid, "{tx:#x} {rx:#x} {pages}");
        assert_eq!(guest.host.pins(), 0);
    }
    assert_eq!(guest.map(TX, RX, 5), Ok(()));
}

#[test]
fn page_that_is_pinned_too_often_is_no_memory() {
    let guest = Guest::of(Version::V1_2, vec![]);
    guest.machine.limit_pins(0);
    assert_eq!(guest.map(TX, RX, 1), Err(ErrorCode::NO_MEMORY));
    guest.machine.limit_pins(9);
    assert_eq!(guest.map(TX, RX, 1), Ok(()));
}

#[test]
fn address_by_smc32_has_32_bits() {
    let guest = Guest::of(Version::V1_2, vec![]);
    let id = function(Function::RxtxMap, Width::Smc32).get().into();
    let answer = guest.raw(&Registers::from_8([id, TX, RX, 1, 0, 0, 0, 0]));
    let error = AnswerError::Refused(ErrorCode::INVALID_PARAMETERS);
    assert_eq!(read_success(&answer, Version::V1_2), Err(error));
}

#[test]
fn partitions_are_written_in_the_form_of_the_guests_version() {
    for (version, size) in [(Version::V1_0, 0), (Version::V1_1, 24), (Version::V1_2, 24)] {
        let guest = Guest::of(version, vec![optee(), other(0x8002)]);
        assert_eq!(guest.map(TX, RX, 1), Ok(()));
        let answer = PartitionInfoAnswer { count: 2, size };
        assert_eq!(guest.get(Uuid::NIL, false), Ok(answer));
        let content = guest.rx(64);
        let infos = PartitionInfos::new(&content, version, 2, size).unwrap();
        let ids: Vec<_> = infos.clone().map(|info| info.id.get()).collect();
        assert_eq!(ids, [0x8001, 0x8002]);
        let [first, _] = infos.collect::<Vec<_>>()[..] else {
            panic!("two")
        };
        // Nothing says which partition hears of VMs.
        let (properties, uuid) = match version {
            Version::V1_0 => (3, Uuid::NIL),
            _ => (0x103, OPTEE),
        };
        assert_eq!((first.properties.bits(), first.uuid), (properties, uuid));
    }
}

/// From version 1.2 on a partition has a record for each of its services.
#[test]
fn partition_with_several_services_has_one_record_up_to_1_1() {
    let second = PartitionInfo {
        uuid: Uuid::from_u128(2),
        ..optee()
    };
    let all = vec![other(0x8002), optee(), other(0x8003), second];
    for (version, ids) in [
        (Version::V1_0, &[0x8002, 0x8001, 0x8003][..]),
        (Version::V1_1, &[0x8002, 0x8001, 0x8003]),
        (Version::V1_2, &[0x8002, 0x8001, 0x8003, 0x8001]),
    ] {
        let guest = Guest::of(version, all.clone());
        assert_eq!(guest.map(TX, RX, 1), Ok(()));
        let answer = guest.get(Uuid::NIL, false).unwrap();
        assert_eq!(answer.count as usize, ids.len());
        let content = guest.rx(4 * 24);
        let infos = PartitionInfos::new(&content, version, answer.count, answer.size).unwrap();
        assert!(infos.map(|info| info.id.get()).eq(ids.iter().copied()));
        assert_eq!(guest.release(), Ok(()));
        // Each service finds its partition, once.
        for uuid in [OPTEE, second.uuid] {
            let answer = guest.get(uuid, false).unwrap();
            assert_eq!(answer.count, 1);
            let content = guest.rx(24);
            let mut infos = PartitionInfos::new(&content, version, 1, answer.size).unwrap();
            assert_eq!(infos.next().unwrap().id, optee().id);
            assert_eq!(guest.release(), Ok(()));
        }
        if version > Version::V1_0 {
            let count = guest.get(Uuid::NIL, true).unwrap().count;
            assert_eq!(count as usize, ids.len());
        }
    }
}

#[test]
fn partitions_of_a_service_have_no_uuid() {
    let guest = Guest::of(Version::V1_2, vec![other(0x8002), optee()]);
    assert_eq!(guest.map(TX, RX, 1), Ok(()));
    let answer = PartitionInfoAnswer { count: 1, size: 24 };
    assert_eq!(guest.get(OPTEE, false), Ok(answer));
    let content = guest.rx(24);
    let info = PartitionInfos::new(&content, Version::V1_2, 1, 24)
        .unwrap()
        .next()
        .unwrap();
    assert_eq!((info.id, info.uuid), (EndpointId::new(0x8001), Uuid::NIL));
    let unknown = Uuid::from_u128(99);
    let invalid = Err(ErrorCode::INVALID_PARAMETERS);
    assert_eq!(guest.release(), Ok(()));
    assert_eq!(guest.get(unknown, false), invalid);
    assert_eq!(guest.get(unknown, true), invalid);
}

#[test]
fn count_of_partitions_needs_no_buffer() {
    let guest = Guest::of(Version::V1_1, vec![optee()]);
    let answer = PartitionInfoAnswer { count: 1, size: 0 };
    assert_eq!(guest.get(Uuid::NIL, true), Ok(answer));
    assert_eq!(guest.get(OPTEE, true), Ok(answer));
    let nothing = Guest::of(Version::V1_1, vec![]);
    let invalid = Err(ErrorCode::INVALID_PARAMETERS);
    assert_eq!(nothing.get(Uuid::NIL, true), invalid);
}

#[test]
fn rx_buffer_is_the_guests_until_it_is_released() {
    let guest = Guest::of(Version::V1_2, vec![optee()]);
    assert_eq!(guest.get(Uuid::NIL, false), Err(ErrorCode::BUSY));
    assert_eq!(guest.release(), Err(ErrorCode::DENIED));
    assert_eq!(guest.map(TX, RX, 1), Ok(()));
    assert_eq!(guest.release(), Err(ErrorCode::DENIED));
    assert!(guest.get(Uuid::NIL, false).is_ok());
    assert_eq!(guest.get(Uuid::NIL, false), Err(ErrorCode::BUSY));
    let others = Request::RxRelease(EndpointId::new(8));
    assert_eq!(guest.done(&others), Err(ErrorCode::INVALID_PARAMETERS));
    assert_eq!(guest.release(), Ok(()));
    assert_eq!(guest.release(), Err(ErrorCode::DENIED));
    assert!(guest.get(Uuid::NIL, false).is_ok());
    // Unmapping ends that, too.
    assert_eq!(guest.unmap(), Ok(()));
    assert_eq!(guest.host.pins(), 0);
}

#[test]
fn partitions_that_do_not_fit_are_no_memory_and_leave_the_buffer_free() {
    // 170 records of 24 bytes fit into a page, and 171 need two, of which one record has a part in each.
    let partitions: Vec<_> = (0..171).map(|n| other(0x8001 + n)).collect();
    let guest = Guest::of(Version::V1_2, partitions);
    assert_eq!(guest.map(TX, RX, 1), Ok(()));
    assert_eq!(guest.get(Uuid::NIL, false), Err(ErrorCode::NO_MEMORY));
    assert_eq!(guest.release(), Err(ErrorCode::DENIED));
    assert_eq!(guest.unmap(), Ok(()));
    assert_eq!(guest.map(TX, RX, 2), Ok(()));
    let answer = PartitionInfoAnswer {
        count: 171,
        size: 24,
    };
    assert_eq!(guest.get(Uuid::NIL, false), Ok(answer));
    let content = guest.rx(2 * PAGE_SIZE as usize);
    let infos = PartitionInfos::new(&content, Version::V1_2, 171, 24).unwrap();
    assert!(infos.zip(0u16..).all(|(info, n)| info == other(0x8001 + n)));
}

#[test]
fn partitions_by_registers_come_in_fives() {
    let partitions: Vec<_> = (0..12).map(|n| other(0x8001 + n)).collect();
    let guest = Guest::of(Version::V1_2, partitions.clone());
    let get = |uuid, start, tag| {
        let get = PartitionInfoGetRegs { uuid, start, tag };
        let answer = guest.call(&Request::PartitionInfoGetRegs(get));
        PartitionInfoRegsAnswer::read(&answer, start).map_err(refused)
    };
    let mut found = Vec::new();
    let mut start = Some(0);
    while let Some(index) = start {
        let answer = get(Uuid::NIL, index, 0).unwrap();
        found.extend(answer.infos().copied());
        start = answer.next_start();
    }
    assert_eq!(found, partitions);
    assert_eq!(get(Uuid::NIL, 12, 0), Err(ErrorCode::INVALID_PARAMETERS));
    assert_eq!(get(Uuid::NIL, 5, 1), Err(ErrorCode::RETRY));
    assert_eq!(get(OPTEE, 0, 0), Err(ErrorCode::INVALID_PARAMETERS));
    let one = get(Uuid::from_u128(0x8003), 0, 0).unwrap();
    let info = PartitionInfo {
        uuid: Uuid::NIL,
        ..other(0x8003)
    };
    assert_eq!(one.infos().copied().collect::<Vec<_>>(), [info]);
}

/// A call that a guest could make, more or less.
fn any_call() -> impl Strategy<Value = [u64; 18]> {
    let id = prop_oneof![
        4 => (0x60u64..0x90).prop_map(|number| 0x8400_0000 | number),
        2 => (0x60u64..0x90).prop_map(|number| 0xc400_0000 | number),
        1 => any::<u64>(),
    ];
    let value = || {
        prop_oneof![
            4 => Just(0),
            2 => (0u64..80).prop_map(|page| RAM_BASE + page * PAGE_SIZE),
            1 => 0u64..20,
            1 => Just(u64::from(Version::V1_1.to_w())),
            1 => any::<u64>(),
        ]
    };
    (id, proptest::array::uniform17(value())).prop_map(|(id, values)| {
        let mut call = [id; 18];
        call[1..].copy_from_slice(&values);
        call
    })
}

proptest! {
    #![proptest_config(tries(500))]

    #[test]
    fn no_call_reaches_the_spmc_and_none_leaves_a_pin(
        calls in proptest::collection::vec(any_call(), 1..60)
    ) {
        let guest = Guest::of(Version::V1_2, vec![optee(), other(0x8002)]);
        for call in calls {
            let answer = guest.raw(&Registers::from_18(call));
            let id = answer.id();
            let is_version = answer.to_8()[1..].iter().all(|&x| x == 0);
            prop_assert!(
                matches!(id.function(), Some(Function::Success | Function::Error)) || is_version
            );
            // No physical address in any answer.
            let pa = guest.host.physical(Ipa::new(RAM_BASE)).unwrap().get();
            prop_assert!(answer.to_18().iter().all(|&x| x >> 24 != pa >> 24));
        }
        prop_assert_eq!(guest.machine.smcs().len(), 0);
        guest.endpoint.reset(&guest.host);
        prop_assert_eq!(guest.host.pins(), 0);
    }
}
