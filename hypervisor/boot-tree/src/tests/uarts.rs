// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which UART is the console, where its registers are and how they are laid out.

use dtoolkit::model::{DeviceTree, DeviceTreeNode};
use postern_uart::{Layout, Model, Width};

use super::fixture::{at, cells, child, set};
use super::{fixture, occupied, read};
use crate::early_uart;

type Change = fn(&mut DeviceTreeNode);

/// The default machine with a console at 0x9050000 that has these compatible strings, 0x100 bytes and the interrupts
/// SPI 100 to 108.
fn tree(compatible: &[&str], change: Change) -> DeviceTree {
    let mut tree = fixture::two_vms();
    let uart = child(&mut tree.root, "serial@9050000");
    set(uart, "compatible", compatible);
    cells(uart, "reg", [0, 0x0905_0000, 0, 0x100]);
    let interrupts: Vec<u32> = (100..109).flat_map(|spi| [0, spi, 4]).collect();
    set(uart, "interrupts", &*interrupts);
    change(uart);
    set(
        at(&mut tree, "/chosen"),
        "stdout-path",
        "/serial@9050000:115200n8",
    );
    tree
}

/// The first register's address, the model, its shift and width, and the interrupts.
type Found = (u64, Model, u8, Width, Vec<u32>);

fn uart(compatible: &[&str], change: Change) -> Result<Found, String> {
    let dtb = tree(compatible, change).to_dtb();
    let (machine, _) = read(&dtb, occupied()).map_err(|error| error.to_string())?;
    let uart = machine.uart;
    assert_eq!(
        early_uart(&dtb),
        Some((uart.registers.start(), uart.layout))
    );
    assert_eq!(uart.registers.end().get(), 0x0905_0100);
    let Layout {
        model,
        shift,
        width,
    } = uart.layout;
    let interrupts = uart.interrupts.iter().map(|one| one.intid.get() - 32);
    Ok((
        uart.registers.start().get(),
        model,
        shift,
        width,
        interrupts.collect(),
    ))
}

#[test]
fn a_console_is_found_by_any_of_its_compatible_strings() {
    let start = 0x0905_0000;
    let table: &[(&[&str], Model, u8, Width)] = &[
        (
            &["arm,pl011", "arm,primecell"],
            Model::Pl011,
            0,
            Width::Word,
        ),
        (&["arm,sbsa-uart"], Model::Sbsa, 0, Width::Word),
        (
            &["xlnx,zynqmp-uart", "cdns,uart-r1p12"],
            Model::Cadence,
            0,
            Width::Word,
        ),
        (
            &["fsl,imx8mp-uart", "fsl,imx6q-uart"],
            Model::Imx,
            0,
            Width::Word,
        ),
        (
            &["fsl,imx93-lpuart", "fsl,imx8ulp-lpuart"],
            Model::Lpuart,
            0,
            Width::Word,
        ),
        (
            &["ti,am64-uart", "ti,am654-uart"],
            Model::Ns16550,
            2,
            Width::Byte,
        ),
        (
            &["brcm,bcm2835-aux-uart"],
            Model::Bcm2835Aux,
            2,
            Width::Word,
        ),
        (
            &["x,y", "amlogic,meson-gx-uart"],
            Model::Meson,
            0,
            Width::Word,
        ),
    ];
    for (compatible, model, shift, width) in table {
        let expected = (start, *model, *shift, *width, vec![100]);
        assert_eq!(uart(compatible, |_| ()), Ok(expected), "{compatible:?}");
    }
    // Some SCIFs have a line for each cause.
    let scif = uart(&["renesas,scif-r9a09g057"], |_| ());
    let lines = vec![100, 101, 102, 103, 104];
    assert_eq!(scif, Ok((start, Model::Scif, 1, Width::Half, lines)));
    let one: Change = |uart| cells(uart, "interrupts", [0, 164, 4]);
    let scif = uart(&["renesas,rcar-gen3-scif", "renesas,scif"], one);
    assert_eq!(scif, Ok((start, Model::Scif, 2, Width::Half, vec![164])));
    let none: Change = |uart| cells(uart, "interrupts", []);
    assert!(uart(&["renesas,scif"], none).is_err());
}

#[test]
fn the_node_of_an_8250_says_how_its_registers_are_laid_out() {
    let found = |change: Change| uart(&["rockchip,rk3588-uart", "snps,dw-apb-uart"], change);
    let start = 0x0905_0000;
    let layout = |start, shift, width| Ok((start, Model::DesignWare, shift, width, vec![100]));
    assert_eq!(found(|_| ()), layout(start, 0, Width::Byte));
    let both: Change = |uart| {
        set(uart, "reg-shift", 2_u32);
        set(uart, "reg-io-width", 4_u32);
    };
    assert_eq!(found(both), layout(start, 2, Width::Word));
    let half: Change = |uart| {
        set(uart, "reg-shift", 1_u32);
        set(uart, "reg-io-width", 2_u32);
    };
    assert_eq!(found(half), layout(start, 1, Width::Half));
    let byte: Change = |uart| set(uart, "reg-io-width", 1_u32);
    assert_eq!(found(byte), layout(start, 0, Width::Byte));
    let offset: Change = |uart| set(uart, "reg-offset", 0x40_u32);
    assert_eq!(found(offset), layout(start + 0x40, 0, Width::Byte));
    let last: Change = |uart| set(uart, "reg-offset", 0xe0_u32);
    assert_eq!(found(last), layout(start + 0xe0, 0, Width::Byte));

    let error = |property, problem| {
        Err(format!(
            "device tree: serial@9050000: `{property}` {problem}"
        ))
    };
    let few = || error("reg", "has fewer bytes than the registers of the UART");
    assert_eq!(found(|uart| set(uart, "reg-offset", 0xe1_u32)), few());
    assert_eq!(found(|uart| set(uart, "reg-offset", u32::MAX)), few());
    assert_eq!(found(|uart| set(uart, "reg-shift", 4_u32)), few());
    let table: [(Change, _, _); 6] = [
        (
            |uart| set(uart, "reg-shift", 5_u32),
            "reg-shift",
            "is not 0 to 4",
        ),
        (
            |uart| set(uart, "reg-shift", 256_u32),
            "reg-shift",
            "is not 0 to 4",
        ),
        (
            |uart| set(uart, "reg-shift", 2_u64),
            "reg-shift",
            "is not one cell",
        ),
        (
            |uart| set(uart, "reg-io-width", 3_u32),
            "reg-io-width",
            "is not 1, 2 or 4",
        ),
        (
            |uart| set(uart, "reg-io-width", 0_u32),
            "reg-io-width",
            "is not 1, 2 or 4",
        ),
        (
            |uart| set(uart, "reg-offset", [0_u32; 0]),
            "reg-offset",
            "is not one cell",
        ),
    ];
    for (change, property, problem) in table {
        assert_eq!(found(change), error(property, problem));
    }
    // Other UARTs have one layout.
    let meson = uart(&["amlogic,meson-gx-uart"], |uart| {
        set(uart, "reg-shift", 9_u32);
        set(uart, "reg-offset", 0x40_u32);
    });
    assert_eq!(meson, Ok((start, Model::Meson, 0, Width::Word, vec![100])));
}

#[test]
fn a_console_that_is_unknown_or_disabled_is_none() {
    let none = "no console: /chosen needs a stdout-path that names an enabled UART of those in \
                docs/device-tree-binding.md";
    assert_eq!(uart(&["qcom,geni-debug-uart"], |_| ()), Err(none.into()));
    let disabled: Change = |uart| set(uart, "status", "disabled");
    assert_eq!(uart(&["arm,pl011"], disabled), Err(none.into()));
    assert_eq!(early_uart(&tree(&["arm,pl011"], disabled).to_dtb()), None);
    let small: Change = |uart| cells(uart, "reg", [0, 0x0905_0000, 0, 0x47]);
    let few = "device tree: serial@9050000: `reg` has fewer bytes than the registers of the UART";
    assert_eq!(uart(&["arm,pl011"], small), Err(few.into()));
    assert_eq!(early_uart(&tree(&["arm,pl011"], small).to_dtb()), None);
}
