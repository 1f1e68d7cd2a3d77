// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who a guest says it is, whom it calls, and by which function.

use super::*;
use ffa_proto::answer::read_success;
use ffa_proto::call::{DirectMessage, FrameworkMessage, Payload};
use ffa_proto::{AnswerError, FunctionId, Request, Version};
use optee_proto::ffa::Service;
use proptest::prelude::*;

const INVALID: Result<(), AnswerError> = Err(AnswerError::Refused(ErrorCode::INVALID_PARAMETERS));
const NOT_SUPPORTED: Result<(), AnswerError> = Err(AnswerError::Refused(ErrorCode::NOT_SUPPORTED));

fn words() -> [u32; 5] {
    [Service::GET_OS_VERSION.get(), 0, 0, 0, 0]
}

#[test]
fn direct_request_of_another_or_to_another_is_refused() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let (vm, other) = (ffa.vm(1), ffa.vm(2));
        let guest = vm.guest();
        let before = ffa.machine.smcs().len();
        let all = [
            VM,
            OTHER,
            EndpointId::HYPERVISOR,
            SPMC,
            PARTITION,
            EndpointId::new(0x8002),
            EndpointId::new(0x7fff),
            EndpointId::new(0xffff),
        ];
        for source in all {
            for destination in all {
                for payload in [
                    Payload::Smc32(words()),
                    Payload::Smc64(words().map(u64::from)),
                ] {
                    let request = DirectMessage {
                        source,
                        destination,
                        framework: None,
                        payload,
                    };
                    let answer = guest.ask(&Request::DirectRequest(request));
                    if (source, destination) == (VM, PARTITION) {
                        assert!(request.read_answer(&answer, Version::V1_2).is_ok());
                    } else {
                        assert_eq!(read_success(&answer, Version::V1_2), INVALID);
                    }
                }
            }
        }
        assert_eq!(functions(&ffa.machine, before), []);
        works_and_ends(other);
        vm.end();
    }
}

/// Each bit of w2, and each kind of framework message, to OP-TEE and to the SPMC, about anybody.
#[test]
fn framework_messages_of_a_guest_are_refused() {
    let kinds = [
        FrameworkMessage::VM_CREATED,
        FrameworkMessage::VM_DESTROYED,
        FrameworkMessage::VERSION,
    ];
    let kinds = kinds.map(|kind| 1 << 31 | u32::from(kind.get()));
    let flags = (0..32).map(|bit| 1 << bit).chain(kinds);
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let (vm, other) = (ffa.vm(1), ffa.vm(2));
        let (guest, neighbour) = (vm.guest(), other.guest());
        let (buffer, _) = neighbour.register(1);
        let before = ffa.machine.smcs().len();
        for w2 in flags.clone() {
            for to in [PARTITION, SPMC] {
                for (id, named) in [(0x8400_006f, 2), (0xc400_006f, 2), (0x8400_006f, 1)] {
                    let w1 = 1 << 16 | u64::from(to.get());
                    let call = [id, w1, w2.into(), 0x1_0000, 0, named, 0, 0];
                    let answer = guest.call(&Registers::from_8(call));
                    assert_eq!(read_success(&answer, Version::V1_2), INVALID);
                }
            }
        }
        assert_eq!(functions(&ffa.machine, before), []);
        assert_eq!(neighbour.unregister(buffer), 0);
        works_and_ends(other);
        vm.end();
    }
}

#[test]
fn upper_halves_of_a_call_by_smc32_do_not_count() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let message = guest.message(Command::INVOKE, SESSION, &[]);
        let handle = guest.share(&[message]).unwrap();
        let [low, high] = optee_proto::ffa::pair(handle);
        let call = [
            0x8400_006f,
            0x1_8001,
            0,
            Service::CALL_WITH_ARG.get().into(),
            low.into(),
            high.into(),
            0,
            0,
        ];
        let with_garbage = call.map(|x: u64| x | 0xdead_beef << 32);
        let answer = guest.call(&Registers::from_8(with_garbage));
        assert_eq!(answer.to_8(), [0x8400_0070, 0x8001_0001, 0, 0, 0, 0, 0, 0]);
        assert_eq!(guest.unshare(handle), Ok(()));
        vm.end();
    }
}

/// Nothing of a service has more than 32 bits, so what has more is for nobody.
#[test]
fn direct_request_by_smc64_has_words() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let word = u64::from(u32::MAX);
        for at in 1..8 {
            // OP-TEE's API version does not depend on the other words.
            let mut call = [0xc400_006f, 0x1_8001, 0, 0, 0, 0, 0, 0];
            if at > 3 {
                call[at] = word;
                let answer = guest.call(&Registers::from_8(call)).to_8();
                assert_eq!(answer, [0xc400_0070, 0x8001_0001, 0, 1, 0, 0, 0, 0]);
            }
            call[at] |= word + 1;
            let answer = guest.call(&Registers::from_8(call));
            assert_eq!(read_success(&answer, Version::V1_2), INVALID, "{at}");
        }
        vm.end();
    }
}

/// What a guest does wrong is counted once. A question is not wrong, nor what is right at another time.
#[test]
fn wrong_calls_are_counted_as_denied() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.bare(1, notifying(true));
        let guest = vm.guest();
        let raw = |x0, x1| {
            guest.call(&Registers::from_8([x0, x1, 0, 0, 0, 0, 0, 0]));
        };
        let service = |service: u32, w4| {
            let _ = guest.request([service, w4, 0, 0, 0]);
        };
        let api = Service::GET_API_VERSION.get();
        let unregister = Service::UNREGISTER_SHM.get();
        let enable = Service::ENABLE_ASYNC_NOTIF.get();
        let calls: [(&str, u64, &dyn Fn()); 15] = [
            ("a version", 0, &|| raw(0x8400_0063, 0x1_0002)),
            ("an id", 0, &|| raw(0x8400_0069, 0)),
            ("a feature", 0, &|| raw(0x8400_0064, 0x8400_0073)),
            ("no feature", 0, &|| raw(0x8400_0064, 0x8400_0071)),
            ("no notification", 0, &|| raw(0xc400_0083, 0)),
            ("partitions", 0, &|| raw(0x8400_0068, 0)),
            ("a buffer in use", 0, &|| raw(0x8400_0068, 0)),
            ("a function", 1, &|| raw(0x8400_0071, 0)),
            ("a handle", 1, &|| raw(0x8400_0077, 5)),
            ("a length", 1, &|| raw(0x8400_0073, 0)),
            ("a sender", 1, &|| raw(0x8400_006f, 0x2_8001)),
            ("an API version", 0, &|| service(api, 0)),
            ("a handle to forget", 1, &|| service(unregister, 5)),
            ("no service", 1, &|| service(99, 0)),
            ("a notification", 1, &|| service(enable, 3)),
        ];
        for (name, denied, call) in calls {
            let before = vm.stats();
            call();
            let after = vm.stats();
            assert_eq!(after.denied, before.denied + denied, "{name}");
            assert_eq!(after.yielding, before.yielding, "{name}");
        }
        // The services.
        assert_eq!(vm.stats().fast, 4);
        vm.end();
    }
}

/// What guests have no business with: answers, other partitions, other VMs' notifications.
#[test]
fn other_functions_are_not_there() {
    use Function as F;
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let (vm, other) = (ffa.vm(1), ffa.vm(2));
        let guest = vm.guest();
        ffa.machine.script(2, [crate::fake::Step::ForeignInterrupt]);
        let neighbour = other.guest();
        let message = neighbour.message(Command::INVOKE, SESSION, &[]);
        let regs = neighbour.begin(message);
        let before = ffa.machine.smcs().len();
        let refused = [
            F::Error,
            F::Success,
            F::Interrupt,
            F::MsgPoll,
            F::MsgWait,
            F::Yield,
            F::Run,
            F::MsgSend,
            F::MsgSendDirectResp,
            F::MemDonate,
            F::MemLend,
            F::MemRetrieveReq,
            F::MemRetrieveResp,
            F::MemRelinquish,
            F::MemOpPause,
            F::MemOpResume,
            F::MemFragRx,
            F::NormalWorldResume,
            F::NotificationBitmapCreate,
            F::NotificationBitmapDestroy,
            F::NotificationSet,
            F::RxAcquire,
            F::MsgSend2,
            F::SecondaryEpRegister,
            F::MemPermGet,
            F::MemPermSet,
            F::ConsoleLog,
            F::El3IntrHandle,
            F::MsgSendDirectReq2,
            F::MsgSendDirectResp2,
        ];
        let refused_ids = refused.into_iter().flat_map(|function| {
            [0x8400_0000u32, 0xc400_0000].map(|base| u64::from(base | function as u32))
        });
        for id in refused_ids {
            // RUN of each of OP-TEE's contexts, among others.
            for w1 in [
                0,
                1,
                2,
                0x8001_0000,
                0x8001_0001,
                0x8000_0000,
                0x8002_0003,
                0x2_0000,
            ] {
                let answer = guest.call(&Registers::from_8([id, w1, 0, 0, 0, 0, 0, 0]));
                // Registers that are none of the function's may be found first.
                let refused = read_success(&answer, Version::V1_2);
                assert!(
                    [NOT_SUPPORTED, INVALID].contains(&refused),
                    "{id:#x}: {refused:?}"
                );
            }
        }
        assert_eq!(functions(&ffa.machine, before), []);
        let end = neighbour.finish(message, regs, &mut |_, _| false);
        assert_eq!(end, optee_proto::Return::OK);
        works_and_ends(other);
        vm.end();
    }
}

#[test]
fn guest_without_version_has_no_tee() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.bare(1, Config::default());
        let guest = crate::fake::Guest::new(&vm.host, &vm.mediator);
        let before = ffa.machine.smcs().len();
        for number in 0x60..=0xff {
            for base in [0x8400_0000u32, 0xc400_0000] {
                let id = FunctionId::from_x0((base | number).into());
                if id.function() == Some(Function::Version) {
                    continue;
                }
                let call = [id.get().into(), 0x1_8001, 0, 0, 0, 0, 0, 0];
                let answer = guest.call(&Registers::from_8(call));
                assert_eq!(
                    read_success(&answer, Version::V1_2),
                    NOT_SUPPORTED,
                    "{id:?}"
                );
            }
        }
        assert_eq!(functions(&ffa.machine, before), []);
        vm.end();
    }
}

proptest! {
    #![proptest_config(crate::tests::tries(300))]

    /// Any id with any registers: no trap, and nothing but calls that OP-TEE serves for this VM.
    #[test]
    fn no_call_steps_on_a_trap(
        number in 0x60u32..=0xff,
        long in any::<bool>(),
        regs in any::<[u64; 17]>(),
        small in any::<[bool; 17]>(),
        handle in 0usize..17,
    ) {
        for manner in MANNERS {
            let ffa = Ffa::new(manner);
            let vm = ffa.vm(1);
            let guest = vm.guest();
            let (known, _) = guest.register(1);
            let mut call = [0; 18];
            call[0] = u64::from(if long { 0xc400_0000 } else { 0x8400_0000 } | number);
            for (n, (value, small)) in regs.into_iter().zip(small).enumerate() {
                call[1 + n] = if small { value % 16 } else { value };
            }
            // A handle of the guest's somewhere.
            if let [low, high] = &mut call[handle.min(16)..handle.min(16) + 2] {
                (*low, *high) = (known & 0xffff_ffff, known >> 32);
            }
            ffa.machine.remember_guesses();
            guest.call(&Registers::from_18(call));
            prop_assert_eq!(ffa.machine.violations(), [""; 0]);
            works(&vm);
            vm.end();
        }
    }
}
