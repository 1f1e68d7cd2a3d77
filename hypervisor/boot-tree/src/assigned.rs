// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The devices of the machine that a VM has for itself: those that `postern,devices` of its node names, and those of its
//! partial device tree.
//!
//! A device is a node of the tree with its registers, its shared interrupts, and whether it can access memory by itself.
//! The guest sees the registers at the addresses that they have in the machine, and the interrupts under their
//! numbers.

use alloc::vec::Vec;

use super::bus::Located;
use super::error::{BootError, DeviceError, StreamsError, VmError};
use super::flat::{Fdt, FdtNode, number};
use super::gic::Gic;
use super::interrupts::Interrupt;
use super::iommu::{Smmus, Streams, streams_of};
use super::tree;
use mediator::addr::PAGE_SIZE;
use postern_base::gic::GicVersion;
use postern_base::range::PaRange;

mod check;
mod guest;
mod partial;

pub(super) use check::{Taken, check};
pub use partial::{MAX_PARTIAL_TREE, PartialTree};

/// The property of a VM's node.
pub(super) const DEVICES: &str = "postern,devices";
/// The most devices of one VM.
pub const MAX_DEVICES: usize = 16;
/// The most ranges of registers and windows of one device.
pub const MAX_WINDOWS: usize = 8;
/// The most interrupts of one device, and entries of an `interrupt-map`.
const MAX_INTERRUPTS: usize = 32;
/// The last SPI that a guest's interrupt controller has.
pub const MAX_SPI: u32 = 255;
/// The end of the addresses that stage 2 translates (40 bits).
const END: u64 = 1 << 40;

/// The bytes of a bus's configuration space (ECAM, PCIe 5.0 7.2.2).
const BUS_BYTES: u64 = 1 << 20;
/// The PCI host bridges whose configuration space is all in memory (binding `pci-host-ecam-generic`).
const ECAM: [&str; 1] = ["pci-host-ecam-generic"];
/// Devices that never access memory by themselves. Any other is taken to do so.
const WITHOUT_DMA: [&str; 9] = [
    "arm,pl011",
    "arm,sbsa-uart",
    "arm,pl031",
    "arm,pl061",
    "arm,sp804",
    "arm,sp805",
    "ns16550a",
    "ns16550",
    "snps,dw-apb-uart",
];
/// The properties that say that a device accesses memory.
const WITH_DMA: [&str; 4] = ["iommus", "iommu-map", "dma-coherent", "dmas"];

/// A device of the machine that one VM has for itself.
#[derive(Clone, Debug, PartialEq)]
pub struct AssignedDevice<'t> {
    /// Its node's path, as the VM's node or the partial tree has it.
    pub path: &'t str,
    /// Its registers, and a PCI host's windows, in whole pages, at most [`MAX_WINDOWS`]. The configuration space of a
    /// PCI host is the first.
    pub windows: Vec<PaRange>,
    /// Its interrupts: SPIs up to [`MAX_SPI`], each once.
    pub interrupts: Vec<Interrupt>,
    /// Whether it may access memory by itself.
    pub can_do_dma: bool,
    /// The streams of its accesses, if an SMMU is in front of it.
    pub streams: Streams,
    /// What only a PCI host bridge has.
    pub pci: Option<PciHost>,
    /// Whether the guest's tree has the partial tree's node in place of a copy of the machine's.
    in_partial_tree: bool,
    pub(super) node: Located<'t>,
}

/// What is known of a PCI host bridge: the form of its node's `interrupt-map`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciHost {
    /// The bytes of an entry.
    entry: usize,
    /// The bytes before the interrupt.
    before: usize,
}

/// The machine that devices are of.
#[derive(Clone, Copy)]
pub(super) struct Host<'m, 't> {
    pub(super) fdt: Fdt<'t>,
    pub(super) gic: &'m Gic,
    pub(super) smmus: &'m Smmus,
}

/// Reads the devices that a VM's node and its partial tree name. Who else has them is checked later.
pub(super) fn read<'t>(
    host: &Host<'_, 't>,
    vm: FdtNode<'t>,
    partial: Option<&PartialTree<'t>>,
) -> Result<Vec<AssignedDevice<'t>>, VmError<'t>> {
    let mut devices = Vec::new();
    for path in paths(vm)? {
        add_device(&mut devices, host, path, None)?;
    }
    if let Some(partial) = partial {
        partial.read_devices(host, &mut devices)?;
    }
    Ok(devices)
}

/// Adds a device to those of a VM: one that has a node in the partial tree, or is copied.
fn add_device<'t>(
    devices: &mut Vec<AssignedDevice<'t>>,
    host: &Host<'_, 't>,
    path: &'t str,
    partial: Option<FdtNode<'t>>,
) -> Result<(), VmError<'t>> {
    let failed = |error| VmError::Device { path, error };
    let device = AssignedDevice::read(host, path, partial).map_err(failed)?;
    if devices.iter().any(|other| other.node == device.node) {
        return Err(failed(DeviceError::Twice));
    }
    if devices.len() == MAX_DEVICES {
        return Err(VmError::TooManyDevices(MAX_DEVICES));
    }
    devices.push(device);
    Ok(())
}

/// The paths of the list.
fn paths<'t>(vm: FdtNode<'t>) -> Result<impl Iterator<Item = &'t str>, VmError<'t>> {
    let text = match tree::bytes(vm, DEVICES) {
        None | Some([]) => "",
        Some([text @ .., 0]) => core::str::from_utf8(text).map_err(|_| VmError::Devices)?,
        Some(_) => return Err(VmError::Devices),
    };
    let is_path = |path: &str| path.starts_with('/');
    let is_list = text.is_empty() || text.split('\0').all(is_path);
    is_list.then_some(()).ok_or(VmError::Devices)?;
    Ok(text.split('\0').filter(|path| !path.is_empty()))
}

impl<'t> AssignedDevice<'t> {
    /// Returns whether an SPI is one of the device's interrupts.
    pub fn has_spi(&self, spi: u32) -> bool {
        let mut intids = self.interrupts.iter().map(|interrupt| interrupt.intid);
        intids.any(|intid| intid.get().checked_sub(32) == Some(spi))
    }

    fn read(
        host: &Host<'_, 't>,
        path: &'t str,
        partial: Option<FdtNode<'t>>,
    ) -> Result<Self, DeviceError<'t>> {
        let Host { fdt, gic, smmus } = *host;
        let node = Located::resolve(fdt, path).ok_or(DeviceError::Missing)?;
        if !tree::is_enabled(node.node) {
            return Err(DeviceError::Disabled);
        }
        let is_pci = tree::is_compatible(node.node, &ECAM);
        if !is_pci && tree::string(node.node, "device_type") == Some("pci") {
            return Err(DeviceError::Bridge);
        }
        let mut device = Self {
            path,
            windows: Vec::new(),
            interrupts: Vec::new(),
            can_do_dma: is_pci || can_do_dma(node.node),
            streams: match streams_of(smmus, node.node) {
                Err(StreamsError::NoSmmu) => Streams::new(),
                streams => streams?,
            },
            pci: None,
            in_partial_tree: false,
            node,
        };
        let regs = match tree::regs(device.node.node) {
            Ok(regs) => regs.count(),
            Err(problem) => return Err(bad("reg", problem)),
        };
        for index in 0..regs {
            device.add_window("reg", device.node.reg(index)?)?;
        }
        if is_pci {
            device.pci = Some(device.read_pci(gic)?);
        } else {
            device.read_interrupts(gic)?;
        }
        if gic.version() == GicVersion::V2 && !device.interrupts.is_empty() {
            return Err(DeviceError::Gicv2);
        }
        if let Some(node) = partial {
            partial::place(&mut device, node)?;
        }
        Ok(device)
    }

    /// Adds a range of addresses that the guest gets.
    fn add_window(
        &mut self,
        property: &'static str,
        range: PaRange,
    ) -> Result<(), DeviceError<'t>> {
        if range.is_empty() || range.aligned_inward(PAGE_SIZE) != range {
            return Err(bad(
                property,
                "is not in whole pages of 4 KiB, in which guests get devices",
            ));
        }
        if range.end().get() > END {
            return Err(bad(property, "is above the 40 bits of a guest's addresses"));
        }
        if self.windows.len() == MAX_WINDOWS {
            return Err(bad(property, "has more than 8 ranges"));
        }
        self.windows.push(range);
        Ok(())
    }

    /// Adds an interrupt, unless it is there.
    fn add_interrupt(
        &mut self,
        property: &'static str,
        interrupt: Interrupt,
    ) -> Result<(), DeviceError<'t>> {
        let Some(spi) = interrupt.intid.get().checked_sub(32) else {
            return Err(bad(property, "names an interrupt that each CPU has"));
        };
        if spi > MAX_SPI {
            return Err(bad(property, "names an SPI above 255, which no guest has"));
        }
        if self.interrupts.iter().all(|it| it.intid != interrupt.intid) {
            self.interrupts.push(interrupt);
        }
        Ok(())
    }

    /// Returns whether it may access memory, and no SMMU is in front of it.
    pub fn is_unprotected(&self) -> bool {
        self.can_do_dma && self.streams.is_empty()
    }

    /// Returns the configuration space of a PCI host's root bus, which is the first of its buses.
    pub fn root_bus(&self) -> Option<PaRange> {
        let ecam = self.windows.first().filter(|_| self.pci.is_some())?;
        PaRange::new(ecam.start(), BUS_BYTES)
    }

    fn read_interrupts(&mut self, gic: &Gic) -> Result<(), DeviceError<'t>> {
        if !self.node.has_interrupts() {
            return Ok(());
        }
        let property = self.node.interrupts_property();
        let cells = gic.interrupt_cells() + usize::from(property != "interrupts");
        let value = tree::bytes(self.node.node, property).unwrap_or_default();
        let count = value.len() / (4 * cells);
        if count > MAX_INTERRUPTS || !value.len().is_multiple_of(4 * cells) {
            return Err(bad(
                property,
                "is not 1 to 32 interrupts of the GIC's cells",
            ));
        }
        for index in 0..count {
            let interrupt = gic.interrupt(&self.node, index, "has an entry that is none")?;
            self.add_interrupt(property, interrupt)?;
        }
        Ok(())
    }

    fn read_pci(&mut self, gic: &Gic) -> Result<PciHost, DeviceError<'t>> {
        let node = self.node.node;
        if node.child_cells() != [3, 2] {
            return Err(bad("#address-cells", "is not 3, or #size-cells not 2"));
        }
        if tree::bytes(node, "dma-ranges").is_some() {
            return Err(bad("dma-ranges", "is there, and Postern translates none"));
        }
        let ecam = self.windows.first();
        if ecam.is_none_or(|ecam| ecam.bytes() < BUS_BYTES) {
            return Err(bad(
                "reg",
                "has less than the 1 MiB of a bus's configuration space",
            ));
        }
        let ranges = node.ranges().ok_or(bad("ranges", "is missing"))?;
        for [_, start, bytes] in ranges.map_err(|()| bad("ranges", "has another form"))? {
            let bytes = tree::size(bytes).map_err(|problem| bad("ranges", problem))?;
            let start = number(start).unwrap_or(u128::MAX);
            let range = self.node.reached("ranges", start, bytes)?;
            self.add_window("ranges", range)?;
        }
        const MAP: &str = "interrupt-map";
        if tree::cell(node, "#interrupt-cells") != Some(1) {
            return Err(bad("#interrupt-cells", "is not 1"));
        }
        let value = tree::bytes(node, MAP).ok_or(bad(MAP, "is missing"))?;
        // Pin, controller, address at the controller, interrupt.
        let before = 4 * (5 + gic.address_cells as usize);
        let bytes = before + 4 * gic.interrupt_cells();
        if !value.len().is_multiple_of(bytes) || value.len() / bytes > MAX_INTERRUPTS {
            return Err(bad(MAP, "is not 1 to 32 entries for the GIC"));
        }
        for entry in value.chunks_exact(bytes) {
            // Behind the device's address and its pin.
            if tree::cells(entry).nth(4) != gic.phandle {
                return Err(bad(
                    MAP,
                    "goes to another interrupt controller than the GIC",
                ));
            }
            let specifier = entry.get(before..).unwrap_or_default();
            let interrupt = Interrupt::from_specifier(specifier, gic.interrupt_cells());
            let interrupt = interrupt.ok_or(bad(MAP, "has an entry that is no interrupt"))?;
            self.add_interrupt(MAP, interrupt)?;
        }
        Ok(PciHost {
            entry: bytes,
            before,
        })
    }
}

/// Whether a device that is no PCI host may access memory.
fn can_do_dma(node: FdtNode<'_>) -> bool {
    !tree::is_compatible(node, &WITHOUT_DMA)
        || WITH_DMA.iter().any(|name| node.property(name).is_some())
}

const fn bad<'t>(property: &'static str, problem: &'static str) -> DeviceError<'t> {
    DeviceError::Property { property, problem }
}

impl<'t> From<BootError<'t>> for DeviceError<'t> {
    fn from(error: BootError<'t>) -> Self {
        match error {
            BootError::Property {
                property, problem, ..
            } => Self::Property { property, problem },
            BootError::Ranges { bus, problem, .. } => Self::Bus { bus, problem },
            _ => Self::Missing,
        }
    }
}
