// SPDX-License-Identifier: Apache-2.0 OR MIT
//! EL2's own stage 1: an identity map in which no page is both writable and executable.

use super::registers::CTR_EL0;
use super::stack;
use aarch64_cpu::registers::{ReadWriteable, Readable, SCTLR_EL2};
use aarch64_paging::descriptor::El23Attributes as Attributes;
use aarch64_paging::idmap::IdMap;
use aarch64_paging::paging::{El2, MemoryRegion};
use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};
use mediator::addr::Pa;

/// 39 bits of address from a level-1 root, as `entry.S` sets TCR_EL2.
const ROOT_LEVEL: usize = 1;
/// One past the highest address that the map can hold, in bytes.
pub const ADDRESS_LIMIT: u64 = 1 << 39;

/// The table that `entry.S` fills.
#[repr(C, align(4096))]
pub struct BootTable(UnsafeCell<[u64; 512]>);

// SAFETY: only `entry.S` writes it, before Rust runs.
unsafe impl Sync for BootTable {}

/// The first table, replaced by [`activate`].
pub static BOOT_TABLE: BootTable = BootTable(UnsafeCell::new([0; 512]));

static ROOT: AtomicU64 = AtomicU64::new(0);

const VALID: Attributes = Attributes::VALID
    .union(Attributes::ACCESSED)
    .union(Attributes::USER_RES1);
const NORMAL: Attributes = VALID
    .union(Attributes::ATTRIBUTE_INDEX_1)
    .union(Attributes::INNER_SHAREABLE);
const DEVICE: Attributes = VALID
    .union(Attributes::ATTRIBUTE_INDEX_2)
    .union(Attributes::XN);
const READ_WRITE: Attributes = NORMAL.union(Attributes::XN);
const READ_ONLY: Attributes = READ_WRITE.union(Attributes::READ_ONLY);
const EXECUTE: Attributes = NORMAL.union(Attributes::READ_ONLY);

unsafe extern "C" {
    static _image_start: u8;
    static _text_end: u8;
    static _rodata_end: u8;
    static _image_end: u8;
    fn enable_mmu(root: u64);
}

/// The addresses of the parts of the image.
pub struct Image {
    /// The first byte.
    pub start: u64,
    /// The end of the code.
    pub text_end: u64,
    /// The end of the constants.
    pub rodata_end: u64,
    /// The end of the image, with stacks and boot heap.
    pub end: u64,
}

/// Returns the image's own extent, in physical addresses.
pub fn image() -> Image {
    Image {
        start: (&raw const _image_start) as u64,
        text_end: (&raw const _text_end) as u64,
        rodata_end: (&raw const _rodata_end) as u64,
        end: (&raw const _image_end) as u64,
    }
}

fn region(start: u64, end: u64) -> MemoryRegion {
    MemoryRegion::new(start as usize, end as usize)
}

/// Builds the final map: `ram` and `devices` are ranges of (start, end) in bytes, page aligned.
/// Then turns it on, on this pCPU.
///
/// # Errors
/// A range beyond the 39-bit map, or no memory for tables.
pub fn activate(
    ram: impl Iterator<Item = (Pa, Pa)>,
    devices: impl Iterator<Item = (Pa, Pa)>,
) -> Result<(), aarch64_paging::MapError> {
    let image = image();
    let mut map = IdMap::new(ROOT_LEVEL, El2);
    for (start, end) in ram {
        map.map_range(&region(start.get(), end.get()), READ_WRITE)?;
    }
    for (start, end) in devices {
        map.map_range(&region(start.get(), end.get()), DEVICE)?;
    }
    map.map_range(&region(image.start, image.text_end), EXECUTE)?;
    map.map_range(&region(image.text_end, image.rodata_end), READ_ONLY)?;
    map.map_range(&region(image.rodata_end, image.end), READ_WRITE)?;
    for guard in stack::guards() {
        map.map_range(
            &region(guard, guard + stack::GUARD_BYTES as u64),
            Attributes::empty(),
        )?;
    }
    let root = map.root_address().0 as u64;
    // The map lives as long as EL2 does.
    core::mem::forget(map);
    ROOT.store(root, Ordering::Release);
    // SAFETY: the map is an identity map like the boot table, holds this code executable and this
    // stack writable, and is never freed.
    unsafe { enable_mmu(root) };
    set_write_implies_execute_never();
    Ok(())
}

/// Returns the final root table's address; zero before [`activate`].
pub fn root() -> u64 {
    ROOT.load(Ordering::Acquire)
}

/// Sets SCTLR_EL2.WXN: even a wrong entry cannot make a writable page executable.
pub fn set_write_implies_execute_never() {
    SCTLR_EL2.modify(SCTLR_EL2::WXN.val(1));
    super::barrier::isb();
}

/// Cleans and invalidates the data cache over a range, to the point of coherency: what a reader
/// with its caches off will see.
pub fn clean_to_memory(start: u64, bytes: u64) {
    let line = 4u64 << (CTR_EL0.get() >> 16 & 0xf);
    let mut address = start & !(line - 1);
    while address < start + bytes {
        // SAFETY: cache maintenance by address changes no memory content.
        unsafe { asm!("dc civac, {}", in(reg) address, options(nostack, preserves_flags)) };
        address += line;
    }
    super::barrier::dsb();
}

/// Makes instructions that were written as data, and cleaned to memory, visible to all pCPUs.
pub fn forget_instructions() {
    // SAFETY: cache maintenance changes no memory content.
    unsafe {
        asm!(
            "ic ialluis",
            "dsb ish",
            "isb",
            options(nostack, preserves_flags)
        );
    }
}
