// SPDX-License-Identifier: Apache-2.0 OR MIT
//! States with calls that run on other vCPUs than the one that talks to the host.

use super::{State, hold, state};
use crate::attack::holds;
use crate::kit::{Got, Kit, of_client};
use crate::parked::{Parked, long_call};
use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use guest_bare::tee::message::{rmem, value};
use guest_bare::tee::{Message, PageList, apps};
use guest_bare::{MAX_CPUS, cpu, gic, timer};
use optee_proto::msg::{Attr, Command, Param};
use optee_proto::{rpc, smc};
use spin::Mutex;

/// The states of this kind.
pub const STATES: &[State] = &[
    state("running", running_pta),
    state("running-application", |kit| {
        running_application(kit, 1).map(drop)
    }),
    state("running-both", |kit| {
        running_pta(kit)?;
        running_application(kit, 2).map(drop)
    }),
    state("interrupted", interrupted),
    state("restless", restless),
    state("loading", |_| {
        begin(1, load_for_ever);
        Ok(())
    }),
    state("enabling-notifications", |_| {
        for cpu in 1..cpu::count() {
            begin(cpu, enable_for_ever);
        }
        Ok(())
    }),
];

/// The time after which a vCPU that was sent into OP-TEE is certainly there.
const INSIDE: Duration = Duration::from_millis(30);
/// The most time that an application may take to report that it runs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether a vCPU has begun its endless work.
static BEGUN: AtomicBool = AtomicBool::new(false);

/// Starts endless work on a vCPU, and waits until it has begun.
pub(super) fn begin(cpu: usize, work: fn(u64)) {
    BEGUN.store(false, Ordering::Relaxed);
    cpu::spawn(cpu, work, cpu as u64);
    while !BEGUN.load(Ordering::Relaxed) {
        core::hint::spin_loop();
    }
}

/// Says that endless work has begun.
pub(super) fn begun() {
    BEGUN.store(true, Ordering::Relaxed);
}

/// The duration of a call. OP-TEE cannot stop a call, and what a call has open cannot be closed. So
/// there is always a call in OP-TEE, but each one ends.
const LONG: Duration = Duration::from_millis(300);

/// Returns how many rounds take [`LONG`]; `call` makes a call of a given number of rounds.
fn rounds(mut call: impl FnMut(u64) -> Got) -> Result<u64, String> {
    let mut rounds = 1000;
    loop {
        let start = timer::now();
        let got = call(rounds);
        holds(got.is_success(), &format!("{rounds} rounds: {got:?}"))?;
        let took = timer::now() - start;
        if took > timer::ticks(LONG / 30) {
            return Ok(rounds * timer::ticks(LONG) / took);
        }
        rounds *= 2;
    }
}

/// The repeated work of a vCPU: a function of a session.
struct Work {
    session: u32,
    func: u32,
    params: [Param; 2],
}

static WORK: [Mutex<Option<Work>>; MAX_CPUS] = [const { Mutex::new(None) }; MAX_CPUS];

fn work_for_ever(cpu: u64) {
    let kit = Kit::new();
    let work = WORK[cpu as usize].lock().take().expect("work to do");
    let message = Message::invoke(work.session, work.func, &work.params);
    loop {
        begun();
        kit.send(&message);
        message.rebuild(Command::INVOKE, work.func, work.session, &work.params);
    }
}

/// Starts that work on a vCPU.
fn work(cpu: usize, work: Work) {
    *WORK[cpu].lock() = Some(work);
    begin(cpu, work_for_ever);
}

/// Returns a vCPU is in OP-TEE's core.
fn running_pta(kit: &Kit) -> Result<(), String> {
    let session = kit.open_tests()?;
    let rounds = rounds(|rounds| kit.send(&long_call(session, rounds)))?;
    let message = long_call(session, rounds);
    let params = [message.param(0), message.param(1)];
    let func = apps::TESTS_MUTEX;
    work(
        1,
        Work {
            session,
            func,
            params,
        },
    );
    timer::sleep(INSIDE);
    Ok(())
}

/// A buffer of one page that a running application uses.
pub struct Busy {
    /// The buffer's cookie.
    pub cookie: u64,
    /// The page's address. The application uses its first bytes.
    pub page: u64,
}

/// A vCPU is in an application that counts its callers in a buffer. Returns the buffer.
pub fn running_application(kit: &Kit, cpu: usize) -> Result<Busy, String> {
    let opened = kit.client.open(&kit.supplicant, apps::CONCURRENT);
    let session = of_client("open an application", opened)?;
    let shared = kit.share(1)?;
    let cookie = shared.cookie;
    let func = apps::CONCURRENT_BUSY;
    let params = |rounds| {
        [
            rmem(Attr::RMEM_INOUT, 0, 4, cookie),
            value(Attr::VALUE_INOUT, rounds, 0),
        ]
    };
    let rounds = rounds(|rounds| kit.send(&Message::invoke(session, func, &params(rounds))))?;
    let params = params(rounds);
    work(
        cpu,
        Work {
            session,
            func,
            params,
        },
    );
    let inside = timer::Deadline::after(PATIENCE).wait(|| shared.pages.read_u32(0) != 0);
    let page = shared.pages.address();
    core::mem::forget(shared);
    holds(inside, "the application runs")?;
    Ok(Busy { cookie, page })
}

/// A call waits at a foreign interrupt, which another vCPU has caused. The guest's own timer does
/// not run while OP-TEE does.
fn interrupted(kit: &Kit) -> Result<(), String> {
    let session = kit.open_tests()?;
    begin(1, poke_for_a_while);
    let mut parked = Err(String::new());
    for _ in 0..TRIES {
        // Measured each time: a vCPU that did not run meanwhile takes a short call for a long one.
        let rounds = rounds(|rounds| kit.send(&long_call(session, rounds)))?;
        parked = Parked::at(kit, long_call(session, rounds), |call| {
            call.function == rpc::Function::FOREIGN_INTR
        });
        if parked.is_ok() {
            break;
        }
    }
    DONE.store(true, Ordering::Relaxed);
    hold(parked)
}

/// How many calls may end before one is interrupted. The interrupting vCPU may not get to run.
const TRIES: u32 = 50;

/// Whether the call has reached its place.
static DONE: AtomicBool = AtomicBool::new(false);

fn poke_for_a_while(_: u64) {
    BEGUN.store(true, Ordering::Relaxed);
    while !DONE.load(Ordering::Relaxed) {
        timer::Deadline::after(LONG / 10).wait(|| false);
        gic::poke(0);
    }
}

/// Returns all vCPUs register and unregister, open, call and close without pause.
fn restless(_: &Kit) -> Result<(), String> {
    begin(1, register_for_ever);
    if cpu::count() > 2 {
        begin(2, open_for_ever);
    }
    Ok(())
}

fn register_for_ever(_: u64) {
    let kit = Kit::new();
    let pages = guest_bare::pages::Pages::take(64);
    let list = PageList::of(&pages);
    for cookie in 1.. {
        kit.send(&Message::register(cookie, &list));
        BEGUN.store(true, Ordering::Relaxed);
        kit.send(&Message::unregister(cookie));
    }
}

fn open_for_ever(_: u64) {
    let kit = Kit::new();
    loop {
        // An error for lack of a thread counts as well.
        let done = kit.with_tests(|session| {
            kit.send(&long_call(session, 10_000));
            Ok(())
        });
        BEGUN.store(true, Ordering::Relaxed);
        drop(done);
        kit.client.fast(smc::CALLS_UID, 0);
    }
}

fn load_for_ever(_: u64) {
    let kit = Kit::new();
    loop {
        BEGUN.store(true, Ordering::Relaxed);
        if let Ok(session) = kit.client.open(&kit.supplicant, apps::SMALL) {
            drop(kit.close(session));
        }
    }
}

fn enable_for_ever(_: u64) {
    let kit = Kit::new();
    loop {
        kit.client.fast(smc::ENABLE_ASYNC_NOTIF, 0);
        BEGUN.store(true, Ordering::Relaxed);
    }
}
