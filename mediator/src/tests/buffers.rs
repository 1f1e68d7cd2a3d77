// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Registered buffers: coming, used, going.

use super::{BAD, SESSION, Vm, vm};
use crate::addr::{Ipa, PAGE_SIZE};
use crate::fake::{Guest, Machine, Step};
use crate::{Config, Quotas};
use alloc::vec::Vec;
use optee_proto::msg::{Attr, Command, Param};
use optee_proto::{TeeResult, rpc};

fn quotas(quotas: Quotas, pages: u64) -> Vm {
    Vm::with_pages(
        &Machine::new(),
        1,
        Config {
            quotas,
            ..Config::default()
        },
        pages,
    )
}

#[test]
fn buffers_are_registered_used_and_unregistered() {
    let vm = vm();
    let guest = vm.guest();
    let before = vm.baseline();
    let (cookie, result) = guest.register(3);
    assert_eq!(result, 0);
    assert_eq!(
        (
            vm.stats().buffers,
            vm.stats().pages_pinned,
            vm.host.machine().pins()
        ),
        (1, 3, 3)
    );

    let size = 3 * PAGE_SIZE;
    for (offset, length, result) in [
        (0, size, 0),
        (size, 0, 0),
        (100, 200, 0),
        (1, size, TeeResult::SECURITY.0),
        (size + 1, 0, TeeResult::SECURITY.0),
        (u64::MAX, 2, TeeResult::SECURITY.0),
        (0, u64::MAX, TeeResult::SECURITY.0),
    ] {
        let param = Param::new(Attr::RMEM_INOUT, offset, length, cookie);
        let done = guest.run(guest.message(Command::INVOKE, SESSION, &[param]));
        assert_eq!(done.header.ret.get(), result, "{offset:#x} {length:#x}");
        let back = if result == 0 { length / 2 } else { length };
        assert_eq!(
            done.params[0],
            Param::new(Attr::RMEM_INOUT, offset, back, cookie)
        );
    }
    assert_eq!(guest.unregister(cookie), 0);
    assert_eq!(guest.unregister(cookie), BAD);
    assert_eq!(vm.baseline(), before);
    assert_eq!(
        (vm.stats().pages_pinned_max, vm.stats().buffers_max),
        (3, 1)
    );
    vm.end();
}

#[test]
fn only_a_page_list_can_be_registered() {
    let vm = vm();
    let guest = vm.guest();
    let (victim, _) = guest.register(1);
    let before = vm.baseline();
    let list = guest.page_list(&[guest.alloc(1)]).get();
    for attr in [
        Attr::NONE,
        Attr::VALUE_INPUT,
        Attr::VALUE_INOUT,
        Attr::RMEM_INPUT,
        Attr::TMEM_OUTPUT,
        Attr(Attr::TMEM_INPUT.0 | Attr::NONCONTIG),
        Attr(Attr::TMEM_INOUT.0 | Attr::NONCONTIG),
        Attr(Attr::PAGE_LIST.0 | Attr::META),
        Attr(Attr::PAGE_LIST.0 | 1 << 32),
    ] {
        let param = Param::new(attr, list, PAGE_SIZE, victim);
        let message = guest.message(Command::REGISTER_SHM, 0, &[param]);
        assert_eq!(guest.run(message).header.ret.get(), BAD, "{attr:?}");
    }
    for attr in [
        Attr::NONE,
        Attr::VALUE_INPUT,
        Attr::RMEM_INOUT,
        Attr::TMEM_INPUT,
    ] {
        let message = guest.message(
            Command::UNREGISTER_SHM,
            0,
            &[Param::new(attr, 0, 0, victim)],
        );
        assert_eq!(guest.run(message).header.ret.get(), BAD, "{attr:?}");
    }
    // A NULL reference with a cookie in use does not affect the buffer.
    let null = Param::new(Attr::TMEM_INOUT, 0, 0, victim);
    assert_eq!(
        guest
            .run(guest.message(Command::INVOKE, SESSION, &[null]))
            .header
            .ret
            .get(),
        0
    );
    assert_eq!(vm.baseline(), before);
    let param = Param::new(Attr::RMEM_INOUT, 0, PAGE_SIZE, victim);
    assert_eq!(
        guest
            .run(guest.message(Command::INVOKE, SESSION, &[param]))
            .header
            .ret
            .get(),
        0
    );
    vm.end();
}

#[test]
fn quotas_of_buffers_and_pages() {
    let vm = quotas(
        Quotas {
            buffers: 3,
            pages: 10,
            ..Quotas::default()
        },
        400,
    );
    let guest = vm.guest();
    let full = TeeResult::OUT_OF_MEMORY.0;
    assert_eq!(guest.register(11).1, full);
    let (eight, result) = guest.register(8);
    assert_eq!(result, 0);
    assert_eq!(guest.register(3).1, full);
    assert_eq!(guest.register(1).1, 0);
    assert_eq!(guest.register(1).1, 0);
    assert_eq!(guest.unregister(eight), 0);
    let (cookie, result) = guest.register(8);
    assert_eq!(result, 0);
    assert_eq!(guest.register(1).1, full);
    assert_eq!(guest.unregister(cookie), 0);
    assert_eq!((vm.stats().buffers, vm.stats().pages_pinned), (2, 2));
    vm.end();
}

#[test]
fn thousands_of_buffers_are_registered_and_removed() {
    let many = if cfg!(miri) { 12 } else { 4000 };
    let vm = Vm::with_pages(&Machine::new(), 1, Config::default(), 4 * many + 10);
    let guest = vm.guest();
    let cookies: Vec<u64> = (0..many)
        .map(|_| {
            let (cookie, result) = guest.register(1);
            assert_eq!(result, 0);
            cookie
        })
        .collect();
    assert_eq!((vm.stats().buffers, vm.stats().pages_pinned), (many, many));
    for cookie in cookies.iter().step_by(2) {
        assert_eq!(guest.unregister(*cookie), 0);
    }
    assert_eq!(vm.stats().buffers, many / 2);
    vm.end();
}

#[test]
fn optee_refuses_a_registration() {
    let vm = vm();
    let guest = vm.guest();
    let before = vm.baseline();
    for step in [
        Step::Result(TeeResult::OUT_OF_MEMORY),
        Step::End(4),
        Step::End(5),
        Step::End(1),
    ] {
        vm.host.machine().script(1, [step.clone()]);
        let at = guest.alloc(1);
        let list = guest.page_list(&[at]);
        let param = Param::new(Attr::PAGE_LIST, list.get(), PAGE_SIZE, 9);
        let message = guest.message(Command::REGISTER_SHM, 0, &[param]);
        guest.begin(message);
        assert_eq!(vm.baseline(), before, "{step:?}");
    }
    // A success that OP-TEE has not written is none.
    vm.host.machine().script(1, [Step::End(0)]);
    assert_eq!(guest.register(1).1, TeeResult::COMMUNICATION.0);
    assert_eq!(vm.baseline(), before);
    // What it holds open stays pinned.
    vm.host.machine().script(1, [Step::End(0x99)]);
    let at = guest.alloc(1);
    let list = guest.page_list(&[at]);
    let param = Param::new(Attr::PAGE_LIST, list.get(), PAGE_SIZE, 9);
    guest.begin(guest.message(Command::REGISTER_SHM, 0, &[param]));
    assert_eq!((vm.stats().poisoned, vm.host.machine().pins()), (1, 1));
    vm.end();
}

/// The first yielding call of a VM may ask for anything, a registration too.
#[test]
fn memory_is_allocated_while_memory_is_registered() {
    let vm = vm();
    let guest = vm.guest();
    let before = vm.baseline();
    for result in [TeeResult::SUCCESS, TeeResult::BUSY] {
        vm.host
            .machine()
            .script(1, [Step::ShmAlloc(0, 9000), Step::Result(result)]);
        let (cookie, registered) = guest.register(2);
        assert_eq!(registered, result.0);
        let allocated = 1 + u64::from(registered == 0);
        assert_eq!(vm.stats().buffers, allocated);
        assert_eq!(
            guest.unregister(cookie),
            if registered == 0 { 0 } else { BAD }
        );
        assert_eq!(vm.stats().buffers, 1);
        vm.mediator.destroy(&vm.host).unwrap();
        assert_eq!(
            (vm.host.machine().pins(), vm.host.machine().shared_pages()),
            (0, 0)
        );
        vm.mediator.create(&vm.host).unwrap();
        vm.open_session(400);
        assert_eq!(vm.baseline(), before);
    }
    vm.end();
}

/// From the moment that OP-TEE is asked to forget a buffer, no call begins to use it. Calls that use it
/// continue, and its pages stay pinned until OP-TEE has answered.
#[test]
fn buffer_being_unregistered_is_not_usable() {
    let vm = vm();
    let guest = vm.guest();
    let (cookie, _) = guest.register(2);
    let memory = Param::new(Attr::RMEM_INPUT, 0, 1, cookie);

    vm.host.machine().script(1, [Step::ForeignInterrupt]);
    let param = Param::new(Attr::RMEM_INPUT, 0, 0, cookie);
    let unregister = guest.message(Command::UNREGISTER_SHM, 0, &[param]);
    let going = guest.begin(unregister);
    let use_it = guest.message(Command::INVOKE, SESSION, &[memory]);
    assert_eq!(guest.run(use_it).header.ret.get(), BAD);
    assert_eq!(guest.unregister(cookie), BAD);
    assert_eq!(vm.host.machine().pins(), 2);
    assert_eq!(guest.resume(going[3], [0; 4])[0], 0);
    assert_eq!(guest.read_message(unregister).header.ret.get(), 0);
    assert_eq!((vm.host.machine().pins(), vm.stats().buffers), (0, 0));
    vm.end();
}

#[test]
fn buffer_that_optee_keeps_stays_usable() {
    let vm = vm();
    let guest = vm.guest();
    let (cookie, _) = guest.register(2);
    for step in [Step::Result(TeeResult::BUSY), Step::End(1)] {
        vm.host.machine().script(1, [step]);
        let param = Param::new(Attr::RMEM_INPUT, 0, 0, cookie);
        guest.begin(guest.message(Command::UNREGISTER_SHM, 0, &[param]));
        assert_eq!(vm.host.machine().pins(), 2);
        let memory = Param::new(Attr::RMEM_INPUT, 0, 1, cookie);
        assert_eq!(
            guest
                .run(guest.message(Command::INVOKE, SESSION, &[memory]))
                .header
                .ret
                .get(),
            0
        );
    }
    assert_eq!(guest.unregister(cookie), 0);
    vm.end();
}

/// OP-TEE panics when one call has it forget a buffer that another is about to name. So it hears of
/// UNREGISTER only when no other call uses the buffer; until then the guest comes back again and
/// again, as after an interrupt.
#[test]
fn unregister_waits_for_calls_that_name_the_buffer() {
    let vm = vm();
    let guest = vm.guest();
    let before = vm.baseline();
    let (cookie, _) = guest.register(2);
    vm.host
        .machine()
        .script(1, [Step::ForeignInterrupt, Step::End(0)]);
    let memory = Param::new(Attr::RMEM_INPUT, 0, 1, cookie);
    let user = guest.begin(guest.message(Command::INVOKE, SESSION, &[memory, memory]));
    let smcs = vm.stats().smcs;
    let param = Param::new(Attr::RMEM_INPUT, 0, 0, cookie);
    let unregister = guest.message(Command::UNREGISTER_SHM, 0, &[param]);
    let mut going = guest.begin(unregister);
    for _ in 0..3 {
        assert_eq!(going[0], rpc::Function::FOREIGN_INTR.a0());
        going = guest.resume(going[3], [0; 4]);
    }
    // OP-TEE has not heard of it.
    assert_eq!(vm.stats().smcs, smcs);
    assert_eq!(vm.host.machine().pins(), 2);
    assert_eq!(guest.resume(user[3], [0; 4])[0], 0);
    // No other call gets the buffer any more, to use it or to unregister it.
    assert_eq!(guest.unregister(cookie), BAD);
    let again = guest.run(guest.message(Command::INVOKE, SESSION, &[memory]));
    assert_eq!(again.header.ret.get(), BAD);
    assert_eq!(vm.host.machine().pins(), 2);
    assert_eq!(guest.resume(going[3], [0; 4])[0], 0);
    assert_eq!(guest.read_message(unregister).header.ret.get(), 0);
    assert_eq!(vm.baseline(), before);

    // OP-TEE breaks a call, and so keeps what that names for good.
    let (cookie, _) = guest.register(2);
    vm.host.machine().script(1, [Step::End(0x99)]);
    let memory = Param::new(Attr::RMEM_INPUT, 0, 1, cookie);
    guest.begin(guest.message(Command::INVOKE, SESSION, &[memory]));
    assert_eq!(vm.stats().poisoned, 1);
    assert_eq!(guest.unregister(cookie), TeeResult::BUSY.0);
    assert_eq!(vm.host.machine().pins(), 2);
    vm.mediator.destroy(&vm.host).unwrap();
    vm.mediator.create(&vm.host).unwrap();
    vm.open_session(400);
    assert_eq!(vm.baseline(), before);

    // A VM can end while it waits.
    let (cookie, _) = guest.register(2);
    vm.host
        .machine()
        .script(1, [Step::ForeignInterrupt, Step::End(0)]);
    let memory = Param::new(Attr::RMEM_INPUT, 0, 1, cookie);
    guest.begin(guest.message(Command::INVOKE, SESSION, &[memory]));
    let param = Param::new(Attr::RMEM_INPUT, 0, 0, cookie);
    guest.begin(guest.message(Command::UNREGISTER_SHM, 0, &[param]));
    vm.end();
}

/// The names of what OP-TEE allocated, of RPC memory and of other VMs' buffers mean nothing in
/// a guest's calls, nor do cookies of the mediator's.
#[test]
fn cookies_of_other_vms_are_unknown() {
    let machine = Machine::new();
    let (a, b) = (
        Vm::new(&machine, 1, Config::default()),
        Vm::new(&machine, 2, Config::default()),
    );
    let (ga, gb) = (a.guest(), b.guest());
    let ours = {
        ga.register(1);
        machine.outcomes(1).pop().unwrap().params[0].c.get()
    };
    // Other pages, and so another name, than any of the first VM's.
    gb.alloc(100);
    let (theirs, _) = gb.register(1);
    machine.script(
        1,
        [
            Step::ShmAlloc(0, 10),
            Step::ForeignInterrupt,
            Step::ShmFree(0, 0),
        ],
    );
    let message = ga.message(Command::INVOKE, SESSION, &[]);
    let mut names = Vec::from([0, ours, theirs]);
    let mut regs = ga.begin(message);
    let at = ga.alloc(1);
    names.push(Guest::cookie(at));
    let ((a1, a2), (a4, a5)) = (
        optee_proto::smc::pair(at.get()),
        optee_proto::smc::pair(Guest::cookie(at)),
    );
    regs = ga.resume(regs[3], [a1, a2, a4, a5]);
    ga.answer(&ga.read_message(at));
    names.push(ga.read_message(at).params[0].c.get());
    regs = ga.resume(regs[3], [0; 4]);
    for name in names {
        let memory = Param::new(Attr::RMEM_INPUT, 0, 1, name);
        let done = ga.run(ga.message(Command::INVOKE, SESSION, &[memory]));
        assert_eq!(done.header.ret.get(), BAD, "{name:#x}");
        assert_eq!(ga.unregister(name), BAD, "{name:#x}");
    }
    regs = ga.resume(regs[3], [0; 4]);
    assert_eq!(
        ga.finish(message, regs, &mut |_, _| false),
        optee_proto::Return::OK
    );
    a.end_one();
    b.end();
}

/// A kernel that another one has started by kexec registers what that has registered before. OP-TEE finds the newest
/// buffer of a name, and when that is gone the one before it.
#[test]
fn cookie_registered_twice_finds_the_newest() {
    let vm = vm();
    let before = vm.baseline();
    let machine = vm.host.machine();
    let mut guest = vm.guest();
    let mut names = Vec::new();
    for pages in 1..=3 {
        // Each time the guest begins anew, and has other things in memory.
        let list = guest.page_list(&(0..pages).map(|_| guest.alloc(1)).collect::<Vec<_>>());
        let param = Param::new(Attr::PAGE_LIST, list.get(), pages * PAGE_SIZE, 0x77);
        let done = guest.run(guest.message(Command::REGISTER_SHM, 0, &[param]));
        assert_eq!(done.header.ret.get(), 0);
        names.push(machine.outcomes(1).pop().unwrap().params[0].c);
        guest = vm.guest();
        guest.alloc(20 * pages);
    }
    assert_eq!((vm.stats().buffers, vm.stats().pages_pinned), (3, 6));
    assert_eq!(machine.pins(), 6);
    for pages in (1..=3).rev() {
        // The whole of it, and no byte more: it is the one of this size.
        let whole = Param::new(Attr::RMEM_INPUT, 0, pages * PAGE_SIZE, 0x77);
        let done = guest.run(guest.message(Command::INVOKE, SESSION, &[whole]));
        assert_eq!(done.header.ret.get(), 0);
        let seen = machine.outcomes(1).pop().unwrap();
        assert_eq!(seen.params[0].c, names[pages as usize - 1]);
        let more = Param::new(Attr::RMEM_INPUT, 1, pages * PAGE_SIZE, 0x77);
        let done = guest.run(guest.message(Command::INVOKE, SESSION, &[more]));
        assert_eq!(done.header.ret.get(), TeeResult::SECURITY.0);
        assert_eq!(guest.unregister(0x77), 0);
        assert_eq!(machine.pins(), (pages - 1) * pages / 2);
    }
    assert_eq!(guest.unregister(0x77), BAD);
    assert_eq!(vm.baseline(), before);
    vm.end();
}

/// A registration that fails takes no name away, nor does one that is still under way.
#[test]
fn cookie_finds_the_current_registration() {
    let vm = vm();
    let machine = vm.host.machine();
    let guest = vm.guest();
    let (cookie, _) = guest.register(1);
    let ours = machine.outcomes(1).pop().unwrap().params[0].c;
    let used = || {
        let memory = Param::new(Attr::RMEM_INPUT, 0, 8, cookie);
        let done = guest.run(guest.message(Command::INVOKE, SESSION, &[memory]));
        assert_eq!(done.header.ret.get(), 0);
        machine.outcomes(1).pop().unwrap().params[0].c
    };
    let register = |list: Ipa| {
        let param = Param::new(Attr::PAGE_LIST, list.get(), PAGE_SIZE, cookie);
        guest.message(Command::REGISTER_SHM, 0, &[param])
    };
    let bad = guest.page_list(&[Ipa::new(0x0900_0000)]);
    assert_eq!(guest.run(register(bad)).header.ret.get(), BAD);
    assert_eq!(used(), ours);

    let list = guest.page_list(&[guest.alloc(1)]);
    for result in [TeeResult::OUT_OF_MEMORY, TeeResult::SUCCESS] {
        machine.script(1, [Step::ForeignInterrupt, Step::Result(result)]);
        let message = register(list);
        let coming = guest.begin(message);
        assert_eq!(coming[0], rpc::Function::FOREIGN_INTR.a0());
        assert_eq!(used(), ours);
        assert_eq!(guest.resume(coming[3], [0; 4])[0], 0);
        assert_eq!(guest.read_message(message).header.ret.get(), result.0);
        assert_eq!(used() == ours, result != TeeResult::SUCCESS);
    }

    // Nor does the end of the newest take it away from the older one.
    machine.script(1, [Step::ForeignInterrupt]);
    let param = Param::new(Attr::RMEM_INPUT, 0, 0, cookie);
    let going = guest.begin(guest.message(Command::UNREGISTER_SHM, 0, &[param]));
    assert_eq!(used(), ours);
    assert_eq!(guest.resume(going[3], [0; 4])[0], 0);
    assert_eq!(used(), ours);
    vm.end();
}

/// A guest that registers under one name again and again has its quota, and no more.
#[test]
fn registering_under_one_name_is_bounded() {
    let machine = Machine::new();
    let mut config = Config::default();
    (config.quotas.buffers, config.quotas.pages) = (5, 9);
    let vm = Vm::new(&machine, 1, config);
    let before = vm.baseline();
    let guest = vm.guest();
    let list = guest.page_list(&[guest.alloc(1), guest.alloc(1)]);
    let register = || {
        let param = Param::new(Attr::PAGE_LIST, list.get(), 2 * PAGE_SIZE, 0x77);
        let message = vm.guest();
        message.alloc(100);
        let done = message.run(message.message(Command::REGISTER_SHM, 0, &[param]));
        done.header.ret.get()
    };
    for _ in 0..2 {
        for _ in 0..4 {
            assert_eq!(register(), 0);
        }
        for _ in 0..20 {
            assert_eq!(register(), TeeResult::OUT_OF_MEMORY.0);
        }
        assert_eq!((machine.pins(), machine.registered(1)), (8, 4));
        for _ in 0..4 {
            assert_eq!(guest.unregister(0x77), 0);
        }
        assert_eq!(guest.unregister(0x77), BAD);
        assert_eq!(vm.baseline(), before);
    }
    for _ in 0..4 {
        assert_eq!(register(), 0);
    }
    vm.end();
}
