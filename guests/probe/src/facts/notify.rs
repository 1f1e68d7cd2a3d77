// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Experiments about asynchronous notifications.

use crate::lab::{Code, Lab, client, create, describe, destroy, hypervisor};
use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use guest_bare::cpu;
use guest_bare::tee::client::Failure;
use guest_bare::timer::{self, Deadline};
use optee_proto::msg::Command;
use optee_proto::{TeeResult, smc};

/// ENABLE_ASYNC_NOTIF as the hypervisor itself.
pub fn enable_zero(lab: &Lab) -> String {
    create(1);
    let [a0, ..] = hypervisor().fast(smc::ENABLE_ASYNC_NOTIF, 0);
    format!("{}; VM 1 works: {}", Code(a0), lab.works(1))
}

/// GET_ASYNC_NOTIF_VALUE as the hypervisor itself.
pub fn value_zero(lab: &Lab) -> String {
    create(1);
    let [a0, a1, a2, _] = hypervisor().fast(smc::GET_ASYNC_NOTIF_VALUE, 0);
    format!(
        "{}, a1 = {a1}, a2 = {a2}; VM 1 works: {}",
        Code(a0),
        lab.works(1)
    )
}

fn value(vm: u64) -> [u64; 3] {
    let [a0, a1, a2, _] = client(vm).fast(smc::GET_ASYNC_NOTIF_VALUE, 0);
    [a0, a1, a2]
}

/// Waits for a notification for a VM.
fn notified(vm: u64) -> Option<u64> {
    let mut found = None;
    Deadline::after(Duration::from_secs(4)).wait(|| {
        let [_, a1, a2] = value(vm);
        if a2 & smc::ASYNC_NOTIF_VALUE_VALID != 0 {
            found = Some(a1);
        }
        found.is_some()
    });
    found
}

/// Sends a command of VM 1. OP-TEE leaves the result of these commands unchanged.
fn command(lab: &Lab, command: Command) -> String {
    match client(1).command(&lab.supplicant, command) {
        Err(Failure::Tee(TeeResult(0xdead_beef))) => "OK, no result".into(),
        other => describe(&other),
    }
}

/// Enable, get, bottom half, stop.
pub fn life(lab: &Lab) -> String {
    create(1);
    create(2);
    lab.works(1);
    let early = command(lab, Command::DO_BOTTOM_HALF);
    let enabled = Code(client(1).fast(smc::ENABLE_ASYNC_NOTIF, 0)[0]);
    let again = Code(client(1).fast(smc::ENABLE_ASYNC_NOTIF, 0)[0]);
    let first = notified(1);
    let other = value(2);
    let half = command(lab, Command::DO_BOTTOM_HALF);
    let second = notified(1);
    let stopped = command(lab, Command::STOP_ASYNC_NOTIF);
    while value(1)[2] & smc::ASYNC_NOTIF_VALUE_VALID != 0 {}
    let after = notified(1);
    let restarted = Code(client(1).fast(smc::ENABLE_ASYNC_NOTIF, 0)[0]);
    let third = notified(1);
    let ended = destroy(1);
    timer::sleep(Duration::from_secs(2));
    format!(
        "DO_BOTTOM_HALF before: {early}; ENABLE: {enabled}, once more: {again}; a value comes: {first:?}; \
         VM 2's: a2 = {}; DO_BOTTOM_HALF: {half}; \
         another comes: {second:?}; STOP: {stopped}, then {after:?}; ENABLE again: {restarted}, \
         {third:?}; VM_DESTROYED with it enabled: {ended}; VM 2 works two seconds later: {}",
        other[2],
        lab.works(2)
    )
}

static STOP: AtomicBool = AtomicBool::new(false);

fn enable_always(_: u64) {
    while !STOP.load(Ordering::SeqCst) {
        client(1).fast(smc::ENABLE_ASYNC_NOTIF, 0);
    }
}

/// ENABLE_ASYNC_NOTIF on three CPUs while the VM is created and destroyed on the fourth.
pub fn race(lab: &Lab) -> String {
    let cpus = cpu::count();
    for cpu in 1..cpus {
        cpu::spawn(cpu, enable_always, 0);
    }
    let deadline = Deadline::after(Duration::from_secs(20));
    while !deadline.passed() {
        create(1);
        destroy(1);
    }
    STOP.store(true, Ordering::SeqCst);
    for cpu in 1..cpus {
        cpu::join(cpu, Duration::from_secs(10));
    }
    let created = create(1);
    format!(
        "20 s on {cpus} CPUs, nothing fails; VM_CREATED: {created}, works: {}",
        lab.works(1)
    )
}
