//! Fast calls.

use super::{Vm, vm};
use crate::fake::Machine;
use crate::{Config, Offer};
use optee_proto::{FunctionId, smc, uuid};

const UNKNOWN: u64 = 0xffff_ffff;

#[test]
fn fast_calls_answer_what_the_table_says() {
    let vm = vm();
    let guest = vm.guest();
    for (function, answer) in [
        (smc::CALLS_COUNT, [15, 0, 0, 0]),
        (smc::CALLS_UID, uuid::API_UID.map(u64::from)),
        (smc::CALLS_REVISION, [2, 0, 0, 0]),
        (smc::GET_OS_UUID, uuid::OS_UUID.map(u64::from)),
        (smc::GET_OS_REVISION, [4, 10, 0x1234_5678, 0]),
        (smc::GET_SHM_CONFIG, [7, 0, 0, 0]),
        (smc::L2CC_MUTEX, [UNKNOWN, 0, 0, 0]),
        (smc::EXCHANGE_CAPABILITIES, [0, 0b1_0100, 0, 0]),
        (smc::DISABLE_SHM_CACHE, [7, 0, 0, 0]),
        (smc::ENABLE_SHM_CACHE, [0, 0, 0, 0]),
        (smc::BOOT_SECONDARY, [UNKNOWN, 0, 0, 0]),
        (smc::VM_CREATED, [UNKNOWN, 0, 0, 0]),
        (smc::VM_DESTROYED, [UNKNOWN, 0, 0, 0]),
        (smc::GET_THREAD_COUNT, [0, 2, 0, 0]),
        (smc::ENABLE_ASYNC_NOTIF, [UNKNOWN, 0, 0, 0]),
        (smc::GET_ASYNC_NOTIF_VALUE, [UNKNOWN, 0, 0, 0]),
        (smc::GET_PROTMEM_CONFIG, [7, 0, 0, 0]),
        (FunctionId::new(0xb200_1234), [UNKNOWN, 0, 0, 0]),
        (FunctionId::new(0xbf00_ff02), [UNKNOWN, 0, 0, 0]),
        (FunctionId::new(0xb000_0000), [UNKNOWN, 0, 0, 0]),
        // Yielding calls that are none.
        (FunctionId::new(0x3200_0000), [UNKNOWN, 0, 0, 0]),
        (smc::CALL_WITH_RPC_ARG, [UNKNOWN, 0, 0, 0]),
        (smc::CALL_WITH_REGD_ARG, [UNKNOWN, 0, 0, 0]),
        // Under SMC64 there is nothing.
        (FunctionId::new(0xf200_0009), [u64::MAX, 0, 0, 0]),
        (FunctionId::new(0x7200_0004), [u64::MAX, 0, 0, 0]),
    ] {
        assert_eq!(guest.fast(function), answer, "{function:?}");
        // The hint changes nothing.
        let hinted = FunctionId::new(function.get() | FunctionId::SVE_HINT);
        assert_eq!(guest.fast(hinted), answer, "{hinted:?}");
    }
    vm.end();
}

#[test]
fn the_guest_cannot_choose_who_it_is() {
    let vm = vm();
    for a7 in [0, 2, 0x1_0001, u64::MAX] {
        vm.guest()
            .smc([smc::CALLS_UID.get().into(), 1, 2, 3, 4, 5, 6, a7]);
        let last = *vm.host.machine().smcs().last().unwrap();
        assert_eq!(last, [smc::CALLS_UID.get().into(), 0, 0, 0, 0, 0, 0, 1]);
    }
    // Upper halves of registers do not exist in this ABI.
    let garbage = 0xdead_beef_0000_0000;
    let id = garbage | u64::from(smc::GET_OS_UUID.get());
    assert_eq!(vm.guest().smc([id; 8])[0], uuid::OS_UUID[0].into());
    vm.end();
}

#[test]
fn capabilities_are_filtered() {
    let config = Config {
        offer: Offer {
            rpc_arg: true,
            async_notif: true,
        },
        ..Config::default()
    };
    let vm = Vm::new(&Machine::new(), 1, config);
    let id = smc::EXCHANGE_CAPABILITIES.get().into();
    let answer = vm.guest().smc([id, u64::MAX, 0, 0, 0, 0, 0, 0]);
    assert_eq!(answer, [0, 0b111_0100, 63, 4]);
    vm.end();
}

#[test]
fn aarch32_callers_get_32_bits() {
    let vm = vm();
    for (id, answer) in [
        (0x7200_0004, 0xffff_ffff),
        (0xb200_0008, 0xffff_ffff),
        (0xb200_000f, 0),
    ] {
        let call = crate::GuestCall {
            regs: [id, 0, 0, 0, 0, 0, 0, 0],
            aarch32: true,
        };
        assert_eq!(vm.mediator.smc(&vm.host, &call)[0], answer);
    }
    vm.end();
}
