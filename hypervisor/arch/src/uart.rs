// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The registers of the physical UART, which firmware has set up.

use mediator::addr::Pa;
use postern_uart::{Layout, Width};

/// A UART's registers.
#[derive(Clone, Copy)]
pub struct UartRegisters {
    base: u64,
    layout: Layout,
}

impl UartRegisters {
    /// Creates the registers of the UART at `base`, which is mapped as device memory at its own
    /// address, or the MMU is off.
    ///
    /// # Safety
    /// There is a UART of this layout at `base`.
    pub const unsafe fn new(base: Pa, layout: Layout) -> Self {
        Self {
            base: base.get(),
            layout,
        }
    }

    /// Returns the model, and how its registers are laid out.
    #[inline]
    pub const fn layout(self) -> Layout {
        self.layout
    }

    /// Reads the register at `offset` in bytes, a multiple of `width` below 4096.
    #[inline]
    pub fn read(self, offset: u16, width: Width) -> u32 {
        let at = self.address(offset, width);
        // SAFETY: a register of the UART that `new`'s caller vouched for; aligned.
        unsafe {
            match width {
                Width::Byte => core::ptr::read_volatile(at as *const u8).into(),
                Width::Half => core::ptr::read_volatile(at as *const u16).into(),
                Width::Word => core::ptr::read_volatile(at as *const u32),
            }
        }
    }

    /// Writes the register at `offset` in bytes, a multiple of `width` below 4096.
    #[inline]
    pub fn write(self, offset: u16, width: Width, value: u32) {
        let at = self.address(offset, width);
        // SAFETY: as in `read`; the device masters no memory.
        unsafe {
            match width {
                Width::Byte => core::ptr::write_volatile(at as *mut u8, value as u8),
                Width::Half => core::ptr::write_volatile(at as *mut u16, value as u16),
                Width::Word => core::ptr::write_volatile(at as *mut u32, value),
            }
        }
    }

    /// Masked, so that the access is aligned and no offset leads far away from the device.
    #[inline]
    const fn address(self, offset: u16, width: Width) -> u64 {
        let mask = match width {
            Width::Byte => 0xfff,
            Width::Half => 0xffe,
            Width::Word => 0xffc,
        };
        self.base + (offset & mask) as u64
    }
}
