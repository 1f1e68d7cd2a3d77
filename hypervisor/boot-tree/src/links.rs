// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which virtual machines are linked by virtio devices: the `postern,link` nodes of `/chosen`.

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
const KIND: &str = "link-kind";
/// The properties that a node may have: any other is a mistake.
const PROPERTIES: [&str; 6] = ["compatible", NAME, KIND, VMS, "status", "phandle"];

/// What a link is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkKind {
    /// A network.
    #[default]
    Network,
    /// Two consoles, each the other's end.
    Console,
}

/// A link between virtual machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkConfig<'t> {
    /// Its name: as that of a VM, and no other link's.
    pub name: &'t str,
    /// What it is.
    pub kind: LinkKind,
    /// Its VMs, at least two, each once; two where it is a console.
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
        let kind = kind(node).map_err(|error| failed(name, error))?;
        let vms = ends(node, vms).map_err(|error| failed(name, error))?;
        if kind == LinkKind::Console && vms.len() > 2 {
            return Err(failed(name, LinkError::Kind));
        }
        links
            .push(LinkConfig { name, kind, vms })
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

fn kind<'t>(node: FdtNode<'t>) -> Result<LinkKind, LinkError<'t>> {
    if node.property(KIND).is_none() {
        return Ok(LinkKind::Network);
    }
    match tree::string(node, KIND).unwrap_or_default() {
        "network" => Ok(LinkKind::Network),
        "console" => Ok(LinkKind::Console),
        _ => Err(LinkError::Kind),
    }
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
