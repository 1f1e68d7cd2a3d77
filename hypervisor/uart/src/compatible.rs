// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which UARTs there are, by the compatible strings of their nodes.

use super::Width;
use super::tables::{self, Table};

/// A model of a UART.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// Arm's PL011 (DDI 0183).
    Pl011,
    /// The part of a PL011 that the Server Base System Architecture has (DEN0029).
    Sbsa,
    /// An 8250 with FIFOs.
    Ns16550,
    /// Synopsys' 8250, DW_apb_uart.
    DesignWare,
    /// The mini UART of the BCM2835.
    Bcm2835Aux,
    /// Cadence's UART of Zynq and ZynqMP.
    Cadence,
    /// The UART of i.MX.
    Imx,
    /// The low-power UART of i.MX8Q, i.MX8ULP and i.MX9.
    Lpuart,
    /// Renesas' SCIF and HSCIF.
    Scif,
    /// The UART of Amlogic's SoCs.
    Meson,
}

impl Model {
    pub(super) const fn table(self) -> &'static Table {
        match self {
            Self::Pl011 => &tables::pl011::PL011,
            Self::Sbsa => &tables::pl011::SBSA,
            Self::Ns16550 => &tables::ns16550::NS16550,
            Self::DesignWare => &tables::ns16550::DESIGN_WARE,
            Self::Bcm2835Aux => &tables::ns16550::BCM2835_AUX,
            Self::Cadence => &tables::cadence::CADENCE,
            Self::Imx => &tables::imx::IMX,
            Self::Lpuart => &tables::lpuart::LPUART,
            Self::Scif => &tables::scif::SCIF,
            Self::Meson => &tables::meson::MESON,
        }
    }

    /// Whether the device tree may say how registers are laid out: `reg-shift`, `reg-io-width` and `reg-offset` are
    /// properties of the 8250's bindings.
    pub const fn has_variants(self) -> bool {
        matches!(self, Self::Ns16550 | Self::DesignWare | Self::Bcm2835Aux)
    }

    /// Returns how many of the entries of `interrupts` the driver needs, from the first one on. Some SCIFs have a line
    /// each for errors, reception, transmission, breaks and the end of reception.
    pub const fn interrupts(self) -> usize {
        match self {
            Self::Scif => 5,
            _ => 1,
        }
    }
}

/// A model, and how its registers are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The model.
    pub model: Model,
    /// A register's number, shifted by this, is its offset. At most [`Layout::MOST_SHIFT`].
    pub shift: u8,
    /// The width of an access.
    pub width: Width,
}

impl Layout {
    /// The largest shift.
    pub const MOST_SHIFT: u8 = 4;

    const fn new(model: Model, shift: u8, width: Width) -> Self {
        Self {
            model,
            shift,
            width,
        }
    }

    /// Returns the number of bytes from the first register to the end of the last one that the driver uses.
    pub const fn bytes(self) -> u64 {
        let last = self.model.table().last.number() as u64;
        let width = match self.width {
            Width::Byte => 1,
            Width::Half => 2,
            Width::Word => 4,
        };
        (last << self.shift) + width
    }
}

/// The compatible strings that are known, each with the layout that its binding has without further properties.
pub const COMPATIBLE: [(&str, Layout); 24] = [
    ("arm,pl011", Layout::new(Model::Pl011, 0, Width::Word)),
    ("arm,sbsa-uart", Layout::new(Model::Sbsa, 0, Width::Word)),
    ("ns16550a", Layout::new(Model::Ns16550, 0, Width::Byte)),
    ("ns16550", Layout::new(Model::Ns16550, 0, Width::Byte)),
    ("ti,am654-uart", Layout::new(Model::Ns16550, 2, Width::Byte)),
    (
        "snps,dw-apb-uart",
        Layout::new(Model::DesignWare, 0, Width::Byte),
    ),
    (
        "brcm,bcm2835-aux-uart",
        Layout::new(Model::Bcm2835Aux, 2, Width::Word),
    ),
    (
        "cdns,uart-r1p8",
        Layout::new(Model::Cadence, 0, Width::Word),
    ),
    (
        "cdns,uart-r1p12",
        Layout::new(Model::Cadence, 0, Width::Word),
    ),
    ("xlnx,xuartps", Layout::new(Model::Cadence, 0, Width::Word)),
    ("fsl,imx6q-uart", Layout::new(Model::Imx, 0, Width::Word)),
    ("fsl,imx21-uart", Layout::new(Model::Imx, 0, Width::Word)),
    (
        "fsl,imx7ulp-lpuart",
        Layout::new(Model::Lpuart, 0, Width::Word),
    ),
    (
        "fsl,imx8ulp-lpuart",
        Layout::new(Model::Lpuart, 0, Width::Word),
    ),
    (
        "fsl,imx8qxp-lpuart",
        Layout::new(Model::Lpuart, 0, Width::Word),
    ),
    // Two bytes from one register to the next.
    (
        "renesas,scif-r9a09g057",
        Layout::new(Model::Scif, 1, Width::Half),
    ),
    (
        "renesas,scif-r9a07g044",
        Layout::new(Model::Scif, 1, Width::Half),
    ),
    (
        "renesas,scif-r7s9210",
        Layout::new(Model::Scif, 1, Width::Half),
    ),
    // Four bytes.
    (
        "renesas,rcar-gen3-scif",
        Layout::new(Model::Scif, 2, Width::Half),
    ),
    (
        "renesas,rcar-gen4-scif",
        Layout::new(Model::Scif, 2, Width::Half),
    ),
    ("renesas,scif", Layout::new(Model::Scif, 2, Width::Half)),
    ("renesas,hscif", Layout::new(Model::Scif, 2, Width::Half)),
    (
        "amlogic,meson-gx-uart",
        Layout::new(Model::Meson, 0, Width::Word),
    ),
    (
        "amlogic,meson-s4-uart",
        Layout::new(Model::Meson, 0, Width::Word),
    ),
];

/// Returns the layout of the UART with these compatible strings: that of the first one that is known.
pub fn find<'t>(mut compatible: impl Iterator<Item = &'t str>) -> Option<Layout> {
    compatible.find_map(|text| {
        let mut all = COMPATIBLE.iter();
        all.find(|(name, _)| *name == text)
            .map(|(_, layout)| *layout)
    })
}
