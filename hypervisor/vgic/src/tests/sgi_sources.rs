// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of a GICv2's SGIs, which are one interrupt per source.

use super::harness::*;
use crate::{Hcr, MmioOutcome, SgiRegister, VcpuSet, Window::Distributor};
use postern_base::gic::GicVersion::{V2, V3};
use postern_base::mmio::{Access, AccessSize::*};

const SGIR: u64 = 0xf00;
const CLEAR: u64 = 0xf10;
const SET: u64 = 0xf20;

/// Makes an SGI pending at vCPU 0.
fn send(machine: &mut Machine, from: usize, sgi: u32) {
    machine.write(from, Distributor, SGIR, 1 << 16 | sgi);
}

/// Returns the sources of vCPU 0's SGI.
fn sources(machine: &mut Machine, sgi: u64) -> u64 {
    let set = machine.access(0, Distributor, Access::read(SET + sgi, Byte));
    let clear = machine.access(0, Distributor, Access::read(CLEAR + sgi, Byte));
    assert_eq!(set, clear);
    set
}

/// Lets vCPU 0 handle all interrupts, and returns what it reads of IAR.
fn handle_all(machine: &mut Machine) -> Vec<u32> {
    let mut all = Vec::new();
    while let Some(iar) = machine.icv[0].read_iar() {
        machine.settle();
        machine.write_eoir(0, iar);
        all.push(iar);
    }
    all
}

/// The targets, among four vCPUs, of values that vCPU 1 writes to GICD_SGIR.
#[test]
fn sgi_goes_to_its_targets() {
    for (value, expected) in [
        (0x0005_0003, 0b0101),
        (0x0002_0003, 0b0010), // itself
        (0x00ff_0003, 0b1111),
        (0x00f0_0003, 0),      // no such vCPUs
        (0x0000_0003, 0),      // none
        (0x0100_0003, 0b1101), // all others
        (0x01ff_0003, 0b1101), // the list does not matter
        (0x0200_0003, 0b0010), // itself
        (0x02fd_0003, 0b0010),
        (0x03ff_0003, 0),      // reserved
        (0x0005_8003, 0b0101), // NSATT
        (0xfc05_7ff3, 0b0101), // reserved bits
        (0x000f_000f, 0b1111),
        (0x000f_0000, 0b1111),
    ] {
        let mut machine = Machine::configured_of(V2, 4, 4);
        // The group of the SGI does not matter.
        machine.write_word(2, 2, 0x80, 0, u32::MAX);
        machine.write(1, Distributor, SGIR, value);
        for vcpu in 0..4 {
            let wanted = (expected >> vcpu & 1 == 1).then_some(value & 0xf | 1 << 10);
            assert_eq!(machine.icv[vcpu].read_iar(), wanted, "{value:#x} at {vcpu}");
        }
    }
}

#[test]
fn sgi_from_two_vcpus_is_two_interrupts_and_one_in_a_gicv3() {
    let mut machine = Machine::configured_of(V2, 3, 4);
    for from in [2, 0, 2] {
        send(&mut machine, from, 5);
    }
    assert_eq!(sources(&mut machine, 5), 0b101);
    // The lowest source is the first, and twice from one source is once.
    assert_eq!(handle_all(&mut machine), [5, 2 << 10 | 5]);
    assert_eq!(sources(&mut machine, 5), 0);
    let mut machine = Machine::configured_of(V3, 3, 4);
    for from in [2, 0, 2] {
        machine.sgi(from, SgiRegister::Sgi1r, 5 << 24 | 1);
    }
    assert_eq!(handle_all(&mut machine), [5]);
}

#[test]
fn raised_sgi_arrives_once_and_other_interrupts_are_not_raised() {
    for version in [V2, V3] {
        let mut machine = Machine::configured_of(version, 3, 4);
        // The group of the SGI does not matter.
        machine.write_word(1, 1, 0x80, 0, 0);
        for number in [8, 8, 16, 27, 32, 1020] {
            let kick = machine.vgic.raise_sgi(cpu(1), number);
            machine.kick(kick);
            machine.settle();
        }
        let source = if version == V2 { 1 << 10 } else { 0 };
        assert_eq!(machine.icv[1].read_iar(), Some(source | 8), "{version:?}");
        machine.settle();
        machine.write_eoir(1, source | 8);
        for vcpu in 0..3 {
            assert_eq!(machine.icv[vcpu].read_iar(), None, "{version:?} {vcpu}");
        }
    }
}

#[test]
fn eight_sources_of_one_sgi_are_delivered_through_one_list_register() {
    let mut machine = Machine::configured_of(V2, 8, 1);
    for from in (0..8).rev() {
        send(&mut machine, from, 15);
    }
    let all: Vec<u32> = (0..8).map(|from| from << 10 | 15).collect();
    assert_eq!(handle_all(&mut machine), all);
}

/// A list register's end exits only while other sources are pending.
#[test]
fn list_register_requests_eoi_only_while_other_sources_are_pending() {
    let mut machine = Machine::configured_of(V2, 3, 4);
    send(&mut machine, 1, 5);
    assert!(!machine.icv[0].lrs[0].wants_eoi());
    send(&mut machine, 2, 5);
    assert!(machine.icv[0].lrs[0].wants_eoi());
    assert_eq!(machine.icv[0].lrs[0].source(), Some(cpu(1)));
    assert!(!machine.icv[0].lrs[1].is_valid());
    assert_eq!(machine.icv[0].read_iar(), Some(1 << 10 | 5));
    machine.write_eoir(0, 1 << 10 | 5);
    assert_eq!(machine.icv[0].lrs[0].source(), Some(cpu(2)));
    assert!(!machine.icv[0].lrs[0].wants_eoi());
    assert_eq!(machine.icv[0].hcr, Hcr::EN);
}

/// An active SGI keeps its source, which the guest's end of interrupt must name, while others
/// arrive. They wait for its end.
#[test]
fn active_sgi_keeps_its_source_while_others_arrive() {
    let mut machine = Machine::configured_of(V2, 3, 4);
    send(&mut machine, 1, 5);
    assert_eq!(machine.icv[0].read_iar(), Some(1 << 10 | 5));
    for from in [0, 1, 2] {
        send(&mut machine, from, 5);
        let lr = machine.icv[0].lrs[0];
        assert!(lr.is_active() && !lr.is_pending() && lr.wants_eoi());
        assert_eq!(lr.source(), Some(cpu(1)));
    }
    assert_eq!(sources(&mut machine, 5), 0b111);
    assert_eq!(machine.read_word(0, 0, 0x300, 0), 1 << 5);
    assert_eq!(machine.read_word(0, 0, 0x200, 0), 1 << 5);
    machine.write_eoir(0, 1 << 10 | 5);
    assert_eq!(handle_all(&mut machine), [5, 1 << 10 | 5, 2 << 10 | 5]);
}

/// The same for an SGI that lost its list register to others.
#[test]
fn active_sgi_without_a_list_register_keeps_its_source() {
    let mut machine = Machine::configured_of(V2, 3, 1);
    let priority = Access::write(0x404, Byte, 0x40);
    machine.access(0, Distributor, priority);
    send(&mut machine, 2, 5);
    assert_eq!(machine.icv[0].read_iar(), Some(2 << 10 | 5));
    send(&mut machine, 1, 5);
    send(&mut machine, 1, 4);
    assert_eq!(machine.icv[0].read_iar(), Some(1 << 10 | 4));
    machine.settle();
    machine.write_eoir(0, 1 << 10 | 4);
    machine.update(0);
    assert_eq!(machine.icv[0].lrs[0].source(), Some(cpu(2)));
    machine.write_eoir(0, 2 << 10 | 5);
    assert_eq!(handle_all(&mut machine), [1 << 10 | 5]);
}

#[test]
fn pending_source_is_withdrawn_by_cpendsgir_from_its_list_register() {
    let mut machine = Machine::configured_of(V2, 4, 4);
    for from in [1, 3] {
        send(&mut machine, from, 5);
    }
    assert_eq!(machine.icv[0].lrs[0].source(), Some(cpu(1)));
    // That of another SGI, and of another source.
    machine.write(0, Distributor, CLEAR + 4, 0x0000_0d02);
    assert_eq!(sources(&mut machine, 5), 0b0010);
    assert!(!machine.icv[0].lrs[0].wants_eoi());
    // Another vCPU's register is another.
    machine.write(1, Distributor, CLEAR + 4, u32::MAX);
    assert_eq!(sources(&mut machine, 5), 0b0010);
    machine.access(0, Distributor, Access::write(CLEAR + 5, Byte, 2));
    assert_eq!(sources(&mut machine, 5), 0);
    assert!(machine.icv[0].signalled().is_none());
    assert_eq!(machine.read_word(0, 0, 0x200, 0), 0);
    // The next one is delivered.
    send(&mut machine, 1, 5);
    assert_eq!(handle_all(&mut machine), [1 << 10 | 5]);
}

#[test]
fn lowest_source_is_withdrawn_and_the_other_is_delivered() {
    let mut machine = Machine::configured_of(V2, 4, 4);
    for from in [1, 3] {
        send(&mut machine, from, 5);
    }
    machine.access(0, Distributor, Access::write(CLEAR + 5, Byte, 2));
    assert_eq!(handle_all(&mut machine), [3 << 10 | 5]);
}

/// A source that was acknowledged is no longer pending, so it cannot be withdrawn.
#[test]
fn cpendsgir_does_not_end_an_active_sgi() {
    let mut machine = Machine::configured_of(V2, 2, 4);
    send(&mut machine, 1, 5);
    assert_eq!(machine.icv[0].read_iar(), Some(1 << 10 | 5));
    machine.write(0, Distributor, CLEAR + 4, u32::MAX);
    assert_eq!(machine.read_word(0, 0, 0x300, 0), 1 << 5);
    assert_eq!(machine.icv[0].lrs[0].source(), Some(cpu(1)));
}

#[test]
fn spendsgir_makes_sgis_pending_from_the_vcpus_that_exist() {
    let mut machine = Machine::configured_of(V2, 3, 4);
    machine.write(0, Distributor, SET + 8, 0xf806_0001);
    assert_eq!(machine.read(0, Distributor, SET + 8), 0x0006_0001);
    assert_eq!(machine.read(1, Distributor, SET + 8), 0);
    assert_eq!(machine.read_word(0, 0, 0x200, 0), 1 << 8 | 1 << 10);
    assert_eq!(handle_all(&mut machine), [8, 1 << 10 | 10, 2 << 10 | 10]);
}

/// A write to GICD_ISPENDR or GICD_ICPENDR does not change an SGI.
#[test]
fn pending_registers_do_not_change_sgis() {
    let mut machine = Machine::configured_of(V2, 2, 4);
    send(&mut machine, 1, 5);
    machine.write_word(0, 0, 0x280, 0, u32::MAX);
    assert_eq!(sources(&mut machine, 5), 0b10);
    machine.write_word(0, 0, 0x200, 0, 0xffff);
    assert_eq!(handle_all(&mut machine), [1 << 10 | 5]);
}

/// Returns the kick mask of a write by vCPU 1.
fn kick_of(machine: &mut Machine, offset: u64, value: u64) -> VcpuSet {
    match machine.execute(1, Distributor, &Access::write(offset, Word, value)) {
        MmioOutcome::Done { value: 0, kick } => kick,
        other => panic!("{other:?}"),
    }
}

#[test]
fn sgi_kicks_its_targets_unless_it_waits_already() {
    let mut machine = Machine::configured_of(V2, 3, 4);
    machine.prompt = false;
    let others = VcpuSet::from_bits(0b101);
    assert_eq!(kick_of(&mut machine, SGIR, 1 << 24 | 5), others);
    machine.settle();
    // It may have been acknowledged since.
    assert_eq!(kick_of(&mut machine, SGIR, 1 << 24 | 5), others);
    machine.settle();
    // Now it is pending for a second time, or the first time has gone from the list register.
    machine.update(0);
    assert_eq!(machine.icv[0].read_iar(), Some(1 << 10 | 5));
    machine.update(0);
    assert_eq!(
        kick_of(&mut machine, SGIR, 1 << 16 | 5),
        VcpuSet::only(cpu(0))
    );
    machine.update(0);
    assert_eq!(kick_of(&mut machine, SGIR, 1 << 16 | 5), VcpuSet::EMPTY);
    // Disabled: no vCPU has to change.
    machine.write_word(2, 2, 0x180, 0, 1 << 6);
    machine.settle();
    assert_eq!(kick_of(&mut machine, SGIR, 4 << 16 | 6), VcpuSet::EMPTY);
}

#[test]
fn vcpu_that_is_turned_on_has_no_pending_sources() {
    let mut machine = Machine::configured_of(V2, 3, 4);
    for from in [1, 2] {
        send(&mut machine, from, 5);
    }
    machine.unload(0);
    assert!(machine.vgic.vcpu_off(cpu(0)).is_empty());
    send(&mut machine, 1, 6);
    let _ = machine.vgic.vcpu_on(cpu(0));
    machine.load(0);
    assert_eq!(machine.read(0, Distributor, SET + 4), 0);
    assert_eq!(machine.read_word(0, 0, 0x200, 0), 0);
    machine.write_word(0, 0, 0x100, 0, u32::MAX);
    assert_eq!(handle_all(&mut machine), []);
    // The SGIs of the vCPU that was off stay pending at others.
    machine.write(0, Distributor, SGIR, 2 << 16 | 7);
    machine.unload(0);
    let _ = machine.vgic.vcpu_off(cpu(0));
    assert_eq!(machine.icv[1].read_iar(), Some(7));
}

/// List registers that are lost have the state that was loaded.
#[test]
fn abandoned_list_register_returns_its_source() {
    let mut machine = Machine::configured_of(V2, 3, 4);
    for from in [1, 2] {
        send(&mut machine, from, 5);
    }
    machine.icv[0].lrs.fill(crate::Lr::EMPTY);
    machine.update(0);
    assert_eq!(sources(&mut machine, 5), 0b110);
    assert_eq!(handle_all(&mut machine), [1 << 10 | 5, 2 << 10 | 5]);
}

/// An SPI has no source, also where its bit is an SGI's in another word.
#[test]
fn abandoned_list_register_of_an_spi_gives_no_sgi_a_source() {
    let mut machine = Machine::configured_of(V2, 3, 4);
    machine.write_word(0, 0, 0x200, 1, 1 << 5);
    machine.icv[0].lrs.fill(crate::Lr::EMPTY);
    machine.update(0);
    assert_eq!(sources(&mut machine, 5), 0);
    assert_eq!(handle_all(&mut machine), [37]);
}

/// With EOImode 1, a write to GICC_DIR ends the active state. It may name the wrong source, which
/// is UNPREDICTABLE.
#[test]
fn dir_write_deactivates_an_sgi() {
    for wrong in [0, 2, 7] {
        let mut machine = Machine::configured_of(V2, 3, 4);
        machine.icv[0].vmcr |= SPLIT;
        machine.update(0);
        for from in [1, 2] {
            send(&mut machine, from, 5);
        }
        assert_eq!(machine.icv[0].read_iar(), Some(1 << 10 | 5));
        machine.write_eoir(0, 1 << 10 | 5);
        assert!(machine.icv[0].signalled().is_none(), "still active");
        machine.write_dir(0, 1023);
        machine.write_dir(0, 288);
        assert_eq!(machine.read_word(0, 0, 0x300, 0), 1 << 5);
        machine.write_dir(0, u32::MAX << 13 | wrong << 10 | 5);
        assert_eq!(machine.icv[0].read_iar(), Some(2 << 10 | 5));
    }
}

#[test]
fn dir_write_without_eoimode_is_ignored() {
    let mut machine = Machine::configured_of(V2, 2, 4);
    send(&mut machine, 1, 5);
    assert_eq!(machine.icv[0].read_iar(), Some(1 << 10 | 5));
    machine.write_dir(0, 1 << 10 | 5);
    assert_eq!(machine.read_word(0, 0, 0x300, 0), 1 << 5);
}

/// An SPI that is active on another vCPU is deactivated, too.
#[test]
fn dir_write_deactivates_an_spi_of_another_vcpu() {
    let mut machine = Machine::configured_of(V2, 2, 4);
    for vcpu in 0..2 {
        machine.icv[vcpu].vmcr |= SPLIT;
        machine.update(vcpu);
    }
    machine.write_word(0, 0, 0x200, 1, 1);
    assert_eq!(machine.icv[0].read_iar(), Some(32));
    machine.write_eoir(0, 32);
    machine.write_dir(1, 32);
    assert_eq!(machine.read_word(1, 1, 0x300, 1), 0);
}

/// An SGI that a write makes active has no source yet, and stays pending.
#[test]
fn sgi_made_active_by_a_write_stays_pending() {
    let mut machine = Machine::configured_of(V2, 3, 4);
    machine.write_word(0, 0, 0x300, 0, 1 << 5);
    for from in [1, 2] {
        send(&mut machine, from, 5);
    }
    assert!(machine.icv[0].signalled().is_none());
    assert_eq!(sources(&mut machine, 5), 0b110);
    machine.write_word(0, 0, 0x380, 0, 1 << 5);
    assert_eq!(handle_all(&mut machine), [1 << 10 | 5, 2 << 10 | 5]);
}

#[test]
fn reset_ends_all_sources() {
    let mut machine = Machine::configured_of(V2, 2, 4);
    send(&mut machine, 1, 5);
    for vcpu in 0..2 {
        machine.unload(vcpu);
    }
    machine.vgic.reset();
    let _ = machine.vgic.vcpu_on(cpu(0));
    machine.load(0);
    assert_eq!(
        machine.read(0, Distributor, 0xfe8),
        0x2b,
        "a GICv2 as before"
    );
    assert_eq!(sources(&mut machine, 5), 0);
}
