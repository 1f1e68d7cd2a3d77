// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Experiments about sessions that are being opened.

use crate::lab::{Lab, client, create, describe, describe_step};
use alloc::format;
use alloc::string::String;
use guest_bare::event::Event;
use guest_bare::tee::client::Failure;
use guest_bare::tee::{Message, Step, Suspended, apps};
use guest_bare::{timer, timers};
use optee_proto::{rpc, smc};

/// The sessions that may get the memory of one that was freed.
const OTHERS: usize = 12;
/// How often a call that waits in OP-TEE checks again.
const LOOKS: usize = 20;

/// Begins to open a session and leaves the call where OP-TEE asks for the application, which does
/// not exist; returns the session's number, the message and the call. Numbers are consecutive.
fn half_open(lab: &Lab) -> Result<(u32, Message, Suspended), Failure> {
    create(1);
    create(2);
    let first = lab.open(1, apps::TESTS)?;
    let (message, parked) = lab.open_until(1, apps::NOBODY, rpc::Command::LOAD_TA);
    parked.map(|call| (first + 1, message, call))
}

/// Opens and closes sessions; says how many of [`OTHERS`] can be opened and closed.
fn others_come_and_go(lab: &Lab) -> String {
    let others: [_; OTHERS] = core::array::from_fn(|_| lab.open(1, apps::TESTS));
    let opened = others.iter().flatten().count();
    let close = |session| client(1).close(&lab.supplicant, session);
    let closed = others
        .into_iter()
        .flatten()
        .filter(|session| close(*session).is_ok())
        .count();
    format!("of {OTHERS} other sessions {opened} open and {closed} close")
}

/// INVOKE of a session that OP-TEE has only begun to open. The opening fails, and other sessions
/// come and go where OP-TEE may have had it.
pub fn invoked(lab: &Lab) -> String {
    let (number, opening, call) = match half_open(lab) {
        Ok(begun) => begun,
        Err(failure) => return describe::<()>(&Err(failure)),
    };
    let invoked = describe(&client(1).invoke(&lab.supplicant, number, 0, []));
    Event::new("note").text("invoked", &invoked).send();
    let ended = describe(&lab.finish(1, &opening, &call));
    Event::new("note").text("opening", &ended).send();
    let others = others_come_and_go(lab);
    format!(
        "INVOKE: {invoked}; the opening ends: {ended}; {others}; VM 1 works: {}, VM 2: {}",
        lab.works(1),
        lab.works(2)
    )
}

/// Returns the same with CLOSE_SESSION.
pub fn closed(lab: &Lab) -> String {
    close_with(lab, |_| {})
}

/// Returns the same with INVOKE and CLOSE_SESSION.
pub fn invoked_and_closed(lab: &Lab) -> String {
    close_with(lab, |number| {
        let invoked = describe(&client(1).invoke(&lab.supplicant, number, 0, []));
        Event::new("note").text("invoked", &invoked).send();
    })
}

fn close_with(lab: &Lab, before: impl Fn(u32)) -> String {
    let (number, opening, call) = match half_open(lab) {
        Ok(begun) => begun,
        Err(failure) => return describe::<()>(&Err(failure)),
    };
    before(number);
    let closing = Message::close(number);
    let waiting = match lab.run_until(1, &closing, rpc::Command::NOTIFICATION) {
        Ok(call) => call,
        done => return format!("CLOSE_SESSION does not wait: {}", describe(&done)),
    };
    let ended = describe(&lab.finish(1, &opening, &call));
    let (waiting, then) = look_again(lab, &closing, waiting);
    Event::new("note").text("closing", &then).send();
    let others = others_come_and_go(lab);
    let (_, at_last) = look_again(lab, &closing, waiting);
    format!(
        "the opening ends: {ended}; CLOSE_SESSION then {then}; {others}; CLOSE_SESSION at last {at_last}; VM 1 \
         works: {}, VM 2: {}",
        lab.works(1),
        lab.works(2)
    )
}

/// INVOKE of an open session, interrupted before OP-TEE looks for the session. Meanwhile the
/// session is closed, and its number goes to one that is being opened.
pub fn renumbered(lab: &Lab) -> String {
    create(1);
    create(2);
    let opened = [lab.open(1, apps::TESTS), lab.open(1, apps::TESTS)];
    let [Ok(_), Ok(session)] = opened else {
        return "no sessions".into();
    };
    let message = Message::invoke(session, 0, &[]);
    // The interrupt is already pending: OP-TEE takes it as soon as it has a thread.
    timer::arm_el2(0);
    let begun = client(1).begin(smc::CALL_WITH_ARG, &message);
    timers::disarm_el2();
    let held = match begun {
        Step::Rpc(call) if call.function == rpc::Function::FOREIGN_INTR => call,
        other => return format!("INVOKE: {}", describe_step(other)),
    };
    let closed = describe(&client(1).close(&lab.supplicant, session));
    let (opening, parked) = lab.open_until(1, apps::NOBODY, rpc::Command::LOAD_TA);
    let Ok(call) = parked else {
        return format!(
            "CLOSE_SESSION: {closed}; opening another: {}",
            describe(&parked)
        );
    };
    let invoked = describe(&lab.finish(1, &message, &held));
    let ended = describe(&lab.finish(1, &opening, &call));
    format!(
        "CLOSE_SESSION meanwhile: {closed}; INVOKE goes on while another session is being opened: {invoked}; the \
         opening ends: {ended}; VM 1 works: {}, VM 2: {}",
        lab.works(1),
        lab.works(2)
    )
}

/// Lets a waiting call check [`LOOKS`] times; returns its state and a description.
fn look_again(lab: &Lab, message: &Message, mut call: Suspended) -> (Suspended, String) {
    for _ in 0..LOOKS {
        match lab.go_on_until(1, message, &call, rpc::Command::NOTIFICATION) {
            Err(Failure::Parked(next)) => call = next,
            done => return (call, describe(&done)),
        }
    }
    (call, "waits".into())
}
