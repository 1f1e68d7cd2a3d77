// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks hardware breakpoints, watchpoints and software step at EL1 (Arm ARM DDI 0487, D2).

use crate::check::{Case, Found, ensure, exceptions, same, with};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use core::time::Duration;
use guest_bare::debug::{self, KDE, MDE, SS};
use guest_bare::expect::{self, Code, How, Taken};
use guest_bare::machine::machine;
use guest_bare::timer;
use guest_bare::{cpu, gic};

/// The cases of this group.
pub const CASES: &[Case] = &[
    ("debug/os-lock", os_lock),
    ("debug/mdscr", mdscr),
    ("debug/pairs-hold", pairs_hold),
    ("debug/each-breakpoint", each_breakpoint),
    ("debug/breakpoint-elsewhere", breakpoint_elsewhere),
    ("debug/breakpoint-off", breakpoint_off),
    ("debug/breakpoint-of-el0-at-el1", breakpoint_of_el0_at_el1),
    ("debug/breakpoint-at-el0", breakpoint_at_el0),
    ("debug/breakpoint-after-waiting", breakpoint_after_waiting),
    (
        "debug/breakpoint-not-on-the-other-cpu",
        breakpoint_not_on_the_other,
    ),
    ("debug/each-watchpoint", each_watchpoint),
    ("debug/watchpoint-for-loads", || {
        watchpoint_for(LOADS, Code::Load, Code::Store, false)
    }),
    ("debug/watchpoint-for-stores", || {
        watchpoint_for(STORES, Code::Store, Code::Load, true)
    }),
    ("debug/watchpoint-of-bytes", watchpoint_of_bytes),
    ("debug/watchpoint-elsewhere", watchpoint_elsewhere),
    ("debug/step", || step(Code::Nops, 0, 3)),
    ("debug/step-masked", step_masked),
    ("debug/step-over-call", step_over_call),
    ("debug/step-over-counter", || step(Code::Counter, 0, 2)),
    ("debug/step-over-debug-register", || {
        step(Code::DebugRegister, 0, 2)
    }),
    ("debug/step-over-device", || {
        step(Code::Load, machine().distributor + 4, 2)
    }),
    ("debug/step-at-el0", step_at_el0),
];

const SOON: Duration = Duration::from_secs(20);
/// Exception classes.
const BREAKPOINT: u64 = 0x31;
const BREAKPOINT_LOWER: u64 = 0x30;
const STEP: u64 = 0x33;
const STEP_LOWER: u64 = 0x32;
const WATCHPOINT: u64 = 0x35;
const SVC: u64 = 0x15;
/// ESR_EL1.ISS of a debug exception.
const DEBUG_STATUS: u64 = 0x22;
const WNR: u64 = 1 << 6;
/// DBGBCR: all bytes of the instruction, at EL1, enabled.
const AT_EL1: u64 = 0b1111 << 5 | 0b01 << 1 | 1;
const AT_EL0: u64 = 0b1111 << 5 | 0b10 << 1 | 1;
/// DBGWCR: at EL1, enabled, without the byte selection.
const WATCH: u64 = 0b01 << 1 | 1;
const LOADS: u64 = 0b01 << 3;
const STORES: u64 = 0b10 << 3;
const LOW_WORD: u64 = 0x0f << 5;

/// The memory that the watchpoints watch.
#[repr(align(8))]
struct Watched([AtomicU32; 4]);
static WATCHED: Watched = Watched([const { AtomicU32::new(0) }; 4]);

fn watched(word: usize) -> u64 {
    (&raw const WATCHED.0[word]) as u64
}

/// Puts all debug registers into their reset state, except that the OS lock is open; again on drop.
struct Used;

impl Used {
    fn new() -> Self {
        clear();
        debug::set_os_lock(false);
        Self
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        debug::set_os_lock(false);
        clear();
    }
}

fn clear() {
    debug::set_mdscr(0);
    let (breakpoints, watchpoints) = debug::pairs();
    (0..breakpoints).for_each(|index| debug::set_breakpoint(index, 0, 0));
    (0..watchpoints).for_each(|index| debug::set_watchpoint(index, 0, 0));
}

fn classes(taken: &[Taken]) -> Vec<u64> {
    taken.iter().map(Taken::class).collect()
}

fn quiet(what: &str, code: Code, how: How) -> Found {
    same(what, classes(&exceptions(code, how)), Vec::new())
}

/// Checks that the code takes one debug exception of that class at its first instruction.
fn hits(what: &str, class: u64, code: Code, argument: u64) -> Result<Taken, alloc::string::String> {
    let taken = exceptions(code, with(argument));
    same(what, classes(&taken), [class].to_vec())?;
    let first = taken[0];
    same(what, first.elr, code.address())?;
    same(what, first.esr & 0x3f, DEBUG_STATUS)?;
    Ok(first)
}

fn os_lock() -> Found {
    let _used = Used::new();
    same("OSLSR when open", debug::os_lock(), 0b1000)?;
    debug::set_os_lock(true);
    same("OSLSR when locked", debug::os_lock(), 0b1010)?;
    debug::set_os_lock(false);
    same("OSLSR when open", debug::os_lock(), 0b1000)
}

fn mdscr() -> Found {
    let _used = Used::new();
    for value in [MDE, MDE | KDE, KDE, 0] {
        debug::set_mdscr(value);
        same("MDSCR", debug::mdscr() & (SS | KDE | MDE), value)?;
    }
    Ok(())
}

fn pairs_hold() -> Found {
    let _used = Used::new();
    let (breakpoints, watchpoints) = debug::pairs();
    ensure(
        breakpoints >= 2 && watchpoints >= 2,
        "there are fewer than two breakpoints",
    )?;
    // The breakpoint is not enabled.
    for index in 0..breakpoints {
        debug::set_breakpoint(index, 0x1000 * (index as u64 + 1), AT_EL1 & !1);
    }
    for index in 0..watchpoints {
        debug::set_watchpoint(
            index,
            0x2000 * (index as u64 + 1),
            LOW_WORD | LOADS | WATCH & !1,
        );
    }
    for index in 0..breakpoints {
        let expected = (0x1000 * (index as u64 + 1), AT_EL1 & !1);
        same("a breakpoint", debug::breakpoint(index), expected)?;
    }
    for index in 0..watchpoints {
        let expected = (0x2000 * (index as u64 + 1), LOW_WORD | LOADS | WATCH & !1);
        same("a watchpoint", debug::watchpoint(index), expected)?;
    }
    Ok(())
}

fn each_breakpoint() -> Found {
    for index in 0..debug::pairs().0 {
        let _used = Used::new();
        debug::set_breakpoint(index, Code::Nops.address(), AT_EL1);
        debug::set_mdscr(MDE | KDE);
        let taken = hits("the exception", BREAKPOINT, Code::Nops, 0)?;
        same("the vector", taken.vector, 4)?;
        // The exception has cleared MDE.
        quiet("behind it", Code::Nops, How::default())?;
    }
    Ok(())
}

fn breakpoint_elsewhere() -> Found {
    let _used = Used::new();
    debug::set_breakpoint(0, Code::Nops.address(), AT_EL1);
    debug::set_mdscr(MDE | KDE);
    quiet("elsewhere", Code::Counter, How::default())
}

fn breakpoint_off() -> Found {
    let _used = Used::new();
    let at = Code::Nops.address();
    for (what, control, mdscr, masked) in [
        ("without E", AT_EL1 & !1, MDE | KDE, false),
        ("without MDE", AT_EL1, KDE, false),
        ("without KDE", AT_EL1, MDE, false),
        ("masked", AT_EL1, MDE | KDE, true),
    ] {
        debug::set_breakpoint(0, at, control);
        debug::set_mdscr(mdscr);
        let how = How {
            masked,
            ..How::default()
        };
        quiet(what, Code::Nops, how)?;
    }
    Ok(())
}

fn breakpoint_of_el0_at_el1() -> Found {
    let _used = Used::new();
    debug::set_breakpoint(0, Code::Nops.address(), AT_EL0);
    debug::set_mdscr(MDE | KDE);
    quiet("at EL1", Code::Nops, How::default())
}

fn breakpoint_at_el0() -> Found {
    let _used = Used::new();
    debug::set_breakpoint(0, Code::El0Svc.address_at_el0(), AT_EL0);
    // KDE enables debug exceptions from EL1 itself.
    debug::set_mdscr(MDE);
    let taken = exceptions(Code::El0Svc, How::default());
    same(
        "the exception",
        classes(&taken),
        [BREAKPOINT_LOWER].to_vec(),
    )?;
    same("its place", taken[0].elr, Code::El0Svc.address_at_el0())?;
    same("the vector", taken[0].vector, 8)
}

/// Other vCPUs run here meanwhile, at least under a hypervisor.
fn breakpoint_after_waiting() -> Found {
    let _used = Used::new();
    let (breakpoints, watchpoints) = debug::pairs();
    debug::set_breakpoint(breakpoints - 1, Code::Nops.address(), AT_EL1);
    debug::set_watchpoint(watchpoints - 1, watched(0), LOW_WORD | STORES | WATCH);
    debug::set_mdscr(MDE | KDE);
    for _ in 0..3 {
        timer::sleep(Duration::from_millis(30));
    }
    hits("the breakpoint", BREAKPOINT, Code::Nops, 0)?;
    debug::set_mdscr(MDE | KDE);
    timer::sleep(Duration::from_millis(30));
    hits("the watchpoint", WATCHPOINT, Code::Store, watched(0))?;
    Ok(())
}

static OTHER: AtomicU64 = AtomicU64::new(0);

/// On the other vCPU the exception would end the program as unexpected.
fn breakpoint_not_on_the_other() -> Found {
    let _used = Used::new();
    debug::set_breakpoint(0, Code::Nops.address(), AT_EL1);
    debug::set_mdscr(MDE | KDE);
    OTHER.store(0, Ordering::Relaxed);
    cpu::spawn(
        1,
        |_| {
            debug::set_os_lock(false);
            let mine = debug::breakpoint(0).1 & 1 | debug::mdscr() & (SS | MDE);
            expect::run(Code::Nops, How::default(), &mut |_| {});
            timer::sleep(Duration::from_millis(20));
            expect::run(Code::Nops, How::default(), &mut |_| {});
            gic::drain();
            OTHER.store(1 | mine << 1, Ordering::Release);
        },
        0,
    );
    ensure(cpu::join(1, 2 * SOON), "the other CPU does not end")?;
    same("what the other found", OTHER.load(Ordering::Acquire), 1)?;
    hits("here", BREAKPOINT, Code::Nops, 0)?;
    Ok(())
}

fn each_watchpoint() -> Found {
    for index in 0..debug::pairs().1 {
        let _used = Used::new();
        debug::set_watchpoint(index, watched(0), LOW_WORD | LOADS | STORES | WATCH);
        for (code, write) in [(Code::Load, 0), (Code::Store, WNR)] {
            debug::set_mdscr(MDE | KDE);
            let taken = hits("the exception", WATCHPOINT, code, watched(0))?;
            same("FAR", taken.far, watched(0))?;
            same("WnR", taken.esr & WNR, write)?;
        }
    }
    Ok(())
}

fn watchpoint_for(what: u64, hit: Code, passes: Code, write: bool) -> Found {
    let _used = Used::new();
    debug::set_watchpoint(0, watched(0), LOW_WORD | what | WATCH);
    debug::set_mdscr(MDE | KDE);
    quiet("the other access", passes, with(watched(0)))?;
    let taken = hits("the access", WATCHPOINT, hit, watched(0))?;
    same("WnR", taken.esr & WNR != 0, write)
}

fn watchpoint_of_bytes() -> Found {
    let _used = Used::new();
    // The watchpoint covers the upper word of the doubleword.
    debug::set_watchpoint(0, watched(0), 0xf0 << 5 | LOADS | WATCH);
    debug::set_mdscr(MDE | KDE);
    quiet("the lower word", Code::Load, with(watched(0)))?;
    hits("the upper word", WATCHPOINT, Code::Load, watched(1))?;
    Ok(())
}

fn watchpoint_elsewhere() -> Found {
    let _used = Used::new();
    debug::set_watchpoint(0, watched(0), LOW_WORD | LOADS | STORES | WATCH);
    debug::set_mdscr(MDE | KDE);
    quiet("elsewhere", Code::Load, with(watched(2)))?;
    quiet("elsewhere", Code::Store, with(watched(1)))
}

/// Checks that each step is taken after one instruction.
fn step(code: Code, argument: u64, instructions: usize) -> Found {
    let _used = Used::new();
    debug::set_mdscr(SS | KDE);
    let taken = exceptions(
        code,
        How {
            argument,
            steps: instructions,
            ..How::default()
        },
    );
    same(
        "the exceptions",
        classes(&taken),
        [STEP].repeat(instructions),
    )?;
    for (index, one) in taken.iter().enumerate() {
        let behind = code.address() + 4 * (index as u64 + 1);
        same("the place of a step", one.elr, behind)?;
        same("its status", one.esr & 0x3f, DEBUG_STATUS)?;
    }
    Ok(())
}

fn step_masked() -> Found {
    let _used = Used::new();
    debug::set_mdscr(SS | KDE);
    let how = How {
        masked: true,
        steps: 3,
        ..How::default()
    };
    quiet("masked", Code::Nops, how)
}

/// Returns the stepped instruction is the one that calls PSCI.
fn step_over_call() -> Found {
    let code = if machine().psci_by_hvc {
        Code::Hvc
    } else {
        Code::Smc
    };
    step(code, 0x8400_0000, 2)
}

fn step_at_el0() -> Found {
    let _used = Used::new();
    debug::set_mdscr(SS);
    let how = How {
        steps: 1,
        ..How::default()
    };
    // The step's exception comes before the next instruction; an SVC steps into EL1, where the
    // exception is masked.
    let taken = exceptions(Code::El0Nop, how);
    debug::set_mdscr(0);
    same("the exception", classes(&taken), [STEP_LOWER].to_vec())?;
    same("its place", taken[0].elr, Code::El0Nop.address_at_el0() + 4)?;
    let taken = exceptions(Code::El0Svc, How::default());
    same("without", classes(&taken), [SVC].to_vec())
}
