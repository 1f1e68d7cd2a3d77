// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What OP-TEE asks for in registers.

use super::plain;
use crate::fake::{Guest, Step};
use crate::tests::{SESSION, Vm, some};
use crate::{ForeignInterrupt, RpcKind};
use alloc::vec;
use optee_proto::msg::{Attr, Command, Param};
use optee_proto::rpc::{self, Function};
use optee_proto::{Return, smc};

fn command() -> Step {
    let param = Param::new(Attr::VALUE_INPUT, 1, 2, 3);
    Step::Command(rpc::Command::FS, vec![param])
}

/// Begins a call that does these steps.
fn begin(vm: &Vm, steps: impl IntoIterator<Item = Step>) -> [u64; 4] {
    vm.host.machine().script(1, steps);
    let guest = vm.guest();
    guest.alloc(50);
    guest.begin(guest.message(Command::INVOKE, SESSION, &[]))
}

/// OP-TEE gets a page and a cookie of the mediator; the guest's appear nowhere.
#[test]
fn rpc_func_alloc() {
    let vm = plain();
    let guest = vm.guest();
    let regs = begin(&vm, [command()]);
    assert_eq!(regs[..3], [Function::ALLOC.a0(), 160, 0]);
    let at = guest.alloc(1);
    let ((a1, a2), (a4, a5)) = (smc::pair(at.get()), smc::pair(Guest::cookie(at)));
    let regs = guest.resume(regs[3], [a1, a2, a4, a5]);
    let [_, b1, b2, _, b4, b5, ..] = vm.host.machine().smcs().pop().unwrap();
    assert_ne!(smc::unpair(b1, b2), at.get());
    assert_ne!(smc::unpair(b1, b2), vm.host.physical(at).unwrap().get());
    assert_ne!(smc::unpair(b4, b5), Guest::cookie(at));
    assert_eq!(smc::unpair(regs[1], regs[2]), Guest::cookie(at));
    assert_eq!(
        (vm.stats().rpc(RpcKind::Alloc), vm.stats().rpc_buffers),
        (1, 1)
    );
    // Nothing of the guest's is pinned for it: OP-TEE sees another page.
    assert_eq!(vm.host.machine().pins(), 0);
    vm.end();

    // More than a page, and nothing, are answered without the guest: there is no memory.
    let vm = plain();
    for size in [0, 4097, u64::from(u32::MAX)] {
        let regs = begin(&vm, [Step::Raw([Function::ALLOC.a0(), size, 0], None)]);
        assert_eq!(regs[0], 0, "{size}");
        let id = smc::CALL_RETURN_FROM_RPC.get().into();
        assert_eq!(
            vm.host.machine().smcs().pop().unwrap(),
            [id, 0, 0, 0, 0, 0, 0, 1]
        );
    }
    vm.end();
}

/// The guest hears its own cookie, and only after the memory is forgotten.
#[test]
fn rpc_func_free() {
    let vm = plain();
    let guest = vm.guest();
    let mut regs = begin(&vm, [command()]);
    let at = guest.alloc(1);
    let ((a1, a2), (a4, a5)) = (smc::pair(at.get()), smc::pair(Guest::cookie(at)));
    regs = guest.resume(regs[3], [a1, a2, a4, a5]);
    assert_eq!(vm.stats().rpc_buffers, 1);
    regs = guest.resume(regs[3], [0; 4]);
    assert_eq!(regs[..3], [Function::FREE.a0(), a4, a5]);
    assert_eq!(vm.stats().rpc_buffers, 0);
    assert_eq!(guest.resume(regs[3], [1, 2, 3, 4])[0], 0);
    assert_eq!(vm.stats().rpc(RpcKind::Free), 1);
    vm.end();
}

#[test]
fn rpc_func_foreign_intr() {
    use ForeignInterrupt::{Resume, ReturnToGuest};
    let vm = plain();
    let guest = vm.guest();
    let machine = vm.host.machine();
    machine.on_foreign_interrupt(&[Resume, ReturnToGuest, Resume]);
    let before = machine.smcs().len();
    let regs = begin(&vm, vec![Step::ForeignInterrupt; 3]);
    assert_eq!(regs[..3], [Function::FOREIGN_INTR.a0(), 0, 0]);
    // What the guest brings back means nothing.
    assert_eq!(guest.resume(regs[3], [u64::MAX; 4])[0], 0);
    let resume = [smc::CALL_RETURN_FROM_RPC.get().into(), 0, 0, 0, 0, 0, 0, 1];
    assert_eq!(machine.smcs()[before + 1..], [resume; 3]);
    assert_eq!(vm.stats().foreign_intr, 3);

    // However often the hypervisor says "resume", the guest gets its turn.
    machine.on_foreign_interrupt(&[Resume; 100]);
    let regs = begin(&vm, vec![Step::ForeignInterrupt; 100]);
    assert_eq!(regs[0], Function::FOREIGN_INTR.a0());
    assert_eq!(guest.resume(regs[3], [0; 4])[0], 0);
    vm.end();
}

/// The guest gets a copy of the request under its own cookie. A cookie that OP-TEE made up, or
/// zero where there is no room behind the message, breaks the protocol.
#[test]
fn rpc_func_cmd() {
    let vm = plain();
    vm.host.machine().script(1, [command()]);
    let guest = vm.guest();
    guest.run(guest.message(Command::INVOKE, SESSION, &[]));
    let request = guest.requests.lock().pop().unwrap();
    assert_eq!(request.command(), rpc::Command::FS);
    assert_eq!(request.params, [Param::new(Attr::VALUE_INPUT, 1, 2, 3)]);
    vm.end();
    for cookie in [[0, 0], [0x1000, 0x2000]] {
        broken([Function::CMD.a0(), cookie[0], cookie[1]]);
    }
}

/// OP-TEE broke the protocol: the call holds what it holds until the VM ends.
fn broken(regs: [u64; 3]) {
    let vm = plain();
    let answer = begin(&vm, [Step::Raw(regs, None)]);
    assert_eq!(answer, [Return::ENOTAVAIL.get(), 0, 0, 0], "{regs:x?}");
    assert_eq!((vm.stats().poisoned, vm.stats().calls), (1, 1));
    vm.end();
}

/// Two numbers that were something once.
#[test]
fn rpc_func_reserved() {
    broken([0xffff_0001, 0, 0]);
    broken([0xffff_0003, 0, 0]);
}

#[test]
fn rpc_func_unknown() {
    for function in some([6, 7, 0x1234, 0xfffe]) {
        broken([Function::new(function).a0(), 0, 0]);
    }
}
