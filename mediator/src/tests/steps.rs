// SPDX-License-Identifier: Apache-2.0 OR MIT
//! However many pages a buffer has, no entry of the mediator's unpins many of them: the guest runs in between, or
//! the hypervisor does something else.

use super::{Vm, vm};
use crate::call::IMPORT_STEP;
use crate::fake::{Machine, Step};
use crate::memory::pin::UNPIN_STEP;
use crate::memory::{Cookie, GuestCookie, Provenance};
use crate::{Config, Progress};
use optee_proto::msg::{Attr, Command, Param};
use optee_proto::{Return, TeeResult};

/// Many steps, or under Miri some.
const MANY: u64 = if cfg!(miri) { 300 } else { 7000 };
/// What the guest gets when it is to come back.
const COME_BACK: u64 = 0xffff_0004;

/// A VM with room for many pages.
fn large(config: Config) -> Vm {
    Vm::with_pages(&Machine::new(), 1, config, MANY + 100)
}

/// A call to its end: no entry unpins more than it may. Its answer, and how often it came back.
fn to_its_end(vm: &Vm, mut answer: [u64; 4]) -> ([u64; 4], u32) {
    let machine = vm.host.machine();
    let mut times = 0;
    while answer[0] == COME_BACK {
        let before = machine.pins();
        answer = vm.guest().resume(answer[3], [0; 4]);
        // Or it takes pages in still.
        let unpinned = before.saturating_sub(machine.pins());
        assert!(unpinned <= UNPIN_STEP as u64, "{unpinned} at once");
        times += 1;
    }
    (answer, times)
}

/// Registers a buffer of this many pages, or begins to. Returns the answer, and the message.
fn register(vm: &Vm, pages: u64, last: Option<u64>) -> ([u64; 4], crate::addr::Ipa) {
    let guest = vm.guest();
    let first = guest.alloc(pages);
    let mut list: alloc::vec::Vec<_> = (0..pages)
        .map(|page| crate::addr::Ipa::new(first.get() + page * 4096))
        .collect();
    if let Some(last) = last {
        *list.last_mut().unwrap() = crate::addr::Ipa::new(last);
    }
    let at = guest.page_list(&list);
    let param = Param::new(Attr::PAGE_LIST, at.get(), pages * 4096, 0x77);
    let message = guest.message(Command::REGISTER_SHM, 0, &[param]);
    (guest.begin(message), message)
}

fn unregister(vm: &Vm) -> [u64; 4] {
    let param = Param::new(Attr::RMEM_INPUT, 0, 0, 0x77);
    let guest = vm.guest();
    guest.begin(guest.message(Command::UNREGISTER_SHM, 0, &[param]))
}

fn ended(vm: &Vm) {
    let machine = vm.host.machine();
    loop {
        let before = machine.pins();
        let progress = vm.mediator.destroy_step(&vm.host).unwrap();
        assert!(before - machine.pins() <= UNPIN_STEP as u64);
        if progress == Progress::Done {
            break;
        }
    }
    assert_eq!((machine.pins(), machine.shared_pages()), (0, 0));
    assert_eq!(machine.violations(), [""; 0]);
}

#[test]
fn a_large_buffer_is_unregistered_in_steps() {
    let mut config = Config::default();
    config.quotas.pages = MANY as u32;
    let vm = large(config);
    let guest = vm.guest();
    let machine = vm.host.machine();
    let (answer, message) = register(&vm, MANY, None);
    assert_eq!(to_its_end(&vm, answer).0[0], Return::OK.get());
    assert_eq!(guest.read_message(message).header.ret.get(), 0);
    assert_eq!((machine.pins(), machine.registered(1)), (MANY, 1));

    let mut answer = unregister(&vm);
    // OP-TEE has let go of all of it.
    assert_eq!((answer[0], machine.registered(1)), (COME_BACK, 0));
    while answer[0] == COME_BACK {
        // What is pinned counts, and nothing can be registered in its place.
        assert!(machine.pins() > 0);
        assert_eq!(vm.stats().pages_pinned, MANY);
        assert_eq!(guest.register(1).1, TeeResult::OUT_OF_MEMORY.0);
        answer = guest.resume(answer[3], [0; 4]);
    }
    assert_eq!(answer[0], Return::OK.get());
    assert_eq!((machine.pins(), vm.stats().pages_pinned), (0, 0));
    assert_eq!(guest.register(1).1, 0);
    vm.end();
}

#[test]
fn a_large_buffer_that_optee_refuses_is_released_in_steps() {
    let vm = large(Config::default());
    vm.host
        .machine()
        .script(1, [Step::Result(TeeResult::OUT_OF_MEMORY)]);
    let (answer, message) = register(&vm, MANY, None);
    let (answer, times) = to_its_end(&vm, answer);
    assert_eq!(answer[0], Return::OK.get());
    let least = MANY / IMPORT_STEP as u64 + MANY / UNPIN_STEP as u64;
    assert!(u64::from(times) >= least, "{times}");
    let result = vm.guest().read_message(message).header.ret.get();
    assert_eq!(result, TeeResult::OUT_OF_MEMORY.0);
    assert_eq!((vm.host.machine().pins(), vm.stats().buffers), (0, 0));
    vm.end();
}

#[test]
fn long_page_list_with_bad_end_is_released_in_steps() {
    let vm = large(Config::default());
    let (answer, message) = register(&vm, MANY, Some(0x10_0000_0000));
    assert_eq!(to_its_end(&vm, answer).0[0], Return::OK.get());
    let result = vm.guest().read_message(message).header.ret.get();
    assert_eq!(result, TeeResult::BAD_PARAMETERS.0);
    assert_eq!(vm.host.machine().pins(), 0);
    assert_eq!(vm.stats().pages_pinned, 0);
    vm.end();
}

/// The VM ends while a list is taken in, while a buffer is released, and with a large one registered.
#[test]
fn a_vm_with_large_buffers_ends_in_steps() {
    let vm = large(Config::default());
    let (mut answer, _) = register(&vm, MANY, None);
    while vm.host.machine().pins() < MANY - IMPORT_STEP as u64 {
        answer = vm.guest().resume(answer[3], [0; 4]);
    }
    assert_eq!(answer[0], COME_BACK);
    ended(&vm);

    for released in [false, true] {
        let vm = large(Config::default());
        let (answer, _) = register(&vm, MANY, None);
        to_its_end(&vm, answer);
        if released {
            assert_eq!(unregister(&vm)[0], COME_BACK);
            assert!(vm.host.machine().pins() > 0);
        }
        ended(&vm);
    }
}

/// The VM's state of a VM with many buffers go in steps, too, whatever the guest calls them.
#[test]
fn a_vm_with_many_buffers_ends_in_steps() {
    let vm = vm();
    let guest = vm.guest();
    for _ in 0..100 {
        assert_eq!(guest.register(1).1, 0);
    }
    let machine = vm.host.machine();
    let mut most = 0;
    loop {
        let before = machine.pins();
        let progress = vm.mediator.destroy_step(&vm.host).unwrap();
        most = most.max(before - machine.pins());
        if progress == Progress::Done {
            break;
        }
    }
    assert!(most <= 40, "{most} buffers at once");
    vm.end_after_destroy();
}

/// Buffers that have gone leave empty entries in the VM's state, of which no step takes any number.
#[test]
fn vm_after_many_buffers_ends_in_steps() {
    let entries = 2 * UNPIN_STEP as u32 + 1;
    let mut config = Config::default();
    config.quotas.buffers = entries;
    let vm = Vm::bare(&Machine::new(), 1, config);
    {
        let mut state = vm.mediator.state.lock();
        let mut reserve = |name: u32| {
            let name = GuestCookie(name.into());
            let reserved = state.reserve(name, Provenance::Registered, 1, 0, 1);
            reserved.unwrap()
        };
        let cookies: alloc::vec::Vec<Cookie> = (0..entries).map(&mut reserve).collect();
        for cookie in cookies {
            let (_, release) = state.remove(cookie).unwrap();
            state.released(release.count);
        }
    }
    let mut steps = 0;
    while vm.mediator.destroy_step(&vm.host).unwrap() != Progress::Done {
        steps += u32::from(!vm.host.machine().knows(1));
    }
    // VM_DESTROYED is the first of them.
    assert!(steps > 2, "{steps} steps");
    vm.end_after_destroy();
}

/// OP-TEE asks for large buffers and gives each back at once, again and again: it must not get more of them than can be
/// unpinned meanwhile, and is made to wait for that.
#[test]
fn large_buffers_that_optee_gives_back_are_released_in_steps() {
    let pages = MANY * 5 / 7;
    let mut config = Config::default();
    config.quotas.mapped_pages = pages as u32;
    let vm = large(config);
    let guest = vm.guest();
    let machine = vm.host.machine();
    let steps = (0..15).flat_map(|number| {
        let size = pages * 4096;
        [Step::ShmAlloc(0, size), Step::ShmFree(0, number)]
    });
    machine.script(1, steps);
    let first = guest.alloc(pages);
    let all: alloc::vec::Vec<_> = (0..pages)
        .map(|page| crate::addr::Ipa::new(first.get() + page * 4096))
        .collect();
    let list = guest.page_list(&all);
    let message = guest.message(Command::INVOKE, crate::tests::SESSION, &[]);
    let memory = guest.alloc(1);
    let cookie = crate::fake::Guest::cookie(memory);
    let ((a1, a2), (a4, a5)) = (
        optee_proto::smc::pair(memory.get()),
        optee_proto::smc::pair(cookie),
    );
    let mut answer = guest.begin(message);
    while answer[0] != Return::OK.get() {
        let mut back = [0; 4];
        match answer[0] {
            COME_BACK => {}
            0xffff_0000 => back = [a1, a2, a4, a5],
            0xffff_0002 => {}
            _ => {
                let request = guest.read_message(memory);
                let is_alloc = request.command() == optee_proto::rpc::Command::SHM_ALLOC;
                let param = Param::new(Attr::PAGE_LIST, list.get(), pages * 4096, 0x77);
                let params = [if is_alloc { param } else { request.params[0] }];
                guest.reply(&request, 0, &params);
            }
        }
        let before = machine.pins();
        answer = guest.resume(answer[3], back);
        let unpinned = before.saturating_sub(machine.pins());
        assert!(unpinned <= UNPIN_STEP as u64, "{unpinned} at once");
    }
    let given = machine.outcomes(1).pop().unwrap().allocated;
    assert_eq!(given.iter().flatten().count(), 15);
    assert_eq!((machine.pins(), vm.stats().pages_pinned), (0, 0));
    vm.end();
}

/// The guest cannot be told what is freed, so OP-TEE would go on at once.
#[test]
fn allocation_freed_without_the_guest_is_released_in_steps() {
    let pages = MANY * 5 / 7;
    let mut config = Config::default();
    config.quotas.mapped_pages = pages as u32;
    let vm = large(config);
    let guest = vm.guest();
    let machine = vm.host.machine();
    let size = pages * 4096;
    machine.script(1, [Step::ShmAlloc(0, size), Step::ShmFree(0, 0)]);
    let first = guest.alloc(pages);
    let all: alloc::vec::Vec<_> = (0..pages)
        .map(|page| crate::addr::Ipa::new(first.get() + page * 4096))
        .collect();
    let list = guest.page_list(&all);
    let memory = guest.alloc(1);
    let cookie = crate::fake::Guest::cookie(memory);
    let ((a1, a2), (a4, a5)) = (
        optee_proto::smc::pair(memory.get()),
        optee_proto::smc::pair(cookie),
    );
    let message = guest.message(Command::INVOKE, crate::tests::SESSION, &[]);
    let asked = guest.begin(message);
    let mut answer = guest.resume(asked[3], [a1, a2, a4, a5]);
    let request = guest.read_message(memory);
    let param = Param::new(Attr::PAGE_LIST, list.get(), size, 0x77);
    guest.reply(&request, 0, &[param]);
    let mut most = 0;
    let mut times = 0;
    answer = guest.resume(answer[3], [0; 4]);
    vm.host.unmap(memory);
    while answer[0] == COME_BACK {
        let before = machine.pins();
        answer = guest.resume(answer[3], [0; 4]);
        most = most.max(before.saturating_sub(machine.pins()));
        times += 1;
    }
    assert!(most <= UNPIN_STEP as u64, "{most} at once");
    assert!(times as u64 >= pages / UNPIN_STEP as u64, "{times}");
    // FREE of the memory that the request was in, and then the call's end.
    assert_eq!((answer[0], machine.pins()), (0xffff_0002, 0));
    assert_eq!(guest.resume(answer[3], [0; 4])[0], Return::OK.get());
    vm.end();
}
