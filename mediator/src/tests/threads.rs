// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Several vCPUs of a VM at once, on the same buffers.

extern crate std;

use super::{SESSION, Vm};
use crate::fake::{Guest, Machine, Step};
use crate::{Config, DestroyError};
use core::sync::atomic::{AtomicBool, Ordering};
use optee_proto::msg::{Attr, Command, Param};
use optee_proto::{Return, TeeResult, smc};
use std::thread;

// Spinning threads and few processors do not go together; races show within few rounds.
const ROUNDS: usize = if cfg!(miri) { 2 } else { 20 };

/// A call that comes back for want of a thread is tried again, as Linux does.
fn run(guest: &Guest<'_>, message: crate::addr::Ipa) -> u32 {
    loop {
        let regs = guest.begin(message);
        if regs[0] == Return::ETHREAD_LIMIT.get() {
            thread::yield_now();
            continue;
        }
        let end = guest.finish(message, regs, &mut |_, _| false);
        assert_eq!(end, Return::OK);
        return guest.read_message(message).header.ret.get();
    }
}

#[test]
fn vcpus_share_buffers() {
    let machine = Machine::new();
    machine.set_tee(optee_proto::uuid::API_UID, 0b111_1101, 4);
    let vm = Vm::with_pages(&machine, 1, Config::default(), 20_000);
    let guest = vm.guest();
    let before = vm.baseline();
    let list = guest.page_list(&[guest.alloc(1), guest.alloc(1)]);
    thread::scope(|scope| {
        for number in 0..4u64 {
            let (guest, machine) = (&guest, &machine);
            scope.spawn(move || {
                // Two names for four vCPUs: registrations collide, uses meet unregistrations.
                let name = 0x7700 + number % 2;
                let list = Param::new(Attr::PAGE_LIST, list.get(), 8000, name);
                let register = guest.message(Command::REGISTER_SHM, 0, &[list]);
                let memory = Param::new(Attr::RMEM_INOUT, 8, 500, name);
                let invoke = guest.message(Command::INVOKE, SESSION, &[memory, memory]);
                let name = Param::new(Attr::RMEM_INPUT, 0, 0, name);
                let unregister = guest.message(Command::UNREGISTER_SHM, 0, &[name]);
                let known = [0, TeeResult::BAD_PARAMETERS.0];
                for _ in 0..ROUNDS {
                    guest.write_message(register, Command::REGISTER_SHM, 0, &[list]);
                    assert!(known.contains(&run(guest, register)));
                    machine.script(1, [Step::ForeignInterrupt]);
                    guest.write_message(invoke, Command::INVOKE, SESSION, &[memory, memory]);
                    assert!(known.contains(&run(guest, invoke)));
                    machine.script(1, [Step::ShmAlloc(0, 100), Step::ShmFree(0, 0)]);
                    guest.write_message(unregister, Command::UNREGISTER_SHM, 0, &[name]);
                    assert!(known.contains(&run(guest, unregister)));
                }
            });
        }
    });
    for name in [0x7700, 0x7701] {
        guest.unregister(name);
    }
    assert_eq!(vm.baseline(), before);
    vm.end();
}

/// Of all vCPUs that resume a call, one gets it.
#[test]
fn one_resume_wins() {
    let machine = Machine::new();
    let vm = Vm::new(&machine, 1, Config::default());
    let guest = vm.guest();
    for _ in 0..ROUNDS {
        machine.script(1, [Step::ForeignInterrupt]);
        let message = guest.message(Command::CANCEL, SESSION, &[]);
        let token = guest.begin(message)[3];
        let won: usize = thread::scope(|scope| {
            let racers: [_; 3] = core::array::from_fn(|_| {
                scope.spawn(|| usize::from(guest.resume(token, [0; 4])[0] == 0))
            });
            racers.into_iter().map(|racer| racer.join().unwrap()).sum()
        });
        assert_eq!(won, 1);
    }
    vm.end();
}

/// A VM that is taken down while its vCPUs have not stopped is not taken down.
#[test]
fn destroy_waits_for_vcpus_inside() {
    let machine = Machine::new();
    let vm = Vm::with_pages(&machine, 1, Config::default(), 20_000);
    for _ in 0..ROUNDS {
        let stop = AtomicBool::new(false);
        let guest = vm.guest();
        thread::scope(|scope| {
            scope.spawn(|| {
                let message = guest.message(Command::INVOKE, SESSION, &[]);
                while !stop.load(Ordering::Relaxed) {
                    let regs = guest.begin(message);
                    assert!(matches!(regs[0], 0 | 7), "{regs:x?}");
                    guest.fast(smc::GET_OS_UUID);
                }
            });
            loop {
                match vm.mediator.destroy(&vm.host) {
                    Ok(()) => break,
                    Err(DestroyError::Busy) => thread::yield_now(),
                    Err(other) => panic!("{other}"),
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(machine.violations(), [""; 0]);
        assert_eq!(machine.pins(), 0);
        vm.mediator.create(&vm.host).unwrap();
    }
    vm.end();
}
