// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory that is shared, or on its way there or back.

use super::running::running_application;
use super::waiting::register;
use super::{State, hold, state};
use crate::attack::{holds, same};
use crate::kit::{GONE, Got, Kit, fresh_cookie, of_client, relinquish};
use crate::parked::{Parked, time};
use alloc::format;
use alloc::string::String;
use guest_bare::machine::machine;
use guest_bare::pages::Pages;
use guest_bare::tee::{Message, PageList, Suspended, apps};
use guest_bare::{PAGE_SIZE, cpu};
use optee_proto::rpc;

/// These states.
pub const STATES: &[State] = &[
    state("registering", registering),
    state("unregistering", unregistering),
    state("unregistered", unregistered),
    state("buffers", buffers),
    state("buffers-many", |kit| hold(many(kit, 200))),
];

/// Those that take long, or more memory than the soak's guest has: `tests/tests/masked.rs`.
pub const LONG: &[State] = &[
    state("split", split),
    state("largest", largest),
    state("buffers-most", buffers_most),
];

/// As many pages as a VM may have in its buffers (the quota `pages`).
const MOST: usize = 65_536;
/// What OP-TEE has the memory for in any case.
const LEAST: usize = 2048;
/// Bytes of a block of stage 2.
const BLOCK: u64 = 0x20_0000;
/// Bytes at the beginning of RAM that the program itself may use.
const OWN: u64 = 32 << 20;

/// More than is taken in before the guest gets the pCPU back.
const LARGE: usize = 3000;

fn returned(call: &Suspended) -> bool {
    call.function == rpc::Function::FOREIGN_INTR
}

/// A page of each block of RAM is given back, so that each block has a table of its own.
fn split(_: &Kit) -> Result<(), String> {
    let ram = machine().ram;
    for block in (ram.start + OWN..ram.end).step_by(BLOCK as usize) {
        same("give a page back", &relinquish(block + 0x5000, 1), &GONE)?;
    }
    // And whole blocks of it.
    for block in (ram.start + OWN..ram.start + 2 * OWN).step_by(BLOCK as usize) {
        same(
            "give half of a block back",
            &relinquish(block + 0x10_0000, 256),
            &GONE,
        )?;
    }
    Ok(())
}

/// A buffer of so many pages, which are two that take turns, as none may be pinned more often than 65,534 times.
fn huge(pages: &Pages, count: usize) -> PageList {
    let entries = (0..count).map(|index| pages.page(index % 2));
    PageList::new(entries, 0, count as u64 * PAGE_SIZE)
}

/// The largest buffer that a VM can register is refused, by OP-TEE or for an entry at the end of its list; the largest that OP-TEE takes is
/// registered, unregistered, and registered again.
fn largest(kit: &Kit) -> Result<(), String> {
    let pages = Pages::take(2);
    let most = huge(&pages, MOST);
    let got = kit.send(&Message::register(fresh_cookie(), &most));
    holds(!got.is_success(), &format!("register all: {got:?}"))?;
    let entries = (0..MOST).map(|index| {
        if index + 1 < MOST {
            pages.page(index % 2)
        } else {
            1
        }
    });
    let bad = PageList::new(entries, 0, MOST as u64 * PAGE_SIZE);
    let got = kit.send(&Message::register(fresh_cookie(), &bad));
    same("the last entry is bad", &got, &Got::BAD_PARAMETERS)?;
    let mut count = MOST;
    loop {
        // As large as OP-TEE has the memory for.
        count /= 2;
        let list = huge(&pages, count);
        let cookie = fresh_cookie();
        if kit.send(&Message::register(cookie, &list)).is_success() {
            let got = kit.unregister(cookie);
            holds(got.is_success(), &format!("unregister: {got:?}"))?;
            let got = kit.send(&Message::register(fresh_cookie(), &list));
            holds(got.is_success(), &format!("register: {got:?}"))?;
            return hold(Ok((pages, most, bad, list)));
        }
        core::mem::forget(list);
        holds(count > LEAST, "OP-TEE takes no large buffer")?;
    }
}

/// Buffers of one page, as many as OP-TEE has the memory for.
fn buffers_most(kit: &Kit) -> Result<(), String> {
    many(kit, 200)?;
    while let Ok(buffer) = kit.share(1) {
        core::mem::forget(buffer);
    }
    Ok(())
}

/// Half of a large buffer is taken in.
fn registering(kit: &Kit) -> Result<(), String> {
    let (list, page) = large();
    let message = Message::register(fresh_cookie(), &list);
    hold(Parked::at(kit, message, returned).map(|parked| (parked, list, page)))
}

/// A list of many pages, which are all the same one.
fn large() -> (PageList, Pages) {
    let page = Pages::take(1);
    let pages = (0..LARGE).map(|_| page.address());
    let list = PageList::new(pages, 0, LARGE as u64 * PAGE_SIZE);
    (list, page)
}

/// A buffer is to go, and a call that runs uses it.
fn unregistering(kit: &Kit) -> Result<(), String> {
    let mut last = Err("no other vCPU".into());
    for cpu in 1..cpu::count() {
        let cookie = running_application(kit, cpu)?;
        last = hold(Parked::at(kit, Message::unregister(cookie), returned));
        if last.is_ok() {
            break;
        }
        // It came between two calls.
    }
    last
}

/// A buffer is gone for OP-TEE, and a call that waits has its message in it.
fn unregistered(kit: &Kit) -> Result<(), String> {
    let opened = kit.client.open(&kit.supplicant, apps::STATS);
    let message = time(of_client("open stats.pta", opened)?);
    let cookie = register(kit, &message)?;
    let step = kit.client.begin_registered(cookie, 0);
    let user = Parked::from_command(kit, message, step, |command, _| {
        command == rpc::Command::GET_TIME
    })?;
    let got = kit.unregister(cookie);
    holds(got.is_success(), &format!("unregister: {got:?}"))?;
    hold(Ok(user))
}

/// Buffers of all sizes.
fn buffers(kit: &Kit) -> Result<(), String> {
    for count in [1, 2, 3, 16, 64, 511, 512, 600] {
        core::mem::forget(kit.share(count)?);
    }
    let (list, page) = large();
    let registered = kit.client.register(&kit.supplicant, fresh_cookie(), &list);
    hold(of_client("register a large buffer", registered).map(|()| (list, page)))
}

/// Many buffers of one page.
fn many(kit: &Kit, count: usize) -> Result<(), String> {
    (0..count).try_for_each(|_| kit.share(1).map(core::mem::forget))
}
