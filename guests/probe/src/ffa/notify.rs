// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Experiments about notifications.

use super::lab::{client, create, destroy, list, two, up, works};
use alloc::format;
use alloc::string::String;
use core::time::Duration;
use guest_bare::ffa::tee::{Refusal, describe};
use guest_bare::ffa::{self, Answer, Endpoint, Function, OPTEE, Tee, call, call_by, id64};
use guest_bare::gic;
use guest_bare::timer::Deadline;
use optee_proto::TeeResult;
use optee_proto::msg::Command;

/// The SGI that OP-TEE donates.
const SGI: u32 = 8;

fn create_bitmap(vm: u64, vcpus: u64) -> Answer {
    call(
        Function::NotificationBitmapCreate,
        [vm, vcpus, 0, 0, 0, 0, 0],
    )
}

fn destroy_bitmap(vm: u64) -> Answer {
    call(Function::NotificationBitmapDestroy, [vm, 0, 0, 0, 0, 0, 0])
}

fn bind(function: Function, vm: u64, bits: u64) -> Answer {
    let w1 = u64::from(OPTEE) << 16 | vm;
    call(function, [w1, 0, bits & 0xffff_ffff, bits >> 32, 0, 0, 0])
}

fn get(vm: u64, flags: u64) -> Answer {
    call(Function::NotificationGet, [vm, flags, 0, 0, 0, 0, 0])
}

fn info() -> Answer {
    call_by(ffa::smc, id64(Function::NotificationInfoGet), [0; 7])
}

/// Describes w2 and w3 of an answer.
fn words(answer: Answer) -> String {
    if answer.is_success() {
        format!("{:#x} {:#x}", answer.0[2], answer.0[3])
    } else {
        format!("{answer}")
    }
}

fn enable(endpoint: &Endpoint, value: u32) -> String {
    super::lab::status(endpoint.direct([5, value, 0, 0, 0]))
}

/// Waits for OP-TEE's SGI, and takes it.
fn notified() -> bool {
    Deadline::after(Duration::from_secs(4)).wait(|| {
        let taken = gic::take_as(gic::own_group());
        if let Some(intid) = taken {
            gic::end_as(gic::own_group(), intid);
        }
        taken == Some(SGI)
    })
}

/// Sends a command. OP-TEE leaves the result of these commands unchanged.
fn command(tee: &Tee, command: Command) -> String {
    match tee.send(command, 0, 0, &[]) {
        Err(Refusal::Tee(TeeResult(0xdead_beef))) => "no result".into(),
        other => describe(&other),
    }
}

/// From the bitmap to the end.
pub fn life() -> String {
    gic::enable_private(1 << SGI);
    let (tee, other) = two();
    let number = call(Function::Features, [2, 0, 0, 0, 0, 0, 0]).value();
    let before = list([
        ("GET", words(get(1, 1))),
        ("INFO_GET", words(info())),
        ("BIND", words(bind(Function::NotificationBind, 1, 1))),
        ("of VM 9", words(create_bitmap(9, 1))),
    ]);
    let created = [
        create_bitmap(1, 1),
        create_bitmap(1, 1),
        create_bitmap(2, 64),
    ];
    let unbound = enable(&tee.endpoint, 5);
    let bound = [
        bind(Function::NotificationBind, 1, 1),
        bind(Function::NotificationBind, 1, 1),
        bind(Function::NotificationBind, 1, u64::MAX),
    ];
    let enabled = [0, 0, 64].map(|value| enable(&tee.endpoint, value));
    works(&tee);
    let came = notified();
    let told = [info(), info()].map(words);
    let others = words(get(2, 1));
    let got = [get(1, 0xf), get(1, 1)].map(words);
    let after = words(info());
    let half = command(&tee, Command::DO_BOTTOM_HALF);
    let again = notified();
    let pending = destroy_bitmap(1);
    let wrong = list([
        ("of VM 9", words(get(9, 1))),
        ("vCPU 5", words(get(1 | 5 << 16, 1))),
        ("flags 0", words(get(1, 0))),
    ]);
    let cleared = words(get(1, 1));
    let bits = destroy_bitmap(1);
    let freed = [
        bind(Function::NotificationUnbind, 1, 1),
        bind(Function::NotificationUnbind, 1, 1),
        destroy_bitmap(1),
        destroy_bitmap(1),
    ];
    let plain = |answers: &[Answer]| {
        let each: alloc::vec::Vec<String> = answers.iter().map(|a| format!("{a}")).collect();
        each.join(" ")
    };
    format!(
        "SRI {number}; before: {before}; BITMAP_CREATE of VM 1, again, of VM 2 with 64 vCPUs: {}; ENABLE of an unbound bit: {unbound}; \
         BIND bit 0, again, all: {}; ENABLE of 0, again, of 64: {}; SGI 8 comes: {came}; INFO_GET twice: {}; GET of VM 2: {others}; \
         of VM 1, twice: {}; INFO_GET: {after}; DO_BOTTOM_HALF: {half}; SGI 8 again: {again}; BITMAP_DESTROY: {pending}; \
         GET {wrong}, of VM 1: {cleared}; BITMAP_DESTROY: {bits}; UNBIND twice, BITMAP_DESTROY twice: {}; VM 1 and 2 work: {} {}",
        plain(&created),
        plain(&bound),
        enabled.join(" "),
        told.join(", "),
        got.join(", "),
        plain(&freed),
        works(&tee),
        works(&other)
    )
}

/// Notifications in a VM's later lives.
pub fn lives() -> String {
    gic::enable_private(1 << SGI);
    up();
    let mut all = alloc::vec::Vec::new();
    for _ in 0..4 {
        create(1);
        create_bitmap(1, 1);
        let bound = bind(Function::NotificationBind, 1, 1);
        let tee = client(1);
        let enabled = enable(&tee.endpoint, 0);
        works(&tee);
        let came = notified();
        all.push(format!("BIND {bound}, ENABLE {enabled}, SGI 8: {came}"));
        destroy(1);
        tee.endpoint.reclaim(tee.room.handle);
    }
    create(1);
    let tee = client(1);
    // Time for a timer of an earlier life to fire.
    guest_bare::timer::sleep(Duration::from_secs(3));
    format!("{}; VM 1 works: {}", all.join("; "), works(&tee))
}
