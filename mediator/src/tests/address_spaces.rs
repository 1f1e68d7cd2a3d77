// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Of OP-TEE's address space numbers each VM takes no more than its share.

use super::{APP, Vm};
use crate::Config;
use crate::fake::{Guest, Machine, Step};
use alloc::vec;
use optee_proto::msg::{Attr, Command, Param, login};
use optee_proto::rpc::{self, Function};
use optee_proto::{TeeResult, Uuid, smc};

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
    vm.mediator.state.lock().address_spaces()
}

#[test]
fn running_applications_are_bounded() {
    let vm = vm();
    let guest = vm.guest();
    open(&vm, &guest, PSEUDO, []);
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
fn applications_being_loaded_count() {
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

/// OP-TEE may have applications that it need not load, so a UUID that is not known as a pseudo TA counts.
#[test]
fn unknown_application_counts() {
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
fn shared_instance_counts_once() {
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
fn kept_application_counts_without_sessions() {
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
fn application_with_pseudo_ta_uuid_counts() {
    let vm = vm();
    let guest = vm.guest();
    for _ in 0..MOST {
        open(&vm, &guest, PSEUDO, [load(PSEUDO)]);
    }
    assert_eq!(used(&vm), MOST);
    assert_eq!(guest.open(PSEUDO, login::PUBLIC).1, REFUSED);
    vm.end();
}

/// Leaks of a VM's earlier creations are part of its share, and do not reduce its neighbour's.
#[test]
fn leaks_of_earlier_creations_count() {
    let mut config = Config::default();
    (config.quotas.address_spaces, config.quotas.max_leaked_asids) = (MOST, 3);
    let machine = Machine::new();
    let neighbour = Vm::bare(&machine, 2, config.clone());
    let vm = Vm::bare(&machine, 1, config);
    for _ in 0..2 {
        open(&vm, &vm.guest(), APP, [load(APP)]);
        // The fake OP-TEE needs no code at the end, so it has kept the application.
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

/// Another name that OP-TEE's sources have.
const OTHER_PSEUDO: Uuid = Uuid(0xd96a5b40_c3e5_21e3_8794_1002a5d5c61b_u128.to_be_bytes());

/// The parameters of a call that opens a session.
fn opening(app: Uuid) -> [Param; 2] {
    let (a, b) = app.to_value();
    let app = Param::new(Attr::META_VALUE_INPUT, a, b, 0);
    [app, Param::new(Attr::META_VALUE_INPUT, 0, 0, 0)]
}

/// This OP-TEE need not have the pseudo TAs that its sources have. It makes an address space then, to look for an
/// application.
#[test]
fn pseudo_ta_counts_until_first_opened() {
    let vm = vm();
    let guest = vm.guest();
    for _ in 1..MOST {
        open(&vm, &guest, APP, [load(APP)]);
    }
    vm.host.machine().script(1, [Step::ForeignInterrupt]);
    let begun = guest.begin(guest.message(Command::OPEN_SESSION, 0, &opening(PSEUDO)));
    assert_eq!(begun[0], Function::FOREIGN_INTR.a0());
    assert_eq!(used(&vm), MOST);
    for app in [PSEUDO, OTHER_PSEUDO, APP] {
        assert_eq!(guest.open(app, login::PUBLIC).1, REFUSED);
    }
    // It is one, so it takes nothing, now and whenever it is opened.
    assert_eq!(guest.resume(begun[3], [0; 4])[0], 0);
    assert_eq!(used(&vm), MOST - 1);
    open(&vm, &guest, OTHER, [load(OTHER)]);
    assert_eq!(guest.open(OTHER_PSEUDO, login::PUBLIC).1, REFUSED);
    open(&vm, &guest, PSEUDO, []);
    assert_eq!(used(&vm), MOST);
    // Nor in the VM's next life.
    vm.mediator.destroy(&vm.host).unwrap();
    vm.mediator.create(&vm.host).unwrap();
    let guest = vm.guest();
    for _ in used(&vm)..MOST {
        open(&vm, &guest, OTHER, [load(OTHER)]);
    }
    open(&vm, &guest, PSEUDO, []);
    assert_eq!(guest.open(OTHER_PSEUDO, login::PUBLIC).1, REFUSED);
    vm.end();
}

/// Such a name is proof of nothing where an application has it: one that is loaded, or found among files.
#[test]
fn loaded_application_is_no_pseudo_ta() {
    let which = Param::new(Attr::VALUE_INPUT, 0, 0, 0);
    let file = Step::Command(rpc::Command::FS, vec![which]);
    for step in [load(PSEUDO), file] {
        let vm = vm();
        let guest = vm.guest();
        open(&vm, &guest, PSEUDO, [step]);
        assert_eq!(used(&vm), 1);
        open(&vm, &guest, PSEUDO, []);
        assert_eq!(used(&vm), 1);
        for _ in 1..MOST {
            open(&vm, &guest, OTHER, [load(OTHER)]);
        }
        assert_eq!(guest.open(PSEUDO, login::PUBLIC).1, REFUSED);
        vm.end();
    }
}

/// The instance is there, so another session to it takes no more.
#[test]
fn kept_application_opens_with_exhausted_share() {
    let vm = vm();
    let guest = vm.guest();
    let first = open(&vm, &guest, APP, [load(APP)]);
    close(&guest, first);
    let again = open(&vm, &guest, APP, []);
    for _ in 1..MOST {
        open(&vm, &guest, OTHER, [load(OTHER)]);
    }
    assert_eq!(used(&vm), MOST);
    assert_eq!(guest.open(OTHER, login::PUBLIC).1, REFUSED);
    open(&vm, &guest, APP, []);
    close(&guest, again);
    // Nor where it has to be loaded again, which happens once.
    vm.host.machine().script(1, [Step::ForeignInterrupt]);
    let begun = guest.begin(guest.message(Command::OPEN_SESSION, 0, &opening(APP)));
    assert_eq!(begun[0], Function::FOREIGN_INTR.a0());
    assert_eq!(guest.open(APP, login::PUBLIC).1, REFUSED);
    assert_eq!(guest.resume(begun[3], [0; 4])[0], 0);
    open(&vm, &guest, APP, [load(APP)]);
    assert_eq!(used(&vm), MOST);
    assert_eq!(guest.open(APP, login::PUBLIC).1, REFUSED);
    vm.end();
}

/// One call loads it, and another one is done first. It opens files, too, which says nothing more.
#[test]
fn application_being_loaded_is_not_kept() {
    let vm = vm();
    let guest = vm.guest();
    let which = Param::new(Attr::VALUE_INPUT, 0, 0, 0);
    let file = Step::Command(rpc::Command::FS, vec![which]);
    let steps = [load(APP), file, Step::ForeignInterrupt];
    vm.host.machine().script(1, steps);
    let message = guest.message(Command::OPEN_SESSION, 0, &opening(APP));
    let mut loading = guest.begin(message);
    let at = guest.alloc(1);
    let ((a1, a2), (a4, a5)) = (smc::pair(at.get()), smc::pair(Guest::cookie(at)));
    loading = guest.resume(loading[3], [a1, a2, a4, a5]);
    for _ in 0..2 {
        assert_eq!(loading[0], Function::CMD.a0());
        guest.answer(&guest.read_message(at));
        loading = guest.resume(loading[3], [0; 4]);
    }
    assert_eq!(loading[0], Function::FOREIGN_INTR.a0());
    let other = open(&vm, &guest, APP, []);
    let end = guest.finish(message, loading, &mut |_, _| false);
    assert_eq!(end, optee_proto::Return::OK);
    assert_eq!(used(&vm), 1);
    close(&guest, guest.read_message(message).header.session.get());
    close(&guest, other);
    assert_eq!(used(&vm), 0);
    vm.end();
}

/// Where the VM has the RPMB, OP-TEE may keep applications there.
#[test]
fn application_sought_in_rpmb_is_a_new_instance() {
    let mut config = Config::default();
    config.quotas.address_spaces = MOST;
    config.policy.rpmb = true;
    let commands = [
        rpc::Command::RPMB,
        rpc::Command::RPMB_PROBE_RESET,
        rpc::Command::RPMB_PROBE_NEXT,
        rpc::Command::RPMB_FRAMES,
        rpc::Command::FS,
    ];
    assert_eq!(commands.len(), MOST as usize);
    let vm = Vm::bare(&Machine::new(), 1, config);
    let guest = vm.guest();
    open(&vm, &guest, APP, [load(APP)]);
    for command in commands.into_iter().skip(1) {
        let which = Param::new(Attr::VALUE_INPUT, 0, 0, 0);
        open(&vm, &guest, APP, [Step::Command(command, vec![which])]);
    }
    assert_eq!(used(&vm), MOST);
    assert_eq!(guest.open(APP, login::PUBLIC).1, REFUSED);
    vm.end();
}

/// Such a one stays from one life to the next, and is looked for at the end of the first.
#[test]
fn kept_application_is_no_pseudo_ta() {
    let vm = vm();
    open(&vm, &vm.guest(), PSEUDO, [load(PSEUDO)]);
    vm.mediator.destroy(&vm.host).unwrap();
    assert_eq!(vm.stats().kept, 1);
    vm.mediator.create(&vm.host).unwrap();
    let guest = vm.guest();
    for _ in 1..MOST {
        open(&vm, &guest, OTHER, [load(OTHER)]);
    }
    assert_eq!(used(&vm), MOST);
    assert_eq!(guest.open(PSEUDO, login::PUBLIC).1, REFUSED);
    vm.end();
}

/// OP-TEE requests its code, so it was not kept, whatever the answer.
#[test]
fn unloaded_application_is_not_kept() {
    let vm = vm();
    let guest = vm.guest();
    let first = open(&vm, &guest, APP, [load(APP)]);
    close(&guest, first);
    let again = open(&vm, &guest, APP, []);
    close(&guest, again);
    assert_eq!(used(&vm), 1);
    let fails = Step::Result(TeeResult::OUT_OF_MEMORY);
    vm.host.machine().script(1, [load(APP), fails]);
    assert_ne!(guest.open(APP, login::PUBLIC).1, 0);
    assert_eq!(used(&vm), 0);
    vm.end();
}
