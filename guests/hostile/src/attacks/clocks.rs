// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attacks 64, 65 and 68: the physical timer and the clock, for which Postern keeps deadlines of
//! its own. A deadline that overflows fires at once, or never; one that is set repeatedly is work
//! for EL2 each time.

use crate::attack::{Attack, Observation, Verdict, holds, same};
use crate::kit::Kit;
use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use guest_bare::cpu::{self, parallel};
use guest_bare::machine::machine;
use guest_bare::rtc::{self, Register};
use guest_bare::timers::{ENABLE, IMASK, ISTATUS, Timer};
use guest_bare::{gic, timer};

/// The attacks, in numerical order.
pub const ATTACKS: &[Attack] = &[
    Attack {
        number: 64,
        title: "the physical timer is set to the extremes of 64 bits",
        expected: "its status follows the architecture's formula, and a time that is never reached delays nothing",
        run: far_times,
    },
    Attack {
        number: 65,
        title: "all vCPUs set the physical timer repeatedly, to times in the past or in the near future",
        expected: "its interrupt is taken, they make progress, and so does the neighbour",
        run: timer_storm,
    },
    Attack {
        number: 68,
        title: "all vCPUs set the clock and its alarm repeatedly",
        expected: "the alarm is taken, they make progress, and so does the neighbour",
        run: alarm_storm,
    },
];

const PHYSICAL: Timer = Timer::Physical;
const BIT: u32 = 1 << PHYSICAL.intid();
/// The duration of each storm.
const STORM: Duration = Duration::from_secs(3);
/// The time that a vCPU sleeps while the timer is far in the future.
const NAP: Duration = Duration::from_millis(20);

/// Runs `work` with the physical timer's interrupt enabled on this vCPU, and then stops the timer.
fn with_timer<T>(work: impl FnOnce() -> T) -> T {
    gic::enable_private(BIT);
    let result = work();
    PHYSICAL.set_control(0);
    gic::drain();
    gic::disable_private(BIT);
    result
}

/// Returns CNTP_CTL_EL0.ISTATUS as the architecture defines it: the counter has reached the time,
/// in an unsigned comparison.
fn is_due(at: u64) -> bool {
    PHYSICAL.count() >= at
}

fn far_times(_: &Kit) -> Verdict {
    with_timer(|| {
        let now = PHYSICAL.count();
        let far = now + timer::ticks(Duration::from_secs(3600));
        let sign = 1 << 63;
        let times = [
            (u64::MAX, false),
            (u64::MAX - 1, false),
            (u64::MAX - now, false),
            (u64::MAX - now + 1, false),
            (now.wrapping_neg(), false),
            (sign, false),
            (sign - 1, false),
            (sign + now, false),
            (far, false),
            (0, true),
            (1, true),
            (now, true),
        ];
        for (at, due) in times {
            for control in [ENABLE, ENABLE | IMASK] {
                PHYSICAL.set_control(0);
                PHYSICAL.set_compare(at);
                PHYSICAL.set_control(control);
                let text = format!("{at:#x}, control {control}");
                same(&text, &PHYSICAL.compare(), &at)?;
                same(&text, &is_due(at), &due)?;
                let status = PHYSICAL.control() & ISTATUS != 0;
                same(&text, &status, &due)?;
                comes(&text, due && control == ENABLE)?;
            }
        }
        // The value is signed, 32 bits wide, and added to the counter.
        for value in [i32::MIN, i32::MIN + 1, -1, i32::MAX] {
            PHYSICAL.set_control(ENABLE | IMASK);
            let before = PHYSICAL.count();
            PHYSICAL.set_value(u64::from(value.cast_unsigned()));
            let at = PHYSICAL.compare();
            let least = before.wrapping_add_signed(i64::from(value));
            holds(
                at.wrapping_sub(least) < 20 * timer::frequency(),
                &format!("TVAL {value:#x}: CVAL {at:#x}"),
            )?;
            let status = PHYSICAL.control() & ISTATUS != 0;
            same(&format!("TVAL {value:#x}"), &status, &is_due(at))?;
        }
        Ok(Observation::denied(format!("{} times", times.len()), 0))
    })
}

/// Checks whether the timer's interrupt comes, and, when it should not, that the vCPU wakes up by
/// its other timer.
fn comes(what: &str, wanted: bool) -> Result<(), String> {
    if !wanted {
        let before = timer::now();
        timer::sleep(NAP);
        let slept = timer::duration(timer::now() - before);
        return holds(
            slept < Duration::from_secs(20),
            &format!("{what}: a nap took {slept:?}"),
        );
    }
    let mut taken = None;
    timer::Deadline::after(Duration::from_secs(5)).wait(|| {
        taken = gic::take();
        taken.is_some()
    });
    PHYSICAL.set_control(0);
    if let Some(intid) = taken {
        gic::end(intid);
    }
    same(what, &taken, &Some(PHYSICAL.intid()))
}

/// Runs `again` on all vCPUs for a while, and in the middle checks that OP-TEE serves the first
/// one. Returns how often all of them ran it.
fn storm(kit: &Kit, again: &(dyn Fn(u64) + Sync)) -> Result<u64, String> {
    let stop = AtomicBool::new(false);
    let rounds = AtomicU64::new(0);
    let alive = spin::Mutex::new(Ok(()));
    parallel(cpu::count(), &|cpu| {
        with_timer(|| {
            let deadline = timer::Deadline::after(STORM);
            let mut round = 0;
            while !(stop.load(Ordering::Relaxed) || cpu == 0 && deadline.passed()) {
                again(round);
                round += 1;
            }
            if cpu == 0 {
                *alive.lock() = kit.alive();
                stop.store(true, Ordering::Relaxed);
            }
            rounds.fetch_add(round, Ordering::Relaxed);
        });
    });
    gic::drain();
    alive.into_inner()?;
    Ok(rounds.into_inner())
}

fn timer_storm(kit: &Kit) -> Verdict {
    let taken = AtomicU64::new(0);
    let rounds = storm(kit, &|round| {
        // In the past, now, and so soon that it fires while EL2 sets its own.
        match round % 4 {
            0 => PHYSICAL.set_compare(0),
            1 => PHYSICAL.set_value(0),
            2 => PHYSICAL.set_value(round / 4 % 4096),
            _ => PHYSICAL.set_compare(PHYSICAL.count() + 1),
        }
        PHYSICAL.set_control(ENABLE);
        if round % 3 == 0 {
            PHYSICAL.set_control(ENABLE | IMASK);
        }
        if let Some(intid) = gic::take() {
            gic::end(intid);
            taken.fetch_add(1, Ordering::Relaxed);
        }
    })?;
    let taken = taken.into_inner();
    holds(taken > 0, "not one came")?;
    Ok(Observation::new(format!(
        "set {rounds} times, {taken} came"
    )))
}

fn alarm_storm(kit: &Kit) -> Verdict {
    let Some((_, intid)) = machine().rtc else {
        return Err("there is no clock".into());
    };
    let time = rtc::read(Register::Data);
    let raised = AtomicU64::new(0);
    gic::enable_spi(intid);
    rtc::write(Register::Mask, 1);
    let rounds = storm(kit, &|round| {
        match round % 4 {
            // At the end of 32 bits, where there is no next second.
            0 => rtc::write(Register::Load, u32::MAX),
            1 => rtc::write(Register::Load, round as u32),
            _ => {}
        }
        rtc::write(Register::Match, rtc::read(Register::Data));
        rtc::write(Register::Match, rtc::read(Register::Data).wrapping_add(1));
        if rtc::read(Register::Masked) != 0 {
            raised.fetch_add(1, Ordering::Relaxed);
            if let Some(intid) = gic::take() {
                gic::end(intid);
            }
            rtc::write(Register::Clear, 1);
        }
    });
    rtc::write(Register::Mask, 0);
    rtc::write(Register::Clear, 1);
    rtc::write(Register::Load, time);
    gic::drain();
    gic::disable_spi(intid);
    let (rounds, raised) = (rounds?, raised.into_inner());
    holds(raised > 0, "not one alarm came")?;
    Ok(Observation::new(format!(
        "set {rounds} times, {raised} alarms"
    )))
}
