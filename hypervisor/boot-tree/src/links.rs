// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which virtual machines are linked by virtio-net devices: the `postern,link` nodes of `/chosen`.

use super::error::{BootError, LinkError};
use super::flat::{Fdt, FdtNode};
use super::tree;
use super::vms::{self, VmConfigs};
use postern_base::ids::{MAX_VMS, VmIndex};

/// The most links.
pub const MAX_LINKS: usize = 8;

const LINK: &str = "postern,link";
const VMS: &str = "vms";
const NAME: &str = "link-name";
/// The properties that a node may have: any other is a mistake.
const PROPERTIES: [&str; 5] = ["compatible", NAME, VMS, "status", "phandle"];

/// A link between virtual machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkConfig<'t> {
    /// Its name: as that of a VM, and no other link's.
    pub name: &'t str,
    /// Its VMs, at least two, each once.
    pub vms: heapless::Vec<VmIndex, MAX_VMS>,
}

/// The links of a tree.
pub type LinkConfigs<'t> = heapless::Vec<LinkConfig<'t>, MAX_LINKS>;

/// Reads all links of `/chosen`, in the order of the tree.
pub(super) fn read<'t>(
    fdt: Fdt<'t>,
    vms: &VmConfigs<'t>,
) -> Result<LinkConfigs<'t>, BootError<'t>> {
    let mut links = LinkConfigs::new();
    let chosen = fdt.root().child("chosen").into_iter();
    for node in chosen.flat_map(FdtNode::children) {
        if !tree::is_compatible(node, &[LINK]) || !tree::is_enabled(node) {
            continue;
        }
        let failed = |link, error| BootError::Link { link, error };
        let name = name(node).ok_or(failed(node.name(), LinkError::Name))?;
        if links.iter().any(|link| link.name == name) {
            return Err(failed(name, LinkError::DuplicateName));
        }
        let vms = ends(node, vms).map_err(|error| failed(name, error))?;
        links
            .push(LinkConfig { name, vms })
            .map_err(|_| BootError::TooManyLinks(MAX_LINKS))?;
    }
    Ok(links)
}

fn name<'t>(node: FdtNode<'t>) -> Option<&'t str> {
    let name = match node.property(NAME) {
        Some(_) => tree::string(node, NAME).unwrap_or_default(),
        None => node.name_without_address(),
    };
    vms::is_name(name).then_some(name)
}

fn ends<'t>(
    node: FdtNode<'t>,
    vms: &VmConfigs<'t>,
) -> Result<heapless::Vec<VmIndex, MAX_VMS>, LinkError<'t>> {
    let known = |name: &&str| PROPERTIES.contains(name);
    if let Some((name, _)) = node.properties().find(|(name, _)| !known(name)) {
        return Err(LinkError::Unknown(name));
    }
    let mut ends = heapless::Vec::new();
    for name in tree::strings(node, VMS) {
        let vm = vms.iter().position(|vm| vm.name == name);
        let vm = vm.and_then(VmIndex::new).ok_or(LinkError::NoVm(name))?;
        // There is room for all VMs.
        if ends.contains(&vm) || ends.push(vm).is_err() {
            return Err(LinkError::Twice(name));
        }
    }
    if ends.len() < 2 {
        return Err(LinkError::TooFew);
    }
    Ok(ends)
}
