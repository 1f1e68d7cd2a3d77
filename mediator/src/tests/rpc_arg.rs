// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls with room for RPC messages: by address, and in a registered buffer.

use super::{SESSION, Vm};
use crate::addr::{Ipa, PAGE_SIZE};
use crate::fake::{Guest, Machine, Step};
use crate::{Config, Features, RpcKind};
use alloc::vec;
use optee_proto::msg::{self, Attr, Command, Param};
use optee_proto::{Return, TeeResult, rpc, smc};

fn vm() -> Vm {
    let features = Features {
        rpc_arg: true,
        async_notif: false,
    };
    Vm::new(
        &Machine::new(),
        1,
        Config {
            features,
            ..Config::default()
        },
    )
}

fn with_room(vm: &Vm) -> Guest<'_> {
    let mut guest = vm.guest();
    guest.function = smc::CALL_WITH_RPC_ARG;
    guest
}

fn in_buffer(guest: &Guest<'_>, cookie: u64, offset: u64) -> [u64; 4] {
    let (a1, a2) = smc::pair(cookie);
    let function = smc::CALL_WITH_REGD_ARG.get().into();
    guest.smc([function, a1, a2, offset, 0, 0, 0, 0])
}

#[test]
fn requests_are_behind_the_message() {
    let vm = vm();
    let guest = with_room(&vm);
    let value = Param::new(Attr::VALUE_INOUT, 1, 2, 3);
    vm.host.machine().script(
        1,
        [
            Step::Command(rpc::Command::GET_TIME, vec![value]),
            Step::ShmAlloc(0, 5000),
            Step::Command(
                rpc::Command::FS,
                vec![Param::new(Attr::RMEM_OUTPUT, 0, 9, 0)],
            ),
            Step::ShmFree(0, 0),
        ],
    );
    let before = vm.baseline();
    let done = guest.run(guest.message(Command::INVOKE, SESSION, &[value]));
    assert_eq!(done.params[0], Param::new(Attr::VALUE_INOUT, !1, !2, 3));
    let seen = vm.host.machine().outcomes(1).pop().unwrap();
    assert_eq!(seen.replies[0].1[0], Param::new(Attr::VALUE_INOUT, 2, 3, 4));
    assert_eq!(seen.allocated[0].as_ref().map(vec::Vec::len), Some(2));
    // Without memory for RPC messages of its own, there is one round trip a command.
    assert_eq!(
        (
            vm.stats().rpc(RpcKind::Alloc),
            vm.stats().rpc(RpcKind::Free)
        ),
        (0, 0)
    );
    assert_eq!(vm.baseline(), before);
    vm.end();
}

/// Parameters at the end that are nothing do not reach OP-TEE; for the guest they are there.
#[test]
fn rpc_arg_follows_each_sides_message() {
    let vm = vm();
    let guest = with_room(&vm);
    let value = Param::new(Attr::VALUE_INOUT, 1, 2, 3);
    for count in 0..=4 {
        let mut params = [Param::new(Attr::NONE, 7, 8, 9); 4];
        params[..count].fill(value);
        vm.host
            .machine()
            .script(1, [Step::Command(rpc::Command::GET_TIME, vec![value])]);
        let done = guest.run(guest.message(Command::INVOKE, SESSION, &params));
        assert_eq!(done.params[count..], params[count..]);
        let seen = vm.host.machine().outcomes(1).pop().unwrap();
        assert_eq!(seen.params, params[..count]);
        assert_eq!(seen.replies[0].1[0], Param::new(Attr::VALUE_INOUT, 2, 3, 4));
    }
    // Nothing in the middle stays.
    let params = [Param::default(), value];
    guest.run(guest.message(Command::INVOKE, SESSION, &params));
    assert_eq!(vm.host.machine().outcomes(1).pop().unwrap().params, params);
    vm.end();
}

#[test]
fn messages_in_registered_memory() {
    let vm = vm();
    let guest = with_room(&vm);
    let (cookie, result) = guest.register(2);
    assert_eq!(result, 0);
    let at = Ipa::new(cookie & 0x7fff_ffff_ffff);
    let value = Param::new(Attr::VALUE_INOUT, 1, 2, 3);
    for offset in [0, 384, 4096 - msg::size(1) as u64 - 160] {
        let place = at.checked_add(offset).unwrap();
        guest.write_message(place, Command::INVOKE, SESSION, &[value]);
        vm.host
            .machine()
            .script(1, [Step::Command(rpc::Command::GET_TIME, vec![value])]);
        let before = vm.host.machine().smcs().len();
        let regs = in_buffer(&guest, cookie, offset);
        assert_eq!(guest.finish(place, regs, &mut |_, _| false), Return::OK);
        let done = guest.read_message(place);
        assert_eq!(
            done.params[0],
            Param::new(Attr::VALUE_INOUT, !1, !2, 3),
            "{offset}"
        );
        let seen = vm.host.machine().outcomes(1).pop().unwrap();
        assert_eq!(seen.replies[0].1[0], Param::new(Attr::VALUE_INOUT, 2, 3, 4));
        // OP-TEE gets the message by address, whichever way the guest chose.
        let smcs = &vm.host.machine().smcs()[before..];
        assert_eq!(smcs[0][0], smc::CALL_WITH_RPC_ARG.get().into());
        assert_eq!(smcs.len(), 2);
    }
    assert_eq!(guest.unregister(cookie), 0);
    vm.end();
}

#[test]
fn messages_across_pages() {
    let vm = vm();
    let guest = with_room(&vm);
    let (first, second) = (guest.alloc(1), guest.alloc(1));
    // The second page of the buffer is not the one behind the first.
    let list = guest.page_list(&[second, first]);
    let param = Param::new(Attr::PAGE_LIST, list.get(), 2 * PAGE_SIZE, 9);
    assert_eq!(
        guest
            .run(guest.message(Command::REGISTER_SHM, 0, &[param]))
            .header
            .ret
            .get(),
        0
    );
    // The message ends a page, so the room is in the next.
    let value = Param::new(Attr::VALUE_INOUT, 1, 2, 3);
    let offset = PAGE_SIZE - msg::size(1) as u64;
    let place = second.checked_add(offset).unwrap();
    guest.write_message(place, Command::INVOKE, SESSION, &[value]);
    vm.host
        .machine()
        .script(1, [Step::Command(rpc::Command::GET_TIME, vec![value])]);
    let regs = in_buffer(&guest, 9, offset);
    let request = guest.read_message(first);
    assert_eq!(request.params, [value]);
    guest.answer(&request);
    assert_eq!(guest.resume(regs[3], [0; 4])[0], 0);
    let seen = vm.host.machine().outcomes(1).pop().unwrap();
    assert_eq!(seen.replies[0].1[0], Param::new(Attr::VALUE_INOUT, 2, 3, 4));
    assert_eq!(
        guest.read_message(place).params[0],
        Param::new(Attr::VALUE_INOUT, !1, !2, 3)
    );
    vm.end();
}

#[test]
fn bad_message_offsets_are_refused() {
    let vm = vm();
    let guest = with_room(&vm);
    let (cookie, _) = guest.register(1);
    for offset in [0, 4, 4096 - 160, 4096 - 32] {
        let place = Ipa::new((cookie & 0x7fff_ffff_ffff) + offset);
        guest.write_message(place, Command::INVOKE, SESSION, &[]);
    }
    let before = vm.host.machine().smcs().len();
    let bad = [Return::EBADADDR.get(), 0, 0, 0];
    for (name, offset) in [
        (cookie, 4096),
        (cookie, 4096 - 32),
        (cookie, 4096 - 160),
        (cookie, 4),
        (cookie, 0xffff_fff8),
        (cookie + 1, 0),
        (0, 0),
    ] {
        assert_eq!(
            in_buffer(&guest, name, offset),
            bad,
            "{name:#x} {offset:#x}"
        );
    }
    assert_eq!(vm.host.machine().smcs().len(), before);
    assert_eq!((vm.stats().denied, vm.stats().calls), (7, 0));
    assert_eq!(guest.unregister(cookie), 0);
    vm.end();
}

/// The buffer that a message is in is unregistered while the call runs.
#[test]
fn message_holds_its_buffer() {
    let vm = vm();
    let guest = with_room(&vm);
    let (cookie, _) = guest.register(1);
    let at = Ipa::new(cookie & 0x7fff_ffff_ffff);
    guest.write_message(at, Command::INVOKE, SESSION, &[]);
    vm.host.machine().script(1, [Step::ForeignInterrupt]);
    let regs = in_buffer(&guest, cookie, 0);
    assert_eq!(guest.unregister(cookie), 0);
    assert_eq!((vm.host.machine().pins(), vm.stats().buffers), (1, 1));
    assert_eq!(in_buffer(&guest, cookie, 0)[0], Return::EBADADDR.get());
    assert_eq!(guest.resume(regs[3], [0; 4])[0], 0);
    assert_eq!((vm.host.machine().pins(), vm.stats().buffers), (0, 0));
    vm.end();
}

/// The message that unregisters a buffer lies in that buffer: it does not wait for itself.
#[test]
fn message_in_buffer_can_unregister_that_buffer() {
    let vm = vm();
    let guest = with_room(&vm);
    let (cookie, _) = guest.register(1);
    let at = Ipa::new(cookie & 0x7fff_ffff_ffff);
    let param = Param::new(Attr::RMEM_INPUT, 0, 0, cookie);
    guest.write_message(at, Command::UNREGISTER_SHM, 0, &[param]);
    assert_eq!(in_buffer(&guest, cookie, 0)[0], 0);
    assert_eq!(guest.read_message(at).header.ret.get(), 0);
    assert_eq!((vm.host.machine().pins(), vm.stats().buffers), (0, 0));
    vm.end();
}

/// OP-TEE has memory for RPC messages from before, and names it, though it uses the room.
#[test]
fn used_rpc_arg_wins_over_the_cookie() {
    let vm = vm();
    let mut guest = vm.guest();
    guest.fast(smc::ENABLE_SHM_CACHE);
    vm.host
        .machine()
        .script(1, [Step::Command(rpc::Command::GET_TIME, vec![])]);
    guest.run(guest.message(Command::INVOKE, SESSION, &[]));
    assert_eq!(vm.stats().rpc_buffers, 1);
    guest.function = smc::CALL_WITH_RPC_ARG;
    let value = Param::new(Attr::VALUE_OUTPUT, 1, 2, 3);
    let time = || Step::Command(rpc::Command::GET_TIME, vec![value]);
    vm.host.machine().script(1, [time(), time()]);
    guest.run(guest.message(Command::INVOKE, SESSION, &[]));
    let seen = vm.host.machine().outcomes(1).pop().unwrap();
    for reply in &seen.replies {
        assert_eq!(reply.1[0], Param::new(Attr::VALUE_OUTPUT, 2, 3, 4));
    }
    assert_eq!(seen.replies.len(), 2);
    vm.end();
}

/// A VM's first call initialises OP-TEE before it looks at the message, and may wait meanwhile.
#[test]
fn request_before_rpc_arg_use_is_found_by_cookie() {
    let vm = vm();
    let guest = with_room(&vm);
    let value = Param::new(Attr::VALUE_OUTPUT, 1, 2, 3);
    let time = || Step::Command(rpc::Command::GET_TIME, vec![value]);
    let steps = [
        Step::UseRoom(false),
        time(),
        time(),
        Step::UseRoom(true),
        time(),
        time(),
    ];
    vm.host.machine().script(
        1,
        steps
            .clone()
            .into_iter()
            .chain([Step::UseRoom(false), time()]),
    );
    guest.run(guest.message(Command::INVOKE, SESSION, &[value]));
    let seen = vm.host.machine().outcomes(1).pop().unwrap();
    assert_eq!(seen.replies.len(), 5);
    for reply in &seen.replies {
        assert_eq!(reply.1[0], Param::new(Attr::VALUE_OUTPUT, 2, 3, 4));
    }
    assert_eq!(vm.stats().rpc(RpcKind::Alloc), 1);
    vm.end();
}

/// The room cannot be used to change the message, nor the message to change the room.
#[test]
fn rpc_arg_offset_ignores_guest_writes() {
    let vm = vm();
    let guest = with_room(&vm);
    let value = Param::new(Attr::VALUE_OUTPUT, 1, 2, 3);
    vm.host
        .machine()
        .script(1, [Step::Command(rpc::Command::GET_TIME, vec![value])]);
    let message = guest.message(Command::INVOKE, SESSION, &[value]);
    let regs = guest.begin(message);
    let request = guest.read_message(message.checked_add(msg::size(1) as u64).unwrap());
    guest.answer(&request);
    // The guest claims another number of parameters, which would move the room.
    guest.write_message(message, Command::REGISTER_SHM, 7, &[Param::default(); 4]);
    guest.answer(&request);
    assert_eq!(guest.resume(regs[3], [0; 4])[0], 0);
    let seen = vm.host.machine().outcomes(1).pop().unwrap();
    assert_eq!(
        seen.replies[0].1[0],
        Param::new(Attr::VALUE_OUTPUT, 2, 3, 4)
    );
    assert_eq!(
        guest.read_message(message).header.ret.get(),
        TeeResult::SUCCESS.0
    );
    vm.end();
}
