// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A VM that may open user TAs and no pseudo TAs.

use super::{APP, Vm};
use crate::fake::{Machine, Step};
use crate::{Config, Leak};
use alloc::vec;
use optee_proto::msg::{Attr, Command, Param, login};
use optee_proto::rpc::{self, Function};
use optee_proto::{Return, TeeResult, Uuid, smc};

/// A pseudo TA that OP-TEE's sources have.
const KNOWN: Uuid = Uuid(0x7011a688_ddde_4053_a5a9_7b3c4ddf13b8_u128.to_be_bytes());
/// One that they have not.
const UNKNOWN: Uuid = Uuid([0x9a; 16]);
const DENIED: u32 = TeeResult::ACCESS_DENIED.0;

fn vm(listed: &[Uuid]) -> Vm {
    let mut config = Config::default();
    config.policy.trusted_apps = Some(listed.to_vec());
    config.policy.user_tas = true;
    Vm::bare(&Machine::new(), 1, config)
}

fn load(app: Uuid) -> Step {
    let (a, b) = app.to_value();
    let name = Param::new(Attr::VALUE_INPUT, a, b, 0);
    let none = Param::new(Attr::TMEM_OUTPUT, 0, 0, 0);
    Step::Command(rpc::Command::LOAD_TA, vec![name, none])
}

#[test]
fn user_tas_are_opened_and_pseudo_tas_are_not() {
    let vm = vm(&[]);
    let (machine, guest) = (vm.host.machine(), vm.guest());
    machine.script(1, [load(APP)]);
    let (session, result) = guest.open(APP, login::PUBLIC);
    assert_eq!(result, 0);
    // One that is there already is not loaded again.
    assert_eq!(guest.open(APP, login::PUBLIC).1, 0);
    let before = (machine.smcs().len(), vm.baseline());
    assert_eq!(guest.open(KNOWN, login::PUBLIC), (0, DENIED));
    assert_eq!(machine.smcs().len(), before.0, "OP-TEE was asked");
    // An unknown UUID is opened, is not loaded, and is closed before the guest is told.
    assert_eq!(guest.open(UNKNOWN, login::PUBLIC), (0, DENIED));
    let commands = machine.outcomes(1).into_iter().rev().take(2);
    let commands: vec::Vec<_> = commands.map(|call| call.header.cmd.get()).collect();
    assert_eq!(
        commands,
        [Command::CLOSE_SESSION.0, Command::OPEN_SESSION.0]
    );
    assert_eq!(vm.baseline(), before.1);
    assert_eq!(machine.open_sessions(1), 2);
    assert_eq!(vm.stats().denied, 2);
    // Its number is no session of the guest's.
    let invoke = guest.message(Command::INVOKE, session + 2, &[]);
    let refused = guest.run(invoke).header.ret.get();
    assert_eq!(refused, TeeResult::BAD_PARAMETERS.0);
    vm.end();
}

/// That OP-TEE loads something else meanwhile, such as a library, says nothing of what is opened.
#[test]
fn code_request_for_other_uuid_proves_no_user_ta() {
    let vm = vm(&[]);
    vm.host.machine().script(1, [load(APP)]);
    assert_eq!(vm.guest().open(UNKNOWN, login::PUBLIC), (0, DENIED));
    // Nor does it make an application of a library.
    assert!(!vm.mediator.state.lock().is_user_app(APP));
    vm.end();
}

#[test]
fn listed_uuid_may_be_any_application() {
    let vm = vm(&[KNOWN, UNKNOWN]);
    let guest = vm.guest();
    assert_eq!(guest.open(KNOWN, login::PUBLIC).1, 0);
    assert_eq!(guest.open(UNKNOWN, login::PUBLIC).1, 0);
    assert_eq!(vm.host.machine().open_sessions(1), 2);
    vm.end();
}

/// OP-TEE asks for something while it opens and while it closes, and is interrupted.
#[test]
fn denied_session_close_may_be_interrupted() {
    let vm = vm(&[]);
    let (machine, guest) = (vm.host.machine(), vm.guest());
    let time = || Step::Command(rpc::Command::GET_TIME, vec![]);
    machine.script(1, [time(), Step::ShmAlloc(0, 10), Step::ForeignInterrupt]);
    machine.script(1, [Step::ForeignInterrupt, time()]);
    assert_eq!(guest.open(UNKNOWN, login::PUBLIC), (0, DENIED));
    assert_eq!(machine.open_sessions(1), 0);
    vm.end();
}

/// All of OP-TEE's threads are taken at that moment, or the VM ends: it is closed all the same.
#[test]
fn denied_session_is_closed_in_every_case() {
    for ends in [false, true] {
        let vm = vm(&[]);
        let (machine, guest) = (vm.host.machine(), vm.guest());
        let limit = [Return::ETHREAD_LIMIT.get(), 0, 0, 0];
        machine.script(1, [Step::ForeignInterrupt]);
        let (a, b) = UNKNOWN.to_value();
        let params = [
            Param::new(Attr::META_VALUE_INPUT, a, b, 0),
            Param::new(Attr::META_VALUE_INPUT, 0, 0, 0),
        ];
        let message = guest.message(Command::OPEN_SESSION, 0, &params);
        let opening = guest.begin(message);
        assert_eq!(opening[0], Function::FOREIGN_INTR.a0());
        machine.answer_next(smc::CALL_WITH_ARG, limit);
        let waiting = guest.resume(opening[3], [0; 4]);
        assert_eq!(waiting[0], Function::FOREIGN_INTR.a0());
        assert_eq!(machine.open_sessions(1), 1);
        if ends {
            vm.mediator.destroy(&vm.host).unwrap();
            assert_eq!(vm.stats().leaked, 0);
            assert_eq!(machine.open_sessions(1), 0);
            vm.end_after_destroy();
        } else {
            assert_eq!(guest.resume(waiting[3], [0; 4])[0], 0);
            assert_eq!(guest.read_message(message).header.ret.get(), DENIED);
            assert_eq!(machine.open_sessions(1), 0);
            vm.end();
        }
    }
}

/// OP-TEE is asked in vain to close it: it has no memory, or does not do it. So it stays, and is closed when the VM
/// ends; the guest has nothing of it.
#[test]
fn denied_session_left_open_is_closed_at_teardown() {
    let code = |code: Return| (Some([code.get(), 0, 0, 0]), None);
    let result = |result| (None, Some(Step::Result(result)));
    for (answer, step) in [
        code(Return::EBADADDR),
        code(Return::ENOMEM),
        code(Return::EBADCMD),
        code(Return::ENOTAVAIL),
        code(Return::EBUSY),
        result(TeeResult::BUSY),
    ] {
        for at_the_end in [TeeResult::SUCCESS, TeeResult::BUSY] {
            let vm = vm(&[]);
            let (machine, guest) = (vm.host.machine(), vm.guest());
            machine.script(1, [Step::ForeignInterrupt]);
            machine.script(1, step.clone());
            let (a, b) = UNKNOWN.to_value();
            let params = [
                Param::new(Attr::META_VALUE_INPUT, a, b, 0),
                Param::new(Attr::META_VALUE_INPUT, 0, 0, 0),
            ];
            let message = guest.message(Command::OPEN_SESSION, 0, &params);
            let opening = guest.begin(message);
            if let Some(answer) = answer {
                machine.answer_next(smc::CALL_WITH_ARG, answer);
                machine.forget_scripts(1);
            }
            assert_eq!(guest.resume(opening[3], [0; 4])[0], 0);
            let header = guest.read_message(message).header;
            assert_eq!((header.session.get(), header.ret.get()), (0, DENIED));
            // The guest has no such session, and pays for it.
            assert_eq!(machine.sessions(1), [1]);
            for command in [Command::INVOKE, Command::CANCEL, Command::CLOSE_SESSION] {
                let refused = guest.run(guest.message(command, 1, &[]));
                assert_ne!(refused.header.ret.get(), 0, "{command:?}");
            }
            assert_eq!(machine.sessions(1), [1]);
            assert_eq!(vm.stats().sessions, 1);
            assert_eq!(vm.mediator.state.lock().address_spaces(), 1);
            machine.script(1, [Step::Result(at_the_end)]);
            vm.mediator.destroy(&vm.host).unwrap();
            let leaked = u64::from(at_the_end != TeeResult::SUCCESS);
            assert_eq!((vm.stats().leaked, vm.stats().kept), (leaked, 0));
            vm.end_after_destroy();
        }
    }
}

/// The VM ends while OP-TEE closes it, and that does not end; or OP-TEE breaks the call.
#[test]
fn denied_session_not_closed_at_teardown_is_counted() {
    let endless = if cfg!(miri) { 200 } else { 20_000 };
    for step in [Step::ForeignInterrupt, Step::Raw([0xffff_0001, 0, 0], None)] {
        let vm = vm(&[]);
        let (machine, guest) = (vm.host.machine(), vm.guest());
        machine.script(1, []);
        machine.script(1, vec![step; endless]);
        let (a, b) = UNKNOWN.to_value();
        let params = [
            Param::new(Attr::META_VALUE_INPUT, a, b, 0),
            Param::new(Attr::META_VALUE_INPUT, 0, 0, 0),
        ];
        guest.begin(guest.message(Command::OPEN_SESSION, 0, &params));
        vm.mediator.destroy(&vm.host).unwrap();
        assert_eq!(vm.stats().leaked, 1);
        assert_eq!(machine.reported_leaks(), [(Leak::Session, UNKNOWN)]);
        vm.end_after_destroy();
    }
}
