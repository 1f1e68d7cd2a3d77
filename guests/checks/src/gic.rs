// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks the interrupt controller (IHI 0069H, IHI 0048B.b): SGIs, priorities, states. What only a
//! GICv2 has is in [`crate::gicv2`].

use crate::check::{Case, Found, SOON, ensure, exceptions, same, wait};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use guest_bare::cpu;
use guest_bare::expect::{Code, How};
use guest_bare::gic::{self, Gic, Property};
use guest_bare::machine::{id_aa64pfr0, machine};
use guest_bare::timer::Deadline;

/// The cases of this group.
pub const CASES: &[Case] = &[
    ("gic/sgi-to-itself", to_itself),
    ("gic/sgi-to-another-and-back", to_another),
    ("gic/sgis-in-order", in_order),
    ("gic/sgi-while-active", while_active),
    ("gic/priority-decides", priority_decides),
    ("gic/priority-preempts", priority_preempts),
    ("gic/priority-mask", priority_mask),
    ("gic/disabled", disabled),
    ("gic/pending-by-register", pending_by_register),
    ("gic/active-by-register", active_by_register),
    ("gic/active-while-handled", active_while_handled),
    ("gic/split-end", split_end),
    ("gic/spi-by-register", spi_by_register),
    ("gic/all-sgis-at-once", all_at_once),
    ("gic/version", version),
];

/// This CPU, as an SGI's target.
pub const SELF: u16 = 1;
/// An SPI without a device, here and on QEMU's `virt` machine.
pub const SPI: u32 = 42;

/// The used settings of the interrupt controller; dropping it restores them.
pub struct Used;

impl Used {
    /// Enables all SGIs.
    pub fn new() -> Self {
        for intid in 0..16 {
            gic::set(Property::Enabled, intid, true);
        }
        gic::drain();
        Self
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        gic::split_end(false);
        gic::set_priority_mask(0xff);
        for intid in 0..16 {
            gic::set(Property::Pending, intid, false);
            gic::set(Property::Active, intid, false);
            gic::set_private_priority(intid, 0xa0);
        }
        gic::drain();
    }
}

/// Fails when an interrupt is pending.
///
/// # Errors
/// Fails with its number.
pub fn nothing() -> Found {
    same("behind it", gic::take(), None)
}

fn to_itself() -> Found {
    let _used = Used::new();
    gic::send(5, SELF);
    same("the interrupt", wait(), Some(5))?;
    gic::end(5);
    nothing()
}

static OTHER: AtomicU64 = AtomicU64::new(0);

fn to_another() -> Found {
    let _used = Used::new();
    OTHER.store(0, Ordering::Relaxed);
    cpu::spawn(
        1,
        |_| {
            gic::set(Property::Enabled, 9, true);
            OTHER.store(1, Ordering::Release);
            if wait() == Some(9) {
                gic::end(9);
                gic::send(7, SELF);
            }
        },
        0,
    );
    ensure(
        Deadline::after(SOON).wait(|| OTHER.load(Ordering::Acquire) == 1),
        "the other CPU does not start",
    )?;
    gic::send(9, 1 << 1);
    let found = wait();
    ensure(cpu::join(1, 2 * SOON), "the other CPU does not end")?;
    same("the answer", found, Some(7))?;
    gic::end(7);
    nothing()
}

fn in_order() -> Found {
    let _used = Used::new();
    for intid in [11, 3, 14, 0] {
        gic::send(intid, SELF);
    }
    for intid in [0, 3, 11, 14] {
        same("the interrupt", wait(), Some(intid))?;
        gic::end(intid);
    }
    nothing()
}

fn while_active() -> Found {
    let _used = Used::new();
    gic::send(4, SELF);
    same("the interrupt", wait(), Some(4))?;
    gic::send(4, SELF);
    ensure(gic::is(Property::Pending, 4), "it is not pending again")?;
    ensure(gic::is(Property::Active, 4), "it is not active")?;
    nothing()?;
    gic::end(4);
    same("once more", wait(), Some(4))?;
    gic::end(4);
    nothing()
}

fn priority_decides() -> Found {
    let _used = Used::new();
    gic::set_private_priority(2, 0x80);
    gic::set_private_priority(3, 0x40);
    gic::set_priority_mask(0);
    gic::send(2, SELF);
    gic::send(3, SELF);
    gic::set_priority_mask(0xff);
    same("the first", wait(), Some(3))?;
    same("the running priority", gic::running_priority(), 0x40)?;
    // The other interrupt does not preempt it.
    nothing()?;
    gic::end(3);
    same("the second", wait(), Some(2))?;
    gic::end(2);
    same("the idle priority", gic::running_priority(), 0xff)?;
    nothing()
}

fn priority_preempts() -> Found {
    let _used = Used::new();
    gic::set_private_priority(2, 0x80);
    gic::set_private_priority(3, 0x40);
    gic::send(2, SELF);
    same("the first", wait(), Some(2))?;
    gic::send(3, SELF);
    same("what preempts it", wait(), Some(3))?;
    same("the running priority", gic::running_priority(), 0x40)?;
    gic::end(3);
    same("the running priority", gic::running_priority(), 0x80)?;
    gic::end(2);
    nothing()
}

fn priority_mask() -> Found {
    let _used = Used::new();
    gic::set_private_priority(6, 0x80);
    gic::set_priority_mask(0x80);
    gic::send(6, SELF);
    same("at the mask", gic::take(), None)?;
    gic::set_priority_mask(0x88);
    same("above the mask", wait(), Some(6))?;
    gic::end(6);
    nothing()
}

fn disabled() -> Found {
    let _used = Used::new();
    // A GICv2 may have SGIs enabled always (IHI 0048B.b 4.3.5).
    let intid = match machine().gic {
        Gic::V2(_) => SPI,
        Gic::V3(_) => 8,
    };
    if intid == SPI {
        gic::enable_spi(SPI);
    }
    gic::set(Property::Enabled, intid, false);
    gic::set(Property::Pending, intid, true);
    ensure(gic::is(Property::Pending, intid), "it is not pending")?;
    same("disabled", gic::take(), None)?;
    gic::set(Property::Enabled, intid, true);
    same("enabled", wait(), Some(intid))?;
    gic::end(intid);
    if intid == SPI {
        gic::disable_spi(SPI);
    }
    nothing()
}

fn pending_by_register() -> Found {
    let _used = Used::new();
    gic::set(Property::Pending, 10, true);
    ensure(gic::is(Property::Pending, 10), "it is not pending")?;
    same("set", wait(), Some(10))?;
    ensure(!gic::is(Property::Pending, 10), "it is still pending")?;
    gic::end(10);
    gic::set_priority_mask(0);
    gic::set(Property::Pending, 10, true);
    gic::set(Property::Pending, 10, false);
    gic::set_priority_mask(0xff);
    same("cleared", gic::take(), None)
}

fn active_by_register() -> Found {
    let _used = Used::new();
    gic::set(Property::Active, 12, true);
    ensure(gic::is(Property::Active, 12), "it is not active")?;
    gic::send(12, SELF);
    same("while it is active", gic::take(), None)?;
    gic::set(Property::Active, 12, false);
    same("deactivated", wait(), Some(12))?;
    gic::end(12);
    nothing()
}

fn active_while_handled() -> Found {
    let _used = Used::new();
    gic::send(13, SELF);
    ensure(
        !gic::is(Property::Active, 13),
        "it is active before it is taken",
    )?;
    same("the interrupt", wait(), Some(13))?;
    ensure(gic::is(Property::Active, 13), "it is not active")?;
    gic::end(13);
    ensure(!gic::is(Property::Active, 13), "it is active after its end")
}

fn split_end() -> Found {
    let _used = Used::new();
    gic::split_end(true);
    gic::send(1, SELF);
    same("the interrupt", wait(), Some(1))?;
    gic::end(1);
    same("the running priority", gic::running_priority(), 0xff)?;
    ensure(gic::is(Property::Active, 1), "the end deactivated it")?;
    gic::send(1, SELF);
    same("while it is active", gic::take(), None)?;
    gic::deactivate(1);
    same("deactivated", wait(), Some(1))?;
    gic::end(1);
    gic::deactivate(1);
    ensure(!gic::is(Property::Active, 1), "it is active after its end")
}

fn spi_by_register() -> Found {
    let _used = Used::new();
    gic::enable_spi(SPI);
    gic::set(Property::Pending, SPI, true);
    let found = wait();
    if found == Some(SPI) {
        gic::end(SPI);
    }
    gic::set(Property::Enabled, SPI, false);
    same("the interrupt", found, Some(SPI))?;
    nothing()
}

/// Returns all of them are more than the list registers of any implementation but the largest.
fn all_at_once() -> Found {
    let _used = Used::new();
    gic::set_priority_mask(0);
    for intid in 0..16 {
        gic::send(intid, SELF);
    }
    gic::set_priority_mask(0xff);
    for intid in 0..16 {
        same("the interrupt", wait(), Some(intid))?;
        gic::end(intid);
    }
    nothing()
}

/// The tree, the ID register and the existence of the system registers agree about the version.
fn version() -> Found {
    let field = id_aa64pfr0() >> 24 & 0xf;
    let faults: Vec<u64> = exceptions(Code::GicRegister, How::default())
        .iter()
        .map(|taken| taken.esr)
        .collect();
    match machine().gic {
        Gic::V2(_) => {
            same("ID_AA64PFR0_EL1.GIC", field, 0)?;
            same("ICC_CTLR_EL1", faults, [0x0200_0000].to_vec())
        }
        Gic::V3(_) => {
            ensure(matches!(field, 1 | 3), "ID_AA64PFR0_EL1.GIC is not 1 or 3")?;
            same("ICC_CTLR_EL1", faults, Vec::new())
        }
    }
}
