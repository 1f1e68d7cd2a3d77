// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Bundles of small files, read back by another parser than the one that wrote them, and by
//! U-Boot's rules.

use super::*;
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::model::{DeviceTree, DeviceTreeNode};
use dtoolkit::{Node, Property};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use tempfile::TempDir;

/// What QEMU 7.2 dumps for the default machine: a board without PSCI and OP-TEE.
const VIRT: &[u8] = include_bytes!("../../testdata/virt.dtb");

const TWO: &str = r#"
[machine]
when_all_off = "stay"
[[vm]]
name = "a"
kernel = "Image"
initrd = "disk"
memory = "64M"
cmdline = "console=ttyAMA0 quoted=\"$x\""
tee_policy = { logins = ["public", "user"], features = [] }
[[vm]]
name = "b"
kernel = "Image"
initrd = "other"
memory = "64M"
affinity = [2, 3]
[vm.tee_quota]
sessions = 7
"#;

/// A file with the header of an arm64 `Image` that takes so much memory.
fn image(memory: u64) -> Vec<u8> {
    let mut image = vec![0x5a; 0x3000];
    image[8..16].fill(0);
    image[16..24].copy_from_slice(&memory.to_le_bytes());
    // Little endian, 4 KiB pages, anywhere in RAM.
    image[24..32].copy_from_slice(&0b1010_u64.to_le_bytes());
    image[56..60].copy_from_slice(b"ARM\x64");
    image
}

/// The board of the tests, with PSCI or without.
fn board(psci: bool) -> Vec<u8> {
    let mut tree = board::open(VIRT).expect("a tree");
    if psci {
        let mut node = DeviceTreeNode::new("psci").expect("a name");
        crate::boot_tree::set(&mut node, "compatible", "arm,psci-1.0");
        crate::boot_tree::set(&mut node, "method", "smc");
        tree.root.add_child(node);
    }
    tree.to_dtb()
}

/// A folder with everything that a bundle of [`TWO`] is made of, and the plan.
fn plan(text: &str) -> (TempDir, Plan) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        path
    };
    file("Image", &image(4 << 20));
    file("disk", &[1; 5000]);
    file("other", &[2; 7]);
    file("sectors", &[3; 1024]);
    let system = System::load_for_board(&file("system.toml", text.as_bytes())).expect("a system");
    let plan = Plan {
        board: file("board.dtb", &board(true)),
        system,
        suite: Suite::default(),
        out: folder.path().join("out"),
        hypervisor: Some(file("hypervisor", &image(6 << 20))),
        from: From::default(),
        load_address: None,
        additions: Additions {
            optee: OpteeNodes::Add,
            optee_interrupt: Some([0, 187, 1]),
            reserve: vec!["0x42000000:2M".parse().expect("a range")],
            ..Additions::default()
        },
    };
    (folder, plan)
}

fn made(plan: &Plan) -> Outcome {
    bundle(plan, &Progress::on_stderr()).expect("files that can be read")
}

/// The notes of a bundle that is complete.
fn notes(plan: &Plan) -> Vec<String> {
    match made(plan) {
        Outcome::Done(mut notes) => {
            // QEMU's tree has seeds.
            let seed = notes.remove(0);
            assert!(
                seed.contains("the same at every boot: it is left out"),
                "{seed}"
            );
            notes
        }
        problems => panic!("{problems:?}"),
    }
}

fn read(plan: &Plan, name: &str) -> Vec<u8> {
    std::fs::read(plan.out.join(name)).expect(name)
}

fn text(plan: &Plan, name: &str) -> String {
    String::from_utf8(read(plan, name)).expect("text")
}

fn problems(plan: &Plan) -> Vec<String> {
    match made(plan) {
        Outcome::Problems(lines) => {
            assert!(!plan.out.exists(), "something was written");
            let name = format!("{}: ", plan.board.display());
            let line = |line: &String| line.strip_prefix(&name).expect("the file").to_owned();
            lines.iter().map(line).collect()
        }
        done => panic!("{done:?}"),
    }
}

/// All properties of a tree by path, and all children in their order.
fn all(node: &DeviceTreeNode, path: &str, into: &mut BTreeMap<String, Vec<u8>>) {
    let names: Vec<&str> = node.children().map(|child| child.name()).collect();
    into.insert(format!("{path}/"), names.join(" ").into_bytes());
    for property in node.properties() {
        into.insert(
            format!("{path}:{}", property.name()),
            property.value().to_vec(),
        );
    }
    for child in node.children() {
        all(child, &format!("{path}/{}", child.name()), into);
    }
}

#[test]
fn a_disk_is_loaded_as_other_files_are() {
    let both = TWO.replace("memory =", "disk = \"sectors\"\nmemory =");
    let (_folder, plan) = plan(&both);
    assert_eq!(notes(&plan), Vec::<String>::new());
    let bytes = read(&plan, TREE);
    let fdt = Fdt::new(&bytes).expect("a tree");
    let chosen = fdt.root().child("chosen").expect("chosen");
    let mut places = Vec::new();
    for vm in chosen.children() {
        let is_disk = |node: &FdtNode<'_>| {
            let kind = node.property("compatible").expect("a kind");
            kind.value() == b"postern,disk\0"
        };
        let disk = vm.children().find(is_disk).expect("a disk");
        places.push(disk.property("reg").expect("a place").value().to_vec());
    }
    assert_eq!(places[0], places[1], "one copy");
    let address = u64::from_be_bytes(places[0][..8].try_into().expect("two cells"));
    let script = text(&plan, "boot.cmd");
    let line = format!("{address:#x} ${{prefix}}disk-a.img || ");
    assert!(script.contains(&line), "{script}");
    assert_eq!(read(&plan, "disk-a.img"), [3; 1024]);
}

#[test]
fn the_merged_tree_names_where_the_scripts_load_files() {
    let (_folder, plan) = plan(TWO);
    assert_eq!(notes(&plan), Vec::<String>::new());
    let bytes = read(&plan, TREE);
    let fdt = Fdt::new(&bytes).expect("a tree");
    let chosen = fdt.root().child("chosen").expect("chosen");
    let vms: Vec<&str> = chosen.children().map(|vm| vm.name()).collect();
    assert_eq!(vms, ["vm-a", "vm-b"]);
    let script = text(&plan, "boot.cmd");
    let page = text(&plan, PAGE);
    // 128 MiB above the start of RAM; both VMs boot one copy of their kernel.
    for (name, address, size) in [
        (HYPERVISOR, 0x4800_0000, 0x3000),
        ("kernel-a.img", 0x4860_0000, 0x3000),
        ("initrd-a.img", 0x4880_0000, 5000),
        ("initrd-b.img", 0x48a0_0000, 7),
        (TREE, 0x48c0_0000, bytes.len()),
    ] {
        let lines = format!(
            "load ${{devtype}} ${{devnum}}:${{distro_bootpart}} {address:#x} ${{prefix}}{name} || \
             setenv postern_ok no\n\
             test \"${{filesize}}\" = {size:x} || setenv postern_ok no\n"
        );
        assert!(script.contains(&lines), "{name}: {script}");
        assert_eq!(read(&plan, name).len(), size);
        assert!(
            page.contains(&format!("load mmc 0:1 {address:#x} {name}\n")),
            "{page}"
        );
        assert!(
            page.contains(&format!("tftpboot {address:#x} {name}\n")),
            "{page}"
        );
    }
    assert!(
        script.contains("then booti 0x48000000 - 0x48c00000; fi\n"),
        "{script}"
    );
    let by_efi = script.replace("booti 0x48000000 - ", "bootefi 0x48000000:3000 ");
    let lines = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&text(&plan, "boot-efi.cmd")), lines(&by_efi));
    for (vm, initrd) in [("vm-a", "module@48800000"), ("vm-b", "module@48a00000")] {
        let vm = chosen.child(vm).expect(vm);
        assert!(vm.child(initrd).is_some() && vm.child("module@48600000").is_some());
    }
    assert!(chosen.property("postern,stay").is_some());
    assert!(chosen.property("kaslr-seed").is_none() && chosen.property("rng-seed").is_none());
    let reserved = fdt.root().child("reserved-memory").expect("reserved");
    let secure = reserved.child("firmware@42000000").expect("OP-TEE's");
    assert_eq!(
        secure.property("reg").expect("reg").value()[4..8],
        [0x42, 0, 0, 0]
    );
    assert!(
        page.contains("CFG_VIRT_GUEST_COUNT=2") && page.contains("kaslr-seed"),
        "{page}"
    );
}

#[test]
fn a_fit_has_every_file_with_its_hash() {
    let (_folder, plan) = plan(TWO);
    assert_eq!(notes(&plan), Vec::<String>::new());
    let bytes = read(&plan, FIT);
    let fit = Fdt::new(&bytes).expect("a tree");
    let images = fit.root().child("images").expect("images");
    let string = |node: &str, name: &str| {
        let image = images.child(node).expect(node);
        let value = image.property(name).map(|p| p.value().to_vec());
        value.map(|value| {
            String::from_utf8_lossy(&value)
                .trim_end_matches('\0')
                .to_owned()
        })
    };
    for (node, file, kind, os) in [
        ("hypervisor", HYPERVISOR, "kernel", Some("linux")),
        ("fdt", TREE, "flat_dt", None),
        ("kernel-a", "kernel-a.img", "firmware", Some("linux")),
        ("initrd-a", "initrd-a.img", "firmware", Some("linux")),
        ("initrd-b", "initrd-b.img", "firmware", Some("linux")),
    ] {
        assert_eq!(string(node, "type").as_deref(), Some(kind));
        assert_eq!(string(node, "os").as_deref(), os);
        let image = images.child(node).expect(node);
        let data = read(&plan, file);
        assert_eq!(image.property("data").expect("data").value(), data);
        let hash = image.child("hash-1").expect("a hash");
        assert_eq!(hash.property("algo").expect("algo").value(), b"sha256\0");
        assert_eq!(
            hash.property("value").expect("value").value(),
            &Sha256::digest(&data)[..]
        );
    }
    assert_eq!(images.children().count(), 5);
    let configurations = fit.root().child("configurations").expect("configurations");
    let conf = configurations.child("conf-1").expect("the default");
    assert_eq!(
        conf.property("loadables").expect("some").value(),
        b"kernel-a\0initrd-a\0initrd-b\0"
    );
    let script = text(&plan, "boot-fit.cmd");
    assert!(script.contains("then bootm 0x48e00000; fi\n"), "{script}");
}

/// What U-Boot's `fdt` command makes of a script, with its rules: a new node is the first, and a
/// value is strings, `<cells>` or `[bytes]`.
fn carried_out(script: &str) -> DeviceTree {
    let mut tree = DeviceTree::new();
    tree.root.add_child(DeviceTreeNode::new_unchecked("chosen"));
    for line in script.lines() {
        let line = line
            .strip_suffix(" || setenv postern_ok no")
            .unwrap_or(line);
        if let Some(rest) = line.strip_prefix("fdt mknode ") {
            let (path, name) = rest.split_once(' ').expect("a name");
            let parent = tree.find_node_mut(path).expect(path);
            if parent.child(name).is_some() {
                continue;
            }
            let names: Vec<String> = parent
                .children()
                .map(|child| child.name().to_owned())
                .collect();
            let old: Vec<DeviceTreeNode> = names
                .iter()
                .filter_map(|name| parent.remove_child(name))
                .collect();
            parent.add_child(DeviceTreeNode::new_unchecked(name));
            for child in old {
                parent.add_child(child);
            }
        } else if let Some(rest) = line.strip_prefix("fdt set ") {
            let mut parts = rest.split('"');
            let path = parts.next().expect("a path").trim_end();
            let words: Vec<&str> = parts.step_by(2).collect();
            let mut value = Vec::new();
            for word in &words[1..] {
                let inside = |open, close| {
                    word.strip_prefix(open)
                        .and_then(|w: &str| w.strip_suffix(close))
                };
                if let Some(cells) = inside('<', '>') {
                    for cell in cells.split(' ') {
                        let hex = cell.strip_prefix("0x").expect("hex");
                        value.extend(u32::from_str_radix(hex, 16).expect("a cell").to_be_bytes());
                    }
                } else if let Some(bytes) = inside('[', ']') {
                    let byte = |text| u8::from_str_radix(text, 16).expect("a byte");
                    value.extend(bytes.split(' ').map(byte));
                } else {
                    value.extend(word.bytes().chain([0]));
                }
            }
            let node = tree.find_node_mut(path).expect(path);
            crate::boot_tree::set(node, words[0], value);
        }
    }
    tree
}

#[test]
fn the_script_for_u_boot_s_own_tree_makes_what_the_merged_tree_has() {
    let (_folder, plan) = plan(TWO);
    assert_eq!(notes(&plan), Vec::<String>::new());
    let script = text(&plan, "boot-own-tree.cmd");
    assert!(!script.contains(TREE), "{script}");
    assert!(
        script.contains("fdt move ${fdtcontroladdr} 0x48c00000 0x100000"),
        "{script}"
    );
    let mut by_script = BTreeMap::new();
    all(&carried_out(&script).root, "", &mut by_script);
    let merged = board::open(&read(&plan, TREE)).expect("a tree");
    let mut in_tree = BTreeMap::new();
    all(&merged.root, "", &mut in_tree);
    by_script.remove("/");
    for (path, value) in &by_script {
        assert_eq!(Some(value), in_tree.get(path), "{path}");
    }
    // All of the VMs is there, and more than them.
    for path in in_tree
        .keys()
        .filter(|path| path.starts_with("/chosen/vm-"))
    {
        assert!(by_script.contains_key(path), "{path}");
    }
    assert!(by_script.contains_key("/firmware/optee:method"));
    assert!(by_script.contains_key("/reserved-memory/firmware@42000000:no-map"));
}

#[test]
fn what_u_boot_s_fdt_command_does_not_take_is_said_and_left_out() {
    let long = TWO.replace("quoted=", &"x".repeat(1100));
    let (_folder, plan) = plan(&long);
    let notes = notes(&plan);
    assert!(
        notes[0].starts_with("there is no boot-own-tree.scr: ") && notes[0].contains("bootargs"),
        "{notes:?}"
    );
    assert!(!plan.out.join("boot-own-tree.scr").exists());
    assert!(plan.out.join("boot.scr").exists());
}

#[test]
fn every_problem_is_a_line_of_what_where_and_what_to_do() {
    let (folder, mut bare) = plan(TWO);
    std::fs::write(&bare.board, board(false)).expect("written");
    bare.additions.optee = OpteeNodes::Tree;
    let lines = problems(&bare);
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].starts_with("/psci: no node is compatible with arm,psci-0.2"));
    assert!(lines[1].starts_with("/firmware/optee: there is no such node: --optee add"));
    assert!(lines[1].ends_with("a, b must have it"));
    std::fs::write(&bare.board, b"no tree").expect("written");
    assert!(problems(&bare)[0].contains("no flattened device tree"));
    drop(folder);

    let one = |change: &dyn Fn(&mut Plan)| {
        let (_folder, mut plan) = plan(TWO);
        change(&mut plan);
        let lines = problems(&plan);
        assert_eq!(lines.len(), 1, "{lines:#?}");
        lines[0].clone()
    };
    let in_optee = one(&|plan| plan.load_address = Some(0x4200_0000));
    assert!(
        in_optee.contains("from 0x42000000 on are not all free RAM: choose another"),
        "{in_optee}"
    );
    let no_ram = one(&|plan| plan.load_address = Some(0x1000_0000));
    assert!(no_ram.contains("--load-address"), "{no_ram}");
    let cpu = one(&|plan| plan.system.vms[1].affinity = Some(vec![4]));
    assert_eq!(
        cpu,
        "vm \"b\": affinity names a CPU that the tree does not have: it has 0 to 3"
    );
    let memory = one(&|plan| {
        plan.system.vms[0].memory = crate::config::Memory::parse("8G").expect("memory");
    });
    assert!(
        memory.starts_with("/memory: the VMs that start at boot have 8256 MiB"),
        "{memory}"
    );
}

#[test]
fn firmware_may_add_optee_s_nodes_at_boot() {
    let (_folder, mut plan) = plan(TWO);
    plan.additions = Additions {
        optee: OpteeNodes::Firmware,
        ..Additions::default()
    };
    assert_eq!(notes(&plan), Vec::<String>::new());
    assert!(!text(&plan, "boot-own-tree.cmd").contains("optee-tz"));
    let bytes = read(&plan, TREE);
    assert!(!reader::has_optee(&bytes));
}

#[test]
fn the_same_input_makes_the_same_bytes_and_the_medium_is_a_choice() {
    let (_folder, mut plan) = plan(TWO);
    let names = [FIT, "boot.scr", "boot-efi.scr", "boot-own-tree.scr", PAGE];
    let contents = |plan: &Plan| names.map(|name| read(plan, name));
    made(&plan);
    let first = contents(&plan);
    made(&plan);
    assert_eq!(first, contents(&plan));
    plan.from.medium = Medium::Tftp;
    made(&plan);
    let script = text(&plan, "boot.cmd");
    assert!(
        script.contains("\ntftpboot 0x48000000 postern.img || "),
        "{script}"
    );
    assert!(
        script.contains("dhcp") && !script.contains("load $"),
        "{script}"
    );
    plan.from = From {
        medium: Medium::Virtio,
        device: 1,
        partition: 2,
    };
    made(&plan);
    let script = text(&plan, "boot.cmd");
    assert!(
        script.contains("setenv devtype virtio; setenv devnum 1; setenv distro_bootpart 2; fi"),
        "{script}"
    );
}

#[test]
fn the_tree_for_efi_has_the_files_where_the_ram_disk_has_them() {
    let (_folder, plan) = plan(TWO);
    assert_eq!(notes(&plan), Vec::<String>::new());
    let disk = read(&plan, GUESTS);
    assert_eq!(disk.len(), 0x5000 + 7);
    for (name, start) in [
        ("kernel-a.img", 0),
        ("initrd-a.img", 0x3000),
        ("initrd-b.img", 0x5000),
    ] {
        assert!(disk[start..].starts_with(&read(&plan, name)), "{name}");
    }
    // As the stub does it, with the disk anywhere.
    let mut tree = read(&plan, EFI_TREE);
    let at = PaRange::new(Pa::new(0x7000_1000), disk.len() as u64).expect("a range");
    let efi = postern_boot_tree::efi::place_modules(&mut tree, at);
    assert_eq!(efi, Some(()));
    let range = |start, bytes| PaRange::new(Pa::new(start), bytes).expect("a range");
    let found: Vec<_> = postern_boot_tree::efi::modules(&tree).collect();
    let kernel = range(0x7000_1000, 0x3000);
    assert_eq!(
        found,
        [
            kernel,
            range(0x7000_4000, 5000),
            kernel,
            range(0x7000_6000, 7)
        ]
    );
    let merged = board::open(&read(&plan, TREE)).expect("a tree");
    let mut by_address = BTreeMap::new();
    all(&merged.root, "", &mut by_address);
    let mut by_offset = BTreeMap::new();
    all(
        &board::open(&tree).expect("a tree").root,
        "",
        &mut by_offset,
    );
    // All else is the same.
    for part in [&mut by_address, &mut by_offset] {
        part.remove("/chosen:postern,modules-in-initrd");
        part.retain(|path, _| !path.starts_with("/chosen/vm-") || !path.contains("module@"));
        for vm in ["a", "b"] {
            part.remove(&format!("/chosen/vm-{vm}/"));
        }
    }
    assert_eq!(by_address, by_offset);
}
