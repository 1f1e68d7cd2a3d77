// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest that shares its CPU with one that floods it waits for its turn, and no longer.
//!
//! QEMU counts instructions here instead of using a clock, so times are the machine's own and the
//! same on every host.

use anyhow::{Result, ensure};
use guest_agent::event::Latency;
use postern_qemu::console::Channel;
use postern_qemu::prepare::Flavour;
use postern_qemu::session::Session;
use postern_tests::meter::{CLOCK, SAMPLES, SLICE_NS, latency, quiet};
use postern_tests::{BOOT, Lab, SOON, power_off};

/// How much longer a turn may take, because neither EL2 nor OP-TEE's fast calls are interrupted.
/// The longest observed time is 1.3 ms, with a buffer of 2048 pages.
const STEP_NS: u64 = 2_000_000;

/// The hostile guest's work on all of its vCPUs: a state to enter, and a flood.
const FLOODS: [(Option<&str>, &str); 6] = [
    (None, "spin"),
    (None, "fast"),
    (None, "calls"),
    (None, "buffers"),
    (None, "sgis"),
    // It comes last: this state is never left.
    (Some("all-calls"), "calls"),
];

fn tell(label: &str, latency: &Latency) {
    let us = |ns: u64| ns as f64 / 1000.0;
    println!(
        "{label:18} median {:8.1} us   p99 {:8.1} us   max {:8.1} us   {} calls in {:6.1} ms",
        us(latency.median_ns),
        us(latency.p99_ns),
        us(latency.max_ns),
        latency.samples,
        us(latency.total_ns) / 1000.0
    );
}

/// Waits for an event of the hostile guest.
fn wait(session: &mut Session, hostile: Channel, event: &str) -> Result<()> {
    session
        .expect(hostile, SOON)
        .program(event, |found| (found["event"] == event).then_some(()))
}

#[test]
fn flood_delays_neighbour_by_one_turn_at_most() -> Result<()> {
    let lab = Lab::new("fairness")?;
    let system = lab.system("fairness.toml")?;
    let others = u64::from(system.vms[1].vcpus);
    let mut machine = lab.machine(&system, Flavour::Shared)?;
    machine.extra = CLOCK.map(Into::into).into();
    let mut session = Session::boot(&machine, &lab.folder)?;
    let (a, hostile) = (session.vm("a")?, session.vm("hostile")?);
    for guest in [a, hostile] {
        session.expect(guest, BOOT).ready()?;
    }
    let quiet = quiet(&mut session, a)?;
    tell("quiet", &quiet);
    // The others' turns, once in a call; and once for each turn of its own, over all calls.
    let round = others * (SLICE_NS + STEP_NS);
    let bound = quiet.max_ns + round;
    let total_bound = quiet.total_ns + (quiet.total_ns / SLICE_NS + 1) * round;

    let mut late = Vec::new();
    for (state, flood) in FLOODS {
        if let Some(state) = state {
            session.send(hostile, &format!("park {state}"))?;
            wait(&mut session, hostile, "parked")?;
        }
        let label = state.map_or(flood.into(), |state| format!("{state}+{flood}"));
        session.send(hostile, &format!("flood {flood}"))?;
        wait(&mut session, hostile, "flooding")?;
        let flooded = latency(&mut session, a, &label, SAMPLES, "")?;
        session.send(hostile, "ping x")?;
        wait(&mut session, hostile, "flooded")?;
        wait(&mut session, hostile, "pong")?;
        tell(&label, &flooded);
        // Otherwise the guests did not share the CPU.
        ensure!(
            flooded.max_ns > SLICE_NS,
            "{label}: the longest call took {} ns",
            flooded.max_ns
        );
        // It does not get more than its share either: no turn is cut short.
        ensure!(
            flooded.total_ns > quiet.total_ns * (others + 1) * 9 / 10,
            "{label}: {} calls in {} ns",
            flooded.samples,
            flooded.total_ns
        );
        if flooded.max_ns > bound || flooded.total_ns > total_bound {
            late.push(label);
        }
    }
    println!("bounds: {bound} ns for a call, {total_bound} ns for all");
    ensure!(late.is_empty(), "beyond the bounds: {late:?}");
    power_off(session, &["a", "hostile"])
}
