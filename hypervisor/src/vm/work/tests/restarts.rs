// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What of one life of a VM is in the next, and when that begins.

use super::*;

/// A user types while the VM is being reset, whatever is done first. What the guest of the next life finds at its
/// interrupt controller is what its UART has to say, and not what the one before was told.
#[test]
fn no_level_of_one_life_is_in_the_next() {
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
    assert!(!a.uart.borrow().irq_line(), "nobody has asked for it yet");
    assert!(!a.is_pending());
    a.listen();
    assert!(a.is_pending());
}

/// A guest that restarts again and again says so each time. It waits until there is room for that, and can
/// be ended meanwhile.
#[test]
fn a_restart_waits_for_room_to_tell_it() {
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
    // Its end waits for nothing.
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
