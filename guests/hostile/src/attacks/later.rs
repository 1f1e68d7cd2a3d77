// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attacks 53 to 55, which were added after the plan.

use super::interrupts::interrupted;
use crate::attack::{Attack, Observation, Verdict, holds, same};
use crate::kit::{Got, Kit};
use crate::parked::{Parked, long_call};
use alloc::format;
use alloc::string::String;
use core::time::Duration;
use guest_bare::edge::LastPage;
use guest_bare::exception::Fault;
use guest_bare::machine::machine;
use guest_bare::tee::{Act, Message, Step, Suspended, apps};
use guest_bare::{gic, timer};
use optee_proto::msg::{Command, login};
use optee_proto::smc::CALL_WITH_ARG;
use optee_proto::{Origin, Return, TeeResult, rpc};

/// The attacks, in numerical order.
pub const ATTACKS: &[Attack] = &[
    Attack {
        number: 53,
        title: "calls and accesses that trap, in the last instruction of the address space",
        expected: "they are executed, and the fetch after them fails",
        run: at_the_end,
    },
    Attack {
        number: 54,
        title: "a session is invoked, cancelled and closed while it is being opened, and after the opening failed",
        expected: "BAD_PARAMETERS, and ITEM_NOT_FOUND for the close; nothing reaches OP-TEE",
        run: half_open,
    },
    Attack {
        number: 55,
        title: "a session is closed while a call that names it is suspended at an interrupt",
        expected: "the CLOSE_SESSION waits, and does not reach OP-TEE, until that call has ended; no other call can use the session",
        run: renumber,
    },
];

/// The number of calls that are held back.
const HELD: u64 = 20;
/// The rounds that each of them counts.
const ROUNDS: u64 = 300_000;

/// Returns when the instruction is the last one of the address space, no address follows it.
fn at_the_end(kit: &Kit) -> Verdict {
    const UNKNOWN_CALL: u64 = 0x8400_ffff;
    let (distributor, nowhere) = (machine().distributor, 0x4020_0000);
    let page = LastPage::map();
    let mut tried = 0;
    for (what, instruction, x0, expected) in [
        (
            "smc #0",
            0xd400_0003,
            UNKNOWN_CALL,
            Fault::is_fetch as fn(Fault) -> bool,
        ),
        ("hvc #0", 0xd400_0002, UNKNOWN_CALL, Fault::is_fetch),
        ("wfe", 0xd503_205f, 0, Fault::is_fetch),
        (
            "ldr w0, [x0]",
            0xb940_0000,
            distributor + 4,
            Fault::is_fetch,
        ),
        (
            "str w0, [x0]",
            0xb900_0000,
            distributor + 8,
            Fault::is_fetch,
        ),
        ("mrs x0, actlr_el1", 0xd538_1020, 0, Fault::is_fetch),
        ("smc #1", 0xd400_0023, UNKNOWN_CALL, Fault::is_undefined),
        ("hvc #1", 0xd400_0022, UNKNOWN_CALL, Fault::is_undefined),
        ("mrs x0, pmcr_el0", 0xd53b_9c00, 0, Fault::is_undefined),
        (
            "ldr x0, [x0], of nothing",
            0xf940_0000,
            nowhere,
            Fault::is_abort,
        ),
    ] {
        let fault = page.execute(instruction, x0);
        holds(expected(fault), &format!("{what}: {fault}"))?;
        tried += 1;
    }
    drop(page);
    kit.alive()?;
    Ok(Observation::denied(format!("{tried} instructions"), 0))
}

/// OP-TEE finds a session by its number as soon as it begins to open it, and frees the session when
/// that fails, even if a call waits for it then.
fn half_open(kit: &Kit) -> Verdict {
    // OP-TEE numbers sessions upwards from the last one.
    let last = kit.open_tests()?;
    let mut denied = 0;
    for _ in 0..20 {
        let opening = Parked::at_command(
            kit,
            Message::open(apps::NOBODY, login::PUBLIC, &[]),
            |command, _| command == rpc::Command::LOAD_TA,
        )?;
        let mut refuse = |session| {
            let not_found = Got::Result(TeeResult::ITEM_NOT_FOUND, Origin::COMMS);
            for (command, wanted) in [
                (Command::INVOKE, Got::BAD_PARAMETERS),
                (Command::CANCEL, Got::BAD_PARAMETERS),
                (Command::CLOSE_SESSION, not_found),
            ] {
                let got = kit.send(&Message::new(command, 0, session, &[]));
                let what = format!("{command:?} of session {session}, of which {last} is the last");
                same(&what, &got, &wanted)?;
                denied += 1;
            }
            Ok::<_, String>(())
        };
        for session in [0, last + 1, last + 2] {
            refuse(session)?;
        }
        let got = opening.finish(kit);
        same(
            "the opening",
            &got,
            &Got::Result(TeeResult::ITEM_NOT_FOUND, Origin::TEE),
        )?;
        refuse(last + 1)?;
    }
    kit.close(last)?;
    kit.alive()?;
    Ok(Observation::denied(format!("{denied} calls"), denied))
}

/// OP-TEE can be interrupted between taking a call and finding its session. If the session were
/// closed then, and another one opened under its number, the call would reach that one.
fn renumber(kit: &Kit) -> Verdict {
    let denied = interrupted(Duration::from_micros(50), || close_under_calls(kit))?;
    kit.alive()?;
    Ok(Observation::denied(format!("{HELD} calls"), denied))
}

/// Returns how many calls were denied.
fn close_under_calls(kit: &Kit) -> Result<u64, String> {
    let is_held = |call: &Suspended| call.function == rpc::Function::FOREIGN_INTR;
    let (mut held, mut denied) = (0, 0);
    let deadline = timer::Deadline::after(Duration::from_secs(60));
    while held < HELD {
        holds(
            !deadline.passed(),
            &format!("only {held} calls were interrupted"),
        )?;
        let session = kit.open_tests()?;
        let message = long_call(session, ROUNDS);
        let step = kit.client.begin(CALL_WITH_ARG, &message);
        gic::drain();
        let hook = |call: &Suspended| {
            if is_held(call) {
                Act::Park
            } else {
                Act::Default
            }
        };
        let user = match kit.go_on(&message, step, hook) {
            Got::Parked(call) => Parked { message, call },
            got => {
                holds(
                    got.is_success(),
                    &format!("a call that was not held back: {got:?}"),
                )?;
                kit.close(session)?;
                continue;
            }
        };
        held += 1;
        let mut waiter = Parked::at(kit, Message::close(session), is_held)?;
        for _ in 0..5 {
            gic::drain();
            match kit.client.resume(&waiter.call, [0; 4]) {
                Step::Rpc(call) if is_held(&call) => waiter.call = call,
                step => return Err(format!("CLOSE_SESSION of a session in use: {step:?}")),
            }
        }
        let third = kit.send(&Message::open(apps::NOBODY, login::PUBLIC, &[]));
        same("a third call", &third, &Got::Code(Return::ETHREAD_LIMIT))?;
        let got = user.finish(kit);
        holds(
            got.is_success(),
            &format!("the call that was held back: {got:?}"),
        )?;
        let got = kit.send(&long_call(session, 1));
        same(
            "a call of a session that is going",
            &got,
            &Got::BAD_PARAMETERS,
        )?;
        denied += 1;
        let got = waiter.finish(kit);
        holds(
            got.is_success(),
            &format!("the CLOSE_SESSION that waited: {got:?}"),
        )?;
    }
    Ok(denied)
}
