// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which virtual machines to start: the nodes of `/chosen` after Xen's dom0less binding.
//! `docs/device-tree-binding.md` is the binding for users.

use super::flat::{Fdt, FdtNode};

use super::assigned::{self, AssignedDevice, Host, PartialTree};
use super::cpus::Cpus;
use super::error::{BootError, VmError};
use super::tree;
use alloc::vec::Vec;
use mediator::Config;
use mediator::addr::Ipa;
use postern_base::ids::{MAX_VCPUS, MAX_VMS, PcpuSet};
use postern_base::range::PaRange;
use postern_base::sve::VectorLength;
use postern_guest_tree::layout;

mod tee_policy;

pub use tee_policy::MAX_APPLICATIONS;

/// Characters of a virtual machine's name.
pub const MAX_NAME: usize = 31;
/// Bytes of a guest's kernel command line: Linux takes 2048 with the terminating NUL.
pub const MAX_BOOTARGS: usize = 2047;
/// Guest memory is given out in blocks of this many bytes.
pub const BLOCK_SIZE: u64 = 0x20_0000;

/// The compatible string of Postern's own nodes.
const DOMAIN: &str = "postern,domain";
/// The compatible string that Xen's tools write.
const XEN_DOMAIN: &str = "xen,domain";
/// The compatible string of a module with a disk's content. Postern's own.
const DISK: &str = "postern,disk";
/// The property by which a VM may have devices that access all memory. Postern's own.
const UNPROTECTED_DMA: &str = "postern,unprotected-dma";
/// The unit of a disk in bytes.
const SECTOR: u64 = 512;
/// The cell of `/chosen` that [`modules_in_initrd`] reads.
pub(super) const MODULES_IN_INITRD: &str = "postern,modules-in-initrd";
/// The properties that a `postern,domain` may have, and those of [`rights`]: any other is a mistake. A `xen,domain` may
/// have others, for Xen.
const PROPERTIES: [&str; 17] = [
    "compatible",
    "#address-cells",
    "#size-cells",
    "memory",
    "cpus",
    "tee",
    "affinity",
    "sve",
    "vm-name",
    "manual-start",
    "privileged",
    "watchdog",
    "rng",
    assigned::DEVICES,
    UNPROTECTED_DMA,
    "status",
    "phandle",
];

/// Whether a VM gets OP-TEE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Tee {
    /// It sees no TEE.
    #[default]
    None,
    /// It has one when the machine has and there is room for it.
    Optional,
    /// It does not start without.
    Required,
}

/// A virtual machine to start.
#[derive(Clone, Debug, PartialEq)]
pub struct VmConfig<'t> {
    /// Its name: 1 to [`MAX_NAME`] of `A-Z a-z 0-9 . _ -`, no other VM's.
    pub name: &'t str,
    /// Its RAM in bytes, a multiple of [`BLOCK_SIZE`], not zero. Those of the VMs that start by themselves are there; a
    /// VM that is started later may ask for more than is free.
    pub memory: u64,
    /// Its vCPUs, 1 to [`MAX_VCPUS`].
    pub vcpus: usize,
    /// Whether it gets OP-TEE.
    pub tee: Tee,
    /// What it may do with it.
    pub tee_config: Config,
    /// Whether it starts with the machine; else by an order of the monitor.
    pub autostart: bool,
    /// Whether it may give the monitor orders.
    pub privileged: bool,
    /// Whether it has a watchdog, which resets it.
    pub watchdog: bool,
    /// Whether it has a virtio entropy device.
    pub rng: bool,
    /// The pCPUs that its vCPUs may run on, not empty; `None` where the tree leaves that to Postern.
    pub affinity: Option<PcpuSet>,
    /// The length of SVE's vectors, if it has SVE.
    pub sve: Option<VectorLength>,
    /// Whether its devices, at least one, may access memory without an SMMU. Its RAM is then at its physical addresses,
    /// since the guest tells its devices of no others, and is taken at boot, also if the VM starts later.
    pub unprotected_dma: bool,
    /// The devices of the machine that it has for itself, at most [`assigned::MAX_DEVICES`]. Nobody else has or needs
    /// them.
    pub devices: Vec<AssignedDevice<'t>>,
    /// The partial device tree, if there is one: what the guest's tree has of some of the devices.
    pub partial_tree: Option<PartialTree<'t>>,
    /// Where the boot loader put its kernel. Several VMs may name the same range.
    pub kernel: PaRange,
    /// Where the boot loader put its initial RAM disk, if it has one.
    pub ramdisk: Option<PaRange>,
    /// Where the boot loader put the content of its virtio disk, if it has one. Several VMs may name the same range.
    pub disk: Option<PaRange>,
    /// The kernel's command line, at most [`MAX_BOOTARGS`] bytes; may be empty.
    pub bootargs: &'t str,
}

/// The VMs of a tree.
pub type VmConfigs<'t> = heapless::Vec<VmConfig<'t>, MAX_VMS>;

/// Returns the bytes of a module, if it is in RAM that nobody else has.
pub(super) type ReadModule<'m, 't> = &'m dyn Fn(PaRange) -> Option<&'t [u8]>;

/// Reads all the VMs of `/chosen`, in the order of the tree.
pub(super) fn read<'t>(
    host: &Host<'_, 't>,
    cpus: &Cpus<'t>,
    module: ReadModule<'_, 't>,
) -> Result<VmConfigs<'t>, BootError<'t>> {
    let mut vms = VmConfigs::new();
    let fdt = host.fdt;
    let chosen = fdt.root().child("chosen").ok_or(BootError::NoVms)?;
    if modules_in_initrd(fdt) {
        return Err(BootError::Property {
            node: "chosen",
            property: MODULES_IN_INITRD,
            problem: "is for EFI alone: boot with the tree for this boot loader",
        });
    }
    for node in chosen.children() {
        if !tree::is_compatible(node, &[DOMAIN, XEN_DOMAIN]) || !tree::is_enabled(node) {
            continue;
        }
        let vm = name(node).and_then(|name| {
            if vms.iter().any(|vm| vm.name == name) {
                return Err((name, VmError::DuplicateName));
            }
            read_vm(node, name, cpus, host, module)
                .and_then(|vm| tee_policy::check_owner(&vm, &vms).map(|()| vm))
                .map_err(|error| (name, error))
        });
        let vm = vm.map_err(|(vm, error)| BootError::Vm { vm, error })?;
        vms.push(vm).map_err(|_| BootError::TooManyVms(MAX_VMS))?;
    }
    if vms.is_empty() {
        Err(BootError::NoVms)
    } else {
        Ok(vms)
    }
}

/// The nodes of all VMs' modules, as far as the tree is right.
pub(super) fn module_nodes(fdt: Fdt<'_>) -> impl Iterator<Item = FdtNode<'_>> {
    let chosen = fdt.root().child("chosen").into_iter();
    let vms = chosen.flat_map(FdtNode::children);
    vms.filter(|&vm| tree::is_compatible(vm, &[DOMAIN, XEN_DOMAIN]))
        .flat_map(FdtNode::children)
}

/// Whether the modules' addresses are offsets into the initial RAM disk of `/chosen`: not zero, where it is there.
pub(super) fn modules_in_initrd(fdt: Fdt<'_>) -> bool {
    let chosen = fdt.root().child("chosen");
    let flag = chosen.and_then(|node| tree::cell(node, MODULES_IN_INITRD));
    flag.is_some_and(|flag| flag != 0)
}

/// The VM's name, or the node's with the error: a bad name is not repeated.
fn name<'t>(node: FdtNode<'t>) -> Result<&'t str, (&'t str, VmError<'t>)> {
    let name = match node.property("vm-name") {
        Some(_) => tree::string(node, "vm-name").unwrap_or_default(),
        None => node.name_without_address(),
    };
    if is_name(name) {
        Ok(name)
    } else {
        Err((node.name(), VmError::Name))
    }
}

/// Returns whether this is a name for a VM or a link.
pub(super) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
}

fn read_vm<'t>(
    node: FdtNode<'t>,
    name: &'t str,
    cpus: &Cpus<'t>,
    host: &Host<'_, 't>,
    module: ReadModule<'_, 't>,
) -> Result<VmConfig<'t>, VmError<'t>> {
    if tree::is_compatible(node, &[DOMAIN]) {
        for (name, _) in node.properties() {
            if !PROPERTIES.contains(&name) && !tee_policy::PROPERTIES.contains(&name) {
                return Err(VmError::Unknown(name));
            }
        }
    }
    let modules = Modules::read(node)?;
    let (kernel, bootargs) = modules.kernel.ok_or(VmError::NoKernel)?;
    let Modules { ramdisk, disk, .. } = modules;
    let partial_tree = modules.partial_tree.map(|range| {
        let bytes = module(range).ok_or(VmError::PartialTree("it is not in free RAM"))?;
        Ok(PartialTree::new(range, bytes))
    });
    let partial_tree = partial_tree.transpose()?;
    let devices = assigned::read(host, node, partial_tree.as_ref())?;
    let memory = memory(node)?;
    if kernel
        .bytes()
        .saturating_add(ramdisk.map_or(0, PaRange::bytes))
        >= memory
    {
        return Err(VmError::MemoryTooSmall { kib: memory / 1024 });
    }
    let vcpus = tree::cell(node, "cpus")
        .and_then(|cpus| usize::try_from(cpus).ok())
        .filter(|cpus| (1..=MAX_VCPUS).contains(cpus))
        .ok_or(VmError::Cpus)?;
    let affinity = affinity(node, cpus)?;
    let unprotected_dma = flag(node, UNPROTECTED_DMA)?;
    if unprotected_dma && !devices.iter().any(AssignedDevice::is_unprotected) {
        return Err(VmError::NeedlessDma);
    }
    Ok(VmConfig {
        name,
        memory,
        vcpus,
        tee: tee(node)?,
        tee_config: tee_policy::read(node)?,
        autostart: !flag(node, "manual-start")?,
        privileged: flag(node, "privileged")?,
        watchdog: flag(node, "watchdog")?,
        rng: flag(node, "rng")?,
        affinity,
        sve: sve(node)?,
        unprotected_dma,
        devices,
        partial_tree,
        kernel,
        ramdisk,
        disk,
        bootargs,
    })
}

/// The memory in bytes.
fn memory<'t>(node: FdtNode<'t>) -> Result<u64, VmError<'t>> {
    let value = tree::bytes(node, "memory").and_then(|value| value.try_into().ok());
    let kib = u64::from_be_bytes(value.ok_or(VmError::Memory)?);
    kib.checked_mul(1024)
        .filter(|bytes| *bytes != 0 && bytes.is_multiple_of(BLOCK_SIZE))
        .ok_or(VmError::MemoryUnit { kib })
}

fn tee<'t>(node: FdtNode<'t>) -> Result<Tee, VmError<'t>> {
    if node.property("tee").is_none() {
        return Ok(Tee::None);
    }
    match tree::string(node, "tee") {
        Some("none") => Ok(Tee::None),
        Some("optional") => Ok(Tee::Optional),
        Some("required") => Ok(Tee::Required),
        _ => Err(VmError::Tee),
    }
}

/// Whether a property without a value is there.
fn flag<'t>(node: FdtNode<'t>, name: &'static str) -> Result<bool, VmError<'t>> {
    tree::flag(node, name).map_err(|_| VmError::Flag(name))
}

fn affinity<'t>(node: FdtNode<'t>, cpus: &Cpus<'t>) -> Result<Option<PcpuSet>, VmError<'t>> {
    let Some(value) = tree::bytes(node, "affinity") else {
        return Ok(None);
    };
    let error = VmError::Affinity {
        last: cpus.list().len().saturating_sub(1),
    };
    if value.is_empty() || !value.len().is_multiple_of(4) {
        return Err(error);
    }
    let mut set = PcpuSet::EMPTY;
    for index in tree::cells(value) {
        let index = usize::try_from(index).ok();
        let index = index.and_then(|place| cpus.at(place));
        set = set.with(index.ok_or_else(|| error.clone())?);
    }
    Ok(Some(set))
}

/// The length of SVE's vectors, in bits; absent or zero for none. The property is Xen's.
fn sve<'t>(node: FdtNode<'t>) -> Result<Option<VectorLength>, VmError<'t>> {
    if node.property("sve").is_none() {
        return Ok(None);
    }
    match tree::cell(node, "sve") {
        Some(0) => Ok(None),
        bits => bits
            .and_then(VectorLength::from_bits)
            .map(Some)
            .ok_or(VmError::Sve),
    }
}

/// The module nodes of one VM.
#[derive(Default)]
struct Modules<'t> {
    kernel: Option<(PaRange, &'t str)>,
    ramdisk: Option<PaRange>,
    disk: Option<PaRange>,
    partial_tree: Option<PaRange>,
}

impl<'t> Modules<'t> {
    fn read(vm: FdtNode<'t>) -> Result<Self, VmError<'t>> {
        let mut modules = Self::default();
        for node in vm.children() {
            if !tree::is_enabled(node) {
                continue;
            }
            let module = node.name();
            let range = || match tree::reg(node, 0) {
                Ok(range) if range.is_empty() => Err("has no bytes"),
                other => other,
            };
            let range = || range().map_err(|problem| VmError::ModuleReg { module, problem });
            let taken = if tree::is_compatible(node, &["multiboot,kernel"]) {
                modules
                    .kernel
                    .replace((range()?, bootargs(node)?))
                    .is_some()
            } else if tree::is_compatible(node, &["multiboot,ramdisk"]) {
                modules.ramdisk.replace(range()?).is_some()
            } else if tree::is_compatible(node, &["multiboot,device-tree"]) {
                modules.partial_tree.replace(range()?).is_some()
            } else if tree::is_compatible(node, &[DISK]) {
                let range = range()?;
                if !range.bytes().is_multiple_of(SECTOR) {
                    let problem = "is not in whole sectors of 512 bytes";
                    return Err(VmError::ModuleReg { module, problem });
                }
                modules.disk.replace(range).is_some()
            } else {
                return Err(VmError::ModuleKind(module));
            };
            if taken {
                return Err(VmError::SecondModule(module));
            }
        }
        Ok(modules)
    }
}

fn bootargs<'t>(kernel: FdtNode<'t>) -> Result<&'t str, VmError<'t>> {
    if kernel.property("bootargs").is_none() {
        return Ok("");
    }
    tree::string(kernel, "bootargs")
        .filter(|text| text.len() <= MAX_BOOTARGS)
        .ok_or(VmError::Bootargs)
}

impl<'t> VmConfig<'t> {
    /// Returns where the guest sees its RAM: below 4 GiB if one of its devices may access it; `None` if it is at its
    /// physical addresses.
    pub fn ram_start(&self) -> Option<Ipa> {
        if self.unprotected_dma {
            None
        } else if self.devices.iter().any(|device| device.can_do_dma) {
            Some(layout::LOW_RAM)
        } else {
            Some(layout::RAM)
        }
    }

    /// Returns the VM's modules that are copied, with the names of their kinds: all but the partial device tree.
    pub fn modules(&self) -> impl Iterator<Item = (&'static str, PaRange)> + use<'t> {
        let ramdisk = self.ramdisk.map(|range| ("ramdisk", range));
        let disk = self.disk.map(|range| ("disk", range));
        core::iter::once(("kernel", self.kernel))
            .chain(ramdisk)
            .chain(disk)
    }
}
