// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The end of a VM: sessions are closed for it, calls that wait are ended.

use super::concurrent_smc::during_smc;
use super::{APP, SESSION, Vm, bare, vm};
use crate::fake::{Machine, Step};
use crate::{Config, CreateError, DestroyError, Features};
use alloc::vec;
use alloc::vec::Vec;
use optee_proto::msg::{Attr, Command, Param, login};
use optee_proto::{TeeResult, rpc, smc};

#[test]
fn sessions_are_closed_for_the_guest() {
    let vm = bare();
    for _ in 0..5 {
        assert_eq!(vm.guest().open(APP, login::PUBLIC).1, 0);
    }
    // While one is closed, OP-TEE sends requests, and there is no guest.
    vm.host.machine().script(
        1,
        [
            Step::Command(rpc::Command::FS, vec![]),
            Step::ForeignInterrupt,
            Step::ShmAlloc(0, 10),
        ],
    );
    let mediator = &vm.mediator;
    mediator.destroy(&vm.host).unwrap();
    let closed: Vec<u32> = vm
        .host
        .machine()
        .outcomes(1)
        .iter()
        .filter(|seen| Command(seen.header.cmd.get()) == Command::CLOSE_SESSION)
        .map(|seen| seen.header.session.get())
        .collect();
    assert_eq!(closed.len(), 5);
    assert_eq!(vm.stats().leaked, 0);
    vm.end_after_destroy();
}

#[test]
fn waiting_calls_end_and_their_sessions_close() {
    let vm = bare();
    let guest = vm.guest();
    let wait = vec![Param::new(Attr::VALUE_INPUT, rpc::NOTIFICATION_WAIT, 5, 0)];
    vm.host
        .machine()
        .script(1, [Step::Command(rpc::Command::NOTIFICATION, wait)]);
    vm.host
        .machine()
        .script(1, [Step::ForeignInterrupt, Step::ShmAlloc(0, 10)]);
    let meta = Param::new(Attr::META_VALUE_INPUT, 0, 0, 0);
    guest.begin(guest.message(Command::OPEN_SESSION, 0, &[meta, meta]));
    guest.begin(guest.message(Command::OPEN_SESSION, 0, &[meta, meta]));
    assert_eq!((vm.stats().calls, vm.stats().sessions), (2, 0));
    vm.mediator.destroy(&vm.host).unwrap();
    let commands: Vec<u32> = vm
        .host
        .machine()
        .outcomes(1)
        .iter()
        .map(|seen| seen.header.cmd.get())
        .collect();
    assert_eq!(commands, [0, 0, 2, 2]);
    assert_eq!(vm.stats().leaked, 0);
    vm.end_after_destroy();
}

#[test]
fn endless_call_does_not_block_teardown() {
    let vm = bare();
    assert_eq!(vm.guest().open(APP, login::PUBLIC).1, 0);
    vm.host.machine().script(
        1,
        vec![Step::ForeignInterrupt; if cfg!(miri) { 200 } else { 20_000 }],
    );
    vm.guest()
        .begin(vm.guest().message(Command::INVOKE, SESSION, &[]));
    let before = vm.host.machine().smcs().len();
    vm.mediator.destroy(&vm.host).unwrap();
    // The interrupts, and the calls around them.
    assert!(vm.host.machine().smcs().len() - before < 16_010);
    assert_eq!(vm.stats().leaked, 0);
    vm.end_after_destroy();

    // Nor does a session that cannot be closed.
    let vm = bare();
    for _ in 0..3 {
        assert_eq!(vm.guest().open(APP, login::PUBLIC).1, 0);
    }
    vm.host.machine().script(1, [Step::Result(TeeResult::BUSY)]);
    vm.host
        .machine()
        .script(1, [Step::Raw([0xffff_0001, 0, 0], None)]);
    vm.mediator.destroy(&vm.host).unwrap();
    assert_eq!(vm.stats().leaked, 2);
    vm.end_after_destroy();
}

/// OP-TEE's names for what a VM shares do not come back in the VM's next life, nor do tokens.
#[test]
fn cookies_are_not_reused_after_a_reset() {
    let vm = vm();
    let machine = vm.host.machine();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let guest = vm.guest();
        assert_eq!(guest.register(1).1, 0);
        let buffer = machine.outcomes(1).pop().unwrap().params[0].c.get();
        machine.script(1, [Step::Command(rpc::Command::FS, vec![])]);
        let regs = guest.begin(guest.message(Command::INVOKE, SESSION, &[]));
        guest.resume(regs[3], [1, 0, 1, 5]);
        let [_, _, _, _, a4, a5, ..] = machine.smcs().pop().unwrap();
        let message = smc::unpair(a4, a5);
        assert!(buffer != 0 && message != 0);
        seen.extend([buffer, message, regs[3]]);
        vm.mediator.destroy(&vm.host).unwrap();
        vm.mediator.create(&vm.host).unwrap();
        vm.open_session(400);
    }
    assert!(
        (0..6).all(|at| !seen[..at].contains(&seen[at])),
        "{seen:x?}"
    );
    vm.end();
}

/// An OP-TEE that does not let go of a VM may still use its pages.
#[test]
fn pages_stay_pinned_when_optee_keeps_the_vm() {
    let vm = vm();
    let guest = vm.guest();
    assert_eq!(guest.register(3).1, 0);
    let machine = vm.host.machine();
    let shared = machine.shared_pages();
    machine.answer_next(smc::VM_DESTROYED, [7, 0, 0, 0]);
    let refused = Err(DestroyError::Refused(7));
    assert_eq!(vm.mediator.destroy(&vm.host), refused);
    assert_eq!((machine.pins(), machine.shared_pages()), (3, shared));
    // No call begins, and no new life.
    assert_eq!(
        guest.begin(guest.message(Command::INVOKE, SESSION, &[]))[0],
        7
    );
    assert_eq!(vm.mediator.create(&vm.host), Err(CreateError::Exists));
    vm.end();
}

/// With every call poisoned no session can be closed; it is counted.
#[test]
fn sessions_without_a_call_to_close_them_are_counted() {
    let vm = bare();
    assert_eq!(vm.guest().open(APP, login::PUBLIC).1, 0);
    for _ in 0..2 {
        vm.host
            .machine()
            .script(1, [Step::Raw([0xffff_0001, 0, 0], None)]);
        vm.guest()
            .begin(vm.guest().message(Command::INVOKE, SESSION, &[]));
    }
    vm.mediator.destroy(&vm.host).unwrap();
    assert_eq!((vm.stats().poisoned, vm.stats().leaked), (2, 1));
    vm.end_after_destroy();
}

/// What OP-TEE does not have is not offered, whatever the configuration says.
#[test]
fn features_missing_in_optee_are_not_offered() {
    let machine = Machine::new();
    machine.set_tee(optee_proto::uuid::API_UID, 0b0_1101, 2);
    let features = Features {
        rpc_arg: true,
        async_notif: true,
    };
    let vm = Vm::new(
        &machine,
        1,
        Config {
            features,
            ..Config::default()
        },
    );
    let guest = vm.guest();
    assert_eq!(guest.fast(smc::EXCHANGE_CAPABILITIES), [0, 0b100, 0, 0]);
    for function in [
        smc::CALL_WITH_RPC_ARG,
        smc::CALL_WITH_REGD_ARG,
        smc::ENABLE_ASYNC_NOTIF,
    ] {
        assert_eq!(guest.fast(function)[0], 0xffff_ffff, "{function:?}");
    }
    vm.end();
}

/// A thousand creations with open sessions and buffers leave nothing behind.
#[test]
fn thousand_creations_leave_no_residue() {
    let machine = Machine::new();
    let vm = Vm::bare(&machine, 1, Config::default());
    for _ in 0..if cfg!(miri) { 2 } else { 1000 } {
        let guest = vm.guest();
        assert_eq!(guest.open(APP, login::PUBLIC).1, 0);
        let (cookie, result) = guest.register(2);
        assert_eq!(result, 0);
        machine.script(1, [Step::ShmAlloc(0, 10), Step::ForeignInterrupt]);
        let memory = Param::new(Attr::RMEM_INPUT, 0, 10, cookie);
        guest.begin(guest.message(Command::INVOKE, SESSION, &[memory]));
        vm.mediator.destroy(&vm.host).unwrap();
        assert_eq!((machine.pins(), machine.shared_pages()), (0, 0));
        vm.mediator.create(&vm.host).unwrap();
    }
    assert_eq!(vm.stats().leaked, 0);
    vm.end();
}

#[test]
fn destroy_is_busy_during_calls() {
    for function in [smc::GET_OS_UUID, smc::CALL_WITH_ARG] {
        let vm = vm();
        let message = vm.guest().message(Command::INVOKE, SESSION, &[]);
        let (a1, a2) = smc::pair(message.get());
        let mut seen = None;
        during_smc(&vm, [function.get().into(), a1, a2, 0, 0, 0, 0, 0], |vm| {
            seen = Some(vm.mediator.destroy(&vm.host));
        });
        assert_eq!(seen, Some(Err(DestroyError::Busy)), "{function:?}");
        // It was asked for, so no further call begins, and the next attempt succeeds.
        assert_eq!(vm.guest().begin(message), [7, 0, 0, 0]);
        vm.end();
    }
}
