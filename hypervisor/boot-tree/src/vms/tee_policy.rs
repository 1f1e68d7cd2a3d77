// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a VM may do with the TEE: the `tee-…` properties of its node.

use super::super::flat::FdtNode;
use alloc::vec::Vec;
use mediator::ffa::EndpointId;
use mediator::{Config, Features, Policy, Quotas};
use optee_proto::Uuid;
use optee_proto::msg::login;

use super::{Tee, VmConfig};
use crate::error::{TeePolicyError, VmError};
use crate::tree;

/// The properties that are read here.
pub(super) const PROPERTIES: [&str; 13] = [
    APPLICATIONS,
    LOGINS,
    PARTITIONS,
    DEVICES,
    FEATURES,
    QUOTAS[0].property,
    QUOTAS[1].property,
    QUOTAS[2].property,
    QUOTAS[3].property,
    QUOTAS[4].property,
    QUOTAS[5].property,
    QUOTAS[6].property,
    QUOTAS[7].property,
];

const APPLICATIONS: &str = "tee-applications";
/// In place of a UUID: all user TAs.
const USER_TAS: &str = "user";
const LOGINS: &str = "tee-logins";
const PARTITIONS: &str = "tee-partitions";
const DEVICES: &str = "tee-devices";
const FEATURES: &str = "tee-features";

/// The most trusted applications that one VM's list may name.
pub const MAX_APPLICATIONS: usize = 64;

/// The most partitions that one VM's list may name.
pub const MAX_PARTITIONS: usize = 64;

/// The login methods by their names in the GlobalPlatform TEE Client API (`TEEC_LOGIN_…`).
const LOGIN_NAMES: [(&str, u32); 7] = [
    ("public", login::PUBLIC),
    ("user", login::USER),
    ("group", login::GROUP),
    ("application", login::APPLICATION),
    ("user-application", login::APPLICATION_USER),
    ("group-application", login::APPLICATION_GROUP),
    ("kernel", login::REE_KERNEL),
];

/// A quota: its property, its highest value (the lowest is 1), its place.
struct Quota {
    property: &'static str,
    most: u32,
    place: fn(&mut Quotas) -> &mut u32,
}

/// EL2's heap is as large as these need.
const QUOTAS: [Quota; 8] = [
    Quota {
        property: "tee-quota-pages",
        most: 262_144,
        place: |quotas| &mut quotas.pages,
    },
    Quota {
        property: "tee-quota-buffers",
        most: 65_000,
        place: |quotas| &mut quotas.buffers,
    },
    Quota {
        property: "tee-quota-calls",
        most: 64,
        place: |quotas| &mut quotas.calls,
    },
    Quota {
        property: "tee-quota-sessions",
        most: 4096,
        place: |quotas| &mut quotas.sessions,
    },
    Quota {
        property: "tee-quota-rpc-buffers",
        most: 1024,
        place: |quotas| &mut quotas.rpc_buffers,
    },
    Quota {
        property: "tee-quota-mapped-pages",
        most: 16_384,
        place: |quotas| &mut quotas.mapped_pages,
    },
    Quota {
        property: "tee-quota-max-leaked-asids",
        most: 64,
        place: |quotas| &mut quotas.max_leaked_asids,
    },
    Quota {
        property: "tee-quota-address-spaces",
        most: 64,
        place: |quotas| &mut quotas.address_spaces,
    },
];

/// Reads the properties; what is absent has its default: every application and login, no device,
/// the mediator's quotas, all features.
pub(super) fn read<'t>(node: FdtNode<'t>) -> Result<Config, VmError<'t>> {
    read_config(node).map_err(VmError::TeePolicy)
}

fn read_config<'t>(node: FdtNode<'t>) -> Result<Config, TeePolicyError<'t>> {
    let (trusted_apps, user_tas) = applications(node)?;
    let mut config = Config {
        quotas: quotas(node)?,
        policy: Policy {
            trusted_apps,
            user_tas,
            logins: logins(node)?,
            partitions: partitions(node)?,
            ..Policy::default()
        },
        features: Features {
            rpc_arg: true,
            async_notif: true,
        },
        // OP-TEE's own matter, not the description's.
        max_creations: None,
    };
    for word in strings(node, DEVICES)?.into_iter().flatten() {
        match word {
            "rpmb" => config.policy.rpmb = true,
            "i2c" => config.policy.i2c = true,
            _ => {
                return Err(TeePolicyError::Word {
                    property: DEVICES,
                    words: "rpmb, i2c",
                });
            }
        }
    }
    if let Some(words) = strings(node, FEATURES)? {
        config.features = Features::default();
        for word in words {
            match word {
                "rpc-arg" => config.features.rpc_arg = true,
                "notifications" => config.features.async_notif = true,
                _ => {
                    return Err(TeePolicyError::Word {
                        property: FEATURES,
                        words: "rpc-arg, notifications",
                    });
                }
            }
        }
    }
    Ok(config)
}

fn quotas<'t>(node: FdtNode<'t>) -> Result<Quotas, TeePolicyError<'t>> {
    let mut quotas = Quotas::default();
    for Quota {
        property,
        most,
        place,
    } in QUOTAS
    {
        if node.property(property).is_some() {
            *place(&mut quotas) = tree::cell(node, property)
                .filter(|value| (1..=most).contains(value))
                .ok_or(TeePolicyError::Quota { property, most })?;
        }
    }
    Ok(quotas)
}

/// The list, and whether user TAs that are not in it are allowed too.
fn applications<'t>(node: FdtNode<'t>) -> Result<(Option<Vec<Uuid>>, bool), TeePolicyError<'t>> {
    let Some(texts) = strings(node, APPLICATIONS)? else {
        return Ok((None, false));
    };
    let (mut list, mut user_tas) = (Vec::new(), false);
    for (index, text) in texts.enumerate() {
        if text == USER_TAS {
            user_tas = true;
            continue;
        }
        let uuid = text
            .parse()
            .map_err(|_| TeePolicyError::Application(index))?;
        if list.len() == MAX_APPLICATIONS {
            return Err(TeePolicyError::TooManyApplications(MAX_APPLICATIONS));
        }
        list.push(uuid);
    }
    Ok((Some(list), user_tas))
}

/// The ids of FF-A, each a cell: of the secure world's endpoints, bit 15 is set.
fn partitions<'t>(node: FdtNode<'t>) -> Result<Option<Vec<EndpointId>>, TeePolicyError<'t>> {
    let Some(value) = tree::bytes(node, PARTITIONS) else {
        return Ok(None);
    };
    let (cells, rest) = value.as_chunks::<4>();
    let ids = cells.iter().map(|&cell| u32::from_be_bytes(cell));
    let ids = ids.map(|id| u16::try_from(id).ok().map(EndpointId::new));
    let ids: Option<Vec<_>> = ids
        .map(|id| id.filter(|id| id.is_secure()))
        .take(MAX_PARTITIONS + 1)
        .collect();
    ids.filter(|ids| rest.is_empty() && ids.len() <= MAX_PARTITIONS)
        .map(Some)
        .ok_or(TeePolicyError::Partitions(MAX_PARTITIONS))
}

fn logins<'t>(node: FdtNode<'t>) -> Result<Option<Vec<u32>>, TeePolicyError<'t>> {
    let Some(words) = strings(node, LOGINS)? else {
        return Ok(None);
    };
    let mut list = Vec::new();
    for word in words {
        let known = LOGIN_NAMES.iter().find(|(name, _)| *name == word);
        let (_, login) = known.ok_or(TeePolicyError::Word {
            property: LOGINS,
            words: "public, user, group, application, user-application, group-application, kernel",
        })?;
        if !list.contains(login) {
            list.push(*login);
        }
    }
    Ok(Some(list))
}

/// The strings of a list that may be empty; `None` where the property is absent.
fn strings<'t>(
    node: FdtNode<'t>,
    name: &'static str,
) -> Result<Option<impl Iterator<Item = &'t str>>, TeePolicyError<'t>> {
    let Some(value) = tree::bytes(node, name) else {
        return Ok(None);
    };
    let text = match value {
        [] => None,
        [text @ .., 0] => {
            Some(core::str::from_utf8(text).map_err(|_| TeePolicyError::NoList(name))?)
        }
        _ => return Err(TeePolicyError::NoList(name)),
    };
    Ok(Some(text.into_iter().flat_map(|text| text.split('\0'))))
}

/// Fails when `vm` owns a device that one of `others` owns as well.
pub(super) fn check_owner<'t>(
    vm: &VmConfig<'t>,
    others: &[VmConfig<'t>],
) -> Result<(), VmError<'t>> {
    let owns = |vm: &VmConfig<'t>| {
        let Policy { rpmb, i2c, .. } = vm.tee_config.policy;
        let tee = vm.tee != Tee::None;
        [("rpmb", tee && rpmb), ("i2c", tee && i2c)]
    };
    for other in others {
        let devices = owns(vm).into_iter().zip(owns(other));
        for ((device, here), (_, there)) in devices {
            if here && there {
                let owner = other.name;
                return Err(VmError::TeePolicy(TeePolicyError::Owned { device, owner }));
            }
        }
    }
    Ok(())
}
