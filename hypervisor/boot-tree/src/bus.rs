// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Nodes with what is above them: a device's address is one on its bus, and each bus above says in `ranges` what it is
//! on the next (Devicetree Specification 0.4, 2.3.8).

use super::flat::{Fdt, FdtNode, number};
use core::ops::ControlFlow;
use mediator::addr::Pa;

use super::error::BootError;
use super::tree;
use postern_base::range::PaRange;

/// The most buses between the root and a device; what is deeper is not found.
const MAX_BUSES: usize = 4;

/// The property whose entries begin with their controllers.
pub(super) const EXTENDED_INTERRUPTS: &str = "interrupts-extended";

/// The nodes above another one: the root first.
type Above<'t> = heapless::Vec<FdtNode<'t>, { MAX_BUSES + 1 }>;

/// A node and the nodes above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Located<'t> {
    /// The node.
    pub(super) node: FdtNode<'t>,
    above: Above<'t>,
}

impl<'t> Located<'t> {
    /// The first enabled node that is compatible with one of `wanted`, on whatever bus.
    pub(super) fn find(fdt: Fdt<'t>, wanted: &[&str]) -> Option<Self> {
        Self::visit(fdt, wanted, &mut ControlFlow::Break).break_value()
    }

    /// Calls `act` for each enabled node that is compatible with one of `wanted`, on whatever bus, until it breaks.
    pub(super) fn visit<B>(
        fdt: Fdt<'t>,
        wanted: &[&str],
        act: &mut impl FnMut(Self) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        visit_below(fdt.root(), wanted, &mut Above::new(), act)
    }

    /// The node that an absolute path or an alias names, with options behind a colon left out, as in `stdout-path`.
    pub(super) fn resolve(fdt: Fdt<'t>, path: &'t str) -> Option<Self> {
        let path = path.split(':').next()?;
        let path = if path.starts_with('/') {
            path
        } else {
            tree::string(fdt.root().child("aliases")?, path)?
        };
        let mut node = fdt.root();
        let mut above = Above::new();
        for part in path.strip_prefix('/')?.split('/') {
            above.push(node).ok()?;
            node = node.child(part)?;
        }
        Some(Self { node, above })
    }

    /// The `index`-th range of `reg`, where a CPU reaches it.
    pub(super) fn reg(&self, index: usize) -> Result<PaRange, BootError<'t>> {
        let bad = |problem| BootError::Property {
            node: self.node.name(),
            property: "reg",
            problem,
        };
        let mut regs = tree::regs(self.node).map_err(bad)?;
        let reg = regs.nth(index).ok_or_else(|| bad("has too few ranges"))?;
        let [start, bytes] = reg;
        let bytes = tree::size(bytes).map_err(bad)?;
        self.reached("reg", number(start).unwrap_or(u128::MAX), bytes)
    }

    /// Where a CPU reaches `bytes` bytes from `start` on, an address on the node's bus that its `property` has.
    pub(super) fn reached(
        &self,
        property: &'static str,
        mut start: u128,
        bytes: u64,
    ) -> Result<PaRange, BootError<'t>> {
        let bad = |problem| BootError::Property {
            node: self.node.name(),
            property,
            problem,
        };
        for bus in self.above.iter().skip(1).rev() {
            start = up(*bus, start, bytes).map_err(|problem| BootError::Ranges {
                node: self.node.name(),
                bus: bus.name(),
                problem,
            })?;
        }
        let start = u64::try_from(start).map_err(|_| bad("has an address above 64 bits"))?;
        PaRange::new(Pa::new(start), bytes)
            .ok_or_else(|| bad("passes the end of the address space"))
    }

    /// The property that names the device's interrupts; `interrupts-extended` takes precedence.
    pub(super) fn interrupts_property(&self) -> &'static str {
        if tree::bytes(self.node, EXTENDED_INTERRUPTS).is_some() {
            EXTENDED_INTERRUPTS
        } else {
            "interrupts"
        }
    }

    /// Whether the node names any interrupt.
    pub(super) fn has_interrupts(&self) -> bool {
        tree::bytes(self.node, self.interrupts_property()).is_some()
    }

    /// The phandle of the interrupt controller that `interrupts` is for: the node's, or the nearest above it that says
    /// so.
    pub(super) fn interrupt_parent(&self) -> Option<u32> {
        let nodes = self.above.iter().chain([&self.node]).rev();
        nodes
            .copied()
            .find_map(|node| tree::cell(node, "interrupt-parent"))
    }
}

fn visit_below<'t, B>(
    parent: FdtNode<'t>,
    wanted: &[&str],
    above: &mut Above<'t>,
    act: &mut impl FnMut(Located<'t>) -> ControlFlow<B>,
) -> ControlFlow<B> {
    if above.push(parent).is_err() {
        return ControlFlow::Continue(());
    }
    for node in parent.children() {
        if tree::is_compatible(node, wanted) && tree::is_enabled(node) {
            let above = above.clone();
            act(Located { node, above })?;
        }
        visit_below(node, wanted, above, act)?;
    }
    above.pop();
    ControlFlow::Continue(())
}

/// Where what begins at `start` on a bus, with so many bytes, begins on the bus above.
fn up(bus: FdtNode<'_>, start: u128, bytes: u64) -> Result<u128, &'static str> {
    if tree::bytes(bus, "ranges").is_some_and(<[u8]>::is_empty) {
        return Ok(start);
    }
    let ranges = bus
        .ranges()
        .ok_or("is missing, so that no CPU reaches what is on it")?
        .map_err(|()| "does not match the #address-cells and #size-cells")?;
    let end = start.saturating_add(bytes.into());
    for range in ranges {
        let [child, parent, length] = range.map(number);
        let (Some(child), Some(parent), Some(length)) = (child, parent, length) else {
            return Err("has a number of more than four cells");
        };
        if child <= start && end <= child.saturating_add(length) {
            return Ok(parent.saturating_add(start - child));
        }
    }
    Err("has no entry for it")
}
