// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The end of the address space, for instructions behind which there is nothing.

use crate::exception::Fault;
use crate::mmu;
use crate::pages::Pages;
use core::arch::asm;

unsafe extern "C" {
    /// In `vectors.S`.
    fn probe_jump(to: u64, x0: u64) -> u64;
}

/// The last instruction that there is room for.
const LAST_INSTRUCTION: u64 = 0_u64.wrapping_sub(4);
/// The upper half of the address space in TCR_EL1, as in `entry.S` for the lower one: 39 bits, inner
/// shareable, write-back walks, 4 KiB pages; and EPD1 clear.
const UPPER_HALF: u64 = 2 << 30 | 3 << 28 | 1 << 26 | 1 << 24 | 25 << 16;
/// All that TCR_EL1 says of it.
const UPPER_HALF_MASK: u64 = 0xffff << 16;
/// An entry that leads to a table.
const TABLE: u64 = 3;
/// A page of normal write-back memory, inner shareable.
const NORMAL_PAGE: u64 = 0x707;

/// The last page of this vCPU's address space, mapped.
#[derive(Debug)]
pub struct LastPage {
    tables: Pages,
    page: Pages,
    tcr: u64,
}

impl LastPage {
    /// Maps it, for this vCPU alone. The program is at EL1.
    pub fn map() -> Self {
        let (tables, page) = (Pages::take(3), Pages::take(1));
        let last = 511 * 8;
        tables.write_u64(last, tables.page(1) | TABLE);
        tables.write_u64(4096 + last, tables.page(2) | TABLE);
        tables.write_u64(2 * 4096 + last, page.address() | NORMAL_PAGE);
        let tcr: u64;
        // SAFETY: reading TCR_EL1 has no effect.
        unsafe { asm!("mrs {}, tcr_el1", out(reg) tcr, options(nomem, nostack, preserves_flags)) };
        let mapped = Self { tables, page, tcr };
        mapped.set(tcr & !UPPER_HALF_MASK | UPPER_HALF);
        mapped
    }

    fn set(&self, tcr: u64) {
        // SAFETY: of what Rust knows, nothing lies in the upper half, and the lower one stays.
        unsafe {
            asm!("dsb ishst", "msr ttbr1_el1, {}", "msr tcr_el1, {}", "isb", "tlbi vmalle1", "dsb nsh",
                "isb", in(reg) self.tables.address(), in(reg) tcr, options(nostack, preserves_flags));
        }
    }

    /// Executes an instruction at the very end, with this in X0. The exception that comes of it, or of
    /// there being nothing behind it. It may change X0 to X17 only.
    pub fn execute(&self, instruction: u32, x0: u64) -> Fault {
        self.page.write_u32(4096 - 4, instruction);
        mmu::clean(self.page.page(0), self.page.bytes());
        // SAFETY: what is jumped to is mapped, and comes back by an exception, which the vectors catch.
        Fault(unsafe {
            asm!(
                "ic iallu",
                "dsb nsh",
                "isb",
                options(nostack, preserves_flags)
            );
            probe_jump(LAST_INSTRUCTION, x0)
        })
    }
}

impl Drop for LastPage {
    fn drop(&mut self) {
        self.set(self.tcr);
    }
}
