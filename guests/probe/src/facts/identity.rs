// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Experiments about the caller's identity, and about which calls exist.

use crate::lab::{Code, Lab, client, create, describe, describe_step, hypervisor};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use guest_bare::tee::{Message, apps};
use optee_proto::msg::Command;
use optee_proto::{FunctionId, smc};

/// OP-TEE's versions.
pub fn versions(_: &Lab) -> String {
    let hypervisor = hypervisor();
    let [major, minor, build, _] = hypervisor.fast(smc::GET_OS_REVISION, 0);
    let [_, caps, notifs, params] = hypervisor.fast(smc::EXCHANGE_CAPABILITIES, 0);
    let [_, threads, ..] = hypervisor.fast(smc::GET_THREAD_COUNT, 0);
    let [calls, ..] = hypervisor.fast(smc::CALLS_COUNT, 0);
    format!(
        "OP-TEE {major}.{minor}, build {build:#x}, capabilities {caps:#x}, notification values up to \
         {notifs}, {params} RPC parameters, {threads} threads, {calls} calls"
    )
}

/// Returns the pseudo applications that a guest can open.
pub fn ptas(lab: &Lab) -> String {
    create(1);
    let found = [
        ("invoke_tests", apps::TESTS),
        ("stats", apps::STATS),
        ("device", apps::DEVICES),
        ("system", apps::SYSTEM),
    ]
    .map(|(name, app)| format!("{name}: {}", describe(&lab.open(1, app))));
    found.join(", ")
}

/// Calls for a VM that was never created.
pub fn unknown_vm(lab: &Lab) -> String {
    create(1);
    let message = Message::open(apps::TESTS, 0, &[]);
    format!(
        "fast: {}; yielding: {}; a VM that exists works: {}",
        Code(client(7).fast(smc::CALLS_UID, 0)[0]),
        describe_step(client(7).begin(smc::CALL_WITH_ARG, &message)),
        lab.works(1)
    )
}

/// Yielding calls with a7 = 0.
pub fn client_zero(lab: &Lab) -> String {
    create(1);
    let message = Message::open(apps::TESTS, 0, &[]);
    format!(
        "yielding: {}; VM_CREATED with a7 = 1: {}; a VM that exists works: {}",
        describe_step(hypervisor().begin(smc::CALL_WITH_ARG, &message)),
        Code(client(1).fast(smc::VM_CREATED, 2)[0]),
        lab.works(1)
    )
}

/// Returns the upper half of a7.
pub fn alias(lab: &Lab) -> String {
    let created = create(1);
    let other = lab.works(0x1_0001);
    let far = lab.works(0xabcd_0000_0000_0001);
    format!("VM 1 {created}; a7 = 0x10001 works: {other}; a7 = 0xabcd000000000001 works: {far}")
}

/// DISABLE_SHM_CACHE as the hypervisor itself.
pub fn disable_cache_zero(lab: &Lab) -> String {
    create(1);
    let [a0, ..] = hypervisor().fast(smc::DISABLE_SHM_CACHE, 0);
    format!("{}; VM 1 works: {}", Code(a0), lab.works(1))
}

/// ENABLE_SHM_CACHE as the hypervisor itself.
pub fn enable_cache_zero(lab: &Lab) -> String {
    create(1);
    let [a0, ..] = hypervisor().fast(smc::ENABLE_SHM_CACHE, 0);
    format!("{}; VM 1 works: {}", Code(a0), lab.works(1))
}

/// Undefined functions and commands.
pub fn unknown_ids(lab: &Lab) -> String {
    create(1);
    let works = lab.works(1);
    let fast: Vec<_> = [0xb200_0012, 0xb200_00ff, 0xf200_0000, 0x8200_3d06]
        .into_iter()
        .map(|id| format!("{}", Code(client(1).fast(FunctionId::new(id), 0)[0])))
        .collect();
    let yielding = describe_step(client(1).step(FunctionId::new(0x3200_0014), [0; 6]));
    let commands: Vec<_> = [8, 12, u32::MAX]
        .map(|cmd| describe(&client(1).command(&lab.supplicant, Command(cmd))))
        .into();
    format!(
        "fast 0xb2000012, 0xb20000ff, 0xf2000000, 0x82003d06: {}; yielding 0x32000014: {yielding}; \
         commands 8, 12, 0xffffffff: {}; the VM works before and after: {works} {}",
        fast.join(" "),
        commands.join(" "),
        lab.works(1)
    )
}
