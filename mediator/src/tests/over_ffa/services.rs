// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What OP-TEE's service says of itself, and how its refusals reach a guest.

use super::*;
use crate::{Features, Policy};
use optee_proto::TeeResult;
use optee_proto::caps;
use optee_proto::ffa::{Capabilities, SecureCaps, Service, Status};

fn capabilities(vm: &Vm) -> Capabilities {
    let words = vm
        .guest()
        .request([Service::EXCHANGE_CAPABILITIES.get(), 0, 0, 0, 0]);
    Capabilities::read(&words.unwrap()).unwrap()
}

/// A guest hears of what both OP-TEE and its own configuration have.
#[test]
fn capabilities_are_those_that_the_vm_may_use() {
    for manner in MANNERS {
        for (async_notif, rpmb, probes) in [
            (false, false, true),
            (false, true, true),
            (false, true, false),
            (false, false, false),
            (true, false, false),
            (true, true, true),
        ] {
            let mut ffa = Ffa::new(manner);
            ffa.tee.caps.set(caps::SecureCaps::RPMB_PROBE, probes);
            let config = Config {
                features: Features {
                    async_notif,
                    ..Features::default()
                },
                policy: Policy {
                    rpmb,
                    ..Policy::default()
                },
                ..Config::default()
            };
            let vm = ffa.bare(1, config);
            let found = capabilities(&vm);
            let mut expected = SecureCaps::ARG_OFFSET;
            expected.set(SecureCaps::ASYNC_NOTIF, async_notif);
            expected.set(SecureCaps::RPMB_PROBE, rpmb && probes);
            assert_eq!(found.caps, expected, "{rpmb} {probes}");
            assert_eq!(usize::from(found.rpc_params), optee_proto::rpc::MAX_PARAMS);
            let most = if async_notif { ffa.tee.max_notif } else { 0 };
            assert_eq!(found.max_notification, most);
            vm.end();
        }
    }
}

/// OP-TEE's reasons not to begin a call are the guest's as well. Others say nothing of whether it has begun.
#[test]
fn guest_hears_why_a_call_does_not_begin() {
    for (theirs, ours, is_lost) in [
        // No call of the guest's own is in flight for whose end it could wait.
        (
            Status::TEE_BUSY,
            Status::from_w(TeeResult::COMMUNICATION.0),
            false,
        ),
        (
            Status::TEE_BAD_PARAMETERS,
            Status::TEE_BAD_PARAMETERS,
            false,
        ),
        (Status::TEE_OUT_OF_MEMORY, Status::TEE_OUT_OF_MEMORY, false),
        (
            Status::TEE_ITEM_NOT_FOUND,
            Status::from_w(TeeResult::COMMUNICATION.0),
            true,
        ),
        (
            Status::DENIED,
            Status::from_w(TeeResult::COMMUNICATION.0),
            true,
        ),
    ] {
        let ffa = Ffa::new(Manner::OpTee);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let at = guest.message(Command::INVOKE, SESSION, &[]);
        let handle = guest.share(&[at]).unwrap();
        let before = vm.stats();
        let answer = [
            0x8400_0070,
            0x8001_0001,
            0,
            theirs.to_w().into(),
            0,
            0,
            0,
            0,
        ];
        ffa.machine
            .answer_next_ffa(Function::MsgSendDirectReq, answer);
        let [low, high] = optee_proto::ffa::pair(handle);
        let words = guest.request([Service::CALL_WITH_ARG.get(), low, high, 0, 0]);
        assert_eq!(words, Ok([ours.to_w(), 0, 0, 0, 0]), "{theirs:?}");
        let after = vm.stats();
        assert_eq!(after.poisoned - before.poisoned, is_lost.into());
        assert_eq!(after.yielding, before.yielding + 1);
        // What did not begin holds nothing.
        let reclaimed = guest.reclaim(handle);
        assert_eq!(reclaimed.is_err(), is_lost, "{theirs:?}: {reclaimed:?}");
        vm.mediator.destroy(&vm.host).unwrap();
        vm.end_after_destroy();
    }
}

/// An SPMC that refuses to deliver a request has OP-TEE know nothing of it, and a call that is under way is lost by that.
#[test]
fn request_that_is_not_delivered_is_busy_or_lost() {
    let ffa = Ffa::new(Manner::OpTee);
    let vm = ffa.vm(1);
    let guest = vm.guest();
    let refusal = [0x8400_0060, 0, ErrorCode::BUSY.to_w().into(), 0, 0, 0, 0, 0];
    let at = guest.message(Command::INVOKE, SESSION, &[]);
    let handle = guest.share(&[at]).unwrap();
    ffa.machine
        .answer_next_ffa(Function::MsgSendDirectReq, refusal);
    let regs = guest.begin_at(handle, 0);
    assert_eq!(regs[0], optee_proto::Return::ETHREAD_LIMIT.get());
    assert_eq!(vm.stats().poisoned, 0);
    ffa.machine.script(1, [crate::fake::Step::ForeignInterrupt]);
    let regs = guest.begin_at(handle, 0);
    ffa.machine
        .answer_next_ffa(Function::MsgSendDirectReq, refusal);
    let regs = guest.resume(regs[3], [0; 4]);
    assert_eq!(regs[0], optee_proto::Return::ENOTAVAIL.get());
    assert_eq!(vm.stats().poisoned, 1);
    assert_eq!(guest.reclaim(handle), Err(ErrorCode::DENIED));
    vm.mediator.destroy(&vm.host).unwrap();
    vm.end_after_destroy();
}
