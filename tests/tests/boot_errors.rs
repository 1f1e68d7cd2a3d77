// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An impossible boot says why in one line and powers the machine off, and never hangs silently.

use anyhow::{Result, ensure};
use postern_qemu::config::Memory;
use postern_qemu::launch::Machine;
use postern_qemu::prepare::Flavour;
use postern_qemu::session::Session;
use postern_tests::{Lab, boot_error, without_firmware};

/// Boots a machine that cannot work; the reason must contain each of the words.
fn refused(lab: &Lab, machine: &Machine, words: &[&str]) -> Result<()> {
    let mut session = Session::boot(machine, &lab.folder)?;
    let text = boot_error(&mut session)?;
    println!("{text}");
    for word in words {
        ensure!(text.contains(word), "{text:?} does not contain {word:?}");
    }
    Ok(())
}

#[test]
fn boot_at_el1_is_reported() -> Result<()> {
    let lab = Lab::new("boot-at-el1")?;
    let mut machine = lab.machine(&lab.system("two.toml")?, Flavour::Shared)?;
    machine.model = "virt,secure=on,virtualization=off,gic-version=3".into();
    refused(&lab, &machine, &["EL1", "EL2"])
}

/// QEMU has no CPU without FEAT_E2H0. So the image has an instruction replaced, which reads ID_AA64MMFR4_EL1.
#[test]
fn cpu_with_vhe_only_is_reported() -> Result<()> {
    const READ: [u8; 4] = 0xd538_0782_u32.to_le_bytes();
    const MOVE: [u8; 4] = 0xd2a1_e002_u32.to_le_bytes();
    let lab = Lab::new("boot-vhe-only")?;
    let mut machine = lab.machine(&lab.system("two.toml")?, Flavour::Shared)?;
    let hypervisor = &mut machine.loads[0].file;
    let mut image = std::fs::read(&*hypervisor)?;
    let reads = image.chunks_exact(4).filter(|word| *word == READ);
    ensure!(reads.count() == 1, "the read is not found");
    for word in image.chunks_exact_mut(4).filter(|word| *word == READ) {
        word.copy_from_slice(&MOVE); // mov x2, #(0xf << 24)
    }
    *hypervisor = lab.folder.join("postern");
    std::fs::write(&*hypervisor, image)?;
    refused(&lab, &machine, &["FEAT_E2H0"])
}

#[test]
fn boot_without_vms_is_reported() -> Result<()> {
    let lab = Lab::new("boot-no-vms")?;
    let machine = lab.machine(&lab.system("two.toml")?, Flavour::Shared)?;
    let mut machine = without_firmware(&lab, machine, "virt,virtualization=on,gic-version=2")?;
    // The tree is QEMU's own, which names no VM. Its GICv2 is no reason to refuse it.
    machine.tree = None;
    refused(&lab, &machine, &["virtual machine", "/chosen"])
}

#[test]
fn missing_kernel_is_reported() -> Result<()> {
    let lab = Lab::new("boot-no-kernel")?;
    let mut machine = lab.machine(&lab.system("two.toml")?, Flavour::Shared)?;
    // The hypervisor is first, the kernel second; the tree still names the kernel.
    machine.loads.remove(1);
    refused(&lab, &machine, &["kernel"])
}

#[test]
fn boot_without_optee_is_reported() -> Result<()> {
    let lab = Lab::new("boot-no-optee")?;
    let machine = lab.machine(&lab.system("two.toml")?, Flavour::Shared)?;
    let machine = without_firmware(&lab, machine, "virt,virtualization=on,gic-version=3")?;
    refused(&lab, &machine, &["OP-TEE"])
}

#[test]
fn unvirtualised_optee_with_two_vms_is_reported() -> Result<()> {
    let lab = Lab::new("boot-plain-optee")?;
    let machine = lab.machine(&lab.system("two.toml")?, Flavour::Mismatched)?;
    refused(&lab, &machine, &["OP-TEE", "CFG_NS_VIRTUALIZATION"])
}

#[test]
fn more_guests_than_optee_takes_is_reported() -> Result<()> {
    let lab = Lab::new("boot-three-guests")?;
    let mut system = lab.system("two.toml")?;
    let mut third = system.vms[1].clone();
    third.name = "third".into();
    system.vms.push(third);
    let machine = lab.machine(&system, Flavour::Shared)?;
    refused(&lab, &machine, &["third", "CFG_VIRT_GUEST_COUNT"])
}

#[test]
fn missing_guest_ram_is_reported() -> Result<()> {
    let lab = Lab::new("boot-no-ram")?;
    let mut system = lab.system("two.toml")?;
    system.vms[1].memory = Memory::parse("4G").map_err(anyhow::Error::msg)?;
    let machine = lab.machine(&system, Flavour::Shared)?;
    refused(&lab, &machine, &["MiB", "memory"])
}
