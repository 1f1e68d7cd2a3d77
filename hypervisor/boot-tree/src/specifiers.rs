// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The interrupts that a device's node names: in `interrupts`, or in `interrupts-extended`, where each entry begins
//! with its controller (Devicetree Specification 0.4, 2.4).

use super::bus::{EXTENDED_INTERRUPTS, Located};
use super::error::BootError;
use super::gic::Gic;
use super::interrupts::Interrupt;
use super::tree;

impl Gic {
    /// The `index`-th interrupt of a device; `absent` is what is wrong where there is no such one.
    pub(super) fn interrupt<'t>(
        &self,
        device: &Located<'t>,
        index: usize,
        absent: &'static str,
    ) -> Result<Interrupt, BootError<'t>> {
        let property = device.interrupts_property();
        let bad = |problem| BootError::Property {
            node: device.node.name(),
            property,
            problem,
        };
        let value = tree::bytes(device.node, property).ok_or_else(|| bad(absent))?;
        let cells = self.interrupt_cells();
        let is_ours = |phandle: Option<u32>| phandle.is_none() || phandle == self.phandle;
        // Cells before each specifier: its controller.
        let (before, is_ours) = if property == EXTENDED_INTERRUPTS {
            // An entry of another controller may have another width, so what is behind it is not looked at.
            let mut entries = tree::cells(value).step_by(cells + 1);
            (
                1,
                entries
                    .by_ref()
                    .take(index + 1)
                    .all(|phandle| is_ours(Some(phandle))),
            )
        } else {
            (0, is_ours(device.interrupt_parent()))
        };
        if !is_ours {
            return Err(bad("goes to another interrupt controller than the GIC"));
        }
        let skipped = 4 * (index * (before + cells) + before);
        let specifier = value.get(skipped..).unwrap_or_default();
        Interrupt::from_specifier(specifier, cells).ok_or_else(|| bad(absent))
    }
}
