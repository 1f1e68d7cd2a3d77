// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Devices of a VM that ends: what they access, and the reset of PCI functions.

use super::*;

/// Checks that a VM whose devices do not stop keeps its memory and its tables, whenever the SMMU fails.
#[test]
fn a_vm_whose_devices_do_not_stop_keeps_its_resources() {
    for fails_at_start in [false, true] {
        let machine = Machine::new();
        let ram = Ram::new(2);
        let [a, b] = [1, 2].map(|client| Vm::new(&machine, client, &ram));
        a.smmu_fails.set(fails_at_start);
        a.start();
        a.smmu_fails.set(true);
        if !fails_at_start {
            assert_eq!(a.phase(), Phase::Running);
            a.kill();
        }
        assert_eq!(a.phase(), Phase::Failed);
        assert_eq!(*a.ended.borrow(), [EndReason::Error]);
        assert_eq!(
            (a.pieces().len() as u64, a.tables.get()),
            (BYTES / PIECE_BYTES, 3)
        );
        assert_eq!(ram.borrow().frames.free_bytes(), BYTES);
        b.start();
        assert_eq!(b.phase(), Phase::Running);
        let had = a.pieces();
        assert!(b.pieces().iter().all(|piece| !had.contains(piece)));
        assert_eq!(machine.violations(), [""; 0]);
    }
}

/// Checks that functions have the time that a reset takes, of each host, and that nobody waits for it.
#[test]
fn a_reset_of_functions_takes_its_time() {
    let machine = Machine::new();
    let ram = Ram::new(1);
    let a = Vm::new(&machine, 1, &ram);
    a.hosts.set(2);
    a.millisecond.set(10);
    // As firmware has left them, and as the guest has.
    for (request, phase) in [
        (LifecycleRequest::Start, Phase::Starting),
        (LifecycleRequest::Kill, Phase::Ending),
    ] {
        a.order(request);
        assert_eq!(resets_while(&a, phase), WAITS);
    }
    assert_eq!(a.phase(), Phase::Off);
    assert_eq!(ram.borrow().frames.free_bytes(), BYTES);
    // Nothing has used them since.
    a.start();
    assert_eq!((a.phase(), a.resets.get()), (Phase::Running, 0));
}

/// The hosts of the steps for which a reset waits, and the ticks.
const WAITS: [(usize, u64); 4] = [(0, 1000), (1, 1000), (1, 1000), (2, 1000)];

/// Does a VM's work while it is in a phase. Returns for what it has waited.
fn resets_while(a: &Vm, phase: Phase) -> Vec<(usize, u64)> {
    let mut waits = Vec::new();
    while a.phase() == phase {
        let mut work = a.work.replace(VmWork::Nothing);
        if !step(a, &mut work) {
            let VmWork::ResetFunctions(reset) = work else {
                panic!("{work:?}")
            };
            waits.push((reset.host, reset.not_before.get() - a.time.get()));
            a.time.set(reset.not_before.get());
        }
        a.work.replace(work);
    }
    // Four steps of eight devices, twice for each host.
    assert_eq!(a.resets.take(), 2 * 2 * 4);
    waits
}
