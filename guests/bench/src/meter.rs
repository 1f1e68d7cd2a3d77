// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Adds up the ticks of calls, and converts them to instructions.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use guest_bare::count::{self, Span};
use guest_bare::event::Event;
use guest_bare::gic::{self, Write};
use guest_bare::timer;

/// The samples of a round. They begin at each place in a tick once, so that their mean is exact.
pub const ROUND: u64 = 16;

/// The ticks of all calls since the last [`take`].
static TICKS: AtomicU64 = AtomicU64::new(0);
/// The calls since the last [`take`].
static CALLS: AtomicU64 = AtomicU64::new(0);
/// The number of the sample in its round, and so the place in a tick where its calls begin.
static SAMPLE: AtomicU64 = AtomicU64::new(0);

/// Whether counted calls are marked for a host that traces them.
static MARKED: AtomicBool = AtomicBool::new(false);

/// Runs `work`, between two marks while calls are traced.
pub fn marked<T>(work: impl FnOnce() -> T) -> T {
    let watched = MARKED.load(Ordering::Relaxed);
    if watched {
        count::mark_call();
    }
    let result = work();
    if watched {
        count::mark_call();
    }
    result
}

fn add(count: fn(&mut [u64; 8], u64) -> Span, mut registers: [u64; 8]) -> [u64; 8] {
    let ticks = marked(|| count(&mut registers, SAMPLE.load(Ordering::Relaxed))).ticks();
    TICKS.fetch_add(ticks, Ordering::Relaxed);
    CALLS.fetch_add(1, Ordering::Relaxed);
    registers
}

/// Makes an SMC that is counted.
pub fn smc(registers: [u64; 8]) -> [u64; 8] {
    add(count::smc, registers)
}

/// Makes an HVC that is counted.
pub fn hvc(registers: [u64; 8]) -> [u64; 8] {
    add(count::hvc, registers)
}

/// Loads from a device's register, counted; returns the value.
pub fn load(address: u64) -> u32 {
    add(count::load, [address, 0, 0, 0, 0, 0, 0, 0])[0] as u32
}

/// Stores to a device's register, counted.
pub fn store(address: u64, value: u64) {
    add(count::store, [value, address, 0, 0, 0, 0, 0, 0]);
}

/// Stores to a device's register and waits for an interrupt, counted as one call.
pub fn store_and_wait(address: u64, value: u64) {
    add(count::store_and_wait, [value, address, 0, 0, 0, 0, 0, 0]);
}

/// Makes a write to the interrupt controller, counted: in memory, or by `register`.
fn write(write: Write, register: fn(&mut [u64; 8], u64) -> Span) {
    match write.address {
        Some(address) => add(count::store, [write.value, address, 0, 0, 0, 0, 0, 0]),
        None => add(register, [write.value, 0, 0, 0, 0, 0, 0, 0]),
    };
}

/// Interrupts a vCPU, counted.
pub fn poke(cpu: usize) {
    write(gic::poke_write(cpu), count::send_sgi);
}

/// Interrupts a vCPU and waits for an interrupt, uncounted; returns the time before it in ticks.
pub fn poke_and_wait(cpu: usize) -> u64 {
    let Write { value, address } = gic::poke_write(cpu);
    let mut registers = [value, address.unwrap_or_default(), 0, 0, 0, 0, 0, 0];
    let send = match address {
        Some(_) => count::store_and_wait,
        None => count::send_sgi_and_wait,
    };
    send(&mut registers, SAMPLE.load(Ordering::Relaxed)).begin
}

/// Ends an interrupt, counted.
pub fn end_interrupt(intid: u32) {
    write(gic::end_write(intid), count::end_interrupt);
}

/// Adds ticks that were counted elsewhere.
pub fn waited(ticks: u64) {
    TICKS.fetch_add(ticks, Ordering::Relaxed);
}

/// The ticks of some calls.
#[derive(Clone, Copy, Default)]
pub struct Sum {
    ticks: u64,
    calls: u64,
}

impl core::ops::AddAssign for Sum {
    fn add_assign(&mut self, other: Self) {
        self.ticks += other.ticks;
        self.calls += other.calls;
    }
}

/// Returns and resets the sum since the last call.
pub fn take() -> Sum {
    if MARKED.load(Ordering::Relaxed) {
        count::mark_item();
    }
    Sum {
        ticks: TICKS.swap(0, Ordering::Relaxed),
        calls: CALLS.swap(0, Ordering::Relaxed),
    }
}

/// Takes one round of samples.
///
/// # Errors
/// Fails with the first error of a sample.
pub fn round(mut sample: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    (0..ROUND).try_for_each(|number| {
        SAMPLE.store(number, Ordering::Relaxed);
        sample()
    })
}

/// Converts ticks to instructions.
pub struct Meter {
    /// Nanoseconds, and so instructions, per tick.
    tick: u64,
    /// The instructions that counting itself adds to [`ROUND`] calls.
    own: u64,
    watched: bool,
}

/// How many times each call is made before it is traced.
const WARM_UP: usize = 3;

impl Meter {
    /// Measures what counting itself takes. With `watched` each call is made only once, for a host
    /// that traces the instructions.
    ///
    /// # Errors
    /// Fails when the counter does not count instructions.
    pub fn new(watched: bool) -> Result<Self, String> {
        let tick = 1_000_000_000 / timer::frequency();
        take();
        round(|| {
            add(count::nothing, [0; 8]);
            Ok(())
        })?;
        let sum = take();
        // The `nop` stands for the call's own instruction, which belongs to the call.
        let own = (sum.ticks * tick)
            .checked_sub(ROUND)
            .filter(|own| (ROUND..=4 * ROUND).contains(own));
        own.map(|own| Self { tick, own, watched }).ok_or_else(|| {
            format!(
                "{ROUND} empty measurements took {} ns: QEMU does not count instructions (-icount shift=0)",
                sum.ticks * tick
            )
        })
    }

    fn tell(&self, name: &str, sum: Sum) {
        let own = self.own * sum.calls / ROUND;
        let all = (sum.ticks * self.tick).saturating_sub(own);
        let mean = |sum: u64| (sum + ROUND / 2) / ROUND;
        Event::new("bench")
            .text("name", name)
            .number("instructions", mean(all))
            .number("samples", ROUND)
            .number("calls", mean(sum.calls))
            .send();
    }

    /// Takes a number of rounds of samples and reports the one with the fewest ticks: in others
    /// something interfered. An uncounted round comes first, for work that is done once.
    pub fn measure(
        &self,
        name: &str,
        rounds: usize,
        mut sample: impl FnMut() -> Result<(), String>,
    ) {
        self.measure_parts([name], rounds, || {
            take();
            sample()?;
            Ok([take()])
        });
    }

    /// Measures, as [`Meter::measure`] does, a sample of several parts with a name each.
    pub fn measure_parts<const N: usize>(
        &self,
        names: [&str; N],
        rounds: usize,
        mut sample: impl FnMut() -> Result<[Sum; N], String>,
    ) {
        if self.watched {
            return self.show(names, sample);
        }
        let mut one = || {
            let mut sums = [Sum::default(); N];
            round(|| {
                let parts = sample()?;
                (sums.iter_mut().zip(parts)).for_each(|(sum, part)| *sum += part);
                Ok(())
            })?;
            Ok(sums)
        };
        let all: Result<Vec<[Sum; N]>, String> = (0..=rounds).map(|_| one()).collect();
        match all {
            Ok(all) => names.iter().enumerate().for_each(|(part, name)| {
                self.best(name, all.iter().map(|sums| sums[part]).collect());
            }),
            Err(text) => names.iter().for_each(|name| failed(name, &text)),
        }
    }

    /// Makes each call once for a tracing host, after a few calls for work that is done once. Each
    /// part is one call.
    fn show<const N: usize>(
        &self,
        names: [&str; N],
        mut sample: impl FnMut() -> Result<[Sum; N], String>,
    ) {
        let mut again = || {
            SAMPLE.store(0, Ordering::Relaxed);
            sample().map(drop)
        };
        let warm = (0..WARM_UP).try_for_each(|_| again());
        MARKED.store(true, Ordering::Relaxed);
        let shown = warm.and_then(|()| again());
        MARKED.store(false, Ordering::Relaxed);
        match shown {
            Ok(()) => {
                for name in names {
                    Event::new("bench-shown").text("name", name).send();
                }
            }
            Err(text) => failed(names[0], &text),
        }
    }

    /// Reports the least of several rounds, without the first.
    fn best(&self, name: &str, all: Vec<Sum>) {
        match all.into_iter().skip(1).min_by_key(|sum| sum.ticks) {
            Some(sum) => self.tell(name, sum),
            None => failed(name, "no samples"),
        }
    }
}

/// Reports why there is no figure.
pub fn failed(name: &str, text: &str) {
    Event::new("bench-failed")
        .text("name", name)
        .text("text", text)
        .send();
}
