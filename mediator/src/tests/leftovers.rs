//! What a VM leaves behind in OP-TEE when it ends is found out, counted, and bounded.

use super::{APP, Vm};
use crate::books::MAX_USER_APPS;
use crate::fake::{Machine, Step};
use crate::{Config, CreateError};
use alloc::vec;
use optee_proto::caps::SecureCaps;
use optee_proto::msg::{Attr, Param, login};
use optee_proto::{TeeResult, Uuid, rpc, smc};

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
fn an_application_that_must_be_loaded_again_was_not_kept() {
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
fn an_application_that_needs_no_loading_was_kept() {
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
fn without_room_for_a_session_an_application_counts_as_kept() {
    let mut config = Config::default();
    config.quotas.sessions = 1;
    let vm = Vm::bare(&Machine::new(), 1, config);
    let machine = vm.host.machine();
    let guest = vm.guest();
    machine.script(1, [load(APP), Step::Result(TeeResult::ITEM_NOT_FOUND)]);
    assert_ne!(guest.open(APP, login::PUBLIC).1, 0);
    // The next one, of another application, goes on for ever.
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
fn a_vm_that_leaves_too_much_behind_does_not_come_back() {
    let mut config = Config::default();
    config.quotas.leftovers = 3;
    let machine = Machine::new();
    let neighbour = Vm::bare(&machine, 2, Config::default());
    let vm = Vm::bare(&machine, 1, config);
    for life in 0..3 {
        if life > 0 {
            vm.mediator.create(&vm.host).unwrap();
        }
        live_and_end_beside(&vm);
    }
    assert_eq!(vm.mediator.create(&vm.host), Err(CreateError::Leftovers(3)));
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
fn more_applications_than_are_remembered_count_as_kept() {
    let mut config = Config::default();
    config.quotas.address_spaces = 1000;
    let vm = Vm::bare(&Machine::new(), 1, config);
    let machine = vm.host.machine();
    let guest = vm.guest();
    let all = MAX_USER_APPS as u8 + 3;
    for number in 0..all {
        let app = Uuid([number; 16]);
        machine.script(1, [load(app)]);
        assert_eq!(guest.open(app, login::PUBLIC).1, 0);
    }
    vm.mediator.destroy(&vm.host).unwrap();
    // All of them: the made-up OP-TEE needs no code for any.
    assert_eq!((vm.stats().kept, vm.stats().leaked), (all.into(), 0));
    vm.end_after_destroy();
}

/// A guest can go on for days with names of applications that nobody has.
#[test]
fn any_number_of_applications_can_be_counted() {
    let vm = Vm::bare(&Machine::new(), 1, Config::default());
    {
        let mut books = vm.mediator.books.lock();
        for number in 0..MAX_USER_APPS as u8 {
            books.learn_user_app(Uuid([number; 16]));
        }
        books.more_user_apps = u32::MAX - 1;
        for number in 0..3 {
            books.learn_user_app(Uuid([0xf0 + number; 16]));
        }
    }
    vm.mediator.destroy(&vm.host).unwrap();
    let all = MAX_USER_APPS as u64 + u64::from(u32::MAX);
    assert_eq!((vm.stats().kept, vm.stats().leaked), (all, 0));
    assert_eq!(
        vm.mediator.create(&vm.host),
        Err(CreateError::Leftovers(all))
    );
    vm.end_after_destroy();
}

/// An OP-TEE that is not virtualised says again and again that it gives back memory for RPC messages, but has none: it is
/// not asked for ever.
#[test]
fn what_is_given_back_is_asked_for_a_bounded_number_of_times() {
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
