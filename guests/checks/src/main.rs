// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks that timers, interrupt controller, PSCI, debug registers and exceptions behave as the
//! architecture specifies.
//!
//! It runs as a guest, and on the bare machine at EL1, where QEMU itself is the firmware. The
//! results have to be the same, line by line. The ideas come from kvm-unit-tests; the code does
//! not.
//!
//! It needs no input. After `ready` there is `{"event":"clock","seconds":N}`, the time of day, then
//! one event per case, `{"event":"case","name":"…","ok":true}`, with a `text` when it failed; then
//! `checks-end` with the number of cases, and the program powers its machine off. A case's event
//! contains nothing that may differ from run to run.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod check;
#[cfg(target_os = "none")]
mod debug;
#[cfg(target_os = "none")]
mod gic;
#[cfg(target_os = "none")]
mod gicv2;
#[cfg(target_os = "none")]
mod psci;
#[cfg(target_os = "none")]
mod rtc;
#[cfg(target_os = "none")]
mod timer;
#[cfg(target_os = "none")]
mod vectors;

#[cfg(target_os = "none")]
guest_bare::program!(start);

#[cfg(target_os = "none")]
fn start() -> ! {
    use guest_bare::event::Event;
    Event::new("ready").text("program", "checks").send();
    if let Some(seconds) = rtc::time() {
        Event::new("clock").number("seconds", seconds.into()).send();
    }
    let mut cases = 0;
    let groups = [
        timer::CASES,
        gic::CASES,
        gicv2::cases(),
        psci::CASES,
        rtc::CASES,
        debug::CASES,
        vectors::CASES,
    ];
    for case in groups.into_iter().flatten() {
        check::run(case);
        cases += 1;
    }
    Event::new("checks-end").number("cases", cases).send();
    guest_bare::psci::system_off()
}

/// The program runs only in a machine of its own.
#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("a bare-metal program: build it for aarch64-unknown-none-softfloat");
    std::process::exit(2);
}
