// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The board's device tree, and what a user adds to it because only the firmware knows it.

use super::window::Range;
use crate::boot_tree::{self, set};
use anyhow::Result;
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode};
use dtoolkit::{Node, Property};
use postern_boot_tree::check::form_problem;

/// Who describes OP-TEE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OpteeNodes {
    /// The board's tree has `/firmware/optee`.
    #[default]
    Tree,
    /// This command adds it.
    Add,
    /// Firmware or U-Boot adds it while the board boots.
    Firmware,
}

/// What is added to the board's tree.
#[derive(Clone, Debug, Default)]
pub struct Additions {
    /// Who describes OP-TEE.
    pub optee: OpteeNodes,
    /// The interrupt of OP-TEE's notifications: the three cells of the GIC's binding.
    pub optee_interrupt: Option<[u32; 3]>,
    /// RAM.
    pub memory: Vec<Range>,
    /// RAM that belongs to the firmware.
    pub reserve: Vec<Range>,
    /// Whether OP-TEE was built with `CFG_DYN_CONFIG=n`, a fixed number of translation tables.
    pub static_tables: bool,
}

/// What a boot loader gives a kernel to be unpredictable with. In a file it is the same at every
/// boot, and no secret.
const SEEDS: [&str; 2] = ["kaslr-seed", "rng-seed"];

/// Removes random seeds from `/chosen`; whether there was one.
pub(super) fn remove_seeds(tree: &mut DeviceTree) -> bool {
    let chosen = boot_tree::chosen(tree);
    let mut found = false;
    for name in SEEDS {
        found |= chosen.remove_property(name).is_some();
    }
    found
}

/// Opens a tree.
pub(super) fn open(bytes: &[u8]) -> Result<DeviceTree, String> {
    if let Some(why) = form_problem(bytes) {
        return Err(format!(
            "the file: it is no flattened device tree ({why}): give the .dtb that dtc or the kernel's build makes"
        ));
    }
    // The parser's own check refuses names of more than 31 characters, which most boards' trees have.
    Ok(DeviceTree::from_fdt(&Fdt::new_unchecked(bytes)))
}

/// Adds the nodes.
pub(super) fn add(tree: &mut DeviceTree, additions: &Additions) -> Result<()> {
    for range in &additions.memory {
        let mut node = DeviceTreeNode::new(format!("memory@{:x}", range.start))?;
        set(&mut node, "device_type", "memory");
        set(&mut node, "reg", reg(*range, cells_of(&tree.root)));
        tree.root.add_child(node);
    }
    for range in &additions.reserve {
        let parent = child(&mut tree.root, "reserved-memory");
        if parent.property("#address-cells").is_none() {
            set(parent, "#address-cells", 2_u32);
            set(parent, "#size-cells", 2_u32);
            set(parent, "ranges", [0_u8; 0]);
        }
        let mut node = DeviceTreeNode::new(format!("firmware@{:x}", range.start))?;
        set(&mut node, "reg", reg(*range, cells_of(parent)));
        // The CPU may not even read ahead what is secure memory.
        set(&mut node, "no-map", [0_u8; 0]);
        parent.add_child(node);
    }
    if additions.optee == OpteeNodes::Add {
        let mut optee = DeviceTreeNode::new("optee")?;
        set(&mut optee, "compatible", "linaro,optee-tz");
        set(&mut optee, "method", "smc");
        if let Some(cells) = additions.optee_interrupt {
            set(&mut optee, "interrupts", cells);
        }
        let firmware = child(&mut tree.root, "firmware");
        firmware.remove_child("optee");
        firmware.add_child(optee);
    }
    Ok(())
}

/// The child of that name, made if need be.
fn child<'a>(parent: &'a mut DeviceTreeNode, name: &str) -> &'a mut DeviceTreeNode {
    if parent.child(name).is_none() {
        parent.add_child(DeviceTreeNode::new_unchecked(name));
    }
    match parent.child_mut(name) {
        Some(child) => child,
        None => unreachable!("it has just been put there"),
    }
}

/// Cells of an address and of a size in the children of a node; the specification's defaults where
/// it does not say.
fn cells_of(node: &DeviceTreeNode) -> [usize; 2] {
    let cells = |name: &str, default| {
        let value = node.property(name).and_then(|p| p.value_as::<u32>().ok());
        value.map_or(default, |cells| cells as usize)
    };
    [cells("#address-cells", 2), cells("#size-cells", 1)]
}

/// A range as a `reg` of so many cells. What does not fit loses its upper part, which the
/// hypervisor's reader then complains of.
fn reg(range: Range, cells: [usize; 2]) -> Vec<u8> {
    let value = |number: u64, cells: usize| {
        let wide = u128::from(number).to_be_bytes();
        wide[wide.len() - (4 * cells).min(wide.len())..].to_vec()
    };
    let [address, size] = cells;
    [value(range.start, address), value(range.size, size)].concat()
}
