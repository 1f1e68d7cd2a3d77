// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The interrupt controller: a GICv3 (binding `arm,gic-v3`), or a GICv2 with the Virtualization Extensions (bindings
//! `arm,gic-400`, `arm,cortex-a15-gic`, `arm,cortex-a7-gic`).

use super::bus::Located;
use super::error::BootError;
use super::flat::Fdt;
use super::interrupts::{Interrupt, PhysIntId};
use super::tree;
use mediator::addr::{PAGE_SIZE, Pa};
use postern_base::gic::GicVersion;
use postern_base::range::PaRange;

/// The compatible strings of the GICv2s that have the Virtualization Extensions.
const V2: [&str; 3] = ["arm,gic-400", "arm,cortex-a15-gic", "arm,cortex-a7-gic"];
/// That of a GIC without them.
const V2_WITHOUT: &str = "arm,cortex-a9-gic";

/// Redistributor regions that a [`Gic`] holds.
pub const MAX_REDISTRIBUTOR_REGIONS: usize = 4;

/// The physical interrupt controller.
#[derive(Clone, Debug, PartialEq)]
pub struct Gic {
    /// The distributor's registers.
    pub distributor: PaRange,
    /// The other registers.
    pub registers: GicRegisters,
    /// The maintenance interrupt of the virtual CPU interface, where the tree names it.
    pub maintenance: Option<PhysIntId>,
    cells: usize,
    /// Cells of its `#address-cells`, which an entry of an `interrupt-map` has before the interrupt.
    pub(super) address_cells: u32,
    /// How other nodes refer to it.
    pub(super) phandle: Option<u32>,
}

/// A GIC's registers beside the distributor's.
#[derive(Clone, Debug, PartialEq)]
pub enum GicRegisters {
    /// The redistributors of a GICv3.
    V3(Redistributors),
    /// The interfaces of a GICv2.
    V2(GicV2Interfaces),
}

/// The redistributors of a GICv3.
#[derive(Clone, Debug, PartialEq)]
pub struct Redistributors {
    /// Their registers, in the order of the tree. Which one is a pCPU's is found in `GICR_TYPER`.
    pub regions: heapless::Vec<PaRange, MAX_REDISTRIBUTOR_REGIONS>,
    /// Bytes from one redistributor to the next: 128 KiB unless the tree says otherwise.
    pub stride: u64,
}

/// The interfaces of a GICv2. Each pCPU sees its own at the same addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GicV2Interfaces {
    /// The CPU interface's registers (GICC): two pages.
    pub cpu_interface: PaRange,
    /// The virtual interface control registers (GICH).
    pub virtual_control: PaRange,
    /// The virtual CPU interface's registers (GICV), which a guest sees: two pages.
    pub virtual_cpu_interface: PaRange,
}

impl Gic {
    /// Returns the GIC's version.
    pub const fn version(&self) -> GicVersion {
        match self.registers {
            GicRegisters::V3(_) => GicVersion::V3,
            GicRegisters::V2(_) => GicVersion::V2,
        }
    }

    /// Returns the ranges of all registers that EL2 accesses.
    pub fn el2_ranges(&self) -> heapless::Vec<PaRange, { 1 + MAX_REDISTRIBUTOR_REGIONS }> {
        let (some, others) = match &self.registers {
            GicRegisters::V3(redistributors) => (&redistributors.regions[..], None),
            GicRegisters::V2(v2) => (&[][..], Some([v2.cpu_interface, v2.virtual_control])),
        };
        let others = others.into_iter().flatten();
        let all = [self.distributor].into_iter().chain(some.iter().copied());
        all.chain(others).collect()
    }

    /// Returns the page of a GICv2's virtual CPU interface, which a guest gets as its CPU interface.
    pub const fn guest_interface(&self) -> Option<Pa> {
        match &self.registers {
            GicRegisters::V3(_) => None,
            GicRegisters::V2(v2) => Some(v2.virtual_cpu_interface.start()),
        }
    }

    /// Cells of one entry in an `interrupts` property.
    pub(super) const fn interrupt_cells(&self) -> usize {
        self.cells
    }

    pub(super) fn read<'t>(fdt: Fdt<'t>) -> Result<Self, BootError<'t>> {
        let (gic, is_v3) = if let Some(gic) = Located::find(fdt, &["arm,gic-v3"]) {
            (gic, true)
        } else if let Some(gic) = Located::find(fdt, &V2) {
            (gic, false)
        } else if Located::find(fdt, &[V2_WITHOUT]).is_some() {
            return Err(BootError::NoVirtualInterface);
        } else {
            return Err(BootError::NoGic);
        };
        let cells = match tree::cell(gic.node, "#interrupt-cells") {
            Some(3) => 3,
            Some(4) if is_v3 => 4,
            _ => {
                return Err(BootError::Property {
                    node: gic.node.name(),
                    property: "#interrupt-cells",
                    problem: if is_v3 { "is not 3 or 4" } else { "is not 3" },
                });
            }
        };
        let maintenance = tree::bytes(gic.node, "interrupts")
            .and_then(|value| Interrupt::from_specifier(value, cells))
            .map(|interrupt| interrupt.intid);
        Ok(Self {
            distributor: gic.reg(0)?,
            registers: if is_v3 {
                GicRegisters::V3(Redistributors::read(&gic)?)
            } else {
                GicRegisters::V2(GicV2Interfaces::read(&gic)?)
            },
            maintenance,
            cells,
            address_cells: tree::cell(gic.node, "#address-cells").unwrap_or(0),
            phandle: tree::cell(gic.node, "phandle"),
        })
    }
}

impl Redistributors {
    fn read<'t>(gic: &Located<'t>) -> Result<Self, BootError<'t>> {
        let node = gic.node;
        let bad = |property, problem| BootError::Property {
            node: node.name(),
            property,
            problem,
        };
        let count = match node.property("#redistributor-regions") {
            None => 1,
            Some(_) => tree::cell(node, "#redistributor-regions")
                .ok_or_else(|| bad("#redistributor-regions", "is not one cell"))?,
        };
        let count = usize::try_from(count)
            .ok()
            .filter(|count| (1..=MAX_REDISTRIBUTOR_REGIONS).contains(count))
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
        let mut regions = heapless::Vec::new();
        for index in 1..=count {
            let region = gic.reg(index)?;
            if region.bytes() < stride {
                return Err(bad(
                    "reg",
                    "has a redistributor region without a redistributor",
                ));
            }
            // `count` is at most the capacity.
            let _ = regions.push(region);
        }
        Ok(Self { regions, stride })
    }
}

impl GicV2Interfaces {
    /// Bytes of a CPU interface: two pages, the second of which has the register that deactivates (IHI 0048B.b 4.1.3).
    const BYTES: u64 = 0x2000;
    /// Bytes of a region where each of the two pages is repeated through 64 KiB, as on systems with pages of that size.
    const ALIASED: u64 = 0x2_0000;
    /// Where the two pages are contiguous in such a region: the last copy of the first, the first of the second.
    const CONTIGUOUS: u64 = 0xf000;

    fn read<'t>(gic: &Located<'t>) -> Result<Self, BootError<'t>> {
        let bad = |problem| BootError::Property {
            node: gic.node.name(),
            property: "reg",
            problem,
        };
        if tree::regs(gic.node).map_err(bad)?.nth(3).is_none() {
            return Err(BootError::NoVirtualInterface);
        }
        let interface = |index| {
            let whole = gic.reg(index)?;
            let offset = if whole.bytes() >= Self::ALIASED {
                Self::CONTIGUOUS
            } else {
                0
            };
            let start = Pa::new(whole.start().get() + offset);
            let pages = PaRange::new(start, Self::BYTES).filter(|pages| whole.contains(*pages));
            pages.ok_or_else(|| bad("has a CPU interface of less than 8 KiB"))
        };
        let found = Self {
            cpu_interface: interface(1)?,
            virtual_control: gic.reg(2)?,
            virtual_cpu_interface: interface(3)?,
        };
        // A guest gets the page, and nothing that shares it.
        if !found
            .virtual_cpu_interface
            .start()
            .get()
            .is_multiple_of(PAGE_SIZE)
        {
            return Err(bad(
                "has a virtual CPU interface that does not begin a page of 4 KiB",
            ));
        }
        if found.virtual_control.bytes() < Self::CONTROL_BYTES {
            return Err(bad(
                "has less than 512 bytes of virtual interface control registers",
            ));
        }
        Ok(found)
    }

    /// Bytes of the virtual interface control registers: 64 list registers from 0x100 on (IHI 0048B.b 5.3).
    const CONTROL_BYTES: u64 = 0x200;
}
