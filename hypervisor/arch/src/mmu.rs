// SPDX-License-Identifier: Apache-2.0 OR MIT
//! EL2's own stage 1: an identity map in which no page is both writable and executable.

use super::registers::CTR_EL0;
use super::stack;
use super::stage2::Tables;
use aarch64_cpu::registers::{ReadWriteable, Readable, SCTLR_EL2};
use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};
use mediator::addr::Pa;
use postern_base::ids::VmIndex;
use postern_stage2::Tlb;
use postern_stage2::identity::IdentityMap;
pub use postern_stage2::identity::{ADDRESS_LIMIT, IdentityError};

/// The table that `entry.S` fills.
#[repr(C, align(4096))]
pub struct BootTable(UnsafeCell<[u64; 512]>);

// SAFETY: only `entry.S` writes it, before Rust runs.
unsafe impl Sync for BootTable {}

/// The first table, replaced by [`activate`].
pub static BOOT_TABLE: BootTable = BootTable(UnsafeCell::new([0; 512]));

static ROOT: AtomicU64 = AtomicU64::new(0);

// Attributes of pages and blocks at EL2 (Arm ARM DDI 0487 D8.3.1, D8.4.2, D8.6.2): a valid entry with the access flag, and
// AP[1], which is RES1.
const VALID: u64 = 1 << 0 | 1 << 10 | 1 << 6;
/// AttrIndx 1 of `MAIR_EL2`, inner shareable.
const NORMAL: u64 = VALID | 1 << 2 | 0b11 << 8;
/// AttrIndx 2, never executable.
const DEVICE: u64 = VALID | 2 << 2 | EXECUTE_NEVER;
const READ_WRITE: u64 = NORMAL | EXECUTE_NEVER;
const READ_ONLY: u64 = READ_WRITE | WRITE_NEVER;
const EXECUTE: u64 = NORMAL | WRITE_NEVER;
/// XN.
const EXECUTE_NEVER: u64 = 1 << 54;
/// AP[2].
const WRITE_NEVER: u64 = 1 << 7;
/// An entry that maps nothing.
const NOTHING: u64 = 0;

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

/// Builds the final map: `ram` and `devices` are ranges of (start, end) in bytes, page aligned.
/// Then turns it on, on this pCPU.
///
/// # Errors
/// A range beyond the 39-bit map, or no memory for tables.
pub fn activate(
    ram: impl Iterator<Item = (Pa, Pa)>,
    devices: impl Iterator<Item = (Pa, Pa)>,
) -> Result<(), IdentityError> {
    let image = image();
    let image_parts = [
        (image.start, image.text_end, EXECUTE),
        (image.text_end, image.rodata_end, READ_ONLY),
        (image.rodata_end, image.end, READ_WRITE),
    ];
    let guards = stack::guards().map(|guard| (guard, guard + stack::GUARD_BYTES as u64, NOTHING));
    let in_image = image_parts.into_iter().chain(guards);
    // Of no VM: it is not asked to invalidate anything.
    let mut tables = Tables::new(VmIndex::default());
    let mut map = IdentityMap::new(&mut tables)?;
    for (start, end) in ram {
        map.map(&mut tables, start, end, READ_WRITE)?;
    }
    for (start, end) in devices {
        map.map(&mut tables, start, end, DEVICE)?;
    }
    for (start, end, attributes) in in_image {
        map.map(&mut tables, Pa::new(start), Pa::new(end), attributes)?;
    }
    tables.publish();
    let root = map.root().get();
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
