// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls that wait until no other names what they end: the guest sleeps meanwhile.

use super::{SESSION, Vm};
use crate::addr::{Ipa, PAGE_SIZE};
use crate::fake::{Guest, Machine, Step};
use crate::{Config, Features};
use optee_proto::msg::{self, Attr, Command, Param};
use optee_proto::rpc::{self, Function};
use optee_proto::{Return, smc};

/// A VM whose guest leaves room for requests.
fn vm() -> Vm {
    let machine = Machine::new();
    machine.set_tee(optee_proto::uuid::API_UID, 0b111_1101, 4);
    let features = Features {
        rpc_arg: true,
        async_notif: false,
    };
    let config = Config {
        features,
        ..Config::default()
    };
    Vm::new(&machine, 1, config)
}

fn with_room(vm: &Vm) -> Guest<'_> {
    let mut guest = vm.guest();
    guest.function = smc::CALL_WITH_RPC_ARG;
    guest
}

/// The registers that a guest comes back with from a call with its message here.
type Begun = (Ipa, [u64; 4]);

/// An INVOKE that names the session and a buffer, and is interrupted; the buffer's name.
fn in_use(guest: &Guest<'_>) -> (u64, Begun) {
    let (cookie, _) = guest.register(1);
    guest.host.machine().script(1, [Step::ForeignInterrupt]);
    let memory = Param::new(Attr::RMEM_INPUT, 0, 8, cookie);
    let message = guest.message(Command::INVOKE, SESSION, &[memory]);
    let regs = guest.begin(message);
    assert_eq!(regs[0], Function::FOREIGN_INTR.a0());
    (cookie, (message, regs))
}

/// The messages of the two commands that wait for such a call.
fn enders(guest: &Guest<'_>, cookie: u64) -> [Ipa; 2] {
    let name = Param::new(Attr::RMEM_INPUT, 0, 0, cookie);
    [
        guest.message(Command::CLOSE_SESSION, SESSION, &[]),
        guest.message(Command::UNREGISTER_SHM, 0, &[name]),
    ]
}

/// For how long the guest is asked to sleep.
fn asked_to_sleep(guest: &Guest<'_>, message: Ipa, regs: [u64; 4]) -> u64 {
    assert_eq!(regs[..3], [Function::CMD.a0(), 0, 0]);
    let count = guest.read_message(message).params.len();
    let room = message.get() + msg::size(count) as u64;
    let request = guest.read_message(Ipa::new(room));
    assert_eq!(request.command(), rpc::Command::SUSPEND);
    let [param] = request.params[..] else {
        panic!("{request:?}")
    };
    assert_eq!((param.attr(), param.b.get()), (Attr::VALUE_INPUT, 0));
    param.a.get()
}

/// Waiting for a call of ten seconds costs the guest some 300 SMCs, and OP-TEE none.
#[test]
fn waiting_call_asks_guest_to_sleep() {
    for which in 0..2 {
        let vm = vm();
        let guest = with_room(&vm);
        let (cookie, (_, user)) = in_use(&guest);
        let message = enders(&guest, cookie)[which];
        let smcs = vm.stats().smcs;
        let mut waiting = guest.begin(message);
        let (mut slept, mut calls, mut last) = (0, 0, 0);
        while slept < 10_000 {
            let nap = asked_to_sleep(&guest, message, waiting);
            assert!((1..=32).contains(&nap) && (nap == 2 * last || nap == 32 || last == 0));
            // Whatever it writes there.
            guest.host.poke(
                Ipa::new(message.get() + msg::size(which) as u64),
                &[0xa5; 64],
            );
            waiting = guest.resume(waiting[3], [calls; 4]);
            (slept, calls, last) = (slept + nap, calls + 1, nap);
        }
        assert!((310..330).contains(&calls), "{calls} calls");
        assert_eq!(vm.stats().smcs, smcs, "OP-TEE has heard of it");
        assert_eq!(guest.resume(user[3], [0; 4])[0], Return::OK.get());
        assert_eq!(guest.resume(waiting[3], [0; 4])[0], Return::OK.get());
        let done = guest.read_message(message).header;
        assert_eq!(done.ret.get(), 0);
        vm.end();
    }
}

/// Each call begins with a short sleep, whatever the last one in its place had to wait for.
#[test]
fn backoff_restarts_with_each_call() {
    let vm = vm();
    let guest = with_room(&vm);
    for _ in 0..3 {
        let (cookie, (_, user)) = in_use(&guest);
        let message = enders(&guest, cookie)[1];
        let mut waiting = guest.begin(message);
        for nap in [1, 2, 4] {
            assert_eq!(asked_to_sleep(&guest, message, waiting), nap);
            waiting = guest.resume(waiting[3], [0; 4]);
        }
        assert_eq!(guest.resume(user[3], [0; 4])[0], Return::OK.get());
        assert_eq!(guest.resume(waiting[3], [0; 4])[0], Return::OK.get());
    }
    vm.end();
}

/// Without room for a request, or when its memory went away, a guest comes back as after an interrupt.
#[test]
fn waiting_call_without_rpc_arg_returns_at_once() {
    for which in 0..2 {
        let vm = vm();
        let guest = vm.guest();
        let (cookie, (_, user)) = in_use(&guest);
        let mut waiting = guest.begin(enders(&guest, cookie)[which]);
        for _ in 0..3 {
            assert_eq!(waiting[..3], [Function::FOREIGN_INTR.a0(), 0, 0]);
            waiting = guest.resume(waiting[3], [0; 4]);
        }
        assert_eq!(guest.resume(user[3], [0; 4])[0], Return::OK.get());
        assert_eq!(guest.resume(waiting[3], [0; 4])[0], Return::OK.get());
        vm.end();

        let vm = self::vm();
        let guest = with_room(&vm);
        let (cookie, (_, user)) = in_use(&guest);
        let message = enders(&guest, cookie)[which];
        let waiting = guest.begin(message);
        asked_to_sleep(&guest, message, waiting);
        vm.host.unmap(message);
        let waiting = guest.resume(waiting[3], [0; 4]);
        assert_eq!(waiting[0], Function::FOREIGN_INTR.a0());
        assert_eq!(guest.resume(user[3], [0; 4])[0], Return::OK.get());
        let code = Return::from_x0(guest.resume(waiting[3], [0; 4])[0]);
        assert_eq!(code, Return::EBADADDR);
        vm.end();
    }
}

/// A buffer whose pages are still being taken in has work to do, and does not sleep.
#[test]
fn importing_call_asks_for_no_sleep() {
    let pages = 2 * crate::call::IMPORT_STEP as u64;
    let config = Config {
        features: Features {
            rpc_arg: true,
            async_notif: false,
        },
        ..Config::default()
    };
    let vm = Vm::with_pages(&Machine::new(), 1, config, pages + 100);
    let guest = with_room(&vm);
    let all: alloc::vec::Vec<Ipa> = (0..pages).map(|_| guest.alloc(1)).collect();
    let list = guest.page_list(&all);
    let param = Param::new(Attr::PAGE_LIST, list.get(), pages * PAGE_SIZE, 0x77);
    let regs = guest.begin(guest.message(Command::REGISTER_SHM, 0, &[param]));
    assert_eq!(regs[0], Function::FOREIGN_INTR.a0());
    assert_eq!(guest.resume(regs[3], [0; 4])[0], Return::OK.get());
    vm.end();
}

/// A VM can end while its guest sleeps.
#[test]
fn vm_ends_during_guest_sleep() {
    let vm = vm();
    let guest = with_room(&vm);
    let (cookie, _) = in_use(&guest);
    for message in enders(&guest, cookie) {
        let waiting = guest.begin(message);
        asked_to_sleep(&guest, message, waiting);
    }
    assert_eq!(vm.stats().calls, 3);
    vm.end();
}
