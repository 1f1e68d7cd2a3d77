// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attacks 19 to 25: the cookies of buffers.

use super::race::ROUNDS;
use crate::attack::{Attack, Observation, Verdict, holds, one_of, same};
use crate::kit::{GONE, Got, IN_USE, Kit, check_bytes, of_client, relinquish};
use crate::parked::Parked;
use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicU32, Ordering};
use guest_bare::PAGE_SIZE;
use guest_bare::cpu::{Barrier, parallel};
use guest_bare::pages::Pages;
use guest_bare::tee::message::rmem;
use guest_bare::tee::{Act, Message, PageList, Step, Suspended, apps, supplicant};
use optee_proto::msg::{Attr, login};
use optee_proto::{Return, TeeResult, rpc};
use spin::Mutex;

/// The attacks, in the order of the plan.
pub const ATTACKS: &[Attack] = &[
    Attack {
        number: 19,
        title: "references to cookie 0, and to the memory of an RPC message (W5)",
        expected: "BAD_PARAMETERS",
        run: rpc_cookies,
    },
    Attack {
        number: 20,
        title: "references to another VM's cookies, to the hypervisor's own, and to an unregistered one",
        expected: "BAD_PARAMETERS",
        run: foreign_cookies,
    },
    Attack {
        number: 21,
        title: "two vCPUs register under one cookie at once",
        expected: "both succeed; the cookie names the newer buffer, and the older one once that is unregistered",
        run: one_cookie_twice,
    },
    Attack {
        number: 22,
        title: "offsets and sizes that wrap around or exceed the buffer",
        expected: "SECURITY, before OP-TEE",
        run: out_of_bounds,
    },
    Attack {
        number: 23,
        title: "UNREGISTER while a call uses the buffer, twice at once, and against a new use",
        expected: "it waits, and the pages stay pinned until it ends; the second gets BAD_PARAMETERS",
        run: unregister_in_use,
    },
    Attack {
        number: 24,
        title: "UNREGISTER and use of memory that OP-TEE asked for",
        expected: "BAD_PARAMETERS, and OP-TEE keeps its memory",
        run: unregister_allocated,
    },
    Attack {
        number: 25,
        title: "a cookie is reused as soon as SHM_FREE or FREE says that it is free",
        expected: "accepted: the old object has already been removed",
        run: reuse_at_once,
    },
];

fn rpc_cookies(kit: &Kit) -> Verdict {
    let stats = of_client(
        "open stats.pta",
        kit.client.open(&kit.supplicant, apps::STATS),
    )?;
    let tests = kit.open_tests()?;
    let parked = Parked::at_get_time(kit, stats)?;
    let cookie = parked.call.cookie();
    holds(cookie != 0, "the RPC's message has no cookie")?;
    let mut tries = 0;
    for name in [0, cookie] {
        for attr in [Attr::RMEM_INPUT, Attr::RMEM_OUTPUT, Attr::RMEM_INOUT] {
            for (offset, size) in [(0, 8), (0, 0), (0, 4096), (4088, 8)] {
                // Cookie 0 with no bytes is the NULL reference, which attack 9 covers.
                if (size, name) == (0, 0) {
                    continue;
                }
                let got = kit.try_param(tests, rmem(attr, offset, size, name));
                same(&format!("cookie {name:#x}"), &got, &Got::BAD_PARAMETERS)?;
                tries += 1;
            }
            let message = Message::open(apps::TESTS, login::PUBLIC, &[rmem(attr, 0, 8, name)]);
            same(
                &format!("OPEN cookie {name:#x}"),
                &kit.send(&message),
                &Got::BAD_PARAMETERS,
            )?;
            tries += 1;
        }
    }
    // The waiting call is not affected.
    let got = parked.finish(kit);
    holds(got.is_success(), &format!("the waiting call: {got:?}"))?;
    kit.close(stats)?;
    kit.close(tests)?;
    Ok(Observation::denied(format!("{tries} references"), tries))
}

fn foreign_cookies(kit: &Kit) -> Verdict {
    /// The first serial number in the hypervisor's cookies, which stands above the kind and the
    /// slot.
    const FIRST_SERIAL: u64 = 1 << 24;
    kit.with_tests(|session| {
        let shared = kit.share(1)?;
        let mut tries = 0;
        let mut refuse = |name: u64| {
            tries += 1;
            let got = kit.sum(session, name, 0, 8);
            if got == Got::BAD_PARAMETERS {
                Ok(())
            } else {
                Err(format!("cookie {name:#x}: {got:?}"))
            }
        };
        // The hypervisor's cookies: the first serial numbers, both kinds, the first slots.
        for serial in FIRST_SERIAL..FIRST_SERIAL + 3000 {
            for low in [0, 1, 2, 1 << 16, 1 << 16 | 1] {
                refuse(serial << 17 | low)?;
            }
        }
        // Linux uses addresses of its kernel's heap as cookies.
        for page in 0..2000 {
            refuse(0xffff_0000_0000_0000 + page * 0x680)?;
        }
        // A cookie that was this VM's, and one beside one that is.
        let gone = kit.share(1)?;
        let name = gone.cookie;
        gone.unshare()?;
        refuse(name)?;
        refuse(shared.cookie.wrapping_neg())?;
        refuse(shared.cookie | 1 << 63)?;
        let count = tries;
        shared.check(session)?;
        shared.unshare()?;
        Ok(Observation::denied(format!("{count} names"), count))
    })
}

fn one_cookie_twice(kit: &Kit) -> Verdict {
    let pages = [Pages::take(1), Pages::take(1)];
    let lists = [PageList::of(&pages[0]), PageList::of(&pages[1])];
    let wins = [AtomicU32::new(0), AtomicU32::new(0)];
    kit.with_tests(|session| {
        let barrier = Barrier::new(2);
        let results = Mutex::new([None, None]);
        let wrong: Mutex<Option<String>> = Mutex::new(None);
        parallel(2, &|cpu| {
            for round in 0..ROUNDS {
                // Both use the same cookie, a new one each round.
                let cookie = 0x1_0000_0000 + u64::from(round);
                barrier.wait();
                let got = kit.send(&Message::register(cookie, &lists[cpu]));
                results.lock()[cpu] = Some(got);
                barrier.wait();
                if cpu == 0 {
                    let judged = judge_twins(kit, session, cookie, *results.lock(), &pages);
                    match judged {
                        Ok(winner) => drop(wins[winner].fetch_add(1, Ordering::Relaxed)),
                        Err(why) => *wrong.lock() = Some(why),
                    }
                }
                barrier.wait();
                if wrong.lock().is_some() {
                    return;
                }
            }
        });
        wrong.into_inner().map_or(Ok(()), Err)
    })?;
    let [first, second] = wins.map(AtomicU32::into_inner);
    Ok(Observation::denied(
        format!("{ROUNDS} rounds: vCPU 0 was the last {first} times, vCPU 1 {second} times"),
        ROUNDS.into(),
    ))
}

/// Finds out which buffer a cookie names after two registered under it. Both are used and
/// unregistered.
fn judge_twins(
    kit: &Kit,
    session: u32,
    cookie: u64,
    results: [Option<Got>; 2],
    pages: &[Pages; 2],
) -> Result<usize, String> {
    for result in results {
        let result = result.ok_or("a result is missing")?;
        holds(result.is_success(), &format!("register: {result:?}"))?;
    }
    let newer = usize::from(check_bytes(kit, session, cookie, &pages[0]).is_err());
    for buffer in [newer, 1 - newer] {
        check_bytes(kit, session, cookie, &pages[buffer])?;
        holds(kit.unregister(cookie).is_success(), "unregister")?;
    }
    same("once more", &kit.unregister(cookie), &Got::BAD_PARAMETERS)?;
    Ok(newer)
}

fn out_of_bounds(kit: &Kit) -> Verdict {
    const SIZE: u64 = 2 * PAGE_SIZE;
    kit.with_tests(|session| {
        let shared = kit.share(2)?;
        let mut tries = 0;
        for (offset, size) in [
            (0, SIZE + 1),
            (1, SIZE),
            (SIZE, 1),
            (SIZE + 1, 0),
            (SIZE - 8, 9),
            (u64::MAX, 0),
            (u64::MAX, 1),
            (u64::MAX, 2),
            (u64::MAX - 7, 16),
            (1 << 63, 1 << 63),
            (0, u64::MAX),
            (8, u64::MAX - 7),
            (PAGE_SIZE, u64::MAX - PAGE_SIZE + 1),
            (1 << 32, 8),
            (0, 1 << 32),
        ] {
            for attr in [Attr::RMEM_INPUT, Attr::RMEM_OUTPUT, Attr::RMEM_INOUT] {
                let param = rmem(attr, offset, size, shared.cookie);
                let got = kit.try_param(session, param);
                same(&format!("{size:#x} from {offset:#x}"), &got, &Got::SECURITY)?;
                let message = Message::open(apps::TESTS, login::PUBLIC, &[param]);
                let got = kit.send(&message);
                same(
                    &format!("OPEN {size:#x} from {offset:#x}"),
                    &got,
                    &Got::SECURITY,
                )?;
                tries += 2;
            }
        }
        // The last bytes belong to the buffer.
        shared.pages.write(SIZE as usize - 8, &[1; 8]);
        let got = kit.sum(session, shared.cookie, SIZE - 8, 8);
        holds(got.is_success(), &format!("the last bytes: {got:?}"))?;
        let mut last = [0; 8];
        shared.pages.read(SIZE as usize - 8, &mut last);
        same("their sum", &last, &[8, 1, 1, 1, 1, 1, 1, 1])?;
        shared.unshare()?;
        Ok(Observation::denied(format!("{tries} references"), tries))
    })
}

/// OP-TEE 4.10 and before panic when a call names a buffer that another call unregisters: the
/// reference count is already zero, but the name is still there. So Postern defers an UNREGISTER,
/// as if an interrupt had come, until no call uses the buffer.
fn unregister_in_use(kit: &Kit) -> Verdict {
    // Opening a session to an application that does not exist, with the buffer as a parameter,
    // waits for LOAD_TA.
    let shared = kit.share(1)?;
    let cookie = shared.cookie;
    let params = [rmem(Attr::RMEM_INOUT, 0, 8, cookie)];
    let message = Message::open(apps::NOBODY, login::PUBLIC, &params);
    let user = Parked::at_command(kit, message, |command, _| command == rpc::Command::LOAD_TA)?;
    let message = Message::unregister(cookie);
    let interrupted = |call: &Suspended| call.function == rpc::Function::FOREIGN_INTR;
    let mut waiter = Parked::at(kit, message, interrupted)?;
    for _ in 0..20 {
        shared.check_pinned()?;
        match kit.client.resume(&waiter.call, [0; 4]) {
            Step::Rpc(call) if interrupted(&call) => waiter.call = call,
            step => return Err(format!("UNREGISTER of a buffer in use: {step:?}")),
        }
    }
    let third = kit.send(&Message::unregister(cookie));
    same("a third call", &third, &Got::Code(Return::ETHREAD_LIMIT))?;
    let got = user.finish(kit);
    let refused = matches!(got, Got::Result(TeeResult::ITEM_NOT_FOUND, _));
    holds(refused, &format!("the session that uses it: {got:?}"))?;
    let again = kit.send(&Message::unregister(cookie));
    same("a second UNREGISTER", &again, &Got::BAD_PARAMETERS)?;
    let message = Message::open(apps::TESTS, login::PUBLIC, &params);
    same("a use", &kit.send(&message), &Got::BAD_PARAMETERS)?;
    shared.check_pinned()?;
    let got = waiter.finish(kit);
    holds(
        got.is_success(),
        &format!("the UNREGISTER that waited: {got:?}"),
    )?;
    same("once more", &kit.unregister(cookie), &Got::BAD_PARAMETERS)?;
    let page = shared.pages.forget();
    same("give the page back", &relinquish(page, 1), &GONE)?;

    // Two of them at once, and one against a use.
    let page = Pages::take(1);
    let list = PageList::of(&page);
    let counts = [const { AtomicU32::new(0) }; 2];
    kit.with_tests(|session| {
        let barrier = Barrier::new(2);
        let results = Mutex::new([None, None]);
        let wrong: Mutex<Option<String>> = Mutex::new(None);
        parallel(2, &|cpu| {
            for round in 0..ROUNDS {
                let cookie = 0x2_0000_0000 + u64::from(round);
                let uses = round % 2 == 0;
                if cpu == 0 {
                    let got = kit.send(&Message::register(cookie, &list));
                    if !got.is_success() {
                        *wrong.lock() = Some(format!("register: {got:?}"));
                    }
                }
                barrier.wait();
                let got = if cpu == 1 && uses {
                    kit.sum(session, cookie, 0, 8)
                } else {
                    kit.unregister(cookie)
                };
                results.lock()[cpu] = Some(got);
                barrier.wait();
                if cpu == 0 {
                    match judge_race(*results.lock(), uses) {
                        Ok(second) => {
                            counts[usize::from(second)].fetch_add(1, Ordering::Relaxed);
                        }
                        Err(why) => *wrong.lock() = Some(why),
                    }
                }
                barrier.wait();
                if wrong.lock().is_some() {
                    return;
                }
            }
        });
        wrong.into_inner().map_or(Ok(()), Err)
    })?;
    same(
        "give the other page back",
        &relinquish(page.forget(), 1),
        &GONE,
    )?;
    let [refused, used] = counts.map(AtomicU32::into_inner);
    Ok(Observation::new(format!(
        "waited for the call; {ROUNDS} races: second refused {refused}, use came first {used}"
    )))
}

/// Judges vCPU 0's UNREGISTER and vCPU 1's UNREGISTER or use; returns whether both succeeded.
fn judge_race(results: [Option<Got>; 2], uses: bool) -> Result<bool, String> {
    let [Some(first), Some(second)] = results else {
        return Err("a result is missing".into());
    };
    let good = [first, second].map(Got::is_success);
    if uses {
        holds(good[0], &format!("UNREGISTER against a use: {first:?}"))?;
        if good[1] {
            return Ok(true);
        }
        return same("the use", &second, &Got::BAD_PARAMETERS).map(|()| false);
    }
    match good {
        [true, false] => same("the second", &second, &Got::BAD_PARAMETERS).map(|()| false),
        [false, true] => same("the second", &first, &Got::BAD_PARAMETERS).map(|()| false),
        _ => Err(format!("two UNREGISTERs: {first:?}, {second:?}")),
    }
}

fn unregister_allocated(kit: &Kit) -> Verdict {
    let tests = kit.open_tests()?;
    let message = Message::open(apps::SMALL, login::PUBLIC, &[]);
    let parked = Parked::at_command(kit, message, |command, view| {
        command == rpc::Command::LOAD_TA && view.param(1).c.get() != 0
    })?;
    let payload = parked.view(kit)?.param(1).c.get();
    let mut tries = 0;
    for cookie in [payload, parked.call.cookie()] {
        same("UNREGISTER", &kit.unregister(cookie), &Got::BAD_PARAMETERS)?;
        same("use", &kit.sum(tests, cookie, 0, 8), &Got::BAD_PARAMETERS)?;
        tries += 2;
    }
    // A buffer that is registered under its cookie is another object, and OP-TEE's memory stays as
    // it is.
    let page = Pages::take(1);
    for (what, got) in [
        (
            "REGISTER under its name",
            kit.send(&Message::register(payload, &PageList::of(&page))),
        ),
        ("UNREGISTER of that", kit.unregister(payload)),
    ] {
        holds(got.is_success(), &format!("{what}: {got:?}"))?;
    }
    let got = kit.unregister(payload);
    same("UNREGISTER once more", &got, &Got::BAD_PARAMETERS)?;
    tries += 1;
    let at = supplicant::object_at(payload, 0).ok_or("the memory is gone")?;
    same("give its first page back", &relinquish(at, 1), &IN_USE)?;
    // The application is loaded through that memory.
    let got = parked.finish(kit);
    holds(got.is_success(), &format!("the session: {got:?}"))?;
    kit.close(parked.message.view().session())?;
    kit.close(tests)?;
    Ok(Observation::denied(
        format!("{tries} tries; the application was loaded"),
        tries,
    ))
}

fn reuse_at_once(kit: &Kit) -> Verdict {
    const TIMES: u32 = 10;
    let tests = kit.open_tests()?;
    let stats = of_client(
        "open stats.pta",
        kit.client.open(&kit.supplicant, apps::STATS),
    )?;
    for _ in 0..TIMES {
        // SHM_FREE with the cookie of the memory through which the application was loaded.
        let message = Message::open(apps::SMALL, login::PUBLIC, &[]);
        let parked =
            Parked::at_command(kit, message, |command, _| command == rpc::Command::SHM_FREE)?;
        let name = parked.view(kit)?.param(0).b.get();
        let page = Pages::take(1);
        let got = kit.send(&Message::register(name, &PageList::of(&page)));
        holds(
            got.is_success(),
            &format!("register under {name:#x}: {got:?}"),
        )?;
        check_bytes(kit, tests, name, &page)?;
        let got = parked.finish(kit);
        holds(got.is_success(), &format!("the session: {got:?}"))?;
        check_bytes(kit, tests, name, &page)?;
        holds(kit.unregister(name).is_success(), "unregister")?;
        kit.close(parked.message.view().session())?;

        // FREE with the cookie of RPC message memory, for memory of another call.
        let none = guest_bare::tee::message::value(Attr::VALUE_OUTPUT, 0, 0);
        let invoke = || Message::invoke(stats, apps::STATS_TIME, &[none, none]);
        let free = |call: &Suspended| call.function == rpc::Function::FREE;
        let parked = Parked::at(kit, invoke(), free)?;
        let name = parked.call.cookie();
        drop(supplicant::forget(name));
        let (mut given, mut asked) = (false, false);
        let message = invoke();
        let got = kit.send_hooked(&message, |call| match call.function {
            rpc::Function::ALLOC => {
                given = true;
                let block = Pages::take(1);
                let address = block.address();
                supplicant::remember(name, block);
                Act::memory(address, name)
            }
            rpc::Function::CMD => {
                asked = call.cookie() == name;
                Act::Default
            }
            _ => Act::Default,
        });
        holds(
            got.is_success(),
            &format!("a call with memory under {name:#x}: {got:?}"),
        )?;
        holds(given && asked, "the memory was not used")?;
        // Only the first call learns that the memory is free.
        let mut first = true;
        let got = kit.finish_hooked(&parked.message, &parked.call, |_| {
            if core::mem::take(&mut first) {
                Act::DONE
            } else {
                Act::Default
            }
        });
        holds(got.is_success(), &format!("the first call: {got:?}"))?;
    }
    kit.close(stats)?;
    kit.close(tests)?;
    one_of("objects left", &supplicant::objects(), &[0])?;
    Ok(Observation::denied(format!("{TIMES} times each"), 0))
}
