// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attacks 26 to 28 and 33 to 35: calls that wait for the normal world, resumed by the wrong
//! caller, twice, late, or with invalid values.

use crate::attack::{Attack, Observation, Verdict, holds, one_of, same};
use crate::kit::{GONE, Got, Kit, of_client, relinquish};
use crate::parked::{Parked, long_call};
use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use guest_bare::PAGE_SIZE;
use guest_bare::cpu::{Barrier, parallel};
use guest_bare::pages::Pages;
use guest_bare::tee::message::value;
use guest_bare::tee::{Act, Message, Outcome, Step, Suspended, apps, supplicant};
use guest_bare::timer;
use optee_proto::msg::{Attr, login};
use optee_proto::{Origin, Return, TeeResult, rpc};

/// The attacks, in the order of the plan.
pub const ATTACKS: &[Attack] = &[
    Attack {
        number: 26,
        title: "RETURN_FROM_RPC for calls that do not wait: never issued, running, ended, other numbers",
        expected: "ERESUME",
        run: wrong_calls,
    },
    Attack {
        number: 27,
        title: "two vCPUs resume one call at once",
        expected: "one of them succeeds, the other gets ERESUME",
        run: resume_twice,
    },
    Attack {
        number: 28,
        title: "the answer to a command has another cookie (W8, W12)",
        expected: "it is ignored",
        run: other_cookie,
    },
    Attack {
        number: 33,
        title: "all calls wait for answers that do not come",
        expected: "ETHREAD_LIMIT for this VM alone; answered late, they succeed",
        run: never_answered,
    },
    Attack {
        number: 34,
        title: "the page of an RPC message is given back before the next one (W7)",
        expected: "the call ends with COMMUNICATION",
        run: page_gone,
    },
    Attack {
        number: 35,
        title: "invalid sizes and results in answers",
        expected: "they reach OP-TEE unchanged, and the call fails",
        run: nonsense,
    },
];

fn wrong_calls(kit: &Kit) -> Verdict {
    let stats = of_client(
        "open stats.pta",
        kit.client.open(&kit.supplicant, apps::STATS),
    )?;
    let parked = Parked::at_get_time(kit, stats)?;
    let token = parked.call.thread;
    let resume = |thread: u64| {
        let call = Suspended {
            thread,
            ..parked.call
        };
        kit.client.resume(&call, [0; 4])
    };
    let mut tries = 0;
    let mut refuse = |thread: u64| {
        tries += 1;
        let got = resume(thread);
        same(
            &format!("thread {thread:#x}"),
            &got,
            &Step::Done(Return::ERESUME),
        )
    };
    // OP-TEE's own thread numbers, all single-bit changes of the name, and future names.
    for thread in (0..256).chain([u64::from(u32::MAX), 1 << 31]) {
        if thread != token {
            refuse(thread)?;
        }
    }
    for bit in 0..32 {
        refuse(token ^ 1 << bit)?;
    }
    for step in 1..200 {
        refuse((token + step) & 0xffff_ffff)?;
    }
    // A call that runs on another vCPU, and whose name would be one of these.
    tries += run_beside(kit, || {
        for refused in 0..2000 {
            let thread = (token + 1 + refused) & 0xffff_ffff;
            let step = resume(thread);
            if step != Step::Done(Return::ERESUME) {
                let outcome = kit.client.run(step, &kit.supplicant, |_| Act::Default);
                return match outcome {
                    // The other vCPU was refused when it returned to its call.
                    Outcome::Done(Return::OK) => Ok(Beside::TakenOver(refused + 1)),
                    _ => Err(format!("thread {thread:#x} is resumed: {outcome:?}")),
                };
            }
        }
        Ok(Beside::Refused(2000))
    })?;
    let got = parked.finish(kit);
    holds(got.is_success(), &format!("the waiting call: {got:?}"))?;
    // The call has ended, and its name with it.
    tries += 1;
    same(
        "a call that is over",
        &resume(token),
        &Step::Done(Return::ERESUME),
    )?;
    kit.close(stats)?;
    Ok(Observation::denied(format!("{tries} names"), tries))
}

/// The result of attempts on another vCPU's call.
enum Beside {
    /// All of this many attempts were refused.
    Refused(u64),
    /// An interrupt had suspended the call, so this vCPU resumed it and ran it to its end. The
    /// number is that of refused attempts, with those of the other vCPU.
    TakenOver(u64),
}

/// Runs `work` while another vCPU runs a long call. When an interrupt suspends the call, the first
/// vCPU that resumes it gets it, and the attempt does not count.
fn run_beside(kit: &Kit, work: impl Fn() -> Result<Beside, String> + Sync) -> Result<u64, String> {
    const ATTEMPTS: usize = 20;
    let session = kit.open_tests()?;
    let mut refused = 0;
    for _ in 0..ATTEMPTS {
        let message = long_call(session, 2_000_000);
        let found = spin::Mutex::new(Ok(Beside::Refused(0)));
        let ended = spin::Mutex::new(None);
        parallel(2, &|cpu| {
            if cpu == 0 {
                *found.lock() = work();
            } else {
                *ended.lock() = Some(kit.send(&message));
            }
        });
        let got = ended.into_inner();
        match found.into_inner()? {
            Beside::Refused(last) => {
                holds(
                    got.is_some_and(Got::is_success),
                    &format!("the running call: {got:?}"),
                )?;
                kit.close(session)?;
                return Ok(refused + last);
            }
            Beside::TakenOver(before) => {
                refused += before;
                same(
                    "the call that was taken over",
                    &got,
                    &Some(Got::Code(Return::ERESUME)),
                )?;
            }
        }
    }
    Err(format!("{ATTEMPTS} calls were interrupted"))
}

fn resume_twice(kit: &Kit) -> Verdict {
    const TIMES: u64 = 300;
    let stats = of_client(
        "open stats.pta",
        kit.client.open(&kit.supplicant, apps::STATS),
    )?;
    let barrier = Barrier::new(2);
    let call = spin::Mutex::new(None);
    let lost = AtomicU64::new(0);
    let wrong = spin::Mutex::new(None);
    parallel(2, &|cpu| {
        for _ in 0..TIMES {
            let mut parked = None;
            if cpu == 0 {
                match Parked::at_get_time(kit, stats) {
                    Ok(at) => {
                        // The answer is there before the call is resumed.
                        let with = kit.supplicant.with_message(&at.message);
                        with.answer(&at.call);
                        *call.lock() = Some(at.call);
                        parked = Some(at);
                    }
                    Err(why) => *wrong.lock() = Some(why),
                }
            }
            barrier.wait();
            let at = *call.lock();
            let step = at.map(|at| kit.client.resume(&at, [0; 4]));
            let mine = !matches!(step, None | Some(Step::Done(Return::ERESUME)));
            lost.fetch_add(u64::from(!mine), Ordering::SeqCst);
            if let Some(step @ Step::Rpc(_)) = step {
                // The vCPU that has the call goes on with it.
                let outcome = kit.client.run(step, &kit.supplicant, |_| Act::Default);
                if outcome != guest_bare::tee::Outcome::Done(Return::OK) {
                    *wrong.lock() = Some(format!("the winner's call: {outcome:?}"));
                }
            }
            barrier.wait();
            if cpu == 0 {
                *call.lock() = None;
                let ret = parked.map(|parked| parked.message.view().ret());
                if ret != Some(TeeResult::SUCCESS) {
                    *wrong.lock() = Some(format!("the call ended with {ret:?}"));
                }
            }
        }
    });
    if let Some(why) = wrong.into_inner() {
        return Err(why);
    }
    kit.close(stats)?;
    let lost = lost.into_inner();
    same("how often a vCPU came too late", &lost, &TIMES)?;
    Ok(Observation::denied(format!("{TIMES} times"), TIMES))
}

fn other_cookie(kit: &Kit) -> Verdict {
    let stats = of_client(
        "open stats.pta",
        kit.client.open(&kit.supplicant, apps::STATS),
    )?;
    let shared = kit.share(1)?;
    let mut tries = 0;
    for cookie in [
        0,
        1,
        u64::MAX,
        shared.cookie,
        0x4020_0000,
        shared.pages.address(),
    ] {
        let parked = Parked::at_get_time(kit, stats)?;
        let with = kit.supplicant.with_message(&parked.message);
        with.answer(&parked.call);
        let (a1, a2) = optee_proto::smc::pair(cookie);
        let mut first = Some(Act::Answer([a1, a2, a1, a2]));
        let got = kit.finish_hooked(&parked.message, &parked.call, |_| {
            first.take().unwrap_or(Act::Default)
        });
        holds(got.is_success(), &format!("cookie {cookie:#x}: {got:?}"))?;
        // The time of the supplicant: the answer was read from the message of the request.
        same(
            "the time",
            &parked.message.param(0).a.get(),
            &supplicant::TIME,
        )?;
        tries += 1;
    }
    shared.unshare()?;
    kit.close(stats)?;
    Ok(Observation::denied(format!("{tries} cookies"), 0))
}

fn never_answered(kit: &Kit) -> Verdict {
    let stats = of_client(
        "open stats.pta",
        kit.client.open(&kit.supplicant, apps::STATS),
    )?;
    let first = Parked::at_get_time(kit, stats)?;
    let load = Message::open(apps::NOBODY, login::PUBLIC, &[]);
    let second = Parked::at_command(kit, load, |command, _| command == rpc::Command::LOAD_TA)?;
    let limit = Got::Code(Return::ETHREAD_LIMIT);
    let third = Message::open(apps::TESTS, login::PUBLIC, &[]);
    let deadline = timer::Deadline::after(Duration::from_secs(10));
    let mut tries = 0;
    while !deadline.passed() {
        same("a third call", &kit.send(&third), &limit)?;
        tries += 1;
        timer::sleep(Duration::from_millis(100));
    }
    let got = second.finish(kit);
    one_of(
        "the second call",
        &got,
        &[Got::Result(TeeResult::ITEM_NOT_FOUND, Origin::TEE)],
    )?;
    let got = kit.send(&third);
    holds(
        got.is_success(),
        &format!("a call with a free thread: {got:?}"),
    )?;
    kit.close(third.view().session())?;
    let got = first.finish(kit);
    holds(got.is_success(), &format!("the first call: {got:?}"))?;
    kit.close(stats)?;
    Ok(Observation::new(format!("{tries} refused in 10 s")))
}

fn page_gone(kit: &Kit) -> Verdict {
    let stats = of_client(
        "open stats.pta",
        kit.client.open(&kit.supplicant, apps::STATS),
    )?;
    let page = Pages::take(1).forget();
    let none = value(Attr::VALUE_OUTPUT, 0, 0);
    let message = Message::invoke(stats, apps::STATS_TIME, &[none, none]);
    let (mut given, mut answer, mut freed) = (false, None, 0);
    let got = kit.send_hooked(&message, |call| match call.function {
        rpc::Function::ALLOC if !given => {
            given = true;
            Act::memory(page, page)
        }
        rpc::Function::CMD if call.cookie() == page => {
            answer = Some(relinquish(page, 1));
            Act::DONE
        }
        rpc::Function::FREE => {
            freed += u32::from(call.cookie() == page);
            Act::DONE
        }
        _ => Act::Default,
    });
    // OP-TEE does not have this page, only the hypervisor's copy.
    same("give the page back", &answer, &Some(GONE))?;
    same(
        "the call",
        &got,
        &Got::Result(TeeResult::COMMUNICATION, Origin::TRUSTED_APP),
    )?;
    same("FREE of the page", &freed, &1)?;
    kit.close(stats)?;
    Ok(Observation::denied("COMMUNICATION".into(), 1))
}

fn nonsense(kit: &Kit) -> Verdict {
    // OP-TEE may treat the result of LOAD_TA in any way, but must fail.
    let mut tries = 0;
    for result in [1, 0x1234_5678, 0x7fff_ffff, 0xffff_0000, u32::MAX] {
        let message = Message::open(apps::SMALL, login::PUBLIC, &[]);
        let with = kit.supplicant.with_message(&message);
        let got = kit.send_hooked(&message, |call| {
            if with.command(call) == Some(rpc::Command::LOAD_TA) {
                let view = with.message(call).expect("a request has a message");
                view.set_ret(TeeResult(result));
                return Act::DONE;
            }
            Act::Default
        });
        failed(&format!("result {result:#x}"), got)?;
        tries += 1;
    }
    // The size of an application, first in the question for it and then in the loading.
    for second in [false, true] {
        for size in [0, 1, 7, PAGE_SIZE, u64::from(u32::MAX), 1 << 63, u64::MAX] {
            let got = lie_about_size(kit, size, second)?;
            if second {
                // OP-TEE keeps to the size of the first answer.
                holds(
                    got.is_success(),
                    &format!("loading, with size {size:#x} in the end: {got:?}"),
                )?;
            } else {
                failed(&format!("an application of {size:#x} bytes"), got)?;
            }
            tries += 1;
        }
    }
    Ok(Observation::new(format!("{tries} answers")))
}

/// Fails when a call succeeded, or did not get to the application.
///
/// # Errors
/// Fails with the call's result.
pub fn failed(what: &str, got: Got) -> Result<(), String> {
    match got {
        Got::Result(TeeResult::SUCCESS, _) => Err(format!("{what}: success")),
        Got::Result(..) => Ok(()),
        got => Err(format!("{what}: {got:?}")),
    }
}

/// Loads an application with a wrong size in one of the two answers to LOAD_TA.
pub fn lie_about_size(kit: &Kit, size: u64, second: bool) -> Result<Got, String> {
    let message = Message::open(apps::SMALL, login::PUBLIC, &[]);
    let with = kit.supplicant.with_message(&message);
    let got = kit.send_hooked(&message, |call| {
        let Some(rpc::Command::LOAD_TA) = with.command(call) else {
            return Act::Default;
        };
        let view = with.message(call).expect("a request has a message");
        // The first request has no memory yet.
        let is_second = view.param(1).c.get() != 0;
        let answer = with.answer(call);
        if is_second == second {
            let mut to = view.param(1);
            to.b = size.into();
            view.set_param(1, &to);
        }
        Act::Answer(answer)
    });
    if got.is_success() {
        kit.close(message.view().session())?;
    }
    Ok(got)
}
