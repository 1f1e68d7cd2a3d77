// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine's SPIs to which a VM's are linked, and what becomes of them on each path.

use super::harness::*;
use crate::{IntId, PhysicalSpis, Window};
use postern_base::gic::GicVersion;
use postern_base::mmio::{Access, AccessSize};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};

/// The SPIs that are linked, in two words.
pub const LINKED: [u32; 3] = [35, 36, 100];

/// The physical SPIs.
#[derive(Default)]
pub struct Physical(Mutex<Spis>);

#[derive(Default)]
struct Spis {
    /// Inputs that are high.
    lines: BTreeSet<u32>,
    /// Edges that were not taken.
    edges: BTreeSet<u32>,
    enabled: BTreeSet<u32>,
    active: BTreeSet<u32>,
}

impl Physical {
    pub fn new() -> &'static Self {
        Box::leak(Box::default())
    }

    fn spis(&self) -> MutexGuard<'_, Spis> {
        self.0.lock().unwrap()
    }

    pub fn is_active(&self, spi: IntId) -> bool {
        self.spis().active.contains(&spi.get())
    }

    pub fn is_enabled(&self, spi: u32) -> bool {
        self.spis().enabled.contains(&spi)
    }

    /// Sets the level of an input.
    pub fn set_line(&self, spi: u32, level: bool) {
        let lines = &mut self.spis().lines;
        if level {
            lines.insert(spi);
        } else {
            lines.remove(&spi);
        }
    }

    /// Raises an input and lowers it at once.
    pub fn pulse(&self, spi: u32) {
        self.spis().edges.insert(spi);
    }

    /// Takes an SPI that the hypervisor takes now, if there is one.
    pub fn take(&self) -> Option<u32> {
        let mut spis = self.spis();
        let pending: BTreeSet<_> = spis.lines.union(&spis.edges).copied().collect();
        let enabled = pending.intersection(&spis.enabled);
        let spi = *enabled.clone().find(|spi| !spis.active.contains(spi))?;
        spis.active.insert(spi);
        spis.edges.remove(&spi);
        Some(spi)
    }

    /// Deactivates an SPI for the guest's end of a linked interrupt.
    pub fn end(&self, spi: IntId) {
        assert!(self.spis().active.remove(&spi.get()), "{spi:?} is inactive");
    }
}

impl PhysicalSpis for Physical {
    fn set_enabled(&self, spi: IntId, enabled: bool) {
        assert!(LINKED.contains(&spi.get()));
        let all = &mut self.spis().enabled;
        let changed = if enabled {
            all.insert(spi.get())
        } else {
            all.remove(&spi.get())
        };
        assert!(changed, "{spi:?} is enabled or disabled twice");
    }

    fn deactivate(&self, spi: IntId) {
        self.end(spi);
    }

    fn clear_pending(&self, spi: IntId) {
        assert!(!self.is_enabled(spi.get()), "{spi:?} may be taken before");
        self.spis().edges.remove(&spi.get());
    }
}

impl Machine {
    /// Lets the hypervisor take the physical SPIs that fire. Returns them.
    pub fn take_physical(&mut self) -> Vec<u32> {
        let mut taken = Vec::new();
        while let Some(spi) = self.physical.take() {
            taken.push(spi);
            let kick = self.vgic.spi_fired(id(spi));
            self.kick(kick);
        }
        taken
    }

    /// Raises an input and lets the hypervisor take its interrupt.
    fn fire(&mut self, spi: u32) {
        self.physical.set_line(spi, true);
        assert_eq!(self.take_physical(), [spi]);
    }
}

const SPI: u32 = LINKED[0];

fn machine(version: GicVersion, lrs: usize) -> Machine {
    let mut machine = Machine::configured_of(version, 2, lrs);
    if version == GicVersion::V2 {
        for vcpu in 0..2 {
            machine.icv[vcpu].vmcr = 0xf0 << 24 | 1;
        }
    }
    machine
}

/// The guest has the physical interrupt once for each end, as long as the input is high.
#[test]
fn the_guests_end_deactivates_and_a_high_input_fires_again() {
    for version in BOTH_VERSIONS {
        let mut machine = machine(version, 4);
        machine.fire(SPI);
        for _ in 0..3 {
            assert_eq!(machine.acknowledge(0), Some(id(SPI)));
            assert!(machine.take_physical().is_empty(), "it is active");
            machine.end(0, id(SPI));
            assert_eq!(machine.take_physical(), [SPI]);
        }
        machine.physical.set_line(SPI, false);
        assert_eq!(machine.acknowledge(0), Some(id(SPI)));
        machine.end(0, id(SPI));
        assert!(machine.take_physical().is_empty());
        assert!(!machine.physical.is_active(id(SPI)));
    }
}

/// The physical interrupt is enabled as the guest says, and disabled at first and after a reset.
#[test]
fn enables_follow_the_guests() {
    for version in BOTH_VERSIONS {
        let machine = Machine::new_of(version, 1, 4);
        assert!(LINKED.iter().all(|spi| !machine.physical.is_enabled(*spi)));
        let mut machine = machine_with_all(version);
        assert!(LINKED.iter().all(|spi| machine.physical.is_enabled(*spi)));
        machine.write_word(0, 0, 0x180, 1, 1 << (SPI % 32));
        assert!(!machine.physical.is_enabled(SPI));
        machine.physical.set_line(SPI, true);
        assert!(machine.take_physical().is_empty());
        machine.write_word(0, 0, 0x100, 1, 1 << (SPI % 32));
        assert_eq!(machine.take_physical(), [SPI]);
        machine.fire(LINKED[2]);
        machine.unload(0);
        machine.vgic.reset();
        for spi in LINKED {
            assert!(!machine.physical.is_enabled(spi) && !machine.physical.is_active(id(spi)));
        }
        // The next life of the VM has the same links.
        let _ = machine.vgic.vcpu_on(cpu(0));
        machine.load(0);
        machine.write_word(0, 0, 0x100, 1, 1 << (SPI % 32));
        assert_eq!(machine.take_physical(), [SPI]);
    }
}

/// An edge that comes while the interrupt is disabled or active belongs to the life that it came in.
#[test]
fn an_edge_does_not_outlive_the_life() {
    for version in BOTH_VERSIONS {
        for is_disabled in [false, true] {
            let mut machine = machine_with_all(version);
            machine.physical.pulse(SPI);
            if is_disabled {
                machine.write_word(0, 0, 0x180, 1, 1 << (SPI % 32));
            } else {
                assert_eq!(machine.take_physical(), [SPI]);
                machine.physical.pulse(SPI);
            }
            machine.unload(0);
            machine.vgic.reset();
            let _ = machine.vgic.vcpu_on(cpu(0));
            machine.load(0);
            machine.write_word(0, 0, 0x100, 1, 1 << (SPI % 32));
            assert!(machine.take_physical().is_empty());
        }
    }
}

fn machine_with_all(version: GicVersion) -> Machine {
    Machine::configured_of(version, 1, 4)
}

/// The guest clears what is pending or active by a register, on this vCPU or on another.
#[test]
fn clearing_by_a_register_deactivates() {
    let bit = 1 << (SPI % 32);
    for version in BOTH_VERSIONS {
        for by in 0..2 {
            let mut machine = machine(version, 4);
            machine.fire(SPI);
            machine.physical.set_line(SPI, false);
            machine.write_word(by, 0, 0x280, 1, bit);
            machine.settle();
            assert!(!machine.physical.is_active(id(SPI)), "ICPENDR by {by}");

            machine.fire(SPI);
            assert_eq!(machine.acknowledge(0), Some(id(SPI)));
            machine.physical.set_line(SPI, false);
            machine.write_word(by, 0, 0x380, 1, bit);
            machine.settle();
            assert!(!machine.physical.is_active(id(SPI)), "ICACTIVER by {by}");
            machine.fire(SPI);
        }
    }
}

/// An interrupt that is active on a vCPU without a list register is ended by count or by a trapped register.
#[test]
fn an_end_without_a_list_register_deactivates() {
    for version in BOTH_VERSIONS {
        let mut machine = machine(version, 1);
        machine.fire(SPI);
        assert_eq!(machine.acknowledge(0), Some(id(SPI)));
        // A better one takes the only list register.
        let access = Access::write(0x400 + 64, AccessSize::Byte, 0x20);
        machine.access(0, Window::Distributor, access);
        machine.write_word(0, 0, 0x200, 2, 1);
        assert_eq!(machine.acknowledge(0), Some(id(64)));
        machine.end(0, id(64));
        machine.physical.set_line(SPI, false);
        machine.end(0, id(SPI));
        machine.update(0);
        assert!(!machine.physical.is_active(id(SPI)));
    }
}

/// With EOImode 1 the end drops the priority alone.
#[test]
fn a_separate_deactivation_deactivates() {
    for version in BOTH_VERSIONS {
        let mut machine = machine(version, 4);
        for vcpu in 0..2 {
            machine.icv[vcpu].vmcr |= SPLIT;
            machine.update(vcpu);
        }
        machine.fire(SPI);
        machine.physical.set_line(SPI, false);
        assert_eq!(machine.acknowledge(0), Some(id(SPI)));
        machine.end(0, id(SPI));
        assert!(machine.physical.is_active(id(SPI)));
        machine.deactivate(0, id(SPI));
        assert!(!machine.physical.is_active(id(SPI)));
    }
}

/// The active state is the machine's: it stays while no pCPU has the vCPU.
#[test]
fn an_active_interrupt_moves_with_its_vcpu() {
    for version in BOTH_VERSIONS {
        let mut machine = machine(version, 4);
        machine.fire(SPI);
        assert_eq!(machine.acknowledge(0), Some(id(SPI)));
        machine.unload(0);
        assert!(machine.physical.is_active(id(SPI)));
        machine.load(0);
        machine.physical.set_line(SPI, false);
        machine.end(0, id(SPI));
        assert!(!machine.physical.is_active(id(SPI)));
    }
}

/// An interrupt that the guest made pending by itself is linked to nothing.
#[test]
fn what_the_guest_pends_is_not_linked() {
    for version in BOTH_VERSIONS {
        let mut machine = machine(version, 4);
        machine.write_word(0, 0, 0x200, 1, 1 << (SPI % 32));
        assert_eq!(machine.acknowledge(0), Some(id(SPI)));
        // It fires while it is active.
        machine.fire(SPI);
        machine.physical.set_line(SPI, false);
        machine.end(0, id(SPI));
        assert_eq!(machine.acknowledge(0), Some(id(SPI)));
        machine.end(0, id(SPI));
        assert!(!machine.physical.is_active(id(SPI)));
        assert_eq!(machine.acknowledge(0), None);
    }
}

/// An SPI of another VM, and one that is late for the VM's end, change nothing.
#[test]
fn an_spi_that_is_not_linked_is_ignored() {
    let machine = machine(GicVersion::V3, 4);
    assert!(machine.vgic.spi_fired(id(40)).is_empty());
    assert!(!machine.vgic.has_deliverable(cpu(0)));
}
