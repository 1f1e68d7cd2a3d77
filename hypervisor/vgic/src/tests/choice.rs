// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of the choice of interrupts for list registers, and of the maintenance interrupts and
//! traps that they need. Each unnecessary one costs an exit.

use super::harness::*;
use crate::{Hcr, Lr, SgiRegister, Window};

/// Only an interrupt that may be pending again at its end, without a further event, needs an EOI
/// maintenance interrupt.
#[test]
fn edge_requests_eoi_only_when_pending_outside_its_list_register() {
    // An SGI, a PPI, and two SPIs, one of them at the bit of the timer in another word.
    for intid in [3, 20, 40, 59] {
        let mut machine = Machine::configured(1, 4);
        let word = intid as usize / 32;
        let wants_eoi = |machine: &Machine| {
            let [lr, rest @ ..] = &machine.icv[0].lrs[..] else {
                unreachable!()
            };
            assert_eq!(lr.vintid(), Some(id(intid)));
            assert!(lr.is_valid() && rest.iter().all(|lr| *lr == Lr::EMPTY));
            lr.wants_eoi()
        };
        machine.write_word(0, 0, 0x200, word, 1 << (intid % 32));
        assert!(!wants_eoi(&machine), "{intid} pending");
        assert_eq!(machine.acknowledge(0), Some(id(intid)));
        machine.update(0);
        assert!(!wants_eoi(&machine), "{intid} active");
        machine.write_word(0, 0, 0x180, word, 1 << (intid % 32));
        assert!(!wants_eoi(&machine), "{intid} active and disabled");
        // The interrupt is pending, but not in the list register, as it is disabled.
        machine.write_word(0, 0, 0x200, word, 1 << (intid % 32));
        assert!(wants_eoi(&machine), "{intid} pending as well");
        assert_eq!(machine.icv[0].hcr, Hcr::EN);
    }
}

#[test]
fn dir_write_is_trapped_with_several_vcpus() {
    for (vcpus, expected) in [(1, Hcr::EN), (2, Hcr::EN | Hcr::TDIR)] {
        let mut machine = Machine::configured(vcpus, 4);
        assert_eq!(machine.icv[0].hcr, Hcr::EN);
        machine.icv[0].vmcr |= SPLIT;
        machine.update(0);
        assert_eq!(machine.icv[0].hcr, expected);
    }
}

/// An interrupt that cannot be signalled does not displace one that may be ended.
#[test]
fn active_interrupt_is_preferred_to_one_of_a_disabled_group() {
    let mut machine = Machine::configured(1, 1);
    machine.icv[0].vmcr = 0xf0 << 24 | 2;
    machine.write_word(0, 0, 0x80, 0, !(1 | 1 << 9));
    for (sgi, blocked) in [(1, 9), (8, 0)] {
        machine.sgi(0, SgiRegister::Sgi1r, sgi << 24 | 1);
        assert_eq!(machine.acknowledge(0), Some(id(sgi as u32)));
        machine.sgi(0, SgiRegister::Sgi1r, blocked << 24 | 1);
        assert_eq!(machine.icv[0].lrs[0].vintid(), Some(id(sgi as u32)));
        assert_eq!(machine.icv[0].hcr, Hcr::EN | Hcr::VGRP0EIE);
        machine.end(0, id(sgi as u32));
        machine.write_word(0, 0, 0x280, 0, 1 << blocked);
        assert_eq!(machine.icv[0].hcr, Hcr::EN);
    }
}

/// Active interrupts with the highest priorities have list registers: they were acknowledged last
/// and end first.
#[test]
fn active_interrupts_that_end_first_have_list_registers() {
    let mut machine = Machine::configured(1, 2);
    for (sgi, priority) in [(5, 0xa0), (2, 0x80), (7, 0x60), (1, 0x40)] {
        let (at, shift) = (0x1_0400 + (sgi & !3), 8 * (sgi & 3));
        let word = machine.read(0, Window::Redistributors, at);
        let word = word & !(0xff << shift) | priority << shift;
        machine.write(0, Window::Redistributors, at, word);
        machine.sgi(0, SgiRegister::Sgi1r, sgi << 24 | 1);
        assert_eq!(machine.acknowledge(0), Some(id(sgi as u32)));
    }
    machine.update(0);
    let held: Vec<_> = machine.icv[0].lrs.iter().map(|lr| lr.vintid()).collect();
    assert_eq!(held, [Some(id(1)), Some(id(7))]);
    assert_eq!(machine.icv[0].hcr, Hcr::EN | Hcr::LRENPIE | Hcr::TDIR);
}
