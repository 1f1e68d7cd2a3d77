// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attacks 56 to 60 and 63: all causes of the virtual interface's maintenance interrupt (IHI 0069H,
//! ICH_MISR_EL2; IHI 0048B.b 5.3.4, GICH_MISR), again and again, and constant interrupts from other vCPUs.
//!
//! The maintenance interrupt is level-sensitive. A hypervisor that does not remove its cause takes
//! the same interrupt without end, with all others masked.

use crate::attack::{Attack, Observation, Verdict, holds, same};
use crate::kit::Kit;
use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use guest_bare::cpu::{self, parallel};
use guest_bare::gic::{self, Gic, Group};
use guest_bare::machine::machine;
use guest_bare::{console, timer};

/// The attacks, in numerical order.
pub const ATTACKS: &[Attack] = &[
    Attack {
        number: 56,
        title: "an interrupt is ended while its line is high, repeatedly",
        expected: "it comes again each time, until the line is low",
        run: high_line,
    },
    Attack {
        number: 57,
        title: "twice as many interrupts as list registers are pending",
        expected: "each is taken once",
        run: many_pending,
    },
    Attack {
        number: 58,
        title: "groups are disabled and enabled while more interrupts than list registers are pending",
        expected: "each interrupt is taken once, when its group is enabled",
        run: groups,
    },
    Attack {
        number: 59,
        title: "more interrupts than list registers are active, and all are ended",
        expected: "each is inactive then, and is taken again when it is sent again",
        run: many_active,
    },
    Attack {
        number: 60,
        title: "all other vCPUs interrupt one without pause",
        expected: "that vCPU makes progress, and so does the neighbour",
        run: sgi_storm,
    },
    Attack {
        number: 63,
        title: "more interrupts than list registers are active, and are deactivated in another order",
        expected: "each is active until it is deactivated; mask, priority and mode keep their settings",
        run: split_ends,
    },
];

/// The rounds of each attack.
const ROUNDS: u32 = 200;
/// The PL011's interrupt: SPI 1.
const UART: u32 = 33;
/// The first of consecutive SGIs that this program does not use otherwise: twice as many as QEMU
/// has list registers.
const FIRST: u32 = 2;
const COUNT: u32 = 8;
const ALL: u32 = ((1 << COUNT) - 1) << FIRST;
/// Every other SGI.
const EVEN: u32 = 0x5555 & ALL;
/// The most time for an interrupt.
const PATIENCE: Duration = Duration::from_secs(5);

fn sgis() -> impl DoubleEndedIterator<Item = u32> {
    FIRST..FIRST + COUNT
}

fn is_v2() -> bool {
    matches!(machine().gic, Gic::V2(_))
}

fn this() -> u16 {
    1 << cpu::index()
}

/// Runs `work` with the SGIs enabled, and restores their settings.
fn with_sgis(work: impl FnOnce() -> Verdict) -> Verdict {
    gic::drain();
    gic::enable_private(ALL);
    let verdict = work();
    gic::restore_groups();
    for sgi in sgis() {
        gic::set_private_priority(sgi, 0xa0);
    }
    gic::drain();
    gic::disable_private(ALL);
    verdict
}

/// Acknowledges the next interrupt.
fn next(what: &str) -> Result<u32, String> {
    let mut taken = None;
    timer::Deadline::after(PATIENCE).wait(|| {
        taken = gic::take();
        taken.is_some()
    });
    taken.ok_or_else(|| format!("{what}: no interrupt comes"))
}

fn high_line(_: &Kit) -> Verdict {
    gic::drain();
    gic::enable_spi(UART);
    holds(console::set_transmit_interrupt(true), "a UART")?;
    let mut result = Ok(());
    for round in 0..ROUNDS {
        result = next(&format!("round {round}")).and_then(|intid| {
            gic::end(intid);
            same("the interrupt", &intid, &UART)
        });
        if result.is_err() {
            break;
        }
    }
    console::set_transmit_interrupt(false);
    gic::drain();
    let more = gic::take();
    gic::disable_spi(UART);
    result?;
    same("an interrupt whose line is low", &more, &None)?;
    Ok(Observation::denied(format!("{ROUNDS} times"), 0))
}

/// Acknowledges and ends all interrupts of a group that arrive; returns one bit for each.
fn collect(group: Group) -> Result<u32, String> {
    let mut seen = 0;
    loop {
        let Some(intid) = gic::take_as(group) else {
            return Ok(seen);
        };
        gic::end_as(group, intid);
        let bit = 1 << (intid % 32);
        holds(seen & bit == 0, &format!("interrupt {intid} comes twice"))?;
        seen |= bit;
    }
}

fn many_pending(_: &Kit) -> Verdict {
    with_sgis(|| {
        for _ in 0..ROUNDS {
            for sgi in sgis() {
                gic::send(sgi, this());
            }
            same("what comes", &collect(gic::own_group())?, &ALL)?;
        }
        Ok(Observation::denied(
            format!("{COUNT} SGIs, {ROUNDS} times"),
            0,
        ))
    })
}

/// Sends all SGIs, those of group 0 and those of group 1.
fn send_both() {
    for sgi in sgis() {
        let group = if EVEN & 1 << sgi != 0 {
            Group::Zero
        } else {
            Group::One
        };
        gic::send_as(group, sgi, this());
    }
}

fn groups(_: &Kit) -> Verdict {
    with_sgis(|| {
        gic::forward(Group::Zero, true);
        gic::forward(Group::One, true);
        gic::set_private_groups(!EVEN);
        let both = [(Group::Zero, EVEN), (Group::One, ALL & !EVEN)];
        for round in 0..ROUNDS {
            // Pending while both groups are disabled, or while both are enabled.
            for (group, _) in both {
                gic::enable_group(group, round % 2 == 1);
            }
            send_both();
            for (group, _) in both {
                gic::enable_group(group, false);
            }
            // First one, then the other.
            let mut left = ALL;
            for at in [round / 2 % 2, 1 - round / 2 % 2] {
                let (group, sgis) = both[at as usize];
                gic::enable_group(group, true);
                let came = collect(group)?;
                // QEMU's GICv2 also hands out those of the other group, although it is disabled.
                let early = if is_v2() { came & !sgis } else { 0 };
                same("what comes", &came, &(left & (sgis | early)))?;
                left &= !came;
                gic::enable_group(group, false);
                same("what comes of a disabled group", &collect(group)?, &0)?;
            }
        }
        Ok(Observation::denied(format!("{ROUNDS} times"), 0))
    })
}

fn many_active(_: &Kit) -> Verdict {
    with_sgis(|| {
        for (at, sgi) in (0..).zip(sgis()) {
            gic::set_private_priority(sgi, 0xe0 - 0x10 * at);
        }
        for _ in 0..ROUNDS {
            for sgi in sgis() {
                gic::send(sgi, this());
                same("what comes", &next("a more urgent SGI")?, &sgi)?;
            }
            same("what is active", &(gic::active_private() & ALL), &ALL)?;
            for sgi in sgis().rev() {
                gic::end(sgi);
            }
            same("what is active still", &(gic::active_private() & ALL), &0)?;
            same("what comes", &gic::take(), &None)?;
        }
        Ok(Observation::denied(
            format!("{COUNT} SGIs, {ROUNDS} times"),
            0,
        ))
    })
}

fn split_ends(_: &Kit) -> Verdict {
    let verdict = with_sgis(|| {
        for (at, sgi) in (0..).zip(sgis()) {
            gic::set_private_priority(sgi, 0xe0 - 0x10 * at);
        }
        for _ in 0..ROUNDS {
            gic::split_end(true);
            same("the mode", &gic::is_split_end(), &true)?;
            for (at, sgi) in (0..).zip(sgis()) {
                // The mask holds them back first.
                let priority = 0xe0 - 0x10 * at;
                gic::set_priority_mask(priority);
                same("the mask", &gic::priority_mask(), &priority)?;
                gic::send(sgi, this());
                same("what comes", &gic::take(), &None)?;
                gic::set_priority_mask(0xf8);
                same("what comes", &next("a more urgent SGI")?, &sgi)?;
                same("what runs", &gic::running_priority(), &priority)?;
            }
            for sgi in sgis().rev() {
                gic::end(sgi);
            }
            same("what runs", &gic::running_priority(), &0xff)?;
            let mut active = ALL;
            same("what is active", &(gic::active_private() & ALL), &active)?;
            for sgi in sgis() {
                gic::deactivate(sgi);
                active &= !(1 << sgi);
                same("what is active", &(gic::active_private() & ALL), &active)?;
            }
            gic::split_end(false);
            same("the mode", &gic::is_split_end(), &false)?;
        }
        Ok(Observation::denied(
            format!("{COUNT} SGIs, {ROUNDS} times"),
            0,
        ))
    });
    gic::split_end(false);
    gic::set_priority_mask(0xff);
    verdict
}

fn sgi_storm(kit: &Kit) -> Verdict {
    const STORM: Duration = Duration::from_secs(5);
    let stop = AtomicBool::new(false);
    let (sent, taken) = (AtomicU64::new(0), AtomicU64::new(0));
    let alive = spin::Mutex::new(Ok(()));
    parallel(cpu::count(), &|cpu| {
        if cpu == 0 {
            let deadline = timer::Deadline::after(STORM);
            while !deadline.passed() {
                if let Some(intid) = gic::take() {
                    gic::end(intid);
                    taken.fetch_add(1, Ordering::Relaxed);
                }
            }
            // The check runs in the middle of it.
            *alive.lock() = kit.alive();
            stop.store(true, Ordering::Relaxed);
        }
        while !stop.load(Ordering::Relaxed) {
            gic::poke(0);
            sent.fetch_add(1, Ordering::Relaxed);
        }
    });
    gic::drain();
    alive.into_inner()?;
    let (sent, taken) = (sent.into_inner(), taken.into_inner());
    holds(taken > 0, "not one came")?;
    Ok(Observation::new(format!("{sent} sent, {taken} taken")))
}
