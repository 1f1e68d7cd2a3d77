// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Experiments about creating and destroying VMs, and about threads.

use super::lab::{
    VM_CREATED, add, client, create, destroy, framework_by, list, one, open_tests, park, status,
    two, up, works,
};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use guest_bare::ffa::tee::{Refusal, describe};
use guest_bare::ffa::{OPTEE, SPMC, Tee};
use guest_bare::tee::apps;

/// Numbers, and how many there may be.
pub fn rules() -> String {
    up();
    let answers = list([
        ("0", create(0)),
        ("1", create(1)),
        ("0x7fff", create(0x7fff)),
        ("a third", create(3)),
    ]);
    let unknown = [5, 0, 0xffff].map(destroy);
    let ended = destroy(0x7fff);
    let by_spmc = status(framework_by(0, SPMC, VM_CREATED, 3));
    let secure = destroy(3);
    let secure = format!("{secure}, {}", create(0x8005));
    let other = status(framework_by(0, OPTEE, 0x8000_0002, 3));
    format!(
        "VM_CREATED of {answers}; VM_DESTROYED of 5, 0, 0xffff: {}; of 0x7fff: {ended}, then 3 by the SPMC's id: {by_spmc}; \
         3 gone, then 0x8005: {secure}; message type 2: {other}; VM 1 works: {}",
        unknown.join(" "),
        works(&client(1))
    )
}

/// VM_CREATED of a VM that is there.
pub fn twice() -> String {
    let tee = one();
    let session = open_tests(&tee);
    let sum = |session: &Result<u32, Refusal>| match session {
        Ok(session) => describe(&add(&tee, *session, 1, 2)),
        failed => describe(failed),
    };
    let before = sum(&session);
    let second = create(1);
    let during = sum(&session);
    let ended = destroy(1);
    let after = sum(&session);
    format!(
        "a session before: {before}; VM_CREATED again: {second}, the session: {during}; \
         after one VM_DESTROYED ({ended}): {after}"
    )
}

/// More calls than threads.
pub fn threads() -> String {
    let (tee, other) = two();
    let mut waiting: Vec<Tee> = Vec::new();
    let mut results = Vec::new();
    for _ in 0..12 {
        let next = client(1);
        let parked = park(&next, apps::NOBODY);
        results.push(match &parked {
            Ok(call) => format!("call {call}"),
            failed => describe(failed),
        });
        waiting.push(next);
        if parked.is_err() {
            break;
        }
    }
    format!(
        "{}; VM 1 meanwhile: {}; VM 2 works: {}",
        results.join(", "),
        describe(&tee.close(0x7777)),
        works(&other)
    )
}
