// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A machine that starts as most boards do: TF-A, OP-TEE, and a U-Boot that boots what it finds on
//! a disk.

use crate::{Lab, suite};
use anyhow::{Context, Result, bail, ensure};
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use postern_qemu::bundle::{self, From, Medium, OpteeNodes, Outcome, Plan};
use postern_qemu::config::System;
use postern_qemu::launch::{Machine, VmInfo};
use postern_qemu::prepare::{QEMU, dump_tree, u_boot_flash};
use postern_qemu::progress::Progress;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the one partition of a disk begins.
const PARTITION: u64 = 1 << 20;
const SECTOR: u64 = 512;
/// OP-TEE's shared memory, which it reserves itself in the tree that firmware hands it.
const SHARED: &str = "0x42000000:2M";

/// The tree of the board as an integrator has it: QEMU's own, with the node that TF-A adds to it at
/// boot.
///
/// # Errors
///
/// QEMU does not give it.
pub fn board(lab: &Lab, system: &System) -> Result<PathBuf> {
    let base = dump_tree(Path::new(QEMU), &system.machine, &lab.folder)?;
    let fdt = Fdt::new(&base).map_err(|why| anyhow::anyhow!("QEMU's tree: {why}"))?;
    let mut tree = DeviceTree::from_fdt(&fdt);
    let mut psci = DeviceTreeNode::new("psci")?;
    for (name, value) in [("compatible", "arm,psci-1.0"), ("method", "smc")] {
        psci.add_property(DeviceTreeProperty::new(name, value)?);
    }
    tree.root.add_child(psci);
    let file = lab.folder.join("board.dtb");
    std::fs::write(&file, tree.to_dtb())?;
    Ok(file)
}

/// Makes a bundle for this machine.
///
/// # Errors
///
/// There is none.
pub fn bundle(lab: &Lab, system: &System, optee: OpteeNodes, medium: Medium) -> Result<PathBuf> {
    let out = lab.folder.join("bundle");
    let mut additions = bundle::Additions {
        optee,
        ..bundle::Additions::default()
    };
    if optee == OpteeNodes::Add {
        additions.optee_interrupt = Some([0, 187, 1]);
        additions.reserve = vec![SHARED.parse().map_err(anyhow::Error::msg)?];
    }
    let plan = Plan {
        board: board(lab, system)?,
        system: system.clone(),
        suite: suite()?,
        out: out.clone(),
        hypervisor: None,
        from: From {
            medium,
            ..From::default()
        },
        load_address: None,
        additions,
    };
    match bundle::bundle(&plan, &Progress::on_stderr())? {
        Outcome::Done(_) => Ok(out),
        Outcome::Problems(lines) => bail!("{}", lines.join("\n")),
    }
}

/// Makes a disk of the files in a folder: a partition table, and one bootable ext4 partition.
///
/// # Errors
///
/// `mke2fs` cannot be run, or the disk is full.
pub fn disk(lab: &Lab, files: &Path) -> Result<PathBuf> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(files)? {
        bytes += entry?.metadata()?.len();
    }
    let size = (bytes + bytes / 8 + (32 << 20)).next_multiple_of(1 << 20);
    let disk = lab.folder.join("disk.img");
    let file = std::fs::File::create(&disk)?;
    file.set_len(PARTITION + size)?;
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let output = Command::new("mke2fs")
        .env("PATH", path)
        .args(["-q", "-F", "-t", "ext4", "-E"])
        .arg(format!("offset={PARTITION}"))
        .arg("-d")
        .args([files, &disk])
        .arg(format!("{}k", size >> 10))
        .output()
        .context("mke2fs cannot be run; Debian's package e2fsprogs has it")?;
    ensure!(
        output.status.success(),
        "mke2fs: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let table = partition_table(
        u32::try_from(PARTITION / SECTOR)?,
        u32::try_from(size / SECTOR)?,
    );
    std::os::unix::fs::FileExt::write_all_at(
        &std::fs::OpenOptions::new().write(true).open(&disk)?,
        &table,
        0,
    )?;
    Ok(disk)
}

/// A PC's partition table with one bootable Linux partition.
fn partition_table(start: u32, sectors: u32) -> [u8; 512] {
    const BOOTABLE: u8 = 0x80;
    const LINUX: u8 = 0x83;
    let mut table = [0; 512];
    table[446] = BOOTABLE;
    table[450] = LINUX;
    table[454..458].copy_from_slice(&start.to_le_bytes());
    table[458..462].copy_from_slice(&sectors.to_le_bytes());
    table[510..].copy_from_slice(&[0x55, 0xaa]);
    table
}

/// Adds a network card to the machine, and a TFTP server with the files of a folder, which QEMU is itself.
pub fn add_tftp(machine: &mut Machine, files: &Path) {
    let files = files.display().to_string().replace(',', ",,");
    let network = format!("user,id=net,restrict=on,tftp={files}");
    let extra = [
        "-netdev",
        &network,
        "-device",
        "virtio-net-device,netdev=net",
    ];
    machine.extra.extend(extra.map(OsString::from));
}

/// The machine with a disk. Nothing is in RAM at reset but QEMU's own tree.
///
/// # Errors
///
/// The firmware cannot be built.
pub fn machine(lab: &Lab, system: &System, disk: &Path) -> Result<Machine> {
    let firmware = u_boot_flash(&lab.paths, suite()?, &Progress::on_stderr())?;
    let vms = system.vms.iter().map(VmInfo::of).collect();
    let drive = disk.display().to_string().replace(',', ",,");
    let drive = format!("file={drive},if=none,id=disk,format=raw,readonly=on");
    let board = system.machine.board.board();
    let extra = ["-drive", &drive, "-device", "virtio-blk-device,drive=disk"];
    Ok(Machine {
        qemu: "qemu-system-aarch64".into(),
        board,
        model: board.model.into(),
        cpu: board.cpu(system.machine.cpu.as_deref()).into(),
        cpus: system.machine.cpus,
        memory_mib: system.machine.memory_mib,
        firmware,
        tree: None,
        loads: Vec::new(),
        pci: Vec::new(),
        extra: extra.map(OsString::from).to_vec(),
        vms,
        wiring: postern_qemu::launch::Wiring::Multiplexed,
    })
}
