// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the `tee-…` properties of a VM's node become.

use dtoolkit::model::{DeviceTree, DeviceTreeNode};
use mediator::ffa::EndpointId;
use mediator::{Config, Features, Policy, Quotas};
use optee_proto::Uuid;

use super::fixture::{at, cells, set};
use super::{fixture, occupied, read};

const AVB: &str = "023f8f1a-292a-432b-8fc4-de8471358067";
const PKCS11: &str = "fd02c9da-306c-48c7-a49c-bbd827ae86ee";
/// A list without a string.
const EMPTY: [&str; 0] = [];

/// What a VM has whose node has none of the properties.
pub fn everything() -> Config {
    Config {
        features: Features {
            rpc_arg: true,
            async_notif: true,
        },
        ..Config::default()
    }
}

fn with(change: impl FnOnce(&mut DeviceTreeNode)) -> Config {
    let mut tree = fixture::two_vms();
    change(at(&mut tree, "/chosen/vm-a"));
    let dtb = tree.to_dtb();
    let (_, vms) = read(&dtb, occupied()).unwrap();
    assert_eq!(vms[1].tee_config, everything(), "the neighbour's");
    vms[0].tee_config.clone()
}

/// Sets every one of the properties.
pub fn restrict(vm: &mut DeviceTreeNode) {
    set(vm, "tee-applications", [AVB, "user", PKCS11].as_slice());
    let names = [
        "public",
        "user",
        "group",
        "application",
        "user-application",
        "group-application",
        "kernel",
        "user",
    ];
    set(vm, "tee-logins", names.as_slice());
    cells(vm, "tee-partitions", [0x8003, 0xffff]);
    set(vm, "tee-devices", ["i2c", "rpmb"].as_slice());
    set(vm, "tee-features", "notifications");
    set(vm, "tee-quota-pages", 1_u32);
    set(vm, "tee-quota-buffers", 2_u32);
    set(vm, "tee-quota-calls", 3_u32);
    set(vm, "tee-quota-sessions", 4_u32);
    set(vm, "tee-quota-rpc-buffers", 5_u32);
    set(vm, "tee-quota-mapped-pages", 6_u32);
    set(vm, "tee-quota-max-leaked-asids", 7_u32);
    set(vm, "tee-quota-address-spaces", 8_u32);
}

#[test]
fn each_property_becomes_its_part_of_the_configuration() {
    let read = with(restrict);
    let uuid = |text: &str| text.parse::<Uuid>().unwrap();
    assert_eq!(
        read,
        Config {
            quotas: Quotas {
                pages: 1,
                buffers: 2,
                calls: 3,
                sessions: 4,
                rpc_buffers: 5,
                mapped_pages: 6,
                max_leaked_asids: 7,
                address_spaces: 8,
            },
            policy: Policy {
                trusted_apps: Some(vec![uuid(AVB), uuid(PKCS11)]),
                user_tas: true,
                logins: Some(vec![0, 1, 2, 4, 5, 6, 0x8000_0000]),
                partitions: Some([0x8003, 0xffff].map(EndpointId::new).to_vec()),
                rpmb: true,
                i2c: true,
            },
            features: Features {
                rpc_arg: false,
                async_notif: true,
            },
            max_creations: None,
        }
    );
}

#[test]
fn an_empty_list_is_not_an_absent_one() {
    let read = with(|vm| {
        for name in [
            "applications",
            "logins",
            "partitions",
            "devices",
            "features",
        ] {
            set(vm, &format!("tee-{name}"), EMPTY.as_slice());
        }
    });
    assert_eq!(read.policy.trusted_apps, Some(vec![]));
    assert_eq!(read.policy.logins, Some(vec![]));
    assert_eq!(read.policy.partitions, Some(vec![]));
    assert_eq!((read.policy.rpmb, read.policy.i2c), (false, false));
    assert_eq!(read.features, Features::default());
    assert_eq!(read.quotas, Quotas::default());
}

#[test]
fn each_feature_is_offered_by_its_own_name() {
    for (names, rpc_arg, async_notif) in [
        (["rpc-arg"].as_slice(), true, false),
        (&["notifications"], false, true),
        (&["notifications", "rpc-arg"], true, true),
    ] {
        let read = with(|vm| set(vm, "tee-features", names));
        let features = Features {
            rpc_arg,
            async_notif,
        };
        assert_eq!(read.features, features);
    }
}

#[test]
fn the_highest_quotas_are_taken() {
    let read = with(|vm| {
        set(vm, "tee-quota-pages", 262_144_u32);
        set(vm, "tee-quota-buffers", 65_000_u32);
        set(vm, "tee-quota-calls", 64_u32);
        set(vm, "tee-quota-sessions", 4096_u32);
        set(vm, "tee-quota-rpc-buffers", 1024_u32);
        set(vm, "tee-quota-mapped-pages", 16_384_u32);
        set(vm, "tee-quota-max-leaked-asids", 64_u32);
        set(vm, "tee-quota-address-spaces", 64_u32);
    });
    assert_eq!((read.quotas.calls, read.quotas.buffers), (64, 65_000));
}

#[test]
fn a_device_may_be_named_by_two_when_one_has_no_tee() {
    let mut tree = fixture::two_vms();
    for vm in ["/chosen/vm-a", "/chosen/vm-b"] {
        set(at(&mut tree, vm), "tee-devices", "rpmb");
    }
    set(at(&mut tree, "/chosen/vm-a"), "tee", "none");
    let dtb = tree.to_dtb();
    assert!(read(&dtb, occupied()).unwrap().1[1].tee_config.policy.rpmb);
}

/// Each line breaks one thing; the text is what a user sees of it.
#[test]
fn mistakes_are_named_with_their_fix() {
    type Break = fn(&mut DeviceTree);
    fn a(tree: &mut DeviceTree) -> &mut DeviceTreeNode {
        at(tree, "/chosen/vm-a")
    }
    let table: &[(Break, &str)] = &[
        (
            |t| cells(a(t), "tee-partitions", [0x8001, 0x7fff]),
            "tee-partitions must be at most 64 cells, each 0x8000 to 0xffff",
        ),
        (
            |t| set(a(t), "tee-partitions", "0x8001"),
            "tee-partitions must be at most 64 cells, each 0x8000 to 0xffff",
        ),
        (
            |t| set(a(t), "tee-applications", [AVB, "avb"].as_slice()),
            "tee-applications: string 1 (the first is 0) is neither \"user\" nor a UUID, \
             such as \"8aaaf200-2450-11e4-abe2-0002a5d5c51b\"",
        ),
        (
            |t| cells(a(t), "tee-applications", [1]),
            "tee-applications must be a list of strings",
        ),
        (
            |t| set(a(t), "tee-applications", [AVB; 65].as_slice()),
            "tee-applications has more than 64 UUIDs: without it, all are allowed",
        ),
        (
            |t| set(a(t), "tee-logins", "root"),
            "tee-logins must list some of: \
             public, user, group, application, user-application, group-application, kernel",
        ),
        (
            |t| set(a(t), "tee-devices", "spi"),
            "tee-devices must list some of: rpmb, i2c",
        ),
        (
            |t| set(a(t), "tee-features", ["rpc-arg", ""].as_slice()),
            "tee-features must list some of: rpc-arg, notifications",
        ),
        (
            |t| set(a(t), "tee-quota-sessions", 0_u32),
            "tee-quota-sessions must be 1 to 4096",
        ),
        (
            |t| set(a(t), "tee-quota-pages", 262_145_u32),
            "tee-quota-pages must be 1 to 262144",
        ),
        (
            |t| set(a(t), "tee-quota-calls", 1_u64),
            "tee-quota-calls must be 1 to 64",
        ),
        (
            |t| set(a(t), "tee-quota-session", 1_u32),
            "property `tee-quota-session` is unknown: see docs/device-tree-binding.md",
        ),
    ];
    for (break_it, text) in table {
        let mut tree = fixture::two_vms();
        break_it(&mut tree);
        let dtb = tree.to_dtb();
        let error = read(&dtb, occupied()).map(|_| ()).expect_err(text);
        assert_eq!(error.to_string(), format!("vm `vm-a`: {text}"));
    }
    for device in ["rpmb", "i2c"] {
        let mut tree = fixture::two_vms();
        set(
            at(&mut tree, "/chosen/vm-a"),
            "tee-devices",
            ["i2c", "rpmb"].as_slice(),
        );
        set(at(&mut tree, "/chosen/vm-b"), "tee-devices", device);
        let dtb = tree.to_dtb();
        let error = read(&dtb, occupied()).map(|_| ()).expect_err(device);
        let text = format!(
            "vm `b.2`: tee-devices: vm `vm-a` owns \"{device}\": one virtual machine at most can"
        );
        assert_eq!(error.to_string(), text);
    }
}
