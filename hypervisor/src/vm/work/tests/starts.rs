// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Starts, in pieces: what happens in between, and what fails.

use super::*;

/// Checks that no step works on all of a VM's memory at once.
#[test]
fn start_and_teardown_take_one_step_per_piece() {
    let machine = Machine::new();
    let ram = Ram::new(1);
    let a = Vm::new(&machine, 1, &ram);
    a.order(LifecycleRequest::Start);
    let pieces = (BYTES / PIECE_BYTES) as u32;
    assert!(a.settle() > pieces);
    a.order(LifecycleRequest::Kill);
    assert!(a.settle() > pieces + 3);
}

/// Does one piece. Returns how often it entered OP-TEE.
fn piece(vm: &Vm, machine: &Machine) -> usize {
    let before = machine.smcs().len();
    let mut work = vm.work.replace(VmWork::Nothing);
    assert!(step(vm, &mut work));
    if *vm.work.borrow() == VmWork::Nothing {
        vm.work.replace(work);
    }
    machine.smcs().len() - before
}

/// Checks that the start gives way each time OP-TEE is interrupted while it makes a VM's tables, so
/// that the guest of the pCPU that does the work can run.
#[test]
fn a_start_gives_way_whenever_optee_is_interrupted() {
    let machine = Machine::new();
    let ram = Ram::new(2);
    let [a, b] = [1, 2].map(|client| Vm::new(&machine, client, &ram));
    b.start();
    machine.interrupt_tables(700);
    let neighbour = Guest::new(&b.host, &b.mediator);
    a.order(LifecycleRequest::Start);
    let mut all = 0;
    while a.phase() == Phase::Starting {
        let entries = piece(&a, &machine);
        assert!(entries <= 1, "{entries} entries in one piece");
        all += entries;
        let uid = neighbour.smc([smc::CALLS_UID.get().into(), 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(uid[0], u64::from(optee_proto::uuid::API_UID[0]));
    }
    assert_eq!(a.phase(), Phase::Running);
    assert!(all > 2 * 700, "{all} entries");
    a.kill();
    b.kill();
    assert_eq!(machine.violations(), [""; 0]);
    assert_eq!(machine.shared_pages(), 0);
}

/// Checks that a start ends where OP-TEE never completes the tables: with an error that says so,
/// and with nothing left allocated.
#[test]
fn a_start_in_which_optee_hangs_fails() {
    let machine = Machine::new();
    let ram = Ram::new(1);
    let a = Vm::new(&machine, 1, &ram);
    machine.interrupt_tables(10_000);
    a.order(LifecycleRequest::Start);
    let mut all = 0;
    while a.phase() == Phase::Starting {
        all += piece(&a, &machine);
    }
    assert!(all < 5000, "{all} entries");
    a.settle();
    assert_eq!(a.phase(), Phase::Off);
    let said = a.cannot.take();
    assert!(
        matches!(said[..], [CreateError::TablesUnfinished(_)]),
        "{said:?}"
    );
    assert!(said[0].to_string().contains("hangs"));
    assert!(!machine.knows(1));
    assert_eq!(machine.shared_pages(), 0);
    assert_eq!(ram.borrow().frames.free_bytes(), BYTES);
    assert_eq!(machine.violations(), [""; 0]);

    machine.interrupt_tables(0);
    a.start();
    assert_eq!(a.phase(), Phase::Running);
}

/// Kills a VM after each piece of its start. OP-TEE ends what it was doing before it destroys the
/// VM.
#[test]
fn a_start_can_be_killed_after_any_piece() {
    let machine = Machine::new();
    let ram = Ram::new(1);
    let a = Vm::new(&machine, 1, &ram);
    machine.interrupt_tables(3);
    let mut pieces = 0;
    loop {
        a.order(LifecycleRequest::Start);
        for _ in 0..pieces {
            piece(&a, &machine);
        }
        let ran = a.phase() == Phase::Running;
        let before = machine.smcs().len();
        a.kill();
        assert_eq!(a.phase(), Phase::Off);
        assert!(!machine.knows(1));
        assert_eq!(machine.shared_pages(), 0);
        assert_eq!(machine.violations(), [""; 0]);
        // The call in progress has at most three interrupts left to resume after. Then VM_DESTROYED
        // comes.
        assert!(machine.smcs().len() - before <= 3 + 1);
        if ran {
            break;
        }
        pieces += 1;
    }
    assert!(pieces > 2 * 4, "{pieces} pieces");
}

/// Checks that a VM fails whose tables OP-TEE neither makes nor destroys: it keeps its resources,
/// and is not created again.
#[test]
fn a_failed_start_that_optee_does_not_destroy_is_not_retried() {
    let machine = Machine::new();
    let ram = Ram::new(1);
    let a = Vm::new(&machine, 1, &ram);
    machine.answer_next(smc::CALL_WITH_ARG, [0x6, 0, 0, 0]);
    machine.answer_next(smc::VM_DESTROYED, [BUSY, 0, 0, 0]);
    machine.answer_next(smc::VM_DESTROYED, [BUSY, 0, 0, 0]);
    a.start();
    assert_eq!(a.phase(), Phase::Failed);
    assert_eq!(*a.said.borrow(), [DestroyError::Refused(BUSY as u32)]);
    assert!(machine.shared_pages() > 3);
    assert_eq!(ram.borrow().frames.free_bytes(), 0);
    let created = u64::from(smc::VM_CREATED.get());
    let calls = machine.smcs().into_iter().map(|args| args[0]);
    assert_eq!(calls.filter(|&id| id == created).count(), 1);
    assert_eq!(machine.violations(), [""; 0]);
}
