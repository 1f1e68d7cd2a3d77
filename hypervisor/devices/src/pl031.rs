// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest's real-time clock: the PL031 of ARM DDI 0224, which counts seconds since 1970.
//!
//! The caller passes the machine's time in seconds with each access, and also about once per second
//! ([`Pl031::pass`]), so an alarm is up to a second late. A guest's write to the clock changes only
//! the guest's own clock. The clock always runs, as in QEMU's model.

use postern_base::mmio::Access;

/// The data register: the time.
const DR: u64 = 0x00;
/// The match register: the alarm's time.
const MR: u64 = 0x04;
/// The load register: sets the time.
const LR: u64 = 0x08;
/// The control register: bit 0 starts the clock. It reads as one, as the clock always runs.
const CR: u64 = 0x0c;
/// The interrupt mask, bit 0: one enables the alarm's interrupt.
const IMSC: u64 = 0x10;
const RIS: u64 = 0x14;
const MIS: u64 = 0x18;
const ICR: u64 = 0x1c;
const PERIPH_ID0: u64 = 0xfe0;
const PCELL_ID3: u64 = 0xffc;

/// RTCPeriphID0 to 3, then RTCPCellID0 to 3: part 0x031 of ARM, revision 1, and PrimeCell.
const IDS: [u8; 8] = [0x31, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

/// The state of a real-time clock. After every call that takes `&mut self`, [`Pl031::irq_line`]
/// returns the new level of the interrupt line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pl031 {
    /// The difference between the guest's time and the machine's, in seconds, wrapping.
    ahead: u32,
    /// The guest's time when the alarm was last checked.
    seen: u32,
    alarm: u32,
    loaded: u32,
    unmasked: bool,
    raised: bool,
}

impl Pl031 {
    /// Returns the device after reset, with the machine's time `now`, in seconds since 1970.
    pub const fn new(now: u32) -> Self {
        Self {
            ahead: 0,
            seen: now,
            alarm: 0,
            loaded: 0,
            unmasked: false,
            raised: false,
        }
    }

    /// Returns the level of the interrupt, RTCINTR.
    #[inline]
    pub const fn irq_line(&self) -> bool {
        self.raised && self.unmasked
    }

    /// Advances the clock to the machine's time `now`. Raises the alarm if its time has come since
    /// the last call. A `now` that is earlier than a former one has no effect: pCPUs may read the
    /// counter out of order.
    pub const fn pass(&mut self, now: u32) {
        let time = now.wrapping_add(self.ahead);
        if time.wrapping_sub(self.seen) > u32::MAX / 2 {
            return;
        }
        let left = self.alarm.wrapping_sub(self.seen);
        // An alarm for the second `seen` was raised when the guest set it.
        if left != 0 && left <= time.wrapping_sub(self.seen) {
            self.raised = true;
        }
        self.seen = time;
    }

    /// Does a guest's access, which is aligned, at the machine's time `now`. Returns the value
    /// read, or zero for a write. A write that does not begin at a register's first byte has no
    /// effect.
    pub fn access(&mut self, access: Access, now: u32) -> u64 {
        self.pass(now);
        match access.write {
            None => access.part_of(self.read(access.register())),
            Some(value) => {
                if access.offset == access.register() {
                    self.write(access.register(), value as u32, now);
                }
                0
            }
        }
    }

    const fn read(&self, register: u64) -> u32 {
        match register {
            DR => self.seen,
            MR => self.alarm,
            LR => self.loaded,
            CR => 1,
            IMSC => self.unmasked as u32,
            RIS => self.raised as u32,
            MIS => self.irq_line() as u32,
            PERIPH_ID0..=PCELL_ID3 => IDS[((register - PERIPH_ID0) / 4) as usize] as u32,
            _ => 0,
        }
    }

    const fn write(&mut self, register: u64, value: u32, now: u32) {
        match register {
            MR => {
                self.alarm = value;
                self.raised |= self.alarm == self.seen;
            }
            LR => {
                self.loaded = value;
                self.ahead = value.wrapping_sub(now);
                self.seen = value;
                self.raised |= self.alarm == self.seen;
            }
            IMSC => self.unmasked = value & 1 != 0,
            ICR => self.raised &= value & 1 == 0,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
