// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of kick masks. An unnecessary vCPU in a mask costs its pCPU an exit, and a missing vCPU
//! misses an interrupt.

use super::harness::*;
use crate::{IrqLine, MmioOutcome, VcpuSet, Window};
use postern_base::mmio::{Access, AccessSize};

/// SPI 32 is pending in a list register of vCPU 1. The other two vCPUs have nothing.
fn machine() -> Machine {
    let mut machine = Machine::configured(3, 4);
    machine.prompt = false;
    machine.write(0, Window::Distributor, 0x6100, 1);
    machine.write_word(0, 0, 0x200, 1, 1);
    machine.settle();
    assert!(machine.icv[1].signalled().is_some());
    machine
}

/// Returns the kick mask of a write by vCPU 0.
fn concerned(machine: &mut Machine, window: Window, access: &Access) -> VcpuSet {
    match machine.execute(0, window, access) {
        MmioOutcome::Done { value: 0, kick } => kick,
        other => panic!("{other:?}"),
    }
}

#[test]
fn write_kicks_only_vcpus_whose_list_registers_change() {
    for (what, of, register, word, bits, expected) in [
        ("groups unchanged", 0, 0x80, 1, u32::MAX, 0),
        ("32 into the other group", 0, 0x80, 1, !1, 0b010),
        ("33 into the other group", 0, 0x80, 1, !2, 0),
        ("32 is enabled already", 0, 0x100, 1, 1, 0),
        ("32 is disabled", 0, 0x180, 1, 1, 0b010),
        ("33 is disabled", 0, 0x180, 1, 2, 0),
        ("33 becomes pending", 0, 0x200, 1, 2, 0b001),
        ("32 is no longer pending", 0, 0x280, 1, 1, 0b010),
        ("33 was not pending", 0, 0x280, 1, 2, 0),
        ("59, at the timer's bit", 0, 0x280, 1, 1 << 27, 0),
        ("no SGI was pending", 2, 0x280, 0, 1, 0),
        ("the timer's physical side", 2, 0x280, 0, 1 << 27, 0b100),
        ("32 is active", 0, 0x300, 1, 1, 0b010),
        ("33 was not active", 0, 0x380, 1, 2, 0),
        ("59, likewise", 0, 0x380, 1, 1 << 27, 0),
        ("no SGI was active", 2, 0x380, 0, 1, 0),
        ("the timer's, likewise", 2, 0x380, 0, 1 << 27, 0b100),
    ] {
        let mut machine = machine();
        let (window, offset) = place(of, register, word);
        let write = Access::write(offset, AccessSize::Word, u64::from(bits));
        let kick = concerned(&mut machine, window, &write);
        assert_eq!(kick, VcpuSet::from_bits(expected), "{what}");
    }
}

#[test]
fn write_of_the_same_value_kicks_no_vcpu() {
    use AccessSize::{Byte, Word};
    for (offset, size, value, expected) in [
        (0x0420, Byte, 0xa0, 0), // IPRIORITYR of 32
        (0x0420, Byte, 0x80, 0b010),
        (0x0421, Byte, 0x80, 0), // of 33
        (0x0420, Word, 0xa0a0_a0a0, 0),
        (0x0420, Word, 0xa0a0_a080, 0b010),
        (0x0c08, Word, 0, 0), // ICFGR of 32 to 47
        (0x0c08, Word, 2, 0b010),
        (0x0c08, Word, 8, 0),
        (0x0000, Word, 3, 0), // CTLR
        (0x0000, Word, 2, 0b111),
        (0x6108, Word, 2, 0), // IROUTER of 33
        (0x6100, Word, 2, 0b010),
    ] {
        let mut machine = machine();
        let write = Access::write(offset, size, value);
        let kick = concerned(&mut machine, Window::Distributor, &write);
        assert_eq!(kick, VcpuSet::from_bits(expected), "{offset:#x} {value:#x}");
    }
}

/// Enabling a pending interrupt kicks the vCPU to which it is routed.
#[test]
fn enable_of_a_pending_interrupt_kicks_its_target() {
    let mut machine = machine();
    machine.write_word(0, 0, 0x180, 1, 4);
    machine.write(0, Window::Distributor, 0x6110, 2);
    machine.write_word(0, 0, 0x200, 1, 4);
    let enable = Access::write(0x104, AccessSize::Word, 6);
    let kick = concerned(&mut machine, Window::Distributor, &enable);
    assert_eq!(kick, VcpuSet::only(cpu(2)));
}

/// An input that does not change, or whose interrupt is disabled or active, kicks no vCPU.
#[test]
fn input_change_kicks_only_the_target_of_its_interrupt() {
    let mut machine = machine();
    let line = |number| IrqLine::spi(id(number)).unwrap();
    machine.write(0, Window::Distributor, 0x6108, 2);
    let two = VcpuSet::only(cpu(2));
    assert_eq!(machine.vgic.set_line(line(33), false), VcpuSet::EMPTY);
    assert_eq!(machine.vgic.set_line(line(33), true), two);
    machine.settle();
    assert_eq!(machine.vgic.set_line(line(33), true), VcpuSet::EMPTY);
    assert_eq!(machine.vgic.set_line(line(33), false), two);
    machine.settle();
    // An edge has no effect on a level-sensitive interrupt.
    assert_eq!(machine.vgic.pulse(line(33)), VcpuSet::EMPTY);
    machine.write_word(0, 0, 0x180, 1, 2);
    assert_eq!(machine.vgic.set_line(line(33), true), VcpuSet::EMPTY);
    machine.write_word(0, 0, 0x300, 1, 4);
    assert_eq!(machine.vgic.set_line(line(34), true), VcpuSet::only(cpu(0)));
    machine.settle();
    machine.unload(0);
    assert_eq!(machine.vgic.set_line(line(34), false), VcpuSet::EMPTY);
    assert_eq!(machine.vgic.set_line(line(34), true), VcpuSet::EMPTY);
}

/// Turning a vCPU off or on kicks the vCPUs that now get the interrupts that are routed to any
/// vCPU.
#[test]
fn vcpu_on_and_off_kick_the_new_targets_of_spis_for_any_vcpu() {
    for (route, off, on) in [(1, 0, 0b001), (1 << 31, 0b010, 0b011)] {
        let mut machine = machine();
        machine.write(0, Window::Distributor, 0x6108, route);
        machine.write_word(0, 0, 0x200, 1, 2);
        machine.settle();
        machine.unload(0);
        let kick = machine.vgic.vcpu_off(cpu(0));
        assert_eq!(kick, VcpuSet::from_bits(off), "{route:#x} off");
        machine.settle();
        let kick = machine.vgic.vcpu_on(cpu(0));
        assert_eq!(kick, VcpuSet::from_bits(on), "{route:#x} on");
    }
}

/// GICD_CTLR.RWP covers list registers that may hold the disabled interrupt, not vCPUs that have no
/// list registers in use.
#[test]
fn rwp_stays_clear_when_no_list_register_holds_the_disabled_interrupt() {
    let mut machine = Machine::configured(2, 4);
    machine.prompt = false;
    machine.write(0, Window::Distributor, 0, 2);
    assert_eq!(machine.read(0, Window::Distributor, 0), 0x52);
    machine.settle();
    machine.sgi(0, crate::SgiRegister::Sgi1r, 2);
    machine.settle();
    // Enabling a group does not set RWP. Disabling one does, if list registers are in use.
    machine.write(0, Window::Distributor, 0, 3);
    assert_eq!(machine.read(0, Window::Distributor, 0), 0x53);
    machine.write(0, Window::Distributor, 0, 2);
    assert_eq!(machine.read(0, Window::Distributor, 0), 1 << 31 | 0x52);
    machine.settle();
    assert_eq!(machine.read(0, Window::Distributor, 0), 0x52);
    // An interrupt that is not in the list registers, and then the one that is.
    machine.write_word(0, 1, 0x180, 0, 2);
    let control = crate::REDISTRIBUTOR_SIZE;
    assert_eq!(machine.read(0, Window::Redistributors, control), 0);
    machine.write_word(0, 1, 0x180, 0, 1);
    assert_eq!(machine.read(0, Window::Redistributors, control), 8);
    for size in [AccessSize::Half, AccessSize::Double] {
        let read = Access::read(control, size);
        assert_eq!(machine.access(0, Window::Redistributors, read), 0);
    }
    machine.settle();
    assert_eq!(machine.read(0, Window::Redistributors, control), 0);
}
