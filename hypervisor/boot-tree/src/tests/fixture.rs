// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A tree as QEMU's `virt` machine (secure, virtualization, GICv3, 4 CPUs, 3 GiB) writes it,
//! TF-A and OP-TEE patch it and the launcher extends it: only the nodes that matter, and a few
//! that must be overlooked.

use dtoolkit::ToPropertyValue;
use dtoolkit::memreserve::MemoryReservation;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};

use crate::{GicRegisters, Machine, Redistributors};

/// Sets a property, adding it where it is not there yet.
pub fn set(node: &mut DeviceTreeNode, name: &str, value: impl ToPropertyValue) {
    node.add_property(DeviceTreeProperty::new(name, value).unwrap());
}

/// Sets a property of 32-bit cells.
pub fn cells<const N: usize>(node: &mut DeviceTreeNode, name: &str, value: [u32; N]) {
    set(node, name, value);
}

/// A new child, or the one that is there.
pub fn child<'n>(node: &'n mut DeviceTreeNode, name: &str) -> &'n mut DeviceTreeNode {
    node.add_child_mut(DeviceTreeNode::new(name).unwrap())
}

/// The node with this path, which must exist.
pub fn at<'n>(tree: &'n mut DeviceTree, path: &str) -> &'n mut DeviceTreeNode {
    tree.find_node_mut(path).unwrap()
}

/// Adds a module node to a VM's node.
pub fn module(vm: &mut DeviceTreeNode, kind: &str, start: u64, bytes: u64) {
    let node = child(vm, &format!("module@{start:x}"));
    set(node, "compatible", [kind, "multiboot,module"].as_slice());
    let [high, low] = [(start >> 32) as u32, start as u32];
    cells(node, "reg", [high, low, (bytes >> 32) as u32, bytes as u32]);
    if kind == "multiboot,kernel" {
        set(node, "bootargs", "console=ttyAMA0");
    }
}

/// Adds a VM of 512 MiB with kernel and RAM disk.
pub fn vm<'t>(tree: &'t mut DeviceTree, name: &str) -> &'t mut DeviceTreeNode {
    let node = child(at(tree, "/chosen"), name);
    set(node, "compatible", "postern,domain");
    set(node, "#address-cells", 2_u32);
    set(node, "#size-cells", 2_u32);
    set(node, "memory", 0x8_0000_u64);
    set(node, "cpus", 2_u32);
    set(node, "tee", "required");
    module(node, "multiboot,kernel", 0x4800_0000, 0x260_0000);
    module(node, "multiboot,ramdisk", 0x4b00_0000, 0x80_0000);
    node
}

/// Adds a link between these VMs.
pub fn link(tree: &mut DeviceTree, name: &str, vms: &[&str]) {
    let node = child(at(tree, "/chosen"), name);
    set(node, "compatible", "postern,link");
    set(node, "vms", vms.to_vec());
}

/// Adds a CPU without an enable-method.
pub fn cpu(tree: &mut DeviceTree, affinity: u32) -> &mut DeviceTreeNode {
    let node = child(at(tree, "/cpus"), &format!("cpu@{affinity:x}"));
    set(node, "reg", affinity);
    set(node, "compatible", "arm,cortex-a72");
    set(node, "device_type", "cpu");
    node
}

/// The GIC's phandle.
pub const GIC_PHANDLE: u32 = 0x8005;

/// The machine without VMs.
pub fn machine() -> DeviceTree {
    let mut tree = DeviceTree::new();
    tree.memory_reservations
        .push(MemoryReservation::new(0x4300_0000, 0x1000));
    let root = &mut tree.root;
    set(root, "#address-cells", 2_u32);
    set(root, "#size-cells", 2_u32);
    set(root, "compatible", "linux,dummy-virt");
    set(root, "interrupt-parent", GIC_PHANDLE);

    let node = child(root, "memory@40000000");
    cells(node, "reg", [0, 0x4000_0000, 0, 0xc000_0000]);
    set(node, "device_type", "memory");
    let node = child(root, "secram@e000000");
    set(node, "status", "disabled");
    cells(node, "reg", [0, 0x0e00_0000, 0, 0x0100_0000]);
    set(node, "device_type", "memory");

    let reserved = child(root, "reserved-memory");
    set(reserved, "#address-cells", 2_u32);
    set(reserved, "#size-cells", 2_u32);
    set(reserved, "ranges", [0_u32; 0]);
    let node = child(reserved, "optee_shm@42000000");
    cells(node, "reg", [0, 0x4200_0000, 0, 0x20_0000]);
    cells(
        child(reserved, "optee_core@e100000"),
        "reg",
        [0, 0x0e10_0000, 0, 0x00f0_0000],
    );
    cells(child(reserved, "anywhere"), "size", [0, 0x0100_0000]);

    let bus = child(root, "platform-bus@c000000");
    set(bus, "#address-cells", 1_u32);
    set(bus, "#size-cells", 1_u32);
    cells(bus, "ranges", [0, 0, 0x0c00_0000, 0x0200_0000]);
    let node = child(bus, "not-here@0");
    set(node, "compatible", "arm,gic-v3");
    set(node, "status", "disabled");
    let node = child(root, "pl011@9040000");
    set(node, "status", "disabled");
    set(
        node,
        "compatible",
        ["arm,pl011", "arm,primecell"].as_slice(),
    );
    let node = child(root, "pl011@9000000");
    cells(node, "interrupts", [0, 1, 4]);
    cells(node, "reg", [0, 0x0900_0000, 0, 0x1000]);
    set(
        node,
        "compatible",
        ["arm,pl011", "arm,primecell"].as_slice(),
    );
    let node = child(root, "intc@8000000");
    cells(node, "interrupts", [1, 9, 4]);
    cells(
        node,
        "reg",
        [0, 0x0800_0000, 0, 0x1_0000, 0, 0x080a_0000, 0, 0x00f6_0000],
    );
    set(node, "#redistributor-regions", 1_u32);
    set(node, "compatible", "arm,gic-v3");
    set(node, "ranges", [0_u32; 0]);
    set(node, "#interrupt-cells", 3_u32);
    set(node, "phandle", GIC_PHANDLE);
    let node = child(root, "timer");
    cells(node, "interrupts", [1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4]);
    set(
        node,
        "compatible",
        ["arm,armv8-timer", "arm,armv7-timer"].as_slice(),
    );
    let node = child(root, "psci");
    set(
        node,
        "compatible",
        ["arm,psci-1.0", "arm,psci-0.2", "arm,psci"].as_slice(),
    );
    set(node, "method", "smc");
    let node = child(child(root, "firmware"), "optee");
    set(node, "compatible", "linaro,optee-tz");
    set(node, "method", "smc");
    cells(node, "interrupts", [0, 187, 1]);

    let cpus = child(root, "cpus");
    set(cpus, "#address-cells", 1_u32);
    set(cpus, "#size-cells", 0_u32);
    child(child(cpus, "cpu-map"), "socket0");
    for index in 0..4 {
        set(cpu(&mut tree, index), "enable-method", "psci");
    }

    let chosen = child(&mut tree.root, "chosen");
    set(chosen, "stdout-path", "/pl011@9000000");
    set(chosen, "bootargs", "log=debug");
    tree
}

/// The machine with the VMs `vm-a` and `vm-b`.
pub fn two_vms() -> DeviceTree {
    let mut tree = machine();
    vm(&mut tree, "vm-a");
    let b = vm(&mut tree, "vm-b");
    set(b, "vm-name", "b.2");
    set(b, "tee", "optional");
    cells(b, "affinity", [3, 1]);
    tree
}

/// A machine with one VM as boards have it: devices on buses that move addresses, interrupts of four cells and by the
/// extended form, two regions of redistributors, a timer that says its frequency, and no word of OP-TEE but ours.
pub fn board() -> DeviceTree {
    let mut tree = machine();
    vm(&mut tree, "vm-a");
    let root = &mut tree.root;
    let mut gic = root.remove_child("intc@8000000").unwrap();
    root.remove_child("pl011@9000000").unwrap();
    root.remove_property("interrupt-parent");
    let soc = child(root, "soc");
    set(soc, "#address-cells", 1_u32);
    set(soc, "#size-cells", 1_u32);
    set(soc, "interrupt-parent", GIC_PHANDLE);
    let ranges = [
        0,
        0,
        0xfe60_0000,
        0x20_0000,
        0x8000_0000,
        0,
        0xff80_0000,
        0x10_0000,
    ];
    cells(soc, "ranges", ranges);
    set(&mut gic, "#interrupt-cells", 4_u32);
    cells(&mut gic, "interrupts", [1, 9, 4, 0]);
    cells(
        &mut gic,
        "reg",
        [0, 0x1_0000, 0x8_0000, 0x4_0000, 0x10_0000, 0x4_0000],
    );
    set(&mut gic, "#redistributor-regions", 2_u32);
    soc.add_child(gic);
    let bus = child(soc, "bus@80000000");
    set(bus, "#address-cells", 2_u32);
    set(bus, "#size-cells", 2_u32);
    cells(bus, "ranges", [0, 0, 0x8000_0000, 0, 0x10_0000]);
    let uart = child(bus, "serial@3000");
    set(uart, "compatible", "arm,pl011");
    cells(uart, "reg", [0, 0x3000, 0, 0x1000]);
    cells(uart, "interrupts", [0, 0x14d, 4, 0]);
    let rtc = child(bus, "rtc@5000");
    set(rtc, "compatible", "arm,pl031");
    cells(rtc, "reg", [0, 0x5000, 0, 0x1000]);
    let timer = child(root, "timer");
    timer.remove_property("interrupts");
    set(
        timer,
        "interrupt-names",
        ["phys", "virt", "hyp-phys"].as_slice(),
    );
    let entries = [14, 11, 10].map(|ppi| [GIC_PHANDLE, 1, ppi, 8, 0]);
    set(timer, "interrupts-extended", entries.as_flattened());
    set(timer, "clock-frequency", 8_000_000_u32);
    let firmware = child(root, "firmware");
    firmware.remove_child("optee").unwrap();
    let psci = root.remove_child("psci").unwrap();
    child(root, "firmware").add_child(psci);
    set(
        child(root, "aliases"),
        "serial2",
        "/soc/bus@80000000/serial@3000",
    );
    let chosen = child(root, "chosen");
    set(chosen, "stdout-path", "serial2:115200n8");
    cells(chosen, "postern,optee-interrupt", [0, 187, 1, 0]);
    tree
}

/// Returns the default machine with a GICv2 whose CPU interfaces have a size in bytes.
pub fn gic_v2(compatible: &str, interfaces: u32) -> DeviceTree {
    let mut tree = two_vms();
    let gic = at(&mut tree, "/intc@8000000");
    set(gic, "compatible", compatible);
    // The third cell has the CPUs of a private interrupt, too.
    cells(gic, "interrupts", [1, 9, 0xf04]);
    let reg = [
        [0, 0xf901_0000, 0, 0x1_0000],
        [0, 0xf902_0000, 0, interfaces],
        [0, 0xf904_0000, 0, 0x2_0000],
        [0, 0xf906_0000, 0, interfaces],
    ];
    set(gic, "reg", reg.as_flattened());
    tree
}

/// The redistributors of a machine with a GICv3.
pub fn redistributors<'m>(machine: &'m Machine<'_>) -> &'m Redistributors {
    match &machine.gic.registers {
        GicRegisters::V3(redistributors) => redistributors,
        GicRegisters::V2(_) => panic!("it has a GICv2"),
    }
}
