// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Yielding calls.

use super::{answered_unknown, offering, plain};
use crate::fake::Step;
use crate::tests::{SESSION, Vm};
use optee_proto::msg::{Command, Param};
use optee_proto::rpc::Function;
use optee_proto::{FunctionId, Return, smc};

/// An INVOKE by this function, with a1..a3 as given: the one SMC that OP-TEE gets, after which the
/// guest has its result. Whatever is in a4..a7 does not reach OP-TEE.
fn one_smc(vm: &Vm, function: FunctionId, [a1, a2, a3]: [u64; 3]) -> [u64; 8] {
    let before = vm.host.machine().smcs().len();
    let answer = vm
        .guest()
        .smc([function.get().into(), a1, a2, a3, 4, 5, 6, 7]);
    assert_eq!(answer, [0; 4]);
    let smcs = vm.host.machine().smcs();
    assert_eq!(smcs.len(), before + 1);
    smcs[before]
}

/// A plain call costs one SMC; OP-TEE gets a page of the hypervisor's, cached.
#[test]
fn fid_call_with_arg() {
    let vm = plain();
    let before = vm.stats();
    let message = vm
        .guest()
        .message(Command::INVOKE, SESSION, &[Param::default(); 4]);
    let (a1, a2) = smc::pair(message.get());
    let [a0, upper, lower, a3, rest @ ..] = one_smc(&vm, smc::CALL_WITH_ARG, [a1, a2, 77]);
    let id = smc::CALL_WITH_ARG.get().into();
    assert_eq!((a0, a3, rest), (id, smc::SHM_CACHED, [0, 0, 0, 1]));
    assert_ne!(smc::unpair(upper, lower), message.get());
    let now = vm.stats();
    let (yielding, smcs) = (now.yielding - before.yielding, now.smcs - before.smcs);
    assert_eq!((yielding, smcs), (1, 1));
    // A message is a whole page.
    for offset in [1, 8, 4095] {
        let wrong = message.checked_add(offset).unwrap();
        let bad = [Return::EBADADDR.get(), 0, 0, 0];
        assert_eq!(vm.guest().begin(wrong), bad);
    }
    vm.end();
}

#[test]
fn fid_call_with_rpc_arg() {
    answered_unknown(&plain(), smc::CALL_WITH_RPC_ARG);
    let vm = offering();
    let message = vm.guest().message(Command::INVOKE, SESSION, &[]);
    let (a1, a2) = smc::pair(message.get());
    let [a0, _, _, rest @ ..] = one_smc(&vm, smc::CALL_WITH_RPC_ARG, [a1, a2, 77]);
    let id = smc::CALL_WITH_RPC_ARG.get().into();
    assert_eq!((a0, rest), (id, [0, 0, 0, 0, 1]));
    vm.end();
}

/// OP-TEE gets the message by address: the guest's cookie and offset are no business of its.
#[test]
fn fid_call_with_regd_arg() {
    answered_unknown(&plain(), smc::CALL_WITH_REGD_ARG);
    let vm = offering();
    let guest = vm.guest();
    let (cookie, result) = guest.register(1);
    assert_eq!(result, 0);
    let at = crate::addr::Ipa::new((cookie & 0x7fff_ffff_ffff) + 512);
    guest.write_message(at, Command::INVOKE, SESSION, &[]);
    let (a1, a2) = smc::pair(cookie);
    let [a0, _, _, rest @ ..] = one_smc(&vm, smc::CALL_WITH_REGD_ARG, [a1, a2, 512]);
    let id = smc::CALL_WITH_RPC_ARG.get().into();
    assert_eq!((a0, rest), (id, [0, 0, 0, 0, 1]));
    vm.end();
}

/// The guest's token finds the call, once. OP-TEE gets its own thread number, and nothing of what
/// the guest brings back.
#[test]
fn fid_call_return_from_rpc() {
    let vm = plain();
    let guest = vm.guest();
    vm.host
        .machine()
        .script(1, [const { Step::ForeignInterrupt }; 2]);
    let first = guest.begin(guest.message(Command::INVOKE, SESSION, &[]));
    assert_eq!(first[..3], [Function::FOREIGN_INTR.a0(), 0, 0]);
    // OP-TEE's first thread is 0; the guest's token says nothing of it.
    assert_ne!(first[3], 0);
    let id = smc::CALL_RETURN_FROM_RPC.get().into();
    let second = guest.smc([id, 1, 2, first[3], 4, 5, 6, 7]);
    assert_ne!(second[3], first[3]);
    assert_eq!(
        vm.host.machine().smcs().pop().unwrap(),
        [id, 0, 0, 0, 0, 0, 0, 1]
    );
    let smcs = vm.host.machine().smcs().len();
    assert_eq!(
        guest.resume(first[3], [0; 4]),
        [Return::ERESUME.get(), 0, 0, 0]
    );
    assert_eq!(
        (vm.host.machine().smcs().len(), vm.stats().denied),
        (smcs, 1)
    );
    assert_eq!(guest.resume(second[3], [0; 4]), [0; 4]);
    vm.end();
}
