// SPDX-License-Identifier: Apache-2.0 OR MIT
//! RPCs: what OP-TEE asks for, and what guests answer.

use super::{SESSION, Vm, value, vm};
use crate::addr::Ipa;
use crate::fake::{Guest, Step};
use alloc::vec;
use alloc::vec::Vec;
use optee_proto::msg::{Attr, Command, Header, Param};
use optee_proto::rpc::{self, Function};
use optee_proto::{Return, TeeResult, smc};
use zerocopy::IntoBytes;

fn invoke(vm: &Vm, steps: impl IntoIterator<Item = Step>) -> crate::fake::Outcome {
    vm.host.machine().script(1, steps);
    let guest = vm.guest();
    guest.run(guest.message(Command::INVOKE, SESSION, &[]));
    vm.host.machine().outcomes(1).pop().unwrap()
}

/// Memory by address, flags, names of nothing: OP-TEE may not put that before a guest.
#[test]
fn forbidden_requests_are_answered_by_the_mediator() {
    let vm = vm();
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

/// What has no meaning in a request does not reach the guest, whatever OP-TEE left there.
#[test]
fn requests_carry_only_known_fields() {
    let vm = vm();
    let guest = vm.guest();
    assert_eq!(guest.register(1).1, 0);
    let ours = vm.host.machine().outcomes(1).pop().unwrap().params[0]
        .c
        .get();
    let page = vm.host.machine().buffers(1)[0][0];
    let header = [2, page as u32, (page >> 32) as u32, 3, 4, 5, 6, 3];
    let params = [
        Param::new(Attr::NONE, page, ours, page),
        Param::new(Attr::TMEM_INOUT, 0, 5, ours),
        value(Attr::VALUE_INPUT),
    ];
    let mut raw: Vec<u8> = header.into_iter().flat_map(u32::to_le_bytes).collect();
    raw.extend_from_slice(params.as_bytes());
    vm.host.machine().script(1, [Step::RawCommand(raw)]);
    guest.run(guest.message(Command::INVOKE, SESSION, &[]));
    let request = guest.requests.lock().pop().unwrap();
    let nothing = Header {
        cmd: 2.into(),
        ret: TeeResult::GENERIC.0.into(),
        ret_origin: 3.into(),
        num_params: 3.into(),
        ..Header::default()
    };
    assert_eq!(request.header, nothing);
    let null = Param::new(Attr::TMEM_INOUT, 0, 5, 0);
    assert_eq!(request.params, [Param::default(), null, params[2]]);
    vm.end();
}

#[test]
fn unreadable_rpc_answer_is_a_communication_error() {
    let vm = vm();
    let before = vm.baseline();
    let guest = vm.guest();
    let command = || Step::Command(rpc::Command::FS, vec![value(Attr::VALUE_OUTPUT)]);
    vm.host.machine().script(1, [command(), command()]);
    let mut gone = Ipa::new(0);
    guest.run_with(
        guest.message(Command::INVOKE, SESSION, &[]),
        |guest, request| {
            guest.answer(request);
            vm.host.unmap(request.at);
            gone = request.at;
            true
        },
    );
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

/// SHM_ALLOC and SHM_FREE have one parameter, of values: what OP-TEE asks otherwise is not put before the guest.
#[test]
fn malformed_shm_requests_are_refused() {
    let values = value(Attr::VALUE_INPUT);
    for command in [rpc::Command::SHM_ALLOC, rpc::Command::SHM_FREE] {
        for params in [
            vec![],
            vec![value(Attr::VALUE_INOUT)],
            vec![values, values],
            vec![value(Attr::VALUE_INOUT), values],
        ] {
            let vm = vm();
            let seen = invoke(&vm, [Step::Command(command, params)]);
            let result = seen.replies[0].0.ret.get();
            assert_eq!(result, TeeResult::BAD_PARAMETERS.0);
            vm.end();
        }
    }
}

/// The guest is asked for memory for messages up to a whole page, and for no more.
#[test]
fn rpc_memory_is_at_most_a_page() {
    for (size, asked) in [(0, false), (1, true), (4096, true), (4097, false)] {
        let vm = vm();
        let guest = vm.guest();
        let ask = [Function::ALLOC.a0(), size, 0];
        vm.host.machine().script(1, [Step::Raw(ask, None)]);
        let answer = guest.begin(guest.message(Command::INVOKE, SESSION, &[]));
        assert_eq!(answer[0] == ask[0], asked, "{size}");
        vm.end();
    }
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
    guest.run_with(
        guest.message(Command::INVOKE, SESSION, &[]),
        |guest, request| {
            guest.answer(request);
            vm.host
                .machine()
                .scramble(request.command() == rpc::Command::SHM_ALLOC);
            true
        },
    );
    let seen = vm.host.machine().outcomes(1).pop().unwrap();
    assert_eq!(seen.replies[0].1[0].a.get(), 0x12);
    assert_eq!(seen.allocated[0].as_ref().map(Vec::len), Some(2));
    vm.end();
}

/// OP-TEE breaks the protocol: only that call is poisoned.
#[test]
fn broken_tee_poisons_only_its_call() {
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
        let mut regs = guest.begin(guest.message(Command::INVOKE, SESSION, &[]));
        if regs[0] == Function::FOREIGN_INTR.a0() {
            regs = guest.resume(regs[3], [0; 4]);
        }
        assert_eq!(regs, [Return::ENOTAVAIL.get(), 0, 0, 0], "{number}");
        assert_eq!((vm.stats().poisoned, vm.stats().calls), (1, 1));
        // The VM has one thread less, and goes on.
        assert_eq!(
            guest
                .run(guest.message(Command::INVOKE, SESSION, &[]))
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
    // One parameter more than there is room for, and as many as fit into a page.
    let [five, all] = [5, 127u8].map(|count| {
        let mut raw = vec![0; 160];
        (raw[0], raw[28]) = (2, count);
        raw
    });
    for raw in [vec![0; 160], vec![0xff; 160], many, five, all] {
        vm.host.machine().script(1, [Step::RawCommand(raw)]);
        guest.run(guest.message(Command::INVOKE, SESSION, &[]));
    }
    // A message that OP-TEE has scribbled over says nothing about parameters.
    vm.host
        .machine()
        .script(1, [Step::Scribble(0xff), Step::End(0)]);
    let param = Param::new(Attr::VALUE_INPUT, 1, 2, 3);
    let done = guest.run(guest.message(Command::INVOKE, SESSION, &[param]));
    assert_eq!((done.header.num_params.get(), done.params[0]), (1, param));
    assert_eq!(done.header.ret.get(), u32::MAX);
    vm.end();
}

/// An RPC can be late: its VM is waiting for itself alone, and can end meanwhile.
#[test]
fn vm_ends_with_calls_in_each_pending_state() {
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
            let message = guest.message(Command::INVOKE, SESSION, &[]);
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

/// OP-TEE can refuse a call before it has a thread for it. After that the same codes tell nothing of what it still
/// uses.
#[test]
fn return_code_busy_after_rpc_poisons_the_call() {
    for code in [Return::ETHREAD_LIMIT, Return::ENOTAVAIL, Return::EBUSY] {
        let vm = vm();
        let (guest, machine) = (vm.guest(), vm.host.machine());
        let begin = || guest.begin(guest.message(Command::INVOKE, SESSION, &[]));
        machine.answer_next(smc::CALL_WITH_ARG, [code.get(), 0, 0, 0]);
        assert_eq!(begin()[0], code.get());
        assert_eq!((vm.stats().poisoned, vm.stats().calls), (0, 0));
        machine.script(1, [Step::ForeignInterrupt, Step::End(code.get())]);
        let regs = begin();
        assert_eq!(regs[0], Function::FOREIGN_INTR.a0());
        let ended = guest.resume(regs[3], [0; 4]);
        assert_eq!(ended[0], Return::ENOTAVAIL.get());
        assert_eq!((vm.stats().poisoned, vm.stats().calls), (1, 1));
        vm.end();
    }
}
