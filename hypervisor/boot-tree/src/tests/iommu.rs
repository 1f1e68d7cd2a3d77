// SPDX-License-Identifier: Apache-2.0 OR MIT
//! SMMUs, and the streams of devices behind them.

use dtoolkit::model::{DeviceTree, DeviceTreeNode};

use super::fixture::{at, cells, child, set};
use super::{fixture, occupied, range, read};
use crate::flat::Fdt;
use crate::iommu::streams_of;
use crate::*;

const PHANDLE: u32 = 0x9004;

/// Adds an SMMU as QEMU's `virt` machine has it.
pub fn smmu(tree: &mut DeviceTree, address: u32, phandle: u32) -> &mut DeviceTreeNode {
    let node = child(&mut tree.root, &format!("smmuv3@{address:x}"));
    set(node, "compatible", "arm,smmu-v3");
    cells(node, "reg", [0, address, 0, 0x2_0000]);
    set(node, "#iommu-cells", 1_u32);
    set(node, "dma-coherent", [0_u32; 0]);
    set(node, "phandle", phandle);
    let names = ["eventq", "priq", "cmdq-sync", "gerror"];
    set(node, "interrupt-names", names.as_slice());
    let spis = [74_u32, 75, 76, 77].map(|spi| [0, spi, 1]);
    set(node, "interrupts", spis.as_flattened());
    node
}

fn with_smmu() -> DeviceTree {
    let mut tree = fixture::two_vms();
    smmu(&mut tree, 0x0905_0000, PHANDLE);
    tree
}

fn smmus(tree: &DeviceTree) -> Result<Smmus, String> {
    let dtb = tree.to_dtb();
    read(&dtb, occupied())
        .map(|(machine, _)| machine.smmus)
        .map_err(|error| error.to_string())
}

#[test]
fn an_smmu_is_found_with_its_interrupts() {
    assert_eq!(smmus(&fixture::two_vms()), Ok(Smmus::new()));
    let edge = |spi| {
        Some(Interrupt {
            intid: PhysIntId::spi(spi).unwrap(),
            trigger: Some(Trigger::Edge),
        })
    };
    let mut tree = with_smmu();
    let found = smmus(&tree).unwrap();
    let [smmu] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!(smmu.registers, range(0x0905_0000, 0x0907_0000));
    assert_eq!((smmu.event, smmu.global_error), (edge(74), edge(77)));
    assert!(smmu.coherent);

    // As one without wires has it, and one that says nothing of the trigger.
    let node = at(&mut tree, "/smmuv3@9050000");
    node.remove_property("dma-coherent");
    set(node, "interrupt-names", "gerror");
    cells(node, "interrupts", [0, 80, 0]);
    let found = smmus(&tree).unwrap();
    assert_eq!((found[0].event, found[0].global_error), (None, edge(80)));
    assert!(!found[0].coherent);
    set(at(&mut tree, "/smmuv3@9050000"), "status", "disabled");
    assert_eq!(smmus(&tree), Ok(Smmus::new()));
}

#[test]
fn an_smmu_that_cannot_be_driven_ends_the_boot() {
    type Break = fn(&mut DeviceTree);
    let path = "/smmuv3@9050000";
    let table: [(Break, &str); 4] = [
        (
            |t| {
                cells(
                    at(t, "/smmuv3@9050000"),
                    "reg",
                    [0, 0x0905_0000, 0, 0x1_0000],
                );
            },
            "device tree: smmuv3@9050000: `reg` is not 128 KiB from the start of a page",
        ),
        (
            |t| set(at(t, "/smmuv3@9050000"), "#iommu-cells", 2_u32),
            "device tree: smmuv3@9050000: `#iommu-cells` is not 1",
        ),
        (
            |t| cells(at(t, "/smmuv3@9050000"), "interrupts", [0, 74, 1]),
            "device tree: smmuv3@9050000: `interrupts` does not name an interrupt of the GIC",
        ),
        (
            |t| {
                for number in 1..=4 {
                    smmu(t, 0x0a00_0000 + 0x2_0000 * number, number);
                }
            },
            "device tree: smmuv3@a080000: `compatible` is that of a fifth SMMU, and four are supported",
        ),
    ];
    for (change, text) in table {
        let mut tree = with_smmu();
        assert!(tree.find_node(path).is_some());
        change(&mut tree);
        assert_eq!(smmus(&tree), Err(text.to_owned()));
    }
}

/// The streams of a device whose node `change` has made, on a machine with two SMMUs.
fn streams(change: impl FnOnce(&mut DeviceTreeNode)) -> Result<Vec<StreamRange>, String> {
    let mut tree = with_smmu();
    smmu(&mut tree, 0x0a00_0000, PHANDLE + 1);
    smmu(&mut tree, 0x0b00_0000, PHANDLE + 2).remove_property("dma-coherent");
    change(child(&mut tree.root, "device@1000"));
    let smmus = smmus(&tree).unwrap();
    let dtb = tree.to_dtb();
    let node = Fdt::new(&dtb).unwrap().root().child("device@1000").unwrap();
    streams_of(&smmus, node)
        .map(|streams| streams.to_vec())
        .map_err(|error| error.to_string())
}

fn stream_range(smmu: usize, first: u32, count: u32) -> StreamRange {
    StreamRange { smmu, first, count }
}

#[test]
fn a_device_has_the_streams_that_its_node_names() {
    let bridge = streams(|node| {
        cells(node, "iommu-map", [0, PHANDLE, 0, 0x1_0000]);
        set(node, "iommu-map-mask", 0xffff_u32);
    });
    assert_eq!(bridge, Ok(vec![stream_range(0, 0, 0x1_0000)]));
    // Entries of two SMMUs, and requesters that are left out.
    let two = streams(|node| {
        let map = [
            [0, PHANDLE + 1, 0x1_0000, 0x100],
            [0x200, PHANDLE, 7, 0xfe00],
        ];
        set(node, "iommu-map", map.as_flattened());
    });
    let expected = [stream_range(1, 0x1_0000, 0x100), stream_range(0, 7, 0xfe00)];
    assert_eq!(two, Ok(expected.to_vec()));
    let platform = streams(|node| {
        cells(
            node,
            "iommus",
            [PHANDLE, 5, PHANDLE + 1, 5, PHANDLE, u32::MAX],
        );
    });
    let expected = [(0, 5), (1, 5), (0, u32::MAX)].map(|(smmu, id)| stream_range(smmu, id, 1));
    assert_eq!(platform, Ok(expected.to_vec()));
}

#[test]
fn a_device_without_known_streams_says_why() {
    type Change = fn(&mut DeviceTreeNode);
    let table: [(Change, &str); 9] = [
        (
            |_| (),
            "no SMMU is in front of it, so nothing bounds its DMA: its node needs iommus or iommu-map; \
             start QEMU with -M virt,iommu=smmuv3",
        ),
        (
            |node| cells(node, "iommus", [GIC, 1]),
            "`iommus` names something else than an enabled arm,smmu-v3: no other IOMMU is supported",
        ),
        (
            |node| cells(node, "iommu-map", [0, PHANDLE + 2, 0, 0x1_0000]),
            "the SMMU at 0xb000000..0xb020000 in front of it is not dma-coherent, which is not supported: \
             leave the device out",
        ),
        (
            |node| cells(node, "iommus", [PHANDLE]),
            "`iommus` does not consist of whole entries",
        ),
        (
            |node| cells(node, "iommu-map", [0, PHANDLE, 0]),
            "`iommu-map` does not consist of whole entries",
        ),
        (
            |node| cells(node, "iommu-map", [0, PHANDLE, 0, 0]),
            "`iommu-map` has a range of streams that is empty or too long",
        ),
        (
            |node| cells(node, "iommu-map", [0, PHANDLE, u32::MAX, 2]),
            "`iommu-map` has a range of streams that is empty or too long",
        ),
        (
            |node| cells(node, "iommu-map", [1, PHANDLE, 0, 0x1_0000]),
            "`iommu-map` has a requester ID above 16 bits",
        ),
        (
            |node| cells(node, "iommu-map", [0, PHANDLE, 0, 9, 0x100, PHANDLE, 8, 1]),
            "`iommu-map` has a stream twice",
        ),
    ];
    for (change, text) in table {
        assert_eq!(streams(change), Err(text.to_owned()));
    }
    let many: Vec<u32> = (0..9).flat_map(|stream| [PHANDLE, stream]).collect();
    let error = streams(|node| set(node, "iommus", many.as_slice()));
    assert_eq!(
        error,
        Err("`iommus` has more than eight ranges of streams".to_owned())
    );
}

const GIC: u32 = fixture::GIC_PHANDLE;

#[test]
fn ranges_that_touch_do_not_overlap() {
    let whole = stream_range(0, 0x100, 0x100);
    for (first, count, overlaps) in [
        (0, 0x100, false),
        (0, 0x101, true),
        (0x1ff, 1, true),
        (0x200, 1, false),
        (0, u32::MAX, true),
    ] {
        let other = stream_range(0, first, count);
        assert_eq!(whole.overlaps(other), overlaps, "{first:#x}");
        assert_eq!(other.overlaps(whole), overlaps, "{first:#x}");
        assert!(!whole.overlaps(StreamRange { smmu: 1, ..other }));
    }
}
