//! Stage-2 tables in memory and in the TLB.

use super::barrier;
use crate::vm::stage2::{TablePages, Tlb};
use aarch64_cpu::registers::VTTBR_EL2;
use alloc::alloc::{alloc_zeroed, dealloc};
use core::alloc::Layout;
use core::arch::asm;
use mediator::addr::{Ipa, PAGE_SIZE, Pa};
use tock_registers::interfaces::{Readable, Writeable};

/// The tables of one VM: pages of EL2's heap, and the TLB entries with its VMID.
pub struct Tables {
    vmid: u16,
}

impl Tables {
    /// For the VM with this VMID, which no other VM has.
    pub const fn new(vmid: u16) -> Self {
        Self { vmid }
    }

    fn layout(pages: usize) -> Option<Layout> {
        let bytes = pages * PAGE_SIZE as usize;
        Layout::from_size_align(bytes, bytes.next_power_of_two()).ok()
    }

    /// Runs `act` while this VM's VMID is the current one, as TLB maintenance wants it.
    fn with_vmid(&self, act: impl FnOnce()) {
        let before = VTTBR_EL2.get();
        // No guest runs here meanwhile, and EL2's own walks do not use stage 2.
        VTTBR_EL2.set(u64::from(self.vmid) << 48);
        barrier::isb();
        act();
        VTTBR_EL2.set(before);
        barrier::isb();
    }
}

impl TablePages for Tables {
    fn allocate(&mut self, pages: usize) -> Option<Pa> {
        let layout = Self::layout(pages)?;
        // SAFETY: the layout's size is not zero, since `pages` is not.
        let table = unsafe { alloc_zeroed(layout) };
        (!table.is_null()).then(|| Pa::new(table as u64))
    }

    fn free(&mut self, table: Pa, pages: usize) {
        if let Some(layout) = Self::layout(pages) {
            // SAFETY: `allocate` gave this table for this many pages, by the trait's contract.
            unsafe { dealloc(table.get() as *mut u8, layout) };
        }
    }

    fn read(&self, table: Pa, index: usize) -> u64 {
        // SAFETY: an entry of a table that `allocate` gave, by the trait's contract.
        unsafe { (table.get() as *const u64).add(index).read_volatile() }
    }

    fn write(&mut self, table: Pa, index: usize, entry: u64) {
        // SAFETY: as in `read`; the walker reads it as a whole.
        unsafe { (table.get() as *mut u64).add(index).write_volatile(entry) };
    }
}

impl Tlb for Tables {
    fn publish(&mut self) {
        // SAFETY: a barrier.
        unsafe { asm!("dsb ishst", "isb", options(nostack, preserves_flags)) };
    }

    fn invalidate_ipa(&mut self, ipa: Ipa) {
        let page = ipa.get() >> 12;
        self.with_vmid(|| {
            // SAFETY: TLB maintenance only makes the hardware walk again.
            unsafe {
                asm!("dsb ishst", "tlbi ipas2e1is, {}", "dsb ish", "tlbi vmalle1is", "dsb ish",
                    "isb", in(reg) page, options(nostack, preserves_flags));
            }
        });
    }

    fn invalidate_all(&mut self) {
        self.with_vmid(|| {
            // SAFETY: as above.
            unsafe {
                asm!(
                    "dsb ishst",
                    "tlbi vmalls12e1is",
                    "dsb ish",
                    "isb",
                    options(nostack, preserves_flags)
                );
            }
        });
    }
}
