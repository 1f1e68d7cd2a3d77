// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tells guests what to do with their devices and links, and makes the disk that they share.

use super::{Flavour, Guests};
use crate::config::{MachineConfig, System, Vm};
use crate::guest_image::{self, Partition};
use anyhow::{Context, Result};
use guest_agent::role::{Role, Root};
use std::path::{Path, PathBuf};

/// The name of the disk that the tool makes, in the folder of the boot.
const DISK: &str = "disk.img";

/// The roles of a system's guests.
pub(super) struct Roles {
    /// The VMs' names and roles.
    of: Vec<(String, Role)>,
    /// The names of VMs with virtio devices of the hypervisor's.
    with_virtio: Vec<String>,
}

impl Roles {
    pub(super) fn of(system: &System, flavour: Flavour) -> Self {
        let roles = match flavour {
            Flavour::Shared => system.shared_roles(),
            Flavour::Native if system.vms.first().is_some_and(Vm::has_agent) => {
                vec![system.native_role()]
            }
            _ => Vec::new(),
        };
        let roles = roles.into_iter().chain(std::iter::repeat(Role::default()));
        let names = system.vms.iter().map(|vm| vm.name.clone());
        let is_shared = flavour == Flavour::Shared;
        let with_virtio = system
            .vms
            .iter()
            .filter(|vm| is_shared && system.has_virtio(vm));
        Self {
            of: names.zip(roles).collect(),
            with_virtio: with_virtio.map(|vm| vm.name.clone()).collect(),
        }
    }

    /// Returns the system with the roles on the command lines of its VMs.
    pub(super) fn told(&self, system: &System) -> System {
        let mut system = system.clone();
        for (vm, (_, role)) in system.vms.iter_mut().zip(&self.of) {
            for word in role.words() {
                vm.cmdline = format!("{} {word}", vm.cmdline);
            }
        }
        system
    }

    /// Returns whether a VM needs drivers: it has a role or a virtio device of the hypervisor's.
    pub(super) fn has(&self, vm: &Vm) -> bool {
        let mut named = self.of.iter().filter(|(name, _)| *name == vm.name);
        named.any(|(_, role)| *role != Role::default()) || self.with_virtio.contains(&vm.name)
    }

    /// Returns whether any VM needs drivers.
    pub(super) fn any(&self) -> bool {
        !self.with_virtio.is_empty() || self.of.iter().any(|(_, role)| *role != Role::default())
    }

    /// Makes the disk for the guests, if there is one, and names its file in the description.
    pub(super) fn make_disk(
        &self,
        system: &System,
        guests: &Guests<'_>,
        folder: &Path,
    ) -> Result<MachineConfig> {
        let mut machine = system.machine.clone();
        if let Some(disk) = machine.disks.iter_mut().find(|disk| disk.file.is_none()) {
            disk.file = Some(self.write_disk(system, guests, folder)?);
        }
        Ok(machine)
    }

    fn write_disk(&self, system: &System, guests: &Guests<'_>, folder: &Path) -> Result<PathBuf> {
        let mut partitions = Vec::new();
        for (vm, (_, role)) in system.vms.iter().zip(&self.of) {
            let name = match &role.root {
                Root::Ram => continue,
                Root::Disk(name) => name,
                Root::Served(served) => &served.partition,
            };
            let content = guests.root(vm).context("there is no root file system")?;
            partitions.push(Partition { name, content });
        }
        let disk = folder.join(DISK);
        guest_image::write_disk(&disk, &partitions)?;
        Ok(disk)
    }
}

impl From<Roles> for Vec<Role> {
    fn from(roles: Roles) -> Self {
        roles.of.into_iter().map(|(_, role)| role).collect()
    }
}
