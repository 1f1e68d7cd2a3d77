// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The end of a VM in steps, and with an OP-TEE that knows of no VMs.

use super::{APP, SESSION, Vm, vm};
use crate::fake::{FakeHost, Guest, Machine, Step};
use crate::{
    ClientId, Config, CreateError, DestroyError, Features, Mediator, Progress, TeeInfo, probe,
};
use alloc::vec;
use alloc::vec::Vec;
use core::num::NonZeroU16;
use optee_proto::caps::SecureCaps;
use optee_proto::msg::{Attr, Command, Param, login};
use optee_proto::rpc::Function;
use optee_proto::{Return, TeeResult, rpc, smc, uuid};

/// A VM whose OP-TEE is not virtualised.
fn alone() -> Vm {
    let machine = Machine::new();
    let caps = SecureCaps::DYNAMIC_SHM | SecureCaps::MEMREF_NULL;
    machine.set_tee(uuid::API_UID, caps.bits(), 4);
    Vm::bare(&machine, 1, Config::default())
}

/// No step does much, whatever the VM has left open, and no call is served meanwhile.
#[test]
fn each_step_is_short() {
    let vm = vm();
    let guest = vm.guest();
    let machine = vm.host.machine();
    for _ in 0..5 {
        assert_eq!(guest.open(APP, login::PUBLIC).1, 0);
    }
    for pages in 1..4 {
        assert_eq!(guest.register(pages).1, 0);
    }
    for _ in 0..2 {
        let busy = [
            Step::ForeignInterrupt,
            Step::ForeignInterrupt,
            Step::ForeignInterrupt,
        ];
        machine.script(1, busy);
        guest.begin(guest.message(Command::INVOKE, SESSION, &[]));
    }
    let mut steps = 0;
    loop {
        let before = machine.smcs().len();
        let progress = vm.mediator.destroy_step(&vm.host).unwrap();
        steps += 1;
        assert!(machine.smcs().len() - before <= 1, "step {steps}");
        if progress == Progress::Done {
            break;
        }
        let begun = guest.begin(guest.message(Command::INVOKE, SESSION, &[]));
        assert_eq!(begun[0], Return::ENOTAVAIL.get());
        assert_eq!(vm.mediator.create(&vm.host), Err(CreateError::Exists));
    }
    // Three for each call, one for each session, and VM_DESTROYED.
    assert!((12..40).contains(&steps), "{steps} steps");
    assert_eq!(
        vm.mediator.destroy_step(&vm.host),
        Ok(Progress::Done),
        "once more does nothing"
    );
    vm.end_after_destroy();
}

/// Thousands of pages are not unpinned in one step.
#[test]
fn many_pages_are_unpinned_in_steps() {
    let machine = Machine::new();
    let (buffers, pages) = if cfg!(miri) { (3, 8) } else { (3, 5000) };
    let vm = Vm::with_pages(&machine, 1, Config::default(), buffers * pages + 100);
    let guest = vm.guest();
    for _ in 0..buffers {
        assert_eq!(guest.register(pages).1, 0);
    }
    loop {
        let before = machine.pins();
        let progress = vm.mediator.destroy_step(&vm.host).unwrap();
        assert!(before - machine.pins() <= 2048);
        if progress == Progress::Done {
            break;
        }
    }
    vm.end_after_destroy();
}

/// Without VM_DESTROYED each thing is given back by itself, and no call carries a number.
#[test]
fn unvirtualised_optee_returns_all_memory_at_destroy() {
    let vm = alone();
    let guest = vm.guest();
    let machine = vm.host.machine();
    for _ in 0..3 {
        assert_eq!(guest.fast(smc::ENABLE_SHM_CACHE)[0], 0);
        machine.script(1, [Step::ShmAlloc(0, 10), Step::ShmFree(0, 0)]);
        assert_eq!(guest.open(APP, login::PUBLIC).1, 0);
        for pages in [1, 5, 3] {
            assert_eq!(guest.register(pages).1, 0);
        }
        let (gone, _) = guest.register(2);
        assert_eq!(guest.unregister(gone), 0);
        assert_eq!((machine.registered(1), machine.open_sessions(1)), (3, 1));
        assert!(vm.stats().rpc_buffers > 0);

        vm.mediator.destroy(&vm.host).unwrap();
        assert_eq!((machine.registered(1), machine.open_sessions(1)), (0, 0));
        assert_eq!((machine.pins(), machine.shared_pages()), (0, 0));
        assert_eq!(machine.violations(), [""; 0]);
        assert!(machine.smcs().iter().all(|regs| regs[7] == 0));
        vm.mediator.create(&vm.host).unwrap();
    }
}

/// What it does not give back stays pinned, and the VM does not start again; unless it does later.
#[test]
fn memory_kept_by_unvirtualised_optee_stays_pinned() {
    let vm = alone();
    let guest = vm.guest();
    let machine = vm.host.machine();
    for pages in [2, 7] {
        assert_eq!(guest.register(pages).1, 0);
    }
    // The last one is asked for first.
    machine.script(1, [Step::Result(TeeResult::BUSY)]);
    let held = Err(DestroyError::Held(1));
    assert_eq!(vm.mediator.destroy(&vm.host), held);
    assert_eq!(machine.pins(), 7);
    assert_eq!(vm.mediator.create(&vm.host), Err(CreateError::Exists));
    assert_eq!(machine.violations(), [""; 0]);

    vm.mediator.destroy(&vm.host).unwrap();
    assert_eq!((machine.pins(), machine.shared_pages()), (0, 0));
    assert_eq!(vm.mediator.create(&vm.host), Ok(()));
}

/// A call that OP-TEE broke may go on using what it was given.
#[test]
fn poisoned_call_blocks_destroy_without_virtualisation() {
    let vm = alone();
    vm.open_session(400);
    let guest = vm.guest();
    let machine = vm.host.machine();
    let (cookie, _) = guest.register(1);
    machine.script(1, [Step::Raw([0xdead, 0, 0], None)]);
    let memory = Param::new(Attr::RMEM_INOUT, 0, 10, cookie);
    guest.begin(guest.message(Command::INVOKE, SESSION, &[memory]));
    assert_eq!(vm.stats().poisoned, 1);
    assert_eq!(
        vm.mediator.destroy(&vm.host),
        Err(DestroyError::Held(2)),
        "the call and its buffer"
    );
    assert_eq!(machine.pins(), 1);
}

/// What OP-TEE asks for when a trusted application sleeps.
fn sleep(milliseconds: u64) -> Step {
    let time = Param::new(Attr::VALUE_INPUT, milliseconds, 0, 0);
    Step::Command(rpc::Command::SUSPEND, vec![time])
}

/// A VM whose calls have room for RPC messages, so that what OP-TEE asks first is what it wants.
fn with_room() -> Vm {
    let features = Features {
        rpc_arg: true,
        async_notif: false,
    };
    let config = Config {
        features,
        ..Config::default()
    };
    let machine = Machine::new();
    machine.set_tee(uuid::API_UID, 0b111_1101, 3);
    Vm::new(&machine, 1, config)
}

fn guest_with_room(vm: &Vm) -> Guest<'_> {
    let mut guest = vm.guest();
    guest.function = smc::CALL_WITH_RPC_ARG;
    guest
}

/// The steps of an end, the last one not counted: how long each wants to wait.
fn waits(vm: &Vm) -> Vec<u32> {
    let steps = core::iter::from_fn(|| {
        let progress = vm.mediator.destroy_step(&vm.host).unwrap();
        (progress != Progress::Done).then_some(progress)
    });
    let later = |progress| match progress {
        Progress::Later(milliseconds) => Some(milliseconds),
        _ => None,
    };
    steps.filter_map(later).collect()
}

/// An application that sleeps is cancelled; one that does not mind wakes up by itself.
#[test]
fn teardown_waits_for_sleeping_call() {
    let vm = with_room();
    let guest = guest_with_room(&vm);
    let machine = vm.host.machine();
    let (session, _) = guest.open(APP, login::PUBLIC);
    machine.script(1, [sleep(3000), sleep(40)]);
    guest.begin(guest.message(Command::INVOKE, session, &[]));
    machine.script(1, [sleep(500)]);
    guest.begin(guest.message(Command::INVOKE, session, &[]));
    // The call that sleeps less is waited for first; then the other's time begins.
    assert_eq!(waits(&vm), [500, 3000, 40]);
    assert_eq!((vm.stats().leaked, vm.stats().kept), (0, 0));
    let commands = machine.outcomes(1).into_iter();
    let cancelled = commands.filter(|seen| Command(seen.header.cmd.get()) == Command::CANCEL);
    let sessions: Vec<u32> = cancelled.map(|seen| seen.header.session.get()).collect();
    assert_eq!(sessions, [session, session]);
    vm.end_after_destroy();
}

/// The wait is bounded.
#[test]
fn call_that_sleeps_repeatedly_is_abandoned() {
    let vm = with_room();
    let guest = guest_with_room(&vm);
    let machine = vm.host.machine();
    let (session, _) = guest.open(APP, login::PUBLIC);
    machine.script(1, (0..3000).map(|_| sleep(4000)));
    guest.begin(guest.message(Command::INVOKE, session, &[]));
    assert_eq!(waits(&vm), [4000, 4000, 2000]);
    vm.end_after_destroy();
}

/// What OP-TEE asks for in memory of its own for messages is given back with the call.
#[test]
fn call_with_endless_requests_is_abandoned_with_its_request() {
    let vm = vm();
    let guest = vm.guest();
    let ask = |_| Step::Command(rpc::Command::FS, vec![]);
    vm.host.machine().script(1, (0..20_000).map(ask));
    let begun = guest.begin(guest.message(Command::INVOKE, SESSION, &[]));
    assert_eq!(begun[0], Function::ALLOC.a0());
    let at = guest.alloc(1);
    let ((a1, a2), (a4, a5)) = (smc::pair(at.get()), smc::pair(Guest::cookie(at)));
    let asked = guest.resume(begun[3], [a1, a2, a4, a5]);
    assert_eq!(asked[0], Function::CMD.a0());
    vm.end();
}

/// OP-TEE borrows pages for the mediator's own calls, of a page at most, and they come back as often as they are lent.
#[test]
fn pages_lent_to_internal_calls_return() {
    let vm = vm();
    let most = 2 * vm.mediator.shared_pages_max() as usize;
    let whole = |number| [Step::ShmAlloc(0, 4096), Step::ShmFree(0, number)];
    let steps = (0..most).flat_map(whole).chain([Step::ShmAlloc(0, 4097)]);
    let machine = vm.host.machine();
    machine.script(1, steps);
    vm.mediator.destroy(&vm.host).unwrap();
    let mut closed = machine.outcomes(1).into_iter();
    let closed = closed.rfind(|call| call.header.cmd.get() == Command::CLOSE_SESSION.0);
    let lent: Vec<bool> = closed
        .unwrap()
        .allocated
        .iter()
        .map(Option::is_some)
        .collect();
    assert_eq!(lent.len(), most + 1);
    assert!(lent[..most].iter().all(|lent| *lent), "{lent:?}");
    assert!(!lent[most]);
    vm.end_after_destroy();
}

/// The list of what the guest has handed over is OP-TEE's to read until the call is over, and no longer.
#[test]
fn page_list_given_to_optee_is_freed_with_the_call() {
    let vm = with_room();
    let guest = guest_with_room(&vm);
    let (session, _) = guest.open(APP, login::PUBLIC);
    let ask = Step::ShmAlloc(rpc::SHM_TYPE_APPL, 5000);
    vm.host.machine().script(1, [Step::UseRoom(true), ask]);
    guest.run(guest.message(Command::INVOKE, session, &[]));
    let state = vm.mediator.state.lock();
    assert!(state.idle.iter().all(|call| call.page_list.is_empty()));
    drop(state);
    vm.end();
}

/// One call that does not end costs no other session.
#[test]
fn endless_call_leaves_other_sessions_closable() {
    let vm = vm();
    let guest = vm.guest();
    let machine = vm.host.machine();
    for _ in 0..3 {
        assert_eq!(guest.open(APP, login::PUBLIC).1, 0);
    }
    machine.script(
        1,
        (0..if cfg!(miri) { 200 } else { 20_000 }).map(|_| Step::ForeignInterrupt),
    );
    guest.begin(guest.message(Command::INVOKE, SESSION, &[]));
    // Each session's end takes a while as well; the first script is for the cancellation.
    for _ in 0..4 {
        let a_while = if cfg!(miri) { 1 } else { 20 };
        machine.script(1, (0..a_while).map(|_| Step::ForeignInterrupt));
    }
    vm.mediator.destroy(&vm.host).unwrap();
    assert_eq!(vm.stats().leaked, 0);
    vm.end_after_destroy();
}

/// Returns a VM on OP-TEE 4 of this minor version, with notifications.
fn of_version(machine: &Machine, minor: u32, lives: Option<u32>) -> (FakeHost, Mediator) {
    let host = machine.add_vm(1, 10);
    let tee = TeeInfo {
        minor,
        ..probe(&host).unwrap()
    };
    let mut config = Config::default();
    config.features.async_notif = true;
    config.max_creations = lives;
    let client = ClientId::new(NonZeroU16::MIN);
    (host, Mediator::new(client, config, tee))
}

/// Debian's 4.10 stops for all VMs when one enables notifications in a second life.
#[test]
fn notifications_are_enabled_in_one_creation_only() {
    for (minor, again) in [(5, true), (6, false), (10, false)] {
        let machine = Machine::new();
        let (host, mediator) = of_version(&machine, minor, None);
        let guest = Guest::new(&host, &mediator);
        // A life without them costs nothing.
        for (enable, offered) in [(false, true), (true, true), (true, again)] {
            mediator.create(&host).unwrap();
            assert_eq!(mediator.offers_notifications(), offered, "4.{minor}");
            let caps = guest.fast(smc::EXCHANGE_CAPABILITIES)[1];
            let caps = SecureCaps::from_bits_retain(caps);
            assert_eq!(caps.contains(SecureCaps::ASYNC_NOTIF), offered);
            if enable {
                let unknown = Return::UNKNOWN_FUNCTION.get();
                let answer = guest.fast(smc::ENABLE_ASYNC_NOTIF)[0];
                assert_eq!(answer, if offered { 0 } else { unknown });
            }
            mediator.destroy(&host).unwrap();
        }
        let enabled = machine.smcs().into_iter();
        let enabled = enabled.filter(|regs| regs[0] == smc::ENABLE_ASYNC_NOTIF.get().into());
        assert_eq!(enabled.count(), if again { 2 } else { 1 });
    }
}

/// It also leaks memory with each creation, and stops without memory.
#[test]
fn creations_are_bounded_with_leaking_optee() {
    let machine = Machine::new();
    let (host, mediator) = of_version(&machine, 10, Some(3));
    for _ in 0..3 {
        mediator.create(&host).unwrap();
        mediator.destroy(&host).unwrap();
    }
    assert_eq!(
        mediator.create(&host),
        Err(CreateError::TooManyCreations(3))
    );
    assert!(!machine.knows(1));

    // A VM whose tables OP-TEE does not make was created all the same.
    let machine = Machine::new();
    let (host, mediator) = of_version(&machine, 10, Some(3));
    for _ in 0..3 {
        machine.answer_next(smc::CALL_WITH_REGD_ARG, [Return::ENOMEM.get(), 0, 0, 0]);
        assert!(matches!(
            mediator.create(&host),
            Err(CreateError::TablesRefused(_))
        ));
    }
    assert_eq!(
        mediator.create(&host),
        Err(CreateError::TooManyCreations(3))
    );

    let version = |major, minor, virtualised| TeeInfo {
        major,
        minor,
        virtualised,
        ..probe(&host).unwrap()
    };
    for (major, minor, limited) in [(3, 20, false), (4, 5, false), (4, 6, true), (5, 0, true)] {
        assert_eq!(
            version(major, minor, true).max_creations().is_some(),
            limited
        );
        assert_eq!(version(major, minor, false).max_creations(), None);
        let built_otherwise = TeeInfo {
            static_tables: true,
            ..version(major, minor, true)
        };
        assert_eq!(built_otherwise.max_creations(), None);
    }
}
