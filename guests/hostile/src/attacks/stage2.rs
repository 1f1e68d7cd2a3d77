// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attacks 42 and 47: giving back memory that OP-TEE uses, and calls that move between CPUs.

use crate::attack::{Attack, Observation, Verdict, holds, one_of, same};
use crate::kit::{GONE, Got, IN_USE, Kit, bad_addresses, fresh_cookie, relinquish};
use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicI64, Ordering};
use guest_bare::PAGE_SIZE;
use guest_bare::cpu::{self, parallel};
use guest_bare::machine::machine;
use guest_bare::pages::Pages;
use guest_bare::probe;
use guest_bare::smccc;
use guest_bare::tee::{Message, PageList, Step, apps};
use optee_proto::msg::login;
use optee_proto::smc::CALL_WITH_ARG;
use optee_proto::{Return, TeeResult};
use postern_smccc::vendor::MEM_RELINQUISH;
use spin::Mutex;

/// The attacks, in the order of the plan.
pub const ATTACKS: &[Attack] = &[
    Attack {
        number: 42,
        title: "pages that OP-TEE may use are given back",
        expected: "refused until OP-TEE has released them; all or nothing; afterwards they are gone",
        run: give_pinned_back,
    },
    Attack {
        number: 47,
        title: "each step of a call on another vCPU",
        expected: "any vCPU, on any pCPU, may continue the call",
        run: wandering_call,
    },
];

/// The result of `relinquish` for a range that is not entirely RAM of the VM.
const INVALID: i64 = -3;

/// Registers one page at an address.
fn register(kit: &Kit, cookie: u64, page: u64) -> Got {
    let list = PageList::new([page].into_iter(), 0, PAGE_SIZE);
    kit.send(&Message::register(cookie, &list))
}

fn give_pinned_back(kit: &Kit) -> Verdict {
    let pages = Pages::take(8);
    let start = pages.address();
    let mut refused = 0;
    kit.with_tests(|session| {
        let cookie = fresh_cookie();
        let pinned = pages.page(3);
        let got = register(kit, cookie, pinned);
        holds(got.is_success(), &format!("register: {got:?}"))?;
        // No range that contains the page is given back, not even in part.
        for (first, count) in [(3, 1), (0, 4), (3, 5), (0, 8), (2, 2)] {
            for (page, mark) in (0..8).zip(0xab00..) {
                pages.write_u64(page * PAGE_SIZE as usize, mark);
            }
            let answer = relinquish(pages.page(first), count);
            same(&format!("pages {first} + {count}"), &answer, &IN_USE)?;
            for (page, mark) in (0..8).zip(0xab00..) {
                let word = probe::load(pages.page(page)).map_err(|fault| format!("{fault}"))?;
                same("a page of the range", &word, &mark)?;
            }
            refused += 1;
        }
        // Invalid ranges.
        let end = machine().ram.end;
        for (address, count) in [
            (start + 8, 1),
            (start, 0),
            (start, 513),
            (start, u64::MAX),
            (end - PAGE_SIZE, 2),
            (machine().ram.start - PAGE_SIZE, 2),
            (!(PAGE_SIZE - 1), 2),
        ] {
            same(
                &format!("{address:#x} + {count}"),
                &relinquish(address, count),
                &INVALID,
            )?;
            refused += 1;
        }
        for bad in bad_addresses() {
            same(bad.what, &relinquish(bad.address, 1), &INVALID)?;
            refused += 1;
        }
        let [x0, ..] = smccc::hvc([MEM_RELINQUISH.into(), start, 1, 1, 0, 0, 0, 0]);
        same("x3 = 1", &x0.cast_signed(), &INVALID)?;
        let got = kit.sum(session, cookie, 0, 8);
        holds(got.is_success(), &format!("use it: {got:?}"))?;
        holds(kit.unregister(cookie).is_success(), "unregister")
    })?;
    pages.forget();
    same("now", &relinquish(start, 8), &GONE)?;
    for page in 0..8 {
        let at = start + page * PAGE_SIZE;
        holds(
            probe::load(at).is_err(),
            "a page that was given back is still accessible",
        )?;
        same("once more", &relinquish(at, 1), &INVALID)?;
        same(
            "register it",
            &register(kit, fresh_cookie(), at),
            &Got::BAD_PARAMETERS,
        )?;
        same("as a message", &kit.send_at(at), &Return::EBADADDR)?;
    }

    // Against a registration on another vCPU: one of the two succeeds, never both.
    const RACES: u32 = 64;
    let mut kept = 0;
    for _ in 0..RACES {
        let page = Pages::take(1).forget();
        let cookie = fresh_cookie();
        let list = PageList::new([page].into_iter(), 0, PAGE_SIZE);
        let message = Message::register(cookie, &list);
        let answer = AtomicI64::new(1);
        let got = Mutex::new(None);
        parallel(2, &|cpu| {
            if cpu == 0 {
                *got.lock() = Some(kit.send(&message));
            } else {
                // The registration takes longer to begin.
                for _ in 0..2000 {
                    core::hint::spin_loop();
                }
                answer.store(relinquish(page, 1), Ordering::Relaxed);
            }
        });
        let got = got.into_inner().ok_or("no result")?;
        match answer.into_inner() {
            IN_USE => {
                holds(got.is_success(), &format!("in use, but {got:?}"))?;
                holds(kit.unregister(cookie).is_success(), "unregister")?;
                same("afterwards", &relinquish(page, 1), &GONE)?;
                kept += 1;
            }
            GONE => {
                // The registration may have failed before: then nothing was pinned.
                same("gone, so not registered", &got, &Got::BAD_PARAMETERS)?;
            }
            other => return Err(format!("relinquish: {other}")),
        }
    }
    Ok(Observation::new(format!(
        "{refused} times refused; {RACES} races: registered {kept}, given back {}",
        RACES - kept
    )))
}

fn wandering_call(kit: &Kit) -> Verdict {
    const CALLS: u32 = 6;
    let vcpus = cpu::count();
    let (mut steps, mut turn) = (0, 0);
    for call in 0..CALLS {
        // Loading an application takes many RPCs of all kinds.
        let message = Message::open(apps::SMALL, login::PUBLIC, &[]);
        let supplicant = kit.supplicant.with_message(&message);
        let (upper, lower) = optee_proto::smc::pair(message.address());
        let mut step = kit.client.step(CALL_WITH_ARG, [upper, lower, 0, 0, 0, 0]);
        let code = loop {
            let waiting = match step {
                Step::Done(code) => break code,
                Step::Rpc(waiting) => waiting,
            };
            steps += 1;
            turn = (turn + 1) % vcpus;
            let next = Mutex::new(None);
            let go_on = |cpu: usize| {
                if cpu == turn {
                    let answer = supplicant.answer(&waiting);
                    *next.lock() = Some(kit.client.resume(&waiting, answer));
                }
            };
            parallel(turn + 1, &go_on);
            step = next.into_inner().ok_or("no step")?;
        };
        same(&format!("call {call}"), &code, &Return::OK)?;
        one_of("its result", &message.view().ret(), &[TeeResult::SUCCESS])?;
        kit.close(message.view().session())?;
    }
    let text: String = format!("{CALLS} calls, {steps} steps on {vcpus} vCPUs in turn");
    Ok(Observation::denied(text, 0))
}
