// SPDX-License-Identifier: Apache-2.0 OR MIT
//! States of shared memory: registered, being registered, or being unregistered.

use super::running::{Busy, running_application};
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

/// The states of this kind.
pub const STATES: &[State] = &[
    state("registering", registering),
    state("unregistering", unregistering),
    state("unregistered", unregistered),
    state("buffers", buffers),
    state("buffers-many", |kit| hold(many(kit, 200))),
];

/// States that take long, or more memory than the soak test's guest has: `tests/tests/masked.rs`.
pub const LONG: &[State] = &[
    state("split", split),
    state("largest", largest),
    state("buffers-most", buffers_most),
];

/// The most pages that a VM may have in its buffers (the quota `pages`).
const MOST: usize = 65_536;
/// The number of pages for which OP-TEE certainly has the memory.
const LEAST: usize = 2048;
/// The bytes of a block of stage 2.
const BLOCK: u64 = 0x20_0000;
/// The bytes at the beginning of RAM that the program itself may use.
const OWN: u64 = 32 << 20;

/// More pages than are processed before the guest gets the pCPU back.
const LARGE: usize = 3000;

fn returned(call: &Suspended) -> bool {
    call.function == rpc::Function::FOREIGN_INTR
}

/// Gives back a page of each block of RAM, so that each block needs a table.
fn split(_: &Kit) -> Result<(), String> {
    let ram = machine().ram;
    for block in (ram.start + OWN..ram.end).step_by(BLOCK as usize) {
        same("give a page back", &relinquish(block + 0x5000, 1), &GONE)?;
    }
    // Whole blocks are given back as well.
    for block in (ram.start + OWN..ram.start + 2 * OWN).step_by(BLOCK as usize) {
        same(
            "give half of a block back",
            &relinquish(block + 0x10_0000, 256),
            &GONE,
        )?;
    }
    Ok(())
}

/// Returns a list of `count` pages, in which two alternate: a page may be pinned at most 65,534
/// times.
fn huge(pages: &Pages, count: usize) -> PageList {
    let entries = (0..count).map(|index| pages.page(index % 2));
    PageList::new(entries, 0, count as u64 * PAGE_SIZE)
}

/// Returns the largest buffer that a VM can register is refused, by OP-TEE or for an entry at the
/// end of its list; the largest that OP-TEE accepts is registered, unregistered, and registered
/// again.
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
        // Halved until OP-TEE has the memory for it.
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

/// Registers buffers of one page, as many as OP-TEE has the memory for.
fn buffers_most(kit: &Kit) -> Result<(), String> {
    many(kit, 200)?;
    while let Ok(buffer) = kit.share(1) {
        core::mem::forget(buffer);
    }
    Ok(())
}

/// Half of a large buffer has been processed.
fn registering(kit: &Kit) -> Result<(), String> {
    let (list, page) = large();
    let message = Message::register(fresh_cookie(), &list);
    hold(Parked::at(kit, message, returned).map(|parked| (parked, list, page)))
}

/// Returns a list of many entries, all of the same page.
fn large() -> (PageList, Pages) {
    let page = Pages::take(1);
    let pages = (0..LARGE).map(|_| page.address());
    let list = PageList::new(pages, 0, LARGE as u64 * PAGE_SIZE);
    (list, page)
}

/// Returns a buffer is being unregistered while a running call uses it.
fn unregistering(kit: &Kit) -> Result<(), String> {
    let mut last = Err("no other vCPU".into());
    for cpu in 1..cpu::count() {
        let Busy { cookie, .. } = running_application(kit, cpu)?;
        last = hold(Parked::at(kit, Message::unregister(cookie), returned));
        if last.is_ok() {
            break;
        }
        // The request came between two calls.
    }
    last
}

/// OP-TEE has unregistered a buffer that contains the message of a waiting call.
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

/// Registers buffers of all sizes.
fn buffers(kit: &Kit) -> Result<(), String> {
    for count in [1, 2, 3, 16, 64, 511, 512, 600] {
        core::mem::forget(kit.share(count)?);
    }
    let (list, page) = large();
    let registered = kit.client.register(&kit.supplicant, fresh_cookie(), &list);
    hold(of_client("register a large buffer", registered).map(|()| (list, page)))
}

/// Registers many buffers of one page.
fn many(kit: &Kit, count: usize) -> Result<(), String> {
    (0..count).try_for_each(|_| kit.share(1).map(core::mem::forget))
}
