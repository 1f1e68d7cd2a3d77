// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The devices of the machine that VMs have for themselves.

use super::{Dma, System, Vm};

/// The most devices of one VM, as for the hypervisor.
const MAX_DEVICES: usize = postern_boot_tree::MAX_DEVICES;

impl System {
    /// Returns whether a VM has virtio devices of the hypervisor's, for which its guest needs drivers.
    pub(crate) fn has_virtio(&self, vm: &Vm) -> bool {
        vm.rng || vm.disk.is_some() || self.links.iter().any(|link| link.vms.contains(&vm.name))
    }
}

impl Vm {
    /// Returns whether the VM has its RAM from the machine's boot on.
    pub(super) fn takes_ram_at_boot(&self) -> bool {
        self.autostart || self.dma == Dma::Unprotected
    }

    /// Checks the list of devices against those of `others`. The hypervisor checks them against the machine's tree.
    pub(super) fn check_devices(&self, others: &[Self]) -> Result<(), String> {
        if self.devices.len() > MAX_DEVICES {
            return Err(format!(
                "devices has {} paths; the hypervisor takes at most {MAX_DEVICES}",
                self.devices.len()
            ));
        }
        for (index, path) in self.devices.iter().enumerate() {
            let is_path = path.len() > 1
                && path.starts_with('/')
                && path.bytes().all(|byte| byte.is_ascii_graphic());
            if !is_path {
                return Err(format!(
                    "devices: \"{path}\" is no path of a device tree; write for example \"/pl031@9010000\""
                ));
            }
            if self.devices[..index].contains(path) {
                return Err(format!("devices: \"{path}\" is there twice; remove one"));
            }
            let owner = others.iter().find(|other| other.devices.contains(path));
            if let Some(owner) = owner {
                return Err(format!(
                    "devices: vm \"{}\" has \"{path}\"; remove it from one of them",
                    owner.name
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::System;

    #[test]
    fn devices_are_paths_of_one_owner() {
        let system = |a: &str, b: &str| {
            let text = format!(
                "[[vm]]\nname = \"a\"\ndevices = [{a}]\n[[vm]]\nname = \"b\"\ndevices = [{b}]\n"
            );
            System::parse(&text).map_err(|error| error.to_string())
        };
        let good = system("\"/pl031@9010000\"", "\"/soc/x@1\"").unwrap();
        assert_eq!(good.vms[0].devices, ["/pl031@9010000"]);
        for (a, b, error) in [
            ("\"pl031\"", "", "vm \"a\": devices: \"pl031\" is no path"),
            ("\"/\"", "", "vm \"a\": devices: \"/\" is no path"),
            (
                "\"/x\", \"/x\"",
                "",
                "vm \"a\": devices: \"/x\" is there twice",
            ),
            ("\"/x\"", "\"/x\"", "vm \"b\": devices: vm \"a\" has \"/x\""),
        ] {
            let found = system(a, b).unwrap_err();
            assert!(found.contains(error), "{found}");
        }
        // A copy of a guest has no devices of its own.
        let three = good.with_guests(3).unwrap();
        assert!(three.vms[2].devices.is_empty());
    }
}
