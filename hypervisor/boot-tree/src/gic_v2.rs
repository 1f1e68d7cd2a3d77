// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The registers of a GICv2 with virtualisation (bindings `arm,gic-400`, `arm,cortex-a15-gic`, `arm,cortex-a7-gic`).

use mediator::addr::Pa;

use super::bus::Located;
use super::error::BootError;
use super::tree;
use postern_base::range::PaRange;

/// The compatible strings of the GICv2s that have the Virtualization Extensions.
pub(super) const COMPATIBLE: [&str; 3] = ["arm,gic-400", "arm,cortex-a15-gic", "arm,cortex-a7-gic"];

/// Bytes of a CPU interface: two pages, the second of which has the register that deactivates (IHI 0048B 4.1.3).
const INTERFACE: u64 = 0x2000;
/// Bytes of a region where each of the two pages is repeated through 64 KiB, as on systems with pages of that size.
const ALIASED: u64 = 0x2_0000;
/// Where the two pages are one behind the other in such a region: the last copy of the first, the first of the second.
const CONTIGUOUS: u64 = 0xf000;

/// The registers of a GICv2. Postern does not drive it yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GicV2 {
    /// The distributor's registers.
    pub distributor: PaRange,
    /// The CPU interface's registers: two pages.
    pub cpu_interface: PaRange,
    /// The registers that control the virtual interface.
    pub control: PaRange,
    /// The virtual CPU interface's registers, which a guest sees: two pages.
    pub virtual_cpu_interface: PaRange,
}

impl GicV2 {
    /// Reads the GICv2 of a device tree.
    ///
    /// # Errors
    /// When it is no tree, has no such GIC, or its regions are too small.
    pub fn read(tree: &[u8]) -> Result<Self, BootError<'_>> {
        let fdt = tree::open(tree)?;
        let gic = Located::find(fdt, &COMPATIBLE).ok_or(BootError::NoGic)?;
        let interface = |index| {
            let whole = gic.reg(index)?;
            let offset = if whole.bytes() >= ALIASED {
                CONTIGUOUS
            } else {
                0
            };
            let start = Pa::new(whole.start().get() + offset);
            let pages = PaRange::new(start, INTERFACE).filter(|pages| whole.contains(*pages));
            pages.ok_or(BootError::Property {
                node: gic.node.name(),
                property: "reg",
                problem: "has a CPU interface of less than 8 KiB",
            })
        };
        Ok(Self {
            distributor: gic.reg(0)?,
            cpu_interface: interface(1)?,
            control: gic.reg(2)?,
            virtual_cpu_interface: interface(3)?,
        })
    }
}
