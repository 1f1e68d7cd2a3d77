// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What OP-TEE's core may map of a VM's memory is bounded: too much of it would stop OP-TEE.

use super::{APP, SESSION, Vm};
use crate::addr::{Ipa, PAGE_SIZE};
use crate::fake::{Guest, Machine, Step};
use crate::{ClientId, Config, CreateError, Mediator, Quotas, TeeInfo, probe};
use alloc::vec;
use core::num::NonZeroU16;
use optee_proto::msg::{Attr, Command, Param, login};
use optee_proto::rpc::{self, Function, SHM_TYPE_APPL};
use optee_proto::{Return, TeeResult, Uuid, smc};

/// The quota in these tests, in pages.
const MOST: u32 = 40;
/// A pseudo TA's, as far as the mediator can know.
const PSEUDO: Uuid = Uuid([0x9a; 16]);

fn vm() -> Vm {
    let quotas = Quotas {
        mapped_pages: MOST,
        ..Quotas::default()
    };
    let config = Config {
        quotas,
        ..Config::default()
    };
    Vm::new(&Machine::new(), 1, config)
}

fn whole(cookie: u64, pages: u64) -> Param {
    Param::new(Attr::RMEM_INOUT, 0, pages * PAGE_SIZE, cookie)
}

/// Opens a session whose application OP-TEE has to load.
fn open_loaded(vm: &Vm, guest: &Guest<'_>, app: Uuid) -> u32 {
    let (a, b) = app.to_value();
    let name = Param::new(Attr::VALUE_INPUT, a, b, 0);
    let none = Param::new(Attr::TMEM_OUTPUT, 0, 0, 0);
    let load = Step::Command(rpc::Command::LOAD_TA, vec![name, none]);
    vm.host.machine().script(1, [load]);
    let (session, result) = guest.open(app, login::PUBLIC);
    assert_eq!(result, 0);
    session
}

#[test]
fn pages_passed_to_pseudo_tas_are_bounded() {
    let vm = vm();
    let guest = vm.guest();
    let (session, _) = guest.open(PSEUDO, login::PUBLIC);
    let (small, _) = guest.register(u64::from(MOST) / 2);
    let (other, _) = guest.register(u64::from(MOST) / 2);
    let (large, result) = guest.register(u64::from(MOST) + 1);
    assert_eq!(result, 0, "what is only registered is not mapped");
    let before = vm.baseline();
    let too_much = TeeResult::OUT_OF_MEMORY.0;
    for (params, result) in [
        (vec![whole(large, 1)], too_much),
        // A buffer is mapped once, however often it is named.
        (vec![whole(small, 1), whole(small, 2), whole(other, 1)], 0),
        (vec![whole(small, 20), whole(other, 20)], 0),
        (vec![whole(small, 1), whole(large, 1)], too_much),
    ] {
        let done = guest.run(guest.message(Command::INVOKE, session, &params));
        assert_eq!(done.header.ret.get(), result, "{params:?}");
        assert_eq!(vm.stats().mapped_pages, 0);
    }
    assert_eq!(vm.baseline(), before);
    assert_eq!(vm.stats().denied, 2);
    vm.end();
}

#[test]
fn calls_under_way_are_added_up() {
    let vm = vm();
    let guest = vm.guest();
    let (session, _) = guest.open(PSEUDO, login::PUBLIC);
    let (half, _) = guest.register(u64::from(MOST) / 2);
    let (more, _) = guest.register(u64::from(MOST) / 2 + 1);
    let invoke = |cookie| guest.message(Command::INVOKE, session, &[whole(cookie, 1)]);
    vm.host.machine().script(1, [Step::ForeignInterrupt]);
    let waiting = guest.begin(invoke(half));
    assert_eq!(waiting[0], Function::FOREIGN_INTR.a0());
    assert_eq!(vm.stats().mapped_pages, u64::from(MOST) / 2);
    // It fits when the other one has ended, so the guest is to try again then.
    let limit = Return::ETHREAD_LIMIT.get();
    assert_eq!(guest.begin(invoke(more)), [limit, 0, 0, 0]);
    assert_eq!(vm.stats().denied, 0);
    let (too_much, _) = guest.register(u64::from(MOST) + 1);
    let refused = guest.run(invoke(too_much)).header.ret.get();
    assert_eq!(refused, TeeResult::OUT_OF_MEMORY.0);
    guest.resume(waiting[3], [0; 4]);
    assert_eq!(guest.run(invoke(more)).header.ret.get(), 0);
    vm.end();
}

#[test]
fn user_tas_may_have_more() {
    let vm = vm();
    let guest = vm.guest();
    let (large, _) = guest.register(u64::from(MOST) + 1);
    let session = open_loaded(&vm, &guest, APP);
    let invoke = |session| guest.message(Command::INVOKE, session, &[whole(large, 1)]);
    assert_eq!(guest.run(invoke(session)).header.ret.get(), 0);
    // It stays known when it need not be loaded again.
    let (again, _) = guest.open(APP, login::PUBLIC);
    assert_eq!(guest.run(invoke(again)).header.ret.get(), 0);
    // A session with another application is not with a user TA.
    let (pseudo, _) = guest.open(PSEUDO, login::PUBLIC);
    let done = guest.run(invoke(pseudo));
    assert_eq!(done.header.ret.get(), TeeResult::OUT_OF_MEMORY.0);
    assert_eq!(vm.stats().mapped_pages, 0);
    vm.end();
}

/// The number of a session that is being closed may be a pseudo TA's already.
#[test]
fn invoke_is_refused_during_close() {
    let vm = vm();
    let guest = vm.guest();
    let (large, _) = guest.register(u64::from(MOST) + 1);
    let session = open_loaded(&vm, &guest, APP);
    let invoke = || guest.message(Command::INVOKE, session, &[whole(large, 1)]);
    assert_eq!(guest.run(invoke()).header.ret.get(), 0);
    vm.host.machine().script(1, [Step::ForeignInterrupt]);
    let closing = guest.begin(guest.message(Command::CLOSE_SESSION, session, &[]));
    assert_eq!(closing[0], Function::FOREIGN_INTR.a0());
    let refused = guest.run(invoke()).header.ret.get();
    assert_eq!(refused, TeeResult::BAD_PARAMETERS.0);
    guest.resume(closing[3], [0; 4]);
    vm.end();
}

/// OP-TEE loads something else in the name of a session with a pseudo TA.
#[test]
fn code_loaded_for_other_session_proves_nothing() {
    let vm = vm();
    let guest = vm.guest();
    let (large, _) = guest.register(u64::from(MOST) + 1);
    let (a, b) = APP.to_value();
    let name = Param::new(Attr::VALUE_INPUT, a, b, 0);
    let none = Param::new(Attr::TMEM_OUTPUT, 0, 0, 0);
    let load = Step::Command(rpc::Command::LOAD_TA, vec![name, none]);
    vm.host.machine().script(1, [load]);
    let (session, _) = guest.open(PSEUDO, login::PUBLIC);
    let done = guest.run(guest.message(Command::INVOKE, session, &[whole(large, 1)]));
    assert_eq!(done.header.ret.get(), TeeResult::OUT_OF_MEMORY.0);
    vm.end();
}

#[test]
fn requested_memory_is_bounded() {
    let vm = vm();
    let most = u64::from(MOST) * PAGE_SIZE;
    vm.host.machine().script(
        1,
        [
            Step::ShmAlloc(SHM_TYPE_APPL, most + 1),
            Step::ShmAlloc(SHM_TYPE_APPL, most - PAGE_SIZE),
            Step::ShmAlloc(SHM_TYPE_APPL, PAGE_SIZE + 1),
            Step::ShmFree(SHM_TYPE_APPL, 1),
            Step::ShmAlloc(SHM_TYPE_APPL, most),
            Step::ShmFree(SHM_TYPE_APPL, 3),
        ],
    );
    let guest = vm.guest();
    let before = vm.baseline();
    guest.run(guest.message(Command::INVOKE, SESSION, &[]));
    let seen = vm.host.machine().outcomes(1).pop().unwrap();
    let lengths: vec::Vec<_> = seen
        .allocated
        .iter()
        .map(|pages| pages.as_ref().map(vec::Vec::len))
        .collect();
    assert_eq!(lengths, [None, Some(39), None, Some(40)]);
    // The guest was not asked for what could not be used.
    assert_eq!(guest.requests.lock().len(), 4);
    assert_eq!((vm.stats().mapped_pages, vm.stats().denied), (0, 2));
    assert_eq!(vm.baseline(), before);
    vm.end();
}

/// The guest gives more than OP-TEE asked for.
#[test]
fn unrequested_memory_is_bounded() {
    let vm = vm();
    vm.host
        .machine()
        .script(1, [Step::ShmAlloc(SHM_TYPE_APPL, 10)]);
    let guest = vm.guest();
    let page = guest.alloc(1);
    let pages = vec![page; MOST as usize + 1];
    let list = guest.page_list(&pages);
    guest.run_with(
        guest.message(Command::INVOKE, SESSION, &[]),
        |guest, request| {
            if request.command() != rpc::Command::SHM_ALLOC {
                return false;
            }
            let size = pages.len() as u64 * PAGE_SIZE;
            let param = Param::new(Attr::PAGE_LIST, list.get(), size, 0x4711);
            guest.reply(request, 0, &[param]);
            true
        },
    );
    let seen = vm.host.machine().outcomes(1).pop().unwrap();
    assert!(seen.allocated[0].is_none());
    // And gets it back.
    let last = guest
        .requests
        .lock()
        .last()
        .map(|request| request.command());
    assert_eq!(last, Some(rpc::Command::SHM_FREE));
    assert_eq!(vm.stats().mapped_pages, 0);
    vm.end();
}

/// Applications take all memory of the VM's, and then OP-TEE has to map as much as the guest may have mapped: it
/// has its tables already.
#[test]
fn tables_are_made_before_the_guest_can_use_up_their_memory() {
    let vm = Vm::new(&Machine::new(), 1, Config::default());
    let machine = vm.host.machine();
    let guest = vm.guest();
    let (session, _) = guest.open(PSEUDO, login::PUBLIC);
    let (large, _) = guest.register(300);
    machine.fill(1);
    let done = guest.run(guest.message(Command::INVOKE, session, &[whole(large, 300)]));
    assert_eq!(done.header.ret.get(), 0);
    assert_eq!(machine.violations(), [""; 0]);
    // Nothing of it is left.
    assert_eq!(machine.registered(1), 1);
    vm.end();
}

/// OP-TEE can be interrupted, and wants memory to ask in: it gets none.
#[test]
fn tables_are_made_whatever_comes_between() {
    let machine = Machine::new();
    let host = machine.add_vm(1, 400);
    let tee = probe(&host).unwrap();
    let client = ClientId::new(NonZeroU16::new(1).unwrap());
    let mediator = Mediator::new(client, Config::default(), tee);
    machine.answer_next(
        smc::CALL_WITH_REGD_ARG,
        [Function::FOREIGN_INTR.a0(), 0, 0, 3],
    );
    let over = [Return::EBADADDR.get(), 0, 0, 0];
    machine.answer_next(smc::CALL_RETURN_FROM_RPC, [Function::ALLOC.a0(), 96, 0, 3]);
    machine.answer_next(smc::CALL_RETURN_FROM_RPC, over);
    mediator.create(&host).unwrap();
    let resumed = smc::CALL_RETURN_FROM_RPC.get().into();
    let smcs = machine.smcs();
    let resumed: vec::Vec<_> = smcs.iter().filter(|args| args[0] == resumed).collect();
    assert_eq!(resumed, [&[resumed[0][0], 0, 0, 3, 0, 0, 0, 1]; 2]);
    Vm { host, mediator }.end();
}

#[test]
fn vm_without_tables_is_not_created() {
    for (function, code, told) in [
        (smc::CALL_WITH_ARG, Return::ENOMEM.get(), 6),
        (smc::CALL_WITH_REGD_ARG, Return::ENOMEM.get(), 6),
        (smc::CALL_WITH_REGD_ARG, 0, 0),
        (smc::CALL_WITH_REGD_ARG, Function::CMD.a0(), 0xffff_0005),
    ] {
        let machine = Machine::new();
        let host = machine.add_vm(1, 400);
        let tee = probe(&host).unwrap();
        let client = ClientId::new(NonZeroU16::new(1).unwrap());
        let mediator = Mediator::new(client, Config::default(), tee);
        machine.answer_next(function, [code, 0, 0, 0]);
        assert_eq!(
            mediator.create(&host),
            Err(CreateError::TablesRefused(told))
        );
        assert!(!machine.knows(1));
        assert_eq!(machine.shared_pages(), 0);
        // It can be tried again.
        mediator.create(&host).unwrap();
        Vm { host, mediator }.end();
    }
}

/// OP-TEE up to 4.5, or one that was built so, has a fixed number of tables, which would not suffice for all of the
/// address space.
#[test]
fn static_tables_are_not_created() {
    for (minor, static_tables, asked) in
        [(5, false, 0), (6, false, 1), (10, false, 1), (10, true, 0)]
    {
        let machine = Machine::new();
        let host = machine.add_vm(1, 400);
        let tee = TeeInfo {
            minor,
            static_tables,
            ..probe(&host).unwrap()
        };
        let client = ClientId::new(NonZeroU16::new(1).unwrap());
        let mediator = Mediator::new(client, Config::default(), tee);
        mediator.create(&host).unwrap();
        let calls = machine.smcs().into_iter().map(|args| args[0]);
        let regd = smc::CALL_WITH_REGD_ARG.get().into();
        assert_eq!(calls.filter(|&id| id == regd).count(), asked);
        Vm { host, mediator }.end();
    }
}

/// A guest that is told to wait wakes up when a call of its own ends. So it must not be told so where that makes no
/// room: two such calls would wait for each other.
#[test]
fn map_fails_if_waiting_cannot_help() {
    let vm = vm();
    let guest = vm.guest();
    let (session, _) = guest.open(PSEUDO, login::PUBLIC);
    let (half, _) = guest.register(u64::from(MOST) / 2);
    let (quarter, _) = guest.register(u64::from(MOST) / 4);
    let invoke = |pages: &[Param]| guest.message(Command::INVOKE, session, pages);
    let too_much = TeeResult::OUT_OF_MEMORY.0;
    // OP-TEE keeps something that it had asked for.
    let kept = u64::from(MOST) / 2 + 1;
    let machine = vm.host.machine();
    machine.script(1, [Step::ShmAlloc(SHM_TYPE_APPL, kept * PAGE_SIZE)]);
    guest.run(invoke(&[]));
    assert_eq!(vm.stats().mapped_pages, kept);
    // Other calls are under way: one that holds nothing, and one that holds too little.
    for params in [vec![], vec![whole(quarter, 1)]] {
        machine.script(1, [Step::ForeignInterrupt]);
        let waiting = guest.begin(invoke(&params));
        assert_eq!(waiting[0], Function::FOREIGN_INTR.a0());
        let refused = guest.run(invoke(&[whole(half, 1)])).header.ret.get();
        assert_eq!(refused, too_much, "{params:?}");
        assert_eq!(guest.resume(waiting[3], [0; 4])[0], 0);
    }
    // Where its end makes room, it is waited for.
    machine.script(1, [Step::ForeignInterrupt]);
    let waiting = guest.begin(invoke(&[whole(quarter, 1)]));
    let limit = Return::ETHREAD_LIMIT.get();
    assert_eq!(guest.begin(invoke(&[whole(quarter, 1)]))[0], limit);
    assert_eq!(guest.resume(waiting[3], [0; 4])[0], 0);
    assert_eq!(guest.run(invoke(&[whole(quarter, 1)])).header.ret.get(), 0);
    vm.end();
}

/// Begins a call, and does what it is asked for, until the first interrupt.
fn until_interrupted(guest: &Guest<'_>, message: Ipa) -> [u64; 4] {
    let mut regs = guest.begin(message);
    while regs[0] != Function::FOREIGN_INTR.a0() {
        let mut back = [0; 4];
        if regs[0] == Function::ALLOC.a0() {
            let at = guest.alloc(1);
            let ((a1, a2), (a4, a5)) = (smc::pair(at.get()), smc::pair(Guest::cookie(at)));
            back = [a1, a2, a4, a5];
        } else {
            let cookie = smc::unpair(regs[1], regs[2]);
            let at = Ipa::new(cookie - Guest::cookie(Ipa::new(0)));
            guest.answer(&guest.read_message(at));
        }
        regs = guest.resume(regs[3], back);
    }
    regs
}

/// What OP-TEE asks for during a call it gives back until the call ends, as a rule.
#[test]
fn map_waits_for_calls_with_requested_memory() {
    for frees in [false, true] {
        let vm = vm();
        let guest = vm.guest();
        let (session, _) = guest.open(PSEUDO, login::PUBLIC);
        let (more, _) = guest.register(u64::from(MOST) / 2 + 1);
        let invoke = || guest.message(Command::INVOKE, session, &[whole(more, 1)]);
        let bytes = u64::from(MOST) / 2 * PAGE_SIZE;
        let allocate = Step::ShmAlloc(SHM_TYPE_APPL, bytes);
        let back = frees.then_some(Step::ShmFree(SHM_TYPE_APPL, 0));
        let work = [allocate, Step::ForeignInterrupt];
        vm.host.machine().script(1, work.into_iter().chain(back));
        let message = guest.message(Command::INVOKE, session, &[]);
        let regs = until_interrupted(&guest, message);
        assert_eq!(vm.stats().mapped_pages, u64::from(MOST) / 2);
        assert_eq!(guest.begin(invoke())[0], Return::ETHREAD_LIMIT.get());
        let end = guest.finish(message, regs, &mut |_, _| false);
        assert_eq!(end, Return::OK);
        // Memory that is kept does not block waiting calls.
        let result = if frees { 0 } else { TeeResult::OUT_OF_MEMORY.0 };
        assert_eq!(guest.run(invoke()).header.ret.get(), result);
        vm.end();
    }
}

/// A call that OP-TEE broke never ends.
#[test]
fn poisoned_call_is_not_waited_for() {
    let vm = vm();
    let guest = vm.guest();
    let machine = vm.host.machine();
    let (session, _) = guest.open(PSEUDO, login::PUBLIC);
    let (half, _) = guest.register(u64::from(MOST) / 2);
    let (more, _) = guest.register(u64::from(MOST) / 2 + 1);
    let invoke = |cookie| guest.message(Command::INVOKE, session, &[whole(cookie, 1)]);
    machine.script(1, [Step::Raw([0xffff_0001, 0, 0], None)]);
    assert_eq!(guest.begin(invoke(half))[0], Return::ENOTAVAIL.get());
    let refused = guest.run(invoke(more)).header.ret.get();
    assert_eq!(refused, TeeResult::OUT_OF_MEMORY.0);
    // When all are poisoned, none begins any more, and there is no call to wait for.
    machine.script(1, [Step::Raw([0xffff_0001, 0, 0], None)]);
    assert_eq!(guest.begin(invoke(half))[0], Return::ENOTAVAIL.get());
    assert_eq!(vm.stats().poisoned, 2);
    assert_eq!(guest.begin(invoke(half))[0], Return::ENOTAVAIL.get());
    vm.end();
}

/// What is found among files may be anything, until OP-TEE has the application's code; and once known, it stays known.
#[test]
fn user_ta_is_recognised_by_its_code_request() {
    let vm = vm();
    let guest = vm.guest();
    let (large, _) = guest.register(u64::from(MOST) + 1);
    let invoke = |session| guest.run(guest.message(Command::INVOKE, session, &[whole(large, 1)]));
    let which = Param::new(Attr::VALUE_INPUT, 0, 0, 0);
    let file = Step::Command(rpc::Command::FS, vec![which]);
    vm.host.machine().script(1, [file]);
    let (found, _) = guest.open(PSEUDO, login::PUBLIC);
    let too_much = TeeResult::OUT_OF_MEMORY.0;
    assert_eq!(invoke(found).header.ret.get(), too_much);
    for _ in 0..2 {
        let loaded = open_loaded(&vm, &guest, PSEUDO);
        assert_eq!(invoke(loaded).header.ret.get(), 0);
        assert_eq!(invoke(found).header.ret.get(), too_much);
    }
    vm.end();
}

/// What a call has given back already, its end does not.
#[test]
fn map_does_not_wait_for_returned_memory() {
    let vm = vm();
    let guest = vm.guest();
    let (session, _) = guest.open(PSEUDO, login::PUBLIC);
    let (more, _) = guest.register(16);
    let pages = |count| Step::ShmAlloc(SHM_TYPE_APPL, count * PAGE_SIZE);
    let machine = vm.host.machine();
    machine.script(1, [pages(25)]);
    guest.run(guest.message(Command::INVOKE, session, &[]));
    let back = Step::ShmFree(SHM_TYPE_APPL, 0);
    machine.script(1, [pages(10), back, Step::ForeignInterrupt]);
    let message = guest.message(Command::INVOKE, session, &[]);
    let regs = until_interrupted(&guest, message);
    assert_eq!(vm.stats().mapped_pages, 25);
    let refused = guest.run(guest.message(Command::INVOKE, session, &[whole(more, 1)]));
    assert_eq!(refused.header.ret.get(), TeeResult::OUT_OF_MEMORY.0);
    let end = guest.finish(message, regs, &mut |_, _| false);
    assert_eq!(end, Return::OK);
    vm.end();
}

/// A few pages are counted for every application, without a look at the session.
#[test]
fn small_buffers_count_for_user_tas() {
    let vm = vm();
    let guest = vm.guest();
    let session = open_loaded(&vm, &guest, APP);
    for (pages, counted) in [(16, 16), (17, 0)] {
        let (cookie, _) = guest.register(pages);
        vm.host.machine().script(1, [Step::ForeignInterrupt]);
        let message = guest.message(Command::INVOKE, session, &[whole(cookie, 1)]);
        let waiting = guest.begin(message);
        assert_eq!(vm.stats().mapped_pages, counted);
        assert_eq!(guest.resume(waiting[3], [0; 4])[0], 0);
    }
    vm.end();
}

/// An OP-TEE that does not make its tables does not forget the VM either: it is not told of the VM again before it has.
#[test]
fn vm_that_optee_keeps_is_not_created_again() {
    let machine = Machine::new();
    let host = machine.add_vm(1, 400);
    let tee = probe(&host).unwrap();
    let client = ClientId::new(NonZeroU16::new(1).unwrap());
    let mediator = Mediator::new(client, Config::default(), tee);
    machine.answer_next(smc::CALL_WITH_REGD_ARG, [Return::ENOMEM.get(), 0, 0, 0]);
    machine.answer_next(smc::VM_DESTROYED, [7, 0, 0, 0]);
    assert_eq!(mediator.create(&host), Err(CreateError::TablesRefused(6)));
    assert!(machine.knows(1) && machine.shared_pages() > 0);
    assert_eq!(mediator.create(&host), Err(CreateError::Exists));
    machine.answer_next(smc::VM_DESTROYED, [5, 0, 0, 0]);
    let refused = Err(crate::DestroyError::Refused(5));
    assert_eq!(mediator.destroy(&host), refused);
    mediator.destroy(&host).unwrap();
    assert_eq!(machine.shared_pages(), 0);
    mediator.create(&host).unwrap();
    Vm { host, mediator }.end();
}

/// However few pages there are to share, a VM is either created whole or OP-TEE has forgotten it, and it can be created
/// when there are more.
#[test]
fn creation_without_pages_for_tables_leaves_nothing() {
    let machine = Machine::new();
    let host = machine.add_vm(1, 400);
    let tee = probe(&host).unwrap();
    let client = ClientId::new(NonZeroU16::new(1).unwrap());
    let mediator = Mediator::new(client, Config::default(), tee);
    let mut without = 0;
    for pages in 0.. {
        machine.limit_shared_pages(pages);
        let created = mediator.create(&host);
        if created.is_ok() {
            break;
        }
        assert_eq!(created, Err(CreateError::NoSharedPages), "{pages} pages");
        assert!(!machine.knows(1), "{pages} pages");
        assert_eq!(machine.shared_pages(), 0, "{pages} pages");
        without = pages;
    }
    assert!(
        without > tee.threads as usize,
        "it had none for tables once"
    );
    Vm { host, mediator }.end();
}
