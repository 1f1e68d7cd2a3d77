// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A partial device tree in Xen's form (Xen, docs/misc/arm/passthrough.txt and device-tree/booting.txt): the nodes that
//! the guest's tree has of devices of the machine, with `xen,path`, the device's node in the machine's tree, and
//! `xen,reg`, where its registers are in the machine and in the guest.
//!
//! The guest's tree gets `/passthrough` as it is, without Xen's properties, and the aliases. `/gic` only says which
//! phandle the guest's GIC has.

use super::super::error::{DeviceError, VmError};
use super::super::flat::{FdtNode, Token};
use super::super::interrupts::Interrupt;
use super::super::tree;
use super::{AssignedDevice, Host, add_device, bad};
use alloc::vec::Vec;
use core::mem;
use postern_base::range::PaRange;
use postern_flat_tree::FlatTree;
use postern_guest_tree::{ALIASES, GIC_PHANDLE};

/// The most bytes of a partial device tree.
pub const MAX_PARTIAL_TREE: usize = 64 << 10;
/// The most bytes of a property's name: many names may be in the same bytes.
const MAX_NAME: usize = 63;
/// The most nodes from `/passthrough` down to a device.
const MAX_DEPTH: usize = 8;

/// A partial device tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialTree<'t> {
    /// Where the boot loader put it.
    pub module: PaRange,
    /// The module's bytes, as far as a tree may reach.
    bytes: &'t [u8],
}

impl<'t> PartialTree<'t> {
    /// Returns the tree in a module.
    pub(in super::super) fn new(module: PaRange, bytes: &'t [u8]) -> Self {
        Self {
            module,
            bytes: bytes.get(..MAX_PARTIAL_TREE).unwrap_or(bytes),
        }
    }

    /// Reads the devices, and checks that a guest can have the tree.
    pub(super) fn read_devices(
        &self,
        host: &Host<'_, 't>,
        devices: &mut Vec<AssignedDevice<'t>>,
    ) -> Result<(), VmError<'t>> {
        let tree = tree::parse(self.bytes).map_err(VmError::PartialTree)?;
        // Postern's nodes in the guest's tree have the phandles above.
        if self.gic_phandle() > GIC_PHANDLE {
            return Err(PHANDLE);
        }
        match tree.root().child("passthrough") {
            Some(node) if has_phandle_of_ours(node) => Err(PHANDLE),
            Some(node) => visit(node, MAX_DEPTH, host, devices),
            None => Err(VmError::PartialTree("it has no node /passthrough")),
        }
    }

    /// Returns a node below the root.
    fn node(&self, name: &str) -> Option<FdtNode<'t>> {
        tree::parse(self.bytes).ok()?.root().child(name)
    }

    /// Returns the phandle that the guest's GIC has in the tree.
    pub fn gic_phandle(&self) -> u32 {
        let gic = self.node("gic").and_then(|gic| tree::cell(gic, "phandle"));
        gic.unwrap_or(GIC_PHANDLE)
    }

    /// Adds the properties and children of a node below the root to a guest's tree, but for Xen's, and for the aliases of
    /// devices that EL2 emulates.
    pub fn copy(&self, name: &str, to: &mut FlatTree) {
        let Some(node) = self.node(name) else {
            return;
        };
        for token in node.tokens() {
            match token {
                Token::Begin(name) => to.begin(name),
                Token::Property(name, value) => {
                    let is_copied = name.len() <= MAX_NAME && !name.starts_with("xen,");
                    if is_copied && !ALIASES.contains(&name) {
                        to.property(name, value);
                    }
                }
                Token::EndNode | Token::End => to.end(),
            }
        }
    }
}

/// Reads the devices below a node.
fn visit<'t>(
    parent: FdtNode<'t>,
    depth: usize,
    host: &Host<'_, 't>,
    devices: &mut Vec<AssignedDevice<'t>>,
) -> Result<(), VmError<'t>> {
    for node in parent.children() {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(VmError::PartialTree("more than 8 nodes are in one another"));
        };
        if has_phandle_of_ours(node) {
            return Err(PHANDLE);
        }
        if node.property(PATH).is_some() || node.property(REG).is_some() {
            let path = tree::string(node, PATH).filter(|path| path.starts_with('/'));
            let path = path.ok_or(VmError::PartialTree("a device has no xen,path"))?;
            add_device(devices, host, path, Some(node))?;
        }
        visit(node, depth, host, devices)?;
    }
    Ok(())
}

const EXTENDED: &str = "interrupts-extended";
const PATH: &str = "xen,path";
const REG: &str = "xen,reg";
const PHANDLE: VmError<'static> = VmError::PartialTree("it has a phandle above 64999");

/// Whether a node has a phandle that Postern gives to its own nodes, or one that cannot be read.
fn has_phandle_of_ours(node: FdtNode<'_>) -> bool {
    ["phandle", "linux,phandle"].iter().any(|name| {
        let is_low = |phandle| phandle < GIC_PHANDLE;
        node.property(name).is_some() && !tree::cell(node, name).is_some_and(is_low)
    })
}

/// Lets a device have the registers that its node in the partial tree names, at the guest's addresses.
pub(super) fn place<'t>(
    device: &mut AssignedDevice<'t>,
    node: FdtNode<'t>,
) -> Result<(), DeviceError<'t>> {
    let foreign = bad(REG, "is missing, or is not within the device's registers");
    let Some(Ok(entries)) = node.xen_reg() else {
        return Err(foreign);
    };
    if device.pci.is_some() {
        return Err(DeviceError::Bridge);
    }
    let all = mem::take(&mut device.windows);
    for [start, bytes, guest] in entries {
        let range = tree::range(start, bytes).map_err(|problem| bad(REG, problem))?;
        if !all.iter().any(|window| window.contains(range)) {
            return Err(foreign);
        }
        if start != guest {
            return Err(bad(REG, "has two addresses, which must be the same"));
        }
        if device.windows.iter().any(|window| window.overlaps(range)) {
            return Err(bad(REG, "has a page twice"));
        }
        device.add_window(REG, range)?;
    }
    let interrupts = node.property("interrupts").unwrap_or_default();
    for interrupt in interrupts.chunks(12) {
        // Three cells, since the GIC of a guest has as many.
        let named = Interrupt::from_specifier(interrupt, 3);
        let mut own = device.interrupts.iter().map(|interrupt| interrupt.intid);
        if named.is_none_or(|named| own.all(|own| own != named.intid)) {
            return Err(bad("interrupts", "has one that is not the device's"));
        }
    }
    if node.property(EXTENDED).is_some() {
        return Err(bad(EXTENDED, "is to be `interrupts`"));
    }
    device.in_partial_tree = true;
    Ok(())
}
