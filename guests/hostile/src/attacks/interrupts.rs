// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attacks 36 and 51: calls under constant interruption, and calls without pause.

use crate::attack::{Attack, Observation, Verdict, holds, same};
use crate::kit::{Got, Kit};
use crate::parked::long_call;
use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use guest_bare::cpu::{self, parallel};
use guest_bare::tee::{Act, Message, apps};
use guest_bare::{gic, timer};
use optee_proto::msg::login;
use optee_proto::{Return, rpc};

/// The attacks, in the order of the plan.
pub const ATTACKS: &[Attack] = &[
    Attack {
        number: 36,
        title: "a storm of interrupts during a call, each resumed with garbage in the registers",
        expected: "the call continues where it was, and ends like an undisturbed one",
        run: storm,
    },
    Attack {
        number: 51,
        title: "all vCPUs run long calls without pause",
        expected: "the neighbour makes progress; all calls of this VM succeed",
        run: hog,
    },
];

/// The rounds that a long call counts.
const ROUNDS: u64 = 3_000_000;
/// The number of calls that are interrupted.
const CALLS: u64 = 10;

fn storm(kit: &Kit) -> Verdict {
    kit.with_tests(|session| {
        let calm = long_call(session, ROUNDS);
        let got = kit.send(&calm);
        holds(got.is_success(), &format!("an undisturbed call: {got:?}"))?;
        let every = Duration::from_micros(200);
        let interrupts = interrupted(every, || disturbed(kit, session, &calm))?;
        holds(
            interrupts >= CALLS,
            &format!("only {interrupts} interrupts"),
        )?;
        Ok(Observation::denied(format!("{interrupts} interrupts"), 0))
    })
}

/// Runs `work` on the first vCPU while the second one interrupts it at intervals of `every`.
pub fn interrupted(
    every: Duration,
    work: impl Fn() -> Result<u64, String> + Sync,
) -> Result<u64, String> {
    let stop = AtomicBool::new(false);
    let result = spin::Mutex::new(Ok(0));
    parallel(2, &|cpu| {
        if cpu == 0 {
            *result.lock() = work();
            stop.store(true, Ordering::Relaxed);
        }
        // The guest's own timer does not run while OP-TEE does: firmware switches it.
        while !stop.load(Ordering::Relaxed) {
            gic::poke(0);
            timer::Deadline::after(every).wait(|| false);
        }
    });
    gic::drain();
    result.into_inner()
}

/// Makes calls while interrupts come; returns how many of them came during calls.
fn disturbed(kit: &Kit, session: u32, calm: &Message) -> Result<u64, String> {
    let (mut interrupts, mut garbage) = (0, 0x9e37_79b9_7f4a_7c15_u64);
    for _ in 0..CALLS {
        let message = long_call(session, ROUNDS);
        let got = kit.send_hooked(&message, |call| {
            if call.function != rpc::Function::FOREIGN_INTR {
                return Act::Default;
            }
            interrupts += 1;
            gic::drain();
            Act::Answer(core::array::from_fn(|_| {
                garbage = garbage.rotate_left(13).wrapping_mul(0x2545_f491_4f6c_dd1d);
                garbage
            }))
        });
        holds(got.is_success(), &format!("a disturbed call: {got:?}"))?;
        for at in 0..2 {
            same("its outputs", &message.param(at), &calm.param(at))?;
        }
    }
    Ok(interrupts)
}

/// Repeats a call until there is a thread for it.
fn until_served(kit: &Kit, message: &Message, limited: &AtomicU64) -> Result<(), String> {
    loop {
        match kit.send(message) {
            got if got.is_success() => return Ok(()),
            Got::Code(Return::ETHREAD_LIMIT) => limited.fetch_add(1, Ordering::Relaxed),
            got => return Err(format!("{got:?}")),
        };
    }
}

fn hog(kit: &Kit) -> Verdict {
    let calls = AtomicU64::new(0);
    let limited = AtomicU64::new(0);
    let wrong = spin::Mutex::new(None);
    let deadline = timer::Deadline::after(Duration::from_secs(30));
    let count = cpu::count();
    parallel(count, &|_| {
        let message = Message::open(apps::TESTS, login::PUBLIC, &[]);
        let result = until_served(kit, &message, &limited).and_then(|()| {
            let session = message.view().session();
            let message = long_call(session, ROUNDS);
            while !deadline.passed() {
                until_served(kit, &message, &limited)?;
                calls.fetch_add(1, Ordering::Relaxed);
            }
            until_served(kit, &Message::close(session), &limited)
        });
        if let Err(why) = result {
            *wrong.lock() = Some(why);
        }
    });
    if let Some(why) = wrong.into_inner() {
        return Err(why);
    }
    let calls = calls.into_inner();
    holds(calls > 0, "no call ended")?;
    Ok(Observation::new(format!(
        "{calls} calls on {count} vCPUs in 30 s, {} refused for lack of a thread",
        limited.into_inner()
    )))
}
