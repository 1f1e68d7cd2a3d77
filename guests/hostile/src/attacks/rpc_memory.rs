// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attacks 29 to 32: wrong answers to OP-TEE's requests for memory.

use super::rpc::{failed, lie_about_size};
use crate::attack::{Attack, Observation, Verdict, holds, same};
use crate::kit::{Got, Kit, bad_addresses, fresh_cookie, of_client};
use crate::parked::Parked;
use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicBool, Ordering};
use guest_bare::PAGE_SIZE;
use guest_bare::cpu::parallel;
use guest_bare::pages::Pages;
use guest_bare::tee::message::View;
use guest_bare::tee::{Act, Message, PageList, apps, memory};
use optee_proto::msg::{Attr, Param, login};
use optee_proto::{Origin, TeeResult, rpc};

/// How many times an answer is given while another vCPU changes it.
const ROUNDS: u32 = 100;

/// The attacks, in the order of the plan.
pub const ATTACKS: &[Attack] = &[
    Attack {
        number: 29,
        title: "the answer has another command, other counts and attributes, and physical addresses (W3, W4, W6)",
        expected: "command and counts are ignored; invalid memory is freed, and OP-TEE gets none",
        run: other_question,
    },
    Attack {
        number: 30,
        title: "invalid memory for RPC messages: no RAM, not aligned, without a cookie",
        expected: "it is returned by FREE, and OP-TEE gets none: OUT_OF_MEMORY",
        run: bad_memory,
    },
    Attack {
        number: 31,
        title: "memory for data that is smaller than requested, exceeds the VM's quota, or exceeds what OP-TEE can map",
        expected: "SHM_FREE by the hypervisor, and OP-TEE gets none: OUT_OF_MEMORY",
        run: bad_sizes,
    },
    Attack {
        number: 32,
        title: "memory for data by address: one page, and two",
        expected: "one is translated, two are freed",
        run: by_address,
    },
];

/// What happened to the memory in the answer to a call's SHM_ALLOC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// OP-TEE accepted it, used it and freed it.
    Taken,
    /// The hypervisor made the guest free it at once.
    Freed,
    /// It was not used at all.
    Ignored,
}

/// Makes a call in which OP-TEE asks for memory for data: loading an application that does not
/// exist. `answer` writes the answer to the first SHM_ALLOC. Returns the call's result and the
/// memory's fate.
fn allocate(
    kit: &Kit,
    cookie: u64,
    answer: impl Fn(View),
    size: Option<u64>,
) -> Result<(Got, Fate), String> {
    let message = Message::open(apps::NOBODY, login::PUBLIC, &[]);
    let with = kit.supplicant.with_message(&message);
    let mut asked = 0;
    let mut fate = Fate::Ignored;
    let mut used = false;
    let mut loaded = size.is_none();
    let got = kit.send_hooked(&message, |call| {
        let Some(view) = with.message(call) else {
            return Act::Default;
        };
        match with.command(call) {
            // The memory has the size that the application is said to have.
            Some(rpc::Command::LOAD_TA) if !loaded => {
                loaded = true;
                let mut to = view.param(1);
                to.b = size.unwrap_or(0).into();
                view.set_param(1, &to);
                view.set_ret(TeeResult::SUCCESS);
                Act::DONE
            }
            Some(rpc::Command::SHM_ALLOC) if loaded && asked == 0 => {
                asked += 1;
                view.set_ret(TeeResult::SUCCESS);
                answer(view);
                Act::DONE
            }
            Some(rpc::Command::SHM_FREE) if view.param(0).b.get() == cookie => {
                fate = if used { Fate::Taken } else { Fate::Freed };
                view.set_ret(TeeResult::SUCCESS);
                Act::DONE
            }
            Some(rpc::Command::FS | rpc::Command::LOAD_TA)
                if view.param(1).c.get() == cookie && cookie != 0 =>
            {
                used = true;
                view.set_ret(TeeResult::ITEM_NOT_FOUND);
                Act::DONE
            }
            _ => Act::Default,
        }
    });
    holds(
        asked == 1,
        &format!("OP-TEE does not ask for memory: {got:?}"),
    )?;
    Ok((got, fate))
}

fn other_question(kit: &Kit) -> Verdict {
    let pages = Pages::take(1);
    let good = PageList::of(&pages);
    let hypervisor = PageList::new([0x4020_0000].into_iter(), 0, PAGE_SIZE);
    let cookie = fresh_cookie();
    let list = |list: &PageList| Param::new(Attr::PAGE_LIST, list.pointer(), PAGE_SIZE, cookie);
    let address = |at: u64| Param::new(Attr::TMEM_OUTPUT, at, PAGE_SIZE, cookie);
    let mut denied = 0;
    let mut play =
        |what: &str, change: &dyn Fn(View), param: Param, fate: Fate| -> Result<(), String> {
            let (got, seen) = allocate(
                kit,
                cookie,
                |view| {
                    view.set_param(0, &param);
                    change(view);
                },
                None,
            )?;
            same(what, &seen, &fate)?;
            let end = if fate == Fate::Taken {
                TeeResult::ITEM_NOT_FOUND
            } else {
                denied += 1;
                TeeResult::OUT_OF_MEMORY
            };
            match got {
                Got::Result(result, _) => same(what, &result, &end),
                got => Err(format!("{what}: {got:?}")),
            }
        };
    let nothing = |_: View| {};
    let command = |view: View| view.set_cmd(rpc::Command::GET_TIME.0);
    // The request is remembered, whatever command the answer has.
    play("another command", &command, list(&good), Fate::Taken)?;
    for count in [0, 2, 5, 1 << 27, 1 << 31, u32::MAX] {
        let counts = |view: View| view.set_num_params(count);
        play(
            &format!("{count} parameters"),
            &counts,
            list(&good),
            Fate::Taken,
        )?;
    }
    // A physical address is refused, whatever the command.
    for change in [&nothing as &dyn Fn(View), &command] {
        play(
            "a list of the hypervisor's page",
            change,
            list(&hypervisor),
            Fate::Freed,
        )?;
        for bad in bad_addresses().iter().filter(|bad| bad.address != 0) {
            play(bad.what, change, address(bad.address), Fate::Freed)?;
        }
    }
    // These attributes are no answer to the request.
    for attr in [
        Attr::NONE,
        Attr::VALUE_OUTPUT,
        Attr::RMEM_OUTPUT,
        Attr::TMEM_INPUT,
        Attr::TMEM_INOUT,
        Attr(Attr::TMEM_INOUT.0 | Attr::NONCONTIG),
        Attr(Attr::PAGE_LIST.0 | Attr::META),
        Attr(Attr::PAGE_LIST.0 | 1 << 40),
        Attr(Attr::PAGE_LIST.0 | 1 << 16),
    ] {
        let param = Param::new(attr, good.pointer(), PAGE_SIZE, cookie);
        play(&format!("{attr:?}"), &nothing, param, Fate::Ignored)?;
    }
    flip_answer(kit, cookie, &good, &hypervisor)?;
    Ok(Observation::new(format!(
        "{denied} refused, and some while they changed"
    )))
}

/// Makes another vCPU change the page list of the answer while it is fetched.
fn flip_answer(kit: &Kit, cookie: u64, good: &PageList, bad: &PageList) -> Result<(), String> {
    // The place of the next SHM_ALLOC's first parameter is known once there is a call.
    let room = Pages::take(1);
    let param = room.address() + optee_proto::msg::size(0) as u64;
    let round = || {
        let message = Message::open(apps::NOBODY, login::PUBLIC, &[]);
        let (mut asked, mut fate, mut used) = (false, Fate::Ignored, false);
        let got = kit.send_hooked(&message, |call| {
            if call.function == rpc::Function::ALLOC {
                return Act::memory(room.address(), room.address());
            }
            if call.function == rpc::Function::FREE {
                return Act::DONE;
            }
            let view = View(room.address());
            let name = view.param(0).b.get();
            match rpc::Command(view.cmd()) {
                rpc::Command::SHM_ALLOC if !asked => {
                    asked = true;
                    let at = Param::new(Attr::PAGE_LIST, good.pointer(), PAGE_SIZE, cookie);
                    view.set_param(0, &at);
                    view.set_ret(TeeResult::SUCCESS);
                }
                rpc::Command::SHM_FREE if name == cookie => {
                    fate = if used { Fate::Taken } else { Fate::Freed };
                    view.set_ret(TeeResult::SUCCESS);
                }
                rpc::Command::FS | rpc::Command::LOAD_TA => {
                    used = true;
                    view.set_ret(TeeResult::ITEM_NOT_FOUND);
                }
                _ => view.set_ret(TeeResult::OUT_OF_MEMORY),
            }
            Act::DONE
        });
        match (fate, got) {
            (Fate::Taken, Got::Result(TeeResult::ITEM_NOT_FOUND, _)) => Ok(()),
            (Fate::Freed, Got::Result(TeeResult::OUT_OF_MEMORY, _)) => Ok(()),
            other => Err(format!("while the answer changes: {other:?}")),
        }
    };
    let stop = AtomicBool::new(false);
    let result = spin::Mutex::new(Ok(()));
    parallel(2, &|cpu| {
        if cpu == 1 {
            while !stop.load(Ordering::Relaxed) {
                for version in [good.pointer(), bad.pointer()] {
                    memory::write_u64(param + 8, version);
                }
            }
            return;
        }
        let outcome = (0..ROUNDS).try_for_each(|_| round());
        *result.lock() = outcome;
        stop.store(true, Ordering::Relaxed);
    });
    result.into_inner()
}

fn bad_memory(kit: &Kit) -> Verdict {
    let page = Pages::take(1);
    let taken = kit.share(1)?;
    // Memory for RPC messages that OP-TEE has, in a call that waits.
    let stats = of_client(
        "open stats.pta",
        kit.client.open(&kit.supplicant, apps::STATS),
    )?;
    let parked = Parked::at_get_time(kit, stats)?;
    let cookie = fresh_cookie();
    let mut denied = 0;
    let mut play = |what: &str, address: u64, cookie: u64, back: u32| {
        let message = Message::open(apps::NOBODY, login::PUBLIC, &[]);
        let (mut asked, mut freed) = (0, 0);
        let got = kit.send_hooked(&message, |call| match call.function {
            rpc::Function::ALLOC => {
                asked += 1;
                Act::memory(address, cookie)
            }
            rpc::Function::FREE => {
                freed += u32::from(call.cookie() == cookie);
                Act::DONE
            }
            _ => Act::Default,
        });
        holds(asked > 0, "OP-TEE does not ask for memory")?;
        same(&format!("{what}: given back"), &freed, &(asked * back))?;
        denied += u64::from(if address == 0 { 0 } else { asked });
        match got {
            Got::Result(result, Origin::TEE) => same(what, &result, &TeeResult::OUT_OF_MEMORY),
            got => Err(format!("{what}: {got:?}")),
        }
    };
    for bad in bad_addresses() {
        // With address zero a guest says that it has no memory.
        let back = u32::from(bad.address != 0);
        play(bad.what, bad.address, cookie, back)?;
    }
    for offset in [1, 8, 64, 2048, 4088] {
        play("not aligned", page.address() + offset, cookie, 1)?;
    }
    play("without a name", page.address(), 0, 0)?;
    let got = parked.finish(kit);
    holds(got.is_success(), &format!("the call in between: {got:?}"))?;
    taken.unshare()?;
    kit.close(stats)?;
    Ok(Observation::denied(format!("{denied} refused"), denied))
}

fn bad_sizes(kit: &Kit) -> Verdict {
    let page = Pages::take(1);
    let cookie = fresh_cookie();
    let play = |what: &str, asked: u64, given: u64| {
        let pages = given.div_ceil(PAGE_SIZE).min(8192) as usize;
        let list = PageList::new((0..pages).map(|_| page.address()), 0, given);
        let answer = |view: View| {
            view.set_param(
                0,
                &Param::new(Attr::PAGE_LIST, list.pointer(), given, cookie),
            );
        };
        let (got, fate) =
            allocate(kit, cookie, answer, Some(asked)).map_err(|why| format!("{what}: {why}"))?;
        same(what, &fate, &Fate::Freed)?;
        match got {
            Got::Result(result, _) => same(what, &result, &TeeResult::OUT_OF_MEMORY),
            got => Err(format!("{what}: {got:?}")),
        }
    };
    let mib = 1 << 20;
    play("nothing", PAGE_SIZE, 0)?;
    play("one byte less", 2 * PAGE_SIZE, 2 * PAGE_SIZE - 1)?;
    play("a page less", 2 * PAGE_SIZE, PAGE_SIZE)?;
    play("a size that wraps", PAGE_SIZE, u64::MAX - PAGE_SIZE)?;
    play("2^44 bytes", PAGE_SIZE, 1 << 44)?;
    play("more than the VM may share", PAGE_SIZE, 17 * mib)?;
    // OP-TEE panics when it has to map as much as this for a VM.
    play("more than OP-TEE can map", PAGE_SIZE, 12 * mib)?;
    failed(
        "an application of 12 MiB",
        lie_about_size(kit, 12 * mib, false)?,
    )?;
    map_for_pta(kit, &page, 12 * mib)?;
    Ok(Observation::new(
        "7 sizes, and 12 MiB for applications".into(),
    ))
}

/// Registers a buffer that OP-TEE accepts, and passes a part of it to a pseudo TA, for which all of
/// it is mapped.
fn map_for_pta(kit: &Kit, page: &Pages, size: u64) -> Result<(), String> {
    let cookie = fresh_cookie();
    let count = (size / PAGE_SIZE) as usize;
    let list = PageList::new((0..count).map(|_| page.address()), 0, size);
    let got = kit.send(&Message::register(cookie, &list));
    holds(
        got.is_success(),
        &format!("register {count} pages: {got:?}"),
    )?;
    kit.with_tests(|session| {
        let got = kit.sum(session, cookie, 0, 64);
        same("64 bytes of 12 MiB", &got, &Got::OUT_OF_MEMORY)
    })?;
    let got = kit.unregister(cookie);
    holds(got.is_success(), &format!("unregister: {got:?}"))
}

fn by_address(kit: &Kit) -> Verdict {
    let pages = Pages::take(2);
    let cookie = fresh_cookie();
    let answer = |size: u64| {
        let address = pages.address();
        move |view: View| {
            view.set_param(0, &Param::new(Attr::TMEM_OUTPUT, address, size, cookie));
        }
    };
    let (got, fate) = allocate(kit, cookie, answer(PAGE_SIZE), Some(PAGE_SIZE))?;
    same("one page", &fate, &Fate::Taken)?;
    let ended = |got: Got| match got {
        Got::Result(result, _) => Some(result),
        _ => None,
    };
    same("one page", &ended(got), &Some(TeeResult::ITEM_NOT_FOUND))?;
    let (got, fate) = allocate(kit, cookie, answer(2 * PAGE_SIZE), Some(2 * PAGE_SIZE))?;
    same("two pages", &fate, &Fate::Freed)?;
    same("two pages", &ended(got), &Some(TeeResult::OUT_OF_MEMORY))?;
    // Linux does so for its kernel's memory: a whole call.
    let linux = Kit {
        supplicant: kit.supplicant.by_address(),
        ..*kit
    };
    let session = of_client(
        "open an application",
        linux.client.open(&linux.supplicant, apps::SMALL),
    )?;
    linux.close(session)?;
    Ok(Observation::denied("one page taken, two refused".into(), 1))
}
