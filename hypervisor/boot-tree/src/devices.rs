// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The devices that the hypervisor itself drives: interrupt controller, console, timers, and
//! the firmware's interfaces.

use dtoolkit::Node;
use dtoolkit::fdt::{Fdt, FdtNode};

use super::error::BootError;
use super::interrupts::{IntId, Interrupt};
use super::tree;
use postern_base::range::PaRange;

/// Redistributor regions that a [`Gic`] holds.
pub const MAX_REDISTRIBUTOR_REGIONS: usize = 4;

/// The physical interrupt controller, a GICv3 (binding `arm,gic-v3`).
#[derive(Clone, Debug, PartialEq)]
pub struct Gic {
    /// The distributor's registers.
    pub distributor: PaRange,
    /// The redistributors' registers, in the order of the tree. Which one is a pCPU's is found
    /// in `GICR_TYPER`.
    pub redistributors: heapless::Vec<PaRange, MAX_REDISTRIBUTOR_REGIONS>,
    /// Bytes from one redistributor to the next: 128 KiB unless the tree says otherwise.
    pub stride: u64,
    /// The maintenance interrupt of the virtual CPU interface, where the tree names it.
    pub maintenance: Option<IntId>,
    cells: usize,
}

impl Gic {
    /// Cells of one entry in an `interrupts` property.
    pub(super) const fn interrupt_cells(&self) -> usize {
        self.cells
    }

    pub(super) fn read<'t>(fdt: Fdt<'t>) -> Result<Self, BootError<'t>> {
        let Some(node) = tree::find_compatible(fdt, &["arm,gic-v3"]) else {
            let v2 = [
                "arm,cortex-a15-gic",
                "arm,gic-400",
                "arm,cortex-a9-gic",
                "arm,cortex-a7-gic",
            ];
            return Err(match tree::find_compatible(fdt, &v2) {
                Some(_) => BootError::GicV2,
                None => BootError::NoGic,
            });
        };
        let bad = |property, problem| BootError::Property {
            node: node.name(),
            property,
            problem,
        };
        let cells = match tree::cell(node, "#interrupt-cells") {
            Some(cells @ 3..=4) => cells as usize,
            _ => return Err(bad("#interrupt-cells", "is not 3 or 4")),
        };
        let regions = match node.property("#redistributor-regions") {
            None => 1,
            Some(_) => tree::cell(node, "#redistributor-regions")
                .ok_or_else(|| bad("#redistributor-regions", "is not one cell"))?,
        };
        let regions = usize::try_from(regions)
            .ok()
            .filter(|regions| (1..=MAX_REDISTRIBUTOR_REGIONS).contains(regions))
            .ok_or_else(|| bad("#redistributor-regions", "is not 1 to 4"))?;
        let stride = match tree::bytes(node, "redistributor-stride") {
            None => 0x2_0000,
            Some(value) => tree::cells(value).fold(0, |sum: u64, cell| sum << 32 | u64::from(cell)),
        };
        if stride < 0x2_0000 || !stride.is_multiple_of(0x1_0000) {
            return Err(bad(
                "redistributor-stride",
                "is not 128 KiB or more in steps of 64 KiB",
            ));
        }
        let reg = |index| tree::reg(node, index).map_err(|problem| bad("reg", problem));
        let distributor = reg(0)?;
        let mut redistributors = heapless::Vec::new();
        for index in 1..=regions {
            let region = reg(index)?;
            if region.bytes() < stride {
                return Err(bad(
                    "reg",
                    "has a redistributor region without a redistributor",
                ));
            }
            // `regions` is at most the capacity.
            let _ = redistributors.push(region);
        }
        let maintenance =
            tree::bytes(node, "interrupts").and_then(|value| IntId::from_property(value, cells, 0));
        Ok(Self {
            distributor,
            redistributors,
            stride,
            maintenance,
            cells,
        })
    }
}

/// The console's serial port, a PL011.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Uart {
    /// Its registers.
    pub registers: PaRange,
    /// Its interrupt, an SPI.
    pub interrupt: Interrupt,
}

impl Uart {
    pub(super) fn read<'t>(fdt: Fdt<'t>, interrupt_cells: usize) -> Result<Self, BootError<'t>> {
        let node = Self::node(fdt).ok_or(BootError::NoUart)?;
        let bad = |property, problem| BootError::Property {
            node: node.name(),
            property,
            problem,
        };
        let registers = tree::reg(node, 0).map_err(|problem| bad("reg", problem))?;
        let interrupt = tree::bytes(node, "interrupts")
            .and_then(|value| Interrupt::from_property(value, interrupt_cells))
            .ok_or_else(|| bad("interrupts", "does not name an interrupt of the GIC"))?;
        Ok(Self {
            registers,
            interrupt,
        })
    }

    /// The enabled PL011 that `/chosen` names as console.
    pub(super) fn node(fdt: Fdt<'_>) -> Option<FdtNode<'_>> {
        let path = tree::string(fdt.root().child("chosen")?, "stdout-path")?;
        let node = tree::resolve(fdt, path)?;
        (tree::is_enabled(node) && tree::is_compatible(node, &["arm,pl011"])).then_some(node)
    }
}

/// The registers of the enabled PL031, where there is one that can be understood: Postern does without.
pub(super) fn rtc(fdt: Fdt<'_>) -> Option<PaRange> {
    tree::reg(tree::find_compatible(fdt, &["arm,pl031"])?, 0).ok()
}

/// The interrupts of the generic timer (binding `arm,armv8-timer`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timers {
    /// The EL1 physical timer, CNTP: PPI 14, INTID 30 on most machines.
    pub physical: IntId,
    /// The EL1 virtual timer, CNTV: PPI 11, INTID 27.
    pub virtual_timer: IntId,
    /// The EL2 physical timer, CNTHP: PPI 10, INTID 26.
    pub hypervisor: IntId,
}

impl Timers {
    pub(super) fn read<'t>(fdt: Fdt<'t>, interrupt_cells: usize) -> Result<Self, BootError<'t>> {
        let node = tree::find_compatible(fdt, &["arm,armv8-timer"]).ok_or(BootError::NoTimer)?;
        let value = tree::bytes(node, "interrupts").unwrap_or_default();
        // Without names the order is fixed: secure, physical, virtual, hypervisor.
        let named = node.property("interrupt-names").is_some();
        let timer = |place, name| {
            let place = if named {
                tree::strings(node, "interrupt-names").position(|text| text == name)
            } else {
                Some(place)
            };
            place
                .and_then(|place| IntId::from_property(value, interrupt_cells, place))
                .ok_or(BootError::Property {
                    node: node.name(),
                    property: "interrupts",
                    problem: "lacks the physical, the virtual or the hypervisor timer",
                })
        };
        Ok(Self {
            physical: timer(1, "phys")?,
            virtual_timer: timer(2, "virt")?,
            hypervisor: timer(3, "hyp-phys")?,
        })
    }
}

/// How firmware is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduit {
    /// By SMC, to EL3.
    Smc,
    /// By HVC, to EL2: what a guest of somebody else's sees.
    Hvc,
}

impl Conduit {
    /// Reads the `method` property that PSCI and OP-TEE share.
    pub(super) fn of(node: FdtNode<'_>) -> Option<Self> {
        match tree::string(node, "method")? {
            "smc" => Some(Self::Smc),
            "hvc" => Some(Self::Hvc),
            _ => None,
        }
    }
}

/// The `arm,psci-0.2` (or later) node: with that version on, the function ids are the
/// standard's (PSCI DEN0022), and the version is asked for by call.
pub(super) fn psci_node(fdt: Fdt<'_>) -> Option<FdtNode<'_>> {
    tree::find_compatible(fdt, &["arm,psci-1.0", "arm,psci-0.2"])
}

/// Checks that there is PSCI and that it is called by SMC.
pub(super) fn check_psci(fdt: Fdt<'_>) -> Result<(), BootError<'_>> {
    let node = psci_node(fdt).ok_or(BootError::NoPsci)?;
    if Conduit::of(node) == Some(Conduit::Smc) {
        Ok(())
    } else {
        Err(BootError::PsciConduit)
    }
}

/// OP-TEE as `/firmware/optee` announces it (binding `linaro,optee-tz`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Optee {
    /// The interrupt by which it announces asynchronous notifications, where it names one.
    pub notification: Option<Interrupt>,
}

impl Optee {
    /// `None` where the tree has no OP-TEE.
    pub(super) fn read<'t>(
        fdt: Fdt<'t>,
        interrupt_cells: usize,
    ) -> Result<Option<Self>, BootError<'t>> {
        let firmware = fdt.root().child("firmware");
        let Some(node) = firmware.and_then(|firmware| firmware.child("optee")) else {
            return Ok(None);
        };
        if !tree::is_enabled(node) || !tree::is_compatible(node, &["linaro,optee-tz"]) {
            return Ok(None);
        }
        if Conduit::of(node) != Some(Conduit::Smc) {
            return Err(BootError::OpteeConduit);
        }
        let notification = match tree::bytes(node, "interrupts") {
            None => None,
            Some(value) => Some(Interrupt::from_property(value, interrupt_cells).ok_or(
                BootError::Property {
                    node: node.name(),
                    property: "interrupts",
                    problem: "does not name an interrupt of the GIC",
                },
            )?),
        };
        Ok(Some(Self { notification }))
    }
}
