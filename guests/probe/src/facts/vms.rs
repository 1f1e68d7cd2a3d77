// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Experiments about creating and destroying VMs.

use crate::lab::{Code, Lab, client, create, describe, describe_step, destroy};
use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use guest_bare::cpu;
use guest_bare::tee::client::Failure;
use guest_bare::tee::message::value;
use guest_bare::tee::{Act, Message, Outcome, Step, Suspended, apps};
use guest_bare::timer;
use optee_proto::msg::Attr;
use optee_proto::{Return, rpc, smc};

/// VM_CREATED of number 0.
pub fn zero(lab: &Lab) -> String {
    let created = create(0);
    create(1);
    format!("{created}; VM 1 works: {}", lab.works(1))
}

/// VM_CREATED of a number that is in use.
pub fn twice(lab: &Lab) -> String {
    let first = create(1);
    let session = lab.open(1, apps::TESTS);
    let client = client(1);
    let sum = |session: &Result<u32, Failure>| match session {
        Ok(session) => describe(&apps::add(&client, &lab.supplicant, *session, 1, 2)),
        failed => describe(failed),
    };
    let before = sum(&session);
    let second = create(1);
    let during = sum(&session);
    let ended = destroy(1);
    let after = sum(&session);
    format!(
        "VM_CREATED twice: {first}, {second}; the first VM's session before: {before}, while there are \
         two: {during}, after one VM_DESTROYED ({ended}): {after}"
    )
}

/// One VM more than OP-TEE was built for.
pub fn third(lab: &Lab) -> String {
    let created = [1, 2, 3].map(create).map(|code| format!("{code}"));
    let ended = destroy(1);
    let again = create(3);
    format!(
        "VM_CREATED of three: {}; after VM_DESTROYED of one ({ended}): {again}; both work: {} {}",
        created.join(" "),
        lab.works(2),
        lab.works(3)
    )
}

/// VM_DESTROYED of numbers that are not in use.
pub fn unknown_destroyed(lab: &Lab) -> String {
    create(1);
    let codes = [5, 0, 0xffff].map(destroy).map(|code| format!("{code}"));
    format!(
        "5, 0, 0xffff: {}; VM 1 works: {}",
        codes.join(" "),
        lab.works(1)
    )
}

static LONG: AtomicU64 = AtomicU64::new(0);

/// Begins a long call of VM 1 on another CPU: a PTA counts. Its result goes to [`LONG`].
fn long_call(session: u64) {
    let lab = Lab::new();
    let rounds = 0x1fff_ffff;
    let message = Message::invoke(
        session as u32,
        apps::TESTS_MUTEX,
        &[
            value(Attr::VALUE_INPUT, 0, rounds),
            value(Attr::VALUE_OUTPUT, 0, 0),
        ],
    );
    let begun = client(1).begin(smc::CALL_WITH_ARG, &message);
    let end = match client(1).run(begun, &lab.supplicant, |_| Act::Default) {
        Outcome::Done(code) => 0x100 | code.get(),
        Outcome::Parked(_) => 0x200,
    };
    LONG.store(end, Ordering::SeqCst);
}

/// VM_DESTROYED while another CPU runs a call of the VM.
pub fn busy_destroyed(lab: &Lab) -> String {
    create(1);
    create(2);
    let Ok(session) = lab.open(1, apps::TESTS) else {
        return "no session".into();
    };
    cpu::spawn(1, long_call, session.into());
    timer::sleep(Duration::from_millis(200));
    let ended = destroy(1);
    let running = LONG.load(Ordering::SeqCst) == 0;
    let call = Code(client(1).fast(smc::CALLS_UID, 0)[0]);
    let third = create(3);
    let waited = cpu::join(1, Duration::from_secs(60));
    let end = LONG.load(Ordering::SeqCst);
    let after = create(3);
    format!(
        "VM_DESTROYED: {ended}, the other CPU still in OP-TEE: {running}; meanwhile fast calls of the VM: \
         {call}, VM_CREATED of another: {third}; the call ends in time: {waited}, with {}; then \
         VM_CREATED: {after}; VM 2 works: {}",
        Code(end & 0xff),
        lab.works(2)
    )
}

static FIRST: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Returns the first two calls of a VM at once, on two CPUs.
pub fn first_calls(_: &Lab) -> String {
    create(1);
    cpu::parallel(2, &|cpu| {
        let lab = Lab::new();
        let message = Message::open(apps::TESTS, 0, &[]);
        let mut seen = 0;
        let with = lab.supplicant.with_message(&message);
        let begun = client(1).begin(smc::CALL_WITH_ARG, &message);
        let outcome = client(1).run(begun, &with, |call| {
            seen |= match with.command(call) {
                Some(rpc::Command::NOTIFICATION) => 1,
                Some(_) => 4,
                None => 2,
            };
            Act::Default
        });
        if outcome == Outcome::Done(Return::OK) && message.view().ret().0 == 0 {
            seen |= 0x100;
        }
        FIRST[cpu].store(seen, Ordering::SeqCst);
    });
    let seen = [0, 1].map(|cpu| FIRST[cpu].load(Ordering::SeqCst));
    let both = seen.iter().all(|seen| seen & 0x100 != 0);
    let waited = seen.iter().any(|seen| seen & 1 != 0);
    format!("both succeed: {both}; one of them waits by the RPC NOTIFICATION: {waited}")
}

/// More calls than threads.
pub fn threads(lab: &Lab) -> String {
    create(1);
    create(2);
    // OP-TEE loads one application per VM at a time: the second waits for the first.
    let stops = [
        rpc::Command::LOAD_TA,
        rpc::Command::NOTIFICATION,
        rpc::Command::LOAD_TA,
    ];
    let calls = stops.map(|stop| lab.open_until(1, apps::NOBODY, stop));
    let results = calls.each_ref().map(|(_, parked)| match parked {
        Ok(call) => format!("suspended as thread {}", call.thread),
        failed => describe(failed),
    });
    format!("{}; VM 2 works: {}", results.join(", "), lab.works(2))
}

/// RETURN_FROM_RPC with threads that the caller may not resume.
pub fn resume(lab: &Lab) -> String {
    create(1);
    create(2);
    lab.works(2);
    let load = rpc::Command::LOAD_TA;
    let (message, parked) = lab.open_until(1, apps::NOBODY, load);
    let Ok(call) = parked else {
        return describe(&parked);
    };
    let with = |a7: u64, thread: u64| {
        let call = Suspended { thread, ..call };
        describe_step(client(a7).resume(&call, [0; 4]))
    };
    let other_vm = with(2, call.thread);
    let wrong = [call.thread + 1, 2, u32::MAX.into()].map(|thread| with(1, thread));
    let far = match client(1).resume(
        &Suspended {
            thread: call.thread | 1 << 32,
            ..call
        },
        lab.supplicant.with_message(&message).answer(&call),
    ) {
        Step::Rpc(_) | Step::Done(Return::OK) => "resumes it".into(),
        step => describe_step(step),
    };
    format!(
        "another VM: {other_vm}; a free thread, one too many, -1: {}; 2^32 + the thread: {far}",
        wrong.join(" ")
    )
}

/// Returns how much of the heap that all VMs share a VM takes.
pub fn nexus_heap(lab: &Lab) -> String {
    create(1);
    let nexus = || apps::pool_stats(&client(1), &lab.supplicant, 0x77, apps::POOL_NEXUS);
    let Ok(one) = nexus() else {
        return describe(&nexus());
    };
    create(2);
    let two = nexus().map_or(0, |stats| stats.used);
    destroy(2);
    let back = nexus().map_or(0, |stats| stats.used);
    for _ in 0..100 {
        create(2);
        destroy(2);
    }
    let later = nexus().map_or(0, |stats| stats.used);
    let apps = apps::pool_stats(&client(1), &lab.supplicant, 0x77, apps::POOL_APPS);
    let heap = apps::pool_stats(&client(1), &lab.supplicant, 0x77, apps::POOL_HEAP);
    format!(
        "nexus heap of {} bytes: {} used with one VM, {two} with two, {back} with one again, {later} after \
         100 more; a VM has {} bytes for applications and a heap of {}",
        one.size,
        one.used,
        apps.map_or(0, |stats| stats.size),
        heap.map_or(0, |stats| stats.size)
    )
}
