// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;
use crate::endpoint::VcpuId;
use crate::error::ErrorCode;
use crate::function::FunctionId;
use crate::handle::Handle;
use crate::notification::{NotificationBitmap, NotificationGetFlags};
use crate::uuid::Uuid;
use std::vec::Vec;

const V1_2: Version = Version::V1_2;
const VM: EndpointId = EndpointId::new(3);
const SP: EndpointId = EndpointId::new(0x8001);

/// A call of each kind, with all fields set, and its registers.
fn examples() -> Vec<(Request, [u64; 8])> {
    let features = |query, properties| Request::Features(Features { query, properties });
    let map = FunctionId::new(Function::RxtxMap, Width::Smc64);
    let bind = NotificationBind {
        sender: SP,
        receiver: VM,
        per_vcpu: true,
        bitmap: NotificationBitmap::new(0x2_0000_0001),
    };
    let unbind = NotificationBind {
        per_vcpu: false,
        ..bind
    };
    let message = DirectMessage {
        source: VM,
        destination: SP,
        framework: None,
        payload: Payload::Smc32([3, 4, 5, 6, 7]),
    };
    let send = MemSend {
        kind: MemSendKind::Share,
        width: Width::Smc32,
        total_length: 8192,
        fragment_length: 4096,
        buffer: None,
    };
    let lend = MemSend {
        kind: MemSendKind::Lend,
        width: Width::Smc64,
        buffer: Some(DescriptorBuffer {
            address: 1 << 40,
            pages: 2,
        }),
        ..send
    };
    let donate = MemSend {
        kind: MemSendKind::Donate,
        ..send
    };
    let handle = Handle::new(0x2_0000_0001);
    std::vec![
        (
            Request::Version(V1_2.to_w()),
            [0x8400_0063, 0x1_0002, 0, 0, 0, 0, 0, 0]
        ),
        (
            features(FeatureQuery::Function(map), 2),
            [0x8400_0064, 0xc400_0066, 2, 0, 0, 0, 0, 0]
        ),
        (
            features(
                FeatureQuery::Feature(FeatureId::SCHEDULE_RECEIVER_INTERRUPT),
                0
            ),
            [0x8400_0064, 2, 0, 0, 0, 0, 0, 0],
        ),
        (Request::RxAcquire(VM), [0x8400_0084, 3, 0, 0, 0, 0, 0, 0]),
        (Request::RxRelease(VM), [0x8400_0065, 3, 0, 0, 0, 0, 0, 0]),
        (
            Request::RxtxMap(RxtxMap {
                width: Width::Smc64,
                tx: 1 << 40,
                rx: 2 << 40,
                pages: 63
            }),
            [0xc400_0066, 1 << 40, 2 << 40, 63, 0, 0, 0, 0],
        ),
        (
            Request::RxtxUnmap(VM),
            [0x8400_0067, 3 << 16, 0, 0, 0, 0, 0, 0]
        ),
        (
            Request::PartitionInfoGet(PartitionInfoGet {
                uuid: Uuid::from_words([1, 2, 3, 4]),
                count_only: true,
            }),
            [0x8400_0068, 1, 2, 3, 4, 1, 0, 0],
        ),
        (
            Request::PartitionInfoGetRegs(PartitionInfoGetRegs {
                uuid: Uuid::from_pair([1, 2]),
                start: 5,
                tag: 9,
            }),
            [0xc400_008b, 1, 2, 9 << 16 | 5, 0, 0, 0, 0],
        ),
        (Request::IdGet, [0x8400_0069, 0, 0, 0, 0, 0, 0, 0]),
        (Request::SpmIdGet, [0x8400_0085, 0, 0, 0, 0, 0, 0, 0]),
        (
            Request::Run(Target {
                endpoint: SP,
                vcpu: VcpuId::new(2)
            }),
            [0x8400_006d, 0x8001_0002, 0, 0, 0, 0, 0, 0],
        ),
        (
            Request::DirectRequest(message),
            [0x8400_006f, 0x3_8001, 0, 3, 4, 5, 6, 7]
        ),
        (
            Request::MemSend(send),
            [0x8400_0073, 8192, 4096, 0, 0, 0, 0, 0]
        ),
        (
            Request::MemSend(lend),
            [0xc400_0072, 8192, 4096, 1 << 40, 2, 0, 0, 0]
        ),
        (
            Request::MemSend(donate),
            [0x8400_0071, 8192, 4096, 0, 0, 0, 0, 0]
        ),
        (
            Request::MemFragTx(MemFragTx {
                handle,
                length: 4096,
                sender: VM
            }),
            [0x8400_007b, 1, 2, 4096, 3 << 16, 0, 0, 0],
        ),
        (
            Request::MemFragRx(MemFragRx {
                handle,
                offset: 4096,
                sender: VM
            }),
            [0x8400_007a, 1, 2, 4096, 3 << 16, 0, 0, 0],
        ),
        (
            Request::MemReclaim(MemReclaim {
                handle,
                flags: MemReclaimFlags::ZERO
            }),
            [0x8400_0077, 1, 2, 1, 0, 0, 0, 0],
        ),
        (
            Request::NotificationBitmapCreate(NotificationBitmapCreate { vm: VM, vcpus: 4 }),
            [0x8400_007d, 3, 4, 0, 0, 0, 0, 0],
        ),
        (
            Request::NotificationBitmapDestroy(VM),
            [0x8400_007e, 3, 0, 0, 0, 0, 0, 0]
        ),
        (
            Request::NotificationBind(bind),
            [0x8400_007f, 0x8001_0003, 1, 1, 2, 0, 0, 0]
        ),
        (
            Request::NotificationUnbind(unbind),
            [0x8400_0080, 0x8001_0003, 0, 1, 2, 0, 0, 0]
        ),
        (
            Request::NotificationSet(NotificationSet {
                sender: SP,
                receiver: VM,
                vcpu: Some(VcpuId::new(2)),
                delay: true,
                bitmap: bind.bitmap,
            }),
            [0x8400_0081, 0x8001_0003, 0x2_0003, 1, 2, 0, 0, 0],
        ),
        (
            Request::NotificationGet(NotificationGet {
                receiver: VM,
                vcpu: VcpuId::new(2),
                flags: NotificationGetFlags::all(),
            }),
            [0x8400_0082, 0x2_0003, 0xf, 0, 0, 0, 0, 0],
        ),
        (
            Request::NotificationInfoGet(Width::Smc32),
            [0x8400_0083, 0, 0, 0, 0, 0, 0, 0]
        ),
        (
            Request::NotificationInfoGet(Width::Smc64),
            [0xc400_0083, 0, 0, 0, 0, 0, 0, 0]
        ),
    ]
}

#[test]
fn requests_have_the_registers_of_the_specification() {
    for (request, registers) in examples() {
        assert_eq!(
            request.encode(),
            Registers::from_8(registers),
            "{request:?}"
        );
        let decoded = Request::decode(&Registers::from_8(registers), V1_2);
        assert_eq!(decoded, Ok(request));
    }
}

/// A bit that is flipped is part of a field, or the call is refused: none is dropped silently.
#[test]
fn every_bit_counts_or_is_refused() {
    for (request, registers) in examples() {
        let id = Registers::from_8(registers).id();
        let bits = match id.width() {
            Width::Smc32 => 32,
            Width::Smc64 => 64,
        };
        for register in 1..8 {
            for bit in 0..bits {
                let mut flipped = registers;
                flipped[register] ^= 1 << bit;
                let flipped = Registers::from_8(flipped);
                match Request::decode(&flipped, V1_2) {
                    // A field in wN of an SMC64 has 32 bits.
                    Ok(decoded) if bit >= 32 && decoded == request => {
                        assert!(matches!(request, Request::MemSend(_) | Request::RxtxMap(_)));
                        assert!(
                            request.encode().x(register) != 0,
                            "x{register} of {request:?}"
                        );
                    }
                    Ok(decoded) => assert_eq!(decoded.encode(), flipped, "{request:?}"),
                    Err(error) => assert_eq!(error.code(), ErrorCode::INVALID_PARAMETERS),
                }
            }
        }
    }
}

#[test]
fn upper_halves_of_smc32_do_not_count() {
    for (request, registers) in examples() {
        let dirty = registers.map(|x| x | 0xdead_beef << 32);
        let mut dirty = Registers::from_8(dirty);
        if dirty.id().width() == Width::Smc32 {
            dirty = dirty.with(12, u64::MAX);
            assert_eq!(Request::decode(&dirty, V1_2), Ok(request));
        }
    }
}

#[test]
fn function_of_a_later_version_is_unknown() {
    for (request, registers) in examples() {
        let call = Registers::from_8(registers);
        let since = call.id().function().expect("one of FF-A").since();
        for version in [Version::V1_0, Version::V1_1, V1_2] {
            let decoded = Request::decode(&call, version);
            if version < since {
                assert_eq!(decoded, Err(RequestError::Unknown(call.id())));
            } else if version >= Version::V1_1 {
                assert_eq!(decoded, Ok(request));
            }
        }
    }
}

#[test]
fn answers_and_unknown_ids_are_not_supported_as_calls() {
    let known: Vec<_> = examples()
        .iter()
        .map(|(request, _)| request.encode().id())
        .collect();
    for number in 0x60..=0xff_u64 {
        for base in [0x8400_0000, 0xc400_0000] {
            let call = Registers::from_8([base | number, 0, 0, 0, 0, 0, 0, 0]);
            let is_known =
                known.contains(&call.id()) || [0x66, 0x6f, 0x71, 0x72, 0x73].contains(&number);
            let decoded = Request::decode(&call, V1_2);
            assert_eq!(decoded.is_ok(), is_known, "{}", call.id());
            if let Err(error) = decoded {
                assert_eq!(error.code(), ErrorCode::NOT_SUPPORTED);
            }
        }
    }
}

#[test]
fn count_flag_is_reserved_in_1_0() {
    let call = Registers::from_8([0x8400_0068, 0, 0, 0, 0, 1, 0, 0]);
    assert!(Request::decode(&call, Version::V1_1).is_ok());
    let error = RequestError::Reserved { register: 5 };
    assert_eq!(Request::decode(&call, Version::V1_0), Err(error));
}

#[test]
fn fragment_longer_than_its_descriptor_is_refused() {
    let call = Registers::from_8([0x8400_0073, 4096, 4097, 0, 0, 0, 0, 0]);
    let error = RequestError::Value { register: 2 };
    assert_eq!(Request::decode(&call, V1_2), Err(error));
}

#[test]
fn framework_message_has_its_kind_in_eight_bits() {
    let call = |w2| {
        let call = Registers::from_8([0x8400_006f, 0x3_8001, w2, 0, 0, 0, 0, 0]);
        Request::decode(&call, V1_2)
    };
    for kind in [4, 6, 8] {
        let Ok(Request::DirectRequest(message)) = call(0x8000_0000 | kind) else {
            panic!("not a message");
        };
        assert_eq!(message.framework, Some(FrameworkMessage::new(kind as u8)));
    }
    for bit in 0..31 {
        let error = Err(RequestError::Reserved { register: 2 });
        assert_eq!(call(1 << bit), error);
    }
}

#[test]
fn answers_with_results_read_back() {
    let features = FeaturesAnswer { w2: 1, w3: 2 };
    assert_eq!(FeaturesAnswer::read(&features.encode(), V1_2), Ok(features));
    let id = IdAnswer(SP);
    assert_eq!(id.encode().to_8()[..3], [0x8400_0061, 0, 0x8001]);
    assert_eq!(IdAnswer::read(&id.encode(), V1_2), Ok(id));
    let infos = PartitionInfoAnswer { count: 2, size: 24 };
    assert_eq!(PartitionInfoAnswer::read(&infos.encode(), V1_2), Ok(infos));
    let wrong = crate::AnswerError::Reserved { register: 2 };
    let answer = id.encode().with(2, 0x1_8001u32);
    assert_eq!(IdAnswer::read(&answer, V1_2), Err(wrong));
}
