//! The physical PL011 (ARM DDI 0183), already set up by firmware.

use mediator::addr::Pa;

const DR: u64 = 0x00;
const FR: u64 = 0x18;
const CR: u64 = 0x30;
const IFLS: u64 = 0x34;
const IMSC: u64 = 0x38;
const ICR: u64 = 0x44;
const FR_RXFE: u32 = 1 << 4;
const FR_TXFF: u32 = 1 << 5;
const RX_AND_TIMEOUT: u32 = 1 << 4 | 1 << 6;

/// A PL011's registers.
#[derive(Clone, Copy)]
pub struct Uart {
    base: u64,
}

impl Uart {
    /// The PL011 whose registers start at `base`, mapped as device memory at its own address
    /// (or the MMU is off).
    ///
    /// # Safety
    /// There is a PL011 at `base`.
    pub const unsafe fn new(base: Pa) -> Self {
        Self { base: base.get() }
    }

    fn read(self, offset: u64) -> u32 {
        // SAFETY: a register of the PL011 that `new`'s caller vouched for; aligned.
        unsafe { core::ptr::read_volatile((self.base + offset) as *const u32) }
    }

    fn write(self, offset: u64, value: u32) {
        // SAFETY: as in `read`; the device masters no memory.
        unsafe { core::ptr::write_volatile((self.base + offset) as *mut u32, value) }
    }

    /// Sends a byte if there is room now.
    #[inline]
    pub fn try_send(self, byte: u8) -> bool {
        if self.read(FR) & FR_TXFF != 0 {
            return false;
        }
        self.write(DR, u32::from(byte));
        true
    }

    /// Sends a byte, waiting for room.
    pub fn send(self, byte: u8) {
        while !self.try_send(byte) {
            core::hint::spin_loop();
        }
    }

    /// A received byte, if there is one.
    pub fn receive(self) -> Option<u8> {
        (self.read(FR) & FR_RXFE == 0).then(|| self.read(DR) as u8)
    }

    /// Asks for an interrupt when something was received.
    pub fn enable_receive_interrupt(self) {
        self.write(CR, self.read(CR) | 1 << 9 | 1 << 8 | 1);
        self.write(IFLS, 0);
        self.write(ICR, 0x7ff);
        self.write(IMSC, RX_AND_TIMEOUT);
    }

    /// Acknowledges the receive interrupt.
    pub fn clear_receive_interrupt(self) {
        self.write(ICR, RX_AND_TIMEOUT);
    }
}
