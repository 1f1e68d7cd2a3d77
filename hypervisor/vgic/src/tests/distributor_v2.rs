// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of the access rules of a GICv2's distributor, and of the routes of its SPIs.

use super::harness::*;
use crate::{GICV2_DISTRIBUTOR_SIZE, IrqLine, SgiRegister, VcpuSet, Vgic, Window::*};
use postern_base::gic::GicVersion::V2;
use postern_base::mmio::{Access, AccessSize::*};

fn spi(number: u32) -> IrqLine {
    IrqLine::spi(id(number)).unwrap()
}

/// Returns the vCPUs to which an SPI is signalled.
fn takers(machine: &Machine, intid: u32) -> Vec<usize> {
    (0..machine.icv.len())
        .filter(|vcpu| machine.loaded[*vcpu])
        .filter(|vcpu| {
            let signalled = machine.icv[*vcpu].signalled();
            signalled.and_then(|lr| lr.vintid()) == Some(id(intid))
        })
        .collect()
}

#[test]
fn fixed_registers_read_as_specified() {
    let mut machine = Machine::new_of(V2, 3, 4);
    for (window, offset, size, expected) in [
        (Distributor, 0x000, Word, 0),           // CTLR
        (Distributor, 0x004, Word, 0x48),        // TYPER: 288 INTIDs, three CPU interfaces
        (Distributor, 0x008, Word, 0x5000_043b), // IIDR
        (Distributor, 0xfe8, Word, 0x2b),        // ICPIDR2
        (Distributor, 0xf00, Word, 0),           // SGIR is write only
        (Distributor, 0xc00, Word, 0xaaaa_aaaa), // SGIs are edges
        (Distributor, 0x800, Word, 0x0202_0202), // targets of vCPU 1's SGIs and PPIs
        (Distributor, 0x81c, Word, 0x0202_0202),
        (Distributor, 0x81f, Byte, 0x02),
        (Distributor, 0x820, Word, 0), // of SPIs
        (Distributor, 0x800, Half, 0), // wrong width
        (Distributor, 0x800, Double, 0),
        (Distributor, 0x004, Byte, 0),
        (Distributor, 0x004, Half, 0),
        (Distributor, 0x000, Double, 0),
        (Distributor, 0xfe8, Double, 0),
        (Distributor, 0x802, Word, 0), // misaligned
        (Distributor, 0x006, Word, 0),
        (Distributor, 0xffe8, Word, 0), // a GICv3's PIDR2
        (Distributor, 0x6100, Word, 0), // a GICv3's IROUTER
        (Distributor, 0xd00, Word, 0),  // implementation defined
        (Distributor, GICV2_DISTRIBUTOR_SIZE, Word, 0),
        (Distributor, u64::MAX - 3, Word, 0),
        (Redistributors, 0x0008, Double, 0),
        (Redistributors, 0x1_0c00, Word, 0),
    ] {
        let read = machine.access(1, window, Access::read(offset, size));
        assert_eq!(read, expected, "{window:?} {offset:#x} {size:?}");
    }
    for vcpus in 1..=8 {
        let mut machine = Machine::new_of(V2, vcpus, 4);
        let typer = machine.read(0, Distributor, 4);
        assert_eq!(typer, 8 | (vcpus as u32 - 1) << 5);
    }
}

/// GICD_CPENDSGIR and GICD_SPENDSGIR show the state of list registers.
#[test]
fn reads_of_sgi_sources_need_a_sync() {
    for (offset, state) in [
        (0xe00, false), // NSACR
        (0xf10, true),  // CPENDSGIR
        (0xf20, true),  // SPENDSGIR
        (0xf2f, true),
        (0x800, false), // ITARGETSR
    ] {
        let read = Access::read(offset, Byte);
        assert_eq!(Vgic::needs_sync(&read), state, "{offset:#x}");
    }
}

/// Registers that keep the written value in their implemented bits. Those of the SGIs and PPIs are
/// banked.
#[test]
fn registers_keep_their_implemented_bits() {
    let mut machine = Machine::new_of(V2, 3, 4);
    for (offset, kept, banked) in [
        (0x000, 0x0000_0003, false),
        (0x004, 0, false),
        (0x080, u32::MAX, true), // IGROUPR
        (0x084, u32::MAX, false),
        (0x0a0, u32::MAX, false),
        (0x0a4, 0, false),
        (0x400, 0xf8f8_f8f8, true), // IPRIORITYR
        (0x41c, 0xf8f8_f8f8, true),
        (0x420, 0xf8f8_f8f8, false),
        (0x51c, 0xf8f8_f8f8, false),
        (0x520, 0, false),
        (0x800, 0, true), // ITARGETSR
        (0x81c, 0, true),
        (0x820, 0x0707_0707, false), // of three vCPUs
        (0x91c, 0x0707_0707, false),
        (0x920, 0, false),
        (0xbf8, 0, false),
        (0xc00, 0, true), // ICFGR
        (0xc04, 0xaaaa_aaaa, true),
        (0xc08, 0xaaaa_aaaa, false),
        (0xc44, 0xaaaa_aaaa, false),
        (0xc48, 0, false),
        (0xd00, 0, false),
        (0xe00, 0, false), // NSACR
        (0xf30, 0, false),
        (0x6100, 0, false), // IROUTER
    ] {
        let fixed = machine.read(1, Distributor, offset);
        let other = machine.read(0, Distributor, offset);
        for pattern in [u32::MAX, 0x5a69_0ff2, 0] {
            machine.write(1, Distributor, offset, pattern);
            let expected = fixed & !kept | pattern & kept;
            assert_eq!(
                machine.read(1, Distributor, offset),
                expected,
                "{offset:#x}"
            );
            let other = if banked { other } else { expected };
            assert_eq!(machine.read(0, Distributor, offset), other, "{offset:#x}");
        }
        machine.write(1, Distributor, offset, fixed);
    }
}

/// Pairs of registers that set and clear the same bits. Writes do not change the pending bits of
/// SGIs (IHI 0048B.b 4.3.7).
#[test]
fn set_and_clear_registers_read_the_same_state() {
    let mut machine = Machine::new_of(V2, 2, 4);
    for (set, clear, kept, banked) in [
        (0x100, 0x180, u32::MAX, true),
        (0x104, 0x184, u32::MAX, false),
        (0x120, 0x1a0, u32::MAX, false),
        (0x124, 0x1a4, 0, false),
        (0x200, 0x280, 0xffff_0000, true),
        (0x208, 0x288, u32::MAX, false),
        (0x300, 0x380, u32::MAX, true),
        (0x320, 0x3a0, u32::MAX, false),
        (0x324, 0x3a4, 0, false),
    ] {
        for (offset, value, expected) in [
            (set, 0, 0),
            (set, 0xf00f_1234, 0xf00f_1234),
            (set, 0x0ff0_0000, 0xffff_1234),
            (clear, 0x00ff_0030, 0xff00_1204),
            (clear, u32::MAX, 0),
        ] {
            machine.write(1, Distributor, offset, value);
            for offset in [set, clear] {
                let expected = expected & kept;
                assert_eq!(
                    machine.read(1, Distributor, offset),
                    expected,
                    "{offset:#x}"
                );
                let other = if banked { 0 } else { expected };
                assert_eq!(machine.read(0, Distributor, offset), other, "{offset:#x}");
            }
        }
    }
}

#[test]
fn access_of_unsupported_width_has_no_effect() {
    let mut machine = Machine::new_of(V2, 4, 4);
    for register in [0x420, 0x820] {
        for (access, expected) in [
            (Access::write(register + 1, Byte, 0x08), 0x0000_0800),
            (Access::write(register + 3, Byte, 0x08), 0x0800_0800),
            (Access::write(register + 2, Half, 0x0808), 0x0800_0800),
            (Access::write(register, Double, u64::MAX), 0x0800_0800),
            (Access::write(register + 2, Word, u64::MAX), 0x0800_0800),
        ] {
            machine.access(0, Distributor, access);
            assert_eq!(machine.read(0, Distributor, register), expected);
        }
        let byte = Access::read(register + 3, Byte);
        assert_eq!(machine.access(0, Distributor, byte), 8);
        let half = Access::read(register + 2, Half);
        assert_eq!(machine.access(0, Distributor, half), 0);
    }
    // All other registers are accessed by word only, except those of the SGIs' sources.
    for size in [Byte, Half, Double] {
        for offset in [0x000, 0x100, 0x108, 0xc08, 0xf00] {
            machine.access(0, Distributor, Access::write(offset, size, u64::MAX));
        }
    }
    for (offset, expected) in [(0x000, 0), (0x100, 0), (0x108, 0), (0xc08, 0), (0x200, 0)] {
        assert_eq!(machine.read(0, Distributor, offset), expected);
    }
    for size in [Half, Double] {
        for offset in [0xf10, 0xf20] {
            machine.access(0, Distributor, Access::write(offset, size, u64::MAX));
            assert_eq!(
                machine.access(0, Distributor, Access::read(offset, size)),
                0
            );
        }
    }
    assert_eq!(machine.read(0, Distributor, 0xf20), 0);
}

/// IHI 0048B.b 4.3.12: in a uniprocessor implementation, all interrupts go to the one processor,
/// and the registers read as zero and ignore writes.
#[test]
fn only_vcpu_takes_all_spis_and_has_no_target_registers() {
    let mut machine = Machine::configured_of(V2, 1, 4);
    for offset in [0x800, 0x81c, 0x820, 0x91c] {
        machine.write(0, Distributor, offset, u32::MAX);
        assert_eq!(machine.read(0, Distributor, offset), 0, "{offset:#x}");
    }
    for intid in [32, 287] {
        let kick = machine.vgic.set_line(spi(intid), true);
        assert_eq!(kick, VcpuSet::only(cpu(0)));
        machine.kick(kick);
        assert_eq!(takers(&machine, intid), [0]);
        let kick = machine.vgic.set_line(spi(intid), false);
        machine.kick(kick);
    }
}

/// Of several targets, the lowest one that is on takes the interrupt.
#[test]
fn spi_goes_to_the_lowest_target_that_is_on() {
    for (targets, off, expected) in [
        (0b0000, 0b0000, &[][..]),
        (0b0001, 0b0000, &[0]),
        (0b0100, 0b0000, &[2]),
        (0b0110, 0b0000, &[1]),
        (0b1111, 0b0000, &[0]),
        (0b1111, 0b0001, &[1]),
        (0b1010, 0b0010, &[3]),
        (0b1000, 0b1000, &[]), // pending until the vCPU is on
        (0b1010, 0b1010, &[]),
        (0b1111_0000, 0, &[]), // no such vCPUs
    ] {
        let mut machine = Machine::configured_of(V2, 4, 4);
        for vcpu in (0..4).filter(|vcpu| off >> vcpu & 1 == 1) {
            machine.unload(vcpu);
            let kick = machine.vgic.vcpu_off(cpu(vcpu));
            machine.kick(kick);
        }
        let by = if off & 1 == 1 { 2 } else { 0 };
        let write = Access::write(0x828, Byte, targets);
        machine.access(by, Distributor, write);
        let kick = machine.vgic.pulse(spi(40));
        assert!(kick.is_empty(), "level-sensitive");
        let kick = machine.vgic.set_line(spi(40), true);
        machine.kick(kick);
        assert_eq!(takers(&machine, 40), expected, "{targets:#b} {off:#b}");
    }
}

/// An interrupt with several targets goes to another one when its vCPU is turned off, and returns.
/// One with a single target waits.
#[test]
fn spi_of_a_vcpu_that_is_turned_off_goes_to_the_next_target() {
    let mut machine = Machine::configured_of(V2, 3, 4);
    machine.write(0, Distributor, 0x828, 0x0000_0206);
    for intid in [40, 41] {
        let kick = machine.vgic.set_line(spi(intid), true);
        assert_eq!(kick, VcpuSet::only(cpu(1)));
        machine.kick(kick);
    }
    assert_eq!(takers(&machine, 40), [1]);
    machine.unload(1);
    let kick = machine.vgic.vcpu_off(cpu(1));
    assert_eq!(kick, VcpuSet::only(cpu(2)));
    machine.kick(kick);
    assert_eq!(
        (takers(&machine, 40), takers(&machine, 41)),
        (vec![2], vec![])
    );
    let kick = machine.vgic.vcpu_on(cpu(1));
    machine.kick(kick.without(cpu(1)));
    machine.load(1);
    assert_eq!(takers(&machine, 40), [1]);
    assert!(machine.icv[2].signalled().is_none());
}

#[test]
fn write_of_the_same_targets_kicks_no_vcpu() {
    let mut machine = Machine::configured_of(V2, 3, 4);
    let kick = machine.vgic.set_line(spi(40), true);
    machine.kick(kick);
    for (targets, expected) in [(1, 0), (4, 0b001), (4, 0), (5, 0b100), (5, 0)] {
        machine.prompt = false;
        let write = Access::write(0x828, Byte, targets);
        let outcome = machine.execute(1, Distributor, &write);
        let kick = VcpuSet::from_bits(expected);
        assert_eq!(outcome, crate::MmioOutcome::Done { value: 0, kick });
        machine.settle();
    }
}

/// ICC_SGI1R_EL1 and the others do not exist.
#[test]
fn system_registers_generate_no_sgi() {
    let mut machine = Machine::configured_of(V2, 2, 4);
    for register in [SgiRegister::Sgi1r, SgiRegister::Sgi0r, SgiRegister::Asgi1r] {
        for value in [0xffff, 1 << 40] {
            machine.sgi(0, register, value);
        }
    }
    for vcpu in 0..2 {
        assert!(machine.icv[vcpu].signalled().is_none());
        assert_eq!(machine.read_word(vcpu, vcpu, 0x200, 0), 0);
        assert_eq!(machine.read(vcpu, Distributor, 0xf20), 0);
    }
}
