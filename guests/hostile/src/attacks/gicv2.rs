// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attacks 72 to 75: what only a GICv2 has (IHI 0048B.b): SGIs with sources, a CPU interface in
//! memory, which the hardware has a second and a third page for, and its modes.

use super::gic::{Random, restore};
use crate::attack::{Attack, Observation, Verdict, holds, same};
use crate::kit::Kit;
use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use guest_bare::cpu::{self, parallel};
use guest_bare::gic::v2::{self, CpuInterface};
use guest_bare::gic::{self, Gic};
use guest_bare::machine::machine;
use guest_bare::probe::{Width, load_device, store_device};
use guest_bare::timer;

/// The attacks, in numerical order.
pub const ATTACKS: &[Attack] = &[
    Attack {
        number: 72,
        title: "all vCPUs send all SGIs to all, and each is pending from all sources (GICv2)",
        expected: "each is taken once from each source, lost by none",
        run: all_sources,
    },
    Attack {
        number: 73,
        title: "all vCPUs send SGIs to all without pause, by all target lists and filters (GICv2)",
        expected: "all vCPUs make progress, and so does the neighbour",
        run: storm,
    },
    Attack {
        number: 74,
        title: "all offsets of the CPU interface's page in all widths, and the pages around it: the physical CPU and hypervisor interfaces (GICv2)",
        expected: "an effect on this vCPU's interface; an abort everywhere else",
        run: pages,
    },
    Attack {
        number: 75,
        title: "groups, AckCtl, FIQEn, CBPR, EOImode, mask and binary points change while SGIs come (GICv2)",
        expected: "this vCPU makes progress; with the old settings each SGI comes again",
        run: modes,
    },
];

/// The most time for an interrupt.
const PATIENCE: Duration = Duration::from_secs(5);
/// All SGIs, for [`gic::enable_private`]. A GICv2 may have them enabled always.
const SGIS: u32 = 0xffff;
const NO_V2: &str = "the machine has a GICv3";

/// Plays an attack where there is a GICv2.
fn with_v2(work: impl FnOnce(CpuInterface) -> Verdict) -> Verdict {
    match machine().gic {
        Gic::V2(interface) => work(interface),
        Gic::V3(_) => Ok(Observation::not_applicable(NO_V2)),
    }
}

/// Acknowledges and ends SGIs of this vCPU until all 16 have come from all of `sources`, a bit each,
/// and then until none is left; returns for each SGI its sources.
fn collect(sources: u8) -> Result<[u8; 16], String> {
    let mut seen = [0; 16];
    let deadline = timer::Deadline::after(PATIENCE);
    loop {
        let Some(intid) = gic::take() else {
            if deadline.passed() || seen.iter().all(|seen| seen & sources == sources) {
                return Ok(seen);
            }
            continue;
        };
        let source = v2::source(intid);
        gic::end(intid);
        let slot = seen
            .get_mut(intid as usize)
            .ok_or_else(|| format!("interrupt {intid}"))?;
        let bit = 1_u8 << source;
        holds(
            *slot & bit == 0,
            &format!("SGI {intid} comes twice from vCPU {source}"),
        )?;
        *slot |= bit;
    }
}

/// Runs `work` on all vCPUs; returns the first error.
fn everywhere(work: &(dyn Fn(usize) -> Result<(), String> + Sync)) -> Result<(), String> {
    let wrong = spin::Mutex::new(Ok(()));
    parallel(cpu::count(), &|cpu| {
        if let Err(why) = work(cpu) {
            *wrong.lock() = Err(format!("vCPU {cpu}: {why}"));
        }
    });
    wrong.into_inner()
}

fn all_sources(kit: &Kit) -> Verdict {
    const ROUNDS: u32 = 100;
    with_v2(|_| {
        let count = cpu::count();
        let all = ((1_u32 << count) - 1) as u8;
        let barrier = cpu::Barrier::new(count);
        let played = everywhere(&|_| {
            // An error on one vCPU must not leave the others at the barrier.
            let mut result = Ok(());
            gic::enable_private(SGIS);
            for round in 0..ROUNDS {
                barrier.wait();
                for sgi in 0..16 {
                    gic::send(sgi, all.into());
                }
                barrier.wait();
                if result.is_ok() {
                    result = collect(all)
                        .and_then(|seen| same(&format!("round {round}"), &seen, &[all; 16]));
                }
            }
            // By register, all eight sources, of which the VM may have fewer vCPUs.
            for sgi in 0..16 {
                v2::set_sgi_pending(sgi, u8::MAX);
            }
            result?;
            let seen = collect(all)?;
            holds(
                seen.iter().all(|sources| sources & all == all),
                &format!("by register: {seen:x?}"),
            )
        });
        restore()?;
        kit.alive()?;
        played?;
        Ok(Observation::denied(
            format!("16 SGIs from {count} vCPUs to {count}, {ROUNDS} times"),
            0,
        ))
    })
}

fn storm(kit: &Kit) -> Verdict {
    const STORM: Duration = Duration::from_secs(4);
    with_v2(|_| {
        let stop = AtomicBool::new(false);
        let counts = core::array::from_fn::<_, { guest_bare::MAX_CPUS }, _>(|_| AtomicU64::new(0));
        let alive = spin::Mutex::new(Ok(()));
        parallel(cpu::count(), &|cpu| {
            let mut random = Random::new(cpu as u64);
            let deadline = timer::Deadline::after(STORM);
            gic::enable_private(SGIS);
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..64 {
                    // Targets, filter, NSATT, SGI and reserved bits alike.
                    v2::send(random.next() as u32);
                    if let Some(intid) = gic::take() {
                        gic::end(intid);
                        counts[cpu].fetch_add(1, Ordering::Relaxed);
                    }
                }
                if cpu == 0 && deadline.passed() {
                    // The check runs in the middle of it.
                    *alive.lock() = kit.alive();
                    stop.store(true, Ordering::Relaxed);
                }
            }
        });
        gic::drain();
        restore()?;
        alive.into_inner()?;
        let taken = counts.map(AtomicU64::into_inner);
        let own = &taken[..cpu::count()];
        holds(
            own.iter().all(|&count| count > 0),
            &format!("taken: {own:?}"),
        )?;
        Ok(Observation::new(format!("taken by each: {own:?}")))
    })
}

/// The frames that QEMU's `virt` machine has in physical memory, and none of which a guest has:
/// GICv2m, GICH, GICV and what is behind each.
const PHYSICAL: [u64; 8] = [
    0x0802_0000,
    0x0803_0000,
    0x0803_0100,
    0x0803_1000,
    0x0804_0000,
    0x0804_0010,
    0x0804_1000,
    0x0805_0000,
];

fn pages(kit: &Kit) -> Verdict {
    with_v2(|interface| {
        let aborts = AtomicU64::new(0);
        let played = everywhere(&|cpu| {
            let mut random = Random::new(cpu as u64);
            for offset in 0..0x1000 {
                for width in Width::ALL {
                    let address = interface.0 + offset;
                    // The hardware answers in this page; a wrong access may be an abort.
                    let results = [
                        load_device(address, width).map(drop),
                        store_device(address, width, random.next()),
                    ];
                    let refused = results.iter().filter(|result| result.is_err()).count();
                    aborts.fetch_add(refused as u64, Ordering::Relaxed);
                }
            }
            gic::reset_private();
            let behind = [0x2000, 0x3000, 0xf000, 0xfffc].map(|offset| interface.0 + offset);
            for address in behind.into_iter().chain(PHYSICAL) {
                let results = [
                    load_device(address, Width::Word).map(drop),
                    store_device(address, Width::Word, 0),
                ];
                for result in results {
                    let is_abort = result.is_err_and(|fault| fault.is_abort());
                    holds(is_abort, &format!("{address:#x} is reachable"))?;
                }
            }
            Ok(())
        });
        restore()?;
        kit.alive()?;
        played?;
        Ok(Observation::new(format!(
            "{} pages behind it abort; in it {} accesses did",
            PHYSICAL.len() + 4,
            aborts.into_inner()
        )))
    })
}

fn modes(kit: &Kit) -> Verdict {
    const STORM: Duration = Duration::from_secs(3);
    const GICC_PMR: u64 = 4;
    const GICC_BPR: u64 = 8;
    const GICC_ABPR: u64 = 0x1c;
    with_v2(|interface| {
        let stop = AtomicBool::new(false);
        let (changes, taken) = (AtomicU64::new(0), AtomicU64::new(0));
        let count = cpu::count();
        parallel(count, &|cpu| {
            let mut random = Random::new(cpu as u64);
            let deadline = timer::Deadline::after(STORM);
            gic::enable_private(SGIS);
            // The last vCPU only sends.
            let only_sends = cpu + 1 == count && cpu != 0;
            while !stop.load(Ordering::Relaxed) {
                v2::send(v2::sgi(random.below(16) as u32, random.next() as u16));
                if only_sends {
                    continue;
                }
                match random.below(8) {
                    0..=2 => interface.write(v2::GICC_CTLR, random.next() as u32 & 0x3ff),
                    3 => gic::set_private_groups(random.next() as u32),
                    4 => interface.write(GICC_PMR, random.next() as u32),
                    5 => interface.write(GICC_BPR, random.next() as u32),
                    6 => interface.write(GICC_ABPR, random.next() as u32),
                    _ => gic::set_private_priority(random.below(16) as u32, random.next() as u8),
                }
                changes.fetch_add(1, Ordering::Relaxed);
                let word = interface.read(v2::GICC_IAR);
                if word & 0x3ff < 1020 {
                    taken.fetch_add(1, Ordering::Relaxed);
                    interface.write(v2::GICC_EOIR, word);
                    if interface.read(v2::GICC_CTLR) & 1 << 9 != 0 {
                        interface.write(v2::GICC_DIR, word);
                    }
                }
                if cpu == 0 && deadline.passed() {
                    stop.store(true, Ordering::Relaxed);
                }
            }
            gic::reset_private();
        });
        restore()?;
        let barrier = cpu::Barrier::new(count);
        let again = everywhere(&|cpu| {
            gic::enable_private(SGIS);
            barrier.wait();
            for sgi in 0..16 {
                gic::send(sgi, 1 << cpu);
            }
            same("all SGIs again", &collect(1 << cpu)?, &[1 << cpu; 16])
        });
        restore()?;
        kit.alive()?;
        again?;
        let (changes, taken) = (changes.into_inner(), taken.into_inner());
        holds(taken > 0, "not one came")?;
        Ok(Observation::new(format!(
            "{changes} changes, {taken} taken"
        )))
    })
}
