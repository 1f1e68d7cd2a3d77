// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attack 76: the watchdog, for which Postern keeps a deadline of its own, as for the timers.

use crate::attack::{Attack, Observation, Verdict, holds, same};
use crate::kit::Kit;
use alloc::format;
use alloc::string::String;
use core::time::Duration;
use guest_bare::cpu::{self, parallel};
use guest_bare::machine::{Watchdog, machine};
use guest_bare::probe::{Width, load_device, store_device};
use guest_bare::{gic, timer};

/// The attacks, in numerical order.
pub const ATTACKS: &[Attack] = &[Attack {
    number: 76,
    title: "the watchdog gets extreme values in every width, and all vCPUs refresh and start it repeatedly",
    expected: "it signals when it is due and not before, no value resets the VM early, and the neighbour works",
    run: play,
}];

const WCS: u64 = 0x00;
const WOR: u64 = 0x08;
const WCV: u64 = 0x10;
const ENABLE: u64 = 1 << 0;
const WS0: u64 = 1 << 1;

/// The duration of the storm.
const STORM: Duration = Duration::from_secs(2);

fn read(address: u64, width: Width) -> Result<u64, String> {
    load_device(address, width).map_err(|fault| format!("{address:#x}, {width:?}: {fault:?}"))
}

fn write(address: u64, width: Width, value: u64) -> Result<(), String> {
    store_device(address, width, value)
        .map_err(|fault| format!("{address:#x}, {width:?}: {fault:?}"))
}

fn status(dog: Watchdog) -> Result<u64, String> {
    read(dog.control + WCS, Width::Word)
}

fn play(_: &Kit) -> Verdict {
    let Some(dog) = machine().watchdog else {
        return Ok(Observation::not_applicable("there is no watchdog"));
    };
    let played = extremes(dog).and_then(|()| {
        signal(dog)?;
        storm(dog)
    });
    write(dog.control + WCS, Width::Word, 0)?;
    gic::drain();
    gic::disable_spi(dog.intid);
    same("the status at the end", &status(dog)?, &0)?;
    played.map(Observation::new)
}

/// Writes all kinds of values to all kinds of registers while the watchdog is off, and values that
/// the counter does not reach while it is on.
fn extremes(dog: Watchdog) -> Result<(), String> {
    const ALL: [u64; 5] = [0, 1, 1 << 31, 0xffff_ffff, u64::MAX];
    for frame in [dog.refresh, dog.control] {
        for offset in (0..0x20).chain([0xfcc, 0xfd0, 0xff8]) {
            for width in [Width::Byte, Width::Half, Width::Word, Width::Double] {
                let bytes = match width {
                    Width::Byte => 1,
                    Width::Half => 2,
                    Width::Word => 4,
                    Width::Double | Width::Pair => 8,
                };
                if offset % bytes != 0 {
                    continue;
                }
                for value in ALL {
                    // It stays off, or is off again before its offset, which is never zero, is over.
                    let value = if offset == WCS {
                        value & !ENABLE
                    } else {
                        value
                    };
                    write(frame + offset, width, value)?;
                    read(frame + offset, width)?;
                }
            }
        }
    }
    same("the status while it is off", &status(dog)?, &0)?;
    write(dog.control + WOR, Width::Double, u64::MAX)?;
    let offset = read(dog.control + WOR, Width::Double)?;
    same("WOR", &offset, &(u64::MAX >> 16))?;
    write(dog.control + WCS, Width::Word, u64::MAX)?;
    for compare in [u64::MAX, u64::MAX - 1, 1 << 63, u64::MAX >> 1] {
        write(dog.control + WCV, Width::Double, compare)?;
        timer::sleep(Duration::from_millis(5));
        same("the status", &status(dog)?, &ENABLE)?;
        same("WCV", &read(dog.control + WCV, Width::Double)?, &compare)?;
    }
    write(dog.control + WCS, Width::Word, 0)
}

/// Lets the first signal come, and refreshes the watchdog before the second.
fn signal(dog: Watchdog) -> Result<(), String> {
    gic::enable_spi(dog.intid);
    // The second signal is a minute after the first.
    let minute = timer::ticks(Duration::from_secs(60));
    write(dog.control + WOR, Width::Double, minute)?;
    write(dog.control + WCS, Width::Word, ENABLE)?;
    let soon = timer::ticks(Duration::from_millis(50));
    let compare = read(dog.control + WCV, Width::Double)?;
    write(
        dog.control + WCV,
        Width::Double,
        compare.saturating_sub(minute) + soon,
    )?;
    same("the status before", &(status(dog)? & !WS0), &ENABLE)?;
    let mut taken = None;
    timer::Deadline::after(Duration::from_secs(20)).wait(|| {
        taken = gic::take();
        taken.is_some()
    });
    same("the interrupt", &taken, &Some(dog.intid))?;
    same("the status after", &status(dog)?, &(ENABLE | WS0))?;
    write(dog.refresh, Width::Word, 0)?;
    gic::end(dog.intid);
    same("the status of a fed one", &status(dog)?, &ENABLE)
}

/// One vCPU makes the signal due at once, and all refresh the watchdog, which is work for EL2
/// each time. Returns what they did.
fn storm(dog: Watchdog) -> Result<String, String> {
    let rounds = core::sync::atomic::AtomicU64::new(0);
    let minute = timer::ticks(Duration::from_secs(60));
    write(dog.control + WOR, Width::Double, minute)?;
    write(dog.control + WCS, Width::Word, ENABLE)?;
    parallel(cpu::count(), &|cpu| {
        let deadline = timer::Deadline::after(STORM);
        let mut round = 0;
        while !deadline.passed() {
            // The first signal is due at once; the refresh comes long before the second. One vCPU writes it: two of
            // them could do so without a refresh between, and the second signal would be due at once, too.
            if cpu == 0 {
                let _ = store_device(dog.control + WCV, Width::Double, round % 2);
            }
            let _ = store_device(dog.refresh, Width::Word, round);
            round += 1;
        }
        rounds.fetch_add(round, core::sync::atomic::Ordering::Relaxed);
    });
    let rounds = rounds.into_inner();
    holds(rounds > 0, "no round")?;
    Ok(format!("{rounds} signals and refreshes"))
}
