// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attacks 77 to 82: the rings of a virtio-net device and of a console, whose links lead to the neighbour.

use super::gic::Random;
use crate::attack::{Attack, Observation, Verdict, holds, same};
use crate::kit::{GONE, Kit, relinquish};
use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use guest_bare::cpu::{self, parallel};
use guest_bare::machine::machine;
use guest_bare::probe;
use guest_bare::timer;
use guest_bare::virtio::{Net, RECEIVE, SIZE, STATUS, TRANSMIT};

/// The attacks, in numerical order.
pub const ATTACKS: &[Attack] = &[
    Attack {
        number: 77,
        title: "chains that loop, descriptors that do not exist, indirect descriptors, indices that jump",
        expected: "the device needs a reset each time, and works after it",
        run: broken_rings,
    },
    Attack {
        number: 78,
        title: "buffers outside of RAM, at devices, of 4 GiB, around the end of the address space",
        expected: "each is used up without an effect",
        run: outside,
    },
    Attack {
        number: 79,
        title: "the pages of a ring are given back while the device has them",
        expected: "the device needs a reset, and works after it with other pages",
        run: given_back,
    },
    Attack {
        number: 80,
        title: "rings and registers change at random while the device reads them, from all vCPUs",
        expected: "the device works after a reset",
        run: changing,
    },
    Attack {
        number: 81,
        title: "the longest chains, and frames without pause",
        expected: "this vCPU and the neighbour make progress",
        run: flood,
    },
    Attack {
        number: 82,
        title: "a console's chunks outside of RAM, of 4 GiB, and without pause, to a neighbour that reads none",
        expected: "each is used when the notification returns",
        run: console,
    },
];

const LIVE: u32 = 15;
const NEEDS_RESET: u32 = 64;
const NEXT: u16 = 1;
const INDIRECT: u16 = 4;
/// The bytes of a frame.
const FRAME: u32 = 1514;

/// Plays an attack where there is a link.
fn with_net(kit: &Kit, work: impl FnOnce(&mut Net) -> Result<Observation, String>) -> Verdict {
    with_device(kit, Net::start(), work)
}

fn with_device(
    kit: &Kit,
    device: Option<Net>,
    work: impl FnOnce(&mut Net) -> Result<Observation, String>,
) -> Verdict {
    let Some(mut net) = device else {
        return Ok(Observation::not_applicable("the VM has no such link"));
    };
    let played = work(&mut net);
    net.reset();
    let again = same("the status after a reset", &net.read(STATUS), &LIVE);
    works(&mut net)?;
    kit.alive()?;
    again?;
    played
}

/// Sends a frame, which the device has to use.
fn works(net: &mut Net) -> Result<(), String> {
    let before = net.used(TRANSMIT);
    // To nobody.
    net.send(2, FRAME);
    net.notify(TRANSMIT);
    // The neighbour's buffers may be used up for a while.
    let deadline = timer::Deadline::after(Duration::from_secs(5));
    let used = deadline.wait(|| net.used(TRANSMIT) != before);
    holds(used, "the device uses no frame")
}

fn broken_rings(kit: &Kit) -> Verdict {
    type Damage = (&'static str, fn(&mut Net));
    const DAMAGES: [Damage; 7] = [
        ("a loop of one", |net| {
            net.describe(TRANSMIT, 0, net.rings(RECEIVE), 1, NEXT, 0);
            net.offer(TRANSMIT, 0);
        }),
        ("a loop of all", |net| {
            for slot in 0..SIZE {
                let at = net.rings(RECEIVE);
                net.describe(TRANSMIT, slot, at, 0, NEXT, (slot + 1) % SIZE);
            }
            net.offer(TRANSMIT, 5);
        }),
        ("a next descriptor that does not exist", |net| {
            net.describe(TRANSMIT, 0, net.rings(RECEIVE), 1, NEXT, SIZE);
            net.offer(TRANSMIT, 0);
        }),
        ("a head that does not exist", |net| {
            net.offer(TRANSMIT, u16::MAX);
        }),
        ("an indirect descriptor", |net| {
            net.describe(TRANSMIT, 0, net.rings(RECEIVE), 64, INDIRECT, 0);
            net.offer(TRANSMIT, 0);
        }),
        ("an index too far", |net| {
            // All that were made available were taken.
            net.set_available(TRANSMIT, net.available(TRANSMIT).wrapping_add(SIZE + 1));
        }),
        ("an index backwards", |net| {
            net.set_available(TRANSMIT, net.available(TRANSMIT).wrapping_sub(1));
        }),
    ];
    with_net(kit, |net| {
        for (name, damage) in DAMAGES {
            damage(net);
            net.notify(TRANSMIT);
            same(name, &(net.read(STATUS) & NEEDS_RESET), &NEEDS_RESET)?;
            // Whatever it is told until then.
            net.notify(RECEIVE);
            net.notify(TRANSMIT);
            net.reset();
            works(net)?;
        }
        Ok(Observation::denied(format!("{} ways", DAMAGES.len()), 0))
    })
}

/// Returns addresses that are not RAM, or at whose end it is not.
fn places_outside() -> [u64; 10] {
    let ram = &machine().ram;
    [
        0,
        machine().distributor,
        0x0a00_0000,
        0x4020_0000,
        ram.start - 1,
        ram.end - 1,
        ram.end,
        1 << 40,
        u64::MAX,
        u64::MAX - 100,
    ]
}

fn outside(kit: &Kit) -> Verdict {
    with_net(kit, |net| {
        let mut count = 0;
        for at in places_outside() {
            for bytes in [FRAME, u32::MAX] {
                net.describe(TRANSMIT, 1, at, bytes, 0, 0);
                net.offer(TRANSMIT, 1);
                let before = net.used(TRANSMIT);
                net.notify(TRANSMIT);
                let deadline = timer::Deadline::after(Duration::from_secs(5));
                holds(
                    deadline.wait(|| net.used(TRANSMIT) != before),
                    &format!("{at:#x} is not used up"),
                )?;
                same("the status", &net.read(STATUS), &LIVE)?;
                count += 1;
            }
        }
        Ok(Observation::denied(format!("{count} buffers"), 0))
    })
}

fn given_back(kit: &Kit) -> Verdict {
    with_net(kit, |net| {
        for queue in [TRANSMIT, RECEIVE] {
            let page = net.rings(queue);
            same("given back", &relinquish(page, 1), &GONE)?;
            net.notify(TRANSMIT);
            let is_broken = net.read(STATUS) & NEEDS_RESET != 0;
            // The receive queue is looked at when there is a frame.
            holds(is_broken || queue == RECEIVE, "the device is well")?;
            net.replace_rings();
            net.reset();
            works(net)?;
        }
        Ok(Observation::denied("both rings".into(), 0))
    })
}

fn changing(kit: &Kit) -> Verdict {
    const STORM: Duration = Duration::from_secs(4);
    with_net(kit, |net| {
        let stop = AtomicBool::new(false);
        let broken = AtomicU64::new(0);
        let rings = [net.rings(RECEIVE), net.rings(TRANSMIT)];
        let net = spin::Mutex::new(net);
        parallel(cpu::count(), &|cpu| {
            let mut random = Random::new(cpu as u64);
            if cpu != 0 {
                while !stop.load(Ordering::Relaxed) {
                    let page = rings[random.below(2) as usize];
                    let value = match random.below(3) {
                        0 => random.next() | 1 << 60,
                        // The rings themselves, since a frame overwrites what is there.
                        1 => rings[random.below(2) as usize] + random.below(4096),
                        _ => random.below(SIZE.into()) << 48 | random.below(8) << 32 | 64,
                    };
                    // Descriptors and both rings.
                    let _ = probe::store(page + 8 * random.below(0x180), value);
                }
                return;
            }
            let Some(mut net) = net.try_lock() else {
                return;
            };
            let deadline = timer::Deadline::after(STORM);
            while !deadline.passed() {
                for _ in 0..16 {
                    net.notify(random.below(3) as usize);
                }
                if net.read(STATUS) & NEEDS_RESET != 0 {
                    broken.fetch_add(1, Ordering::Relaxed);
                    net.reset();
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        let broken = broken.into_inner();
        holds(broken > 0, "the device never broke")?;
        Ok(Observation::new(format!("{broken} resets")))
    })
}

fn flood(kit: &Kit) -> Verdict {
    const STORM: Duration = Duration::from_secs(4);
    with_net(kit, |net| {
        let deadline = timer::Deadline::after(STORM);
        let mut rounds = 0;
        while !deadline.passed() {
            // A chain of all descriptors, a frame's worth together.
            for slot in 0..SIZE {
                let flags = if slot + 1 < SIZE { NEXT } else { 0 };
                let at = net.rings(TRANSMIT);
                net.describe(TRANSMIT, slot, at, 23, flags, (slot + 1) % SIZE);
            }
            for _ in 0..SIZE / 2 {
                net.offer(TRANSMIT, 0);
            }
            net.notify(TRANSMIT);
            net.reclaim();
            net.reset();
            for _ in 0..SIZE {
                net.send(2, FRAME);
            }
            net.notify(TRANSMIT);
            net.reset();
            rounds += 1;
        }
        holds(rounds > 0, "not one round")?;
        Ok(Observation::new(format!("{rounds} rounds")))
    })
}

/// Linux waits for a console's chunk with interrupts off, so nothing that the other end does may delay it.
fn console(kit: &Kit) -> Verdict {
    const STORM: Duration = Duration::from_secs(4);
    const BYTES: u32 = 2000;
    with_device(kit, Net::start_console(), |net| {
        for at in places_outside() {
            for bytes in [1, 4096, u32::MAX] {
                net.describe(TRANSMIT, 1, at, bytes, 0, 0);
                net.offer(TRANSMIT, 1);
                net.notify(TRANSMIT);
                same(&format!("used of {at:#x}"), &net.used(TRANSMIT), &1)?;
                net.reclaim();
                same("the status", &net.read(STATUS), &LIVE)?;
            }
        }
        let deadline = timer::Deadline::after(STORM);
        let mut rounds: u64 = 0;
        while !deadline.passed() {
            for _ in 0..SIZE {
                net.send(b'x', BYTES);
            }
            net.notify(TRANSMIT);
            same("used chunks", &net.used(TRANSMIT), &SIZE)?;
            net.reclaim();
            rounds += 1;
        }
        let bytes = rounds * u64::from(SIZE) * u64::from(BYTES);
        Ok(Observation::new(format!("{bytes} bytes")))
    })
}
