// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One test for each row of `docs/abi.md`, named after the row: `fid_` for functions, `sec_cap_` and
//! `nsec_cap_` for capabilities, `cmd_` for commands, `attr_` for attributes, `rpc_func_` and
//! `rpc_cmd_` for what OP-TEE asks for.

mod attributes;
mod capabilities;
mod commands;
mod fast;
mod functions;
mod notifications;
mod requests;
mod yielding;

use super::Vm;
use crate::fake::Machine;
use crate::{Config, Features};
use optee_proto::{FunctionId, smc};

/// All functions that OP-TEE has a name for.
const ALL: [FunctionId; 21] = [
    smc::CALLS_COUNT,
    smc::CALLS_UID,
    smc::CALLS_REVISION,
    smc::GET_OS_UUID,
    smc::GET_OS_REVISION,
    smc::GET_SHM_CONFIG,
    smc::L2CC_MUTEX,
    smc::EXCHANGE_CAPABILITIES,
    smc::DISABLE_SHM_CACHE,
    smc::ENABLE_SHM_CACHE,
    smc::BOOT_SECONDARY,
    smc::VM_CREATED,
    smc::VM_DESTROYED,
    smc::GET_THREAD_COUNT,
    smc::ENABLE_ASYNC_NOTIF,
    smc::GET_ASYNC_NOTIF_VALUE,
    smc::GET_PROTMEM_CONFIG,
    smc::CALL_RETURN_FROM_RPC,
    smc::CALL_WITH_ARG,
    smc::CALL_WITH_RPC_ARG,
    smc::CALL_WITH_REGD_ARG,
];

const UNKNOWN: [u64; 4] = [0xffff_ffff, 0, 0, 0];

fn config(rpc_arg: bool, async_notif: bool) -> Config {
    Config {
        features: Features {
            rpc_arg,
            async_notif,
        },
        ..Config::default()
    }
}

fn with(config: Config) -> Vm {
    Vm::new(&Machine::new(), 1, config)
}

/// A VM that is offered nothing optional.
fn plain() -> Vm {
    with(config(false, false))
}

/// A VM that is offered everything.
fn offering() -> Vm {
    with(config(true, true))
}

/// A VM that owns all devices as well.
fn owner() -> Vm {
    let mut config = config(true, true);
    (config.policy.rpmb, config.policy.i2c) = (true, true);
    with(config)
}

/// The function is unknown to the VM: OP-TEE hears nothing, and it is counted.
fn answered_unknown(vm: &Vm, function: FunctionId) {
    let (smcs, denied) = (vm.host.machine().smcs().len(), vm.stats().denied);
    assert_eq!(vm.guest().fast(function), UNKNOWN, "{function:?}");
    assert_eq!(vm.host.machine().smcs().len(), smcs, "{function:?}");
    assert_eq!(vm.stats().denied, denied + 1, "{function:?}");
}
