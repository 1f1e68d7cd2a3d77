// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The registers of the physical PL011 (ARM DDI 0183), already set up by firmware.

use mediator::addr::Pa;

/// A PL011's registers.
#[derive(Clone, Copy)]
pub struct UartRegisters {
    base: u64,
}

impl UartRegisters {
    /// Returns the PL011 whose registers start at `base`, mapped as device memory at its own address (or the MMU is
    /// off).
    ///
    /// # Safety
    /// There is a PL011 at `base`.
    pub const unsafe fn new(base: Pa) -> Self {
        Self { base: base.get() }
    }

    /// Reads the register at `offset`, in bytes: a multiple of 4 below 4096.
    #[inline]
    pub fn read(self, offset: u16) -> u32 {
        // SAFETY: a register of the PL011 that `new`'s caller vouched for; aligned.
        unsafe { core::ptr::read_volatile(self.address(offset) as *const u32) }
    }

    /// Writes the register at `offset`, in bytes: a multiple of 4 below 4096.
    #[inline]
    pub fn write(self, offset: u16, value: u32) {
        // SAFETY: as in `read`; the device masters no memory.
        unsafe { core::ptr::write_volatile(self.address(offset) as *mut u32, value) }
    }

    /// Returns a register's address. The offset is masked, so that none leads out of the device's page.
    #[inline]
    const fn address(self, offset: u16) -> u64 {
        self.base + (offset & 0xffc) as u64
    }
}
