// SPDX-License-Identifier: Apache-2.0 OR MIT
//! RPCs that allocate and free.

use super::{BAD, SESSION, Vm, value, vm};
use crate::addr::{Ipa, PAGE_SIZE};
use crate::fake::{Guest, Machine, Request, Step};
use crate::{Config, RpcKind};
use alloc::vec;
use alloc::vec::Vec;
use optee_proto::msg::{Attr, Command, Param};
use optee_proto::rpc::{self, Function, SHM_TYPE_APPL, SHM_TYPE_KERNEL};
use optee_proto::smc;

#[test]
fn buffers_are_allocated_used_and_freed() {
    let vm = vm();
    vm.host.machine().script(
        1,
        [
            Step::ShmAllocInterrupted(SHM_TYPE_APPL, 3 * PAGE_SIZE + 1),
            Step::ForeignInterrupt,
            Step::ShmAlloc(SHM_TYPE_APPL, 10),
            Step::Command(
                rpc::Command::LOAD_TA,
                vec![
                    value(Attr::VALUE_INPUT),
                    Param::new(Attr::RMEM_OUTPUT, 8, 100, 0),
                ],
            ),
            Step::ShmFree(SHM_TYPE_APPL, 0),
            Step::ShmFree(SHM_TYPE_APPL, 1),
        ],
    );
    let guest = vm.guest();
    let before = vm.baseline();
    let shared = vm.host.machine().shared_pages();
    guest.run(guest.message(Command::INVOKE, SESSION, &[]));
    let seen = vm.host.machine().outcomes(1).pop().unwrap();
    assert_eq!(seen.allocated[0].as_ref().map(Vec::len), Some(4));
    assert_eq!(seen.allocated[1].as_ref().map(Vec::len), Some(1));
    // The guest saw its own names, in order.
    let requests = guest.requests.lock();
    let commands: Vec<u32> = requests
        .iter()
        .map(|request| request.header.cmd.get())
        .collect();
    assert_eq!(commands, [6, 6, 0, 7, 7]);
    let load = &requests[2];
    assert_eq!(load.params[1].attr(), Attr::RMEM_OUTPUT);
    assert_eq!(load.params[1].c, requests[3].params[0].b);
    assert_ne!(requests[3].params[0].b, requests[4].params[0].b);
    assert_eq!(seen.replies[2].1[1].b.get(), 101);
    assert_eq!(vm.baseline(), before);
    let stats = vm.stats();
    assert_eq!((stats.pages_pinned_max, stats.buffers_max), (5, 2));
    assert_eq!(
        (stats.rpc(RpcKind::ShmAlloc), stats.rpc(RpcKind::ShmFree)),
        (2, 2)
    );
    assert!(vm.host.machine().shared_pages() <= shared + crate::pages::SPARE_PAGES);
    vm.end();
}

/// Pages are unpinned and the name is free before the guest hears of SHM_FREE or FREE.
#[test]
fn freed_memory_is_forgotten_before_the_guest_is_told() {
    let vm = vm();
    let steps = [
        Step::ShmAlloc(SHM_TYPE_APPL, 10),
        Step::ShmFree(SHM_TYPE_APPL, 0),
        Step::ShmAlloc(SHM_TYPE_APPL, 10),
        Step::ShmFree(SHM_TYPE_APPL, 1),
    ];
    vm.host.machine().script(1, steps);
    let guest = vm.guest();
    let memory = guest.alloc(1);
    let list = guest.page_list(&[memory]);
    let mut pinned = vec![];
    guest.run_with(
        guest.message(Command::INVOKE, SESSION, &[]),
        |guest, request| {
            pinned.push(vm.host.machine().pins());
            if request.command() != rpc::Command::SHM_ALLOC {
                return false;
            }
            // The same memory under the same name each time.
            let param = Param::new(Attr::PAGE_LIST, list.get(), PAGE_SIZE, 0x4711);
            guest.reply(request, 0, &[param]);
            true
        },
    );
    assert_eq!(pinned, [0, 0, 0, 0]);
    let seen = vm.host.machine().outcomes(1).pop().unwrap();
    assert!(seen.allocated.iter().all(Option::is_some));
    assert_eq!(guest.freed.lock().len(), 1);
    vm.end();
}

/// Answers SHM_ALLOC by `param`, everything else as Linux does. What OP-TEE got, and what the
/// guest was asked.
fn allocate(vm: &Vm, wanted: u64, param: impl Fn(&Guest<'_>) -> Param) -> (bool, Vec<Request>) {
    let steps = [
        Step::ShmAlloc(SHM_TYPE_KERNEL, wanted),
        Step::ShmFree(SHM_TYPE_KERNEL, 0),
    ];
    vm.host.machine().script(1, steps);
    let guest = vm.guest();
    guest.run_with(
        guest.message(Command::INVOKE, SESSION, &[]),
        |guest, request| {
            if request.command() != rpc::Command::SHM_ALLOC {
                return false;
            }
            guest.reply(request, 0, &[param(guest)]);
            true
        },
    );
    let seen = vm.host.machine().outcomes(1).pop().unwrap();
    let requests = guest.requests.lock().clone();
    (seen.allocated[0].is_some(), requests)
}

#[test]
fn one_contiguous_page_is_translated_two_are_not() {
    let vm = vm();
    let before = vm.baseline();
    let contiguous = |size| {
        move |guest: &Guest<'_>| {
            let at = guest.alloc(2);
            Param::new(Attr::TMEM_OUTPUT, at.get(), size, Guest::cookie(at))
        }
    };
    let (got, requests) = allocate(&vm, 100, contiguous(PAGE_SIZE));
    assert!(got);
    assert_eq!(requests.len(), 2);
    let (got, requests) = allocate(&vm, 100, contiguous(2 * PAGE_SIZE));
    assert!(!got);
    // The mediator has it freed; OP-TEE's own SHM_FREE, of nothing, is not shown.
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].command(), rpc::Command::SHM_FREE);
    assert_eq!(requests[1].params[0].a.get(), SHM_TYPE_KERNEL);
    assert_eq!(requests[1].params[0].b.get() >> 48, 0xffff);
    assert_eq!(vm.baseline(), before);
    vm.end();
}

#[test]
fn useless_allocations_are_freed() {
    let vm = vm();
    let before = vm.baseline();
    let ram = |guest: &Guest<'_>, entry: Ipa| {
        let at = guest.alloc(1);
        guest.page_list(&[at, entry])
    };
    let list = |entry: Ipa| {
        move |guest: &Guest<'_>| {
            Param::new(
                Attr::PAGE_LIST,
                ram(guest, entry).get(),
                2 * PAGE_SIZE,
                0x77,
            )
        }
    };
    type Answer<'a> = &'a dyn Fn(&Guest<'_>) -> Param;
    let answers: [(u64, Answer<'_>); 8] = [
        // Smaller than asked for.
        (PAGE_SIZE + 1, &|guest| {
            Param::new(
                Attr::PAGE_LIST,
                guest.page_list(&[guest.alloc(1)]).get(),
                PAGE_SIZE,
                0x77,
            )
        }),
        (0, &|guest| {
            Param::new(Attr::PAGE_LIST, guest.alloc(1).get(), 0, 0x77)
        }),
        // Not the guest's.
        (10, &list(Ipa::new(0x0900_0000))),
        (10, &list(Ipa::new(0x4020_0000))),
        (10, &list(Ipa::new(crate::fake::RAM_BASE + 8))),
        (10, &|_| {
            Param::new(Attr::PAGE_LIST, 0x0900_0000, PAGE_SIZE, 0x77)
        }),
        // More than there can be.
        (10, &|guest| {
            Param::new(Attr::PAGE_LIST, guest.alloc(1).get(), u64::MAX, 0x77)
        }),
        (10, &|guest| {
            Param::new(Attr::PAGE_LIST, guest.alloc(1).get(), 1 << 44, 0x77)
        }),
    ];
    for (number, (wanted, answer)) in answers.into_iter().enumerate() {
        let (got, requests) = allocate(&vm, wanted, answer);
        assert!(!got, "{number}");
        assert_eq!(requests.len(), 2, "{number}");
        assert_eq!(requests[1].command(), rpc::Command::SHM_FREE, "{number}");
        assert_eq!(requests[1].params[0].b.get(), 0x77, "{number}");
        assert_eq!(vm.baseline(), before, "{number}");
    }
    vm.end();
}

/// What OP-TEE asks for counts against the VM's quotas, and what is too much is freed again.
#[test]
fn allocations_over_the_quota_are_freed() {
    let mut config = Config::default();
    (config.quotas.buffers, config.quotas.pages) = (2, 5);
    let vm = Vm::new(&Machine::new(), 1, config);
    let guest = vm.guest();
    // Apart from all other memory.
    guest.alloc(200);
    assert_eq!(guest.register(2).1, 0);
    let answer = |pages: u64| {
        move |guest: &Guest<'_>| {
            let list = guest.page_list(&vec![guest.alloc(1); pages as usize]);
            Param::new(Attr::PAGE_LIST, list.get(), pages * PAGE_SIZE, 0x77)
        }
    };
    let (got, requests) = allocate(&vm, 10, answer(3));
    assert!(got);
    assert_eq!(requests.len(), 2);
    let (got, requests) = allocate(&vm, 10, answer(4));
    assert!(!got);
    assert_eq!(requests[1].command(), rpc::Command::SHM_FREE);
    assert_eq!(requests[1].params[0].b.get(), 0x77);
    assert_eq!(guest.register(1).1, 0);
    let (got, requests) = allocate(&vm, 10, answer(1));
    assert!(!got);
    assert_eq!(requests[1].params[0].b.get(), 0x77);
    assert_eq!(vm.stats().denied, 2);
    assert_eq!((vm.stats().buffers, vm.stats().pages_pinned), (2, 3));
    vm.end();
}

/// Command, attributes and counts in the guest's copy are not what decides.
#[test]
fn answer_cannot_change_the_request() {
    let vm = vm();
    let before = vm.baseline();
    let secret = 0x28_6000_0000;
    for attr in [
        Attr::VALUE_OUTPUT,
        Attr::RMEM_OUTPUT,
        Attr::TMEM_INPUT,
        Attr::TMEM_INOUT,
    ] {
        let (got, requests) = allocate(&vm, 10, |_| Param::new(attr, secret, 4096, 0x77));
        assert!(!got && requests.len() == 1);
    }
    // The allocation is answered as if it had been another command, with a raw address.
    vm.host
        .machine()
        .script(1, [Step::ShmAlloc(SHM_TYPE_APPL, 10)]);
    let guest = vm.guest();
    guest.run_with(
        guest.message(Command::INVOKE, SESSION, &[]),
        |guest, request| {
            let param = Param::new(Attr::PAGE_LIST, secret, PAGE_SIZE, 0x77);
            let mut changed = request.clone();
            changed.header.cmd = rpc::Command::GET_TIME.0.into();
            changed.header.num_params = 4.into();
            guest.reply(&changed, 0, &[param]);
            true
        },
    );
    let seen = vm.host.machine().outcomes(1).pop().unwrap();
    assert_eq!(seen.allocated, [None]);
    // And a time as if it had been an allocation.
    let guest = vm.guest();
    vm.host.machine().script(
        1,
        [Step::Command(
            rpc::Command::GET_TIME,
            vec![value(Attr::VALUE_OUTPUT)],
        )],
    );
    guest.run_with(
        guest.message(Command::INVOKE, SESSION, &[]),
        |guest, request| {
            let mut changed = request.clone();
            changed.header.cmd = rpc::Command::SHM_ALLOC.0.into();
            guest.reply(&changed, 0, &[Param::new(Attr::PAGE_LIST, 1, 2, 3)]);
            true
        },
    );
    let seen = vm.host.machine().outcomes(1).pop().unwrap();
    assert_eq!(seen.replies[0].1, [Param::new(Attr::VALUE_OUTPUT, 1, 2, 3)]);
    assert_eq!(seen.replies[0].0.cmd.get(), 3);
    assert_eq!(vm.baseline(), before);
    vm.end();
}

/// A name that something else has already, as a supplicant answers that has registered its memory first: it is
/// memory like any other, and it is freed under that name.
#[test]
fn allocation_may_reuse_a_cookie_in_use() {
    let vm = vm();
    let before = vm.baseline();
    let steps = [
        Step::ShmAlloc(0, 10),
        Step::ShmAlloc(0, 10),
        Step::ShmFree(0, 0),
        Step::ShmFree(0, 1),
    ];
    let guest = vm.guest();
    let (name, _) = guest.register(1);
    vm.host.machine().script(1, steps);
    let list = guest.page_list(&[guest.alloc(1)]);
    guest.run_with(
        guest.message(Command::INVOKE, SESSION, &[]),
        |guest, request| {
            let allocate = request.command() == rpc::Command::SHM_ALLOC;
            if allocate {
                let param = Param::new(Attr::PAGE_LIST, list.get(), PAGE_SIZE, name);
                guest.reply(request, 0, &[param]);
            }
            allocate
        },
    );
    let seen = vm.host.machine().outcomes(1).pop().unwrap();
    assert!(seen.allocated.iter().all(Option::is_some));
    let requests = guest.requests.lock();
    let commands: Vec<u32> = requests.iter().map(|r| r.header.cmd.get()).collect();
    assert_eq!(commands, [6, 6, 7, 7]);
    assert!(requests[2..].iter().all(|r| r.params[0].b.get() == name));
    drop(requests);
    // The guest's calls still mean what it registered.
    let memory = Param::new(Attr::RMEM_INPUT, 0, 10, name);
    let done = guest.run(guest.message(Command::INVOKE, SESSION, &[memory]));
    assert_eq!(done.header.ret.get(), 0);
    assert_eq!(guest.unregister(name), 0);
    assert_eq!(guest.unregister(name), BAD);
    assert_eq!(vm.baseline(), before);
    vm.end();
}

/// Bad answers to ALLOC: OP-TEE gets nothing, the guest gets back what it gave.
#[test]
fn bad_rpc_memory_is_freed_by_the_guest() {
    let vm = vm();
    let before = vm.baseline();
    let guest = vm.guest();
    let page = guest.alloc(1).get();
    for (at, cookie, given_back) in [
        (0, 0, false),
        (page, 0, false),
        (page + 8, 5, true),
        (0x0900_0000, 5, true),
        (0x28_6000_0000, 5, true),
        (u64::MAX - 0xfff, 5, true),
    ] {
        vm.host
            .machine()
            .script(1, [Step::Command(rpc::Command::FS, vec![])]);
        let regs = guest.begin(guest.message(Command::INVOKE, SESSION, &[]));
        assert_eq!(regs[..3], [Function::ALLOC.a0(), 160, 0]);
        let ((a1, a2), (a4, a5)) = (smc::pair(at), smc::pair(cookie));
        let regs = guest.resume(regs[3], [a1, a2, a4, a5]);
        if given_back {
            assert_eq!(regs[..3], [Function::FREE.a0(), 0, 5], "{at:#x}");
            assert_eq!(vm.stats().rpc_buffers, 0, "{at:#x}");
            assert_eq!(guest.resume(regs[3], [0; 4])[0], 0);
        } else {
            assert_eq!(regs[0], 0, "{at:#x}");
        }
        // Without memory OP-TEE does not even ask.
        let seen = vm.host.machine().outcomes(1).pop().unwrap();
        assert!(seen.replies.is_empty(), "{at:#x}");
        assert_eq!(vm.baseline(), before);
    }
    vm.end();
}

#[test]
fn rpc_memory_has_a_quota() {
    let mut config = Config::default();
    config.quotas.rpc_buffers = 1;
    let vm = Vm::new(&Machine::new(), 1, config);
    let guest = vm.guest();
    let message = |steps: Vec<Step>| {
        vm.host.machine().script(1, steps);
        guest.begin(guest.message(Command::INVOKE, SESSION, &[]))
    };
    let command = || Step::Command(rpc::Command::FS, vec![]);
    let first = message(vec![command()]);
    let ((a1, a2), second) = (smc::pair(guest.alloc(1).get()), message(vec![command()]));
    let first = guest.resume(first[3], [a1, a2, 0, 5]);
    assert_eq!(first[..3], [Function::CMD.a0(), 0, 5]);
    let second = guest.resume(second[3], [a1, a2, 0, 6]);
    assert_eq!(second[..3], [Function::FREE.a0(), 0, 6]);
    assert_eq!(guest.resume(second[3], [0; 4])[0], 0);
    let regs = guest.resume(first[3], [0; 4]);
    assert_eq!(regs[..3], [Function::FREE.a0(), 0, 5]);
    assert_eq!(guest.resume(regs[3], [0; 4])[0], 0);
    vm.end();
}

/// A kernel that another one has started does not know what that has given to OP-TEE.
#[test]
fn rpc_memory_may_reuse_a_cookie_in_use() {
    let vm = vm();
    let guest = vm.guest();
    let steps = || vec![Step::Command(rpc::Command::FS, vec![])];
    for _ in 0..2 {
        vm.host.machine().script(1, steps());
    }
    let begin = || guest.begin(guest.message(Command::INVOKE, SESSION, &[]));
    let asked = [begin(), begin()];
    let at = [guest.alloc(1), guest.alloc(1)];
    for (regs, at) in asked.into_iter().zip(at) {
        let (a1, a2) = smc::pair(at.get());
        let regs = guest.resume(regs[3], [a1, a2, 0, 5]);
        assert_eq!(regs[..3], [Function::CMD.a0(), 0, 5]);
        // Each request is where the guest has given memory for it.
        assert_eq!(guest.read_message(at).command(), rpc::Command::FS);
        let regs = guest.resume(regs[3], [0; 4]);
        assert_eq!(regs[..3], [Function::FREE.a0(), 0, 5]);
        assert_eq!(guest.resume(regs[3], [0; 4])[0], 0);
    }
    vm.end();
}

/// OP-TEE asks for FREE before it unmaps the page, so nothing else may be in it yet.
#[test]
fn freed_rpc_page_is_not_reused_before_optee_unmaps_it() {
    let vm = vm();
    let guest = vm.guest();
    let command = || Step::Command(rpc::Command::FS, vec![]);
    let allocate = |regs: [u64; 4]| {
        let at = guest.alloc(1);
        let ((a1, a2), (a4, a5)) = (smc::pair(at.get()), smc::pair(Guest::cookie(at)));
        guest.resume(regs[3], [a1, a2, a4, a5])
    };
    vm.host
        .machine()
        .script(1, [command(), Step::FreeRpc, Step::ForeignInterrupt]);
    let first = allocate(guest.begin(guest.message(Command::INVOKE, SESSION, &[])));
    let freeing = guest.resume(first[3], [0; 4]);
    assert_eq!(freeing[0], Function::FREE.a0());
    vm.host.machine().script(1, [command()]);
    let second = allocate(guest.begin(guest.message(Command::INVOKE, SESSION, &[])));
    assert_eq!(second[0], Function::CMD.a0());
    vm.end();
}

/// SHM_FREE of what was never allocated is OP-TEE's mistake: it frees nothing.
#[test]
fn only_what_was_allocated_is_freed() {
    let vm = vm();
    let guest = vm.guest();
    let (cookie, result) = guest.register(2);
    assert_eq!(result, 0);
    let ours = vm.host.machine().outcomes(1).pop().unwrap().params[0]
        .c
        .get();
    let free = |cookie| {
        let param = Param::new(Attr::VALUE_INPUT, SHM_TYPE_APPL, cookie, 0);
        Step::Command(rpc::Command::SHM_FREE, vec![param])
    };
    vm.host
        .machine()
        .script(1, [free(ours), free(0), free(ours + 1), free(77)]);
    guest.run(guest.message(Command::INVOKE, SESSION, &[]));
    let seen = vm.host.machine().outcomes(1).pop().unwrap();
    for (header, _) in &seen.replies {
        assert_eq!(header.ret.get(), optee_proto::TeeResult::ITEM_NOT_FOUND.0);
    }
    assert_eq!(seen.replies.len(), 4);
    assert_eq!(
        (guest.requests.lock().len(), vm.host.machine().pins()),
        (0, 2)
    );
    let memory = Param::new(Attr::RMEM_INPUT, 0, 1, cookie);
    assert_eq!(
        guest
            .run(guest.message(Command::INVOKE, SESSION, &[memory]))
            .header
            .ret
            .get(),
        0
    );
    vm.end();
}
