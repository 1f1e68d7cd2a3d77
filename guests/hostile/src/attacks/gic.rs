// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attacks 69 to 71: the registers of the interrupt controller, of either version.

use crate::attack::{Attack, Observation, Verdict, holds, same};
use crate::kit::Kit;
use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use guest_bare::cpu::{self, parallel};
use guest_bare::gic::{self, Gic, Property, v2};
use guest_bare::machine::machine;
use guest_bare::probe::{Width, load_device, store_device};
use guest_bare::timer;

/// The attacks, in numerical order.
pub const ATTACKS: &[Attack] = &[
    Attack {
        number: 69,
        title: "all vCPUs read and write all of the interrupt controller's registers, in all widths",
        expected: "an effect on this VM's interrupts, or an abort; afterwards interrupts work",
        run: all_registers,
    },
    Attack {
        number: 70,
        title: "interrupts are ended and deactivated that are not active, or do not exist, or in the wrong order",
        expected: "no effect but on this vCPU's priorities; afterwards interrupts work",
        run: wrong_ends,
    },
    Attack {
        number: 71,
        title: "an SPI moves between vCPUs while it is pending or active, also to a vCPU that is off or does not exist",
        expected: "it is taken where it is sent to, and nowhere twice at once",
        run: wandering_spi,
    },
];

/// An SPI without a device.
const SPI: u32 = 42;
/// The most time for an interrupt.
const PATIENCE: Duration = Duration::from_secs(5);

/// A generator of numbers that look random (xorshift).
pub struct Random(u64);

impl Random {
    /// Returns another sequence for each seed.
    pub const fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Returns the next number.
    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns the next number below `end`.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Resets the interrupt controller on all vCPUs, and checks that they can interrupt each other.
///
/// # Errors
/// Fails when an SGI does not come, or another interrupt does.
pub fn restore() -> Result<(), String> {
    let wrong = spin::Mutex::new(Ok(()));
    gic::reset();
    let count = cpu::count();
    let barrier = cpu::Barrier::new(count);
    parallel(count, &|cpu| {
        gic::reset_private();
        barrier.wait();
        gic::poke((cpu + 1) % count);
        let mut taken = None;
        timer::Deadline::after(PATIENCE).wait(|| {
            taken = gic::take();
            taken.is_some()
        });
        if let Some(intid) = taken {
            gic::end(intid);
        }
        let result = same(
            &format!("an interrupt of vCPU {cpu}"),
            &taken,
            &Some(gic::POKE),
        )
        .and_then(|()| same("behind it", &gic::take(), &None));
        if result.is_err() {
            *wrong.lock() = result;
        }
    });
    gic::drain();
    wrong.into_inner()
}

/// Returns the registers' pages that Postern emulates: the first address and the bytes.
fn windows() -> [(u64, u64); 2] {
    let distributor = machine().distributor;
    match machine().gic {
        Gic::V2(interface) => [
            (distributor, v2::DISTRIBUTOR_BYTES),
            (interface.0 + v2::GICC_DIR, 0x1000),
        ],
        Gic::V3(redistributors) => [
            (distributor, 0x1_0000),
            (redistributors.0, 0x2_0000 * cpu::count() as u64),
        ],
    }
}

fn all_registers(kit: &Kit) -> Verdict {
    let refused = AtomicU64::new(0);
    let done = AtomicU64::new(0);
    let count = cpu::count();
    parallel(count, &|cpu| {
        let mut random = Random::new(cpu as u64);
        for (start, bytes) in windows() {
            // Registers that do not exist are as many as one likes.
            let step = if bytes > 0x2_0000 { 0x40 } else { 4 };
            for offset in (0..bytes).step_by(step) {
                for width in Width::ALL {
                    // Not aligned now and then.
                    let unaligned = if random.below(4) == 0 {
                        random.below(4)
                    } else {
                        0
                    };
                    let address = start + (offset + unaligned).min(bytes - 1);
                    let value = match random.below(4) {
                        0 => 0,
                        1 => u64::MAX,
                        _ => random.next(),
                    };
                    let results = [
                        load_device(address, width).map(drop),
                        store_device(address, width, value),
                    ];
                    let aborts = results.iter().filter(|result| result.is_err()).count();
                    refused.fetch_add(aborts as u64, Ordering::Relaxed);
                    done.fetch_add(2, Ordering::Relaxed);
                }
            }
        }
    });
    restore()?;
    kit.alive()?;
    let (done, refused) = (done.into_inner(), refused.into_inner());
    holds(refused < done, "not one was accepted")?;
    Ok(Observation::new(format!(
        "{done} accesses on {count} vCPUs, {refused} aborts"
    )))
}

/// Writes what an interrupt would be ended and deactivated by.
fn end_word(word: u32) {
    match machine().gic {
        Gic::V2(interface) => interface.write(v2::GICC_EOIR, word),
        Gic::V3(_) => gic::end(word),
    }
}

fn deactivate_word(word: u32) {
    match machine().gic {
        Gic::V2(interface) => interface.write(v2::GICC_DIR, word),
        Gic::V3(_) => gic::deactivate(word),
    }
}

fn wrong_ends(kit: &Kit) -> Verdict {
    const ROUNDS: u64 = 500;
    let taken = AtomicU64::new(0);
    parallel(cpu::count(), &|cpu| {
        let mut random = Random::new(cpu as u64);
        gic::enable_private(0xffff);
        for round in 0..ROUNDS {
            gic::split_end(random.below(2) == 0);
            for sgi in 0..16 {
                gic::send(sgi, 1 << cpu);
            }
            if gic::take().is_some() {
                taken.fetch_add(1, Ordering::Relaxed);
            }
            for _ in 0..8 {
                // An interrupt of its own, one that does not exist, a special one, and with a GICv2 another source.
                let word = match random.below(4) {
                    0 => random.below(32),
                    1 => random.below(1024),
                    2 => 1016 + random.below(8),
                    _ => random.below(16) | random.below(8) << 10,
                } as u32;
                if random.below(2) == 0 {
                    end_word(word);
                } else {
                    deactivate_word(word);
                }
            }
            if round % 64 == 63 {
                gic::reset_private();
                gic::enable_private(0xffff);
            }
        }
        gic::reset_private();
    });
    restore()?;
    kit.alive()?;
    let taken = taken.into_inner();
    holds(taken > 0, "not one came")?;
    Ok(Observation::denied(
        format!("{taken} taken, each ended wrongly"),
        0,
    ))
}

/// Has the SPI delivered somewhere, perhaps to no vCPU, or to more than one.
fn route_anywhere(random: &mut Random) {
    match machine().gic {
        Gic::V2(_) => v2::set_targets(SPI, random.next() as u8),
        Gic::V3(_) => gic::route(SPI, random.below(16) as usize),
    }
}

fn wandering_spi(kit: &Kit) -> Verdict {
    const STORM: Duration = Duration::from_secs(2);
    gic::enable_spi(SPI);
    let stop = AtomicBool::new(false);
    let (taken, inside, twice) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    // The last vCPU stays off.
    let count = (cpu::count() - 1).max(1);
    parallel(count, &|cpu| {
        let deadline = timer::Deadline::after(STORM);
        let mut random = Random::new(cpu as u64);
        while !stop.load(Ordering::Relaxed) {
            if cpu == 0 {
                route_anywhere(&mut random);
                gic::set(Property::Pending, SPI, random.below(4) != 0);
                if deadline.passed() {
                    stop.store(true, Ordering::Relaxed);
                }
            }
            match gic::take() {
                Some(SPI) => {
                    if inside.fetch_add(1, Ordering::AcqRel) != 0 {
                        twice.fetch_add(1, Ordering::Relaxed);
                    }
                    taken.fetch_add(1, Ordering::Relaxed);
                    inside.fetch_sub(1, Ordering::AcqRel);
                    gic::end(SPI);
                }
                Some(other) => gic::end(other),
                None => {}
            }
        }
    });
    // With one target, it goes there.
    gic::set(Property::Pending, SPI, false);
    gic::drain();
    gic::route(SPI, 0);
    gic::set(Property::Pending, SPI, true);
    let mut last = None;
    timer::Deadline::after(PATIENCE).wait(|| {
        last = gic::take();
        last.is_some()
    });
    gic::end(SPI);
    gic::disable_spi(SPI);
    restore()?;
    kit.alive()?;
    same("back at the first vCPU", &last, &Some(SPI))?;
    let taken = taken.into_inner();
    holds(taken > 0, "not one came")?;
    same("active on two vCPUs at once", &twice.into_inner(), &0)?;
    Ok(Observation::denied(format!("{taken} taken"), 0))
}
