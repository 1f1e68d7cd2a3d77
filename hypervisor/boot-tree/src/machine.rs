// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The boot device tree as Postern understands it: the machine, and the VMs to start on it.

use super::assigned::{self, Host, Taken};
use super::cpus::Cpus;
use super::devices::{self, Optee, Timers};
use super::error::BootError;
use super::error::VmError;
use super::gic::Gic;
use super::iommu::{Smmu, Smmus};
use super::links::{self, LinkConfigs};
use super::mpidr::Mpidr;
use super::ram::{self, Memory};
use super::tree;
use super::uart::Uart;
use super::vms::{self, BLOCK_SIZE, VmConfig, VmConfigs};
use postern_base::range::PaRange;

/// The property of `/chosen` that keeps the machine on when no VM runs.
const STAY: &str = "postern,stay";
/// Says that OP-TEE was built with a fixed number of translation tables.
const STATIC_TABLES: &str = "postern,optee-static-tables";

/// The machine that Postern runs on. Names are borrowed from the tree.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine<'t> {
    /// All RAM of the normal world, used or not.
    pub ram: Memory,
    /// What of it EL2 maps: all but what the tree forbids to map.
    pub mapped: Memory,
    /// The RAM that nobody uses: without what the tree reserves, the tree itself, the ranges
    /// that the caller named and the VMs' modules.
    pub free: Memory,
    /// The physical CPUs.
    pub cpus: Cpus<'t>,
    /// The interrupt controller.
    pub gic: Gic,
    /// The console.
    pub uart: Uart,
    /// The generic timer's interrupts.
    pub timers: Timers,
    /// The registers of the real-time clock, a PL031, where there is one.
    pub rtc: Option<PaRange>,
    /// The SMMUs.
    pub smmus: Smmus,
    /// OP-TEE, where the tree announces it.
    pub optee: Option<Optee>,
    /// The links between the VMs.
    pub links: LinkConfigs<'t>,
    /// The hypervisor's own command line; empty where there is none.
    pub bootargs: &'t str,
    /// Whether the machine stays on when no VM runs.
    pub stay: bool,
    /// Whether OP-TEE's translation tables are a fixed number a VM (`CFG_DYN_CONFIG=n`), which OP-TEE itself does
    /// not say.
    pub static_tables: bool,
}

/// What is known without the tree: where things lie that the boot loader put into RAM and that stay in
/// use, and which CPU runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BootPlacement {
    /// The hypervisor's image with everything that it has beside it, such as stacks and heap.
    pub hypervisor: PaRange,
    /// The device tree.
    pub tree: PaRange,
    /// The CPU that the boot loader has entered the hypervisor on.
    pub boot_cpu: Mpidr,
}

/// Reads the machine and the VMs.
///
/// The range of the modules of two VMs may be the same one, but no module may overlap anything
/// else that is in use. PSCI is checked for (0.2 or later by SMC) and needs no description. `module` returns the bytes of
/// a module, which is in RAM; of the partial device trees only.
pub fn read<'t>(
    tree: &'t [u8],
    found: BootPlacement,
    module: &dyn Fn(PaRange) -> Option<&'t [u8]>,
) -> Result<(Machine<'t>, VmConfigs<'t>), BootError<'t>> {
    let fdt = tree::open(tree)?;
    let gic = Gic::read(fdt)?;
    let uart = Uart::read(fdt, &gic)?;
    let timers = Timers::read(fdt, &gic)?;
    devices::check_psci(fdt)?;
    let optee = Optee::read(fdt, &gic)?;
    let smmus = Smmu::read_all(fdt, &gic)?;
    let cpus = Cpus::read(fdt, found.boot_cpu)?;
    let ram = ram::read_ram(fdt)?;

    let mut mapped = ram.clone();
    ram::remove_unmapped(fdt, found.tree, &mut mapped)?;
    let mut free = ram.clone();
    ram::remove_reserved(fdt, &mut free)?;
    for (what, range) in [
        ("the hypervisor", found.hypervisor),
        ("the device tree", found.tree),
    ] {
        // Firmware may reserve the tree's own place, which does no harm.
        let misplaced =
            !mapped.contains(range) || (what == "the hypervisor" && !free.contains(range));
        if misplaced {
            return Err(BootError::Misplaced { what, range });
        }
        free.remove(range)?;
    }

    let host = Host {
        fdt,
        gic: &gic,
        smmus: &smmus,
    };
    let vms = vms::read(&host, &cpus, &|range| {
        free.contains(range).then(|| module(range))?
    })?;
    let links = links::read(fdt, &vms)?;
    let taken = Taken {
        gic: &gic,
        uart: &uart,
        smmus: &smmus,
        optee: optee.as_ref(),
        ram: &ram,
    };
    assigned::check(&vms, &taken)?;
    place_modules(&vms, &ram, &mut free)?;
    let wanted = vms
        .iter()
        .filter(|vm| vm.autostart || vm.unprotected_dma)
        .fold(0, |sum: u64, vm| sum.saturating_add(vm.memory));
    let available = free.bytes_in_units(BLOCK_SIZE);
    if wanted > available {
        let mib = 1024 * 1024;
        return Err(BootError::NotEnoughMemory {
            wanted_mib: wanted / mib,
            free_mib: available / mib,
        });
    }
    let chosen = fdt.root().child("chosen");
    let bootargs = chosen
        .and_then(|node| tree::string(node, "bootargs"))
        .unwrap_or_default();
    let flag = |property| {
        let flag = chosen.map_or(Ok(false), |node| tree::flag(node, property));
        flag.map_err(|problem| BootError::Property {
            node: "chosen",
            property,
            problem,
        })
    };
    let (stay, static_tables) = (flag(STAY)?, flag(STATIC_TABLES)?);
    if !stay && !vms.iter().any(|vm| vm.autostart) {
        return Err(BootError::NothingStarts);
    }
    Ok((
        Machine {
            ram,
            mapped,
            free,
            cpus,
            gic,
            uart,
            timers,
            rtc: devices::rtc(fdt),
            smmus,
            optee,
            links,
            bootargs,
            stay,
            static_tables,
        },
        vms,
    ))
}

/// Checks where the modules lie and takes their places out of `free`.
fn place_modules<'t>(
    vms: &VmConfigs<'t>,
    ram: &Memory,
    free: &mut Memory,
) -> Result<(), BootError<'t>> {
    let unused = free.clone();
    for vm in vms {
        for (kind, range) in all_modules(vm) {
            let problem = if !ram.contains(range) {
                "is not in RAM"
            } else if !unused.contains(range) {
                "overlaps reserved memory, the hypervisor or the device tree"
            } else if !free.contains(range) && !is_module_before(vms, vm.name, kind, range) {
                "overlaps another module"
            } else {
                free.remove(range)?;
                continue;
            };
            let error = VmError::ModulePlace {
                kind,
                range,
                problem,
            };
            return Err(BootError::Vm { vm: vm.name, error });
        }
    }
    Ok(())
}

/// Whether a module before this one has exactly its range and is of its kind.
fn is_module_before(vms: &VmConfigs<'_>, vm: &str, kind: &str, range: PaRange) -> bool {
    vms.iter()
        .take_while(|other| other.name != vm)
        .flat_map(all_modules)
        .any(|module| module == (kind, range))
}

/// Returns the VM's modules with the names of their kinds, and its partial device tree.
fn all_modules<'t>(vm: &VmConfig<'t>) -> impl Iterator<Item = (&'static str, PaRange)> + use<'t> {
    let partial = vm.partial_tree.map(|tree| ("device-tree", tree.module));
    vm.modules().chain(partial)
}
