// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A vCPU's EL1 physical timer, CNTP_* (Arm ARM DDI 0487 D11.2.4).
//!
//! No hardware timer is behind it, since a pCPU has only EL2's own timer besides the virtual timer.
//! Its counter is the guest's virtual counter, so that both timers have the same time, and the
//! counter of a paused guest does not advance. All times here are ticks of this counter.

use postern_base::ticks::Ticks;

/// CNTP_CTL_EL0.ENABLE.
const ENABLE: u64 = 1;
/// CNTP_CTL_EL0.IMASK.
const IMASK: u64 = 1 << 1;
/// CNTP_CTL_EL0.ISTATUS, read only.
const ISTATUS: u64 = 1 << 2;

/// A register of the EL1 physical timer, or its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerRegister {
    /// CNTPCT_EL0 or CNTPCTSS_EL0, the counter, read only.
    Count,
    /// CNTP_TVAL_EL0: the low 32 bits, signed, of CVAL minus the counter.
    TimerValue,
    /// CNTP_CTL_EL0: ENABLE (bit 0), IMASK (bit 1), ISTATUS (bit 2, read only).
    Control,
    /// CNTP_CVAL_EL0.
    CompareValue,
}

/// The timer of one vCPU. After each write, and when [`PhysicalTimer::deadline`] has passed, the
/// caller calls [`PhysicalTimer::update`] to learn whether the interrupt changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhysicalTimer {
    /// ENABLE and IMASK.
    control: u64,
    compare: u64,
    /// The level of the interrupt at the last call of `update`.
    level: bool,
}

impl PhysicalTimer {
    /// Returns the timer of a vCPU that was just turned on: disabled.
    pub const fn new() -> Self {
        Self {
            control: 0,
            compare: 0,
            level: false,
        }
    }

    /// Returns the value that a read of `register` returns while the counter is at `count`.
    pub const fn read(&self, register: TimerRegister, count: Ticks) -> u64 {
        match register {
            TimerRegister::Count => count.get(),
            TimerRegister::TimerValue => self.compare.wrapping_sub(count.get()) & 0xffff_ffff,
            // ISTATUS is UNKNOWN while the timer is disabled; here it is zero.
            TimerRegister::Control if self.control & ENABLE != 0 && self.is_met(count) => {
                self.control | ISTATUS
            }
            TimerRegister::Control => self.control,
            TimerRegister::CompareValue => self.compare,
        }
    }

    /// Writes `value` to `register` while the counter is at `count`.
    pub const fn write(&mut self, register: TimerRegister, value: u64, count: Ticks) {
        match register {
            TimerRegister::Count => {}
            TimerRegister::TimerValue => {
                self.compare = count.get().wrapping_add(value as u32 as i32 as u64);
            }
            TimerRegister::Control => self.control = value & (ENABLE | IMASK),
            TimerRegister::CompareValue => self.compare = value,
        }
    }

    /// Returns the level of the interrupt at `count`, or `None` if it has not changed since the
    /// last call.
    #[inline]
    pub const fn update(&mut self, count: Ticks) -> Option<bool> {
        let level = self.is_signalled() && self.is_met(count);
        if level == self.level {
            return None;
        }
        self.level = level;
        Some(level)
    }

    /// Returns the count at which the interrupt rises, if the passing of time alone raises it.
    #[inline]
    pub const fn deadline(&self) -> Option<Ticks> {
        if self.is_signalled() && !self.level {
            Some(Ticks::new(self.compare))
        } else {
            None
        }
    }

    /// Returns whether the timer is disabled or masked and its interrupt is low, so that the
    /// passing of time changes nothing.
    #[inline]
    pub const fn is_idle(&self) -> bool {
        !self.is_signalled() && !self.level
    }

    const fn is_signalled(&self) -> bool {
        self.control & (ENABLE | IMASK) == ENABLE
    }

    /// Returns whether the timer condition is met; both values are unsigned (DDI 0487 D11.2.4).
    const fn is_met(&self, count: Ticks) -> bool {
        count.get() >= self.compare
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn t(ticks: u64) -> Ticks {
        Ticks::new(ticks)
    }
    use TimerRegister::{CompareValue, Control, Count, TimerValue};
    use proptest::prelude::*;

    fn with(control: u64, compare: u64) -> PhysicalTimer {
        let mut timer = PhysicalTimer::new();
        timer.write(CompareValue, compare, t(0));
        timer.write(Control, control, t(0));
        timer
    }

    #[test]
    fn timer_is_idle_after_reset() {
        let mut timer = PhysicalTimer::new();
        assert_eq!(timer.read(Control, t(u64::MAX)), 0);
        assert_eq!(timer.update(t(u64::MAX)), None);
        assert_eq!(timer.deadline().map(Ticks::get), None);
        assert!(timer.is_idle());
    }

    #[test]
    fn counter_write_has_no_effect() {
        let mut timer = with(1, 100);
        let before = timer;
        timer.write(Count, 5, t(50));
        assert_eq!(timer, before);
        assert_eq!(timer.read(Count, t(50)), 50);
    }

    #[test]
    fn control_enables_and_masks_the_interrupt() {
        // Control as written; as read at 99 and at 100; whether it lets the interrupt through.
        for (control, early, due, signalled) in [
            (0b000, 0b000, 0b000, false),
            (0b001, 0b001, 0b101, true),
            (0b010, 0b010, 0b010, false),
            (0b011, 0b011, 0b111, false),
            // Writes to ISTATUS and to reserved bits are ignored.
            (!0b011, 0b000, 0b000, false),
            (u64::MAX, 0b011, 0b111, false),
        ] {
            let mut timer = with(control, 100);
            assert_eq!(timer.read(Control, t(99)), early, "{control:#b}");
            assert_eq!(timer.read(Control, t(100)), due, "{control:#b}");
            assert_eq!(timer.deadline().map(Ticks::get), signalled.then_some(100));
            assert_eq!(timer.update(t(99)), None);
            assert_eq!(
                timer.update(t(100)),
                signalled.then_some(true),
                "{control:#b}"
            );
            // A change is reported once, and then there is no deadline.
            assert_eq!(timer.update(t(101)), None);
            assert_eq!(timer.deadline().map(Ticks::get), None);
        }
    }

    #[test]
    fn level_lowers_when_the_condition_no_longer_holds() {
        for (register, value) in [
            (Control, 0),
            (Control, 3),
            (CompareValue, 201),
            (TimerValue, 1),
        ] {
            let mut timer = with(1, 100);
            assert_eq!(timer.update(t(200)), Some(true));
            assert!(!timer.is_idle());
            timer.write(register, value, t(200));
            assert_eq!(timer.update(t(200)), Some(false), "{register:?}");
            // A compare value that comes later raises it again.
            let again = timer.deadline();
            assert_eq!(again.is_some(), register != Control);
            assert_eq!(timer.update(t(201)), again.map(|_| true));
        }
    }

    #[test]
    fn timer_value_is_signed() {
        let mut timer = PhysicalTimer::new();
        timer.write(TimerValue, 1000, t(50));
        assert_eq!(timer.read(CompareValue, t(50)), 1050);
        assert_eq!(timer.read(TimerValue, t(50)), 1000);
        assert_eq!(timer.read(TimerValue, t(1051)), 0xffff_ffff);
        timer.write(TimerValue, 0xffff_ffff, t(50));
        assert_eq!(timer.read(CompareValue, t(50)), 49);
        // The upper half of the written value is ignored.
        timer.write(TimerValue, 0xdead_beef_7fff_ffff, t(50));
        assert_eq!(timer.read(CompareValue, t(50)), 0x8000_0031);
        // A time before the counter's zero is far in its future.
        timer.write(TimerValue, 0xffff_ffff, t(0));
        assert_eq!(timer.read(CompareValue, t(0)), u64::MAX);
    }

    #[test]
    fn comparison_is_unsigned_near_the_counters_maximum() {
        let mut timer = with(1, u64::MAX);
        assert_eq!(timer.update(t(u64::MAX - 1)), None);
        assert_eq!(timer.deadline().map(Ticks::get), Some(u64::MAX));
        assert_eq!(timer.update(t(u64::MAX)), Some(true));
        // Values are unsigned: a compare value in the upper half has not passed.
        let mut timer = with(1, 1 << 63);
        assert_eq!(timer.update(t(5)), None);
        timer.write(TimerValue, 10, t(u64::MAX - 4));
        assert_eq!(timer.read(CompareValue, t(0)), 5);
        assert_eq!(timer.update(t(u64::MAX - 4)), Some(true));
    }

    proptest! {
        /// After any writes, `update` follows ENABLE, IMASK and the comparison, and there is a
        /// deadline exactly if the passing of time will raise the interrupt.
        #[test]
        fn update_and_deadline_follow_the_formula(
            steps in proptest::collection::vec((0..4_u8, any::<u64>(), 0..1000_u64), 0..50),
        ) {
            let mut timer = PhysicalTimer::new();
            let (mut count, mut level) = (0_u64, false);
            for (what, value, pass) in steps {
                count += pass;
                match what {
                    0 => timer.write(Control, value, t(count)),
                    1 => timer.write(CompareValue, value % 4000, t(count)),
                    2 => timer.write(TimerValue, value % 200, t(count)),
                    _ => {}
                }
                let control = timer.read(Control, t(count));
                let expected = control & 0b111 == 0b101;
                let told = timer.update(t(count));
                prop_assert_eq!(told, (expected != level).then_some(expected));
                level = expected;
                let rises = control & 0b11 == 1 && !level;
                prop_assert_eq!(timer.deadline().map(Ticks::get), rises.then(|| timer.read(CompareValue, t(count))));
            }
        }
    }
}
