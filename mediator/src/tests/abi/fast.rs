// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fast calls.

use super::{ALL, UNKNOWN, answered_unknown, config, offering, plain, with};
use crate::fake::{Guest, Machine, Step};
use crate::tests::{APP, SESSION, Vm, some};
use crate::{Config, Mediator, RpcKind};
use alloc::vec;
use optee_proto::msg::{Command, login};
use optee_proto::{FunctionId, Return, rpc, smc, uuid};

/// The function is passed on under the VM's own number and without arguments, whatever the guest
/// has in its registers. `raw` is OP-TEE's answer, `answer` the guest's.
fn passed(function: FunctionId, raw: [u64; 4], answer: [u64; 4]) {
    let vm = plain();
    let machine = vm.host.machine();
    for a7 in [0, 2, 0x1_0001, u64::MAX] {
        machine.answer_next(function, raw);
        let id = u64::from(function.get());
        let regs = [0xdead_beef << 32 | id, 1, 2, 3, 4, 5, 6, a7];
        assert_eq!(vm.guest().smc(regs), answer);
        assert_eq!(machine.smcs().pop().unwrap(), [id, 0, 0, 0, 0, 0, 0, 1]);
    }
    assert_eq!((vm.stats().fast, vm.stats().denied), (4, 0));
    vm.end();
}

/// The function is answered here.
fn answered(vm: Vm, function: FunctionId, answer: [u64; 4]) {
    let smcs = vm.host.machine().smcs().len();
    assert_eq!(vm.guest().fast(function), answer);
    assert_eq!(vm.host.machine().smcs().len(), smcs);
    vm.end();
}

/// As many as are not unknown.
#[test]
fn fid_calls_count() {
    for (rpc_arg, async_notif) in some([(false, false), (true, false), (false, true), (true, true)])
    {
        let vm = with(config(rpc_arg, async_notif));
        let guest = vm.guest();
        let known = ALL.iter().filter(|id| guest.fast(**id) != UNKNOWN).count();
        answered(vm, smc::CALLS_COUNT, [known as u64, 0, 0, 0]);
    }
}

#[test]
fn fid_calls_uid() {
    let uid = uuid::API_UID.map(u64::from);
    passed(smc::CALLS_UID, uid, uid);
    assert_eq!(plain().guest().fast(smc::CALLS_UID), uid);
}

#[test]
fn fid_calls_revision() {
    passed(smc::CALLS_REVISION, [2, 1, 0xdead, 0xdead], [2, 1, 0, 0]);
}

#[test]
fn fid_get_os_uuid() {
    let os = uuid::OS_UUID.map(u64::from);
    passed(smc::GET_OS_UUID, os, os);
}

/// The build identifier in a2 comes along.
#[test]
fn fid_get_os_revision() {
    let raw = [4, 10, 0x1234_5678, 0xdead];
    passed(smc::GET_OS_REVISION, raw, [4, 10, 0x1234_5678, 0]);
}

#[test]
fn fid_get_shm_config() {
    let unavailable = [Return::ENOTAVAIL.get(), 0, 0, 0];
    answered(offering(), smc::GET_SHM_CONFIG, unavailable);
}

#[test]
fn fid_l2cc_mutex() {
    answered_unknown(&offering(), smc::L2CC_MUTEX);
}

#[test]
fn fid_exchange_capabilities() {
    let vm = offering();
    let machine = vm.host.machine();
    let id = smc::EXCHANGE_CAPABILITIES.get().into();
    let ask = |a1| vm.guest().smc([id, a1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(ask(u64::MAX), [0, 0b111_0100, 63, 4]);
    assert_eq!(machine.smcs().pop().unwrap(), [id, 1, 0, 0, 0, 0, 0, 1]);
    // When OP-TEE refuses, nothing is told of its capabilities.
    machine.answer_next(smc::EXCHANGE_CAPABILITIES, [7, 0xff, 63, 4]);
    assert_eq!(ask(0), [7, 0, 0, 0]);
    vm.end();
}

/// OP-TEE's cookie becomes the guest's, and the memory is forgotten.
#[test]
fn fid_disable_shm_cache() {
    let vm = plain();
    let guest = vm.guest();
    assert_eq!(guest.fast(smc::ENABLE_SHM_CACHE), [0; 4]);
    let time = || Step::Command(rpc::Command::GET_TIME, vec![]);
    for _ in 0..3 {
        vm.host.machine().script(1, [time()]);
        guest.run(guest.message(Command::INVOKE, SESSION, &[]));
    }
    assert_eq!(vm.stats().rpc(RpcKind::Alloc), 1);
    assert_eq!(vm.stats().rpc_buffers, 1);

    vm.host.machine().script(1, [Step::ForeignInterrupt]);
    let parked = guest.begin(guest.message(Command::INVOKE, SESSION, &[]));
    let busy = [Return::EBUSY.get(), 0, 0, 0];
    assert_eq!(guest.fast(smc::DISABLE_SHM_CACHE), busy);
    assert_eq!(vm.stats().rpc_buffers, 1);
    guest.resume(parked[3], [0; 4]);

    let (upper, lower) = smc::pair(Guest::cookie(guest.requests.lock()[0].at));
    let given_back = [0, upper, lower, 0];
    assert_eq!(guest.fast(smc::DISABLE_SHM_CACHE), given_back);
    assert_eq!(vm.stats().rpc_buffers, 0);
    // Linux asks until there is nothing more.
    let nothing = [Return::ENOTAVAIL.get(), 0, 0, 0];
    assert_eq!(guest.fast(smc::DISABLE_SHM_CACHE), nothing);
    // A cookie that OP-TEE made up means nothing, and is not shown.
    for cookie in [[0, 0], [0x1234, 0x5678]] {
        let [a1, a2] = cookie;
        let machine = vm.host.machine();
        machine.answer_next(smc::DISABLE_SHM_CACHE, [0, a1, a2, 0]);
        assert_eq!(guest.fast(smc::DISABLE_SHM_CACHE), nothing);
    }
    assert_eq!(vm.stats().poisoned, 2);
    vm.end();
}

#[test]
fn fid_enable_shm_cache() {
    passed(smc::ENABLE_SHM_CACHE, [0, 1, 2, 3], [0; 4]);
    let busy = Return::EBUSY.get();
    passed(smc::ENABLE_SHM_CACHE, [busy, 1, 2, 3], [busy, 0, 0, 0]);
}

#[test]
fn fid_boot_secondary() {
    answered_unknown(&offering(), smc::BOOT_SECONDARY);
}

#[test]
fn fid_vm_created() {
    answered_unknown(&offering(), smc::VM_CREATED);
}

#[test]
fn fid_vm_destroyed() {
    answered_unknown(&offering(), smc::VM_DESTROYED);
}

/// What the quota and OP-TEE's threads leave. Linux reserves threads for system sessions by it.
#[test]
fn fid_get_thread_count() {
    for (quota, threads, count) in [(16, 2, 2), (1, 2, 1), (0, 2, 1), (100, 200, 64)] {
        let machine = Machine::new();
        machine.set_tee(uuid::API_UID, 0b1101, threads);
        let mut config = Config::default();
        config.quotas.calls = quota;
        let vm = Vm::new(&machine, 1, config);
        answered(vm, smc::GET_THREAD_COUNT, [0, count, 0, 0]);
    }
}

#[test]
fn fid_get_protmem_config() {
    let unavailable = [Return::ENOTAVAIL.get(), 0, 0, 0];
    answered(offering(), smc::GET_PROTMEM_CONFIG, unavailable);
}

/// `CFG_WDT_SM_HANDLER_ID`, a function of the silicon partner's: not the mediator's business, so
/// the hypervisor answers it, and it never reaches the secure world.
#[test]
fn fid_watchdog() {
    assert!(!Mediator::owns(FunctionId::new(0x8200_3d06)));
    for owner in some(0..64) {
        for kind in [0x8000_0000, 0xc000_0000, 0, 0x4000_0000u32] {
            let function = FunctionId::new(kind | owner << 24 | 0x1_0000);
            assert_eq!(Mediator::owns(function), owner >= 48, "{function:?}");
        }
    }
}

#[test]
fn fid_unknown() {
    let vm = offering();
    let mut tried = 0;
    for number in some((0..0x40).chain([0x1234, 0xff00, 0xff02, 0xff03, 0xffff])) {
        for owner in some([48u32, 49, 50, 51, 62, 63]) {
            for kind in [0x8000_0000, 0] {
                let function = FunctionId::new(kind | owner << 24 | number);
                if !ALL.contains(&function) {
                    answered_unknown(&vm, function);
                    tried += 1;
                }
            }
        }
    }
    // Reserved bits make another function of it.
    for bit in 17..24 {
        answered_unknown(&vm, FunctionId::new(smc::CALLS_UID.get() | 1 << bit));
        answered_unknown(&vm, FunctionId::new(smc::CALL_WITH_ARG.get() | 1 << bit));
    }
    assert!(tried > 700 || cfg!(miri));
    vm.end();
}

/// All functions are SMC32 ones. Under SMC64 "unknown" has 64 bits.
#[test]
fn fid_smc64_aliases() {
    let vm = offering();
    let smcs = vm.host.machine().smcs().len();
    for id in some(ALL) {
        let alias = FunctionId::new(id.get() | 0x4000_0000);
        assert_eq!(vm.guest().fast(alias), [u64::MAX, 0, 0, 0], "{alias:?}");
    }
    assert_eq!(vm.host.machine().smcs().len(), smcs);
    assert_eq!(vm.stats().denied, some(ALL).count() as u64);
    vm.end();
}

/// The hint changes nothing, and OP-TEE does not see it.
#[test]
fn fid_sve_hint() {
    for id in some(ALL) {
        let [plain, hinted] = [0, FunctionId::SVE_HINT].map(|hint| {
            let vm = offering();
            let answer = vm.guest().fast(FunctionId::new(id.get() | hint));
            let smcs = vm.host.machine().smcs();
            vm.end();
            (answer, smcs)
        });
        assert_eq!(hinted, plain, "{id:?}");
    }
}

/// A whole conversation with garbage in the upper halves of all registers.
#[test]
fn upper_halves_are_ignored() {
    let vm = plain();
    let mut guest = vm.guest();
    guest.has_garbage = true;
    let nothing = [Return::ENOTAVAIL.get(), 0, 0, 0];
    assert_eq!(guest.fast(smc::DISABLE_SHM_CACHE), nothing);
    assert_eq!(guest.open(APP, login::PUBLIC).1, 0);
    let (cookie, result) = guest.register(3);
    assert_eq!(result, 0);
    vm.host.machine().script(
        1,
        [
            Step::ShmAlloc(0, 5000),
            Step::ForeignInterrupt,
            Step::ShmFree(0, 0),
        ],
    );
    guest.run(guest.message(Command::INVOKE, SESSION, &[]));
    assert_eq!(guest.requests.lock().len(), 2);
    assert_eq!(guest.unregister(cookie), 0);
    assert_eq!(vm.stats().denied, 0);
    vm.end();
}
