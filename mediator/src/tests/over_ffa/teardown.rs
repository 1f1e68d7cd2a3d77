// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The end of a VM in every state.

use super::*;
use crate::fake::{Guest, Step};
use crate::{CreateError, Progress};
use optee_proto::{Return, rpc};

/// What the VM is in the middle of when it ends.
type State = (&'static str, fn(&Ffa, &Vm));

const STATES: [State; 12] = [
    ("nothing", |_, _| {}),
    ("objects", |_, vm| {
        let guest = vm.guest();
        for count in 1..10 {
            assert_eq!(guest.register(count).1, 0);
        }
    }),
    ("objects that OP-TEE has used", |_, vm| {
        let guest = vm.guest();
        let (buffer, _) = guest.register(2);
        let param = Param::new(Attr::RMEM_INPUT, 0, 8, buffer);
        guest.run(guest.message(Command::INVOKE, SESSION, &[param]));
    }),
    ("fragments", |_, vm| {
        let guest = vm.guest();
        let bytes = guest.descriptor(&pages(guest.alloc(9), 9));
        guest.send_first(&bytes, 60);
    }),
    ("a call that was interrupted", |ffa, vm| {
        begin(ffa, &vm.guest(), &[Step::ForeignInterrupt]);
    }),
    ("two calls", |ffa, vm| {
        let guest = vm.guest();
        begin(
            ffa,
            &guest,
            &[Step::ForeignInterrupt, Step::ForeignInterrupt],
        );
        begin(ffa, &guest, &[Step::ForeignInterrupt]);
    }),
    ("a command", |ffa, vm| {
        let value = Param::new(Attr::VALUE_INOUT, 1, 2, 3);
        let step = Step::Command(rpc::Command::GET_TIME, Vec::from([value]));
        begin(ffa, &vm.guest(), &[step]);
    }),
    ("an allocation", |ffa, vm| {
        begin(ffa, &vm.guest(), &[alloc(), free()]);
    }),
    ("an allocation that was made", |ffa, vm| {
        allocate(ffa, vm, &[alloc(), Step::ForeignInterrupt, free()]);
    }),
    ("an allocation that is freed", |ffa, vm| {
        allocate(ffa, vm, &[alloc(), free()]);
    }),
    ("allocations by calls that end", |ffa, vm| {
        let guest = vm.guest();
        for _ in 0..3 {
            ffa.machine.script(1, [alloc()]);
            guest.run(guest.message(Command::INVOKE, SESSION, &[]));
        }
    }),
    ("a wait", |ffa, vm| {
        begin(ffa, &vm.guest(), &[Step::WaitFor(3)]);
    }),
];

fn alloc() -> Step {
    Step::ShmAlloc(rpc::SHM_TYPE_APPL, 0x1800)
}

fn free() -> Step {
    Step::ShmFree(rpc::SHM_TYPE_APPL, 0)
}

/// Begins a call that comes back with an RPC, and returns where its message is and its token.
fn begin(ffa: &Ffa, guest: &Guest<'_>, steps: &[Step]) -> (Ipa, u64) {
    ffa.machine.script(1, steps.iter().cloned());
    let at = guest.message(Command::INVOKE, SESSION, &[]);
    let regs = guest.begin(at);
    assert!(Return::from_x0(regs[0]).rpc().is_some(), "{regs:x?}");
    (at, regs[3])
}

/// Begins a call, and answers its allocation.
fn allocate(ffa: &Ffa, vm: &Vm, steps: &[Step]) {
    let guest = vm.guest();
    let (at, token) = begin(ffa, &guest, steps);
    let behind = Ipa::new(at.get() + optee_proto::msg::size(0) as u64);
    guest.answer(&guest.read_message(behind));
    let regs = guest.resume(token, [0; 4]);
    assert!(Return::from_x0(regs[0]).rpc().is_some(), "{regs:x?}");
}

#[test]
fn end_in_any_state_leaves_nothing() {
    for manner in MANNERS {
        for (name, state) in STATES {
            let ffa = Ffa::new(manner);
            let (vm, other) = (ffa.vm(1), ffa.vm(2));
            works(&other);
            let neighbours = ffa.machine.pins() - vm.host.pins();
            state(&ffa, &vm);
            vm.mediator.destroy(&vm.host).unwrap();
            assert_eq!(ffa.machine.violations(), [""; 0], "{name}");
            assert_eq!(ffa.machine.pins(), neighbours, "{name}");
            assert_eq!(ffa.machine.object_count(1), 0, "{name}");
            works(&other);
            // Again, with the same id.
            vm.mediator.create(&vm.host).unwrap();
            vm.open_session(PAGES);
            works(&vm);
            vm.end_one();
            works_and_ends(other);
            assert_eq!(
                (ffa.machine.pins(), ffa.machine.shared_pages()),
                (0, 0),
                "{name}"
            );
        }
    }
}

/// The end in the middle of a creation, after any of its steps.
#[test]
fn end_of_a_creation_leaves_nothing() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        ffa.machine.interrupt_tables(3);
        let host = ffa.machine.add_vm(1, PAGES);
        let client = ClientId::new(NonZeroU16::new(1).unwrap());
        for steps in 0.. {
            let tee = ffa.tee;
            let mediator = Mediator::new_ffa(client, Config::default(), tee, Arc::clone(&ffa.spmc));
            let mut done = false;
            for _ in 0..steps {
                done = mediator.create_step(&host).unwrap() == Progress::Done;
                if done {
                    break;
                }
            }
            mediator.destroy(&host).unwrap();
            assert_eq!(ffa.machine.violations(), [""; 0], "after {steps} steps");
            assert_eq!((ffa.machine.pins(), ffa.machine.shared_pages()), (0, 0));
            assert_eq!(ffa.machine.object_count(1), 0);
            if done {
                assert!(steps > 5);
                break;
            }
        }
    }
}

/// OP-TEE borrows objects of a page for the calls that close sessions: two at once, as often as it returns them, and no others.
#[test]
fn objects_lent_to_internal_calls_return() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let lend = |size| Step::ShmAlloc(rpc::SHM_TYPE_APPL, size);
        let in_turn = (0..5).flat_map(|number| {
            let back = Step::ShmFree(rpc::SHM_TYPE_APPL, number);
            [lend(PAGE_SIZE), back]
        });
        let too_large = [lend(PAGE_SIZE + 1)];
        let at_once = [1, 2, 3].map(lend);
        ffa.machine
            .script(1, in_turn.chain(too_large).chain(at_once));
        vm.mediator.destroy(&vm.host).unwrap();
        let closed = ffa.machine.outcomes(1).pop().unwrap();
        assert_eq!(closed.header.cmd.get(), Command::CLOSE_SESSION.0);
        let pages = |lent: &Option<Vec<u64>>| lent.as_ref().map_or(0, Vec::len);
        let lent: Vec<_> = closed.allocated.iter().map(pages).collect();
        assert_eq!(lent, [1, 1, 1, 1, 1, 0, 1, 1, 0]);
        vm.end_after_destroy();
    }
}

#[test]
fn each_step_makes_one_call_at_most() {
    for manner in MANNERS {
        for (name, state) in STATES {
            let ffa = Ffa::new(manner);
            let vm = ffa.vm(1);
            state(&ffa, &vm);
            loop {
                let before = ffa.machine.smcs().len();
                let progress = vm.mediator.destroy_step(&vm.host).unwrap();
                let calls = ffa.machine.smcs().len() - before;
                // VM_DESTROYED goes with the end of the VM's notifications.
                assert!(calls <= 4, "{name}: {calls}");
                if progress == Progress::Done {
                    break;
                }
            }
            vm.end_after_destroy();
        }
    }
}

/// OP-TEE 4.10 leaks tables with each VM, and stops.
#[test]
fn lives_are_bounded_before_optee_stops() {
    let ffa = Ffa::new(Manner::OpTee);
    let config = Config {
        max_creations: ffa.tee.max_creations(),
        ..Config::default()
    };
    let vm = ffa.bare(1, config);
    let mut lives = 1;
    let refused = loop {
        vm.mediator.destroy(&vm.host).unwrap();
        match vm.mediator.create(&vm.host) {
            Ok(()) => lives += 1,
            Err(error) => break error,
        }
        assert!(lives < 1000);
    };
    assert!(
        matches!(refused, CreateError::TooManyCreations(_)),
        "{refused}"
    );
    assert!((2..115).contains(&lives), "{lives}");
    assert_eq!(ffa.machine.violations(), [""; 0]);
}

#[test]
fn vm_for_which_optee_has_no_room_gets_no_tee() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let (a, b) = (ffa.vm(1), ffa.vm(2));
        let host = ffa.machine.add_vm(3, PAGES);
        let client = ClientId::new(NonZeroU16::new(3).unwrap());
        let third = Mediator::new_ffa(client, Config::default(), ffa.tee, Arc::clone(&ffa.spmc));
        assert!(matches!(third.create(&host), Err(CreateError::Refused(_))));
        assert_eq!(ffa.machine.violations(), [""; 0]);
        works_and_ends(a);
        third.create(&host).unwrap();
        third.destroy(&host).unwrap();
        works_and_ends(b);
        assert_eq!((ffa.machine.pins(), ffa.machine.shared_pages()), (0, 0));
    }
}
