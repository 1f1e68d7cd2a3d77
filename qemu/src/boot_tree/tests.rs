// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads the trees back with a parser that is independent of the writer. `testdata/virt.dtb` is the
//! dump of QEMU 7.2 for the default machine.

use super::*;
use crate::board::{BaseTree, BoardName};
use fdt::node::FdtNode;

pub(super) const BASE: &[u8] = include_bytes!("../../testdata/virt.dtb");

pub(super) fn virt() -> &'static QemuTree {
    match &BoardName::Virt.board().tree {
        BaseTree::Qemu(tree) => tree,
        BaseTree::Linux(_) => panic!("QEMU generates virt's tree"),
    }
}

fn port() -> &'static OpteePort {
    &BoardName::Virt.board().optee
}

fn value<'a>(node: FdtNode<'_, 'a>, name: &str) -> &'a [u8] {
    match node.property(name) {
        Some(property) => property.value,
        None => panic!("{} has no {name}", node.name),
    }
}

fn words(node: FdtNode<'_, '_>, name: &str) -> Vec<u32> {
    value(node, name)
        .chunks_exact(4)
        .map(|word| u32::from_be_bytes(word.try_into().unwrap()))
        .collect()
}

fn text<'a>(node: FdtNode<'_, 'a>, name: &str) -> &'a str {
    let bytes = value(node, name).strip_suffix(b"\0").unwrap();
    std::str::from_utf8(bytes).unwrap()
}

fn region(address: u64, size: u64) -> Region {
    Region { address, size }
}

#[test]
fn vm_nodes_follow_the_binding() {
    let system = System::parse(
        r#"
        [machine]
        memory_mib = 6144
        [[vm]]
        name = "a"
        cmdline = "console=ttyAMA0 quiet"
        [[vm]]
        name = "big"
        vcpus = 4
        memory = "5G"
        tee = "none"
        affinity = [1, 3]
        sve = 512
        "#,
    )
    .unwrap();
    let modules = [
        Modules {
            kernel: region(0x4800_0000, 0x23e_a7c0),
            initrd: region(0x4a40_0000, 0x6e_8eee),
            disk: Some(region(0x5000_0000, 0x20_0000)),
            partial_tree: Some(region(0x5100_0000, 0x321)),
        },
        Modules {
            kernel: region(0x1_4800_0000, 0x1_0000),
            initrd: region(0x4a40_0000, 0x6e_8eee),
            disk: None,
            partial_tree: None,
        },
    ];
    let bytes = for_hypervisor(BASE, virt(), &system, &modules, false).unwrap();
    let tree = fdt::Fdt::new(&bytes).unwrap();
    let chosen = tree.find_node("/chosen").unwrap();
    assert!(chosen.property("bootargs").is_none());
    assert_eq!(text(chosen, "stdout-path"), "/pl011@9000000");
    let names: Vec<&str> = chosen.children().map(|node| node.name).collect();
    assert_eq!(names, ["vm-a", "vm-big"]);

    let a = tree.find_node("/chosen/vm-a").unwrap();
    assert_eq!(text(a, "compatible"), "postern,domain");
    assert_eq!(text(a, "vm-name"), "a");
    assert_eq!(text(a, "tee"), "required");
    assert_eq!(words(a, "memory"), [0, 0x8_0000]);
    assert_eq!(words(a, "cpus"), [2]);
    assert!(a.property("affinity").is_none());
    assert!(a.property("sve").is_none());
    let kernel = tree.find_node("/chosen/vm-a/module@48000000").unwrap();
    assert_eq!(
        value(kernel, "compatible"),
        b"multiboot,kernel\0multiboot,module\0"
    );
    assert_eq!(words(kernel, "reg"), [0, 0x4800_0000, 0, 0x23e_a7c0]);
    assert_eq!(text(kernel, "bootargs"), "console=ttyAMA0 quiet");
    let initrd = tree.find_node("/chosen/vm-a/module@4a400000").unwrap();
    assert_eq!(
        value(initrd, "compatible"),
        b"multiboot,ramdisk\0multiboot,module\0"
    );
    assert_eq!(words(initrd, "reg"), [0, 0x4a40_0000, 0, 0x6e_8eee]);
    assert!(initrd.property("bootargs").is_none());
    let disk = tree.find_node("/chosen/vm-a/module@50000000").unwrap();
    assert_eq!(value(disk, "compatible"), b"postern,disk\0");
    assert_eq!(words(disk, "reg"), [0, 0x5000_0000, 0, 0x20_0000]);

    let big = tree.find_node("/chosen/vm-big").unwrap();
    assert_eq!(words(big, "memory"), [0, 5 << 20]);
    assert_eq!(words(big, "affinity"), [1, 3]);
    assert_eq!(words(big, "sve"), [512]);
    assert_eq!(text(big, "tee"), "none");
    let kernel = tree.find_node("/chosen/vm-big/module@148000000").unwrap();
    assert_eq!(words(kernel, "reg"), [1, 0x4800_0000, 0, 0x1_0000]);
}

#[test]
fn other_nodes_stay_as_qemu_wrote_them() {
    let system = System::parse("[[vm]]\nname = \"a\"").unwrap();
    let modules = [Modules {
        kernel: region(0x4800_0000, 1),
        initrd: region(0x4a40_0000, 1),
        disk: None,
        partial_tree: None,
    }];
    let bytes = for_hypervisor(BASE, virt(), &system, &modules, false).unwrap();
    let (before, after) = (fdt::Fdt::new(BASE).unwrap(), fdt::Fdt::new(&bytes).unwrap());
    let nodes = |tree: &fdt::Fdt<'_>| -> Vec<String> {
        tree.all_nodes()
            .filter(|node| node.name != "chosen" && node.name != "vm-a")
            .filter(|node| !node.name.starts_with("module@"))
            .map(|node| {
                let properties: Vec<String> = node
                    .properties()
                    .map(|property| format!("{}={:?}", property.name, property.value))
                    .collect();
                format!("{} {properties:?}", node.name)
            })
            .collect()
    };
    assert_eq!(nodes(&before), nodes(&after));
}

#[test]
fn native_tree_has_initramfs_and_tee_without_secure_devices() {
    let bytes = for_linux(
        BASE,
        virt(),
        Some(port()),
        "console=ttyAMA0",
        region(0x4800_0000, 0x1234),
    )
    .unwrap();
    let tree = fdt::Fdt::new(&bytes).unwrap();
    let chosen = tree.find_node("/chosen").unwrap();
    assert_eq!(text(chosen, "bootargs"), "console=ttyAMA0");
    assert_eq!(words(chosen, "linux,initrd-start"), [0, 0x4800_0000]);
    assert_eq!(words(chosen, "linux,initrd-end"), [0, 0x4800_1234]);
    let optee = tree.find_node("/firmware/optee").unwrap();
    assert_eq!(text(optee, "compatible"), "linaro,optee-tz");
    assert_eq!(words(optee, "interrupts"), [0, 187, 1]);
    for name in virt().not_for_linux {
        assert!(tree.find_node(&format!("/{name}")).is_none(), "{name}");
    }
    assert!(tree.find_node("/pl011@9000000").is_some());
}

#[test]
fn native_tree_without_port_has_no_optee() {
    let bytes = for_linux(BASE, virt(), None, "x", region(0x4800_0000, 0x1234)).unwrap();
    let tree = fdt::Fdt::new(&bytes).unwrap();
    assert!(tree.find_node("/firmware").is_none());
    assert!(tree.find_node("/secram@e000000").is_none());
    assert_eq!(text(tree.find_node("/chosen").unwrap(), "bootargs"), "x");
}

#[test]
fn program_tree_has_all_devices_and_files() {
    let bytes = for_program(BASE, virt(), "x", region(0x4800_0000, 0x1234)).unwrap();
    let tree = fdt::Fdt::new(&bytes).unwrap();
    let chosen = tree.find_node("/chosen").unwrap();
    assert_eq!(text(chosen, "bootargs"), "x");
    assert_eq!(words(chosen, "linux,initrd-start"), [0, 0x4800_0000]);
    assert_eq!(words(chosen, "linux,initrd-end"), [0, 0x4800_1234]);
    assert_eq!(chosen.children().count(), 0);
    // OP-TEE itself adds its node there, as it does for the hypervisor.
    assert!(tree.find_node("/firmware/optee").is_none());
    assert!(tree.find_node("/secram@e000000").is_some());
}

#[test]
fn files_are_placed_once_at_multiples_of_2_mib() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, size: u64| {
        let path = folder.path().join(name);
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(size).unwrap();
        path
    };
    let (kernel, initrd) = (file("Image", (2 << 20) + 1), file("initrd", 2 << 20));
    let (empty, large) = (file("empty", 0), file("large", 512 << 20));
    let mut placement = Placement::new(virt(), 0x6000_0000);
    let first = placement.place(&kernel).unwrap();
    assert_eq!(first, region(0x4800_0000, (2 << 20) + 1));
    let second = placement.place(&initrd).unwrap();
    assert_eq!(second, region(0x4840_0000, 2 << 20));
    assert_eq!(placement.place(&kernel).unwrap(), first);
    assert_eq!(placement.loads().len(), 2);
    assert_eq!(placement.loads()[1].address, 0x4840_0000);
    let error = |result: Result<Region>| result.unwrap_err().to_string();
    assert!(error(placement.place(&empty)).contains("is empty"));
    assert!(error(placement.place(&large)).contains("machine.memory_mib"));
    assert!(error(placement.place(Path::new("/no/such"))).contains("/no/such"));
    assert!(placement.place(&file("next", 1)).unwrap().address == 0x4860_0000);
}

#[test]
fn damaged_base_tree_is_an_error() {
    let system = System::parse("[[vm]]\nname = \"a\"").unwrap();
    assert!(for_hypervisor(&BASE[..100], virt(), &system, &[], false).is_err());
    assert!(for_linux(b"", virt(), Some(port()), "", region(1, 1)).is_err());
}
