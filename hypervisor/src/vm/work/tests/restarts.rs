// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of resets: what survives from one life of a VM to the next, and when the next begins.

use super::*;

/// Checks that input during a reset, at any point of it, leaves no interrupt pending for the guest
/// of the next life, until that guest enables the UART's interrupts itself.
#[test]
fn no_interrupt_level_survives_a_reset() {
    let machine = Machine::new();
    let ram = Ram::new(1);
    let a = Vm::new(&machine, 1, &ram);
    a.start();
    a.listen();
    a.input();
    assert!(a.is_pending());
    a.order(LifecycleRequest::Reset);
    a.settle();
    assert_eq!(a.phase(), Phase::Running);
    assert!(
        !a.uart.borrow().irq_line(),
        "the guest has not enabled it yet"
    );
    assert!(!a.is_pending());
    a.listen();
    assert!(a.is_pending());
}

/// Checks that a guest that restarts without a pause waits until the console has room to report the
/// start, and can be killed meanwhile.
#[test]
fn a_restart_waits_for_room_to_report_it() {
    let machine = Machine::new();
    let ram = Ram::new(1);
    let a = Vm::new(&machine, 1, &ram);
    a.start();
    let try_to_go_on = || {
        let mut work = a.work.replace(VmWork::Nothing);
        let done = step(&a, &mut work);
        if *a.work.borrow() == VmWork::Nothing {
            *a.work.borrow_mut() = work;
        }
        done
    };
    a.has_room.set(false);
    a.order(LifecycleRequest::Reset);
    // The teardown waits for no room.
    while *a.work.borrow() != VmWork::Prepare {
        assert!(try_to_go_on());
    }
    assert_eq!(*a.ended.borrow(), [EndReason::Reset]);
    assert!(!try_to_go_on());
    assert_eq!(
        (a.phase(), &*a.work.borrow()),
        (Phase::Starting, &VmWork::Prepare)
    );
    a.has_room.set(true);
    a.settle();
    assert_eq!(a.phase(), Phase::Running);

    a.has_room.set(false);
    a.order(LifecycleRequest::Reset);
    while *a.work.borrow() != VmWork::Prepare {
        assert!(try_to_go_on());
    }
    a.kill();
    assert_eq!(a.phase(), Phase::Off);
}
