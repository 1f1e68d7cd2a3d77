// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The devices on the PCIe bus of QEMU's machine: disks and network cards, and the SMMU in front of them.

use super::{Dma, MachineConfig, Memory, Vm};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The first QEMU whose SMMU translates as a hypervisor needs it (stage 2).
pub(super) const IOMMU_QEMU: (u32, u32) = (9, 2);
/// The first bytes of a file in QEMU's format qcow2.
const QCOW2: [u8; 4] = *b"QFI\xfb";

/// A `[[machine.disk]]` table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Disk {
    /// The file with the disk's content, raw or qcow2, relative to the TOML file. QEMU writes to it. When absent, the tool
    /// makes a disk with the guests' root file systems, anew for each boot.
    pub file: Option<PathBuf>,
    /// The size of an empty disk, as which the file is made if it does not exist.
    pub size: Option<Memory>,
}

/// A `[[machine.net]]` table: a card in a network of its own, with a way out through the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Net {
    /// Ports of the host that lead to the guest: `PROTOCOL:HOST:GUEST`.
    pub forward: Vec<String>,
}

impl Disk {
    /// Checks that the file exists or can be made.
    pub(super) fn check_file(&self) -> Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let name = file.display();
        ensure!(
            file.is_file() || self.size.is_some() && !file.exists(),
            "machine.disk: file = \"{name}\" is no file; correct the name, or add a size, such as size = \"1G\", \
             for an empty disk"
        );
        Ok(())
    }

    /// Makes the file if it does not exist.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make(&self) -> Result<()> {
        let (Some(file), Some(size)) = (&self.file, self.size) else {
            return Ok(());
        };
        if file.exists() {
            return Ok(());
        }
        let make = || File::create(file)?.set_len(size.kib() << 10);
        make().with_context(|| format!("machine.disk: cannot make {}", file.display()))
    }

    /// Returns the name of a file's format.
    #[must_use]
    pub fn format(file: &Path) -> &'static str {
        let mut head = [0; QCOW2.len()];
        let read = File::open(file).and_then(|mut file| file.read_exact(&mut head));
        if read.is_ok() && head == QCOW2 {
            "qcow2"
        } else {
            "raw"
        }
    }
}

impl Net {
    /// Returns the rules of QEMU's user network, each with a comma before it. The host's ports are those of its loopback
    /// interface.
    #[must_use]
    pub fn rules(&self) -> String {
        let rules = self.forward.iter().filter_map(|text| Forward::parse(text));
        let rules = rules.map(|rule| {
            format!(
                ",hostfwd={}:127.0.0.1:{}-:{}",
                rule.protocol, rule.host, rule.guest
            )
        });
        rules.collect()
    }
}

/// A port of the host that leads to the guest.
struct Forward<'a> {
    protocol: &'a str,
    host: u16,
    guest: u16,
}

impl<'a> Forward<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut words = text.split(':');
        let protocol = words.next().filter(|word| ["tcp", "udp"].contains(word))?;
        let mut port = || {
            let port = words.next()?.parse().ok();
            port.filter(|port| *port != 0)
        };
        let (host, guest) = (port()?, port()?);
        words.next().is_none().then_some(Self {
            protocol,
            host,
            guest,
        })
    }
}

impl MachineConfig {
    /// Returns QEMU's argument `-M`.
    #[must_use]
    pub fn model(&self) -> String {
        let model = self.board.board().model;
        match self.board.board().iommu.filter(|_| self.iommu) {
            Some(iommu) => format!("{model},{iommu}"),
            None => model.to_owned(),
        }
    }

    /// Returns whether the tool makes one of the disks.
    pub(crate) fn makes_disk(&self) -> bool {
        self.disks.iter().any(|disk| disk.file.is_none())
    }

    /// Checks that a VM can have the devices on the PCIe bus, if there are any.
    pub(super) fn check_bus(&self, vms: &[Vm]) -> Result<(), String> {
        if self.iommu || vms.iter().any(|vm| vm.dma == Dma::Unprotected) {
            return Ok(());
        }
        for (is_there, key) in [
            (!self.disks.is_empty(), "disk"),
            (!self.nets.is_empty(), "net"),
        ] {
            if is_there {
                return Err(format!(
                    "machine.{key}: it is on the PCIe bus, which no VM can have without an SMMU; \
                     set machine.iommu = true, or remove it"
                ));
            }
        }
        Ok(())
    }

    /// Checks that a VM's devices are unprotected only where they have to be.
    pub(super) fn check_protection(&self, vm: &Vm) -> Result<(), String> {
        if vm.dma == Dma::Protected {
            return Ok(());
        }
        if vm.devices.is_empty() && vm.partial_tree.is_none() {
            return Err(
                "dma = \"unprotected\" is for devices, and the VM has none; remove it".into(),
            );
        }
        if self.iommu {
            return Err(
                "dma = \"unprotected\": machine.iommu is true, and the SMMU protects all devices of \
                 QEMU's machine; remove one of them"
                    .into(),
            );
        }
        Ok(())
    }

    /// Checks the devices on the PCIe bus.
    pub(super) fn check_pci(&self) -> Result<(), String> {
        let board = self.board.board();
        if self.iommu && board.iommu.is_none() {
            return Err(format!(
                "machine.iommu: QEMU's {} has no SMMU; drop iommu, or set board = \"virt\"",
                board.name
            ));
        }
        let made = self.disks.iter().filter(|disk| disk.file.is_none());
        if made.clone().any(|disk| disk.size.is_some()) {
            return Err(
                "machine.disk: a size without a file; name the file, or remove the size".into(),
            );
        }
        if made.count() > 1 {
            return Err(
                "machine.disk: two have no file, and one disk is made for all guests; give the other a file".into(),
            );
        }
        let mut forwards = self.nets.iter().flat_map(|net| &net.forward);
        if let Some(text) = forwards.find(|text| Forward::parse(text).is_none()) {
            return Err(format!(
                "machine.net: forward: \"{text}\" is no way to a guest's port; write for example \"tcp:2222:22\", \
                 the host's port first"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::System;

    fn parse(machine: &str) -> Result<System, String> {
        let text = format!("[machine]\n{machine}\n[[vm]]\nname = \"a\"\n");
        System::parse(&text).map_err(|error| error.to_string())
    }

    #[test]
    fn disks_and_networks_need_an_smmu_of_a_newer_qemu() {
        let system = parse(
            "iommu = true\n[[machine.disk]]\nfile = \"d.img\"\nsize = \"64M\"\n\
             [[machine.net]]\nforward = [\"tcp:2222:22\", \"udp:53:5353\"]\n[[machine.net]]",
        );
        let machine = system.unwrap().machine;
        assert_eq!(machine.least_qemu(), IOMMU_QEMU);
        assert!(
            machine
                .model()
                .ends_with("gic-version=3,iommu=smmuv3,its=off")
        );
        assert_eq!(
            machine.nets[0].rules(),
            ",hostfwd=tcp:127.0.0.1:2222-:22,hostfwd=udp:127.0.0.1:53-:5353"
        );
        assert_eq!(machine.nets[1].rules(), "");
        let without = parse("").unwrap().machine;
        assert!(without.least_qemu() < IOMMU_QEMU && !without.model().contains("iommu"));
    }

    #[test]
    fn a_bus_without_an_smmu_is_for_a_vm_with_unprotected_dma() {
        let parsed = |machine: &str, vm: &str| {
            let text = format!("[machine]\n{machine}\n[[vm]]\nname = \"a\"\n{vm}");
            System::parse(&text).map_err(|error| error.to_string())
        };
        let disk = "[[machine.disk]]\nfile = \"d.img\"";
        let bridge = "devices = [\"/pcie@10000000\"]\n";
        let unprotected = "dma = \"unprotected\"\n";
        let system = parsed(disk, &format!("{bridge}{unprotected}")).unwrap();
        assert_eq!(system.vms[0].dma, Dma::Unprotected);
        assert!(system.machine.least_qemu() < IOMMU_QEMU);
        for (machine, vm, error) in [
            (
                disk,
                bridge.to_owned(),
                "machine.disk: it is on the PCIe bus",
            ),
            (
                disk,
                unprotected.to_owned(),
                "vm \"a\": dma = \"unprotected\" is for devices",
            ),
            (
                "iommu = true",
                format!("{bridge}{unprotected}"),
                "vm \"a\": dma = \"unprotected\": machine.iommu is true",
            ),
            (
                "",
                format!("{bridge}dma = \"all\"\n"),
                "unknown value `all`",
            ),
        ] {
            let found = parsed(machine, &vm).unwrap_err();
            assert!(found.contains(error), "{found}");
        }
    }

    #[test]
    fn errors_name_the_key_and_the_fix() {
        for (text, error) in [
            (
                "[[machine.disk]]\nfile = \"x\"",
                "machine.disk: it is on the PCIe bus",
            ),
            ("[[machine.net]]", "machine.net: it is on the PCIe bus"),
            (
                "board = \"virt-gicv2\"\niommu = true",
                "machine.iommu: QEMU's virt-gicv2 has no SMMU; drop iommu, or set board = \"virt\"",
            ),
            (
                "iommu = true\n[[machine.net]]\nforward = [\"2222:22\"]",
                "machine.net: forward: \"2222:22\" is no way",
            ),
            (
                "iommu = true\n[[machine.net]]\nforward = [\"tcp:0:22\"]",
                "\"tcp:0:22\"",
            ),
            (
                "iommu = true\n[[machine.disk]]\nsize = \"1G\"",
                "machine.disk: a size without a file",
            ),
            (
                "iommu = true\n[[machine.disk]]\n[[machine.disk]]",
                "machine.disk: two have no file",
            ),
        ] {
            let found = parse(text).unwrap_err();
            assert!(found.contains(error), "{found}");
        }
    }

    #[test]
    fn a_disk_is_made_once_and_its_format_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = Disk {
            file: Some(folder.path().join("disk.img")),
            size: None,
        };
        let file = folder.path().join("disk.img");
        let error = disk.check_file().unwrap_err().to_string();
        assert!(
            error.contains("is no file") && error.contains("size"),
            "{error}"
        );
        disk.size = Some(Memory::parse("2M").unwrap());
        disk.check_file().unwrap();
        disk.make().unwrap();
        assert_eq!(file.metadata().unwrap().len(), 2 << 20);
        assert_eq!(Disk::format(&file), "raw");
        std::fs::write(&file, b"QFI\xfb\0\0").unwrap();
        disk.make().unwrap();
        assert_eq!(Disk::format(&file), "qcow2");
    }
}
