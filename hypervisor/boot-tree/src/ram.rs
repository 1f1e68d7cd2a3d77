// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where RAM is, and what of it nobody uses yet.

use super::flat::{Fdt, FdtNode};
use mediator::addr::{PAGE_SIZE, Pa};

use super::assigned::MAX_PARTIAL_TREE;
use super::error::BootError;
use super::tree;
use super::vms::{BLOCK_SIZE, Tee, VmConfig};
use postern_base::range::{PaRange, RangeSet};

/// Pieces of memory that one set holds: banks, and what reservations and modules cut them into.
pub const MAX_PIECES: usize = 64;

/// A set of physical memory, byte granular.
pub type Memory = RangeSet<MAX_PIECES>;

/// All RAM that the tree gives to the normal world.
pub(super) fn read_ram(fdt: Fdt<'_>) -> Result<Memory, BootError<'_>> {
    let mut ram = Memory::new();
    for node in fdt.root().children() {
        // QEMU describes the secure RAM as memory too, disabled.
        if tree::string(node, "device_type") != Some("memory") || !tree::is_enabled(node) {
            continue;
        }
        for_each_reg(node, |range| Ok(ram.insert(range)?))?;
    }
    if ram.iter().next().is_none() {
        Err(BootError::NoMemory)
    } else {
        Ok(ram)
    }
}

/// Takes out of `memory` what the tree reserves: `/memreserve/` entries and the nodes of
/// `/reserved-memory` that have an address, with `no-map` or without. OP-TEE puts its shared
/// memory there when it patches the tree.
pub(super) fn remove_reserved<'t>(fdt: Fdt<'t>, memory: &mut Memory) -> Result<(), BootError<'t>> {
    for range in reservations(fdt) {
        memory.remove(range)?;
    }
    remove_nodes(fdt, memory, |_| true)
}

/// The `/memreserve/` entries.
fn reservations(fdt: Fdt<'_>) -> impl Iterator<Item = PaRange> {
    fdt.memory_reservations().map(|(start, bytes)| {
        PaRange::between(Pa::new(start), Pa::new(start.saturating_add(bytes)))
    })
}

/// Takes out of `memory` what must not be mapped, not even where nobody accesses it: the nodes of `/reserved-memory`
/// with `no-map` (Devicetree Specification 0.4, 3.5.4), and the whole blocks of `/memreserve/` entries. A CPU may read
/// ahead what is mapped, and a reservation may be the secure world's or, by EFI's memory map, broken or no RAM at all.
/// Parts of blocks would take more page tables than there is room for. `tree` stays, which EL2 reads: boot loaders
/// reserve it.
pub(super) fn remove_unmapped<'t>(
    fdt: Fdt<'t>,
    tree: PaRange,
    memory: &mut Memory,
) -> Result<(), BootError<'t>> {
    for range in reservations(fdt).filter(|range| !range.overlaps(tree)) {
        memory.remove(range.aligned_inward(BLOCK_SIZE))?;
    }
    remove_nodes(fdt, memory, |node| node.property("no-map").is_some())
}

fn remove_nodes<'t>(
    fdt: Fdt<'t>,
    memory: &mut Memory,
    wanted: impl Fn(FdtNode<'t>) -> bool,
) -> Result<(), BootError<'t>> {
    let Some(parent) = fdt.root().child("reserved-memory") else {
        return Ok(());
    };
    for node in parent.children() {
        // A node with a size only asks an operating system to choose a place.
        if node.property("reg").is_some() && tree::is_enabled(node) && wanted(node) {
            for_each_reg(node, |range| Ok(memory.remove(range)?))?;
        }
    }
    Ok(())
}

/// Bytes of EL2's heap besides what the VMs can make of it.
const HEAP_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes of it that a VM takes in any case: itself, its devices, the tree that it boots from.
const VM_BYTES: u64 = 256 * 1024;

/// Bytes that EL2's heap needs so that no VM, whatever it does, takes what another may have: whole
/// blocks.
pub fn heap_bytes(vms: &[VmConfig<'_>]) -> u64 {
    let of_vm = |vm: &VmConfig<'_>| {
        // A guest that gives back one page of each block has all of them split.
        let windows = vm.devices.iter().map(|device| device.windows.len());
        // Both ends of a window may have tables of two levels.
        let windows = 4 * windows.sum::<usize>() as u64;
        let tables = vm.memory / BLOCK_SIZE + vm.memory.div_ceil(1 << 30) + 4 + windows;
        // The guest's tree grows with it, by doubling.
        let partial = vm.partial_tree.map_or(0, |_| 8 * MAX_PARTIAL_TREE as u64);
        let counters = vm.memory / PAGE_SIZE * size_of::<u16>() as u64;
        let books = match vm.tee {
            Tee::None => 0,
            Tee::Optional | Tee::Required => vm.tee_config.quotas.heap_bytes(),
        };
        VM_BYTES
            + partial
            + tables * PAGE_SIZE
            + counters.next_power_of_two()
            + books
            + sve_bytes(vm)
    };
    let all = vms.iter().map(of_vm).sum::<u64>();
    (HEAP_BYTES + all).next_multiple_of(BLOCK_SIZE)
}

/// Bytes of it for the vector state of a VM's vCPUs.
pub(crate) fn sve_bytes(vm: &VmConfig<'_>) -> u64 {
    let state = vm.sve.map_or(0, |length| {
        length.state_bytes().next_power_of_two().max(4096) as u64
    });
    vm.vcpus as u64 * state
}

fn for_each_reg<'t>(
    node: FdtNode<'t>,
    mut act: impl FnMut(PaRange) -> Result<(), BootError<'t>>,
) -> Result<(), BootError<'t>> {
    let bad = |problem| BootError::Property {
        node: node.name(),
        property: "reg",
        problem,
    };
    for [start, bytes] in tree::regs(node).map_err(bad)? {
        act(tree::range(start, bytes).map_err(bad)?)?;
    }
    Ok(())
}
