// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of active states: reads that must wait for other vCPUs, and writes to the state of an
//! interrupt in a list register.

use super::harness::*;
use crate::{Lr, MmioOutcome, SgiRegister, VcpuSet, Window};
use postern_base::mmio::{Access, AccessSize};

/// Returns a machine in which kicks take effect only when the test updates a vCPU. SPI 32 is routed
/// to vCPU 1, SPI 33 to vCPU 2.
fn machine() -> Machine {
    let mut machine = Machine::configured(3, 4);
    machine.prompt = false;
    machine.write(0, Window::Distributor, 0x6100, 1);
    machine.write(0, Window::Distributor, 0x6108, 2);
    machine
}

/// Executes vCPU 0's read of ISACTIVER1 once.
fn read(machine: &mut Machine) -> MmioOutcome {
    let read = Access::read(0x304, AccessSize::Word);
    machine.execute(0, Window::Distributor, &read)
}

const fn done(value: u64) -> MmioOutcome {
    MmioOutcome::Done {
        value,
        kick: VcpuSet::EMPTY,
    }
}

const fn wait_for(vcpus: u8) -> MmioOutcome {
    MmioOutcome::Retry {
        sync: VcpuSet::from_bits(vcpus),
    }
}

fn set_priority(machine: &mut Machine, intid: u32, priority: u64) {
    let offset = 0x400 + u64::from(intid);
    let write = Access::write(offset, AccessSize::Byte, priority);
    machine.access(0, Window::Distributor, write);
}

/// Returns the list register that holds an interrupt.
fn held(machine: &Machine, vcpu: usize, intid: u32) -> Option<Lr> {
    let mut lrs = machine.icv[vcpu].lrs.iter().filter(|lr| lr.is_valid());
    lrs.find(|lr| lr.vintid() == Some(id(intid))).copied()
}

#[test]
fn read_does_not_wait_for_a_vcpu_with_other_interrupts() {
    let mut machine = machine();
    machine.write_word(0, 0, 0x200, 1, 2);
    machine.settle();
    assert_eq!(machine.icv[2].acknowledge(), Some(id(33)));
    machine.unload(2);
    machine.sgi(0, SgiRegister::Sgi1r, 2);
    machine.settle();
    assert!(held(&machine, 1, 0).is_some());
    assert_eq!(read(&mut machine), done(2));
}

#[test]
fn read_waits_for_a_vcpu_that_may_have_acknowledged_or_ended_it() {
    let mut machine = machine();
    machine.write_word(0, 0, 0x200, 1, 1);
    machine.settle();
    assert_eq!(read(&mut machine), wait_for(0b010));
    assert_eq!(machine.icv[1].acknowledge(), Some(id(32)));
    machine.update(1);
    assert_eq!(read(&mut machine), done(1));
    machine.icv[1].end(id(32));
    assert_eq!(read(&mut machine), wait_for(0b010));
    machine.update(1);
    assert_eq!(read(&mut machine), done(0));
}

/// EOIcount, which only the interrupt's own vCPU has, ends an active interrupt without a list
/// register.
#[test]
fn read_waits_for_a_vcpu_that_may_have_ended_one_without_list_register() {
    let mut machine = Machine::configured(2, 1);
    machine.prompt = false;
    machine.write(0, Window::Distributor, 0x6100, 1);
    machine.write_word(0, 0, 0x200, 1, 1);
    machine.settle();
    assert_eq!(machine.icv[1].acknowledge(), Some(id(32)));
    machine.sgi(0, SgiRegister::Sgi1r, 2);
    machine.settle();
    assert!(held(&machine, 1, 32).is_none());
    machine.icv[1].end(id(32));
    assert_eq!(read(&mut machine), wait_for(0b010));
    machine.update(1);
    assert_eq!(read(&mut machine), done(0));
}

#[test]
fn read_returns_a_written_active_state_without_waiting() {
    for (register, expected) in [(0x300, 1), (0x380, 0)] {
        let mut machine = machine();
        machine.write_word(0, 0, 0x200, 1, 1);
        machine.settle();
        assert_eq!(machine.icv[1].acknowledge(), Some(id(32)));
        machine.write_word(0, 0, register, 1, 1);
        assert_eq!(read(&mut machine), done(expected));
        machine.update(1);
        machine.unload(1);
        assert_eq!(read(&mut machine), done(expected));
    }
}

/// The synchronisation of another vCPU is valid for 64 flushes, in which the guest can execute its
/// read again.
#[test]
fn read_waits_again_after_64_flushes() {
    for (others, expected) in [(62, done(1)), (63, wait_for(0b010))] {
        let mut machine = machine();
        machine.write_word(0, 0, 0x200, 1, 1);
        machine.settle();
        assert_eq!(machine.icv[1].acknowledge(), Some(id(32)));
        // The first flush.
        assert_eq!(read(&mut machine), wait_for(0b010));
        machine.update(1);
        for _ in 0..others {
            machine.update(0);
        }
        assert_eq!(read(&mut machine), expected, "{others}");
    }
}

#[test]
fn read_of_another_word_waits_again() {
    let mut machine = machine();
    machine.write_word(0, 0, 0x200, 1, 1);
    machine.write(0, Window::Distributor, 0x6200, 1);
    machine.write_word(0, 0, 0x200, 2, 1);
    machine.settle();
    let other = Access::read(0x308, AccessSize::Word);
    assert_eq!(read(&mut machine), wait_for(0b010));
    machine.update(1);
    let outcome = machine.execute(0, Window::Distributor, &other);
    assert_eq!(outcome, wait_for(0b010));
}

/// An interrupt that a write makes active while it is pending has no running priority, and stays
/// pending.
#[test]
fn pending_interrupt_made_active_by_a_write_has_its_configured_priority() {
    let mut machine = machine();
    machine.write_word(0, 0, 0x200, 1, 1);
    machine.settle();
    machine.write_word(0, 0, 0x300, 1, 1);
    machine.update(1);
    let lr = held(&machine, 1, 32).unwrap();
    assert!(lr.is_active() && lr.is_pending());
    assert_eq!(lr.priority(), 0xa0);
    // The same applies when the priority changes.
    set_priority(&mut machine, 32, 0x20);
    machine.update(1);
    assert_eq!(held(&machine, 1, 32).unwrap().priority(), 0x20);
}

#[test]
fn acknowledged_interrupt_keeps_its_priority_when_also_written_active() {
    let mut machine = machine();
    machine.write_word(0, 0, 0x200, 1, 1);
    machine.settle();
    assert_eq!(machine.icv[1].acknowledge(), Some(id(32)));
    machine.write_word(0, 0, 0x300, 1, 1);
    set_priority(&mut machine, 32, 0x20);
    machine.update(1);
    assert_eq!(held(&machine, 1, 32).unwrap().priority(), 0xa0);
}

#[test]
fn acknowledged_interrupt_keeps_its_priority_when_another_is_written_active() {
    let mut machine = machine();
    machine.write(0, Window::Distributor, 0x6108, 1);
    machine.write_word(0, 0, 0x200, 1, 2);
    machine.settle();
    assert_eq!(machine.icv[1].acknowledge(), Some(id(33)));
    machine.write_word(0, 0, 0x200, 1, 1);
    machine.settle();
    machine.write_word(0, 0, 0x300, 1, 1);
    set_priority(&mut machine, 33, 0x20);
    machine.update(1);
    assert!(held(&machine, 1, 32).unwrap().is_active());
    assert_eq!(held(&machine, 1, 33).unwrap().priority(), 0xa0);
}

/// Private interrupts still belong to their vCPU after the vCPU handled them.
#[test]
fn private_interrupt_can_be_written_active_after_its_end() {
    for intid in [3, 20] {
        let mut machine = Machine::configured(1, 4);
        machine.write_word(0, 0, 0x200, 0, 1 << intid);
        assert_eq!(machine.acknowledge(0), Some(id(intid)));
        machine.end(0, id(intid));
        machine.update(0);
        machine.write_word(0, 0, 0x300, 0, 1 << intid);
        assert!(held(&machine, 0, intid).unwrap().is_active());
    }
}

/// An interrupt that is active on a vCPU that does not run is not active on a vCPU that
/// acknowledged another interrupt of the same word.
#[test]
fn active_interrupt_stays_with_the_vcpu_that_acknowledged_it() {
    let mut machine = machine();
    machine.write_word(0, 0, 0x200, 1, 3);
    machine.settle();
    assert_eq!(machine.icv[1].acknowledge(), Some(id(32)));
    machine.unload(1);
    assert_eq!(machine.icv[2].acknowledge(), Some(id(33)));
    machine.update(2);
    assert!(held(&machine, 2, 33).unwrap().is_active());
    assert_eq!(held(&machine, 2, 32), None);
    machine.icv[2].end(id(33));
    machine.update(2);
    machine.update(2);
    assert_eq!(held(&machine, 2, 32), None);
    machine.load(1);
    assert!(held(&machine, 1, 32).unwrap().is_active());
}

/// A write to the active state of an interrupt in a list register applies until that list register
/// is read back or found lost.
#[test]
fn active_state_write_expires_with_a_lost_list_register() {
    let mut machine = machine();
    machine.write_word(0, 0, 0x200, 1, 3);
    machine.settle();
    assert_eq!(machine.icv[2].acknowledge(), Some(id(33)));
    // SPI 33 is loaded on vCPU 2, and the write to it still applies.
    machine.write_word(0, 0, 0x380, 1, 3);
    machine.icv[1].lrs.fill(Lr::EMPTY);
    machine.update(1);
    assert_eq!(machine.icv[1].acknowledge(), Some(id(32)));
    machine.unload(1);
    machine.unload(2);
    assert_eq!(read(&mut machine), done(1));
}

/// A write to the active state of one interrupt does not change another one in a list register.
#[test]
fn write_changes_only_the_active_states_that_it_names() {
    for register in [0x300, 0x380] {
        let mut machine = machine();
        machine.write_word(0, 0, 0x200, 1, 1);
        machine.settle();
        machine.write_word(0, 0, register, 1, 0xf0);
        assert_eq!(machine.icv[1].acknowledge(), Some(id(32)));
        machine.unload(1);
        machine.write_word(0, 0, 0x380, 1, 0xf0);
        assert_eq!(read(&mut machine), done(1), "{register:#x}");
    }
}

/// An interrupt that a write makes active is active on the vCPU to which it is routed, or on the
/// writing vCPU if it is routed to none.
#[test]
fn spi_written_active_is_active_on_its_target_or_the_writer() {
    for (route, owner) in [(1, 1), (3, 0), (1 << 16, 0), (1 << 31, 0)] {
        let mut machine = Machine::configured(3, 4);
        machine.write(0, Window::Distributor, 0x6100, route);
        machine.write_word(0, 0, 0x300, 1, 1);
        for vcpu in 0..3 {
            machine.update(vcpu);
            let is_here = held(&machine, vcpu, 32).is_some_and(Lr::is_active);
            assert_eq!(is_here, vcpu == owner, "{route:#x} at {vcpu}");
        }
    }
}

/// A vCPU that is turned on again has no running priorities, so its active interrupts have none.
/// Those of other vCPUs keep theirs.
#[test]
fn interrupt_active_on_a_vcpu_turned_off_has_no_running_priority() {
    let mut machine = machine();
    machine.write_word(0, 0, 0x200, 1, 3);
    machine.settle();
    assert_eq!(machine.icv[1].acknowledge(), Some(id(32)));
    assert_eq!(machine.icv[2].acknowledge(), Some(id(33)));
    machine.update(2);
    machine.unload(1);
    let _ = machine.vgic.vcpu_off(cpu(1));
    let _ = machine.vgic.vcpu_on(cpu(1));
    for intid in [32, 33] {
        set_priority(&mut machine, intid, 0x20);
    }
    machine.load(1);
    machine.update(2);
    assert_eq!(held(&machine, 1, 32).unwrap().priority(), 0x20);
    assert_eq!(held(&machine, 2, 33).unwrap().priority(), 0xa0);
}
