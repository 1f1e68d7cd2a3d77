// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Machines with a GICv2.

use super::fixture::{at, cells, gic_v2, set};
use super::{fixture, occupied, range, read};
use crate::{GicRegisters, GicV2Interfaces, PhysIntId};
use dtoolkit::model::DeviceTree;
use postern_base::gic::GicVersion;

/// Returns the error of a tree that cannot be read.
fn error_of(tree: &DeviceTree) -> String {
    let dtb = tree.to_dtb();
    read(&dtb, occupied()).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn a_gic_with_virtual_interface_is_accepted() {
    for compatible in ["arm,gic-400", "arm,cortex-a15-gic", "arm,cortex-a7-gic"] {
        let dtb = gic_v2(compatible, 0x2000).to_dtb();
        let (machine, _) = read(&dtb, occupied()).unwrap();
        assert_eq!(machine.gic.version(), GicVersion::V2, "{compatible}");
        assert_eq!(machine.gic.maintenance.map(PhysIntId::get), Some(25));
        let timers = machine.timers;
        let numbers = [timers.physical, timers.virtual_timer, timers.hypervisor];
        assert_eq!(numbers.map(PhysIntId::get), [30, 27, 26]);
    }
    let dtb = fixture::two_vms().to_dtb();
    let (machine, _) = read(&dtb, occupied()).unwrap();
    assert_eq!(machine.gic.version(), GicVersion::V3);
}

/// Systems with pages of 64 KiB repeat each page of the CPU interface through one of theirs: ZCU102 and R-Car Gen3.
#[test]
fn the_two_pages_of_a_cpu_interface_are_contiguous() {
    for (bytes, offset) in [
        (0x2000, 0),
        (0x1_0000, 0),
        (0x1_ffff, 0),
        (0x2_0000, 0xf000),
    ] {
        let dtb = gic_v2("arm,gic-400", bytes).to_dtb();
        let (machine, _) = read(&dtb, occupied()).unwrap();
        let pages = |start: u64| range(start + offset, start + offset + 0x2000);
        let interfaces = GicV2Interfaces {
            cpu_interface: pages(0xf902_0000),
            virtual_control: range(0xf904_0000, 0xf906_0000),
            virtual_cpu_interface: pages(0xf906_0000),
        };
        let gic = machine.gic;
        assert_eq!(gic.registers, GicRegisters::V2(interfaces), "{bytes:#x}");
        assert_eq!(gic.distributor, range(0xf901_0000, 0xf902_0000));
        // Not the guests' interface: only they access it.
        let expected = [
            gic.distributor,
            interfaces.cpu_interface,
            interfaces.virtual_control,
        ];
        assert_eq!(gic.el2_ranges(), expected);
    }
}

#[test]
fn a_gic_without_virtual_interface_is_refused() {
    let expected = "the GICv2 has no virtual interface (GICH, GICV): its reg needs four ranges; \
                    start QEMU with -M virt,virtualization=on";
    // The GIC of a Cortex-A9 has none, whatever its node says.
    assert_eq!(error_of(&gic_v2("arm,cortex-a9-gic", 0x2000)), expected);
    for ranges in 1..4 {
        let mut tree = gic_v2("arm,gic-400", 0x2000);
        let reg: Vec<u32> = (0..ranges)
            .flat_map(|at| [0, at << 16, 0, 0x1_0000])
            .collect();
        set(at(&mut tree, "/intc@8000000"), "reg", &*reg);
        assert_eq!(error_of(&tree), expected, "{ranges}");
    }
}

#[test]
fn unusable_regions_are_refused() {
    let with = |reg: [[u32; 4]; 4]| {
        let mut tree = gic_v2("arm,gic-400", 0x2000);
        set(at(&mut tree, "/intc@8000000"), "reg", reg.as_flattened());
        error_of(&tree)
    };
    let good = [
        [0, 0xf901_0000, 0, 0x1000],
        [0, 0xf902_0000, 0, 0x2000],
        [0, 0xf904_0000, 0, 0x200],
        [0, 0xf906_0000, 0, 0x2000],
    ];
    let small = "device tree: intc@8000000: `reg` has a CPU interface of less than 8 KiB";
    for index in [1, 3] {
        let mut reg = good;
        reg[index][3] = 0x1fff;
        assert_eq!(with(reg), small);
    }
    let mut reg = good;
    reg[3][1] += 0x800;
    assert_eq!(
        with(reg),
        "device tree: intc@8000000: `reg` has a virtual CPU interface that does not begin a page of 4 KiB"
    );
    let mut reg = good;
    reg[2][3] = 0x1ff;
    assert_eq!(
        with(reg),
        "device tree: intc@8000000: `reg` has less than 512 bytes of virtual interface control registers"
    );
    let mut tree = gic_v2("arm,gic-400", 0x2000);
    cells(at(&mut tree, "/intc@8000000"), "#interrupt-cells", [4]);
    assert_eq!(
        error_of(&tree),
        "device tree: intc@8000000: `#interrupt-cells` is not 3"
    );
}
