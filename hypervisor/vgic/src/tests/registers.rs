// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of the access rules of each register.

use super::harness::*;
use crate::{REDISTRIBUTOR_SIZE, Vgic, Window::*};
use postern_base::mmio::{Access, AccessSize::*};

const SGI_BASE: u64 = 0x1_0000;

#[test]
fn fixed_registers_read_as_specified() {
    let mut machine = Machine::new(3, 4);
    let second = REDISTRIBUTOR_SIZE;
    for (window, offset, size, expected) in [
        (Distributor, 0x0000, Word, 0x50),        // CTLR: DS, ARE
        (Distributor, 0x0004, Word, 0x0048_0008), // TYPER
        (Distributor, 0x0008, Word, 0x5000_043b), // IIDR
        (Distributor, 0x000c, Word, 0),           // TYPER2
        (Distributor, 0x0010, Word, 0),           // STATUSR
        (Distributor, 0xffe8, Word, 0x3b),        // PIDR2
        (Distributor, 0x0000, Double, 0),         // wrong width
        (Distributor, 0x0004, Half, 0),
        (Distributor, 0x0008, Half, 0),
        (Distributor, 0xffe8, Double, 0),
        (Distributor, 0x0006, Word, 0),    // misaligned
        (Redistributors, 0x0000, Word, 0), // CTLR
        (Redistributors, 0x0004, Word, 0x5000_043b),
        (Redistributors, 0x0008, Double, 0), // TYPER of vCPU 0
        (Redistributors, second + 0x0008, Double, 1 << 32 | 1 << 8),
        (Redistributors, second + 0x0008, Word, 1 << 8),
        (Redistributors, second + 0x000c, Word, 1),
        (Redistributors, 0x0004, Half, 0), // wrong width
        (Redistributors, second + 0x0008, Half, 0),
        (Redistributors, second + 0x000c, Half, 0),
        (Redistributors, 0xffe8, Double, 0),
        (
            Redistributors,
            2 * second + 0x0008,
            Double,
            2 << 32 | 2 << 8 | 1 << 4,
        ), // Last
        (Redistributors, 2 * second + 0xffe8, Word, 0x3b),
        (Redistributors, 0x0014, Word, 0),   // WAKER
        (Redistributors, 0x0070, Double, 0), // PROPBASER
        (Redistributors, SGI_BASE + 0x0c00, Word, 0xaaaa_aaaa), // SGIs are edges
        (Redistributors, 3 * second + 0x0008, Double, 0), // no such vCPU
        (Redistributors, u64::MAX - 7, Double, 0),
        (Distributor, u64::MAX - 7, Double, 0),
    ] {
        let read = machine.access(0, window, Access::read(offset, size));
        assert_eq!(read, expected, "{window:?} {offset:#x} {size:?}");
    }
}

/// A read that needs no state of the list registers does not read them back: that would cost more
/// than the rest of the exit (docs/performance.md, GICD_TYPER).
#[test]
fn writes_and_reads_of_pending_and_active_bits_need_a_sync() {
    for (offset, state) in [
        (0x0000, false), // CTLR
        (0x0004, false), // TYPER
        (0x0100, false), // ISENABLER
        (0x01fc, false), // ICENABLER, the last
        (0x0200, true),  // ISPENDR
        (0x0280, true),  // ICPENDR
        (0x0300, true),  // ISACTIVER
        (0x03fc, true),  // ICACTIVER, the last
        (0x0400, false), // IPRIORITYR
        (0x6100, false), // IROUTER
        (SGI_BASE + 0x0100, false),
        (SGI_BASE + 0x0200, true),
        (SGI_BASE + 0x03fc, true),
        (SGI_BASE + 0x0400, false),
    ] {
        let read = Access::read(offset, Word);
        assert_eq!(Vgic::needs_sync(&read), state, "{offset:#x}");
        let write = Access::write(offset, Word, 0);
        assert!(Vgic::needs_sync(&write), "{offset:#x}");
    }
}

/// Registers that keep the written value in their implemented bits.
#[test]
fn registers_keep_their_implemented_bits() {
    let mut machine = Machine::new(2, 4);
    let second = REDISTRIBUTOR_SIZE + SGI_BASE;
    for (window, offset, kept) in [
        (Distributor, 0x0000, 0x0000_0003), // CTLR: the group enables
        (Distributor, 0x0080, 0),           // IGROUPR0: in the redistributor
        (Distributor, 0x0084, u32::MAX),
        (Distributor, 0x00a0, u32::MAX), // SPIs up to 287
        (Distributor, 0x00a4, 0),        // none there
        (Distributor, 0x041c, 0),        // IPRIORITYR of private ones
        (Distributor, 0x0420, 0xf8f8_f8f8),
        (Distributor, 0x051c, 0xf8f8_f8f8),
        (Distributor, 0x0520, 0),
        (Distributor, 0x0820, 0), // ITARGETSR
        (Distributor, 0x0c04, 0), // ICFGR of PPIs
        (Distributor, 0x0c08, 0xaaaa_aaaa),
        (Distributor, 0x0c44, 0xaaaa_aaaa),
        (Distributor, 0x0c48, 0),
        (Distributor, 0x0d04, 0), // IGRPMODR
        (Distributor, 0x0e08, 0), // NSACR
        (Distributor, 0x0f00, 0), // SGIR
        (Distributor, 0x60f8, 0), // IROUTER of private ones
        (Distributor, 0x6100, 0x80ff_ffff),
        (Distributor, 0x6104, 0), // Aff3
        (Distributor, 0x68f8, 0x80ff_ffff),
        (Distributor, 0x6900, 0),
        (Distributor, 0x0004, 0),
        (Redistributors, 0x0000, 0),
        (Redistributors, 0x0014, 0),
        (Redistributors, 0x0070, 0),
        (Redistributors, second + 0x0080, u32::MAX),
        (Redistributors, second + 0x0084, 0),
        (Redistributors, second + 0x0400, 0xf8f8_f8f8),
        (Redistributors, second + 0x041c, 0xf8f8_f8f8),
        (Redistributors, second + 0x0420, 0),
        (Redistributors, second + 0x0c04, 0xaaaa_aaaa),
        (Redistributors, second + 0x0d00, 0),
        (Redistributors, second + 0x0e00, 0),
    ] {
        let fixed = machine.read(0, window, offset);
        for pattern in [u32::MAX, 0x5a69_0ff0, 0] {
            machine.write(0, window, offset, pattern);
            let expected = fixed & !kept | pattern & kept;
            for reader in [1, 0] {
                let read = machine.read(reader, window, offset);
                assert_eq!(read, expected, "{window:?} {offset:#x} {pattern:#x}");
            }
        }
        machine.write(0, window, offset, fixed);
    }
    assert_eq!(
        machine.read(0, Redistributors, SGI_BASE + 0x0400),
        0,
        "the register of vCPU 0 does not change"
    );
}

/// Pairs of registers that set and clear the same bits, and read as the same value.
#[test]
fn set_and_clear_registers_read_the_same_state() {
    let mut machine = Machine::new(2, 4);
    let second = REDISTRIBUTOR_SIZE + SGI_BASE;
    for (window, set, clear, kept) in [
        (Distributor, 0x0100, 0x0180, 0),
        (Distributor, 0x0104, 0x0184, u32::MAX),
        (Distributor, 0x0120, 0x01a0, u32::MAX),
        (Distributor, 0x0124, 0x01a4, 0),
        (Distributor, 0x0200, 0x0280, 0),
        (Distributor, 0x0208, 0x0288, u32::MAX),
        (Distributor, 0x0300, 0x0380, 0),
        (Distributor, 0x0320, 0x03a0, u32::MAX),
        (Distributor, 0x0324, 0x03a4, 0),
        (Redistributors, second + 0x0100, second + 0x0180, u32::MAX),
        (Redistributors, second + 0x0200, second + 0x0280, u32::MAX),
        (Redistributors, second + 0x0300, second + 0x0380, u32::MAX),
        (Redistributors, second + 0x0304, second + 0x0384, 0),
    ] {
        for (offset, value, expected) in [
            (set, 0, 0),
            (set, 0xf00f_1234, 0xf00f_1234),
            (set, 0x0ff0_0000, 0xffff_1234),
            (clear, 0x00ff_0030, 0xff00_1204),
            (clear, u32::MAX, 0),
        ] {
            machine.write(0, window, offset, value);
            for offset in [set, clear] {
                let read = machine.read(1, window, offset);
                assert_eq!(read, expected & kept, "{window:?} {offset:#x}");
            }
        }
    }
}

/// A write to the configuration of the SGIs changes neither it, as it is fixed, nor that of the
/// PPIs in the same word.
#[test]
fn sgi_configuration_write_changes_neither_sgis_nor_ppis() {
    let mut machine = Machine::new(1, 4);
    let (sgis, ppis) = (SGI_BASE + 0x0c00, SGI_BASE + 0x0c04);
    for value in [0xaaaa_aaaa, 0x2222_8888, 0] {
        machine.write(0, Redistributors, ppis, value);
        machine.write(0, Redistributors, sgis, 0x8080_0202);
        assert_eq!(machine.read(0, Redistributors, sgis), 0xaaaa_aaaa);
        assert_eq!(machine.read(0, Redistributors, ppis), value);
    }
}

#[test]
fn access_of_unsupported_width_has_no_effect() {
    let mut machine = Machine::new(1, 4);
    // Priorities are accessed by byte and by word, not by halfword.
    for (access, expected) in [
        (Access::write(0x0421, Byte, 0xab), 0x0000_a800),
        (Access::write(0x0423, Byte, 0xff), 0xf800_a800),
        (Access::write(0x0422, Half, 0x1111), 0xf800_a800),
        (Access::write(0x0420, Double, 0), 0xf800_a800),
    ] {
        machine.access(0, Distributor, access);
        assert_eq!(machine.read(0, Distributor, 0x0420), expected);
    }
    assert_eq!(
        machine.access(0, Distributor, Access::read(0x0423, Byte)),
        0xf8
    );
    assert_eq!(
        machine.access(0, Distributor, Access::read(0x0422, Half)),
        0
    );
    // Routes are accessed by word and by doubleword; the upper half is zero.
    let all = Access::write(0x6108, Double, u64::MAX);
    machine.access(0, Distributor, all);
    assert_eq!(
        machine.access(0, Distributor, Access::read(0x6108, Double)),
        0x80ff_ffff
    );
    machine.write(0, Distributor, 0x610c, 7);
    machine.write(0, Distributor, 0x6108, 1);
    assert_eq!(
        machine.access(0, Distributor, Access::read(0x6108, Double)),
        1
    );
    assert_eq!(
        machine.access(0, Distributor, Access::read(0x6108, Half)),
        0
    );
    // All other registers are accessed by word only.
    for size in [Byte, Half, Double] {
        machine.access(0, Distributor, Access::write(0x0108, size, u64::MAX));
        machine.access(0, Distributor, Access::write(0x0c08, size, u64::MAX));
        machine.access(0, Distributor, Access::write(0x0000, size, u64::MAX));
    }
    assert_eq!(machine.read(0, Distributor, 0x0108), 0);
    assert_eq!(machine.read(0, Distributor, 0x0c08), 0);
    assert_eq!(machine.read(0, Distributor, 0x0000), 0x50);
}

#[test]
fn clear_pending_clears_a_latch_but_not_a_level() {
    let mut machine = Machine::configured(1, 4);
    let line = crate::IrqLine::spi(id(40)).unwrap();
    let kick = machine.vgic.set_line(line, true);
    machine.kick(kick);
    machine.write_word(0, 0, 0x280, 1, 1 << 8);
    assert_eq!(machine.read_word(0, 0, 0x200, 1), 1 << 8);
    let kick = machine.vgic.set_line(line, false);
    machine.kick(kick);
    assert_eq!(machine.read_word(0, 0, 0x200, 1), 0);
    machine.write_word(0, 0, 0x200, 1, 1 << 8);
    assert_eq!(machine.read_word(0, 0, 0x280, 1), 1 << 8);
    machine.write_word(0, 0, 0x280, 1, 1 << 8);
    assert!(machine.icv[0].signalled().is_none());
}

/// The targets, among four vCPUs, of values that vCPU 1 writes to ICC_SGI1R_EL1, ICC_SGI0R_EL1 and
/// ICC_ASGI1R_EL1.
#[test]
fn sgi_goes_to_its_targets() {
    use crate::SgiRegister::*;
    for (register, value, expected) in [
        (Sgi1r, 3 << 24 | 0b0101, 0b0101),
        (Sgi1r, 3 << 24 | 0b0010, 0b0010), // itself
        (Sgi1r, 3 << 24 | 0xffff, 0b1111),
        (Sgi1r, 3 << 24 | 1 << 40, 0b1101), // IRM
        (Sgi1r, 3 << 24 | 1 << 40 | 0xffff, 0b1101),
        (Sgi1r, 3 << 24 | 1 << 16 | 0xf, 0), // Aff1
        (Sgi1r, 3 << 24 | 1 << 32 | 0xf, 0), // Aff2
        (Sgi1r, 3 << 24 | 1 << 48 | 0xf, 0), // Aff3
        (Sgi1r, 3 << 24 | 1 << 44 | 0xf, 0), // RS
        (Sgi1r, 2 << 24 | 0b1000, 0b1000),   // of Group 0: either
        (Sgi0r, 3 << 24 | 0xf, 0),
        (Sgi0r, 2 << 24 | 0xf, 0b1111),
        (Asgi1r, 3 << 24 | 0xf, 0),
        (Asgi1r, 2 << 24 | 0xf, 0b1111),
    ] {
        let mut machine = Machine::configured(4, 4);
        for of in 0..4 {
            machine.write_word(0, of, 0x80, 0, !4);
        }
        machine.sgi(1, register, value);
        let intid = (value >> 24 & 0xf) as u32;
        for vcpu in 0..4 {
            let taken = machine.icv[vcpu].signalled().and_then(|lr| lr.vintid());
            let wanted = (expected >> vcpu & 1 == 1).then(|| id(intid));
            assert_eq!(taken, wanted, "{register:?} {value:#x} at {vcpu}");
        }
    }
}
