// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a guest's tree says of a device that the guest has for itself.

use super::super::interrupts::Trigger;
use super::super::tree;
use super::{AssignedDevice, PciHost};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use postern_base::range::PaRange;
use postern_flat_tree::FlatTree;
use postern_guest_tree::CLOCK_PHANDLE;

/// Properties that the guest's tree has with other values, or does not need.
const REPLACED: [&str; 9] = [
    "reg",
    "ranges",
    "interrupts",
    "interrupts-extended",
    "interrupt-parent",
    "interrupt-map",
    "phandle",
    "linux,phandle",
    "status",
];
/// Properties that refer to nodes that the guest's tree does not have, and those that only name their entries.
const REFERENCES: [&str; 31] = [
    "clocks",
    "clock-names",
    "assigned-clocks",
    "assigned-clock-parents",
    "assigned-clock-rates",
    "resets",
    "reset-names",
    "power-domains",
    "power-domain-names",
    "iommus",
    "iommu-map",
    "iommu-map-mask",
    "msi-map",
    "msi-map-mask",
    "msi-parent",
    "dmas",
    "dma-names",
    "phys",
    "phy-names",
    "phy-handle",
    "interconnects",
    "interconnect-names",
    "nvmem-cells",
    "nvmem-cell-names",
    "memory-region",
    "memory-region-names",
    "mboxes",
    "mbox-names",
    "operating-points-v2",
    "gpio-ranges",
    "gpios",
];

/// Whether a property refers to other nodes.
fn is_reference(name: &str) -> bool {
    REFERENCES.contains(&name)
        || name.starts_with("pinctrl-")
        || ["-supply", "-gpios", "-gpio"]
            .iter()
            .any(|end| name.ends_with(end))
}

impl<'t> AssignedDevice<'t> {
    /// Returns the properties that the guest's tree does not have, because they refer to other nodes, such as clocks.
    pub fn dropped(&self) -> impl Iterator<Item = &'t str> {
        let names = self.node.node.properties().map(|(name, _)| name);
        names.filter(|name| !self.in_partial_tree && is_reference(name))
    }

    /// Adds the node of the device to the root of the guest tree, unless the node is in the partial tree. The guest has the
    /// device at its physical addresses, and its interrupts under their physical numbers. `gic` is the phandle of the
    /// guest's GIC.
    pub fn write(&self, root: &mut FlatTree, gic: u32) {
        if self.in_partial_tree {
            return;
        }
        let name = self.node.node.name();
        let mut with_address = String::new();
        let name = match self.windows.first() {
            Some(window) if !name.contains('@') => {
                // A string takes all that is written to it.
                let _ = write!(with_address, "{name}@{:x}", window.start().get());
                &with_address
            }
            _ => name,
        };
        root.node(name, |node| self.write_properties(node, gic));
    }

    fn write_properties(&self, node: &mut FlatTree, gic: u32) {
        let own = self.node.node;
        for (name, value) in own.properties() {
            if !REPLACED.contains(&name) && !is_reference(name) {
                node.property(name, value);
            }
        }
        // Only registers are in `reg`; the windows of a PCI host are behind its configuration space.
        let (registers, windows) = match self.pci {
            Some(_) => self.windows.split_at(1.min(self.windows.len())),
            None => (&self.windows[..], &[][..]),
        };
        let mut value = Vec::new();
        registers.iter().for_each(|range| push(&mut value, *range));
        node.property("reg", &value);
        if let Some(pci) = self.pci {
            self.write_pci(node, pci, windows, gic);
        } else if !self.interrupts.is_empty() {
            let mut cells = Vec::new();
            for interrupt in &self.interrupts {
                // An SPI: a device has no others.
                let number = interrupt.intid.get().saturating_sub(32);
                let is_edge = interrupt.trigger == Some(Trigger::Edge);
                cells.extend([0, number, if is_edge { 1 } else { 4 }]);
            }
            node.cells("interrupts", &cells);
        }
        if tree::is_compatible(own, &["arm,primecell"]) {
            let names = tree::bytes(own, "clock-names").unwrap_or(b"apb_pclk\0");
            let clocks = names.iter().filter(|byte| **byte == 0);
            let clocks: Vec<_> = clocks.map(|_| CLOCK_PHANDLE).collect();
            node.cells("clocks", &clocks);
            node.property("clock-names", names);
        }
    }

    fn write_pci(&self, node: &mut FlatTree, pci: PciHost, windows: &[PaRange], gic: u32) {
        let own = self.node.node;
        let ranges = own.ranges().and_then(Result::ok);
        let mut value = Vec::new();
        for ([bus, ..], window) in ranges.into_iter().flatten().zip(windows) {
            value.extend_from_slice(bus);
            push(&mut value, *window);
        }
        node.property("ranges", &value);
        value.clear();
        let map = tree::bytes(own, "interrupt-map").unwrap_or_default();
        for entry in map.chunks_exact(pci.entry) {
            // The device's address and its pin; the guest's GIC, which has no address cells and three for an interrupt.
            value.extend_from_slice(entry.get(..16).unwrap_or_default());
            value.extend_from_slice(&gic.to_be_bytes());
            let interrupt = entry.get(pci.before..).and_then(|it| it.get(..12));
            value.extend_from_slice(interrupt.unwrap_or_default());
        }
        node.property("interrupt-map", &value);
    }
}

/// Adds a range with two cells each for address and size.
fn push(value: &mut Vec<u8>, range: PaRange) {
    value.extend_from_slice(&range.start().get().to_be_bytes());
    value.extend_from_slice(&range.bytes().to_be_bytes());
}
