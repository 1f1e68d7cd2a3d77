// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where nodes are found, which are overlooked, and the limits of what they may say.

use dtoolkit::model::{DeviceTree, DeviceTreeNode};

use super::fixture::{at, cells, child, set};
use super::{fixture, occupied, range, read};
use crate::*;
use postern_base::range::PaRange;

/// Builds a tree with a PL031 below `buses` nested buses; `change` sets up each bus.
fn rtc_below(buses: usize, change: fn(&mut DeviceTreeNode)) -> Option<PaRange> {
    let mut tree = fixture::two_vms();
    let mut node = &mut tree.root;
    for depth in 0..buses {
        node = child(node, &format!("bus-{depth}"));
        set(node, "#address-cells", 2_u32);
        set(node, "#size-cells", 2_u32);
        change(node);
    }
    let rtc = child(node, "pl031@9010000");
    set(rtc, "compatible", ["arm,pl031", "arm,primecell"].as_slice());
    cells(rtc, "reg", [0, 0x0901_0000, 0, 0x1000]);
    let dtb = tree.to_dtb();
    read(&dtb, occupied()).unwrap().0.rtc
}

/// A bus without `ranges` passes no address through, and one whose `ranges` has a value moves it (Devicetree
/// Specification 0.4, 2.3.8).
#[test]
fn a_device_is_found_where_its_buses_put_it() {
    let same: fn(&mut DeviceTreeNode) = |bus| set(bus, "ranges", [0_u32; 0]);
    let found = Some(range(0x0901_0000, 0x0901_1000));
    for buses in 0..=4 {
        assert_eq!(rtc_below(buses, same), found, "{buses}");
    }
    assert_eq!(rtc_below(5, same), None);
    assert_eq!(rtc_below(1, |_| ()), None);
    let moved =
        |bus: &mut DeviceTreeNode| cells(bus, "ranges", [0, 0, 0, 0x1000_0000, 0, 0x1000_0000]);
    assert_eq!(rtc_below(1, moved), Some(range(0x1901_0000, 0x1901_1000)));
    let small = |bus: &mut DeviceTreeNode| cells(bus, "ranges", [0, 0, 0, 0x1000_0000, 0, 0x1000]);
    assert_eq!(rtc_below(1, small), None);
    let dtb = fixture::two_vms().to_dtb();
    assert_eq!(read(&dtb, occupied()).unwrap().0.rtc, None);
}

#[test]
fn links_are_read_in_their_order() {
    let mut tree = fixture::two_vms();
    fixture::link(&mut tree, "lan@1", &["b.2", "vm-a"]);
    fixture::link(&mut tree, "off", &["nobody"]);
    set(at(&mut tree, "/chosen/off"), "status", "disabled");
    fixture::link(&mut tree, "second", &["vm-a", "b.2"]);
    set(at(&mut tree, "/chosen/second"), "link-name", "w_a.n");
    fixture::link(&mut tree, "serial", &["vm-a", "b.2"]);
    set(at(&mut tree, "/chosen/serial"), "link-kind", "console");
    let dtb = tree.to_dtb();
    let links = read(&dtb, occupied()).unwrap().0.links;
    let ends = |link: &LinkConfig<'_>| link.vms.iter().map(|vm| vm.get()).collect::<Vec<_>>();
    let found: Vec<_> = links
        .iter()
        .map(|link| (link.name, link.kind, ends(link)))
        .collect();
    assert_eq!(
        found,
        [
            ("lan", LinkKind::Network, vec![1, 0]),
            ("w_a.n", LinkKind::Network, vec![0, 1]),
            ("serial", LinkKind::Console, vec![0, 1]),
        ]
    );
}

#[test]
fn the_console_is_found_where_its_buses_put_it() {
    let console = |change: fn(&mut DeviceTreeNode)| {
        let mut tree = fixture::two_vms();
        let bus = child(&mut tree.root, "soc");
        set(bus, "#address-cells", 2_u32);
        set(bus, "#size-cells", 2_u32);
        change(bus);
        let uart = child(bus, "serial@9050000");
        set(uart, "compatible", "arm,pl011");
        cells(uart, "reg", [0, 0x0905_0000, 0, 0x1000]);
        set(
            at(&mut tree, "/chosen"),
            "stdout-path",
            "/soc/serial@9050000",
        );
        early_uart(&tree.to_dtb()).map(|(start, _)| start)
    };
    let same = |bus: &mut DeviceTreeNode| set(bus, "ranges", [0_u32; 0]);
    assert_eq!(console(same).map(|pa| pa.get()), Some(0x0905_0000));
    assert_eq!(console(|_| ()), None);
    let moved =
        |bus: &mut DeviceTreeNode| cells(bus, "ranges", [0, 0, 0, 0x1000_0000, 0, 0x1000_0000]);
    assert_eq!(console(moved).map(|pa| pa.get()), Some(0x1905_0000));
}

/// Binding `arm,gic-v3`: a stride is a multiple of 64 KiB, and two frames of that size are the least that a
/// redistributor has.
#[test]
fn redistributors_are_as_far_apart_as_the_tree_says() {
    // The stride's cells, and the bytes of the region.
    let gic = |stride: &[u32], bytes: u64| {
        let mut tree = fixture::two_vms();
        let node = at(&mut tree, "/intc@8000000");
        let (high, low) = ((bytes >> 32) as u32, bytes as u32);
        // Where nothing else is.
        let reg = [0, 0x0800_0000, 0, 0x1_0000, 0x10, 0, high, low];
        cells(node, "reg", reg);
        if !stride.is_empty() {
            set(node, "redistributor-stride", stride);
        }
        let dtb = tree.to_dtb();
        let read =
            read(&dtb, occupied()).map(|(machine, _)| fixture::redistributors(&machine).stride);
        read.map_err(|error| error.to_string())
    };
    const MIB: u64 = 1 << 20;
    assert_eq!(gic(&[], MIB), Ok(0x2_0000));
    assert_eq!(gic(&[0x2_0000], MIB), Ok(0x2_0000));
    assert_eq!(gic(&[0, 0x5_0000], MIB), Ok(0x5_0000));
    assert_eq!(gic(&[1, 0x3_0000], 8 << 30), Ok(0x1_0003_0000));
    let odd = "device tree: intc@8000000: `redistributor-stride` is not 128 KiB or more in steps of 64 KiB";
    for stride in [0_u32, 0x1_0000, 0x2_8000, 0x3_0001] {
        assert_eq!(gic(&[stride], MIB), Err(odd.to_owned()), "{stride:#x}");
    }
    // A region holds one redistributor at least.
    assert_eq!(gic(&[0x4_0000], 0x4_0000), Ok(0x4_0000));
    let none =
        "device tree: intc@8000000: `reg` has a redistributor region without a redistributor";
    assert_eq!(gic(&[0x4_0000], 0x3_ffff), Err(none.to_owned()));
    assert_eq!(gic(&[], 0), Err(none.to_owned()));
}

/// IHI 0069H, 2.2.1: PPIs are INTIDs 16 to 31, SPIs 32 to 1019.
#[test]
fn an_interrupt_has_a_number_of_its_kind() {
    let console = |cells: [u32; 3]| {
        let mut tree = fixture::two_vms();
        set(
            at(&mut tree, "/pl011@9000000"),
            "interrupts",
            cells.as_slice(),
        );
        let dtb = tree.to_dtb();
        let read = read(&dtb, occupied());
        read.ok()
            .map(|(machine, _)| machine.uart.interrupts[0].intid.get())
    };
    assert_eq!(console([0, 0, 4]), Some(32));
    assert_eq!(console([0, 987, 4]), Some(1019));
    assert_eq!(console([0, 988, 4]), None);
    assert_eq!(console([1, 0, 4]), Some(16));
    assert_eq!(console([1, 15, 4]), Some(31));
    assert_eq!(console([1, 16, 4]), None);
    // GICv3.1's extended ranges.
    assert_eq!(console([2, 0, 4]), None);
    assert_eq!(console([3, 0, 4]), None);
}

#[test]
fn firmware_may_be_called_by_hvc_and_the_early_code_knows() {
    let mut tree = fixture::machine();
    set(at(&mut tree, "/psci"), "method", "hvc");
    assert_eq!(early_psci(&tree.to_dtb()), Some(Conduit::Hvc));
    set(at(&mut tree, "/psci"), "method", "eret");
    assert_eq!(early_psci(&tree.to_dtb()), None);
}

#[test]
fn what_is_disabled_or_something_else_is_overlooked() {
    type Change = fn(&mut DeviceTree);
    let optee = |change: Change| {
        let mut tree = fixture::two_vms();
        change(&mut tree);
        let dtb = tree.to_dtb();
        let (machine, vms) = read(&dtb, occupied()).unwrap();
        (machine.optee.is_some(), vms.len())
    };
    const NODE: &str = "/firmware/optee";
    assert_eq!(optee(|_| ()), (true, 2));
    let changes: [(Change, _); 6] = [
        (|t| set(at(t, NODE), "status", "disabled"), (false, 2)),
        (|t| set(at(t, NODE), "compatible", "x"), (false, 2)),
        (|t| set(at(t, NODE), "status", "okay"), (true, 2)),
        (
            |t| set(at(t, "/chosen/vm-a"), "status", "disabled"),
            (true, 1),
        ),
        (
            |t| set(child(at(t, "/chosen"), "opp"), "compatible", "x"),
            (true, 2),
        ),
        (|t| _ = child(at(t, "/chosen"), "framebuffer"), (true, 2)),
    ];
    for (index, (change, expected)) in changes.into_iter().enumerate() {
        assert_eq!(optee(change), expected, "{index}");
    }
}

/// 3012 MiB are free in whole blocks, and one VM of two has 512 of them.
#[test]
fn vms_may_have_all_that_is_free_and_no_more() {
    let read = |mib: u64| {
        let mut tree = fixture::two_vms();
        set(at(&mut tree, "/chosen/vm-b"), "memory", mib * 1024);
        let dtb = tree.to_dtb();
        read(&dtb, occupied()).err().map(|error| error.to_string())
    };
    assert_eq!(read(2500), None);
    let error = BootError::NotEnoughMemory {
        wanted_mib: 3014,
        free_mib: 3012,
    };
    assert_eq!(read(2502), Some(error.to_string()));
}

/// What a guest can make of EL2's heap, by the tables that stage 2 takes and by the counters of its pages. A tree that
/// asks for more than the machine has is not started, so the sizes are set behind the reader's back.
#[test]
fn the_heap_holds_every_table_and_counter_of_every_vm() {
    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;
    const GIB: u64 = 1024 * MIB;
    let mut tree = fixture::machine();
    for index in 0..8 {
        set(
            fixture::vm(&mut tree, &format!("vm-{index}")),
            "memory",
            0x1_0000_u64,
        );
    }
    let dtb = tree.to_dtb();
    let (_, mut vms) = read(&dtb, occupied()).unwrap();
    let books = vms[0].tee_config.quotas.heap_bytes();
    assert!(books > MIB);
    for (memory, tables, counters) in [
        // A table for each block of 2 MiB and each GiB that is begun; the root's two, and those above the devices.
        (64 * MIB, 32 + 1 + 4, 32 * KIB),
        (GIB + 2 * MIB, 513 + 2 + 4, MIB),
        // Two bytes a page; the heap gives powers of two.
        (3 * GIB, 1536 + 3 + 4, 2 * MIB),
        (64 * GIB, 32_768 + 64 + 4, 32 * MIB),
    ] {
        for vm in &mut vms {
            (vm.memory, vm.tee) = (memory, Tee::None);
        }
        let of_vm = 256 * KIB + tables * 4 * KIB + counters;
        let whole = |bytes: u64| bytes.next_multiple_of(2 * MIB);
        assert_eq!(heap_bytes(&vms), whole(16 * MIB + 8 * of_vm), "{memory:#x}");
        vms[3].tee = Tee::Optional;
        vms[5].tee = Tee::Required;
        assert_eq!(heap_bytes(&vms), whole(16 * MIB + 8 * of_vm + 2 * books));
    }
}
