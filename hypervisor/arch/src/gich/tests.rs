// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Registers by their offsets in IHI 0048B.b, table 5-2, which are numbers here so that a wrong one is not repeated.

use super::*;
use mediator::addr::Pa;
use postern_base::ticks::Ticks;
use std::cell::RefCell;
use std::collections::BTreeMap;

const BASE: u64 = 0x0803_0000;

struct Model(RefCell<BTreeMap<u64, u32>>);

impl Bus for &Model {
    fn read(&self, at: Pa) -> u32 {
        self.0.borrow()[&(at.get() - BASE)]
    }

    fn write(&self, at: Pa, value: u32) {
        let offset = at.get() - BASE;
        // GICH_HCR's reserved bits.
        assert!(offset != 0 || value & !0xf800_00ff == 0);
        self.0.borrow_mut().insert(offset, value);
    }

    fn write_byte(&self, _at: Pa, _value: u8) {
        panic!("these registers have no bytes");
    }

    fn read_double(&self, _at: Pa) -> u64 {
        panic!("these registers have 32 bits");
    }

    fn write_double(&self, _at: Pa, _value: u64) {
        panic!("these registers have 32 bits");
    }

    fn now(&self) -> Ticks {
        Ticks::ZERO
    }

    fn second(&self) -> Ticks {
        Ticks::ZERO
    }
}

#[test]
fn list_registers_are_as_many_as_vtr_says() {
    // The GIC-400 of ZCU102 and QEMU; a GIC with one; the most that the field can say.
    for (vtr, count) in [(0x9000_0003, 4), (0, 1), (0xf, 16), (0x3f, 16)] {
        let model = Model(RefCell::new([(4, vtr)].into()));
        assert_eq!(
            Gich::new(&model, InterfaceBase::new(BASE).unwrap()).list_registers(),
            count,
            "{vtr:#x}"
        );
    }
}

#[test]
fn registers_are_at_their_offsets() {
    let values = [
        (0x00, 0x0800_0001),
        (0x08, 0xf800_0001),
        (0x10, 4),
        (0xf0, 0x10),
        (0x100, 5),
        (0x10c, 6),
    ];
    let model = Model(RefCell::new(values.into()));
    let gich = Gich::new(&model, InterfaceBase::new(BASE).unwrap());
    assert_eq!(gich.hcr(), 0x0800_0001);
    assert_eq!(gich.vmcr(), 0xf800_0001);
    assert_eq!(gich.misr(), 4);
    assert_eq!(gich.active_priorities(), 0x10);
    assert_eq!((gich.read_lr(0), gich.read_lr(3)), (5, 6));
    // ICH_HCR_EL2's TC and TDIR have no place here.
    gich.set_hcr(0x4405);
    gich.set_vmcr(7);
    gich.set_active_priorities(8);
    gich.write_lr(0, 9);
    gich.write_lr(3, 10);
    let expected = [
        (0, 5),
        (8, 7),
        (0x10, 4),
        (0xf0, 8),
        (0x100, 9),
        (0x10c, 10),
    ];
    assert_eq!(*model.0.borrow(), expected.into());
}
