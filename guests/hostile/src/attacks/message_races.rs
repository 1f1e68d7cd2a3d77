// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attacks 3 to 5: a message that others use at the same time.

use super::race::{ENOUGH, ROUNDS, flip};
use crate::attack::{Observation, Verdict, holds, one_of, same};
use crate::kit::{GONE, Got, Kit, check_bytes, fresh_cookie, of_client, relinquish};
use crate::parked::Parked;
use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicU32, Ordering};
use guest_bare::cpu::parallel;
use guest_bare::pages::Pages;
use guest_bare::probe;
use guest_bare::tee::message::value;
use guest_bare::tee::{Message, PageList, apps, memory};
use optee_proto::msg::Attr;
use optee_proto::smc::CALL_WITH_ARG;
use optee_proto::{Return, TeeResult};

/// Returns which of two outcomes it is.
fn either(what: &str, got: Got, first: bool, second: Got) -> Result<bool, String> {
    if first {
        return Ok(true);
    }
    same(what, &got, &second).map(|()| false)
}

/// Attack 3.
pub fn rewrite_during_call(kit: &Kit) -> Verdict {
    let mut seen = String::new();
    let mut note = |what: &str, [first, second]: [u32; 2]| {
        seen += &format!("{what} {first}/{second} ");
        // Unless both occur the two vCPUs did not race.
        holds(
            first.min(second) >= ENOUGH,
            &format!("{what}: no race: {first} and {second}"),
        )
    };
    kit.with_tests(|session| {
        // cmd and func share a word: INVOKE of PARAMS, or an invalid command.
        let add = value(Attr::VALUE_INOUT, 40, 2);
        let message = Message::invoke(session, apps::TESTS_PARAMS, &[add]);
        let at = message.address();
        let func = u64::from(apps::TESTS_PARAMS) << 32;
        let counts = flip(at, [func | 1, func | 0xffff], || {
            message.view().set_param(0, &add);
            let got = kit.send(&message);
            either("cmd", got, got.is_success(), Got::EBADCMD)
        })?;
        note("cmd", counts)?;

        // num_params: one, or more than fit into a page.
        let message = Message::invoke(session, apps::TESTS_PARAMS, &[add]);
        let word = message.address() + 24;
        let origin = memory::read_u32(word);
        let counts = flip(word, [1 << 32 | u64::from(origin), 200 << 32], || {
            message.view().set_param(0, &add);
            let got = kit.send(&message);
            // The result's origin is in the word that is rewritten, the result is not.
            let done = matches!(got, Got::Result(TeeResult::SUCCESS, _));
            either("num_params", got, done, Got::EBADADDR)
        })?;
        note("num_params", counts)?;

        // attr: a value, or memory at an address of the hypervisor.
        let aimed = value(Attr::VALUE_INOUT, 0x4020_0000, 2);
        let message = Message::invoke(session, apps::TESTS_PARAMS, &[aimed]);
        let word = message.address() + 32;
        let counts = flip(word, [Attr::VALUE_INOUT.0, Attr::TMEM_INOUT.0], || {
            memory::write_u64(word + 8, 0x4020_0000);
            let got = kit.send(&message);
            either("attr", got, got.is_success(), Got::BAD_PARAMETERS)
        })?;
        note("attr", counts)?;

        // buf_ptr of a page list: this VM's, or the hypervisor's memory.
        let pages = Pages::take(1);
        let list = PageList::of(&pages);
        let cookie = fresh_cookie();
        let message = Message::register(cookie, &list);
        let word = message.address() + 40;
        let counts = flip(word, [list.pointer(), 0x4020_0000], || {
            let got = kit.send(&message);
            if got.is_success() {
                check_bytes(kit, session, cookie, &pages)?;
                holds(kit.unregister(cookie).is_success(), "unregister")?;
            }
            either("buf_ptr", got, got.is_success(), Got::BAD_PARAMETERS)
        })?;
        note("buf_ptr", counts)
    })?;
    Ok(Observation::new(format!(
        "first and second version met: {seen}"
    )))
}

/// Attack 4.
pub fn give_message_back(kit: &Kit) -> Verdict {
    let session = of_client(
        "open stats.pta",
        kit.client.open(&kit.supplicant, apps::STATS),
    )?;
    let Parked { message, call } = Parked::at_get_time(kit, session)?;
    let address = message.address();
    // A message's page has no memory of OP-TEE, so it is not pinned.
    same("give the page back", &relinquish(address, 1), &GONE)?;
    holds(
        probe::load(address).is_err(),
        "the page is still accessible",
    )?;
    // The message's page must not be accessed any more, nor return to the free pages.
    let supplicant = kit.supplicant;
    let mut step = kit.client.resume(&call, supplicant.answer(&call));
    let code = loop {
        match step {
            guest_bare::tee::Step::Done(code) => break code,
            guest_bare::tee::Step::Rpc(call) => {
                step = kit.client.resume(&call, supplicant.answer(&call));
            }
        }
    };
    core::mem::forget(message);
    same(
        "the end of a call without message",
        &code,
        &Return::EBADADDR,
    )?;
    kit.close(session)?;

    // The same while the call runs, at any moment.
    const RACES: u32 = 48;
    let ended = AtomicU32::new(0);
    let (mut early, mut late) = (0, 0);
    kit.with_tests(|session| {
        for _ in 0..RACES {
            let add = value(Attr::VALUE_INOUT, 40, 2);
            let message = Message::invoke(session, apps::TESTS_PARAMS, &[add]);
            let address = message.address();
            core::mem::forget(message);
            let code = AtomicU32::new(u32::MAX);
            parallel(2, &|cpu| {
                if cpu == 1 {
                    ended.store(relinquish(address, 1) as u32, Ordering::Relaxed);
                } else {
                    code.store(run_to_end(kit, address), Ordering::Relaxed);
                }
            });
            same("give the page back", &ended.load(Ordering::Relaxed), &0)?;
            let code = Return::from_x0(code.load(Ordering::Relaxed).into());
            one_of("the call", &code, &[Return::OK, Return::EBADADDR])?;
            if code == Return::OK {
                late += 1;
            } else {
                early += 1;
            }
            holds(
                probe::load(address).is_err(),
                "the page is still accessible",
            )?;
        }
        Ok(())
    })?;
    Ok(Observation::new(format!(
        "EBADADDR at the end of a parked call; {RACES} races: page gone before {early}, after {late}"
    )))
}

/// Runs a call whose message may vanish to its end; returns its code, from registers only.
fn run_to_end(kit: &Kit, address: u64) -> u32 {
    let (upper, lower) = optee_proto::smc::pair(address);
    let mut step = kit.client.step(CALL_WITH_ARG, [upper, lower, 0, 0, 0, 0]);
    loop {
        match step {
            guest_bare::tee::Step::Done(code) => return code.get() as u32,
            guest_bare::tee::Step::Rpc(call) => {
                step = kit.client.resume(&call, kit.supplicant.answer(&call));
            }
        }
    }
}

/// Attack 5.
pub fn one_message_twice(kit: &Kit) -> Verdict {
    let failures = AtomicU32::new(0);
    let bad = AtomicU32::new(0);
    let first = kit.open_tests()?;
    // Memory by which OP-TEE shows that it has executed each call, and not only one.
    let message = Message::invoke(first, apps::TESTS_PARAMS, &[value(Attr::VALUE_INOUT, 1, 1)]);
    let address = message.address();
    parallel(2, &|_| {
        for _ in 0..ROUNDS {
            let code = run_to_end(kit, address);
            if code != 0 {
                bad.store(code, Ordering::Relaxed);
                failures.fetch_add(1, Ordering::Relaxed);
            }
            if message.view().ret() != TeeResult::SUCCESS {
                bad.store(message.view().ret().0, Ordering::Relaxed);
                failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let failures = failures.load(Ordering::Relaxed);
    let bad = bad.load(Ordering::Relaxed);
    same(&format!("failed calls (last {bad:#x})"), &failures, &0)?;
    // Each call computes a + b from the previous value, so the value is a sum of ones.
    let sum = message.param(0).a.get();
    holds(
        sum > 1 && sum <= 2 * u64::from(ROUNDS) + 1,
        &format!("{sum} calls show, of {}", 2 * ROUNDS),
    )?;
    kit.close(first)?;
    Ok(Observation::denied(
        format!("{} calls, {sum} of them one after the other", 2 * ROUNDS),
        0,
    ))
}
