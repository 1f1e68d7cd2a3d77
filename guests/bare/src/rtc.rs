// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The PL031 that the tree names (ARM DDI 0224).

use crate::machine::machine;

/// A register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Register {
    /// RTCDR: the time, seconds since 1970.
    Data = 0x00,
    /// RTCMR: the alarm.
    Match = 0x04,
    /// RTCLR: sets the time.
    Load = 0x08,
    /// RTCCR.
    Control = 0x0c,
    /// RTCIMSC: bit 0 lets the alarm through.
    Mask = 0x10,
    /// RTCRIS: the alarm, masked or not.
    Raw = 0x14,
    /// RTCMIS: the alarm behind the mask.
    Masked = 0x18,
    /// RTCICR: bit 0 ends the alarm.
    Clear = 0x1c,
}

fn base() -> u64 {
    machine().rtc.expect("the tree names a PL031").0
}

/// Reads a register.
///
/// # Panics
/// The tree names no PL031.
pub fn read(register: Register) -> u32 {
    // SAFETY: a register of the PL031 that the tree names, mapped as device memory.
    unsafe { core::ptr::read_volatile((base() + register as u64) as *const u32) }
}

/// Writes a register.
///
/// # Panics
/// The tree names no PL031.
pub fn write(register: Register, value: u32) {
    // SAFETY: as in `read`; the device masters no memory.
    unsafe { core::ptr::write_volatile((base() + register as u64) as *mut u32, value) };
}

/// Reads the identification registers: RTCPeriphID0 to 3, then RTCPCellID0 to 3, a byte each, the first the lowest.
///
/// # Panics
/// The tree names no PL031.
pub fn identification() -> u64 {
    (0..8).fold(0, |id, index| {
        // SAFETY: as in `read`.
        let byte = unsafe { core::ptr::read_volatile((base() + 0xfe0 + 4 * index) as *const u32) };
        id | u64::from(byte & 0xff) << (8 * index)
    })
}
