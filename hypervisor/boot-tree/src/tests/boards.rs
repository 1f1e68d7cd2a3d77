// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What boards have and QEMU's `virt` machine does not: several redistributor regions, reserved memory of every form,
//! firmware that says nothing of OP-TEE.

use dtoolkit::memreserve::MemoryReservation;
use dtoolkit::model::DeviceTree;

use super::fixture::{at, cells, child, set};
use super::{fixture, occupied, range, read};

type Change = fn(&mut DeviceTree);

#[test]
fn redistributors_are_in_as_many_regions_as_the_tree_says() {
    let regions = |count: Option<u32>| {
        let mut tree = fixture::two_vms();
        let gic = at(&mut tree, "/intc@8000000");
        let mut reg = vec![0_u32, 0x0800_0000, 0, 0x1_0000];
        for index in 0..5 {
            reg.extend([0x10 + index, 0, 0, 0x4_0000]);
        }
        set(gic, "reg", &*reg);
        match count {
            Some(count) => set(gic, "#redistributor-regions", count),
            None => _ = gic.remove_property("#redistributor-regions"),
        }
        let dtb = tree.to_dtb();
        let (machine, _) = read(&dtb, occupied()).map_err(|error| error.to_string())?;
        let regions = fixture::redistributors(&machine).regions.iter();
        Ok::<_, String>(
            regions
                .map(|region| region.start().get() >> 32)
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(regions(None), Ok(vec![0x10]));
    assert_eq!(regions(Some(1)), Ok(vec![0x10]));
    assert_eq!(regions(Some(3)), Ok(vec![0x10, 0x11, 0x12]));
    assert_eq!(regions(Some(4)), Ok(vec![0x10, 0x11, 0x12, 0x13]));
    for count in [0, 5, u32::MAX] {
        let error = "device tree: intc@8000000: `#redistributor-regions` is not 1 to 4";
        assert_eq!(regions(Some(count)), Err(error.into()));
    }
    // A region that is not there.
    let mut tree = fixture::two_vms();
    let gic = at(&mut tree, "/intc@8000000");
    set(gic, "#redistributor-regions", 2_u32);
    let dtb = tree.to_dtb();
    let error = read(&dtb, occupied()).map(|_| ()).unwrap_err().to_string();
    assert_eq!(error, "device tree: intc@8000000: `reg` has too few ranges");
    set(
        at(&mut tree, "/intc@8000000"),
        "#redistributor-regions",
        2_u64,
    );
    let dtb = tree.to_dtb();
    let error = read(&dtb, occupied()).map(|_| ()).unwrap_err().to_string();
    let expected = "device tree: intc@8000000: `#redistributor-regions` is not one cell";
    assert_eq!(error, expected);
}

/// Both are kept from guests, and what has no place yet is nobody's.
#[test]
fn memory_is_reserved_by_every_form_of_node() {
    let with = |change: Change| {
        let mut tree = fixture::two_vms();
        tree.memory_reservations.clear();
        for name in ["optee_shm@42000000", "optee_core@e100000", "anywhere"] {
            at(&mut tree, "/reserved-memory").remove_child(name);
        }
        change(&mut tree);
        let dtb = tree.to_dtb();
        let (machine, _) = read(&dtb, occupied()).unwrap();
        // Above everything else that is in use.
        let high = |range: &postern_base::range::PaRange| range.end().get() > 0x5000_0000;
        let free: Vec<_> = machine.free.iter().filter(high).collect();
        let mapped: Vec<_> = machine.mapped.iter().filter(high).collect();
        (free, mapped)
    };
    const FREE: u64 = 0x4b80_0000;
    const RAM: u64 = 0x4000_0000;
    const END: u64 = 0x1_0000_0000;
    let (free, mapped) = with(|_| ());
    assert_eq!(
        (free, mapped),
        (vec![range(FREE, END)], vec![range(RAM, END)])
    );

    fn add(tree: &mut DeviceTree, reg: &[u32], no_map: bool) {
        let node = child(at(tree, "/reserved-memory"), "secmon@60000000");
        set(node, "reg", reg);
        if no_map {
            set(node, "no-map", [0_u32; 0]);
        }
    }
    let one = &[range(FREE, 0x6000_0000), range(0x6010_0000, END)];
    let one_mapped = &[range(RAM, 0x6000_0000), range(0x6010_0000, END)];
    let whole = &[range(RAM, END)];
    let table: &[(Change, &[_], &[_])] = &[
        (
            |t| add(t, &[0, 0x6000_0000, 0, 0x10_0000], false),
            one,
            whole,
        ),
        (
            |t| add(t, &[0, 0x6000_0000, 0, 0x10_0000], true),
            one,
            one_mapped,
        ),
        // Several places in one node.
        (
            |t| {
                let reg = [0, 0x6000_0000, 0, 0x8_0000, 0, 0x6008_0000, 0, 0x8_0000];
                add(t, &reg, true);
            },
            one,
            one_mapped,
        ),
        // An operating system would choose a place.
        (
            |t| {
                let node = child(at(t, "/reserved-memory"), "linux,cma");
                cells(node, "size", [0, 0x1000_0000]);
                set(node, "no-map", [0_u32; 0]);
            },
            &[range(FREE, END)],
            whole,
        ),
        // A node of another piece of hardware.
        (
            |t| {
                add(t, &[0, 0x6000_0000, 0, 0x10_0000], true);
                let node = at(t, "/reserved-memory/secmon@60000000");
                set(node, "status", "disabled");
            },
            &[range(FREE, END)],
            whole,
        ),
        (
            |t| {
                let reservation = MemoryReservation::new(0x6000_0000, 0x10_0000);
                t.memory_reservations.push(reservation);
            },
            one,
            whole,
        ),
        // Nothing at an address, and a place that is no RAM.
        (
            |t| add(t, &[0, 0x6000_0000, 0, 0, 0, 0x1000, 0, 0x1000], true),
            &[range(FREE, END)],
            whole,
        ),
    ];
    for (index, (change, free, mapped)) in table.iter().enumerate() {
        assert_eq!(
            with(*change),
            (free.to_vec(), mapped.to_vec()),
            "line {index}"
        );
    }
}

/// OP-TEE's notification interrupt, or whether there is OP-TEE at all as far as the tree goes.
fn notification(change: Change) -> Result<Option<Option<u32>>, String> {
    let mut tree = fixture::two_vms();
    change(&mut tree);
    let dtb = tree.to_dtb();
    let read = read(&dtb, occupied()).map(|(machine, _)| {
        let optee = machine.optee?;
        Some(optee.notification.map(|interrupt| interrupt.intid.get()))
    });
    read.map_err(|error| error.to_string())
}

#[test]
fn optees_interrupt_may_be_configured() {
    const GIVEN: &str = "postern,optee-interrupt";
    fn give<const N: usize>(tree: &mut DeviceTree, cells_: [u32; N]) {
        cells(at(tree, "/chosen"), GIVEN, cells_);
    }
    fn remove(tree: &mut DeviceTree) {
        at(tree, "/firmware").remove_child("optee").unwrap();
    }
    fn silence(tree: &mut DeviceTree) {
        at(tree, "/firmware/optee").remove_property("interrupts");
    }
    let table: &[(Change, Option<Option<u32>>)] = &[
        (|_| (), Some(Some(219))),
        (|t| give(t, [0, 187, 1]), Some(Some(219))),
        (silence, Some(None)),
        (
            |t| {
                silence(t);
                give(t, [0, 100, 1]);
            },
            Some(Some(132)),
        ),
        (remove, None),
        (
            |t| {
                remove(t);
                give(t, [0, 100, 4]);
            },
            Some(Some(132)),
        ),
        (
            |t| {
                set(at(t, "/firmware/optee"), "status", "disabled");
                give(t, [0, 100, 4]);
            },
            Some(Some(132)),
        ),
        // By the form with the controller.
        (
            |t| {
                silence(t);
                let extended = [fixture::GIC_PHANDLE, 0, 200, 1];
                cells(at(t, "/firmware/optee"), "interrupts-extended", extended);
            },
            Some(Some(232)),
        ),
    ];
    for (index, (change, expected)) in table.iter().enumerate() {
        assert_eq!(notification(*change), Ok(*expected), "line {index}");
    }
    let contradiction = "device tree: chosen: `postern,optee-interrupt` contradicts the interrupts of \
                         /firmware/optee: leave it out";
    let form = "device tree: chosen: `postern,optee-interrupt` is not one interrupt in the GIC's cells, \
                such as <0 187 1> for SPI 187, an edge";
    let errors: &[(Change, &str)] = &[
        (|t| give(t, [0, 188, 1]), contradiction),
        (|t| give(t, [0, 187, 4]), contradiction),
        (|t| give(t, []), form),
        (|t| give(t, [0, 187]), form),
        (|t| give(t, [0, 187, 1, 0]), form),
        (|t| give(t, [2, 187, 1]), form),
        (
            |t| set(at(t, "/firmware/optee"), "interrupt-parent", 1_u32),
            "device tree: optee: `interrupts` goes to another interrupt controller than the GIC",
        ),
        (
            |t| cells(at(t, "/firmware/optee"), "interrupts", [9]),
            "device tree: optee: `interrupts` does not name an interrupt of the GIC",
        ),
        (
            |t| set(at(t, "/firmware/optee"), "method", "hvc"),
            "/firmware/optee: method is not \"smc\": Postern reaches OP-TEE through EL3 only",
        ),
    ];
    for (index, (change, expected)) in errors.iter().enumerate() {
        assert_eq!(
            notification(*change),
            Err((*expected).into()),
            "line {index}"
        );
    }
}
