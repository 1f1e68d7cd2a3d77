// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What EFI firmware tells (UEFI 2.10): where the device tree is, and which memory the firmware keeps.
//!
//! The memory map becomes memory reservations in a copy of the tree, so the boot path reads one description of the
//! machine, whoever started it.

use super::flat::number;
use super::tree;
use super::vms::{self, MODULES_IN_INITRD};
use mediator::addr::Pa;
use postern_base::ids::MAX_VMS;
use postern_base::range::PaRange;

/// The size of a page of the memory map, in bytes.
pub const PAGE_SIZE: u64 = 4096;
/// The GUID of the device tree in the configuration table, b1b621d5-f19c-41a5-830b-d9152c69aae0 (UEFI 2.10, 4.6.1.3).
const DEVICE_TREE: [u8; 16] = [
    0xd5, 0x21, 0xb6, 0xb1, 0x9c, 0xf1, 0xa5, 0x41, 0x83, 0x0b, 0xd9, 0x15, 0x2c, 0x69, 0xaa, 0xe0,
];
/// The size of a memory reservation of a tree in bytes, and the alignment of the list.
const RESERVATION: usize = 16;
/// Offsets of two fields of a tree's header, in bytes: the size of all, and where the reservations are.
const TOTAL_SIZE: usize = 4;
const RESERVATIONS: usize = 16;

/// The most modules of a VM.
const MODULES: usize = 4;

/// An entry of the configuration table (4.2.1).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ConfigurationTable {
    /// What it is.
    pub guid: [u8; 16],
    /// The physical address of it.
    pub table: u64,
}

/// Returns the address of the device tree, if firmware has one.
pub fn find_tree(tables: &[ConfigurationTable]) -> Option<u64> {
    let table = tables.iter().find(|table| table.guid == DEVICE_TREE)?;
    (table.table != 0).then_some(table.table)
}

/// Returns the places of the VMs' modules. Firmware need not know that they are in use.
pub fn modules(tree: &[u8]) -> impl Iterator<Item = PaRange> {
    let fdt = tree::open(tree).ok().into_iter();
    let nodes = fdt.flat_map(vms::module_nodes);
    nodes.filter_map(|module| tree::reg(module, 0).ok())
}

/// Returns whether the modules are in the initial RAM disk, and their addresses offsets into it.
pub fn modules_in_initrd(tree: &[u8]) -> bool {
    tree::open(tree).is_ok_and(vms::modules_in_initrd)
}

/// Returns where the boot loader put the initial RAM disk, if it put that into the tree, as GRUB does.
pub fn initrd(tree: &[u8]) -> Option<PaRange> {
    let chosen = tree::open(tree).ok()?.root().child("chosen")?;
    let address = |name| u64::try_from(number(chosen.property(name)?)?).ok();
    let (start, end) = (address("linux,initrd-start")?, address("linux,initrd-end")?);
    (start < end).then(|| PaRange::between(Pa::new(start), Pa::new(end)))
}

/// Turns the modules' offsets into the initial RAM disk into addresses. `None` if one is not in it, or the tree is not
/// of the form that `postern-tool bundle` writes; the tree is then as it was.
#[inline(never)]
pub fn place_modules(tree: &mut [u8], initrd: PaRange) -> Option<()> {
    let mut changes = heapless::Vec::<(usize, u64), { MODULES * MAX_VMS }>::new();
    let fdt = tree::open(tree).ok()?;
    let offset = |value: &[u8]| value.as_ptr().addr() - tree.as_ptr().addr();
    for module in vms::module_nodes(fdt) {
        let reg = module.property("reg").filter(|reg| reg.len() == 16)?;
        let inside = tree::reg(module, 0).ok()?;
        let start = initrd.start().get().checked_add(inside.start().get())?;
        let place = PaRange::new(Pa::new(start), inside.bytes())?;
        if !initrd.contains(place) {
            return None;
        }
        changes.push((offset(reg), start)).ok()?;
    }
    let flag = fdt.root().child("chosen")?.property(MODULES_IN_INITRD)?;
    let flag = offset(flag);
    for (at, start) in changes {
        *tree.get_mut(at..)?.first_chunk_mut()? = start.to_be_bytes();
    }
    *tree.get_mut(flag..)?.first_chunk_mut()? = 0_u32.to_be_bytes();
    Some(())
}

/// The memory map (7.2.3).
#[derive(Clone, Copy, Debug)]
pub struct MemoryMap<'m> {
    bytes: &'m [u8],
    stride: usize,
}

/// The bytes of a descriptor that have a meaning.
const DESCRIPTOR: usize = 40;
/// The attribute of memory that may be cached with write-back.
const WRITE_BACK: u64 = 1 << 3;
/// The attribute of memory that firmware uses after the end of the boot services.
const RUNTIME: u64 = 1 << 63;

impl<'m> MemoryMap<'m> {
    /// Returns the map in `bytes`, whose descriptors are `stride` bytes apart; `None` if they would overlap.
    pub fn new(bytes: &'m [u8], stride: usize) -> Option<Self> {
        (stride >= DESCRIPTOR).then_some(Self { bytes, stride })
    }

    /// Returns start and end of the first piece of RAM that is the operating system's and ends behind an address.
    #[inline(never)]
    fn usable_behind(self, from: u64) -> Option<(u64, u64)> {
        let mut first = None;
        for piece in self.bytes.chunks_exact(self.stride) {
            let (words, _) = piece.as_chunks::<8>();
            let [kind, start, _, pages, attributes, ..] = *words else {
                continue;
            };
            let [start, pages, attributes] = [start, pages, attributes].map(u64::from_le_bytes);
            // Loader code and data, boot services' code and data, conventional memory (table 7.10).
            let [1..=4 | 7, 0, 0, 0, ..] = kind else {
                continue;
            };
            let end = pages
                .checked_mul(PAGE_SIZE)
                .and_then(|bytes| start.checked_add(bytes));
            let Some(end) = end.filter(|end| *end > from) else {
                continue;
            };
            if attributes & (WRITE_BACK | RUNTIME) == WRITE_BACK
                && first.is_none_or(|(least, _)| start < least)
            {
                first = Some((start, end));
            }
        }
        first
    }
}

/// Returns the size in bytes that is enough for the copy of a tree with the reservations that a memory map of
/// `map` bytes makes.
pub const fn copy_bytes(tree: usize, map: usize) -> usize {
    // The tree's own reservations once more; one for each descriptor, two at the ends, and what the alignment takes.
    2 * tree + (map / DESCRIPTOR + 4) * RESERVATION
}

/// Copies a tree, and reserves in the copy all memory that is not usable according to the map: what is between the
/// usable pieces, to the end of the address space. Returns the size of the copy, or `None` if `into` is too small or the
/// tree is none.
#[inline(never)]
pub fn copy_tree(tree: &[u8], map: MemoryMap<'_>, into: &mut [u8]) -> Option<usize> {
    let fdt = tree::open(tree).ok()?;
    // Behind its parts there may be padding; EDK II's is a megabyte.
    let tree = tree.get(..fdt.used_bytes(tree))?;
    into.get_mut(..tree.len())?.copy_from_slice(tree);
    let list = tree.len().next_multiple_of(RESERVATION);
    let mut at = list;
    let mut push = |start: u64, bytes: u64| {
        let entry = into.get_mut(at..)?.first_chunk_mut::<RESERVATION>()?;
        *entry = (u128::from(start) << 64 | u128::from(bytes)).to_be_bytes();
        at += RESERVATION;
        Some(())
    };
    for (start, bytes) in fdt.memory_reservations() {
        push(start, bytes)?;
    }
    let mut from = 0;
    while let Some((start, end)) = map.usable_behind(from) {
        if start > from {
            push(from, start - from)?;
        }
        from = end;
    }
    push(from, u64::MAX - from)?;
    push(0, 0)?;
    for (place, value) in [(RESERVATIONS, list), (TOTAL_SIZE, at)] {
        let field = into.get_mut(place..)?.first_chunk_mut()?;
        *field = (value as u32).to_be_bytes();
    }
    Some(at)
}
