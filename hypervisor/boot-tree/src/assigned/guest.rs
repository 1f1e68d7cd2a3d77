// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a guest's tree says of a device that the guest has for itself.

use super::super::interrupts::{Interrupt, Trigger};
use super::super::tree;
use super::AssignedDevice;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use postern_base::range::{IpaRange, PaRange};
use postern_guest_tree::{GuestDevice, GuestInterrupt};

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
        names.filter(|name| is_reference(name))
    }

    /// Returns the device for the guest's tree.
    pub fn guest_device(&self) -> GuestDevice<'t> {
        let node = self.node.node;
        let copied = node
            .properties()
            .filter(|(name, _)| !REPLACED.contains(name) && !is_reference(name));
        // Only registers are in `reg`; the windows of a PCI host are behind its configuration space.
        let registers = match self.pci {
            Some(_) => self.windows.get(..1).unwrap_or_default(),
            None => &self.windows,
        };
        let clock_names = match tree::is_compatible(node, &["arm,primecell"]) {
            true if tree::bytes(node, "clock-names").is_some() => {
                tree::strings(node, "clock-names").collect()
            }
            true => ["apb_pclk"].into(),
            false => Vec::new(),
        };
        let interrupts = self.interrupts.iter().map(guest_interrupt);
        GuestDevice {
            name: self.name(),
            copied: copied.collect(),
            registers: registers.iter().copied().map(same_ipa).collect(),
            interrupts: interrupts.filter(|_| self.pci.is_none()).collect(),
            clock_names,
            pci: self.pci.clone(),
        }
    }

    /// Returns the node's name, with a unit address.
    fn name(&self) -> String {
        let name = self.node.node.name();
        match self.windows.first() {
            Some(window) if !name.contains('@') => {
                format!("{name}@{:x}", window.start().get())
            }
            _ => name.to_string(),
        }
    }
}

/// Returns the guest's range, which has the addresses of the machine's.
pub(super) const fn same_ipa(range: PaRange) -> IpaRange {
    IpaRange {
        start: mediator::addr::Ipa::new(range.start().get()),
        bytes: range.bytes(),
    }
}

/// Returns the guest's interrupt, which has the number of the machine's.
pub(super) fn guest_interrupt(interrupt: &Interrupt) -> GuestInterrupt {
    GuestInterrupt {
        // `AssignedDevice` has SPIs alone.
        spi: interrupt.intid.get().saturating_sub(32),
        is_edge: interrupt.trigger == Some(Trigger::Edge),
    }
}
