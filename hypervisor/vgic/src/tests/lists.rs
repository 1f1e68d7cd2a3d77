// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of list registers: their content, their synchronisation, and the results for the caller.

use super::harness::*;
use crate::{Hcr, IrqLine, Lr, MmioOutcome, SgiRegister, VcpuSet, Vgic, Vmcr, Window};
use postern_base::gic::GicVersion;
use postern_base::mmio::{Access, AccessSize};

fn spi(number: u32) -> IrqLine {
    IrqLine::spi(id(number)).unwrap()
}

#[test]
fn flush_without_pending_interrupts_uses_no_list_register() {
    let mut machine = Machine::configured(2, 4);
    let vmcr = Vmcr::from_bits(ENABLE_BOTH);
    machine.unload(0);
    let result = machine
        .vgic
        .flush(cpu(0), vmcr, &mut machine.icv[0].lrs[..]);
    assert_eq!((result.count, result.hcr), (0, Hcr::EN));
    assert!(!machine.vgic.needs_flush(cpu(0)));
    assert!(!machine.vgic.has_deliverable(cpu(0)));
}

/// An interrupt whose list register is not read back has the state that was loaded.
#[test]
fn lost_list_register_leaves_its_interrupt_pending() {
    let mut machine = Machine::configured(1, 4);
    for number in [3, 4] {
        machine.sgi(0, SgiRegister::Sgi1r, number << 24 | 1);
    }
    machine.icv[0].lrs[1] = Lr::EMPTY;
    machine.update(0);
    for number in [3, 4] {
        assert_eq!(machine.acknowledge(0), Some(id(number)));
        machine.end(0, id(number));
    }
    assert_eq!(machine.acknowledge(0), None);
}

#[test]
fn level_is_pending_after_its_end_only_while_high() {
    let mut machine = Machine::configured(1, 4);
    let kick = machine.vgic.set_line(spi(33), true);
    assert_eq!(kick, VcpuSet::only(cpu(0)));
    machine.kick(kick);
    for _ in 0..3 {
        assert_eq!(machine.acknowledge(0), Some(id(33)));
        assert_eq!(machine.acknowledge(0), None, "active and high");
        machine.end(0, id(33));
    }
    assert_eq!(machine.acknowledge(0), Some(id(33)));
    let kick = machine.vgic.set_line(spi(33), false);
    machine.kick(kick);
    assert!(!machine.icv[0].lrs[0].wants_eoi(), "unnecessary exit");
    machine.end(0, id(33));
    assert_eq!(machine.acknowledge(0), None);
    // The level falls before the interrupt is acknowledged.
    let kick = machine.vgic.set_line(spi(33), true);
    machine.kick(kick);
    assert!(machine.icv[0].signalled().is_some());
    let kick = machine.vgic.set_line(spi(33), false);
    machine.kick(kick);
    assert!(machine.icv[0].signalled().is_none());
}

#[test]
fn timer_is_linked_and_its_active_state_moves_with_the_vcpu() {
    let mut machine = Machine::configured(1, 4);
    machine.icv[0].timer_active = true;
    let kick = machine.vgic.timer_fired(cpu(0));
    machine.kick(kick);
    let lr = machine.icv[0].lrs[0];
    assert_eq!(lr.pintid(), Some(id(27)));
    // The vCPU moves to another pCPU while the timer is pending, and while it is active. `apply`
    // checks the physical active state.
    machine.unload(0);
    machine.load(0);
    assert_eq!(machine.acknowledge(0), Some(id(27)));
    machine.unload(0);
    machine.load(0);
    assert!(machine.icv[0].timer_active);
    machine.end(0, id(27));
    assert!(!machine.icv[0].timer_active);
    machine.unload(0);
    machine.load(0);
}

#[test]
fn timer_that_fires_before_its_end_is_synchronised_is_delivered_again() {
    let mut machine = Machine::configured(1, 4);
    machine.icv[0].timer_active = true;
    let kick = machine.vgic.timer_fired(cpu(0));
    machine.kick(kick);
    assert_eq!(machine.acknowledge(0), Some(id(27)));
    machine.icv[0].end(id(27));
    machine.icv[0].timer_active = true;
    let kick = machine.vgic.timer_fired(cpu(0));
    machine.kick(kick);
    assert_eq!(machine.acknowledge(0), Some(id(27)));
    machine.end(0, id(27));
    assert_eq!(machine.acknowledge(0), None);
}

#[test]
fn cleared_or_withdrawn_timer_is_deactivated_by_the_caller() {
    // A pending or active timer is cleared by its vCPU or by another one. Below, the timer
    // withdraws its interrupt.
    for by in [0, 1] {
        for taken in [false, true] {
            let mut machine = Machine::configured(2, 4);
            machine.icv[0].timer_active = true;
            let kick = machine.vgic.timer_fired(cpu(0));
            machine.kick(kick);
            if taken {
                assert_eq!(machine.acknowledge(0), Some(id(27)));
            }
            let register = if taken { 0x380 } else { 0x280 };
            machine.write_word(by, 0, register, 0, 1 << 27);
            assert!(!machine.icv[0].timer_active);
            assert!(machine.icv[0].signalled().is_none());
        }
    }
    let mut machine = Machine::configured(1, 4);
    machine.icv[0].timer_active = true;
    let kick = machine.vgic.timer_fired(cpu(0));
    machine.kick(kick);
    let kick = machine.vgic.timer_withdrawn(cpu(0));
    machine.kick(kick);
    assert!(!machine.icv[0].timer_active);
}

#[test]
fn active_timer_set_pending_by_the_guest_is_delivered_twice() {
    let mut machine = Machine::configured(1, 4);
    machine.icv[0].timer_active = true;
    let kick = machine.vgic.timer_fired(cpu(0));
    machine.kick(kick);
    assert_eq!(machine.acknowledge(0), Some(id(27)));
    machine.write_word(0, 0, 0x200, 0, 1 << 27);
    assert!(!machine.icv[0].lrs[0].is_linked());
    machine.end(0, id(27));
    assert_eq!(machine.acknowledge(0), Some(id(27)));
    machine.end(0, id(27));
    assert_eq!(machine.acknowledge(0), None);
    assert!(!machine.icv[0].timer_active);
}

#[test]
fn interrupts_beyond_the_list_registers_are_delivered_by_priority() {
    for lrs in 1..=4 {
        let mut machine = Machine::configured(1, lrs);
        let order: Vec<u32> = (0..12).map(|n| 40 + (n * 7) % 12).collect();
        for (rank, number) in order.iter().enumerate() {
            let offset = 0x400 + u64::from(number & !3);
            let shift = 8 * (number & 3);
            let mut word = machine.read(0, Window::Distributor, offset);
            word = word & !(0xff << shift) | (8 * rank as u32) << shift;
            machine.write(0, Window::Distributor, offset, word);
        }
        for number in (40..52).rev() {
            machine.write_word(0, 0, 0xc00 + 4, 1, 0); // level, one by one below
            let kick = machine.vgic.set_line(spi(number), true);
            machine.kick(kick);
        }
        assert!(machine.icv[0].hcr.contains(Hcr::NPIE), "{lrs}");
        for number in order {
            assert_eq!(machine.acknowledge(0), Some(id(number)), "{lrs} LRs");
            let kick = machine.vgic.set_line(spi(number), false);
            machine.kick(kick);
            machine.end(0, id(number));
        }
        assert_eq!(machine.acknowledge(0), None);
        assert_eq!(machine.icv[0].hcr, Hcr::EN);
    }
}

#[test]
fn nested_active_interrupts_without_list_registers_end_in_order() {
    for lrs in 1..=4 {
        let mut machine = Machine::configured(1, lrs);
        let priorities = [0xa0, 0x80, 0x60, 0x40, 0x20, 0x00];
        for (sgi, priority) in priorities.iter().enumerate() {
            let frame = 0x1_0000 + 0x400 + sgi as u64;
            let access = postern_base::mmio::Access::write(
                frame,
                postern_base::mmio::AccessSize::Byte,
                *priority,
            );
            machine.access(0, Window::Redistributors, access);
            machine.sgi(0, SgiRegister::Sgi1r, (sgi as u64) << 24 | 1);
            assert_eq!(machine.acknowledge(0), Some(id(sgi as u32)));
        }
        // A pending interrupt must have a list register, so one more active interrupt has none.
        machine.write_word(0, 0, 0x200, 1, 1);
        let mut expected = 0x3f;
        for sgi in (0..priorities.len() as u32).rev() {
            assert_eq!(machine.read_word(0, 0, 0x300, 0), expected, "{lrs} LRs");
            machine.end(0, id(sgi));
            expected &= !(1 << sgi);
        }
        assert_eq!(machine.read_word(0, 0, 0x300, 0), 0);
        assert_eq!(machine.acknowledge(0), Some(id(32)));
        machine.end(0, id(32));
        assert_eq!(machine.icv[0].eoi_count, 0);
    }
}

#[test]
fn interrupt_active_on_another_vcpu_has_no_list_register_on_the_former() {
    for forced in [false, true] {
        let mut machine = Machine::configured(2, 1);
        if forced {
            machine.write_word(1, 0, 0x300, 1, 1);
            machine.unload(0);
            machine.write_word(1, 0, 0x380, 1, 1);
            machine.load(0);
        } else {
            // The interrupt has no list register when it is ended.
            machine.write_word(0, 0, 0x200, 1, 1);
            assert_eq!(machine.acknowledge(0), Some(id(32)));
            machine.sgi(0, SgiRegister::Sgi1r, 1);
            machine.end(0, id(32));
            assert_eq!(machine.acknowledge(0), Some(id(0)));
            machine.end(0, id(0));
        }
        machine.write(0, Window::Distributor, 0x6100, 1);
        machine.write_word(0, 0, 0x200, 1, 1);
        assert_eq!(machine.acknowledge(1), Some(id(32)));
        machine.unload(1);
        machine.update(0);
        assert!(!machine.icv[0].lrs[0].is_valid());
    }
}

#[test]
fn acknowledged_interrupt_is_counted_after_earlier_isactiver_writes() {
    let mut machine = Machine::configured(1, 1);
    machine.write_word(0, 0, 0x300, 1, 1);
    machine.write_word(0, 0, 0x380, 1, 1);
    machine.write_word(0, 0, 0x200, 1, 1);
    assert_eq!(machine.acknowledge(0), Some(id(32)));
    machine.sgi(0, SgiRegister::Sgi1r, 1);
    machine.end(0, id(32));
    assert_eq!(machine.read_word(0, 0, 0x300, 1), 0);
}

#[test]
fn group_disabled_in_the_interface_does_not_hide_the_other_group() {
    let mut machine = Machine::configured(1, 1);
    machine.icv[0].vmcr = 0xf0 << 24 | 2; // Group 1 only
    machine.write_word(0, 0, 0x80, 0, !1); // SGI 0 in Group 0
    machine.write(0, Window::Redistributors, 0x1_0400, 0xa0a0_a000); // and urgent
    machine.sgi(0, SgiRegister::Sgi0r, 1);
    machine.sgi(0, SgiRegister::Sgi1r, 1 << 24 | 1);
    assert_eq!(machine.icv[0].hcr, Hcr::EN | Hcr::VGRP0EIE);
    assert_eq!(
        machine.icv[0].signalled().and_then(|lr| lr.vintid()),
        Some(id(1))
    );
    machine.icv[0].vmcr |= 1;
    machine.settle();
    assert_eq!(
        machine.icv[0].signalled().and_then(|lr| lr.vintid()),
        Some(id(0))
    );
    machine.icv[0].vmcr &= !1;
    machine.settle();
    assert_eq!(machine.acknowledge(0), Some(id(1)));
}

#[test]
fn spi_follows_its_route() {
    let mut machine = Machine::configured(2, 4);
    machine.write_word(0, 0, 0x200, 1, 1);
    assert!(machine.icv[0].signalled().is_some());
    // Pending in a list register of vCPU 0.
    machine.write(0, Window::Distributor, 0x6100, 1);
    assert!(machine.icv[0].signalled().is_none());
    assert!(machine.icv[1].signalled().is_some());
    // Active on vCPU 1, pending again, and routed back: vCPU 0 gets it only after its end.
    assert_eq!(machine.acknowledge(1), Some(id(32)));
    machine.write_word(0, 0, 0x200, 1, 1);
    machine.write(0, Window::Distributor, 0x6100, 0);
    assert!(machine.icv[0].signalled().is_none());
    machine.end(1, id(32));
    assert!(machine.icv[1].signalled().is_none());
    assert_eq!(machine.acknowledge(0), Some(id(32)));
}

#[test]
fn spi_routed_to_any_vcpu_goes_to_one_that_is_on() {
    let mut machine = Machine::configured(3, 4);
    machine.write(0, Window::Distributor, 0x6100, 1 << 31);
    machine.write(0, Window::Distributor, 0x6108, 1);
    machine.write_word(2, 0, 0x200, 1, 3);
    assert!(machine.icv[0].signalled().is_some());
    assert!(machine.icv[1].signalled().is_some());
    for off in [0, 1] {
        machine.unload(off);
        let kick = machine.vgic.vcpu_off(cpu(off));
        machine.kick(kick);
    }
    assert_eq!(machine.acknowledge(2), Some(id(32)));
    machine.end(2, id(32));
    assert_eq!(machine.acknowledge(2), None, "33 is for vCPU 1 only");
    let kick = machine.vgic.vcpu_on(cpu(1));
    assert!(kick.contains(cpu(1)));
    machine.load(1);
    assert_eq!(machine.acknowledge(1), Some(id(33)));
}

#[test]
fn separate_deactivation_works_on_any_vcpu() {
    let mut machine = Machine::configured(2, 2);
    for icv in &mut machine.icv {
        icv.vmcr |= SPLIT;
    }
    machine.update(0);
    machine.update(1);
    machine.write_word(0, 0, 0x200, 1, 0xff);
    for number in 32..40 {
        assert_eq!(machine.acknowledge(0), Some(id(number)));
        machine.end(0, id(number));
    }
    assert_eq!(machine.read_word(1, 0, 0x300, 1), 0xff);
    for number in 32..40 {
        machine.deactivate(number as usize % 2, id(number));
    }
    assert_eq!(machine.read_word(1, 0, 0x300, 1), 0);
}

#[test]
fn read_waits_once_per_vcpu_and_then_completes() {
    let mut machine = Machine::configured(3, 4);
    machine.prompt = false;
    machine.write(0, Window::Distributor, 0x6100, 1);
    machine.write(0, Window::Distributor, 0x6108, 2);
    machine.write_word(0, 0, 0x200, 1, 3);
    machine.settle();
    assert_eq!(machine.icv[1].acknowledge(), Some(id(32)));
    assert_eq!(machine.icv[2].acknowledge(), Some(id(33)));
    // `access` panics after 20 executions. The other vCPUs have the interrupts all the time.
    assert_eq!(machine.read_word(0, 0, 0x300, 1), 3);
    machine.icv[1].end(id(32));
    assert_eq!(machine.read_word(0, 0, 0x300, 1), 2);
    assert_eq!(machine.read_word(0, 0, 0x200, 1), 0);
}

#[test]
fn rwp_is_set_until_the_other_vcpu_is_synchronised() {
    let mut machine = Machine::configured(2, 4);
    machine.prompt = false;
    machine.write(0, Window::Distributor, 0x6100, 1);
    machine.write_word(0, 0, 0x200, 1, 1);
    machine.settle();
    machine.write_word(0, 0, 0x180, 1, 1);
    assert_eq!(machine.read(0, Window::Distributor, 0), 1 << 31 | 0x53);
    machine.settle();
    assert_eq!(machine.read(0, Window::Distributor, 0), 0x53);
    assert!(machine.icv[1].signalled().is_none());
}

#[test]
fn has_deliverable_follows_group_and_priority_mask() {
    let mut machine = Machine::configured(2, 4);
    machine.unload(0);
    machine.unload(1);
    assert!(!machine.vgic.has_deliverable(cpu(1)));
    let kick = machine.vgic.send_sgi(cpu(0), SgiRegister::Sgi1r, 1 << 40);
    assert_eq!(kick, VcpuSet::only(cpu(1)));
    assert!(machine.vgic.has_deliverable(cpu(1)));
    for (vmcr, expected) in [
        (0xf0 << 24 | 2, true),
        (0xa8 << 24 | 2, true),
        (0xa0 << 24 | 2, false),
        (0xf0 << 24 | 1, false),
    ] {
        let vmcr = Vmcr::from_bits(vmcr);
        assert_eq!(machine.vgic.has_deliverable_through(cpu(1), vmcr), expected);
    }
    // The interrupt is now in Group 0.
    machine.write_word(0, 1, 0x80, 0, 0);
    for (groups, expected) in [(1, true), (2, false)] {
        let vmcr = Vmcr::from_bits(0xf0 << 24 | groups);
        assert_eq!(machine.vgic.has_deliverable_through(cpu(1), vmcr), expected);
    }
    machine.vgic.reset();
    assert!(!machine.vgic.has_deliverable(cpu(1)));
    assert!(!machine.vgic.needs_flush(cpu(1)));
}

/// Another vCPU may have acknowledged the interrupt already. A waiting vCPU is woken when the
/// other one is synchronised.
#[test]
fn interrupt_in_another_vcpus_list_register_is_not_deliverable() {
    let mut machine = Machine::configured(2, 4);
    machine.prompt = false;
    let kick = machine.vgic.set_line(spi(32), true);
    machine.kick(kick);
    machine.settle();
    machine.unload(1);
    machine.write(0, Window::Distributor, 0x6100, 1);
    // vCPU 0 made the write and was synchronised for it, so it no longer holds the interrupt.
    assert!(machine.vgic.has_deliverable(cpu(1)));
    machine.load(1);
    machine.unload(0);
    let route = Access::write(0x6100, AccessSize::Word, 0);
    let outcome = machine.vgic.access(cpu(0), Window::Distributor, &route);
    let kick = VcpuSet::only(cpu(1));
    assert_eq!(outcome, MmioOutcome::Done { value: 0, kick });
    assert!(!machine.vgic.has_deliverable(cpu(0)));
    machine.update(1);
    assert!(machine.vgic.has_deliverable(cpu(0)));
}

#[test]
fn vcpu_turned_on_has_reset_private_interrupts() {
    let mut machine = Machine::configured(2, 4);
    machine.sgi(0, SgiRegister::Sgi1r, 2);
    machine.unload(1);
    let _ = machine.vgic.vcpu_off(cpu(1));
    assert!(
        machine
            .vgic
            .send_sgi(cpu(0), SgiRegister::Sgi1r, 2)
            .is_empty()
    );
    let _ = machine.vgic.vcpu_on(cpu(1));
    machine.load(1);
    assert!(!machine.vgic.has_deliverable(cpu(1)));
    assert_eq!(machine.read_word(0, 1, 0x100, 0), 0);
}

#[test]
fn absent_vcpu_has_no_effect() {
    let vgic = Vgic::new(1, GicVersion::V3);
    assert!(
        vgic.send_sgi(cpu(7), SgiRegister::Sgi1r, u64::MAX)
            .is_empty()
    );
    assert!(vgic.vcpu_off(cpu(7)).is_empty());
    assert!(!vgic.has_deliverable(cpu(7)));
}
