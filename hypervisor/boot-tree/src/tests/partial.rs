// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Partial device trees as users of Xen write them.

use dtoolkit::model::DeviceTree;
use proptest::prelude::*;

use super::dts::compile;
use super::fixture::{at, cells, child, module, set};
use super::iommu::smmu;
use super::{fixture, occupied, range};
use crate::flat::FdtNode;
use crate::machine;
use crate::{MAX_PARTIAL_TREE, PartialTree, VmConfigs, tree};
use postern_base::range::PaRange;
use postern_flat_tree::FlatTree;

/// The clock of QEMU's `virt` machine, with a clock of its own and an alias.
const CLOCK: &str = r#"
/dts-v1/;

/ {
    #address-cells = <2>;
    #size-cells = <2>;

    gic: gic {
        #interrupt-cells = <3>;
        interrupt-controller;
    };

    aliases {
        rtc0 = &rtc;
        serial0 = &rtc;
    };

    passthrough {
        compatible = "simple-bus";
        ranges;
        #address-cells = <2>;
        #size-cells = <2>;

        rtc_clk: clock-24000000 {
            compatible = "fixed-clock";
            #clock-cells = <0>;
            clock-frequency = <24000000>;
        };

        rtc: rtc@9010000 {
            compatible = "arm,pl031", "arm,primecell";
            reg = <0x0 0x9010000 0x0 0x1000>;
            interrupt-parent = <&gic>;
            interrupts = <0 2 4>;
            clocks = <&rtc_clk>;
            clock-names = "apb_pclk";
            xen,path = "/pl031@9010000";
            xen,reg = <0x0 0x9010000 0x0 0x1000 0x0 0x9010000>;
            xen,force-assign-without-iommu;
        };
    };
};
"#;

/// An Ethernet controller behind an SMMU, with a PHY, as on a ZynqMP: sizes of one cell, two interrupts in one.
const ETHERNET: &str = r#"
/dts-v1/;

/ {
    #address-cells = <2>;
    #size-cells = <1>;

    passthrough {
        compatible = "simple-bus";
        ranges;
        #address-cells = <2>;
        #size-cells = <1>;

        gem_clk: gem_clk {
            compatible = "fixed-clock";
            #clock-cells = <0>;
            clock-frequency = <0x7735940>;
        };

        ethernet@b0b0000 {
            compatible = "cdns,zynqmp-gem", "cdns,gem";
            status = "okay";
            reg = <0x0 0xb0b0000 0x1000>;
            clocks = <&gem_clk &gem_clk &gem_clk>;
            clock-names = "pclk", "hclk", "tx_clk";
            #address-cells = <1>;
            #size-cells = <0>;
            local-mac-address = [02 00 00 5e 10 01];
            phy-handle = <&phy>;
            phy-mode = "rgmii-id";
            interrupt-parent = <0xfde8>;
            interrupts = <0 57 4 0 57 4>;
            xen,path = "/bus/ethernet@b0b0000";
            xen,reg = <0x0 0xb0b0000 0x1000 0x0 0xb0b0000>;

            phy: ethernet-phy@c {
                reg = <0xc>;
                ti,rx-internal-delay = <8>;
            };
        };
    };
};
"#;

/// Where the modules are. Their `reg` is longer than the tree, as in Xen's examples.
const MODULE: u64 = 0x4c00_0000;
const MODULE_BYTES: usize = 0x2_0000;

/// Two VMs, a clock, and an Ethernet controller behind an SMMU; `vm-a` has a module for a partial tree.
fn machine() -> DeviceTree {
    let mut tree = fixture::two_vms();
    let root = &mut tree.root;
    let rtc = child(root, "pl031@9010000");
    set(rtc, "compatible", ["arm,pl031", "arm,primecell"].as_slice());
    cells(rtc, "reg", [0, 0x0901_0000, 0, 0x1000]);
    cells(rtc, "interrupts", [0, 2, 4]);
    let bus = child(root, "bus");
    set(bus, "#address-cells", 1_u32);
    set(bus, "#size-cells", 1_u32);
    cells(bus, "ranges", [0x0b00_0000, 0, 0x0b00_0000, 0x100_0000]);
    let ethernet = child(bus, "ethernet@b0b0000");
    set(ethernet, "compatible", "cdns,zynqmp-gem");
    cells(ethernet, "reg", [0x0b0b_0000, 0x1_0000]);
    cells(ethernet, "interrupts", [0, 57, 4, 0, 57, 4]);
    cells(ethernet, "iommus", [0x8007, 0x874]);
    smmu(&mut tree, 0x0905_0000, 0x8007);
    with_module(&mut tree, "vm-a", MODULE);
    tree
}

fn with_module(tree: &mut DeviceTree, vm: &str, start: u64) {
    let vm = at(tree, &format!("/chosen/{vm}"));
    module(vm, "multiboot,device-tree", start, MODULE_BYTES as u64);
}

/// Reads the machine with a partial tree in every module.
fn read<R>(
    tree: &DeviceTree,
    partial: &[u8],
    look: impl FnOnce(&VmConfigs<'_>) -> R,
) -> Result<R, String> {
    let dtb = tree.to_dtb();
    let mut bytes = partial.to_vec();
    bytes.resize(bytes.len().max(MODULE_BYTES), 0x5a);
    let module = |_: PaRange| Some(&bytes[..]);
    match machine::read(&dtb, occupied(), &module) {
        Ok((machine, vms)) => {
            assert!(!machine.free.overlaps(range(MODULE, MODULE + 1)));
            Ok(look(&vms))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Reads back what the guest's tree has of it.
fn in_guest(partial: &PartialTree<'_>, look: impl FnOnce(FdtNode<'_>)) {
    let dtb = FlatTree::write(|root| {
        for name in ["passthrough", "aliases"] {
            root.node(name, |node| partial.copy(name, node));
        }
    });
    look(tree::open(&dtb).unwrap().root());
}

fn words(node: FdtNode<'_>, name: &str) -> Vec<u32> {
    tree::cells(node.property(name).unwrap()).collect()
}

fn names(node: FdtNode<'_>) -> Vec<&str> {
    node.properties().map(|(name, _)| name).collect()
}

#[test]
fn clock_of_a_partial_tree_is_assigned_with_the_trees_own_node() {
    let partial = compile(CLOCK);
    read(&machine(), &partial, |vms| {
        let [rtc] = &vms[0].devices[..] else {
            panic!("{:?}", vms[0].devices)
        };
        assert_eq!(rtc.path, "/pl031@9010000");
        assert_eq!(rtc.windows, [range(0x0901_0000, 0x0901_1000)]);
        assert!(rtc.has_spi(2) && !rtc.is_unprotected());
        assert_eq!(rtc.dropped().count(), 0);
        let copy = FlatTree::write(|root| rtc.write(root, 1));
        assert_eq!(tree::open(&copy).unwrap().root().children().count(), 0);
        let partial = vms[0].partial_tree.unwrap();
        // As `dtc` numbers it: the GIC has another phandle than Postern's.
        assert_eq!(partial.gic_phandle(), 1);
        in_guest(&partial, |root| {
            let bus = root.child("passthrough").unwrap();
            assert_eq!(words(bus, "#size-cells"), [2]);
            let rtc = bus.child("rtc@9010000").unwrap();
            let own = [
                "phandle",
                "compatible",
                "reg",
                "interrupt-parent",
                "interrupts",
                "clocks",
                "clock-names",
            ];
            let mut found = names(rtc);
            found.sort_unstable();
            let mut own = own.to_vec();
            own.sort_unstable();
            assert_eq!(found, own);
            let clock = bus.child("clock-24000000").unwrap();
            assert_eq!(words(rtc, "clocks"), words(clock, "phandle"));
            assert_eq!(words(rtc, "interrupt-parent"), [1]);
            let aliases = root.child("aliases").unwrap();
            assert_eq!(names(aliases), ["rtc0"]);
            assert_eq!(
                tree::string(aliases, "rtc0"),
                Some("/passthrough/rtc@9010000")
            );
        });
        assert!(vms[1].devices.is_empty() && vms[1].partial_tree.is_none());
    })
    .unwrap();
}

#[test]
fn ethernet_of_a_partial_tree_has_its_streams_and_its_phy() {
    let mut tree = machine();
    // As Xen's users have it.
    let vm = at(&mut tree, "/chosen/vm-a");
    set(vm, "compatible", "xen,domain");
    set(vm, "vpl011", [0_u8; 0]);
    set(vm, "passthrough", "enabled");
    let partial = compile(ETHERNET);
    read(&tree, &partial, |vms| {
        let device = &vms[0].devices[0];
        assert_eq!(device.path, "/bus/ethernet@b0b0000");
        // A part of the 64 KiB that the machine's node has.
        assert_eq!(device.windows, [range(0x0b0b_0000, 0x0b0b_1000)]);
        assert!(device.has_spi(57) && device.interrupts.len() == 1);
        assert_eq!(device.streams[0].first, 0x874);
        let partial = vms[0].partial_tree.unwrap();
        assert_eq!(partial.gic_phandle(), 65000);
        in_guest(&partial, |root| {
            let bus = root.child("passthrough").unwrap();
            let ethernet = bus.child("ethernet").unwrap();
            let phy = ethernet.child("ethernet-phy@c").unwrap();
            assert_eq!(words(ethernet, "phy-handle"), words(phy, "phandle"));
            assert_eq!(words(phy, "reg"), [0xc]);
            assert_eq!(ethernet.property("local-mac-address").unwrap()[5], 1);
            assert!(root.child("gic").is_none());
        });
    })
    .unwrap();
}

/// Each line changes the source or the machine. The text is all that a user sees of it.
#[test]
fn errors_name_the_vm_the_node_and_what_is_wrong() {
    type Break = fn(&mut DeviceTree);
    let same: Break = |_| {};
    let reg = "xen,reg = <0x0 0x9010000 0x0 0x1000 0x0 0x9010000>;";
    let foreign =
        "device /pl031@9010000: its `xen,reg` is missing, or is not within the device's registers";
    let table: &[(&str, &str, Break, &str)] = &[
        (
            "xen,path = \"/pl031@9010000\";",
            "",
            same,
            "partial device tree, of 64 KiB at most: a device has no xen,path",
        ),
        (
            "xen,path = \"/pl031@9010000\";",
            "xen,path = \"rtc\";",
            same,
            "partial device tree, of 64 KiB at most: a device has no xen,path",
        ),
        (
            "xen,path = \"/pl031@9010000\";",
            "xen,path;",
            same,
            "partial device tree, of 64 KiB at most: a device has no xen,path",
        ),
        (
            "\"/pl031@9010000\"",
            "\"/soc/rtc@1000\"",
            same,
            "device /soc/rtc@1000: no such node in the device tree: \
             correct the path, in a partial tree xen,path, or leave it out",
        ),
        (reg, "", same, foreign),
        (reg, "xen,reg = <0x0 0x9010000 0x0 0x1000>;", same, foreign),
        (
            reg,
            "xen,reg = <0x0 0x9010000 0x0 0x2000 0x0 0x9010000>;",
            same,
            foreign,
        ),
        (
            reg,
            "xen,reg = <0x0 0x9000000 0x0 0x1000 0x0 0x9000000>;",
            same,
            foreign,
        ),
        (
            reg,
            "xen,reg = <0x0 0x9010000 0x0 0x800 0x0 0x9010000>;",
            same,
            "device /pl031@9010000: its `xen,reg` is not in whole pages of 4 KiB, in which guests get devices",
        ),
        (
            reg,
            "xen,reg = <0x0 0x9010000 0xffffffff 0xffffffff 0x0 0x9010000>;",
            same,
            "device /pl031@9010000: its `xen,reg` passes the end of the address space",
        ),
        (
            reg,
            "xen,reg = <0x0 0x9010000 0x0 0x1000 0x0 0x22000000>;",
            same,
            "device /pl031@9010000: its `xen,reg` has two addresses, which must be the same",
        ),
        (
            "interrupts = <0 2 4>;",
            "interrupts = <0 2 4 0 3 4>;",
            same,
            "device /pl031@9010000: its `interrupts` has one that is not the device's",
        ),
        (
            "interrupts = <0 2 4>;",
            "interrupts = <1 2 4>;",
            same,
            "device /pl031@9010000: its `interrupts` has one that is not the device's",
        ),
        (
            "interrupts = <0 2 4>;",
            "interrupts-extended = <&gic 0 2 4>;",
            same,
            "device /pl031@9010000: its `interrupts-extended` is to be `interrupts`",
        ),
        (
            reg,
            "xen,reg = <0x0 0x9010000 0x0 0x1000 0x0 0x9010000 0x0 0x9010000 0x0 0x1000 0x0 0x9010000>;",
            same,
            "device /pl031@9010000: its `xen,reg` has a page twice",
        ),
        (
            "passthrough {",
            "passthru {",
            same,
            "partial device tree, of 64 KiB at most: it has no node /passthrough",
        ),
        (
            "interrupt-parent = <&gic>;",
            "phandle = <65000>;",
            same,
            "partial device tree, of 64 KiB at most: it has a phandle above 64999",
        ),
        (
            "interrupt-parent = <&gic>;",
            "linux,phandle = <0xffff0000>;",
            same,
            "partial device tree, of 64 KiB at most: it has a phandle above 64999",
        ),
        (
            "interrupt-parent = <&gic>;",
            "phandle = <1 2>;",
            same,
            "partial device tree, of 64 KiB at most: it has a phandle above 64999",
        ),
        (
            "passthrough {",
            "passthrough { phandle = <65001>;",
            same,
            "partial device tree, of 64 KiB at most: it has a phandle above 64999",
        ),
        (
            "gic: gic {",
            "gic: gic { phandle = <65001>;",
            same,
            "partial device tree, of 64 KiB at most: it has a phandle above 64999",
        ),
        (
            "clock-names = \"apb_pclk\";",
            "a { b { c { d { e { f { g { h { }; }; }; }; }; }; }; };",
            same,
            "partial device tree, of 64 KiB at most: more than 8 nodes are in one another",
        ),
        (
            "",
            "",
            |t| set(at(t, "/pl031@9010000"), "status", "disabled"),
            "device /pl031@9010000: its `status` is not \"okay\": enable it, or leave it out",
        ),
        (
            "",
            "",
            |t| set(at(t, "/chosen/vm-a"), "postern,devices", "/pl031@9010000"),
            "device /pl031@9010000: it is there twice: remove one",
        ),
        (
            "",
            "",
            |t| set(at(t, "/pl031@9010000"), "dma-coherent", [0_u8; 0]),
            "device /pl031@9010000: it may access memory by itself, and no SMMU keeps it within the virtual \
             machine's RAM: leave it out, start QEMU with -M virt,iommu=smmuv3, or set postern,unprotected-dma, \
             which lets it access all memory of the machine",
        ),
        (
            "",
            "",
            |t| {
                at(t, "/chosen/vm-a").remove_child("module@4c000000");
                with_module(t, "vm-a", 0x4200_0000);
            },
            "partial device tree, of 64 KiB at most: it is not in free RAM",
        ),
        (
            "",
            "",
            |t| {
                at(t, "/chosen/vm-a").remove_child("module@4c000000");
                with_module(t, "vm-a", 0x4b70_0000);
            },
            "module device-tree at 0x4b700000..0x4b720000 overlaps another module: \
             load it elsewhere and correct its reg",
        ),
        (
            "",
            "",
            |t| with_module(t, "vm-a", 0x4d00_0000),
            "module module@4d000000 is a second one of its kind: keep one",
        ),
    ];
    for (index, (from, to, change, text)) in table.iter().enumerate() {
        let mut tree = machine();
        change(&mut tree);
        assert!(CLOCK.contains(from), "line {index}");
        let partial = compile(&CLOCK.replacen(from, to, 1));
        let error = read(&tree, &partial, |_| ()).unwrap_err();
        assert_eq!(error, format!("vm `vm-a`: {text}"), "line {index}");
    }
}

#[test]
fn device_of_two_partial_trees_is_refused() {
    let mut tree = machine();
    with_module(&mut tree, "vm-b", 0x4d00_0000);
    let error = read(&tree, &compile(CLOCK), |_| ()).unwrap_err();
    let text = "vm `b.2`: device /pl031@9010000: vm `vm-a` has it, or registers of it: give it to one virtual machine";
    assert_eq!(error, text);
}

#[test]
fn two_vms_may_have_one_copy_of_a_tree_without_devices() {
    let mut tree = machine();
    with_module(&mut tree, "vm-b", 0x4c00_0000);
    let partial = compile("/dts-v1/;\n/ {\n passthrough {\n #address-cells = <2>;\n };\n};\n");
    read(&tree, &partial, |vms| {
        assert!(
            vms.iter()
                .all(|vm| vm.partial_tree.is_some() && vm.devices.is_empty())
        );
    })
    .unwrap();
}

#[test]
fn cut_or_too_large_tree_is_refused() {
    let whole = compile(CLOCK);
    let start = "vm `vm-a`: partial device tree, of 64 KiB at most: ";
    for length in 0..whole.len() {
        // The module ends with the bytes that are there.
        let mut cut = whole[..length].to_vec();
        let size = length as u32;
        if let Some(field) = cut.get_mut(4..8) {
            field.copy_from_slice(&size.to_be_bytes());
        }
        let error = read(&machine(), &cut, |_| ()).unwrap_err();
        assert!(error.starts_with(start), "{length}: {error}");
    }
    let large = format!(
        "gic: gic {{ large = <{}>;",
        "1 ".repeat(MAX_PARTIAL_TREE / 4)
    );
    let large = compile(&CLOCK.replacen("gic: gic {", &large, 1));
    let error = read(&machine(), &large, |_| ()).unwrap_err();
    assert_eq!(error, format!("{start}it is cut off"));
}

/// Names may share bytes in the tree, and many long ones would be a large copy.
#[test]
fn property_with_a_long_name_is_not_copied() {
    let long = "x".repeat(200);
    let source = CLOCK.replacen("clock-names =", &format!("{long} = <1>; clock-names ="), 1);
    read(&machine(), &compile(&source), |vms| {
        in_guest(&vms[0].partial_tree.unwrap(), |root| {
            let rtc = root.child("passthrough").unwrap().child("rtc").unwrap();
            assert!(rtc.property(&long).is_none() && rtc.property("clock-names").is_some());
        });
    })
    .unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn no_partial_tree_makes_it_panic(
        is_clock in any::<bool>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        words in prop::collection::vec((any::<prop::sample::Index>(), 0_u32..12), 0..3),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut dtb = compile(if is_clock { CLOCK } else { ETHERNET });
        for (place, byte) in edits {
            *place.get_mut(&mut dtb) = byte;
        }
        for (place, word) in words {
            let at = place.index(dtb.len() / 4) * 4;
            dtb[at..at + 4].copy_from_slice(&word.to_be_bytes());
        }
        if let Some(cut) = cut {
            dtb.truncate(cut.index(dtb.len()));
        }
        let _ = read(&machine(), &dtb, |vms| {
            if let Some(partial) = vms[0].partial_tree {
                in_guest(&partial, |_| ());
            }
        });
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        prop_assert!(read(&machine(), &bytes, |_| ()).is_err());
    }
}
