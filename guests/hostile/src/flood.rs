// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Floods: uninterrupted work on all vCPUs, without any wait, of a guest that wants the machine for
//! itself.

use crate::kit::{Kit, fresh_cookie};
use alloc::string::String;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use guest_bare::console;
use guest_bare::cpu::{self, count, parallel};
use guest_bare::gic;
use guest_bare::pages::Pages;
use guest_bare::tee::message::value;
use guest_bare::tee::{Message, PageList, apps};
use optee_proto::msg::Attr;
use optee_proto::smc;

/// A flood: its name, and the work of one vCPU until the flag is set, which returns the number of
/// rounds.
pub struct Flood {
    /// The flood's name.
    pub name: &'static str,
    run: fn(&Kit, &mut dyn FnMut() -> bool) -> Result<u64, String>,
}

/// All floods.
pub const FLOODS: &[Flood] = &[
    Flood {
        name: "spin",
        run: spin,
    },
    Flood {
        name: "fast",
        run: fast,
    },
    Flood {
        name: "calls",
        run: calls,
    },
    Flood {
        name: "buffers",
        run: buffers,
    },
    Flood {
        name: "sgis",
        run: sgis,
    },
];

/// The rounds between two checks of the console, which cost an exit.
const ROUNDS: u64 = 50;
/// The pages of each buffer: the most that Postern processes at once, and so its longest work for
/// one SMC.
const PAGES: usize = 2048;

/// An SGI that this program does not use otherwise.
const SGI: u32 = 2;

impl Flood {
    /// Runs until there is input on the console; returns the number of rounds.
    ///
    /// # Errors
    /// Fails when the flood cannot begin on a vCPU.
    pub fn run(&self, kit: &Kit) -> Result<u64, String> {
        let stop = AtomicBool::new(false);
        let rounds = AtomicU64::new(0);
        let failure = spin::Mutex::new(None);
        parallel(count(), &|cpu| {
            let mut goes_on = || {
                if cpu == 0 && console::has_input() {
                    stop.store(true, Ordering::Relaxed);
                }
                !stop.load(Ordering::Relaxed)
            };
            match (self.run)(kit, &mut goes_on) {
                Ok(count) => {
                    rounds.fetch_add(count, Ordering::Relaxed);
                }
                Err(why) => {
                    *failure.lock() = Some(why);
                    stop.store(true, Ordering::Relaxed);
                }
            }
        });
        match failure.into_inner() {
            Some(why) => Err(why),
            None => Ok(rounds.into_inner()),
        }
    }
}

fn repeat(goes_on: &mut dyn FnMut() -> bool, rounds: u64, mut round: impl FnMut()) -> u64 {
    let mut count = 0;
    while goes_on() {
        for _ in 0..rounds {
            round();
        }
        count += rounds;
    }
    count
}

/// Spins without work, and without WFI.
fn spin(_: &Kit, goes_on: &mut dyn FnMut() -> bool) -> Result<u64, String> {
    Ok(repeat(goes_on, 100_000, core::hint::spin_loop))
}

/// Makes fast calls, which OP-TEE answers with interrupts masked.
fn fast(kit: &Kit, goes_on: &mut dyn FnMut() -> bool) -> Result<u64, String> {
    Ok(repeat(goes_on, ROUNDS, || {
        kit.client.fast(smc::GET_OS_REVISION, 0);
    }))
}

/// Calls a pseudo TA. When all of OP-TEE's threads are in use, the calls are refused.
fn calls(kit: &Kit, goes_on: &mut dyn FnMut() -> bool) -> Result<u64, String> {
    let session = kit.open_tests();
    let param = value(Attr::VALUE_INOUT, 1, 2);
    let message = Message::invoke(
        *session.as_ref().unwrap_or(&1),
        apps::TESTS_PARAMS,
        &[param],
    );
    let count = repeat(goes_on, ROUNDS, || {
        kit.send(&message);
    });
    session.map_or(Ok(()), |session| kit.close(session))?;
    Ok(count)
}

/// Registers and unregisters large buffers.
fn buffers(kit: &Kit, goes_on: &mut dyn FnMut() -> bool) -> Result<u64, String> {
    let pages = Pages::take(PAGES);
    let list = PageList::of(&pages);
    let mut failure = None;
    let count = repeat(goes_on, 1, || {
        let cookie = fresh_cookie();
        let got = kit.send(&Message::register(cookie, &list));
        let gone = kit.unregister(cookie);
        if !(got.is_success() && gone.is_success()) {
            failure = Some(alloc::format!("register: {got:?}, unregister: {gone:?}"));
        }
    });
    failure.map_or(Ok(count), Err)
}

/// Sends SGIs from each vCPU to itself and ends each: traps, refilled list registers, and
/// interrupts to EL2.
fn sgis(_: &Kit, goes_on: &mut dyn FnMut() -> bool) -> Result<u64, String> {
    gic::enable_private(1 << SGI);
    let mut taken = 0;
    repeat(goes_on, ROUNDS, || {
        gic::send(SGI, 1 << cpu::index());
        if let Some(intid) = gic::take() {
            taken += u64::from(intid == SGI);
            gic::end(intid);
        }
    });
    gic::disable_private(1 << SGI);
    if taken == 0 {
        return Err("none of the SGIs came".into());
    }
    Ok(taken)
}
