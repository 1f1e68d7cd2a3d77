// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine's GIC in memory, for the plain code that drives it, and the configuration space of PCI hosts.

use super::distributor::Bus;
use super::timer;
use mediator::addr::Pa;
use postern_base::ticks::Ticks;

/// What the device tree names: the machine's GIC, and PCI hosts.
#[derive(Clone, Copy)]
pub struct Machine;

impl Bus for Machine {
    #[inline]
    fn read(&self, at: Pa) -> u32 {
        // SAFETY: callers pass registers of the GIC, or a root bus's configuration space, found in the device tree, mapped
        // as device memory.
        unsafe { core::ptr::read_volatile(at.get() as *const u32) }
    }

    #[inline]
    fn write(&self, at: Pa, value: u32) {
        // SAFETY: as `read`; no register written here masters memory: functions of a bus are turned off.
        unsafe { core::ptr::write_volatile(at.get() as *mut u32, value) }
    }

    fn write_byte(&self, at: Pa, value: u8) {
        // SAFETY: as `write`; priority registers are byte accessible.
        unsafe { core::ptr::write_volatile(at.get() as *mut u8, value) }
    }

    fn read_double(&self, at: Pa) -> u64 {
        // SAFETY: as `read`.
        unsafe { core::ptr::read_volatile(at.get() as *const u64) }
    }

    fn write_double(&self, at: Pa, value: u64) {
        // SAFETY: as `write`.
        unsafe { core::ptr::write_volatile(at.get() as *mut u64, value) }
    }

    fn now(&self) -> Ticks {
        timer::now()
    }

    fn second(&self) -> Ticks {
        timer::second()
    }
}
