// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The SMMUs of the machine (binding `arm,smmu-v3`), and which streams a device's DMA belongs to: `iommus` of a platform
//! device, `iommu-map` of a PCI host bridge (bindings `iommu.txt` and `pci-iommu.txt`).

use super::bus::Located;
use super::devices::NO_INTERRUPT;
use super::error::{BootError, StreamsError};
use super::flat::{Fdt, FdtNode};
use super::gic::Gic;
use super::interrupts::{Interrupt, Trigger};
use super::tree;
use core::ops::ControlFlow;
use postern_base::range::PaRange;

/// The most SMMUs of a machine.
pub const MAX_SMMUS: usize = 4;
/// The most ranges of streams of one device.
pub const MAX_STREAM_RANGES: usize = 8;
/// Bytes of an SMMU's registers: two pages of 64 KiB (IHI 0070F.b 6.1).
const REGISTERS: u64 = 0x2_0000;
/// The number of requester IDs of a PCI host bridge: 256 buses of 256 functions.
const REQUESTERS: u32 = 1 << 16;

/// An SMMUv3.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Smmu {
    /// Its registers: two pages of 64 KiB.
    pub registers: PaRange,
    /// The interrupt by which it announces events, where the tree names it.
    pub event: Option<Interrupt>,
    /// The interrupt by which it announces errors of its own, where the tree names it.
    pub global_error: Option<Interrupt>,
    /// Whether it sees what CPUs have in their caches (`dma-coherent`).
    pub coherent: bool,
    phandle: Option<u32>,
}

/// The SMMUs of the machine, in the order of the tree.
pub type Smmus = heapless::Vec<Smmu, MAX_SMMUS>;

/// Consecutive streams of one SMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamRange {
    /// The SMMU's place in [`Smmus`].
    pub smmu: usize,
    /// The first StreamID.
    pub first: u32,
    /// The number of streams, above zero; the last StreamID does not exceed 32 bits.
    pub count: u32,
}

impl StreamRange {
    /// Returns whether a stream is in the range.
    pub const fn contains(self, smmu: usize, stream: u32) -> bool {
        self.smmu == smmu && stream >= self.first && stream - self.first < self.count
    }

    /// Returns whether the two have a stream in common.
    pub const fn overlaps(self, other: Self) -> bool {
        self.contains(other.smmu, other.first) || other.contains(self.smmu, self.first)
    }
}

/// The streams of one device.
pub type Streams = heapless::Vec<StreamRange, MAX_STREAM_RANGES>;

impl Smmu {
    /// Reads all SMMUs.
    pub(super) fn read_all<'t>(fdt: Fdt<'t>, gic: &Gic) -> Result<Smmus, BootError<'t>> {
        let mut smmus = Smmus::new();
        let result = Located::visit(fdt, &["arm,smmu-v3"], &mut |node| {
            let name = node.node.name();
            let smmu = match Self::read(&node, gic) {
                Ok(smmu) => smmu,
                Err(error) => return ControlFlow::Break(error),
            };
            match smmus.push(smmu) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(BootError::Property {
                    node: name,
                    property: "compatible",
                    problem: "is that of a fifth SMMU, and four are supported",
                }),
            }
        });
        result.break_value().map_or(Ok(smmus), Err)
    }

    fn read<'t>(node: &Located<'t>, gic: &Gic) -> Result<Self, BootError<'t>> {
        let bad = |property, problem| BootError::Property {
            node: node.node.name(),
            property,
            problem,
        };
        let whole = node.reg(0)?;
        let registers = PaRange::new(whole.start(), REGISTERS)
            .filter(|registers| whole.contains(*registers) && registers.start().is_page_aligned())
            .ok_or_else(|| bad("reg", "is not 128 KiB from the start of a page"))?;
        if tree::cell(node.node, "#iommu-cells") != Some(1) {
            return Err(bad("#iommu-cells", "is not 1"));
        }
        let interrupt = |name| -> Result<_, BootError<'t>> {
            let place = tree::strings(node.node, "interrupt-names").position(|text| text == name);
            let found = place.map(|place| gic.interrupt(node, place, NO_INTERRUPT));
            let found = found.transpose()?;
            // Wired interrupts of an SMMU are edges (IHI 0070F.b 3.18), also where the tree says nothing.
            Ok(found.map(|interrupt| Interrupt {
                trigger: interrupt.trigger.or(Some(Trigger::Edge)),
                ..interrupt
            }))
        };
        Ok(Self {
            registers,
            event: interrupt("eventq")?,
            global_error: interrupt("gerror")?,
            coherent: tree::flag(node.node, "dma-coherent")
                .map_err(|problem| bad("dma-coherent", problem))?,
            phandle: tree::cell(node.node, "phandle"),
        })
    }
}

/// Returns the streams of the device that `node` describes.
///
/// # Errors
/// See [`StreamsError`].
pub fn streams_of(smmus: &Smmus, node: FdtNode<'_>) -> Result<Streams, StreamsError> {
    let mut streams = Streams::new();
    let mut add = |property, phandle: u32, first: u32, count: u32| {
        let smmu = smmus.iter().position(|smmu| smmu.phandle == Some(phandle));
        let smmu = smmu.ok_or(StreamsError::OtherIommu(property))?;
        if !smmus[smmu].coherent {
            return Err(StreamsError::NotCoherent(smmus[smmu].registers));
        }
        let bad = |problem| StreamsError::Property { property, problem };
        if count == 0 || first.checked_add(count - 1).is_none() {
            return Err(bad("has a range of streams that is empty or too long"));
        }
        let range = StreamRange { smmu, first, count };
        if streams.iter().any(|other| range.overlaps(*other)) {
            return Err(bad("has a stream twice"));
        }
        streams
            .push(range)
            .map_err(|_| bad("has more than eight ranges of streams"))
    };
    for [phandle, stream] in entries(node, "iommus")? {
        add("iommus", phandle, stream, 1)?;
    }
    for [requester, phandle, stream, count] in entries(node, "iommu-map")? {
        // `iommu-map-mask` is not needed: what it clears are requesters, and streams of the range stay in it.
        if requester.saturating_add(count) > REQUESTERS {
            return Err(StreamsError::Property {
                property: "iommu-map",
                problem: "has a requester ID above 16 bits",
            });
        }
        add("iommu-map", phandle, stream, count)?;
    }
    if streams.is_empty() {
        return Err(StreamsError::NoSmmu);
    }
    Ok(streams)
}

/// Returns the entries of a property, each of `N` cells; none where it is absent.
fn entries<'t, const N: usize>(
    node: FdtNode<'t>,
    property: &'static str,
) -> Result<impl Iterator<Item = [u32; N]> + 't, StreamsError> {
    let value = tree::bytes(node, property).unwrap_or_default();
    if !value.len().is_multiple_of(4 * N) {
        return Err(StreamsError::Property {
            property,
            problem: "does not consist of whole entries",
        });
    }
    Ok(value.chunks_exact(4 * N).map(|entry| {
        let mut cells = tree::cells(entry);
        core::array::from_fn(|_| cells.next().unwrap_or_default())
    }))
}
