// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Yielding calls without memory.

use super::{APP, SESSION, Vm, bare, vm};
use crate::call::Call;
use crate::fake::{Machine, Step};
use crate::{Config, CreateError, Quotas};
use optee_proto::msg::{Attr, Command, Param, login};
use optee_proto::rpc::Function;
use optee_proto::{Return, TeeResult, smc};
use zerocopy::IntoBytes;

#[test]
fn sessions_open_run_and_close() {
    let vm = bare();
    let guest = vm.guest();
    let (session, result) = guest.open(APP, login::REE_KERNEL);
    assert_eq!(result, 0);
    assert_eq!(
        (vm.stats().sessions, vm.host.machine().open_sessions(1)),
        (1, 1)
    );

    let params = [
        Param::new(Attr::VALUE_INPUT, 1, 2, 3),
        Param::new(Attr::VALUE_INOUT, 4, 5, 6),
        Param::new(Attr::TMEM_OUTPUT, 0, 100, 0xffff_8000_dead_0000),
        Param::new(Attr::NONE, 7, 8, 9),
    ];
    let message = guest.message(Command::INVOKE, session, &params);
    let done = guest.run(message);
    assert_eq!(
        (done.header.ret.get(), done.header.ret_origin.get()),
        (0, 4)
    );
    assert_eq!(done.params[0], params[0]);
    assert_eq!(done.params[1], Param::new(Attr::VALUE_INOUT, !4, !5, 6));
    assert_eq!(
        done.params[2],
        Param::new(Attr::TMEM_OUTPUT, 0, 101, params[2].c.get())
    );
    assert_eq!(done.params[3], params[3]);
    let seen = vm.host.machine().outcomes(1).pop().unwrap();
    assert_eq!(seen.header.session.get(), session);
    assert_eq!(seen.params[1], params[1]);
    assert_eq!(seen.params[2], Param::new(Attr::TMEM_OUTPUT, 0, 100, 0));
    // Nothing at the end is left out.
    assert_eq!((seen.params.len(), seen.header.num_params.get()), (3, 3));

    let message = guest.message(Command::CANCEL, session, &[]);
    assert_eq!(guest.run(message).header.ret.get(), 0);
    let message = guest.message(Command::CLOSE_SESSION, session, &[]);
    assert_eq!(guest.run(message).header.ret.get(), 0);
    assert_eq!(
        guest.run(message).header.ret.get(),
        TeeResult::ITEM_NOT_FOUND.0
    );
    assert_eq!((vm.stats().sessions, vm.stats().denied), (0, 1));
    vm.end();
}

/// OP-TEE knows the number of a session that it only begins to open, and frees it when that fails, even while a
/// call waits for it. So a guest can use only sessions that it has open.
#[test]
fn only_open_sessions_can_be_used() {
    let vm = bare();
    let guest = vm.guest();
    let machine = vm.host.machine();
    let mut refused = 0;
    let mut none_of = |sessions: &[u32]| {
        let before = machine.smcs().len();
        for &session in sessions {
            for (command, result) in [
                (Command::INVOKE, TeeResult::BAD_PARAMETERS),
                (Command::CANCEL, TeeResult::BAD_PARAMETERS),
                (Command::CLOSE_SESSION, TeeResult::ITEM_NOT_FOUND),
            ] {
                let done = guest.run(guest.message(command, session, &[]));
                assert_eq!(done.header.ret.get(), result.0, "{command:?} {session}");
                refused += 1;
            }
        }
        assert_eq!(machine.smcs().len(), before);
    };
    let use_it = |session| {
        for command in [Command::INVOKE, Command::CANCEL] {
            let done = guest.run(guest.message(command, session, &[]));
            assert_eq!(done.header.ret.get(), 0, "{command:?}");
        }
    };
    let (first, _) = guest.open(APP, login::PUBLIC);
    use_it(first);
    let numbers: alloc::vec::Vec<u32> = (0..first).chain(first + 1..first + 9).collect();
    none_of(&numbers);

    // Not while it is opened, and not when that has failed.
    let (a, b) = APP.to_value();
    let meta = [
        Param::new(Attr::META_VALUE_INPUT, a, b, 0),
        Param::new(Attr::META_VALUE_INPUT, 0, 0, 0),
    ];
    for result in [TeeResult::SUCCESS, TeeResult::ITEM_NOT_FOUND] {
        machine.script(1, [Step::ForeignInterrupt, Step::Result(result)]);
        let message = guest.message(Command::OPEN_SESSION, 0, &meta);
        let opening = guest.begin(message);
        assert_eq!(opening[0], Function::FOREIGN_INTR.a0());
        none_of(&numbers);
        assert_eq!(guest.resume(opening[3], [0; 4])[0], Return::OK.get());
        let opened = guest.read_message(message).header.session.get();
        if result == TeeResult::SUCCESS {
            use_it(opened);
            assert_eq!(
                guest
                    .run(guest.message(Command::CLOSE_SESSION, opened, &[]))
                    .header
                    .ret
                    .get(),
                0
            );
        }
        none_of(&numbers);
    }

    // Not while it is closed; but when OP-TEE has not done that.
    for result in [TeeResult::BUSY, TeeResult::SUCCESS] {
        let mut steps = alloc::vec![Step::ForeignInterrupt];
        steps.extend((result != TeeResult::SUCCESS).then_some(Step::Result(result)));
        machine.script(1, steps);
        let closing = guest.begin(guest.message(Command::CLOSE_SESSION, first, &[]));
        assert_eq!(closing[0], Function::FOREIGN_INTR.a0());
        none_of(&[first]);
        assert_eq!(guest.resume(closing[3], [0; 4])[0], Return::OK.get());
        if result == TeeResult::BUSY {
            use_it(first);
        }
    }
    none_of(&[first]);
    assert_eq!((vm.stats().sessions, vm.stats().denied), (0, refused));
    vm.end();
}

/// OP-TEE reuses a session's number before it answers the close.
#[test]
fn close_does_not_end_calls_of_reused_session_number() {
    let vm = Vm::bare(&Machine::new(), 1, Config::default());
    let (guest, machine) = (vm.guest(), vm.host.machine());
    let held = |command, session| {
        machine.script(1, [Step::ForeignInterrupt]);
        let call = guest.begin(guest.message(command, session, &[]));
        assert_eq!(call[0], Function::FOREIGN_INTR.a0());
        call[3]
    };
    let over = |token| assert_eq!(guest.resume(token, [0; 4])[0], Return::OK.get());
    let (session, _) = guest.open(APP, login::PUBLIC);
    let closing = held(Command::CLOSE_SESSION, session);
    machine.number_sessions_after(1, session - 1);
    assert_eq!(guest.open(APP, login::PUBLIC).0, session);
    let invoked = held(Command::INVOKE, session);
    over(closing);
    over(invoked);
    assert_eq!((vm.stats().poisoned, vm.stats().calls), (0, 0));
    vm.end();
}

/// A call need not have come to look for its session when it is interrupted. So the session stays what it is
/// until that call is over.
#[test]
fn close_waits_for_calls_in_flight() {
    let machine = Machine::new();
    machine.set_tee(optee_proto::uuid::API_UID, 0b111_1101, 5);
    let mut config = Config::default();
    config.quotas.calls = 5;
    let vm = Vm::bare(&machine, 1, config);
    let (guest, machine) = (vm.guest(), vm.host.machine());
    let begin = |command, session| {
        let message = guest.message(command, session, &[]);
        (message, guest.begin(message))
    };
    let result = |command, session| {
        let done = guest.run(guest.message(command, session, &[]));
        done.header.ret.get()
    };
    let held = |command, session| {
        machine.script(1, [Step::ForeignInterrupt]);
        let (_, call) = begin(command, session);
        assert_eq!(call[0], Function::FOREIGN_INTR.a0());
        call[3]
    };
    let over = |token| assert_eq!(guest.resume(token, [0; 4])[0], Return::OK.get());

    let (session, _) = guest.open(APP, login::PUBLIC);
    let invoked = held(Command::INVOKE, session);
    let (message, mut closing) = begin(Command::CLOSE_SESSION, session);
    let waits = |closing: &mut [u64; 4]| {
        let smcs = vm.stats().smcs;
        for _ in 0..3 {
            assert_eq!(closing[0], Function::FOREIGN_INTR.a0());
            *closing = guest.resume(closing[3], [0; 4]);
        }
        assert_eq!(vm.stats().smcs, smcs, "OP-TEE has heard of it");
    };
    waits(&mut closing);
    // No call begins to use it any more, but calls that use it can be cancelled.
    assert_eq!(
        result(Command::INVOKE, session),
        TeeResult::BAD_PARAMETERS.0
    );
    assert_eq!(
        result(Command::CLOSE_SESSION, session),
        TeeResult::ITEM_NOT_FOUND.0
    );
    let cancelled = held(Command::CANCEL, session);
    over(invoked);
    waits(&mut closing);
    over(cancelled);
    over(closing[3]);
    assert_eq!(guest.read_message(message).header.ret.get(), 0);
    assert_eq!((vm.stats().sessions, machine.open_sessions(1)), (0, 0));

    // OP-TEE breaks a call, and so may go on using its session for good.
    let (session, _) = guest.open(APP, login::PUBLIC);
    machine.script(1, [Step::End(0x99)]);
    begin(Command::INVOKE, session);
    assert_eq!(vm.stats().poisoned, 1);
    for _ in 0..2 {
        assert_eq!(result(Command::CLOSE_SESSION, session), TeeResult::BUSY.0);
    }
    assert_eq!(result(Command::INVOKE, session), 0);

    // A VM can end while it waits.
    let (session, _) = guest.open(APP, login::PUBLIC);
    held(Command::INVOKE, session);
    let (_, mut closing) = begin(Command::CLOSE_SESSION, session);
    waits(&mut closing);
    vm.end();
}

#[test]
fn messages_that_cannot_be_read() {
    let vm = vm();
    let guest = vm.guest();
    let before = vm.host.machine().smcs().len();
    let good = guest.message(Command::INVOKE, SESSION, &[]);

    // Addresses: not aligned, beyond the RAM, none, a device, the physical address of RAM.
    for at in [
        good.get() + 8,
        0x2_0000_0000,
        0,
        0x0900_0000,
        0x28_6000_0000,
        u64::MAX - 0xfff,
    ] {
        let answer = guest.begin(crate::addr::Ipa::new(at));
        assert_eq!(answer, [Return::EBADADDR.get(), 0, 0, 0], "{at:#x}");
    }
    // Counts that cannot be.
    for count in [128u32, 0x0800_0000, u32::MAX] {
        guest.write_message(good, Command::INVOKE, SESSION, &[]);
        guest
            .host
            .poke(good.checked_add(28).unwrap(), &count.to_le_bytes());
        assert_eq!(guest.begin(good)[0], Return::EBADADDR.get(), "{count}");
    }
    assert_eq!(vm.host.machine().smcs().len(), before);
    assert_eq!(vm.stats().denied, 6 + 3);
    assert_eq!(vm.stats().calls, 0);
    vm.end();
}

#[test]
fn policy_and_quota_of_sessions() {
    let mut config = Config::default();
    config.policy.trusted_apps = Some(alloc::vec![APP]);
    config.policy.logins = Some(alloc::vec![login::PUBLIC]);
    config.quotas.sessions = 2;
    let vm = Vm::bare(&Machine::new(), 1, config);
    let guest = vm.guest();
    let denied = TeeResult::ACCESS_DENIED.0;
    assert_eq!(
        guest.open(optee_proto::Uuid([7; 16]), login::PUBLIC).1,
        denied
    );
    assert_eq!(guest.open(APP, login::USER).1, denied);
    // A session that OP-TEE refuses does not count.
    vm.host
        .machine()
        .script(1, [Step::Result(TeeResult::ITEM_NOT_FOUND)]);
    assert_eq!(
        guest.open(APP, login::PUBLIC).1,
        TeeResult::ITEM_NOT_FOUND.0
    );
    let (first, result) = guest.open(APP, login::PUBLIC);
    assert_eq!(result, 0);
    assert_eq!(guest.open(APP, login::PUBLIC).1, 0);
    assert_eq!(guest.open(APP, login::PUBLIC).1, TeeResult::OUT_OF_MEMORY.0);
    let message = guest.message(Command::CLOSE_SESSION, first, &[]);
    guest.run(message);
    assert_eq!(guest.open(APP, login::PUBLIC).1, 0);
    assert_eq!((vm.stats().sessions, vm.stats().denied), (2, 3));
    vm.end();
}

#[test]
fn messages_are_fetched_once() {
    let vm = bare();
    vm.host.machine().scramble(true);
    let guest = vm.guest();
    assert_eq!(guest.open(APP, login::PUBLIC).1, 0);
    let params = [Param::new(Attr::VALUE_INOUT, 4, 5, 6); 4];
    let message = guest.message(Command::INVOKE, SESSION, &params);
    guest.begin(message);
    let seen = vm.host.machine().outcomes(1).pop().unwrap();
    assert_eq!(seen.params, params);
    vm.end();
}

/// A message that is fetched in two pieces, and is another one when the second piece comes.
#[test]
fn message_changed_during_fetch_is_read_once() {
    let vm = bare();
    let guest = vm.guest();
    let meta = Param::new(Attr::META_VALUE_INPUT, 0, 0, 0);
    let value = Param::new(Attr::VALUE_INPUT, 1, 2, 3);
    let params = [meta, meta, value, value, value, value];
    let message = guest.message(Command::OPEN_SESSION, 0, &params);
    // Another command, and more parameters than there is room for; and what was checked already
    // becomes memory by address.
    let forged = Param::new(Attr::TMEM_INOUT, 0x4020_0000, 8, 0);
    let command = Command::REGISTER_SHM.0.to_le_bytes();
    vm.host.machine().flip(message, &command);
    let flip = |offset, bytes: &[u8]| {
        let at = message.checked_add(offset).unwrap();
        vm.host.machine().flip(at, bytes);
    };
    flip(28, &127u32.to_le_bytes());
    flip(32 + 2 * 32, forged.as_bytes());
    assert_eq!(guest.begin(message)[0], 0);
    let seen = vm.host.machine().outcomes(1).pop().unwrap();
    assert_eq!(seen.header.cmd.get(), Command::OPEN_SESSION.0);
    assert_eq!(
        (seen.header.num_params.get(), seen.params),
        (6, params.to_vec())
    );
    assert_eq!(vm.stats().sessions, 1);
    vm.end();
}

#[test]
fn unmapped_message_gets_ebadaddr() {
    let vm = vm();
    let guest = vm.guest();
    vm.host.machine().script(1, [Step::ForeignInterrupt]);
    let message = guest.message(Command::INVOKE, SESSION, &[]);
    let regs = guest.begin(message);
    vm.host.unmap(message);
    assert_eq!(
        guest.resume(regs[3], [0; 4]),
        [Return::EBADADDR.get(), 0, 0, 0]
    );
    assert_eq!(vm.stats().calls, 0);
    vm.end();
}

#[test]
fn two_calls_share_a_message_without_harm() {
    let vm = vm();
    let guest = vm.guest();
    vm.host.machine().script(1, [Step::ForeignInterrupt]);
    let param = Param::new(Attr::VALUE_INOUT, 4, 5, 6);
    let message = guest.message(Command::INVOKE, SESSION, &[param]);
    let first = guest.begin(message);
    assert_eq!(guest.run(message).params[0].a.get(), !4);
    assert_eq!(guest.resume(first[3], [0; 4])[0], 0);
    assert_eq!(guest.read_message(message).params[0].a.get(), !4);
    vm.end();
}

#[test]
fn threads_are_limited_for_the_vm_alone() {
    let machine = Machine::new();
    let (a, b) = (
        Vm::new(&machine, 1, Config::default()),
        Vm::new(&machine, 2, Config::default()),
    );
    let guest = a.guest();
    let foreign = Function::FOREIGN_INTR.a0();
    let parked: [u64; 2] = core::array::from_fn(|_| {
        machine.script(1, [Step::ForeignInterrupt]);
        let regs = guest.begin(guest.message(Command::INVOKE, SESSION, &[]));
        assert_eq!(regs[0], foreign);
        regs[3]
    });
    let message = guest.message(Command::INVOKE, SESSION, &[]);
    assert_eq!(guest.begin(message), [Return::ETHREAD_LIMIT.get(), 0, 0, 0]);
    assert_eq!(guest.fast(smc::ENABLE_SHM_CACHE)[0], Return::EBUSY.get());
    assert_eq!(b.guest().open(APP, login::PUBLIC).1, 0);
    for token in parked {
        assert_eq!(guest.resume(token, [0; 4])[0], 0);
    }
    assert_eq!(guest.begin(message)[0], 0);
    a.end_one();
    b.end();
}

#[test]
fn only_a_suspended_call_can_be_resumed_and_only_once() {
    let machine = Machine::new();
    let (a, b) = (
        Vm::new(&machine, 1, Config::default()),
        Vm::new(&machine, 2, Config::default()),
    );
    let (ga, gb) = (a.guest(), b.guest());
    let no = [Return::ERESUME.get(), 0, 0, 0];
    assert_eq!(ga.resume(0, [0; 4]), no);
    machine.script(1, [Step::ForeignInterrupt, Step::ForeignInterrupt]);
    let token = ga.begin(ga.message(Command::INVOKE, SESSION, &[]))[3];
    for wrong in [token + 1, token + 64, token ^ 1, u64::from(u32::MAX), 0] {
        assert_eq!(ga.resume(wrong, [0; 4]), no, "{wrong:#x}");
    }
    assert_eq!(gb.resume(token, [0; 4]), no);
    let again = ga.resume(token, [1, 2, 3, 4]);
    assert_eq!(again[0], Function::FOREIGN_INTR.a0());
    assert_ne!(again[3], token);
    assert_eq!(ga.resume(token, [0; 4]), no);
    assert_eq!(ga.resume(1 << 32 | again[3], [0; 4])[0], 0);
    assert_eq!(ga.resume(again[3], [0; 4]), no);
    a.end_one();
    b.end();
}

#[test]
fn creation_fails_cleanly_and_resets_work() {
    let machine = Machine::new();
    machine.limit_vms(1);
    let a = Vm::new(&machine, 1, Config::default());
    assert_eq!(a.mediator.create(&a.host), Err(CreateError::Exists));
    let host = machine.add_vm(2, 4);
    let config = Config {
        quotas: Quotas {
            calls: 64,
            ..Quotas::default()
        },
        ..Config::default()
    };
    let client = crate::ClientId::new(core::num::NonZeroU16::new(2).unwrap());
    let b = crate::Mediator::new(client, config, crate::probe(&host).unwrap());
    let shared = machine.shared_pages();
    assert_eq!(b.create(&host), Err(CreateError::Refused(7)));
    machine.limit_shared_pages(1);
    assert_eq!(b.create(&host), Err(CreateError::NoSharedPages));
    assert_eq!(machine.shared_pages(), shared);
    machine.limit_shared_pages(100);

    // Without OP-TEE there are no calls.
    let regs = [smc::CALL_WITH_ARG.get().into(); 8];
    assert_eq!(b.smc(&host, &regs), [7, 0, 0, 0]);
    assert_eq!(b.destroy(&host), Ok(()));

    a.mediator.destroy(&a.host).unwrap();
    assert_eq!(a.guest().fast(smc::CALLS_UID), [7, 0, 0, 0]);
    a.mediator.destroy(&a.host).unwrap();
    a.mediator.create(&a.host).unwrap();
    assert_eq!(a.guest().open(APP, login::PUBLIC).1, 0);
    a.end();
}

/// What a call has no result in is the guest's: what it has written there meanwhile stays.
#[test]
fn report_writes_only_results() {
    let vm = vm();
    let guest = vm.guest();
    let input = Param::new(Attr::VALUE_INPUT, 1, 2, 3);
    vm.host.machine().script(1, [Step::ForeignInterrupt]);
    let message = guest.message(Command::INVOKE, SESSION, &[input]);
    let begun = guest.begin(message);
    assert_eq!(begun[0], Function::FOREIGN_INTR.a0());
    let mark = [0x5a; 64];
    vm.host.poke(message, &mark);
    assert_eq!(guest.resume(begun[3], [0; 4])[0], Return::OK.get());
    let mut now = mark;
    vm.host.peek(message, &mut now);
    let changed = (0..mark.len()).filter(|at| now[*at] != mark[*at]);
    let result = optee_proto::msg::RET_OFFSET;
    // The result and its origin, two words.
    assert!(changed.eq(result..result + 8), "{now:x?}");
    vm.end();
}

/// Between calls nothing but a call's own page is kept for it.
#[test]
fn finished_call_holds_no_pages() {
    let vm = vm();
    let guest = vm.guest();
    let (cookie, result) = guest.register(3);
    assert_eq!((result, guest.unregister(cookie)), (0, 0));
    // The list of what the guest has handed over is OP-TEE's to read until the call is over.
    let ask = Step::ShmAlloc(optee_proto::rpc::SHM_TYPE_APPL, 5000);
    vm.host.machine().script(1, [ask]);
    guest.run(guest.message(Command::INVOKE, SESSION, &[]));
    let state = vm.mediator.state.lock();
    let kept = |call: &Call| !call.page_list.is_empty() || call.freed_rpc_page.is_some();
    assert!(!state.idle.iter().any(|call| kept(call)));
    drop(state);
    vm.end();
}
