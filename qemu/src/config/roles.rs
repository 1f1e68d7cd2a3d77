// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which guest uses the disk that the tool makes, and the network, and how.
//!
//! The VM with the PCIe host bridge has disks and network cards. On its links it serves disks to the
//! other VMs, and passes on their packets.

use super::{LinkKind, System, Vm};
use guest_agent::role::{Role, Root, Served};
use std::net::Ipv4Addr;

/// The address of the card in the network that QEMU emulates (`-netdev user`), which is also what its
/// DHCP server gives out.
const CARD: &str = "10.0.2.15/24";
/// The router in that network, which is also the host.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// How the paths of PCIe host bridges begin in the trees of QEMU's machines.
const BRIDGE: &str = "/pcie@";

impl System {
    /// Returns the role of a Linux that has the whole machine.
    pub(crate) fn native_role(&self) -> Role {
        self.vms
            .first()
            .map_or_else(Role::default, |vm| self.owner_role(vm))
    }

    /// Returns the roles of the VMs, in their order.
    pub(crate) fn shared_roles(&self) -> Vec<Role> {
        let owner = self.vms.iter().position(Vm::has_bridge);
        let mut roles: Vec<Role> = self.vms.iter().map(|_| Role::default()).collect();
        let Some(owner) = owner.filter(|&owner| self.vms[owner].has_agent()) else {
            return roles;
        };
        roles[owner] = self.owner_role(&self.vms[owner]);
        for (index, vm) in self.vms.iter().enumerate() {
            let Some(address) = self.address_on_link_with(owner, index) else {
                continue;
            };
            if !vm.has_agent() {
                continue;
            }
            if !self.machine.nets.is_empty() {
                roles[index].gateway = Some(address);
                roles[owner].forward = true;
            }
            if self.machine.makes_disk() {
                let served = Served {
                    partition: vm.name.clone(),
                    address,
                };
                roles[index].root = Root::Served(served.clone());
                roles[owner].exports.push(served);
            }
        }
        // Those at one address are neighbours.
        roles[owner].exports.sort_by_key(|served| served.address);
        roles
    }

    /// Returns the role of the VM with disks and cards.
    fn owner_role(&self, vm: &Vm) -> Role {
        let has_card = !self.machine.nets.is_empty();
        Role {
            root: if self.machine.makes_disk() {
                Root::Disk(vm.name.clone())
            } else {
                Root::Ram
            },
            card: has_card.then(|| CARD.parse().ok()).flatten(),
            gateway: has_card.then_some(HOST),
            ..Role::default()
        }
    }

    /// Returns the kernel command line on the bare machine. Linux is to leave the SMMU alone there: under QEMU 10 its own
    /// translation loses mappings while a disk is busy, and then the disk, or writes into other memory. Words of the
    /// user's come later, and so take precedence.
    pub(crate) fn native_cmdline(&self) -> String {
        let own = self.vms.first().map_or("", |vm| vm.cmdline.as_str());
        if self.machine.iommu {
            format!("iommu.passthrough=1 {own}")
        } else {
            own.to_owned()
        }
    }

    /// Returns the address of `owner` on the first network that it has with another VM. The agent gives
    /// a guest the address 10.77.LINK.VM, both counted from 1.
    fn address_on_link_with(&self, owner: usize, other: usize) -> Option<Ipv4Addr> {
        let joins = |vms: &[String], vm: usize| vms.contains(&self.vms[vm].name);
        let link = self.links.iter().position(|link| {
            let is_joint = joins(&link.vms, owner) && joins(&link.vms, other);
            link.kind == LinkKind::Network && owner != other && is_joint
        })?;
        let number = |index: usize| u8::try_from(index + 1).ok();
        Some(Ipv4Addr::new(10, 77, number(link)?, number(owner)?))
    }
}

impl Vm {
    /// Returns whether the VM boots what the tool builds, so that it has the agent.
    pub(crate) fn has_agent(&self) -> bool {
        self.program.is_none() && self.initrd.is_none()
    }

    fn has_bridge(&self) -> bool {
        self.devices.iter().any(|path| path.starts_with(BRIDGE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(text: &str) -> Vec<Vec<String>> {
        let system = System::parse(text).unwrap();
        let roles = system.shared_roles();
        roles.iter().map(Role::words).collect()
    }

    const MACHINE: &str = "[machine]\niommu = true\n[[machine.disk]]\n[[machine.net]]\n";
    const VMS: &str = "[[vm]]\nname = \"app\"\n\
                       [[vm]]\nname = \"io\"\ndevices = [\"/pcie@10000000\"]\n\
                       [[vm]]\nname = \"c\"\ntee = \"none\"\n";

    #[test]
    fn owner_serves_the_vms_on_its_links() {
        let links = "[[link]]\nname = \"serial\"\nkind = \"console\"\nvms = [\"app\", \"io\"]\n\
                     [[link]]\nname = \"other\"\nvms = [\"app\", \"c\"]\n\
                     [[link]]\nname = \"lan\"\nvms = [\"io\", \"app\"]\n";
        let [app, io, c] = &roles(&format!("{MACHINE}{VMS}{links}"))[..] else {
            panic!("three VMs")
        };
        assert_eq!(
            app[..],
            ["postern.root=app@10.77.3.2", "postern.gateway=10.77.3.2"]
        );
        assert_eq!(
            io[..],
            [
                "postern.root=io",
                "postern.card=10.0.2.15/24",
                "postern.forward",
                "postern.gateway=10.0.2.2",
                "postern.export=app@10.77.3.2",
            ]
        );
        assert!(c.is_empty());
    }

    #[test]
    fn linux_with_the_bare_machine_leaves_its_smmu_alone() {
        let vm = "[[vm]]\nname = \"a\"\ncmdline = \"quiet\"\n";
        let system = System::parse(&format!("{MACHINE}{vm}")).unwrap();
        assert_eq!(system.native_cmdline(), "iommu.passthrough=1 quiet");
        assert_eq!(System::parse(vm).unwrap().native_cmdline(), "quiet");
    }

    #[test]
    fn roles_need_an_owner_disk_and_card() {
        let link = "[[link]]\nname = \"lan\"\nvms = [\"io\", \"app\"]\n";
        // A disk of the user's: nothing is known of its content.
        let own = "[machine]\niommu = true\n[[machine.disk]]\nfile = \"x\"\n";
        assert!(roles(&format!("{own}{VMS}{link}")).concat().is_empty());
        let only_net = "[machine]\niommu = true\n[[machine.net]]\n";
        let [app, io, _] = &roles(&format!("{only_net}{VMS}{link}"))[..] else {
            panic!("three VMs")
        };
        assert_eq!(app[..], ["postern.gateway=10.77.1.2"]);
        assert!(!io.iter().any(|word| word.contains("root")));
        // Without a link the owner is alone.
        let alone = roles(&format!("{MACHINE}{VMS}"));
        assert!(alone[0].is_empty() && !alone[1].contains(&"postern.forward".to_owned()));
    }
}
