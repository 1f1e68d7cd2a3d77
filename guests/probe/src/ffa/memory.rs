// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Experiments about the RX and TX buffers, and the life of shared memory.

use super::lab::{client, create, destroy, finish, list, one, park, up, works};
use alloc::format;
use alloc::string::{String, ToString};
use guest_bare::ffa::tee::{Shared, describe, describe_status};
use guest_bare::ffa::{self, Endpoint, Function, Tee, VERSION, call, map, version};
use guest_bare::pages::Pages;
use guest_bare::tee::apps;
use optee_proto::msg::Attr;

fn unmap(w1: u64) -> ffa::Answer {
    call(Function::RxtxUnmap, [w1, 0, 0, 0, 0, 0, 0])
}

/// What RXTX_MAP takes.
pub fn rxtx() -> String {
    version(VERSION);
    let pages = Pages::take(64);
    let (tx, rx) = (pages.page(0), pages.page(32));
    let before = list([
        (
            "PARTITION_INFO_GET before",
            call(Function::PartitionInfoGet, [0; 7]),
        ),
        ("RX_RELEASE before", ffa::release()),
        ("UNMAP before", unmap(0)),
    ]);
    // What is taken is unmapped again.
    let attempt = |tx: u64, rx: u64, count: u64| {
        let answer = map(tx, rx, count);
        if answer.is_success() {
            unmap(0);
        }
        answer
    };
    let answers = list([
        ("0 pages", attempt(tx, rx, 0)),
        ("1", attempt(tx, rx, 1)),
        ("16", attempt(tx, rx, 16)),
        ("32", attempt(tx, rx, 32)),
        ("bits 6 and up", attempt(tx, rx, 0x41)),
        ("unaligned by 8", attempt(tx + 8, rx + 8, 1)),
        ("the same page twice", attempt(tx, tx, 1)),
        ("secure RAM", attempt(0x0e10_0000, rx, 1)),
        ("the UART", attempt(0x0900_0000, rx, 1)),
        ("nowhere", attempt(1 << 40, rx, 1)),
    ]);
    let first = map(tx, rx, 1);
    let second = map(tx, rx, 1);
    let other = unmap(5 << 16);
    let again = unmap(0);
    format!(
        "{before}; {answers}; mapped: {first}, twice: {second}, UNMAP of VM 5: {other}, again: {again}"
    )
}

/// Buffers that are replaced after VM_CREATED.
pub fn rxtx_again() -> String {
    let tee = one();
    let before = works(&tee);
    let unmapped = unmap(0);
    // The probe's own buffers, again: the same pages.
    let buffers = ffa::buffers();
    let tx = buffers.tx.lock().address();
    let mapped = map(tx, buffers.rx.address(), 16);
    let page = Pages::take(1);
    let share = tee.endpoint.share(&[(page.address(), 1)]);
    format!(
        "VM 1 works: {before}; UNMAP: {unmapped}; the same pages again: {mapped}; then VM 1's share: {share}, VM 1 works: {}",
        works(&tee)
    )
}

/// RECLAIM and UNREGISTER_SHM, before, during and after the use of an object.
pub fn in_use() -> String {
    let tee = one();
    let endpoint = tee.endpoint;
    let unused = Shared::new(&endpoint, 1).map(|shared| endpoint.reclaim(shared.handle));
    let unused = unused.map_or_else(|why| format!("{why:?}"), |answer| answer.to_string());
    let Ok(other) = Tee::new(endpoint) else {
        return "no second page".into();
    };
    let Ok(call) = park(&other, apps::NOBODY) else {
        return "the call does not wait".into();
    };
    let handle = other.room.handle;
    let during = (
        endpoint.reclaim(handle),
        describe_status(endpoint.unregister(handle)),
    );
    let end = describe(&finish(&other, call));
    let after = endpoint.reclaim(handle);
    let forgotten = describe_status(endpoint.unregister(handle));
    let twice = describe_status(endpoint.unregister(handle));
    let reclaimed = endpoint.reclaim(handle);
    let again = endpoint.reclaim(handle);
    let unknown = [0, 0x1234, handle].map(|handle| describe_status(endpoint.unregister(handle)));
    format!(
        "RECLAIM of what was never used: {unused}; while a call uses it: RECLAIM {}, UNREGISTER {}; the call: {end}; \
         then RECLAIM: {after}; UNREGISTER: {forgotten}, twice: {twice}; RECLAIM: {reclaimed}, twice: {again}; \
         UNREGISTER of 0, an unknown handle, the reclaimed one: {}; VM 1 works: {}",
        during.0,
        during.1,
        unknown.join(" "),
        works(&tee)
    )
}

/// Objects of a VM that is destroyed.
pub fn destroyed() -> String {
    let tee = one();
    let endpoint = tee.endpoint;
    let worked = works(&tee);
    let page = Pages::take(1);
    let unused = endpoint.share(&[(page.address(), 1)]).handle();
    let Ok(other) = Tee::new(endpoint) else {
        return "no second page".into();
    };
    let Ok(_) = park(&other, apps::NOBODY) else {
        return "the call does not wait".into();
    };
    let ended = destroy(1);
    let call = describe(&tee.begin().map(drop));
    let share = endpoint.share(&[(page.address(), 1)]);
    let handle = share.handle().unwrap_or(1);
    let reclaim = |handle: Option<u64>| endpoint.reclaim(handle.unwrap_or_default());
    let answers = list([
        ("never used", reclaim(unused)),
        ("still registered", reclaim(Some(tee.room.handle))),
        ("in a suspended call", reclaim(Some(other.room.handle))),
        ("twice", reclaim(unused)),
    ]);
    let created = create(1);
    format!(
        "VM 1 worked: {worked}; VM_DESTROYED with a suspended call: {ended}; a call: {call}; a share: {share} with handle {handle:#x}; \
         RECLAIM {answers}; VM_CREATED: {created}, works: {}",
        works(&client(1))
    )
}

/// A handle of an earlier life.
pub fn stale() -> String {
    up();
    create(1);
    let endpoint = Endpoint::new(1);
    let page = Pages::take(1);
    let share = || endpoint.share(&[(page.address(), 1)]).handle();
    let old = share();
    destroy(1);
    create(1);
    let new = share();
    let same = old == new;
    let reclaimed = endpoint.reclaim(old.unwrap_or_default());
    let again = endpoint.reclaim(old.unwrap_or_default());
    let tee = client(1);
    let session = tee.open(apps::TESTS);
    let used = Shared::new(&endpoint, 1).map(|shared| {
        let Ok(session) = session else {
            return "no session".into();
        };
        let result = tee.invoke(
            session,
            apps::TESTS_PARAMS,
            &[shared.part(Attr::RMEM_INOUT, 0, 8)],
        );
        describe(&result)
    });
    format!(
        "the handle of the next life is the same: {same}; RECLAIM of the old one: {reclaimed}, twice: {again}; \
         a new object in a call: {}",
        used.unwrap_or_else(|why| format!("{why:?}"))
    )
}
