// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Devices on buses that move addresses, in the forms that real boards have them.

use dtoolkit::model::DeviceTree;

use super::fixture::{at, child, set};
use super::{fixture, occupied, read};
use crate::bus::Located;
use crate::{early_uart, tree};

/// A bus: its `#address-cells`, `#size-cells` and `ranges`, where it has some.
type Bus<'a> = (u32, u32, Option<&'a [u32]>);

/// The default machine with its console on the last of these buses, each of which is on the one before.
fn console_on(buses: &[Bus<'_>], reg: &[u32]) -> DeviceTree {
    let mut tree = fixture::two_vms();
    let mut node = &mut tree.root;
    for (depth, (address, size, ranges)) in buses.iter().enumerate() {
        node = child(node, &format!("bus-{depth}"));
        set(node, "#address-cells", *address);
        set(node, "#size-cells", *size);
        if let Some(ranges) = ranges {
            set(node, "ranges", *ranges);
        }
    }
    let uart = child(node, "serial@1");
    set(uart, "compatible", "arm,pl011");
    set(uart, "interrupts", [0_u32, 2, 4]);
    set(uart, "reg", reg);
    let path = console_path(buses.len());
    set(at(&mut tree, "/chosen"), "stdout-path", &*path);
    tree
}

/// Where the registers of what is on these buses are, and how many bytes they have, or why that is not known.
fn place(buses: &[Bus<'_>], reg: &[u32]) -> Result<(u64, u64), String> {
    let dtb = console_on(buses, reg).to_dtb();
    let path = console_path(buses.len());
    let console = Located::resolve(tree::open(&dtb).unwrap(), &path).expect("it is on few buses");
    let place = match console.reg(0) {
        Ok(registers) => Ok((registers.start().get(), registers.bytes())),
        Err(error) => {
            // The early console is nowhere.
            assert_eq!(early_uart(&dtb), None);
            Err(error.to_string())
        }
    };
    // Where it has room for a UART, the console is there, and so is the early one.
    if let Some((start, _)) = early_uart(&dtb) {
        let (machine, _) = read(&dtb, occupied()).unwrap();
        assert_eq!(machine.uart.registers.start(), start);
        assert_eq!(place.as_ref().map(|(start, _)| *start), Ok(start.get()));
    }
    place
}

fn console_path(buses: usize) -> String {
    let buses: String = (0..buses).map(|depth| format!("/bus-{depth}")).collect();
    format!("{buses}/serial@1")
}

const SAME: Option<&[u32]> = Some(&[]);

#[test]
fn an_address_is_translated_by_each_bus_above() {
    type Line<'a> = (&'a [Bus<'a>], &'a [u32], (u64, u64));
    let table: &[Line<'_>] = &[
        (&[], &[0, 0x0905_0000, 0, 0x1000], (0x0905_0000, 0x1000)),
        (&[(1, 1, SAME)], &[0x0905_0000, 0x800], (0x0905_0000, 0x800)),
        // i.MX8MP: the outermost of three buses has a value.
        (
            &[
                (1, 1, Some(&[0, 0, 0, 0x3e00_0000])),
                (1, 1, SAME),
                (1, 1, SAME),
            ],
            &[0x3089_0000, 0x1_0000],
            (0x3089_0000, 0x1_0000),
        ),
        // Raspberry Pi 4: several entries.
        (
            &[(1, 1, Some(&PI))],
            &[0x7e21_5040, 0x40],
            (0xfe21_5040, 0x40),
        ),
        (
            &[(1, 1, Some(&PI))],
            &[0x7c00_1000, 0x40],
            (0xfc00_1000, 0x40),
        ),
        (&[(1, 1, Some(&PI))], &[0x4000_0000, 4], (0xff80_0000, 4)),
        // Odroid-N2: the innermost has.
        (
            &[
                (2, 2, SAME),
                (2, 2, Some(&[0, 0, 0, 0xff80_0000, 0, 0x10_0000])),
            ],
            &[0, 0x3000, 0, 0x18],
            (0xff80_3000, 0x18),
        ),
        // RB5: 36 bits at once.
        (
            &[(2, 2, Some(&[0, 0, 0, 0, 0x10, 0])), (2, 2, SAME)],
            &[0, 0xa9_0000, 0, 0x4000],
            (0xa9_0000, 0x4000),
        ),
        // Each level has its own widths.
        (
            &[
                (2, 1, Some(&[0x1, 0, 0x9, 0, 0x8000_0000])),
                (1, 1, Some(&[0x100, 0x1, 0x1000, 0x1000])),
            ],
            &[0x180, 0x80],
            (0x9_0000_1080, 0x80),
        ),
        // Three cells, the first of which says what kind of address it is.
        (
            &[(3, 2, Some(&[1, 0, 0x1000, 0, 0x9000_0000, 0, 0x1000]))],
            &[1, 0, 0x1800, 0, 0x100],
            (0x9000_0800, 0x100),
        ),
        // The whole entry, its first and its last byte, and none at its end.
        (&[(1, 1, SMALL)], &[0x100, 0x100], (0x9000_0000, 0x100)),
        (&[(1, 1, SMALL)], &[0x100, 1], (0x9000_0000, 1)),
        (&[(1, 1, SMALL)], &[0x1ff, 1], (0x9000_00ff, 1)),
        (&[(1, 1, SMALL)], &[0x200, 0], (0x9000_0100, 0)),
    ];
    for (index, (buses, reg, expected)) in table.iter().enumerate() {
        assert_eq!(place(buses, reg), Ok(*expected), "line {index}");
    }
}

const PI: [u32; 12] = [
    0x7e00_0000,
    0,
    0xfe00_0000,
    0x0180_0000,
    0x7c00_0000,
    0,
    0xfc00_0000,
    0x0200_0000,
    0x4000_0000,
    0,
    0xff80_0000,
    0x0080_0000,
];
/// 0x100 to 0x200 is at 0x9000_0000.
const SMALL: Option<&[u32]> = Some(&[0x100, 0, 0x9000_0000, 0x100]);

#[test]
fn an_address_that_cannot_be_translated_is_an_error_that_names_device_and_bus() {
    type Line<'a> = (&'a [Bus<'a>], &'a [u32], &'a str);
    let table: &[Line<'_>] = &[
        (
            &[(1, 1, SAME), (1, 1, None)],
            &[0x0905_0000, 0x1000],
            "device tree: serial@1: it is on the bus bus-1, whose `ranges` is missing, \
             so that no CPU reaches what is on it",
        ),
        (
            &[(1, 1, Some(&[0, 0, 0x1000])), (1, 1, SAME)],
            &[0x0905_0000, 0x1000],
            "device tree: serial@1: it is on the bus bus-0, whose `ranges` does not match \
             the #address-cells and #size-cells",
        ),
        (&[(1, 1, SMALL)], &[0xff, 1], NO_ENTRY),
        (&[(1, 1, SMALL)], &[0x1ff, 2], NO_ENTRY),
        (&[(1, 1, SMALL)], &[0x200, 1], NO_ENTRY),
        (&[(1, 1, SMALL)], &[0x9000_0000, 1], NO_ENTRY),
        // Another kind of address.
        (
            &[(3, 2, Some(&[1, 0, 0x1000, 0, 0x9000_0000, 0, 0x1000]))],
            &[2, 0, 0x1800, 0, 0x100],
            NO_ENTRY,
        ),
        (
            &[(5, 1, Some(&[0, 0, 0, 0, 0, 0, 0x9000_0000, 0x1000]))],
            &[0, 0, 0, 0, 0x100, 0x100],
            "device tree: serial@1: it is on the bus bus-0, whose `ranges` has a number of \
             more than four cells",
        ),
        (
            &[(1, 3, Some(&[0, 0, 0x9000_0000, 0, 0, 0x1000]))],
            &[0x100, 1, 0, 0x100],
            "device tree: serial@1: `reg` has a size above 64 bits",
        ),
        (
            &[(3, 1, SAME)],
            &[1, 0, 0x100, 0x100],
            "device tree: serial@1: `reg` has an address above 64 bits",
        ),
        (
            &[(1, 1, Some(&[0, u32::MAX, 0xffff_f000, 0x2000]))],
            &[0x800, 0x1000],
            "device tree: serial@1: `reg` passes the end of the address space",
        ),
        (
            &[(1, 1, Some(&[0, u32::MAX, 0xffff_f000, 0x2000]))],
            &[0x1000, 0x1000],
            "device tree: serial@1: `reg` has an address above 64 bits",
        ),
        (
            &[(1, 1, SAME)],
            &[0x100],
            "device tree: serial@1: `reg` does not match #address-cells and #size-cells",
        ),
        (
            &[(1, 1, SAME)],
            &[],
            "device tree: serial@1: `reg` has too few ranges",
        ),
    ];
    for (index, (buses, reg, expected)) in table.iter().enumerate() {
        assert_eq!(
            place(buses, reg),
            Err((*expected).to_owned()),
            "line {index}"
        );
    }
}

const NO_ENTRY: &str =
    "device tree: serial@1: it is on the bus bus-0, whose `ranges` has no entry for it";

#[test]
fn the_console_is_on_the_fourth_bus_at_most() {
    let on = |buses: usize| {
        let buses = vec![(2, 2, SAME); buses];
        let dtb = console_on(&buses, &[0, 0x0905_0000, 0, 0x1000]).to_dtb();
        let read = read(&dtb, occupied()).map(|_| ());
        assert_eq!(early_uart(&dtb).is_some(), read.is_ok());
        read.map_err(|error| error.to_string())
    };
    assert_eq!(on(4), Ok(()));
    let error = on(5).unwrap_err();
    assert!(error.starts_with("no console"), "{error}");
}

/// AM62 and others have PSCI below `/firmware`, which is no bus.
#[test]
fn what_has_no_address_is_found_below_any_node() {
    let mut tree = fixture::two_vms();
    let psci = tree.root.remove_child("psci").unwrap();
    assert!(read(&tree.to_dtb(), occupied()).is_err());
    at(&mut tree, "/firmware").add_child(psci);
    assert!(read(&tree.to_dtb(), occupied()).is_ok());
}

/// All of it below buses that move addresses, as on a board.
#[test]
fn a_board_is_read() {
    let dtb = fixture::board().to_dtb();
    let (machine, vms) = read(&dtb, occupied()).unwrap();
    let redistributors = fixture::redistributors(&machine);
    let starts = [
        machine.uart.registers,
        machine.gic.distributor,
        redistributors.regions[1],
        machine.rtc.unwrap(),
    ]
    .map(|range| range.start().get());
    assert_eq!(starts, [0xff80_3000, 0xfe60_0000, 0xfe70_0000, 0xff80_5000]);
    assert_eq!(redistributors.regions.len(), 2);
    assert_eq!(machine.uart.interrupts[0].intid.get(), 32 + 0x14d);
    let timers = machine.timers;
    let numbers = [timers.physical, timers.virtual_timer, timers.hypervisor].map(|id| id.get());
    assert_eq!(
        (numbers, timers.clock_frequency),
        ([30, 27, 26], Some(8_000_000))
    );
    assert_eq!(machine.gic.maintenance.map(|id| id.get()), Some(25));
    assert_eq!(
        machine.optee.unwrap().notification.unwrap().intid.get(),
        219
    );
    assert_eq!(vms.len(), 1);
}
