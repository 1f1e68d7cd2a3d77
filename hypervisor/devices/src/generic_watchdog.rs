// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest's watchdog: the Generic Watchdog of the Arm Base System Architecture (DEN0094C, appendix
//! "Generic watchdog"), revision 1, which Linux knows as `arm,sbsa-gwdt`.
//!
//! The watchdog compares the VM's counter with a value. When the counter is past it for the first
//! time, the watchdog asserts WS0, the interrupt, and waits as long again; the second time it
//! asserts WS1, and the caller resets the VM. A refresh by the guest starts over. The caller passes
//! the VM's counter with each access, and when [`GenericWatchdog::deadline`] has come
//! ([`GenericWatchdog::pass`]).
//!
//! The reset disables the watchdog. WS1 stays readable in the VM's next life until the first
//! refresh, so the guest learns why it has started.

use postern_base::mmio::{Access, AccessSize};
use postern_base::ticks::Ticks;

/// The refresh frame's refresh register, WRR. It reads as zero.
const WRR: u64 = 0x000;
/// The control frame's control and status register, WCS.
const WCS: u64 = 0x000;
/// The offset register, WOR: the low word of the time from a refresh to WS0, in counter ticks.
const WOR: u64 = 0x008;
/// The high half-word of WOR.
const WOR_HIGH: u64 = 0x00c;
/// The compare value, WCV: its low word.
const WCV: u64 = 0x010;
/// The high word of WCV.
const WCV_HIGH: u64 = 0x014;
/// The identification register, W_IIDR, of both frames.
const W_IIDR: u64 = 0xfcc;

/// WCS: the watchdog is enabled.
const ENABLE: u32 = 1 << 0;
/// WCS: signal 0, the interrupt, is asserted.
const WS0: u32 = 1 << 1;
/// WCS: signal 1, the reset, is asserted.
const WS1: u32 = 1 << 2;

/// W_IIDR: architecture revision 1, whose WOR has 48 bits. The implementer's code is Arm's.
const IIDR: u32 = 1 << 16 | 0x43b;

/// The bits of WOR.
const OFFSET_BITS: u64 = (1 << 48) - 1;

/// A register frame of the watchdog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The frame with the refresh register.
    Refresh,
    /// The frame with all other registers.
    Control,
}

/// The state of a watchdog. After every call that takes `&mut self`,
/// [`GenericWatchdog::irq_line`] and [`GenericWatchdog::has_expired`] may have changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GenericWatchdog {
    enabled: bool,
    ws0: bool,
    ws1: bool,
    /// WOR.
    offset: u64,
    /// WCV.
    compare: u64,
    /// When the guest last wrote WCV: a value in the past is reached then, not before.
    written: Ticks,
}

impl GenericWatchdog {
    /// Returns the device after power-on: disabled.
    pub const fn new() -> Self {
        Self {
            enabled: false,
            ws0: false,
            ws1: false,
            offset: 0,
            compare: 0,
            written: Ticks::new(0),
        }
    }

    /// Returns the device as a VM's next life finds it after this one: disabled, with WS1 if the
    /// watchdog has ended this life.
    #[must_use]
    pub const fn after_reset(&self) -> Self {
        Self {
            ws1: self.has_expired(),
            ..Self::new()
        }
    }

    /// Returns the level of the interrupt, WS0.
    #[inline]
    pub const fn irq_line(&self) -> bool {
        self.ws0
    }

    /// Returns whether the watchdog demands the VM's reset.
    #[inline]
    pub const fn has_expired(&self) -> bool {
        self.enabled && self.ws1
    }

    /// Returns the value of the VM's counter at which the next signal is asserted; `None` where
    /// none is going to be.
    pub const fn deadline(&self) -> Option<Ticks> {
        if self.enabled && !self.ws1 {
            Ticks::new(self.compare).checked_add(Ticks::new(1))
        } else {
            None
        }
    }

    /// Advances the VM's counter to `count`.
    pub fn pass(&mut self, count: Ticks) {
        // At most twice: after WS1 there is no deadline.
        while self.deadline().is_some_and(|at| at <= count) {
            if self.ws0 {
                self.ws1 = true;
            } else {
                self.ws0 = true;
                // From the first timeout on, however late this call comes.
                let timeout = self.compare.max(self.written.get());
                self.compare = timeout.saturating_add(self.offset);
            }
        }
    }

    /// Does a guest's access to `frame`, which is aligned, when the VM's counter is at `count`.
    /// Returns the value read, or zero for a write. A write that does not begin at a register's
    /// first byte, or has fewer bits than the register, has no effect. A 64-bit access does the
    /// work of two 32-bit ones, the low word's first.
    pub fn access(&mut self, frame: Frame, access: Access, count: Ticks) -> u64 {
        self.pass(count);
        let register = access.register();
        let Some(value) = access.write else {
            let low = self.read(frame, register);
            if access.size == AccessSize::Double {
                let high = self.read(frame, register + 4);
                return u64::from(high) << 32 | u64::from(low);
            }
            return access.part_of(low);
        };
        match access.size {
            AccessSize::Word => self.write(frame, register, value as u32, count),
            AccessSize::Double => {
                self.write(frame, register, value as u32, count);
                self.write(frame, register + 4, (value >> 32) as u32, count);
            }
            AccessSize::Byte | AccessSize::Half => {}
        }
        0
    }

    const fn read(&self, frame: Frame, register: u64) -> u32 {
        match (frame, register) {
            (_, W_IIDR) => IIDR,
            (Frame::Control, WCS) => {
                let enabled = if self.enabled { ENABLE } else { 0 };
                let ws0 = if self.ws0 { WS0 } else { 0 };
                let ws1 = if self.ws1 { WS1 } else { 0 };
                enabled | ws0 | ws1
            }
            (Frame::Control, WOR) => self.offset as u32,
            (Frame::Control, WOR_HIGH) => (self.offset >> 32) as u32,
            (Frame::Control, WCV) => self.compare as u32,
            (Frame::Control, WCV_HIGH) => (self.compare >> 32) as u32,
            _ => 0,
        }
    }

    fn write(&mut self, frame: Frame, register: u64, value: u32, count: Ticks) {
        match (frame, register) {
            (Frame::Refresh, WRR) => self.refresh(count),
            (Frame::Control, WCS) => {
                self.enabled = value & ENABLE != 0;
                self.refresh(count);
            }
            (Frame::Control, WOR) => {
                self.offset = with_low(self.offset, value);
                self.refresh(count);
            }
            (Frame::Control, WOR_HIGH) => {
                self.offset = with_high(self.offset, value) & OFFSET_BITS;
                self.refresh(count);
            }
            (Frame::Control, WCV) => {
                self.compare = with_low(self.compare, value);
                self.written = count;
            }
            (Frame::Control, WCV_HIGH) => {
                self.compare = with_high(self.compare, value);
                self.written = count;
            }
            _ => {}
        }
    }

    /// Starts over, as after each explicit refresh: a write to WRR, WCS or WOR.
    const fn refresh(&mut self, count: Ticks) {
        self.ws0 = false;
        self.ws1 = false;
        self.compare = count.get().saturating_add(self.offset);
    }
}

/// Returns `value` with another low word.
const fn with_low(value: u64, low: u32) -> u64 {
    value & !0xffff_ffff | low as u64
}

/// Returns `value` with another high word.
const fn with_high(value: u64, high: u32) -> u64 {
    value & 0xffff_ffff | (high as u64) << 32
}

#[cfg(test)]
mod tests;
