//! RPCs: what OP-TEE asks for, and what guests answer.

use super::{Vm, vm};
use crate::addr::{Ipa, PAGE_SIZE};
use crate::fake::{Guest, Machine, Request, Step};
use crate::{Config, RpcKind};
use alloc::vec;
use alloc::vec::Vec;
use optee_proto::msg::{Attr, Command, Param};
use optee_proto::rpc::{self, Function, SHM_TYPE_APPL, SHM_TYPE_KERNEL};
use optee_proto::{Return, TeeResult, smc};

fn value(attr: Attr) -> Param {
    Param::new(attr, 0x11, 0x22, 0x33)
}

fn invoke(vm: &Vm, steps: impl IntoIterator<Item = Step>) -> crate::fake::Outcome {
    vm.host.machine().script(1, steps);
    let guest = vm.guest();
    guest.run(guest.message(Command::INVOKE, 1, &[]));
    vm.host.machine().outcomes(1).pop().unwrap()
}

#[test]
fn commands_pass_and_only_outputs_come_back() {
    let vm = vm();
    let params = vec![
        value(Attr::VALUE_INPUT),
        value(Attr::VALUE_OUTPUT),
        value(Attr::VALUE_INOUT),
        Param::new(Attr::TMEM_OUTPUT, 0, 5, 0),
    ];
    let passed = [0, 2, 3, 4, 5, 9, 10, 11, 12].map(rpc::Command);
    for command in passed {
        let seen = invoke(&vm, [Step::Command(command, params.clone())]);
        let (header, after) = &seen.replies[0];
        assert_eq!(header.ret.get(), 0, "{command:?}");
        assert_eq!(after[0], params[0]);
        assert_eq!(after[1], Param::new(Attr::VALUE_OUTPUT, 0x12, 0x23, 0x34));
        assert_eq!(after[2], Param::new(Attr::VALUE_INOUT, 0x12, 0x23, 0x34));
        assert_eq!(after[3], Param::new(Attr::TMEM_OUTPUT, 0, 6, 0));
    }
    let stats = vm.stats();
    assert_eq!(stats.rpc.iter().sum::<u64>(), 3 * passed.len() as u64);
    assert_eq!(stats.rpc(RpcKind::Alloc), passed.len() as u64);
    assert_eq!(
        (stats.rpc(RpcKind::LoadTa), stats.rpc(RpcKind::Other)),
        (1, 0)
    );
    assert_eq!(stats.denied, 0);
    vm.end();
}

#[test]
fn other_commands_are_answered_without_the_guest() {
    let vm = vm();
    for (command, result) in [
        (1, TeeResult::ITEM_NOT_FOUND),
        (8, TeeResult::NOT_IMPLEMENTED),
        (13, TeeResult::NOT_IMPLEMENTED),
        (20, TeeResult::NOT_IMPLEMENTED),
        (21, TeeResult::NOT_SUPPORTED),
        (22, TeeResult::ITEM_NOT_FOUND),
        (23, TeeResult::ITEM_NOT_FOUND),
        (24, TeeResult::ITEM_NOT_FOUND),
        (25, TeeResult::NOT_IMPLEMENTED),
        (u32::MAX, TeeResult::NOT_IMPLEMENTED),
    ] {
        vm.host
            .machine()
            .script(1, [Step::Command(rpc::Command(command), vec![])]);
        let guest = vm.guest();
        guest.run(guest.message(Command::INVOKE, 1, &[]));
        assert_eq!(guest.requests.lock().len(), 0, "{command}");
        let seen = vm.host.machine().outcomes(1).pop().unwrap();
        assert_eq!(seen.replies[0].0.ret.get(), result.0, "{command}");
    }
    // What the TEE may not ask: memory by address, flags, more than four parameters.
    for param in [
        Param::new(Attr::TMEM_INPUT, 0x4200_0000, 8, 0),
        Param::new(Attr::PAGE_LIST, 0, 8, 0),
        Param::new(Attr::META_VALUE_INPUT, 0, 8, 0),
        Param::new(Attr::RMEM_INPUT, 0, 8, 0),
        Param::new(Attr::RMEM_INPUT, 0, 8, 0xffff),
    ] {
        let seen = invoke(&vm, [Step::Command(rpc::Command::FS, vec![param])]);
        assert_ne!(seen.replies[0].0.ret.get(), 0, "{param:?}");
    }
    vm.end();
}

#[test]
fn devices_reach_their_owner() {
    let mut config = Config::default();
    (config.policy.rpmb, config.policy.i2c) = (true, true);
    let vm = Vm::new(&Machine::new(), 1, config);
    for command in [1, 21, 22, 23, 24] {
        let seen = invoke(&vm, [Step::Command(rpc::Command(command), vec![])]);
        assert_eq!(seen.replies[0].0.ret.get(), 0, "{command}");
    }
    vm.end();
}

#[test]
fn buffers_are_allocated_used_and_freed() {
    let vm = vm();
    vm.host.machine().script(
        1,
        [
            Step::ShmAlloc(SHM_TYPE_APPL, 3 * PAGE_SIZE + 1),
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
    guest.run(guest.message(Command::INVOKE, 1, &[]));
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
fn what_is_freed_is_forgotten_before_the_guest_hears() {
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
    guest.run_with(guest.message(Command::INVOKE, 1, &[]), |guest, request| {
        pinned.push(vm.host.machine().pins());
        if request.command() != rpc::Command::SHM_ALLOC {
            return false;
        }
        // The same memory under the same name each time.
        let param = Param::new(Attr::PAGE_LIST, list.get(), PAGE_SIZE, 0x4711);
        guest.reply(request, 0, &[param]);
        true
    });
    assert_eq!(pinned, [0, 0, 0, 0]);
    let seen = vm.host.machine().outcomes(1).pop().unwrap();
    assert!(seen.allocated.iter().all(Option::is_some));
    assert_eq!(guest.freed.lock().len(), 1);
    vm.end();
}

#[test]
fn the_rpc_cache_keeps_buffers_until_it_is_disabled() {
    let vm = vm();
    let guest = vm.guest();
    assert_eq!(guest.fast(smc::ENABLE_SHM_CACHE)[0], 0);
    for _ in 0..3 {
        vm.host
            .machine()
            .script(1, [Step::Command(rpc::Command::GET_TIME, vec![])]);
        guest.run(guest.message(Command::INVOKE, 1, &[]));
    }
    assert_eq!(vm.stats().rpc(RpcKind::Alloc), 1);
    assert_eq!(vm.stats().rpc_buffers, 1);
    let name = guest.requests.lock()[0].at.get() + 0xffff_8000_0000_0000;
    let (upper, lower) = smc::pair(name);
    assert_eq!(guest.fast(smc::DISABLE_SHM_CACHE), [0, upper, lower, 0]);
    assert_eq!(vm.stats().rpc_buffers, 0);
    assert_eq!(
        guest.fast(smc::DISABLE_SHM_CACHE)[0],
        Return::ENOTAVAIL.get()
    );
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
    guest.run_with(guest.message(Command::INVOKE, 1, &[]), |guest, request| {
        if request.command() != rpc::Command::SHM_ALLOC {
            return false;
        }
        guest.reply(request, 0, &[param(guest)]);
        true
    });
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
fn useless_allocations_are_freed_again() {
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

/// Command, attributes and counts in the guest's copy are not what decides.
#[test]
fn the_question_cannot_be_changed_by_the_answer() {
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
    guest.run_with(guest.message(Command::INVOKE, 1, &[]), |guest, request| {
        let param = Param::new(Attr::PAGE_LIST, secret, PAGE_SIZE, 0x77);
        let mut changed = request.clone();
        changed.header.cmd = rpc::Command::GET_TIME.0.into();
        changed.header.num_params = 4.into();
        guest.reply(&changed, 0, &[param]);
        true
    });
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
    guest.run_with(guest.message(Command::INVOKE, 1, &[]), |guest, request| {
        let mut changed = request.clone();
        changed.header.cmd = rpc::Command::SHM_ALLOC.0.into();
        guest.reply(&changed, 0, &[Param::new(Attr::PAGE_LIST, 1, 2, 3)]);
        true
    });
    let seen = vm.host.machine().outcomes(1).pop().unwrap();
    assert_eq!(seen.replies[0].1, [Param::new(Attr::VALUE_OUTPUT, 1, 2, 3)]);
    assert_eq!(seen.replies[0].0.cmd.get(), 3);
    assert_eq!(vm.baseline(), before);
    vm.end();
}

#[test]
fn a_name_in_use_is_not_freed() {
    let vm = vm();
    let steps = [
        Step::ShmAlloc(0, 10),
        Step::ShmAlloc(0, 10),
        Step::ShmFree(0, 0),
    ];
    vm.host.machine().script(1, steps);
    let guest = vm.guest();
    let list = guest.page_list(&[guest.alloc(1)]);
    guest.run_with(guest.message(Command::INVOKE, 1, &[]), |guest, request| {
        let param = Param::new(Attr::PAGE_LIST, list.get(), PAGE_SIZE, 0x77);
        guest.reply(request, 0, &[param]);
        true
    });
    let seen = vm.host.machine().outcomes(1).pop().unwrap();
    assert!(seen.allocated[0].is_some() && seen.allocated[1].is_none());
    let commands: Vec<u32> = guest
        .requests
        .lock()
        .iter()
        .map(|request| request.header.cmd.get())
        .collect();
    assert_eq!(commands, [6, 6, 7]);
    vm.end();
}

/// Bad answers to ALLOC: OP-TEE gets nothing, the guest gets back what it gave.
#[test]
fn bad_memory_for_rpcs_is_given_back() {
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
        let regs = guest.begin(guest.message(Command::INVOKE, 1, &[]));
        assert_eq!(regs[..3], [Function::ALLOC.a0(), 160, 0]);
        let ((a1, a2), (a4, a5)) = (smc::pair(at), smc::pair(cookie));
        let regs = guest.resume(regs[3], [a1, a2, a4, a5]);
        if given_back {
            assert_eq!(regs[..3], [Function::FREE.a0(), 0, 5], "{at:#x}");
            assert_eq!(guest.resume(regs[3], [0; 4])[0], 0);
        } else {
            assert_eq!(regs[0], 0, "{at:#x}");
        }
        assert_eq!(vm.baseline(), before);
    }
    vm.end();
}

#[test]
fn memory_for_rpcs_has_one_name_and_a_quota() {
    let mut config = Config::default();
    config.quotas.rpc_buffers = 1;
    let vm = Vm::new(&Machine::new(), 1, config);
    let guest = vm.guest();
    let message = |steps: Vec<Step>| {
        vm.host.machine().script(1, steps);
        guest.begin(guest.message(Command::INVOKE, 1, &[]))
    };
    let command = || Step::Command(rpc::Command::FS, vec![]);
    let first = message(vec![command()]);
    let ((a1, a2), second) = (smc::pair(guest.alloc(1).get()), message(vec![command()]));
    let first = guest.resume(first[3], [a1, a2, 0, 5]);
    assert_eq!(first[..3], [Function::CMD.a0(), 0, 5]);
    // The same name again is not given back: it is the other call's.
    let ended = guest.resume(second[3], [a1, a2, 0, 5]);
    assert_eq!(ended[0], 0);
    let second = message(vec![command()]);
    let second = guest.resume(second[3], [a1, a2, 0, 6]);
    assert_eq!(second[..3], [Function::FREE.a0(), 0, 6]);
    assert_eq!(guest.resume(second[3], [0; 4])[0], 0);
    let regs = guest.resume(first[3], [0; 4]);
    assert_eq!(regs[..3], [Function::FREE.a0(), 0, 5]);
    assert_eq!(guest.resume(regs[3], [0; 4])[0], 0);
    vm.end();
}

#[test]
fn a_guest_whose_rpc_memory_went_away_answers_nothing() {
    let vm = vm();
    let before = vm.baseline();
    let guest = vm.guest();
    let command = || Step::Command(rpc::Command::FS, vec![value(Attr::VALUE_OUTPUT)]);
    vm.host.machine().script(1, [command(), command()]);
    let mut gone = Ipa::new(0);
    guest.run_with(guest.message(Command::INVOKE, 1, &[]), |guest, request| {
        guest.answer(request);
        vm.host.unmap(request.at);
        gone = request.at;
        true
    });
    // The first answer could not be read, the second question not even be asked.
    let seen = vm.host.machine().outcomes(1).pop().unwrap();
    let results: Vec<u32> = seen
        .replies
        .iter()
        .map(|(header, _)| header.ret.get())
        .collect();
    assert_eq!(results, [TeeResult::COMMUNICATION.0; 2]);
    assert_eq!(guest.requests.lock().len(), 1);
    assert_eq!(vm.baseline(), before);
    vm.end();
}

#[test]
fn the_answer_is_fetched_once() {
    let vm = vm();
    let guest = vm.guest();
    vm.host.machine().script(
        1,
        [
            Step::Command(rpc::Command::GET_TIME, vec![value(Attr::VALUE_OUTPUT)]),
            Step::ShmAlloc(0, 5000),
            Step::ShmFree(0, 0),
        ],
    );
    guest.run_with(guest.message(Command::INVOKE, 1, &[]), |guest, request| {
        guest.answer(request);
        vm.host
            .machine()
            .scramble(request.command() == rpc::Command::SHM_ALLOC);
        true
    });
    let seen = vm.host.machine().outcomes(1).pop().unwrap();
    assert_eq!(seen.replies[0].1[0].a.get(), 0x12);
    assert_eq!(seen.allocated[0].as_ref().map(Vec::len), Some(2));
    vm.end();
}

/// OP-TEE breaks the protocol: that call is lost, nothing else.
#[test]
fn a_broken_tee_loses_the_call_and_nothing_else() {
    let cmd = Function::CMD.a0();
    let raw = |a0, a1, a2| Step::Raw([a0, a1, a2], None);
    let scripts: [Vec<Step>; 8] = [
        vec![raw(0xffff_0001, 0, 0)],
        vec![raw(0xffff_0003, 0, 0)],
        vec![raw(0xffff_1234, 0, 0)],
        vec![raw(cmd, 0, 0)],
        vec![raw(cmd, 0x1000, 0x2000)],
        vec![raw(Function::FREE.a0(), 0, 77)],
        vec![Step::End(0x1234)],
        vec![
            Step::ForeignInterrupt,
            Step::Raw([Function::FOREIGN_INTR.a0(), 0, 0], Some(99)),
        ],
    ];
    for (number, script) in scripts.into_iter().enumerate() {
        let vm = vm();
        let guest = vm.guest();
        vm.host.machine().script(1, script);
        let mut regs = guest.begin(guest.message(Command::INVOKE, 1, &[]));
        if regs[0] == Function::FOREIGN_INTR.a0() {
            regs = guest.resume(regs[3], [0; 4]);
        }
        assert_eq!(regs, [Return::ENOTAVAIL.get(), 0, 0, 0], "{number}");
        assert_eq!((vm.stats().lost, vm.stats().calls), (1, 1));
        // The VM has one thread less, and goes on.
        assert_eq!(
            guest
                .run(guest.message(Command::INVOKE, 1, &[]))
                .header
                .ret
                .get(),
            0
        );
        vm.end();
    }
}

#[test]
fn garbage_in_a_request_is_contained() {
    let vm = vm();
    let guest = vm.guest();
    let mut many = vec![0xff; 160];
    many[..4].copy_from_slice(&2u32.to_le_bytes());
    for raw in [vec![0; 160], vec![0xff; 160], many] {
        vm.host.machine().script(1, [Step::RawCommand(raw)]);
        guest.run(guest.message(Command::INVOKE, 1, &[]));
    }
    // A message that OP-TEE has scribbled over says nothing about parameters.
    vm.host
        .machine()
        .script(1, [Step::Scribble(0xff), Step::End(0)]);
    let param = Param::new(Attr::VALUE_INPUT, 1, 2, 3);
    let done = guest.run(guest.message(Command::INVOKE, 1, &[param]));
    assert_eq!((done.header.num_params.get(), done.params[0]), (1, param));
    assert_eq!(done.header.ret.get(), u32::MAX);
    vm.end();
}

/// An RPC can be late: its VM is waiting for itself alone, and can end meanwhile.
#[test]
fn a_vm_can_end_whatever_its_calls_wait_for() {
    let foreign = || vec![Step::ForeignInterrupt];
    let waits: [Vec<Step>; 5] = [
        foreign(),
        vec![Step::Command(rpc::Command::NOTIFICATION, vec![])],
        vec![Step::ShmAlloc(0, 10)],
        vec![Step::ShmAlloc(0, 10), Step::ForeignInterrupt],
        vec![Step::ShmAlloc(0, 10), Step::ShmFree(0, 0)],
    ];
    for script in waits {
        for rounds in 0..4 {
            let vm = vm();
            let guest = vm.guest();
            guest.register(3);
            vm.host.machine().script(1, script.clone());
            let message = guest.message(Command::INVOKE, 1, &[]);
            let mut regs = guest.begin(message);
            for _ in 0..rounds {
                let back = match Return::from_x0(regs[0]).rpc() {
                    None => break,
                    Some(Function::ALLOC) => {
                        let at = guest.alloc(1);
                        let ((a1, a2), (a4, a5)) =
                            (smc::pair(at.get()), smc::pair(Guest::cookie(at)));
                        [a1, a2, a4, a5]
                    }
                    Some(Function::CMD) => {
                        let at = smc::unpair(regs[1], regs[2]) & 0xffff_ffff_ffff;
                        guest.answer(&guest.read_message(Ipa::new(at & !0x8000_0000_0000)));
                        [0; 4]
                    }
                    Some(_) => [0; 4],
                };
                regs = guest.resume(regs[3], back);
            }
            vm.end();
        }
    }
}
