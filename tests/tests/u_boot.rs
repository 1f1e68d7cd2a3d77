// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From U-Boot, as integrators boot: TF-A, OP-TEE and Debian's U-Boot, and a disk with what
//! `postern-tool bundle` made. Nothing is typed: U-Boot's default command finds `boot.scr`.

use anyhow::{Result, ensure};
use postern_qemu::bundle::{Medium, OpteeNodes, script_image};
use postern_qemu::launch::Machine;
use postern_qemu::session::Session;
use postern_tests::{BOOT, Lab, power_off, u_boot, xtest};
use std::fs::{copy, create_dir, rename, write};

/// Boots both guests from a disk whose `boot.scr` is the script of that name, and gives what U-Boot
/// said.
fn boot(lab: &Lab, optee: OpteeNodes, script: &str) -> Result<(Session, String)> {
    let system = lab.system("two.toml")?;
    let bundle = u_boot::bundle(lab, &system, optee, Medium::Virtio)?;
    if script != "boot.scr" {
        rename(bundle.join(script), bundle.join("boot.scr"))?;
    }
    let disk = u_boot::disk(lab, &bundle)?;
    started(lab, &u_boot::machine(lab, &system, &disk)?)
}

/// Boots both guests, and gives what U-Boot said.
fn started(lab: &Lab, machine: &Machine) -> Result<(Session, String)> {
    let mut session = Session::boot(machine, &lab.folder)?;
    for vm in ["a", "b"] {
        let guest = session.vm(vm)?;
        session.expect(guest, BOOT).ready()?;
    }
    let log = std::fs::read_to_string(lab.folder.join("firmware.log"))?;
    ensure!(log.contains("U-Boot 20"), "U-Boot did not run");
    Ok((session, log))
}

#[test]
fn boot_scr_on_a_disk_boots_the_merged_tree() -> Result<()> {
    let lab = Lab::new("u-boot-script")?;
    let (mut session, _) = boot(&lab, OpteeNodes::Add, "boot.scr")?;
    // A file's seed would be the same at every boot.
    let log = std::fs::read_to_string(lab.folder.join("hypervisor.log"))?;
    ensure!(
        !log.contains("random bytes in the boot tree"),
        "a seed came from a file"
    );
    let a = session.vm("a")?;
    xtest(&mut session, a, "-t regression 1001", 1)?;
    power_off(session, &["a", "b"])
}

#[test]
fn bootm_checks_the_fit_and_boots_it() -> Result<()> {
    let lab = Lab::new("u-boot-fit")?;
    let (session, log) = boot(&lab, OpteeNodes::Add, "boot-fit.scr")?;
    // Hypervisor, tree, and the one kernel and RAM disk that both guests boot.
    let verified = log.matches("sha256+ OK").count();
    ensure!(verified == 4, "{verified} hashes were checked");
    power_off(session, &["a", "b"])
}

#[test]
fn booti_boots_the_tree_that_firmware_left_to_u_boot() -> Result<()> {
    let lab = Lab::new("u-boot-own-tree")?;
    // No node of OP-TEE's is in the bundle: OP-TEE put its own into the tree that U-Boot has.
    let (session, _) = boot(&lab, OpteeNodes::Firmware, "boot-own-tree.scr")?;
    // What QEMU put into that tree as well, new at every boot.
    let log = std::fs::read_to_string(lab.folder.join("hypervisor.log"))?;
    ensure!(
        log.contains("40 random bytes in the boot tree"),
        "the seed of the tree is lost"
    );
    power_off(session, &["a", "b"])
}

#[test]
fn bootefi_starts_the_image_as_an_efi_application() -> Result<()> {
    let lab = Lab::new("u-boot-efi")?;
    let (mut session, log) = boot(&lab, OpteeNodes::Add, "boot-efi.scr")?;
    ensure!(log.contains("Booting /"), "bootefi did not run");
    let log = std::fs::read_to_string(lab.folder.join("hypervisor.log"))?;
    ensure!(log.contains("OP-TEE"), "OP-TEE was not found");
    let a = session.vm("a")?;
    xtest(&mut session, a, "-t regression 1001", 1)?;
    power_off(session, &["a", "b"])
}

/// U-Boot's boot manager offers the RAM disk by LoadFile2, as systemd-boot, unified kernel images and newer versions of
/// GRUB do, and chooses all addresses itself.
#[test]
fn efi_boot_manager_loads_the_guests_as_initrd() -> Result<()> {
    let lab = Lab::new("u-boot-efi-initrd")?;
    let system = lab.system("two.toml")?;
    let bundle = u_boot::bundle(&lab, &system, OpteeNodes::Add, Medium::Virtio)?;
    let script = "load virtio 0:1 0x48000000 postern-efi.dtb\n\
        efidebug boot add -b 1 Postern virtio 0:1 postern.img -i virtio 0:1 guests.img\n\
        efidebug boot order 1\n\
        bootefi bootmgr 0x48000000\n";
    write(bundle.join("boot.scr"), script_image(script)?)?;
    let disk = u_boot::disk(&lab, &bundle)?;
    let (session, log) = started(&lab, &u_boot::machine(&lab, &system, &disk)?)?;
    ensure!(log.contains("Booting: Postern"), "another way was booted");
    power_off(session, &["a", "b"])
}

#[test]
fn boot_scr_loads_the_files_by_tftp() -> Result<()> {
    let lab = Lab::new("u-boot-tftp")?;
    let system = lab.system("two.toml")?;
    let bundle = u_boot::bundle(&lab, &system, OpteeNodes::Add, Medium::Tftp)?;
    // On the disk there is the script alone.
    let folder = lab.folder.join("disk");
    create_dir(&folder)?;
    copy(bundle.join("boot.scr"), folder.join("boot.scr"))?;
    let disk = u_boot::disk(&lab, &folder)?;
    let mut machine = u_boot::machine(&lab, &system, &disk)?;
    u_boot::add_tftp(&mut machine, &bundle);
    let (session, log) = started(&lab, &machine)?;
    let files = log.matches("Bytes transferred").count();
    // Hypervisor, tree, and the one kernel and RAM disk that both guests boot.
    ensure!(files == 4, "{files} files came by TFTP");
    power_off(session, &["a", "b"])
}
