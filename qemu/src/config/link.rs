// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The `[[link]]` tables: networks and consoles between VMs.

use super::System;
use postern_boot_tree::MAX_LINKS;
use serde::Deserialize;

/// What a link is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkKind {
    /// A network.
    #[default]
    Network,
    /// A console in each of two VMs, which is the other's end.
    Console,
}

/// A `[[link]]` table: a network between VMs, or a console in each of two.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The link's name, formed as a VM's.
    pub name: String,
    /// What it is.
    #[serde(default)]
    pub kind: LinkKind,
    /// The names of its VMs, two or more; two of a console.
    pub vms: Vec<String>,
}

impl System {
    /// Checks the links.
    pub(super) fn check_links(&self) -> Result<(), String> {
        if self.links.len() > MAX_LINKS {
            return Err(format!(
                "there are {} [[link]]; the hypervisor takes at most {MAX_LINKS}: put more VMs on one",
                self.links.len()
            ));
        }
        for (index, link) in self.links.iter().enumerate() {
            let fault = |why: String| Err(format!("link \"{}\": {why}", link.name));
            if !super::is_name(&link.name) {
                return fault(
                    "name must be 1 to 15 of a-z, 0-9 and -, and start with a letter".into(),
                );
            }
            if self.links[..index]
                .iter()
                .any(|other| other.name == link.name)
            {
                return fault("the name is taken; give each link one of its own".into());
            }
            for (place, vm) in link.vms.iter().enumerate() {
                if self.vms.iter().all(|known| known.name != *vm) {
                    return fault(format!("vms: there is no [[vm]] \"{vm}\""));
                }
                if link.vms[..place].contains(vm) {
                    return fault(format!("vms: \"{vm}\" is there twice; each VM has one end"));
                }
            }
            if link.vms.len() < 2 {
                return fault("vms: name two VMs or more".into());
            }
            if link.kind == LinkKind::Console && link.vms.len() > 2 {
                return fault("vms: name two VMs, since a console has two ends".into());
            }
        }
        Ok(())
    }

    /// Drops VMs that the system does not have from its links, and links without two VMs.
    pub(super) fn trim_links(&mut self) {
        let Self { vms, links, .. } = self;
        for link in links.iter_mut() {
            link.vms
                .retain(|name| vms.iter().any(|vm| vm.name == *name));
        }
        links.retain(|link| link.vms.len() >= 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VMS: &str = "[[vm]]\nname = \"a\"\n[[vm]]\nname = \"b\"\n[[vm]]\nname = \"c\"\n";

    fn system(links: &str) -> Result<System, String> {
        System::parse(&format!("{VMS}{links}")).map_err(|error| format!("{error:#}"))
    }

    fn link(name: &str, vms: &str) -> String {
        format!("[[link]]\nname = \"{name}\"\nvms = [{vms}]\n")
    }

    #[test]
    fn wrong_links_are_named() {
        for (links, text) in [
            (
                link("lan", "\"a\", \"x\""),
                "link \"lan\": vms: there is no [[vm]] \"x\"",
            ),
            (
                link("lan", "\"a\", \"b\", \"a\""),
                "link \"lan\": vms: \"a\" is there twice; each VM has one end",
            ),
            (
                link("lan", "\"a\""),
                "link \"lan\": vms: name two VMs or more",
            ),
            (
                link("serial", "\"a\", \"b\", \"c\"") + "kind = \"console\"\n",
                "link \"serial\": vms: name two VMs, since a console has two ends",
            ),
            (
                link("serial", "\"a\", \"b\"") + "kind = \"tty\"\n",
                "unknown value `tty`, expected `network` or `console`",
            ),
            (
                link("lan", "\"a\", \"b\"").repeat(2),
                "link \"lan\": the name is taken; give each link one of its own",
            ),
            (
                link("LAN", "\"a\", \"b\""),
                "link \"LAN\": name must be 1 to 15 of a-z, 0-9 and -, and start with a letter",
            ),
            (
                (0..9)
                    .map(|n| link(&format!("l{n}"), "\"a\", \"b\""))
                    .collect(),
                "there are 9 [[link]]; the hypervisor takes at most 8: put more VMs on one",
            ),
        ] {
            let error = system(&links).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn links_follow_the_number_of_guests() {
        let links = link("all", "\"a\", \"b\", \"c\"") + &link("ends", "\"a\", \"c\"");
        let system = system(&links).unwrap();
        assert_eq!(system.links[0].vms, ["a", "b", "c"]);
        let two = system.clone().with_guests(2).unwrap();
        assert_eq!(two.links.len(), 1);
        assert_eq!(two.links[0].vms, ["a", "b"]);
        assert_eq!(system.with_guests(1).unwrap().links, []);
    }
}
