// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a VM leaves behind in OP-TEE when it ends is found out, counted, and bounded.

use super::{APP, Vm};
use crate::fake::{Machine, Step};
use crate::vm_state::MAX_APPS;
use crate::{Config, CreateError, Leak};
use alloc::vec;
use optee_proto::caps::SecureCaps;
use optee_proto::msg::{Attr, Command, Param, login};
use optee_proto::{Return, TeeResult, Uuid, rpc, smc};

/// OP-TEE asks for the code of an application.
fn load(app: Uuid) -> Step {
    let (a, b) = app.to_value();
    let name = Param::new(Attr::VALUE_INPUT, a, b, 0);
    let none = Param::new(Attr::TMEM_OUTPUT, 0, 0, 0);
    Step::Command(rpc::Command::LOAD_TA, vec![name, none])
}

/// The end of a VM that has used an application which OP-TEE had to load.
fn live_and_end(vm: &Vm, app: Uuid, at_the_end: impl IntoIterator<Item = Step>) {
    let machine = vm.host.machine();
    machine.script(1, [load(app)]);
    let guest = vm.guest();
    assert_eq!(guest.open(app, login::PUBLIC).1, 0);
    // What closes the session, and what opens the next one.
    machine.script(1, []);
    machine.script(1, at_the_end);
    vm.mediator.destroy(&vm.host).unwrap();
    assert_eq!((machine.pins(), machine.shared_pages()), (0, 0));
    assert_eq!(machine.open_sessions(1), 0);
}

#[test]
fn application_that_requests_code_was_not_kept() {
    let vm = Vm::bare(&Machine::new(), 1, Config::default());
    let gone = Step::Result(TeeResult::ITEM_NOT_FOUND);
    live_and_end(&vm, APP, [load(APP), gone]);
    assert_eq!((vm.stats().kept, vm.stats().leaked), (0, 0));
    vm.end_after_destroy();
}

/// OP-TEE looks among its files first, for whose names it wants memory, which it may keep.
#[test]
fn files_are_looked_for_before_code() {
    let vm = Vm::bare(&Machine::new(), 1, Config::default());
    let open_file = || {
        let which = Param::new(Attr::VALUE_INPUT, 0, 0, 0);
        Step::Command(rpc::Command::FS, vec![which])
    };
    let gone = || Step::Result(TeeResult::ITEM_NOT_FOUND);
    let page = |bytes| Step::ShmAlloc(rpc::SHM_TYPE_APPL, bytes);
    let back = Step::ShmFree(rpc::SHM_TYPE_APPL, 0);
    live_and_end(&vm, APP, [page(4096), open_file(), back, load(APP), gone()]);
    vm.mediator.create(&vm.host).unwrap();
    live_and_end(&vm, APP, [page(350), open_file(), load(APP), gone()]);
    assert_eq!((vm.stats().kept, vm.stats().leaked), (0, 0));
    // More than a page, or more than a page a call, it does not get.
    let pages = [page(4097), page(1), page(1), page(1), page(1), page(1)];
    vm.mediator.create(&vm.host).unwrap();
    live_and_end(&vm, APP, pages.into_iter().chain([load(APP), gone()]));
    let last = vm.host.machine().outcomes(1).pop().unwrap();
    let got: vec::Vec<bool> = last.allocated.iter().map(Option::is_some).collect();
    assert_eq!(got, [false, true, true, false, false, false]);
    assert_eq!(vm.stats().kept, 0);
    vm.end_after_destroy();
}

#[test]
fn application_that_requests_no_code_was_kept() {
    let vm = Vm::bare(&Machine::new(), 1, Config::default());
    live_and_end(&vm, APP, []);
    assert_eq!((vm.stats().kept, vm.stats().leaked), (1, 0));
    // Also where it does not let us in.
    vm.mediator.create(&vm.host).unwrap();
    live_and_end(&vm, APP, [Step::Result(TeeResult::ACCESS_DENIED)]);
    assert_eq!((vm.stats().kept, vm.stats().leaked), (2, 0));
    vm.end_after_destroy();
}

/// A session that is being opened by a call that does not end takes the whole quota.
#[test]
fn application_without_session_quota_counts_as_kept() {
    let mut config = Config::default();
    config.quotas.sessions = 1;
    let vm = Vm::bare(&Machine::new(), 1, config);
    let machine = vm.host.machine();
    let guest = vm.guest();
    machine.script(1, [load(APP), Step::Result(TeeResult::ITEM_NOT_FOUND)]);
    assert_ne!(guest.open(APP, login::PUBLIC).1, 0);
    // The next one, of another application, never ends.
    let mut steps = vec![load(Uuid([7; 16]))];
    steps.extend(vec![Step::ForeignInterrupt; 20_000]);
    machine.script(1, steps);
    let (a, b) = Uuid([7; 16]).to_value();
    let app = Param::new(Attr::META_VALUE_INPUT, a, b, 0);
    let client = Param::new(Attr::META_VALUE_INPUT, 0, 0, 0);
    let open = guest.message(optee_proto::msg::Command::OPEN_SESSION, 0, &[app, client]);
    guest.begin(open);
    vm.mediator.destroy(&vm.host).unwrap();
    assert_eq!(vm.stats().kept, 1);
    vm.end_after_destroy();
}

#[test]
fn pseudo_tas_are_not_asked() {
    let vm = Vm::bare(&Machine::new(), 1, Config::default());
    let guest = vm.guest();
    assert_eq!(guest.open(APP, login::PUBLIC).1, 0);
    let before = vm.host.machine().smcs().len();
    vm.mediator.destroy(&vm.host).unwrap();
    let smcs = vm.host.machine().smcs();
    let calls = smcs[before..].iter().map(|args| args[0]);
    let calls: vec::Vec<u64> = calls.collect();
    // The session is closed, and that is all.
    let ids = [smc::CALL_WITH_RPC_ARG, smc::VM_DESTROYED].map(|id| id.get().into());
    assert_eq!(calls, ids);
    assert_eq!(vm.stats().kept, 0);
    vm.end_after_destroy();
}

#[test]
fn vm_over_its_leak_quota_is_not_created() {
    let mut config = Config::default();
    config.quotas.max_leaked_asids = 3;
    let machine = Machine::new();
    let neighbour = Vm::bare(&machine, 2, Config::default());
    let vm = Vm::bare(&machine, 1, config);
    for life in 0..3 {
        if life > 0 {
            vm.mediator.create(&vm.host).unwrap();
        }
        live_and_end_beside(&vm);
    }
    assert_eq!(
        vm.mediator.create(&vm.host),
        Err(CreateError::TooManyLeakedAsids(3))
    );
    assert!(!machine.knows(1));
    // That is its own affair.
    assert_eq!(neighbour.guest().open(APP, login::PUBLIC).1, 0);
    neighbour.end_one();
}

fn live_and_end_beside(vm: &Vm) {
    vm.host.machine().script(1, [load(APP)]);
    assert_eq!(vm.guest().open(APP, login::PUBLIC).1, 0);
    vm.mediator.destroy(&vm.host).unwrap();
}

#[test]
fn applications_beyond_the_list_count_as_kept() {
    let mut config = Config::default();
    config.quotas.address_spaces = 1000;
    let vm = Vm::bare(&Machine::new(), 1, config);
    let machine = vm.host.machine();
    let guest = vm.guest();
    let all = MAX_APPS as u8 + 3;
    for number in 0..all {
        let app = Uuid([number; 16]);
        machine.script(1, [load(app)]);
        assert_eq!(guest.open(app, login::PUBLIC).1, 0);
    }
    vm.mediator.destroy(&vm.host).unwrap();
    // All of them: the fake OP-TEE needs no code for any.
    assert_eq!((vm.stats().kept, vm.stats().leaked), (all.into(), 0));
    vm.end_after_destroy();
}

/// A guest can try UUIDs without an application for days.
#[test]
fn application_count_saturates() {
    let vm = Vm::bare(&Machine::new(), 1, Config::default());
    {
        let mut state = vm.mediator.state.lock();
        for number in 0..MAX_APPS as u8 {
            state.note_user_ta(Uuid([number; 16]));
        }
        state.apps.overflow = u32::MAX - 1;
        for number in 0..3 {
            state.note_user_ta(Uuid([0xf0 + number; 16]));
        }
    }
    vm.mediator.destroy(&vm.host).unwrap();
    let all = MAX_APPS as u64 + u64::from(u32::MAX);
    assert_eq!((vm.stats().kept, vm.stats().leaked), (all, 0));
    assert_eq!(
        vm.mediator.create(&vm.host),
        Err(CreateError::TooManyLeakedAsids(all))
    );
    vm.end_after_destroy();
}

/// An OP-TEE that is not virtualised repeatedly says that it returns memory for RPC messages, but has none. It
/// is asked a bounded number of times.
#[test]
fn cached_rpc_memory_requests_are_bounded() {
    let machine = Machine::new();
    let caps = SecureCaps::from_bits_retain(0b111_1101) - SecureCaps::VIRTUALIZATION;
    machine.set_tee(optee_proto::uuid::API_UID, caps.bits(), 2);
    let vm = Vm::bare(&machine, 1, Config::default());
    for _ in 0..500 {
        machine.answer_next(smc::DISABLE_SHM_CACHE, [0, 0, 0x4711, 0]);
    }
    vm.mediator.destroy(&vm.host).unwrap();
    let asked = u64::from(smc::DISABLE_SHM_CACHE.get());
    let calls = machine.smcs().into_iter().filter(|args| args[0] == asked);
    assert!(calls.count() < 10);
}

fn is_opening(app: Uuid) -> [Param; 2] {
    let (a, b) = app.to_value();
    let app = Param::new(Attr::META_VALUE_INPUT, a, b, 0);
    [app, Param::new(Attr::META_VALUE_INPUT, 0, 0, 0)]
}

/// Begins to open a session to an application; the call does not come to an end.
fn open_for_ever(vm: &Vm, app: Uuid) {
    let guest = vm.guest();
    let endless = if cfg!(miri) { 200 } else { 20_000 };
    let steps = vec![Step::ForeignInterrupt; endless];
    vm.host.machine().script(1, steps);
    let message = guest.message(Command::OPEN_SESSION, 0, &is_opening(app));
    assert_eq!(guest.begin(message)[0], rpc::Function::FOREIGN_INTR.a0());
}

/// The application hangs while it is opened. OP-TEE has made it an address space by then.
#[test]
fn unfinished_open_counts_as_leaked() {
    let mut config = Config::default();
    config.quotas.max_leaked_asids = 2;
    let vm = Vm::bare(&Machine::new(), 1, config);
    for life in 1..=2 {
        open_for_ever(&vm, APP);
        vm.mediator.destroy(&vm.host).unwrap();
        assert_eq!((vm.stats().leaked, vm.stats().kept), (life, 0));
        if life == 1 {
            vm.mediator.create(&vm.host).unwrap();
            assert_eq!(vm.mediator.state.lock().address_spaces(), 1);
        }
    }
    let left = vm.host.machine().reported_leaks();
    assert_eq!(left, [(Leak::Session, APP); 2]);
    assert_eq!(
        vm.mediator.create(&vm.host),
        Err(CreateError::TooManyLeakedAsids(2))
    );
    vm.end_after_destroy();
}

/// A pseudo TA has no address space, once it is known to be one.
#[test]
fn unfinished_open_of_pseudo_ta_leaks_nothing() {
    let vm = Vm::bare(&Machine::new(), 1, Config::default());
    let pseudo = Uuid(0x7011a688_ddde_4053_a5a9_7b3c4ddf13b8_u128.to_be_bytes());
    open_for_ever(&vm, pseudo);
    vm.mediator.destroy(&vm.host).unwrap();
    assert_eq!(vm.stats().leaked, 1);
    vm.mediator.create(&vm.host).unwrap();
    assert_eq!(vm.guest().open(pseudo, login::PUBLIC).1, 0);
    open_for_ever(&vm, pseudo);
    vm.mediator.destroy(&vm.host).unwrap();
    assert_eq!((vm.stats().leaked, vm.stats().kept), (1, 0));
    vm.end_after_destroy();
}

/// The same where OP-TEE broke the call.
#[test]
fn poisoned_open_counts_as_leaked() {
    let vm = Vm::bare(&Machine::new(), 1, Config::default());
    let guest = vm.guest();
    let machine = vm.host.machine();
    machine.script(1, [Step::Raw([0xffff_0001, 0, 0], None)]);
    let message = guest.message(Command::OPEN_SESSION, 0, &is_opening(APP));
    assert_eq!(guest.begin(message)[0], Return::ENOTAVAIL.get());
    assert_eq!(vm.mediator.state.lock().address_spaces(), 1);
    vm.mediator.destroy(&vm.host).unwrap();
    assert_eq!(vm.stats().leaked, 1);
    assert_eq!(machine.reported_leaks(), [(Leak::Session, APP)]);
    vm.end_after_destroy();
}

/// What the mediator asks for at the end can hang as well: in an application that was kept, which counts once, and in
/// one that is made anew.
#[test]
fn application_hanging_at_reopen_counts_once() {
    for app_load in [false, true] {
        let vm = Vm::bare(&Machine::new(), 1, Config::default());
        let endless = if cfg!(miri) { 200 } else { 20_000 };
        let mut steps = vec![Step::ForeignInterrupt; endless];
        if app_load {
            steps.insert(0, load(APP));
        }
        let machine = vm.host.machine();
        machine.script(1, [load(APP)]);
        assert_eq!(vm.guest().open(APP, login::PUBLIC).1, 0);
        machine.script(1, []);
        machine.script(1, steps);
        vm.mediator.destroy(&vm.host).unwrap();
        let counts = (vm.stats().kept, vm.stats().leaked);
        assert_eq!(counts, if app_load { (0, 1) } else { (1, 0) });
        vm.end_after_destroy();
    }
}

/// A client can name any number of missing applications. That costs its VM nothing.
#[test]
fn missing_applications_are_not_remembered() {
    let mut config = Config::default();
    config.quotas.max_leaked_asids = 1;
    let vm = Vm::bare(&Machine::new(), 1, config);
    let machine = vm.host.machine();
    let guest = vm.guest();
    let message = guest.alloc(1);
    for number in 0..2 * MAX_APPS as u8 {
        let app = Uuid([number; 16]);
        let gone = Step::Result(TeeResult::ITEM_NOT_FOUND);
        machine.script(1, [load(app), gone]);
        guest.write_message(message, Command::OPEN_SESSION, 0, &is_opening(app));
        let opened = guest.run_with(message, |guest, request| {
            let is_load = request.command() == rpc::Command::LOAD_TA;
            if is_load {
                guest.reply(request, TeeResult::ITEM_NOT_FOUND.0, &request.params);
            }
            is_load
        });
        assert_eq!(opened.header.ret.get(), TeeResult::ITEM_NOT_FOUND.0);
    }
    let before = machine.smcs().len();
    vm.mediator.destroy(&vm.host).unwrap();
    assert_eq!((vm.stats().kept, vm.stats().leaked), (0, 0));
    assert_eq!(machine.smcs().len() - before, 1, "nothing is asked for");
    vm.mediator.create(&vm.host).unwrap();
    vm.end();
}

/// OP-TEE finds an application among files, and never asks for its code. It may stay as well.
#[test]
fn application_from_a_file_is_reopened_at_teardown() {
    let which = Param::new(Attr::VALUE_INPUT, 0, 0, 0);
    let not_there = Step::Result(TeeResult::ITEM_NOT_FOUND);
    for (command, rpmb) in [(rpc::Command::FS, false), (rpc::Command::RPMB, true)] {
        let file = || Step::Command(command, vec![which]);
        for (at_the_end, kept) in [
            (vec![], 1),
            (vec![file(), load(APP), not_there.clone()], 0),
            (vec![file()], 0),
        ] {
            let mut config = Config::default();
            config.policy.rpmb = rpmb;
            let vm = Vm::bare(&Machine::new(), 1, config);
            let machine = vm.host.machine();
            machine.script(1, [file()]);
            assert_eq!(vm.guest().open(APP, login::PUBLIC).1, 0);
            machine.script(1, []);
            machine.script(1, at_the_end);
            vm.mediator.destroy(&vm.host).unwrap();
            assert_eq!((vm.stats().kept, vm.stats().leaked), (kept, 0));
            // No file is there any more, so that OP-TEE goes on to look elsewhere.
            let last = machine.outcomes(1).into_iter().rev();
            let mut asked = last.flat_map(|call| call.replies).take(1);
            let gone = TeeResult::ITEM_NOT_FOUND.0;
            assert!(asked.all(|(header, _)| header.ret.get() == gone || kept == 1));
            vm.end_after_destroy();
        }
    }
}

/// An application uses files when it is opened. That it is made anew, its code alone says.
#[test]
fn kept_application_that_opens_files_counts() {
    let vm = Vm::bare(&Machine::new(), 1, Config::default());
    let which = Param::new(Attr::VALUE_INPUT, 0, 0, 0);
    live_and_end(&vm, APP, [Step::Command(rpc::Command::FS, vec![which])]);
    assert_eq!((vm.stats().kept, vm.stats().leaked), (1, 0));
    vm.end_after_destroy();
}
