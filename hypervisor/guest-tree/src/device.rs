// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The nodes of the devices of the machine that a guest has for itself.

use super::{CLOCK_PHANDLE, EDGE_RISING, GIC_PHANDLE, LEVEL_HIGH, SPI, reg};
use alloc::string::String;
use alloc::vec::Vec;
use postern_base::range::IpaRange;
use postern_flat_tree::FlatTree;

/// A device of the machine in a guest's tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestDevice<'a> {
    /// The node's name, with a unit address that no other device of the guest has.
    pub name: String,
    /// Properties that are copied as they are. None refers to another node.
    pub copied: Vec<(&'a str, &'a [u8])>,
    /// The ranges of `reg`.
    pub registers: Vec<IpaRange>,
    /// The interrupts, in their order.
    pub interrupts: Vec<GuestInterrupt>,
    /// The names of the clocks, each of which is the fixed one of 24 MHz.
    pub clock_names: Vec<&'a str>,
    /// What only a PCI host bridge has.
    pub pci: Option<PciHost>,
}

/// A shared interrupt of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestInterrupt {
    /// The SPI's number.
    pub spi: u32,
    /// Whether its rising edge makes it pending, and not its level.
    pub is_edge: bool,
}

/// A PCI host bridge, whose configuration space is the first range of registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PciHost {
    /// The windows through which CPUs reach the bus.
    pub windows: Vec<PciWindow>,
    /// The interrupts of the slots' INTx pins.
    pub routes: Vec<PciRoute>,
}

/// A window to a PCI bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciWindow {
    /// The address on the bus: the kind of space, and 64 bits (IEEE 1275 PCI binding 2.2.1.1).
    pub bus: [u32; 3],
    /// Where a CPU reaches it.
    pub range: IpaRange,
}

/// An entry of a PCI host bridge's `interrupt-map`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciRoute {
    /// The device's address and its pin.
    pub pin: [u32; 4],
    /// The interrupt.
    pub interrupt: GuestInterrupt,
}

impl GuestInterrupt {
    /// Returns the interrupt's cells for the guest's GIC.
    const fn cells(self) -> [u32; 3] {
        let flags = if self.is_edge {
            EDGE_RISING
        } else {
            LEVEL_HIGH
        };
        [SPI, self.spi, flags]
    }
}

impl GuestDevice<'_> {
    /// Adds the device's node.
    pub(super) fn write(&self, root: &mut FlatTree) {
        root.node(&self.name, |node| {
            for (name, value) in &self.copied {
                node.property(name, value);
            }
            let registers = self.registers.iter();
            let registers: Vec<_> = registers.map(|range| (range.start, range.bytes)).collect();
            reg(node, &registers);
            if !self.interrupts.is_empty() {
                let cells: Vec<_> = self.interrupts.iter().map(|it| it.cells()).collect();
                node.cells("interrupts", cells.as_flattened());
            }
            if !self.clock_names.is_empty() {
                let clocks: Vec<_> = self.clock_names.iter().map(|_| CLOCK_PHANDLE).collect();
                node.cells("clocks", &clocks);
                node.texts("clock-names", &self.clock_names);
            }
            if let Some(pci) = &self.pci {
                pci.write(node);
            }
        });
    }
}

impl PciHost {
    fn write(&self, node: &mut FlatTree) {
        let mut ranges = Vec::new();
        for PciWindow { bus, range } in &self.windows {
            ranges.extend(bus);
            for number in [range.start.get(), range.bytes] {
                ranges.extend([(number >> 32) as u32, number as u32]);
            }
        }
        node.cells("ranges", &ranges);
        let mut map = Vec::new();
        for PciRoute { pin, interrupt } in &self.routes {
            map.extend(pin);
            // The guest's GIC has no address cells.
            map.push(GIC_PHANDLE);
            map.extend(interrupt.cells());
        }
        node.cells("interrupt-map", &map);
    }
}
