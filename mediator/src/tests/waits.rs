// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The end of a VM whose calls wait for each other inside OP-TEE.

use super::{APP, Vm};
use crate::fake::{Guest, Machine, Step};
use crate::{Config, Features, Leak, Progress};
use alloc::vec;
use alloc::vec::Vec;
use optee_proto::msg::{Attr, Command, Param, login};
use optee_proto::{TeeResult, rpc, smc, uuid};

/// Interrupts of a call that does not end.
const ENDLESS: usize = if cfg!(miri) { 200 } else { 20_000 };
/// Of one that takes long.
const LONG: usize = if cfg!(miri) { 3 } else { 700 };
/// The longest sleep.
const SECONDS: u64 = 9000;

/// Returns a VM with this many calls, in which OP-TEE sends its requests at once.
fn with_calls(calls: usize) -> Vm {
    let machine = Machine::new();
    machine.set_tee(uuid::API_UID, 0b111_1101, calls);
    let config = Config {
        features: Features {
            rpc_arg: true,
            async_notif: false,
        },
        ..Config::default()
    };
    Vm::bare(&machine, 1, config)
}

fn guest(vm: &Vm) -> Guest<'_> {
    let mut guest = vm.guest();
    guest.function = smc::CALL_WITH_RPC_ARG;
    guest
}

fn open(vm: &Vm) -> u32 {
    let (session, result) = guest(vm).open(APP, login::PUBLIC);
    assert_eq!(result, 0);
    session
}

/// Begins a call that does this in OP-TEE, and does not come to an end by itself.
fn begin(vm: &Vm, session: u32, steps: impl IntoIterator<Item = Step>) {
    vm.host.machine().script(1, steps);
    let guest = guest(vm);
    let regs = guest.begin(guest.message(Command::INVOKE, session, &[]));
    assert!(regs[0] >> 16 == 0xffff, "{regs:x?}");
}

/// What the mediator's own next calls do, each of which cancels a call of the guest's.
fn cancellations(vm: &Vm, calls: usize) {
    for _ in 0..calls {
        vm.host.machine().script(1, []);
    }
}

/// How many milliseconds the end waits, step by step, and how many calls into OP-TEE it takes.
fn end(vm: &Vm) -> (Vec<u32>, usize) {
    let before = vm.host.machine().smcs().len();
    let mut waits = Vec::new();
    loop {
        match vm.mediator.destroy_step(&vm.host).unwrap() {
            Progress::More => {}
            Progress::Later(milliseconds) => waits.push(milliseconds),
            Progress::Done => break,
        }
    }
    (waits, vm.host.machine().smcs().len() - before)
}

fn sleep(milliseconds: u64) -> Step {
    let time = Param::new(Attr::VALUE_INPUT, milliseconds, 0, 0);
    Step::Command(rpc::Command::SUSPEND, vec![time])
}

fn interrupts(count: usize) -> impl Iterator<Item = Step> {
    core::iter::repeat_n(Step::ForeignInterrupt, count)
}

/// One call holds what another waits for, and sleeps.
#[test]
fn waiting_for_sleeping_call_uses_no_budget() {
    let vm = with_calls(3);
    let session = open(&vm);
    let other = open(&vm);
    begin(&vm, session, [sleep(SECONDS), Step::Send(7)]);
    begin(&vm, other, [Step::WaitFor(7)]);
    let (waits, calls) = end(&vm);
    assert_eq!(waits, [SECONDS as u32]);
    assert!(calls < 20, "{calls} calls");
    assert_eq!((vm.stats().leaked, vm.stats().kept), (0, 0));
    vm.end_after_destroy();
}

/// One call holds what all others wait for, and takes long.
#[test]
fn waiting_for_long_call_uses_no_budget() {
    let vm = with_calls(6);
    let sessions: Vec<u32> = (0..5).map(|_| open(&vm)).collect();
    let steps = interrupts(LONG).chain([Step::Send(1), Step::WaitFor(2)]);
    begin(&vm, sessions[0], steps);
    begin(&vm, sessions[1], [Step::WaitFor(1), Step::Send(2)]);
    for session in &sessions[2..] {
        begin(&vm, *session, [Step::WaitFor(2)]);
    }
    let (waits, calls) = end(&vm);
    assert_eq!(waits, [0; 0]);
    assert!(calls < LONG + 50, "{calls} calls");
    assert_eq!((vm.stats().leaked, vm.stats().kept), (0, 0));
    vm.end_after_destroy();
}

/// What is woken is asked at once, what was woken before it waits as well.
#[test]
fn calls_wake_each_other_in_a_chain() {
    // As many as a budget is enough for.
    let links: u32 = if cfg!(miri) { 4 } else { 8 };
    let vm = with_calls(links as usize);
    let session = open(&vm);
    for number in 1..links {
        begin(
            &vm,
            session,
            [Step::WaitFor(number), Step::Send(number - 1)],
        );
    }
    let last = [Step::ForeignInterrupt, Step::Send(links - 1)];
    begin(&vm, session, last);
    // No call is left to cancel with, so none is.
    let (_, calls) = end(&vm);
    assert!(calls < 100, "{calls} calls");
    assert_eq!(vm.stats().leaked, 0);
    let done = vm.host.machine().outcomes(1);
    let invoked = done
        .iter()
        .filter(|seen| seen.header.cmd.get() == Command::INVOKE.0);
    assert_eq!(invoked.count(), links as usize);
    vm.end_after_destroy();
}

/// The session of a call that is under way is closed when that call lets go of it.
#[test]
fn session_is_closed_after_its_call_ends() {
    let vm = with_calls(3);
    let session = open(&vm);
    // It sleeps for longer than anybody waits.
    let steps = interrupts(LONG).chain([sleep(20_000), sleep(20_000), Step::Send(3)]);
    begin(&vm, session, steps);
    cancellations(&vm, 1);
    vm.host.machine().script(1, [Step::WaitFor(3)]);
    let (waits, _) = end(&vm);
    assert_eq!(waits.iter().sum::<u32>(), 10_000);
    assert_eq!(vm.stats().leaked, 0);
    vm.end_after_destroy();
}

/// A call that works for long is not given up: its session could not be closed.
#[test]
fn long_running_call_is_completed() {
    let vm = with_calls(3);
    let session = open(&vm);
    begin(
        &vm,
        session,
        interrupts(ENDLESS * 3 / 4).chain([Step::Send(3)]),
    );
    cancellations(&vm, 1);
    vm.host.machine().script(1, [Step::WaitFor(3)]);
    end(&vm);
    assert_eq!(vm.stats().leaked, 0);
    let done = vm.host.machine().outcomes(1);
    let closed = done
        .iter()
        .rfind(|seen| seen.header.cmd.get() == Command::CLOSE_SESSION.0);
    assert!(closed.is_some());
    vm.end_after_destroy();
}

/// Closing a session can wait for time to pass, too.
#[test]
fn teardown_waits_for_sleeping_close() {
    let vm = with_calls(3);
    open(&vm);
    vm.host.machine().script(1, [sleep(700), sleep(50)]);
    let (waits, calls) = end(&vm);
    assert_eq!(waits, [700, 50]);
    assert!(calls < 10, "{calls} calls");
    assert_eq!(vm.stats().leaked, 0);
    vm.end_after_destroy();
}

/// Cancellations run one at a time: an interrupted one ends before the next takes another OP-TEE thread.
#[test]
fn a_cancellation_ends_before_the_next_begins() {
    let vm = with_calls(6);
    let session = open(&vm);
    for _ in 0..3 {
        begin(&vm, session, [sleep(SECONDS)]);
    }
    for _ in 0..3 {
        vm.host.machine().script(1, interrupts(2));
    }
    let mut most = 0;
    while vm.mediator.destroy_step(&vm.host).unwrap() != Progress::Done {
        let state = vm.mediator.state.lock();
        let own = state.suspended.iter().flatten();
        most = most.max(own.filter(|call| call.is_internal()).count());
    }
    assert_eq!(most, 1);
    vm.end_after_destroy();
}

/// No call comes: that costs little, and no other session.
#[test]
fn call_waiting_for_no_call_is_abandoned_early() {
    let vm = with_calls(4);
    let sessions: Vec<u32> = (0..3).map(|_| open(&vm)).collect();
    begin(&vm, sessions[0], [Step::WaitFor(9)]);
    cancellations(&vm, 1);
    // The last one is closed first: its end waits as well. The others take their time.
    vm.host.machine().script(1, [Step::WaitFor(9)]);
    for _ in 0..2 {
        vm.host.machine().script(1, interrupts(LONG));
    }
    let (waits, calls) = end(&vm);
    assert_eq!(waits, [0; 0]);
    assert!(calls < 3 * LONG + 1000, "{calls} calls");
    assert_eq!(vm.stats().leaked, 1);
    assert_eq!(vm.host.machine().reported_leaks(), [(Leak::Session, APP)]);
    vm.end_after_destroy();
}

/// A call can be woken without a request that the mediator sees, so it is tried again when no other call can
/// continue.
#[test]
fn lone_waiting_call_is_completed() {
    let vm = with_calls(3);
    let session = open(&vm);
    let param = Param::new(Attr::VALUE_INPUT, rpc::NOTIFICATION_WAIT, 5, 0);
    let wait = || Step::Command(rpc::Command::NOTIFICATION, vec![param]);
    begin(&vm, session, [wait(), wait(), wait()]);
    let (waits, calls) = end(&vm);
    assert_eq!(waits, [0; 0]);
    assert!(calls < 10, "{calls} calls");
    let done = vm.host.machine().outcomes(1).into_iter();
    let mut invoked = done.filter(|seen| seen.header.cmd.get() == Command::INVOKE.0);
    assert!(invoked.next().is_some());
    vm.end_after_destroy();
}

/// Two calls that work go on by turns.
#[test]
fn calls_that_work_take_turns() {
    let vm = with_calls(3);
    let session = open(&vm);
    for _ in 0..2 {
        begin(&vm, session, interrupts(4));
    }
    let machine = vm.host.machine();
    let before = machine.smcs().len();
    end(&vm);
    let smcs = machine.smcs().into_iter().skip(before);
    let resumed = smcs.filter(|args| args[0] == smc::CALL_RETURN_FROM_RPC.get().into());
    let threads: Vec<u64> = resumed.map(|args| args[3]).collect();
    assert_eq!(threads.len(), 8);
    let take_turns = threads.windows(2).all(|pair| pair[0] != pair[1]);
    assert!(take_turns, "{threads:?}");
    vm.end_after_destroy();
}

/// Closing a session can take long.
#[test]
fn long_close_is_completed() {
    let vm = with_calls(3);
    open(&vm);
    let very_long = if cfg!(miri) { 12 } else { 1500 };
    vm.host.machine().script(1, interrupts(very_long));
    end(&vm);
    assert_eq!(vm.stats().leaked, 0);
    vm.end_after_destroy();
}

/// Each of the mediator's own calls has time to work, whatever others have used up; all of them together have not any
/// number of times as much.
#[test]
fn hanging_closes_leave_budget_for_others() {
    let vm = with_calls(9);
    for _ in 0..8 {
        open(&vm);
    }
    let most = if cfg!(miri) { 100 } else { 8100 };
    let hangs = ENDLESS / 4;
    for length in [hangs, LONG / 2, hangs, hangs, hangs, hangs, hangs, hangs] {
        vm.host.machine().script(1, interrupts(length));
    }
    let (waits, calls) = end(&vm);
    assert_eq!(waits, [0; 0]);
    assert_eq!(vm.stats().leaked, 7);
    assert!(calls <= most, "{calls} calls");
    vm.end_after_destroy();
}

/// Calls that wait for each other endlessly do not block the VM's teardown.
#[test]
fn calls_that_wake_each_other_endlessly_are_abandoned() {
    let vm = with_calls(3);
    let session = open(&vm);
    for _ in 0..2 {
        let wake = |number| [Step::Send(number), Step::ForeignInterrupt];
        begin(&vm, session, (0..ENDLESS as u32).flat_map(wake));
    }
    let (waits, calls) = end(&vm);
    assert_eq!(waits, [0; 0]);
    assert!(calls < 8200, "{calls} calls");
    assert_eq!(vm.stats().leaked, 0);
    vm.end_after_destroy();
}

/// A session that the guest was closing is closed while the mediator closes another in vain.
#[test]
fn guest_close_is_told_from_teardown_close() {
    let vm = with_calls(4);
    let first = open(&vm);
    let second = open(&vm);
    vm.host.machine().script(1, [Step::WaitFor(7)]);
    let guest = guest(&vm);
    let closing = guest.begin(guest.message(Command::CLOSE_SESSION, first, &[]));
    assert_eq!(closing[0], rpc::Function::CMD.a0());
    let without_progress = Step::Result(TeeResult::BUSY);
    let works = interrupts(4);
    let steps = [Step::Send(7)]
        .into_iter()
        .chain(works)
        .chain([without_progress]);
    vm.host.machine().script(1, steps);
    end(&vm);
    let closed = vm.host.machine().outcomes(1);
    let closed = closed.iter().map(|seen| seen.header.session.get());
    assert_eq!(closed.collect::<Vec<u32>>()[2..], [first, second]);
    assert_eq!(vm.stats().leaked, 1);
    assert_eq!(vm.host.machine().reported_leaks(), [(Leak::Session, APP)]);
    vm.end_after_destroy();
}
