//! Of OP-TEE's address space numbers each VM takes no more than its share.

use super::{APP, Vm};
use crate::Config;
use crate::fake::{Guest, Machine, Step};
use alloc::vec;
use optee_proto::msg::{Attr, Command, Param, login};
use optee_proto::rpc::{self, Function};
use optee_proto::{TeeResult, Uuid};

/// The share in these tests.
const MOST: u32 = 5;
const OTHER: Uuid = Uuid([0xb2; 16]);
/// A pseudo TA that OP-TEE's sources have: its device enumeration.
const PSEUDO: Uuid = Uuid(0x7011a688_ddde_4053_a5a9_7b3c4ddf13b8_u128.to_be_bytes());
const REFUSED: u32 = TeeResult::OUT_OF_MEMORY.0;

fn vm() -> Vm {
    let mut config = Config::default();
    config.quotas.address_spaces = MOST;
    Vm::bare(&Machine::new(), 1, config)
}

fn load(app: Uuid) -> Step {
    let (a, b) = app.to_value();
    let name = Param::new(Attr::VALUE_INPUT, a, b, 0);
    let none = Param::new(Attr::TMEM_OUTPUT, 0, 0, 0);
    Step::Command(rpc::Command::LOAD_TA, vec![name, none])
}

/// Opens a session; OP-TEE does `steps` before it is open.
fn open(vm: &Vm, guest: &Guest<'_>, app: Uuid, steps: impl IntoIterator<Item = Step>) -> u32 {
    vm.host.machine().script(1, steps);
    let (session, result) = guest.open(app, login::PUBLIC);
    assert_eq!(result, 0);
    session
}

fn close(guest: &Guest<'_>, session: u32) {
    let closed = guest.run(guest.message(Command::CLOSE_SESSION, session, &[]));
    assert_eq!(closed.header.ret.get(), 0);
}

fn used(vm: &Vm) -> u32 {
    vm.mediator.books.lock().address_spaces()
}

#[test]
fn applications_that_run_are_bounded() {
    let vm = vm();
    let guest = vm.guest();
    let first = open(&vm, &guest, APP, [load(APP)]);
    for _ in 1..MOST {
        open(&vm, &guest, APP, [load(APP)]);
    }
    let before = vm.host.machine().smcs().len();
    assert_eq!(guest.open(APP, login::PUBLIC).1, REFUSED);
    assert_eq!(vm.host.machine().smcs().len(), before, "OP-TEE was asked");
    // Pseudo TAs have no address space.
    for _ in 0..2 * MOST {
        open(&vm, &guest, PSEUDO, []);
    }
    assert_eq!(used(&vm), MOST);
    close(&guest, first);
    open(&vm, &guest, OTHER, [load(OTHER)]);
    vm.end();
}

/// Nothing is known of them yet, and each has its address space already.
#[test]
fn applications_that_are_being_loaded_count() {
    let vm = vm();
    let guest = vm.guest();
    for _ in 1..MOST {
        open(&vm, &guest, APP, [load(APP)]);
    }
    vm.host.machine().script(1, [load(OTHER)]);
    let (a, b) = OTHER.to_value();
    let params = [
        Param::new(Attr::META_VALUE_INPUT, a, b, 0),
        Param::new(Attr::META_VALUE_INPUT, 0, 0, 0),
    ];
    let loading = guest.begin(guest.message(Command::OPEN_SESSION, 0, &params));
    assert_eq!(loading[0], Function::ALLOC.a0());
    assert_eq!(guest.open(APP, login::PUBLIC).1, REFUSED);
    vm.mediator.destroy(&vm.host).unwrap();
    vm.end_after_destroy();
}

/// OP-TEE may have applications that it need not load, so who is not known to be a pseudo TA counts.
#[test]
fn who_is_unknown_counts() {
    let vm = vm();
    let guest = vm.guest();
    for _ in 0..MOST {
        open(&vm, &guest, OTHER, []);
    }
    assert_eq!(guest.open(OTHER, login::PUBLIC).1, REFUSED);
    vm.end();
}

/// Many clients of one instance take one number, until the last of them has left.
#[test]
fn an_instance_counts_once() {
    let vm = vm();
    let guest = vm.guest();
    let first = open(&vm, &guest, APP, [load(APP)]);
    let others: vec::Vec<u32> = (0..10).map(|_| open(&vm, &guest, APP, [])).collect();
    assert_eq!(used(&vm), 1);
    close(&guest, first);
    assert_eq!(used(&vm), 1);
    for other in others {
        assert_eq!(used(&vm), 1);
        close(&guest, other);
    }
    assert_eq!(used(&vm), 0);
    // What is looked for among files is made anew.
    let which = Param::new(Attr::VALUE_INPUT, 0, 0, 0);
    for _ in 0..MOST {
        let file = Step::Command(rpc::Command::FS, vec![which]);
        open(&vm, &guest, APP, [file]);
    }
    assert_eq!(guest.open(APP, login::PUBLIC).1, REFUSED);
    vm.end();
}

/// An application that serves a session without having been loaded again has stayed in between.
#[test]
fn an_application_that_stays_counts_without_sessions() {
    let vm = vm();
    let guest = vm.guest();
    let first = open(&vm, &guest, APP, [load(APP)]);
    close(&guest, first);
    let again = open(&vm, &guest, APP, []);
    assert_eq!(used(&vm), 1);
    close(&guest, again);
    assert_eq!(used(&vm), 1);
    // Until it has to be loaded again.
    let loaded = open(&vm, &guest, APP, [load(APP)]);
    assert_eq!(used(&vm), 1);
    close(&guest, loaded);
    assert_eq!(used(&vm), 0);
    vm.end();
}

/// A name of OP-TEE's own that an application has after all.
#[test]
fn an_application_under_a_pseudo_tas_name_counts() {
    let vm = vm();
    let guest = vm.guest();
    for _ in 0..MOST {
        open(&vm, &guest, PSEUDO, [load(PSEUDO)]);
    }
    assert_eq!(used(&vm), MOST);
    assert_eq!(guest.open(PSEUDO, login::PUBLIC).1, REFUSED);
    vm.end();
}

/// What a VM has left behind in earlier lives is part of its share, and its neighbour's is untouched.
#[test]
fn what_stays_of_earlier_lives_counts() {
    let mut config = Config::default();
    (config.quotas.address_spaces, config.quotas.leftovers) = (MOST, 3);
    let machine = Machine::new();
    let neighbour = Vm::bare(&machine, 2, config.clone());
    let vm = Vm::bare(&machine, 1, config);
    for _ in 0..2 {
        open(&vm, &vm.guest(), APP, [load(APP)]);
        // The made-up OP-TEE needs no code at the end, so it has kept the application.
        vm.mediator.destroy(&vm.host).unwrap();
        vm.mediator.create(&vm.host).unwrap();
    }
    let guest = vm.guest();
    assert_eq!(used(&vm), 2);
    for _ in 2..MOST {
        open(&vm, &guest, OTHER, [load(OTHER)]);
    }
    assert_eq!(guest.open(OTHER, login::PUBLIC).1, REFUSED);
    let others = neighbour.guest();
    for _ in 0..MOST {
        assert_eq!(others.open(APP, login::PUBLIC).1, 0);
    }
    vm.end_one();
    neighbour.end();
}
