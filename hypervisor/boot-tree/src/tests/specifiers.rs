// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which interrupt a node names, and of which controller; and what else a timer's node says.

use dtoolkit::model::DeviceTree;

use super::fixture::{at, cells, child, set};
use super::{fixture, occupied, read};
use crate::{BootError, Timers};

const GIC: u32 = fixture::GIC_PHANDLE;
const OTHER: u32 = 77;

const UART: &str = "/pl011@9000000";

type Change = fn(&mut DeviceTree);

fn uart(change: Change) -> Result<u32, String> {
    let mut tree = fixture::two_vms();
    change(&mut tree);
    let dtb = tree.to_dtb();
    let read = read(&dtb, occupied()).map(|(machine, _)| machine.uart.interrupts[0].intid.get());
    read.map_err(|error| error.to_string())
}

#[test]
fn a_console_names_an_interrupt_of_the_gic() {
    let table: &[(Change, u32)] = &[
        (|_| (), 33),
        (|t| set(at(t, UART), "interrupt-parent", GIC), 33),
        // The node's own word is nearer than the root's, and that of a node between them.
        (
            |t| {
                set(&mut t.root, "interrupt-parent", OTHER);
                for node in [UART, "/timer", "/firmware"] {
                    set(at(t, node), "interrupt-parent", GIC);
                }
            },
            33,
        ),
        (
            |t| {
                set(&mut t.root, "interrupt-parent", OTHER);
                on_a_bus(t, GIC);
                for node in ["/timer", "/firmware"] {
                    set(at(t, node), "interrupt-parent", GIC);
                }
            },
            33,
        ),
        // Without a word the GIC is meant: there is no other one that Postern knows.
        (
            |t| {
                _ = t.root.remove_property("interrupt-parent");
                _ = at(t, "/intc@8000000").remove_property("phandle");
            },
            33,
        ),
        // The extended form takes precedence, and has its own controller.
        (
            |t| cells(at(t, UART), "interrupts-extended", [GIC, 0, 2, 4]),
            34,
        ),
        (
            |t| {
                _ = at(t, UART).remove_property("interrupts");
                set(at(t, UART), "interrupt-parent", OTHER);
                cells(at(t, UART), "interrupts-extended", [GIC, 0, 3, 4]);
            },
            35,
        ),
        // What comes behind does not matter: often a pin that wakes the machine.
        (
            |t| {
                cells(at(t, UART), "interrupts-extended", [GIC, 0, 2, 4, OTHER, 9]);
            },
            34,
        ),
    ];
    for (index, (change, expected)) in table.iter().enumerate() {
        assert_eq!(uart(*change), Ok(*expected), "line {index}");
    }
}

/// Moves the console to a bus with this `interrupt-parent`.
fn on_a_bus(tree: &mut DeviceTree, parent: u32) {
    let uart = tree.root.remove_child("pl011@9000000").unwrap();
    let bus = child(&mut tree.root, "soc");
    set(bus, "#address-cells", 2_u32);
    set(bus, "#size-cells", 2_u32);
    set(bus, "ranges", [0_u32; 0]);
    set(bus, "interrupt-parent", parent);
    bus.add_child(uart);
    set(at(tree, "/chosen"), "stdout-path", "/soc/pl011@9000000");
}

#[test]
fn another_controller_and_a_specifier_that_is_none_are_refused_in_a_line() {
    let elsewhere = "`interrupts` goes to another interrupt controller than the GIC";
    let extended = "`interrupts-extended` goes to another interrupt controller than the GIC";
    let none = "`interrupts` does not name an interrupt of the GIC";
    let no_extended = "`interrupts-extended` does not name an interrupt of the GIC";
    let table: &[(Change, &str)] = &[
        (|t| set(at(t, UART), "interrupt-parent", OTHER), elsewhere),
        (|t| on_a_bus(t, OTHER), elsewhere),
        (
            |t| _ = at(t, "/intc@8000000").remove_property("phandle"),
            elsewhere,
        ),
        // A controller whose interrupts have one cell.
        (
            |t| {
                let intc = child(&mut t.root, "local-intc");
                set(intc, "phandle", OTHER);
                set(intc, "#interrupt-cells", 1_u32);
                cells(at(t, UART), "interrupts-extended", [OTHER, 9]);
            },
            extended,
        ),
        (
            |t| cells(at(t, UART), "interrupts-extended", [OTHER, 0, 2, 4]),
            extended,
        ),
        (|t| cells(at(t, UART), "interrupts", [0, 1]), none),
        (|t| cells(at(t, UART), "interrupts", []), none),
        (|t| _ = at(t, UART).remove_property("interrupts"), none),
        (|t| cells(at(t, UART), "interrupts", [2, 1, 4]), none),
        (
            |t| cells(at(t, UART), "interrupts-extended", [GIC, 0, 2]),
            no_extended,
        ),
        (
            |t| cells(at(t, UART), "interrupts-extended", []),
            no_extended,
        ),
    ];
    for (index, (change, expected)) in table.iter().enumerate() {
        let expected = format!("device tree: pl011@9000000: {expected}");
        assert_eq!(uart(*change), Err(expected), "line {index}");
    }
}

/// The default machine with a GIC whose interrupts have four cells, the last of which says on which CPUs they are.
fn four_cells(console: [u32; 4], virtual_timer: u32) -> Result<(u32, u32), String> {
    let mut tree = fixture::two_vms();
    let gic = at(&mut tree, "/intc@8000000");
    set(gic, "#interrupt-cells", 4_u32);
    cells(gic, "interrupts", [1, 9, 4, 0]);
    cells(
        at(&mut tree, "/firmware/optee"),
        "interrupts",
        [0, 187, 1, 0],
    );
    cells(at(&mut tree, UART), "interrupts", console);
    let timers = [
        [1, 13, 8, 0],
        [1, 14, 8, 0],
        [1, 11, 8, virtual_timer],
        [1, 10, 8, 0],
    ];
    set(at(&mut tree, "/timer"), "interrupts", timers.as_flattened());
    let dtb = tree.to_dtb();
    let (machine, _) = read(&dtb, occupied()).map_err(|error| error.to_string())?;
    assert_eq!(machine.gic.maintenance.map(|id| id.get()), Some(25));
    let timers = machine.timers;
    assert_eq!(timers.physical.get(), 30);
    assert_eq!(timers.hypervisor.get(), 26);
    Ok((
        machine.uart.interrupts[0].intid.get(),
        timers.virtual_timer.get(),
    ))
}

#[test]
fn a_specifier_of_four_cells_is_for_all_cpus() {
    assert_eq!(four_cells([0, 0x14d, 4, 0], 0), Ok((32 + 0x14d, 27)));
    assert_eq!(
        four_cells([0, 0x14d, 4, 5], 0),
        Err(
            "device tree: pl011@9000000: `interrupts` does not name an interrupt of the GIC".into()
        )
    );
    assert_eq!(
        four_cells([0, 0x14d, 4, 0], 5),
        Err(
            "device tree: timer: `interrupts` lacks the physical, the virtual or the hypervisor timer"
                .into()
        )
    );
}

#[test]
fn a_gic_has_interrupts_of_three_or_four_cells() {
    for cells in [0_u32, 1, 2, 5] {
        let mut tree = fixture::two_vms();
        set(at(&mut tree, "/intc@8000000"), "#interrupt-cells", cells);
        let dtb = tree.to_dtb();
        let error = read(&dtb, occupied()).map(|_| ()).unwrap_err().to_string();
        assert_eq!(
            error,
            "device tree: intc@8000000: `#interrupt-cells` is not 3 or 4"
        );
    }
}

fn timers(change: fn(&mut DeviceTree)) -> Result<Timers, String> {
    let mut tree = fixture::two_vms();
    change(&mut tree);
    let dtb = tree.to_dtb();
    let read = read(&dtb, occupied()).map(|(machine, _)| machine.timers);
    read.map_err(|error| error.to_string())
}

/// RZ/G2M has no `interrupts` in its timer's node.
#[test]
fn a_timer_may_name_the_controller_of_each_interrupt() {
    const NAMES: [&str; 5] = ["sec-phys", "phys", "virt", "hyp-phys", "hyp-virt"];
    let extended: fn(&mut DeviceTree) = |t| {
        let timer = at(t, "/timer");
        _ = timer.remove_property("interrupts");
        set(timer, "interrupt-names", NAMES.as_slice());
        let entries = [
            [GIC, 1, 13, 8],
            [GIC, 1, 14, 8],
            [GIC, 1, 11, 8],
            [GIC, 1, 10, 8],
            [GIC, 1, 12, 8],
        ];
        set(timer, "interrupts-extended", entries.as_flattened());
    };
    let found = timers(extended).unwrap();
    let numbers = [found.physical, found.virtual_timer, found.hypervisor].map(|id| id.get());
    assert_eq!(numbers, [30, 27, 26]);
    // One of another controller, before the ones that count and behind them.
    let secure: fn(&mut DeviceTree) = |t| {
        let entries = [
            [OTHER, 1, 13, 8],
            [GIC, 1, 14, 8],
            [GIC, 1, 11, 8],
            [GIC, 1, 10, 8],
        ];
        let timer = at(t, "/timer");
        set(timer, "interrupts-extended", entries.as_flattened());
    };
    assert_eq!(
        timers(secure),
        Err("device tree: timer: `interrupts-extended` goes to another interrupt controller than the GIC".into())
    );
    let last: fn(&mut DeviceTree) = |t| {
        let entries = [
            [GIC, 1, 13, 8],
            [GIC, 1, 14, 8],
            [GIC, 1, 11, 8],
            [GIC, 1, 10, 8],
            [OTHER, 1, 12, 8],
        ];
        let timer = at(t, "/timer");
        set(timer, "interrupts-extended", entries.as_flattened());
    };
    assert!(timers(last).is_ok());
}

#[test]
fn a_timer_lacks_nothing() {
    let lacking = "lacks the physical, the virtual or the hypervisor timer";
    let few = timers(|t| {
        cells(
            at(t, "/timer"),
            "interrupts",
            [1, 13, 8, 1, 14, 8, 1, 11, 8],
        );
    });
    assert_eq!(
        few,
        Err(format!("device tree: timer: `interrupts` {lacking}"))
    );
    let unnamed = timers(|t| {
        set(
            at(t, "/timer"),
            "interrupt-names",
            ["phys", "virt"].as_slice(),
        );
    });
    assert_eq!(
        unnamed,
        Err(format!("device tree: timer: `interrupt-names` {lacking}"))
    );
    let none = timers(|t| set(at(t, "/timer"), "compatible", "x"));
    assert_eq!(
        none,
        Err("no arm,armv8-timer node in the device tree".into())
    );
}

/// CNTFRQ_EL0 is what firmware makes of it, on a ZCU102 in QEMU nothing at all.
#[test]
fn the_frequency_is_the_trees_or_the_registers() {
    let silent = timers(|_| ()).unwrap();
    assert_eq!(silent.frequency(62_500_000), Ok(62_500_000));
    assert_eq!(silent.frequency(0), Err(BootError::NoFrequency));
    assert_eq!(
        BootError::NoFrequency.to_string(),
        "firmware has left CNTFRQ_EL0 at 0: give the arm,armv8-timer node a clock-frequency, \
         or boot with firmware that sets the register"
    );
    let told = timers(|t| set(at(t, "/timer"), "clock-frequency", 8_000_000_u32)).unwrap();
    for counter in [0, 8_000_000, 62_500_000] {
        assert_eq!(told.frequency(counter), Ok(8_000_000));
    }
    // Nothing has no ticks.
    let zero = timers(|t| set(at(t, "/timer"), "clock-frequency", 0_u32)).unwrap();
    assert_eq!(zero.frequency(1), Ok(1));
    assert_eq!(
        timers(|t| set(at(t, "/timer"), "clock-frequency", 8_000_000_u64)),
        Err("device tree: timer: `clock-frequency` is not one cell".into())
    );
}
