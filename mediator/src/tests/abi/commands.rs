// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Commands of messages. (Those of notifications are in `notifications`.)

use super::{offering, plain};
use crate::addr::{Ipa, PAGE_SIZE};
use crate::fake::{Guest, Outcome, Request};
use crate::tests::{APP, BAD, SESSION, Vm, some, value};
use alloc::vec;
use alloc::vec::Vec;
use optee_proto::msg::{Attr, Command, Param, login};
use optee_proto::{Return, TeeResult};

/// The last message that OP-TEE saw.
fn seen(vm: &Vm) -> Outcome {
    vm.host.machine().outcomes(1).pop().unwrap()
}

/// The session that a message names: where it opens one, that means nothing.
fn session_of(command: Command) -> u32 {
    if command == Command::OPEN_SESSION {
        0x51
    } else {
        SESSION
    }
}

/// A message with something in every field of its header.
fn full(guest: &Guest<'_>, command: Command, params: &[Param]) -> Ipa {
    let session = session_of(command);
    let at = guest.message(command, session, params);
    let words = [command.0, 0xf0, session, 0xca, 0xbad, 0x7777, 0x7777];
    let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
    guest.host.poke(at, &bytes);
    at
}

/// The command passes with all that its header asks for. Outputs begin as "nothing happened".
fn passes(vm: &Vm, command: Command, params: &[Param]) -> Request {
    let guest = vm.guest();
    let done = guest.run(full(&guest, command, params));
    let header = seen(vm).header;
    assert_eq!(header.cmd.get(), command.0);
    let asked = (
        header.func.get(),
        header.session.get(),
        header.cancel_id.get(),
    );
    assert_eq!(asked, (0xf0, session_of(command), 0xca));
    assert_eq!(header.pad.get(), 0);
    let nothing = (TeeResult::COMMUNICATION.0, 2);
    assert_eq!((header.ret.get(), header.ret_origin.get()), nothing);
    assert_eq!(done.header.ret_origin.get(), 4);
    done
}

/// A number of parameters that the command does not have: BAD_PARAMETERS from the mediator.
fn wrong_counts(vm: &Vm, command: Command, counts: &[usize]) {
    let before = vm.host.machine().smcs().len();
    for &count in counts {
        let guest = vm.guest();
        let done = guest.run(guest.message(command, 1, &vec![Param::default(); count]));
        let result = (done.header.ret.get(), done.header.ret_origin.get());
        assert_eq!(result, (BAD, 2), "{count}");
    }
    assert_eq!(vm.host.machine().smcs().len(), before);
    assert_eq!(vm.stats().denied, counts.len() as u64);
}

/// No guest may send the command: EBADCMD, and OP-TEE spends no thread on it.
fn refused(command: u32) {
    for vm in some([plain(), offering()]) {
        let before = vm.host.machine().smcs().len();
        let guest = vm.guest();
        for count in [0, 1, 4] {
            let message = guest.message(Command(command), 1, &vec![Param::default(); count]);
            assert_eq!(guest.begin(message), [Return::EBADCMD.get(), 0, 0, 0]);
        }
        assert_eq!(vm.host.machine().smcs().len(), before);
        assert_eq!((vm.stats().denied, vm.stats().calls), (3, 0));
        vm.end();
    }
}

/// Application and client pass as they are, and the session's number comes back.
#[test]
fn cmd_open_session() {
    let vm = plain();
    let (a, b) = APP.to_value();
    let app = Param::new(Attr::META_VALUE_INPUT, a, b, 3);
    let client = Param::new(Attr::META_VALUE_INPUT, 4, 5, login::REE_KERNEL.into());
    let rest = [value(Attr::VALUE_INOUT), value(Attr::VALUE_INPUT)];
    let params = [app, client, rest[0], rest[1]];
    let done = passes(&vm, Command::OPEN_SESSION, &params);
    assert_eq!(seen(&vm).params, params);
    assert_eq!(
        done.params[2],
        Param::new(Attr::VALUE_INOUT, !0x11, !0x22, 0x33)
    );
    assert_eq!(
        (done.params[0], done.params[1], done.params[3]),
        (app, client, rest[1])
    );
    assert_ne!(done.header.session.get(), 0x51);
    assert_eq!((vm.stats().sessions, vm.stats().denied), (2, 0));
    vm.end();

    let vm = plain();
    wrong_counts(&vm, Command::OPEN_SESSION, &[0, 1, 7, 127]);
    // The first two are values of OP-TEE's own, and nothing else is.
    let plain_value = value(Attr::VALUE_INPUT);
    for params in [
        [plain_value, client, Param::default()],
        [app, plain_value, Param::default()],
        [Param::default(), client, Param::default()],
        [
            app,
            value(Attr(Attr::VALUE_INOUT.0 | Attr::META)),
            Param::default(),
        ],
        [app, client, client],
    ] {
        let guest = vm.guest();
        let done = guest.run(guest.message(Command::OPEN_SESSION, 0, &params));
        assert_eq!(done.header.ret.get(), BAD, "{params:?}");
    }
    assert_eq!((vm.stats().sessions, vm.stats().denied), (1, 9));
    assert_eq!(vm.host.machine().outcomes(1).len(), 0);
    vm.end();
}

#[test]
fn cmd_invoke() {
    for count in some(0..=4) {
        let vm = plain();
        let params = vec![value(Attr::VALUE_INPUT); count];
        let done = passes(&vm, Command::INVOKE, &params);
        assert_eq!(seen(&vm).params, params);
        assert_eq!(done.params, params);
        // The session is what the guest said: only OPEN_SESSION has one as an output.
        assert_eq!(done.header.session.get(), SESSION);
        vm.end();
    }
    let vm = plain();
    wrong_counts(&vm, Command::INVOKE, &[5, 6, 127]);
    vm.end();
}

#[test]
fn cmd_close_session() {
    let vm = plain();
    let guest = vm.guest();
    let close = |session| {
        let done = guest.run(guest.message(Command::CLOSE_SESSION, session, &[]));
        done.header.ret.get()
    };
    let (session, _) = guest.open(APP, login::PUBLIC);
    let before = vm.host.machine().smcs().len();
    assert_eq!(close(session + 1), TeeResult::ITEM_NOT_FOUND.0);
    assert_eq!(vm.host.machine().smcs().len(), before);
    assert_eq!(close(session), 0);
    let header = seen(&vm).header;
    assert_eq!((header.cmd.get(), header.session.get()), (2, session));
    // It is gone now.
    assert_eq!(close(session), TeeResult::ITEM_NOT_FOUND.0);
    assert_eq!((vm.stats().sessions, vm.stats().denied), (1, 2));
    vm.end();
    let vm = plain();
    wrong_counts(&vm, Command::CLOSE_SESSION, &[1, 4]);
    vm.end();
}

#[test]
fn cmd_cancel() {
    let vm = plain();
    passes(&vm, Command::CANCEL, &[]);
    vm.end();
    let vm = plain();
    wrong_counts(&vm, Command::CANCEL, &[1, 4]);
    vm.end();
}

/// OP-TEE gets a list and a cookie of the mediator; size and offset are the guest's.
#[test]
fn cmd_register_shm() {
    let vm = plain();
    let guest = vm.guest();
    let pages = [guest.alloc(1), guest.alloc(1)];
    let list = guest.page_list(&pages).get() + 0x123;
    let param = Param::new(Attr::PAGE_LIST, list, PAGE_SIZE, 0x4711);
    let done = guest.run(guest.message(Command::REGISTER_SHM, 0, &[param]));
    assert_eq!((done.header.ret.get(), done.params[0]), (0, param));
    let ours = seen(&vm).params[0];
    assert_eq!((ours.attr, ours.b), (param.attr, param.b));
    assert_eq!(ours.a.get() % PAGE_SIZE, 0x123);
    assert_ne!(ours.c, param.c);
    assert_ne!(ours.c.get(), 0);
    // What OP-TEE has are the physical pages, in order.
    let physical = pages.map(|page| vm.host.physical(page).unwrap().get());
    assert_eq!(vm.host.machine().buffers(1), [physical]);
    assert_eq!(vm.host.machine().pins(), 2);
    vm.end();

    let vm = plain();
    wrong_counts(&vm, Command::REGISTER_SHM, &[0, 2, 4]);
    vm.end();
}

#[test]
fn cmd_unregister_shm() {
    let vm = plain();
    let guest = vm.guest();
    let (cookie, _) = guest.register(2);
    let ours = seen(&vm).params[0].c;
    let param = Param::new(Attr::RMEM_INPUT, 5, 6, cookie);
    let done = guest.run(guest.message(Command::UNREGISTER_SHM, 0, &[param]));
    assert_eq!((done.header.ret.get(), done.params[0]), (0, param));
    let canonical = Param::new(Attr::RMEM_INPUT, 0, 0, ours.get());
    assert_eq!(seen(&vm).params, [canonical]);
    assert_eq!(vm.host.machine().pins(), 0);
    vm.end();

    let vm = plain();
    wrong_counts(&vm, Command::UNREGISTER_SHM, &[0, 2, 4]);
    vm.end();
}

#[test]
fn cmd_lend_protmem() {
    refused(Command::LEND_PROTMEM.0);
}

#[test]
fn cmd_reclaim_protmem() {
    refused(Command::RECLAIM_PROTMEM.0);
}

#[test]
fn cmd_get_protmem_config() {
    refused(Command::GET_PROTMEM_CONFIG.0);
}

#[test]
fn cmd_assign_protmem() {
    refused(Command::ASSIGN_PROTMEM.0);
}

#[test]
fn cmd_unknown() {
    for command in some((12..16).chain([0x100, 1 << 31, u32::MAX])) {
        refused(command);
    }
}
