// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Experiments about MEM_SHARE.

use super::lab::{client, create, list, one, two, up, works};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use guest_bare::PAGE_SIZE;
use guest_bare::ffa::{Answer, Descriptor, Endpoint, Function, SPMC};
use guest_bare::machine::machine;
use guest_bare::pages::Pages;

/// The bit of handles that the hypervisor chooses.
const BY_HYPERVISOR: u64 = 1 << 63;

fn handle(answer: Answer) -> String {
    match answer.handle() {
        Some(handle) => format!("{handle:#x}"),
        None => answer.to_string(),
    }
}

/// Handles, and which ones are used again.
pub fn handles() -> String {
    up();
    create(1);
    create(2);
    let (first, second) = (Endpoint::new(1), Endpoint::new(2));
    let page = Pages::take(1);
    let share = |endpoint: &Endpoint| endpoint.share(&[(page.address(), 1)]);
    let shared = [share(&first), share(&first), share(&second)];
    let old = shared[0].handle().unwrap_or_default();
    let reclaimed = first.reclaim(old);
    let next = share(&first);
    format!(
        "VM 1: {} {}, VM 2: {}; RECLAIM of the first: {reclaimed}, the next: {}; RECLAIM with flags 1: {}, twice: {}",
        handle(shared[0]),
        handle(shared[1]),
        handle(shared[2]),
        handle(next),
        first.reclaim_with(old, 1),
        first.reclaim(old)
    )
}

/// As many objects as OP-TEE has room for.
pub fn limit() -> String {
    let (tee, other) = two();
    let page = Pages::take(1);
    // The client's own page is the first object.
    let answers: Vec<Answer> = (1..64)
        .map(|_| tee.endpoint.share(&[(page.address(), 1)]))
        .collect();
    let good: Vec<u64> = answers.iter().filter_map(Answer::handle).collect();
    let last = good.last().copied().unwrap_or_default();
    let reclaimed = good
        .iter()
        .filter(|handle| tee.endpoint.reclaim(**handle).is_success());
    format!(
        "{} more objects, the last {last:#x}; reclaimed: {}; VM 1 and 2 work: {} {}",
        good.len(),
        reclaimed.count(),
        works(&tee),
        works(&other)
    )
}

/// Shares, and reclaims what was shared.
fn try_share(endpoint: &Endpoint, function: Function, descriptor: &Descriptor) -> String {
    let answer = endpoint.send_memory(function, descriptor);
    let Some(handle) = answer.handle() else {
        return answer.to_string();
    };
    let reclaimed = endpoint.reclaim(handle);
    if reclaimed.is_success() {
        "SUCCESS".into()
    } else {
        format!("SUCCESS with {handle:#x} (RECLAIM: {reclaimed})")
    }
}

/// Fields of the descriptor.
pub fn descriptor() -> String {
    let tee = one();
    let page = Pages::take(1);
    let good = Descriptor::new(1, &[(page.address(), 1)]);
    let send = |change: &dyn Fn(&mut Descriptor)| {
        let mut changed = good.clone();
        change(&mut changed);
        try_share(&tee.endpoint, Function::MemShare, &changed)
    };
    let fields = list([
        ("as it is", send(&|_| {})),
        (
            "short access",
            send(&|d| *d = d.clone().with_short_access()),
        ),
        ("access size 17", send(&|d| d.access_size = 17)),
        ("access size 48", send(&|d| d.access_size = 48)),
        ("two receivers said", send(&|d| d.access_count = 2)),
        ("none", send(&|d| d.access_count = 0)),
        ("access offset 0", send(&|d| d.access_offset = 0)),
        ("0xfff0", send(&|d| d.access_offset = 0xfff0)),
        ("list offset 0xfff0", send(&|d| d.composite_offset = 0xfff0)),
        ("receiver 0x8002", send(&|d| d.receiver = 0x8002)),
        ("receiver 0x8000", send(&|d| d.receiver = SPMC)),
        ("receiver flags 1", send(&|d| d.receiver_flags = 1)),
        ("read only", send(&|d| d.permissions = 1)),
        ("executable", send(&|d| d.permissions = 0xa)),
        ("device", send(&|d| d.attributes = 0x1f)),
        ("non-cacheable", send(&|d| d.attributes = 0x27)),
        ("non-secure bit", send(&|d| d.attributes = 0x6f)),
        ("flags 1", send(&|d| d.flags = 1)),
        ("tag 7", send(&|d| d.tag = 7)),
        ("handle 5", send(&|d| d.handle = 5)),
        ("sender VM 0", send(&|d| d.sender = 0)),
        ("sender VM 9", send(&|d| d.sender = 9)),
    ]);
    let lend = try_share(&tee.endpoint, Function::MemLend, &good);
    let donate = try_share(&tee.endpoint, Function::MemDonate, &good);
    let old = good.bytes_1_0();
    let length = old.len() as u64;
    let old = tee
        .endpoint
        .send_bytes(Function::MemShare, &old, [length, length, 0, 0]);
    let dynamic = tee.endpoint.send_bytes(
        Function::MemShare,
        &good.bytes(),
        [112, 112, page.address(), 1],
    );
    format!(
        "{fields}; LEND: {lend}; DONATE: {donate}; in the form of 1.0: {old}; dynamic buffer: {dynamic}; VM 1 works: {}",
        works(&tee)
    )
}

/// Ranges of the descriptor.
pub fn ranges() -> String {
    let (tee, other) = two();
    let pages = Pages::take(4);
    let at = |page: usize| pages.page(page);
    let good = Descriptor::new(1, &[(at(0), 2)]);
    let send = |change: &dyn Fn(&mut Descriptor)| {
        let mut changed = good.clone();
        change(&mut changed);
        try_share(&tee.endpoint, Function::MemShare, &changed)
    };
    let place = |ranges: &[(u64, u32)]| send(&|d| d.ranges = ranges.into());
    let answers = list([
        ("two ranges", place(&[(at(2), 1), (at(0), 1)])),
        ("one page twice", place(&[(at(0), 1), (at(0), 1)])),
        ("overlapping", place(&[(at(0), 2), (at(1), 2)])),
        ("no page", place(&[(at(0), 0)])),
        ("no range", place(&[])),
        ("one of no page", place(&[(at(0), 1), (at(1), 0)])),
        ("unaligned by 8", place(&[(at(0) + 8, 1)])),
        ("by 1", place(&[(at(0) + 1, 1)])),
        ("total too small", send(&|d| d.total = Some(1))),
        ("too large", send(&|d| d.total = Some(3))),
        ("more ranges said", send(&|d| d.count = Some(2))),
        ("2^32 - 1 said", send(&|d| d.count = Some(u32::MAX))),
        ("pages that wrap", place(&[(at(0), u32::MAX), (at(0), 2)])),
        ("an address that wraps", place(&[(!(PAGE_SIZE - 1), 2)])),
        ("this program", place(&[(machine().image.start, 1)])),
        ("OP-TEE's static memory", place(&[(0x4200_0000, 1)])),
        ("secure RAM", place(&[(0x0e10_0000, 1)])),
        ("the UART", place(&[(0x0900_0000, 1)])),
        ("behind RAM", place(&[(0x40_0000_0000, 1)])),
    ]);
    let shared = [&tee, &other].map(|tee| tee.endpoint.share(&[(at(0), 1)]));
    format!(
        "{answers}; a page in both VMs: {} {}; VM 1 works: {}",
        shared[0],
        shared[1],
        works(&tee)
    )
}

/// Descriptors in fragments.
pub fn fragments() -> String {
    let tee = one();
    let pages = Pages::take(8);
    let ranges: Vec<(u64, u32)> = (0..8).map(|page| (pages.page(page), 1)).collect();
    let bytes = Descriptor::new(1, &ranges).bytes();
    let total = bytes.len() as u64;
    let first = |length: u64| {
        let cut = &bytes[..length as usize];
        tee.endpoint
            .send_bytes(Function::MemShare, cut, [total, length, 0, 0])
            .to_string()
    };
    let answers = list([
        ("all but a range", first(total - 16)),
        ("header alone", first(48)),
        ("header and access", first(80)),
        ("nothing", first(0)),
    ]);
    let longer = tee
        .endpoint
        .send_bytes(Function::MemShare, &bytes, [total - 16, total, 0, 0]);
    let frag = guest_bare::ffa::call(Function::MemFragTx, [0, 0, 16, 1 << 16, 0, 0, 0]);
    format!(
        "{answers}; fragment longer than all: {longer}; FRAG_TX of nothing: {frag}; VM 1 works: {}",
        works(&tee)
    )
}

/// Large objects.
pub fn large() -> String {
    let (tee, other) = two();
    let scattered = |count: usize| {
        let pages = Pages::take(2 * count);
        let ranges: Vec<(u64, u32)> = (0..count).map(|page| (pages.page(2 * page), 1)).collect();
        try_share(
            &tee.endpoint,
            Function::MemShare,
            &Descriptor::new(1, &ranges),
        )
    };
    let few = scattered(250);
    let many = scattered(2048);
    let start = machine().ram.start + (512 << 20);
    let whole = |mib: u64| {
        let pages = (mib << 20) / PAGE_SIZE;
        let descriptor = Descriptor::new(1, &[(start, pages as u32)]);
        try_share(&tee.endpoint, Function::MemShare, &descriptor)
    };
    let sizes = list([
        ("16 MiB", whole(16)),
        ("64 MiB", whole(64)),
        ("128 MiB", whole(128)),
        ("256 MiB", whole(256)),
    ]);
    format!(
        "250 ranges: {few}; 2048: {many}; {sizes}; VM 1 and 2 work: {} {}",
        works(&tee),
        works(&other)
    )
}

/// Handles of others: the hypervisor's, another VM's.
pub fn foreign() -> String {
    let (first, second) = two();
    let page = Pages::take(1);
    let mut own = Descriptor::new(1, &[(page.address(), 1)]);
    own.handle = BY_HYPERVISOR | 0x77;
    let chosen = first.endpoint.send_memory(Function::MemShare, &own);
    let again = first.endpoint.send_memory(Function::MemShare, &own);
    let back = first.endpoint.reclaim(own.handle);
    let stranger = second.begin_at(first.room.handle, 0).map(drop);
    let unregistered = second.endpoint.unregister(first.room.handle);
    let works_after = works(&first);
    let mine = Endpoint::new(1).share(&[(page.address(), 1)]);
    let theirs = Endpoint::new(2).reclaim(mine.handle().unwrap_or_default());
    let unknown = Endpoint::new(1).reclaim(0x1234);
    format!(
        "a handle of the hypervisor's: {}, again: {again}, RECLAIM: {back}; VM 2 calls with VM 1's: {}, \
         unregisters it: {}, VM 1 works: {works_after}; VM 2 reclaims VM 1's: {theirs}; an unknown one: {unknown}; \
         a new client of VM 1 works: {}",
        handle(chosen),
        guest_bare::ffa::tee::describe(&stranger),
        guest_bare::ffa::tee::describe_status(unregistered),
        works(&client(1))
    )
}
