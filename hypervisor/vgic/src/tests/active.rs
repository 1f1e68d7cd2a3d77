// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Active states: who knows them, and what a write to them does to an interrupt in a list register.

use super::harness::*;
use crate::{Lr, MmioOutcome, SgiRegister, VcpuSet, Window};
use postern_base::mmio::{Access, AccessSize};

/// Kicks arrive when the test says so. SPI 32 is for vCPU 1, SPI 33 for vCPU 2.
fn machine() -> Machine {
    let mut machine = Machine::configured(3, 4);
    machine.prompt = false;
    machine.write(0, Window::Distributor, 0x6100, 1);
    machine.write(0, Window::Distributor, 0x6108, 2);
    machine
}

/// One execution of vCPU 0's read of ISACTIVER1.
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

/// The list register that holds an interrupt.
fn held(machine: &Machine, vcpu: usize, intid: u32) -> Option<Lr> {
    let mut lrs = machine.icv[vcpu].lrs.iter().filter(|lr| lr.is_valid());
    lrs.find(|lr| lr.vintid() == Some(id(intid))).copied()
}

#[test]
fn a_read_does_not_wait_for_a_vcpu_that_has_other_interrupts() {
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
fn a_read_waits_for_a_vcpu_that_may_have_taken_or_ended_it() {
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

/// An active interrupt without a list register is ended by a count that only its vCPU has.
#[test]
fn a_read_waits_for_a_vcpu_that_may_have_ended_what_is_in_no_list_register() {
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
fn a_read_gives_what_was_written_and_waits_for_nobody() {
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

/// What a vCPU said is good for the 64 fills that a guest may take to execute its read again.
#[test]
fn a_read_begins_anew_where_its_vcpu_did_much_else_in_between() {
    for (others, expected) in [(62, done(1)), (63, wait_for(0b010))] {
        let mut machine = machine();
        machine.write_word(0, 0, 0x200, 1, 1);
        machine.settle();
        assert_eq!(machine.icv[1].acknowledge(), Some(id(32)));
        // The first fill.
        assert_eq!(read(&mut machine), wait_for(0b010));
        machine.update(1);
        for _ in 0..others {
            machine.update(0);
        }
        assert_eq!(read(&mut machine), expected, "{others}");
    }
}

#[test]
fn a_read_of_another_word_begins_anew() {
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

/// Made active by hand while it was pending: it runs at no priority of its own, and stays pending.
#[test]
fn what_is_made_active_by_hand_in_a_list_register_has_the_priority_that_is_set() {
    let mut machine = machine();
    machine.write_word(0, 0, 0x200, 1, 1);
    machine.settle();
    machine.write_word(0, 0, 0x300, 1, 1);
    machine.update(1);
    let lr = held(&machine, 1, 32).unwrap();
    assert!(lr.is_active() && lr.is_pending());
    assert_eq!(lr.priority(), 0xa0);
    // Still so when it is changed.
    set_priority(&mut machine, 32, 0x20);
    machine.update(1);
    assert_eq!(held(&machine, 1, 32).unwrap().priority(), 0x20);
}

#[test]
fn what_was_taken_keeps_its_priority_when_it_is_made_active_by_hand_as_well() {
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
fn what_was_taken_keeps_its_priority_when_another_is_made_active_by_hand() {
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

/// A vCPU's own interrupts are its own after it took them, too.
#[test]
fn a_vcpus_own_interrupt_that_it_had_can_be_made_active_by_hand() {
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

/// What is active on a vCPU that does not run is not active on one that took another interrupt of the same word.
#[test]
fn an_active_interrupt_stays_with_the_vcpu_that_took_it() {
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

/// A write to the active state of what is in a list register counts until that one is read back, lost or not.
#[test]
fn a_list_register_that_gets_lost_takes_what_was_written_with_it() {
    let mut machine = machine();
    machine.write_word(0, 0, 0x200, 1, 3);
    machine.settle();
    assert_eq!(machine.icv[2].acknowledge(), Some(id(33)));
    // 33 is loaded elsewhere, and its write still counts.
    machine.write_word(0, 0, 0x380, 1, 3);
    machine.icv[1].lrs.fill(Lr::EMPTY);
    machine.update(1);
    assert_eq!(machine.icv[1].acknowledge(), Some(id(32)));
    machine.unload(1);
    machine.unload(2);
    assert_eq!(read(&mut machine), done(1));
}

/// A write to the active state of one interrupt says nothing of another one in a list register.
#[test]
fn a_write_concerns_the_active_states_that_it_names() {
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

/// Made active by hand, it is active where it would be taken, and if that is nowhere, where the write is made.
#[test]
fn what_is_made_active_by_hand_is_active_somewhere() {
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

/// It comes back without running priorities, so what was active on it runs at none; that of the others does.
#[test]
fn what_was_active_on_a_vcpu_that_was_turned_off_runs_at_no_priority() {
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
