// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of INTIDs, inputs and vCPU sets, and of the bits of a list register.

use super::harness::*;
use crate::{INTIDS, IntId, IrqLine, Lr, VcpuSet};

#[test]
fn irq_line_accepts_spis_and_ppis_except_the_virtual_timer() {
    for number in 0..u32::from(INTIDS) {
        let intid = id(number);
        assert_eq!(intid.get(), number);
        assert_eq!(intid.is_sgi(), number < 16);
        assert_eq!(intid.is_private(), number < 32);
        let is_ppi = (16..32).contains(&number) && number != 27;
        assert_eq!(IrqLine::ppi(cpu(1), intid).is_some(), is_ppi, "{number}");
        assert_eq!(IrqLine::spi(intid).is_some(), number >= 32, "{number}");
    }
    assert_eq!(IntId::new(INTIDS.into()), None);
}

#[test]
fn vcpu_set_operations_match_their_bits() {
    let set = VcpuSet::only(cpu(7)).union(VcpuSet::only(cpu(2)));
    assert_eq!(set, VcpuSet::from_bits(0x84));
    assert!(set.iter().eq([cpu(2), cpu(7)]));
    assert!(set.contains(cpu(7)) && !set.contains(cpu(0)));
    assert_eq!(set.without(cpu(2)), VcpuSet::only(cpu(7)));
    assert_eq!(set.without(cpu(0)), set);
    assert_eq!(
        set.intersection(VcpuSet::from_bits(0x7f)),
        VcpuSet::only(cpu(2))
    );
    assert!(!set.is_empty() && VcpuSet::EMPTY.is_empty());
    assert_eq!(VcpuSet::EMPTY.iter().next(), None);
}

/// ICH_LR<n>_EL2 (IHI 0069H 12.4.9).
#[test]
fn list_register_fields_are_at_their_architectural_bits() {
    const STATE: [u64; 4] = [0, 1 << 62, 1 << 63, 3 << 62];
    for (index, state) in STATE.into_iter().enumerate() {
        let (pending, active) = (index & 1 == 1, index & 2 == 2);
        let lr = Lr::new(id(287), 0xa8, true)
            .with_pending(pending)
            .with_active(active)
            .with_eoi(true);
        assert_eq!(lr.bits(), state | 1 << 60 | 0xa8 << 48 | 1 << 41 | 287);
        assert_eq!(lr, Lr::from_bits(lr.bits()));
        assert_eq!((lr.is_pending(), lr.is_active()), (pending, active));
        assert_eq!(lr.is_valid(), pending || active);
        assert_eq!((lr.vintid(), lr.pintid()), (Some(id(287)), None));
        assert!(lr.is_group1() && lr.wants_eoi() && !lr.is_linked());
        assert_eq!(lr.priority(), 0xa8);
    }
    // A linked list register has a physical INTID where the others have the EOI bit.
    let lr = Lr::new(id(27), 0x80, false).with_eoi(true).linked(id(27));
    assert_eq!(lr.bits(), 1 << 61 | 0x80 << 48 | 27 << 32 | 27);
    assert_eq!((lr.vintid(), lr.pintid()), (Some(id(27)), Some(id(27))));
    assert!(lr.is_linked() && !lr.wants_eoi() && !lr.is_group1() && !lr.is_valid());
    let extended = Lr::from_bits(1 << 61 | 0x1fff << 32 | u64::from(INTIDS));
    assert_eq!((extended.vintid(), extended.pintid()), (None, None));
}

/// GICH_LR<n> (IHI 0048B.b 5.3).
#[test]
fn gich_list_register_fields_are_at_their_architectural_bits() {
    let pending = Lr::new(id(5), 0xa8, false).with_pending(true);
    for (lr, bits) in [
        (Lr::EMPTY, 0),
        (pending, 1 << 28 | 0x15 << 23 | 5),
        (pending.with_active(true), 3 << 28 | 0x15 << 23 | 5),
        (
            Lr::new(id(287), 0xf8, true).with_active(true),
            1 << 30 | 2 << 28 | 0x1f << 23 | 287,
        ),
        (
            pending.with_source(cpu(7)).with_eoi(true),
            1 << 28 | 0x15 << 23 | 1 << 19 | 7 << 10 | 5,
        ),
        (
            pending.with_source(cpu(1)),
            1 << 28 | 0x15 << 23 | 1 << 10 | 5,
        ),
        (
            Lr::new(id(27), 0x80, false)
                .linked(id(27))
                .with_pending(true),
            1 << 31 | 1 << 28 | 0x10 << 23 | 27 << 10 | 27,
        ),
    ] {
        assert_eq!(lr.to_gich(), bits, "{lr:?}");
        assert_eq!(Lr::from_gich(bits), lr, "{bits:#x}");
    }
}

/// All 32 bits but the reserved ones survive.
#[test]
fn gich_list_register_survives_in_the_common_format() {
    for bit in 0..32 {
        for bits in [1 << bit, !(1_u32 << bit)] {
            let kept = bits & !(7 << 20);
            assert_eq!(Lr::from_gich(bits).to_gich(), kept, "{bits:#x}");
        }
    }
}

#[test]
fn source_is_a_field_of_entries_that_are_not_linked() {
    for vcpu in 0..8 {
        let lr = Lr::new(id(3), 0x80, false)
            .with_source(cpu(7))
            .with_source(cpu(vcpu));
        assert_eq!(lr.source(), Some(cpu(vcpu)));
        let linked = lr.linked(id(27));
        assert_eq!((linked.source(), linked.pintid()), (None, Some(id(27))));
    }
}
