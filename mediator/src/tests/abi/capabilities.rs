// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Capability bits, both ways.

use super::{config, plain};
use crate::Config;
use crate::fake::Machine;
use crate::tests::{Vm, some};
use optee_proto::caps::SecureCaps;
use optee_proto::{smc, uuid};

/// What OP-TEE must have for the mediator to work at all.
const LEAST: SecureCaps = SecureCaps::DYNAMIC_SHM.union(SecureCaps::VIRTUALIZATION);

/// a1..a3 of the answer that a VM gets from an OP-TEE with these capabilities.
fn heard(tee: SecureCaps, config: Config) -> (SecureCaps, u64, u64) {
    let machine = Machine::new();
    machine.set_tee(uuid::API_UID, tee.bits(), 2);
    let vm = Vm::new(&machine, 1, config);
    let [a0, a1, a2, a3] = vm.guest().fast(smc::EXCHANGE_CAPABILITIES);
    assert_eq!(a0, 0);
    vm.end();
    (SecureCaps::from_bits_retain(a1), a2, a3)
}

fn generous() -> Config {
    let mut config = config(true, true);
    (config.policy.rpmb, config.policy.i2c) = (true, true);
    config
}

/// No VM hears of the bit, whatever it owns.
fn hidden(bit: SecureCaps) {
    let (caps, ..) = heard(LEAST | bit, generous());
    assert_eq!(caps, SecureCaps::DYNAMIC_SHM);
}

/// Those VMs hear of the bit that OP-TEE and the configuration give it to.
fn given(bit: SecureCaps, yes: Config, no: Config) -> [(u64, u64); 2] {
    assert!(!heard(LEAST, yes.clone()).0.contains(bit));
    let (caps, a2, a3) = heard(LEAST | bit, yes);
    assert_eq!(caps, SecureCaps::DYNAMIC_SHM | bit);
    let (poor, poor_a2, poor_a3) = heard(LEAST | bit, no);
    assert_eq!(poor, SecureCaps::DYNAMIC_SHM);
    [(a2, a3), (poor_a2, poor_a3)]
}

#[test]
fn sec_cap_have_reserved_shm() {
    hidden(SecureCaps::HAVE_RESERVED_SHM);
}

#[test]
fn sec_cap_unregistered_shm() {
    hidden(SecureCaps::UNREGISTERED_SHM);
}

#[test]
fn sec_cap_dynamic_shm() {
    let (caps, a2, a3) = heard(LEAST, Config::default());
    assert_eq!((caps, a2, a3), (SecureCaps::DYNAMIC_SHM, 0, 0));
    // Without it nothing can be shared, and no VM gets the TEE.
    let machine = Machine::new();
    let without = SecureCaps::all() - SecureCaps::DYNAMIC_SHM;
    machine.set_tee(uuid::API_UID, without.bits(), 2);
    let error = crate::ProbeError::NoDynamicSharedMemory;
    assert_eq!(crate::probe(&machine.add_vm(1, 1)), Err(error));
}

#[test]
fn sec_cap_virtualization() {
    hidden(SecureCaps::VIRTUALIZATION);
}

#[test]
fn sec_cap_memref_null() {
    let (caps, ..) = heard(LEAST | SecureCaps::MEMREF_NULL, Config::default());
    assert!(caps.contains(SecureCaps::MEMREF_NULL));
    assert!(!heard(LEAST, generous()).0.contains(SecureCaps::MEMREF_NULL));
}

/// a2, the largest notification value, comes with the bit.
#[test]
fn sec_cap_async_notif() {
    let a2a3 = given(
        SecureCaps::ASYNC_NOTIF,
        config(false, true),
        config(true, false),
    );
    assert_eq!(a2a3, [(63, 0), (0, 0)]);
}

/// a3, how many parameters to leave room for, comes with the bit.
#[test]
fn sec_cap_rpc_arg() {
    let a2a3 = given(
        SecureCaps::RPC_ARG,
        config(true, false),
        config(false, true),
    );
    assert_eq!(a2a3, [(0, 4), (0, 0)]);
}

#[test]
fn sec_cap_rpmb_probe() {
    let no = config(true, true);
    let a2a3 = given(SecureCaps::RPMB_PROBE, generous(), no);
    assert_eq!(a2a3, [(0, 0); 2]);
}

#[test]
fn sec_cap_protmem() {
    hidden(SecureCaps::PROTMEM);
}

#[test]
fn sec_cap_dynamic_protmem() {
    hidden(SecureCaps::DYNAMIC_PROTMEM);
}

#[test]
fn sec_cap_unknown() {
    for bit in some(10..32) {
        hidden(SecureCaps::from_bits_retain(1 << bit));
    }
}

/// What OP-TEE hears in a1.
fn told(a1: u64) -> u64 {
    let vm = plain();
    let id = smc::EXCHANGE_CAPABILITIES.get().into();
    assert_eq!(vm.guest().smc([id, a1, 0, 0, 0, 0, 0, 0])[0], 0);
    let last = vm.host.machine().smcs().pop().unwrap();
    vm.end();
    last[1]
}

#[test]
fn nsec_cap_uniprocessor() {
    assert_eq!((told(0), told(1)), (0, 1));
}

/// OP-TEE would refuse the whole call.
#[test]
fn nsec_cap_unknown() {
    for bit in some(1..64) {
        assert_eq!(told(1 << bit), 0, "{bit}");
    }
    assert_eq!(told(u64::MAX), 1);
}
