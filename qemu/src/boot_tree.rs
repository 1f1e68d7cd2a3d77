// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writes the boot device tree: QEMU's own tree, plus the hypervisor's instructions in `/chosen`,
//! which follow the binding of Xen's dom0less guests (see docs/configuration.md). For a native run,
//! `/chosen` has Linux's instructions instead.

use crate::board::{OpteePort, QemuTree};
use crate::config::{Dma, LinkKind, System, Vm, WhenAllOff, Word};
use crate::prepare::Load;
use anyhow::{Context, Result, bail};
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use dtoolkit::{Node, ToPropertyValue};
use std::path::{Path, PathBuf};

#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod tests;

/// Modules begin at multiples of this number of bytes, so that a kernel may be mapped where it is.
const ALIGNMENT: u64 = 2 << 20;

/// A file's place in RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// The physical address of the file's first byte.
    pub address: u64,
    /// The file's length in bytes, never 0.
    pub size: u64,
}

/// The files that one VM boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modules {
    /// The kernel.
    pub kernel: Region,
    /// The initramfs.
    pub initrd: Region,
    /// The content of the disk, if the VM has one.
    pub disk: Option<Region>,
    /// The partial device tree, if the VM has one.
    pub partial_tree: Option<Region>,
}

/// Allocates RAM for files: one place per file, however many VMs use it.
#[derive(Debug)]
pub struct Placement {
    start: u64,
    next: u64,
    end: u64,
    placed: Vec<(PathBuf, Region)>,
}

impl Placement {
    /// Allocates from the tree's place for kernels up to `end`, the end of RAM.
    #[must_use]
    pub fn new(tree: &QemuTree, end: u64) -> Self {
        Self {
            start: tree.modules,
            next: tree.modules,
            end,
            placed: Vec::new(),
        }
    }

    /// Returns the place of a file, which it allocates at the first call for that file.
    ///
    /// # Errors
    /// Fails when the file does not exist, is empty or does not fit.
    pub fn place(&mut self, file: &Path) -> Result<Region> {
        if let Some((_, region)) = self.placed.iter().find(|(known, _)| known == file) {
            return Ok(*region);
        }
        let size = std::fs::metadata(file)
            .with_context(|| format!("{} cannot be read", file.display()))?
            .len();
        if size == 0 {
            bail!("{} is empty", file.display());
        }
        let address = self.next;
        if size > self.end.saturating_sub(address) {
            bail!(
                "{} does not fit into the machine's RAM; raise machine.memory_mib",
                file.display()
            );
        }
        self.next = (address + size).next_multiple_of(ALIGNMENT);
        let region = Region { address, size };
        self.placed.push((file.into(), region));
        Ok(region)
    }

    /// Returns how much RAM the files take, alignment included, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.next - self.start
    }

    /// Returns the files and their addresses.
    #[must_use]
    pub fn loads(&self) -> Vec<Load> {
        let load = |(file, region): &(PathBuf, Region)| Load {
            file: file.clone(),
            address: region.address,
        };
        self.placed.iter().map(load).collect()
    }
}

/// Returns the tree for the hypervisor. `base` is QEMU's tree, and `qemu` what is known of it; `modules` has one entry per VM, in
/// the VMs' order; `static_tables` tells whether OP-TEE's translation tables are a fixed number.
///
/// # Errors
/// Fails when `base` is no valid tree, or the result is larger than the firmware takes.
pub fn for_hypervisor(
    base: &[u8],
    qemu: &QemuTree,
    system: &System,
    modules: &[Modules],
    static_tables: bool,
) -> Result<Vec<u8>> {
    let mut tree = parse(base)?;
    describe(&mut tree, system, modules, static_tables)?;
    finish(&tree, qemu)
}

/// Adds to `/chosen` what the hypervisor is to do. `modules` has one entry per VM, in their order.
///
/// # Errors
/// When a VM's node cannot have its name.
pub(crate) fn describe(
    tree: &mut DeviceTree,
    system: &System,
    modules: &[Modules],
    static_tables: bool,
) -> Result<()> {
    let chosen = chosen(tree);
    set(chosen, "#address-cells", 2_u32);
    set(chosen, "#size-cells", 2_u32);
    if system.machine.when_all_off == WhenAllOff::Stay {
        set(chosen, "postern,stay", [0_u8; 0]);
    }
    if static_tables {
        set(chosen, "postern,optee-static-tables", [0_u8; 0]);
    }
    if let Some(spi) = system.machine.optee_spi {
        // An SPI, edge triggered, in a GIC's binding.
        set(chosen, "postern,optee-interrupt", [0, spi, 1_u32]);
    }
    for (vm, modules) in system.vms.iter().zip(modules) {
        chosen.add_child(vm_node(vm, *modules)?);
    }
    for link in &system.links {
        let mut node = DeviceTreeNode::new(format!("link-{}", link.name))?;
        set(&mut node, "compatible", "postern,link");
        set(&mut node, "link-name", link.name.as_str());
        if link.kind == LinkKind::Console {
            set(&mut node, "link-kind", "console");
        }
        let vms: Vec<&str> = link.vms.iter().map(String::as_str).collect();
        set(&mut node, "vms", vms);
        chosen.add_child(node);
    }
    Ok(())
}

/// Returns the tree for Linux on the bare machine. `port` is that of an OP-TEE that Linux finds in
/// the tree; over FF-A there is none, since Linux asks for the partitions.
///
/// # Errors
/// Fails when `base` is no valid tree, or the result is larger than the firmware takes.
pub fn for_linux(
    base: &[u8],
    qemu: &QemuTree,
    port: Option<&OpteePort>,
    cmdline: &str,
    initrd: Region,
) -> Result<Vec<u8>> {
    let mut tree = parse(base)?;
    for name in qemu.not_for_linux {
        tree.root.remove_child(name);
    }
    if let Some(port) = port {
        let mut optee = DeviceTreeNode::new("optee")?;
        set(&mut optee, "compatible", "linaro,optee-tz");
        set(&mut optee, "method", "smc");
        if let Some(interrupt) = port.interrupt {
            set(&mut optee, "interrupts", interrupt);
        }
        let mut firmware = DeviceTreeNode::new("firmware")?;
        firmware.add_child(optee);
        tree.root.add_child(firmware);
    }
    start(&mut tree, cmdline, initrd);
    finish(&tree, qemu)
}

/// Returns the tree for a bare-metal program that replaces the hypervisor: the machine as the
/// hypervisor would see it, and a RAM disk.
///
/// # Errors
/// Fails when `base` is no valid tree, or the result is larger than the firmware takes.
pub fn for_program(base: &[u8], qemu: &QemuTree, cmdline: &str, initrd: Region) -> Result<Vec<u8>> {
    let mut tree = parse(base)?;
    start(&mut tree, cmdline, initrd);
    finish(&tree, qemu)
}

/// Writes the properties of the Linux boot protocol into `/chosen`.
fn start(tree: &mut DeviceTree, cmdline: &str, initrd: Region) {
    let chosen = chosen(tree);
    set(chosen, "bootargs", cmdline);
    set(chosen, "linux,initrd-start", initrd.address);
    set(chosen, "linux,initrd-end", initrd.address + initrd.size);
}

fn parse(base: &[u8]) -> Result<DeviceTree> {
    let fdt = Fdt::new(base).map_err(|why| anyhow::anyhow!("QEMU's device tree: {why}"))?;
    Ok(DeviceTree::from_fdt(&fdt))
}

pub(crate) fn chosen(tree: &mut DeviceTree) -> &mut DeviceTreeNode {
    if tree.root.child("chosen").is_none() {
        tree.root.add_child(DeviceTreeNode::new_unchecked("chosen"));
    }
    match tree.root.child_mut("chosen") {
        Some(chosen) => chosen,
        None => unreachable!("it has just been put there"),
    }
}

pub(crate) fn set(node: &mut DeviceTreeNode, name: &str, value: impl ToPropertyValue) {
    node.add_property(DeviceTreeProperty::new_unchecked(name, value));
}

fn vm_node(vm: &Vm, modules: Modules) -> Result<DeviceTreeNode> {
    let mut node = DeviceTreeNode::new(format!("vm-{}", vm.name))?;
    set(&mut node, "compatible", "postern,domain");
    set(&mut node, "#address-cells", 2_u32);
    set(&mut node, "#size-cells", 2_u32);
    set(&mut node, "vm-name", vm.name.as_str());
    set(&mut node, "memory", vm.memory.kib());
    set(&mut node, "cpus", vm.vcpus);
    set(&mut node, "tee", vm.tee.word());
    for (there, name) in [
        (!vm.autostart, "manual-start"),
        (vm.privileged, "privileged"),
        (vm.watchdog, "watchdog"),
        (vm.rng, "rng"),
    ] {
        if there {
            set(&mut node, name, [0_u8; 0]);
        }
    }
    set_rights(&mut node, vm);
    if let Some(affinity) = &vm.affinity {
        set(&mut node, "affinity", affinity.clone());
    }
    if let Some(bits) = vm.sve {
        set(&mut node, "sve", bits);
    }
    if !vm.devices.is_empty() {
        let paths: Vec<&str> = vm.devices.iter().map(String::as_str).collect();
        set(&mut node, "postern,devices", paths);
    }
    if vm.dma == Dma::Unprotected {
        set(&mut node, "postern,unprotected-dma", [0_u8; 0]);
    }
    let mut kernel = module("multiboot,kernel", modules.kernel)?;
    set(&mut kernel, "bootargs", vm.cmdline.as_str());
    node.add_child(kernel);
    node.add_child(module("multiboot,ramdisk", modules.initrd)?);
    if let Some(disk) = modules.disk {
        let mut node_of_disk = module("postern,disk", disk)?;
        set(&mut node_of_disk, "compatible", "postern,disk");
        node.add_child(node_of_disk);
    }
    if let Some(tree) = modules.partial_tree {
        node.add_child(module("multiboot,device-tree", tree)?);
    }
    Ok(node)
}

/// Writes the VM's rights to the TEE. A key that the file does not have gives no property.
fn set_rights(node: &mut DeviceTreeNode, vm: &Vm) {
    fn words<T: Word>(list: &[T]) -> Vec<&'static str> {
        list.iter().map(|one| one.word()).collect()
    }
    let policy = &vm.tee_policy;
    if let Some(list) = &policy.applications {
        let texts: Vec<String> = list.iter().map(|one| one.text()).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        set(node, "tee-applications", texts);
    }
    if let Some(list) = &policy.logins {
        set(node, "tee-logins", words(list));
    }
    if let Some(list) = &policy.partitions {
        let cells: Vec<u8> = list
            .iter()
            .flat_map(|id| u32::from(id.get()).to_be_bytes())
            .collect();
        set(node, "tee-partitions", cells);
    }
    if !policy.devices.is_empty() {
        set(node, "tee-devices", words(&policy.devices));
    }
    if let Some(list) = &policy.features {
        set(node, "tee-features", words(list));
    }
    for quota in vm.tee_quota.all() {
        if let Some(value) = quota.value {
            set(node, quota.property, value);
        }
    }
}

fn module(kind: &str, region: Region) -> Result<DeviceTreeNode> {
    let mut node = DeviceTreeNode::new(format!("module@{:x}", region.address))?;
    set(&mut node, "compatible", vec![kind, "multiboot,module"]);
    let mut reg = region.address.to_be_bytes().to_vec();
    reg.extend(region.size.to_be_bytes());
    set(&mut node, "reg", reg);
    Ok(node)
}

fn finish(tree: &DeviceTree, qemu: &QemuTree) -> Result<Vec<u8>> {
    let bytes = tree.to_dtb();
    let limit = qemu.limit;
    if bytes.len() > limit {
        bail!(
            "the boot device tree has {} bytes; the firmware takes {limit}",
            bytes.len()
        );
    }
    Ok(bytes)
}
