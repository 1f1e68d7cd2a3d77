// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Stage-2 tables in memory and in the TLB.

use super::{barrier, smmu};
use aarch64_cpu::registers::{ID_AA64MMFR0_EL1, SCTLR_EL1, TCR_EL1, VTCR_EL2, VTTBR_EL2};
use alloc::alloc::{alloc_zeroed, dealloc};
use core::alloc::Layout;
use core::arch::asm;
use core::cell::UnsafeCell;
use mediator::addr::{Ipa, PAGE_SIZE, Pa};
use postern_base::ids::VmIndex;
use postern_exceptions::registers::controls::no_walks;
use postern_stage2::{TablePages, Tlb};
use tock_registers::interfaces::{Readable, Writeable};

/// The two concatenated level-1 tables of a stage 2 that translates nothing. A walk ends in a fault, which no TLB keeps.
///
/// Nobody writes to it. The cell has the linker put it where the image has no bytes for it, `.bss`.
#[repr(C, align(8192))]
struct Nothing(UnsafeCell<[u64; 1024]>);

// SAFETY: it is reached by its address alone, by hardware that reads it.
unsafe impl Sync for Nothing {}

static NOTHING: Nothing = Nothing(UnsafeCell::new([0; 1024]));

/// Returns VTTBR_EL2 for a stage 2 that translates nothing.
fn nothing(vmid: u16) -> u64 {
    (&raw const NOTHING) as u64 | u64::from(vmid) << 48
}

/// Stops this pCPU's table walks for EL1 and EL0, even speculative ones. No vCPU's registers are on it from here on.
pub fn walk_nothing() {
    SCTLR_EL1.set(no_walks::SCTLR_EL1);
    TCR_EL1.set(no_walks::TCR_EL1);
    barrier::isb();
    // No VM has VMID 0. What was loaded may be given back before the next vCPU comes.
    VTTBR_EL2.set(nothing(0));
}

/// Returns VTCR_EL2 for 4 KiB pages and a 40-bit IPA space from two concatenated level-1 tables, as `postern_stage2`
/// builds them.
pub fn vtcr() -> u64 {
    let physical_size = ID_AA64MMFR0_EL1.get() & 7;
    VTCR_EL2::SL0.val(1).value
        | VTCR_EL2::T0SZ.val(postern_stage2::T0SZ).value
        | VTCR_EL2::IRGN0.val(1).value
        | VTCR_EL2::ORGN0.val(1).value
        | VTCR_EL2::SH0.val(3).value
        | VTCR_EL2::PS.val(physical_size).value
        | 1 << 31
}

/// The tables of one VM: pages of EL2's heap, and the entries with its VMID in the pCPUs' and SMMUs' TLBs.
pub struct Tables {
    vm: VmIndex,
}

impl Tables {
    /// Makes the tables of a VM.
    pub const fn new(vm: VmIndex) -> Self {
        Self { vm }
    }

    /// Returns the VMID, which no other VM has.
    const fn vmid(&self) -> u16 {
        self.vm.get() as u16 + 1
    }

    fn layout(pages: usize) -> Option<Layout> {
        let bytes = pages * PAGE_SIZE as usize;
        Layout::from_size_align(bytes, bytes.next_power_of_two()).ok()
    }

    /// Runs `act` while this VM's VMID is the current one, as TLB maintenance wants it.
    fn with_vmid(&self, act: impl FnOnce()) {
        let before = VTTBR_EL2.get();
        if before >> 48 == u64::from(self.vmid()) {
            act();
            return;
        }
        // No guest runs here meanwhile, but the registers of another VM's vCPU may be there: none of what the CPU
        // speculates with them must be kept under this VMID.
        let (sctlr, tcr) = (SCTLR_EL1.get(), TCR_EL1.get());
        SCTLR_EL1.set(no_walks::SCTLR_EL1);
        TCR_EL1.set(tcr | no_walks::TCR_EL1);
        barrier::isb();
        VTTBR_EL2.set(nothing(self.vmid()));
        barrier::isb();
        act();
        VTTBR_EL2.set(before);
        barrier::isb();
        SCTLR_EL1.set(sctlr);
        TCR_EL1.set(tcr);
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
        // A pCPU's TLB maintenance does not reach them.
        smmu::invalidate_ipa(self.vm, ipa);
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
        smmu::invalidate_all(self.vm);
    }
}
