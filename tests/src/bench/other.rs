// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Boots another hypervisor in Postern's place: an arm64 `Image` that is entered like Linux and
//! finds its first guest like Xen, by the modules in `/chosen` (the binding of Xen's
//! `docs/misc/arm/device-tree/booting.txt`).

use super::place::Ready;
use anyhow::{Context, Result, anyhow, ensure};
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use postern_qemu::prepare::Load;
use std::path::Path;

/// The address of the program, after its RAM disk.
const PROGRAM: u64 = 0x5000_0000;
/// Xen's command line: the console, and the size of the bench's VM.
const XEN: &str = "console=dtuart bootscrub=0 dom0_mem=256M dom0_max_vcpus=2";

/// Replaces the hypervisor of a machine by another one.
///
/// # Errors
/// Fails when the image cannot be read or does not leave room.
pub fn under(mut ready: Ready, hypervisor: &Path) -> Result<Ready> {
    let loads = &mut ready.machine.loads;
    let [first, disk] = &mut loads[..] else {
        return Err(anyhow!("the floor has more than a program and a RAM disk"));
    };
    let bytes = |file: &Path| {
        std::fs::metadata(file)
            .map(|data| data.len())
            .with_context(|| file.display().to_string())
    };
    let program = std::mem::replace(&mut first.file, std::path::absolute(hypervisor)?);
    let (size, disk_size) = (bytes(&program)?, bytes(&disk.file)?);
    ensure!(
        disk.address + disk_size <= PROGRAM && first.address + bytes(&first.file)? <= disk.address,
        "the hypervisor or the RAM disk is too large"
    );
    let disk = (disk.address, disk_size);
    loads.push(Load {
        file: program,
        address: PROGRAM,
    });
    let file = ready.machine.tree.as_deref().context("there is no tree")?;
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    let tree = tree(&bytes, (PROGRAM, size), disk).with_context(|| file.display().to_string())?;
    std::fs::write(file, tree).with_context(|| file.display().to_string())?;
    Ok(ready)
}

/// Returns the hypervisor's name: for Xen the version in its log, otherwise the file's name.
#[must_use]
pub fn name(image: &Path, log: &Path) -> String {
    let log = std::fs::read(log).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let version = log
        .split_once("Xen version ")
        .and_then(|(_, rest)| rest.split_whitespace().next());
    let file = image.file_name().unwrap_or_default().to_string_lossy();
    version.map_or_else(|| file.into_owned(), |version| format!("Xen {version}"))
}

/// Returns the program's tree with the modules: addresses and lengths.
fn tree(bytes: &[u8], program: (u64, u64), disk: (u64, u64)) -> Result<Vec<u8>> {
    let fdt = Fdt::new(bytes).map_err(|error| anyhow!("{error}"))?;
    let mut tree = DeviceTree::from_fdt(&fdt);
    let chosen = tree.root.child_mut("chosen").context("no /chosen")?;
    for name in ["linux,initrd-start", "linux,initrd-end", "bootargs"] {
        chosen.remove_property(name);
    }
    let add = |node: &mut DeviceTreeNode, name: &str, value: &str| {
        node.add_property(DeviceTreeProperty::new_unchecked(name, value));
    };
    add(chosen, "xen,xen-bootargs", XEN);
    add(chosen, "xen,dom0-bootargs", "");
    chosen.add_property(DeviceTreeProperty::new_unchecked("#address-cells", 2_u32));
    chosen.add_property(DeviceTreeProperty::new_unchecked("#size-cells", 2_u32));
    for (kind, (address, size)) in [("multiboot,kernel", program), ("multiboot,ramdisk", disk)] {
        let mut node = DeviceTreeNode::new(format!("module@{address:x}"))?;
        let kinds = vec![kind, "multiboot,module"];
        node.add_property(DeviceTreeProperty::new_unchecked("compatible", kinds));
        let reg = [address.to_be_bytes(), size.to_be_bytes()].concat();
        node.add_property(DeviceTreeProperty::new_unchecked("reg", &reg[..]));
        chosen.add_child(node);
    }
    Ok(tree.to_dtb())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dtoolkit::{Node, Property};

    /// QEMU's tree for the default machine.
    const BASE: &[u8] = include_bytes!("../../../qemu/testdata/virt.dtb");

    #[test]
    fn xen_tree_names_program_as_kernel() {
        let bytes = tree(BASE, (0x5000_0000, 0x1234), (0x4800_0000, 0x10)).unwrap();
        let fdt = Fdt::new(&bytes).unwrap();
        let chosen = fdt.root().child("chosen").unwrap();
        let module = chosen.child("module@50000000").unwrap();
        let property = |name: &str| {
            let property = module.property(name).unwrap();
            property.value_as::<&[u8]>().unwrap().to_vec()
        };
        assert_eq!(
            property("compatible"),
            b"multiboot,kernel\0multiboot,module\0"
        );
        assert_eq!(
            property("reg"),
            [0, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34]
        );
        assert!(chosen.child("module@48000000").is_some());
        assert!(chosen.property("xen,xen-bootargs").is_some());
        assert!(chosen.property("linux,initrd-start").is_none());
    }

    #[test]
    fn xen_version_comes_from_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        std::fs::write(&log, "(XEN) Xen version 4.20.4 (@) x\n").unwrap();
        assert_eq!(name(Path::new("/a/b"), &log), "Xen 4.20.4");
        assert_eq!(name(Path::new("/a/b"), Path::new("/none")), "b");
    }
}
