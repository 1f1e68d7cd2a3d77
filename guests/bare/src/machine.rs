// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the device tree says about the machine.

use crate::gic::Gic;
use crate::gic::v2::CpuInterface;
use crate::gic::v3::Redistributors;
use crate::{MAX_CPUS, PAGE_SIZE};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property};
use spin::Once;

/// Addresses from `start` up to, not including, `end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// The first.
    pub start: u64,
    /// Behind the last.
    pub end: u64,
}

impl Range {
    /// How many bytes these are.
    pub const fn bytes(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether the address is one of these.
    pub const fn contains(self, address: u64) -> bool {
        self.start <= address && address < self.end
    }
}

/// A Generic Watchdog (DEN0094C).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watchdog {
    /// The address of the control frame.
    pub control: u64,
    /// The address of the refresh frame.
    pub refresh: u64,
    /// The INTID of the interrupt, WS0.
    pub intid: u32,
}

/// A PCI host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PciHost {
    /// The address of the configuration space (ECAM).
    pub config: u64,
    /// The first window for memory below 4 GiB.
    pub window: Range,
    /// The INTID of INTA of the root bus's devices, of which each fourth one has the same.
    inta: [Option<u32>; 4],
}

impl PciHost {
    /// Returns the INTID of a device's INTA.
    pub fn inta(&self, device: u64) -> Option<u32> {
        self.inta[device as usize % self.inta.len()]
    }
}

/// The machine that the program runs on.
#[derive(Debug)]
pub struct Machine {
    /// The bank of RAM that holds the program.
    pub ram: Range,
    /// All banks of RAM.
    pub banks: Vec<Range>,
    /// The program, with its `.bss`.
    pub image: Range,
    /// The device tree.
    pub tree: Range,
    /// The initial RAM disk.
    pub initrd: Option<Range>,
    /// What the tree reserves.
    pub reserved: Vec<Range>,
    /// The PL011's registers, where the tree has one.
    pub uart: Option<u64>,
    /// The PL031, where the tree has one: its registers and its interrupt's INTID.
    pub rtc: Option<(u64, u32)>,
    /// The PL031 of QEMU's `virt` machine, where the tree has it: a guest's own is elsewhere.
    pub machine_rtc: Option<(u64, u32)>,
    /// The watchdog, where the tree has one.
    pub watchdog: Option<Watchdog>,
    /// The virtio devices: the registers of each, and its interrupt's INTID.
    pub virtio: Vec<(u64, u32)>,
    /// The PCI host, where the tree has one.
    pub pci: Option<PciHost>,
    /// Whether Xen is below, which takes output by a hypercall.
    pub xen: bool,
    /// The interrupt distributor's registers.
    pub distributor: u64,
    /// The interrupt controller's version, and its other registers.
    pub gic: Gic,
    /// CPUs, at most [`MAX_CPUS`].
    pub cpus: usize,
    /// The command line.
    pub bootargs: String,
    /// The INTID of OP-TEE's notifications, where the tree names one.
    pub tee_interrupt: Option<u32>,
    /// Whether the tree names an OP-TEE.
    pub tee: bool,
    /// Whether PSCI is called by HVC, as where QEMU itself is the firmware, and not by SMC.
    pub psci_by_hvc: bool,
}

static MACHINE: Once<Machine> = Once::new();

/// The machine that the program runs on.
///
/// # Panics
/// Before the entry code has read the tree.
pub fn machine() -> &'static Machine {
    MACHINE.get().expect("the tree was read at entry")
}

/// Whether the program runs at EL2, in a hypervisor's place, and not as a guest.
pub fn at_el2() -> bool {
    let level: u64;
    // SAFETY: reading CurrentEL has no effect.
    unsafe {
        core::arch::asm!("mrs {}, CurrentEL", out(reg) level, options(nomem, nostack, preserves_flags));
    }
    level >> 2 & 3 == 2
}

/// Returns ID_AA64PFR0_EL1.
pub fn id_aa64pfr0() -> u64 {
    let value: u64;
    // SAFETY: reading the register has no effect.
    unsafe {
        core::arch::asm!("mrs {}, id_aa64pfr0_el1", out(reg) value, options(nomem, nostack, preserves_flags));
    }
    value
}

/// Returns the number of this vCPU: affinity level 0 of MPIDR_EL1.
pub fn cpu_index() -> usize {
    let mpidr: u64;
    // SAFETY: reading MPIDR has no effect.
    unsafe {
        core::arch::asm!("mrs {}, mpidr_el1", out(reg) mpidr, options(nomem, nostack, preserves_flags));
    }
    (mpidr & 0xff) as usize
}

/// Reads the tree at `tree`.
///
/// # Safety
/// There is a device tree at `tree`, in mapped memory that nobody changes.
pub unsafe fn read(tree: u64, image: Range) -> &'static Machine {
    // SAFETY: by this function's contract; a tree's header has its length in its second word.
    let size = unsafe { core::ptr::read_volatile((tree + 4) as *const u32) };
    let length = u32::from_be(size) as usize;
    // SAFETY: by this function's contract.
    let bytes = unsafe { core::slice::from_raw_parts(tree as *const u8, length) };
    MACHINE.call_once(|| {
        let end = (tree + length as u64).next_multiple_of(PAGE_SIZE);
        parse(bytes, image, Range { start: tree, end }).expect("a tree with RAM and a GIC")
    })
}

fn parse(bytes: &[u8], image: Range, tree: Range) -> Option<Machine> {
    let root = Fdt::new(bytes).ok()?.root();
    let banks = root
        .children()
        .filter(|node| node.name_without_address() == "memory");
    let banks: Vec<_> = banks.flat_map(ranges).collect();
    let ram = *banks.iter().find(|bank| bank.contains(image.start))?;
    let chosen = root.child("chosen");
    let word = |name: &str| address(chosen?, name);
    let initrd = match (word("linux,initrd-start"), word("linux,initrd-end")) {
        (Some(start), Some(end)) => Some(Range { start, end }),
        _ => None,
    };
    let reserved = root.child("reserved-memory");
    let (distributor, gic) = interrupt_controller(root)?;
    let cpus = root.child("cpus")?;
    let cpus = cpus
        .children()
        .filter(|node| node.name_without_address() == "cpu");
    let optee = root
        .child("firmware")
        .and_then(|firmware| firmware.child("optee"));
    let interrupt = optee.and_then(spi);
    Some(Machine {
        ram,
        banks,
        image,
        tree,
        initrd,
        reserved: reserved.map_or_else(Vec::new, |node| node.children().flat_map(ranges).collect()),
        uart: compatible(root, "arm,pl011").and_then(|node| Some(ranges(node).first()?.start)),
        rtc: compatible(root, "arm,pl031")
            .and_then(|node| Some((ranges(node).first()?.start, spi(node)?))),
        machine_rtc: root
            .child("pl031@9010000")
            .and_then(|node| Some((ranges(node).first()?.start, spi(node)?))),
        watchdog: compatible(root, "arm,sbsa-gwdt").and_then(|node| {
            let frames = ranges(node);
            Some(Watchdog {
                control: frames.first()?.start,
                refresh: frames.get(1)?.start,
                intid: spi(node)?,
            })
        }),
        virtio: all_compatible(root, "virtio,mmio")
            .filter_map(|node| Some((ranges(node).first()?.start, spi(node)?)))
            .collect(),
        pci: compatible(root, "pci-host-ecam-generic").and_then(pci),
        xen: compatible(root, "xen,xen").is_some(),
        distributor,
        gic,
        cpus: cpus.count().clamp(1, MAX_CPUS),
        bootargs: chosen
            .and_then(|node| node.property("bootargs")?.value_as::<&str>().ok())
            .unwrap_or_default()
            .to_string(),
        tee_interrupt: interrupt,
        tee: optee.is_some(),
        psci_by_hvc: root.child("psci").is_some_and(|psci| {
            let method = psci.property("method");
            method.is_some_and(|method| method.value_as::<&str>() == Ok("hvc"))
        }),
    })
}

/// The distributor's registers, and the others of the interrupt controller.
fn interrupt_controller(root: FdtNode<'_>) -> Option<(u64, Gic)> {
    let registers = |name| {
        let mut regs = ranges(compatible(root, name)?).into_iter();
        Some((regs.next()?.start, regs.next()?.start))
    };
    if let Some((distributor, redistributors)) = registers("arm,gic-v3") {
        return Some((distributor, Gic::V3(Redistributors(redistributors))));
    }
    let (distributor, interface) = ["arm,cortex-a15-gic", "arm,gic-400"]
        .into_iter()
        .find_map(registers)?;
    Some((distributor, Gic::V2(CpuInterface(interface))))
}

/// A child of the root that is compatible with `wanted` and not disabled, as the secure world's are.
fn compatible<'t>(root: FdtNode<'t>, wanted: &str) -> Option<FdtNode<'t>> {
    all_compatible(root, wanted).next()
}

fn all_compatible<'t>(root: FdtNode<'t>, wanted: &str) -> impl Iterator<Item = FdtNode<'t>> {
    let disabled = |node: &FdtNode<'_>| {
        node.property("status")
            .is_some_and(|status| status.value_as::<&str>() == Ok("disabled"))
    };
    let enabled = root.children().filter(move |node| !disabled(node));
    enabled.filter(move |node| {
        let list = node
            .property("compatible")
            .and_then(|list| list.value_as::<&[u8]>().ok());
        list.unwrap_or_default()
            .split(|&byte| byte == 0)
            .any(|name| name == wanted.as_bytes())
    })
}

/// A PCI host, as a guest's tree describes it.
fn pci(node: FdtNode<'_>) -> Option<PciHost> {
    fn cell(entry: &[u8], index: usize) -> Option<u64> {
        let bytes: [u8; 4] = entry.get(4 * index..)?.first_chunk().copied()?;
        Some(u64::from(u32::from_be_bytes(bytes)))
    }
    let cells = node.property("ranges")?.value_as::<&[u8]>().ok()?;
    let mut windows = cells.chunks_exact(28).filter_map(|entry| {
        let cell = |index| cell(entry, index);
        // 0b10 in the first cell's type: memory below 4 GiB.
        let is_memory = cell(0)? >> 24 & 0b11 == 0b10;
        let start = cell(3)? << 32 | cell(4)?;
        let bytes = cell(5)? << 32 | cell(6)?;
        is_memory.then_some(Range {
            start,
            end: start + bytes,
        })
    });
    let mut inta = [None; 4];
    let map = node.property("interrupt-map")?.value_as::<&[u8]>().ok()?;
    // The device's address of three cells, its pin, the GIC, and an interrupt of three: type, number, trigger.
    for entry in map.chunks_exact(32) {
        let cell = |index| cell(entry, index);
        if cell(3)? == 1
            && let Some(inta) = inta.get_mut((cell(0)? >> 11) as usize)
        {
            *inta = Some(cell(6)? as u32 + 32);
        }
    }
    Some(PciHost {
        config: ranges(node).first()?.start,
        window: windows.next()?,
        inta,
    })
}

/// The INTID of a node's first interrupt, an SPI.
fn spi(node: FdtNode<'_>) -> Option<u32> {
    let cells = node.property("interrupts")?.value_as::<&[u8]>().ok()?;
    let spi: [u8; 4] = cells.get(4..8)?.try_into().ok()?;
    Some(u32::from_be_bytes(spi) + 32)
}

/// The ranges of a node's `reg`.
fn ranges(node: FdtNode<'_>) -> Vec<Range> {
    let regs = node.reg().ok().flatten().into_iter().flatten();
    regs.filter_map(|reg| {
        let start = reg.address::<u64>().ok()?;
        let end = start.checked_add(reg.size::<u64>().ok()?)?;
        Some(Range { start, end })
    })
    .collect()
}

/// A property that is an address of one or two cells.
fn address(node: FdtNode<'_>, name: &str) -> Option<u64> {
    let property = node.property(name)?;
    property
        .value_as::<u64>()
        .ok()
        .or_else(|| property.value_as::<u32>().ok().map(u64::from))
}
