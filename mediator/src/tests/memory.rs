//! Registered buffers: coming, used, going.

use super::{Vm, vm};
use crate::addr::{Ipa, PAGE_SIZE};
use crate::fake::{Guest, Machine, RAM_BASE, Step};
use crate::{Config, Quotas};
use alloc::vec::Vec;
use optee_proto::TeeResult;
use optee_proto::msg::{Attr, Command, Param, SESSION_OFFSET};

const BAD: u32 = TeeResult::BAD_PARAMETERS.0;

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
        let done = guest.run(guest.message(Command::INVOKE, 1, &[param]));
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
fn list_lengths_around_a_page_of_the_list() {
    let vm = Vm::with_pages(&Machine::new(), 1, Config::default(), 8000);
    let guest = vm.guest();
    let lengths = [1, 64, 65, 511, 512, 63, 448, 510, 575, 1022, 1023];
    for &pages in &lengths[..if cfg!(miri) { 5 } else { lengths.len() }] {
        let (cookie, result) = guest.register(pages);
        assert_eq!((result, vm.stats().pages_pinned), (0, pages), "{pages}");
        assert_eq!(guest.unregister(cookie), 0);
    }
    assert_eq!(vm.stats().pages_pinned, 0);
    vm.end();
}

/// 64 MiB in one registration: in steps between which the guest runs.
#[test]
fn a_large_buffer() {
    let pages = if cfg!(miri) { 2100 } else { 16_384 };
    let vm = Vm::with_pages(&Machine::new(), 1, Config::default(), pages + 100);
    let guest = vm.guest();
    let before = vm.host.machine().smcs().len();
    let (cookie, result) = guest.register(pages);
    assert_eq!(
        (result, vm.stats().pages_pinned, vm.host.machine().pins()),
        (0, pages, pages)
    );
    // Interrupted before OP-TEE heard of it, and then one SMC.
    assert_eq!(vm.host.machine().smcs().len(), before + 1);
    assert_eq!(guest.unregister(cookie), 0);
    assert_eq!(vm.host.machine().pins(), 0);
    vm.end();
}

#[test]
fn offsets_and_sizes() {
    let vm = vm();
    let guest = vm.guest();
    let at = guest.alloc(2);
    let both = guest.page_list(&[at, at.checked_add(PAGE_SIZE).unwrap()]);
    let try_it = |pointer: u64, size: u64, cookie: u64| {
        let param = Param::new(Attr::PAGE_LIST, pointer, size, cookie);
        let message = guest.message(Command::REGISTER_SHM, 0, &[param]);
        guest.run(message).header.ret.get()
    };
    for (pointer, size, pages) in [
        (both.get(), 1, 1),
        (both.get() + 0xfff, 1, 1),
        (both.get() + 0xfff, 2, 2),
        (both.get() + 0x800, PAGE_SIZE, 2),
    ] {
        assert_eq!(try_it(pointer, size, 9), 0);
        assert_eq!(vm.stats().pages_pinned, pages);
        assert_eq!(guest.unregister(9), 0);
    }
    for (pointer, size, cookie) in [
        (both.get(), 0, 9),
        (both.get(), 1, 0),
        (0, 1, 9),
        (both.get(), u64::MAX, 9),
        (both.get() + 0xfff, u64::MAX, 9),
        (both.get() + 0xfff, u64::MAX - 0xfff, 9),
    ] {
        assert_eq!(
            try_it(pointer, size, cookie),
            BAD,
            "{pointer:#x} {size:#x} {cookie}"
        );
    }
    // More than the quota, however it is written.
    for size in [1 << 32, 1 << 43, (1 << 28) + 1] {
        assert_eq!(
            try_it(both.get(), size, 9),
            TeeResult::OUT_OF_MEMORY.0,
            "{size:#x}"
        );
    }
    assert_eq!((vm.stats().pages_pinned, vm.stats().buffers), (0, 0));
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
    // A name in use is in use; whoever uses it is not disturbed.
    let param = Param::new(Attr::PAGE_LIST, list, PAGE_SIZE, victim);
    let message = guest.message(Command::REGISTER_SHM, 0, &[param]);
    assert_eq!(guest.run(message).header.ret.get(), BAD);
    // Nor by a NULL reference that carries its name.
    let null = Param::new(Attr::TMEM_INOUT, 0, 0, victim);
    assert_eq!(
        guest
            .run(guest.message(Command::INVOKE, 1, &[null]))
            .header
            .ret
            .get(),
        0
    );
    assert_eq!(vm.baseline(), before);
    let param = Param::new(Attr::RMEM_INOUT, 0, PAGE_SIZE, victim);
    assert_eq!(
        guest
            .run(guest.message(Command::INVOKE, 1, &[param]))
            .header
            .ret
            .get(),
        0
    );
    vm.end();
}

#[test]
fn bad_lists_leave_nothing_behind() {
    let vm = Vm::with_pages(&Machine::new(), 1, Config::default(), 3000);
    let before = vm.baseline();
    let guest = vm.guest();
    let good: Vec<Ipa> = (0..600).map(|_| guest.alloc(1)).collect();
    let end = RAM_BASE + 3000 * PAGE_SIZE;
    let bad = [
        0,
        0x0900_0000,
        0x4200_0000,
        0x28_6000_0000,
        RAM_BASE + 1,
        end,
        1 << 44,
        u64::MAX << 12,
    ];
    let positions = [0, 511, 63, 64, 510, 599];
    let positions = &positions[..if cfg!(miri) { 2 } else { 6 }];
    for (&position, bad) in positions.iter().zip(bad.into_iter().cycle()) {
        let mut pages = good.clone();
        pages[position] = Ipa::new(bad);
        let list = guest.page_list(&pages);
        let param = Param::new(Attr::PAGE_LIST, list.get(), 600 * PAGE_SIZE, 9);
        let message = guest.message(Command::REGISTER_SHM, 0, &[param]);
        assert_eq!(
            guest.run(message).header.ret.get(),
            BAD,
            "{position} {bad:#x}"
        );
        assert_eq!(vm.baseline(), before);
    }
    // Links: to itself (a bounded loop of valid entries), to a device, not aligned.
    let list = guest.page_list(&good);
    let register = |link: u64| {
        vm.host
            .poke(Ipa::new(list.get() + 511 * 8), &link.to_le_bytes());
        let param = Param::new(Attr::PAGE_LIST, list.get(), 600 * PAGE_SIZE, 9);
        guest
            .run(guest.message(Command::REGISTER_SHM, 0, &[param]))
            .header
            .ret
            .get()
    };
    assert_eq!(register(0x0900_0000), BAD);
    assert_eq!(register(list.get() + 8), BAD);
    assert_eq!(register(0), BAD);
    assert_eq!(vm.baseline(), before);
    assert_eq!(register(list.get()), 0);
    assert_eq!(guest.unregister(9), 0);
    assert_eq!(vm.baseline(), before);
    vm.end();
}

#[test]
fn a_page_may_be_shared_twice() {
    let vm = vm();
    let guest = vm.guest();
    let at = guest.alloc(1);
    let list = guest.page_list(&[at, at, at]);
    for cookie in [5, 6] {
        let param = Param::new(Attr::PAGE_LIST, list.get(), 3 * PAGE_SIZE, cookie);
        let message = guest.message(Command::REGISTER_SHM, 0, &[param]);
        assert_eq!(guest.run(message).header.ret.get(), 0);
    }
    assert_eq!(vm.host.machine().pins(), 6);
    assert_eq!(guest.unregister(5), 0);
    assert_eq!(vm.host.machine().pins(), 3);
    // Until it is shared too often.
    vm.host.machine().limit_pins(5);
    let param = Param::new(Attr::PAGE_LIST, list.get(), 3 * PAGE_SIZE, 5);
    let message = guest.message(Command::REGISTER_SHM, 0, &[param]);
    assert_eq!(
        guest.run(message).header.ret.get(),
        TeeResult::OUT_OF_MEMORY.0
    );
    assert_eq!(vm.host.machine().pins(), 3);
    vm.end();
}

/// What the guest writes into its list while or after it is read changes nothing.
#[test]
fn lists_are_read_once() {
    let vm = Vm::with_pages(&Machine::new(), 1, Config::default(), 2000);
    let guest = vm.guest();
    vm.host.machine().scramble(true);
    assert_eq!(guest.register(600).1, 0);
    assert_eq!(vm.host.machine().registered(1), 1);
    assert_eq!(vm.host.machine().pins(), 600);
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
fn the_hypervisor_runs_out_of_pages() {
    let vm = quotas(Quotas::default(), 800);
    let guest = vm.guest();
    let before = vm.baseline();
    vm.host.machine().limit_shared_pages(1);
    let full = TeeResult::OUT_OF_MEMORY.0;
    assert_eq!(guest.register(600).1, full);
    assert_eq!(vm.baseline(), before);
    assert_eq!(guest.register(6).1, 0);
    vm.end();
}

#[test]
fn thousands_of_buffers() {
    let many = if cfg!(miri) { 50 } else { 4000 };
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
    assert_eq!((vm.stats().lost, vm.host.machine().pins()), (1, 1));
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
        assert_eq!(vm.baseline(), before);
    }
    vm.end();
}

/// From the moment that OP-TEE is asked to forget a buffer, nobody begins to use it; who uses it
/// goes on, and its pages stay pinned until OP-TEE has answered.
#[test]
fn a_buffer_that_is_going_is_not_usable() {
    let vm = vm();
    let guest = vm.guest();
    let (cookie, _) = guest.register(2);
    let memory = Param::new(Attr::RMEM_INPUT, 0, 1, cookie);

    vm.host.machine().script(1, [Step::ForeignInterrupt]);
    let param = Param::new(Attr::RMEM_INPUT, 0, 0, cookie);
    let unregister = guest.message(Command::UNREGISTER_SHM, 0, &[param]);
    let going = guest.begin(unregister);
    let use_it = guest.message(Command::INVOKE, 1, &[memory]);
    assert_eq!(guest.run(use_it).header.ret.get(), BAD);
    assert_eq!(guest.unregister(cookie), BAD);
    assert_eq!(vm.host.machine().pins(), 2);
    assert_eq!(guest.resume(going[3], [0; 4])[0], 0);
    assert_eq!(guest.read_message(unregister).header.ret.get(), 0);
    assert_eq!((vm.host.machine().pins(), vm.stats().buffers), (0, 0));
    vm.end();
}

#[test]
fn a_buffer_that_optee_keeps_stays_usable() {
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
                .run(guest.message(Command::INVOKE, 1, &[memory]))
                .header
                .ret
                .get(),
            0
        );
    }
    assert_eq!(guest.unregister(cookie), 0);
    vm.end();
}

/// A call still uses a buffer when OP-TEE forgets it: its pages are unpinned by the call's end,
/// while its name is free at once.
#[test]
fn the_last_user_unpins() {
    let vm = vm();
    let guest = vm.guest();
    let (cookie, _) = guest.register(2);
    vm.host
        .machine()
        .script(1, [Step::ForeignInterrupt, Step::End(0)]);
    let memory = Param::new(Attr::RMEM_INPUT, 0, 1, cookie);
    let user = guest.begin(guest.message(Command::INVOKE, 1, &[memory, memory]));
    assert_eq!(guest.unregister(cookie), 0);
    assert_eq!((vm.host.machine().pins(), vm.stats().buffers), (2, 1));
    let list = guest.page_list(&[guest.alloc(1)]);
    let param = Param::new(Attr::PAGE_LIST, list.get(), PAGE_SIZE, cookie);
    let message = guest.message(Command::REGISTER_SHM, 0, &[param]);
    assert_eq!(guest.run(message).header.ret.get(), 0);
    assert_eq!(guest.resume(user[3], [0; 4])[0], 0);
    assert_eq!(
        (
            vm.host.machine().pins(),
            vm.stats().buffers,
            vm.stats().pages_pinned
        ),
        (1, 1, 1)
    );
    assert_eq!(guest.unregister(cookie), 0);
    vm.end();
}

/// The names of what OP-TEE allocated, of RPC memory and of other VMs' buffers mean nothing in
/// a guest's calls, nor do cookies of the mediator's.
#[test]
fn foreign_names_mean_nothing() {
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
    let message = ga.message(Command::INVOKE, 1, &[]);
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
        let done = ga.run(ga.message(Command::INVOKE, 1, &[memory]));
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

/// Pages and buffers come back to the baseline however often a registration fails half-way.
#[test]
fn failures_do_not_add_up() {
    let vm = vm();
    let guest = vm.guest();
    let before = vm.baseline();
    let at = guest.alloc(1);
    let list = guest.page_list(&[at, at, Ipa::new(0x4020_0000)]);
    let param = Param::new(Attr::PAGE_LIST, list.get(), 3 * PAGE_SIZE, 9);
    let message = guest.message(Command::REGISTER_SHM, 0, &[param]);
    for _ in 0..if cfg!(miri) { 20 } else { 20_000 } {
        guest.begin(message);
    }
    assert_eq!(vm.baseline(), before);
    assert_eq!(guest.read_message(message).header.ret.get(), BAD);
    // Nothing but the result was written.
    assert_eq!(guest.read_message(message).params[0], param);
    let mut session = [0; 4];
    vm.host.peek(
        message.checked_add(SESSION_OFFSET as u64).unwrap(),
        &mut session,
    );
    assert_eq!(session, [0; 4]);
    vm.end();
}
