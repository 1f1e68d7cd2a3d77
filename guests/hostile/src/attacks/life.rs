//! Attacks 43, 44 and 46: the VM resets itself at the worst of times.

use super::parked::Parked;
use super::rpc::long_call;
use crate::attack::Ending;
use crate::kit::{Kit, fresh_cookie};
use alloc::format;
use alloc::string::String;
use core::time::Duration;
use guest_bare::pages::Pages;
use guest_bare::tee::{Message, PageList, apps};
use guest_bare::{PAGE_SIZE, cpu, psci, timer};
use optee_proto::msg::login;
use optee_proto::rpc;

/// The states, by name.
pub const ENDINGS: &[Ending] = &[
    ending(43, "running", running),
    ending(43, "interrupted", interrupted),
    ending(43, "alloc", |kit| at_function(kit, rpc::Function::ALLOC)),
    ending(43, "free", |kit| at_function(kit, rpc::Function::FREE)),
    ending(43, "load-ta", |kit| at_command(kit, rpc::Command::LOAD_TA)),
    ending(43, "files", |kit| at_command(kit, rpc::Command::FS)),
    ending(43, "shm-alloc", |kit| {
        at_command(kit, rpc::Command::SHM_ALLOC)
    }),
    ending(43, "shm-free", |kit| {
        at_command(kit, rpc::Command::SHM_FREE)
    }),
    ending(43, "get-time", get_time),
    ending(43, "notification", notification),
    ending(43, "registering", registering),
    ending(44, "sessions", sessions),
    ending(46, "suspended", suspended),
];

const fn ending(number: u8, name: &'static str, run: fn(&Kit) -> String) -> Ending {
    Ending { number, name, run }
}

/// Resets if the state has come about; what was brought along is never dropped.
fn reset<T>(state: Result<T, String>) -> String {
    match state {
        Ok(state) => {
            core::mem::forget(state);
            psci::system_reset()
        }
        Err(why) => why,
    }
}

/// An application that nobody has.
fn load() -> Message {
    Message::open(apps::NOBODY, login::PUBLIC, &[])
}

fn at_function(kit: &Kit, function: rpc::Function) -> String {
    reset(Parked::at(kit, load(), |call| call.function == function))
}

fn at_command(kit: &Kit, wanted: rpc::Command) -> String {
    reset(Parked::at_command(kit, load(), |command, _| {
        command == wanted
    }))
}

fn call_for_ever(session: u64) {
    let kit = Kit::new();
    kit.send(&long_call(session as u32, u64::from(u32::MAX)));
}

/// Another vCPU is in OP-TEE.
fn running(kit: &Kit) -> String {
    reset(kit.open_tests().map(|session| {
        cpu::spawn(1, call_for_ever, session.into());
        timer::sleep(Duration::from_millis(300));
    }))
}

/// A call waits at a foreign interrupt.
fn interrupted(kit: &Kit) -> String {
    reset(kit.open_tests().and_then(|session| {
        timer::arm(timer::now() + timer::ticks(Duration::from_millis(5)));
        let message = long_call(session, u64::from(u32::MAX));
        Parked::at(kit, message, |call| {
            call.function == rpc::Function::FOREIGN_INTR
        })
    }))
}

fn stats(kit: &Kit) -> Result<Parked, String> {
    let session = kit
        .client
        .open(&kit.supplicant, apps::STATS)
        .map_err(|why| format!("{why:?}"))?;
    Parked::at_get_time(kit, session)
}

fn get_time(kit: &Kit) -> String {
    reset(stats(kit))
}

/// One call waits for another, which waits for the guest.
fn notification(kit: &Kit) -> String {
    let first = Parked::at_command(kit, load(), |command, _| command == rpc::Command::LOAD_TA);
    reset(first.and_then(|first| {
        let second = Parked::at_command(kit, load(), |command, _| {
            command == rpc::Command::NOTIFICATION
        });
        second.map(|second| (first, second))
    }))
}

/// Half of a large buffer is taken in.
fn registering(kit: &Kit) -> String {
    let page = Pages::take(1);
    let count = 3000;
    let list = PageList::new(
        (0..count).map(|_| page.address()),
        0,
        count as u64 * PAGE_SIZE,
    );
    let message = Message::register(fresh_cookie(), &list);
    let parked = Parked::at(kit, message, |call| {
        call.function == rpc::Function::FOREIGN_INTR
    });
    reset(parked.map(|parked| (parked, list, page)))
}

/// Sessions with applications are open. Each has an address space in OP-TEE, of which all VMs together
/// have about sixty.
fn sessions(kit: &Kit) -> String {
    let open = |_| kit.client.open(&kit.supplicant, apps::SMALL);
    let opened = (0..4).map(open).collect::<Result<alloc::vec::Vec<_>, _>>();
    reset(opened.map_err(|why| format!("open a session: {why:?}")))
}

/// All calls wait, with memory, sessions and buffers.
fn suspended(kit: &Kit) -> String {
    reset(kit.share(16).map(core::mem::forget).and_then(|()| {
        let first = stats(kit)?;
        let second =
            Parked::at_command(kit, load(), |command, _| command == rpc::Command::LOAD_TA)?;
        Ok((first, second))
    }))
}
