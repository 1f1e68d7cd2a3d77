// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Measures switches: to another vCPU of this VM, and to another VM that wakes up and waits again.
//!
//! The other VM runs this program, too. It sleeps until everything else is measured, and then wakes
//! up periodically.

use crate::meter::{self, Meter};
use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use guest_bare::machine::machine;
use guest_bare::{cpu, gic, timer};

/// The rounds of each measurement.
const ROUNDS: usize = 4;
/// When the other VM first wakes up, on its own clock, which is within a second of this VM's.
const FIRST: Duration = Duration::from_secs(60);
/// When this VM begins to measure.
const LOOK: Duration = Duration::from_secs(62);
/// The period of the wake-ups, longer than a time slice, so that the other VM need not wait for its
/// turn.
const PERIOD: Duration = Duration::from_millis(30);
/// The least gap in ticks that is a switch, and not an effect of QEMU or an interrupt of this VM.
const GAP: u64 = 20;
/// The most time that a vCPU may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// When the other vCPU was interrupted, in ticks; zero while it waits, [`QUIT`] when it is to end.
static INTERRUPTED: AtomicU64 = AtomicU64::new(0);
const QUIT: u64 = u64::MAX;

/// Runs as the other VM.
pub fn sleep() -> ! {
    timer::wake_up_for_ever(timer::ticks(FIRST), timer::ticks(PERIOD))
}

/// Runs on the other vCPU: stores when it was interrupted, and answers by an interrupt.
fn answer(asker: u64) {
    loop {
        let at = timer::wait_for_interrupt();
        gic::drain();
        if INTERRUPTED.load(Ordering::Acquire) == QUIT {
            return;
        }
        INTERRUPTED.store(at, Ordering::Release);
        gic::poke(asker as usize);
    }
}

/// Interrupts the other vCPU and waits for its answer.
fn ask(other: usize) -> Result<u64, String> {
    INTERRUPTED.store(0, Ordering::Release);
    let asked = meter::marked(|| meter::poke_and_wait(other));
    let deadline = timer::Deadline::after(PATIENCE);
    let answered = deadline.wait(|| INTERRUPTED.load(Ordering::Acquire) != 0);
    gic::drain();
    let at = INTERRUPTED.load(Ordering::Acquire);
    match at.checked_sub(asked) {
        Some(ticks) if answered => Ok(ticks),
        _ => Err(format!(
            "vCPU {other} was interrupted at {at}, asked at {asked}"
        )),
    }
}

/// Measures all of them.
pub fn measure(meter: &Meter, beside_sleeper: bool) {
    let this = cpu::index();
    if machine().cpus > 1 {
        let other = usize::from(this == 0);
        cpu::spawn(other, answer, this as u64);
        // Meanwhile the other vCPU reaches its WFI.
        timer::sleep(Duration::from_millis(1));
        meter.measure("sgi-other", ROUNDS, || {
            meter::waited(ask(other)?);
            // Meanwhile the other vCPU reaches its WFI again.
            timer::sleep(Duration::from_micros(100));
            Ok(())
        });
        INTERRUPTED.store(QUIT, Ordering::Release);
        gic::poke(other);
        if !cpu::join(other, PATIENCE) {
            meter::failed("sgi-other", "the other vCPU does not end");
        }
    }
    if beside_sleeper {
        let now = timer::duration(timer::now());
        if let Some(rest) = LOOK.checked_sub(now) {
            timer::sleep(rest);
        }
        let patience = timer::ticks(PERIOD * 4);
        meter.measure("vm-switch", 1, || {
            let ticks = meter::marked(|| timer::gap(GAP, timer::now() + patience))
                .ok_or("the other VM does not wake up")?;
            meter::waited(ticks);
            Ok(())
        });
    }
}
