// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Asynchronous notifications: two functions, two commands, one interrupt for all VMs.

use super::{answered_unknown, offering, plain};
use crate::fake::Machine;
use crate::tests::concurrent_smc::during_smc;
use crate::tests::{BAD, Vm};
use optee_proto::msg::{Command, Param};
use optee_proto::{Return, smc};

const VALID: u64 = smc::ASYNC_NOTIF_VALUE_VALID;
const PENDING: u64 = smc::ASYNC_NOTIF_VALUE_PENDING;

#[test]
fn fid_enable_async_notif() {
    answered_unknown(&plain(), smc::ENABLE_ASYNC_NOTIF);
    let vm = offering();
    let guest = vm.guest();
    assert!(!vm.mediator.wants_notifications());
    // What OP-TEE refuses is not begun.
    let machine = vm.host.machine();
    machine.answer_next(smc::ENABLE_ASYNC_NOTIF, [Return::EBUSY.get(), 1, 2, 3]);
    let refused = [Return::EBUSY.get(), 0, 0, 0];
    assert_eq!(guest.fast(smc::ENABLE_ASYNC_NOTIF), refused);
    assert!(!vm.mediator.wants_notifications());
    assert_eq!(guest.fast(smc::ENABLE_ASYNC_NOTIF), [0; 4]);
    let id = smc::ENABLE_ASYNC_NOTIF.get().into();
    assert_eq!(machine.smcs().pop().unwrap(), [id, 0, 0, 0, 0, 0, 0, 1]);
    assert!(vm.mediator.wants_notifications());
    // A second time is refused or not; the first still holds.
    machine.answer_next(smc::ENABLE_ASYNC_NOTIF, [Return::EBUSY.get(), 0, 0, 0]);
    guest.fast(smc::ENABLE_ASYNC_NOTIF);
    assert!(vm.mediator.wants_notifications());
    vm.end();
}

/// OP-TEE would dereference nothing, for all VMs, if it heard of a VM that is no more.
#[test]
fn notifications_are_not_enabled_at_the_end() {
    let vm = offering();
    let guest = vm.guest();
    assert_eq!(guest.fast(smc::ENABLE_ASYNC_NOTIF), [0; 4]);
    // From the moment that the end is wished for, be it not there yet.
    let id = smc::CALLS_UID.get().into();
    during_smc(&vm, [id, 0, 0, 0, 0, 0, 0, 0], |vm| {
        assert!(vm.mediator.destroy(&vm.host).is_err());
        assert!(!vm.mediator.wants_notifications());
    });
    vm.mediator.destroy(&vm.host).unwrap();
    assert!(!vm.mediator.wants_notifications());
    let gone = [Return::ENOTAVAIL.get(), 0, 0, 0];
    let before = vm.host.machine().smcs().len();
    for function in [smc::ENABLE_ASYNC_NOTIF, smc::GET_ASYNC_NOTIF_VALUE] {
        assert_eq!(guest.fast(function), gone);
    }
    assert_eq!(vm.host.machine().smcs().len(), before);
    assert!(!vm.mediator.wants_notifications());
    vm.end_after_destroy();
}

/// OP-TEE may announce the first notification before it has answered.
#[test]
fn notifications_are_wanted_before_optee_is_asked() {
    let vm = offering();
    let mut wanted = false;
    let id = smc::ENABLE_ASYNC_NOTIF.get().into();
    during_smc(&vm, [id, 0, 0, 0, 0, 0, 0, 0], |vm| {
        wanted = vm.mediator.wants_notifications();
    });
    assert!(wanted);
    vm.end();
}

#[test]
fn fid_get_async_notif_value() {
    answered_unknown(&plain(), smc::GET_ASYNC_NOTIF_VALUE);
    let vm = offering();
    let guest = vm.guest();
    let machine = vm.host.machine();
    let value = || guest.fast(smc::GET_ASYNC_NOTIF_VALUE);
    machine.notify(1, 5);
    assert_eq!(value(), [0; 4]);
    assert_eq!(guest.fast(smc::ENABLE_ASYNC_NOTIF), [0; 4]);
    machine.notify(1, 0);
    assert_eq!(value(), [0, 0, VALID, 0]);
    assert_eq!(value(), [0; 4]);
    machine.notify(1, 7);
    machine.notify(1, 9);
    assert_eq!(value(), [0, 7, VALID | PENDING, 0]);
    assert_eq!(value(), [0, 9, VALID, 0]);
    vm.end();
}

/// One interrupt for all: each VM that enabled notifications wants it, and hears of its own.
#[test]
fn notifications_of_several_vms() {
    let machine = Machine::new();
    machine.limit_vms(3);
    let config = super::config(true, true);
    let [a, b, c] = [1, 2, 3].map(|client| Vm::new(&machine, client, config.clone()));
    let wanted = || [&a, &b, &c].map(|vm| vm.mediator.wants_notifications());
    assert_eq!(wanted(), [false; 3]);
    a.guest().fast(smc::ENABLE_ASYNC_NOTIF);
    b.guest().fast(smc::ENABLE_ASYNC_NOTIF);
    assert_eq!(wanted(), [true, true, false]);
    machine.notify(2, 42);
    machine.notify(3, 43);
    let value = |vm: &Vm| vm.guest().fast(smc::GET_ASYNC_NOTIF_VALUE);
    assert_eq!(value(&a), [0; 4]);
    assert_eq!(value(&b), [0, 42, VALID, 0]);
    assert_eq!(value(&c), [0; 4]);
    let guest = a.guest();
    guest.run(guest.message(Command::STOP_ASYNC_NOTIF, 0, &[]));
    assert_eq!(wanted(), [false, true, false]);
    c.end_one();
    b.end_one();
    a.end();
}

/// A command without parameters that is for VMs with notifications only.
fn only_when_offered(command: Command) -> Vm {
    let poor = plain();
    let guest = poor.guest();
    let before = poor.host.machine().smcs().len();
    let message = guest.message(command, 0, &[]);
    assert_eq!(guest.begin(message), [Return::EBADCMD.get(), 0, 0, 0]);
    assert_eq!(poor.host.machine().smcs().len(), before);
    assert_eq!((poor.stats().denied, poor.stats().calls), (1, 0));
    poor.end();

    let vm = offering();
    let guest = vm.guest();
    let message = guest.message(command, 0, &[Param::default()]);
    assert_eq!(guest.run(message).header.ret.get(), BAD);
    assert_eq!(vm.host.machine().outcomes(1).len(), 0);
    assert_eq!(guest.fast(smc::ENABLE_ASYNC_NOTIF), [0; 4]);
    vm
}

#[test]
fn cmd_do_bottom_half() {
    let vm = only_when_offered(Command::DO_BOTTOM_HALF);
    let guest = vm.guest();
    let message = guest.message(Command::DO_BOTTOM_HALF, 0, &[]);
    assert_eq!(guest.run(message).header.ret.get(), 0);
    assert!(vm.mediator.wants_notifications());
    vm.end();
}

#[test]
fn cmd_stop_async_notif() {
    let vm = only_when_offered(Command::STOP_ASYNC_NOTIF);
    let guest = vm.guest();
    // OP-TEE refuses, so notifications go on.
    let busy = crate::fake::Step::Result(optee_proto::TeeResult::BUSY);
    vm.host.machine().script(1, [busy]);
    guest.run(guest.message(Command::STOP_ASYNC_NOTIF, 0, &[]));
    assert!(vm.mediator.wants_notifications());
    let message = guest.message(Command::STOP_ASYNC_NOTIF, 0, &[]);
    assert_eq!(guest.run(message).header.ret.get(), 0);
    assert!(!vm.mediator.wants_notifications());
    assert_eq!(guest.fast(smc::ENABLE_ASYNC_NOTIF), [0; 4]);
    assert!(vm.mediator.wants_notifications());
    vm.end();
}
