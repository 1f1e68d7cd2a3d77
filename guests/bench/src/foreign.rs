// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Measures interrupts that arrive while a call is in OP-TEE: one for another vCPU, and one that
//! ends this vCPU's time slice.
//!
//! The guest's own timer cannot serve: TF-A switches EL1's timers with the world, so its interrupt
//! arrives after OP-TEE has returned. Here another vCPU waits for its timer, which the hypervisor
//! then runs. At EL2 it is EL2's own timer.

use crate::meter::{self, Meter};
use crate::tee::{Bench, text};
use alloc::string::String;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use guest_bare::machine::{at_el2, machine};
use guest_bare::pages::Pages;
use guest_bare::tee::message::rmem;
use guest_bare::tee::{Act, Message, PageList, apps};
use guest_bare::{PAGE_SIZE, cpu, gic, timer, timers};
use optee_proto::msg::Attr;
use optee_proto::{rpc, smc};

/// The rounds of each measurement.
const ROUNDS: usize = 2;
/// The pages whose bytes OP-TEE adds up: several hundred thousand instructions, less than a time
/// slice.
const PAGES: usize = 16;
/// The cookie of the pages' buffer.
const COOKIE: u64 = 0x00be_0000_0001_0000;
/// The time that this vCPU sleeps before a call, so that its time slice is new and the other vCPU
/// has gone to sleep.
const NAP: Duration = Duration::from_micros(200);
/// A time that is longer than a time slice.
const OVER: Duration = Duration::from_millis(12);
/// The most time that the other vCPU may take to end.
const PATIENCE: Duration = Duration::from_secs(1);

/// When the other vCPU is to wake up, in ticks; zero while there is no request, [`QUIT`] when it is
/// to end.
static WAKE: AtomicU64 = AtomicU64::new(0);
const QUIT: u64 = u64::MAX;

/// Runs on the other vCPU: sleeps until the requested time, again and again.
fn sleep_on_order(_: u64) {
    loop {
        timer::wait_for_interrupt();
        gic::drain();
        match WAKE.swap(0, Ordering::AcqRel) {
            0 => {}
            QUIT => return,
            at => {
                timer::arm(at);
                timer::wait_for_interrupt();
                gic::drain();
            }
        }
    }
}

/// A call that keeps OP-TEE busy for a while.
struct Long<'a> {
    bench: &'a Bench<'a>,
    message: Message,
    /// The call's duration in ticks without an interruption.
    ticks: u64,
}

impl Long<'_> {
    /// Makes the call. An interrupt of this vCPU for which OP-TEE returns is ended before the call
    /// is resumed.
    fn call(&self) -> Result<(), String> {
        let Bench {
            client, supplicant, ..
        } = self.bench;
        let took = client.call_by(smc::CALL_WITH_ARG, &self.message, supplicant, |call| {
            if call.function == rpc::Function::FOREIGN_INTR {
                gic::drain();
            }
            Act::Default
        });
        text(took)
    }

    /// Returns half of the duration in ticks.
    const fn half(&self) -> u64 {
        self.ticks / 2
    }

    /// Makes the call, during which the other vCPU wakes up. This vCPU's time slice began `before`
    /// the call.
    fn beside(&self, other: usize, before: Duration) -> Result<(), String> {
        let begin = timer::now() + timer::ticks(NAP + before);
        WAKE.store(begin + self.half(), Ordering::Release);
        gic::poke(other);
        timer::sleep(NAP);
        while timer::now() < begin {
            core::hint::spin_loop();
        }
        let called = self.call();
        timer::sleep(NAP);
        called
    }

    /// Makes the call at EL2, with an interrupt in the middle.
    fn at_el2(&self) -> Result<(), String> {
        timer::arm_el2(timer::now() + self.half());
        let called = self.call();
        timers::disarm_el2();
        gic::drain();
        called
    }
}

/// Measures all of them.
pub fn measure(bench: &Bench, session: u32) {
    let meter: &Meter = bench.meter;
    let buffer = Pages::take(PAGES);
    let list = PageList::of(&buffer);
    let registered = bench.client.register(&bench.supplicant, COOKIE, &list);
    if let Err(text) = text(registered) {
        return meter::failed("long-call", &text);
    }
    let bytes = PAGES as u64 * PAGE_SIZE;
    let params = [rmem(Attr::RMEM_INOUT, 0, bytes, COOKIE)];
    let mut long = Long {
        bench,
        message: Message::invoke(session, apps::TESTS_PARAMS, &params),
        ticks: 0,
    };
    for _ in 0..2 {
        let begin = timer::now();
        if let Err(text) = long.call() {
            return meter::failed("long-call", &text);
        }
        long.ticks = timer::now() - begin;
    }
    meter.measure("long-call", ROUNDS, || {
        timer::sleep(NAP);
        long.call()
    });
    if at_el2() {
        for name in ["long-call-other", "long-call-turn"] {
            meter.measure(name, ROUNDS, || long.at_el2());
        }
    } else if machine().cpus > 1 {
        let other = usize::from(cpu::index() == 0);
        cpu::spawn(other, sleep_on_order, 0);
        timer::sleep(Duration::from_millis(1));
        let new = Duration::ZERO;
        meter.measure("long-call-other", ROUNDS, || long.beside(other, new));
        meter.measure("long-call-turn", 1, || long.beside(other, OVER));
        WAKE.store(QUIT, Ordering::Release);
        gic::poke(other);
        if !cpu::join(other, PATIENCE) {
            meter::failed("long-call-other", "the other vCPU does not end");
        }
    }
}
