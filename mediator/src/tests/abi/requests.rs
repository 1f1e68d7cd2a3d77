// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Commands of RPC messages: what OP-TEE asks of the guest.

use super::{offering, owner, plain};
use crate::RpcKind;
use crate::addr::PAGE_SIZE;
use crate::fake::{Guest, Outcome, Request, Step};
use crate::tests::{SESSION, Vm, some, value};
use alloc::vec;
use alloc::vec::Vec;
use optee_proto::TeeResult;
use optee_proto::msg::{Attr, Command, Param};
use optee_proto::rpc::{self, SHM_TYPE_APPL, SHM_TYPE_KERNEL};

/// An INVOKE during which OP-TEE takes these steps: what it saw, and what the guest was asked.
fn invoke(vm: &Vm, steps: impl IntoIterator<Item = Step>) -> (Outcome, Vec<Request>) {
    vm.host.machine().script(1, steps);
    let guest = vm.guest();
    guest.run(guest.message(Command::INVOKE, SESSION, &[]));
    let requests = guest.requests.lock().clone();
    (vm.host.machine().outcomes(1).pop().unwrap(), requests)
}

/// The command reaches the guest, under the guest's names; outputs come back, and nothing else.
fn passes(vm: Vm, command: rpc::Command, kind: RpcKind) {
    let params = vec![
        value(Attr::VALUE_INPUT),
        value(Attr::VALUE_INOUT),
        Param::new(Attr::RMEM_OUTPUT, 8, 100, 0),
        Param::new(Attr::TMEM_OUTPUT, 0, 5, 0),
    ];
    let (seen, requests) = invoke(
        &vm,
        [
            Step::ShmAlloc(SHM_TYPE_APPL, 200),
            Step::Command(command, params.clone()),
            Step::ShmFree(SHM_TYPE_APPL, 0),
        ],
    );
    let asked = &requests[1];
    assert_eq!(asked.command(), command);
    assert_eq!((asked.params[0], asked.params[1]), (params[0], params[1]));
    let name = requests[2].params[0].b.get();
    assert_eq!(asked.params[2], Param::new(Attr::RMEM_OUTPUT, 8, 100, name));
    assert_eq!(asked.params[3], params[3]);
    let (header, after) = &seen.replies[1];
    assert_eq!((header.cmd.get(), header.ret.get()), (command.0, 0));
    assert_eq!(after[0], params[0]);
    assert_eq!(after[1], Param::new(Attr::VALUE_INOUT, 0x12, 0x23, 0x34));
    assert_eq!(after[2].b.get(), 101);
    // OP-TEE's own cookie is still there.
    assert!(![0, name].contains(&after[2].c.get()));
    assert_eq!(after[3], Param::new(Attr::TMEM_OUTPUT, 0, 6, 0));
    assert_eq!(vm.stats().rpc(kind), 1);
    assert_eq!((vm.stats().withheld, vm.stats().denied), (0, 0));
    vm.end();
}

/// OP-TEE is answered without the guest.
fn withheld(vm: Vm, command: rpc::Command, kind: RpcKind, result: TeeResult) {
    let physical = Param::new(Attr::VALUE_INPUT, 0, 0x28_4800_1000, 0);
    for params in [vec![], vec![physical]] {
        let (seen, requests) = invoke(&vm, [Step::Command(command, params.clone())]);
        assert!(requests.is_empty());
        let (header, after) = &seen.replies[0];
        assert_eq!(header.ret.get(), result.0, "{command:?}");
        assert_eq!(*after, params);
    }
    assert_eq!((vm.stats().withheld, vm.stats().rpc(kind)), (2, 2));
    assert_eq!(vm.stats().denied, 0);
    vm.end();
}

/// For the VM that owns the device.
fn device(command: rpc::Command, kind: RpcKind, result: TeeResult) {
    withheld(offering(), command, kind, result);
    passes(owner(), command, kind);
}

#[test]
fn rpc_cmd_load_ta() {
    passes(plain(), rpc::Command::LOAD_TA, RpcKind::LoadTa);
}

#[test]
fn rpc_cmd_rpmb() {
    device(rpc::Command::RPMB, RpcKind::Rpmb, TeeResult::ITEM_NOT_FOUND);
}

#[test]
fn rpc_cmd_fs() {
    passes(plain(), rpc::Command::FS, RpcKind::Fs);
}

#[test]
fn rpc_cmd_get_time() {
    passes(plain(), rpc::Command::GET_TIME, RpcKind::GetTime);
}

#[test]
fn rpc_cmd_notification() {
    passes(plain(), rpc::Command::NOTIFICATION, RpcKind::Notification);
}

#[test]
fn rpc_cmd_suspend() {
    passes(plain(), rpc::Command::SUSPEND, RpcKind::Suspend);
}

/// The guest's list becomes ours, its cookie ours; or one page that it names directly.
#[test]
fn rpc_cmd_shm_alloc() {
    for (attr, size, pages) in [
        (Attr::PAGE_LIST, 2 * PAGE_SIZE, 2),
        (Attr::TMEM_OUTPUT, PAGE_SIZE, 1),
    ] {
        let vm = plain();
        let kind = SHM_TYPE_KERNEL;
        vm.host
            .machine()
            .script(1, [Step::ShmAlloc(kind, size), Step::ForeignInterrupt]);
        let guest = vm.guest();
        let memory = [guest.alloc(1), guest.alloc(1)];
        let list = guest.page_list(&memory);
        let at = if attr == Attr::PAGE_LIST {
            list
        } else {
            memory[0]
        };
        let message = guest.message(Command::INVOKE, SESSION, &[]);
        guest.run_with(message, |guest: &Guest<'_>, request| {
            assert_eq!(
                request.params,
                [Param::new(Attr::VALUE_INPUT, kind, size, 8)]
            );
            guest.reply(request, 0, &[Param::new(attr, at.get(), size, 0x77)]);
            true
        });
        let seen = vm.host.machine().outcomes(1).pop().unwrap();
        let physical = memory.map(|page| vm.host.physical(page).unwrap().get());
        assert_eq!(seen.allocated, [Some(physical[..pages].to_vec())]);
        let (_, reply) = &seen.replies[0];
        assert_eq!((reply[0].attr(), reply[0].b.get()), (Attr::PAGE_LIST, size));
        assert!(![0, 0x77].contains(&reply[0].c.get()));
        assert_eq!(vm.host.machine().pins(), pages as u64);
        assert_eq!(
            (vm.stats().rpc(RpcKind::ShmAlloc), vm.stats().buffers),
            (1, 1)
        );
        vm.end();
    }
}

/// The guest hears its own name, when the pages are unpinned already.
#[test]
fn rpc_cmd_shm_free() {
    let vm = plain();
    let kind = SHM_TYPE_KERNEL;
    vm.host
        .machine()
        .script(1, [Step::ShmAlloc(kind, 10), Step::ShmFree(kind, 0)]);
    let guest = vm.guest();
    let message = guest.message(Command::INVOKE, SESSION, &[]);
    guest.run_with(message, |guest: &Guest<'_>, request| {
        if request.command() == rpc::Command::SHM_FREE {
            assert_eq!((vm.host.machine().pins(), vm.stats().buffers), (0, 0));
            let [free] = request.params[..] else {
                panic!("one parameter")
            };
            assert_eq!((free.attr(), free.a.get()), (Attr::VALUE_INPUT, kind));
            assert_eq!(free.b.get() >> 48, 0xffff);
        } else {
            guest.answer(request);
            return true;
        }
        false
    });
    assert_eq!(guest.requests.lock().len(), 2);
    assert_eq!(vm.stats().rpc(RpcKind::ShmFree), 1);
    vm.end();
}

#[test]
fn rpc_cmd_sql_fs_reserved() {
    let no = TeeResult::NOT_IMPLEMENTED;
    withheld(owner(), rpc::Command::SQL_FS_RESERVED, RpcKind::Other, no);
}

#[test]
fn rpc_cmd_gprof() {
    passes(plain(), rpc::Command::GPROF, RpcKind::Gprof);
}

#[test]
fn rpc_cmd_socket() {
    passes(plain(), rpc::Command::SOCKET, RpcKind::Socket);
}

#[test]
fn rpc_cmd_ftrace() {
    passes(plain(), rpc::Command::FTRACE, RpcKind::Ftrace);
}

#[test]
fn rpc_cmd_supp_plugin() {
    passes(plain(), rpc::Command::SUPP_PLUGIN, RpcKind::Plugin);
}

/// It carries a physical address, which no guest may see.
#[test]
fn rpc_cmd_bench_reg() {
    let no = TeeResult::NOT_IMPLEMENTED;
    withheld(owner(), rpc::Command::BENCH_REG, RpcKind::Other, no);
}

#[test]
fn rpc_cmd_i2c_transfer() {
    device(
        rpc::Command::I2C_TRANSFER,
        RpcKind::I2c,
        TeeResult::NOT_SUPPORTED,
    );
}

#[test]
fn rpc_cmd_rpmb_probe_reset() {
    device(
        rpc::Command::RPMB_PROBE_RESET,
        RpcKind::Rpmb,
        TeeResult::ITEM_NOT_FOUND,
    );
}

#[test]
fn rpc_cmd_rpmb_probe_next() {
    device(
        rpc::Command::RPMB_PROBE_NEXT,
        RpcKind::Rpmb,
        TeeResult::ITEM_NOT_FOUND,
    );
}

#[test]
fn rpc_cmd_rpmb_frames() {
    device(
        rpc::Command::RPMB_FRAMES,
        RpcKind::Rpmb,
        TeeResult::ITEM_NOT_FOUND,
    );
}

#[test]
fn rpc_cmd_unknown() {
    let no = TeeResult::NOT_IMPLEMENTED;
    for command in some((13..20).chain(25..32).chain([u32::MAX])) {
        withheld(owner(), rpc::Command(command), RpcKind::Other, no);
    }
}
