// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Places what is in RAM at reset, and writes the boot tree: for boards whose tree QEMU generates,
//! and for those whose tree is Linux's.

use super::{Load, PrepareOptions, fits_into, kernel_tree};
use crate::board::{BaseTree, Board, LinuxTree, QemuTree};
use crate::boot_tree::{self, Modules, Placement};
use crate::bundle::{self, Additions, Files, From, OpteeNodes, Plan};
use crate::config::{MachineConfig, TeeAbi, Vm};
use crate::parts::Parts;
use crate::stamp;
use anyhow::{Context, Result, bail};
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode};
use dtoolkit::{Node, Property};
use std::path::{Path, PathBuf};

/// What the firmware enters, and what that boots.
pub(super) struct Entered {
    /// The arm64 `Image` of the hypervisor or its replacement.
    pub(super) image: PathBuf,
    pub(super) boots: Boots,
}

/// The files of what the firmware enters.
pub(super) enum Boots {
    /// The VMs' kernels and RAM disks, in the VMs' order. Whether OP-TEE's translation tables are a
    /// fixed number.
    Vms(Vec<(PathBuf, PathBuf)>, bool),
    /// The RAM disk of a Linux.
    Linux(PathBuf),
    /// The RAM disk of a program.
    Program(PathBuf),
}

/// Everything has its place.
pub(super) struct Placed {
    /// The boot tree.
    pub(super) tree: Vec<u8>,
    /// The address of the tree, unless QEMU places it.
    pub(super) tree_address: Option<u64>,
    /// The files in RAM: what is entered first, then kernels and RAM disks.
    pub(super) loads: Vec<Load>,
    /// The RAM that kernels, RAM disks and disks take, in bytes.
    pub(super) modules: u64,
}

/// Places everything for the board of the system, which `qemu` emulates.
///
/// # Errors
/// Fails when a file cannot be read or does not fit.
pub(super) fn place(
    options: &PrepareOptions,
    qemu: &Path,
    entered: &Entered,
    virtualised: bool,
    parts: &Parts,
) -> Result<Placed> {
    let board = options.system.machine.board.board();
    match &board.tree {
        BaseTree::Qemu(tree) => {
            let base = super::dump_tree(qemu, &options.system.machine, &options.folder)?;
            in_qemu_tree(options, board, tree, &base, entered, virtualised)
        }
        BaseTree::Linux(tree) => {
            let base = kernel_tree(parts, tree.file)?;
            in_linux_tree(options, board, tree, &base, entered)
        }
    }
}

fn in_qemu_tree(
    options: &PrepareOptions,
    board: &Board,
    qemu: &QemuTree,
    base: &[u8],
    entered: &Entered,
    virtualised: bool,
) -> Result<Placed> {
    let system = &options.system;
    let ends = board.memory(system.machine.memory_mib).into_iter();
    let end = ends.map(|range| range.start + range.size).max();
    let mut placement = Placement::new(qemu, end.unwrap_or_default());
    let tree = match &entered.boots {
        Boots::Vms(files, static_tables) => {
            let mut modules = Vec::new();
            for (vm, (kernel, initrd)) in system.vms.iter().zip(files) {
                fits_into(vm, kernel, initrd).with_context(|| name(vm))?;
                let mut place = |file: &Path| placement.place(file).with_context(|| name(vm));
                modules.push(Modules {
                    kernel: place(kernel)?,
                    initrd: place(initrd)?,
                    disk: vm.disk.as_deref().map(&mut place).transpose()?,
                    partial_tree: vm.partial_tree.as_deref().map(&mut place).transpose()?,
                });
            }
            boot_tree::for_hypervisor(base, qemu, system, &modules, *static_tables)?
        }
        Boots::Linux(initrd) => {
            let region = placement.place(initrd)?;
            let cmdline = system.native_cmdline();
            let smc = system.machine.tee_abi == TeeAbi::Smc;
            let port = smc.then_some(&board.optee);
            boot_tree::for_linux(base, qemu, port, &cmdline, region)?
        }
        Boots::Program(initrd) => {
            let region = placement.place(initrd)?;
            let cmdline = system.vms.first().map_or("", |vm| vm.cmdline.as_str());
            boot_tree::for_program(base, qemu, cmdline, region)?
        }
    };
    let mut loads = vec![Load {
        file: entered.image.clone(),
        address: qemu.entry(virtualised),
    }];
    loads.extend(placement.loads());
    Ok(Placed {
        tree,
        tree_address: None,
        loads,
        modules: placement.bytes(),
    })
}

fn name(vm: &Vm) -> String {
    format!("vm \"{}\"", vm.name)
}

/// Does what an integrator does with `postern-tool bundle`, and what U-Boot does with the bundle.
fn in_linux_tree(
    options: &PrepareOptions,
    board: &Board,
    linux: &LinuxTree,
    base: &[u8],
    entered: &Entered,
) -> Result<Placed> {
    let Boots::Vms(files, static_tables) = &entered.boots else {
        bail!("the board {} boots the hypervisor only", board.name);
    };
    let PrepareOptions { system, folder, .. } = options;
    // The board as an integrator has it: this file and the plan's additions give the same bundle.
    let file = folder.join("board.dtb");
    stamp::write(&file, &emulated(base, board, &system.machine))?;
    let plan = Plan {
        board: file.clone(),
        system: system.clone(),
        suite: options.suite,
        out: folder.clone(),
        hypervisor: None,
        from: From::default(),
        load_address: None,
        additions: Additions {
            optee: OpteeNodes::Add,
            optee_interrupt: board.optee.interrupt,
            memory: Vec::new(),
            reserve: linux.reserve.to_vec(),
            static_tables: *static_tables,
        },
    };
    let failed = |lines: Vec<String>| anyhow::anyhow!("{}: {}", file.display(), lines.join("\n"));
    let base = std::fs::read(&file).with_context(|| file.display().to_string())?;
    let image = std::fs::read(&entered.image)
        .with_context(|| format!("{} cannot be read", entered.image.display()))?;
    let tree = bundle::complete(&plan, &base, &mut Vec::new())?.map_err(failed)?;
    let load = |file: &Path, address| Load {
        file: file.to_owned(),
        address,
    };
    let of_vm = |vm: &Vm| {
        let index = system.vms.iter().position(|other| other.name == vm.name);
        let files = index.and_then(|index| files.get(index).cloned());
        files.with_context(|| name(vm))
    };
    let files = Files::of(&system.vms, of_vm)?;
    let bundle = bundle::compose(&plan, tree, image, &files)?.map_err(failed)?;
    let entry = bundle.hypervisor.region.address;
    let tree_address = bundle.tree.region.address;
    let boot = folder.join("bl33.bin");
    stamp::write(&boot, &enter(entry, tree_address))?;
    let mut loads = vec![load(&entered.image, entry), load(&boot, linux.bl33)];
    let modules = files.sizes.iter().zip(&bundle.modules);
    loads.extend(modules.map(|((file, _), piece)| load(file, piece.region.address)));
    Ok(Placed {
        tree: bundle.tree.bytes,
        tree_address: Some(tree_address),
        loads,
        modules: files.sizes.iter().map(|(_, bytes)| *bytes).sum(),
    })
}

/// Returns a board's tree for what QEMU emulates of it: so much RAM, and so many CPUs.
fn emulated(base: &[u8], board: &Board, machine: &MachineConfig) -> Vec<u8> {
    // The parser's own check refuses names of more than 31 characters, which most boards' trees have.
    let mut tree = DeviceTree::from_fdt(&Fdt::new_unchecked(base));
    let is = |node: &DeviceTreeNode, kind: &str| {
        node.property("device_type")
            .is_some_and(|property| property.value() == [kind.as_bytes(), b"\0"].concat())
    };
    let reg: Vec<u8> = (board.memory(machine.memory_mib).iter())
        .flat_map(|range| [range.start.to_be_bytes(), range.size.to_be_bytes()].concat())
        .collect();
    for node in tree.root.children_mut().filter(|node| is(node, "memory")) {
        boot_tree::set(node, "reg", reg.clone());
    }
    let cpus = tree.root.child_mut("cpus");
    let cpus = cpus.into_iter().flat_map(DeviceTreeNode::children_mut);
    let present = usize::try_from(machine.cpus).unwrap_or(usize::MAX);
    for cpu in cpus.filter(|node| is(node, "cpu")).skip(present) {
        boot_tree::set(cpu, "status", "disabled");
    }
    tree.to_dtb()
}

/// Returns instructions that enter an arm64 `Image` with a tree, as U-Boot's `booti` does: TF-A
/// enters BL33 with x0 = 0.
fn enter(image: u64, tree: u64) -> Vec<u8> {
    const CODE: [u32; 6] = [
        0x5800_00c0, // ldr x0, tree
        0xaa1f_03e1, // mov x1, xzr
        0xaa1f_03e2, // mov x2, xzr
        0xaa1f_03e3, // mov x3, xzr
        0x5800_0084, // ldr x4, image
        0xd61f_0080, // br x4
    ];
    let mut bytes: Vec<u8> = CODE.into_iter().flat_map(u32::to_le_bytes).collect();
    bytes.extend(tree.to_le_bytes());
    bytes.extend(image.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_load_tree_and_image_from_behind_them() {
        let bytes = enter(0x0a00_0000, 0x0f00_0000);
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        // LDR (literal): imm19 in bits 23:5 counts words from the instruction.
        let target = |at: usize| at + ((word(at) >> 5 & 0x7_ffff) as usize) * 4;
        let value = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!(word(0) & 0x1f, 0);
        assert_eq!(value(target(0)), 0x0f00_0000);
        assert_eq!(word(16) & 0x1f, 4);
        assert_eq!(value(target(16)), 0x0a00_0000);
    }
}
