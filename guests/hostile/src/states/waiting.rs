// SPDX-License-Identifier: Apache-2.0 OR MIT
//! States with calls that wait for the guest, at each kind of RPC that OP-TEE makes.

use super::{State, hold, state};
use crate::attack::holds;
use crate::kit::{Kit, fresh_cookie, of_client};
use crate::parked::{Parked, time};
use alloc::format;
use alloc::string::String;
use guest_bare::PAGE_SIZE;
use guest_bare::tee::message::{View, rmem, value};
use guest_bare::tee::{Message, PageList, Step, apps, files, supplicant};
use optee_proto::msg::{Attr, login};
use optee_proto::smc::{CALL_WITH_ARG, CALL_WITH_RPC_ARG};
use optee_proto::{FunctionId, Uuid, rpc};

/// The states of this kind.
pub const STATES: &[State] = &[
    state("alloc", |kit| {
        at_function(kit, apps::NOBODY, rpc::Function::ALLOC)
    }),
    // The session is open, but the guest does not know it yet.
    state("free", |kit| {
        at_function(kit, apps::SMALL, rpc::Function::FREE)
    }),
    state("free-refused", |kit| {
        at_function(kit, apps::NOBODY, rpc::Function::FREE)
    }),
    state("load-size", |kit| {
        opening(kit, CALL_WITH_ARG, apps::SMALL, is_size)
    }),
    state("load", |kit| {
        opening(kit, CALL_WITH_ARG, apps::SMALL, is_load)
    }),
    state("load-rpc-arg", |kit| {
        opening(kit, CALL_WITH_RPC_ARG, apps::SMALL, is_load)
    }),
    state("load-registered", load_registered),
    state("shm-alloc", |kit| {
        opening(kit, CALL_WITH_ARG, apps::SMALL, is(rpc::Command::SHM_ALLOC))
    }),
    state("shm-alloc-rpc-arg", |kit| {
        opening(
            kit,
            CALL_WITH_RPC_ARG,
            apps::SMALL,
            is(rpc::Command::SHM_ALLOC),
        )
    }),
    state("shm-free", |kit| {
        opening(kit, CALL_WITH_ARG, apps::SMALL, is(rpc::Command::SHM_FREE))
    }),
    state("shm-free-rpc-arg", |kit| {
        opening(
            kit,
            CALL_WITH_RPC_ARG,
            apps::SMALL,
            is(rpc::Command::SHM_FREE),
        )
    }),
    state("shm-free-reused", shm_free_reused),
    state("files-open", |kit| {
        opening(kit, CALL_WITH_ARG, apps::NOBODY, is(rpc::Command::FS))
    }),
    state("files-by-address", |kit| {
        let kit = Kit {
            supplicant: kit.supplicant.by_address(),
            ..*kit
        };
        opening(&kit, CALL_WITH_ARG, apps::NOBODY, is(rpc::Command::FS))
    }),
    state("files-write", files_write),
    state("get-time", get_time),
    state("get-time-rpc-arg", |kit| {
        let session = open(kit, apps::STATS)?;
        let message = time(session);
        let step = kit.client.begin(CALL_WITH_RPC_ARG, &message);
        hold(Parked::from_command(
            kit,
            message,
            step,
            is(rpc::Command::GET_TIME),
        ))
    }),
    state("suspend", suspend),
    state("notification-wait", |kit| hold(two_calls(kit))),
    state("notification-send", notification_send),
    state("socket", socket),
    state("plugin", |kit| {
        opening(
            kit,
            CALL_WITH_ARG,
            apps::PLUGIN,
            is(rpc::Command::SUPP_PLUGIN),
        )
    }),
    state("all-calls", all_calls),
];

/// Returns a test for requests of this command.
fn is(wanted: rpc::Command) -> impl Fn(rpc::Command, View) -> bool {
    move |command, _| command == wanted
}

/// Returns whether it is a LOAD_TA that asks for the application's size.
fn is_size(command: rpc::Command, view: View) -> bool {
    command == rpc::Command::LOAD_TA && view.param(1).c.get() == 0
}

/// Returns whether it is a LOAD_TA that brings the memory for the application.
fn is_load(command: rpc::Command, view: View) -> bool {
    command == rpc::Command::LOAD_TA && view.param(1).c.get() != 0
}

fn open(kit: &Kit, app: Uuid) -> Result<u32, String> {
    of_client(
        &format!("open {app}"),
        kit.client.open(&kit.supplicant, app),
    )
}

fn opens(app: Uuid) -> Message {
    Message::open(app, login::PUBLIC, &[])
}

fn at_function(kit: &Kit, app: Uuid, function: rpc::Function) -> Result<(), String> {
    hold(Parked::at(kit, opens(app), |call| {
        call.function == function
    }))
}

/// Leaves a session half open, at a request that `here` picks.
fn opening(
    kit: &Kit,
    id: FunctionId,
    app: Uuid,
    here: impl Fn(rpc::Command, View) -> bool,
) -> Result<(), String> {
    let message = opens(app);
    let step = kit.client.begin(id, &message);
    hold(Parked::from_command(kit, message, step, here))
}

/// Returns the message is in a registered buffer.
fn load_registered(kit: &Kit) -> Result<(), String> {
    let message = opens(apps::SMALL);
    let cookie = register(kit, &message)?;
    let step = kit.client.begin_registered(cookie, 0);
    hold(Parked::from_command(kit, message, step, is_load))
}

/// Registers the page of a message.
pub fn register(kit: &Kit, message: &Message) -> Result<u64, String> {
    let cookie = fresh_cookie();
    let list = PageList::new([message.address()].into_iter(), 0, PAGE_SIZE);
    of_client(
        "register a message",
        kit.client.register(&kit.supplicant, cookie, &list),
    )?;
    Ok(cookie)
}

/// OP-TEE frees memory; before the guest acknowledges it, the same pages are another buffer under
/// the same cookie.
fn shm_free_reused(kit: &Kit) -> Result<(), String> {
    let parked = Parked::at_command(kit, opens(apps::SMALL), is(rpc::Command::SHM_FREE))?;
    let cookie = parked.view(kit)?.param(0).b.get();
    let object = supplicant::forget(cookie).ok_or("OP-TEE frees what it was not given")?;
    let list = PageList::of(&object.block);
    let got = kit.send(&Message::register(cookie, &list));
    holds(got.is_success(), &format!("register it again: {got:?}"))?;
    hold(Ok((parked, object)))
}

/// Returns a file of the secure storage is being written.
fn files_write(kit: &Kit) -> Result<(), String> {
    let session = open(kit, apps::STORAGE)?;
    let params = [value(Attr::VALUE_INPUT, apps::STORAGE_PRIVATE, 0)];
    let message = Message::invoke(session, apps::STORAGE_LOOP, &params);
    hold(Parked::at_command(kit, message, |command, view| {
        command == rpc::Command::FS && view.param(0).a.get() == files::WRITE
    }))
}

fn get_time(kit: &Kit) -> Result<(), String> {
    open(kit, apps::STATS).and_then(|session| hold(Parked::at_get_time(kit, session)))
}

/// Returns an application waits.
fn suspend(kit: &Kit) -> Result<(), String> {
    let session = open(kit, apps::OS_TEST)?;
    let params = [value(Attr::VALUE_INPUT, 1500, 0)];
    let message = Message::invoke(session, apps::OS_TEST_WAIT, &params);
    hold(Parked::at_command(kit, message, is(rpc::Command::SUSPEND)))
}

/// One call waits for another, which waits for the guest.
fn two_calls(kit: &Kit) -> Result<(Parked, Parked), String> {
    let first = Parked::at_command(kit, opens(apps::NOBODY), is(rpc::Command::LOAD_TA))?;
    let second = Parked::at_command(kit, opens(apps::NOBODY), is(rpc::Command::NOTIFICATION))?;
    Ok((first, second))
}

/// Returns the other call has got its answer and wakes the first one, but the guest does not pass
/// that on.
fn notification_send(kit: &Kit) -> Result<(), String> {
    let (first, second) = two_calls(kit)?;
    let Parked { message, call } = first;
    let send = |command, view: View| {
        command == rpc::Command::NOTIFICATION && view.param(0).a.get() == rpc::NOTIFICATION_SEND
    };
    let first = Parked::from_command(kit, message, Step::Rpc(call), send)?;
    hold(Ok((first, second)))
}

/// Returns an application opens a connection.
fn socket(kit: &Kit) -> Result<(), String> {
    const ADDRESS: &[u8] = b"127.0.0.1\0";
    let session = open(kit, apps::SOCKET)?;
    let shared = kit.share(1)?;
    shared.pages.write(0, ADDRESS);
    let params = [
        value(Attr::VALUE_INPUT, 0, 9999),
        rmem(Attr::RMEM_INPUT, 0, ADDRESS.len() as u64, shared.cookie),
        rmem(Attr::RMEM_OUTPUT, 64, 64, shared.cookie),
        value(Attr::VALUE_OUTPUT, 0, 0),
    ];
    let message = Message::invoke(session, apps::SOCKET_TCP, &params);
    let parked = Parked::at_command(kit, message, is(rpc::Command::SOCKET));
    core::mem::forget(shared);
    hold(parked)
}

/// Calls on all threads wait, with memory, sessions and buffers.
fn all_calls(kit: &Kit) -> Result<(), String> {
    core::mem::forget(kit.share(16)?);
    get_time(kit)?;
    opening(kit, CALL_WITH_ARG, apps::SMALL, is_load)
}
