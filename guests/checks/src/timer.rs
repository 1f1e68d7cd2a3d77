// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks EL1's two timers (Arm ARM DDI 0487, D11.2), each in the same way.

use crate::check::{Case, Found, SOON, ensure, same, wait};
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use guest_bare::gic::Property;
use guest_bare::timer::{self, Deadline};
use guest_bare::timers::{ENABLE, IMASK, ISTATUS, Timer};
use guest_bare::{cpu, gic};

use Timer::{Physical, Virtual};

/// The cases of this group.
pub const CASES: &[Case] = &[
    ("timer/counters-agree", counters_agree),
    ("timer/virtual-counts", || counts(Virtual)),
    ("timer/physical-counts", || counts(Physical)),
    ("timer/virtual-control", || control(Virtual)),
    ("timer/physical-control", || control(Physical)),
    ("timer/virtual-compare-value", || compare_value(Virtual)),
    ("timer/physical-compare-value", || compare_value(Physical)),
    ("timer/virtual-timer-value", || timer_value(Virtual)),
    ("timer/physical-timer-value", || timer_value(Physical)),
    ("timer/physical-end-of-time", end_of_time),
    ("timer/virtual-interrupt", || interrupt(Virtual)),
    ("timer/physical-interrupt", || interrupt(Physical)),
    ("timer/virtual-interrupt-by-timer-value", || {
        by_timer_value(Virtual)
    }),
    ("timer/physical-interrupt-by-timer-value", || {
        by_timer_value(Physical)
    }),
    ("timer/virtual-unmasked-late", || unmasked_late(Virtual)),
    ("timer/physical-unmasked-late", || unmasked_late(Physical)),
    ("timer/virtual-level-stays", || level_stays(Virtual)),
    ("timer/physical-level-stays", || level_stays(Physical)),
    ("timer/physical-level-lowers", level_lowers),
    ("timer/virtual-interrupts-a-loop", || {
        interrupts_a_loop(Virtual)
    }),
    ("timer/physical-interrupts-a-loop", || {
        interrupts_a_loop(Physical)
    }),
    ("timer/virtual-ends-wfi", || ends_wfi(Virtual)),
    ("timer/physical-ends-wfi", || ends_wfi(Physical)),
    ("timer/the-earlier-ends-wfi", the_earlier_ends_wfi),
    ("timer/both-at-once", both_at_once),
    ("timer/other-cpu-has-its-own", other_cpu),
];

/// The setting of a timer that is to fire after some work of the processor.
const SHORT: Duration = Duration::from_millis(5);
/// A time that no counter reaches here.
const NEVER: u64 = 1 << 62;

/// A timer. Dropping it stops the timer and takes its interrupt.
struct Used(Timer);

impl Used {
    fn new(timer: Timer) -> Self {
        timer.set_control(0);
        gic::set(Property::Enabled, timer.intid(), true);
        gic::drain();
        Self(timer)
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        self.0.set_control(0);
        self.0.set_compare(NEVER);
        gic::drain();
    }
}

fn soon() -> u64 {
    timer::ticks(SHORT)
}

fn counters_agree() -> Found {
    let first = Virtual.count();
    let second = Physical.count();
    let third = Virtual.count();
    ensure(
        first <= second && second <= third,
        "the physical counter is not between two reads of the virtual one",
    )
}

fn counts(which: Timer) -> Found {
    let first = which.count();
    ensure(
        Deadline::after(SOON).wait(|| which.count() > first),
        "the counter does not advance",
    )?;
    let mut last = first;
    for _ in 0..1000 {
        let now = which.count();
        ensure(now >= last, "the counter goes backwards")?;
        last = now;
    }
    Ok(())
}

fn control(which: Timer) -> Found {
    let _used = Used::new(which);
    which.set_compare(0);
    // ISTATUS is not defined while the timer is disabled.
    same("disabled", which.control() & !ISTATUS, 0)?;
    which.set_control(IMASK);
    same("disabled and masked", which.control() & !ISTATUS, IMASK)?;
    which.set_control(ENABLE | IMASK);
    same("due and masked", which.control(), ENABLE | IMASK | ISTATUS)?;
    which.set_control(u64::MAX);
    same("all ones", which.control(), ENABLE | IMASK | ISTATUS)?;
    which.set_compare(NEVER);
    same("not due", which.control(), ENABLE | IMASK)?;
    which.set_control(ENABLE);
    same("not due, not masked", which.control(), ENABLE)
}

fn compare_value(which: Timer) -> Found {
    let _used = Used::new(which);
    for value in [0, 1, 0xffff_ffff, 1 << 63, 0x0123_4567_89ab_cdef, u64::MAX] {
        which.set_compare(value);
        same("CVAL", which.compare(), value)?;
    }
    Ok(())
}

fn timer_value(which: Timer) -> Found {
    let _used = Used::new(which);
    let before = which.count();
    which.set_value(0x7fff_ffff);
    let after = which.count();
    let range = before + 0x7fff_ffff..=after + 0x7fff_ffff;
    ensure(
        range.contains(&which.compare()),
        "CVAL is not the counter and TVAL",
    )?;
    let first = which.value();
    ensure(
        Deadline::after(SOON).wait(|| which.value() < first),
        "TVAL does not count down",
    )?;
    // The register is signed and 32 bits wide, whatever is written.
    let before = which.count();
    which.set_value(0xdead_beef_ffff_fff0);
    let after = which.count();
    ensure(
        (before - 16..=after - 16).contains(&which.compare()),
        "TVAL is not signed",
    )?;
    same("TVAL's upper half", which.value() >> 32, 0)?;
    ensure(
        (which.value() as u32).cast_signed() < 0,
        "TVAL is not negative",
    )?;
    which.set_control(ENABLE | IMASK);
    same("CTL", which.control(), ENABLE | IMASK | ISTATUS)
}

/// Only for the physical timer: QEMU 7.2 adds the virtual timer's offset without an overflow check,
/// and fires without end.
fn end_of_time() -> Found {
    let _used = Used::new(Physical);
    // The values are unsigned, so they are far in the future.
    for value in [u64::MAX, u64::MAX - 1, 1 << 63, Physical.count() + NEVER] {
        Physical.set_compare(value);
        Physical.set_control(ENABLE);
        same("CTL", Physical.control(), ENABLE)?;
        same("the interrupt", gic::take(), None)?;
    }
    Ok(())
}

fn interrupt(which: Timer) -> Found {
    let _used = Used::new(which);
    let at = which.count() + soon();
    which.set_compare(at);
    which.set_control(ENABLE);
    let intid = wait();
    let now = which.count();
    same("the interrupt", intid, Some(which.intid()))?;
    ensure(now >= at, "it came too early")?;
    same("CTL", which.control(), ENABLE | ISTATUS)?;
    which.set_control(0);
    gic::end(which.intid());
    same("behind it", gic::take(), None)
}

fn by_timer_value(which: Timer) -> Found {
    let _used = Used::new(which);
    which.set_control(ENABLE | IMASK);
    let at = which.count() + soon();
    which.set_value(soon());
    which.set_control(ENABLE);
    let intid = wait();
    let now = which.count();
    which.set_control(0);
    gic::end(which.intid());
    same("the interrupt", intid, Some(which.intid()))?;
    ensure(now >= at, "it came too early")
}

fn unmasked_late(which: Timer) -> Found {
    let _used = Used::new(which);
    which.set_compare(0);
    which.set_control(ENABLE | IMASK);
    same("masked", gic::take(), None)?;
    which.set_control(ENABLE);
    same("unmasked", wait(), Some(which.intid()))?;
    which.set_control(0);
    gic::end(which.intid());
    Ok(())
}

fn level_stays(which: Timer) -> Found {
    let _used = Used::new(which);
    which.set_compare(0);
    which.set_control(ENABLE);
    for _ in 0..5 {
        same("the interrupt", wait(), Some(which.intid()))?;
        same("while it is active", gic::take(), None)?;
        gic::end(which.intid());
    }
    // The timer withdraws the interrupt while it is active: it does not come again.
    same("the interrupt", wait(), Some(which.intid()))?;
    which.set_compare(NEVER);
    gic::end(which.intid());
    same("withdrawn", gic::take(), None)
}

/// A pending interrupt that was not taken goes away when the timer moves. (Only for the physical
/// timer: a hypervisor may see the virtual one a moment late.)
fn level_lowers() -> Found {
    let _used = Used::new(Physical);
    for (what, lower) in [
        ("CVAL", (|| Physical.set_compare(NEVER)) as fn()),
        ("TVAL", || Physical.set_value(0x7fff_ffff)),
        ("IMASK", || Physical.set_control(ENABLE | IMASK)),
        ("ENABLE", || Physical.set_control(0)),
    ] {
        Physical.set_compare(0);
        Physical.set_control(ENABLE);
        ensure(
            Deadline::after(SOON).wait(|| gic::is(Property::Pending, Physical.intid())),
            "it is not pending",
        )?;
        lower();
        ensure(!gic::is(Property::Pending, Physical.intid()), what)?;
        same(what, gic::take(), None)?;
    }
    Ok(())
}

fn interrupts_a_loop(which: Timer) -> Found {
    let _used = Used::new(which);
    // The loop takes at most some milliseconds.
    let at = which.count() + soon() / 10;
    which.set_compare(at);
    which.set_control(ENABLE);
    let came = timer::interrupts_loop();
    ensure(
        came.is_some_and(|came| came >= at),
        "the loop was not interrupted",
    )?;
    same("the interrupt", gic::take(), Some(which.intid()))?;
    which.set_control(0);
    gic::end(which.intid());
    Ok(())
}

fn ends_wfi(which: Timer) -> Found {
    let _used = Used::new(which);
    for _ in 0..3 {
        let at = which.count() + soon();
        which.set_compare(at);
        which.set_control(ENABLE);
        let came = timer::wait_for_interrupt();
        ensure(came >= at, "it came too early")?;
        same("the interrupt", gic::take(), Some(which.intid()))?;
        which.set_control(0);
        gic::end(which.intid());
    }
    Ok(())
}

fn the_earlier_ends_wfi() -> Found {
    for (earlier, later) in [(Virtual, Physical), (Physical, Virtual)] {
        let (_one, _other) = (Used::new(earlier), Used::new(later));
        later.set_compare(NEVER);
        later.set_control(ENABLE);
        earlier.set_value(soon());
        earlier.set_control(ENABLE);
        timer::wait_for_interrupt();
        same("the interrupt", gic::take(), Some(earlier.intid()))?;
        earlier.set_control(0);
        gic::end(earlier.intid());
        same("behind it", gic::take(), None)?;
    }
    Ok(())
}

fn both_at_once() -> Found {
    let (_one, _other) = (Used::new(Virtual), Used::new(Physical));
    let at = Virtual.count() + soon();
    for timer in [Virtual, Physical] {
        timer.set_compare(at);
        timer.set_control(ENABLE);
    }
    Deadline::after(SOON).wait(|| Virtual.count() > at + soon());
    // At the same priority the lower INTID comes first.
    for timer in [Virtual, Physical] {
        same("the interrupt", wait(), Some(timer.intid()))?;
        timer.set_control(0);
        gic::end(timer.intid());
    }
    same("behind them", gic::take(), None)
}

static OTHER: AtomicU64 = AtomicU64::new(0);

fn other_cpu() -> Found {
    let _used = Used::new(Physical);
    Physical.set_compare(NEVER);
    Physical.set_control(ENABLE);
    OTHER.store(0, Ordering::Relaxed);
    cpu::spawn(
        1,
        |_| {
            let mut found = u64::from(Physical.control() & (ENABLE | IMASK) == 0);
            {
                let _used = Used::new(Physical);
                Physical.set_value(soon());
                Physical.set_control(ENABLE);
                if wait() == Some(Physical.intid()) {
                    found |= 2;
                    Physical.set_control(0);
                    gic::end(Physical.intid());
                }
            }
            OTHER.store(found, Ordering::Release);
        },
        0,
    );
    ensure(cpu::join(1, 4 * SOON), "the other CPU does not end")?;
    same("what the other found", OTHER.load(Ordering::Acquire), 3)?;
    same("CTL here", Physical.control(), ENABLE)?;
    same("here", gic::take(), None)
}
