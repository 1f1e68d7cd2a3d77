// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks PSCI (DEN0022).

use crate::check::{Case, Found, ensure, same};
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use guest_bare::machine::machine;
use guest_bare::timer::{self, Deadline};
use guest_bare::timers::{ENABLE, Timer};
use guest_bare::{cpu, gic, psci};
use optee_proto::smc::FunctionId;
use postern_smccc::psci::{
    AFFINITY_INFO_64, CPU_OFF, CPU_ON_64, CPU_SUSPEND_64, FEATURES, PsciError, SYSTEM_OFF,
    SYSTEM_RESET, VERSION,
};

/// The cases of this group.
pub const CASES: &[Case] = &[
    ("psci/version", version),
    ("psci/features", features),
    ("psci/unknown-function", unknown_function),
    ("psci/affinity-info", affinity_info),
    ("psci/affinity-info-of-none", affinity_info_of_none),
    ("psci/cpu-on-itself", cpu_on_itself),
    ("psci/cpu-on-none", cpu_on_none),
    ("psci/cpu-on-twice", cpu_on_twice),
    ("psci/cpu-on-and-off", cpu_on_and_off),
    ("psci/cpu-suspend", cpu_suspend),
];

const SOON: Duration = Duration::from_secs(20);

/// An unassigned function ID in PSCI's range.
const NONE: FunctionId = FunctionId::new(0x8400_001f);

const NOT_SUPPORTED: i32 = PsciError::NOT_SUPPORTED.code();
const INVALID_PARAMETERS: i32 = PsciError::INVALID_PARAMETERS.code();
const ALREADY_ON: i32 = PsciError::ALREADY_ON.code();

/// Makes a call with a 32-bit result: the upper half of x0 is ignored.
fn call(function: FunctionId, arguments: [u64; 3]) -> i32 {
    psci::raw(function.into(), arguments) as i32
}

/// Returns an address at which a CPU could start, though none does.
fn entry() -> u64 {
    machine().image.start
}

fn version() -> Found {
    same("the major version", call(VERSION, [0; 3]) >> 16, 1)
}

fn features() -> Found {
    for function in [
        VERSION,
        CPU_OFF,
        CPU_ON_64,
        AFFINITY_INFO_64,
        SYSTEM_OFF,
        SYSTEM_RESET,
        FEATURES,
    ] {
        same("a feature", call(FEATURES, [function.into(), 0, 0]), 0)?;
    }
    same(
        "no feature",
        call(FEATURES, [NONE.into(), 0, 0]),
        NOT_SUPPORTED,
    )
}

fn unknown_function() -> Found {
    same("the answer", call(NONE, [1, 2, 3]), NOT_SUPPORTED)
}

fn affinity_info() -> Found {
    same("of this CPU", call(AFFINITY_INFO_64, [0, 0, 0]), 0)?;
    ensure(
        Deadline::after(SOON).wait(|| psci::is_off(1)),
        "the other CPU is not off",
    )
}

fn affinity_info_of_none() -> Found {
    let found = call(AFFINITY_INFO_64, [7, 0, 0]);
    same("of a CPU that does not exist", found, INVALID_PARAMETERS)
}

fn cpu_on_itself() -> Found {
    same("the answer", call(CPU_ON_64, [0, entry(), 0]), ALREADY_ON)
}

fn cpu_on_none() -> Found {
    same(
        "the answer",
        call(CPU_ON_64, [7, entry(), 0]),
        INVALID_PARAMETERS,
    )
}

static STATE: AtomicU64 = AtomicU64::new(0);

fn cpu_on_twice() -> Found {
    STATE.store(0, Ordering::Relaxed);
    cpu::spawn(
        1,
        |_| {
            STATE.store(1, Ordering::Release);
            Deadline::after(SOON).wait(|| STATE.load(Ordering::Acquire) == 2);
        },
        0,
    );
    let came = Deadline::after(SOON).wait(|| STATE.load(Ordering::Acquire) == 1);
    let again = call(CPU_ON_64, [1, entry(), 0]);
    let info = call(AFFINITY_INFO_64, [1, 0, 0]);
    STATE.store(2, Ordering::Release);
    ensure(
        cpu::join(1, 2 * SOON) && came,
        "the other CPU does not start or end",
    )?;
    same("the answer", again, ALREADY_ON)?;
    same("AFFINITY_INFO_64", info, 0)
}

fn cpu_on_and_off() -> Found {
    for number in 1..=5 {
        STATE.store(0, Ordering::Relaxed);
        // The number is passed as the context in x0.
        cpu::spawn(1, |number| STATE.store(number, Ordering::Release), number);
        ensure(cpu::join(1, SOON), "the other CPU does not end")?;
        same("what it was given", STATE.load(Ordering::Acquire), number)?;
    }
    affinity_info()
}

fn cpu_suspend() -> Found {
    gic::drain();
    let at = Timer::Virtual.count() + timer::ticks(Duration::from_millis(5));
    Timer::Virtual.set_compare(at);
    Timer::Virtual.set_control(ENABLE);
    // The power state is standby.
    let answer = call(CPU_SUSPEND_64, [0, 0, 0]);
    let mut found = None;
    Deadline::after(SOON).wait(|| {
        found = gic::take();
        found.is_some()
    });
    Timer::Virtual.set_control(0);
    if let Some(intid) = found {
        gic::end(intid);
    }
    same("the answer", answer, 0)?;
    same("the interrupt", found, Some(Timer::Virtual.intid()))
}
