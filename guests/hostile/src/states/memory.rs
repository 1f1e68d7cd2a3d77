//! Memory that is shared, or on its way there or back.

use super::running::running_application;
use super::waiting::register;
use super::{State, hold, state};
use crate::attack::holds;
use crate::kit::{Kit, fresh_cookie, of_client};
use crate::parked::{Parked, time};
use alloc::format;
use alloc::string::String;
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

/// More than is taken in before the guest gets the pCPU back.
const LARGE: usize = 3000;

fn returned(call: &Suspended) -> bool {
    call.function == rpc::Function::FOREIGN_INTR
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
