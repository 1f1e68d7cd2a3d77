// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine's real-time clock, a PL031 (ARM DDI 0224).

use mediator::addr::Pa;

/// Reads the time from the PL031 at `base`: seconds since 1970.
///
/// # Safety
/// There is a PL031 at `base`, mapped as device memory at its own address.
pub unsafe fn seconds(base: Pa) -> u32 {
    // SAFETY: RTCDR, the first register, by this function's contract; reading it has no effect.
    unsafe { core::ptr::read_volatile(base.get() as *const u32) }
}
