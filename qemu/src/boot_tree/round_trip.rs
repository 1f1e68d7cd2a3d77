// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests the way from the text of a description to the hypervisor's reading of the tree.

use super::tests::{BASE, virt};
use super::*;
use crate::config::{
    Application, Device, Feature, Login, MAX_APPLICATIONS, MAX_PARTITIONS, PartitionId,
};
use mediator::addr::Pa;
use mediator::ffa::EndpointId;
use mediator::{Config, Features, Policy, Quotas};
use postern_base::range::PaRange;
use postern_boot_tree::{BootPlacement, LinkConfig, Machine, VmConfigs, machine};

fn range(start: u64, end: u64) -> PaRange {
    PaRange::between(Pa::new(start), Pa::new(end))
}

/// Returns the tree with the node that TF-A adds.
fn with_psci(tree: &[u8]) -> Vec<u8> {
    let mut tree = parse(tree).unwrap();
    let mut psci = DeviceTreeNode::new("psci").unwrap();
    set(&mut psci, "compatible", "arm,psci-1.0");
    set(&mut psci, "method", "smc");
    tree.root.add_child(psci);
    tree.to_dtb()
}

/// Returns the rights that the hypervisor reads for the first VM, or its error.
fn through(system: &System) -> Result<Config, String> {
    read(system, |_, vms| vms[0].tee_config.clone())
}

/// Returns a part of what the hypervisor reads, or its error.
fn read<T>(
    system: &System,
    take: impl FnOnce(&Machine<'_>, &VmConfigs<'_>) -> T,
) -> Result<T, String> {
    let modules = Modules {
        kernel: Region {
            address: 0x4800_0000,
            size: 0x1000,
        },
        initrd: Region {
            address: 0x4820_0000,
            size: 0x1000,
        },
        disk: system.vms[0].disk.as_ref().map(|_| Region {
            address: 0x4840_0000,
            size: 0x1000,
        }),
        partial_tree: None,
    };
    let at = virt().address;
    let modules = vec![modules; system.vms.len()];
    let tree = with_psci(&for_hypervisor(BASE, virt(), system, &modules, true).unwrap());
    let occupied = BootPlacement {
        boot_cpu: postern_boot_tree::Mpidr::new(0),
        hypervisor: range(0x4020_0000, 0x40a0_0000),
        tree: range(at, at + 0x10_0000),
    };
    let (machine, vms) =
        machine::read(&tree, occupied, &|_| None).map_err(|error| error.to_string())?;
    Ok(take(&machine, &vms))
}

#[test]
fn links_reach_the_hypervisor() {
    use postern_boot_tree::LinkKind::{Console, Network};
    let text = "name = \"b\"\n[[link]]\nname = \"lan\"\nvms = [\"b\", \"a\"]\n\
                [[link]]\nname = \"serial\"\nkind = \"console\"\nvms = [\"a\", \"b\"]";
    let links = read(&parsed(&format!("[[vm]]\n{text}")), |machine, _| {
        let all = machine.links.iter();
        let ends = |link: &LinkConfig<'_>| link.vms.iter().map(|vm| vm.get()).collect::<Vec<_>>();
        all.map(|link| (link.name.to_owned(), link.kind, ends(link)))
            .collect::<Vec<_>>()
    });
    let expected = [
        ("lan".to_owned(), Network, vec![1, 0]),
        ("serial".to_owned(), Console, vec![0, 1]),
    ];
    assert_eq!(links.unwrap(), expected);
}

fn parsed(text: &str) -> System {
    System::parse(&format!("[[vm]]\nname = \"a\"\n{text}")).unwrap()
}

#[test]
fn tee_keys_reach_the_mediator() {
    let all = Features {
        rpc_arg: true,
        async_notif: true,
    };
    assert_eq!(
        through(&parsed("")).unwrap(),
        Config {
            features: all,
            ..Config::default()
        }
    );
    let restricted = parsed(
        r#"
        [vm.tee_policy]
        applications = ["8AAAF200-2450-11e4-abe2-0002a5d5c51b"]
        logins = []
        partitions = [0x8001, 0x8002]
        devices = ["rpmb"]
        features = ["rpc-arg"]
        [vm.tee_quota]
        pages = 1
        buffers = 2
        calls = 3
        sessions = 4
        rpc_buffers = 5
        mapped_pages = 6
        max_leaked_asids = 7
        address_spaces = 8
        "#,
    );
    assert_eq!(
        through(&restricted).unwrap(),
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
                trusted_apps: Some(vec![
                    "8aaaf200-2450-11e4-abe2-0002a5d5c51b".parse().unwrap()
                ]),
                user_tas: false,
                logins: Some(vec![]),
                partitions: Some([0x8001, 0x8002].map(EndpointId::new).to_vec()),
                rpmb: true,
                i2c: false,
            },
            features: Features {
                rpc_arg: true,
                async_notif: false,
            },
            max_creations: None,
        }
    );
}

#[test]
fn optee_spi_reaches_the_hypervisor() {
    let optee = |text: &str| {
        let text = format!("{text}[[vm]]\nname = \"b\"");
        read(&System::parse(&text).unwrap(), |machine, _| machine.optee)
    };
    // No firmware has patched the tree.
    assert_eq!(optee(""), Ok(None));
    let found = optee("[machine]\noptee_spi = 187\n").unwrap().unwrap();
    let interrupt = found.notification.unwrap();
    assert_eq!(interrupt.intid.get(), 219);
    assert_eq!(interrupt.trigger, Some(postern_boot_tree::Trigger::Edge));
}

#[test]
fn autostart_keys_reach_the_hypervisor() {
    let flags = |text: &str| {
        let text = format!("[machine]\n{text}[[vm]]\nname = \"b\"");
        read(&System::parse(&text).unwrap(), |machine, vms| {
            // The file does not say how OP-TEE was built.
            assert!(machine.static_tables);
            let vm = &vms[0];
            (
                (machine.stay, vm.autostart, vm.privileged),
                (vm.watchdog, vm.rng, vm.disk.is_some()),
            )
        })
    };
    let none = (false, false, false);
    assert_eq!(flags(""), Ok(((false, true, false), none)));
    let manual = "[[vm]]\nname = \"a\"\nmemory = \"64G\"\nautostart = false\n";
    assert_eq!(flags(manual), Ok(((false, false, false), none)));
    let all = "when_all_off = \"stay\"\n[[vm]]\nname = \"a\"\nprivileged = true\nwatchdog = true\n\
        rng = true\ndisk = \"root.img\"\n";
    assert_eq!(flags(all), Ok(((true, true, true), (true, true, true))));
}

#[test]
fn user_tas_may_be_a_word_or_a_list_entry() {
    let word = parsed("[vm.tee_policy]\napplications = \"user\"");
    let list = parsed("[vm.tee_policy]\napplications = [\"user\"]");
    assert_eq!(word.vms[0].tee_policy, list.vms[0].tee_policy);
    let policy = through(&word).unwrap().policy;
    assert_eq!((policy.trusted_apps, policy.user_tas), (Some(vec![]), true));
}

#[test]
fn words_and_limits_of_both_ends_match() {
    let mut system = parsed("");
    let policy = &mut system.vms[0].tee_policy;
    policy.logins = Some(Login::ALL.to_vec());
    policy.devices = Device::ALL.to_vec();
    policy.features = Some(Feature::ALL.to_vec());
    let last = PartitionId::try_from(0xffff).unwrap();
    policy.partitions = Some(vec![last; MAX_PARTITIONS]);
    let uuid = "8aaaf200-2450-11e4-abe2-0002a5d5c51b".parse().unwrap();
    policy.applications = Some(vec![Application::Named(uuid); MAX_APPLICATIONS]);
    policy
        .applications
        .as_mut()
        .unwrap()
        .push(Application::UserTas);
    let config = through(&system).unwrap();
    assert!(config.policy.user_tas);
    assert_eq!(
        config.policy.trusted_apps.map(|list| list.len()),
        Some(MAX_APPLICATIONS)
    );
    assert_eq!(config.policy.logins.map(|list| list.len()), Some(7));
    assert!(config.policy.rpmb && config.policy.i2c);
    assert!(config.features.rpc_arg && config.features.async_notif);
    let applications = system.vms[0].tee_policy.applications.as_mut().unwrap();
    applications.push(Application::Named(uuid));
    assert!(through(&system).unwrap_err().contains("more than 64"));
    let partitions = system.vms[0].tee_policy.partitions.as_mut().unwrap();
    partitions.push(partitions[0]);
    system.vms[0].tee_policy.applications = None;
    assert!(through(&system).unwrap_err().contains("at most 64 cells"));
    for quota in parsed("").vms[0].tee_quota.all() {
        let with = |value: u32| {
            let mut system = parsed("");
            let table = toml::from_str(&format!("{} = {value}", quota.key));
            system.vms[0].tee_quota = table.unwrap();
            through(&system)
        };
        assert!(with(1).is_ok() && with(quota.most).is_ok(), "{quota:?}");
        for value in [0, quota.most + 1] {
            let error = with(value).unwrap_err();
            let text = format!("vm `a`: {} must be 1 to {}", quota.property, quota.most);
            assert_eq!(error, text);
        }
    }
}
