// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The devices that VMs have for themselves.

use dtoolkit::model::{DeviceTree, DeviceTreeNode};

use super::fixture::{GIC_PHANDLE, at, cells, child, set};
use super::iommu::smmu;
use super::{fixture, occupied, range, read};
use crate::assigned::{self, Host};
use crate::flat::FdtNode;
use crate::gic::Gic;
use crate::{AssignedDevice, Smmu, StreamRange, Trigger, VmConfigs, tree};
use postern_flat_tree::FlatTree;
use postern_guest_tree::layout;

const RTC: &str = "/pl031@9010000";
const PCIE: &str = "/pcie@10000000";
/// The phandle of the guests' GIC.
const GUEST_GIC: u32 = 0x55;
const UNPROTECTED: &str = "postern,unprotected-dma";

/// Two VMs and some devices as QEMU's `virt` machine has them.
fn machine() -> DeviceTree {
    let mut tree = fixture::two_vms();
    set(at(&mut tree, "/intc@8000000"), "#address-cells", 2_u32);
    let root = &mut tree.root;
    let rtc = child(root, "pl031@9010000");
    set(rtc, "compatible", ["arm,pl031", "arm,primecell"].as_slice());
    cells(rtc, "reg", [0, 0x0901_0000, 0, 0x1000]);
    cells(rtc, "interrupts", [0, 2, 4]);
    set(rtc, "clocks", 0x8000_u32);
    set(rtc, "clock-names", "apb_pclk");
    set(rtc, "phandle", 0x77_u32);
    let gpio = child(root, "pl061@9030000");
    set(
        gpio,
        "compatible",
        ["arm,pl061", "arm,primecell"].as_slice(),
    );
    cells(gpio, "reg", [0, 0x0903_0000, 0, 0x1000]);
    cells(gpio, "interrupts", [0, 7, 4]);
    let virtio = child(root, "virtio_mmio@a000000");
    set(virtio, "compatible", "virtio,mmio");
    cells(virtio, "reg", [0, 0x0a00_0000, 0, 0x1000]);
    cells(virtio, "interrupts", [0, 16, 1]);
    pcie(child(root, "pcie@10000000"));
    // OP-TEE's interrupt is not the one of the clock.
    give(&mut tree, "vm-a", &[RTC]);
    smmu(&mut tree, 0x0905_0000, 0x8007);
    tree
}

fn pcie(node: &mut DeviceTreeNode) {
    set(node, "compatible", "pci-host-ecam-generic");
    set(node, "device_type", "pci");
    set(node, "#address-cells", 3_u32);
    set(node, "#size-cells", 2_u32);
    set(node, "#interrupt-cells", 1_u32);
    set(node, "dma-coherent", [0_u8; 0]);
    cells(node, "bus-range", [0, 0xff]);
    cells(node, "msi-map", [0, 0x8006, 0, 0x1_0000]);
    cells(node, "iommu-map", [0, 0x8007, 0, 0x1_0000]);
    cells(node, "reg", [0x40, 0x1000_0000, 0, 0x1000_0000]);
    let ranges = [
        [0x100_0000_u32, 0, 0, 0, 0x3eff_0000, 0, 0x1_0000],
        [0x200_0000, 0, 0x1000_0000, 0, 0x1000_0000, 0, 0x2eff_0000],
        [0x300_0000, 0x80, 0, 0x80, 0, 0x80, 0],
    ];
    set(node, "ranges", ranges.as_flattened());
    cells(node, "interrupt-map-mask", [0x1800, 0, 0, 7]);
    let map = [0_u32, 1, 2, 3].map(|slot| {
        [1_u32, 2, 3, 4].map(|pin| {
            let spi = 3 + (slot + pin - 1) % 4;
            [slot << 11, 0, 0, pin, GIC_PHANDLE, 0, 0, 0, spi, 4]
        })
    });
    set(node, "interrupt-map", map.as_flattened().as_flattened());
}

fn give(tree: &mut DeviceTree, vm: &str, paths: &[&str]) {
    set(at(tree, &format!("/chosen/{vm}")), "postern,devices", paths);
}

fn devices<R>(tree: &DeviceTree, look: impl FnOnce(&VmConfigs<'_>) -> R) -> R {
    let dtb = tree.to_dtb();
    let (_, vms) = read(&dtb, occupied()).unwrap();
    look(&vms)
}

/// Reads back what the guest's tree has of a device.
fn in_guest(device: &AssignedDevice<'_>, look: impl FnOnce(FdtNode<'_>)) {
    let dtb = FlatTree::write(|root| device.write(root, GUEST_GIC));
    let tree = tree::open(&dtb).unwrap();
    look(tree.root().children().next().unwrap());
}

fn words(node: FdtNode<'_>, name: &str) -> Vec<u32> {
    tree::cells(node.property(name).unwrap()).collect()
}

#[test]
fn a_device_has_its_registers_and_interrupts() {
    devices(&machine(), |vms| {
        assert!(vms[1].devices.is_empty());
        let [rtc] = &vms[0].devices[..] else {
            panic!("{:?}", vms[0].devices)
        };
        assert_eq!(rtc.path, RTC);
        assert_eq!(rtc.windows, [range(0x0901_0000, 0x0901_1000)]);
        assert_eq!(rtc.interrupts[0].intid.get(), 34);
        assert_eq!(rtc.interrupts[0].trigger, Some(Trigger::Level));
        assert!(!rtc.can_do_dma && rtc.pci.is_none());
        assert_eq!(rtc.dropped().collect::<Vec<_>>(), ["clocks", "clock-names"]);
        in_guest(rtc, |node| {
            assert_eq!(node.name(), "pl031@9010000");
            let names: Vec<_> = node.properties().map(|(name, _)| name).collect();
            let expected = ["compatible", "reg", "interrupts", "clocks", "clock-names"];
            assert_eq!(names, expected);
            assert_eq!(words(node, "reg"), [0, 0x0901_0000, 0, 0x1000]);
            assert_eq!(words(node, "interrupts"), [0, 2, 4]);
            assert_eq!(words(node, "clocks"), [65001]);
            assert_eq!(tree::string(node, "clock-names"), Some("apb_pclk"));
        });
    });
}

#[test]
fn a_vm_has_several_devices_and_an_empty_list_none() {
    let mut tree = machine();
    // The GPIO controller is where each guest has an emulated one.
    let root = &mut tree.root;
    let mut gpio = root.remove_child("pl061@9030000").unwrap();
    cells(&mut gpio, "reg", [0, 0x090b_0000, 0, 0x1000]);
    root.add_child(gpio);
    give(&mut tree, "vm-a", &[]);
    give(&mut tree, "vm-b", &[RTC, "/pl061"]);
    devices(&tree, |vms| {
        assert!(vms[0].devices.is_empty());
        let paths: Vec<_> = vms[1].devices.iter().map(|it| it.path).collect();
        assert_eq!(paths, [RTC, "/pl061"]);
    });
}

/// The whole bridge: configuration space, windows, and four interrupts for all slots.
#[test]
fn a_pci_host_has_its_windows_and_the_interrupts_of_its_pins() {
    let mut tree = machine();
    give(&mut tree, "vm-a", &[PCIE]);
    let dtb = tree.to_dtb();
    let fdt = tree::open(&dtb).unwrap();
    let gic = Gic::read(fdt).unwrap();
    let smmus = Smmu::read_all(fdt, &gic).unwrap();
    let vm = fdt.root().child("chosen").unwrap().child("vm-a").unwrap();
    let host = Host {
        fdt,
        gic: &gic,
        smmus: &smmus,
    };
    let found = assigned::read(&host, vm, None).unwrap();
    let [pcie] = &found[..] else {
        panic!("{found:?}")
    };
    let windows = [
        range(0x40_1000_0000, 0x40_2000_0000),
        range(0x3eff_0000, 0x3f00_0000),
        range(0x1000_0000, 0x3eff_0000),
        range(0x80_0000_0000, 0x100_0000_0000),
    ];
    assert_eq!(pcie.windows, windows);
    let root_bus = range(0x40_1000_0000, 0x40_1010_0000);
    assert_eq!(pcie.root_bus(), Some(root_bus));
    let spis: Vec<_> = pcie.interrupts.iter().map(|it| it.intid.get()).collect();
    assert_eq!(spis, [35, 36, 37, 38]);
    assert!(pcie.can_do_dma);
    let streams = StreamRange {
        smmu: 0,
        first: 0,
        count: 0x1_0000,
    };
    assert_eq!(pcie.streams[..], [streams]);
    in_guest(pcie, |node| {
        assert_eq!(words(node, "reg"), [0x40, 0x1000_0000, 0, 0x1000_0000]);
        let ranges = words(node, "ranges");
        assert_eq!(ranges[14..], [0x300_0000, 0x80, 0, 0x80, 0, 0x80, 0]);
        let map = words(node, "interrupt-map");
        assert_eq!(map.len(), 16 * 8);
        assert_eq!(map[5 * 8..6 * 8], [0x800, 0, 0, 2, GUEST_GIC, 0, 5, 4]);
        for name in ["interrupt-map-mask", "bus-range", "dma-coherent"] {
            assert!(node.property(name).is_some(), "{name}");
        }
        for name in ["interrupts", "clocks", "msi-map", "iommu-map"] {
            assert!(node.property(name).is_none(), "{name}");
        }
    });
    let dropped: Vec<_> = pcie.dropped().collect();
    assert_eq!(dropped.len(), 2, "{dropped:?}");
    for name in ["msi-map", "iommu-map"] {
        assert!(dropped.contains(&name), "{dropped:?}");
    }
}

/// The guest has the only addresses that its devices know.
#[test]
fn unprotected_dma_is_let_pass_for_the_vm_that_says_so() {
    let mut tree = machine();
    give(&mut tree, "vm-a", &[RTC]);
    set(at(&mut tree, RTC), "dma-coherent", [0_u8; 0]);
    set(at(&mut tree, "/chosen/vm-a"), UNPROTECTED, [0_u8; 0]);
    let dtb = tree.to_dtb();
    let (_, vms) = read(&dtb, occupied()).unwrap();
    assert!(vms[0].devices[0].is_unprotected());
    assert_eq!(vms[0].ram_start(), None);
    assert_eq!(vms[1].ram_start(), Some(layout::RAM));
    // Of another VM's devices it says nothing.
    let other = child(&mut tree.root, "ethernet@b000000");
    cells(other, "reg", [0, 0x0b00_0000, 0, 0x1000]);
    give(&mut tree, "vm-b", &["/ethernet@b000000"]);
    let dtb = tree.to_dtb();
    let error = read(&dtb, occupied()).unwrap_err().to_string();
    let start = "vm `b.2`: device /ethernet@b000000: it may access memory by itself";
    assert!(error.starts_with(start), "{error}");
}

/// Each line breaks one thing. The text is all that a user sees of it.
#[test]
fn errors_name_the_vm_the_device_and_what_to_do() {
    type Break = fn(&mut DeviceTree);
    let table: &[(Break, &str)] = &[
        (
            |t| set(at(t, "/chosen/vm-a"), "postern,devices", 1_u32),
            "vm `vm-a`: postern,devices must be a list of paths, such as \"/pl031@9010000\"",
        ),
        (
            |t| give(t, "vm-a", &["pl031@9010000"]),
            "vm `vm-a`: postern,devices must be a list of paths, such as \"/pl031@9010000\"",
        ),
        (
            |t| give(t, "vm-b", &["/soc/ethernet@1000"]),
            "vm `b.2`: device /soc/ethernet@1000: no such node in the device tree: \
             correct the path, in a partial tree xen,path, or leave it out",
        ),
        (
            |t| give(t, "vm-a", &["/pl011@9040000"]),
            "vm `vm-a`: device /pl011@9040000: its `status` is not \"okay\": \
             enable it, or leave it out",
        ),
        (
            |t| give(t, "vm-b", &[RTC]),
            "vm `b.2`: device /pl031@9010000: vm `vm-a` has it, or registers of it: \
             give it to one virtual machine",
        ),
        (
            |t| give(t, "vm-a", &[RTC, "/pl031"]),
            "vm `vm-a`: device /pl031: it is there twice: remove one",
        ),
        (
            |t| give(t, "vm-a", &["/pl011@9000000"]),
            "vm `vm-a`: device /pl011@9000000: 0x9000000..0x9001000 is the console: \
             leave the device out",
        ),
        (
            |t| give(t, "vm-a", &["/intc@8000000"]),
            "vm `vm-a`: device /intc@8000000: its `interrupts` names an interrupt that each CPU has",
        ),
        (
            |t| cells(at(t, RTC), "reg", [0, 0x080b_0000, 0, 0x1000]),
            "vm `vm-a`: device /pl031@9010000: 0x80b0000..0x80b1000 is the interrupt controller: \
             leave the device out",
        ),
        (
            |t| cells(at(t, RTC), "reg", [0, 0x4800_0000, 0, 0x1000]),
            "vm `vm-a`: device /pl031@9010000: 0x48000000..0x48001000 is RAM: \
             leave the device out",
        ),
        (
            |t| give(t, "vm-a", &["/pl061@9030000"]),
            "vm `vm-a`: device /pl061@9030000: 0x9030000..0x9031000 is where the guest has a device \
             that Postern emulates: leave the device out",
        ),
        (
            |t| cells(at(t, RTC), "reg", [1, 0, 0, 0x1000]),
            "vm `vm-a`: device /pl031@9010000: 0x100000000..0x100001000 is where the guest has its RAM: \
             leave the device out",
        ),
        (
            |t| cells(at(t, RTC), "reg", [0, 0x0901_0000, 0, 0x200]),
            "vm `vm-a`: device /pl031@9010000: its `reg` is not in whole pages of 4 KiB, \
             in which guests get devices",
        ),
        (
            |t| cells(at(t, RTC), "reg", [0x100, 0, 0, 0x1000]),
            "vm `vm-a`: device /pl031@9010000: its `reg` is above the 40 bits of a guest's addresses",
        ),
        (
            |t| cells(at(t, RTC), "interrupts", [0, 256, 4]),
            "vm `vm-a`: device /pl031@9010000: its `interrupts` names an SPI above 255, which no guest has",
        ),
        (
            |t| cells(at(t, RTC), "interrupts", [0, 1, 4]),
            "vm `vm-a`: device /pl031@9010000: SPI 1 is an interrupt of the console: \
             leave the device out",
        ),
        (
            |t| cells(at(t, RTC), "interrupts", [0, 187, 1]),
            "vm `vm-a`: device /pl031@9010000: SPI 187 is an interrupt of OP-TEE: \
             leave the device out",
        ),
        (
            |t| give(t, "vm-a", &["/virtio_mmio@a000000"]),
            "vm `vm-a`: device /virtio_mmio@a000000: 0xa000000..0xa001000 is where the guest has a device that \
             Postern emulates: leave the device out",
        ),
        (
            |t| set(at(t, RTC), "dma-coherent", [0_u8; 0]),
            "vm `vm-a`: device /pl031@9010000: it may access memory by itself, and no SMMU keeps it \
             within the virtual machine's RAM: leave it out, \
             start QEMU with -M virt,iommu=smmuv3, or set postern,unprotected-dma, which lets it access \
             all memory of the machine",
        ),
        (
            |t| set(at(t, "/chosen/vm-a"), UNPROTECTED, [0_u8; 0]),
            "vm `vm-a`: postern,unprotected-dma is for devices that access memory without an SMMU, \
             and it has none: remove it",
        ),
        (
            |t| set(at(t, "/chosen/vm-a"), UNPROTECTED, 1_u32),
            "vm `vm-a`: postern,unprotected-dma has a value: write `postern,unprotected-dma;`, or leave it out",
        ),
        (
            |t| {
                let other = child(&mut t.root, "pl031@9020000");
                set(other, "compatible", "arm,pl031");
                cells(other, "reg", [0, 0x0902_1000, 0, 0x1000]);
                cells(other, "interrupts", [0, 2, 4]);
                give(t, "vm-b", &["/pl031@9020000"]);
            },
            "vm `b.2`: device /pl031@9020000: SPI 2 is an interrupt of a device of vm `vm-a`, too: \
             give both to one virtual machine",
        ),
        (
            |t| cells(at(t, RTC), "iommus", [GIC_PHANDLE, 1]),
            "vm `vm-a`: device /pl031@9010000: `iommus` names something else than an enabled arm,smmu-v3: \
             no other IOMMU is supported",
        ),
        (
            |t| {
                cells(at(t, PCIE), "reg", [0x40, 0x1000_0000, 0, 0xf_f000]);
                give(t, "vm-a", &[PCIE]);
            },
            "vm `vm-a`: device /pcie@10000000: its `reg` has less than the 1 MiB of a bus's configuration space",
        ),
        (
            |t| cells(at(t, RTC), "interrupts", [0, 77, 1]),
            "vm `vm-a`: device /pl031@9010000: SPI 77 is an interrupt of an SMMU: \
             leave the device out",
        ),
        (
            |t| cells(at(t, RTC), "reg", [0, 0x0906_f000, 0, 0x1000]),
            "vm `vm-a`: device /pl031@9010000: 0x906f000..0x9070000 is an SMMU: \
             leave the device out",
        ),
        (
            |t| {
                cells(at(t, RTC), "iommus", [0x8007, 0x123]);
                let other = child(&mut t.root, "pl031@a010000");
                set(other, "compatible", "arm,pl031");
                cells(other, "reg", [0, 0x0a01_0000, 0, 0x1000]);
                cells(other, "iommus", [0x8007, 0x123]);
                give(t, "vm-b", &["/pl031@a010000"]);
            },
            "vm `b.2`: device /pl031@a010000: a stream from 0x123 on is one of a device of vm `vm-a`, too: \
             give both to one virtual machine",
        ),
        (
            |t| set(at(t, PCIE), "compatible", "pci-host-cam-generic"),
            "",
        ),
        (
            |t| {
                set(at(t, PCIE), "compatible", "snps,dw-pcie");
                give(t, "vm-a", &[PCIE]);
            },
            "vm `vm-a`: device /pcie@10000000: it is a PCI host bridge: postern,devices can have it, \
             if it is compatible with pci-host-ecam-generic",
        ),
        (
            |t| {
                cells(at(t, PCIE), "interrupt-map", [0, 0, 0, 1, 9, 0, 0, 0, 3, 4]);
                give(t, "vm-a", &[PCIE]);
            },
            "vm `vm-a`: device /pcie@10000000: its `interrupt-map` goes to another interrupt controller \
             than the GIC",
        ),
    ];
    for (index, (break_it, text)) in table.iter().enumerate() {
        let mut tree = machine();
        break_it(&mut tree);
        let dtb = tree.to_dtb();
        let error = read(&dtb, occupied()).map(|_| ()).err();
        let found = error.map_or_else(String::new, |error| error.to_string());
        assert_eq!(found, *text, "line {index}");
    }
}
