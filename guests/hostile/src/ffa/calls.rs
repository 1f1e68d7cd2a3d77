// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attacks 37 to 40: yielding calls.

use super::kit::{BAD_PARAMETERS, BUSY, FfaKit, answers, of_tee, results};
use crate::attack::{Attack, Observation, Verdict, holds, same};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use guest_bare::cpu::{self, parallel};
use guest_bare::ffa::tee::{Refusal, describe};
use guest_bare::ffa::{Endpoint, Tee};
use guest_bare::tee::apps;
use guest_bare::tee::message::value;
use guest_bare::timer;
use optee_proto::msg::Attr;

/// The attacks.
pub const ATTACKS: &[Attack<FfaKit>] = &[
    Attack {
        number: 37,
        title: "CALL_WITH_ARG with handles of others, unaligned offsets, offsets at and behind the end",
        expected: "refused",
        run: wrong_messages,
    },
    Attack {
        number: 38,
        title: "RESUME of any number, of a call that waits, on all vCPUs at once",
        expected: "refused; one vCPU wins",
        run: resume,
    },
    Attack {
        number: 39,
        title: "services that there are not, yielding and not",
        expected: "refused; no thread is taken",
        run: services,
    },
    Attack {
        number: 40,
        title: "leaves as many calls suspended as there can be",
        expected: "only this VM is refused more",
        run: all_threads,
    },
];

fn wrong_messages(kit: &FfaKit) -> Verdict {
    let begin = |handle: u64, offset: u32| kit.tee.begin_at(handle, offset).map(drop);
    let foreign = u64::from(kit.neighbour()) << 16 | 1 << 44;
    let handles = [0, u64::MAX, foreign, foreign | 1, 1 << 44, 1 << 63, 77];
    for handle in handles.iter().filter(|one| **one != kit.tee.room.handle) {
        results(&format!("{handle:#x}"), &begin(*handle, 0), BAD_PARAMETERS)?;
    }
    let shared = kit.share(2)?;
    let mut count = handles.len();
    let offsets = [
        1,
        2,
        4,
        7,
        0x1001,
        0x1fe1,
        0x2000,
        0x2001,
        0x3000,
        0x7fff_ffff,
        0xffff_f000,
        0xffff_fff8,
        u32::MAX,
    ];
    for offset in offsets {
        let got = begin(shared.handle, offset);
        results(&format!("offset {offset:#x}"), &got, BAD_PARAMETERS)?;
        count += 1;
    }
    // A header at the end, and one whose parameters are behind it.
    for (offset, params) in [
        (0x2000 - 8, 0),
        (0x2000 - 24, 0),
        (0x2000 - 32, 2),
        (0x2000 - 64, 4),
    ] {
        if offset + 32 <= 0x2000 {
            shared.pages.write_u32(offset + 28, params);
        }
        let got = begin(shared.handle, offset as u32);
        results(
            &format!("a message across the end at {offset:#x}"),
            &got,
            BAD_PARAMETERS,
        )?;
        count += 1;
    }
    for params in [7, 127, 128, 1 << 27, u32::MAX] {
        shared.pages.write_u32(28, params);
        let got = describe(&begin(shared.handle, 0));
        // Either the call or its message is refused.
        holds(
            got == BAD_PARAMETERS || got == "success",
            &format!("{params} parameters: {got}"),
        )?;
        count += 1;
    }
    kit.unshare(shared)?;
    kit.alive()?;
    Ok(Observation::new(format!("{count} calls")))
}

fn resume(kit: &FfaKit) -> Verdict {
    let refused =
        |what: &str, call: u32| results(what, &kit.tee.resume(call).map(drop), BAD_PARAMETERS);
    for call in (0..64).chain([0xff, 0xffff, 0x1_0000, 0x7fff_ffff, u32::MAX]) {
        refused(&format!("RESUME of {call:#x}"), call)?;
    }
    let tee = kit.client()?;
    let mut rounds = 0;
    for _ in 0..20 {
        let call = kit
            .park(&tee)
            .map_err(|why| format!("a call does not wait: {why:?}"))?;
        for other in (0..64).filter(|other| *other != call) {
            refused(&format!("RESUME of {other:#x}"), other)?;
        }
        tee.answer(tee.rpc());
        let (won, strange) = (AtomicU64::new(0), AtomicU64::new(0));
        let next = spin_lock();
        parallel(guest_bare::cpu::count(), &|_| {
            let step = tee.resume(call);
            let text = describe(&step);
            if step.is_ok() {
                won.fetch_add(1, Ordering::Relaxed);
                *next.lock() = Some(step);
            } else if text != BAD_PARAMETERS {
                strange.fetch_add(1, Ordering::Relaxed);
            }
        });
        same("strange answers", &strange.into_inner(), &0)?;
        same("vCPUs that have resumed", &won.into_inner(), &1)?;
        let step = next.into_inner().ok_or("no step")?;
        let end = tee.run(step, |_| guest_bare::ffa::tee::Act::Default);
        results("the end of a call", &end, "result 0xffff0008")?;
        refused("RESUME of a call that is over", call)?;
        rounds += 1;
    }
    kit.end(tee)?;
    kit.alive()?;
    Ok(Observation::new(format!("{rounds} races")))
}

fn spin_lock() -> spin::Mutex<Option<guest_bare::ffa::tee::Step>> {
    spin::Mutex::new(None)
}

fn services(kit: &FfaKit) -> Verdict {
    let mut count = 0;
    for service in (0x8000_0002_u32..0x8000_0022).chain([0x8000_ffff, 0xc000_0000, u32::MAX]) {
        let answer = kit.endpoint.direct([service, 0, 0, 0, 0]);
        let words = answer
            .direct()
            .ok_or_else(|| format!("{service:#x}: {answer}"))?;
        same(&format!("w3 of {service:#x}"), &(words[0] as i32), &-6)?;
        count += 1;
    }
    for service in [4, 6, 7, 8, 9, 10, 99, 0x7fff_ffff] {
        for words in [[service, 0, 0, 0, 0], [service, u32::MAX, u32::MAX, 7, 7]] {
            let answer = kit.endpoint.direct(words);
            answers(
                &format!("{service:#x}"),
                answer,
                "0xffff0006 0x0 0x0 0x0 0x0",
            )?;
            count += 1;
        }
    }
    kit.alive()?;
    Ok(Observation::new(format!("{count} services")))
}

fn all_threads(kit: &FfaKit) -> Verdict {
    let mut waiting: Vec<(Tee, u32)> = Vec::new();
    let refused = loop {
        let tee = kit.client()?;
        match kit.park(&tee) {
            Ok(call) => waiting.push((tee, call)),
            failed => {
                kit.end(tee)?;
                break describe(&failed);
            }
        }
        holds(waiting.len() < 32, "there is no bound")?;
    };
    same("one call more", &refused.as_str(), &BUSY)?;
    holds(!waiting.is_empty(), "no call waits")?;
    // The host looks at the neighbour after the attack; here it has the time to fail.
    timer::sleep(Duration::from_secs(3));
    let count = waiting.len();
    for (tee, call) in waiting {
        kit.finish(&tee, call)?;
        kit.end(tee)?;
    }
    kit.alive()?;
    Ok(Observation::new(format!("{count} calls, then {refused}")))
}

/// Leaves as many calls suspended as there can be.
pub fn leave_calls(kit: &FfaKit) -> Result<(), String> {
    of_tee("a session", kit.tee.open(apps::TESTS))?;
    for _ in 0..8 {
        let tee = kit.client()?;
        let parked = kit.park(&tee);
        tee.room.pages.forget();
        if parked.is_err() {
            return Ok(());
        }
    }
    Err("there is no bound".to_string())
}

/// The rounds of the calls that [`leave_running`] leaves in OP-TEE.
static ROUNDS: AtomicU64 = AtomicU64::new(0);
/// The vCPUs that have a session for such calls.
static RUNNING: AtomicU64 = AtomicU64::new(0);
/// The duration of such a call. OP-TEE cannot stop it, so each one ends.
const LONG: Duration = Duration::from_millis(300);
/// The most time until a vCPU has its session.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes a call that counts rounds in OP-TEE.
fn count_rounds(tee: &Tee, session: u32, rounds: u64) -> Result<(), Refusal> {
    let params = [
        value(Attr::VALUE_INPUT, 0, rounds),
        value(Attr::VALUE_OUTPUT, 0, 0),
    ];
    tee.invoke(session, apps::TESTS_MUTEX, &params)
}

/// Makes long calls without pause.
fn run_for_ever(id: u64) {
    let tee = Tee::new(Endpoint::new(id as u16)).expect("a page to share");
    // Where no thread is free, the next call may find one.
    let session = loop {
        if let Ok(session) = tee.open(apps::TESTS) {
            break session;
        }
    };
    RUNNING.fetch_add(1, Ordering::Relaxed);
    loop {
        let _ = count_rounds(&tee, session, ROUNDS.load(Ordering::Relaxed));
    }
}

/// Has all other vCPUs run in OP-TEE, as far as it has threads for them.
pub fn leave_running(kit: &FfaKit) -> Result<(), String> {
    let session = kit.open_tests()?;
    let mut rounds = 1000;
    let rounds = loop {
        let start = timer::now();
        of_tee("count", count_rounds(&kit.tee, session, rounds))?;
        let took = timer::now() - start;
        if took > timer::ticks(LONG / 30) {
            break rounds * timer::ticks(LONG) / took;
        }
        rounds *= 2;
    };
    ROUNDS.store(rounds, Ordering::Relaxed);
    let others = cpu::count() - 1;
    for other in 1..=others {
        cpu::spawn(other, run_for_ever, kit.endpoint.id.into());
        let deadline = timer::now() + timer::ticks(PATIENCE);
        while RUNNING.load(Ordering::Relaxed) < other as u64 {
            holds(timer::now() < deadline, "a vCPU has no session")?;
            core::hint::spin_loop();
        }
    }
    // They are certainly inside then.
    timer::sleep(LONG / 10);
    Ok(())
}
