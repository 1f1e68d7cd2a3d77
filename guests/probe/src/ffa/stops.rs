// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Experiments that stop OP-TEE for all VMs.

use super::lab::{add, client, create, destroy, one, open_tests, two, up, works};
use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use guest_bare::ffa::tee::describe_status;
use guest_bare::ffa::{
    self, Descriptor, Endpoint, Function, VERSION, call, call_by, id64, map, version,
};
use guest_bare::pages::Pages;
use guest_bare::{cpu, timer};

/// UNREGISTER_SHM of all ones.
pub fn unregister_ones() -> String {
    let tee = one();
    let answer = describe_status(tee.endpoint.unregister(u64::MAX));
    format!("{answer}; VM 1 works: {}", works(&tee))
}

/// One object more than OP-TEE has room for, and RECLAIM of the first.
pub fn object_65() -> String {
    let tee = one();
    let page = Pages::take(1);
    let mut last = tee.endpoint.share(&[(page.address(), 1)]);
    for _ in 2..65 {
        last = tee.endpoint.share(&[(page.address(), 1)]);
    }
    // The client's page is the first object.
    let answer = tee.endpoint.reclaim(tee.room.handle);
    format!("the last share: {last}; RECLAIM of the first: {answer}")
}

/// A TX buffer in secure memory, and a call that writes to the RX buffer there.
pub fn rxtx_secure() -> String {
    version(VERSION);
    let pages = Pages::take(1);
    let mapped = map(pages.address(), 0x0e10_0000, 1);
    let answer = call(Function::PartitionInfoGet, [0; 7]);
    format!("RXTX_MAP: {mapped}; PARTITION_INFO_GET: {answer}")
}

/// RXTX_MAP after VM_CREATED.
pub fn rxtx_late() -> String {
    version(VERSION);
    let created = create(1);
    up();
    let page = Pages::take(1);
    let answer = Endpoint::new(1).share(&[(page.address(), 1)]);
    format!("VM_CREATED: {created}; a share: {answer}")
}

/// Other buffers after VM_CREATED.
pub fn rxtx_moved() -> String {
    let tee = one();
    let page = Pages::take(1);
    // The first share maps the page of the buffer that it needs.
    let before = tee.endpoint.share(&[(page.address(), 1)]);
    let unmapped = call(Function::RxtxUnmap, [0; 7]);
    let others = Pages::take(2);
    let mapped = map(others.page(0), others.page(1), 1);
    let bytes = Descriptor::new(1, &[(page.address(), 1)]).bytes();
    others.write(0, &bytes);
    let length = bytes.len() as u64;
    let after = call(Function::MemShare, [length, length, 0, 0, 0, 0, 0]);
    format!("a share: {before}; UNMAP: {unmapped}; other buffers: {mapped}; a share: {after}")
}

/// BITMAP_CREATE after ENABLE_ASYNC_NOTIF.
pub fn bitmap_late() -> String {
    let tee = one();
    let enabled = super::lab::status(tee.endpoint.direct([5, 0, 0, 0, 0]));
    let created = call(Function::NotificationBitmapCreate, [1, 1, 0, 0, 0, 0, 0]);
    works(&tee);
    // OP-TEE's test watchdog rings each second.
    for _ in 0..40 {
        timer::sleep(Duration::from_millis(100));
        works(&tee);
    }
    format!(
        "ENABLE: {enabled}; BITMAP_CREATE: {created}; VM 1 works: {}",
        works(&tee)
    )
}

static STOP: AtomicBool = AtomicBool::new(false);

fn ask_for_ever(_: u64) {
    while !STOP.load(Ordering::Relaxed) {
        call_by(ffa::smc, id64(Function::NotificationInfoGet), [0; 7]);
    }
}

/// INFO_GET on three CPUs while a VM comes and goes on the fourth.
pub fn info_race() -> String {
    up();
    create(1);
    for other in 1..cpu::count() {
        cpu::spawn(other, ask_for_ever, 0);
    }
    for _ in 0..90 {
        create(2);
        destroy(2);
    }
    STOP.store(true, Ordering::Relaxed);
    format!("90 lives; VM 1 works: {}", works(&client(1)))
}

/// As many lives of a VM as are safe here, with a session in each.
pub fn few_lives() -> String {
    lives(25)
}

/// More lives of a VM than OP-TEE bears.
pub fn many_lives() -> String {
    lives(200)
}

fn lives(count: usize) -> String {
    let (_, other) = two();
    destroy(1);
    for life in 1..=count {
        let created = create(1);
        let tee = client(1);
        let session = open_tests(&tee);
        let sum = session.and_then(|session| add(&tee, session, 1, 2));
        let ended = destroy(1);
        let reclaimed = tee.endpoint.reclaim(tee.room.handle);
        if sum != Ok(3) || !reclaimed.is_success() {
            return format!(
                "life {life}: VM_CREATED {created}, {sum:?}, VM_DESTROYED {ended}, RECLAIM {reclaimed}"
            );
        }
        guest_bare::say!("life {life}");
    }
    format!("{count} lives; VM 2 works: {}", works(&other))
}
