// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks the real-time clock, a PL031 (ARM DDI 0224).

use crate::check::{Case, Found, ensure, same};
use alloc::string::String;
use core::time::Duration;
use guest_bare::gic;
use guest_bare::machine::machine;
use guest_bare::rtc::{self, Register};
use guest_bare::timer::Deadline;

/// The cases of this group.
pub const CASES: &[Case] = &[
    ("rtc/identification", identification),
    ("rtc/counts", counts),
    ("rtc/set", set),
    ("rtc/alarm", alarm),
    ("rtc/alarm-masked", alarm_masked),
];

const SOON: Duration = Duration::from_secs(20);

/// Returns the time in seconds since 1970, if there is a clock.
pub fn time() -> Option<u32> {
    machine().rtc.map(|_| rtc::read(Register::Data))
}

/// Turns the alarm off and masks it; returns the INTID.
fn quiet() -> Result<u32, String> {
    let (_, intid) = machine().rtc.ok_or("there is none")?;
    rtc::write(Register::Mask, 0);
    // The alarm would come in 136 years.
    rtc::write(Register::Match, rtc::read(Register::Data).wrapping_sub(1));
    rtc::write(Register::Clear, 1);
    gic::drain();
    Ok(intid)
}

fn identification() -> Found {
    quiet()?;
    same("the PrimeCell", rtc::identification() >> 32, 0xb105_f00d)?;
    same("the part", rtc::identification() & 0xf_ffff, 0x4_1031)
}

fn counts() -> Found {
    quiet()?;
    same("CR", rtc::read(Register::Control) & 1, 1)?;
    let first = rtc::read(Register::Data);
    ensure(
        Deadline::after(SOON).wait(|| rtc::read(Register::Data) != first),
        "it does not advance",
    )?;
    ensure(
        (1..5).contains(&(rtc::read(Register::Data) - first)),
        "it jumps",
    )
}

fn set() -> Found {
    quiet()?;
    let before = rtc::read(Register::Data);
    rtc::write(Register::Load, 1000);
    let after = rtc::read(Register::Data);
    let loaded = rtc::read(Register::Load);
    rtc::write(Register::Load, before);
    same("LR", loaded, 1000)?;
    ensure((1000..1010).contains(&after), "it was not set")
}

fn alarm() -> Found {
    let intid = quiet()?;
    gic::enable_spi(intid);
    let at = rtc::read(Register::Data) + 2;
    rtc::write(Register::Match, at);
    rtc::write(Register::Mask, 1);
    same("MR", rtc::read(Register::Match), at)?;
    same("before", gic::take(), None)?;
    let mut found = None;
    Deadline::after(SOON).wait(|| {
        found = gic::take();
        found.is_some()
    });
    same("the interrupt", found, Some(intid))?;
    let states = (rtc::read(Register::Raw), rtc::read(Register::Masked));
    let early = rtc::read(Register::Data) < at;
    rtc::write(Register::Clear, 1);
    let cleared = rtc::read(Register::Raw);
    gic::end(intid);
    let behind = gic::take();
    gic::set(gic::Property::Enabled, intid, false);
    rtc::write(Register::Mask, 0);
    same("RIS and MIS", states, (1, 1))?;
    ensure(!early, "it came too early")?;
    same("RIS after ICR", cleared, 0)?;
    same("behind it", behind, None)
}

fn alarm_masked() -> Found {
    let intid = quiet()?;
    gic::enable_spi(intid);
    rtc::write(Register::Match, rtc::read(Register::Data) + 1);
    let raised = Deadline::after(SOON).wait(|| rtc::read(Register::Raw) == 1);
    let masked = rtc::read(Register::Masked);
    let interrupt = gic::take();
    gic::set(gic::Property::Enabled, intid, false);
    quiet()?;
    ensure(raised, "RIS stays zero")?;
    same("MIS", masked, 0)?;
    same("the interrupt", interrupt, None)
}
